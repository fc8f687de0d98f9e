"""Enumerating the keys of a Redis Cluster: ``SCAN`` on each primary, again where slots have moved meanwhile.

While a slot moves, its keys go from one node to the other, one by one. A key may leave a node before ``SCAN`` gets
there, and arrive at one where ``SCAN`` has been already. So it is noted which nodes had the keys of each slot when they
were enumerated. At the end, the nodes are asked again: slots that other nodes have by then are enumerated there, first
at the node that they leave, then at the one they go to.

Each node is believed in what it says of itself (``CLUSTER NODES``): of the others it hears late.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from ..._speedups import wire
from ...errors import BackendError
from .._net.exchange import run_exchange
from .._net.fanout import FanOut
from .._net.scanning import Ends
from .._net.transport import Effect, UnreachableError
from .exchanges import Command, Unit
from .nodes import Nodes
from .pauses import Pauses
from .scanning import scan_server
from .slots import Address, SlotMap

__all__ = ["scan_cluster"]

Holders = tuple[Address, ...]
"""The nodes that have keys of a slot: one, or while it moves the one that it leaves and the one it goes to."""


async def scan_cluster(nodes: Nodes, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
    """Yield the keys that match a pattern.

    Args:
        nodes: those of the cluster.
        pattern: glob-style.
        count: about how many keys a node looks at for each request.
        ends: bounds each request; and the time that a node takes to be replaced, if it fails.

    Raises:
        BackendError: a node failed, and none has taken its place in time.
    """
    seen: dict[int, Holders] = {}
    pauses: Pauses | None = None
    while True:
        try:
            holders = await _holders(nodes, ends())
            # Who moves a slot takes its keys along: those that were at the first node then have been seen at either.
            due = {slot: at for slot, at in holders.items() if seen.get(slot, ())[-len(at) :] != at}
            if not due:
                return
            for place in (0, 1):
                for address, slots in _by_node(due, place):
                    async with aclosing(_scan_node(nodes, address, pattern, count, ends)) as chunks:
                        async for keys in chunks:
                            if found := [
                                key for key, slot in zip(keys, wire.key_slots(keys), strict=True) if slot in slots
                            ]:
                                yield found
                    pauses = None
                    seen.update({slot: due[slot] for slot in slots if len(due[slot]) == place + 1})
        except BackendError as error:
            if not isinstance(error, UnreachableError) and not isinstance(error.__cause__, OSError):
                raise
            end = ends()
            pauses = pauses or Pauses(nodes.io, end)
            with suppress(BackendError):
                await nodes.relearn(await nodes.slots(end), (), end)
            if not await pauses.next():
                raise


def _by_node(due: Mapping[int, Holders], place: int) -> Iterator[tuple[Address, set[int]]]:
    """Yield each node that is at a place among the holders of slots, and those slots."""
    of_node: dict[Address, set[int]] = {}
    for slot, holders in due.items():
        if place < len(holders):
            of_node.setdefault(holders[place], set()).add(slot)
    yield from of_node.items()


def _scan_node(
    nodes: Nodes, address: Address, pattern: bytes, count: int, ends: Ends
) -> AsyncGenerator[list[str], None]:
    pool = nodes.pool(address)

    async def ask(commands: Sequence[Command], end: float) -> list[Any]:
        unit = Unit(commands, Effect.READ)
        await run_exchange(pool, unit, end)
        return unit.replies

    return scan_server(pool.server, ask, pattern, count, ends)


async def _holders(nodes: Nodes, end: float) -> dict[int, Holders]:
    """Return the holders of each slot that some node serves.

    Raises:
        UnreachableError: a node does not reply, or nobody knows now who serves a slot.
    """
    slots = await nodes.slots(end)
    parts = [(address, Unit([("CLUSTER", "NODES")], Effect.READ)) for address in slots.addresses]
    await FanOut(nodes.io, [(nodes.pool(address), unit) for address, unit in parts], end).run()
    views = []
    for address, unit in parts:
        if unit.error is not None:
            raise unit.error
        views.append(_View(unit.replies[0], address, slots))
    claims: dict[int, list[tuple[int, Address]]] = {}
    moves: dict[int, Holders] = {}
    reached = {view.name: view.address for view in views}
    for view in views:
        for slot in view.slots:
            claims.setdefault(slot, []).append((view.epoch, view.address))
        for slot, name in view.moves.items():
            # A node without slots is in no map, but the one that slots leave knows it.
            moves[slot] = (view.address, reached.get(name) or nodes.reached_at(*view.places[name], view.address))
    # Of two nodes that both say so, the one with the higher epoch has taken over from the other.
    holders = {slot: tuple([address for _, address in sorted(nodes_of)]) for slot, nodes_of in claims.items()}
    if any(slot not in holders for slot, owner in enumerate(slots.owners) if owner < len(slots.addresses)):
        raise UnreachableError(f"{nodes.server}: slots are moving to a node that the others do not know yet")
    return {**holders, **moves}


class _View:
    """What a node says of itself (https://redis.io/docs/latest/commands/cluster-nodes/).

    Args:
        reply: to ``CLUSTER NODES``.
        address: of the node.
        known: the map; it stands in for the reply of a node that refuses one.

    Attributes:
        address: as given.
        name: its id.
        epoch: grows with each node that takes over from another.
        slots: those that it serves.
        moves: slots that are moving away from it, with the ids of the nodes they go to.
        places: host and port of each node that it knows, by id.
    """

    def __init__(self, reply: Any, address: Address, known: SlotMap) -> None:
        self.address = address
        self.name = ""
        self.epoch = 0
        self.slots: set[int] = set()
        self.moves: dict[int, str] = {}
        self.places: dict[str, tuple[str, int]] = {}
        if not isinstance(reply, bytes):
            place = known.addresses.index(address)
            self.slots.update(slot for slot, owner in enumerate(known.owners) if owner == place)
            return
        lines = [line.split() for line in reply.decode("utf-8", "replace").splitlines()]
        for name, place_of, flags, _, _, _, epoch, _, *slots in lines:
            host, _, port = place_of.partition("@")[0].rpartition(":")
            self.places[name] = host, int(port)
            if {"myself", "master"} <= {*flags.split(",")}:
                self.name, self.epoch = name, int(epoch)
                self._read_slots(slots)

    def _read_slots(self, words: Sequence[str]) -> None:
        for word in words:
            if not word.startswith("["):
                first, _, last = word.partition("-")
                self.slots.update(range(int(first), int(last or first) + 1))
            elif "->-" in word:
                slot, _, node = word.strip("[]").partition("->-")
                self.moves[int(slot)] = node
