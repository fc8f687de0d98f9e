"""A reader is stopped at each step of a load while a row is changed: the old row is not in the cache afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from servers import HANG
from shops import make_shop

import cacheorm as co

# How rows are loaded again does not depend on the backend.
pytestmark = pytest.mark.parametrize(
    ("backend", "on_commit"),
    [*[(kind, "delete") for kind in ("simple", "file", "redis", "memcached")], ("simple", "write")],
    indirect=["backend"],
)


class Gate:
    """Stops one call of a method of a backend, before it is carried out.

    Args:
        backend: the backend, whose method is wrapped.
        method: the name of the method.
    """

    def __init__(self, backend: Any, method: str) -> None:
        self.reached, self.is_open = threading.Event(), threading.Event()
        self._thread: int | None = None
        call = getattr(backend, method)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._thread == threading.get_ident():
                self._thread = None
                self.reached.set()
                assert self.is_open.wait(HANG)
            return call(*args, **kwargs)

        setattr(backend, method, wrapped)

    def run(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Run a function in a thread that stops at the gate; return what opens it, and waits for the result."""
        result: list[Any] = []

        def main() -> None:
            self._thread = threading.get_ident()
            result.append(function())

        thread = threading.Thread(target=main)
        thread.start()
        assert self.reached.wait(HANG)

        def go_on() -> Any:
            self.is_open.set()
            thread.join(HANG)
            return result[0]

        return go_on


# What a load calls of its backend, in turn: it takes a lease, and stores the row that it has read in between.
BEFORE_READING, BEFORE_STORING, WHILE_STORING = "add_many", "get_many_cas", "compare_and_set_many"


@pytest.fixture(params=[BEFORE_READING, BEFORE_STORING, WHILE_STORING])
def step(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(on_commit: str, sqlite: sa.Engine, backend: co.BaseBackend) -> SimpleNamespace:
    made = make_shop(sqlite, backend, on_commit=on_commit, lease=3600)
    made.backend = backend
    return made


def read(shop: SimpleNamespace) -> str:
    (row,) = shop.products.query_many([1]).execute()
    name: str = row.name
    return name


def in_cache(shop: SimpleNamespace) -> str | None:
    (row,) = shop.products.query_many([1]).cached_only().execute()
    return None if row is None else row.name


def change(shop: SimpleNamespace) -> None:
    with shop.Session.begin() as session:
        session.get(shop.Product, 1).name = "new"


def test_a_reader_stands_still_during_a_whole_transaction(shop: SimpleNamespace, on_commit: str, step: str) -> None:
    if step == BEFORE_READING and on_commit == "write":
        return  # whoever reads now waits for this reader, who will read the new row
    reader = Gate(shop.backend, step).run(lambda: read(shop))
    change(shop)
    if step != BEFORE_READING:
        assert read(shop) == "new"  # and does not get the row of that reader
    # The old row only if it has read that; and a newer one if that is stored by then.
    assert reader() in (("new",) if step == BEFORE_READING else ("product 1", "new"))
    assert in_cache(shop) in ("new", None)
    assert read(shop) == "new"


@pytest.mark.parametrize("goes_on", ["before the commit", "before the removal", "after it"])
def test_a_reader_stands_still_from_the_middle_of_a_transaction(
    shop: SimpleNamespace, on_commit: str, step: str, goes_on: str
) -> None:
    if step == BEFORE_READING and on_commit == "write":
        return
    with shop.Session() as session:
        session.get(shop.Product, 1).name = "new"
        session.flush()
        reader = Gate(shop.backend, step).run(lambda: read(shop))
        if goes_on == "before the commit":
            assert reader() == "product 1"
            assert in_cache(shop) == "product 1"
        if goes_on == "before the removal":
            removal = Gate(shop.backend, "delete_many").run(session.commit)
            reader()
            removal()
        else:
            session.commit()
    if goes_on == "after it":
        if step != BEFORE_READING:
            assert read(shop) == "new"
        reader()
    assert in_cache(shop) in ("new", None)
    assert read(shop) == "new"


def test_a_reader_begins_between_the_commit_and_the_removal(shop: SimpleNamespace, on_commit: str, step: str) -> None:
    if step == BEFORE_READING and on_commit == "write":
        return
    read(shop)
    removal = Gate(shop.backend, "delete_many").run(lambda: change(shop))
    assert read(shop) == "product 1"  # it is in the cache until it is removed
    shop.backend.delete(shop.products.key(id=1))  # or is evicted
    reader = Gate(shop.backend, step).run(lambda: read(shop))
    removal()
    assert reader() == "new"
    assert read(shop) == "new"


def test_the_removals_of_two_commits_happen_in_the_other_order(shop: SimpleNamespace) -> None:
    first = Gate(shop.backend, "delete_many").run(lambda: change(shop))
    with shop.Session.begin() as session:
        session.get(shop.Product, 1).name = "newest"
    assert read(shop) == "newest"
    first()
    assert in_cache(shop) in ("newest", None)
    assert read(shop) == "newest"


def test_a_load_after_a_commit_stands_still_during_the_next_one(shop: SimpleNamespace, on_commit: str) -> None:
    for step in (BEFORE_STORING, WHILE_STORING) if on_commit == "write" else ():
        first = Gate(shop.backend, step).run(lambda: change(shop))
        with shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "newest"
        first()
        assert in_cache(shop) in ("newest", None)
        assert read(shop) == "newest"
        with shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "product 1"
