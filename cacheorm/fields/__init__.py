"""The fields of models: one class for each type of value."""

from __future__ import annotations

from .base import Field
from .composite import CompositeKey
from .foreign import ForeignKeyField
from .numbers import BooleanField, DecimalField, FloatField, IntegerField
from .structured import JSONField, ListField, StructField
from .temporal import DateField, DateTimeField, DateTimeTZField, TimeField, TimestampField
from .text import BinaryField, EnumField, ShortUUIDField, StringField, UUIDField

__all__ = [
    "BinaryField",
    "BooleanField",
    "CompositeKey",
    "DateField",
    "DateTimeField",
    "DateTimeTZField",
    "DecimalField",
    "EnumField",
    "Field",
    "FloatField",
    "ForeignKeyField",
    "IntegerField",
    "JSONField",
    "ListField",
    "ShortUUIDField",
    "StringField",
    "StructField",
    "TimeField",
    "TimestampField",
    "UUIDField",
]
