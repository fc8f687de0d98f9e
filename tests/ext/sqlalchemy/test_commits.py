"""What sessions have changed is removed from the cache after the commit, and nothing else."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from servers import RedisServer
from shops import engine_of, make_shop
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, scoped_session, sessionmaker

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached, invalidate

PRODUCTS = range(1, 6)


def warm(shop: SimpleNamespace) -> None:
    """Load all rows into the cache."""
    shop.products.query_many(range(1, 10)).execute()
    shop.brands.query_many(["acme", "omni", "new"]).execute()
    shop.prices.query_many([("fr", 1), ("de", 1)]).execute()


def gone(shop: SimpleNamespace) -> list[int]:
    """Return the products that are not in the cache any more."""
    return [pk for pk in PRODUCTS if not shop.products.exists(id=pk)]


def check(shop: SimpleNamespace, statement: Any = None) -> None:
    """Check that all rows that the cache gives are those of the database."""
    with shop.Session() as session:
        for model, mapped in ((shop.products, shop.Product), (shop.brands, shop.Brand), (shop.prices, shop.Price)):
            rows = {sa.inspect(row).identity: row for row in session.scalars(sa.select(mapped))}
            pks = [*rows, *([(9,)] if model is shop.products else [])]
            found = model.query_many([pk if len(pk) > 1 else pk[0] for pk in pks]).cached_only().execute()
            for pk, row in zip(pks, found, strict=True):
                for name in row.to_dict() if row is not None else ():
                    mine = getattr(row, f"{name}_code") if name == "brand" else getattr(row, name)
                    theirs = getattr(rows[pk], "brand_code" if name == "brand" else name)
                    assert mine == theirs, (model, pk, name)


@pytest.fixture(autouse=True)
def no_row_is_removed_in_vain(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test after which a whole model was removed, or rows were not, unless it says so."""
    with caplog.at_level(logging.WARNING, "cacheorm"):
        yield
    if "may_log" not in request.fixturenames:
        assert caplog.text == ""


@pytest.fixture
def may_log() -> None:
    """Let a test end with messages in the log."""


# -- the unit of work ----------------------------------------------------------------------------


def test_rows_that_were_changed_inserted_and_deleted(engine: sa.Engine, backend: co.BaseBackend) -> None:
    shop = make_shop(engine, backend, negative_ttl=60)
    warm(shop)
    assert shop.products.get_or_none(id=9) is None
    with shop.Session.begin() as session:
        session.get(shop.Product, 1).name = "new"
        session.delete(session.get(shop.Product, 2))
        session.add(shop.Product(id=9, name="ninth", brand_code="omni"))
        session.get(shop.Price, ("fr", 1)).cents = 7
        session.flush()
        assert gone(shop) == []
    assert gone(shop) == [1, 2]
    assert shop.products.get(id=1).name == "new"
    assert shop.products.get_or_none(id=2) is None
    assert shop.products.get(id=9).name == "ninth"
    assert shop.prices.get(country="fr", product_id=1).cents == 7
    assert shop.prices.exists(country="de", product_id=1)


def test_a_row_whose_primary_key_changes_is_two_rows(shop: SimpleNamespace) -> None:
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
    warm(shop)
    with shop.Session.begin() as session:
        session.add(shop.Price(country="it", product_id=4, cents=1))
    assert shop.prices.get(country="it", product_id=4).cents == 1
    with shop.Session.begin() as session:
        price, product = session.get(shop.Price, ("it", 4)), session.get(shop.Product, 5)
        price.country = "at"
        product.id = 50
    assert not shop.prices.exists(country="it", product_id=4)
    assert shop.prices.get(country="at", product_id=4).cents == 1
    assert gone(shop) == [5]
    assert shop.products.get(id=50).name == "product 5"


def test_a_new_row_replaces_a_remembered_miss(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    shop = make_shop(engine, memory, negative_ttl=60)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT setval('products_id_seq', 5)"))
    assert shop.products.get_or_none(id=6) is None
    with shop.Session.begin() as session:
        session.add_all([shop.Product(name="generated"), shop.Product(name="another")])
    assert shop.products.get(id=6).name == "generated"
    assert shop.products.get(id=7).name == "another"


def test_rows_that_cascades_change(shop: SimpleNamespace) -> None:
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
    warm(shop)
    with shop.Session.begin() as session:
        brand = session.get(shop.Brand, "acme")
        brand.products.remove(session.get(shop.Product, 1))  # an orphan
    assert gone(shop) == [1]
    with shop.Session.begin() as session:
        session.delete(session.get(shop.Brand, "acme"))
    assert gone(shop) == [*PRODUCTS]
    assert shop.products.get_or_none(id=5) is None
    assert shop.brands.get_or_none(code="acme") is None


def test_rows_that_a_merge_changes(shop: SimpleNamespace) -> None:
    warm(shop)
    with shop.Session.begin() as session:
        session.merge(shop.Product(id=3, name="merged", brand_code="omni"))
    assert gone(shop) == [3]
    assert shop.products.get(id=3).brand.code == "omni"


def test_rows_that_were_only_read_stay(shop: SimpleNamespace) -> None:
    warm(shop)
    with shop.Session.begin() as session:
        session.scalars(sa.select(shop.Product)).all()
        session.get(shop.Product, 1).name = "product 1"
        session.execute(sa.select(shop.Product.id).with_for_update())
    assert gone(shop) == []


# -- transactions --------------------------------------------------------------------------------


def test_a_rollback_removes_nothing(shop: SimpleNamespace) -> None:
    warm(shop)
    with shop.Session() as session:
        session.get(shop.Product, 1).name = "new"
        session.flush()
        session.execute(sa.update(shop.Product).values(stock=5))
        session.rollback()
        session.get(shop.Product, 2).name = "new"
        session.commit()
        session.get(shop.Product, 3).name = "new"
        session.flush()  # and closed
    with pytest.raises(ZeroDivisionError), shop.Session.begin() as session:
        session.get(shop.Product, 4).name = "new"
        session.flush()
        raise ZeroDivisionError
    assert gone(shop) == [2]
    with shop.Session() as session, pytest.raises(sa.exc.IntegrityError):
        session.get(shop.Product, 5).name = "new"
        session.add(shop.Product(id=1, name="twice"))
        session.commit()
    assert gone(shop) == [2]


def test_of_savepoints_what_lasts(shop: SimpleNamespace) -> None:
    warm(shop)

    def rename(session: Session, pk: int) -> None:
        session.get(shop.Product, pk).name = "new"
        session.flush()

    with shop.Session.begin() as session:
        with session.begin_nested():
            rename(session, 1)
        with session.begin_nested() as savepoint:
            rename(session, 2)
            savepoint.rollback()
        with session.begin_nested() as outer:
            rename(session, 3)
            with session.begin_nested():
                rename(session, 4)
            outer.rollback()
        with session.begin_nested(), session.begin_nested():
            rename(session, 5)
        assert gone(shop) == []
    assert gone(shop) == [1, 5]
    check(shop)
    warm(shop)
    with pytest.raises(ZeroDivisionError), shop.Session.begin() as session:
        with session.begin_nested():
            rename(session, 2)
        raise ZeroDivisionError
    with shop.Session() as session:
        session.begin_nested()
        rename(session, 3)
        session.commit()  # of both
        session.begin_nested()
        rename(session, 4)
        session.get_transaction().rollback()
    assert gone(shop) == [3]
    check(shop)


def test_an_error_in_a_savepoint_leaves_the_rest(shop: SimpleNamespace) -> None:
    warm(shop)
    with shop.Session.begin() as session:
        session.get(shop.Product, 1).name = "new"
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.get(shop.Product, 2).name = "lost"
            session.flush()
            session.add(shop.Product(id=3, name="twice"))
            session.flush()
    assert gone(shop) == [1]
    check(shop)


def test_sessions_one_inside_the_other_and_one_after_the_other(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    shop = make_shop(engine, memory)
    registry = scoped_session(shop.Session)
    warm(shop)
    session = registry()
    if engine.dialect.name == "postgresql":  # SQLite has one writer
        session.get(shop.Product, 1).name = "new"
        session.flush()
        with Session(engine) as other, other.begin():
            other.get(shop.Product, 2).name = "new"
        assert gone(shop) == [2]
        session.commit()
        assert gone(shop) == [1, 2]
    for pk in (3, 4):
        session.get(shop.Product, pk).name = "new"
        session.commit()
        assert pk in gone(shop)
    registry.remove()
    check(shop)


def test_two_phases(postgres_url: str, memory: co.SimpleBackend) -> None:
    with engine_of(postgres_url.replace("postgresql://", "postgresql+psycopg://")) as engine:
        shop = make_shop(engine, memory)
        warm(shop)
        with Session(engine, twophase=True) as session:
            session.get(shop.Product, 1).name = "new"
            session.prepare()
            assert gone(shop) == []
            session.commit()
            assert gone(shop) == [1]


def test_a_session_on_a_connection_of_the_caller(shop: SimpleNamespace, engine: sa.Engine) -> None:
    warm(shop)
    with engine.connect() as connection:
        with Session(connection) as session:
            session.get(shop.Product, 1).name = "new"
            session.commit()
        assert gone(shop) == [1]
        connection.execute(sa.update(shop.Product.__table__).values(stock=1))
        connection.rollback()
    assert gone(shop) == [1]


# -- statements ----------------------------------------------------------------------------------


def by_name(mapped: Any) -> Any:
    return mapped.name.in_(["product 1", "product 3"])


STATEMENTS: dict[str, Callable[[Any, Session], Any]] = {
    "update": lambda p, s: s.execute(sa.update(p).where(by_name(p)).values(stock=p.stock + 1)),
    "without sync": lambda p, s: s.execute(
        sa.update(p).where(by_name(p)).values(stock=9), execution_options={"synchronize_session": False}
    ),
    "fetch": lambda p, s: s.execute(
        sa.update(p).where(by_name(p)).values(stock=9), execution_options={"synchronize_session": "fetch"}
    ),
    "legacy": lambda p, s: s.query(p).filter(by_name(p)).update({"stock": 9}),
    "legacy delete": lambda p, s: s.query(p).filter(by_name(p)).delete(),
    "delete": lambda p, s: s.execute(sa.delete(p).where(by_name(p))),
    "by key": lambda p, s: s.execute(sa.update(p).where(p.id.in_([1, 3])).values(stock=9)),
    "one by one": lambda p, s: [s.execute(sa.update(p).where(pk == p.id).values(stock=9)) for pk in (1, 3)],
    "by key and more": lambda p, s: s.execute(sa.delete(p).where(p.id.in_([1, 3]), p.stock < 5)),
    "many parameters": lambda p, s: s.execute(sa.update(p), [{"id": 1, "stock": 9}, {"id": 3, "stock": 8}]),
    "bulk mappings": lambda p, s: s.bulk_update_mappings(p, [{"id": 1, "stock": 9}, {"id": 3, "name": "new"}]),
    "bulk objects": lambda p, s: s.bulk_save_objects([renamed(s.get(p, 1)), renamed(s.get(p, 3))]),
    "core": lambda p, s: s.execute(sa.update(p.__table__).where(by_name(p.__table__.c)).values(stock=9)),
    "core on its connection": lambda p, s: s.connection().execute(sa.delete(p.__table__).where(by_name(p.__table__.c))),
    "core parameters": lambda p, s: s.connection().execute(
        sa.update(p.__table__).where(p.__table__.c.id == sa.bindparam("pk")).values(stock=sa.bindparam("new")),
        [{"pk": 1, "new": 9}, {"pk": 3, "new": 9}],
    ),
    "returning rows": lambda p, s: s.scalars(
        sa.update(p).where(by_name(p)).values(stock=9).returning(p), execution_options={"populate_existing": True}
    ).all(),
    "returning names": lambda p, s: names(s.scalars(sa.update(p).where(by_name(p)).values(stock=9).returning(p.name))),
    "delete returning": lambda p, s: names(s.scalars(sa.delete(p).where(by_name(p)).returning(p.name))),
    "returning unsynchronized": lambda p, s: names(
        s.scalars(
            sa.update(p).where(by_name(p)).values(stock=9).returning(p.name),
            execution_options={"synchronize_session": False},
        )
    ),
    "core returning": lambda p, s: names(
        s.scalars(sa.update(p.__table__).where(by_name(p.__table__.c)).values(stock=9).returning(p.__table__.c.name))
    ),
    "of another table": lambda p, s: s.execute(
        sa.update(p).where(by_name(p), p.brand_code == aliased(p, name="x").brand_code).values(stock=9)
    ),
    "a subquery": lambda p, s: s.execute(
        sa.update(p).where(p.id.in_(sa.select(p.id).where(by_name(p)))).values(stock=9)
    ),
    "a lambda": lambda p, s: s.execute(sa.lambda_stmt(lambda: sa.update(p).where(by_name(p)).values(stock=9))),
}


def renamed(row: Any) -> Any:
    row.name = "renamed"
    return row


def names(result: Any) -> None:
    assert sorted(result) == ["product 1", "product 3"]


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("returning", [True, False], ids=["RETURNING", "SELECT"])
def test_rows_that_statements_change(
    sqlite: sa.Engine, memory: co.SimpleBackend, statement: str, returning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not returning and "returning" in statement:
        return
    shop = make_shop(sqlite, memory)
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
    if not returning:
        for kind in ("update", "delete"):
            monkeypatch.setattr(sqlite.dialect, f"{kind}_returning", False)
    for ends in ("rollback", "commit"):
        warm(shop)
        with shop.Session() as session:
            STATEMENTS[statement](shop.Product, session)
            assert gone(shop) == []
            getattr(session, ends)()
        assert gone(shop) == ([1, 3] if ends == "commit" else [])
        check(shop)


def test_rows_that_statements_change_on_postgresql(
    postgres_url: str, memory: co.SimpleBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_of(postgres_url.replace("postgresql://", "postgresql+psycopg://")) as engine:
        shop = make_shop(engine, memory)
        with shop.Session.begin() as session:
            session.execute(sa.delete(shop.Price))
        for execute in STATEMENTS.values():
            warm(shop)
            with shop.Session() as session:
                session.begin_nested()
                execute(shop.Product, session)
                session.get_nested_transaction().commit()
                session.get(shop.Product, 5).stock += 1
                # What this commits is undone at the end, so that each statement finds the same rows.
                deleted = session.scalar(sa.select(sa.func.count()).select_from(shop.Product)) == 3
                session.commit()
            assert gone(shop) == [1, 3, 5]
            check(shop)
            with shop.Session.begin() as session:
                if deleted:
                    session.add_all([shop.Product(id=pk, name=f"product {pk}", brand_code="acme") for pk in (1, 3)])
                else:
                    for pk in (1, 3):
                        session.get(shop.Product, pk).name = f"product {pk}"


def test_statements_that_change_nothing(shop: SimpleNamespace) -> None:
    warm(shop)
    with shop.Session.begin() as session:
        session.execute(sa.update(shop.Product).where(shop.Product.name == "nobody").values(stock=9))
        session.execute(sa.delete(shop.Product).where(shop.Product.name == "nobody"))
    assert gone(shop) == []


def test_a_result_is_what_it_would_be_without(shop: SimpleNamespace) -> None:
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
        product = shop.Product
        assert session.execute(sa.update(product).where(by_name(product)).values(stock=4)).rowcount == 2
        one = session.get(product, 1)
        assert one.stock == 4
        returned = session.execute(sa.update(product).where(by_name(product)).values(stock=5).returning(product.name))
        assert returned.keys() == ["name"]
        assert sorted(returned.all()) == [("product 1",), ("product 3",)]
        assert session.execute(sa.delete(product).where(product.stock == 5)).rowcount == 2
        inserted = session.execute(sa.insert(product.__table__).values(name="x"))
        assert inserted.inserted_primary_key is not None


# -- inserts and upserts -------------------------------------------------------------------------


def dialect_insert(session: Session) -> Any:
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite_dialect).insert


def upsert(p: Any, s: Session, target: Any = None, **changes: Any) -> Any:
    made = dialect_insert(s)(p)
    return made.on_conflict_do_update(
        index_elements=[p.id if target is None else target], set_=changes or {"stock": made.excluded.stock}
    )


ROWS = [{"id": 1, "name": "a", "stock": 9}, {"id": 3, "name": "b", "stock": 9}, {"id": 9, "name": "c", "stock": 9}]
UPSERTS: dict[str, Callable[[Any, Session], Any]] = {
    "values": lambda p, s: s.execute(upsert(p, s).values(ROWS)),
    "parameters": lambda p, s: s.execute(upsert(p, s), ROWS),
    "one by one": lambda p, s: [s.execute(upsert(p, s).values(**row)) for row in ROWS],
    "core": lambda p, s: s.execute(upsert(p.__table__, s, p.__table__.c.id), ROWS),
    "returning": lambda p, s: s.scalars(upsert(p, s).values(ROWS).returning(p)).all(),
}


@pytest.mark.parametrize("form", UPSERTS)
def test_rows_that_upserts_change(engine: sa.Engine, memory: co.SimpleBackend, form: str) -> None:
    shop = make_shop(engine, memory, negative_ttl=60)
    warm(shop)
    with shop.Session() as session:
        UPSERTS[form](shop.Product, session)
        session.rollback()
        assert gone(shop) == []
        UPSERTS[form](shop.Product, session)
        session.commit()
    assert gone(shop) == [1, 3]
    assert [shop.products.get(id=pk).stock for pk in (1, 3, 9)] == [9, 9, 9]
    check(shop)


def test_an_upsert_that_finds_rows_by_another_column(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    shop = make_shop(engine, memory)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE UNIQUE INDEX names ON products (name)"))
    warm(shop)
    with shop.Session.begin() as session:
        session.execute(
            upsert(shop.Product, session, shop.Product.name, stock=7).values(id=77, name="product 3", stock=1)
        )
    assert gone(shop) == [3]
    assert shop.products.get(id=3).stock == 7


INSERTS: dict[str, Callable[[Any, Session], Any]] = {
    "values": lambda p, s: s.execute(sa.insert(p).values(name="a")),
    "many": lambda p, s: s.execute(sa.insert(p), [{"name": "a"}, {"name": "b"}]),
    "core": lambda p, s: s.execute(sa.insert(p.__table__), [{"name": "a"}, {"name": "b"}]),
    "with keys": lambda p, s: s.execute(sa.insert(p), [{"id": 6, "name": "a"}, {"id": 7, "name": "b"}]),
    "bulk": lambda p, s: s.bulk_insert_mappings(p, [{"name": "a"}, {"name": "b"}]),
    "objects": lambda p, s: s.bulk_save_objects([p(name="a"), p(id=8, name="b")]),
    "nothing": lambda p, s: s.execute(
        dialect_insert(s)(p).values([{"id": 6, "name": "a"}, {"id": 1, "name": "b"}]).on_conflict_do_nothing()
    ),
}


@pytest.mark.parametrize("form", INSERTS)
def test_rows_that_are_inserted_are_no_misses_any_more(engine: sa.Engine, memory: co.SimpleBackend, form: str) -> None:
    shop = make_shop(engine, memory, negative_ttl=60)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT setval('products_id_seq', 5)"))
    warm(shop)
    with shop.Session.begin() as session:
        INSERTS[form](shop.Product, session)
    assert [pk for pk in gone(shop) if pk != 1] == []
    assert shop.products.get(id=6).name == "a"


# -- what nothing tells --------------------------------------------------------------------------

UNKNOWN: dict[str, Callable[[Any, Session], Any]] = {
    "keys that are computed": lambda p, s: s.execute(sa.update(p).where(p.id == 2).values(id=p.id + 100)),
    "parameters for other columns": lambda p, s: s.connection().execute(
        sa.update(p.__table__).where(p.__table__.c.name == sa.bindparam("x")).values(stock=1),
        [{"x": "product 1"}, {"x": "product 2"}],
    ),
    "a replacement": lambda p, s: s.execute(
        sa.insert(p).prefix_with("OR REPLACE").values(id=1, name="replaced", stock=1)
    ),
    "of what was selected": lambda p, s: s.execute(
        upsert(p, s).from_select(
            ["id", "name", "stock"],
            sa.union_all(*[sa.select(*map(sa.literal, row.values())) for row in ROWS])
            .subquery()
            .select()
            .where(sa.true()),
        )
    ),
}


@pytest.mark.usefixtures("may_log")
@pytest.mark.parametrize("form", UNKNOWN)
def test_otherwise_all_rows_of_the_model_are_removed(
    sqlite: sa.Engine, memory: co.SimpleBackend, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = make_shop(sqlite, memory)
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
    warm(shop)
    with shop.Session.begin() as session:
        UNKNOWN[form](shop.Product, session)
    assert gone(shop) == [*PRODUCTS]
    assert shop.brands.exists(code="acme")
    (record,) = caplog.records
    assert "ProductRow: all rows are removed from the cache, since nothing tells which rows this" in record.getMessage()
    assert "of products has changed" in record.getMessage()


# -- on_commit="write", and caches that fail -----------------------------------------------------


def test_write_loads_what_has_changed(engine: sa.Engine, backend: co.BaseBackend) -> None:
    shop = make_shop(engine, backend, on_commit="write")
    warm(shop)
    with shop.Session.begin() as session:
        session.execute(sa.delete(shop.Price))
        session.get(shop.Product, 1).name = "new"
        session.delete(session.get(shop.Product, 2))
    first, second = shop.products.query_many([1, 2]).cached_only().execute()
    assert first.name == "new"
    assert second is None


def test_write_needs_no_second_connection(url: str, memory: co.SimpleBackend) -> None:
    with engine_of(url, pool_size=1, max_overflow=0, pool_timeout=1) as engine:
        shop = make_shop(engine, memory, on_commit="write")
        with shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "new"
        (row,) = shop.products.query_many([1]).cached_only().execute()
        assert row.name == "new"


@pytest.mark.usefixtures("may_log")
@pytest.mark.parametrize("on_commit", ["delete", "write"])
def test_a_dead_cache_fails_no_transaction(sqlite: sa.Engine, on_commit: str, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server, co.RedisBackend(port=server.port, retry_after=0) as backend:
        shop = make_shop(sqlite, backend, on_commit=on_commit)
        warm(shop)
        server.kill()
        with shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "new"
    with shop.Session() as session:
        assert session.get(shop.Product, 1).name == "new"
    assert "ProductRow: 1 rows that a transaction has changed could not be removed" in caplog.text


@pytest.mark.usefixtures("may_log")
def test_what_a_cache_has_missed_is_remembered(sqlite: sa.Engine) -> None:
    with (
        RedisServer() as server,
        co.RedisBackend(port=server.port, on_failure="miss", operation_timeout=0.3, retry_after=0.01) as backend,
    ):
        shop = make_shop(sqlite, backend)
        warm(shop)
        server.pause()
        with shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "new"
        assert backend.pending_invalidations()[0] > 0
        assert shop.products.get(id=1).name == "new"
        server.resume()
        backend.retry_failed_servers()
        assert shop.products.get(id=1).name == "new"
        backend.ping()
        with co.RedisBackend(port=server.port) as other, co.bind([shop.products], backend=other):
            assert shop.products.get(id=1).name == "new"


def test_a_listener_of_the_user_sees_the_cache_without_the_rows(shop: SimpleNamespace) -> None:
    warm(shop)
    seen: list[Any] = []

    @sa.event.listens_for(shop.Session, "after_commit")
    def read(session: Session) -> None:
        seen.append(shop.products.get(id=1).name)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), shop.Session() as session:
        session.get(shop.Product, 1).name = "new"
        session.commit()
    sa.event.remove(shop.Session, "after_commit", read)
    assert seen == ["new"]


def test_sessions_that_nothing_refers_to_leave_nothing(url: str, memory: co.SimpleBackend) -> None:
    with engine_of(url, pool_size=1, max_overflow=0, pool_timeout=1) as engine:
        shop = make_shop(engine, memory)
        for _ in range(3):
            session: Any = shop.Session()
            session.get(shop.Product, 1).name = "new"
            session.flush()
            left = weakref.ref(session)
            del session
            gc.collect()
            assert left() is None
        assert shop.products.get(id=1).name == "product 1"  # by the only connection


# -- what lasts although the session has not committed it ------------------------------------------


@pytest.mark.parametrize("end", ["close", "rollback", "commit"])
def test_a_connection_that_commits_each_statement(url: str, memory: co.SimpleBackend, end: str) -> None:
    with engine_of(url) as engine:
        shop = make_shop(engine, memory)
        warm(shop)
        committing = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with Session(committing) as session:
            session.execute(sa.update(shop.Product).where(shop.Product.id == 1).values(name="new"))
            getattr(session, end)()
        committing.dispose()
        assert shop.products.get(id=1).name == "new"


def test_a_commit_whose_answer_is_lost(shop: SimpleNamespace, engine: sa.Engine) -> None:
    warm(shop)

    def lose(connection: Any) -> None:
        connection.commit()
        raise OSError("the connection is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.dialect, "do_commit", lose)
        with pytest.raises(OSError, match="gone"), shop.Session.begin() as session:
            session.get(shop.Product, 1).name = "new"
    assert shop.products.get(id=1).name == "new"
    assert gone(shop) == []


@pytest.mark.filterwarnings("ignore:transaction already deassociated")
def test_one_database_of_two_commits(tmp_path: Path, memory: co.SimpleBackend) -> None:
    with engine_of(f"sqlite:///{tmp_path}/one.db") as one, engine_of(f"sqlite:///{tmp_path}/two.db") as two:
        shops = [make_shop(each, memory, namespace=str(each.url.database)) for each in (one, two)]
        first, second = shops
        for each in shops:
            warm(each)
        binds = {first.Product: one, first.Brand: one, second.Product: two, second.Brand: two}
        left = []

        def fail(connection: Any) -> None:
            if left:
                raise OSError("the connection is gone")
            left.append(1)
            connection.commit()

        with pytest.MonkeyPatch.context() as patch:
            for engine in (one, two):
                patch.setattr(engine.dialect, "do_commit", fail)
            with pytest.raises(OSError, match="gone"), Session(binds=binds) as session, session.begin():
                session.get(first.Product, 1).name = "new"
                session.get(second.Product, 1).name = "new"
        for each in shops:
            with each.Session() as session:
                assert each.products.get(id=1).name == session.get(each.Product, 1).name


# -- said by hand ----------------------------------------------------------------------------------


def test_an_application_says_what_it_has_changed_by_hand(shop: SimpleNamespace) -> None:
    warm(shop)

    def execute(session: Any, pk: int) -> None:
        session.execute(sa.text("UPDATE products SET name = 'raw' WHERE id = :pk"), {"pk": pk})
        invalidate(shop.Product, iter([pk]), session=session)

    with shop.Session.begin() as session:
        execute(session, 1)
        with suppress(ZeroDivisionError), session.begin_nested():
            execute(session, 2)
            raise ZeroDivisionError
        assert gone(shop) == []
    assert gone(shop) == [1]
    with scoped_session(shop.Session)() as session:
        execute(session, 3)
    assert gone(shop) == [1]
    check(shop)
    other = cached(shop.Product, shop.Session, backend=co.SimpleBackend())
    other.query_many([4, 5]).execute()
    with shop.Session.begin() as session:
        invalidate(shop.Product, [4], session=session)
        invalidate(other, [5], session=session)
    assert gone(shop) == [1, 4]
    assert not other.exists(id=4)
    assert not other.exists(id=5)
    with pytest.raises(TypeError, match=r"invalidate\(\) takes a class that cached\(\) was called for, or has .*int"):
        invalidate(int, [1], session=shop.Session())
    with (
        shop.Session.begin() as session,
        pytest.raises(TypeError, match=r"a list of primary keys, got one str: write \[pk"),
    ):
        invalidate(shop.Product, "secret", session=session)
    with pytest.raises(co.CacheORMError, match=r"invalidate\(ProductRow\): the session is in no transaction"):
        invalidate(shop.Product, [1], session=shop.Session())


@pytest.mark.usefixtures("may_log")
def test_an_application_says_by_hand_that_any_row_may_have_changed(
    shop: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    warm(shop)
    with shop.Session.begin() as session:
        session.execute(sa.text("UPDATE products SET name = 'raw'"))
        invalidate(shop.Product, session=session)
    assert gone(shop) == [*PRODUCTS]
    assert "all rows are removed from the cache, since invalidate() was called for all of them" in caplog.text


# -- values that only the database finds equal -----------------------------------------------------


def test_a_key_of_another_type_or_case(sqlite: sa.Engine, memory: co.SimpleBackend) -> None:
    class Base(DeclarativeBase):
        pass

    class Word(Base):
        __tablename__ = "words"
        text: Mapped[str] = mapped_column(sa.String(collation="NOCASE"), primary_key=True)
        used: Mapped[int]

    class Number(Base):
        __tablename__ = "numbers"
        id: Mapped[int] = mapped_column(primary_key=True)
        used: Mapped[int]

    Base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    words, numbers = cached(Word, session, backend=memory), cached(Number, session, backend=memory)
    with session.begin() as made:
        made.add_all([Word(text="acme", used=0), *[Number(id=pk, used=0) for pk in range(1, 4)]])
    assert words.get(text="acme").used + numbers.get(id=1).used + numbers.get(id=2).used == 0
    with session.begin() as made:
        made.execute(sa.update(Word).where(Word.text == "ACME").values(used=1))
        made.execute(sa.update(Number).where(Number.id == "1").values(used=1))  # type: ignore[comparison-overlap]
        made.execute(sa.update(Number).where(Number.id.in_(["2", 3.0])).values(used=1))
    assert words.get(text="acme").used + numbers.get(id=1).used + numbers.get(id=2).used == 3


def test_the_extra_is_named_where_sqlalchemy_is_missing(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = """
import sys
sys.modules["sqlalchemy"] = None
try:
    import cacheorm.ext.sqlalchemy
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "cacheorm[sqlalchemy]"' in done.stdout
    assert cached.__module__.startswith("cacheorm.ext.sqlalchemy")
