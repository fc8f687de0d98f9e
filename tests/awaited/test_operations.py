"""Operations that are awaited give what those that are called give, and leave the same in every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import cacheorm as co
from cacheorm.async_methods import AsyncMethods

Models = Any
Run = Callable[[Any], Any]

# What is done, by what does it: as it is called, and as it is awaited.
Operations = dict[str, tuple[Callable[[Any], Any], Callable[[Any], Awaitable[Any]]]]


def each_executed(make: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Awaitable[Any]]]:
    return lambda models: make(models).execute(), lambda models: make(models).aexecute()


def pks(*numbers: int) -> list[dict[str, int]]:
    return [{"id": number} for number in numbers]


def change(row: Any) -> None:
    row.visits += 10


def one(pk: Any) -> dict[str, Any] | None:
    return None if pk == 404 else {"name": f"loaded {pk}"}


def several(numbers: list[int]) -> dict[int, dict[str, Any]]:
    return {pk: {"name": f"loaded {pk}"} for pk in numbers if pk != 404}


EXECUTED = {
    "insert": lambda m: m.User.insert(id=3, name="Ann").ttl(2000),
    "insert if absent": lambda m: m.User.insert(id=1, name="Ann").if_absent(),
    "insert_many": lambda m: m.User.insert_many(pks(2, 3, 4)).chunk_size(2),
    "insert_many if absent": lambda m: m.User.insert_many(pks(2, 3, 3)).if_absent(),
    "query": lambda m: m.User.query(id=1),
    "query a miss": lambda m: m.User.query(id=404),
    "query_many": lambda m: m.User.query_many(pks(2, 404, 1, 2)),
    "query_many in chunks": lambda m: m.User.query_many(pks(2, 404, 1, 2)).chunk_size(1),
    "query and preload": lambda m: m.Article.query_many(pks(1, 2)).preload(m.Article.author, "editor"),
    "update": lambda m: m.User.update(id=1, name="Samuel").keep_ttl(),
    "update nothing": lambda m: m.User.update(id=404, name="Samuel"),
    "update_many": lambda m: m.User.update_many({"id": 1, "name": "a"}, {"id": 404}, {"id": 2, "visits": 5}),
    "atomic update": lambda m: m.User.update_many(pks(1, 404, 2)).apply(change).atomic(),
    "delete": lambda m: m.User.delete(id=1),
    "delete_many": lambda m: m.User.delete_many(pks(1, 404)),
    "Insert": lambda m: co.Insert([m.User(id=9), (m.Article, [{"id": 9, "author": 9}])]),
    "Query": lambda m: co.Query((m.User, pks(1, 404)), (m.Article, pks(1))).preload("author"),
    "Update": lambda m: co.Update((m.User, [{"id": 1, "name": "b"}]), (m.Article, [{"id": 1, "author": 2}])),
    "Delete": lambda m: co.Delete((m.User, pks(1)), (m.Article, pks(1, 404))),
    "load_missing": lambda m: m.User.query_many(pks(1, 5, 404)).load_missing(several, negative_ttl=3000),
    "load_missing without leases": lambda m: m.User.query_many(pks(1, 5, 404)).load_missing(several, lease=None),
}

SHORT = {
    "acreate": lambda m, a: getattr(m.User, f"{a}create")(id=3, name="Ann"),
    "aget": lambda m, a: getattr(m.User, f"{a}get")(id=1),
    "aget a miss": lambda m, a: getattr(m.User, f"{a}get")(id=404),
    "aget_by_id": lambda m, a: getattr(m.User, f"{a}get_by_id")(2),
    "aget_by_id a miss": lambda m, a: getattr(m.User, f"{a}get_by_id")(404),
    "aget_or_none": lambda m, a: getattr(m.User, f"{a}get_or_none")(id=404),
    "aget_many": lambda m, a: getattr(m.User, f"{a}get_many")([2, 404, 1]),
    "aget_many of a text": lambda m, a: getattr(m.User, f"{a}get_many")("12"),
    "aget_or_create": lambda m, a: getattr(m.User, f"{a}get_or_create")(id=3, defaults={"name": "new"}),
    "aget_or_create of a row": lambda m, a: getattr(m.User, f"{a}get_or_create")(id=1, name="new"),
    "aget_or_load": lambda m, a: getattr(m.User, f"{a}get_or_load")(5, one, ttl=3000),
    "aget_or_load a miss": lambda m, a: getattr(m.User, f"{a}get_or_load")(404, one, negative_ttl=3000),
    "aset_by_id": lambda m, a: getattr(m.User, f"{a}set_by_id")(1, {"name": "set"}),
    "aset_by_id a miss": lambda m, a: getattr(m.User, f"{a}set_by_id")(404, {"name": "set"}),
    "adelete_by_id": lambda m, a: getattr(m.User, f"{a}delete_by_id")(1),
    "adelete_by_id a miss": lambda m, a: getattr(m.User, f"{a}delete_by_id")(404),
    "aincrement": lambda m, a: getattr(m.User, f"{a}increment")(1, m.User.visits, 3),
    "aincrement a miss": lambda m, a: getattr(m.User, f"{a}increment")(404, "visits"),
    "aincrement no number": lambda m, a: getattr(m.User, f"{a}increment")(1, "name"),
    "aexpire_many": lambda m, a: getattr(m.User, f"{a}expire_many")([1, 404], 5000),
    "aexists": lambda m, a: getattr(m.User, f"{a}exists")(id=1),
    "aexists a miss": lambda m, a: getattr(m.User, f"{a}exists")(id=404),
    "asave": lambda m, a: getattr(m.User(id=1, name="saved"), f"{a}save")(),
    "asave a miss": lambda m, a: getattr(m.User(id=404, name="saved"), f"{a}save")(),
    "asave inserting": lambda m, a: getattr(m.User(id=6, name="saved"), f"{a}save")(force_insert=True),
    "asave a bad value": lambda m, a: getattr(m.User(id=1, visits="many"), f"{a}save")(),
    "adelete_instance": lambda m, a: getattr(m.User(id=1), f"{a}delete_instance")(),
    "arefresh": lambda m, a: getattr(m.User(id=1, name="other"), f"{a}refresh")(),
    "arefresh a miss": lambda m, a: getattr(m.User(id=404, name="other"), f"{a}refresh")(),
    "attl a miss": lambda m, a: getattr(m.User(id=404), f"{a}ttl")(),
    "atouch": lambda m, a: getattr(m.User(id=1), f"{a}touch")(5000),
    "atouch a miss": lambda m, a: getattr(m.User(id=404), f"{a}touch")(),
    "apreload": lambda m, a: getattr(co, f"{a}preload")([m.Article(id=1, author=1), None], "author"),
    "apreload of one": lambda m, a: getattr(co, f"{a}preload")(m.Article(id=1, author=404), m.Article.author),
    "apreload a bad path": lambda m, a: getattr(co, f"{a}preload")(m.Article(id=1, author=1), "reader"),
}


def called(short: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    return lambda models: short(models, "")


def awaited(short: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    return lambda models: short(models, "a")


def awaited_itself(make: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    async def wait(models: Any) -> Any:
        return await make(models)

    return lambda models: make(models).execute(), wait


OPERATIONS: Operations = {name: each_executed(make) for name, make in EXECUTED.items()}
OPERATIONS |= {f"await {name}": awaited_itself(make) for name, make in EXECUTED.items()}
OPERATIONS |= {name: (called(short), awaited(short)) for name, short in SHORT.items()}


async def awaited_lifetime(models: Any) -> int:
    return thousands(await models.User(id=1).attl())


OPERATIONS["attl"] = (lambda models: thousands(models.User(id=1).ttl()), awaited_lifetime)


def thousands(left: int | None) -> int:
    """Return a lifetime in thousands of seconds, rounded up: so much stays the same in a test that takes a while."""
    return -(-(left or 0) // 1000)


def seen(result: Any) -> Any:
    """What can be compared of a result: values, in their order, down to related rows that are loaded."""
    if isinstance(result, co.Model):
        return type(result).__name__, result.to_dict(), seen(result._related)
    if isinstance(result, BaseException):
        return type(result).__name__, str(result)
    if isinstance(result, dict):
        return [(key, seen(value)) for key, value in result.items()]
    return [seen(each) for each in result] if isinstance(result, (list, tuple)) else result


def fill(models: Models, backend: co.BaseBackend) -> None:
    backend.clear(everything=True)
    co.Insert(
        models.User(id=1, name="Sam", visits=7),
        models.User(id=2, name="Bob"),
        models.Article(id=1, author=1, editor=2),
        models.Article(id=2, author=2),
    ).execute()


def stored(models: Models) -> Any:
    both = (models.User, range(10)), (models.Article, range(10))
    found = co.Query([(model, pks(*numbers)) for model, numbers in both]).execute()
    lives = [row and thousands(row.ttl()) for row in found]
    remembered = models.User._meta.backend.get(models.User.key(id=404))
    return seen(found), lives, remembered


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_awaited_does_what_the_call_does(name: str, models: Models, backend: co.BaseBackend, run: Run) -> None:
    call, twin = OPERATIONS[name]

    def outcome(work: Callable[[], Any]) -> Any:
        try:
            return seen(work())
        except Exception as error:  # noqa: BLE001 - compared like any other result
            return seen(error)

    async def main() -> Any:
        return await twin(models)

    fill(models, backend)
    expected = outcome(lambda: call(models)), stored(models)
    fill(models, backend)
    assert (outcome(lambda: run(main())), stored(models)) == expected


def test_every_shortcut_is_tried() -> None:
    twins = [name for name in vars(AsyncMethods) if not name.startswith("_")]
    assert set(twins) <= {name.split()[0] for name in SHORT}


def test_a_foreign_key_is_awaited_once_and_kept(models: Models, backend: co.BaseBackend, run: Run) -> None:
    fill(models, backend)
    user, article = models

    async def main() -> None:
        one, two, gone, unset = article.get(id=1), article.get(id=2), article(id=3, author=404), article(id=4)
        author = await article.author.aget(one)
        assert (author.id, author.name) == (1, "Sam")
        assert one.author is author
        assert await article.author.aget(one) is author
        assert await article.editor.aget(two) is None
        for row in (gone, unset):
            with pytest.raises(user.DoesNotExist):
                await article.author.aget(row)
        assert await co.apreload([gone], "author") == [gone]
        with pytest.raises(user.DoesNotExist):
            await article.author.aget(gone)

    run(main())


def test_a_reference_that_is_assigned_while_it_is_loaded_stays() -> None:
    class Waiting(co.SimpleBackend):
        async def aget(self, key: str) -> bytes | None:
            await asyncio.sleep(0)
            return self.get(key)

    class User(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = Waiting()

    class Article(co.Model):
        author = co.ForeignKeyField(User)

    User.insert_many(pks(1, 2)).execute()
    row = Article(author=1)

    async def main() -> None:
        loading = asyncio.create_task(Article.author.aget(row))
        await asyncio.sleep(0)
        row.author = 2
        assert (await loading).id == 1

    asyncio.run(main())
    assert row.author.id == 2
