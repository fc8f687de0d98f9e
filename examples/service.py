"""A web service in front of a database, which goes on when its cache fails: FastAPI, SQLAlchemy, and cacheorm between.

pip install "cacheorm[redis,web]"
SHOP_BACKEND='redis://localhost?on_failure=miss&operation_timeout=0.5' uvicorn examples.service:app

curl -X PUT localhost:8000/users/1 -H 'content-type: application/json' -d '{"name": "Sam", "height": 178.8}'
curl 'localhost:8000/users?id=1&id=2'
curl localhost:8000/users/7000
curl localhost:8000/ready
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached

BACKEND = co.backend_from_url(os.environ.get("SHOP_BACKEND", "memory://"))
ENGINE = create_async_engine(os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.db"))
Session = async_sessionmaker(ENGINE)


@sa.event.listens_for(ENGINE.sync_engine, "connect")
def take_turns(connection: Any, record: Any) -> None:
    """Let others read while one writes, and wait for those who write, if it is SQLite."""
    if ENGINE.dialect.name == "sqlite":
        connection.execute("PRAGMA busy_timeout = 60000")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")


class Base(DeclarativeBase):
    """The mapped classes of the service."""


class UserRow(Base):
    """A user in the database."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    height: Mapped[float]


# A user in the cache, or from the database where it is missing. What a session has changed leaves the cache with its
# commit, so that nothing below writes to it.
User: Any = cached(UserRow, Session, backend=BACKEND, namespace="shop", name="user", ttl=3600, negative_ttl=60)


class Visits(co.Model):
    """How often a user has been visited: in the cache alone."""

    user = co.IntegerField(primary_key=True)
    total = co.IntegerField(default=0)

    class Meta:
        backend = BACKEND
        namespace = "shop"
        ttl = 3600


class NewUser(BaseModel):
    """The fields of a user that a client sends."""

    name: str
    height: float


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the tables, and close the connections at the end. The service starts without its cache."""
    await make_tables()
    yield
    await BACKEND.aclose()
    await ENGINE.dispose()


app = FastAPI(lifespan=lifespan)


async def make_tables() -> None:
    """Make the tables that are missing, with ten thousand users."""
    async with ENGINE.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        if await connection.scalar(sa.select(UserRow.id).limit(1)) is None:
            users = [{"id": pk, "name": f"user {pk}", "height": 170.0} for pk in range(10_000)]
            await connection.execute(sa.insert(UserRow), users)


@app.get("/users")
async def read_users(id: Annotated[list[int], Query(max_length=1000)]) -> list[dict[str, Any] | None]:  # noqa: A002
    """Read many rows in one request to the cache, and those that are missing there in one query; ``null`` for none."""
    return [user.to_dict() if user else None for user in await User.query_many(id)]


@app.get("/users/{pk}")
async def read_user(pk: int) -> dict[str, Any]:
    """Read one row, or load it if it is missing; concurrent requests for a row load it once."""
    user = await User.aget_or_none(id=pk)
    if user is None:
        raise HTTPException(404, f"there is no user {pk}")
    found: dict[str, Any] = user.to_dict()
    return found


@app.put("/users/{pk}")
async def write_user(pk: int, new: NewUser) -> dict[str, Any]:
    """Write a row to the database."""
    async with Session.begin() as session:
        await session.merge(UserRow(id=pk, **new.model_dump()))
    return {"id": pk, **new.model_dump()}


@app.delete("/users/{pk}")
async def delete_user(pk: int) -> None:
    """Delete a row from the database."""
    async with Session.begin() as session:
        await session.execute(sa.delete(UserRow).where(UserRow.id == pk))


@app.post("/users/{pk}/visits")
async def count_visit(pk: int) -> int:
    """Add to a counter that is in the cache alone, atomically."""
    if await User.aget_or_none(id=pk) is None:
        raise HTTPException(404, f"there is no user {pk}")
    await Visits.aget_or_create(user=pk)
    try:
        return int(await Visits.aincrement(pk, Visits.total))
    except Visits.DoesNotExist:
        raise HTTPException(503, "the cache keeps no counters at the moment") from None


@app.exception_handler(co.BackendError)
@app.exception_handler(co.WriteError)
async def unavailable(request: Request, error: co.CacheORMError) -> JSONResponse:
    """Answer 503 to what cannot be done without the cache: a counter has nowhere else to be counted."""
    return JSONResponse({"detail": "the cache does not reply"}, 503, {"retry-after": "5"})


@app.get("/live")
async def live() -> str:
    """Tell that the process runs. It asks nothing else: nobody should restart it because of its cache."""
    return "ok"


@app.get("/ready")
async def ready() -> dict[str, Any]:
    """Tell that the service can be used, which it can without its cache, and how the cache is."""
    try:
        with co.deadline(0.25):
            replies = await BACKEND.aping()
    except co.BackendError:
        replies = False
    state: dict[str, Any] = {"cache": "ok" if replies else "failing", "pools": await BACKEND.apools()}
    if isinstance(BACKEND, (co.RedisBackend, co.MemcachedBackend)):
        waiting, lost = BACKEND.pending_invalidations()
        state |= {"breakers": BACKEND.breakers(), "pending_invalidations": waiting, "lost_invalidations": lost}
    return state
