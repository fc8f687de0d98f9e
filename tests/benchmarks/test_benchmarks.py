"""Benchmarks run, and compare like with like: hand-written code and ours read and write the same rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import msgpack
import pytest

import cacheorm as co
from benchmarks import (
    asyncio_tasks,
    atomic_updates,
    compare,
    footprint,
    memcached_servers,
    read_through,
    related_rows,
    sections,
)
from benchmarks.contests import CONTESTS, OURS, Contest, contestants
from benchmarks.hand import FileHand, Hand, MemoryHand, PylibmcHand, PymemcacheHand, RedisHand, json_pack
from benchmarks.measure import alternate
from benchmarks.peers import PEERS, Peer
from benchmarks.rows import STANDARD, Gender, Shape, User, changes
from benchmarks.run import Run
from benchmarks.shapes import SHAPES
from benchmarks.stores import BACKENDS, Stores
from benchmarks.tables import mark, table

from .conftest import ROOT

ROWS = 50


def hand_for(backend: str, shape: Shape, stores: Stores, *packers: Any) -> Hand:
    if backend == "FileSystem":
        # Its file has another format than ours, so it gets its rows through memory.
        return FileHand(stores.diskcache, shape, *packers)
    if backend == "Redis":
        return RedisHand(stores.redis, shape, *packers)
    if backend == "memcached":
        return PymemcacheHand(stores.pymemcache, shape, False, *packers)
    return MemoryHand(shape, *packers)


def stored(shape: Shape, row: dict[str, Any]) -> dict[str, Any]:
    """Give the stored form of a row, through the hand-written code."""
    (payload,) = shape.entries([row], msgpack.packb).values()
    return msgpack.unpackb(payload)


def test_a_standard_row_has_about_113_bytes() -> None:
    payloads = STANDARD.entries(STANDARD.rows(1000), msgpack.packb).values()
    assert sum(map(len, payloads)) / 1000 == pytest.approx(113, abs=3)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_hand_written_code_writes_what_we_write(shape: Shape, serializer: str, stores: Stores) -> None:
    pack, unpack = (json_pack, json.loads) if serializer == "json" else (msgpack.packb, msgpack.unpackb)
    rows = shape.rows(ROWS)
    entries = shape.entries(rows, pack)
    assert list(entries) == shape.keys(shape.pks(rows))
    with stores.bound(shape, "Simple", serializer) as model:
        model.insert_many(rows).execute()
        ours = stores.backend("Simple").get_dict(*entries)
        # A bool is 0 or 1 in ours, and what Python makes of it in the other; both are read as either.
        assert {key: unpack(value) for key, value in ours.items()} == {
            key: unpack(value) for key, value in entries.items()
        }


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_reads_rows_of_the_other(shape: Shape, stores: Stores) -> None:
    rows = shape.rows(ROWS)
    backend = stores.backend("Simple")
    hand = MemoryHand(shape)
    with stores.bound(shape, "Simple") as model:
        backend.set_many(shape.entries(rows, msgpack.packb))
        read = model.query_many(shape.asked(rows)).execute()
        assert [{name: getattr(row, name) for name in rows[0]} for row in read] == rows
        model.insert_many(rows).execute()
        hand.store.update({key: backend.get(key) for key in shape.keys(shape.pks(rows))})
    restore = shape.restore or (lambda row: row)
    assert hand.query_many(shape.pks(rows)) == [restore(stored(shape, row)) for row in rows]


@pytest.mark.parametrize("backend", BACKENDS)
def test_hand_written_code_does_what_ours_does(backend: str, stores: Stores) -> None:
    hand = hand_for(backend, STANDARD, stores)
    rows = STANDARD.rows(ROWS)
    asked, pks = STANDARD.asked(rows), STANDARD.pks(rows)
    with stores.bound(STANDARD, backend) as model:
        if backend == "FileSystem":
            hand.store.clear()  # type: ignore[attr-defined]
        assert hand.query_many(pks) == model.query_many(asked).execute() == [None] * ROWS
        hand.insert_many(rows)
        if backend in ("Simple", "FileSystem"):
            model.insert_many(rows).execute()
        assert model.query_many(asked).execute() == [model(**row) for row in rows]
        written = hand.update_many([*changes(rows), {"id": ROWS + 1, "height": 1.0, "gender": Gender.MALE}])
        assert written[-1] is None
        if backend in ("Simple", "FileSystem"):
            model.update_many(changes(rows)).execute()
        changed = model.query_many(asked).execute()
        assert [row.height for row in changed] == [row["height"] for row in written[:-1]]
        assert [row.gender.value for row in changed] == [row["gender"] for row in written[:-1]]
        assert hand.query_many(pks) == written[:-1]
        hand.get_each(pks)


def test_both_memcached_drivers_read_the_same_rows(stores: Stores) -> None:
    assert stores.pylibmc is not None, "the tests need pylibmc: make test installs it"
    rows = STANDARD.rows(ROWS)
    with stores.bound(STANDARD, "memcached") as model:
        model.insert_many(rows).execute()
        expected = [stored(STANDARD, row) for row in rows]
        assert PylibmcHand(stores.pylibmc, STANDARD).query_many(range(ROWS)) == expected
        assert PymemcacheHand(stores.pymemcache, STANDARD).query_many(range(ROWS)) == expected


@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: f"{contest.title}, {contest.count}")
def test_every_contest_runs(contest: Contest, stores: Stores) -> None:
    with contestants(replace(contest, count=ROWS), stores) as calls:
        assert OURS in calls
        assert len(calls) > 1
        for call in calls.values():
            call()


# Peers leave sockets to the garbage collector and warn of each other's deprecations: that is theirs, and stays out of
# this process, where warnings are errors.
PEERS_RUN = f"""
from benchmarks.peers import PEERS
from benchmarks.rows import STANDARD
from benchmarks.run import Run
from benchmarks.stores import Stores
rows = STANDARD.rows({ROWS})
with Stores() as stores:
    for peer in PEERS:
        try:
            calls = peer.prepare(stores, rows)
        except ImportError as error:
            print("not installed:", peer.name, error)
            continue
        calls.insert_many()
        read = calls.query_many()
        found = list(read.values()) if isinstance(read, dict) else list(read)
        assert len(found) == {ROWS} and None not in found, peer.name
        assert peer.version
        print("ran:", peer.name)
"""


def test_every_peer_reads_what_it_wrote() -> None:
    done = subprocess.run([sys.executable, "-c", PEERS_RUN], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^(?:ran|not installed):", done.stdout, re.MULTILINE)) == len(PEERS)


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("backend", read_through.BACKENDS)
def test_all_who_read_through_give_the_same_rows(
    backend: str, present: bool, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dogpile.cache", None)  # it leaves its connections open
    with stores.bound(STANDARD, backend) as model:
        for number, (name, call) in enumerate(read_through.contestants(stores, backend, model).items()):
            pks = range(10 * number, 10 * number + 10)
            if present or name == "query_many":
                model.query_many([{"id": pk} for pk in pks]).load_missing(read_through._load).execute()
            rows = call(pks)
            names = [row["name"] if isinstance(row, dict) else row.name for row in rows]
            assert names == ["user 1"] * 10, name
    times = read_through.times(stores, backend, present, 10, 1, 0.0, lambda: None)
    assert {"cacheorm", "by hand"} <= times.keys()


@pytest.mark.parametrize("backend", related_rows.BACKENDS)
def test_all_who_preload_give_the_same_rows(backend: str, stores: Stores) -> None:
    with related_rows.contestants(stores, backend, 250) as calls:
        ours, (comments, users), by_hand = (call() for call in calls.values())
        names = [comment.author.name for comment in ours]
        assert names == [row["author"]["name"] for row in by_hand]
        assert names == [users[comment.author_id].name for comment in comments]
        assert ours[0].author is ours[100].author
    times = related_rows.times(stores, backend, 10, 1, 0.0, lambda: None)
    assert times.keys() == {"cacheorm", "two queries", "by hand"}


@pytest.mark.parametrize("backend", asyncio_tasks.BACKENDS)
def test_all_who_read_in_tasks_read_the_same(backend: str, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_tasks, "_TURN_SECONDS", 0.0)
    with asyncio_tasks.contestants(stores, backend, 20, keep=list) as calls:
        expected = [[row.height for row in rows] for rows in calls[asyncio_tasks.CALLED]()]
        assert [len(heights) for heights in expected] == [100] * 20
        for name, call in calls.items():
            if name.startswith("empty"):
                assert call() == [None] * 20
                continue
            read = itemgetter("height") if "hand" in name else attrgetter("height")
            assert [list(map(read, rows)) for rows in call()] == expected, name
    assert asyncio_tasks.times(stores, backend, 3, 1, 0.0, lambda: None).keys() == calls.keys()


@pytest.mark.parametrize("operation", atomic_updates.OPERATIONS)
def test_all_who_update_and_renew_do_the_same(operation: str, stores: Stores) -> None:
    with stores.bound(STANDARD, "Redis") as model:
        for name, call in atomic_updates.contestants(stores, operation, model, 50).items():
            expected = STANDARD.rows(50)
            model.insert_many(expected).ttl(400).execute()
            call()
            rows = model.query_many([{"id": row["id"]} for row in expected]).execute()
            if operation == "expire_many":
                assert all(row.ttl() > 500 for row in rows), name
            else:
                assert [row.height for row in rows] == [row["height"] + 1 for row in expected], name
    times = atomic_updates.times(stores, operation, 10, 1, 0.0, lambda: None)
    assert {"cacheorm", "by hand"} <= times.keys()


def test_the_suite_of_pytest_benchmark_runs() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-disable", "--rows", str(ROWS), "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_comparison_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    compare.main(["--quick", "--rounds", "1", "--only", "query_many, simple", "--only", "memory", "--json", str(file)])
    printed = capsys.readouterr().out
    assert ("compiled" if co.speedups_enabled else "pure Python") in printed.splitlines()[0]
    assert re.search(r"^\| query_many, Simple +\| +1,000 \|.*(pass|falls short)", printed, re.MULTILINE)
    assert "memory per instance" in printed
    assert "insert_many, Redis" not in printed
    figures = json.loads(file.read_text())
    assert figures["rounds"] == 1
    assert {line["operation"] for line in figures["ratios"]} >= {"query_many, Simple", "memory per instance"}
    assert {line["shape"] for line in figures["shapes"]} == {shape.name for shape in SHAPES}


def test_a_peer_that_is_not_installed_is_shown_as_such(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(stores: Stores, rows: Any) -> Any:
        raise ImportError("no module named absent")

    monkeypatch.setattr(sections, "PEERS", [Peer("absent", "Simple", "absent", "nothing", missing)])
    this = Run(stores, 1, 0.0, False, [])
    sections.peers(this)
    assert re.search(r"absent +\| Simple +\| not installed", capsys.readouterr().out)
    assert this.found["peers"][0]["error"] == "no module named absent"


def test_figures_that_are_no_ratios_are_measured(stores: Stores) -> None:
    ours, hand = footprint.instance_bytes(stores, ROWS)
    assert 0 < ours.value < hand.value
    assert footprint.import_time(1).unit == "ms"
    assert footprint.decode_times(1, 0.0, ROWS).keys() == {OURS, "msgspec Struct", "msgpack.unpackb"}


def test_what_protobuf_costs_is_the_difference_of_two_times(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(calls: dict[str, Any], rows: int, *_: Any) -> dict[str, float]:
        read, parsed = (call() for call in calls.values())
        assert len(read) == len(parsed) == rows == ROWS
        return dict(zip(calls, [3.5, 1.25], strict=True))

    monkeypatch.setattr(footprint, "alternate", timed)
    figure = footprint.protobuf_overhead(stores, 1, 0.0, ROWS)
    assert (figure.value, figure.unit) == (2.25, "us/row")
    assert figure.note == "query_many 3.50, ParseFromString 1.25"


def test_flatness_and_peak_memory_are_measured(stores: Stores) -> None:
    figure, results = footprint.flatness(stores, "large Simple", "query_many", (20, ROWS), 1, lambda: None)
    times = [result.ours for result in results]
    assert figure.value == max(times) / min(times)
    assert [result.contest.count for result in results] == [20, ROWS]
    assert footprint.peak_memory(stores, 2000).value >= 1


def test_turns_alternate_and_the_median_counts() -> None:
    turns = []
    times = alternate({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 1, rounds=3, seconds=0.0)
    # Two calls each to warm up, then a different one first in each round.
    assert "".join(turns) == "aabb" + "ab" + "ba" + "ab"
    assert times.keys() == {"a", "b"}


def test_tables_are_markdown_and_marks_say_what_passed() -> None:
    printed = table(["what", "us", ""], [["a", "1.20", "pass"], ["bcd", "-", "falls short"]])
    assert printed.splitlines() == [
        "| what |   us |             |",
        "| ---- | ---: | ----------- |",
        "| a    | 1.20 | pass        |",
        "| bcd  |    - | falls short |",
    ]
    assert [mark(1.0, 1.0), mark(1.1, 1.0), mark(9.0, None)] == ["pass", "falls short", "-"]


def test_models_are_left_bound_as_they_were(stores: Stores) -> None:
    before = User._meta
    with stores.bound(STANDARD, "Simple"):
        assert User._meta is not before
    assert User._meta is before


@pytest.mark.parametrize("operation", memcached_servers.OPERATIONS)
def test_several_memcacheds_are_compared(stores: Stores, operation: str) -> None:
    times = memcached_servers.times(stores, operation, 10, 1, 0.0, lambda: None)
    assert set(times) == {"cacheorm", "one server", "pylibmc"}
