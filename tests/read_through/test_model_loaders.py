"""Models that load their missing rows: which reads do so, what a loader may be, and what becomes of a bad one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from servers import HANG

import cacheorm as co
from cacheorm.payload import is_lease

Run = Callable[..., Any]


@pytest.fixture(params=["called", "awaited"])
def run(request: pytest.FixtureRequest, backend: co.BaseBackend) -> Run:
    """Calls a method of a model or an instance by its name, or awaits its twin; executes what it is given alone."""
    if request.param == "called":
        return lambda subject, *args, **kwargs: (
            getattr(subject, args[0])(*args[1:], **kwargs) if args else subject.execute()
        )

    def run(subject: Any, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            try:
                return await (getattr(subject, f"a{args[0]}")(*args[1:], **kwargs) if args else subject)
            finally:
                await backend.aclose()

        return asyncio.run(main())

    return run


def user_model(backend: Any, loader: Any = None, **options: Any) -> Any:
    meta = {"backend": backend, "ttl": 1000, **({} if loader is None else {"loader": loader}), **options}

    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        Meta = type("Meta", (), meta)

    return User


def names(rows: Any) -> list[Any]:
    return [row and row.name for row in rows]


# -- which reads load ------------------------------------------------------------------------------------

READS: dict[str, Callable[[Any, Run], Any]] = {
    "get": lambda user, run: run(user, "get", id=1),
    "get_by_id": lambda user, run: run(user, "get_by_id", 1),
    "get_or_none": lambda user, run: run(user, "get_or_none", id=1),
    "get_many": lambda user, run: run(user, "get_many", [1])[1],
    "query": lambda user, run: run(user.query(id=1)),
    "query_many": lambda user, run: run(user.query_many([1]))[0],
    "query_many of an iterator": lambda user, run: run(user.query_many(iter([1])))[0],
    "co.Query": lambda user, run: run(co.Query((user, [1])))[0],
    "refresh": lambda user, run: run(user(id=1, name="old"), "refresh"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_read_loads_what_is_missing_and_stores_it(
    read: Any, backend: co.BaseBackend, source: Any, run: Run
) -> None:
    user = user_model(backend, source)
    for _ in range(2):
        row = read(user, run)
        assert (type(row), row.id, row.name, row.visits) == (user, 1, "user 1", 0)
    assert source.asked == [[1]]
    assert user.query(id=1).cached_only().execute() == row


def test_a_row_that_does_not_exist_is_a_miss(backend: co.BaseBackend, source: Any, run: Run) -> None:
    user = user_model(backend, source)
    with pytest.raises(user.DoesNotExist):
        run(user, "get", id=999)
    with pytest.raises(user.DoesNotExist):
        run(user(id=999, name="x"), "refresh")
    assert run(user, "get_or_none", id=999) is None
    assert run(user.query(id=999)) is None
    assert run(user, "get_many", [999, 998]) == {}
    assert source.asked == [[999]] * 4 + [[999, 998]]


def test_many_rows_are_loaded_by_one_call(backend: co.BaseBackend, source: Any, run: Run) -> None:
    user = user_model(backend, source)
    user.create(id=2, name="stored")
    found = run(user.query_many([5, 2, "1", 5, 999]))
    assert names(found) == ["user 5", "stored", "user 1", "user 5", None]
    assert found[0] is found[3]
    assert source.asked == [[5, 1, 999]]
    assert names(run(user.query_many(range(50)).chunk_size(7))) == [
        "stored" if pk == 2 else f"user {pk}" for pk in range(50)
    ]
    assert source.asked[1:] == [[pk for pk in range(50) if pk not in (1, 2, 5)]]
    assert run(user.query_many([])) == []


def test_a_query_can_be_executed_again(backend: co.BaseBackend, source: Any, run: Run) -> None:
    query = user_model(backend, source).query_many([1, 2])
    assert names(run(query)) == names(run(query)) == ["user 1", "user 2"]
    assert source.asked == [[1, 2]]


def test_several_models_are_loaded_by_one_call_each(backend: co.BaseBackend, source: Any, run: Run) -> None:
    asked: list[Any] = []
    user = user_model(backend, source)

    class Brand(co.Model):
        code = co.StringField(primary_key=True)
        country = co.StringField()

        class Meta:
            @staticmethod
            def loader(codes: list[str]) -> Any:
                asked.append(codes)
                return [{"code": code, "country": code[:2]} for code in codes if code != "none"]

    class Plain(co.Model):
        id = co.IntegerField(primary_key=True)

    co.bind([Brand, Plain], backend=backend)
    Plain.create(id=7)
    found = run(co.Query((user, [1, 2]), (Brand, ["fr-1", "none"]), (Plain, [7, 8]), (user, [3])))
    assert names(found[:2]) == ["user 1", "user 2"]
    assert [row and row._pk for row in found[2:]] == ["fr-1", None, 7, None, 3]
    assert (source.asked, asked) == ([[1, 2, 3]], [["fr-1", "none"]])
    assert [row and row._pk for row in run(co.Query((user, [1]), (Brand, ["fr-1"])))] == [1, "fr-1"]
    assert (source.asked, asked) == ([[1, 2, 3]], [["fr-1", "none"]])


def test_composite_keys_are_tuples(backend: co.BaseBackend, run: Run) -> None:
    asked: list[Any] = []

    class Visit(co.Model):
        who = co.IntegerField()
        day = co.StringField()
        note = co.StringField()

        class Meta:
            primary_key = co.CompositeKey("who", "day")

            @staticmethod
            def loader(pks: list[tuple[int, str]]) -> Any:
                asked.append(pks)
                return {pk: {"note": f"{pk[0]} on {pk[1]}"} for pk in pks}

    co.bind([Visit], backend=backend)
    assert run(Visit, "get", who="1", day="mon").note == "1 on mon"
    assert [row.note for row in run(Visit.query_many((1, "mon"), (2, "tue")))] == ["1 on mon", "2 on tue"]
    assert asked == [[(1, "mon")], [(2, "tue")]]


# -- the cache alone, and another loader -----------------------------------------------------------------


def test_a_query_may_ask_the_cache_alone(backend: co.BaseBackend, source: Any, run: Run) -> None:
    user = user_model(backend, source)
    user.create(id=1, name="stored")
    assert run(user.query(id=2).cached_only()) is None
    assert names(run(user.query_many([1, 2]).cached_only())) == ["stored", None]
    assert names(run(co.Query((user, [2, 1])).cached_only())) == [None, "stored"]
    assert run(user, "get_many", [1, 2], cached_only=True).keys() == {1}
    assert source.asked == []


def test_what_asks_about_the_cache_and_what_writes_asks_the_cache_alone(
    backend: co.BaseBackend, source: Any, run: Run
) -> None:
    user = user_model(backend, source)
    row = user(id=1, name="x")
    assert run(user, "exists", id=1) is False
    assert run(row, "ttl") is None
    assert run(row, "touch") is False
    assert run(user, "expire_many", [1]) == {1: False}
    assert run(user.update(id=1, name="y")) is None
    assert run(user.delete(id=1)) is False
    with pytest.raises(user.DoesNotExist):
        run(user, "set_by_id", 1, {"name": "y"})
    assert run(user, "get_or_create", id=1, name="created")[1] is True
    assert source.asked == []


def test_another_loader_may_be_given_for_one_operation(backend: co.BaseBackend, source: Any, run: Run) -> None:
    user = user_model(backend, lambda pks: pytest.fail("the loader of the model was called"))
    assert names(run(user.query_many([1, 2]).load_missing(source))) == ["user 1", "user 2"]
    assert run(user.query(id=3).load_missing(loader=source)).name == "user 3"
    assert run(user, "get_or_load", 4, source.one).name == "user 4"
    assert run(user, "get_many", [4, 5], loader=source)[5].name == "user 5"
    assert source.asked == [[1, 2], [3], [4], [5]]


def test_a_query_cannot_both_load_and_ask_the_cache_alone(memory: Any, source: Any) -> None:
    user = user_model(memory, source)
    with pytest.raises(ValueError, match=r"cached_only\(\) calls no loader"):
        user.query(id=1).cached_only().load_missing(source)
    with pytest.raises(ValueError, match=r"cached_only\(\) calls no loader"):
        user.query(id=1).load_missing(source).cached_only()
    with pytest.raises(ValueError, match=r"cached_only\(\) calls no loader"):
        user.get_many([1], loader=source, cached_only=True)
    with pytest.raises(TypeError, match=r"declare a Meta\.loader"):
        co.Query((user, [1])).load_missing(source)


def test_a_model_without_a_loader_loads_nothing(backend: co.BaseBackend, run: Run) -> None:
    user = user_model(backend, negative_ttl=5, lease=None, max_loads=1)
    assert run(user.query(id=1)) is None
    assert run(user.query_many([1]).cached_only()) == [None]
    with pytest.raises(user.DoesNotExist):
        run(user, "get", id=1)


# -- options ---------------------------------------------------------------------------------------------


def test_misses_are_remembered_as_the_model_says(backend: co.BaseBackend, source: Any, run: Run) -> None:
    user = user_model(backend, source, negative_ttl=1000)
    for _ in range(2):
        assert run(user, "get_or_none", id=999) is None
        assert run(user.query_many([999, 998])) == [None, None]
    assert source.asked == [[999], [998]]
    assert not user.exists(id=999)
    # The options of Meta are the defaults of other loads too, and None says no.
    assert run(user.query_many([997]).load_missing(source)) == [None]
    assert run(user.query_many([997])) == [None]
    assert run(user, "get_or_load", 996, source.one, negative_ttl=None) is None
    assert run(user, "get_or_none", id=996) is None
    assert source.asked[2:] == [[997], [996], [996]]
    user.create(id=999, name="by now")
    assert run(user, "get", id=999).name == "by now"


def test_leases_are_taken_as_the_model_says(memory: Any) -> None:
    seen: list[Any] = []

    def loader(pks: list[int]) -> Any:
        seen.append(memory.get(user.key(id=1)))
        return {1: {"name": "x"}}

    user = user_model(memory, loader)
    assert user.get(id=1).name == "x"
    assert is_lease(seen[0])
    user = user_model(memory, loader, lease=None)
    user.delete(id=1).execute()
    assert user.get(id=1).name == "x"
    user.delete(id=1).execute()
    assert user.query(id=1).load_missing(loader, lease=7).execute().name == "x"
    assert seen[1] is None
    assert is_lease(seen[2])


def test_a_row_that_is_deleted_while_it_is_loaded_is_not_stored(backend: co.BaseBackend, run: Run) -> None:
    def loader(pks: list[int]) -> Any:
        user.delete(id=1).execute()
        return {1: {"name": "old"}}

    user = user_model(backend, loader, lease=3600)
    assert run(user, "get", id=1).name == "old"
    assert not user.exists(id=1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"loader": 5}, TypeError, r"Meta\.loader: expected a function of a list of primary keys, or the name"),
        ({"loader": "no name"}, TypeError, r"Meta\.loader: expected a function"),
        ({"aloader": [print]}, TypeError, r"Meta\.aloader: expected a function .* got list"),
        ({"loader": "fetsh"}, TypeError, r"User\.Meta\.loader: User has no method 'fetsh'; did you mean 'fetch'\?"),
        ({"loader": "of_instances"}, TypeError, r"'of_instances' is a method of instances; declare it as a @class"),
        ({"aloader": "name"}, TypeError, r"Meta\.aloader: 'name' is StringField; declare it as a @classmethod"),
        ({"negative_ttl": 0}, ValueError, r"Meta\.negative_ttl: .* at least 1 second; leave it None"),
        ({"negative_ttl": "5"}, TypeError, r"Meta\.negative_ttl: .*a number of seconds"),
        ({"lease": 0}, ValueError, r"Meta\.lease: .* at least 1 second; leave it None to take no leases"),
        ({"lease": True}, TypeError, r"Meta\.lease: "),
        ({"max_loads": 0}, ValueError, r"Meta\.max_loads: expected a number, at least 1"),
        ({"max_loads": 1.5}, TypeError, r"Meta\.max_loads: expected a whole number, got float"),
        ({"max_loads": True}, TypeError, r"Meta\.max_loads: "),
        ({"load": print}, TypeError, r"no option 'load'; did you mean 'loader'\?"),
    ],
)
def test_wrong_options_are_refused_with_the_class(options: Any, error: type[Exception], words: str) -> None:
    def declare() -> Any:
        class User(co.Model):
            id = co.IntegerField(primary_key=True)
            name = co.StringField()

            @classmethod
            def fetch(cls, pks: list[int]) -> Any: ...

            def of_instances(self, pks: list[int]) -> Any: ...

            Meta = type("Meta", (), options)

    with pytest.raises(error, match=words):
        declare()


# -- what a loader may be --------------------------------------------------------------------------------


def rows_of(cls: type, pks: list[int]) -> Any:
    return [{"id": pk, "name": f"{cls.__name__} {pk}"} for pk in pks]


class Callee:
    def __call__(self, pks: list[int]) -> Any:
        return {pk: {"name": f"object {pk}"} for pk in pks}


def in_parts(pks: list[int]) -> Iterator[Any]:
    for pk in pks:
        yield {"id": pk, "name": f"part {pk}"}


async def slowly(pks: list[int]) -> Any:
    await asyncio.sleep(0)
    return {pk: {"name": f"slow {pk}"} for pk in pks}


async def in_slow_parts(pks: list[int]) -> AsyncIterator[Any]:
    for pk in pks:
        await asyncio.sleep(0)
        yield {"id": pk, "name": f"slow part {pk}"}


@pytest.mark.parametrize(
    ("loader", "name"), [(Callee(), "object 1"), (in_parts, "part 1"), (lambda pks: [{"id": 1, "name": "x"}], "x")]
)
def test_a_loader_is_any_function_of_primary_keys(loader: Any, name: str, backend: co.BaseBackend, run: Run) -> None:
    user = user_model(backend, loader)
    assert run(user, "get", id=1).name == name
    assert names(run(user.query_many([1]))) == [name]


def test_a_loader_may_be_a_method_of_meta_or_of_the_model(backend: co.BaseBackend, run: Run) -> None:
    class Base(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            abstract = True
            loader = "fetch"

        @classmethod
        def fetch(cls, pks: list[int]) -> Any:
            return rows_of(cls, pks)

    class Inheriting(Base):
        pass

    class Overriding(Inheriting):
        @staticmethod
        def fetch(pks: list[int]) -> Any:
            return {pk: {"name": f"own {pk}"} for pk in pks}

    class OfMeta(Base):
        class Meta:
            @staticmethod
            def loader(pks: list[int]) -> Any:
                return {pk: {"name": f"static {pk}"} for pk in pks}

    class Bare(Base):
        class Meta:
            def loader(pks: list[int]) -> Any:
                return {pk: {"name": f"bare {pk}"} for pk in pks}

    class Without(Inheriting):
        class Meta:
            loader = None

    models = (Inheriting, Overriding, OfMeta, Bare)
    co.bind([*models, Without], backend=backend)
    for model, name in zip(models, ("Inheriting 1", "own 1", "static 1", "bare 1"), strict=True):
        assert run(model, "get", id=1).name == name
    assert run(Without, "get_or_none", id=1) is None


def test_a_named_loader_is_looked_up_at_each_load(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = memory
            loader = "fetch"

        @classmethod
        def fetch(cls, pks: list[int]) -> Any:
            return rows_of(cls, pks)

    monkeypatch.setattr(User, "fetch", lambda pks: {pk: {"name": "patched"} for pk in pks})
    assert User.get(id=1).name == "patched"


def test_options_of_loaders_are_inherited_like_others(memory: Any, source: Any) -> None:
    class Mixin:
        class Meta:
            negative_ttl = 60
            lease = 9

    class Parent(Mixin, co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = memory
            loader = source
            max_loads = 3

    class Child(Parent):
        class Meta:
            lease = None

    options = Child._meta.options
    assert (options.negative_ttl, options.lease, options.max_loads) == (60, None, 3)
    assert Child.get(id=3).name == "user 3"
    with co.bind([Child], backend=co.SimpleBackend()):
        assert Child.get(id=3).name == "user 3"
    assert source.asked == [[3], [3]]


# -- calls and awaits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [slowly, in_slow_parts])
@pytest.mark.parametrize("option", ["loader", "aloader"])
def test_an_awaited_read_takes_a_coroutine_loader_and_a_called_one_refuses_it(
    loader: Any, option: str, backend: co.BaseBackend
) -> None:
    user = user_model(backend, **{option: loader})
    calls: list[Callable[[], Any]] = [
        lambda: user.get(id=1),
        lambda: user.query_many([1, 2]).execute(),
        lambda: co.Query((user, [1])).execute(),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"User: .* only be loaded by an awaited read.*aget.*cached_only\(\)"):
            call()
    # Nothing is left behind that others would wait for.
    assert not any(map(is_lease, filter(None, backend.get_many(user.key(id=1), user.key(id=2)))))

    async def main() -> Any:
        try:
            return await user.aget(id=1), await user.query_many([1, 2])
        finally:
            await backend.aclose()

    row, rows = asyncio.run(main())
    assert row.name.startswith("slow")
    assert names(rows) == [row.name, row.name.replace("1", "2")]
    # A called read is served as long as all is there.
    assert user.get(id=1) == row


def test_of_two_loaders_the_awaited_reads_take_the_coroutine_function(backend: co.BaseBackend, source: Any) -> None:
    user = user_model(backend, source, aloader=slowly)
    assert user.get(id=1).name == "user 1"

    async def main() -> Any:
        try:
            return await user.query_many([1, 2])
        finally:
            await backend.aclose()

    assert names(asyncio.run(main())) == ["user 1", "slow 2"]


def test_an_awaited_read_calls_a_plain_loader_in_a_thread_and_the_loop_goes_on(backend: co.BaseBackend) -> None:
    called, go_on = threading.Event(), threading.Event()
    threads: list[int] = []

    def loader(pks: list[int]) -> Iterator[Any]:
        threads.append(threading.get_ident())
        called.set()
        assert go_on.wait(HANG)
        yield from ({"id": pk, "name": f"{threading.get_ident()}"} for pk in pks)

    user = user_model(backend, loader)

    async def main() -> Any:
        try:
            task = asyncio.ensure_future(user.aget(id=1))
            while not called.is_set():
                await asyncio.sleep(0)
            go_on.set()  # by the loop, which the loader has not stopped
            return await task
        finally:
            await backend.aclose()

    row = asyncio.run(main())
    assert threads != [threading.get_ident()]
    assert row.name == str(threads[0])


def test_an_awaited_read_that_waits_for_a_refused_call_loads_by_itself(
    memory: Any, waiters: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = user_model(memory, aloader=slowly, lease=3600)
    leased, go_on = threading.Event(), threading.Event()
    add = memory.add

    def slow_add(*args: Any) -> bool:
        leased.set()
        assert go_on.wait(HANG)
        return add(*args)

    monkeypatch.setattr(memory, "add", slow_add)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            user.get(id=1)
        except TypeError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()

    async def main() -> Any:
        await asyncio.to_thread(leased.wait)
        task = asyncio.ensure_future(user.query_many([1]).aexecute())
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()
        return await task

    assert names(asyncio.run(main())) == ["slow 1"]
    thread.join()
    assert "awaited read" in str(errors[0])


# -- loaders that fail, or give something else -----------------------------------------------------------


def test_an_error_of_the_loader_is_raised_and_nothing_is_stored(backend: co.BaseBackend, run: Run) -> None:
    replies: list[Any] = [LookupError("no database"), {1: {"name": "x"}, 2: {"name": "y"}}]

    def loader(pks: list[int]) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    user = user_model(backend, loader, lease=3600)
    with pytest.raises(LookupError, match="no database"):
        run(user.query_many([1, 2]))
    assert names(run(user.query_many([1, 2]))) == ["x", "y"]


def half(pks: list[int]) -> Iterator[Any]:
    yield {"id": pks[0], "name": "half"}
    raise LookupError("the connection broke")


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "a row that was not asked for": (
        lambda pks: {**{pk: {"name": "x"} for pk in pks}, 77: {"name": "extra"}},
        ValueError,
        "which it was not asked for",
    ),
    "an extra row in a list": (
        lambda pks: [{"id": pk, "name": "x"} for pk in [*pks, 77]],
        ValueError,
        "which it was not asked for",
    ),
    "a row twice": (lambda pks: [{"id": pk, "name": "x"} for pk in [*pks, *pks]], ValueError, "twice"),
    "the row of another": (lambda pks: {pks[0]: {"id": 77, "name": "x"}}, ValueError, "as that of"),
    "a bad value": (lambda pks: {pks[0]: {"name": []}}, co.ValidationError, "name"),
    "no rows": (lambda pks: 5, TypeError, "the loader gave int"),
    "nothing at all": (lambda pks: None, TypeError, "the loader gave NoneType"),
    "a generator that breaks off": (half, LookupError, "the connection broke"),
    "an iterator that is used up": (lambda pks: next(iter(())), RuntimeError, "StopIteration"),
}


@pytest.mark.parametrize("case", BAD)
def test_after_a_bad_reply_nothing_is_stored(case: str, backend: co.BaseBackend, run: Run) -> None:
    loader, error, words = BAD[case]
    user = user_model(backend, loader)
    with pytest.raises(error, match=words):
        run(user.query_many([1, 2]))
    with pytest.raises(error, match=words):
        run(user, "get", id=1)
    assert user.get_many([1, 2, 77], cached_only=True) == {}
    assert names(run(user.query_many([1, 2]).load_missing(in_parts))) == ["part 1", "part 2"]


def test_rows_that_are_left_out_do_not_exist(backend: co.BaseBackend, run: Run) -> None:
    user = user_model(backend, lambda pks: {pk: {"name": f"{pk}"} if pk else None for pk in pks if pk % 2 == 0})
    assert names(run(user.query_many(range(5)))) == [None, None, "2", None, "4"]


def test_a_loader_that_asks_for_the_row_that_it_loads_is_told(memory: Any) -> None:
    user = user_model(memory, lambda pks: [user.get(id=pk) for pk in pks])
    with pytest.raises(RuntimeError, match="asks for that row again"):
        user.get(id=1)
    with pytest.raises(RuntimeError, match="asks for that row again"):
        asyncio.run(user.aget(id=1))


def test_the_error_of_one_model_is_raised_after_the_others_are_loaded(
    backend: co.BaseBackend, source: Any, run: Run
) -> None:
    """Their leases would otherwise be waited for."""

    class Broken(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            @staticmethod
            def loader(pks: list[int]) -> Any:
                raise LookupError("no database")

    co.bind([Broken], backend=backend)
    user = user_model(backend, source)
    for query in co.Query((Broken, [1]), (user, [1])), co.Query((user, [2]), (Broken, [2])):
        with pytest.raises(LookupError, match="no database"):
            run(query)
    assert names(user.query_many([1, 2]).cached_only().execute()) == ["user 1", "user 2"]
    assert not any(map(is_lease, filter(None, backend.get_many(Broken.key(id=1), Broken.key(id=2)))))


def test_an_interruption_of_several_models_leaves_no_lease_behind(backend: co.BaseBackend, source: Any) -> None:
    def interrupted(pks: list[int]) -> Any:
        raise KeyboardInterrupt

    class Broken(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            loader = interrupted
            lease = 3600

    co.bind([Broken], backend=backend)
    user = user_model(backend, source, lease=3600)
    for query in co.Query((Broken, [1]), (user, [1])), co.Query((user, [1]), (Broken, [1])):
        with pytest.raises(KeyboardInterrupt):
            query.execute()
        assert not any(map(is_lease, filter(None, backend.get_many(Broken.key(id=1), user.key(id=1)))))
        user.delete(id=1).execute()


def test_bad_keys_of_one_model_stop_all_before_anything_is_read(memory: Any, source: Any) -> None:
    user = user_model(memory, source)
    with pytest.raises(co.ValidationError):
        co.Query((user, [1]), (user_model(memory, source), ["x"])).execute()
    assert source.asked == []


def test_a_loader_that_hangs_delays_others_for_its_lease(memory: Any, source: Any) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def loader(pks: list[int]) -> Any:
        if not entered.is_set():
            entered.set()
            assert go_on.wait(HANG)
        return source(pks)

    user = user_model(memory, loader, lease=1)
    found: list[Any] = []
    hanging = threading.Thread(target=lambda: found.append(user.get(id=1)))
    hanging.start()
    assert entered.wait(HANG)
    assert user.get(id=1).name == "user 1"
    assert user.query_many([1]).execute()[0].name == "user 1"
    assert source.asked == [[1]]
    go_on.set()
    hanging.join()
    assert names(found) == ["user 1"]


# -- concurrent callers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [3600, None])
def test_fifty_threads_on_a_cold_key_make_one_call(
    backend: co.BaseBackend, source: Any, together: Any, lease: int | None
) -> None:
    called = threading.Event()

    def loader(pks: list[int]) -> Any:
        called.wait(0.05)  # some time for others to come; with none, they find the row
        return source(pks)

    user = user_model(backend, loader, lease=lease)
    reads = [
        lambda: user.get(id=1),
        lambda: user.query_many([1]).execute()[0],
        lambda: co.Query((user, [1])).execute()[0],
    ]
    found = together(lambda number: reads[number % 3](), 50)
    assert {row.name for row in found} == {"user 1"}, found
    assert len({id(row) for row in found}) == 50
    assert source.asked == [[1]]


def test_fifty_tasks_on_a_cold_key_make_one_call(backend: co.BaseBackend, source: Any) -> None:
    for options in {"loader": source}, {"aloader": lambda pks: asyncio.sleep(0, source(pks))}:
        user = user_model(backend, **options, lease=3600, name=f"user{len(source.asked)}")

        async def main(user: Any = user) -> Any:
            try:
                return await asyncio.gather(*(user.aget(id=1) for _ in range(50)))
            finally:
                await backend.aclose()

        assert names(asyncio.run(main())) == ["user 1"] * 50
    assert source.asked == [[1], [1]]


# -- caches that fail ------------------------------------------------------------------------------------


def test_rows_that_cannot_be_stored_are_in_the_error_as_the_operation_returns_them(source: Any, full: Any) -> None:
    user = user_model(full, source)
    other = user_model(full, source, name="other")
    cases: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (lambda: user.get(id=1), lambda rows: [rows]),
        (lambda: user.get_or_none(id=1), lambda rows: [rows]),
        (lambda: user.get_many([1, 999]), lambda rows: [rows.pop(1), *rows]),
        (lambda: user.query_many([1]).execute(), list),
        (lambda: co.Query((user, [1]), (other, [1])).execute(), lambda rows: [rows[0]] if rows[1].name else []),
    ]
    for read, rows_of_error in cases:
        with pytest.raises(co.WriteError, match=r"out of memory.*\.rows") as caught:
            read()
        assert names(rows_of_error(caught.value.rows)) == ["user 1"]
        assert caught.value.failed[0].key == user.key(id=1)
    assert len(caught.value.failed) == 2


def test_with_a_dead_cache_every_read_asks_the_loader_in_batches(source: Any) -> None:
    with co.RedisBackend(host="127.0.0.1", port=1, on_failure="miss") as dead:
        user = user_model(dead, source)
        other = user_model(dead, source, name="other")
        for _ in range(2):
            source.asked.clear()
            assert names(user.query_many(range(99, -1, -1)).execute()) == [f"user {pk}" for pk in range(99, -1, -1)]
            assert user.get(id=1).name == "user 1"
            assert user(id=2, name="x").refresh().name == "user 2"
            assert names(co.Query((user, [3, 4]), (other, [5, 999])).execute()) == ["user 3", "user 4", "user 5", None]
            assert source.asked == [[*range(99, -1, -1)], [1], [2], [3, 4], [5, 999]]

        async def main() -> Any:
            try:
                return await user.query_many([1, 2]), await user.aget(id=3)
            finally:
                await dead.aclose()

        rows, row = asyncio.run(main())
        assert names([*rows, row]) == ["user 1", "user 2", "user 3"]


def test_with_a_dead_cache_that_raises_the_loader_is_not_called(source: Any) -> None:
    with co.RedisBackend(host="127.0.0.1", port=1) as dead:
        user = user_model(dead, source)
        with pytest.raises(co.BackendError):
            user.get(id=1)
        with pytest.raises(co.BackendError):
            co.Query((user, [1])).execute()
    assert source.asked == []
