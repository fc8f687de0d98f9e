"""A web service with its rows in a cache: FastAPI, and cacheorm in an event loop.

pip install "cacheorm[redis,web]"
SHOP_BACKEND=redis://localhost uvicorn examples.service:app

curl -X PUT localhost:8000/users/1 -H 'content-type: application/json' -d '{"name": "Sam", "height": 178.8}'
curl 'localhost:8000/users?id=1&id=2'
curl localhost:8000/users/7000
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
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
    """Check at the start that the backend replies, and close its connections at the end."""
    await BACKEND.aping()
    yield
    await BACKEND.aclose()


app = FastAPI(lifespan=lifespan)


async def load_user(pk: int) -> dict[str, Any] | None:
    """Return a user as a query of a database would; there are users up to 9999."""
    await asyncio.sleep(0.01)
    return {"name": f"user {pk}", "height": 170.0} if pk < 10_000 else None


@app.get("/users")
async def read_users(id: Annotated[list[int], Query(max_length=1000)]) -> list[dict[str, Any] | None]:  # noqa: A002
    """Read many rows in one request to the cache; ``null`` for those that do not exist."""
    users = await User.query_many({"id": pk} for pk in id).aexecute()
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
    """Write a row."""
    user = await User.acreate(id=pk, name=new.name, height=new.height)
    return user.to_dict()


@app.post("/users/{pk}/visits")
async def count_visit(pk: int) -> int:
    """Add to a counter, atomically."""
    try:
        return int(await User.aincrement(pk, User.visits))
    except User.DoesNotExist:
        raise HTTPException(404, f"there is no user {pk}") from None
