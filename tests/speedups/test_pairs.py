"""Functions of the application that make what is stored, and values of it: when they are called, and with what."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co

pytestmark = pytest.mark.parametrize("serializer", ["msgpack", "json"])


def make_model(serializer: str, field: co.Field[Any]) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        value = field

    Row._meta = Row._meta.rebind(co.SimpleBackend(), co.registry.get_by_name(serializer))
    return Row


def stored(model: Any) -> Any:
    return model._meta.serializer.loads(model._meta.backend.get(model.key(id=1)))["value"]


class Calls:
    """Two functions that count how often they are called."""

    def __init__(
        self, write: Callable[[Any], Any] = lambda value: value, read: Callable[[Any], Any] = lambda value: value
    ) -> None:
        self.write, self.read = write, read
        self.writes = self.reads = 0

    def to_stored(self, value: Any) -> Any:
        self.writes += 1
        return self.write(value)

    def to_value(self, value: Any) -> Any:
        self.reads += 1
        return self.read(value)

    def struct(self, **options: Any) -> co.StructField[Any]:
        return co.StructField(self.to_stored, self.to_value, **options)

    def custom(self, **options: Any) -> co.Field[Any]:
        calls = self

        class Custom(co.Field[Any]):
            def cache_value(self, value: Any) -> Any:
                return calls.to_stored(value)

            def python_value(self, value: Any) -> Any:
                return calls.to_value(value)

        return Custom(**options)


@pytest.mark.parametrize("kind", [Calls.struct, Calls.custom])
def test_both_are_called_once_for_a_value_that_is_written_and_one_for_a_value_that_is_read(
    serializer: str, kind: Callable[[Calls], co.Field[Any]]
) -> None:
    calls = Calls()
    model = make_model(serializer, kind(calls))
    model.insert_many({"id": n, "value": [n, 0.5, "x", None, True, {"a": n}]} for n in range(10)).execute()
    assert (calls.writes, calls.reads) == (10, 10)
    rows = model.query_many({"id": n} for n in range(10)).execute()
    assert (calls.writes, calls.reads) == (10, 20)
    assert [row.value for row in rows] == [[n, 0.5, "x", None, True, {"a": n}] for n in range(10)]


def test_what_a_function_keeps_is_neither_packed_nor_shared(serializer: str) -> None:
    kept_by_write = [1, [2]]
    kept_by_read = []

    def read(value: Any) -> Any:
        kept_by_read.append(value)
        value.append("seen")
        value[1].append("seen")
        return value

    model = make_model(serializer, Calls(lambda value: kept_by_write, read).struct())
    row = model.create(id=1, value=object())
    assert kept_by_write == [1, [2]]
    assert stored(model) == [1, [2]]
    assert row.value is kept_by_read[0]
    assert row.value == [1, [2, "seen"], "seen"]
    assert model.get(id=1).value == row.value


def test_a_list_that_only_the_function_knows_is_packed_before_anybody_can_change_it(serializer: str) -> None:
    def read(value: Any) -> Any:
        value.append("seen")
        return value

    kept = [1, 0.5, "x"]
    for write in (lambda value: [1, 0.5, "x"], lambda value: kept):
        model = make_model(serializer, Calls(write, read).struct())
        row = model.create(id=1, value=object())
        assert stored(model) == kept == [1, 0.5, "x"]
        assert row.value == model.get(id=1).value == [1, 0.5, "x", "seen"]


def test_tuples_and_subclasses_are_read_and_held_as_what_is_stored(serializer: str) -> None:
    class Word(str):
        pass

    model = make_model(serializer, Calls(lambda value: (Word("a"), (1, 2))).struct())
    row = model.create(id=1, value=5)
    assert row.value == ["a", [1, 2]]
    assert type(row.value[0]) is str
    assert stored(model) == row.value


def test_null_is_stored_and_read_without_a_call(serializer: str) -> None:
    calls = Calls(lambda value: None)
    model = make_model(serializer, calls.struct(null=True))
    assert model.create(id=1, value=5).value is None
    assert model.get(id=1).value is None
    assert calls.reads == 0
    with pytest.raises(co.ValidationError, match=r"Row.value: its stored form is null"):
        make_model(serializer, calls.struct()).create(id=1, value=5)


def test_elements_of_a_list_go_through_the_functions_too(serializer: str) -> None:
    calls = Calls(lambda value: [value], lambda value: value[0])
    model = make_model(serializer, co.ListField(calls.struct(null=True)))
    assert model.create(id=1, value=[1, None, 3]).value == [1, None, 3]
    assert stored(model) == [[1], None, [3]]
    assert model.get(id=1).value == [1, None, 3]
    assert (calls.writes, calls.reads) == (2, 4)


@pytest.mark.parametrize("at", ["write", "read"])
def test_an_interrupt_in_a_function_ends_the_call_and_leaves_nothing_behind(serializer: str, at: str) -> None:
    def interrupted(value: Any) -> Any:
        if value == 5:
            raise KeyboardInterrupt
        return value

    model = make_model(serializer, Calls(**{at: interrupted}).struct())
    rows = [model(id=n, value=n) for n in range(10)]
    with pytest.raises(KeyboardInterrupt):
        model.insert_many(rows).execute()
    assert gc.isenabled()
    assert not model.exists(id=0)
    assert [row.value for row in rows] == list(range(10))


def test_the_type_of_an_error_is_reported_and_its_text_is_not(serializer: str) -> None:
    def fail(value: Any) -> Any:
        raise LookupError("hunter2")

    with pytest.raises(co.ValidationError, match=r"Row.value: the serializer raised LookupError") as caught:
        make_model(serializer, Calls(write=fail).struct()).create(id=1, value=5)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(co.ValidationError, match=r"Row.value: the deserializer raised LookupError"):
        make_model(serializer, Calls(read=fail).struct()).create(id=1, value=5)
    with pytest.raises(co.ValidationError, match=r"Row.value: cache_value raised LookupError"):
        make_model(serializer, Calls(write=fail).custom()).create(id=1, value=5)
    with pytest.raises(co.ValidationError, match=r"Row.value: python_value raised LookupError"):
        make_model(serializer, Calls(read=fail).custom()).create(id=1, value=5)
