"""Code of an application at the worst moments: run as a process of its own, which would crash.

``python unlucky.py <moment>`` runs one function; :data:`MOMENTS` are the names.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import pkgutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import cacheorm as co
from cacheorm._speedups import adopt, convert, hash_ring, keys, slots, wire

MOMENTS: dict[str, Callable[[], None]] = {}


def moment(function: Callable[[], None]) -> Callable[[], None]:
    MOMENTS[function.__name__] = function
    return function


class Name(str):
    """A name that runs code when it is hashed."""

    __slots__ = ("act",)
    act: Callable[[], object]

    def __hash__(self) -> int:
        self.act()
        return str.__hash__(self)


def name(text: str, act: Callable[[], object]) -> Name:
    made = Name(text)
    made.act = lambda: None
    found = {made: None}
    del found
    made.act = act
    return made


class Finally:
    """Garbage that runs code when it is collected."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.itself = act, self

    def __del__(self) -> None:
        self.act()


def collecting_always(run: Callable[[], object], act: Callable[[], object]) -> None:
    """Call a function while there is garbage that runs code at the next allocation of a container."""
    for _ in range(50):
        gc.disable()
        Finally(act)
        gc.set_threshold(1)
        gc.enable()
        try:
            run()
        except (IndexError, ValueError):
            pass
        finally:
            gc.set_threshold(700)


class Row:
    __slots__ = ("__weakref__", "_hidden", "_loaded")
    field: Any = slots.Slot()
    related: Any = slots.Slot()


SLOT, RELATED = vars(Row)["field"], vars(Row)["related"]
SLOT.attach(vars(Row)["_hidden"])
RELATED.attach(vars(Row)["_loaded"])


@moment
def relations_go_as_a_row_gets_one() -> None:
    for _ in range(100):
        row = Row()
        row.field = 1

        row.related = {"other": Finally(lambda row=row: setattr(row, "related", {}))}
        row.related["other"].itself = None
        slots.relate(RELATED, SLOT, "other", [row], {1: [2]})


@moment
def states_are_replaced_as_they_are_marked() -> None:
    class Marked(co.Model):
        id = co.IntegerField(primary_key=True)
        items = co.ListField(co.IntegerField())
        title = co.StringField()

        class Meta:
            backend = co.SimpleBackend()

    Marked.insert(id=1, items=[1], title="x").execute()
    row: Any = Marked.get(id=1)

    def replace() -> None:
        type(row)._assigned.poke(row, None)
        [object() for _ in range(100)]

    def assign() -> None:
        type(row)._assigned.poke(row, (1 << 40, "field", b"print" * 10))
        row.title = "y"

    collecting_always(assign, replace)


@moment
def a_row_is_emptied_as_its_names_are_looked_up() -> None:
    class Taken(co.Model):
        id = co.IntegerField(primary_key=True)
        title = co.StringField()

    maker: Any = adopt.Adopter(Taken, Taken._meta.fields, ())
    for _ in range(100):
        row: dict[str, Any] = {}
        row[name("title", lambda row=row: row.clear())] = "x" * 1000  # type: ignore[misc]
        next(iter(row)).act = row.clear  # type: ignore[attr-defined]
        try:
            maker.adopt([row])
        except RuntimeError as error:
            assert str(error) == "dictionary changed size during iteration"  # noqa: PT017
        else:
            raise AssertionError("nothing was raised")


@moment
def positions_go_as_they_are_shown() -> None:
    positions: list[Any] = []

    class Position(int):
        def __format__(self, form: str) -> str:
            positions.clear()
            return "x" * 1000

    for _ in range(100):
        positions.append(Position(10**6))
        try:
            wire.pack_gets(["key"], positions, 0, 1)
        except IndexError:
            positions.clear()
        else:
            raise AssertionError("nothing was raised")


@moment
def items_go_while_they_are_divided() -> None:
    items: list[Any] = []

    def divide() -> None:
        items[:] = [f"key {number}" for number in range(50)]
        hash_ring.partition(bytes(50), items, 2)

    collecting_always(divide, items.clear)

    def own() -> None:
        items[:] = [f"key {number}" for number in range(50)]
        hash_ring.HashRing([(1, 0)], True).owners(items)

    collecting_always(own, items.clear)


@moment
def references_are_assigned_while_they_are_loaded() -> None:
    class Author(co.Model):
        id = co.UUIDField(primary_key=True)

        class Meta:
            backend = co.SimpleBackend()

    class Book(co.Model):
        id = co.IntegerField(primary_key=True)
        author: Any = co.ForeignKeyField(Author)

        class Meta:
            backend = co.SimpleBackend()

    books: list[Any] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for book in books:
                book.author_id = uuid.UUID(int=7)

    writer = threading.Thread(target=write)
    writer.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            books[:] = [Book(id=number, author_id=uuid.UUID(int=number << 64)) for number in range(100)]
            co.preload(books, "author")
    finally:
        done.set()
        writer.join()


@moment
def keys_and_rows_are_no_lists() -> None:
    calls: list[Callable[[], object]] = [
        lambda: keys.has_duplicates(None),  # type: ignore[arg-type]
        lambda: keys.found(None, []),  # type: ignore[arg-type]
        lambda: keys.missing_positions(None),  # type: ignore[arg-type]
        lambda: keys.batch([], None, 0, 1),  # type: ignore[arg-type]
        lambda: slots.distinct(SLOT, None),
        lambda: slots.distinct(None, []) or slots.distinct(None, [Row()]),
        lambda: slots.relate(RELATED, SLOT, "x", None, {}),
        lambda: slots.relate(RELATED, SLOT, "x", [Row()], None),
        lambda: slots.holds(SLOT, None),
        lambda: slots.clear(SLOT, None),
        lambda: slots.complete((None,), [Row()], [Row()], None),
        lambda: slots.complete((SLOT,), None, [], None),
        lambda: wire.encode_values([], None) or 1 / 0,  # type: ignore[arg-type]
        lambda: wire.route([], None, 1, 0, 0) or 1 / 0,  # type: ignore[arg-type]
    ]
    for call in calls:
        try:
            call()
        except (TypeError, AttributeError, ZeroDivisionError):
            continue
        raise AssertionError("nothing was raised")


def made_by_new(kind: type) -> Any:
    """An object of a class that its ``__init__`` knows nothing of; ``None`` where it cannot be made so."""
    try:
        return kind.__new__(kind)
    except TypeError:
        return None


def compiled_classes() -> Iterator[type]:
    for folder in ("convert", "keys", "memory", "rows", "wire"):
        package = importlib.import_module(f"cacheorm._speedups.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_c"):
                found = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
                yield from (
                    kind for kind in found.values() if isinstance(kind, type) and kind.__module__ == found["__name__"]
                )


@moment
def objects_are_made_by_new_alone() -> None:
    values = [None, [], [None], ["x"], [b"x"], {}, {"x": b"x"}, (), b"x", "x", 1, object()]
    given = [
        (),
        *[
            tuple(values[(at + step) % len(values)] for step in range(count))
            for count in range(1, 5)
            for at in range(len(values))
        ],
    ]
    tried = 0
    for kind in {*compiled_classes()}:
        one = made_by_new(kind)
        if one is None:
            continue
        for attribute in dir(kind):
            if attribute in ("__class__", "__init__", "__new__", "__init_subclass__", "__subclasshook__"):
                continue
            for arguments in given:
                with contextlib.suppress(Exception):
                    getattr(one, attribute)(*arguments)
                tried += 1
    assert tried > 1000 or not co.speedups_enabled


@moment
def converters_lose_those_of_their_elements() -> None:
    listed: Any = convert.ListOf(convert.Text())
    checked: Any = convert.Validated(convert.Text(), [])
    listed.element = checked.inner = None
    for one in (listed, checked):
        for call in (lambda: one.dump(["x"]), lambda: one.load(["x"]), lambda: one.key_form(["x"], ["x"])):  # noqa: B023
            try:
                call()
            except AttributeError:
                continue
            raise AssertionError("nothing was raised")


if __name__ == "__main__":
    MOMENTS[sys.argv[1]]()
