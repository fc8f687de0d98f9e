"""The msgpack library, as both builds call it."""

from typing import Any

import msgpack

__all__ = ["pack", "refuse_list_key", "unpack"]


def pack(value: Any) -> bytes:
    """Pack a value as msgpack, text as ``str`` and bytes as ``bin``.

    Raises:
        TypeError: a type that msgpack does not have, or a dict that has tuples as keys.
        ValueError, OverflowError: a value that is too deep, long or large.
    """
    try:
        return msgpack.packb(value, use_bin_type=True, strict_types=True)  # type: ignore[no-any-return]
    except TypeError:
        # There is a tuple, or another subclass: a list for msgpack, which may be anything but the key of a dict.
        packed: bytes = msgpack.packb(value, use_bin_type=True)
        _check_keys(value)
        return packed


def unpack(payload: bytes) -> Any:
    """Read one msgpack value; anything after it is an error."""
    return msgpack.unpackb(payload, raw=False, strict_map_key=False)


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, tuple) and not isinstance(key, msgpack.ExtType):
                refuse_list_key()
            _check_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item)


def refuse_list_key() -> None:
    """Raise the error for a tuple as the key of a dict."""
    raise TypeError("a dict has a tuple as a key, which would be read back as a list")
