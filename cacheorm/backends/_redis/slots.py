"""Which node of a Redis Cluster serves which slot, as it was learnt at one moment.

https://redis.io/docs/latest/commands/cluster-slots/
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..._speedups import wire

__all__ = ["Address", "Remap", "SlotMap", "parse_slots"]

Address = tuple[str, int]
"""Where a node listens: host and port."""

Remap = Callable[[Address], Address]
"""Gives where a node is reached that says to be somewhere, such as behind a proxy."""

_NOBODY = 65535


class SlotMap:
    """The slots and those who serve them. It never changes: who knows better makes another.

    Args:
        addresses: of the primaries.
        owners: for each slot the place of its primary among them, or any larger number.
    """

    __slots__ = ("addresses", "owners")

    def __init__(self, addresses: Sequence[Address], owners: array[int]) -> None:
        self.addresses = tuple(addresses)
        self.owners = owners

    def owner(self, key: str) -> Address | None:
        """Give who serves a key; ``None`` where nobody does."""
        (slot,) = wire.key_slots((key,))
        owner = self.owners[slot]
        return self.addresses[owner] if owner < len(self.addresses) else None

    def owners_of(self, keys: Sequence[str]) -> list[Address | None]:
        """Return who serves each key, as :meth:`owner` does."""
        places = (*self.addresses, None)
        nobody = len(self.addresses)
        return [places[min(self.owners[slot], nobody)] for slot in wire.key_slots(keys)]

    def route(self, keys: Sequence[str], start: int, stop: int) -> list[tuple[Address | None, list[int]]]:
        """Divide a part of a batch: give the positions of the keys by who serves them."""
        parts = wire.route(keys, self.owners, len(self.addresses), start, stop)
        return [part for part in zip((*self.addresses, None), parts, strict=True) if part[1]]

    def moved(self, moves: Mapping[int, Address]) -> SlotMap:
        """Give a map in which some slots are served by others."""
        addresses = list(dict.fromkeys((*self.addresses, *moves.values())))
        owners = self.owners[:]
        for slot, address in moves.items():
            owners[slot] = addresses.index(address)
        return SlotMap(addresses, owners)


def parse_slots(ranges: Sequence[Any], asked: Address, remap: Remap | None) -> tuple[SlotMap, list[Address]]:
    """Read the reply to ``CLUSTER SLOTS``.

    Args:
        ranges: the reply.
        asked: who gave it.
        remap: where nodes are reached.

    Returns:
        The map, and where all nodes are, replicas included.
    """
    owners = array("H", [_NOBODY]) * wire.SLOTS
    primaries: dict[Address, int] = {}
    known: dict[Address, None] = {}
    for first, last, *nodes in ranges:
        addresses = list(_addresses(nodes, asked, remap))
        if not addresses:
            continue
        known.update(dict.fromkeys(addresses))
        owner = primaries.setdefault(addresses[0], len(primaries))
        owners[first : last + 1] = array("H", [owner]) * (last + 1 - first)
    return SlotMap(list(primaries), owners), list(known)


def _addresses(nodes: Sequence[Any], asked: Address, remap: Remap | None) -> Iterator[Address]:
    for name, port, *_ in nodes:
        host = name.decode() if isinstance(name, bytes) else name
        # A node that does not know its own name is the one that was asked, or is reached as that one is.
        address = (host if host and host != "?" else asked[0], int(port))
        yield address if remap is None else remap(address)
