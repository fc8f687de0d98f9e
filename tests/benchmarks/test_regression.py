"""The main paths stay as much cheaper than hand-written code as they are: a guard that knows no clock.

The instructions of both are counted, which comes to the same within a thousandth on every run. Where valgrind is not
installed they are not, as times would depend on what else the machine does.
"""

from __future__ import annotations

import pytest

import cacheorm as co
from benchmarks import instructions
from benchmarks.contests import Contest

# Ours / hand-written, in instructions: what was measured, and 30 % for other Pythons, compilers and drivers. Who
# makes a path cheaper lowers its figure. Compiled and pure.
MOST = {
    ("query_many", "Simple"): (0.45, 3.4),
    ("insert_many", "Simple"): (0.27, 2.85),
    ("query_many", "Redis"): (0.40, 3.1),
    ("insert_many", "Redis"): (0.070, 0.81),
    ("query_many", "Redis Cluster"): (0.065, 0.70),
}

# How much more a client may compute on a cluster than on a single server: compiled, and pure, where the hash slots of
# keys are found in Python.
ON_A_CLUSTER = (1.5, 2.0)


def of_build(figures: tuple[float, float]) -> float:
    compiled, pure = figures
    return compiled if co.speedups_enabled else pure


def most(path: Contest) -> float:
    return of_build(MOST[path.operation, path.backend])


def test_every_main_path_has_a_figure() -> None:
    assert {(path.operation, path.backend) for path in instructions.PATHS} == MOST.keys()


@pytest.mark.skipif(not instructions.counted(), reason="valgrind, which counts instructions, is not installed")
def test_main_paths_take_no_more_instructions_than_they_did() -> None:
    counts = instructions.count()
    ratios = {path: ours / hand for path, (ours, hand) in counts.items()}
    over = {path.title: f"{ratio:.3f} of {most(path)}" for path, ratio in ratios.items() if ratio > most(path)}
    assert not over, "cacheorm's instructions over those of hand-written code have grown"
    ours = {path.title: taken for path, (taken, _) in counts.items()}
    assert ours["query_many, Redis Cluster"] <= of_build(ON_A_CLUSTER) * ours["query_many, Redis"]
