"""Keys: no two primary keys share one, every one is legal everywhere, and both versions make the same."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import json
import re
import uuid
from typing import Any

import pytest
from amounts import enough
from guarded import run_guarded
from hypothesis import given, settings
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.keys import _keys_py

TWINS: dict[str, Any] = {"pure": _keys_py}
if co.speedups_enabled:
    from cacheorm._speedups.keys import _keys_c

    TWINS["compiled"] = _keys_c

LEGAL = re.compile(r"[!-~]{1,250}", re.ASCII)
MANY = settings(max_examples=enough(300), deadline=None)

hard_text = st.text(max_size=400) | st.text(alphabet=":%~ \r\n\0ä😀a0", max_size=200)


def make_model(composite: tuple[str, ...] | None = None, key: Any = None, **fields: co.Field[Any]) -> Any:
    meta: dict[str, Any] = {"backend": co.SimpleBackend()}
    if composite is not None:
        meta["primary_key"] = co.CompositeKey(*composite, index_formatter=key)
    namespace = {
        **fields,
        "Meta": type("Meta", (), meta),
        "__qualname__": "make_model.<locals>.Row",
        "__module__": __name__,
    }
    return type(co.Model)("Row", (co.Model,), namespace)


def identities(model: Any) -> list[Any]:
    plan = model._meta
    formatter = (plan.composite or plan.key_fields[0]).index_formatter
    return [twin.Identity(model, plan.key_fields, plan.prefix, formatter) for twin in TWINS.values()]


def key_of(model: Any, **pk: Any) -> str:
    """The key, which all versions agree on."""
    keys = {one.identify([pk], True, False)[1][0] for one in identities(model)}
    assert keys == {model.key(**pk)}
    return keys.pop()


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "1"
    HALF = 0.5
    HALF_TEXT = "0.5"
    RAW = b"1"
    RAW_TEXT = "b'1'"
    NEGATIVE = "-1"
    ENCODED = "%31"


Pair = make_model(("a", "b"), a=co.StringField(), b=co.StringField())
Single = make_model(id=co.StringField(primary_key=True))
Numbered = make_model(("a", "n"), a=co.StringField(), n=co.IntegerField())


@MANY
@given(st.tuples(hard_text, hard_text), st.tuples(hard_text, hard_text))
def test_no_two_composite_keys_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys = [key_of(Pair, a=a, b=b) for a, b in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)
    assert all(LEGAL.fullmatch(key) for key in keys)


@MANY
@given(st.text(alphabet=":%~2Fab", max_size=6), st.text(alphabet=":%~2Fab", max_size=6), st.data())
def test_moving_text_between_the_parts_changes_the_key(a: str, b: str, data: st.DataObject) -> None:
    whole = f"{a}:b:{b}"
    cut = data.draw(st.integers(0, len(whole)))
    moved = (whole[:cut], whole[cut:])
    assert (key_of(Pair, a=a, b=b) == key_of(Pair, a=moved[0], b=moved[1])) is ((a, b) == moved)


@MANY
@given(st.text(max_size=300), st.integers())
def test_numbers_of_any_size_are_part_of_keys(a: str, n: int) -> None:
    assert LEGAL.fullmatch(key_of(Numbered, a=a, n=n))
    assert key_of(Numbered, a=a, n=n) == key_of(Numbered, a=a, n=str(n))
    assert key_of(Numbered, a=a, n=n) != key_of(Numbered, a=a, n=n + 1)


def test_keys_are_readable_where_they_can_be() -> None:
    assert key_of(Single, id="sam@example.org/x_y~z") == "m:row:id:sam@example.org/x_y~z"
    assert key_of(Single, id="a:b c%") == "m:row:id:a%3Ab%20c%25"
    assert key_of(Single, id="ä") == "m:row:id:%C3%A4"
    assert key_of(Single, id="") == "m:row:id:"
    assert key_of(Pair, a="x", b="y") == "m:row:a:x:b:y"
    assert Numbered.key(a="x", n=-5) == "m:row:a:x:n:-5"


@pytest.mark.parametrize("bad", ["\r\n", " ", "\0", "\x7f", "\t", "\u2028", "get x\r\nflush_all\r\n"])
def test_what_would_end_a_command_never_gets_into_a_key(bad: str) -> None:
    assert LEGAL.fullmatch(key_of(Single, id=bad))


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(co.ValidationError, match=r"^Row\.id: expected text without lone surrogates, got str$"):
        Single.key(id="\ud800")


def test_long_keys_end_in_a_digest_and_stay_apart() -> None:
    room = 250 - len("m:row:id:")
    assert key_of(Single, id="x" * room) == "m:row:id:" + "x" * room
    keys = {key_of(Single, id="x" * (room + more) + end) for more in range(1, 60) for end in ("", "y")}
    assert len(keys) == 118
    for key in keys:
        assert len(key) == 250
        assert re.fullmatch(r"m:row:id:x+%~[0-9a-f]{32}", key)


@MANY
@given(st.text(max_size=250))
def test_no_short_key_looks_like_one_with_a_digest(text: str) -> None:
    digested = key_of(Single, id="x" * 300)
    assert "%~" in digested
    key = key_of(Single, id=text)
    assert ("%~" in key) is (len(key) == 250 and key[-34:-32] == "%~")
    # Not even a value made from such a key.
    assert key_of(Single, id=digested.removeprefix("m:row:id:")) != digested


def test_values_of_different_types_have_different_keys() -> None:
    model = make_model(id=co.EnumField(Mixed, primary_key=True))
    assert len({key_of(model, id=member) for member in Mixed}) == len(Mixed)
    assert key_of(model, id=Mixed.NUMBER) == "m:row:id:1"
    anything = make_model(id=co.Field(primary_key=True))
    values = [
        1,
        "1",
        1.5,
        "1.5",
        decimal.Decimal("0.1"),
        0.1,
        "Decimal('0.1')",
        "True",
        b"a",
        "a",
        "b'a'",
        "",
        "%31",
        "-1",
        -1,
        "nan",
        "inf",
        [1],
        "[1]",
        {"a": 1},
    ]
    assert len({key_of(anything, id=value) for value in values}) == len(values)
    assert key_of(anything, id="name") == "m:row:id:name"


def test_lists_of_different_lengths_have_different_keys() -> None:
    model = make_model(id=co.ListField(co.StringField(), primary_key=True))
    values: list[list[str]] = [[], [""], ["", ""], ["a", "b"], ["a:b"], ["a", "b", ""], ["['a']"]]
    assert len({key_of(model, id=value) for value in values}) == len(values)


# -- values that are equal have one key ---------------------------------------------------------------

D = decimal.Decimal


class Aliased(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = "blue"


def of_text(field: Any) -> Any:
    """Make a custom field, whose stored forms are text."""

    class Custom(co.Field):
        def cache_value(self, value: Any) -> Any:
            return str(value)

        def python_value(self, value: Any) -> Any:
            return field(value)

    return Custom(primary_key=True)


SPRING = datetime.datetime(2020, 3, 1, 12, tzinfo=datetime.UTC)
WEST = SPRING.astimezone(datetime.timezone(datetime.timedelta(hours=-5)))
NOON = datetime.time(12)

EQUAL: dict[str, tuple[Any, list[Any], str | None]] = {
    "decimals": (co.DecimalField(primary_key=True), [1, "1.0", D("1.00"), D("1E+0"), "0.1E1"], "1"),
    "decimals of hundreds": (co.DecimalField(primary_key=True), ["1E+2", 100, D("100.00"), "10E1"], "100"),
    "decimal zeros": (co.DecimalField(primary_key=True), [0, "-0", D("0.00"), D("-0E+7"), "0E-9"], "0"),
    "decimal fractions": (co.DecimalField(primary_key=True), ["1.50", 1.5, D("15E-1")], "1.5"),
    "small decimals": (co.DecimalField(primary_key=True), ["0.00000010", "1E-7"], "1E-7"),
    "huge decimals": (co.DecimalField(primary_key=True), ["1.0E+999999", "10E+999998"], "1E+999999"),
    "many digits": (co.DecimalField(primary_key=True), [10**60, "1E+60"], "1E+60"),
    "rounded": (co.DecimalField(2, auto_round=True, primary_key=True), ["1.004", 1], "1"),
    "floats": (co.FloatField(primary_key=True), [0.0, -0.0, "-0.0", 0], "0.0"),
    "whole floats": (co.FloatField(primary_key=True), [1.0, 1, "1.00"], "1.0"),
    "integers": (co.IntegerField(primary_key=True), [5, "5", 5.0, D("5.00"), " 5 "], "5"),
    "bools": (co.BooleanField(primary_key=True), [True, 1], "1"),
    "members": (co.EnumField(Aliased, primary_key=True), [Aliased.RED, Aliased.CRIMSON, 1], "1"),
    "json": (
        co.JSONField(primary_key=True),
        [{"a": 1, "b": [2]}, {"b": [2.0], "a": True}, {"b": (2,), "a": 1.0}],
        None,
    ),
    "nested json": (
        co.JSONField(primary_key=True),
        [[{"x": 0.0, "y": {"p": 1, "q": 2}}], [{"y": {"q": 2, "p": 1}, "x": -0.0}]],
        None,
    ),
    "lists": (co.ListField(co.DecimalField(), primary_key=True), [[1, "2.0"], (D("1.0"), 2)], None),
    "lists of lists": (co.ListField(co.ListField(co.FloatField())), [[[0.0]], [[-0.0]]], None),
    "lists of json": (co.ListField(co.JSONField()), [[{"a": 1, "b": 2}], [{"b": 2, "a": 1}]], None),
    "structures": (
        co.StructField(json.dumps, json.loads, primary_key=True),
        [{"a": 1, "b": [{"c": 0.0, "d": 2}]}, {"b": [{"d": 2.0, "c": -0.0}], "a": 1}],
        None,
    ),
    "dicts": (co.StructField(dict, dict, primary_key=True), [{"a": 1, 2: "b"}, {2: "b", "a": 1.0}], None),
    "custom decimals": (of_text(D), ["1.0", D(1), "1.00"], "1"),
    "custom instants": (
        co.StructField(lambda t: t.isoformat(), datetime.datetime.fromisoformat, primary_key=True),
        [SPRING, WEST],
        None,
    ),
    "instants": (co.DateTimeTZField(primary_key=True), [SPRING, WEST], None),
    "times": (co.TimeField(primary_key=True), [NOON, NOON.replace(fold=1), "12:00"], "12%3A00%3A00"),
    "datetimes": (
        co.DateTimeField(primary_key=True),
        [datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, fold=1)],
        None,
    ),
    "bytes": (co.BinaryField(primary_key=True), [b"ab", bytearray(b"ab"), memoryview(b"ab")], "YWI="),
    "raw bytes": (co.BinaryField(ensure_str=False, primary_key=True), [b"ab", bytearray(b"ab")], "ab"),
    "texts": (co.StringField(primary_key=True), ["ab", b"ab"], "ab"),
    "uuids": (
        co.UUIDField(primary_key=True),
        [uuid.UUID(int=5), str(uuid.UUID(int=5)), f"{{{uuid.UUID(int=5)}}}"],
        None,
    ),
    "short uuids": (co.ShortUUIDField(primary_key=True), [uuid.UUID(int=5), str(uuid.UUID(int=5))], None),
    "anything": (co.Field(primary_key=True), [1, 1.0, True, D("1.0")], "1"),
    "any fraction": (co.Field(primary_key=True), [0.5, D("0.50")], "0.5"),
    "any dict": (co.Field(primary_key=True), [{1: "a", "b": [D(2)]}, {"b": (2.0,), True: "a"}], None),
}


@pytest.mark.parametrize("case", EQUAL)
def test_equal_values_have_one_key(case: str) -> None:
    field, values, text = EQUAL[case]
    field.primary_key = True
    model = make_model(id=field)
    keys = {key_of(model, id=value) for value in values}
    assert len(keys) == 1
    (key,) = keys
    assert LEGAL.fullmatch(key)
    assert text is None or key == f"m:row:id:{text}"
    # So have references to it, and parts of composite keys.
    reference = make_model(id=co.ForeignKeyField(model, primary_key=True))
    assert len({key_of(reference, id=value) for value in values}) == 1
    part = field.clone()
    part.primary_key = False
    both = make_model(("a", "b"), a=part, b=co.ForeignKeyField(model))
    assert len({key_of(both, a=one, b=other) for one, other in itertools.product(values, values)}) == 1
    # Formatters get one form of them.
    formatted = field.clone()
    formatted.index_formatter = lambda value: f"f{value!r}"
    assert len({key_of(make_model(id=formatted), id=value) for value in values}) == 1


@pytest.mark.parametrize("case", EQUAL)
def test_a_row_that_was_read_has_the_key_it_was_asked_for(case: str) -> None:
    field, values, _ = EQUAL[case]
    field.primary_key = True
    model = make_model(id=field.clone())
    for value in values:
        made = model.create(id=value)
        assert model.query_many([{"id": other} for other in values]).execute() == [made] * len(values)
        for other in values:
            read = model.get(id=other)
            assert key_of(model, id=read.id) == model.key(id=value)
        assert model.delete(id=values[0]).execute()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -0.0, 1.0, 2.0, 1e22, 1e300])
    | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=5,
)

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.builds(
    lambda sign, digits, exponent: D((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.sampled_from([0, 0, 1, 5]), min_size=1, max_size=6).map(tuple),
    st.integers(-5, 5) | st.sampled_from([-400, 36, 37, 38, 39, 40, 41, 400, 999_990]),
)

ANY_VALUE = (
    JSON | DECIMALS | st.binary(max_size=2) | st.sampled_from(["1", "0.5", "Decimal('0.1')", D("0.1"), 0.1, 10**22])
)

Exact = make_model(id=co.DecimalField(primary_key=True))
Floating = make_model(id=co.FloatField(primary_key=True))
Document = make_model(id=co.JSONField(primary_key=True))
Listed = make_model(id=co.ListField(co.DecimalField(), primary_key=True))
Whatever = make_model(id=co.Field(primary_key=True))


def shuffled(value: Any, data: st.DataObject) -> Any:
    """An equal value: dicts in another order, tuples for lists, other types of numbers."""
    if isinstance(value, dict):
        items = data.draw(st.permutations([*value.items()]))
        return {key: shuffled(item, data) for key, item in items}
    if isinstance(value, list):
        return [shuffled(item, data) for item in value]
    if isinstance(value, (bool, float, int)) and value == int(value):
        return data.draw(st.sampled_from([int(value), float(value)]))
    return value


@MANY
@given(DECIMALS, DECIMALS)
def test_decimals_have_one_key_if_and_only_if_they_are_equal(one: decimal.Decimal, other: decimal.Decimal) -> None:
    assert (key_of(Exact, id=one) == key_of(Exact, id=other)) is (one == other)
    assert (key_of(Listed, id=[one, 1]) == key_of(Listed, id=[other, 1])) is (one == other)
    longer = decimal.Context(prec=50).create_decimal(one)
    assert key_of(Exact, id=one) == key_of(Exact, id=longer)
    assert len(key_of(Exact, id=one)) < 60


@MANY
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_have_one_key_if_and_only_if_they_are_equal(one: float, other: float) -> None:
    assert (key_of(Floating, id=one) == key_of(Floating, id=other)) is (one == other)
    assert key_of(Floating, id=0.0 * one) == key_of(Floating, id=0)


@MANY
@given(JSON.filter(lambda value: value is not None), JSON.filter(lambda value: value is not None), st.data())
def test_json_values_have_one_key_if_and_only_if_they_are_equal(one: Any, other: Any, data: st.DataObject) -> None:
    assert (key_of(Document, id=one) == key_of(Document, id=other)) is (one == other)
    assert key_of(Document, id=one) == key_of(Document, id=shuffled(one, data))


@MANY
@given(ANY_VALUE.filter(lambda value: value is not None), ANY_VALUE.filter(lambda value: value is not None), st.data())
def test_any_values_have_one_key_if_and_only_if_they_are_equal(one: Any, other: Any, data: st.DataObject) -> None:
    assert (key_of(Whatever, id=one) == key_of(Whatever, id=other)) is (one == other)
    assert key_of(Whatever, id=one) == key_of(Whatever, id=shuffled(one, data))


def test_values_of_a_field_that_is_no_key_keep_their_digits() -> None:
    prices = make_model(id=co.DecimalField(primary_key=True), price=co.DecimalField(), of=co.JSONField())
    prices.create(id="1.0", price="1.00", of={"b": 1.0, "a": True})
    read = prices.get(id="1.000")
    assert (str(read.price), str(read.id)) == ("1.00", "1.000")
    assert json.dumps(read.of) == '{"b": 1.0, "a": true}'


def test_lists_and_dicts_of_custom_fields_are_no_texts_in_keys() -> None:
    same = make_model(id=co.StructField(lambda value: value, lambda value: value, primary_key=True))
    values: list[Any] = [[1, 2], ["1", "2"], "1:2", "[1, 2]", {"a": 1}, "{'a': 1}", ["1:2"], [[1], 2]]
    assert len({key_of(same, id=value) for value in values}) == len(values)


def test_a_value_that_holds_itself_is_no_endless_key() -> None:
    endless: list[Any] = []
    endless.append(endless)
    model = make_model(id=co.StructField(lambda value: "text", lambda value: endless, primary_key=True))
    assert key_of(model, id="x") == "m:row:id:text"


def test_references_to_keys_of_several_types_have_keys_of_their_own() -> None:
    target = make_model(id=co.ListField(co.StringField(), primary_key=True))
    source = make_model(("a", "b"), a=co.ForeignKeyField(target), b=co.IntegerField())
    assert len({key_of(source, a=[*value], b=1) for value in ("", "a", "ab", ["a", "b", ""], ["a:b"])}) == 5
    pair = make_model(("a", "n"), a=co.ListField(co.IntegerField()), n=co.IntegerField())
    reply = make_model(id=co.ForeignKeyField(pair, primary_key=True))
    assert len({key_of(reply, id=value) for value in [([1, 2], 3), ([1], 3), ([12], 3), ([], 1)]}) == 4


def test_names_and_namespaces_are_escaped() -> None:
    class Row(co.Model):
        größe = co.StringField(primary_key=True)

        class Meta:
            backend = "memory://"
            name = "ro:w x"
            namespace = "app:v1 ü"

    assert Row.key(größe="1") == "app:v1%20%C3%BC:m:ro%3Aw%20x:gr%C3%B6%C3%9Fe:1"


class Author(co.Model):
    id = co.UUIDField(primary_key=True)


class Page(co.Model):
    author = co.ForeignKeyField(Author)
    number = co.IntegerField()

    class Meta:
        primary_key = co.CompositeKey("author", "number")


class Note(co.Model):
    page = co.ForeignKeyField(Page)
    line = co.IntegerField()

    class Meta:
        primary_key = co.CompositeKey("page", "line")


class Reply(co.Model):
    note = co.ForeignKeyField(Note, primary_key=True)


def test_references_to_composite_keys_are_written_part_by_part() -> None:
    author = Author(id=uuid.UUID(int=5))
    digits = f"{5:032x}"
    assert key_of(Page, author=author, number=7) == f"m:page:author:{digits}:number:7"
    assert key_of(Note, page=(author.id, 7), line=1) == f"m:note:page:{digits}:7:line:1"
    assert key_of(Reply, note=((author.id, 7), 1)) == f"m:reply:note:{digits}:7:1"
    assert Note.key(page=Page(author=author, number=7), line=1) == Note.key(page_id=(author.id, "7"), line=1)


def test_formatters_get_the_stored_values_flat() -> None:
    page = make_model(("page", "line"), "c.%s.%d.%d", page=co.ForeignKeyField(Page), line=co.IntegerField())
    assert key_of(page, page=(uuid.UUID(int=5), 7), line=1) == f"c.{5:032x}.7.1"
    called = make_model(id=co.IntegerField(primary_key=True, index_formatter=lambda number: f"user-{number}"))
    assert key_of(called, id="7") == "user-7"
    percent = make_model(id=co.IntegerField(primary_key=True, index_formatter="100%%-%05d"))
    assert key_of(percent, id=7) == "100%-00007"


def fails(*values: Any) -> str:
    raise RuntimeError("S3CRET")


@pytest.mark.parametrize(
    ("formatter", "text"),
    [
        ("no place", "cannot format the primary key: TypeError"),
        ("%s.%s", "cannot format the primary key: TypeError"),
        ("%d", "cannot format the primary key: TypeError"),
        ("%(id)s", "cannot format the primary key: TypeError"),
        ("%q", "cannot format the primary key: ValueError"),
        (fails, "cannot format the primary key: RuntimeError"),
        (lambda: "x", "cannot format the primary key: TypeError"),
        (lambda value: None, "gave NoneType, expected a key"),
        (lambda value: b"key", "gave bytes, expected a key"),
        (lambda value: 5, "gave int, expected a key"),
        (lambda value: "", "gave str, expected a key"),
    ],
)
def test_formatters_that_fail_are_reported_with_the_model(formatter: Any, text: str) -> None:
    model = make_model(id=co.StringField(primary_key=True, index_formatter=formatter))
    for one in [*identities(model), model._meta.identity]:
        with pytest.raises(ValueError, match=f"^Row: index_formatter {text}") as caught:
            one.identify([{"id": "S3CRET"}], True)
        assert "S3CRET" not in str(caught.value)


def refused(model: Any, rows: list[Any], strict: bool = True, many: bool = False) -> tuple[type[Exception], str]:
    """The error that all versions raise."""
    errors = set()
    for one in identities(model):
        with pytest.raises((TypeError, ValueError)) as caught:
            one.identify(rows, strict, many)
        errors.add((type(caught.value), str(caught.value)))
    assert len(errors) == 1
    return errors.pop()


def test_missing_and_extra_names_are_reported() -> None:
    missing = "missing value for <Field: Row.b>"
    assert refused(Pair, [{"a": "x"}]) == (co.ValidationError, missing)
    assert refused(Pair, [{"a": "x", "b": None}]) == (co.ValidationError, missing)
    assert refused(Pair, [{"a": "x", "b": "y"}, {"b": []}], many=True) == (
        co.ValidationError,
        "missing value for <Field: Row.a>; Row.b: expected text, got list (row 1)",
    )
    extra = "Row: 'c' does not belong to the primary key (a, b)"
    assert refused(Pair, [{"a": "x", "b": "y", "c": 1}]) == (co.ShapeError, extra)
    assert refused(Pair, [{"a": "x", "c": "y"}]) == (co.ShapeError, extra)
    kind, text = refused(Note, [{"page": 1, "page_id": 2, "line": 1}])
    assert (kind, text) == (co.ValidationError, "Note.page: page and page_id contradict each other")
    for row in (5, None, "ab", ["a"], Single(id="x")):
        assert refused(Pair, [row])[0] is co.ShapeError


@pytest.mark.parametrize(
    ("model", "wrong", "error", "text"),
    [
        (Pair, 5, co.ShapeError, r"a row is a dict .*, got int, which is no primary key \(a, b\) either"),
        (Pair, "ab", co.ShapeError, r"got str"),
        (Pair, ["a"], co.ValidationError, r"Row\.a: the primary key \(a, b\) takes 2 values, got 1"),
        (Pair, ("a", []), co.ValidationError, r"Row\.b: expected text, got list"),
        (Pair, Single(id="x"), co.ShapeError, r"a row is a dict .*, got Row, which"),
        (Single, Pair(a="x", b="y"), co.ShapeError, r"a row is a dict .*, got Row, which"),
        (Single, None, co.ShapeError, r"got NoneType"),
        (Single, ["a"], co.ValidationError, r"Row\.id: expected text, got list"),
        (Single, {1: {"id": "a"}}, co.ShapeError, r"got a dict with a name of type int \(a dict of rows\?"),
    ],
)
def test_a_wrong_key_says_what_a_row_is_and_where_it_came(model: Any, wrong: Any, error: Any, text: str) -> None:
    right = "x" if model is Single else ("x", "y")
    kind, found = refused(model, [right, wrong], many=True)
    assert kind is error
    assert re.search(rf"{text}.* \(row 1\)$", found)
    # A single row is given by its names, and changes are never plain keys.
    for strict, many in ((True, False), (False, True)):
        assert refused(model, [right], strict, many)[0] is co.ShapeError


def test_plain_keys_are_those_of_the_rows() -> None:
    for model, plain, rows in (
        (Single, ["x", b"y", "ü"], [{"id": "x"}, {"id": "y"}, {"id": "ü"}]),
        (Pair, [("x", "y"), ["x", "z"]], [{"a": "x", "b": "y"}, {"a": "x", "b": "z"}]),
        (Numbered, [("x", 1), ("y", "2")], [{"a": "x", "n": 1}, {"a": "y", "n": 2}]),
    ):
        for one in identities(model):
            expected = one.identify(rows, True)
            assert one.identify(plain, True) == expected
            assert one.identify(iter(plain), True) == expected
            assert one.identify([plain[0], *rows[1:]], True) == expected
            assert one.identify(plain[:1] * 3, True) == ([expected[0][0]] * 3, [expected[1][0]] * 3)
            assert one.identify_pks(plain) == expected
    assert Pair._meta.identity.identify([{"a": "x", "b": "y", "c": 1}], False)[1] == ["m:row:a:x:b:y"]


def test_primary_keys_come_as_a_read_gives_them_in_the_order_of_the_rows() -> None:
    rows = [{"a": b"x", "n": "2"}, Numbered(a="y", n=1), {"n": 2, "a": "x"}]
    for one in identities(Numbered):
        pks, keys = one.identify(iter(rows), True)
        assert pks == [("x", 2), ("y", 1), ("x", 2)]
        assert keys == ["m:row:a:x:n:2", "m:row:a:y:n:1", "m:row:a:x:n:2"]


def test_a_value_in_a_key_is_not_in_the_error_about_it() -> None:
    assert "S3CRET" not in refused(Numbered, [{"a": "x", "n": "S3CRET"}])[1]


Whole = make_model(id=co.IntegerField(primary_key=True))
Unique = make_model(id=co.UUIDField(primary_key=True))
EDGES = [0, 1, -1, 9, 10, -10, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**64), 10**50]


@pytest.mark.parametrize("number", EDGES)
def test_integers_of_any_size_are_written_in_full(number: int) -> None:
    assert key_of(Whole, id=number) == f"m:row:id:{number}"


# Next to where Python's ints and the machine's words end.
WORDS = sorted({abs(2**bits + more) for bits in (0, 8, 30, 32, 60, 63, 64, 90, 120, 127) for more in (-1, 0, 1)})
WORDS.append(2**128 - 1)


@MANY
@given(st.uuids() | st.sampled_from([uuid.UUID(int=number) for number in WORDS]))
def test_uuids_are_written_as_their_digits(value: uuid.UUID) -> None:
    assert key_of(Unique, id=value) == f"m:row:id:{value.hex}"
    for one in identities(Unique):
        assert one.identify([{"id": value}, Unique(id=value)], True) == ([value] * 2, [f"m:row:id:{value.hex}"] * 2)


@pytest.mark.parametrize("number", [-1, -(2**64), 2**128, 2**150, True])
def test_a_uuid_that_was_tampered_with_is_treated_alike(number: Any) -> None:
    value = uuid.UUID(int=1)
    object.__setattr__(value, "int", number)
    outcomes = set()
    for one in identities(Unique):
        try:
            outcomes.add(one.identify([{"id": value}], True)[1][0])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the same
            outcomes.add(type(error))
    assert len(outcomes) == 1


@pytest.mark.parametrize("length", [1, 100, 240, 241, 242, 250, 251, 1000])
def test_keys_of_any_length_are_made_alike(length: int) -> None:
    key = key_of(Single, id="x" * length)
    assert (key == f"m:row:id:{'x' * length}") is (length + len("m:row:id:") <= 250)
    assert len(key) <= 250


@MANY
@given(st.lists(st.text(alphabet="ab:1", max_size=20) | st.text(max_size=3), max_size=60))
def test_repeated_keys_are_noticed(keys: list[str]) -> None:
    for twin in TWINS.values():
        assert twin.has_duplicates(keys) is (len(set(keys)) < len(keys))


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 1000, 100_000])
def test_repeats_are_noticed_in_batches_of_any_size(count: int) -> None:
    keys = [f"m:user:id:{number}" for number in range(count)]
    for twin in TWINS.values():
        assert twin.has_duplicates(keys) is False
        assert twin.has_duplicates([*keys, "m:user:id:0"]) is (count > 0)


@MANY
@given(
    st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=60), st.integers(0, 70), st.integers(0, 70)
)
def test_a_part_of_keys_and_values_becomes_a_batch(pairs: list[tuple[str, bytes]], start: int, stop: int) -> None:
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    for twin in TWINS.values():
        found = twin.batch(keys, values, start, stop)
        assert list(found.items()) == list(dict(pairs[start:stop]).items())
        with pytest.raises(ValueError, match="of one length"):
            twin.batch(keys, [*values, b""], start, stop)


@MANY
@given(st.permutations(["a", "n"]), st.text(max_size=3), st.integers(), st.booleans())
def test_key_values_are_found_in_any_order(order: list[str], a: str, n: int, copied: bool) -> None:
    values: dict[str, Any] = {"a": a, "n": n}
    # A name in a row may also be another str than that of the class.
    row = {str(name.encode(), "ascii") if copied else name: values[name] for name in order}
    made = [one.identify([row], True) for one in identities(Numbered)]
    assert all(found == ([(a, n)], [key_of(Numbered, a=a, n=n)]) for found in made)


class Taker:
    """A name in a row that is no str: a look for another name calls its method, which takes a value away."""

    def __init__(self, row: dict[Any, Any]) -> None:
        self.row = row

    def __hash__(self) -> int:
        return hash("second")

    def __eq__(self, other: object) -> bool:
        self.row["first"] = "taken"
        return False


Parts = make_model(composite=("first", "second"), first=co.StringField(), second=co.StringField())


def exercise_rows_that_change() -> None:
    for one in identities(Parts):
        row: dict[Any, Any] = {}
        row[Taker(row)] = None
        row["second"] = "two"
        row["first"] = "".join(["one", "!"])
        assert one.identify([row], False) == ([("one!", "two")], [key_of(Parts, first="one!", second="two")])
        assert row["first"] == "taken"


def test_what_a_row_loses_while_its_key_is_made_is_held() -> None:
    """The part that was found first is freed then, unless it is held: that ends a process."""
    run_guarded(__file__, "tests.exercise_rows_that_change()")


@pytest.mark.parametrize("rows", [[], [None], [1, None, 0, "", False, None], [object()] * 3])
def test_gaps_are_found_by_identity_with_none(rows: list[Any]) -> None:
    for twin in TWINS.values():
        assert twin.missing_positions(rows) == [position for position, row in enumerate(rows) if row is None]
