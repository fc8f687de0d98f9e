"""All shapes of rows that are compared: the standard row, and rows in which one thing is different."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import cacheorm as co

from .cities import CITIES
from .rows import STANDARD, Packer, Row, Shape, User, int_keys, of_size

__all__ = ["RELATED", "SHAPES"]


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


def _uuid_keys(pks: Sequence[UUID]) -> list[str]:
    return [f"m:session:id:{pk.hex}" for pk in pks]


RELATED = Shape("foreign keys", Comment, _comment, int_keys("comment"), _comment_entries)

SHAPES = [
    STANDARD,
    Shape("UUID key", Session, _session, _uuid_keys, _session_entries),
    Shape("Decimal", Price, _price, int_keys("price"), _price_entries),
    Shape("dates", Stay, _stay, int_keys("stay"), _stay_entries),
    Shape("lists", Post, _post, int_keys("post"), _post_entries),
    Shape("struct", Place, _place, int_keys("place"), _place_entries, restore=_restore_place),
    Shape("composite key", Like, _like, _like_keys, _like_entries, primary_key=("user", "article")),
    RELATED,
    Shape("1 field", Flag, lambda n: {"id": n, "value": f"value {n}"}, int_keys("flag"), _flag_entries),
    of_size(40),
    CITIES,
]
