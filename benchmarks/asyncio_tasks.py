"""Many tasks that read at the same time, beside the same reads one after another in one thread, and by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgpack

from tests.servers import HOST

from .measure import Call, alternate
from .rows import STANDARD
from .stores import Stores

__all__ = ["BACKENDS", "CALLED", "contestants", "times"]

BACKENDS = ("Redis", "Redis Cluster", "Sentinel", "memcached", "three memcacheds", "Simple")

CALLED = "called"
"""The same reads without an event loop."""

BATCH = 100
"""Rows that a task reads."""

_CONNECTIONS = 64

# A turn has to be long enough for several full garbage collections. There is one in about a thousand batches, so that a
# short turn might have one more or less than another.
_TURN_SECONDS = 0.5


def _loops() -> dict[str, Any]:
    found: dict[str, Any] = {"asyncio": asyncio.new_event_loop}
    with contextlib.suppress(ImportError):  # as on Windows
        import uvloop

        found["uvloop"] = uvloop.new_event_loop
    return found


@contextlib.contextmanager
def contestants(
    stores: Stores, backend: str, tasks: int, keep: Callable[[list[Any]], Any] = len
) -> Iterator[dict[str, Call]]:
    """Store rows, and yield the calls that read them: ``tasks`` batches, in as many tasks if there is an event loop.

    Each call returns the result of ``keep`` for each batch. By default that is the number of its rows, so that rows are
    freed as soon as they are read.
    """
    rows = STANDARD.rows(1000)
    parts = [[(number * 37 + i) % len(rows) for i in range(BATCH)] for number in range(tasks)]
    pks = [[rows[at]["id"] for at in part] for part in parts]
    asked = [[{"id": pk} for pk in of_task] for of_task in pks]
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(stores.bound(STANDARD, backend))
        model.insert_many(rows).execute()
        calls: dict[str, Call] = {CALLED: lambda: [keep(model.query_many(of_task).execute()) for of_task in asked]}
        for name, make in _loops().items():
            runner = stack.enter_context(asyncio.Runner(loop_factory=make))
            calls[f"awaited, {name}"] = _reader(runner, _rows_of(model, keep), asked)
            if backend == "Simple":
                calls[f"empty tasks, {name}"] = _reader(runner, _nothing, asked)
            if backend == "Redis":
                client = _by_hand(stores)
                stack.callback(lambda runner=runner, client=client: runner.run(client.aclose(True)))
                calls[f"by hand, {name}"] = _reader(runner, _reads(client, keep), pks)
        yield calls


def _by_hand(stores: Stores) -> Any:
    """Return an asyncio client whose pool waits; the usual one raises an error when all connections are in use."""
    import redis.asyncio

    pool = redis.asyncio.BlockingConnectionPool(
        host=HOST, port=stores.redis_server.port, max_connections=_CONNECTIONS, timeout=60
    )
    return redis.asyncio.Redis.from_pool(pool)


async def _nothing(pks: list[Any]) -> None:
    """Do nothing, to measure the cost of tasks."""


def _rows_of(model: Any, keep: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Awaitable[Any]]:
    async def read(pks: list[Any]) -> Any:
        return keep(await model.query_many(pks).aexecute())

    return read


def _reads(client: Any, keep: Callable[[list[Any]], Any]) -> Callable[[list[int]], Awaitable[Any]]:
    async def read(pks: list[int]) -> Any:
        values = await client.mget([f"m:user:id:{pk}" for pk in pks])
        return keep([None if value is None else msgpack.unpackb(value) for value in values])

    return read


def _reader(runner: asyncio.Runner, read: Callable[[Any], Awaitable[Any]], parts: list[Any]) -> Call:
    async def main() -> list[Any]:
        return await asyncio.gather(*map(read, parts))

    return lambda: runner.run(main())


def times(
    stores: Stores, backend: str, tasks: int, rounds: int, seconds: float, tick: Callable[[], None]
) -> dict[str, float]:
    """Time one line of the table: microseconds per row, by contestant."""
    with contestants(stores, backend, tasks) as calls:
        return alternate(calls, tasks * BATCH, rounds, max(seconds, _TURN_SECONDS), tick)
