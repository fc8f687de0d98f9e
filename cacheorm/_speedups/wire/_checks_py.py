"""Keys and values before anything is sent: the readable twin of ``_checks_c.pyx``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import InvalidKeyError
from ...types import Value, to_bytes

__all__ = ["check_keys", "check_memcached_keys", "encode_values", "total_size"]

_MAX_KEY_BYTES = 250
_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f]")


def check_keys(keys: Sequence[str]) -> None:
    """Raise :exc:`InvalidKeyError` unless every key is a ``str`` that UTF-8 can encode."""
    for key in keys:
        _encode(key)


def _encode(key: str) -> bytes:
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        return key.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidKeyError(f"key {key[:80]!a} cannot be encoded as UTF-8") from None


def check_memcached_keys(keys: Sequence[str]) -> None:
    """Raise :exc:`InvalidKeyError` unless memcached takes every key.

    It takes 1 to 250 bytes of UTF-8 without space and control characters. Those end a key or a command, so
    that the rest of such a key would be run as a command of its own.
    """
    for key in keys:
        encoded = _encode(key)
        if not 0 < len(encoded) <= _MAX_KEY_BYTES:
            raise InvalidKeyError(f"key {key[:80]!a} has {len(encoded)} bytes; memcached takes 1 to {_MAX_KEY_BYTES}")
        if _FORBIDDEN.search(encoded):
            raise InvalidKeyError(f"key {key[:80]!a} holds a space or a control character; memcached takes none")


def encode_values(keys: Sequence[str], values: list[Value]) -> list[bytes]:
    """Give all values as bytes: the list itself where they are, a new one otherwise.

    Raises:
        TypeError: a value is of another type than :data:`~cacheorm.types.Value` names.
        ValueError: a text cannot be encoded as UTF-8.
    """
    if all(type(value) is bytes for value in values):
        return values  # type: ignore[return-value]
    return [_encode_value(key, value) for key, value in zip(keys, values, strict=True)]


def _encode_value(key: str, value: Value) -> bytes:
    try:
        encoded = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{key}: the text cannot be encoded as UTF-8") from None
    if encoded is None:
        raise TypeError(f"{key}: cannot store NoneType as bytes: expected bytes, str, int or float")
    return encoded


def total_size(values: Sequence[bytes | None]) -> int:
    """Give the bytes in ``values`` together, where ``None`` is none."""
    return sum(len(value) for value in values if value is not None)
