"""Databases for the tests of models in front of mapped classes, and a small shop in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached

Shop = Callable[..., SimpleNamespace]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    found: str = request.getfixturevalue("postgres_url")
    return found.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    with engine_of(url) as engine:
        yield engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine for SQLite, for what does not depend on the database."""
    with engine_of(f"sqlite:///{tmp_path}/test.db") as engine:
        yield engine


class engine_of:
    """An engine that is disposed of at the end; SQLite checks foreign keys."""

    def __init__(self, url: str, **options: Any) -> None:
        self.engine = sa.create_engine(url, **options)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys = ON"))

    def __enter__(self) -> sa.Engine:
        return self.engine

    def __exit__(self, *exc_info: object) -> None:
        self.engine.dispose()


def make_shop(engine: sa.Engine, backend: co.BaseBackend, **options: Any) -> SimpleNamespace:
    """Map brands, products and reviews, cache them, and insert some."""

    class Base(DeclarativeBase):
        pass

    class BrandRow(Base):
        __tablename__ = "brands"
        code: Mapped[str] = mapped_column(primary_key=True)
        country: Mapped[str]
        products: Mapped[list[ProductRow]] = relationship(back_populates="brand", cascade="all, delete-orphan")

    class ProductRow(Base):
        __tablename__ = "products"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        stock: Mapped[int] = mapped_column(server_default="0")
        brand_code: Mapped[str | None] = mapped_column(sa.ForeignKey("brands.code"))
        brand: Mapped[BrandRow | None] = relationship(back_populates="products")

    class PriceRow(Base):
        __tablename__ = "prices"
        country: Mapped[str] = mapped_column(primary_key=True)
        product_id: Mapped[int] = mapped_column(sa.ForeignKey("products.id"), primary_key=True)
        cents: Mapped[int]

    # Annotations name classes of this function.
    names = {"BrandRow": BrandRow, "ProductRow": ProductRow}
    Base.registry._class_registry.update(names)
    Base.metadata.create_all(engine)
    session = sessionmaker(engine)
    shop = SimpleNamespace(Base=Base, Brand=BrandRow, Product=ProductRow, Price=PriceRow, Session=session)
    with session.begin() as made:
        made.add_all([BrandRow(code=code, country="fr") for code in ("acme", "omni")])
        made.flush()
        made.add_all([ProductRow(id=pk, name=f"product {pk}", brand_code="acme") for pk in range(1, 6)])
        made.flush()
        made.add_all([PriceRow(country=country, product_id=1, cents=100) for country in ("fr", "de")])
    shop.brands, shop.products, shop.prices = (
        cached(mapped, session, backend=backend, ttl=600, **options) for mapped in (BrandRow, ProductRow, PriceRow)
    )
    return shop


@pytest.fixture
def shop(engine: sa.Engine, memory: co.SimpleBackend) -> SimpleNamespace:
    return make_shop(engine, memory)
