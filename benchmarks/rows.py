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
from functools import cache
from typing import Any

import cacheorm as co

__all__ = ["STANDARD", "Gender", "Packer", "Row", "Shape", "User", "changes", "int_keys", "of_size"]

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


def int_keys(name: str) -> Callable[[Sequence[Any]], list[str]]:
    """Return the hand-written code that makes keys of a model from whole numbers."""
    prefix = f"m:{name}:id:"
    return lambda pks: [f"{prefix}{pk}" for pk in pks]


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
