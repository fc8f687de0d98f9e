"""Preloading: 1000 comments by 100 users, beside two separate queries and beside hand-written code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .contests import OURS
from .hand import Hand, MemoryHand, RedisHand
from .measure import Call, alternate
from .rows import STANDARD, Shape
from .shapes import RELATED
from .stores import Stores

__all__ = ["BACKENDS", "contestants", "times"]

BACKENDS = ("Redis", "Simple")

AUTHORS = 100


def _hand(stores: Stores, backend: str, shape: Shape) -> Hand:
    return RedisHand(stores.redis, shape) if backend == "Redis" else MemoryHand(shape)


@contextlib.contextmanager
def contestants(stores: Stores, backend: str, count: int) -> Iterator[dict[str, Call]]:
    """Store the rows, and yield the calls to compare."""
    comments = [{**row, "author_id": number % AUTHORS} for number, row in enumerate(RELATED.rows(count))]
    users = STANDARD.rows(AUTHORS)
    asked, authors = RELATED.asked(comments), STANDARD.asked(users)
    with stores.bound(STANDARD, backend) as user, stores.bound(RELATED, backend) as comment:
        reader, writer = _hand(stores, backend, RELATED), _hand(stores, backend, STANDARD)
        user.insert_many(users).execute()
        comment.insert_many(comments).execute()
        writer.insert_many(users)
        reader.insert_many(comments)
        pks = RELATED.pks(comments)

        def two_queries() -> tuple[list[Any], list[Any]]:
            return comment.query_many(asked).execute(), user.query_many(authors).execute()

        def by_hand() -> list[Any]:
            rows: Any = reader.query_many(pks)
            author_ids = list({row["author"] for row in rows})
            found = dict(zip(author_ids, writer.query_many(author_ids), strict=True))
            for row in rows:
                row["author"] = found[row["author"]]
            return rows  # type: ignore[no-any-return]

        yield {
            OURS: lambda: comment.query_many(asked).preload("author").execute(),
            "two queries": two_queries,
            "by hand": by_hand,
        }


def times(stores: Stores, backend: str, count: int, rounds: int, seconds: float, tick: Any) -> Mapping[str, float]:
    """Time one line of the table: microseconds per comment, by contestant."""
    with contestants(stores, backend, count) as calls:
        return alternate(calls, count, rounds, seconds, tick)
