"""Distributions built once per run, from a copy of the checkout that holds nothing built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# It matters only that the build works: optimising takes most of its time.
QUICK = {"CFLAGS": "-O0"}

# Has a build take setuptools and Cython from this environment, which is seconds shorter.
NOT_ISOLATED = "--no-build-isolation"

NOT_SOURCES = shutil.ignore_patterns(
    *(".git", ".venv*", ".nox", ".*_cache", ".hypothesis", ".benchmarks"),
    *("build", "dist", "*.egg-info", "*.so", "*.pyd", "__pycache__"),
)


def run(*command: object, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout, so that it cannot import from there; give its output, or fail with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CACHEORM_")}
    environment.pop("PYTHONPATH", None)
    environment.update((name, value) for name, value in variables.items() if value is not None)
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


def build_wheel(source: Path, target: Path, *options: str, **variables: str | None) -> tuple[Path, str]:
    """Build a wheel from a source tree or distribution; give its path and what the build printed."""
    options = ("--verbose", "--no-deps", "--no-cache-dir", *options)
    done = run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", target, source, **variables)
    (wheel,) = target.glob("*.whl")
    return wheel, done.stdout + done.stderr


def make_environment(folder: Path) -> Path:
    """Make an empty virtual environment; return its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


def install(python: Path, *arguments: object, **variables: str | None) -> None:
    """Install into the environment of an interpreter, with the pip of this one: a pip of its own takes seconds."""
    run(sys.executable, "-m", "pip", "--python", python, "install", *arguments, **variables)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as it was cloned."""
    target = tmp_path_factory.mktemp("checkout") / "cacheorm"
    shutil.copytree(ROOT, target, ignore=NOT_SOURCES)
    return target


@pytest.fixture(scope="session")
def sdist(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", target, source_tree)
    (archive,) = target.glob("*.tar.gz")
    return archive
