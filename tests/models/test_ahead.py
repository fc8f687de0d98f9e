"""Queries of more rows than are worked on at a time, where later ones are asked for before earlier ones are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import cacheorm as co
from cacheorm.operations.ahead import Wanted

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


def wanted_of(user: Any, rows: Sequence[Any]) -> Any:
    return user.query_many(rows).chunk_size(CHUNK)


def names(found: list[Any]) -> list[str | None]:
    return [row and row.name for row in found]


ASKED = [{"id": n} for n in (*range(COUNT), 99_999, 5, *range(700), 2, 2)]
NAMES = [None if row["id"] == 99_999 else f"user {row['id']}" for row in ASKED]


def test_rows_come_in_the_order_asked_misses_and_repeats_among_them(user: Any) -> None:
    assert names(wanted_of(user, ASKED).execute()) == NAMES
    assert names(asyncio.run(wanted_of(user, tuple(ASKED)).aexecute())) == NAMES
    assert names(wanted_of(user, (row for row in ASKED)).execute()) == NAMES


def test_a_key_that_is_repeated_in_a_chunk_gives_the_same_instance(user: Any) -> None:
    found = wanted_of(user, ASKED).execute()
    assert found[-1] is found[-2]
    assert found[-1] == found[2]


def test_who_wraps_the_backend_sees_all_keys_in_one_call(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = user._meta.backend
    assert backend.reads_ahead
    assert not co.SimpleBackend().reads_ahead
    seen: list[list[str]] = []
    get_chunks = backend.get_chunks

    def wrapped(keys: Sequence[str]) -> Any:
        seen.append([*keys])
        return get_chunks(keys)

    monkeypatch.setattr(backend, "get_chunks", wrapped)
    assert names(wanted_of(user, ASKED).execute()) == NAMES
    assert seen == [[user.key(**row) for row in ASKED]]


@pytest.mark.parametrize("bad", [{"id": "x"}, {"name": "no key"}, 7], ids=["no number", "no key", "no row"])
def test_a_row_that_is_wrong_far_behind_is_named_and_disturbs_nobody(user: Any, bad: Any) -> None:
    rows: list[Any] = [*ASKED]
    rows[2300] = bad
    with pytest.raises((co.ValidationError, TypeError)) as lazily:
        wanted_of(user, rows).execute()
    with pytest.raises((co.ValidationError, TypeError)) as in_slices:
        wanted_of(user, iter(rows)).execute()
    assert (type(lazily.value), str(lazily.value)) == (type(in_slices.value), str(in_slices.value))
    assert names(wanted_of(user, ASKED).execute()) == NAMES


def test_a_key_that_the_backend_cannot_hold_is_refused_far_behind_too(redis_backend: co.RedisBackend) -> None:
    class Odd(co.Model):
        id = co.IntegerField(primary_key=True, index_formatter=lambda pk: "\ud800" if pk == 2300 else f"odd:{pk}")

        class Meta:
            backend = redis_backend

    with pytest.raises(co.InvalidKeyError):
        wanted_of(Odd, [{"id": n} for n in range(COUNT)]).execute()
    assert wanted_of(Odd, [{"id": n} for n in range(2000)]).execute() == [None] * 2000


def test_keys_are_made_once_when_they_are_asked_for_and_then_forgotten() -> None:
    made: list[int] = []

    def identify(part: Sequence[int]) -> tuple[list[Any], list[str]]:
        made.append(part[0])
        return [*part], [f"k{n}" for n in part]

    wanted = Wanted(range(10), 4, identify, lambda payloads, pks, keys: [*zip(payloads, pks, keys, strict=True)])
    assert len(wanted) == 10
    assert made == []
    assert wanted[0:3] == ["k0", "k1", "k2"]
    assert wanted[3:6] == ["k3", "k4", "k5"]
    assert made == [0, 4]
    wanted.receive(0, [b"0", b"1", b"2"])
    wanted.receive(3, [b"3", b"4", b"5"])
    assert [*wanted._parts] == [1]
    assert wanted[6:99] == ["k6", "k7", "k8", "k9"]
    wanted.receive(6, [b"6", b"7", b"8", b"9"])
    assert wanted._parts == {}
    assert made == [0, 4, 8]
    assert wanted.found == [(b"%d" % n, n, f"k{n}") for n in range(10)]
    # Whoever looks at them once more has them made once more.
    assert (wanted[-1], wanted[9:5:-2], [*wanted][:2]) == ("k9", ["k9", "k7"], ["k0", "k1"])
    with pytest.raises(IndexError):
        wanted[10]
