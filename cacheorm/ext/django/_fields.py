"""The fields of cached models: which one has the values of a field of a Django model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import models

from ...fields import (
    BinaryField,
    BooleanField,
    DateField,
    DateTimeField,
    DateTimeTZField,
    DecimalField,
    Field,
    FloatField,
    IntegerField,
    JSONField,
    ListField,
    StringField,
    StructField,
    TimeField,
    UUIDField,
)
from .._references import LateReference
from ._registry import cached_model_of

__all__ = ["field_for"]

_MICROSECOND = timedelta(microseconds=1)


def field_for(field: Any, primary_key: bool = False) -> tuple[str, Field[Any]]:
    """Return the name and the field of a cached model that has the values of a field of a Django model.

    Raises:
        TypeError: there is none that has values of this type.
    """
    options = {"primary_key": True} if primary_key else {"null": _is_nullable(field)}
    if not field.is_relation:
        return field.name, _of(field, field, options)
    if isinstance(field.remote_field.model, str):
        raise TypeError(
            f"{_name(field)} refers to {field.remote_field.model}, which Django has not loaded yet: call cached() in a"
            " module that is imported after all models, such as by AppConfig.ready()"
        )
    if field.target_field.primary_key:
        return field.name, _reference(field, options)
    # It has the value of another field of the row that it refers to: see ForeignKey.to_field.
    return field.attname, _of_target(field, options)


def _reference(field: Any, options: dict[str, Any]) -> LateReference:
    """Return a foreign key to the cached model of the Django model that a foreign key of Django refers to."""
    model, name = field.related_model, field.related_model._meta.label
    refusal = (
        f"{_name(field)} refers to {name}, which is not cached: call cached() for it too, or read the id,"
        f" {field.attname}"
    )
    find, make_key = partial(cached_model_of, model), partial(_of_target, field, {"primary_key": True})
    return LateReference(name, field.attname, find, make_key, lambda: refusal, **options)


def _is_nullable(field: Any) -> bool:
    # The null of JSON is None too, and a column may be generated from nulls.
    return bool(field.null or isinstance(field, models.JSONField) or getattr(field, "generated", False))


def _of_target(field: Any, options: dict[str, Any]) -> Field[Any]:
    """Return a field for the values of a foreign key, which are those of the field that it refers to."""
    target = field
    while target.is_relation:
        target = target.target_field
    return _of(target, field, options)


def _of(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any]:
    """Return a field for the values of a field of Django, or of the elements of ``owner``."""
    for kind in type(field).__mro__:
        if "from_db_value" in vars(kind) and not kind.__module__.startswith("django."):
            break  # a class of the application, whose values may be anything
        if kind in _MAKERS:
            return _MAKERS[kind](field, owner, options)
        if kind.__module__.startswith("django.contrib.postgres.fields"):
            made = _of_postgres(field, owner, options)
            if made is not None:
                return made
    raise _unknown(owner, f"is a {type(field).__name__}")


def _name(field: Any) -> str:
    return f"{field.model._meta.label}.{field.name}"


def _unknown(field: Any, what: str) -> TypeError:
    return TypeError(
        f"{_name(field)} {what}, the type of whose values is not known: leave it out by exclude=[{field.name!r}], or"
        f" say what they are by fields={{{field.name!r}: ...}} with a field of cacheorm, such as co.StructField"
    )


_Maker = Callable[[Any, Any, dict[str, Any]], Field[Any]]


def _plain(kind: Callable[..., Field[Any]], **of_kind: Any) -> _Maker:
    return lambda field, owner, options: kind(**of_kind, **options)


def _json(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any]:
    if field.decoder is not None:
        raise _unknown(owner, "has a decoder")
    return JSONField(**options)


def _datetime(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any]:
    return DateTimeTZField(**options) if settings.USE_TZ else DateTimeField(**options)


def _duration(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any]:
    return StructField(_to_microseconds, _from_microseconds, **options)


def _to_microseconds(duration: timedelta) -> int:
    return duration // _MICROSECOND


def _from_microseconds(microseconds: int) -> timedelta:
    return microseconds * _MICROSECOND


def _generated(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any]:
    return _of(field.output_field, owner, options)


def _of_postgres(field: Any, owner: Any, options: dict[str, Any]) -> Field[Any] | None:
    # Its module needs a driver of PostgreSQL, and has been imported by whoever has such a field.
    fields: Any = sys.modules["django.contrib.postgres.fields"]
    if isinstance(field, fields.ArrayField):
        return ListField(_of(field.base_field, owner, {"null": True}), **options)
    return JSONField(**options) if isinstance(field, fields.HStoreField) else None


_MAKERS: dict[type, _Maker] = {
    models.BinaryField: _plain(BinaryField),
    models.BooleanField: _plain(BooleanField),
    models.CharField: _plain(StringField),
    models.DateField: _plain(DateField),
    models.DateTimeField: _datetime,
    models.DecimalField: _plain(DecimalField),
    models.DurationField: _duration,
    models.FileField: _plain(StringField),
    models.FilePathField: _plain(StringField),
    models.FloatField: _plain(FloatField, allow_nan=True),
    models.GenericIPAddressField: _plain(StringField),
    models.IntegerField: _plain(IntegerField),
    models.JSONField: _json,
    models.TextField: _plain(StringField),
    models.TimeField: _plain(TimeField),
    models.UUIDField: _plain(UUIDField),
}
if hasattr(models, "GeneratedField"):  # since Django 5.0
    _MAKERS[models.GeneratedField] = _generated
