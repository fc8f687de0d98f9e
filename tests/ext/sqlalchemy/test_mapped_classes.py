"""Models of mapped classes: fields by the types of columns, foreign keys, and which columns are cached."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
import pickle
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    declarative_base,
    deferred,
    mapped_column,
    registry,
    relationship,
    scoped_session,
    sessionmaker,
    with_loader_criteria,
)

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Shape(enum.Enum):
    SQUARE = (1, 1)
    WIDE = (2, 1)


class Json(sa.TypeDecorator[Any]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return json.dumps(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return json.loads(value)


class Instant(sa.TypeDecorator[dt.datetime]):
    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.replace(tzinfo=dt.UTC)


class Cents(sa.TypeDecorator[int]):
    impl = sa.String
    cache_ok = True

    @property
    def python_type(self) -> type:
        return int

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return int(value)


NAIVE = dt.datetime(2024, 2, 29, 12, 30, 0, 123456)
AWARE = NAIVE.replace(tzinfo=dt.timezone(dt.timedelta(hours=2)))

EVERYWHERE = {
    "integer": (sa.Integer(), -5),
    "big": (sa.BigInteger(), 2**62),
    "numeric": (sa.Numeric(12, 4), Decimal("12.3400")),
    "numeric_float": (sa.Numeric(12, 4, asdecimal=False), 1.5),
    "real": (sa.Float(), 0.25),
    "text": (sa.Text(), "ä\x00b".replace("\x00", "")),
    "boolean": (sa.Boolean(), True),
    "date": (sa.Date(), NAIVE.date()),
    "time": (sa.Time(), NAIVE.time()),
    "naive": (sa.DateTime(), NAIVE),
    "interval": (sa.Interval(), dt.timedelta(days=-1, microseconds=7)),
    "guid": (sa.Uuid(), uuid.UUID(int=7)),
    "guid_text": (sa.Uuid(as_uuid=False), str(uuid.UUID(int=7))),
    "member": (sa.Enum(Color), Color.BLUE),
    "odd_member": (sa.Enum(Shape), Shape.WIDE),
    "choice": (sa.Enum("a", "b", name="choice"), "b"),
    "json": (sa.JSON(), {"a": [1, None, "x"]}),
    "binary": (sa.LargeBinary(), b"\x00\xff"),
    "decorated": (Json(), {"b": [1]}),
    "instant": (Instant(), AWARE.astimezone(dt.UTC)),
    "cents": (Cents(), 150),
}
POSTGRESQL = {
    "aware": (sa.DateTime(timezone=True), AWARE),
    "aware_time": (sa.Time(timezone=True), AWARE.timetz()),
    "array": (sa.ARRAY(sa.Integer()), [1, None, 3]),
    "matrix": (pg.ARRAY(sa.Text(), dimensions=2), [["a", "b"], ["c", "d"]]),
    "members": (pg.ARRAY(sa.Enum(Color, name="color2")), [Color.RED]),
    "jsonb": (pg.JSONB(), [{"a": 1.5}]),
    "hstore_like": (pg.JSON(), "text"),
    "nan": (pg.DOUBLE_PRECISION(), float("inf")),
}


@pytest.mark.filterwarnings("ignore:Dialect sqlite.* does .*not.* support Decimal")
@pytest.mark.parametrize(
    ("backend", "serializer"),
    [*[(kind, "msgpack") for kind in ("simple", "file", "redis", "memcached")], ("simple", "json")],
    indirect=["backend"],
)
def test_values_are_those_of_the_database(engine: sa.Engine, backend: co.BaseBackend, serializer: str) -> None:
    values = EVERYWHERE | (POSTGRESQL if engine.dialect.name == "postgresql" else {})
    if serializer == "json":
        values = {name: pair for name, pair in values.items() if name != "nan"}
    base: Any = declarative_base()
    columns: dict[str, Any] = {name: sa.Column(kind, nullable=True) for name, (kind, _) in values.items()}
    Row = type("Row", (base,), {"__tablename__": "rows", "id": sa.Column(sa.Integer, primary_key=True), **columns})
    Row.metadata.create_all(engine)
    session = sessionmaker(engine)
    model = cached(Row, session, backend=backend, serializer=serializer)
    with session.begin() as made:
        made.add(Row(id=1, **{name: value for name, (_, value) in values.items()}))
        # A decorator makes what it wants of None.
        made.add(Row(id=2, **{name: values[name][1] for name in ("decorated", "instant", "cents")}))
    with session() as made:
        row, empty = made.get(Row, 1), made.get(Row, 2)
        for read in ("loaded", "from the cache"):
            first, second = model.query_many([1, 2]).execute()
            for name, (_, value) in values.items():
                assert getattr(first, name) == value == getattr(row, name), (read, name)
                assert getattr(second, name) == getattr(empty, name), (read, name)
        assert model.exists(id=1)
        model.delete_many([1, 2]).execute()
        for name, (kind, value) in values.items():
            if not isinstance(value, (list, dict, float)) and name not in ("interval", "odd_member", "aware_time"):
                assert type(getattr(model.get(id=1), name)) is type(value), (name, kind)


def test_datetimes_with_time_zone_are_utc_where_the_database_keeps_none(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True))

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    with session.begin() as made:
        made.add(Row(id=1, at=NAIVE.replace(tzinfo=dt.UTC)))
    model = cached(Row, session)
    assert model.get(id=1).at == NAIVE.replace(tzinfo=dt.UTC)
    assert model.get(id=1).at == NAIVE.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (sa.Integer(), 5),
        (sa.String(), "a:b c"),
        (sa.Uuid(), uuid.UUID(int=9)),
        (sa.Date(), NAIVE.date()),
        (sa.DateTime(), NAIVE),
        (sa.Enum(Color), Color.RED),
        (sa.LargeBinary(), b"\xff"),
        (Cents(), 7),
    ],
)
def test_primary_keys_of_any_type(engine: sa.Engine, kind: Any, value: Any) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        code: Mapped[Any] = mapped_column(kind, primary_key=True)
        other: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    class Single(base):
        __tablename__ = "singles"
        code: Mapped[Any] = mapped_column(kind, primary_key=True)
        text: Mapped[str]

    base.metadata.create_all(engine)
    session = sessionmaker(engine)
    rows, singles = cached(Row, session), cached(Single, session)
    with session.begin() as made:
        made.add_all([Row(code=value, other=1, text="old"), Single(code=value, text="old")])
    for text in ("old", "new"):
        for _ in range(2):
            assert rows.get(code=value, other=1).text == text
            assert rows.query_many([(value, 1), (value, 2)]).execute()[1] is None
            assert singles.get(code=value).text == text
        with session.begin() as made:
            made.get(Row, (value, 1)).text = "new"
            made.get(Single, value).text = "new"


def test_a_type_without_a_field_is_an_error_that_names_the_ways_out(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        address: Mapped[Any] = mapped_column(pg.INET())
        pickled: Mapped[Any] = mapped_column(sa.PickleType())

    message = r"Row.address: there is no field for a column of type INET.*exclude=\['address'\].*fields={'address'"
    with pytest.raises(TypeError, match=message):
        cached(Row, sessionmaker(sqlite))
    with pytest.raises(TypeError, match=r"Row.pickled: .* PickleType"):
        cached(Row, sessionmaker(sqlite), exclude=["address"])
    model = cached(Row, sessionmaker(sqlite), exclude=["pickled"], fields={"address": co.StringField()})
    assert [*model._meta.fields] == ["id", "address"]


# -- which columns -------------------------------------------------------------------------------


def test_names_are_those_of_attributes_and_what_is_no_column_is_left_out(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        number: Mapped[int] = mapped_column("pk", primary_key=True)
        name: Mapped[str] = mapped_column("full_name")
        length = column_property(sa.func.length("full_name"))

        @hybrid_property
        def loud(self) -> str:
            return self.name.upper()

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    model = cached(Row, session)
    with session.begin() as made:
        made.add(Row(number=1, name="Sam"))
    assert model.get(number=1).to_dict() == {"number": 1, "name": "Sam"}
    with session.begin() as made:
        made.execute(sa.update(Row).where(Row.number == 1).values(name="Bob"))
    assert model.get(number=1).name == "Bob"


def test_deferred_columns_are_left_out_unless_they_are_named(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        body = deferred(sa.Column(sa.Text))
        notes: Mapped[str] = mapped_column(deferred=True)

    session = sessionmaker(sqlite)

    def names(**options: Any) -> list[str]:
        return [*cached(Row, session, name=f"row{len(str(options))}-{sorted(options)}", **options)._meta.fields]

    assert names() == ["id", "name"]
    assert names(include=["body"]) == ["id", "name", "body"]
    assert names(only=["notes"]) == ["id", "notes"]
    assert names(only=["name", "id"], include=["body"]) == ["id", "name", "body"]
    assert names(exclude=("name",)) == ["id"]
    with pytest.raises(TypeError, match=r"cached\(Row\): exclude names 'nmae', which is no column of it; .*'name'"):
        names(exclude=["nmae"])
    with pytest.raises(TypeError, match=r"'id' is of the primary key"):
        names(exclude=["id"])
    with pytest.raises(TypeError, match=r"only is a list of names.*\['name'\]"):
        names(only="name")


def test_two_models_of_one_class_need_two_names(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        stock: Mapped[int]

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    all_of_it = cached(Row, session)
    with pytest.raises(TypeError, match=r"Row is cached already, with other columns .* name='...'"):
        cached(Row, session, only=["name"])
    short = cached(Row, session, only=["name"], name="short")
    again = cached(Row, session)  # the same cell of a notebook
    with session.begin() as made:
        made.add(Row(id=1, name="a", stock=1))
    for model in (all_of_it, short, again):
        assert model.get(id=1).name == "a"
    with session.begin() as made:
        made.get(Row, 1).name = "b"
    for model in (all_of_it, short, again):
        assert model.get(id=1).name == "b"


def test_a_model_may_inherit_a_cached_one(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)

    class Named(cached(Row, session)):  # type: ignore[misc]
        def greet(self) -> str:
            return f"Hello {self.name}"

    with session.begin() as made:
        made.add(Row(id=1, name="a"))
    assert Named.get(id=1).greet() == "Hello a"
    with session.begin() as made:
        made.get(Row, 1).name = "b"
    assert Named.get(id=1).greet() == "Hello b"


def test_models_that_inherit_one_of_several_of_a_class(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)

    class One(cached(Row, session)):  # type: ignore[misc]
        pass

    class Two(cached(Row, session, abstract=True)):  # type: ignore[misc]
        pass

    with session.begin() as made:
        made.add(Row(id=1, name="a"))
    assert [model.get(id=1).name for model in (One, Two)] == ["a", "a"]
    with session.begin() as made:
        made.get(Row, 1).name = "b"
    assert [model.get(id=1).name for model in (One, Two)] == ["b", "b"]


class PickledBase(DeclarativeBase):
    pass


class PickledRow(PickledBase):
    __tablename__ = "pickled"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_rows_pickle_and_copy(tmp_path: Path, memory: co.SimpleBackend) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/test.db")
    PickledBase.metadata.create_all(engine)
    session = sessionmaker(engine)
    model = cached(PickledRow, session, backend=memory, name="pickled")
    short = cached(PickledRow, session, backend=memory, name="short", only=[])
    with session.begin() as made:
        made.add(PickledRow(id=1, name="a"))
    row = model.get(id=1)
    for again in (*[pickle.loads(pickle.dumps(row, each)) for each in range(6)], copy.copy(row), copy.deepcopy(row)):
        assert type(again) is model
        assert (again, again.name) == (row, "a")
    for kind in (model.DoesNotExist, model.DoesNotExist.Related):
        error = pickle.loads(pickle.dumps(kind("a text")))
        assert (type(error), str(error)) == (kind, "a text")
    stored = pickle.dumps([row, short.get(id=1)])
    assert [type(each) for each in pickle.loads(stored)] == [model, short]
    with pytest.raises(co.CacheORMError, match=r"PickledRow cannot be unpickled, as .* has not called cached\(\)"):
        pickle.loads(stored.replace(b"m:short", b"m:other"))
    engine.dispose()


PROGRAM = """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from cacheorm.ext.sqlalchemy import cached

class Base(DeclarativeBase):
    pass

class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)

engine = sa.create_engine("sqlite:///" + sys.argv[1])
CachedRow = cached(Row, sessionmaker(engine))

def same(row):
    return row

if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with sessionmaker(engine).begin() as session:
        session.add(Row(id=1))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print(type(pool.submit(same, CachedRow.get(id=1)).result()) is CachedRow)
"""


def test_rows_go_to_other_processes_and_back(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    program = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "test.db")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_options_are_those_of_meta(sqlite: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)

    session = sessionmaker(sqlite)
    model = cached(Row, session, backend=memory, ttl=5, namespace="shop", name="r", negative_ttl=3)
    assert model.key(id=1) == "shop:m:r:id:1"
    assert model._meta.options.negative_ttl == 3
    with pytest.raises(TypeError, match="no option 'tll'"):
        cached(Row, session, tll=5)
    with pytest.raises(TypeError, match=r"cached\(Row\): loader follows from the class"):
        cached(Row, session, loader=print)
    with pytest.raises(ValueError, match="on_commit is 'delete' or 'write'"):
        cached(Row, session, on_commit="update")


def test_what_is_no_mapped_class_or_makes_no_sessions_is_refused(sqlite: sa.Engine) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)

    class View(base):
        __table__ = sa.select(Row.__table__).subquery()
        __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012

    session = sessionmaker(sqlite)
    with pytest.raises(TypeError, match="takes a class that SQLAlchemy maps, got dict"):
        cached(dict, session)
    with pytest.raises(TypeError, match="takes a class that SQLAlchemy maps, got Table"):
        cached(Row.__table__, session)
    with pytest.raises(TypeError, match=r"cached\(View\): it is mapped to a Subquery and not to a table"):
        cached(View, session)
    with session() as made, pytest.raises(TypeError, match=r"sessionmaker\(engine\), got Session"):
        cached(Row, made)
    with pytest.raises(TypeError, match="got Engine"):
        cached(Row, sqlite)  # type: ignore[arg-type]


def test_classes_that_are_mapped_imperatively(sqlite: sa.Engine) -> None:
    class Row:
        pass

    mapping = registry()
    table = sa.Table("rows", mapping.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.String))
    mapping.map_imperatively(Row, table, properties={"name": table.c.n})
    mapping.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    model = cached(Row, session)
    with session.begin() as made:
        row: Any = Row()
        row.id, row.name = 1, "a"
        made.add(row)
    assert model.get(id=1).name == "a"


# -- inheritance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [False, True])
def test_classes_that_inherit_others(engine: sa.Engine, joined: bool) -> None:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    class Manager(Person):
        __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012
        if joined:
            __tablename__ = "managers"
            id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
        level: Mapped[int | None]

    Base.metadata.create_all(engine)
    session = sessionmaker(engine)
    people, managers = cached(Person, session), cached(Manager, session)
    with session.begin() as made:
        made.add_all([Person(id=1, name="a"), Manager(id=2, name="b", level=1)])
    for name in ("b", "c"):
        assert [row and row.name for row in people.query_many([1, 2]).execute()] == ["a", name]
        assert managers.query_many([1]).execute() == [None]
        assert managers.get(id=2).to_dict() == {"id": 2, "kind": "manager", "name": name, "level": 1}
        with session.begin() as made:
            made.get(Person, 2).name = "c"
    with session.begin() as made:
        made.execute(sa.update(Person).where(Person.name == "c").values(name="d"))
        made.execute(sa.update(Manager).values(level=5))
    assert people.get(id=2).name == "d"
    assert managers.get(id=2).to_dict() == {"id": 2, "kind": "manager", "name": "d", "level": 5}
    with session.begin() as made:
        made.delete(made.get(Manager, 2))
    assert people.get_or_none(id=2) is None
    assert managers.get_or_none(id=2) is None


# -- relations -----------------------------------------------------------------------------------


def test_relations_are_foreign_keys_whatever_is_declared_first(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()
    session = sessionmaker(engine)

    class Review(base):
        __tablename__ = "reviews"
        id: Mapped[int] = mapped_column(primary_key=True)
        product_id: Mapped[int] = mapped_column(sa.ForeignKey("products.id"))
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("reviews.id"))
        author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("authors.id"))
        product = relationship("Product")
        parent = relationship("Review", remote_side="Review.id")

    reviews = cached(Review, session, backend=memory)

    class Author(base):
        __tablename__ = "authors"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Product(base):
        __tablename__ = "products"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(engine)
    with session.begin() as made:
        made.add_all([Product(id=7, name="a"), Author(id=3)])
        made.flush()
        made.add(Review(id=1, product_id=7))
        made.flush()
        made.add(Review(id=2, product_id=7, parent_id=1, author_id=3))
    for _ in range(2):
        second = reviews.get(id=2)
        assert (second.product_id, second.parent_id, second.author_id) == (7, 1, 3)
        assert second.parent == reviews.get(id=1)
        assert second.parent.parent is None
        with pytest.raises(co.CacheORMError, match=r"Review.product refers to Product, which is not cached: call"):
            second.product.name  # noqa: B018
    products = cached(Product, session, backend=memory)
    assert reviews.get(id=2).product == products.get(id=7)
    rows = reviews.query_many([1, 2]).preload("product", "parent.product").execute()
    assert rows[1].parent.product.name == "a"
    assert reviews(id=3, product=products.get(id=7)).product_id == 7
    assert reviews.get(id=2).to_dict() == {"id": 2, "product": 7, "parent": 1, "author_id": 3}


def test_a_relation_of_configured_classes_may_have_any_name(sqlite: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()

    class Team(base):
        __tablename__ = "teams"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(unique=True)
        games = relationship("Game", foreign_keys="Game.host", back_populates="home")

    class Game(base):
        __tablename__ = "games"
        id: Mapped[int] = mapped_column(primary_key=True)
        host: Mapped[int] = mapped_column(sa.ForeignKey("teams.id"))
        guest: Mapped[int] = mapped_column(sa.ForeignKey("teams.id"))
        prize_code: Mapped[str] = mapped_column(sa.ForeignKey("teams.code"))
        home = relationship(Team, foreign_keys=[host], back_populates="games")
        away = relationship(Team, foreign_keys=[guest])
        prize = relationship(Team, foreign_keys=[prize_code])

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    teams, games = cached(Team, session, backend=memory), cached(Game, session, backend=memory)
    with session.begin() as made:
        made.add_all([Team(id=1, code="x"), Team(id=2, code="y")])
        made.flush()
        made.add(Game(id=1, host=1, guest=2, prize_code="y"))
    game = games.get(id=1)
    assert (game.host, game.guest, game.prize_code) == (1, 2, "y")
    assert (game.home, game.away) == (teams.get(id=1), teams.get(id=2))
    plain = cached(Game, session, backend=memory, exclude=["home", "away"], name="plain")
    assert plain.get(id=1).to_dict() == {"id": 1, "host": 1, "guest": 2, "prize_code": "y"}


def test_foreign_keys_may_be_part_of_a_composite_key(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()

    class Order(base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Line(base):
        __tablename__ = "lines"
        order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
        place: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        order = relationship(Order)

    class Profile(base):
        __tablename__ = "profiles"
        order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
        order = relationship(Order)

    base.metadata.create_all(engine)
    session = sessionmaker(engine)
    orders, lines, profiles = (cached(mapped, session, backend=memory) for mapped in (Order, Line, Profile))
    with session.begin() as made:
        made.add_all([Order(id=5)])
        made.flush()
        made.add_all([Line(order_id=5, place=1, text="a"), Line(order_id=5, place=2, text="b"), Profile(order_id=5)])
    assert [row and row.text for row in lines.query_many([(5, 2), (5, 1), (6, 1)]).execute()] == ["b", "a", None]
    assert lines.get(order_id=5, place=1).order == orders.get(id=5)
    assert profiles.get(order_id=5).order == orders.get(id=5)
    with session.begin() as made:
        made.get(Line, (5, 1)).text = "c"
    assert lines.get(order_id=5, place=1).text == "c"


# -- loading -------------------------------------------------------------------------------------


def test_rows_are_read_in_parts(engine: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Pair(base):
        __tablename__ = "pairs"
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(engine)
    session = sessionmaker(engine)
    rows, pairs = cached(Row, session, backend=memory), cached(Pair, session, backend=memory)
    with session.begin() as made:
        made.execute(sa.insert(Row), [{"id": pk} for pk in range(0, 2400, 2)])
        made.execute(sa.insert(Pair), [{"a": pk, "b": pk} for pk in range(700)])
    statements: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    assert [row is not None for row in rows.query_many(range(2400)).execute()] == [True, False] * 1200
    assert len(statements) == 3
    found = pairs.query_many([*[(pk, pk) for pk in range(700)], (1, 2)]).execute()
    assert [row is not None for row in found] == [True] * 700 + [False]
    assert len(statements) == 5


def test_criteria_that_listeners_add_hold_for_the_loader(sqlite: sa.Engine, memory: co.SimpleBackend) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_deleted: Mapped[bool]

    base.metadata.create_all(sqlite)
    session = sessionmaker(sqlite)
    rows = cached(Row, session, backend=memory)
    with session.begin() as made:
        made.add_all([Row(id=1, is_deleted=False), Row(id=2, is_deleted=True)])
    assert [row is not None for row in rows.query_many([1, 2]).execute()] == [True, True]

    @sa.event.listens_for(session, "do_orm_execute")
    def leave_out(state: Any) -> None:
        state.statement = state.statement.options(with_loader_criteria(Row, Row.is_deleted.is_(False)))

    memory.clear()
    assert [row is not None for row in rows.query_many([1, 2]).execute()] == [True, False]


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_the_loader_closes_its_own_session_and_leaves_others_alone(sqlite: sa.Engine, ends: str) -> None:
    base: Any = declarative_base()

    class Row(base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    if ends == "well":
        base.metadata.create_all(sqlite)
    session = scoped_session(sessionmaker(sqlite))
    model = cached(Row, session)
    pool: Any = sqlite.pool
    if ends == "well":
        mine = session()
        mine.add(Row(id=1, name="not committed"))
        mine.flush()
        assert model.get_or_none(id=1) is None
        assert pool.checkedout() == 1
        mine.commit()
        assert model.get(id=1).name == "not committed"
    else:
        with pytest.raises(sa.exc.OperationalError, match="no such table"):
            model.get(id=1)
    session.remove()
    assert pool.checkedout() == 0
