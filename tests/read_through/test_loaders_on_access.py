"""Rows that foreign keys refer to, of models that load what is missing: on access, and preloaded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co

Run = Callable[[Any], Any]


@pytest.fixture(params=["called", "awaited"])
def run(request: pytest.FixtureRequest, backend: co.BaseBackend) -> Run:
    """Executes an operation, or awaits it; a pair of instances and paths is preloaded."""

    def call(operation: Any) -> Any:
        return co.preload(*operation) if isinstance(operation, tuple) else operation.execute()

    if request.param == "called":
        return call

    def run(operation: Any) -> Any:
        async def main() -> Any:
            try:
                return await (co.apreload(*operation) if isinstance(operation, tuple) else operation)
            finally:
                await backend.aclose()

        return asyncio.run(main())

    return run


class Shop:
    """Three models that refer to each other, with loaders that note what they are asked for.

    An article has a brand and an editor, a brand has a country. There are 10 articles, 4 brands and 2 countries, and no
    brand 3 in the database, though article 3 and 7 refer to it.
    """

    def __init__(self, backend: co.BaseBackend, **options: Any) -> None:
        self.asked: list[tuple[str, list[Any]]] = []
        shop = self

        class Base(co.Model):
            class Meta:
                abstract = True
                loader = "load"
                lease = options.get("lease", 3600)

            @classmethod
            def load(cls, pks: list[Any]) -> Any:
                shop.asked.append((cls.__name__, pks))
                return [row for pk in pks if (row := shop.row(cls.__name__, pk)) is not None]

        class Country(Base):
            code = co.StringField(primary_key=True)
            name = co.StringField()

        class Brand(Base):
            id = co.IntegerField(primary_key=True)
            country = co.ForeignKeyField(Country)

        class Editor(Base):
            id = co.IntegerField(primary_key=True)
            name = co.StringField()

        class Article(Base):
            id = co.IntegerField(primary_key=True)
            brand = co.ForeignKeyField(Brand)
            editor = co.ForeignKeyField(Editor, null=True)

        self.country, self.brand, self.editor, self.article = Country, Brand, Editor, Article
        co.bind([Country, Brand, Editor, Article], backend=backend)

    def row(self, model: str, pk: Any) -> Any:
        if model == "Country":
            return {"code": pk, "name": f"country {pk}"}
        if model == "Brand":
            return None if pk == 3 else {"id": pk, "country": "fr" if pk % 2 else "de"}
        if model == "Editor":
            return {"id": pk, "name": f"editor {pk}"}
        return {"id": pk, "brand": pk % 4, "editor": pk % 2 or None}


@pytest.fixture
def shop(backend: co.BaseBackend) -> Shop:
    return Shop(backend)


def test_access_loads_the_row_and_keeps_it(shop: Shop) -> None:
    article = shop.article.get(id=1)
    assert shop.asked == [("Article", [1])]
    assert article.brand.country.name == "country fr"
    assert article.editor.name == "editor 1"
    assert article.brand is article.brand
    assert shop.asked[1:] == [("Brand", [1]), ("Country", ["fr"]), ("Editor", [1])]
    assert shop.article.get(id=1).brand.country.name == "country fr"
    assert len(shop.asked) == 4
    gone = shop.article.get(id=3)
    with pytest.raises(shop.brand.DoesNotExist):
        gone.brand  # noqa: B018
    assert not hasattr(gone, "brand")
    assert shop.article.get(id=2).editor is None


def test_aget_loads_the_row(shop: Shop, backend: co.BaseBackend) -> None:
    async def main() -> Any:
        try:
            article = await shop.article.aget(id=1)
            brand = await shop.article.brand.aget(article)
            with pytest.raises(shop.brand.DoesNotExist):
                await shop.article.brand.aget(await shop.article.aget(id=3))
            return brand is article.brand, await shop.brand.country.aget(brand)
        finally:
            await backend.aclose()

    is_kept, country = asyncio.run(main())
    assert is_kept
    assert country.name == "country fr"
    assert [model for model, _ in shop.asked] == ["Article", "Brand", "Article", "Brand", "Country"]


def test_access_to_a_model_with_only_a_coroutine_loader_is_refused_with_a_hint(memory: Any) -> None:
    async def load(pks: list[int]) -> Any:
        return {pk: {} for pk in pks}

    class Owner(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory
            aloader = load

    class Thing(co.Model):
        id = co.IntegerField(primary_key=True)
        owner = co.ForeignKeyField(Owner)

        class Meta:
            backend = memory

    thing = Thing.create(id=1, owner=5)
    with pytest.raises(TypeError, match=r"Owner: .*awaited read.*a foreign key's aget"):
        thing.owner  # noqa: B018
    with pytest.raises(TypeError, match=r"co\.apreload"):
        co.preload(thing, "owner")
    assert asyncio.run(co.apreload(thing, "owner")).owner.id == 5


def test_preload_makes_one_call_for_each_level_and_model(shop: Shop, run: Run) -> None:
    articles = run(shop.article.query_many(range(10)).preload("brand.country", "editor"))
    assert shop.asked == [
        ("Article", [*range(10)]),
        ("Brand", [0, 1, 2, 3]),
        ("Editor", [1]),
        ("Country", ["de", "fr"]),
    ]
    assert [article.brand.country.code for article in articles if article.brand_id != 3] == [
        "de", "fr", "de", "de", "fr", "de", "de", "fr"
    ]  # fmt: skip
    for gone in articles[3::4]:
        with pytest.raises(shop.brand.DoesNotExist):
            gone.brand  # noqa: B018
    assert len(shop.asked) == 4


def test_preload_loads_only_what_is_missing(shop: Shop, run: Run) -> None:
    shop.brand.create(id=1, country="it")
    shop.country.create(code="de", name="stored")
    articles = run(shop.article.query_many([1, 2]).preload("brand.country"))
    assert [article.brand.country.name for article in articles] == ["country it", "stored"]
    assert shop.asked == [("Article", [1, 2]), ("Brand", [2]), ("Country", ["it"])]
    shop.asked.clear()
    assert run(shop.article.query_many([1, 2]).preload("brand.country"))[0].brand.country.name == "country it"
    assert shop.asked == []


def test_given_instances_are_preloaded(shop: Shop, run: Run) -> None:
    articles = [shop.article(id=pk, brand=pk % 3, editor=pk) for pk in range(6)]
    assert run((articles, "brand", "editor")) == articles
    assert shop.asked == [("Brand", [0, 1, 2]), ("Editor", [0, 1, 2, 3, 4, 5])]
    assert run((articles[1], "brand.country")).brand.country.code == "fr"
    assert shop.asked[2:] == [("Country", ["fr"])]


def test_a_query_over_models_preloads_with_one_call_for_each(shop: Shop, run: Run) -> None:
    rows = run(co.Query((shop.article, [1, 2]), (shop.brand, [1])).preload("brand", "country"))
    assert rows[0].brand is rows[2]
    assert rows[2].country.code == "fr"
    assert shop.asked[:2] == [("Article", [1, 2]), ("Brand", [1])]
    assert sorted(shop.asked[2:]) == [("Brand", [2]), ("Country", ["fr"])]


def test_a_row_of_load_missing_is_preloaded_by_the_loaders_of_the_others(shop: Shop, run: Run) -> None:
    query = shop.article.query_many([1]).load_missing(lambda pks: [{"id": 1, "brand": 2}]).preload("brand")
    assert run(query)[0].brand.country_id == "de"
    assert shop.asked == [("Brand", [2])]


def test_the_cache_alone_is_asked_at_all_levels(shop: Shop, run: Run) -> None:
    shop.article.create(id=1, brand=1)
    (article,) = run(shop.article.query_many([1]).cached_only().preload("brand"))
    with pytest.raises(shop.brand.DoesNotExist):
        article.brand  # noqa: B018
    (article,) = run(co.Query((shop.article, [1])).cached_only().preload("brand"))
    assert not hasattr(article, "brand")
    article = co.preload(shop.article.get(id=1), "brand", cached_only=True)
    assert not hasattr(article, "brand")
    assert asyncio.run(co.apreload(shop.article(id=1, brand=2), "brand", cached_only=True)).brand_id == 2
    assert shop.asked == []


def test_self_references_are_loaded_level_by_level(backend: co.BaseBackend, run: Run) -> None:
    asked: list[Any] = []

    def load(pks: list[int]) -> Any:
        asked.append(pks)
        return {pk: {"boss": pk // 2 or None} for pk in pks}

    class Person(co.Model):
        id = co.IntegerField(primary_key=True)
        boss: Any = co.ForeignKeyField("self", null=True)

        class Meta:
            loader = load

    co.bind([Person], backend=backend)
    people = run(Person.query_many([8, 9, 11]).preload("boss.boss"))
    assert [person.boss.boss.id for person in people] == [2, 2, 2]
    assert asked == [[8, 9, 11], [4, 5], [2]]


def test_related_rows_that_cannot_be_stored_are_given_all_the_same(memory: Any, full: Any) -> None:
    shop = Shop(memory)
    shop.article.insert_many({"id": pk, "brand": pk} for pk in (1, 2)).execute()
    co.bind([shop.brand, shop.country], backend=full)
    given = shop.article.query_many([1, 2]).execute()
    calls: list[Callable[[], Any]] = [
        lambda: shop.article.query_many([1, 2]).preload("brand.country").execute(),
        lambda: co.Query((shop.article, [1, 2])).preload("brand.country").execute(),
        lambda: co.preload(given, "brand.country"),
    ]
    for call in calls:
        with pytest.raises(co.WriteError) as caught:
            call()
        assert [row.brand.country.code for row in caught.value.rows] == ["fr", "de"]
        assert sorted(row.model for row in caught.value.failed) == ["Brand", "Brand", "Country", "Country"]
    with pytest.raises(co.WriteError) as caught:
        co.preload(shop.article.get(id=1), "brand")
    assert caught.value.rows.brand.id == 1
    with pytest.raises(co.WriteError) as caught:
        shop.article.get(id=2).brand  # noqa: B018
    assert caught.value.rows.id == 2


def test_with_a_dead_cache_each_level_is_one_batch() -> None:
    with co.RedisBackend(host="127.0.0.1", port=1, on_failure="miss") as dead:
        shop = Shop(dead)
        for _ in range(2):
            shop.asked.clear()
            articles = shop.article.query_many(range(8)).preload("brand.country").execute()
            assert articles[2].brand.country.code == "de"
            assert shop.asked == [("Article", [*range(8)]), ("Brand", [0, 1, 2, 3]), ("Country", ["de", "fr"])]
        assert articles[0].brand.country.code == "de"


# -- loaders that read, and operations that read the same rows -------------------------------------------


@pytest.mark.parametrize("lease", [3600, None])
@pytest.mark.parametrize("way", ["called", "awaited", "awaited in a thread"])
def test_a_loader_may_read_a_model_that_the_same_operation_loads(
    backend: co.BaseBackend, way: str, lease: int | None
) -> None:
    """It would wait for what waits for it."""

    class Name(co.Model):
        id = co.IntegerField(primary_key=True)
        text = co.StringField()

        class Meta:
            @staticmethod
            def loader(pks: list[int]) -> Any:
                return {pk: {"text": f"name {pk}"} for pk in pks}

            @staticmethod
            async def aloader(pks: list[int]) -> Any:
                await asyncio.sleep(0)
                return {pk: {"text": f"name {pk}"} for pk in pks}

        Meta.lease = lease
        if way == "awaited in a thread":
            del Meta.aloader

    class Person(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            @staticmethod
            def loader(pks: list[int]) -> Any:
                return {name.id: {"name": name.text} for name in Name.query_many(pks).execute()}

            @staticmethod
            async def aloader(pks: list[int]) -> Any:
                return {name.id: {"name": name.text} for name in await Name.query_many(pks)}

        Meta.lease = lease
        if way == "awaited in a thread":
            del Meta.aloader

    co.bind([Name, Person], backend=backend)
    for models in (Person, Name), (Name, Person):
        co.Delete((Name, [1, 2]), (Person, [1, 2])).execute()
        query = co.Query(*((model, [1, 2]) for model in models))
        if way == "called":
            rows = query.execute()
        else:

            async def main(query: Any = query) -> Any:
                try:
                    return await query
                finally:
                    await backend.aclose()

            rows = asyncio.run(main())
        assert {getattr(row, "text", None) or row.name for row in rows} == {"name 1", "name 2"}


@pytest.mark.parametrize("lease", [3600, None])
def test_operations_over_the_same_models_in_any_order_load_each_row_once(
    memory: Any, together: Any, lease: int | None
) -> None:
    shop = Shop(memory, lease=lease)

    def work(number: int) -> Any:
        models = (shop.brand, shop.editor, shop.article)
        models = models[number % 3 :] + models[: number % 3]
        rows = []
        for start in range(0, 100, 10):
            pks = [*range(start, start + 15)][:: 1 if number % 2 else -1]
            rows += co.Query(*((model, pks) for model in models)).execute()
        return len(rows)

    assert together(work, 12) == [450] * 12
    loaded = [(model, pk) for model, pks in shop.asked for pk in pks]
    # But for the brand that does not exist, which nobody remembers.
    assert {each for each in loaded if loaded.count(each) > 1} <= {("Brand", 3)}


def test_tasks_over_the_same_models_in_any_order_load_each_row_once(memory: Any) -> None:
    asked: list[Any] = []

    async def load_a(pks: list[int]) -> Any:
        asked.append(("a", pks))
        await asyncio.sleep(0)
        return {pk: {} for pk in pks}

    async def load_b(pks: list[int]) -> Any:
        asked.append(("b", pks))
        await asyncio.sleep(0)
        return {pk: {} for pk in pks}

    class A(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory
            aloader = load_a
            lease = 3600

    class B(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory
            aloader = load_b
            lease = 3600

    async def main() -> Any:
        queries = [
            co.Query(*((model, [1, 2, 3]) for model in ((A, B) if number % 2 else (B, A)))) for number in range(50)
        ]
        return await asyncio.gather(*(query.aexecute() for query in queries))

    assert all(all(rows) for rows in asyncio.run(main()))
    assert sorted(asked) == [("a", [1, 2, 3]), ("b", [1, 2, 3])]


def test_access_in_a_loader_thread_of_an_awaited_read(memory: Any) -> None:
    """A plain loader that an awaited read calls in a thread may read other models there."""
    shop = Shop(memory)
    threads: list[int] = []

    def load(pks: list[int]) -> Any:
        threads.append(threading.get_ident())
        return {pk: {"country": shop.article.get(id=pk).brand.country.code} for pk in pks}

    class Origin(co.Model):
        id = co.IntegerField(primary_key=True)
        country = co.StringField()

        class Meta:
            backend = memory
            loader = load

    assert asyncio.run(Origin.aget(id=1)).country == "fr"
    assert threads != [threading.get_ident()]
