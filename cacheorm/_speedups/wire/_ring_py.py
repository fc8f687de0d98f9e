"""Keys to servers of a consistent-hash ring, pure Python: the readable twin of ``_ring_c.pyx``.

The hash functions and the search are libmemcached's (``libhashkit/one_at_a_time.cc``, ``libmemcached/hash.cc``):
https://github.com/awesomized/libmemcached. Batches go out to the servers with :meth:`Ring.owners` and :func:`deal`,
and what comes back is put in order with :func:`collect`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Ring", "collect", "deal", "one_at_a_time"]

_MASK = 0xFFFFFFFF


def one_at_a_time(data: bytes) -> int:
    """Hash bytes as libmemcached does by default: Bob Jenkins's one-at-a-time, over *signed* bytes.

    https://en.wikipedia.org/wiki/Jenkins_hash_function. The sign makes a difference to keys that are not ASCII.
    """
    value = 0
    for byte in data:
        value = (value + (byte if byte < 0x80 else byte - 0x100)) & _MASK
        value = (value + (value << 10)) & _MASK
        value ^= value >> 6
    value = (value + (value << 3)) & _MASK
    value ^= value >> 11
    return (value + (value << 15)) & _MASK


class Ring:
    """Points on a circle of 32-bit numbers; a key belongs to the server of the first point at or after its hash.

    Args:
        points: pairs of a number and the server that has the point, at least one; servers count from 0 to 254.
        digest: hash keys with MD5 (its first four bytes, little endian) in place of :func:`one_at_a_time`.
    """

    def __init__(self, points: Sequence[tuple[int, int]], digest: bool) -> None:
        ordered = sorted(points)
        if not ordered:
            raise ValueError("a ring needs at least one point")
        for number, server in ordered:
            if not 0 <= number <= _MASK or not 0 <= server < 255:
                raise ValueError("a point is a 32-bit number and a server below 255")
        self._numbers = [number for number, _ in ordered]
        self._servers = bytes([server for _, server in ordered])
        self._md5: Callable[..., Any] | None = None
        if digest:
            from hashlib import md5  # here, as it loads OpenSSL

            self._md5 = md5

    def owner(self, key: str) -> int:
        """Give the server of a key."""
        data = key.encode("utf-8")
        if self._md5 is not None:
            number = int.from_bytes(self._md5(data, usedforsecurity=False).digest()[:4], "little")
        else:
            number = one_at_a_time(data)
        place = bisect_left(self._numbers, number)
        return self._servers[place if place < len(self._servers) else 0]

    def owners(self, keys: Sequence[str]) -> bytes:
        """Give the servers of many keys, a byte each."""
        return bytes([self.owner(key) for key in keys])


def deal(owners: bytes, items: Sequence[Any], servers: int) -> list[list[Any]]:
    """Give each server the items that are its own, in their order: a list for each."""
    if len(owners) != len(items):
        raise ValueError("owners and items must be as many")
    parts: list[list[Any]] = [[] for _ in range(servers)]
    for owner, item in zip(owners, items, strict=True):
        if owner >= servers:
            raise ValueError("an owner is not among the servers")
        parts[owner].append(item)
    return parts


def collect(owners: bytes, start: int, parts: Sequence[list[Any]], taken: list[int], result: list[Any]) -> int:
    """Undo :func:`deal` for as much as is there: append to ``result`` what comes next in the order of the batch.

    Args:
        owners: of the whole batch.
        start: what to go on from: 0 first, then what was returned.
        parts: what each server gave so far.
        taken: how much of each part was taken; counted up in place.
        result: gets the items.

    Returns:
        The position of the first item that is not there yet.
    """
    position = max(start, 0)
    while position < len(owners):
        owner = owners[position]
        if owner >= len(parts) or owner >= len(taken):
            raise ValueError("an owner is not among the servers")
        at = taken[owner]
        if not 0 <= at < len(parts[owner]):
            break
        result.append(parts[owner][at])
        taken[owner] = at + 1
        position += 1
    return position
