"""Batches of many tasks that are cancelled at random moments, and a check of every reply that arrives all the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["ROWS", "cancel_many", "settled"]

ROWS = {f"key:{i}": b"%d" % i for i in range(2500)}
"""What has to be stored before anything is cancelled."""

IN_FLIGHT = 24
_KEYS = list(ROWS)


Call = tuple[Awaitable[Any], Any]
"""What is awaited, and what it has to give."""


async def cancel_many(backend: Any, sizes: list[int], goal: int, seconds: float, chance: random.Random) -> None:
    """Read and write batches until so many of them were cancelled before they ended; no stored value changes.

    Args:
        backend: has :data:`ROWS`, and nothing else.
        sizes: how many keys a batch has, for the methods for one key 1.
        goal: how many are to be cancelled.
        seconds: by then at the latest each is.
        chance: gives the moments.

    Raises:
        AssertionError: a call gave another reply than its own.
    """
    cancelled = 0
    in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        nonlocal cancelled
        async with in_flight:
            work, expected = _call(backend, number * 7, chance.choice(sizes), chance)
            try:
                found = await chance.choice(_WAYS)(work, chance.random() * seconds)
            except (asyncio.CancelledError, TimeoutError):
                cancelled += 1
            else:
                assert found == expected

    number = 0
    while cancelled < goal:
        await asyncio.gather(*[one(number + i) for i in range(250)])
        number += 250
    # Who comes after reads its own replies.
    for size in range(1, 40):
        work, expected = _call(backend, size, size, chance)
        assert await work == expected


def _call(backend: Any, first: int, size: int, chance: random.Random) -> Call:
    keys = [_KEYS[(first + i) % len(_KEYS)] for i in range(size)]
    if size == 1:
        (key,) = keys
        value, absent = ROWS[key], f"absent:{key}"
        singles: list[Callable[[], Call]] = [
            lambda: (backend.aget(key), value),
            lambda: (backend.aget(absent), None),
            lambda: (backend.ahas(key), True),
            lambda: (backend.aset(key, value), True),
            lambda: (backend.aadd(key, b"other"), False),
            lambda: (backend.areplace(absent, b"other"), False),
            lambda: (backend.adelete(absent), False),
        ]
        return chance.choice(singles)()
    # Most of them need only a part of this: nothing is made for those that were not chosen.
    batches: list[Callable[[], Call]] = [
        lambda: (backend.aget_many(*keys), [ROWS[key] for key in keys]),
        lambda: _mixed(backend, keys),
        lambda: (_chunks(backend, keys), [ROWS[key] for key in keys]),
        lambda: (backend.aset_many({key: ROWS[key] for key in keys}), dict.fromkeys(keys, True)),
        lambda: (backend.aadd_many({key: ROWS[key] for key in keys}), dict.fromkeys(keys, False)),
        lambda: (backend.areplace_many(dict.fromkeys(_absent(keys), b"")), dict.fromkeys(_absent(keys), False)),
        lambda: (backend.adelete_many(*_absent(keys)), False),
    ]
    return chance.choice(batches)()


def _absent(keys: list[str]) -> list[str]:
    return [f"absent:{key}" for key in keys]


def _mixed(backend: Any, keys: list[str]) -> Call:
    mixed = [key for pair in zip(keys, _absent(keys), strict=True) for key in pair]
    return backend.aget_many(*mixed), [ROWS.get(key) for key in mixed]


async def _chunks(backend: Any, keys: list[str]) -> list[Any]:
    return [value async for chunk in backend.aget_chunks(keys) for value in chunk]


# -- ways to be cancelled ----------------------------------------------------------------------------------


async def _cancel(work: Awaitable[Any], seconds: float) -> Any:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    task.cancel()
    return await task


async def _cancel_again_and_again(work: Awaitable[Any], seconds: float) -> Any:
    """As anyio's scopes do it: in every turn of the loop until the task ends."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    return await task


async def _run_out_of_time(work: Awaitable[Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await work


async def _go_down_with_a_group(work: Awaitable[Any], seconds: float) -> Any:
    async def fail() -> None:
        await asyncio.sleep(seconds)
        raise asyncio.QueueEmpty

    async def call() -> None:
        found.append(await work)

    found: list[Any] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(fail())
    except* asyncio.QueueEmpty:
        pass
    if not found:
        raise asyncio.CancelledError
    return found[0]


_WAYS = [_cancel, _cancel_again_and_again, _run_out_of_time, _go_down_with_a_group]


async def settled(what: Callable[[], bool | Awaitable[bool]]) -> bool:
    """Wait until something holds that others bring about, for a minute at most."""
    for _ in range(6000):
        found = what()
        if found if isinstance(found, bool) else await found:
            return True
        await asyncio.sleep(0.01)
    return False
