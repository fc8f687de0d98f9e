from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheorm._speedups import records
from cacheorm._speedups.memory import _records_py as pure
from cacheorm.errors import InvalidKeyError

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("aé\U0001f600\0\ud800"))
KEYS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
NOT_KEYS = st.sampled_from([None, 1, b"a", ("a",)])


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (InvalidKeyError, TypeError, ValueError) as error:
        return type(error), str(error)


@given(st.lists(ANY_TEXT | NOT_KEYS))
def test_both_builds_give_the_same_ids_and_refuse_the_same_keys(keys: list[Any]) -> None:
    assert outcome(lambda: records.key_ids(keys)) == outcome(lambda: pure.key_ids(keys))


@given(st.dictionaries(ANY_TEXT, st.binary()), st.integers(-1, 1))
def test_both_builds_make_the_same_parameters(batch: dict[str, bytes], surplus: int) -> None:
    ids = list(range(max(0, len(batch) + surplus)))
    assert outcome(lambda: records.make_parameters(batch, ids, 7)) == outcome(
        lambda: pure.make_parameters(batch, ids, 7)
    )


@given(st.data(), st.lists(KEYS, max_size=20), st.integers(1, 5))
def test_both_builds_pick_the_same_values(data: Any, keys: list[str], width: int) -> None:
    one = st.none() | st.binary(max_size=8) | st.just("text")
    if keys:
        one |= st.builds(pure.make_record, st.sampled_from(keys), st.binary(max_size=8))
    rows = data.draw(st.lists(st.tuples(*[one] * width), max_size=8))
    assert outcome(lambda: records.pick(keys, rows)) == outcome(lambda: pure.pick(keys, rows))


@given(st.dictionaries(KEYS, st.binary(), min_size=1))
def test_a_value_comes_back_from_the_record_of_its_own_key_only(batch: dict[str, bytes]) -> None:
    held = [records.make_record(key, value) for key, value in batch.items()]
    assert records.pick([*batch], [held]) == [*batch.values()]
    assert records.pick([f"{key}x" for key in batch], [held]) == [None] * len(batch)
    assert records.pick([key[:-1] if key else "x" for key in batch], [held]) == [None] * len(batch)


@pytest.mark.parametrize(
    ("key", "number"),
    [("", 0), ("a", 0x61), ("abc", 0x616263), ("123456789abc", 0xCBF43926616263), ("é", 0xC3A9)],
)
def test_the_id_of_a_key_is_the_same_for_ever(key: str, number: int) -> None:
    assert records.key_ids([key]) == [number]


def test_keys_in_a_row_have_ids_in_a_row() -> None:
    ids = records.key_ids(f"m:user:id:{n}" for n in range(1000, 2000))
    assert ids == sorted(ids)
    assert ids[-1] - ids[0] < 1 << 24


def test_a_record_needs_a_key_that_can_be_held() -> None:
    with pytest.raises(InvalidKeyError, match="NUL"):
        records.make_record("a\0b", b"")
