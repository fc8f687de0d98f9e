"""Making cached models of Django models: names, options, chosen fields, keys, relations, and what is refused."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
from django.db import models
from django.test import override_settings
from market import models as shop_models
from market.models import Author, Brand, Everything, Kiosk, LargeShop, Page, Place, Product, Sheet, Shop

import cacheorm as co
from cacheorm.ext.django import cached

Pickled = cached(Page, name="pickled-page")


class PageBase(cached(Page, abstract=True)):
    """An application's own methods."""

    @property
    def loud(self) -> str:
        return self.title.upper()


def test_it_is_a_model_of_the_rows(memory: co.SimpleBackend) -> None:
    rows = cached(Product, backend=memory, ttl=60, negative_ttl=5)
    assert issubclass(rows, co.Model)
    assert (rows.__name__, rows.__module__) == ("Product", __name__)
    assert rows.key(id=7) == "m:market.product:id:7"
    assert [*rows._meta.fields] == ["id", "sku", "name", "price", "stock", "active", "brand", "owner"]
    assert isinstance(rows.id, co.IntegerField)
    assert isinstance(rows.brand, co.ForeignKeyField)
    assert [name for name, field in rows._meta.fields.items() if field.null] == ["brand", "owner"]
    assert (rows._meta.options.ttl, rows._meta.options.negative_ttl) == (60, 5)


def test_options_are_those_of_meta() -> None:
    rows = cached(Brand, name="marque", namespace="de", serializer="json", version=2)
    assert rows.key(id=7) == "de:m:marque:id:7"
    with pytest.raises(TypeError, match=r"Brand.Meta has no option 'tll'; did you mean 'ttl'"):
        cached(Brand, tll=3)
    with pytest.raises(TypeError, match=r"cached\(Brand\): loader follows from the class"):
        cached(Brand, loader=print)


def test_fields_are_chosen() -> None:
    assert [*cached(Product, only=["name", "brand_id"], name="short-product")._meta.fields] == ["id", "name", "brand"]
    rows = cached(Product, exclude=["price", "stock", "active", "owner"], name="shown-product")
    assert [*rows._meta.fields] == ["id", "sku", "name", "brand"]


def test_a_field_can_be_given(database: str, memory: co.SimpleBackend) -> None:
    class Loud(co.Field[str]):
        def cache_value(self, value: str) -> str:
            return value

        def python_value(self, value: str) -> str:
            return value.upper()

    fields = {"name": Loud(), "brand_id": co.IntegerField(null=True)}
    rows = cached(Product, backend=memory, only=["name", "brand"], fields=fields)
    assert [*rows._meta.fields] == ["id", "name", "brand_id"]
    brand = Brand.objects.create(name="acme")
    made = Product.objects.create(sku="a", name="one", brand=brand)
    rows.get(id=made.pk)
    assert (rows.get(id=made.pk).name, rows.get(id=made.pk).brand_id) == ("ONE", brand.pk)
    key = cached(Page, fields={"slug": co.StringField(max_length=9)}, name="short-page")
    assert key._meta.primary_key.name == "slug"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"only": ["nmae"]},
            r"market.Product: only names 'nmae', which is no field with a column; did you mean 'name'",
        ),
        ({"exclude": ["fans"]}, "market.Product: exclude names 'fans', which is no field with a column; known are: ac"),
        ({"exclude": "name"}, r"exclude takes a list of names, got one text: write \['name'\]"),
        ({"exclude": ["id"]}, "exclude names 'id', a field of the primary key"),
        ({"fields": {"x": co.IntegerField()}}, "market.Product: fields names 'x'"),
        ({"fields": {"name": co.StringField()}, "exclude": ["name"]}, "fields names 'name', which is left out"),
        ({"fields": {"name": co.StringField()}, "only": ["sku"]}, "fields names 'name', which is left out"),
    ],
)
def test_names_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        cached(Product, **arguments)


@pytest.mark.parametrize("given", [int, "market.Product", models.Model, None, Product(sku="a")])
def test_only_django_models_are_taken(given: Any) -> None:
    with pytest.raises(TypeError, match=r"cached\(\) takes a Django model, got"):
        cached(given)


def test_rows_pickle_and_copy(database: str) -> None:
    with co.bind([Pickled], backend=co.SimpleBackend()):
        Page.objects.create(slug="a", title="A")
        row = Pickled.get(slug="a")
        for again in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
            assert (type(again), again.title) == (Pickled, "A")


def test_two_models_of_one_need_two_names(memory: co.SimpleBackend) -> None:
    first = cached(Product, backend=memory, only=["name"])
    again = cached(Product, backend=memory, only=["name"])  # the same cell of a notebook
    short = cached(Product, backend=memory, only=["sku"], name="short")
    with pytest.raises(TypeError, match=r"Product is cached already, with other columns .* name='...'"):
        cached(Product, backend=memory)
    assert [[*each._meta.fields] for each in (first, again, short)] == [["id", "name"], ["id", "name"], ["id", "sku"]]


def test_an_application_adds_methods_to_an_abstract_one(database: str, memory: co.SimpleBackend) -> None:
    class Loud(PageBase):
        class Meta:
            backend = memory
            name = "loud-page"

    page = Page.objects.create(slug="a", title="one")
    assert Loud.get(slug="a").loud == "ONE"
    page.title = "two"
    page.save()
    assert Loud.get(slug="a").loud == "TWO"


# -- keys ------------------------------------------------------------------------------------------------


def test_keys_that_the_database_does_not_make(database: str, backend: co.BaseBackend) -> None:
    pages, sheets = cached(Page, backend=backend), cached(Sheet, backend=backend)
    page = Page.objects.create(slug="a", title="A")
    product = Product.objects.create(sku="sku", name="one")
    sheet = Sheet.objects.create(product=product, page=page, sold_as=product, text="...")
    row = sheets.get(product=product.pk)
    assert (row.get_id(), row.product_id, row.page_id) == (product.pk, product.pk, "a")
    assert row.page.title == "A"
    assert row.sold_as_id == "sku"  # another field than the primary key of a product
    sheet.text = "new"
    sheet.save()
    assert sheets.get(product=product.pk).text == "new"
    page.title = "new"
    page.save()
    assert pages.get_by_id("a").title == "new"
    Product.objects.all().delete()
    assert sheets.get_or_none(product=row.product_id) is None


def test_inherited_tables(database: str, memory: co.SimpleBackend) -> None:
    places, shops, kiosks = (cached(model, backend=memory) for model in (Place, Shop, Kiosk))
    large = cached(LargeShop, backend=memory)
    assert [*kiosks._meta.fields] == ["id", "name", "floors", "sells_papers"]
    assert [*large._meta.fields] == ["id", "name", "floors"]
    made = Kiosk.objects.create(name="corner", floors=1)
    every = [places, shops, kiosks, large]

    def names() -> list[Any]:
        return [row and row.name for row in (rows.get_or_none(id=made.pk) for rows in every)]

    assert names() == ["corner"] * 4
    made.name = "new"
    made.save()
    assert names() == ["new"] * 4
    Place.objects.filter(pk=made.pk).update(name="updated")
    assert names() == ["updated"] * 4
    LargeShop.objects.filter(floors=1).update(name="both", floors=2)
    assert names() == ["both"] * 4
    assert [rows.get(id=made.pk).floors for rows in (shops, kiosks, large)] == [2, 2, 2]
    Kiosk.objects.update(sells_papers=False)
    assert [rows.query(id=made.pk).cached_only().execute() is None for rows in every] == [False, False, True, False]
    Shop.objects.filter(pk=made.pk).delete()
    assert names() == [None] * 4


@pytest.mark.skipif(not hasattr(shop_models, "Entry"), reason="Django has composite primary keys since 5.2")
def test_keys_of_several_columns(database: str, backend: co.BaseBackend) -> None:
    Entry = shop_models.Entry
    rows = cached(Entry, backend=backend, negative_ttl=60)
    product = Product.objects.create(sku="a", name="one")
    keys = [(product.pk, year) for year in range(2020, 2024)]
    assert rows.query_many(keys).execute() == [None] * 4
    entry = Entry.objects.create(product=product, year=2020)
    Entry.objects.bulk_create([Entry(product=product, year=year) for year in (2021, 2022)])
    assert [row and row.get_id() for row in rows.query_many(keys).execute()] == [*keys[:3], None]
    entry.sold = 7
    entry.save()
    assert Entry.objects.filter(year=2021).update(sold=8) == 1
    assert [row and row.sold for row in rows.query_many(keys).execute()] == [7, 8, 0, None]
    Entry.objects.filter(year=2022).delete()
    assert rows.get_or_none(product=product.pk, year=2022) is None
    over = [Entry(product=product, year=2020, sold=1)]
    Entry.objects.bulk_create(over, update_conflicts=True, unique_fields=["product", "year"], update_fields=["sold"])
    assert rows.get(product=product.pk, year=2020).sold == 1
    assert rows.key(product=1, year=2) == "m:market.entry:product:1:year:2"


def test_models_without_one_key_for_all_their_tables_are_refused() -> None:
    class Both(Place, Page):
        class Meta:
            app_label = "declaring"

    class Linked(Place):
        number = models.IntegerField(primary_key=True)
        place_ptr = models.OneToOneField(Place, models.CASCADE, parent_link=True)

        class Meta:
            app_label = "declaring"

    for model in (Both, Linked):
        with pytest.raises(TypeError, match=rf"declaring.{model.__name__} inherits several models with tables, or one"):
            cached(model)


# -- relations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["the one that refers", "the one referred to"])
def test_relations_are_to_models_cached_before_or_after(database: str, memory: co.SimpleBackend, first: str) -> None:
    if first == "the one that refers":
        products = cached(Product, backend=memory)
    brands = cached(Brand, backend=memory)
    if first == "the one referred to":
        products = cached(Product, backend=memory)
    acme, omni = Brand.objects.create(name="acme"), Brand.objects.create(name="omni")
    ids = [
        Product.objects.create(sku=str(n), name=str(n), brand=brand).pk for n, brand in enumerate([acme, omni, None])
    ]
    assert products.get(id=ids[0]).brand.name == "acme"
    assert isinstance(products.get(id=ids[0]).brand, brands)
    rows = products.query_many(ids).preload("brand").execute()
    assert [row.brand and row.brand.name for row in rows] == ["acme", "omni", None]
    acme.name = "new"
    acme.save()
    assert products.get(id=ids[0]).brand.name == "new"


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_relations_to_models_that_are_not_cached_are_ids(
    database: str, memory: co.SimpleBackend, serializer: str
) -> None:
    sheets = cached(Sheet, backend=memory, serializer=serializer)
    product, author = Product.objects.create(sku="a", name="a"), Author.objects.create(name="Ann")
    Sheet.objects.create(product=product, author=author, text="...")
    for _ in range(2):
        row = sheets.get(product=product.pk)
        assert row.author_id == author.pk
        for read in (partial(getattr, row, "author"), sheets.query(product=product.pk).preload("author").execute):
            with pytest.raises(co.CacheORMError, match=r"market.Sheet.author refers to market.Author, which is not"):
                read()


def test_a_model_that_is_not_loaded_yet_is_said() -> None:
    class Early(models.Model):
        later = models.ForeignKey("declaring.Later", models.CASCADE)

        class Meta:
            app_label = "declaring"

    with pytest.raises(TypeError, match=r"Early.later refers to declaring.Later, which Django has not loaded yet"):
        cached(Early)


# -- types ------------------------------------------------------------------------------------------------


class Odd(models.Field):
    def db_type(self, connection: Any) -> str:
        return "text"


class Coded(models.CharField):
    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value and value[::-1]


class Strange(models.Model):
    odd = Odd()
    coded = Coded(max_length=9)
    data = models.JSONField(decoder=dict)

    class Meta:
        app_label = "declaring"


@pytest.mark.parametrize(("name", "what"), [("odd", "is a Odd"), ("coded", "is a Coded"), ("data", "has a decoder")])
def test_values_of_unknown_types_are_refused_with_the_ways_out(name: str, what: str) -> None:
    with pytest.raises(TypeError, match=rf"declaring.Strange.{name} {what}, .*exclude=\['{name}'\].*fields={{'{name}'"):
        cached(Strange, only=[name])
    cached(Strange, exclude=["odd", "coded", "data"], name="familiar")
    rows = cached(Strange, only=[name], fields={name: co.JSONField()}, name=f"strange-{name}")
    assert isinstance(rows._meta.fields[name], co.JSONField)


def test_datetimes_are_aware_or_naive_as_the_settings_say() -> None:
    assert isinstance(cached(Everything).moment, co.DateTimeTZField)
    with override_settings(USE_TZ=False):
        assert isinstance(cached(Everything).moment, co.DateTimeField)
