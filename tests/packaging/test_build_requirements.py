"""What the extensions may be built with, and what released wheels are built with."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from .conftest import NOT_ISOLATED, ROOT, build_wheel

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = ROOT / "scripts" / "wheel_build.txt"

REQUIRED = {
    "to build": PROJECT["build-system"]["requires"],
    "to develop": PROJECT["project"]["optional-dependencies"]["dev"],
}


def requirement(name: str, lines: list[str]) -> Requirement:
    (found,) = (made for made in map(Requirement, lines) if made.name == name)
    return found


def pinned() -> dict[str, str]:
    lines = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    pins = {}
    for made in map(Requirement, lines):
        (exactly,) = made.specifier
        assert exactly.operator == "=="
        assert "*" not in exactly.version
        pins[made.name] = exactly.version
    return pins


@pytest.mark.parametrize("lines", REQUIRED.values(), ids=REQUIRED)
def test_what_frees_items_twice_is_excluded(lines: list[str]) -> None:
    allowed = requirement("Cython", lines).specifier
    assert [text for text in ("3.3.0", "3.3.1", "3.0.12") if text in allowed] == []
    assert [text for text in ("3.1.0", "3.2.0", "3.2.9", "3.4.0") if text not in allowed] == []


def test_wheels_are_built_with_exactly_what_is_pinned() -> None:
    pins = pinned()
    assert {requirement(name, REQUIRED["to build"]).name for name in pins} == set(pins)
    assert len(REQUIRED["to build"]) == len(pins)
    for lines in REQUIRED.values():
        for name, text in pins.items():
            assert text in requirement(name, lines).specifier
    settings = PROJECT["tool"]["cibuildwheel"]
    assert settings["before-build"].endswith(f"-r {{project}}/{PINS.relative_to(ROOT).as_posix()}")
    # An environment of pip's own would hold the newest that is allowed.
    assert settings["build-frontend"] == {"name": "pip", "args": [NOT_ISOLATED]}


def test_what_is_tested_is_built_as_wheels_are() -> None:
    assert {name: version(name) for name in pinned()} == pinned()


@pytest.fixture
def affected(tmp_path: Path) -> str:
    """A folder in which Cython is of an affected version."""
    package = tmp_path / "affected" / "Cython"
    (package / "Build").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "3.3.1"\n')
    (package / "Build" / "__init__.py").write_text("cythonize = None\n")
    return str(package.parent)


def test_a_build_with_an_affected_cython_is_pure_and_says_so(source_tree: Path, tmp_path: Path, affected: str) -> None:
    wheel, output = build_wheel(source_tree, tmp_path / "made", NOT_ISOLATED, PYTHONPATH=affected)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "building the pure Python version" in output
    assert "Cython 3.3.1" in output
    with pytest.raises(pytest.fail.Exception, match=r"install Cython>=3\.1,!=3\.3\.\*"):
        build_wheel(source_tree, tmp_path / "none", NOT_ISOLATED, PYTHONPATH=affected, CACHEORM_REQUIRE_EXTENSIONS="1")
