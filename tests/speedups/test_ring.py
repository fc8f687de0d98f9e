"""The ring, compiled and pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheorm import _speedups
from cacheorm._speedups.wire import _ring_py as pure

if _speedups.enabled:
    from cacheorm._speedups.wire import _ring_c as compiled
else:
    compiled = pure

numbers = st.integers(0, 0xFFFFFFFF)
points = st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=("Cs",)))


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - any of them is to be the same in both
        return type(error), str(error)


def test_the_hash_is_the_published_one() -> None:
    # https://en.wikipedia.org/wiki/Jenkins_hash_function
    for ring in (pure, compiled):
        assert ring.one_at_a_time(b"a") == 0xCA2E9442
        assert ring.one_at_a_time(b"The quick brown fox jumps over the lazy dog") == 0x519E91F5
        assert ring.one_at_a_time(b"") == 0


@given(st.binary())
def test_the_hash_is_the_same_in_both(data: bytes) -> None:
    assert compiled.one_at_a_time(data) == pure.one_at_a_time(data)


@given(points, st.booleans(), st.lists(texts))
def test_keys_have_the_same_owners_in_both(points: list[tuple[int, int]], digest: bool, keys: list[str]) -> None:
    rings = [twin.Ring(points, digest) for twin in (pure, compiled)]
    assert rings[0].owners(keys) == rings[1].owners(keys) == bytes([rings[1].owner(key) for key in keys])


@given(st.lists(st.tuples(st.integers(-1, 1 << 33), st.integers(-1, 300)), max_size=3))
def test_bad_points_are_refused_alike(points: list[tuple[int, int]]) -> None:
    def made(twin: Any) -> Any:
        return outcome(lambda: bool(twin.Ring(points, False)))

    assert made(pure) == made(compiled)


@given(st.binary(max_size=50), st.integers(0, 256), st.integers(-2, 3))
def test_dealing_and_collecting_are_the_same_in_both(owners: bytes, servers: int, more: int) -> None:
    items = list(range(len(owners) + more))
    dealt = [outcome(lambda twin=twin: twin.deal(owners, items, servers)) for twin in (pure, compiled)]  # type: ignore[misc]
    assert dealt[0] == dealt[1]
    if isinstance(dealt[0], list):
        for twin in (pure, compiled):
            parts = [part[: len(part) // 2] for part in dealt[0]]
            taken, result = [0] * servers, []  # type: ignore[var-annotated]
            position = twin.collect(owners, 0, parts, taken, result)
            assert result == items[:position]
            assert twin.collect(owners, position, dealt[0], taken, result) == len(owners)
            assert result == items


@pytest.mark.parametrize("twin", [pure, compiled])
def test_owners_that_are_no_servers_are_refused(twin: Any) -> None:
    for taken in ([0], [0, 0]):
        with pytest.raises(ValueError, match="not among the servers"):
            twin.collect(b"\1", 0, [[]], taken, [])
    assert twin.collect(b"\0", 0, [[1]], [-1], []) == 0
