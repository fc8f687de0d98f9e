"""Redis through a client's public interface, for clients whose connections cannot be used directly.

Slower than :mod:`._redis_pool` and dependent on the client's own habits: one that repeats commands after an
error may repeat writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from ..errors import BackendError
from .redis import set_options

__all__ = ["ClientTransport"]

_CHUNK = 1000


class ClientTransport:
    """The interface of :class:`._redis_pool.PoolTransport` over ``client.pipeline()``.

    Args:
        client: has ``pipeline(transaction=...)`` as redis-py's ``Redis`` has.
        server: the server's name for messages, without credentials.
    """

    def __init__(self, client: Any, server: str) -> None:
        self._client = client
        self._server = server

    def run(self, commands: Sequence[tuple[Any, ...]], *, write: bool, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and return their replies, a ``ResponseError`` for each refused one."""
        try:
            with self._client.pipeline(transaction=transaction) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies = pipeline.execute(raise_on_error=False)
        except ResponseError as error:  # a transaction that was refused as a whole
            return [error]
        except (RedisError, OSError) as error:
            raise BackendError(f"{self._server}: {error}", maybe_applied=write) from error
        return [_plain(reply) for reply in replies]

    def write(self, keys: Sequence[str], values: Sequence[bytes], ttl: int, condition: bytes) -> list[Any]:
        """Store entries and return one reply each: ``b"OK"``, ``None`` (condition not met) or the refusal."""
        options = set_options(ttl, condition)
        replies: list[Any] = []
        for start in range(0, len(keys), _CHUNK):
            part = slice(start, start + _CHUNK)
            commands = [("SET", key, value, *options) for key, value in zip(keys[part], values[part], strict=True)]
            replies += self.run(commands, write=True)
        return [b"OK" if reply is True else reply for reply in replies]

    def read_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists."""
        for start in range(0, len(keys), _CHUNK):
            (values,) = self.run([("MGET", *keys[start : start + _CHUNK])], write=False)
            if isinstance(values, ResponseError):
                raise BackendError(f"{self._server}: {values}") from values
            yield values


def _plain(reply: Any) -> Any:
    """Undo ``decode_responses=True``: values are bytes."""
    if isinstance(reply, str):
        return reply.encode("utf-8")
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    return reply
