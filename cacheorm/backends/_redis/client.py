"""Redis through a client's public interface, for clients whose connections cannot be used directly.

Slower than connections of our own, and dependent on the client's own habits: one that repeats commands after an error
may repeat writes.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from ...errors import BackendError
from ...types import PoolState
from .._net.scanning import Ends
from .._net.transport import Effect
from .exchanges import Command, set_options
from .refusals import refusal_of, refuse
from .scanning import scan_server
from .single import groups_of

__all__ = ["ClientTopology"]

_CHUNK = 1000


class ClientTopology:
    """A :class:`~.topology.Topology` over ``client.pipeline()``.

    Args:
        client: has ``pipeline(transaction=...)`` as redis-py's ``Redis`` of either kind has.
        server: the server's name for messages, without credentials.
        close: closes the client, if the backend has made it.
    """

    def __init__(self, client: Any, server: str, close: Callable[[], Any] | None) -> None:
        self.server = server
        self._client = client
        self._close = close

    async def run(
        self, key: str, commands: Sequence[Command], effect: Effect, end: float, transaction: bool = False
    ) -> list[Any]:
        """Send a few commands; return their replies."""
        return await self._run(commands, effect, transaction)

    async def run_each(self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float) -> list[Any]:
        """Send commands; return their replies."""
        replies: list[Any] = []
        for start in range(0, len(commands), _CHUNK):
            replies += await self._run(commands[start : start + _CHUNK], effect)
        return replies

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect, end: float) -> list[list[Any]]:
        """Send commands; return their replies, as those of one server."""
        replies = await self._run(commands, effect)
        for reply in replies:
            if isinstance(reply, str):
                refuse(self.server, reply)
        return [replies]

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes, end: float
    ) -> list[Any]:
        """Store entries; return one reply each."""
        options = set_options(seconds, condition)
        commands = [("SET", key, value, *options) for key, value in zip(keys, values, strict=True)]
        effect = Effect.STEP if condition == b"NX" else Effect.SAME
        return [b"OK" if reply is True else reply for reply in await self.run_each(keys, commands, effect, end)]

    async def read_chunks(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        """Yield the values of ``keys`` in their order, in lists."""
        for start in range(0, len(keys), _CHUNK):
            (values,) = await self._run([("MGET", *keys[start : start + _CHUNK])], Effect.READ)
            if isinstance(values, str):
                refuse(self.server, values)
            yield values

    def scan(self, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys that match a pattern."""
        return scan_server(self.server, lambda commands, end: self._run(commands, Effect.READ), pattern, count, ends)

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into parts of at most ``limit``; return their positions."""
        return groups_of(keys, limit)

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        """Return the server of each key: the same one."""
        return bytes(len(keys))

    def pools(self) -> list[PoolState]:
        """Return nothing: the client keeps its connections to itself."""
        return []

    async def close(self) -> None:
        """Close the client, if the backend has made it."""
        if self._close is not None:
            await _awaited(self._close())

    async def _run(self, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=transaction)
            for command in commands:
                pipeline.execute_command(*command)
            replies = await _awaited(pipeline.execute(raise_on_error=False))
        except ResponseError as error:  # a transaction that was refused as a whole
            return [refusal_of(error)]
        except (RedisError, OSError) as error:
            raise BackendError(f"{self.server}: {error}", maybe_applied=effect is not Effect.READ) from error
        return [_plain(reply) for reply in replies]


async def _awaited(result: Any) -> Any:
    """Return what a method of a client returns, or in its kind for asyncio promises."""
    return await result if inspect.isawaitable(result) else result


def _plain(reply: Any) -> Any:
    """Return a reply as our own connections do: values as bytes, refusals as a str."""
    if isinstance(reply, ResponseError):
        return refusal_of(reply)
    if isinstance(reply, str):
        return reply.encode("utf-8")
    if isinstance(reply, (list, tuple)):
        return [_plain(item) for item in reply]
    return reply
