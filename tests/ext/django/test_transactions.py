"""What transactions change is removed after their commits, and only what lasts."""

from __future__ import annotations

import logging
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django.test import TestCase, TransactionTestCase
from market.models import Brand, Owner

import cacheorm as co
from cacheorm.ext.django import cached, invalidate


class Abandoned(Exception):
    """Ends a transaction, which is rolled back."""


@contextmanager
def abandoned(database: str) -> Iterator[None]:
    with suppress(Abandoned), transaction.atomic(using=database):
        yield
        raise Abandoned


@pytest.fixture
def rows(memory: co.SimpleBackend) -> type[Any]:
    return cached(Brand, backend=memory)


@pytest.fixture
def ids(database: str, rows: type[Any]) -> list[int]:
    """The keys of brands, which are all in the cache."""
    found = [Brand.objects.create(name=f"brand {n}").pk for n in range(5)]
    rows.query_many(found).execute()
    return found


def rename(*ids: int) -> None:
    Brand.objects.filter(pk__in=ids).update(name="new")


def there(rows: type[Any], ids: list[int]) -> list[bool]:
    return [row is not None for row in rows.query_many(ids).cached_only().execute()]


def test_a_row_is_removed_from_each_backend(backend: co.BaseBackend, database: str) -> None:
    rows = cached(Brand, backend=backend, negative_ttl=60)
    brand = Brand.objects.create(name="acme")
    ids = [brand.pk, brand.pk + 1]
    assert [row and row.name for row in rows.query_many(ids).execute()] == ["acme", None]
    with transaction.atomic(using=database):
        brand.name = "omni"
        brand.save()
        Brand.objects.create(pk=ids[1], name="made")
        assert rows.query(id=ids[0]).cached_only().execute().name == "acme"
    assert not rows.exists(id=ids[0])
    assert [row and row.name for row in rows.query_many(ids).execute()] == ["omni", "made"]


def test_a_rollback_removes_nothing(rows: type[Any], ids: list[int], database: str) -> None:
    with abandoned(database):
        rename(*ids)
    assert all(there(rows, ids))
    assert rows.get(id=ids[0]).name == "brand 0"


def test_of_savepoints_only_what_lasts_is_removed(rows: type[Any], ids: list[int], database: str) -> None:
    with transaction.atomic(using=database):
        rename(ids[0])
        with abandoned(database):
            rename(ids[1])
            with transaction.atomic(using=database):
                rename(ids[2])
        with transaction.atomic(using=database):
            rename(ids[3])
        assert all(there(rows, ids))
    assert there(rows, ids) == [False, True, True, False, True]


def test_a_rollback_of_all_takes_the_savepoints_with_it(rows: type[Any], ids: list[int], database: str) -> None:
    with abandoned(database), transaction.atomic(using=database):
        rename(ids[0])
    assert all(there(rows, ids))


def test_blocks_without_savepoints_end_with_the_one_around(rows: type[Any], ids: list[int], database: str) -> None:
    with transaction.atomic(using=database), transaction.atomic(using=database, savepoint=False):
        rename(ids[0])
    assert there(rows, ids[:2]) == [False, True]
    with abandoned(database), transaction.atomic(using=database, savepoint=False):
        rename(ids[1])
    assert there(rows, ids[:2]) == [False, True]


def test_a_statement_that_fails_removes_nothing(rows: type[Any], ids: list[int], database: str) -> None:
    with transaction.atomic(using=database):
        rename(ids[1])
        with pytest.raises(IntegrityError), transaction.atomic(using=database):
            Brand.objects.bulk_create([Brand(pk=ids[0], name="twice")])
    assert there(rows, ids[:3]) == [True, False, True]


def test_only_what_has_changed_is_removed(rows: type[Any], ids: list[int]) -> None:
    rename(*ids[:2])
    assert there(rows, ids) == [False, False, True, True, True]
    Brand.objects.filter(pk=ids[2]).delete()
    assert there(rows, ids) == [False, False, False, True, True]


def test_what_a_transaction_changes_is_one_request(ids: list[int], database: str) -> None:
    class Counting(co.SimpleBackend):
        calls = 0

        def delete_many(self, *keys: str) -> bool:
            Counting.calls += 1
            return super().delete_many(*keys)

    rows = cached(Brand, backend=Counting())
    with transaction.atomic(using=database):
        rename(ids[0])
        for pk in ids[1:]:
            Brand.objects.update_or_create(pk=pk, defaults={"name": "new"})  # within a savepoint
    assert Counting.calls == 1
    assert not any(there(rows, ids))


def test_callbacks_of_the_application_find_the_new_rows_and_may_fail(
    rows: type[Any], ids: list[int], database: str
) -> None:
    found = []

    def fail() -> None:
        found.append(rows.get(id=ids[0]).name)
        raise Abandoned

    with suppress(Abandoned), transaction.atomic(using=database):
        transaction.on_commit(fail, using=database)
        rename(ids[0])
    assert found == ["new"]


def test_a_cache_that_fails_ends_neither_the_transaction_nor_other_callbacks(
    rows: type[Any], ids: list[int], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(co.SimpleBackend):
        def delete_many(self, *keys: str) -> bool:
            raise RuntimeError("a secret")

    called = []
    failing = cached(Brand, backend=Failing(), name="failing")
    with caplog.at_level(logging.WARNING), transaction.atomic(using=database):
        rename(ids[0])
        transaction.on_commit(lambda: called.append(1), using=database)
    assert called == [1]
    assert failing.get(id=ids[0]).name == "new"
    assert Brand.objects.get(pk=ids[0]).name == "new"
    assert there(rows, ids[:2]) == [False, True]
    assert "could not be removed from the cache" in caplog.text
    assert "a secret" not in caplog.text


def test_each_database_has_its_own_transaction(
    rows: type[Any], sqlite: str, postgres: str, ids: list[int], database: str
) -> None:
    other = postgres if database == sqlite else sqlite
    with transaction.atomic(using=other):
        rename(ids[0])
        assert there(rows, ids[:2]) == [False, True]


def test_write_loads_the_rows_at_once(ids: list[int], database: str, memory: co.SimpleBackend) -> None:
    rows = cached(Brand, backend=memory, on_commit="write")
    with transaction.atomic(using=database):
        rename(ids[0])
        made = Brand.objects.create(name="made")
        Brand.objects.filter(pk=ids[1]).delete()
        assert not rows.exists(id=made.pk)
    found = rows.query_many([ids[0], made.pk, ids[1]]).cached_only().execute()
    assert [row and row.name for row in found] == ["new", "made", None]
    with pytest.raises(ValueError, match="on_commit is 'delete' or 'write'"):
        cached(Brand, on_commit="never")


def test_awaited_writes(rows: type[Any], ids: list[int], run: Callable[..., Any]) -> None:
    async def main() -> None:
        brand = await Brand.objects.aget(pk=ids[0])
        brand.name = "saved"
        await brand.asave()
        assert (await rows.aget(id=ids[0])).name == "saved"
        await Brand.objects.filter(pk=ids[0]).aupdate(name="updated")
        assert (await rows.aget(id=ids[0])).name == "updated"
        await Brand.objects.filter(pk=ids[0]).adelete()
        assert await rows.aget_or_none(id=ids[0]) is None
        made = await Brand.objects.acreate(name="made")
        assert (await rows.aget(id=made.pk)).name == "made"

    run(main())


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_commit_whose_answer_is_lost(
    rows: type[Any], ids: list[int], database: str, autocommit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connections[database]
    made = connection._commit

    def lose() -> None:
        made()
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(connection, "_commit", lose)
    if autocommit:
        with pytest.raises(OperationalError), transaction.atomic(using=database):
            rename(ids[0])
            with transaction.atomic(using=database):
                rename(ids[1])
    else:
        transaction.set_autocommit(False, using=database)
        rename(*ids[:2])
        with pytest.raises(OperationalError):
            transaction.commit(using=database)
        transaction.rollback(using=database)
    monkeypatch.undo()
    transaction.set_autocommit(True, using=database)
    assert there(rows, ids[:3]) == [False, False, True]


# -- what Django does not know ---------------------------------------------------------------------------


def test_an_application_says_what_it_has_changed_by_hand(rows: type[Any], ids: list[int], database: str) -> None:
    def execute(pk: int) -> None:
        with connections[database].cursor() as cursor:
            cursor.execute("UPDATE market_brand SET name = 'raw' WHERE id = %s", [pk])

    execute(ids[0])
    assert rows.get(id=ids[0]).name == "brand 0"
    invalidate(rows, [ids[0]])
    assert rows.get(id=ids[0]).name == "raw"
    with transaction.atomic(using=database):
        execute(ids[1])
        invalidate(Brand, iter([ids[1]]))
        assert all(there(rows, ids))
    assert there(rows, ids) == [True, False, True, True, True]
    with abandoned(database):
        invalidate(Brand, [ids[2]], using=database)
    assert there(rows, ids) == [True, False, True, True, True]


@pytest.mark.parametrize("given", [Owner, int, "Brand", co.Model, None])
def test_only_cached_models_can_be_named_by_hand(given: Any) -> None:
    with pytest.raises(TypeError, match=r"invalidate\(\) takes a model that cached\(\) was called for"):
        invalidate(given, [1])


@pytest.mark.parametrize("given", [7, "secret"])
def test_primary_keys_are_a_list(rows: type[Any], given: Any) -> None:
    with pytest.raises(TypeError, match=rf"a list of primary keys, got one {type(given).__name__}: write \[pk\]"):
        invalidate(rows, given)


def test_without_autocommit_rows_are_removed_at_the_commit(rows: type[Any], ids: list[int], database: str) -> None:
    transaction.set_autocommit(False, using=database)
    try:
        rename(ids[0])
        assert all(there(rows, ids))
        transaction.rollback(using=database)
        assert all(there(rows, ids))
        rename(ids[1])
        with transaction.atomic(using=database):
            rename(ids[2])
        assert all(there(rows, ids))
        transaction.commit(using=database)
        assert there(rows, ids) == [True, False, False, True, True]
        rename(ids[3])
        transaction.commit(using=database)
        assert there(rows, ids) == [True, False, False, False, True]
    finally:
        transaction.rollback(using=database)
        transaction.set_autocommit(True, using=database)


# -- the tests of an application --------------------------------------------------------------------------


def test_rows_of_a_test_are_not_left_in_the_cache(rows: type[Any], ids: list[int], database: str) -> None:
    class Test(TestCase):
        databases = frozenset([database])

        def test(self) -> None:
            made = Brand.objects.create(name="made")
            assert rows.get(id=made.pk).name == "made"
            rename(made.pk)
            assert rows.get(id=made.pk).name == "new"
            assert not rows.exists(id=made.pk)
            with self.captureOnCommitCallbacks(using=database, execute=True) as callbacks:
                rename(ids[0])
                assert all(there(rows, ids))
            assert len(callbacks) == 1
            assert there(rows, ids[:2]) == [False, True]

    _run(Test("test"))


def test_tests_with_transactions_are_as_the_application(rows: type[Any], ids: list[int], database: str) -> None:
    class Test(TransactionTestCase):
        databases = frozenset([database])
        available_apps = ("market",)

        def test(self) -> None:
            with transaction.atomic(using=database):
                rename(ids[0])
            assert there(rows, ids[:2]) == [False, True]

        def _fixture_teardown(self) -> None:
            """Leave the tables to the fixture of these tests."""

    _run(Test("test"))


def _run(test: Any) -> None:
    result = test.defaultTestResult()
    # The class has fixtures, too: the transaction around its tests.
    unittest.TestSuite([test]).run(result)
    assert result.wasSuccessful(), (result.errors or result.failures)[0][1]
