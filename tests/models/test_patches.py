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

    class Meta:
        name = "patches.account"


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


def test_a_change_is_converted_once_and_before_anything_is_read(serializer: str) -> None:
    log: list[str] = []

    class Logged(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            log.append(f"{self.name} converted")
            return value

    class Reading(co.SimpleBackend):
        def get(self, key: str) -> bytes | None:
            log.append("read")
            return super().get(key)

        def get_many(self, *keys: str) -> list[bytes | None]:
            log.append("read")
            return super().get_many(*keys)

    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        one = Logged()
        other = Logged()

    with co.bind([Row], backend=Reading(), serializer=serializer):
        Row.create(id=1, one=1, other=2)
        log.clear()
        Row.update(id=1, one=2).execute()
        Row.update_many({"id": 1, "one": 3}).execute()
        row = Row.get(id=1)
        row.one = 4
        row.save()
        assert log == [*["one converted", "read"] * 2, "read", "one converted", "read"]
        assert Row.get(id=1).to_dict() == {"id": 1, "one": 4, "other": 2}


def test_a_rule_that_was_tightened_since_does_not_stop_the_change_of_another_field(serializer: str) -> None:
    def refuse(value: Any) -> None:
        raise ValueError("refused")

    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        short = co.StringField(max_length=2)
        checked = co.IntegerField(validators=[refuse])
        visits = co.IntegerField(default=0)

    with co.bind([Row], backend=co.SimpleBackend(), serializer=serializer):
        Row._meta.backend.set(Row.key(id=1), PACK[serializer]({"short": "long", "checked": 5}))
        assert Row.update(id=1, visits=1).execute().to_dict() == {"id": 1, "short": "long", "checked": 5, "visits": 1}  # type: ignore[union-attr]
        with pytest.raises(co.ValidationError, match=r"Row\.short: .*; Row\.checked: refused"):
            Row.update(id=1, short="long", checked=5).execute()


def test_an_update_does_not_call_the_init_of_a_model(serializer: str) -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(default="")
        visits = co.IntegerField(default=0)

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self.visits = 99

    with co.bind([Row], backend=co.SimpleBackend(), serializer=serializer):
        Row._meta.backend.set(Row.key(id=1), PACK[serializer]({"name": "", "visits": 5}))
        Row.update(id=1, name="a").execute()
        Row.update_many({"id": 1, "name": "b"}).execute()
        co.Update([(Row, {"id": 1, "name": "c"})]).execute()
        assert Row.set_by_id(1, {"name": "d"}).visits == 5


def clear_name(row: Any) -> None:
    row.name = None


@pytest.mark.parametrize(
    "write",
    [
        lambda: Account.update(id=1, name=None).execute(),
        lambda: Account.update_many({"id": 1, "name": None}).execute(),
        lambda: Account.set_by_id(1, {"name": None}),
        lambda: Account.update(id=1).apply(clear_name).execute(),
        lambda: (lambda row: (clear_name(row), row.save()))(Account.get(id=1)),
    ],
)
def test_none_is_refused_by_a_field_that_takes_no_null_whatever_its_default(serializer: str, write: Any) -> None:
    Account.create(id=1, name="Sam")
    before = stored()
    with pytest.raises(co.ValidationError, match=r"^missing value for <Field: Account\.name>: it takes no null; "):
        write()
    assert stored() == before


def test_a_key_that_is_missing_is_called_so(serializer: str) -> None:
    for write in (
        lambda: Account.create(name="Sam"),
        lambda: Account(name="Sam").validate(),
        lambda: Account.update(id=None, name="Sam").execute(),
        lambda: Account.update_many([{"id": None, "name": "Sam"}]).execute(),
    ):
        with pytest.raises(co.ValidationError, match=r"^missing value for <Field: Account\.id>($| \()"):
            write()


def test_a_stored_null_is_none_whatever_the_default(serializer: str) -> None:
    class Friend(co.Model):
        id = co.IntegerField(primary_key=True)
        friend: Any = co.ForeignKeyField(Account, null=True, default=7)
        made: Any = co.ForeignKeyField(Account, null=True, default=lambda: 8)
        text: Any = co.StringField(null=True, default="x")
        many: Any = co.ListField(co.StringField(), null=True, default=["x"])
        any: Any = co.JSONField(null=True, default={})

    nulls = dict.fromkeys(["friend", "made", "text", "many", "any"])
    with co.bind([Friend], backend=co.SimpleBackend(), serializer=serializer):
        assert Friend(id=1).friend_id == 7  # type: ignore[attr-defined]
        Friend.create(id=1)
        row = Friend.update(id=1, **nulls).execute()
        for found in (row, Friend.get(id=1), *Friend.query_many([{"id": 1}] * 5).execute()):
            assert found.to_dict() == {"id": 1, **nulls}  # type: ignore[union-attr]
            assert (found.friend, found.made, found.made_id) == (None, None, None)  # type: ignore[union-attr]


def test_changes_of_one_row_are_all_made(serializer: str) -> None:
    store(PACK[serializer]({"x": 1, **ROW}))
    rows = Account.update_many(
        {"id": 1, "visits": 1}, {"id": 2, "visits": 1}, {"id": 1, "name": "Bob"}, {"id": 1, "visits": 3}
    ).execute()
    assert [row and (row.name, row.visits) for row in rows] == [("Bob", 3), None, ("Bob", 3), ("Bob", 3)]
    assert stored() == PACK[serializer]({"x": 1, **ROW, "visits": 3, "name": "Bob"})


def test_a_field_that_a_row_does_not_have_yet_is_added(serializer: str) -> None:
    for before in ({}, {"x": 1}):
        store(PACK[serializer](before))
        Account.update(id=1, visits=1, name="a").execute()
        assert UNPACK[serializer](stored()) == before | {"visits": 1, "name": "a"}
        assert Account.get(id=1).visits == 1


def test_a_broken_value_is_replaced_and_a_broken_row_is_none(serializer: str) -> None:
    store(PACK[serializer](ROW | {"visits": "many"}))
    with pytest.raises(co.PayloadError, match="visits"):
        Account.update(id=1, name="b").execute()
    assert Account.update(id=1, visits=1).execute().visits == 1  # type: ignore[union-attr]
    for broken in (b"\xc1", b"{", b"\x81\xa1", b"\xc0", b"[]", b'{"a":1}}', b'{"a" 1}'):
        store(broken)
        with pytest.raises(co.PayloadError, match=r"^Account: "):
            Account.update(id=1, name="b").execute()
        assert stored() == broken


def test_many_fields_and_long_names(serializer: str) -> None:
    names = [f"field_{number}_{'x' * number}" for number in range(80)]
    wide: Any = type(co.Model)(
        "Wide",
        (co.Model,),
        {"id": co.IntegerField(primary_key=True), **{name: co.IntegerField(default=0) for name in names}},
    )
    with co.bind([wide], backend=co.SimpleBackend(), serializer=serializer):
        backend = wide._meta.backend
        wide.create(id=1)
        for changed in (names[:15], names[14:17], names[:20], names[::-7], names):
            before = UNPACK[serializer](backend.get(wide.key(id=1)))
            wide.update(id=1, **dict.fromkeys(changed, 5)).execute()
            assert UNPACK[serializer](backend.get(wide.key(id=1))) == before | dict.fromkeys(changed, 5)
        # A row of a model that had few of them.
        backend.set(wide.key(id=1), PACK[serializer](dict.fromkeys(names[:14], 1)))
        wide.update(id=1, **dict.fromkeys(names[-3:], 2)).execute()
        found = UNPACK[serializer](backend.get(wide.key(id=1)))
        assert found == dict.fromkeys(names[:14], 1) | dict.fromkeys(names[-3:], 2)
        row = wide.get(id=1)
        setattr(row, names[70], 9)
        row.save()
        assert UNPACK[serializer](backend.get(wide.key(id=1))) == found | {names[70]: 9}
