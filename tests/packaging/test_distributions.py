"""What is in a source distribution and in wheels, and that each works where nothing else is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from .conftest import NOT_ISOLATED, QUICK, ROOT, build_wheel, install, make_environment, run

SPEEDUPS = ROOT / "cacheorm" / "_speedups"
BUILD_VARIABLES = ("CACHEORM_NO_EXTENSIONS", "CACHEORM_REQUIRE_EXTENSIONS")
SMOKE = ROOT / "scripts" / "smoke.py"
COMPILED_SOURCES = {
    path.relative_to(ROOT).as_posix() for kind in ("pyx", "pxd", "pxi") for path in SPEEDUPS.rglob(f"*.{kind}")
}
ROOMS = sorted(path.name for path in SPEEDUPS.iterdir() if (path / "__init__.py").exists())
EXTENSIONS = {
    f"cacheorm/_speedups/{room}/{path.stem.removesuffix('_c')}_c"
    for room in ROOMS
    for path in [*(SPEEDUPS / room).glob("_*_c.pyx"), *(SPEEDUPS / room).glob("_[a-z]*.py")]
    if not path.stem.endswith("_py")
}


def names(archive: Path) -> set[str]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as source:
        return {name.partition("/")[2] for name in source.getnames()}


def extensions(wheel: Path) -> set[str]:
    return {name.partition(".")[0] for name in names(wheel) if name.endswith((".so", ".pyd"))}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def python_sources() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "cacheorm").rglob("*.py")}


def test_the_source_distribution_holds_all_that_builds_and_tests_the_package(sdist: Path) -> None:
    content = names(sdist)
    assert python_sources() <= content
    assert content >= COMPILED_SOURCES
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "Makefile", "cacheorm/py.typed"} <= content
    assert {"scripts/smoke.py", "tests/packaging/test_distributions.py"} <= content


def test_the_source_distribution_holds_nothing_that_was_built(sdist: Path) -> None:
    assert [name for name in names(sdist) if name.endswith((".c", ".so", ".pyd", ".pyc")) or "build/" in name] == []


def test_asking_for_extensions_and_for_none_is_an_error(source_tree: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="exclude each other"):
        run(sys.executable, source_tree / "setup.py", "--version", **dict.fromkeys(BUILD_VARIABLES, "1"))


# A class for all that needs the same build: pytest-xdist leaves the tests of a class in one process (--dist=loadscope).
# Both wheels are made as `pip install` does it with a source distribution: in an environment of their own, for which
# [build-system] names all that the build needs.


class OfAWheel:
    build: str

    def test_it_is_typed_and_holds_no_sources_of_extensions(self, wheel: Path) -> None:
        content = names(wheel)
        assert "cacheorm/py.typed" in content
        assert [name for name in content if name.endswith((".c", ".pyx", ".pxd", ".pxi"))] == []
        assert {name.partition("/")[0].partition("-")[0] for name in content} == {"cacheorm"}
        assert python_sources() <= content

    def test_it_works_in_an_empty_environment(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment")
        install(python, wheel)
        assert str(tmp_path) in run(python, SMOKE, f"--{self.build}").stdout
        assert run(python.with_name("cacheorm"), "--version").stdout.startswith("cacheorm ")


class TestTheCompiledWheel(OfAWheel):
    build = "compiled"

    @pytest.fixture(scope="class")
    @classmethod
    def wheel(cls, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return build_wheel(sdist, tmp_path_factory.mktemp("compiled"), CACHEORM_REQUIRE_EXTENSIONS="1", **QUICK)[0]

    def test_it_holds_every_extension(self, wheel: Path) -> None:
        assert extensions(wheel) == EXTENSIONS

    def test_it_runs_pure_on_request(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment")
        install(python, wheel)
        run(python, SMOKE, "--pure", CACHEORM_NO_EXTENSIONS="1")
        run(python, SMOKE, "--compiled", CACHEORM_REQUIRE_EXTENSIONS="1")


class TestThePureWheel(OfAWheel):
    build = "pure"

    @pytest.fixture(scope="class")
    @classmethod
    def wheel(cls, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return build_wheel(sdist, tmp_path_factory.mktemp("pure"), CACHEORM_NO_EXTENSIONS="1")[0]

    def test_it_runs_anywhere(self, wheel: Path) -> None:
        assert wheel.name.endswith("-py3-none-any.whl")
        assert extensions(wheel) == set()

    def test_its_metadata_say_what_is_needed_and_what_may_be_added(self, wheel: Path) -> None:
        found = metadata(wheel)
        assert found["License-Expression"] == "MIT"
        assert found["Requires-Python"] == ">=3.11"
        needed = [requirement for requirement in found.get_all("Requires-Dist") if ";" not in requirement]
        assert {re.split(r"[^\w-]", requirement)[0] for requirement in needed} == {"blinker", "msgpack", "msgspec"}
        integrations = {"django", "memcached", "protobuf", "redis", "sqlalchemy", "zstd"}
        assert {"all", "bench", "demo", "dev", "web"} | integrations == {*found.get_all("Provides-Extra")}
        for minor in (11, 12, 13, 14):
            assert f"Programming Language :: Python :: 3.{minor}" in found.get_all("Classifier")

    def test_its_version_is_the_one_the_package_says(self, wheel: Path) -> None:
        (stated,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "cacheorm" / "__init__.py").read_text(), re.MULTILINE)
        assert metadata(wheel)["Version"] == stated

    def test_it_refuses_to_run_where_extensions_are_required(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment")
        install(python, wheel)
        done = subprocess.run(
            [python, "-c", "import cacheorm"],
            env={"CACHEORM_REQUIRE_EXTENSIONS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "ImportError" in done.stderr
        assert "CACHEORM_REQUIRE_EXTENSIONS" in done.stderr


class TestTheSourceTree:
    """Builds in the same tree, each of which goes on with the C that Cython has made for the one before."""

    def test_without_a_compiler_the_build_is_pure_and_says_so_in_one_line(
        self, source_tree: Path, tmp_path: Path
    ) -> None:
        wheel, output = build_wheel(source_tree, tmp_path, NOT_ISOLATED, CC="no-such-compiler", CXX="no-such-compiler")
        assert wheel.name.endswith("-py3-none-any.whl")
        assert extensions(wheel) == set()
        said = [line.strip() for line in output.splitlines() if "building the pure Python version" in line]
        assert len(said) == 1
        assert "no-such-compiler" in said[0]

    def test_without_a_compiler_required_extensions_are_an_error(self, source_tree: Path, tmp_path: Path) -> None:
        with pytest.raises(pytest.fail.Exception, match="no-such-compiler"):
            build_wheel(source_tree, tmp_path, NOT_ISOLATED, CC="no-such-compiler", CACHEORM_REQUIRE_EXTENSIONS="1")

    def test_it_installs_as_it_was_cloned(self, source_tree: Path, tmp_path: Path) -> None:
        wheel, _ = build_wheel(source_tree, tmp_path, NOT_ISOLATED, **QUICK)
        assert extensions(wheel) == EXTENSIONS
        # A generated .c beside a .py of the same name would be taken for its source by the next build.
        assert list((source_tree / "cacheorm").rglob("*.c")) == []
