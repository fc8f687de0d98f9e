"""Decimals in rows: the compiled codecs make and read them without the library, and nobody can tell."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.rows import _rows_py

# Enough for every number here: what it computes is exact, but for quotients.
EXACT = Context(prec=500, Emax=MAX_EMAX, Emin=MIN_EMIN)

digits = st.text("0123456789", min_size=1, max_size=30) | st.sampled_from(
    ["0", "00", "007", "9" * 18, "9" * 19, "1" + "0" * 18, "1" + "0" * 19, str(2**63), str(2**64 - 1), str(2**64)]
)
forms = st.tuples(st.sampled_from(["", "-"]), digits, digits.map(".".__add__) | st.just("")).map("".join)
odd_texts = st.text("0123456789-+.eE_ ٣n", max_size=60) | st.sampled_from(
    ["", "-", ".", "-.", "1.", ".1", "-.1", "1.2.3", "--1", "1-", "1e5", "1E+5", "NaN", "Infinity", "1_0", " 1", "٣"]
)  # fmt: skip
decimals = st.builds(
    lambda sign, parts, exponent: Decimal((sign, tuple(parts), exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=45),
    st.integers(-60, 30),
)


def make_model(serializer: str, rounds: bool) -> Any:
    class Price(co.Model):
        id = co.IntegerField(primary_key=True)
        amount = co.DecimalField(2, auto_round=True) if rounds else co.DecimalField()

        class Meta:
            backend = co.SimpleBackend()

    Price._meta = Price._meta.rebind(None, co.registry.get_by_name(serializer))
    return Price


MODELS = {serializer: make_model(serializer, False) for serializer in ("msgpack", "json")}
ROUNDED = {serializer: make_model(serializer, True) for serializer in ("msgpack", "json")}


def facts(number: Decimal) -> Any:
    return (
        type(number),
        number.as_tuple(),
        hash(number),
        repr(number),
        number == Decimal(repr(number)[9:-2]),
        EXACT.multiply(number, Decimal("3.7")),
        EXACT.divide(number, Decimal(7)),
        pickle.loads(pickle.dumps(number)).as_tuple(),
        copy.deepcopy(number).as_tuple(),
        number.as_integer_ratio() if number.adjusted() < EXACT.prec else None,
    )


def read(model: Any, payload: bytes) -> Any:
    try:
        return facts(model._meta.resolved().codec.load_many([payload], [1], ["the:key"])[0].amount)
    except co.PayloadError as error:
        return str(error)


def pure_codec(model: Any) -> Any:
    plan = model._meta
    return _rows_py.MsgpackRows(model, tuple(plan.fields.values()), plan.key_fields, plan.identity, False)


@given(text=forms | odd_texts)
@example(text="-0")
@example(text="-0.00")
@example(text="0." + "0" * 46 + "1")
@example(text="1E501")
def test_text_is_read_as_the_library_reads_it(text: str) -> None:
    payload = msgpack.packb({"amount": text})
    model = MODELS["msgpack"]
    try:
        expected = facts(pure_codec(model).load_many([payload], [1], ["the:key"])[0].amount)
    except co.PayloadError as error:
        expected = str(error)
    else:
        assert expected[1] == Decimal(text).as_tuple()
    assert read(model, payload) == expected


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@given(number=decimals)
@example(number=Decimal("-0.000000"))
@example(number=Decimal("0E-7"))
@example(number=Decimal("0.000001"))
@example(number=Decimal("1E-7"))
@example(number=Decimal("9" * 19))
@example(number=Decimal("9999999999999.999999"))
@example(number=Decimal("0.9999999999999999999"))
@example(number=Decimal("1E+3"))
def test_a_decimal_is_written_as_its_text_and_comes_back(serializer: str, number: Decimal) -> None:
    model = MODELS[serializer]
    # What arithmetic leaves is laid out otherwise than what was made of text.
    computed = EXACT.subtract(EXACT.add(number, Decimal(10) ** 40), Decimal(10) ** 40)
    for given_number in (number, computed, number.copy_negate(), number.copy_abs()):
        row = model.create(id=1, amount=given_number)
        stored = model._meta.serializer.loads(model._meta.backend.get(model.key(id=1)))
        assert stored == {"amount": str(given_number)}
        assert facts(row.amount) == facts(given_number)
        assert facts(model.get(id=1).amount) == facts(given_number)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@given(number=st.decimals(-(10**25), 10**25, allow_nan=False) | decimals)
def test_a_decimal_of_other_places_is_rounded_when_it_is_written(serializer: str, number: Decimal) -> None:
    model = ROUNDED[serializer]
    expected = number.quantize(Decimal("0.01"), context=EXACT)
    assert facts(model.create(id=1, amount=number).amount) == facts(expected)
    assert facts(model.get(id=1).amount) == facts(expected)


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("-sNaN5"), Decimal("Infinity"), Decimal("-Infinity")])
@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_what_is_no_number_is_refused(serializer: str, number: Decimal) -> None:
    with pytest.raises(co.ValidationError, match="expected a finite decimal number"):
        MODELS[serializer].create(id=1, amount=number)


def test_a_subclass_becomes_a_decimal() -> None:
    class Money(Decimal):
        pass

    for model in MODELS.values():
        assert facts(model.create(id=1, amount=Money("1.50")).amount) == facts(Decimal("1.50"))


PROGRAM = """
import gc, sys, tracemalloc
from decimal import Decimal
import cacheorm as co

assert not sys.argv[1:] or "_pydecimal" in Decimal.__module__ or "_pydecimal" in sys.modules

class Price(co.Model):
    id = co.IntegerField(primary_key=True)
    amount = co.DecimalField()
    class Meta:
        backend = "memory://"
        ttl = 0  # nothing waits for its end

texts = ["0", "-0.00", "12.50", "-0.000001", "0." + "0" * 40 + "1", "9" * 19, "-" + "9" * 20, "1" * 45 + ".5", "1E+30"]

def turn():
    for text in texts:
        for number in (Decimal(text), Decimal(text) + 0, -Decimal(text)):
            row = Price.create(id=1, amount=number)
            found = Price.get(id=1).amount
            assert row.amount.as_tuple() == found.as_tuple() == number.as_tuple()
            assert hash(found) == hash(number) and str(found + 1) == str(number + 1)

for _ in range(20):
    turn()
gc.collect()
tracemalloc.start()
turn()
before = tracemalloc.get_traced_memory()[0]
for _ in range(50):
    turn()
gc.collect()
assert tracemalloc.get_traced_memory()[0] - before < 2000, "something is left of each turn"
print("done")
"""


def run_program(*arguments: str, prelude: str = "", **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", prelude + PROGRAM, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_decimals_do_no_harm_under_the_debugging_allocator() -> None:
    run_program(PYTHONMALLOC="debug")


def test_a_decimal_laid_out_otherwise_is_left_to_its_library() -> None:
    # Without its compiled part the library has the class in Python.
    run_program("pure", prelude="import sys; sys.modules['_decimal'] = None\n")
