"""The workflows run what anybody can run here: every command in them is a target of the Makefile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PYTHONS = ("311", "312", "313", "314")


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.stem}.{name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


def commands() -> list[tuple[str, str]]:
    return [
        (f"{name}: {line}", line)
        for name, job in jobs()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]


@pytest.mark.parametrize("line", [line for _, line in commands()], ids=[name for name, _ in commands()])
def test_every_command_is_a_target_of_the_makefile(line: str) -> None:
    command = re.fullmatch(r"make ([a-z-]+)( [A-Z]+=\S+)*", line)
    assert command is not None, "run a make target instead"
    assert command[1] in TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_can_plan_every_target(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^make (\S+)", done.stdout, re.MULTILINE)) == TARGETS


def test_there_are_workflows_for_tests_types_demo_and_wheels() -> None:
    used = {line.split()[1] for _, line in commands()}
    assert {"test-suite", "test-long", "lint", "types", "demo", "wheels", "sdist"} <= used


def test_lint_and_types_run_once_in_a_workflow() -> None:
    for path in WORKFLOWS:
        run = [
            (line.split()[1], "strategy" in job)
            for job in load(path)["jobs"].values()
            for step in job["steps"]
            for line in step.get("run", "").splitlines()
        ]
        for target in ("lint", "types"):
            assert run.count((target, False)) <= 1
            assert (target, True) not in run
        assert "test" not in [target for target, _ in run], "it runs lint and types as well"


def test_the_full_counts_are_taken_every_night() -> None:
    nightly = load(ROOT / ".github" / "workflows" / "nightly.yml")
    # YAML takes `on` for true.
    (schedule,) = nightly[True]["schedule"]
    assert schedule["cron"].endswith(" * * *")
    assert [step["run"] for step in nightly["jobs"]["long"]["steps"] if "run" in step] == [
        "make test-long PYTHON=python"
    ]


def test_the_suite_runs_on_every_python_that_is_declared() -> None:
    (suite,) = (job for name, job in jobs() if name == "tests.suite")
    assert [version.replace(".", "") for version in suite["strategy"]["matrix"]["python"]] == list(PYTHONS)
    assert {system.partition("-")[0] for system in suite["strategy"]["matrix"]["os"]} == {"ubuntu", "macos"}


def test_only_the_job_that_publishes_may_do_more_than_read() -> None:
    for path in WORKFLOWS:
        assert load(path)["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in jobs() if "permissions" in job} == {
        "wheels.publish": {"id-token": "write"}
    }


def test_publishing_happens_on_tags_only_and_needs_all_that_is_built() -> None:
    (publish,) = (job for name, job in jobs() if name == "wheels.publish")
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert set(publish["needs"]) == {"wheels", "sdist"}


def identifiers(platform: str) -> set[str]:
    tool = shutil.which("cibuildwheel", path=str(Path(sys.executable).parent))
    assert tool is not None, "cibuildwheel is not installed beside this Python"
    command = [tool, "--print-build-identifiers", "--platform", platform, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("platform", "targets"),
    [
        ("linux", ["manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"]),
        ("macos", ["macosx_x86_64", "macosx_arm64"]),
        ("windows", ["win_amd64"]),
    ],
)
def test_wheels_are_built_for_every_python_and_platform(platform: str, targets: list[str]) -> None:
    assert identifiers(platform) == {f"cp{python}-{target}" for python in PYTHONS for target in targets}
