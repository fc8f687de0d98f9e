"""Rows whose primary keys are equal in Python are one row, wherever keys are made, compared or hashed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

import cacheorm as co


class Case(NamedTuple):
    """A kind of key, and values that are equal and stand for one row; the last is of another row."""

    field: type[co.Field[Any]]
    equal: list[Any]
    other: Any


CASES = {
    "decimal": Case(co.DecimalField, [5, Decimal("5.00"), Decimal(5), Decimal("0.5E+1")], Decimal("5.01")),
    "float": Case(co.FloatField, [0.0, -0.0, 0], 0.5),
    "list": Case(lambda: co.ListField(co.DecimalField()), [[1, Decimal("2.0")], (Decimal("1.00"), 2)], [1, 3]),  # type: ignore[arg-type]
    "json": Case(co.JSONField, [{"a": 1, "b": [0.0]}, {"b": [-0.0], "a": 1.0}], {"a": 2}),
    "structure": Case(lambda: co.StructField(json.dumps, json.loads), [{"a": 1, "b": 2}, {"b": 2, "a": 1}], {}),  # type: ignore[arg-type]
}


class Models(NamedTuple):
    Price: Any
    Order: Any
    equal: list[Any]
    other: Any

    @property
    def hashable(self) -> bool:
        try:
            hash(self.equal[0])
        except TypeError:
            return False
        return True


@pytest.fixture(params=["msgpack", "json"])
def serializer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES)
def models(request: pytest.FixtureRequest, backend: co.BaseBackend, serializer: str) -> Models:
    case = CASES[request.param]
    key: Any = case.field()
    key.primary_key = True

    class Price(co.Model):
        a = key
        label = co.StringField()

    class Order(co.Model):
        id = co.IntegerField(primary_key=True)
        price = co.ForeignKeyField(Price)

    co.bind([Price, Order], backend=backend, serializer=serializer)
    return Models(Price, Order, case.equal, case.other)


def test_equal_keys_are_one_row(models: Models) -> None:
    price = models.Price
    for number, value in enumerate(models.equal):
        price.create(a=value, label=str(number))
        assert [price.get(a=other).label for other in models.equal] == [str(number)] * len(models.equal)
    rows = price.query_many([{"a": value} for value in (*models.equal, models.other)]).execute()
    assert [row and row.label for row in rows] == [str(number)] * len(models.equal) + [None]
    assert {id(row) for row in rows[:-1]} == {id(rows[0])}
    found = co.Query([(price, {"a": value}) for value in models.equal]).execute()
    assert {row.label for row in found} == {str(number)}
    assert price.update(a=models.equal[0], label="new").execute().label == "new"
    assert price.get(a=models.equal[-1]).label == "new"
    assert price.insert(a=models.equal[-1], label="again").if_absent().execute() is None
    assert price.delete_many([{"a": value} for value in models.equal]).execute() is True
    assert not price.exists(a=models.equal[0])


def test_get_many_finds_a_row_under_each_equal_key(models: Models) -> None:
    models.Price.create(a=models.equal[0], label="x")
    if models.hashable:
        found = models.Price.get_many([*models.equal, models.other])
        assert [found[value].label for value in models.equal] == ["x"] * len(models.equal)
        assert models.other not in found
        return
    keys = [value for value in models.equal if not isinstance(value, dict)]
    if keys:
        assert {row.label for row in models.Price.get_many(keys).values()} == {"x"}
    else:
        with pytest.raises(TypeError, match=r"Price: a result by primary key needs hashable keys .* query_many"):
            models.Price.get_many(models.equal)


@pytest.mark.parametrize("asked", [0, -1])
def test_rows_that_are_loaded_under_an_equal_key_are_found(models: Models, asked: int) -> None:
    price, returned = models.Price, models.equal[-1 - asked]

    def load(pks: list[Any]) -> list[dict[str, Any]]:
        return [{"a": returned, "label": "loaded"} for _ in pks]

    (row,) = price.query_many({"a": models.equal[asked]}).load_missing(load).execute()
    assert row.label == "loaded"
    assert price.get(a=returned).label == "loaded"
    price.delete(a=returned).execute()
    assert price.get_or_load(models.equal[asked], lambda pk: {"a": returned, "label": "one"}).label == "one"
    price.delete(a=returned).execute()
    if models.hashable:
        pks = [{"a": models.equal[asked]}]
        (row,) = price.query_many(pks).load_missing(lambda pks: {returned: {"label": "by key"}}).execute()
        assert row.label == "by key"


def test_preload_gives_the_row_of_an_equal_key(models: Models) -> None:
    price, order = models.Price, models.Order
    price.create(a=models.equal[0], label="x")
    price.create(a=models.other, label="y")
    values = [*models.equal, models.other]
    order.insert_many([{"id": number, "price": value} for number, value in enumerate(values)]).execute()
    keys = [{"id": number} for number in range(len(values))]
    labels = ["x"] * len(models.equal) + ["y"]
    assert [row.price.label for row in order.query_many(keys).preload("price").execute()] == labels
    assert [row.price.label for row in order.query_many(keys).execute()] == labels
    assert [row.price.label for row in co.preload([order(id=1, price=value) for value in values], "price")] == labels


def test_what_is_stored_keeps_its_digits(backend: co.BaseBackend, serializer: str) -> None:
    class Price(co.Model):
        a = co.DecimalField(primary_key=True)
        amount = co.DecimalField()

    class Order(co.Model):
        id = co.IntegerField(primary_key=True)
        price = co.ForeignKeyField(Price)

    co.bind([Price, Order], backend=backend, serializer=serializer)
    Order.create(id=1, price=Price.create(a="5.00", amount="7.10"))
    assert str(Order.get(id=1).price_id) == "5.00"
    # The key itself is not stored: a row that is read has the one that it was asked for.
    assert [str(Price.get(a=value).a) for value in ("5.00", "5", Decimal("5.0"))] == ["5.00", "5", "5.0"]
    assert str(Price.get(a=5).amount) == "7.10"
    assert Price.get(a=5) == Price.get(a="5.00")
    assert len({Price.get(a=5), Price.get(a="5.00")}) == 1
