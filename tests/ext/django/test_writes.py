"""Whatever Django writes is removed from the cache: each way of writing, on each database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import serializers
from django.db import models, transaction
from market import emptied
from market import models as shop_models
from market.models import Brand, Owner, Product
from servers import RedisServer

import cacheorm as co
from cacheorm.ext.django import cached, invalidate

Write = Callable[[list[Product]], Any]


@pytest.fixture(params=["sqlite", "postgres", "postgres without RETURNING"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each database as it is, and as one that does not return the rows that an UPDATE or a DELETE changes."""
    alias, _, without = request.param.partition(" ")
    if without:
        monkeypatch.setattr("cacheorm.ext.django._statements._returns_changes", lambda connection: False)
    with emptied(request.getfixturevalue(alias)):
        yield alias


@pytest.fixture
def rows(memory: co.SimpleBackend) -> type[Any]:
    return cached(Product, backend=memory, negative_ttl=60)


@pytest.fixture
def products(database: str) -> list[Product]:
    brands = [Brand.objects.create(name=name) for name in ("acme", "omni")]
    for n in range(4):
        Product.objects.create(sku=f"sku {n}", name=f"name {n}", stock=n, brand=brands[n % 2])
    return [*Product.objects.order_by("sku")]


def is_as_in_the_database(rows: type[Any], ids: list[Any]) -> None:
    in_database = {row["id"]: row for row in Product._base_manager.filter(pk__in=ids).values()}
    for pk, row in zip(ids, rows.query_many(ids).execute(), strict=True):
        if row is None:
            assert pk not in in_database
        else:
            assert {**row.to_dict(), "brand": row.brand_id, "owner": row.owner_id} == {
                **{name: value for name, value in in_database[pk].items() if not name.endswith("_id")},
                "brand": in_database[pk]["brand_id"],
                "owner": in_database[pk]["owner_id"],
            }


def save(products: list[Product]) -> None:
    products[0].name = "saved"
    products[0].save()


def save_a_field(products: list[Product]) -> None:
    products[0].name = "saved"
    products[0].save(update_fields=["name"])


def save_an_expression(products: list[Product]) -> None:
    products[0].stock = models.F("stock") + 7
    products[0].save()


def save_a_deferred_row(products: list[Product]) -> None:
    row = Product.objects.only("name").get(pk=products[0].pk)
    row.name = "saved"
    row.save()


def save_under_another_key(products: list[Product]) -> None:
    products[0].sku = "moved"
    products[0].pk = products[3].pk + 1
    products[0].save()


def update(products: list[Product]) -> None:
    assert Product.objects.filter(stock__gte=2).update(stock=1) == 2


def update_by_another_table(products: list[Product]) -> None:
    assert Product.objects.filter(brand__name="acme").update(name="updated", stock=models.F("stock") + 1) == 2


def update_what_is_named(products: list[Product]) -> None:
    """After it, the condition finds other rows than before."""
    assert Product.objects.filter(active=True).update(active=False) == 4


def update_a_key(products: list[Product]) -> None:
    assert Product.objects.filter(pk=products[0].pk).update(id=products[3].pk + 1) == 1


def update_by_a_related_manager(products: list[Product]) -> None:
    assert Brand.objects.get(name="omni").products.update(name="updated") == 2


def update_by_the_base_manager(products: list[Product]) -> None:
    Product._base_manager.filter(pk=products[1].pk).update(name="updated")


def update_by_a_query_set_of_ones_own(products: list[Product]) -> None:
    class Own(models.QuerySet):
        pass

    Own(Product).filter(pk=products[1].pk).update(name="updated")


def update_or_create(products: list[Product]) -> None:
    Product.objects.update_or_create(sku="sku 1", defaults={"name": "updated"})
    Product.objects.update_or_create(sku="sku 9", defaults={"name": "created"})


def get_or_create(products: list[Product]) -> None:
    Product.objects.get_or_create(sku="sku 9", defaults={"name": "created"})


def create(products: list[Product]) -> None:
    Product.objects.create(sku="sku 9", name="created")


def create_under_a_key(products: list[Product]) -> None:
    Product.objects.create(pk=products[3].pk + 1, sku="sku 9", name="created")


def bulk_create(products: list[Product]) -> None:
    Product.objects.bulk_create(
        [Product(pk=products[3].pk + 1, sku="a"), Product(pk=products[3].pk + 2, sku="b")], batch_size=1
    )


def bulk_create_over_rows(products: list[Product]) -> None:
    new = [Product(sku="sku 1", name="over"), Product(sku="sku 9", name="created")]
    Product.objects.bulk_create(new, update_conflicts=True, unique_fields=["sku"], update_fields=["name"])


def bulk_create_over_rows_under_other_keys(products: list[Product]) -> None:
    new = [Product(pk=products[3].pk + 1, sku="sku 1", name="over")]
    Product.objects.bulk_create(new, update_conflicts=True, unique_fields=["sku"], update_fields=["name"])


def bulk_create_over_rows_by_their_keys(products: list[Product]) -> None:
    new = [Product(pk=products[0].pk, sku="sku 0", name="over")]
    Product.objects.bulk_create(new, update_conflicts=True, unique_fields=["pk"], update_fields=["name"])


def bulk_create_beside_rows(products: list[Product]) -> None:
    Product.objects.bulk_create([Product(sku="sku 1", name="over"), Product(sku="b")], ignore_conflicts=True)


def bulk_update(products: list[Product]) -> None:
    for product in products[:3]:
        product.name = "updated"
    assert Product.objects.bulk_update(products[:3], ["name"], batch_size=2) == 3


def delete(products: list[Product]) -> None:
    products[0].delete()


def delete_many(products: list[Product]) -> None:
    assert Product.objects.filter(stock__gte=2).delete() == (2, {"market.Product": 2})


def delete_by_cascade(products: list[Product]) -> None:
    Brand.objects.filter(name="acme").delete()


def delete_at_once(products: list[Product]) -> None:
    assert Product.objects.filter(brand__name="acme")._raw_delete(Product.objects.db) == 2


def set_null_by_cascade(products: list[Product]) -> None:
    Owner.objects.all().delete()


def clear_a_relation(products: list[Product]) -> None:
    products[0].brand.products.remove(products[0], bulk=True)


def set_a_relation(products: list[Product]) -> None:
    products[0].brand.products.set([products[1]], bulk=True)


def load_a_dump(products: list[Product]) -> None:
    (row,) = json.loads(serializers.serialize("json", [products[0]]))
    row["fields"]["name"] = "loaded"
    for found in serializers.deserialize("json", json.dumps([row])):
        found.save()


WRITES = [
    save,
    save_a_field,
    save_an_expression,
    save_a_deferred_row,
    save_under_another_key,
    update,
    update_by_another_table,
    update_what_is_named,
    update_a_key,
    update_by_a_related_manager,
    update_by_the_base_manager,
    update_by_a_query_set_of_ones_own,
    update_or_create,
    get_or_create,
    create,
    create_under_a_key,
    bulk_create,
    bulk_create_over_rows,
    bulk_create_over_rows_under_other_keys,
    bulk_create_over_rows_by_their_keys,
    bulk_create_beside_rows,
    bulk_update,
    delete,
    delete_many,
    delete_by_cascade,
    delete_at_once,
    set_null_by_cascade,
    clear_a_relation,
    set_a_relation,
    load_a_dump,
]


@pytest.mark.parametrize("write", WRITES, ids=[write.__name__ for write in WRITES])
@pytest.mark.parametrize("atomic", [False, True], ids=["at once", "in a transaction"])
def test_a_write_removes_what_it_changes(
    rows: type[Any], products: list[Product], database: str, write: Write, atomic: bool
) -> None:
    owner = Owner.objects.create(name="Ann")
    Product.objects.filter(sku="sku 2").update(owner=owner)
    last = products[3].pk
    ids = [*[product.pk for product in products], last + 1, last + 2, last + 3]
    rows.query_many(ids).execute()
    is_as_in_the_database(rows, ids)
    assert rows.query_many(ids[:4]).cached_only().execute() == rows.query_many(ids[:4]).execute()
    if atomic:
        with transaction.atomic(using=database):
            write(products)
            # What is in the cache stays there until the commit.
            assert all(rows.query_many(ids[:4]).cached_only().execute())
    else:
        write(products)
    is_as_in_the_database(rows, ids)


class Historical(models.Model):
    """Another class for the same table, as a migration has one."""

    name = models.CharField(max_length=50)

    class Meta:
        app_label = "writes"
        db_table = Product._meta.db_table
        managed = False


# -- what few applications do --------------------------------------------------------------------------------


def test_rows_of_a_relation_to_many(database: str, memory: co.SimpleBackend, products: list[Product]) -> None:
    favourites = cached(Owner.favourites.through, backend=memory, negative_ttl=60)
    owner = Owner.objects.create(name="Ann")

    def there() -> list[bool]:
        return [row is not None for row in favourites.query_many(range(1, 40)).execute()]

    owner.favourites.add(*products[:2])
    first = Owner.favourites.through.objects.order_by("pk").values_list("pk", flat=True)[0]
    assert favourites.get(id=first).owner_id == owner.pk
    assert sum(there()) == 2
    owner.favourites.remove(products[0])
    assert sum(there()) == 1
    products[2].fans.set([owner])
    assert sum(there()) == 2
    owner.favourites.clear()
    assert not any(there())


def test_another_class_for_the_same_table(rows: type[Any], products: list[Product]) -> None:
    pk = products[0].pk
    assert rows.get(id=pk).name == "name 0"
    Historical.objects.filter(pk=pk).update(name="migrated")
    assert rows.get(id=pk).name == "migrated"


class Clearing(co.SimpleBackend):
    """Notes what is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: list[Any] = []

    def clear(self, prefix: str | None = None, **options: Any) -> Any:
        self.prefixes.append(prefix)
        super().clear(prefix, **options)


def test_all_rows_are_removed_if_none_can_be_named(
    products: list[Product], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Clearing()
    rows = cached(Product, backend=backend)
    ids = [product.pk for product in products]
    rows.query_many(ids).execute()
    with transaction.atomic(using=database):
        # Keys made by an expression are known to the database alone.
        Product.objects.filter(pk__in=ids[2:]).update(id=models.F("id") + 100)
        assert backend.prefixes == []
    assert backend.prefixes == ["m:market.product:id:"]
    assert "Product: all rows are removed from the cache, since an update has changed primary keys" in caplog.text
    invalidate(rows)
    assert backend.prefixes == ["m:market.product:id:"] * 2


@pytest.mark.skipif(not hasattr(models, "DB_CASCADE"), reason="Django leaves deletions to the database since 6.1")
def test_rows_that_the_database_deletes_by_itself(database: str) -> None:
    backend = Clearing()
    leaflets, brands = cached(shop_models.Leaflet, backend=backend), cached(Brand, backend=co.SimpleBackend())
    brand = Brand.objects.create(name="acme")
    leaflet = shop_models.Leaflet.objects.create(brand=brand)
    assert (leaflets.get(id=leaflet.pk).brand_id, brands.get(id=brand.pk).name) == (brand.pk, "acme")
    brand.delete()
    assert leaflets.get_or_none(id=leaflet.pk) is None
    assert backend.prefixes == ["m:market.leaflet:id:"]


def test_a_server_that_is_down_at_the_commit(database: str) -> None:
    with RedisServer() as server, co.backend_from_url(f"{server.url}?on_failure=miss&operation_timeout=0.2") as backend:
        rows = cached(Brand, backend=backend)
        brand = Brand.objects.create(name="old")
        assert rows.get(id=brand.pk).name == "old"
        server.pause()
        with transaction.atomic(using=database):
            brand.name = "new"
            brand.save()
        server.resume()
        assert rows.get(id=brand.pk).name == "new"
