"""What commands need of a Redis topology: one server, the primary of a service, a cluster, or somebody's client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Iterator, Sequence
from typing import Any, Protocol

from ...types import PoolState
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks
from .._net.transport import Effect
from .exchanges import Command

__all__ = ["Topology"]


class Topology(Protocol):
    """A server, or servers, that hold the keys.

    A refusal is a ``str`` in the place of its reply. ``end`` is when to give up, in the time of :func:`time.monotonic`.

    Raises (all methods):
        BackendError: no reply; ``maybe_applied`` says whether commands may have been executed all the same.

    Attributes:
        server: its name for messages.
    """

    server: str

    async def run(
        self, key: str, commands: Sequence[Command], effect: Effect, end: float, transaction: bool = False
    ) -> list[Any]:
        """Send a few commands about one key, as a transaction if asked to; return their replies."""

    async def run_each(self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float) -> list[Any]:
        """Send commands, each about one of as many keys; return their replies in this order."""

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect, end: float) -> list[list[Any]]:
        """Send commands to each server that holds keys; return the replies of each. A refusal is raised."""

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes, end: float
    ) -> list[Any]:
        """Store entries, at least one; return for each ``b"OK"``, ``None`` (condition not met) or the refusal.

        Args:
            keys: of the entries.
            values: as many.
            seconds: the lifetime; 0 never expires, -1 keeps the entry's own.
            condition: ``b"NX"``, ``b"XX"`` or ``b""``.
            end: see above.
        """

    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next."""

    def scan(self, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys of all servers that match a pattern, in lists, empty ones among them.

        Args:
            pattern: glob-style.
            count: about how many keys a server looks at for each request.
            ends: bounds each request.
        """

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into those that may go into one command, at most ``limit`` each; return their positions."""

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        """Return what tells apart the servers that have each of ``keys``, as far as it is known without any request."""

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to each server that is known."""

    async def close(self) -> None:
        """Close the idle connections."""
