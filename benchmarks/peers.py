"""Other libraries that store rows in the same stores, each used in bulk as its documentation recommends.

The caches (cachelib, dogpile.cache, cashews, diskcache) pickle each row, a dict of typed values. The mappers (redis-om,
walrus, peewee) convert fields, as cacheorm does. Since they do different work, there are no bars for them: the table
shows the cost of using one of them for this work.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.servers import HOST

from .hand import TTL
from .measure import Call
from .rows import STANDARD, Row
from .stores import Stores

__all__ = ["PEERS", "Calls", "Peer"]

Rows = list[Row]


@dataclass(frozen=True)
class Calls:
    """A peer's two bulk operations, over standard rows."""

    insert_many: Call
    query_many: Call


@dataclass(frozen=True)
class Peer:
    """A library on one store.

    Attributes:
        name: what it is called in the table.
        backend: the store, one of :data:`benchmarks.stores.BACKENDS`.
        package: its distribution on PyPI.
        how: what it does with a row.
        prepare: imports it and returns its calls; an ``ImportError`` means that it is not installed.
    """

    name: str
    backend: str
    package: str
    how: str
    prepare: Callable[[Stores, Rows], Calls]

    @property
    def version(self) -> str:
        """The installed version."""
        return importlib.metadata.version(self.package)


def _keys(rows: Rows) -> list[str]:
    return [f"peer:{row['id']}" for row in rows]


# -- drivers by themselves: bytes in and out, no rows --------------------------------------------------


def _payloads(rows: Rows) -> dict[str, bytes]:
    return STANDARD.entries(rows, msgpack.packb)


def _pymemcache(stores: Stores, rows: Rows) -> Calls:
    client, entries = stores.pymemcache, _payloads(rows)
    keys = list(entries)
    return Calls(lambda: client.set_many(entries, expire=TTL, noreply=False), lambda: client.get_many(keys))


def _pylibmc(stores: Stores, rows: Rows) -> Calls:
    client, entries = stores.pylibmc, _payloads(rows)
    if client is None:
        raise ImportError("pylibmc")
    keys = list(entries)
    return Calls(lambda: client.set_multi(entries, time=TTL), lambda: client.get_multi(keys))


# -- caches: a dict of typed values, pickled -------------------------------------------------------------


def _cachelib(make: Callable[[Stores], Any]) -> Callable[[Stores, Rows], Calls]:
    def prepare(stores: Stores, rows: Rows) -> Calls:
        store = make(stores)
        keys = _keys(rows)
        entries = dict(zip(keys, rows, strict=True))
        return Calls(lambda: store.set_many(entries, timeout=TTL), lambda: store.get_many(*keys))

    return prepare


def _cachelib_simple(stores: Stores) -> Any:
    return importlib.import_module("cachelib").SimpleCache(threshold=100_000)


def _cachelib_redis(stores: Stores) -> Any:
    return importlib.import_module("cachelib").RedisCache(host=stores.redis, key_prefix="cachelib:")


def _cachelib_file(stores: Stores) -> Any:
    return importlib.import_module("cachelib").FileSystemCache(str(stores.folder / "cachelib"), threshold=100_000)


def _dogpile(backend: str, arguments: Callable[[Stores], dict[str, Any]]) -> Callable[[Stores, Rows], Calls]:
    def prepare(stores: Stores, rows: Rows) -> Calls:
        region = importlib.import_module("dogpile.cache").make_region()
        region.configure(backend, expiration_time=TTL, arguments=arguments(stores))
        keys = [f"dogpile:{key}" for key in _keys(rows)]
        entries = dict(zip(keys, rows, strict=True))
        return Calls(lambda: region.set_multi(entries), lambda: region.get_multi(keys))

    return prepare


def _cashews(url: Callable[[Stores], str]) -> Callable[[Stores, Rows], Calls]:
    def prepare(stores: Stores, rows: Rows) -> Calls:
        cache = importlib.import_module("cashews").Cache()
        cache.setup(url(stores))
        loop = asyncio.new_event_loop()
        keys = [f"cashews:{key}" for key in _keys(rows)]
        entries = dict(zip(keys, rows, strict=True))
        loop.run_until_complete(cache.init())

        def close() -> None:
            loop.run_until_complete(cache.close())
            loop.close()

        stores.callback(close)
        return Calls(
            lambda: loop.run_until_complete(cache.set_many(entries, expire=TTL)),
            lambda: loop.run_until_complete(cache.get_many(*keys)),
        )

    return prepare


def _diskcache(stores: Stores, rows: Rows) -> Calls:
    store = stores.diskcache
    keys = _keys(rows)

    def write() -> None:
        with store.transact():
            for key, row in zip(keys, rows, strict=True):
                store.set(key, row, expire=TTL)

    def read() -> list[Row]:
        with store.transact():
            return [store.get(key) for key in keys]

    return Calls(write, read)


# -- mappers: typed fields -------------------------------------------------------------------------------


def _redis_om(stores: Stores, rows: Rows) -> Calls:
    # It looks for a server at import, at the address in this variable.
    os.environ.setdefault("REDIS_OM_URL", f"redis://{HOST}:{stores.redis_server.port}/0?decode_responses=True")
    redis_om = importlib.import_module("redis_om")
    connection = redis_om.get_redis_connection(url=f"redis://{HOST}:{stores.redis_server.port}/0?decode_responses=True")

    class OmUser(redis_om.HashModel, index=True):  # type: ignore[misc, name-defined, call-arg]
        id: int = redis_om.Field(primary_key=True)
        name: str
        height: float
        # The hashes of redis-om give text back, from which neither a bool nor a member of an enum of ints is made.
        married: int
        gender: int
        email: str | None = None
        created_at: dt.datetime

        class Meta:
            database = connection

    pks = [row["id"] for row in rows]

    def write() -> None:
        models = [OmUser(**{**row, "married": int(row["married"]), "gender": row["gender"].value}) for row in rows]
        with connection.pipeline(transaction=False) as pipeline:
            OmUser.add(models, pipeline=pipeline)
            pipeline.execute()

    # It has no bulk read by primary key.
    return Calls(write, lambda: [OmUser.get(pk) for pk in pks])


def _walrus(stores: Stores, rows: Rows) -> Calls:
    walrus = importlib.import_module("walrus")
    database_ = walrus.Database(host=HOST, port=stores.redis_server.port)

    class WalrusUser(walrus.Model):  # type: ignore[misc, name-defined]
        __database__ = database_
        id = walrus.IntegerField(primary_key=True)
        name = walrus.TextField()
        height = walrus.FloatField()
        married = walrus.BooleanField()
        gender = walrus.IntegerField()
        email = walrus.TextField()
        created_at = walrus.DateTimeField()

    # A primary key of 0 counts as none here.
    pks = [row["id"] + 1 for row in rows]

    def write() -> None:
        for pk, row in zip(pks, rows, strict=True):
            values = {**row, "id": pk, "gender": row["gender"].value, "email": row["email"] or ""}
            # Its datetimes have no zones.
            values["created_at"] = row["created_at"].replace(tzinfo=None)
            WalrusUser(**values).save()

    # Neither operation of it takes more than one row.
    return Calls(write, lambda: [WalrusUser.load(pk) for pk in pks])


def _peewee(stores: Stores, rows: Rows) -> Calls:
    peewee = importlib.import_module("peewee")
    database_ = peewee.SqliteDatabase(":memory:")

    class PeeweeUser(peewee.Model):  # type: ignore[misc, name-defined]
        id = peewee.IntegerField(primary_key=True)
        name = peewee.TextField()
        height = peewee.FloatField()
        married = peewee.BooleanField()
        gender = peewee.IntegerField()
        email = peewee.TextField(null=True)
        created_at = peewee.DateTimeField()

        class Meta:
            database = database_

    database_.create_tables([PeeweeUser])
    stores.callback(database_.close)
    pks = [row["id"] for row in rows]

    def write() -> None:
        values = [{**row, "gender": row["gender"].value} for row in rows]
        with database_.atomic():
            for start in range(0, len(values), 100):
                PeeweeUser.replace_many(values[start : start + 100]).execute()

    def read() -> list[Any]:
        found: dict[int, Any] = {}
        for start in range(0, len(pks), 500):
            found |= {row.id: row for row in PeeweeUser.select().where(PeeweeUser.id.in_(pks[start : start + 500]))}
        return [found.get(pk) for pk in pks]

    return Calls(write, read)


PEERS = [
    Peer("redis-om", "Redis", "redis-om", "typed fields", _redis_om),
    Peer("walrus", "Redis", "walrus", "typed fields", _walrus),
    Peer("cachelib RedisCache", "Redis", "cachelib", "pickled dicts", _cachelib(_cachelib_redis)),
    Peer(
        "dogpile.cache redis",
        "Redis",
        "dogpile.cache",
        "pickled dicts",
        _dogpile(
            "dogpile.cache.redis",
            lambda stores: {"host": HOST, "port": stores.redis_server.port, "redis_expiration_time": TTL},
        ),
    ),
    Peer(
        "cashews redis",
        "Redis",
        "cashews",
        "pickled dicts, asyncio",
        _cashews(lambda stores: f"redis://{HOST}:{stores.redis_server.port}/0?client_side=false"),
    ),
    Peer("pymemcache", "memcached", "pymemcache", "bytes only", _pymemcache),
    Peer("pylibmc", "memcached", "pylibmc", "bytes only", _pylibmc),
    Peer(
        "dogpile.cache pymemcache",
        "memcached",
        "dogpile.cache",
        "pickled dicts",
        _dogpile(
            "dogpile.cache.pymemcache",
            lambda stores: {"url": [f"{HOST}:{stores.memcached_server.port}"], "memcached_expire_time": TTL},
        ),
    ),
    Peer("cachelib SimpleCache", "Simple", "cachelib", "pickled dicts", _cachelib(_cachelib_simple)),
    Peer(
        "dogpile.cache memory_pickle",
        "Simple",
        "dogpile.cache",
        "pickled dicts",
        _dogpile("dogpile.cache.memory_pickle", lambda stores: {}),
    ),
    Peer(
        "cashews mem",
        "Simple",
        "cashews",
        "the objects themselves, asyncio",
        _cashews(lambda stores: "mem://?size=100000"),
    ),
    Peer("peewee on SQLite in memory", "Simple", "peewee", "typed fields", _peewee),
    Peer("diskcache", "FileSystem", "diskcache", "pickled dicts", _diskcache),
    Peer("cachelib FileSystemCache", "FileSystem", "cachelib", "pickled dicts", _cachelib(_cachelib_file)),
]
