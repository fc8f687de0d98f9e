"""Redis through a client's public interface, for clients whose connections cannot be used directly.

Slower than :mod:`.server` over connections of a pool, and dependent on the client's own habits: one that repeats
commands after an error may repeat writes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from ...errors import BackendError
from ...types import PoolState
from .server import as_replies
from .transport import Command, Effect, set_options

__all__ = ["ClientTransport"]

_CHUNK = 1000


class ClientTransport:
    """A :class:`~.transport.Transport` over ``client.pipeline()``, which blocks.

    Args:
        client: has ``pipeline(transaction=...)`` as redis-py's ``Redis`` has.
        server: the server's name for messages, without credentials.
        close: closes the client, if it is ours to close.
    """

    def __init__(self, client: Any, server: str, close: Callable[[], Any] | None) -> None:
        self.server = server
        self._client = client
        self._close = close

    async def run(self, key: str, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and give their replies."""
        return self._run(commands, effect, transaction)

    async def run_each(self, requests: Sequence[tuple[str, Command]], effect: Effect) -> list[Any]:
        """Send commands and give their replies."""
        replies: list[Any] = []
        for start in range(0, len(requests), _CHUNK):
            replies += self._run([command for _, command in requests[start : start + _CHUNK]], effect)
        return replies

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect) -> list[list[Any]]:
        """Send commands; give their replies, as those of one server."""
        return [as_replies(self.server, self._run(commands, effect))]

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into parts of at most ``limit``."""
        for start in range(0, len(keys), limit):
            yield list(range(start, min(start + limit, len(keys))))

    async def write(self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes) -> list[Any]:
        """Store entries and give one reply each."""
        options = set_options(seconds, condition)
        requests = [(key, ("SET", key, value, *options)) for key, value in zip(keys, values, strict=True)]
        return [b"OK" if reply is True else reply for reply in await self.run_each(requests, Effect.SAME)]

    async def read_chunks(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        """Yield the values of ``keys`` in their order, in lists."""
        for start in range(0, len(keys), _CHUNK):
            (values,) = as_replies(self.server, self._run([("MGET", *keys[start : start + _CHUNK])], Effect.READ))
            yield values

    def pools(self) -> list[PoolState]:
        """Return nothing: the client keeps its connections to itself."""
        return []

    async def close(self) -> None:
        """Close the client, if it is ours to close."""
        if self._close is not None:
            self._close()

    def _run(self, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        try:
            with self._client.pipeline(transaction=transaction) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies = pipeline.execute(raise_on_error=False)
        except ResponseError as error:  # a transaction that was refused as a whole
            return [error]
        except (RedisError, OSError) as error:
            raise BackendError(f"{self.server}: {error}", maybe_applied=effect is not Effect.READ) from error
        return [_plain(reply) for reply in replies]


def _plain(reply: Any) -> Any:
    """Undo ``decode_responses=True``: values are bytes."""
    if isinstance(reply, str):
        return reply.encode("utf-8")
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    return reply
