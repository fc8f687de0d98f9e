"""Models in front of mapped classes in an event loop: AsyncSession, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from shops import make_shop, prepare_sqlite
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached

Main = Callable[[SimpleNamespace], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> Run:
    """Runs a coroutine function with a shop whose sessions are awaited."""
    if driver == "aiosqlite":
        url = f"sqlite:///{tmp_path}/test.db"
        awaited_url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    else:
        found: str = request.getfixturevalue("postgres_url")
        url = found.replace("postgresql://", "postgresql+psycopg://")
        awaited_url = found.replace("postgresql://", f"postgresql+{driver}://")

    def run(main: Main, backend: co.BaseBackend, **options: Any) -> None:
        blocking = sa.create_engine(url)
        made = make_shop(blocking, None)
        blocking.dispose()

        async def whole() -> None:
            engine = create_async_engine(awaited_url, pool_size=5, max_overflow=0, pool_timeout=5)
            if driver == "aiosqlite":
                prepare_sqlite(engine.sync_engine)
            made.engine = engine
            made.Session = async_sessionmaker(engine)
            made.products = cached(made.Product, made.Session, backend=backend, ttl=600, **options)
            made.brands = cached(made.Brand, made.Session, backend=backend, ttl=600, **options)
            try:
                await main(made)
            finally:
                await engine.dispose()
                await backend.aclose()

        asyncio.run(whole())

    return run


async def gone(shop: SimpleNamespace) -> list[int]:
    return [pk for pk in range(1, 6) if not await shop.products.aexists(id=pk)]


@pytest.mark.parametrize("driver", ["aiosqlite"])
def test_on_each_backend(run: Run, backend: co.BaseBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        assert (await shop.products.aget(id=1)).name == "product 1"
        async with shop.Session.begin() as session:
            (await session.get(shop.Product, 1)).name = "new"
        assert await gone(shop) == [1, 2, 3, 4, 5]
        assert (await shop.products.aget(id=1)).name == "new"

    run(main, backend)


def test_rows_are_loaded_and_removed(run: Run, memory: co.SimpleBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        products = await shop.products.query_many(range(1, 7)).preload("brand")
        assert [row and row.name for row in products] == [*[f"product {pk}" for pk in range(1, 6)], None]
        assert products[0].brand.country == "fr"
        async with shop.Session.begin() as session:
            (await session.get(shop.Product, 1)).name = "new"
            await session.execute(sa.update(shop.Product).where(shop.Product.name == "product 2").values(stock=7))
            async with session.begin_nested() as savepoint:
                (await session.get(shop.Product, 3)).name = "lost"
                await session.flush()
                await savepoint.rollback()
            assert await gone(shop) == []
        assert await gone(shop) == [1, 2]
        assert (await shop.products.aget(id=1)).name == "new"
        async with shop.Session() as session:
            (await session.get(shop.Product, 4)).name = "lost"
            await session.flush()
        async with AsyncSession(shop.engine) as session:
            await session.run_sync(rename, shop.Product)
        assert await gone(shop) == [2, 5]
        assert (await shop.products.aget(id=5)).name == "in a greenlet"

    def rename(session: Session, mapped: Any) -> None:
        session.get(mapped, 5).name = "in a greenlet"
        session.commit()

    run(main, memory)


def test_write_loads_them_at_once(run: Run, memory: co.SimpleBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        async with shop.Session.begin() as session:
            (await session.get(shop.Product, 1)).name = "new"
        (row,) = await shop.products.query_many([1]).cached_only()
        assert row.name == "new"

    run(main, memory, on_commit="write")


def test_a_called_read_says_that_it_has_to_be_awaited(run: Run, memory: co.SimpleBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        with pytest.raises(TypeError, match="aget"):
            shop.products.get(id=1)
        await shop.products.aget(id=1)
        assert shop.products.get(id=1).name == "product 1"

    run(main, memory)


def test_a_function_that_returns_awaited_sessions_is_refused_with_a_hint(run: Run, memory: co.SimpleBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        products = cached(shop.Product, lambda: AsyncSession(shop.engine), backend=memory, name="function")
        with pytest.raises(TypeError, match=r"cached\(ProductRow\): .*give an async_sessionmaker"):
            await products.aget(id=1)

    run(main, memory)


class Slow(co.SimpleBackend):
    """Waits in each removal until it is told to go on."""

    in_process = False

    def __init__(self) -> None:
        super().__init__()
        self.is_removing = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.threads: list[int] = []

    async def adelete_many(self, *keys: str) -> bool:
        self.threads.append(threading.get_ident())
        self.is_removing.set()
        await self.may_go_on.wait()
        return self.delete_many(*keys)


def test_the_loop_goes_on_while_rows_are_removed(run: Run) -> None:
    backend = Slow()

    async def main(shop: SimpleNamespace) -> None:
        await shop.products.aget(id=1)

        async def change() -> None:
            async with shop.Session.begin() as session:
                (await session.get(shop.Product, 1)).name = "new"

        task = asyncio.create_task(change())
        await backend.is_removing.wait()
        assert not task.done()
        backend.may_go_on.set()
        await task
        assert await gone(shop) == [1, 2, 3, 4, 5]

    run(main, backend)


@pytest.mark.parametrize("loop_ends", [False, True])
def test_a_task_that_is_cancelled_loses_nothing(run: Run, loop_ends: bool) -> None:
    backend = Slow()

    async def main(shop: SimpleNamespace) -> None:
        await shop.products.aget(id=1)

        async def change() -> None:
            # Blocks of sessions end before a cancellation does.
            session = shop.Session()
            try:
                (await session.get(shop.Product, 1)).name = "new"
                await session.commit()
            finally:
                await session.close()

        task = asyncio.create_task(change())
        await backend.is_removing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await shop.products.aexists(id=1)
        if not loop_ends:
            backend.may_go_on.set()
            while await shop.products.aexists(id=1):
                await asyncio.sleep(0)

    run(main, backend)
    assert list(backend.get_many("m:productrow:id:1")) == [None]


def test_loaders_give_their_connections_back(run: Run, memory: co.SimpleBackend) -> None:
    async def main(shop: SimpleNamespace) -> None:
        pool = shop.engine.sync_engine.pool
        scoped = async_scoped_session(shop.Session, scopefunc=asyncio.current_task)
        model = cached(shop.Product, scoped, backend=co.SimpleBackend())
        await asyncio.gather(*(model.aget(id=pk) for pk in (1, 2, 3, 1, 2, 3)))
        assert pool.checkedout() == 0
        task = asyncio.create_task(model.aget(id=4))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while pool.checkedout():
            await asyncio.sleep(0.001)
        assert (await model.aget(id=4)).name == "product 4"

    run(main, memory)
