"""Hand-written code for one model: the fastest calls of the driver, comprehensions, and no layers.

It reads into plain dicts with stored values (a datetime stays ISO text), and writes typed values in their stored form.
Nothing is validated, errors are those of the driver, and batches are not split: it does less than cacheorm does, and is
meant to be as fast as possible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from .rows import Row, Shape

__all__ = [
    "FileHand",
    "Hand",
    "MemoryHand",
    "PylibmcHand",
    "PymemcacheHand",
    "RedisClusterHand",
    "RedisHand",
    "json_pack",
]

TTL = 600

Pack = Callable[[Any], bytes]
Unpack = Callable[[bytes], Any]


def json_pack(document: Any) -> bytes:
    """Pack with the standard library's JSON, as compactly as msgspec does."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class Hand:
    """The operations on rows of one shape; a subclass for each store says how bytes get there and back.

    Attributes:
        read: fetches payloads in the order of keys.
        write: stores payloads.
        read_one: fetches one payload.
    """

    read: Callable[[list[str]], list[bytes | None]]
    write: Callable[[dict[str, bytes]], None]
    read_one: Callable[[str], bytes | None]

    def __init__(self, shape: Shape, pack: Pack = msgpack.packb, unpack: Unpack = msgpack.unpackb) -> None:
        self.shape = shape
        self.pack = pack
        self.unpack = unpack

    def query_many(self, pks: Sequence[Any]) -> list[Row | None]:
        """Read rows as dicts."""
        unpack = self.unpack
        restore = self.shape.restore
        values = self.read(self.shape.keys(pks))
        if restore is not None:
            return [None if value is None else restore(unpack(value)) for value in values]
        return [None if value is None else unpack(value) for value in values]

    def insert_many(self, rows: Sequence[Row]) -> None:
        """Write rows of typed values."""
        self.write(self.shape.entries(rows, self.pack))

    def update_many(self, changed: Sequence[Row]) -> list[Row | None]:
        """Change two fields of standard rows, as :func:`benchmarks.rows.changes` makes them: read, merge, write."""
        unpack, pack = self.unpack, self.pack
        keys = [f"m:user:id:{change['id']}" for change in changed]
        entries: dict[str, bytes] = {}
        rows: list[Row | None] = []
        for key, value, change in zip(keys, self.read(keys), changed, strict=True):
            if value is None:
                rows.append(None)
                continue
            row = unpack(value)
            row["height"] = change["height"]
            row["gender"] = change["gender"].value
            entries[key] = pack(row)
            rows.append(row)
        self.write(entries)
        return rows

    def get_each(self, pks: Sequence[int]) -> None:
        """Read standard rows one at a time."""
        unpack, read_one = self.unpack, self.read_one
        for pk in pks:
            value = read_one(f"m:user:id:{pk}")
            if value is not None:
                unpack(value)


class MemoryHand(Hand):
    """A dict."""

    def __init__(self, shape: Shape, pack: Pack = msgpack.packb, unpack: Unpack = msgpack.unpackb) -> None:
        super().__init__(shape, pack, unpack)
        self.store: dict[str, bytes] = {}
        self.read_one = self.store.get

    def read(self, keys: list[str]) -> list[bytes | None]:
        get = self.store.get
        return [get(key) for key in keys]

    def write(self, entries: dict[str, bytes]) -> None:
        self.store.update(entries)


class RedisHand(Hand):
    """redis-py with hiredis: ``MGET``, and a pipeline of ``SET`` with a lifetime, without MULTI."""

    def __init__(self, client: Any, shape: Shape, pack: Pack = msgpack.packb, unpack: Unpack = msgpack.unpackb) -> None:
        super().__init__(shape, pack, unpack)
        self.client = client
        self.read = client.mget
        self.read_one = client.get

    def write(self, entries: dict[str, bytes]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for key, value in entries.items():
            pipeline.set(key, value, ex=TTL)
        pipeline.execute()


class RedisClusterHand(RedisHand):
    """redis-py's client of a cluster: ``MGET`` for each slot, and its pipeline of ``SET``."""

    def __init__(self, client: Any, shape: Shape, pack: Pack = msgpack.packb, unpack: Unpack = msgpack.unpackb) -> None:
        super().__init__(client, shape, pack, unpack)
        self.read = client.mget_nonatomic

    def write(self, entries: dict[str, bytes]) -> None:
        pipeline = self.client.pipeline()
        for key, value in entries.items():
            pipeline.set(key, value, ex=TTL)
        pipeline.execute()


class PymemcacheHand(Hand):
    """pymemcache: one request for a batch, in both directions.

    Args:
        client: its ``set_many`` is the fastest of the drivers'.
        shape: of the rows.
        noreply: the driver's own default is not to ask whether the rows were stored. cacheorm always does, so the
            comparison asks too, and has one more line for code that does not.
    """

    def __init__(
        self,
        client: Any,
        shape: Shape,
        noreply: bool = False,
        pack: Pack = msgpack.packb,
        unpack: Unpack = msgpack.unpackb,
    ) -> None:
        super().__init__(shape, pack, unpack)
        self.client = client
        self.noreply = noreply
        self.read_one = client.get

    def read(self, keys: list[str]) -> list[bytes | None]:
        found = self.client.get_many(keys)
        return [found.get(key) for key in keys]

    def write(self, entries: dict[str, bytes]) -> None:
        failed = self.client.set_many(entries, expire=TTL, noreply=self.noreply)
        if failed:
            raise OSError(f"{len(failed)} rows were not stored")


class PylibmcHand(Hand):
    """pylibmc: the fastest of the drivers that read; it writes with one round trip for each key."""

    def __init__(
        self,
        client: Any,
        shape: Shape,
        pack: Pack = msgpack.packb,
        unpack: Unpack = msgpack.unpackb,
    ) -> None:
        super().__init__(shape, pack, unpack)
        self.client = client
        self.read_one = client.get

    def read(self, keys: list[str]) -> list[bytes | None]:
        found = self.client.get_multi(keys)
        return [found.get(key) for key in keys]

    def write(self, entries: dict[str, bytes]) -> None:
        failed = self.client.set_multi(entries, time=TTL)
        if failed:
            raise OSError(f"{len(failed)} rows were not stored")


class FileHand(Hand):
    """diskcache, all of a batch in one transaction: without, each read and write would be one of its own."""

    def __init__(
        self,
        store: Any,
        shape: Shape,
        pack: Pack = msgpack.packb,
        unpack: Unpack = msgpack.unpackb,
    ) -> None:
        super().__init__(shape, pack, unpack)
        self.store = store
        self.read_one = store.get

    def read(self, keys: list[str]) -> list[bytes | None]:
        get = self.store.get
        with self.store.transact():
            return [get(key) for key in keys]

    def write(self, entries: dict[str, bytes]) -> None:
        put = self.store.set
        with self.store.transact():
            for key, value in entries.items():
                put(key, value, expire=TTL)
