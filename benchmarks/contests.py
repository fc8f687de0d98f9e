"""The contests of the ratio table: cacheorm's operations beside hand-written code for the same rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cacheorm as co

from .hand import (
    FileHand,
    Hand,
    MemoryHand,
    PylibmcHand,
    PymemcacheHand,
    RedisClusterHand,
    RedisHand,
    json_pack,
)
from .measure import Call, alternate
from .rows import STANDARD, Shape, changes
from .stores import Stores

__all__ = ["CONTESTS", "OURS", "Contest", "Result", "contestants", "run", "run_beside"]

OURS = "cacheorm"


@dataclass(frozen=True)
class Contest:
    """One line of a table.

    Attributes:
        operation: ``query_many``, ``get_many``, ``co.Query``, ``insert_many``, ``update_many`` or ``get``.
        backend: one of :data:`benchmarks.stores.BACKENDS`.
        count: rows in one call; for ``get``, how many single calls are timed together.
        bar: the ratio to hand-written code that the compiled build has to stay at or below.
        pure_bar: likewise the pure build.
        serializer: ``msgpack`` or ``json``.
        shape: of the rows.
        noreply: the hand-written code does not learn what was stored (pymemcache).
    """

    operation: str
    backend: str
    count: int = 1000
    bar: float | None = None
    pure_bar: float | None = None
    serializer: str = "msgpack"
    shape: Shape = STANDARD
    noreply: bool = False

    @property
    def title(self) -> str:
        """The label of the line."""
        text = f"{self.operation}, {self.backend}"
        if self.serializer != "msgpack":
            text += f", {self.serializer}"
        if self.operation == "get":
            text += ", one row at a time"
        if self.noreply:
            text += ", hand without replies"
        return text

    @property
    def rows_shown(self) -> int:
        """Rows in one call."""
        return 1 if self.operation == "get" else self.count


@dataclass(frozen=True)
class Result:
    """The result of a contest: medians of microseconds per row."""

    contest: Contest
    ours: float
    hands: dict[str, float]

    @property
    def hand(self) -> float:
        """The fastest of the hand-written versions."""
        return min(self.hands.values())

    @property
    def ratio(self) -> float:
        """Our time over that of hand-written code: below 1 is faster."""
        return self.ours / self.hand


def _hands(contest: Contest, stores: Stores) -> dict[str, Hand]:
    """Return the hand-written versions by the library that they use; the fastest one counts."""
    shape = contest.shape
    packers: tuple[Any, ...] = (json_pack, json.loads) if contest.serializer == "json" else ()
    if contest.backend in ("Simple", "large Simple"):
        return {"dict": MemoryHand(shape, *packers)}
    if contest.backend == "FileSystem":
        return {"diskcache": FileHand(stores.diskcache, shape, *packers)}
    if contest.backend == "Redis":
        return {"redis-py": RedisHand(stores.redis, shape, *packers)}
    if contest.backend == "Redis Cluster":
        return {"redis-py": RedisClusterHand(stores.redis_cluster, shape, *packers)}
    hands: dict[str, Hand] = {"pymemcache": PymemcacheHand(stores.pymemcache, shape, contest.noreply, *packers)}
    # Its set_multi is several times slower than pymemcache's: no opponent, and left out to save time.
    if stores.pylibmc is not None and contest.operation != "insert_many":
        hands["pylibmc"] = PylibmcHand(stores.pylibmc, shape, *packers)
    return hands


@contextlib.contextmanager
def contestants(contest: Contest, stores: Stores, clear: bool = True) -> Iterator[dict[str, Call]]:
    """Store the rows, and yield the calls to compare, ours under :data:`OURS`."""
    shape = contest.shape
    rows = shape.rows(contest.count)
    asked, pks = shape.asked(rows), shape.pks(rows)
    hands = _hands(contest, stores)
    with stores.bound(shape, contest.backend, contest.serializer, clear) as model:
        model.insert_many(rows).execute()
        for hand in hands.values():
            hand.insert_many(rows)
        calls: dict[str, Call]
        if contest.operation in (*OUR_READS, "get"):
            # Their dicts would give the garbage collector work that no reader of rows has.
            rows.clear()
        if contest.operation in OUR_READS:
            calls = {OURS: _bind(OUR_READS[contest.operation], (model, asked, pks))}
            calls |= {name: _bind(hand.query_many, pks) for name, hand in hands.items()}
        elif contest.operation == "insert_many":
            calls = {OURS: lambda: model.insert_many(rows).execute()}
            calls |= {name: _bind(hand.insert_many, rows) for name, hand in hands.items()}
        elif contest.operation == "update_many":
            changed = changes(rows)
            calls = {OURS: lambda: model.update_many(changed).execute()}
            calls |= {name: _bind(hand.update_many, changed) for name, hand in hands.items()}
        else:
            calls = {OURS: lambda: _get_each(model.get, pks)}
            calls |= {name: _bind(hand.get_each, pks) for name, hand in hands.items()}
        yield calls


# The bulk reads, given the model, what query_many is asked for, and the primary keys. By hand they are the same.
OUR_READS: dict[str, Callable[[Any], Any]] = {
    "query_many": lambda args: args[0].query_many(args[1]).execute(),
    "get_many": lambda args: args[0].get_many(args[2]),
    "co.Query": lambda args: co.Query([(args[0], args[1])]).execute(),
}


def _bind(call: Callable[[Any], Any], argument: Any) -> Call:
    return lambda: call(argument)


def _get_each(get: Callable[..., Any], pks: list[int]) -> None:
    for pk in pks:
        get(id=pk)


def run(contest: Contest, stores: Stores, rounds: int, seconds: float, tick: Callable[[], None]) -> Result:
    """Run one contest."""
    (result,) = run_beside([contest], stores, rounds, seconds, tick)
    return result


def run_beside(
    contests: Sequence[Contest], stores: Stores, rounds: int, seconds: float, tick: Callable[[], None]
) -> list[Result]:
    """Run contests in the same rounds, so that their results can be compared."""
    with contextlib.ExitStack() as stack:
        entered = [
            stack.enter_context(contestants(contest, stores, clear=at == 0)) for at, contest in enumerate(contests)
        ]
        calls = {f"{at} {name}": call for at, found in enumerate(entered) for name, call in found.items()}
        times = alternate(calls, 1, rounds, seconds, tick)
    results = []
    for at, (contest, found) in enumerate(zip(contests, entered, strict=True)):
        hands = {name: times[f"{at} {name}"] / contest.count for name in found}
        results.append(Result(contest, hands.pop(OURS), hands))
    return results


# The bars of the compiled build are the project's aims. Those of the pure build are half the ratios of version 0.0.1,
# whose speed it has to double; that version wrote no files, and single rows are not among the bulk operations.
CONTESTS = [
    Contest("query_many", "Redis", 1000, 0.50, 9.4 / 2),
    Contest("query_many", "Redis", 100_000, 0.35, 6.2 / 2),
    Contest("get_many", "Redis", 1000),
    Contest("co.Query", "Redis", 1000),
    Contest("insert_many", "Redis", 1000, 0.25, 1.9 / 2),
    Contest("update_many", "Redis", 1000, 0.35, 3.0 / 2),
    Contest("query_many", "Redis Cluster", 1000, 0.60),
    Contest("insert_many", "Redis Cluster", 1000),
    Contest("query_many", "memcached", 1000, 0.70, 7.0 / 2),
    Contest("insert_many", "memcached", 1000, 0.45, 9.8 / 2),
    Contest("insert_many", "memcached", 1000, noreply=True),
    Contest("query_many", "Simple", 1000, 0.60, 19.8 / 2),
    Contest("insert_many", "Simple", 1000, 0.45, 5.0 / 2),
    Contest("query_many", "FileSystem", 1000, 0.15),
    Contest("insert_many", "FileSystem", 1000, 0.15),
    Contest("query_many", "Simple", 1000, 0.45, 6.9 / 2, serializer="json"),
    Contest("insert_many", "Simple", 1000, 0.40, 3.4 / 2, serializer="json"),
    Contest("get", "Redis", 1000, 0.90),
    Contest("get", "Simple", 1000, 1.0),
]
