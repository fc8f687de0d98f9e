"""Both builds measure msgpack alike, whatever the bytes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from amounts import enough
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheorm import speedups_enabled
from cacheorm._speedups import rows
from cacheorm._speedups.rows import _measure_py

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda part: st.lists(part) | st.dictionaries(st.text() | st.integers(0, 300), part),
)


@pytest.mark.skipif(not speedups_enabled, reason="there is but one build to compare")
@settings(max_examples=enough(2000))
@given(
    st.one_of(st.binary(max_size=40), VALUES.map(msgpack.packb)), st.binary(max_size=3), st.integers(0, 5000), st.data()
)
def test_both_builds_agree(packed: bytes, more: bytes, allowed: int, data: Any) -> None:
    packed = packed[: data.draw(st.integers(0, len(packed)))] + more
    for levels in (0, 1, 3, 201):
        for most in (allowed, 1 << 62):
            assert rows.measure_msgpack(packed, most, levels) == _measure_py.measure_msgpack(packed, most, levels)
