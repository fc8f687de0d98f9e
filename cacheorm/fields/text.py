"""Fields of text, bytes, UUIDs and members of enumerations."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal, TypeVar, Unpack, overload
from uuid import UUID

from .._speedups import convert
from .base import Field, FieldOptions

__all__ = ["BinaryField", "EnumField", "ShortUUIDField", "StringField", "UUIDField"]

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class StringField(Field[T]):
    """Text.

    Takes str, bytes (read as UTF-8), numbers and UUIDs. Containers, bools and other objects are errors, and
    so is text with lone surrogates, which has no form in UTF-8.

    Args:
        max_length: the most characters (code points) that are written. Longer text that is stored already
            stays readable.
        secret: whether ``repr`` of an instance hides the text.

    Raises:
        TypeError, ValueError: ``max_length`` is no integer, or less than 1.
    """

    @overload
    def __init__(
        self: StringField[str],
        max_length: int | None = None,
        secret: bool = False,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: StringField[str | None],
        max_length: int | None = None,
        secret: bool = False,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        max_length: Any = None,
        secret: bool = False,
        null: bool = False,
        **options: Unpack[FieldOptions],
    ) -> None:
        if max_length is not None:
            if not isinstance(max_length, int) or isinstance(max_length, bool):
                raise TypeError(f"max_length is a number of characters, got {type(max_length).__name__}")
            if max_length < 1:
                raise ValueError(f"max_length is at least 1, got {max_length}")
        self.max_length: int | None = max_length
        self.secret = bool(secret)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Text(self.max_length)


class BinaryField(Field[T]):
    """Bytes. Takes bytes, bytearrays and memoryviews.

    Args:
        ensure_str: whether they are stored as base64 text, which works with every serializer and takes a third more
            space. Raw bytes work with msgpack and pickle; with JSON they are a :exc:`TypeError`.
    """

    @overload
    def __init__(
        self: BinaryField[bytes],
        ensure_str: bool = True,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: BinaryField[bytes | None],
        ensure_str: bool = True,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(self, ensure_str: bool = True, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        self.ensure_str = bool(ensure_str)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Binary(self.ensure_str)


class UUIDField(Field[T]):
    """A UUID, stored as 32 hexadecimal digits. Takes UUIDs and every text that :class:`uuid.UUID` reads."""

    @overload
    def __init__(self: UUIDField[UUID], null: Literal[False] = False, **options: Unpack[FieldOptions]) -> None: ...
    @overload
    def __init__(self: UUIDField[UUID | None], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Uuid()


class ShortUUIDField(Field[T]):
    """A UUID, stored as 22 characters of base 57. Takes what :class:`UUIDField` does, and the short form.

    The form is that of the `shortuuid <https://github.com/skorokithakis/shortuuid>`_ library since its
    version 1.0.
    """

    @overload
    def __init__(self: ShortUUIDField[UUID], null: Literal[False] = False, **options: Unpack[FieldOptions]) -> None: ...
    @overload
    def __init__(self: ShortUUIDField[UUID | None], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.ShortUuid()


class EnumField(Field[T]):
    """A member of an enumeration, stored as the member's value. Takes members and their values.

    Args:
        enum_class: a subclass of :class:`enum.Enum`. Its values are str, bytes, bool, finite float, or int within 64
            bits; some serializers would change others. Combinations of the members of a :class:`enum.Flag` are values
            too.

    Raises:
        TypeError: it is no enumeration, it is empty, or a member's value cannot be stored.
    """

    @overload
    def __init__(
        self: EnumField[E], enum_class: type[E], null: Literal[False] = False, **options: Unpack[FieldOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: EnumField[E | None], enum_class: type[E], null: bool, **options: Unpack[FieldOptions]
    ) -> None: ...
    def __init__(self, enum_class: type[Enum], null: bool = False, **options: Unpack[FieldOptions]) -> None:
        self.enum_class = enum_class
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Enumeration(self.enum_class)
