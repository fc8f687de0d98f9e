"""Queries of more rows than are handed to the backend at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import cacheorm as co

COUNT = 2500
CHUNK = 1000


@pytest.fixture
def user(redis_backend: co.RedisBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = redis_backend

    User.insert_many({"id": n, "name": f"user {n}"} for n in range(COUNT)).execute()
    return User


def query_of(user: Any, rows: Sequence[Any]) -> Any:
    return user.query_many(rows).chunk_size(CHUNK)


def names(found: list[Any]) -> list[str | None]:
    return [row and row.name for row in found]


ASKED = [{"id": n} for n in (*range(COUNT), 99_999, 5, *range(700), 2, 2)]
NAMES = [None if row["id"] == 99_999 else f"user {row['id']}" for row in ASKED]


def test_rows_come_in_the_order_asked_misses_and_repeats_among_them(user: Any) -> None:
    assert names(query_of(user, ASKED).execute()) == NAMES
    assert names(asyncio.run(query_of(user, tuple(ASKED)).aexecute())) == NAMES
    assert names(query_of(user, (row for row in ASKED)).execute()) == NAMES


def test_a_key_that_is_repeated_in_a_part_gives_the_same_instance(user: Any) -> None:
    found = query_of(user, ASKED).execute()
    assert found[-1] is found[-2]
    assert found[-1] == found[2]


def test_a_wrapped_backend_sees_each_part_once(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = user._meta.backend
    seen: list[list[str]] = []
    get_chunks = backend.get_chunks

    def wrapped(keys: Sequence[str]) -> Any:
        seen.append([*keys])
        return get_chunks(keys)

    monkeypatch.setattr(backend, "get_chunks", wrapped)
    assert names(query_of(user, ASKED).execute()) == NAMES
    every = [user.key(**row) for row in ASKED]
    parts = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    assert seen == [[*dict.fromkeys(part)] for part in parts]


@pytest.mark.parametrize(
    "bad", [{"id": "x"}, {"name": "no key"}, None, "x"], ids=["no number", "no key", "no row", "no plain key"]
)
def test_a_wrong_row_of_a_later_part_is_an_error_of_the_whole_query(user: Any, bad: Any) -> None:
    rows: list[Any] = [*ASKED]
    rows[2300] = bad
    with pytest.raises((co.ValidationError, TypeError)) as of_list:
        query_of(user, rows).execute()
    with pytest.raises((co.ValidationError, TypeError)) as of_iterator:
        query_of(user, iter(rows)).execute()
    assert (type(of_list.value), str(of_list.value)) == (type(of_iterator.value), str(of_iterator.value))
    assert str(of_list.value).endswith("(row 2300)")
    assert names(query_of(user, ASKED).execute()) == NAMES


def test_a_key_of_a_later_part_that_the_backend_cannot_hold_is_refused(redis_backend: co.RedisBackend) -> None:
    class Odd(co.Model):
        id = co.IntegerField(primary_key=True, index_formatter=lambda pk: "\ud800" if pk == 2300 else f"odd:{pk}")

        class Meta:
            backend = redis_backend

    with pytest.raises(co.InvalidKeyError):
        query_of(Odd, [{"id": n} for n in range(COUNT)]).execute()
    assert query_of(Odd, [{"id": n} for n in range(2000)]).execute() == [None] * 2000
