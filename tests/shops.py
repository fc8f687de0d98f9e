"""Databases through SQLAlchemy, and a shop of mapped and cached classes in one, for tests and benchmarks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached

__all__ = ["engine_of", "make_shop", "prepare_sqlite"]


class engine_of:
    """An engine that is disposed of at the end; SQLite checks foreign keys."""

    def __init__(self, url: str, **options: Any) -> None:
        self.engine = sa.create_engine(url, **options)
        if self.engine.dialect.name == "sqlite":
            prepare_sqlite(self.engine)

    def __enter__(self) -> sa.Engine:
        return self.engine

    def __exit__(self, *exc_info: object) -> None:
        self.engine.dispose()


def prepare_sqlite(engine: sa.Engine) -> None:
    """Have SQLite check foreign keys, and begin transactions before savepoints, as SQLAlchemy advises."""

    def connect(made: Any, record: Any) -> None:
        made.isolation_level = None
        made.execute("PRAGMA foreign_keys = ON")

    sa.event.listen(engine, "connect", connect)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))


def make_shop(engine: sa.Engine, backend: co.BaseBackend | None, **options: Any) -> SimpleNamespace:
    """Map brands, products and prices, insert some, and cache them unless there is no backend."""

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
    if backend is not None:
        shop.brands, shop.products, shop.prices = (
            cached(mapped, session, backend=backend, ttl=600, **options) for mapped in (BrandRow, ProductRow, PriceRow)
        )
    return shop
