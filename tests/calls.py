"""Calls of all that is compiled, each with inputs of its own: for tests that repeat every one of them.

A call is made anew for each try, so that none sees what the one before has left.
"""

from __future__ import annotations

import copy
import datetime as dt
import enum
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import cacheorm as co
from cacheorm.payload import LEASE

__all__ = ["CALLS", "Call", "Raised", "outcome", "payloads"]

# More than a list has room for when it is made, so that it has to grow.
COUNT = 6


class Call(NamedTuple):
    """What is called, and what is the same afterwards.

    Args:
        run: does it.
        show: makes what it returned comparable.
        inputs: what the call is given, and has no reference to when it is over.
    """

    run: Callable[[], Any]
    show: Callable[[Any], Any] = lambda result: result
    inputs: tuple[Any, ...] = ()


class Raised(NamedTuple):
    """Type and text of what a call raises."""

    kind: str
    text: str


CALLS: dict[str, Callable[[], Call]] = {}
"""What makes a call, by name."""


def call(make: Callable[[], Call]) -> Callable[[], Call]:
    CALLS[make.__name__] = make
    return make


def outcome(tried: Call) -> Any:
    """Return what a call gives, or :class:`Raised`."""
    try:
        return tried.show(tried.run())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return Raised(type(error).__name__, str(error))


# -- models --------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Shout(co.Field[Any]):
    """A field of an application's own."""

    def cache_value(self, value: Any) -> Any:
        return f"{value}!"

    def python_value(self, value: Any) -> Any:
        return value.removesuffix("!")


class Author(co.Model):
    id = co.UUIDField(primary_key=True)
    name = co.StringField()

    class Meta:
        namespace = "calls"


def make_model(serializer: Any, **meta: Any) -> Any:
    """Make a model with a field of every kind, on a backend of its own."""
    options = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": serializer, **meta})

    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        text = co.StringField()
        note = co.StringField(null=True)
        amount = co.IntegerField(default=lambda: 5)
        ratio = co.FloatField()
        price = co.DecimalField()
        yes = co.BooleanField()
        color = co.EnumField(Color)
        rights = co.EnumField(Rights)
        uuid = co.UUIDField()
        short = co.ShortUUIDField()
        data = co.BinaryField()
        day = co.DateField()
        hour = co.TimeField()
        naive = co.DateTimeField()
        aware = co.DateTimeTZField()
        stamp = co.TimestampField(6, utc=True)
        tags = co.ListField(co.StringField())
        grid = co.ListField(co.ListField(co.IntegerField(null=True)))
        json = co.JSONField()
        struct = co.StructField(lambda point: {"x": point[0], "y": point[1]}, lambda stored: (stored["x"], stored["y"]))
        shout = Shout()
        author = co.ForeignKeyField(Author, null=True)

        Meta = options

    return Row


def row_of(number: int) -> dict[str, Any]:
    """Make a row whose values nothing else refers to."""
    return {
        "id": 10**6 + number,
        "text": f"text {number} \u00e9",
        "note": None if number % 2 else f"note {number}",
        "ratio": number / 7,
        "price": Decimal(number) / 8,
        "yes": number % 2 == 0,
        "color": [Color.RED, "blue"][number % 2],
        "rights": Rights(number % 4),
        "uuid": UUID(int=10**20 + number),
        "short": UUID(int=10**30 + number),
        "data": b"data %d" % number,
        "day": dt.date(2024, 2, 1 + number),
        "hour": dt.time(12, number, 1, number),
        "naive": dt.datetime(2024, 2, 1 + number, 12, 30, 1, number),
        "aware": dt.datetime(2024, 2, 1 + number, 12, 30, 1, number, tzinfo=dt.UTC),
        "stamp": dt.datetime(2024, 2, 1 + number, 12, 30, 1, number),
        "tags": [f"tag {number} {place}" for place in range(COUNT)],
        "grid": [[number, None], [], [2**40 + number]],
        "json": {f"name {number}": [number / 3, None, f"json {number}", {"a": number}]},
        "struct": (number, f"point {number}"),
        "shout": f"shout {number}",
        "author": UUID(int=10**10 + number % 2),
    }


FORMATS: dict[str, Callable[[], Any]] = {
    "msgpack": lambda: make_model("msgpack"),
    "json": lambda: make_model("json"),
    "signed": lambda: make_model(co.PickleSerializer(secret="secret")),
    "compressed": lambda: make_model("msgpack", compress=co.Zstd(10), version=3),
}

MODELS = {name: make() for name, make in FORMATS.items()}


def payloads() -> list[bytes | None]:
    """Return what is stored for all rows of all models, with ``None`` for a miss or a lease that was given back."""
    pks = [10**6 + number for number in range(COUNT)]
    found = [model._meta.backend.get_many(*(model.key(id=pk) for pk in pks)) for model in MODELS.values()]
    return [None if one == LEASE else one for some in found for one in some]


def shown(found: Any) -> Any:
    """Return the values of instances, by the types that they have."""
    if isinstance(found, co.Model):
        return [(type(value).__name__, repr(value)) for value in found.to_dict().values()]
    if isinstance(found, dict):
        return {repr(key): shown(value) for key, value in found.items()}
    return [shown(one) for one in found] if isinstance(found, list) else found


def fresh(model: Any, count: int = COUNT) -> list[dict[str, Any]]:
    """Empty the backend of a model, and make rows for it."""
    model._meta.backend.clear(everything=True)
    return [row_of(number) for number in range(count)]


def parts(given: Any) -> Iterator[Any]:
    """Give what rows are made of, other than what is shared: constants of one word, small numbers, members of enums."""
    if isinstance(given, (dict, list, tuple)):
        yield given
        for one in given.values() if isinstance(given, dict) else given:
            yield from parts(one)
    elif isinstance(given, int):
        yield from (given,) if given > 1000 else ()
    elif not isinstance(given, (float, enum.Enum, type(None))) and not (isinstance(given, str) and given.isalpha()):
        yield given


def stored(model: Any) -> list[int]:
    """Store rows, and return their primary keys."""
    model.insert_many(fresh(model)).execute()
    return [10**6 + number for number in range(COUNT)]


def each_format(make: Callable[[Any], Call]) -> Callable[[Any], Call]:
    for name, model in MODELS.items():
        CALLS[f"{make.__name__}_{name}"] = lambda model=model: make(model)  # type: ignore[misc]
    return make


# -- operations ----------------------------------------------------------------------------------------


@each_format
def insert_many(model: Any) -> Call:
    given = fresh(model)
    return Call(lambda: model.insert_many(given).execute(), shown, (*parts(given),))


@each_format
def insert_many_instances(model: Any) -> Call:
    given = [model(**row) for row in fresh(model)]
    return Call(lambda: model.insert_many(given).execute(), shown, (*given,))


@each_format
def insert_one(model: Any) -> Call:
    (given,) = fresh(model, 1)
    return Call(lambda: model.create(**given), shown, (*parts(given),))


@each_format
def query_many(model: Any) -> Call:
    pks = [*stored(model), 5]
    given: list[Any] = [{"id": pk} for pk in pks]
    return Call(lambda: model.query_many(given).execute(), shown, (*parts([given]),))


@each_format
def get_many(model: Any) -> Call:
    given = [*stored(model), 5]
    return Call(lambda: model.get_many(given), shown, (given, *given[:-1]))


@each_format
def get(model: Any) -> Call:
    pk = stored(model)[0]
    return Call(lambda: model.get(id=pk), shown, (pk,))


@each_format
def update_many(model: Any) -> Call:
    given = [{"id": pk, "text": f"other {pk}", "price": Decimal(pk), "tags": [f"t{pk}"]} for pk in stored(model)]
    return Call(lambda: model.update_many(given).execute(), shown, (*parts(given),))


@each_format
def update_atomic(model: Any) -> Call:
    given = [{"id": pk, "text": f"other {pk}", "note": None} for pk in stored(model)]
    return Call(lambda: model.update_many(given).atomic().execute(), shown, (*parts(given),))


@each_format
def save(model: Any) -> Call:
    found = model.get(id=stored(model)[0])

    def run() -> Any:
        found.text = "assigned"
        found.json["more"] = [1]
        return found.save(), found

    return Call(run, lambda result: shown([*result]))


@each_format
def increment(model: Any) -> Call:
    pk = stored(model)[0]
    return Call(lambda: model.increment(pk, "amount"), shown)


@each_format
def delete_many(model: Any) -> Call:
    given = stored(model)
    return Call(lambda: model.delete_many(given).execute(), shown, (given, *given))


@each_format
def validate(model: Any) -> Call:
    given = model(**fresh(model, 1)[0])
    return Call(given.validate, shown)


@each_format
def refused(model: Any) -> Call:
    """A row of a batch with wrong values."""
    given = fresh(model)
    given[3] |= {"amount": "many", "color": "green", "aware": "now", "tags": [None]}
    return Call(lambda: model.insert_many(given).execute(), shown, (*parts(given),))


@each_format
def unreadable(model: Any) -> Call:
    pks = stored(model)
    backend = model._meta.backend
    key = model.key(id=pks[2])
    backend.set(key, backend.get(key)[:-3])
    return Call(lambda: model.query_many(pks).execute(), shown, (pks, *pks))


@call
def several_models() -> Call:
    model, other = MODELS["msgpack"], MODELS["json"]
    given = [(model, fresh(model)), (other, fresh(other))]
    pks = [(model, [10**6 + number for number in range(COUNT)]), (other, [10**6, 10**6 + 1])]

    def run() -> Any:
        co.Insert(given).execute()
        return co.Query(pks).execute()

    return Call(run, shown, (given, *parts([one for _, one in given])))


@call
def preload() -> Call:
    model = MODELS["msgpack"]
    Author._meta.backend.clear(everything=True)
    Author.insert_many([{"id": UUID(int=10**10 + number), "name": f"author {number}"} for number in range(2)]).execute()
    pks = stored(model)

    def run() -> Any:
        found = model.query_many(pks).preload(model.author).execute()
        return [one.author.name for one in found]

    return Call(run, inputs=(pks, *pks))


@call
def load_missing() -> Call:
    model = MODELS["msgpack"]
    by_pk = {row["id"]: row for row in fresh(model)}

    def load(pks: list[Any]) -> list[Any]:
        return [by_pk[pk] for pk in pks]

    return Call(lambda: model.query_many([*by_pk]).load_missing(load).execute(), shown)


@call
def get_or_create() -> Call:
    model = MODELS["msgpack"]
    (given,) = fresh(model, 1)
    return Call(lambda: model.get_or_create(given, id=given["id"])[0], shown, (*parts(given),))


@call
def lifetimes() -> Call:
    model = MODELS["msgpack"]
    pks = stored(model)
    return Call(lambda: (model.expire_many(pks, 50), model.exists(id=pks[0])), inputs=(pks, *pks))


@call
def dicts() -> Call:
    model = MODELS["msgpack"]
    given = model(**fresh(model, 1)[0])
    return Call(lambda: (given.to_dict(), copy.copy(given), copy.deepcopy(given)), lambda r: shown([*r]))
