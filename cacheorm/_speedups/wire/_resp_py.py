"""RESP requests, the readable twin of ``_resp_c.pyx``: whole batches are packed into one buffer.

* RESP, the Redis protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
* hash slots of Redis Cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

Values are ``bytes`` here, and keys ``str`` that were checked before anything is sent; see :mod:`._checks_py`. Functions
that pack a part of a batch take ``start`` and ``stop``, positions in the lists of the whole batch. Those that pack what
goes to one of several nodes take the ``positions`` themselves.
"""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Sequence

__all__ = ["SLOTS", "key_slots", "pack_command", "pack_gets", "pack_keys", "pack_set", "pack_sets", "route"]

SLOTS = 16384
"""How many hash slots a Redis Cluster has."""


def pack_command(args: Sequence[bytes | str | int]) -> bytes:
    """Pack one Redis command, its name first."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def pack_keys(name: bytes, keys: Sequence[str], start: int, stop: int) -> bytes:
    """Pack one Redis command over many keys, such as ``MGET`` or ``DEL``."""
    stop = min(stop, len(keys))
    parts = [b"*%d\r\n$%d\r\n%b\r\n" % (max(stop - start, 0) + 1, len(name), name)]
    for i in range(start, stop):
        key = keys[i].encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_set(
    keys: Sequence[str],
    values: Sequence[bytes],
    ttl: int,
    condition: bytes,
    start: int,
    stop: int,
    limit: int,
) -> tuple[bytes, int]:
    """Pack a Redis ``SET`` for each entry, and stop early once the buffer has ``limit`` bytes.

    Args:
        keys: the keys of the whole batch.
        values: their values.
        ttl: seconds; 0 never expires, -1 keeps the lifetime that the entry has.
        condition: ``b"NX"`` (only where absent), ``b"XX"`` (only where present) or ``b""``.
        start: the first entry to pack; it is packed whatever its size.
        stop: the entry to stop before.
        limit: bytes.

    Returns:
        The buffer, and the position of the first entry that is not in it.
    """
    head, tail = _set_frame(ttl, condition)
    stop = min(stop, len(keys), len(values))
    parts: list[bytes] = []
    size = 0
    position = start
    while position < stop and (size < limit or not parts):
        part = _pack_entry(head, keys[position], values[position], tail)
        parts.append(part)
        size += len(part)
        position += 1
    return b"".join(parts), position


def _set_frame(ttl: int, condition: bytes) -> tuple[bytes, bytes]:
    """Give what stands before and after key and value in a ``SET``."""
    if ttl > 0:
        seconds = b"%d" % ttl
        options, tail = 2, b"$2\r\nEX\r\n$%d\r\n%b\r\n" % (len(seconds), seconds)
    elif ttl < 0:
        options, tail = 1, b"$7\r\nKEEPTTL\r\n"
    else:
        options, tail = 0, b""
    if condition:
        options += 1
        tail += b"$%d\r\n%b\r\n" % (len(condition), condition)
    return b"*%d\r\n$3\r\nSET\r\n" % (3 + options), tail


def _pack_entry(head: bytes, name: str, value: bytes, tail: bytes) -> bytes:
    key = name.encode("utf-8")
    return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(key), key, len(value), value, tail)


# -- to the nodes of a cluster --------------------------------------------------------------------------


def key_slots(keys: Sequence[str]) -> list[int]:
    """Give the hash slot of each key: the CRC16 of its hash tag, or of the whole key, modulo :data:`SLOTS`."""
    return [_slot(key) for key in keys]


def _slot(key: str) -> int:
    data = key.encode("utf-8")
    opened = data.find(b"{")
    if opened >= 0:
        closed = data.find(b"}", opened + 1)
        if closed > opened + 1:
            data = data[opened + 1 : closed]
    return binascii.crc_hqx(data, 0) % SLOTS


def route(keys: Sequence[str], owners: array[int], nodes: int, start: int, stop: int) -> list[list[int]]:
    """Divide a part of a batch by the node that serves each key.

    Args:
        keys: the keys of the whole batch.
        owners: the number of the node that serves each slot, an array of type ``H``; of a slot that no node serves,
            anything from ``nodes`` on.
        nodes: how many nodes there are.
        start: the first key.
        stop: the key to stop before.

    Returns:
        The positions of the keys of each node, and after those the positions of keys that no node serves.
    """
    _check_owners(owners)
    parts: list[list[int]] = [[] for _ in range(nodes + 1)]
    for position in range(max(start, 0), min(stop, len(keys))):
        parts[min(owners[_slot(keys[position])], nodes)].append(position)
    return parts


def _check_owners(owners: array[int]) -> None:
    if owners.typecode != "H" or len(owners) != SLOTS:
        raise ValueError(f"owners must be an array of {SLOTS} numbers of type H")


def pack_gets(keys: Sequence[str], positions: list[int]) -> bytes:
    """Pack a Redis ``GET`` of the key at each position."""
    parts = []
    for position in positions:
        check_position(position, len(keys))
        key = keys[position].encode("utf-8")
        parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_sets(keys: Sequence[str], values: Sequence[bytes], ttl: int, condition: bytes, positions: list[int]) -> bytes:
    """Pack a Redis ``SET`` of the entry at each position; see :func:`pack_set`."""
    head, tail = _set_frame(ttl, condition)
    parts = []
    for position in positions:
        check_position(position, min(len(keys), len(values)))
        parts.append(_pack_entry(head, keys[position], values[position], tail))
    return b"".join(parts)


def check_position(position: int, count: int) -> None:
    if not 0 <= position < count:
        raise IndexError(f"position {position} is outside of the batch")
