"""The builds do the same with every input of the corpus and with some new ones; and the fuzzer finds what it has to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amounts import LONG, enough, tried
from clusters import wait_until
from servers import HANG

import cacheorm as co
from fuzz.builds import compiled_build, pure_build
from fuzz.engine import Fuzzer
from fuzz.seen import Seen
from fuzz.targets import TARGETS
from fuzz.worker import CORPUS

ROOT = Path(__file__).parents[2]

KEPT = [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]

only_compiled = pytest.mark.skipif(not co.speedups_enabled, reason="this build has nothing to be compared with")


def run(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


@pytest.mark.parametrize(("target", "path"), KEPT, ids=[f"{target}-{path.name}" for target, path in KEPT])
def test_what_was_found_once_is_the_same_in_both_builds(target: str, path: Path) -> None:
    data = path.read_bytes()
    runs = [TARGETS[target].prepare(build()) for build in (pure_build, compiled_build)]
    seen = [repr(one(data)) for one in runs]
    assert seen[0] == seen[1]


@only_compiled
@pytest.mark.no_cover
@pytest.mark.parametrize("target", TARGETS)
def test_new_inputs_are_the_same_in_both_builds(target: str) -> None:
    fuzzer = Fuzzer(TARGETS[target], seed=1)
    for _ in range(enough(20_000, 100, of="fuzzed inputs")):
        find = fuzzer.run(fuzzer.next_input())
        assert find is None, find.data.hex()


@only_compiled
@pytest.mark.no_cover
@pytest.mark.skipif(not LONG, reason="takes five minutes of every core")
def test_five_minutes_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    process = run("--seconds", str(5 * 60 / len(TARGETS)), "--jobs", "1", "--finds", str(tmp_path))
    said = process.communicate(timeout=HANG + 600)[0]
    tried["fuzzed inputs"] += int(re.findall(r"in all +([\d,]+)", said)[0].replace(",", ""))
    assert process.returncode == 0, said


# -- the fuzzer itself -------------------------------------------------------------------------------


def planted(call: Any) -> Any:
    """Return a target that calls a function with each input in the compiled build alone."""

    def prepare(build: Any) -> Any:
        def run(data: bytes) -> Seen:
            seen = Seen()
            seen.call(call if build is compiled_build() else len, data)
            return seen

        return run

    return SimpleNamespace(prepare=prepare, SEEDS=[b"some bytes to begin with"], TOKENS=[b"magic"])


def found_by(call: Any) -> Any:
    fuzzer = Fuzzer(planted(call), seed=1)
    for _ in range(20_000):
        find = fuzzer.run(fuzzer.next_input())
        if find is not None:
            return fuzzer, find
    return fuzzer, None


@only_compiled
def test_a_difference_is_found_and_made_small() -> None:
    fuzzer, find = found_by(lambda data: "other" if b"magic" in data else len(data))
    assert fuzzer.smallest(find).data == b"magic"


@only_compiled
def test_an_error_of_another_text_is_a_difference() -> None:
    def fail(data: bytes) -> int:
        raise ValueError(f"one of {len(data)}")

    assert found_by(fail)[1].kind == "result / ValueError one of "


@only_compiled
@pytest.mark.skipif(not sys.getallocatedblocks(), reason="Python's own allocator is off (PYTHONMALLOC)")
def test_objects_that_are_left_behind_are_found() -> None:
    kept: list[Any] = []

    def keep(data: bytes) -> int:
        kept.extend(object() for _ in range(10))  # other threads may free a few objects meanwhile
        return len(data)

    assert found_by(keep)[1].kind == "leak"


@only_compiled
def test_where_there_is_nothing_to_find_nothing_is_found() -> None:
    assert found_by(len)[1] is None


@only_compiled
def test_a_seed_gives_the_same_inputs() -> None:
    made = []
    for seed in (1, 1, 2):
        fuzzer = Fuzzer(TARGETS["resp"], seed)
        inputs = [fuzzer.next_input() for _ in range(120) if fuzzer.run(fuzzer.next_input()) is None]
        made.append(inputs)
    assert made[0] == made[1] != made[2]


@only_compiled
def test_the_figures_of_every_target_are_printed() -> None:
    process = run("--executions", "5", "--seed", "1", "--seconds", str(HANG))
    said = process.communicate(timeout=HANG)[0]
    assert process.returncode == 0, said
    assert "Seed 1\n" in said
    for target in TARGETS:
        assert re.search(rf"^{target} +5 executions, .* 0 finds$", said, re.MULTILINE), said
    assert f"{5 * len(TARGETS)} executions; 0 finds" in said


@only_compiled
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to one process")
def test_ctrl_c_ends_it_with_the_figures_so_far() -> None:
    process = run("resp", "--seed", "1", "--seconds", str(HANG))
    assert process.stdout is not None
    assert process.stdout.readline() == "Seed 1\n"
    trace = ROOT / "build" / "fuzz" / f"process-{process.pid}" / "resp"
    wait_until("an input ran", lambda: trace.exists() and any(trace.read_bytes()[:8]))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=HANG)[0]
    assert re.search(r"^resp +[\d,]+ executions.* 0 finds$", said, re.MULTILINE), said
    assert "interrupted" in said
    assert not trace.exists()


@only_compiled
def test_an_input_of_the_corpus_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "resp" / "one"
    path.parent.mkdir()
    path.write_bytes(TARGETS["resp"].SEEDS[0])
    process = run("--input", str(path))
    assert process.communicate(timeout=HANG)[0] == "Both builds do the same.\n"
    assert process.returncode == 0


def test_a_target_that_does_not_exist_is_refused() -> None:
    process = run("rws")
    said = process.communicate(timeout=HANG)[0]
    assert process.returncode == 2
    assert "no target: rws; there are rows, resp" in said
