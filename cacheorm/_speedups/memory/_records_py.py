"""Records of the file backend: readable twin of ``_records_c.pyx``.

An entry lies under a number that is made of its key, its *id*, so that finding it compares numbers. Its record holds
the key, NUL, and the value: two keys can have one id, and the record tells whose it is.

The id has 56 bits: the CRC-32 of all of the key but its last three bytes, then those. Keys that differ in their last
characters alone, as those of rows numbered one after the other do, have ids in one range and so share pages.
It is part of the file's layout: the same for ever, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any
from zlib import crc32

from ...errors import InvalidKeyError

__all__ = ["key_ids", "make_parameters", "make_record", "pick"]


def _encoded(key: str) -> bytes:
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError("a key has surrogates, which UTF-8 cannot encode") from None
    if b"\0" in encoded:
        raise InvalidKeyError("a key has a NUL, which ends the key in a record")
    return encoded


def _id(encoded: bytes) -> int:
    return crc32(encoded[:-3]) << 24 | int.from_bytes(encoded[-3:], "big")


def key_ids(keys: Iterable[str]) -> list[int]:
    """Give the ids of keys.

    Raises:
        InvalidKeyError: one is no ``str``, has a NUL, or has no form in UTF-8.
    """
    return [_id(_encoded(key)) for key in keys]


def make_record(key: str, value: bytes) -> bytes:
    """Give the record of an entry; errors as :func:`key_ids`."""
    return _encoded(key) + b"\0" + value


def make_parameters(batch: Mapping[str, bytes], ids: Sequence[int], expires: int) -> list[Any]:
    """Give id, deadline and record of each entry of a batch, one list in its order.

    Raises:
        InvalidKeyError: as :func:`key_ids`.
        ValueError: there are not as many ids as entries.
    """
    parameters: list[Any] = []
    for (key, value), number in zip(batch.items(), ids, strict=True):
        parameters += (number, expires, make_record(key, value))
    return parameters


def pick(keys: Sequence[str], rows: Iterable[Sequence[bytes | None]]) -> list[bytes | None]:
    """Give the values of keys, ``None`` where the record is missing or belongs to another key.

    Args:
        keys: checked already.
        rows: records in the order of keys, several to a row; what follows the last key is left alone.

    Raises:
        ValueError: there are fewer records than keys.
        TypeError: a record is no ``bytes``.
    """
    values: list[bytes | None] = []
    records = chain.from_iterable(rows)
    for key in keys:
        try:
            record = next(records)
        except StopIteration:
            raise ValueError("there are fewer records than keys") from None
        if record is None:
            values.append(None)
            continue
        if type(record) is not bytes:
            raise TypeError(f"a record must be bytes, got {type(record).__name__}")
        owner = key.encode() + b"\0"
        values.append(record[len(owner) :] if record.startswith(owner) else None)
    return values
