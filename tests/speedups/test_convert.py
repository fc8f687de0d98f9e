"""The compiled converters and the pure ones: alike on every input, and honest about what they read back."""

from __future__ import annotations

import enum
import json
import math
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack
import pytest
from amounts import enough
from builds import compiled_build, pure_build
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheorm.errors import ValidationError

pure = pure_build("convert")
compiled = compiled_build("convert")

needs_compiled = pytest.mark.skipif(compiled is None, reason="the extensions are not built")


class Mixed(enum.Enum):
    A = 1
    B = "b"
    C = 2.5
    D = b"raw"
    ALIAS = 1  # noqa: PIE796


class Truth(enum.Enum):
    YES = True
    NO = False


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2**64 - 1


class Word(enum.StrEnum):
    HELLO = "hello"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Loose(enum.IntFlag):
    ONE = 1
    TWO = 2


class Shout(str):
    def __str__(self) -> str:
        return "not this"


class Count(int):
    def __str__(self) -> str:
        return "not this"

    def __index__(self) -> int:
        return 99


class Weight(float):
    def __repr__(self) -> str:
        return "not this"


class Moment(datetime):
    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return "not this"


class Hostile:
    """Raises whatever it is asked, with text that nobody may see."""

    def __float__(self) -> float:
        raise RuntimeError("hunter2")

    def __index__(self) -> int:
        raise ZeroDivisionError("hunter2")


def as_pair(value: Any) -> Any:
    first, second = value
    return (first, second)


def refuse_long(value: Any) -> None:
    if len(value) > 3:
        raise ValueError("expected at most 3 of them")


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "anything": lambda m: m.Anything(),
    "integer": lambda m: m.Integer(),
    "boolean": lambda m: m.Boolean(),
    "real": lambda m: m.Real(),
    "real with nan": lambda m: m.Real(True),
    "decimal": lambda m: m.DecimalText(),
    "decimal, two places": lambda m: m.DecimalText(Decimal("0.01"), "ROUND_UP"),
    "text": lambda m: m.Text(),
    "text of 5": lambda m: m.Text(5),
    "binary": lambda m: m.Binary(),
    "raw binary": lambda m: m.Binary(False),
    "uuid": lambda m: m.Uuid(),
    "short uuid": lambda m: m.ShortUuid(),
    "enum": lambda m: m.Enumeration(Mixed),
    "enum of bools": lambda m: m.Enumeration(Truth),
    "int enum": lambda m: m.Enumeration(Level),
    "str enum": lambda m: m.Enumeration(Word),
    "flag": lambda m: m.Enumeration(Access),
    "int flag": lambda m: m.Enumeration(Loose),
    "datetime": lambda m: m.DateTime(),
    "datetime by format": lambda m: m.DateTime(["%d.%m.%Y", "%H:%M"]),
    "aware datetime": lambda m: m.DateTimeTZ(),
    "date": lambda m: m.Date(),
    "date by format": lambda m: m.Date(["%d.%m.%Y"]),
    "time": lambda m: m.Time(),
    "time by format": lambda m: m.Time(["%H.%M"]),
    "timestamp": lambda m: m.Timestamp(),
    "timestamp in ms, UTC": lambda m: m.Timestamp(1000, True),
    "timestamp in us": lambda m: m.Timestamp(10**6),
    "json": lambda m: m.Json(),
    "struct": lambda m: m.Pair(as_pair, as_pair),
    "methods": lambda m: m.Methods(as_pair, as_pair),
    "list of integers": lambda m: m.ListOf(m.Integer()),
    "list of texts or nulls": lambda m: m.ListOf(m.Text(), True),
    "list of lists of dates": lambda m: m.ListOf(m.ListOf(m.Date())),
    "list of pairs": lambda m: m.ListOf(m.Methods(as_pair, as_pair)),
    "list of short texts": lambda m: m.ListOf(m.Validated(m.Text(), [refuse_long])),
}

offsets = st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
zones = st.one_of(st.none(), st.just(UTC), offsets)
moments = st.one_of(
    st.datetimes(timezones=zones),
    st.datetimes(timezones=zones, allow_imaginary=True).map(lambda found: found.replace(fold=1)),
    st.datetimes().map(lambda found: Moment(*found.timetuple()[:6], found.microsecond)),
    st.sampled_from([datetime.min, datetime.max, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    st.sampled_from([-1, 1]).map(lambda hours: datetime.max.replace(tzinfo=timezone(timedelta(hours=hours)))),
    st.sampled_from([-1, 1]).map(lambda hours: datetime.min.replace(tzinfo=timezone(timedelta(hours=hours)))),
)
times = st.times(timezones=zones)
any_text = st.text(st.characters(), max_size=40)  # with surrogates
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-4, 4),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.floats(-4, 4).map(round).map(float),
    st.decimals(),
    any_text,
    st.text("0123456789+-. _eEab:T", max_size=30),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.binary(max_size=20).map(memoryview),
    st.uuids(),
    st.uuids().map(str),
    st.dates(),
    moments,
    times,
    st.fractions(),
    st.sampled_from([*Mixed, *Truth, *Level, *Word, *Access, *Loose, Access(0), Loose(4), Loose(-1)]),
    st.sampled_from([Shout("b"), Count(1), Weight(2.5), Hostile(), object(), 1j, Decimal("1E+999999999")]),
    st.sampled_from(
        ["1" * 5000, "1e999", "nan", "Infinity", "sNaN", "2020-W01-1", "24:00", "١٢", "1_0", " 7 ", b"\xff"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(any_text, st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
# What a store may hold: the forms that are written, forms one edit away from them, and everything else.
written = st.one_of(
    moments.map(lambda found: found.isoformat()),
    moments.map(str),
    moments.map(lambda found: found.strftime("%Y-%m-%dT%H:%M:%S.%f%z")),
    st.dates().map(lambda found: found.isoformat()),
    times.map(lambda found: found.isoformat()),
    st.uuids().map(lambda found: found.hex),
    st.uuids().map(lambda found: pure.ShortUuid().dump(found)),
    st.binary(max_size=12).map(lambda found: pure.Binary().dump(found)),
    st.decimals().map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.recursive(st.integers() | any_text | st.floats(), st.lists).map(json.dumps),
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(written)
    at = draw(st.integers(0, len(text)))
    kept = draw(st.integers(at, min(len(text), at + 2)))
    return text[:at] + draw(st.text("0123456789abcdefABCDEF=-+:. TZW_\u0661\ud800", max_size=2)) + text[kept:]


stored_forms = st.one_of(written, damaged(), values, st.lists(written, max_size=3))


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    try:
        return ("gives", typed(function(*arguments)))
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return ("raises", type(error), str(error), type(error.__cause__))


def typed(value: Any) -> Any:
    """Make a value comparable together with its types, NaN and fold included."""
    if isinstance(value, (list, tuple)):
        return (type(value), [typed(item) for item in value])
    if isinstance(value, dict):
        return (type(value), [(typed(key), typed(item)) for key, item in value.items()])
    if type(value) in (Hostile, object):
        return (type(value), id(value))
    if isinstance(value, int) and not isinstance(value, enum.Enum):
        return (type(value), int.__int__(value))
    return (type(value), repr(value))


# Making a value takes far longer than converting it: each is given to all converters.
given_values = st.one_of(values, written, damaged()).filter(lambda found: found is not None)
SEVERAL = settings(max_examples=enough(500), deadline=None)
PURE = {name: make(pure) for name, make in CONVERTERS.items()}


@needs_compiled
@SEVERAL
@given(value=given_values)
def test_compiled_and_pure_agree_on_every_value(value: Any) -> None:
    for name, make in CONVERTERS.items():
        one, other = PURE[name], make(compiled)
        dumped = outcome(one.dump, value)
        assert dumped == outcome(other.dump, value), name
        if dumped[0] == "gives":
            stored = one.dump(value)
            assert outcome(one.canonical, value, stored) == outcome(other.canonical, value, stored), name


@needs_compiled
@SEVERAL
@given(stored=stored_forms)
def test_compiled_and_pure_agree_on_every_stored_form(stored: Any) -> None:
    for name, make in CONVERTERS.items():
        assert outcome(PURE[name].load, stored) == outcome(make(compiled).load, stored), name


@needs_compiled
@SEVERAL
@given(value=values)
def test_compiled_and_pure_agree_on_what_json_holds(value: Any) -> None:
    assert compiled is not None
    assert outcome(pure.check_json, value, "row") == outcome(compiled.check_json, value, "row")


@SEVERAL
@given(value=given_values)
def test_the_canonical_value_is_what_a_read_gives(value: Any) -> None:
    for name, converter in PURE.items():
        kind, *rest = outcome(converter.dump, value)
        if kind == "raises":
            assert rest[0] is ValueError, name
            continue
        stored = converter.dump(value)
        canonical = typed(converter.canonical(value, stored))
        assert canonical == typed(converter.load(stored) if stored is not None else None), name
        # And so it is after the way through a serializer.
        if name != "anything":
            try:
                packed = msgpack.packb(stored)
            except (TypeError, OverflowError, UnicodeEncodeError):
                assert name in ("struct", "methods", "list of pairs")
            else:
                reread = msgpack.unpackb(packed, strict_map_key=False)
                assert typed(converter.load(reread) if reread is not None else None) == canonical, name


TYPES: dict[str, type] = {
    "integer": int,
    "boolean": bool,
    "real": float,
    "real with nan": float,
    "decimal": Decimal,
    "decimal, two places": Decimal,
    "text": str,
    "binary": bytes,
    "raw binary": bytes,
    "uuid": uuid.UUID,
    "short uuid": uuid.UUID,
    "enum": Mixed,
    "enum of bools": Truth,
    "int enum": Level,
    "str enum": Word,
    "flag": Access,
    "int flag": Loose,
    "datetime": datetime,
    "aware datetime": datetime,
    "date": date,
    "time": time,
    "timestamp": datetime,
    "timestamp in ms, UTC": datetime,
    "timestamp in us": datetime,
    "list of integers": list,
}


@SEVERAL
@given(stored=stored_forms)
def test_reading_gives_the_right_type_or_an_error(stored: Any) -> None:
    for name, expected in TYPES.items():
        kind, *rest = outcome(PURE[name].load, stored)
        if kind == "raises":
            error, message, cause = rest
            assert error is ValueError, name
            assert message.startswith(("expected ", "item ")), name
            assert cause is type(None), name
        else:
            assert rest[0][0] is expected, name


STRICT = [
    "text",
    "binary",
    "raw binary",
    "uuid",
    "short uuid",
    "enum",
    "enum of bools",
    "int enum",
    "flag",
    "int flag",
    "date",
    "timestamp in ms, UTC",
]


@SEVERAL
@given(stored=stored_forms)
def test_only_what_is_written_is_read(stored: Any) -> None:
    for name in STRICT:
        try:
            value = PURE[name].load(stored)
        except ValueError:
            continue
        assert typed(PURE[name].dump(value)) == typed(stored), name


@pytest.mark.parametrize("module", [pure, pytest.param(compiled, marks=needs_compiled)], ids=["pure", "compiled"])
@pytest.mark.parametrize("name", CONVERTERS)
def test_messages_hold_no_part_of_a_value(module: Any, name: str) -> None:
    converter = CONVERTERS[name](module)
    secrets = [
        "hunter2",
        b"hunter2\xff",
        "hunter2\ud800",
        ["hunter2"],
        {"hunter2": "hunter2"},
        [{"hunter2": {"hunter2", 1}}],
        {"hunter2": math.nan},
        ["hunter2\ud800"],
        Hostile(),
        [Hostile()],
    ]
    for secret in secrets:
        for method in (converter.dump, converter.load):
            error = error_of(method, secret)
            assert "hunter2" not in str(error)
            if "raised" not in str(error):
                assert error is None or error.__cause__ is None
                assert error is None or "hunter2" not in repr(error.__context__)


def error_of(function: Callable[..., Any], *arguments: Any) -> ValueError | None:
    try:
        function(*arguments)
    except ValueError as error:
        return error
    return None


@pytest.mark.parametrize("module", [pure, pytest.param(compiled, marks=needs_compiled)], ids=["pure", "compiled"])
class TestBothModules:
    def test_custom_converters_may_be_written_in_python(self, module: Any) -> None:
        class Reverse(module.Converter):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                self.calls = 0

            def dump(self, value: Any) -> Any:
                self.calls += 1
                return value[::-1]

            def load(self, stored: Any) -> Any:
                return stored[::-1]

        element = Reverse()
        listed = module.ListOf(element)
        assert listed.dump(["ab", "cd"]) == ["ba", "dc"]
        assert element.calls == 2
        assert listed.canonical(["ab"], ["ba"]) == ["ab"]
        assert (element.packable, element.mixed, element.key_type) == (False, False, None)

    def test_the_base_converts_nothing(self, module: Any) -> None:
        base = module.Converter()
        assert base.canonical(1, base.dump(1)) == base.load(1) == 1

    def test_converters_show_their_parameters(self, module: Any) -> None:
        assert module.Text(5).max_length == 5
        assert module.Real(True).allow_nan is True
        assert module.Enumeration(Mixed).members["b"] is Mixed.B
        assert module.Timestamp(1000, True).resolution == 1000
        assert module.Binary(False).ensure_str is False
        assert module.ListOf(module.Uuid(), True).null is True
        assert module.ListOf(module.Uuid()).element.key_type is uuid.UUID

    def test_a_list_needs_a_converter_for_its_elements(self, module: Any) -> None:
        with pytest.raises(TypeError, match="expected the element's converter, got int"):
            module.ListOf(5)

    def test_a_cyclic_value_is_an_error(self, module: Any) -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        for converter in (module.Json(), module.Anything()):
            with pytest.raises(ValueError, match="at most 200 levels"):
                converter.dump(cycle)
        with pytest.raises(ValueError, match="at most 200 levels"):
            module.check_json(cycle)

    def test_json_that_is_nested_too_deep_to_read_is_an_error(self, module: Any) -> None:
        with pytest.raises(ValueError, match="expected at most 200 levels of lists and dicts, got more"):
            module.Json().load("[" * 100_000 + "]" * 100_000)

    def test_a_validation_error_of_custom_code_is_taken_at_its_word(self, module: Any) -> None:
        def refuse(value: Any) -> Any:
            raise ValidationError("User", [("name", "expected a vowel"), ("name", "or two")])

        with pytest.raises(ValueError, match=r"^expected a vowel; or two$") as caught:
            module.Methods(refuse, refuse).dump("x")
        assert isinstance(caught.value.__cause__, ValidationError)

    def test_of_other_errors_only_the_type_is_told(self, module: Any) -> None:
        converter = module.Pair(lambda value: {}[value], lambda stored: 1 / 0)
        with pytest.raises(ValueError, match=r"^the serializer raised KeyError$") as caught:
            converter.dump("hunter2")
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(ValueError, match=r"^the deserializer raised ZeroDivisionError$"):
            converter.load(1)

    def test_an_error_in_a_list_names_the_item_and_keeps_the_cause(self, module: Any) -> None:
        converter = module.ListOf(module.Pair(lambda value: {}[value], str))
        with pytest.raises(ValueError, match=r"^item 0: the serializer raised KeyError$") as caught:
            converter.dump([1])
        assert isinstance(caught.value.__cause__, KeyError)


class TestWhatJsonHolds:
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ({1, 2}, TypeError, r"^\$: expected a JSON value, got set$"),
            ({"a": [1, b"x"]}, TypeError, r"^\$\.\*\[1\]: expected a JSON value, got bytes$"),
            ({"a": {1: 2}}, TypeError, r"^\$\.\*: expected a dict with str keys, got one with int$"),
            ([[math.nan]], ValueError, r"^\$\[0\]\[0\]: expected a finite number, got float$"),
            (["\ud800"], ValueError, r"^\$\[0\]: expected text without lone surrogates, got str$"),
            ({"\ud800": 1}, ValueError, r"^\$: expected keys without lone surrogates, got str$"),
            (Fraction(1, 2), TypeError, "got Fraction$"),
            (Word.HELLO, TypeError, "got Word$"),
        ],
    )
    def test_what_would_read_back_as_something_else_is_named(
        self, value: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            pure.check_json(value)

    def test_all_that_json_has_is_taken(self) -> None:
        pure.check_json({"a": [1, 2.5, "ä", None, True, (2**200,)], "b": OrderedDict(c=1)})
