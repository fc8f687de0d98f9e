# cython: language_level=3, annotation_typing=False, auto_pickle=False
"""UUIDs, as hexadecimal digits or as digits of base 57."""

from __future__ import annotations

from typing import Any
from uuid import UUID, SafeUUID

from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, attempt, expected
else:
    from ._converter import Converter, attempt, expected

__all__ = ["ShortUuid", "Uuid"]

_SHORT_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHORT_LENGTH = 22
_SHORT_BASE = 57 * 57
# Two characters at a time, which halves the arithmetic on long integers. Filled when first needed.
_SHORT_PAIRS: list[str] = []
_SHORT_DIGITS: dict[str, int] = {}

_set = object.__setattr__
# Looked up once: a member of an enumeration is a slow attribute.
_UNKNOWN_SAFETY = SafeUUID.unknown


@cython.cfunc
def _to_uuid(value: Any) -> Any:
    """Convert a value to the UUID that it stands for, ``None`` if it stands for none."""
    if isinstance(value, UUID):
        return value
    return attempt(UUID, value) if isinstance(value, str) else None


@cython.cfunc
def make_uuid(number: int) -> UUID:
    """Do what ``UUID(int=number)`` does, without its checks of the other five ways to call it."""
    made = UUID.__new__(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", _UNKNOWN_SAFETY)
    return made


@cython.cclass
class Uuid(Converter):
    """UUID, as 32 lower-case hexadecimal digits."""

    own_code = True
    weight = 112
    packable = True
    key_type = UUID

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value if type(value) is UUID else _to_uuid(value)
        if found is None:
            raise expected("a UUID", value)
        return f"{found.int:032x}"

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str and len(stored) == 32:
            raw = attempt(bytes.fromhex, stored)
            if raw is not None and raw.hex() == stored:
                return make_uuid(int.from_bytes(raw, "big"))
        raise expected("the 32 hexadecimal digits of a UUID", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is UUID else make_uuid(int(stored, 16))


@cython.cclass
class ShortUuid(Converter):
    """UUID, as 22 digits of base 57, most significant first.

    This is the form of the ``shortuuid`` library since its version 1.0. The alphabet leaves out the
    characters that look alike (0 O, 1 I l).
    https://github.com/skorokithakis/shortuuid
    """

    own_code = True
    weight = 112

    def __init__(self) -> None:
        if not _SHORT_DIGITS:
            _SHORT_PAIRS.extend([first + second for first in _SHORT_ALPHABET for second in _SHORT_ALPHABET])
            _SHORT_DIGITS.update({pair: number for number, pair in enumerate(_SHORT_PAIRS)})

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value if type(value) is UUID else _to_uuid(value)
        if found is None:
            number = _short_number(value)
            if number is None:
                raise expected("a UUID", value)
        else:
            number = found.int
        pairs = []
        for _ in range(_SHORT_LENGTH // 2):
            number, pair = divmod(number, _SHORT_BASE)
            pairs.append(_SHORT_PAIRS[pair])
        pairs.reverse()
        return "".join(pairs)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        number = _short_number(stored)
        if number is None:
            raise expected("the 22 base-57 digits of a UUID", stored)
        return make_uuid(number)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is UUID else self.load(stored)


@cython.cfunc
def _short_number(text: Any) -> Any:
    if not isinstance(text, str) or len(text) != _SHORT_LENGTH:
        return None
    number = 0
    for start in range(0, _SHORT_LENGTH, 2):
        pair = _SHORT_DIGITS.get(text[start : start + 2])
        if pair is None:
            return None
        number = number * _SHORT_BASE + pair
    # 22 digits reach a little further than 128 bits.
    return number if number >> 128 == 0 else None
