"""Checking the values of an instance as a write does, without writing."""

from __future__ import annotations

from typing import Any

from .._speedups import assigned
from ..errors import ValidationError

__all__ = ["validate"]

_ABSENT = object()


def validate(instance: Any) -> None:
    """Convert and check the values that a write of an instance would write, and leave the instance as it is.

    Raises:
        ValidationError: all bad fields.
        TypeError, ValueError: the serializer cannot hold a value.
    """
    model: Any = type(instance)
    plan = model._meta
    mask = assigned.assigned(plan.tracker.peek(instance), instance)
    # Of a row that was read, an update writes the changes; a key that is to be generated is not.
    whole = bool(mask & assigned.NEW) or instance._pk is None
    # A copy: conversion may replace values, and a default that is only checked is no value of the row.
    checked = model.__new__(model)
    missing: dict[str, str] = {}
    for field in plan.every_field:
        value = field.peek(instance, _ABSENT)
        if whole and (value is _ABSENT or (value is None and not field.null)):
            if field in plan.key_fields and field.default is not None:
                continue
            value = None if field.null and field.default is None else field.make_default()
            if value is None and not field.null:
                missing[field.name] = f"missing value for <Field: {model.__name__}.{field.name}>"
        if value is not _ABSENT:
            field.poke(checked, value)
    if plan.references and instance._related:
        checked._relations.update(instance._related)
    plan.tracker.poke(checked, assigned.ALL if whole else mask)
    try:
        plan.resolved().codec.pack_changes(plan.adopt([checked]), False)
    except ValidationError as error:
        # As changes they are nulls, which an update would name.
        problems = [(name, missing.get(name, problem)) for name, problem in error.problems]
        raise ValidationError(error.model, problems, error.row, error.key) from error.__cause__
