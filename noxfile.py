"""Sessions that need other Pythons than the one in .venv; everything else is in the Makefile."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

# Only Pythons that are there, nothing that is downloaded.
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# All but the one in .venv, on which everything else has run.
PYTHONS = [python for python in ("3.11", "3.12", "3.13", "3.14") if python != "{}.{}".format(*sys.version_info)]

# pyenv's versions are found where they lie: its shims in PATH work only for the versions that are switched on.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
os.environ["PATH"] = os.pathsep.join([*map(str, PYENV.glob("3.*/bin")), os.environ["PATH"]])

# The one that differs most from the one in .venv. `make test` takes it alone: CI runs the whole suite on each.
nox.options.sessions = [f"smoke-{python}" for python in PYTHONS if shutil.which(f"python{python}")][-1:]

COMPILED = {"CACHEORM_REQUIRE_EXTENSIONS": "1", "CACHEORM_NO_EXTENSIONS": None}
PURE = {"CACHEORM_REQUIRE_EXTENSIONS": None, "CACHEORM_NO_EXTENSIONS": "1"}


@functools.cache
def unpack_source_distribution() -> Path:
    """Make a source distribution and unpack it, once for all Pythons: the first build makes the C for the others."""
    folder = Path(".nox", "source").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def install_wheel(session: nox.Session, extras: str) -> None:
    """Build a compiled wheel by way of a source distribution, and install that, as a user would."""
    # Without isolation the build takes its requirements from here, where they stay for the next one.
    session.install("build", *tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"])
    dist = Path(session.create_tmp(), "dist").resolve()
    shutil.rmtree(dist, ignore_errors=True)
    # Optimising takes most of the time of a build, and speed is not what is tested here.
    build = ["build", "--wheel", "--no-isolation", "--outdir", dist, unpack_source_distribution()]
    session.run("python", "-m", *map(str, build), silent=True, env={**COMPILED, "CFLAGS": "-O0"})
    (wheel,) = dist.glob("*.whl")
    # pip keeps what is installed when the version is the same.
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"cacheorm[{extras}] @ {wheel.as_uri()}")


@nox.session(python=PYTHONS)
def smoke(session: nox.Session) -> None:
    """Build, install and try the package on each Python that is found: the tests of the parts that differ most."""
    install_wheel(session, "all")
    session.install("hypothesis", "pytest", "pytest-xdist", "shortuuid")
    # Away from the checkout, where `import cacheorm` would find the sources.
    root = Path.cwd()
    copy = Path(session.create_tmp(), "copy").resolve()
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("tests", "fuzz", "scripts", "examples", "docs"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(root / name, copy)
    session.chdir(copy)
    # The tests of the compiled code run its pure twin beside it.
    for variables, flag, tests in (
        (COMPILED, "--compiled", ["tests/speedups", *TESTS]),
        (PURE, "--pure", [*TESTS, *COMPILED_ONLY]),
    ):
        session.run("python", "scripts/smoke.py", flag, env=variables)
        session.run("python", "-m", "pytest", "-q", "-n", "4", *CHANGED, *session.posargs, *tests, env=variables)


# Of these, what the build changes; but not the count of calls of Python functions, which is the same on all.
CHANGED = ["--changed-by-build", "--ignore=tests/models/test_calls_per_row.py"]

# What depends on the interpreter: besides the compiled code classes with slots and descriptors, dates and enums.
TESTS = ["tests/fields", "tests/models"]

# What is done beside other threads and processes: an interpreter has tried that with the compiled code, and both builds
# have been tried on one.
COMPILED_ONLY = ["--ignore=tests/models/test_atomic.py", "--ignore=tests/models/test_concurrency.py"]
