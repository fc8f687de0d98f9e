"""All rows of a model: giving, counting and removing them, and which keys are those of its rows."""

from __future__ import annotations

import asyncio
import datetime
import enum
import tracemalloc
import uuid
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from formats import SERIALIZERS

import cacheorm as co
from cacheorm.payload import ABSENT, LEASE

KEY: Any = {"primary_key": True}


def model(backend: co.BaseBackend, fields: dict[str, Any] | None = None, name: str = "user", **options: Any) -> Any:
    """Make a model with the fields, and one that is called ``hits``."""
    fields = {"id": co.IntegerField(**KEY)} if fields is None else fields
    namespace = {
        **fields,
        "hits": co.IntegerField(default=0),
        "Meta": type("Meta", (), {"backend": backend, "name": name, "ttl": 5000, **options}),
        "__qualname__": f"model.<locals>.{name}",
    }
    return type(co.Model)("User", (co.Model,), namespace)


def call(owner: Any, method: str, *args: Any) -> Any:
    found = getattr(owner, method)(*args)
    return found if isinstance(found, int) else [*found]


def wait(owner: Any, method: str, *args: Any) -> Any:
    async def main() -> Any:
        try:
            found = getattr(owner, f"a{method}")(*args)
            return [one async for one in found] if hasattr(found, "__aiter__") else await found
        finally:
            await owner._meta.backend.aclose()

    return asyncio.run(main())


@pytest.fixture(params=[call, wait], ids=["called", "awaited"])
def do(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of a model, or await its twin; what it gives comes as a list."""
    do: Callable[..., Any] = request.param
    return do


# -- what they do ------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack", "signed", "Reversed"])
def test_all_rows_are_given_counted_and_removed(backend: co.BaseBackend, do: Any, serializer: str) -> None:
    user = model(backend, serializer=SERIALIZERS[serializer])
    other = model(backend, name="users")
    user.insert_many([{"id": number, "hits": number * 2} for number in range(2500)]).execute()
    other.create(id=1)
    assert sorted(do(user, "scan_keys")) == [*range(2500)]
    rows = do(user, "scan")
    assert sorted((row.id, row.hits) for row in rows) == [(number, number * 2) for number in range(2500)]
    assert all(type(row) is user for row in rows)
    assert sorted(row.id for row in do(user, "scan", 77)) == [*range(2500)]
    assert sorted(do(user, "scan_keys", 10_000)) == [*range(2500)]
    assert do(user, "count") == 2500
    assert do(user, "purge") == 2500
    assert (do(user, "count"), do(user, "purge"), do(user, "scan"), do(user, "scan_keys")) == (0, 0, [], [])
    assert do(other, "count") == 1


def test_a_row_that_was_given_can_be_changed_and_saved(backend: co.BaseBackend) -> None:
    user = model(backend)
    user.insert_many([{"id": number} for number in range(300)]).execute()
    for row in user.scan(10):
        row.hits += 1
        assert row.save() is True
    assert {row.hits for row in user.scan()} <= {1, 2}
    for row in user.scan():
        row.delete_instance()
    assert user.count() == 0


def test_what_is_no_row_is_left_out_and_purged(backend: co.BaseBackend, do: Any) -> None:
    user = model(backend)
    user.insert_many([{"id": number} for number in range(5)]).execute()
    assert user.get_or_load(5, lambda pk: None, negative_ttl=300) is None
    backend.set(user.key(id=6), ABSENT, 300)
    backend.set(user.key(id=7), LEASE + b"of another process", 300)
    user.delete(id=4).execute()
    assert sorted(do(user, "scan_keys")) == [0, 1, 2, 3]
    assert sorted(row.id for row in do(user, "scan")) == [0, 1, 2, 3]
    assert do(user, "count") == 4
    assert do(user, "purge") == 4
    assert backend.get_many(*[user.key(id=number) for number in range(8)]) == [None] * 8


def test_a_load_that_a_purge_overtakes_does_not_store_its_row(backend: co.BaseBackend) -> None:
    user = model(backend)

    def load(pks: list[int]) -> list[dict[str, int]]:
        assert user.purge() == 0
        return [{"id": pk, "hits": 1} for pk in pks]

    query = user.query_many([1, 2]).load_missing(load)
    assert [row.hits for row in query.execute()] == [1, 1]
    assert user.count() == 0


def test_rows_that_cannot_be_read(backend: co.BaseBackend, do: Any) -> None:
    strict, lenient = model(backend), model(backend, on_invalid="miss")
    strict.insert_many([{"id": number} for number in range(3)]).execute()
    backend.set(strict.key(id=3), b'{"hits": "many"}', 300)
    assert sorted(do(strict, "scan_keys")) == [0, 1, 2, 3]
    assert do(strict, "count") == 4
    with pytest.raises(co.PayloadError, match="User"):
        do(strict, "scan")
    assert sorted(do(lenient, "scan_keys")) == [0, 1, 2]
    assert sorted(row.id for row in do(lenient, "scan")) == [0, 1, 2]
    assert do(lenient, "count") == 3
    assert do(lenient, "purge") == 3
    assert backend.get(strict.key(id=3)) is None


def test_expired_rows_are_none(do: Any) -> None:
    now = [0.0]
    user = model(co.SimpleBackend(clock=lambda: now[0]))
    user.insert_many([{"id": number} for number in range(3)]).ttl(10).execute()
    user.create(id=3)
    now[0] = 11.0
    assert do(user, "scan_keys") == [3]
    assert (do(user, "count"), do(user, "purge")) == (1, 1)


def test_no_loader_is_called(memory: co.SimpleBackend, do: Any) -> None:
    def loader(pks: list[int]) -> Any:
        raise AssertionError("called")

    user = model(memory, loader=staticmethod(loader))
    user.insert_many([{"id": number} for number in range(3)]).execute()
    memory.set(user.key(id=5), ABSENT, 100)
    assert sorted(do(user, "scan_keys")) == sorted(row.id for row in do(user, "scan")) == [0, 1, 2]
    assert do(user, "count") == do(user, "purge") == 3


def test_a_batch_size_is_a_number_of_rows(memory: co.SimpleBackend) -> None:
    user = model(memory)
    for size in (0, -1, 1.5, True, "10"):
        for method in (user.scan, user.scan_keys, user.ascan, user.ascan_keys):
            with pytest.raises(ValueError, match="User: batch_size must be a whole number of keys, at least 1"):
                method(size)


def test_they_ask_the_backend_through_its_public_methods(do: Any) -> None:
    class Counted(co.SimpleBackend):
        in_process = False

        def scan_chunks(self, *args: Any) -> Iterator[list[str]]:
            calls.append("scan_chunks")
            return super().scan_chunks(*args)

        def get_many(self, *keys: str) -> list[bytes | None]:
            calls.append("get_many")
            return super().get_many(*keys)

        def delete_many(self, *keys: str) -> bool:
            calls.append("delete_many")
            return super().delete_many(*keys)

    calls: list[str] = []
    user = model(Counted())
    user.insert_many([{"id": number} for number in range(250)]).execute()
    assert len(do(user, "scan", 100)) == 250
    assert calls == ["scan_chunks", *["get_many"] * 3]
    calls.clear()
    assert do(user, "purge") == 250
    assert calls == ["scan_chunks", "get_many", "delete_many"]


def test_reads_that_fail_are_no_misses_here(do: Any) -> None:
    class Failing(co.SimpleBackend):
        failures = 0

        @property
        def failed_reads(self) -> int:
            return self.failures

        def get_many(self, *keys: str) -> list[bytes | None]:
            self.failures += 1
            return [None] * len(keys)

    user = model(Failing())
    user.create(id=1)
    for method in ("scan", "scan_keys", "count", "purge"):
        with pytest.raises(co.BackendError, match="User: some rows could not be read, as the cache fails"):
            do(user, method)
    assert user.get(id=1).hits == 0


def test_a_backend_that_does_not_enumerate_says_so(do: Any) -> None:
    class Smallest(co.BaseBackend):
        def get(self, key: str) -> bytes | None:
            return None

    user = model(Smallest())
    for method in ("scan", "scan_keys", "count", "purge"):
        with pytest.raises(NotImplementedError, match="Smallest does not enumerate its keys"):
            do(user, method)


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(rows: int) -> int:
        class Endless(co.BaseBackend):
            def scan_chunks(self, prefix: str = "", batch_size: int = 1000) -> Iterator[list[str]]:
                for start in range(0, rows, batch_size):
                    yield [f"{prefix}{number}" for number in range(start, start + batch_size)]

            def get_many(self, *keys: str) -> list[bytes | None]:
                return [b'{"hits": 1}' for _ in keys]

            def delete_many(self, *keys: str) -> bool:
                return True

        user = model(Endless(), serializer="json")
        peaks = []
        for work in (
            user.count,
            user.purge,
            lambda: sum(1 for _ in user.scan_keys()),
            lambda: sum(1 for _ in user.scan()),
        ):
            tracemalloc.start()
            assert work() == rows
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return max(peaks)

    peak(2000)
    assert peak(40_000) < 1.2 * peak(4000) + 100_000


# -- from keys to primary keys -----------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"
    BLUE = 2
    TEXT = "2"


HERE = datetime.datetime(2020, 1, 2, 3, 4, 5, 6)
VALUES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "int": (lambda: co.IntegerField(**KEY), [0, 1, -5, 10**40]),
    "text": (lambda: co.StringField(**KEY), ["", "a", "a:b", "é%", "%41", " ", "5", "%~", "\n"]),
    "uuid": (lambda: co.UUIDField(**KEY), [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    "short uuid": (lambda: co.ShortUUIDField(**KEY), [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    "decimal": (lambda: co.DecimalField(**KEY), [Decimal("1.5"), Decimal(2), Decimal("-0.00001"), Decimal(0)]),
    "float": (lambda: co.FloatField(**KEY), [1.5, 2.0, -0.5, 1e300, 1e-7]),
    "date": (lambda: co.DateField(**KEY), [datetime.date(2020, 1, 2)]),
    "datetime": (lambda: co.DateTimeField(**KEY), [HERE, HERE.replace(microsecond=0)]),
    "aware": (lambda: co.DateTimeTZField(**KEY), [HERE.replace(tzinfo=datetime.UTC)]),
    "timestamp": (lambda: co.TimestampField(utc=True, resolution=6, **KEY), [HERE]),
    "time": (lambda: co.TimeField(**KEY), [datetime.time(3, 4, 5)]),
    "bool": (lambda: co.BooleanField(**KEY), [True, False]),
    "enum": (lambda: co.EnumField(Color, **KEY), [*Color]),
    "bytes": (lambda: co.BinaryField(**KEY), [b"", b"\x00\xff"]),
    "json": (lambda: co.JSONField(**KEY), ["1", 1, [1, "a"], {"a": 1}, 1.5, "[1]", "True"]),
    "list": (lambda: co.ListField(co.IntegerField(), **KEY), [[1, 2], []]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_kind_are_told_from_their_keys(memory: co.SimpleBackend, kind: str) -> None:
    field, values = VALUES[kind]
    user = model(memory, {"id": field()})
    for value in values:
        user.create(id=value)
    found = [*user.scan_keys()]
    expected = [user._meta.canonical_key(value) for value in values]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert sorted(repr(row.id) for row in user.scan()) == sorted(map(repr, expected))
    assert user.count() == len(values)


def test_composite_keys_and_references_are_told(memory: co.SimpleBackend, do: Any) -> None:
    user = model(memory, {"id": co.StringField(**KEY)})
    read = model(
        memory,
        {"user": co.ForeignKeyField(user), "page": co.IntegerField()},
        "read",
        primary_key=co.CompositeKey("user", "page"),
    )
    note = model(memory, {"read": co.ForeignKeyField(read, **KEY)}, "note")
    mark = model(
        memory,
        {"read": co.ForeignKeyField(read), "at": co.DecimalField()},
        "mark",
        primary_key=co.CompositeKey("at", "read"),
    )
    read.insert_many([{"user": "a:b", "page": 1}, {"user": "", "page": -2}]).execute()
    note.create(read=("a:b", 1), hits=3)
    mark.create(read=("x", 1), at="1.50")
    assert sorted(do(read, "scan_keys")) == [("", -2), ("a:b", 1)]
    assert [(row.read_id, row.hits) for row in do(note, "scan")] == [(("a:b", 1), 3)]
    assert do(mark, "scan_keys") == [(Decimal("1.5"), ("x", 1))]
    assert do(read, "purge") == 2
    assert do(note, "count") == do(mark, "count") == 1


def test_other_models_with_the_same_beginning_are_left_alone(backend: co.BaseBackend, do: Any) -> None:
    models = {
        "user": model(backend),
        "user:id": model(backend, name="user:id"),
        "of 2": model(backend, version=2, version_in_key=True),
        "of 21": model(backend, version=21, version_in_key=True),
        "in a namespace": model(backend, namespace="m:user:id"),
        "in another": model(backend, namespace="shop"),
        "composite": model(
            backend,
            {"id": co.IntegerField(), "x": co.IntegerField()},
            primary_key=co.CompositeKey("id", "x"),
        ),
        "text": model(backend, {"i": co.StringField(**KEY)}),
    }
    for count, each in enumerate(models.values(), 3):
        each.insert_many([dict.fromkeys([f.name for f in each._meta.key_fields], i) for i in range(count)]).execute()
    assert {name: do(each, "count") for name, each in models.items()} == dict(zip(models, range(3, 11), strict=True))
    for count, (name, each) in enumerate(models.items(), 3):
        assert do(each, "purge") == count, name
    assert [*backend.scan()] == []


def test_keys_that_end_in_a_digest_are_counted_and_purged_but_not_told(backend: co.BaseBackend, do: Any) -> None:
    user = model(backend, {"id": co.StringField(**KEY)})
    long = "x" * 300
    for pk in ("a", "b", long, long + "y"):
        user.create(id=pk)
    assert do(user, "count") == 4
    for method in ("scan", "scan_keys"):
        with pytest.raises(co.InvalidKeyError, match="User: 2 rows are left out, as their keys do not tell"):
            do(user, method)
    keys = user.scan_keys()
    assert sorted([next(keys), next(keys)]) == ["a", "b"]
    with pytest.raises(co.InvalidKeyError):
        next(keys)
    assert do(user, "purge") == 4
    assert user.get_or_none(id=long) is None


def test_a_model_with_a_long_name_has_keys_that_end_in_a_digest(memory: co.SimpleBackend) -> None:
    user = model(memory, name="u" * 400)
    user.create(id=1)
    with pytest.raises(co.InvalidKeyError, match="1 rows are left out"):
        [*user.scan()]
    assert (user.count(), user.purge(), user.count()) == (1, 1, 0)


FORMATS: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "words": ("visit.%s.%s", [(1, "a"), (20, "b"), (3, "")]),
    "numbers": ("visit/%d/%s", [(1, "a/b"), (-2, "c")]),
    "padded": ("visit:%05d:%s!", [(1, "a"), (123456, "x")]),
    "hex and percent": ("100%%-%x-%s", [(255, "a"), (16, "b")]),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_that_begin_with_fixed_text_are_told(backend: co.BaseBackend, do: Any, kind: str) -> None:
    formatter, pks = FORMATS[kind]
    fields = {"user": co.IntegerField(), "page": co.StringField()}
    visit = model(backend, fields, primary_key=co.CompositeKey("user", "page", index_formatter=formatter))
    visit.insert_many([{"user": user, "page": page} for user, page in pks]).execute()
    backend.set("other", b"1")
    assert sorted(do(visit, "scan_keys")) == sorted(pks)
    assert sorted((row.user, row.page) for row in do(visit, "scan")) == sorted(pks)
    assert do(visit, "count") == do(visit, "purge") == len(pks)
    assert backend.get("other") == b"1"


def test_versions_come_before_the_keys_of_a_format(memory: co.SimpleBackend) -> None:
    fields = lambda: {"id": co.IntegerField(index_formatter="user-%d", **KEY)}  # noqa: E731
    first, second = model(memory, fields()), model(memory, fields(), version=2, version_in_key=True)
    first.create(id=1)
    second.insert_many([{"id": 2}, {"id": 3}]).execute()
    assert (first.count(), sorted(second.scan_keys())) == (1, [2, 3])


def test_texts_that_hold_what_separates_them_are_not_told(memory: co.SimpleBackend) -> None:
    fields = {"a": co.StringField(), "b": co.StringField()}
    pair = model(memory, fields, primary_key=co.CompositeKey("a", "b", index_formatter="pair.%s.%s"))
    pair.insert_many([{"a": "x", "b": "y"}, {"a": "x.y", "b": "z"}]).execute()
    keys = pair.scan_keys()
    assert next(keys) == ("x", "y")
    with pytest.raises(co.InvalidKeyError, match="1 rows are left out"):
        next(keys)
    assert pair.count() == pair.purge() == 2


@pytest.mark.parametrize("formatter", ["%s", "%d.user", lambda value: f"user.{value}"], ids=["all", "end", "function"])
def test_formats_that_do_not_begin_with_fixed_text_are_refused(memory: co.SimpleBackend, formatter: Any) -> None:
    user = model(memory, {"id": co.IntegerField(index_formatter=formatter, **KEY)})
    for method in ("scan", "scan_keys", "count", "purge", "ascan", "ascan_keys"):
        with pytest.raises(ValueError, match="User: its keys cannot be enumerated, as its index_formatter"):
            getattr(user, method)()
    for method in ("acount", "apurge"):
        with pytest.raises(ValueError, match="User: its keys cannot be enumerated"):
            asyncio.run(getattr(user, method)())


def test_what_the_key_of_a_row_never_is_does_not_count(memory: co.SimpleBackend) -> None:
    user = model(memory)
    user.create(id=5)
    for key in (
        "m:user:id:05",
        "m:user:id:x",
        "m:user:id:",
        "m:user:id:5:x:6",
        "m:user:id:5\nm:user:id:6",
        "m:user:idx:5",
    ):
        memory.set(key, b"\x80")
    assert ([*user.scan_keys()], user.count(), user.purge()) == ([5], 1, 1)
    assert len([*memory.scan()]) == 6


def test_a_field_that_changes_its_values_is_told_as_it_is_read(memory: co.SimpleBackend) -> None:
    class Upper(co.Field[str]):
        def cache_value(self, value: Any) -> Any:
            return str(value).lower()

        def python_value(self, value: Any) -> Any:
            return value.upper()

    class Hashed(co.Field[str]):
        def cache_value(self, value: Any) -> Any:
            return f"<{value}>"

        def python_value(self, value: Any) -> Any:
            return value

    upper = model(memory, {"id": Upper(**KEY)})
    upper.create(id="Ab")
    assert [*upper.scan_keys()] == ["AB"]
    assert [row.id for row in upper.scan()] == ["AB"]
    hashed = model(memory, {"id": Hashed(**KEY)}, "hashed")
    hashed.create(id="x")
    assert hashed.count() == 1


def test_a_field_may_have_the_name_of_one_of_these_methods(memory: co.SimpleBackend) -> None:
    with pytest.warns(UserWarning, match="the field hides the method AllRows.count"):
        user = model(memory, {"id": co.IntegerField(**KEY), "count": co.IntegerField(default=3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        user.create(id=1)
        assert [row.count for row in user.scan()] == [3]
        assert user.purge() == 1
