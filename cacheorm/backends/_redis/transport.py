"""What commands need of a way to Redis, and what a way to Redis needs of connections.

All of it is coroutines. Whether they suspend depends on the connections alone; see :mod:`.._driving`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Protocol

from ..._speedups import wire
from ...types import PoolState
from .._driving import Chunks

__all__ = ["MOMENT", "Command", "Effect", "Link", "Links", "Transport", "set_options"]

Command = tuple[Any, ...]
"""One Redis command, its name first."""


MOMENT = 1.0
"""Seconds: a connection that was used so long ago at most is not looked at before it is read from."""


class Effect(Enum):
    """What sending commands again would do, where it is not known whether they were run."""

    READ = "nothing is changed"
    SAME = "the outcome is that of running them once"
    STEP = "it may be another outcome, or another reply"


class Link(Protocol):
    """A connection, taken from a pool."""

    @property
    def feed(self) -> Callable[[bytes], Any] | None:
        """Gives bytes to the parser of the driver; ``None`` where nobody may read past it."""

    async def send(self, buffer: bytes, check_health: bool) -> None:
        """Send packed commands; before, if asked to, a ``PING`` where the connection was idle for long."""

    async def receive(self, reader: wire.RespReader) -> None:
        """Wait for bytes, and give them to the reader past the driver's parser."""

    async def parse(self) -> Any:
        """Read one reply with the driver's parser; a refusal is raised."""


class Links(Protocol):
    """The connections to one server.

    Attributes:
        server: its name for messages, without credentials.
    """

    server: str

    async def take(self, sure: bool = True) -> Link:
        """Give a connection that is not in use.

        Args:
            sure: whether to look first if the server has closed it. Reads, which are repeated, can do without where the
                connection was used a moment ago.

        Raises:
            BackendError: all stayed in use, or the server cannot be reached; nothing was sent.
        """

    async def give_back(self, link: Any, reusable: bool) -> None:
        """Take a connection back, and close it unless every reply that was due was read."""

    def state(self) -> PoolState:
        """Return how the connections are used."""

    async def close(self) -> None:
        """Close the connections."""


class Transport(Protocol):
    """A way to the server, or servers, that hold the keys.

    Methods give a ``ResponseError`` in the place of each reply that is a refusal.

    Raises (all methods):
        BackendError: no reply; ``maybe_applied`` tells whether commands may have been run all the same.

    Attributes:
        server: for messages.
    """

    server: str

    async def run(self, key: str, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        """Send a few commands about one key at once, if asked to as a transaction; give their replies."""

    async def run_each(self, requests: Sequence[tuple[str, Command]], effect: Effect) -> list[Any]:
        """Send commands, each given after a key that it is about; give their replies in this order."""

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect) -> list[list[Any]]:
        """Send commands to each server that holds keys; give the replies of each. A refusal is raised."""

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into those that may go into one command, at most ``limit`` each; give their positions."""

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes
    ) -> list[bytes | Exception | None]:
        """Store entries and give one reply each: ``b"OK"``, ``None`` (condition not met) or the refusal.

        Args:
            keys: at least one.
            values: as many.
            seconds: the lifetime; 0 never expires, -1 keeps the entry's own.
            condition: ``b"NX"``, ``b"XX"`` or ``b""``.
        """

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next."""

    def pools(self) -> list[PoolState]:
        """Return how the connections to each server that is known are used."""

    async def close(self) -> None:
        """Close the connections, unless somebody else made them."""


def set_options(seconds: int, condition: bytes) -> tuple[bytes | str | int, ...]:
    """Give what follows key and value in a ``SET``: 0 seconds never expires, -1 keeps the entry's lifetime."""
    lifetime = ("EX", seconds) if seconds > 0 else ("KEEPTTL",) if seconds < 0 else ()
    return (*lifetime, condition) if condition else lifetime
