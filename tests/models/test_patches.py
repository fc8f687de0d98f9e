"""A partial write changes the fields that it names, and nothing else in the stored row."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

import cacheorm as co

PACK: dict[str, Any] = {"json": lambda row: json.dumps(row).encode(), "msgpack": msgpack.packb}
UNPACK: dict[str, Any] = {"json": json.loads, "msgpack": msgpack.unpackb}


class Hashed(co.Field[Any]):
    """Stores what was not stored before in another form: a second conversion shows."""

    def cache_value(self, value: Any) -> Any:
        return f"hash of {value}"


class Account(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="nobody")
    password = Hashed(null=True)
    visits = co.IntegerField(default=0)
    email: Any = co.StringField(null=True, default="none@example.org")
    tags = co.ListField(co.StringField(), default=[])


@pytest.fixture(params=sorted(PACK))
def serializer(request: pytest.FixtureRequest) -> Any:
    with co.bind([Account], backend=co.SimpleBackend(), serializer=request.param):
        yield request.param


def stored(pk: int = 1) -> bytes:
    payload: bytes = Account._meta.backend.get(Account.key(id=pk))  # type: ignore[assignment]
    return payload


def store(payload: bytes, pk: int = 1) -> None:
    Account._meta.backend.set(Account.key(id=pk), payload)


def visit(row: Account) -> None:
    row.visits += 1


WRITES: dict[str, Any] = {
    "update": lambda: Account.update(id=1, visits=1).execute(),
    "update_many": lambda: Account.update_many({"id": 1, "visits": 1}, {"id": 2}).execute(),
    "set_by_id": lambda: Account.set_by_id(1, {"visits": 1}),
    "increment": lambda: Account.increment(1, "visits"),
    "apply": lambda: Account.update(id=1).apply(visit).execute(),
    "atomic": lambda: Account.update_many([{"id": 1}]).apply(visit).atomic().execute(),
    "co.Update": lambda: co.Update([(Account, {"id": 1, "visits": 1})]).execute(),
    "save": lambda: (lambda row: (visit(row), row.save()))(Account.get(id=1)),
}
ROW = {"name": "Sam", "password": "secret", "visits": 0, "email": None, "tags": ["a"]}


@pytest.mark.parametrize("write", WRITES)
def test_what_is_not_named_is_copied_as_it_is(serializer: str, write: str) -> None:
    before = {"newer": {"b": [1, None]}, **ROW, "newest": 1.5}
    store(PACK[serializer](before))
    WRITES[write]()
    assert stored() == PACK[serializer](before | {"visits": 1})
    store(b'{ "visits" :0 ,"name":  "S\\u0061m","password":null, "x":{}}\n')
    WRITES[write]()
    if serializer == "json":
        assert stored() == b'{ "visits" :1 ,"name":  "S\\u0061m","password":null, "x":{}}\n'
    else:
        assert stored() == msgpack.packb({"name": "Sam", "password": None, "visits": 1, "x": {}})
