"""Rows that a loader has read in a transaction of its caller, which are for that caller alone."""

from __future__ import annotations

import threading
from typing import Any

import cacheorm as co
from cacheorm.loaders import Uncommitted


class Draft(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta:
        name = "uncommitted-draft"
        negative_ttl = 60


def uncommitted(ids: list[int]) -> Any:
    return Uncommitted({"id": pk, "name": "changed"} for pk in ids if pk < 10)


def committed(ids: list[int]) -> Any:
    return [{"id": pk, "name": "old"} for pk in ids]


def test_they_are_returned_and_not_stored_nor_are_misses(backend: co.BaseBackend) -> None:
    with co.bind([Draft], backend=backend):
        rows = Draft.query_many([1, 10]).load_missing(uncommitted).execute()
        assert [row and row.name for row in rows] == ["changed", None]
        assert not Draft.exists(id=1)
        # No lease is left that others would wait for.
        rows = Draft.query_many([1, 10]).load_missing(committed).execute()
        assert [row.name for row in rows if row] == ["old", "old"]
        assert Draft.get(id=1).name == "old"


def test_without_leases_they_are_not_stored_either(backend: co.BaseBackend) -> None:
    with co.bind([Draft], backend=backend):
        (row,) = Draft.query_many([1]).load_missing(uncommitted, lease=None).execute()
        assert row is not None
        assert row.name == "changed"
        assert not Draft.exists(id=1)


def test_callers_that_wait_for_them_load_for_themselves(backend: co.BaseBackend) -> None:
    is_loading, may_go_on = threading.Event(), threading.Event()
    names: list[Any] = []

    def slow(ids: list[int]) -> Any:
        is_loading.set()
        may_go_on.wait()
        return uncommitted(ids)

    def other(ids: list[int]) -> Any:
        return committed(ids)

    def read(loader: Any) -> None:
        names.extend(row.name for row in Draft.query_many([1]).load_missing(loader).execute() if row)

    with co.bind([Draft], backend=backend):
        first = threading.Thread(target=read, args=(slow,))
        first.start()
        is_loading.wait()
        second = threading.Thread(target=read, args=(other,))
        second.start()
        second.join(0.05)
        may_go_on.set()
        first.join()
        second.join()
        assert sorted(names) == ["changed", "old"]
        assert Draft.get(id=1).name == "old"
