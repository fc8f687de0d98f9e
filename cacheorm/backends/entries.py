"""Keys and values as the embedded backends take them: checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InvalidKeyError
from ..types import Value, to_bytes

__all__ = ["check_types", "stored_batch", "stored_value"]


def check_types(keys: Iterable[object]) -> None:
    """Raise :exc:`~cacheorm.errors.InvalidKeyError` if one of ``keys`` is no ``str``."""
    for key in keys:
        if not isinstance(key, str):
            # The type only: the key itself may be anything.
            raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")


def stored_value(key: str, value: Value) -> bytes:
    """Give the bytes to store under ``key``.

    Raises:
        InvalidKeyError: ``key`` is no ``str``.
        TypeError: ``value`` is no ``bytes``, ``str``, ``int`` or ``float``.
    """
    check_types((key,))
    try:
        stored = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    if stored is None:
        raise TypeError(f"{key}: cannot store None: delete the key instead")
    return stored


def stored_batch(mapping: Mapping[str, Value]) -> Mapping[str, bytes]:
    """Give the bytes to store under each key, in the order of ``mapping``; errors as :func:`stored_value`.

    The result may be ``mapping`` itself: read it before the caller gets control back, and do not change it.
    """
    # Two set() calls in C check a batch of strings and bytes, the common case, without a step of
    # bytecode per row.
    if set(map(type, mapping)) <= _STR and set(map(type, mapping.values())) <= _BYTES:
        return mapping  # type: ignore[return-value]  # just checked
    return {key: stored_value(key, value) for key, value in mapping.items()}


_STR = {str}
_BYTES = {bytes}
