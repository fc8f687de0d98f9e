"""A web service that reads through a cache, and goes on when the cache fails: FastAPI, and cacheorm in an event loop.

pip install "cacheorm[redis,web]"
SHOP_BACKEND='redis://localhost?on_failure=miss&operation_timeout=0.5' uvicorn examples.service:app

curl -X PUT localhost:8000/users/1 -H 'content-type: application/json' -d '{"name": "Sam", "height": 178.8}'
curl 'localhost:8000/users?id=1&id=2'
curl localhost:8000/users/7000
curl localhost:8000/ready
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import cacheorm as co

BACKEND = co.backend_from_url(os.environ.get("SHOP_BACKEND", "memory://"))


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    height = co.FloatField()
    visits = co.IntegerField(default=0)

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
    """Close the connections at the end. They are made when they are needed: the service starts without its cache."""
    yield
    await BACKEND.aclose()


app = FastAPI(lifespan=lifespan)

# The database: users up to 9999, some of whom have been changed.
DATABASE: dict[int, dict[str, Any] | None] = {}


async def load_users(pks: list[int]) -> dict[int, dict[str, Any]]:
    """Return users by primary key, as a query of the database would."""
    await asyncio.sleep(0.001)
    generated = {pk: {"name": f"user {pk}", "height": 170.0} for pk in pks if pk < 10_000}
    return {pk: row for pk in pks if (row := DATABASE.get(pk, generated.get(pk))) is not None}


async def load_user(pk: int) -> dict[str, Any] | None:
    """Return one user."""
    return (await load_users([pk])).get(pk)


@app.get("/users")
async def read_users(id: Annotated[list[int], Query(max_length=1000)]) -> list[dict[str, Any] | None]:  # noqa: A002
    """Read many rows in one request to the cache, and those that are missing there in one query; ``null`` for none."""
    users = await User.query_many({"id": pk} for pk in id).load_missing(load_users, negative_ttl=60).aexecute()
    return [user.to_dict() if user else None for user in users]


@app.get("/users/{pk}")
async def read_user(pk: int) -> dict[str, Any]:
    """Read one row, or load it if it is missing; concurrent requests for a row load it once."""
    user = await User.aget_or_load(pk, load_user, negative_ttl=60)
    if user is None:
        raise HTTPException(404, f"there is no user {pk}")
    return user.to_dict()


@app.put("/users/{pk}")
async def write_user(pk: int, new: NewUser) -> dict[str, Any]:
    """Write a row, to the database first."""
    DATABASE[pk] = new.model_dump()
    user = await User.acreate(id=pk, **new.model_dump())
    return user.to_dict()


@app.delete("/users/{pk}")
async def delete_user(pk: int) -> None:
    """Delete a row, from the database first."""
    DATABASE[pk] = None
    await User.delete(id=pk).aexecute()


@app.post("/users/{pk}/visits")
async def count_visit(pk: int) -> int:
    """Add to a counter that is in the cache alone, atomically."""
    try:
        return int(await User.aincrement(pk, User.visits))
    except User.DoesNotExist:
        raise HTTPException(404, f"there is no user {pk}") from None


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
