"""A writer between each two steps of a reader, and a reader between those of a writer: what is stored is never old."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from market.models import Brand

import cacheorm as co
from cacheorm.ext.django import cached


class Paused:
    """A step at which one thread stops until it is told to go on."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.may_go_on = threading.Event()

    def stop(self) -> None:
        self.is_there.set()
        assert self.may_go_on.wait(60)


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def stopping(backend: co.BaseBackend, method: str, before: bool, step: Paused) -> None:
    """Have the first call of a method of a backend stop, before it or after it."""
    original = getattr(backend, method)
    stopped = []

    def call(*args: Any, **options: Any) -> Any:
        if stopped:
            return original(*args, **options)
        stopped.append(1)
        if before:
            step.stop()
        result = original(*args, **options)
        if not before:
            step.stop()
        return result

    setattr(backend, method, call)


# The calls of a backend that one read of a missing row makes, and the reading of the database in the middle.
STEPS = [
    ("get", True),
    ("get", False),
    ("add", True),
    ("add", False),
    ("load", True),
    ("load", False),
    ("get_many_cas", True),
    ("get_many_cas", False),
    ("compare_and_set_many", True),
    ("compare_and_set_many", False),
]


@pytest.mark.parametrize(("method", "before"), STEPS, ids=[f"{'before' if b else 'after'} {m}" for m, b in STEPS])
def test_a_commit_between_two_steps_of_a_reader(
    database: str, backend: co.BaseBackend, method: str, before: bool
) -> None:
    """The reader may return the old row, as it began before the commit; it never stays in the cache."""
    rows = cached(Brand, backend=backend, lease=60)
    brand = Brand.objects.create(name="old")
    step = Paused()
    found: list[str] = []
    if method == "load":
        loader = rows._meta.options.loader

        def load(pks: list[int]) -> Any:
            if before:
                step.stop()
            loaded = loader(pks)
            if not before:
                step.stop()
            return loaded

        read: Callable[[], Any] = lambda: rows.query(id=brand.pk).load_missing(load, lease=60).execute()  # noqa: E731
    else:
        stopping(backend, method, before, step)
        read = lambda: rows.get(id=brand.pk)  # noqa: E731
    reader = in_thread(lambda: found.append(read().name))
    assert step.is_there.wait(60)
    with transaction.atomic(using=database):
        Brand.objects.update(name="new")
    step.may_go_on.set()
    reader.join()
    assert found[0] in ("old", "new")
    assert rows.get(id=brand.pk).name == "new"
    assert rows.query(id=brand.pk).cached_only().execute().name == "new"


@pytest.mark.parametrize("when", ["before the commit", "before the removal", "after the removal"])
def test_a_reader_between_two_steps_of_a_writer(
    database: str, backend: co.BaseBackend, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cached(Brand, backend=backend, lease=60)
    brand = Brand.objects.create(name="old")
    step = Paused()
    if when != "before the commit":
        stopping(backend, "delete_many", when == "before the removal", step)

    def write() -> None:
        with transaction.atomic(using=database):
            Brand.objects.update(name="new")
            if when == "before the commit":
                step.stop()

    def read() -> None:
        expected = "old" if when == "before the commit" else "new"
        assert rows.get(id=brand.pk).name == expected
        reads.append(1)

    reads: list[int] = []
    writer = in_thread(write)
    assert step.is_there.wait(60)
    in_thread(read).join()
    step.may_go_on.set()
    writer.join()
    assert reads == [1]
    assert rows.get(id=brand.pk).name == "new"
    assert rows.query(id=brand.pk).cached_only().execute().name == "new"


@pytest.mark.parametrize("when", ["before the removal", "after the removal"])
def test_a_row_that_is_made_while_its_absence_is_remembered(database: str, backend: co.BaseBackend, when: str) -> None:
    rows = cached(Brand, backend=backend, lease=60, negative_ttl=60)
    assert rows.get_or_none(id=7) is None
    step = Paused()
    stopping(backend, "delete_many", when == "before the removal", step)
    writer = in_thread(lambda: Brand.objects.create(pk=7, name="made"))
    assert step.is_there.wait(60)
    rows.get_or_none(id=7)
    step.may_go_on.set()
    writer.join()
    assert rows.get(id=7).name == "made"


def test_a_commit_is_read_by_its_own_thread_while_another_still_loads_the_old_row(
    database: str, backend: co.BaseBackend
) -> None:
    rows = cached(Brand, backend=backend, lease=60)
    brand = Brand.objects.create(name="old")
    step = Paused()
    loader = rows._meta.options.loader

    def slow(pks: list[int]) -> Any:
        loaded = loader(pks)
        step.stop()
        return loaded

    reader = in_thread(lambda: rows.query(id=brand.pk).load_missing(slow, lease=60).execute())
    assert step.is_there.wait(60)
    brand.name = "new"
    brand.save()
    assert rows.get(id=brand.pk).name == "new"
    step.may_go_on.set()
    reader.join()
    assert rows.query(id=brand.pk).cached_only().execute().name == "new"


def test_many_readers_and_writers_agree_at_the_end(database: str, backend: co.BaseBackend) -> None:
    rows = cached(Brand, backend=backend, lease=60)
    ids = [Brand.objects.create(name="0").pk for _ in range(5)]

    def write(thread: int) -> None:
        for n in range(8):
            with transaction.atomic(using=database):
                Brand.objects.filter(pk__in=ids[n % 3 : n % 3 + 2]).update(name=f"{thread} {n}")
                transaction.set_rollback(n % 4 == 3, using=database)

    def read() -> None:
        for _ in range(20):
            rows.query_many(ids).execute()

    threads = [in_thread(lambda n=n: write(n)) for n in range(3)] + [in_thread(read) for _ in range(3)]
    for thread in threads:
        thread.join()
    expected = [Brand.objects.get(pk=pk).name for pk in ids]
    assert [row.name for row in rows.query_many(ids).execute()] == expected
    stored = rows.query_many(ids).cached_only().execute()
    assert [row.name for row in stored] == expected
