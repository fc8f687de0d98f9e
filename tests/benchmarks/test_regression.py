"""The main paths stay as much cheaper than hand-written code as they are: a guard that knows no clock.

The instructions of both are counted, which comes to the same within a thousandth on every run. Where valgrind is not
installed they are not, as times would depend on what else the machine does.
"""

from __future__ import annotations

import pytest

import cacheorm as co
from benchmarks import instructions, load_instructions
from benchmarks.contests import Contest

# Ours / hand-written, in instructions: what was measured, and 30 % for other Pythons, compilers and drivers. Who
# makes a path cheaper lowers its figure. Compiled and pure.
MOST = {
    ("query_many", "Simple"): (0.45, 3.4),
    ("insert_many", "Simple"): (0.27, 2.85),
    ("update_many", "Simple"): (0.59, 6.9),
    ("query_many", "Redis"): (0.40, 3.1),
    ("insert_many", "Redis"): (0.070, 0.81),
    ("query_many", "Redis Cluster"): (0.065, 0.70),
    ("get_many", "Simple"): (0.47, 4.8),
    ("co.Query", "Simple"): (0.47, 3.6),
    ("get_many", "Redis"): (0.41, 4.1),
    ("co.Query", "Redis"): (0.41, 3.1),
}

# How much more a client may compute on a cluster than on a single server: compiled, and pure, where the hash slots of
# keys are found in Python.
ON_A_CLUSTER = (1.5, 2.0)

# How much more another bulk read of the same rows may compute than query_many: they are one path. The pure build makes
# the keys of get_many row by row.
OTHER_READS = (1.1, 1.5)


def of_build(figures: tuple[float, float]) -> float:
    compiled, pure = figures
    return compiled if co.speedups_enabled else pure


def most(path: Contest) -> float:
    return of_build(MOST[path.operation, path.backend])


def test_every_main_path_has_a_figure() -> None:
    assert {(path.operation, path.backend) for path in instructions.PATHS} == MOST.keys()


@pytest.mark.skipif(not instructions.counted(), reason="valgrind, which counts instructions, is not installed")
def test_main_paths_take_no_more_instructions_than_they_did() -> None:
    counts = instructions.count(rows=500)
    ratios = {path: ours / hand for path, (ours, hand) in counts.items()}
    over = {path.title: f"{ratio:.3f} of {most(path)}" for path, ratio in ratios.items() if ratio > most(path)}
    assert not over, "cacheorm's instructions over those of hand-written code have grown"
    ours = {path.title: taken for path, (taken, _) in counts.items()}
    for backend in ("Simple", "Redis"):
        for other in ("get_many", "co.Query"):
            assert ours[f"{other}, {backend}"] <= of_build(OTHER_READS) * ours[f"query_many, {backend}"]
    assert ours["query_many, Redis Cluster"] <= of_build(ON_A_CLUSTER) * ours["query_many, Redis"]


# How much more a read of rows that are all in the cache may take, compiled and pure: with a loader, and with ages, than
# without; and with rows that are due, 300 of 1000, than with none. The pure build looks at the ages of rows one by one.
WITH_A_LOADER = (1.05, 1.05)
WITH_AGES = (1.05, 2.4)
WITH_ROWS_THAT_ARE_DUE = (1.1, 1.1)


@pytest.mark.skipif(not instructions.counted(), reason="valgrind, which counts instructions, is not installed")
def test_loaders_cost_little_where_all_rows_are_there() -> None:
    plain, loading, fresh, due = load_instructions.count().values()
    assert loading <= of_build(WITH_A_LOADER) * plain
    assert fresh <= of_build(WITH_AGES) * plain
    assert due <= of_build(WITH_ROWS_THAT_ARE_DUE) * fresh
