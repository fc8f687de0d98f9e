"""RESP requests, the Python version of ``_resp_c.pyx``: whole batches are packed into one buffer.

* RESP, the Redis protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
* hash slots of Redis Cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

Values are ``bytes`` here, and keys ``str`` that were checked before anything is sent; see :mod:`._checks_py`. Functions
that pack a part of a batch take ``start`` and ``stop``, places in the lists of the whole batch, or in ``positions``: a
list of where in the batch those entries stand that go to one of several nodes.
"""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Sequence

from ._positions_py import position_at

__all__ = ["SLOTS", "key_slots", "pack_command", "pack_commands", "pack_gets", "pack_keys", "pack_set", "route"]

SLOTS = 16384
"""How many hash slots a Redis Cluster has."""


def pack_command(args: Sequence[bytes | str | int]) -> bytes:
    """Pack one Redis command, its name first."""
    return pack_commands((args,), 0, 1, 0)[0]


def pack_commands(
    commands: Sequence[Sequence[bytes | str | int]], start: int, stop: int, limit: int
) -> tuple[bytes, int]:
    """Pack Redis commands, and stop early once the buffer has ``limit`` bytes.

    Args:
        commands: of the whole batch, the name of each first.
        start: the first command to pack; it is packed whatever its size.
        stop: the command to stop before.
        limit: bytes.

    Returns:
        The buffer, and the place of the first command that is not in it.
    """
    parts: list[bytes] = []
    size = 0
    place = start = max(start, 0)
    stop = min(stop, len(commands))
    while place < stop and (size < limit or place == start):
        parts.append(b"*%d\r\n" % len(commands[place]))
        size += len(parts[-1])
        for arg in commands[place]:
            data = arg if isinstance(arg, bytes) else str(arg).encode("utf-8")
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
            size += len(parts[-1])
        place += 1
    return b"".join(parts), place


def pack_keys(name: bytes, keys: Sequence[str], start: int, stop: int) -> bytes:
    """Pack one Redis command over many keys, such as ``MGET`` or ``DEL``."""
    stop = min(stop, len(keys))
    start = max(start, 0)
    parts = [b"*%d\r\n$%d\r\n%b\r\n" % (max(stop - start, 0) + 1, len(name), name)]
    for i in range(start, stop):
        key = keys[i].encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_gets(keys: Sequence[str], positions: list[int] | None, start: int, stop: int) -> bytes:
    """Pack a Redis ``GET`` for each key; ``positions`` is as in :func:`pack_set`."""
    parts = []
    for place in range(max(start, 0), min(stop, len(keys if positions is None else positions))):
        key = keys[position_at(positions, place, len(keys))].encode("utf-8")
        parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_set(
    keys: Sequence[str],
    values: Sequence[bytes],
    ttl: int,
    condition: bytes,
    positions: list[int] | None,
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
        positions: where the entries stand in the batch; ``None`` for all of it, in order.
        start: the place of the first entry to pack; it is packed whatever its size.
        stop: the place to stop before.
        limit: bytes.

    Returns:
        The buffer, and the place of the first entry that is not in it.

    Raises:
        IndexError: a position lies outside of the batch.
    """
    head, tail = _set_frame(ttl, condition)
    count = min(len(keys), len(values))
    parts: list[bytes] = []
    size = 0
    place = start = max(start, 0)
    stop = min(stop, count if positions is None else len(positions))
    while place < stop and (size < limit or place == start):
        position = position_at(positions, place, count)
        key, value = keys[position].encode("utf-8"), values[position]
        parts.append(b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(key), key, len(value), value, tail))
        size += len(parts[-1])
        place += 1
    return b"".join(parts), place


def _set_frame(ttl: int, condition: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and after key and value in a ``SET``."""
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


# -- to the nodes of a cluster --------------------------------------------------------------------------


def key_slots(keys: Sequence[str]) -> list[int]:
    """Return the hash slot of each key: the CRC16 of its hash tag, or of the whole key, modulo :data:`SLOTS`."""
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
