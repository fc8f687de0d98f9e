"""Sessions that need other Pythons than the one in .venv; everything else is in the Makefile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

# pyenv's versions are found where they lie: its shims in PATH work only for the versions that are switched on.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
os.environ["PATH"] = os.pathsep.join([*map(str, sorted(PYENV.glob("3.*/bin"), reverse=True)), os.environ["PATH"]])

COMPILED = {"CACHEORM_REQUIRE_EXTENSIONS": "1", "CACHEORM_NO_EXTENSIONS": None}
PURE = {"CACHEORM_REQUIRE_EXTENSIONS": None, "CACHEORM_NO_EXTENSIONS": "1"}


def install_wheel(session: nox.Session, *extras: str) -> None:
    """Build a compiled wheel of the checkout and install just that, as a user would."""
    folder = session.create_tmp()
    shutil.rmtree(folder)
    session.run(
        "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".", env=COMPILED, silent=True
    )
    (wheel,) = Path(folder).glob("*.whl")
    # Forced: the version stays the same from one change to the next.
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"{wheel}[{','.join(extras)}]" if extras else str(wheel))


@nox.session(python=PYTHONS)
def smoke(session: nox.Session) -> None:
    """A wheel, built and installed on each Python that is found, with the tests that need no server."""
    install_wheel(session, "protobuf")
    session.install("pytest", "hypothesis")
    for environment, flag in ((COMPILED, "--compiled"), (PURE, "--pure")):
        session.run("python", "scripts/smoke.py", flag, env=environment)
