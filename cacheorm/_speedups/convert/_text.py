# cython: language_level=3, annotation_typing=False, auto_pickle=False
"""Text, and bytes as they are or as base64 text."""

from __future__ import annotations

import numbers
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from decimal import Decimal
from typing import Any
from uuid import UUID

from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, encodable, expected
else:
    from ._converter import Converter, encodable, expected

__all__ = ["Binary", "Text"]


@cython.cfunc
def _to_text(value: Any) -> Any:
    """Convert a value to the text that it stands for, ``None`` if it stands for none."""
    if isinstance(value, str):
        return str.__str__(value)
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).decode("utf-8")
        if isinstance(value, bool):
            return None
        if isinstance(value, int):
            return str(int.__int__(value))
        if isinstance(value, float):
            return float.__repr__(value)
        if isinstance(value, (UUID, Decimal, numbers.Number)):
            return str.__str__(str(value))
    except MemoryError:
        raise
    except Exception:
        pass
    return None


@cython.cclass
class Text(Converter):
    """str, at most ``max_length`` characters on write. What is stored already stays readable."""

    own_code = True
    packable = True
    max_length: int | None = cython.declare(object, visibility="public")

    def __init__(self, max_length: int | None = None) -> None:
        self.max_length = max_length

    @property
    def key_type(self) -> type | None:
        """``str``, unless the length of a value has to be checked."""
        return str if self.max_length is None else None

    @cython.ccall
    def dump(self, value: Any) -> Any:
        text = value if type(value) is str else _to_text(value)
        if text is None:
            what = "UTF-8" if isinstance(value, (bytes, bytearray, memoryview)) else "text"
            raise expected(what, value)
        if not encodable(text):
            raise expected("text without lone surrogates", value)
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(f"expected at most {self.max_length} characters, got {len(text)}")
        return text

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not str:
            raise expected("text", stored)
        if not encodable(stored):
            raise expected("text without lone surrogates", stored)
        return stored

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored


@cython.cclass
class Binary(Converter):
    """bytes, as they are or (``ensure_str``) as base64 text (RFC 4648, section 4)."""

    own_code = True
    weight = 48

    ensure_str: bool = cython.declare(object, visibility="public")

    def __init__(self, ensure_str: bool = True) -> None:
        self.ensure_str = ensure_str

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise expected("bytes", value)
        raw = value if type(value) is bytes else bytes(value)
        return b2a_base64(raw, newline=False).decode("ascii") if self.ensure_str else raw

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if not self.ensure_str:
            if type(stored) is bytes:
                return stored
            raise expected("bytes", stored)
        if type(stored) is str and stored.isascii():
            raw = None
            try:
                raw = a2b_base64(stored, strict_mode=True)
            except Base64Error:
                pass
            # Strict mode lets the unused bits of the last character be set.
            if raw is not None and b2a_base64(raw, newline=False) == stored.encode("ascii"):
                return raw
        raise expected("base64 text", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is bytes else bytes(value)
