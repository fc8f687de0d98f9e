"""Models with fields of every kind, of either build."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from .source import Color, Point, Rights, Size

__all__ = ["WHOLE_ROW", "as_instance", "make_model", "models_of_rows"]

# A value for each kind of field; models have one that takes null as well.
_KINDS: dict[str, Any] = {
    "int": 70000, "text": "Zoë", "short": "abc", "secret": "hidden", "bool": True, "float": 1.5, "enum": Color.BLUE,
    "size": Size.LARGE, "rights": Rights(3), "aware": dt.datetime(2020, 1, 2, 3, 4, 5, 6, dt.UTC),
    "naive": dt.datetime(2020, 1, 2, 3, 4, 5), "date": dt.date(2020, 1, 2), "time": dt.time(3, 4, 5),
    "stamp": dt.datetime(2020, 1, 2), "uuid": UUID(int=5), "short_uuid": UUID(int=5), "decimal": Decimal("1.5"),
    "base64": b"\x00\xff", "json": {"a": [1, None]}, "struct": Point(1, "y"), "list": ["a", "b"],
    "lists": [[1, None], []], "moments": [dt.date(2020, 1, 2)], "anything": {"a": [1.5, "b"]}, "shout": "hey",
    "checked": "abc",
}  # fmt: skip

WHOLE_ROW = {f"{kind}_{null}": value for kind, value in _KINDS.items() for null in (0, 1)}


def make_model(co: Any, name: str, fields: dict[str, Any], base: Any = None, **meta: Any) -> Any:
    """Declare a model; its key is an integer unless the fields or ``meta`` say otherwise."""
    if "primary_key" not in meta and not any(field.primary_key for field in fields.values()):
        fields = {"id": co.IntegerField(primary_key=True), **fields}
    options = type("Meta", (), {"backend": co.SimpleBackend(), "name": name.lower(), **meta})
    body = {**fields, "Meta": options, "__module__": __name__, "__qualname__": f"made.<locals>.{name}"}
    return type(co.Model)(name, (base or co.Model,), body)


def as_instance(model: Any, row: dict[Any, Any]) -> Any:
    """Return an instance with the values of a row; the row itself if no instance has such values."""
    try:
        return model(**row)
    except Exception:  # noqa: BLE001 - fields refuse values with errors of any kind
        return row


def models_of_rows(co: Any) -> list[Any]:
    """Declare a model for each way in which rows are read and written."""
    plain = _plain_fields
    pickled = co.PickleSerializer(secret="a secret of the tests")
    return [
        make_model(co, "Every", _every_field(co), serializer="msgpack", compress=co.Zstd(threshold=64, limit=20_000)),
        make_model(co, "EveryJson", _every_field(co), serializer="json", accepts=["msgpack"]),
        make_model(co, "Plain", plain(co), serializer="msgpack"),
        make_model(co, "PlainJson", plain(co), serializer="json", on_invalid="miss"),
        make_model(
            co,
            "Versioned",
            {**plain(co), "renamed": co.StringField(alias=("old", "older"), default="x")},
            serializer="msgpack",
            version=3,
            upgrade=_upgrade,
            accepts=["zstd", pickled],
        ),
        make_model(co, "Later", plain(co), serializer="json", version=2, compress="zstd"),
        make_model(co, "Signed", plain(co), serializer=pickled, compress=co.Zstd(threshold=64), accepts=["json"]),
        make_model(co, "Narrow", {"any": co.Field(null=True)}, serializer="msgpack", memory_limit=3000),
        make_model(co, "NarrowJson", {"any": co.JSONField(null=True)}, serializer="json", memory_limit=3000),
        make_model(co, "Listed", _listed_fields(co), serializer="msgpack"),
    ]


def _plain_fields(co: Any) -> dict[str, Any]:
    return {
        "text": co.StringField(),
        "number": co.IntegerField(null=True),
        "real": co.FloatField(default=1.0),
        "flag": co.BooleanField(default=False),
    }


def _listed_fields(co: Any) -> dict[str, Any]:
    listed = (co.StringField(), co.IntegerField(null=True), co.EnumField(Color), co.UUIDField(), co.DateTimeTZField())
    fields = {f"list{at}": co.ListField(field, null=True) for at, field in enumerate(listed)}
    return {**fields, "deep": co.ListField(co.ListField(co.ListField(co.FloatField())), null=True)}


def _every_field(co: Any) -> dict[str, Any]:
    class Shout(co.Field):
        """Not idempotent: of what it makes of a value it would make something else again."""

        def cache_value(self, value: Any) -> Any:
            return f"{value}!"

        def python_value(self, value: Any) -> Any:
            return value

    kinds: dict[str, Callable[..., Any]] = {
        "int": co.IntegerField,
        "text": co.StringField,
        "short": lambda null: co.StringField(max_length=5, null=null),
        "secret": lambda null: co.StringField(secret=True, null=null),
        "bool": co.BooleanField,
        "float": co.FloatField,
        "enum": lambda null: co.EnumField(Color, null=null),
        "size": lambda null: co.EnumField(Size, null=null),
        "rights": lambda null: co.EnumField(Rights, null=null),
        "aware": co.DateTimeTZField,
        "naive": co.DateTimeField,
        "date": co.DateField,
        "time": co.TimeField,
        "stamp": lambda null: co.TimestampField(6, utc=True, null=null, default=dt.datetime(2020, 1, 1)),
        "uuid": co.UUIDField,
        "short_uuid": co.ShortUUIDField,
        "decimal": co.DecimalField,
        "base64": co.BinaryField,
        "json": co.JSONField,
        "struct": lambda null: co.StructField(lambda point: [*point.parts], lambda parts: Point(*parts), null=null),
        "list": lambda null: co.ListField(co.StringField(), null=null),
        "lists": lambda null: co.ListField(co.ListField(co.IntegerField(null=True)), null=null),
        "moments": lambda null: co.ListField(co.DateField(), null=null),
        "anything": co.Field,
        "shout": Shout,
        "checked": lambda null: co.StringField(validators=[_short], null=null),
    }
    return {f"{kind}_{null}": kinds[kind](null=bool(null)) for kind in _KINDS for null in (0, 1)}


def _short(value: Any) -> None:
    if len(str(value)) > 5:
        raise ValueError("expected something shorter")


def _upgrade(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    if stored.get("number") == 13:
        raise ValueError("an unlucky row")
    return {**stored, "text": f"{stored.pop('text', '')} of version {version}"}
