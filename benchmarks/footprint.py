"""Figures that are no ratios of times: memory, import time, flatness, protobuf.

Measurements that need a fresh process are subcommands of this module: ``python -m benchmarks.footprint peak``.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import msgpack

import cacheorm as co
from cacheorm.payload import identify
from tests.servers import HOST

from .contests import OURS, Contest, Result, run_beside
from .hand import MemoryHand
from .measure import alternate
from .messages import user_message
from .rows import STANDARD, Gender, User
from .stores import Stores

__all__ = [
    "FLAT_COUNTS",
    "Figure",
    "decode_times",
    "flatness",
    "import_time",
    "instance_bytes",
    "peak_memory",
    "protobuf_overhead",
]

FLAT_COUNTS = (100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Figure:
    """One measured figure, and its bar.

    Attributes:
        what: the line's title.
        value: measured.
        unit: of ``value`` and ``bar``.
        bar: the largest value that passes, if there is one.
        note: what the figure is made of.
    """

    what: str
    value: float
    unit: str
    bar: float | None = None
    note: str = ""


def _kept_bytes(make: Callable[[], Any]) -> int:
    """Count the bytes that a result keeps, with everything that it refers to and nothing else did before."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
        return after - before
    finally:
        tracemalloc.stop()


def instance_bytes(stores: Stores, count: int = 1000) -> tuple[Figure, Figure]:
    """Bytes per instance of a ``query_many``, values and the list included; and per dict of hand-written code."""
    rows = STANDARD.rows(count)
    asked, pks = STANDARD.asked(rows), STANDARD.pks(rows)
    hand = MemoryHand(STANDARD)
    hand.insert_many(rows)
    with stores.bound(STANDARD, "Simple"):
        User.insert_many(rows).execute()
        ours = _kept_bytes(lambda: User.query_many(asked).execute()) / count
    theirs = _kept_bytes(lambda: hand.query_many(pks)) / count
    return (
        Figure("memory per instance, values included", ours, "bytes", 320),
        Figure("memory per dict of hand-written code", theirs, "bytes"),
    )


def import_time(rounds: int) -> Figure:
    """Milliseconds that ``import cacheorm`` takes in a Python that has just started.

    Where the package is installed to be edited, as here, Python imports at its start what finds it, and with that
    much of what cacheorm imports. So it is found as an installed one is, in a Python that starts without the rest.
    """
    places = [str(Path(co.__file__).parents[1]), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    beginning = f"import os, site, sys; sys.path += {places!r}; from time import perf_counter; start = perf_counter()\n"
    # Python stores the byte code of imported modules, unless that is switched off.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def taken(program: str) -> tuple[float, float]:
        """Run a program; return its own seconds and those of its process."""
        start = perf_counter()
        whole = f"{beginning}{program}\nprint(perf_counter() - start)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", whole], check=True, env=environment, stdout=subprocess.PIPE
        )
        return float(done.stdout), perf_counter() - start

    taken("import cacheorm")  # the first one may have to write byte code
    # The processes in pairs, so that each difference is of two that ran one after the other.
    pairs = [(taken("import cacheorm"), taken("pass")) for _ in range(2 * rounds + 1)]
    inside = statistics.median(importing for (importing, _), _ in pairs)
    in_all = statistics.median(whole - bare for (_, whole), (_, bare) in pairs)
    note = f"its process takes {in_all * 1e3:.0f} ms longer than one without, its end included"
    return Figure("import cacheorm, beyond bare Python", inside * 1e3, "ms", 40, note)


def protobuf_overhead(stores: Stores, rounds: int, seconds: float, count: int = 1000) -> Figure:
    """Microseconds per row of a ``query_many`` of protobuf rows beyond ``ParseFromString`` alone."""
    message = user_message()
    rows = STANDARD.rows(count)
    asked = STANDARD.asked(rows)
    with stores.bound(STANDARD, "Simple", co.ProtobufSerializer(message)) as model:
        model.insert_many(rows).execute()
        stored = [stores.backend("Simple").get(model.key(**key)) for key in asked]
        payloads = [payload[identify(payload)[1] :] for payload in stored]
        times = alternate(
            {
                OURS: lambda: model.query_many(asked).execute(),
                "parse": lambda: [message().ParseFromString(payload) for payload in payloads],
            },
            count,
            rounds,
            seconds,
        )
    note = f"query_many {times[OURS]:.2f}, ParseFromString {times['parse']:.2f}"
    return Figure("protobuf query_many, beyond ParseFromString", times[OURS] - times["parse"], "us/row", 3, note)


def flatness(
    stores: Stores,
    backend: str,
    operation: str,
    counts: tuple[int, ...],
    rounds: int,
    tick: Callable[[], None],
) -> tuple[Figure, list[Result]]:
    """How much more a row takes at the slowest number of rows than at the fastest.

    All numbers of rows have their turns in the same rounds, as a machine does not stay as fast as it is for minutes.
    """
    # A million rows take seconds, and a few rounds of those tell enough; few rows have longer turns instead.
    turns, seconds = (rounds, 0.02) if max(counts) < 100_000 else (min(rounds, 5), 0.2)
    results = run_beside([Contest(operation, backend, count) for count in counts], stores, turns, seconds, tick)
    times = [result.ours for result in results]
    # With the hand-written times, because a larger heap and colder caches make those grow as well.
    note = "; ".join(f"{each.contest.count:,}: {each.ours:.2f} ({each.hand:.2f})" for each in results)
    note = f"us/row by rows, in brackets by hand: {note}"
    slowest = max(times) / min(times)
    return Figure(f"{operation}, {backend}: slowest / fastest number of rows", slowest, "times", 1.3, note), results


def peak_memory(stores: Stores, count: int) -> Figure:
    """The peak of a ``query_many`` of very many rows over what its result keeps, in a process of its own."""
    with stores.bound(STANDARD, "Redis") as model:
        for start in range(0, count, 50_000):
            model.insert_many([STANDARD.make(n) for n in range(start, min(count, start + 50_000))]).execute()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.footprint", "peak", str(stores.redis_server.port), str(count)],
            check=True,
            stdout=subprocess.PIPE,
        )
    found = json.loads(done.stdout)
    note = f"result {found['kept'] / 2**20:,.0f} MiB, peak {found['peak'] / 2**20:,.0f} MiB, by tracemalloc"
    if found["grown"] is not None:
        note += f"; the process grew by {found['grown'] / 2**20:,.0f} MiB"
    return Figure(
        f"query_many of {count:,} rows, Redis: peak / result",
        found["peak"] / found["kept"],
        "times",
        1.15,
        note,
    )


def _resident() -> int | None:
    """Return the peak memory of this process in bytes, if the system reports it (Linux).

    Not getrusage: its figure is inherited from the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _peak(port: int, count: int) -> None:
    def asked(until: int) -> Any:
        # A generator: a list of a million dicts would be larger than the result.
        return ({"id": n} for n in range(until))

    with co.RedisBackend(host=HOST, port=port) as backend, co.bind([User], backend=backend):
        User.query_many(asked(10)).execute()
        before = _resident()
        result = User.query_many(asked(count)).execute()
        after = _resident()
        del result
        gc.collect()
        tracemalloc.start()
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = User.query_many(asked(count)).execute()
        kept, peak = (size - start for size in tracemalloc.get_traced_memory())
        tracemalloc.stop()
        assert None not in result
    grown = None if before is None or after is None else after - before
    print(json.dumps({"kept": kept, "peak": peak, "grown": grown}))


def decode_times(rounds: int, seconds: float, count: int = 1000) -> dict[str, float]:
    """Microseconds per row of decoding alone: bytes to instances, to dicts, and to msgspec's Structs."""
    import msgspec

    rows = STANDARD.rows(count)
    entries = STANDARD.entries(rows, msgpack.packb)
    keys, payloads = list(entries), list(entries.values())
    pks = [(pk,) for pk in STANDARD.pks(rows)]
    struct: Any = msgspec.defstruct(
        "UserStruct",
        [
            ("name", str),
            ("height", float),
            # Stored as 0 and 1, which msgspec does not take for a bool.
            ("married", int),
            ("gender", Gender),
            ("email", str | None),
            ("created_at", dt.datetime),
        ],
    )
    with co.bind([User], backend=co.SimpleBackend(), serializer="msgpack"):
        codec = User._meta.resolved().codec
        ours = codec.dump_many(User._meta.adopt(rows))
        decode = msgspec.msgpack.Decoder(struct).decode
        unpack = msgpack.unpackb
        return alternate(
            {
                OURS: lambda: codec.load_many(ours, pks, keys),
                "msgspec Struct": lambda: [decode(payload) for payload in ours],
                "msgpack.unpackb": lambda: [unpack(payload) for payload in payloads],
            },
            count,
            rounds,
            seconds,
        )


if __name__ == "__main__":
    assert sys.argv[1] == "peak"
    _peak(int(sys.argv[2]), int(sys.argv[3]))
