"""Rows that are not in the cache are read from the database: values, parts, awaits, transactions, and connections."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connections, models, transaction
from django.test.utils import CaptureQueriesContext
from market import emptied
from market.models import Brand, Colour, Everything, Product

import cacheorm as co
from cacheorm.ext.django import cached

VALUES: dict[str, Any] = {
    "uid": uuid.UUID(int=7),
    "big": -(2**63),
    "small": -7,
    "positive": 2**62,
    "number": 0.1,
    "amount": Decimal("12345678.901234"),
    "text": "Ein Text\nmit 🎈",
    "slug": "a-slug",
    "url": "https://example.org/?a=b",
    "email": "a@example.org",
    "address": "2001:db8::1",
    "colour": Colour.BLUE,
    "flag": True,
    "day": dt.date(2024, 2, 29),
    "hour": dt.time(23, 59, 59, 999_999),
    "moment": dt.datetime(2024, 2, 29, 12, 30, 0, 1, dt.timezone(dt.timedelta(hours=5))),
    "duration": dt.timedelta(days=-3, microseconds=7),
    "other": uuid.UUID(int=2**128 - 1),
    "data": {"a": [1, None, "ü"], "b": 1.5},
    "raw": b"\x00\xff\x80",
    "file": "files/a.png",
}
NULLS = dict.fromkeys(("nothing", "no_text", "no_flag", "no_moment", "no_data", "no_raw"))


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_values_of_each_type_are_those_of_django(database: str, backend: co.BaseBackend, serializer: str) -> None:
    rows = cached(Everything, backend=backend, serializer=serializer)
    Everything.objects.create(**VALUES)
    expected = Everything.objects.values().get()
    expected["raw"] = bytes(expected["raw"])
    assert expected == {**VALUES, **NULLS, "colour": "b"}
    for row in (rows.get(uid=VALUES["uid"]), rows.query(uid=VALUES["uid"]).cached_only().execute()):
        found = row.to_dict()
        assert found == expected
        assert {name: type(value) for name, value in found.items()} == {
            name: type(value) for name, value in expected.items()
        }


def test_no_flag_and_null_json_are_none(database: str, memory: co.SimpleBackend) -> None:
    rows = cached(Everything, backend=memory)
    Everything.objects.create(**VALUES | {"no_data": models.Value(None, models.JSONField())})
    assert rows.get(uid=VALUES["uid"]).no_data is None


def test_values_that_only_postgresql_has(postgres: str, memory: co.SimpleBackend) -> None:
    from django.contrib.postgres.fields import ArrayField, DateRangeField, HStoreField

    class Lists(models.Model):
        numbers = ArrayField(models.IntegerField())
        table = ArrayField(ArrayField(models.DecimalField(max_digits=5, decimal_places=2)), null=True)
        days = ArrayField(models.DateField(null=True), default=list)
        pairs = HStoreField(null=True)
        span = DateRangeField(null=True)

        class Meta:
            app_label = "loading"

    with pytest.raises(TypeError, match=r"loading.Lists.span is a DateRangeField, .*exclude=\['span'\]"):
        cached(Lists)
    rows = cached(Lists, exclude=["span", "pairs"], using=postgres, backend=memory)
    assert isinstance(cached(Lists, exclude=["span"]).pairs, co.JSONField)
    with connections[postgres].cursor() as cursor:
        cursor.execute('CREATE TABLE loading_lists (id bigserial, numbers int[], "table" numeric[][], days date[])')
        cursor.execute(
            "INSERT INTO loading_lists VALUES (1, '{1,2}', '{{1.50},{2}}', '{2024-02-29,NULL}'), (2, '{}', NULL, '{}')"
        )
    found = [rows.query_many([1, 2]).execute(), rows.query_many([1, 2]).cached_only().execute()]
    for one, two in found:
        assert one.numbers == [1, 2]
        assert one.table == [[Decimal("1.50")], [Decimal(2)]]
        assert one.days == [dt.date(2024, 2, 29), None]
        assert (two.numbers, two.table, two.days) == ([], None, [])


def test_many_rows_are_read_in_parts(database: str, backend: co.BaseBackend) -> None:
    rows = cached(Product, backend=backend)
    Product.objects.bulk_create([Product(sku=str(n), name=f"name {n}") for n in range(2_100)])
    ids = [*Product.objects.order_by("pk").values_list("pk", flat=True)]
    with CaptureQueriesContext(connections[database]) as queries:
        found = rows.query_many([*reversed(ids), 10**9]).execute()
    assert [row and row.get_id() for row in found] == [*reversed(ids), None]
    # Neither the order of the model nor its default manager are in the way.
    assert len(queries) == 1 + 2_100 // min(1_000, connections[database].features.max_query_params or 1_000)
    assert all("ORDER BY" not in query["sql"] for query in queries)
    with CaptureQueriesContext(connections[database]) as queries:
        assert rows.query_many(ids[:50]).execute() == found[-2:-52:-1]
    assert len(queries) == 0


def test_rows_that_the_default_manager_hides_are_rows(database: str, memory: co.SimpleBackend) -> None:
    made = Product.objects.create(sku="a", name="a", active=False)
    assert cached(Product, backend=memory).get(id=made.pk).active is False


def test_rows_come_from_the_database_that_is_named(sqlite: str, postgres: str, memory: co.SimpleBackend) -> None:
    for alias in (sqlite, postgres):
        Brand.objects.using(alias).create(pk=7, name=alias)
    try:
        for alias in (sqlite, postgres):
            rows = cached(Brand, using=alias, backend=memory, name=f"brand-{alias}")
            assert rows.get(id=7).name == alias
    finally:
        for alias in (sqlite, postgres):
            Brand.objects.using(alias).all().delete()


def test_awaited_reads(database: str, backend: co.BaseBackend, run: Callable[..., Any]) -> None:
    products, brands = cached(Product, backend=backend), cached(Brand, backend=backend)
    brand = Brand.objects.create(name="acme")
    ids = [Product.objects.create(sku=str(n), name=str(n), brand=brand).pk for n in range(3)]

    async def main() -> None:
        try:
            assert (await products.aget(id=ids[0])).name == "0"
            assert [row.name for row in await products.query_many(ids).preload("brand")] == ["0", "1", "2"]
            found = await asyncio.gather(*[products.aget(id=pk) for pk in ids])
            assert [(await products.brand.aget(row)).name for row in found] == ["acme"] * 3
            assert await products.aget_or_none(id=10**9) is None
            assert (await brands.aget(id=brand.pk)).name == "acme"
        finally:
            await backend.aclose()

    run(main())


# -- transactions ------------------------------------------------------------------------------------------


class Abandoned(Exception):
    pass


def read_elsewhere(rows: type[Any], pk: int) -> Any:
    """Read a row in another thread, which has a connection of its own."""
    found: list[Any] = []

    def read() -> None:
        try:
            found.append(rows.get_or_none(id=pk))
        finally:
            connections.close_all()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found[0]


def test_a_transaction_reads_what_it_has_changed_and_nobody_else_does(postgres: str, backend: co.BaseBackend) -> None:
    rows = cached(Brand, backend=backend, negative_ttl=60)
    with emptied(postgres):
        brand = Brand.objects.create(name="old")
        with transaction.atomic(using=postgres):
            brand.name = "new"
            brand.save()
            made = Brand.objects.create(name="made")
            assert [row.name for row in rows.query_many([brand.pk, made.pk]).execute()] == ["new", "made"]
            assert not rows.exists(id=brand.pk)
            assert read_elsewhere(rows, brand.pk).name == "old"
            assert read_elsewhere(rows, made.pk) is None
            # It is in the cache by now, and the transaction is not done.
            assert rows.get(id=brand.pk).name == "old"
            transaction.set_rollback(True, using=postgres)
        assert rows.get(id=brand.pk).name == "old"
        assert rows.get_or_none(id=made.pk) is None


def test_after_a_savepoint_is_rolled_back_rows_are_stored_again(database: str, memory: co.SimpleBackend) -> None:
    rows = cached(Brand, backend=memory)
    brand = Brand.objects.create(name="old")
    with transaction.atomic(using=database):
        try:
            with transaction.atomic(using=database):
                Brand.objects.update(name="new")
                assert rows.get(id=brand.pk).name == "new"
                raise Abandoned
        except Abandoned:
            assert not rows.exists(id=brand.pk)
        assert rows.get(id=brand.pk).name == "old"
        assert rows.exists(id=brand.pk)


def test_rows_of_another_model_are_stored_meanwhile(database: str, memory: co.SimpleBackend) -> None:
    rows = cached(Brand, backend=memory)
    brand = Brand.objects.create(name="acme")
    with transaction.atomic(using=database):
        Product.objects.create(sku="a", name="a")
        rows.get(id=brand.pk)
        assert rows.exists(id=brand.pk)


@pytest.fixture
def snapshots(database: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Each database with transactions that read all as of their beginning."""
    connection = connections[database]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = wal")
        yield database
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = delete")
        return
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    connection.close()
    connection.settings_dict["OPTIONS"]["isolation_level"] = IsolationLevel.REPEATABLE_READ
    yield database
    connection.close()
    del connection.settings_dict["OPTIONS"]["isolation_level"]


def test_rows_of_an_old_snapshot_are_not_stored(snapshots: str, memory: co.SimpleBackend) -> None:
    rows = cached(Brand, backend=memory)
    brand = Brand.objects.create(name="old")

    def change() -> None:
        Brand.objects.update(name="new")
        connections.close_all()

    with transaction.atomic(using=snapshots):
        assert Brand.objects.get().name == "old"
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
        assert rows.get(id=brand.pk).name == "old"
    assert rows.get(id=brand.pk).name == "new"


# -- connections -------------------------------------------------------------------------------------------


def connection_after(database: str, work: Callable[[], Any], max_age: int | None = 0) -> Any:
    """Return the connection that is open after some work in another thread."""
    found: list[Any] = []

    def run() -> None:
        connections[database].settings_dict["CONN_MAX_AGE"] = max_age
        try:
            work()
            found.append(connections[database].connection)
        finally:
            connections[database].settings_dict["CONN_MAX_AGE"] = 0
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_connection_that_a_load_has_opened_is_closed(database: str, memory: co.SimpleBackend) -> None:
    rows = cached(Brand, backend=memory)
    brand = Brand.objects.create(name="acme")

    def read() -> None:
        rows.get(id=brand.pk)
        memory.clear()

    def read_after_another_query() -> None:
        Brand.objects.get()
        read()

    def read_twice() -> None:
        read()
        first = connections[database].connection
        read()
        assert connections[database].connection is first

    def read_in_a_request() -> None:
        request_started.send(sender=None)
        read()
        assert connections[database].connection is not None
        request_finished.send(sender=None)

    assert connection_after(database, read) is None
    assert connection_after(database, read_after_another_query) is not None
    assert connection_after(database, read_twice, max_age=None) is not None
    assert connection_after(database, read_in_a_request) is None
    read()
    assert connections[database].connection is not None
