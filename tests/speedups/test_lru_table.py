"""The table of the in-memory backend: both builds do the same, whatever is asked of them in whatever order."""

from __future__ import annotations

import gc
import random
import sys
from math import inf
from typing import Any

import pytest
from amounts import enough
from guarded import run_guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheorm import _speedups
from cacheorm._speedups.memory import _lru_table_py as pure

if _speedups.enabled:
    from cacheorm._speedups.memory import _lru_table_c as compiled  # type: ignore[attr-defined]
else:
    compiled = pure


class Text(str):
    """A key of a class of its own, whose methods do not count."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return False


class Content(bytes):
    """A value of a class of its own."""

    __slots__ = ()


TEXTS = st.sampled_from([*"abcdefghij", "", "é", "ключ", "\U0001f600", "\ud800", "a" * 300]) | st.text(max_size=3)
KEYS = TEXTS | st.builds(Text, TEXTS)
ANY_KEYS = KEYS | st.sampled_from([None, 1, b"a", ("a",), []])
ANY_HASHABLE = KEYS | st.sampled_from([None, 1, b"a", ("a",)])
VALUES = st.binary(max_size=4) | st.builds(Content, st.binary(max_size=4))
DEADLINES = st.sampled_from([1.0, 2.0, 3.5, inf])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, DEADLINES | st.none()),
    st.tuples(st.just("put"), ANY_KEYS, VALUES | st.none(), DEADLINES),
    st.tuples(st.just("put_many"), st.dictionaries(KEYS, VALUES, max_size=40), DEADLINES | st.none()),
    st.tuples(st.just("use_many"), st.lists(ANY_KEYS, max_size=20) | st.lists(KEYS, max_size=20).map(tuple)),
    st.tuples(st.sampled_from(["get", "use", "remove", "deadline", "__contains__"]), ANY_KEYS),
    st.tuples(st.just("set_deadlines"), st.lists(ANY_KEYS, max_size=10) | st.tuples(KEYS, KEYS), DEADLINES),
    st.tuples(st.just("expire"), st.sampled_from([0.0, 1.0, 2.5, 3.5])),
    st.tuples(st.sampled_from(["remove_first", "items", "clear"])),
)


def outcome(table: Any, name: str, *args: Any) -> Any:
    try:
        return getattr(table, name)(*args)
    except TypeError as error:
        return str(error)


def state(table: Any) -> Any:
    deadlines = [table.deadline(key) for key in table]
    assert table.next_deadline <= min(deadlines, default=inf)
    assert table.size == sum(len(key) + len(value) for key, value in table.items())
    return table.items(), list(table), len(table), table.timed, deadlines


@settings(max_examples=enough(300), deadline=None)
@given(st.lists(STEPS, max_size=60), st.booleans())
def test_both_builds_hold_the_same_after_every_step(steps: list[Any], measured: bool) -> None:
    tables = compiled.LruTable(measured), pure.LruTable(measured)
    for step in steps:
        one, other = (outcome(table, *step) for table in tables)
        assert one == other, step
        assert type(one) is type(other)
        assert state(tables[0]) == state(tables[1]), step


@given(st.dictionaries(ANY_HASHABLE, VALUES | st.none(), max_size=5) | st.lists(KEYS))
def test_batches_of_exact_text_and_bytes_are_told(batch: Any) -> None:
    pairs = batch.items() if isinstance(batch, dict) else [(None, None)]
    expected = all(type(key) is str and type(value) is bytes for key, value in pairs)
    assert pure.is_exact(batch) is compiled.is_exact(batch) is expected


@pytest.mark.parametrize("module", [compiled, pure], ids=["compiled", "pure"])
def test_only_exact_text_and_bytes_are_held(module: Any) -> None:
    table = module.LruTable()
    table.put(Text("a"), b"1", None)
    table.put_many({Text("b"): b"2", Text("a"): b"3"}, None)
    assert table.items() == [("b", b"2"), ("a", b"3")]
    assert {type(key) for key in table} == {str}


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(enough(3, 1)))
def test_a_table_larger_than_any_cache_holds_the_same(seed: int) -> None:
    """It grows, and what is asked for is fetched beforehand."""
    chance = random.Random(seed)
    tables = compiled.LruTable(), pure.LruTable()
    names = [f"key:{i}" for i in range(60_000)] + [f"ключ:{i}" for i in range(5_000)]
    for turn in range(60):
        some = chance.sample(names, chance.randrange(6_000))
        batch = {key: key.encode() for key in some[: len(some) // 2]}
        deadline = chance.choice([None, inf, turn + 5.0, turn + chance.random() * 20])
        gone = chance.sample(names, 700)
        asked: list[Any] = [*some, *gone, *(Text(key) for key in some[: chance.randrange(2)]), None]
        answers = []
        for table in tables:
            table.put_many(batch, deadline)
            answers.append(
                [
                    table.use_many(asked),
                    [table.set_deadlines([key], turn + at % 50) for at, key in enumerate(gone[300:500])],
                    table.set_deadlines([*gone[500:], *gone[450:]], turn + 3.0),
                    table.expire(turn),
                    [table.remove(key) for key in gone[:300]],
                    [table.remove_first() for _ in range(100)],
                    len(table),
                    table.timed,
                ]
            )
        assert answers[0] == answers[1]
    assert state(tables[0]) == state(tables[1])


def test_names_that_share_a_slot_are_all_found_when_some_go() -> None:
    """Few slots and many turns, so that gaps are closed over the end of the slots as well."""
    chance = random.Random(5)
    tables = compiled.LruTable(), pure.LruTable()
    for _ in range(20_000):
        key = str(chance.randrange(12))
        name = chance.choice(["put", "remove", "use"])
        args = (key, b"x", None) if name == "put" else (key,)
        assert outcome(tables[0], name, *args) == outcome(tables[1], name, *args)
    assert state(tables[0]) == state(tables[1])


def exercise(module: Any, rounds: int) -> None:
    """Take every path that stores, replaces, or gives up a reference."""
    for turn in range(rounds):
        table = module.LruTable()
        table.put_many({f"{turn}:{i}": b"%d" % (turn * 1000 + i) for i in range(300)}, 5.0)
        table.put_many({f"{turn}:{i}": b"new %d" % i for i in range(0, 400, 3)}, None)
        table.use_many([f"{turn}:{i}" for i in range(0, 500, 2)])
        table.use_many([Text(f"{turn}:{i}") for i in range(20)])
        table.put(Text(f"own {turn}"), Content(b"own %d" % turn), 6.0)
        for wrong in (("a", None, None), (None, b"", None), ({"a": None}, None), ({1: b""}, None)):
            outcome(table, "put" if len(wrong) == 3 else "put_many", *wrong)
        for i in range(50):
            table.set_deadlines([f"{turn}:{i}"], i % 7)
        table.expire(3.0)
        for i in range(100):
            table.remove(f"{turn}:{i}")
            table.remove_first()
        table.put_many({f"{turn}:{i}": b"again %d" % i for i in range(100)}, inf)
        table.items()
        if turn % 2:
            table.clear()
            table.put("a", b"%d" % turn, None)


@pytest.mark.parametrize("module", [compiled, pure], ids=["compiled", "pure"])
def test_no_reference_is_lost_or_kept(module: Any) -> None:
    exercise(module, 5)
    gc.collect()
    before = sys.getallocatedblocks()
    exercise(module, 40)
    gc.collect()
    # 40 tables of some 400 entries would be far more.
    assert sys.getallocatedblocks() - before < 200


def test_all_paths_are_sound_under_the_debugging_allocator() -> None:
    code = """
tests.exercise(tests.compiled, 20)
tests.test_a_table_larger_than_any_cache_holds_the_same(1)
tests.test_names_that_share_a_slot_are_all_found_when_some_go()
"""
    run_guarded(__file__, code)


@pytest.mark.parametrize("module", [compiled, pure], ids=["compiled", "pure"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_keys_that_stay_are_given_once_whatever_happens_meanwhile(module: Any, step: int) -> None:
    table = module.LruTable()
    stays = [f"stays {i}" for i in range(300)]
    goes = [f"goes {i}" for i in range(300)]
    table.put_many(dict.fromkeys([key for pair in zip(stays, goes, strict=True) for key in pair], b"1"), None)
    found: list[str] = []
    cursor, turn = None, 0
    while True:
        keys, cursor = table.keys_from(cursor, step)
        assert len(keys) <= step
        found += keys
        if cursor is None:
            break
        turn += 1
        if goes:
            table.remove(goes.pop())
        table.use_many(stays[turn % 7 :: 7])
        if turn < 300:
            table.put(f"comes {turn}", b"2", 5.0)
        table.put(stays[turn % 300], b"again", inf)
    assert sorted(key for key in found if key.startswith("stays")) == sorted(stays)
    assert len({*found}) == len(found)


@pytest.mark.parametrize("module", [compiled, pure], ids=["compiled", "pure"])
def test_an_empty_table_has_no_keys(module: Any) -> None:
    table = module.LruTable()
    assert table.keys_from(None, 10) == ([], None)
    table.put_many({str(i): b"" for i in range(20)}, None)
    _, cursor = table.keys_from(None, 10)
    table.clear()
    table.put("new", b"", None)
    keys, end = table.keys_from(cursor, 10)
    assert (keys in ([], ["new"]), end) == (True, None)
