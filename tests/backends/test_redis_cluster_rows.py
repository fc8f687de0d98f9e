"""What is built on backends, on a Redis Cluster: reading through, atomic updates, and rows with what they refer to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import cacheorm as co
from cacheorm.backends.redis import RedisBackend

if TYPE_CHECKING:
    from clusters import RedisCluster


class Landlord(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()


class House(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(Landlord)
    reads = co.IntegerField(default=0)


@pytest.fixture
def backend(redis_cluster: RedisCluster) -> Iterator[RedisBackend]:
    with RedisBackend.from_url(redis_cluster.url) as backend:
        backend.clear(everything=True)
        with co.bind([Landlord, House], backend=backend, serializer="msgpack"):
            yield backend


PKS = [{"id": i} for i in range(200)]


def visit(article: House) -> None:
    article.reads += 1


@pytest.mark.usefixtures("backend")
def test_atomic_updates_of_many_threads_lose_nothing() -> None:
    House.insert_many([{**pk, "author": 1} for pk in PKS]).execute()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                House.update_many(PKS[:30]).apply(visit).atomic(retries=200).execute()
                House.increment(199, House.reads)
        except BaseException as error:  # noqa: BLE001 - shown in the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    found = [article.reads for article in House.query_many(PKS).execute() if article]
    assert found == [20] * 30 + [0] * 169 + [20]


@pytest.mark.usefixtures("backend")
def test_rows_that_are_missing_are_loaded_once() -> None:
    asked: list[int] = []

    def load(pks: list[int]) -> list[dict[str, object]]:
        asked.extend(pks)
        return [{"id": pk, "name": f"author {pk}"} for pk in pks if pk != 7]

    Landlord.insert_many([{"id": 1, "name": "one"}]).execute()
    for _ in range(2):
        found = Landlord.query_many(PKS).load_missing(load, negative_ttl=60).execute()
        assert [author.name if author else None for author in found] == [
            None if i == 7 else "one" if i == 1 else f"author {i}" for i in range(200)
        ]
    assert sorted(asked) == [i for i in range(200) if i != 1]


@pytest.mark.usefixtures("backend")
def test_rows_come_with_what_they_refer_to() -> None:
    Landlord.insert_many([{"id": i, "name": f"author {i}"} for i in range(20)]).execute()
    House.insert_many([{**pk, "author": pk["id"] % 20} for pk in PKS]).execute()
    articles = House.query_many(PKS).preload(House.author).execute()
    assert [article.author.name for article in articles if article] == [f"author {i % 20}" for i in range(200)]
