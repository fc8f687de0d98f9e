"""The structure of the package: the order of imports, late imports, names of modules, and the length of modules."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "cacheorm"

# From the bottom up. A module imports from lower layers, and a package from itself; never from its own layer or above.
LAYERS = [
    {"deadlines", "errors", "logs", "payload", "types"},
    {"_speedups"},
    {"backends", "fields", "serializers", "signals"},
    {"class_bodies", "model_registry", "options"},
    {"aging", "behind", "loaders"},
    {"metadata"},
    {"requests"},
    {"sync_driver"},
    {"async_driver"},
    {"declaration", "operations"},
    {"instances"},
    {"all_rows"},
    {"async_methods"},
    {"models"},
    {"cli", "ext", "testing"},
    {"__main__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}

# All other modules name backends in annotations at most.
MAY_IMPORT_BACKENDS = {"backends", "metadata", "options", "cli", "testing"}

# Each costs milliseconds to import or may not be installed at all; loaded where it is first used.
DRIVERS = {"redis", "hiredis", "pylibmc", "pymemcache", "google", "Cython", "cython", "asgiref", "django", "sqlalchemy"}

# What takes long to import and few programs need, or what some backend alone needs.
COSTLY = {
    "asyncio",
    "dataclasses",
    "difflib",
    "hashlib",
    "inspect",
    "json",
    "msgspec",
    "pickle",
    "socket",
    "sqlite3",
    "urllib",
}

# About what fits in a head.
MAX_LINES = 400

# Asks whether something is a model by the name of the attribute that holds a model's plan. Outside of _speedups only
# this module may.
ASKS_FOR_A_PLAN = re.compile(r"""(?:has|get)attr\(.*['"]_meta['"]""")
MAY_ASK_FOR_A_PLAN = "types.py"


class Import(NamedTuple):
    module: str  # dotted, absolute
    line: int


def never_runs(test: ast.expr) -> bool:
    """Whether an ``if`` is for type checkers, or for Cython while it compiles."""
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING", "cython.compiled"}


def statements(body: list[ast.stmt], inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Find the imports that run in Python; those in functions only if asked for."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and never_runs(node.test):
            yield from statements(node.orelse, inside_functions)
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for child in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, child, []), inside_functions)
            for branch in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from statements(branch.body, inside_functions)


@cache
def imports(path: Path, source: str | None = None, inside_functions: bool = True) -> list[Import]:
    """List what a module of the package imports, with relative names resolved."""
    package = ("cacheorm", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in statements(ast.parse(source or path.read_text(encoding="utf-8")).body, inside_functions):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
            continue
        base = [*package[: len(package) - node.level + 1]] if node.level else []
        base += node.module.split(".") if node.module else []
        found += [Import(".".join([*base, alias.name]), node.lineno) for alias in node.names]
    return found


def top_level(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def internal(path: Path) -> list[tuple[str, tuple[str, ...], int]]:
    """List the imports from the package itself: top-level module, the names below it, line."""
    return [
        (parts[1], tuple(parts[2:]), line)
        for module, line in imports(path)
        if (parts := module.split("."))[0] == "cacheorm" and len(parts) > 1
    ]


MODULES = sorted(PACKAGE.rglob("*.py"))
COMPILED_SOURCES = sorted(path for kind in ("pyx", "pxd", "pxi") for path in PACKAGE.rglob(f"*.{kind}"))
INSIDE = [path for path in MODULES if path != PACKAGE / "__init__.py"]


def by_name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_module_belongs_to_a_layer() -> None:
    there = {top_level(path) for path in INSIDE}
    assert not there - RANK.keys(), "add it to LAYERS, at the lowest place that works"
    assert not RANK.keys() - there, "LAYERS names what does not exist"


def test_imports_point_to_lower_layers() -> None:
    wrong = [
        f"{by_name(path)}:{line} imports {target}"
        for path in INSIDE
        for target, _, line in internal(path)
        # An attribute of cacheorm/__init__.py, such as __version__, is above everything but the command.
        if (target in RANK or top_level(path) != "cli")
        and target != top_level(path)
        and RANK.get(target, len(LAYERS)) >= RANK[top_level(path)]
    ]
    assert wrong == []


def importers(package: str, but: Collection[str]) -> list[str]:
    """List where a package of ours is imported, but in some of our top-level modules."""
    return [
        f"{by_name(path)}:{line}"
        for path in INSIDE
        if top_level(path) not in but
        for target, _, line in internal(path)
        if target == package
    ]


def test_backends_are_imported_only_where_they_are_chosen_or_driven() -> None:
    assert importers("backends", MAY_IMPORT_BACKENDS) == []


def test_nothing_imports_the_test_suite_for_backends() -> None:
    assert importers("testing", {"testing"}) == []


def test_nothing_imports_what_is_in_front_of_databases() -> None:
    assert importers("ext", {"ext"}) == []


def test_speedups_are_entered_through_their_selector() -> None:
    deep = [
        f"{by_name(path)}:{line}"
        for path in INSIDE
        if top_level(path) != "_speedups"
        for target, names, line in internal(path)
        if target == "_speedups" and any(name.startswith("_") for name in names)
    ]
    assert deep == [], "import the public name from cacheorm._speedups: it is the compiled or the pure one"


def loads_a_driver(path: Path) -> bool:
    return any(module.partition(".")[0] in DRIVERS for module, _ in imports(path, inside_functions=False))


def is_private(path: Path) -> bool:
    return any(part.startswith("_") for part in path.relative_to(PACKAGE).parts)


# Each package of ext is imported by those who use the library that it is for.
WITHOUT_DRIVERS = [path for path in MODULES if top_level(path) != "ext"]


@cache
def loaders() -> set[str]:
    """Find the modules that load a driver, by their dotted names."""
    return {
        ".".join(each.relative_to(PACKAGE.parent).with_suffix("").parts)
        for each in MODULES
        if loads_a_driver(each) or (is_private(each) and each.parent.name == "_redis")
    }


def test_only_private_modules_load_a_driver_with_themselves() -> None:
    public = [by_name(path) for path in WITHOUT_DRIVERS if loads_a_driver(path) and not is_private(path)]
    assert public == [], "import it inside the function that needs it, or in a module that is private"


def test_drivers_are_loaded_where_they_are_first_used() -> None:
    early = [
        f"{by_name(path)}:{line} imports {module}"
        for path in WITHOUT_DRIVERS
        # Whoever imports those of Redis has to do so late.
        if not loads_a_driver(path) and path.parent.name != "_redis"
        for module, line in imports(path, inside_functions=False)
        if module in loaders() or module.rpartition(".")[0] in loaders()
    ]
    assert early == [], "it loads a driver: import it inside the function that needs it"


def test_modules_stay_short() -> None:
    lines = {by_name(path): len(path.read_text("utf-8").splitlines()) for path in [*MODULES, *COMPILED_SOURCES]}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}, "split it: one idea per module"


def test_one_function_tells_whether_something_is_a_model() -> None:
    found = [
        by_name(path)
        for path in INSIDE
        if top_level(path) != "_speedups"
        for line in path.read_text("utf-8").splitlines()
        if ASKS_FOR_A_PLAN.search(line)
    ]
    assert found == [MAY_ASK_FOR_A_PLAN], "call cacheorm.types.is_model"


@pytest.mark.parametrize("line", ['hasattr(type(value), "_meta")', "getattr(items[0], '_meta', None)"])
def test_the_rule_about_models_sees_each_form(line: str) -> None:
    assert ASKS_FOR_A_PLAN.search(f"    if {line}:")
    assert not ASKS_FOR_A_PLAN.search("    if is_model(type(value)) and value._meta.composite is None:")


def test_no_public_object_has_the_name_of_a_submodule() -> None:
    """``import cacheorm.x`` has to give the module, also as an attribute of its parent."""
    shadowed = []
    for path in INSIDE:
        *parents, child = ("cacheorm", *path.relative_to(PACKAGE).with_suffix("").parts)
        if child == "__init__":
            *parents, child = parents
        module = importlib.import_module(".".join([*parents, child]))
        if getattr(sys.modules[".".join(parents)], child) is not module:
            shadowed.append(module.__name__)
    assert shadowed == []


def test_importing_cacheorm_loads_no_driver_and_nothing_costly() -> None:
    program = """
import sys
before = set(sys.modules)  # what .pth files of other distributions load at start-up is not our doing
import cacheorm
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cacheorm" in loaded
    assert (DRIVERS | COSTLY) & loaded == set()


@pytest.mark.parametrize("package", ["cacheorm", "cacheorm.backends"])
def test_a_backend_is_loaded_with_its_first_use(package: str) -> None:
    program = f"""
import sys
import {package} as package
assert "cacheorm.backends.filesystem" not in sys.modules
assert "FileSystemBackend" in dir(package)
from {package} import FileSystemBackend
assert package.FileSystemBackend is FileSystemBackend is sys.modules["cacheorm.backends.filesystem"].FileSystemBackend
from {package} import *
assert {{"MemcachedBackend", "RedisBackend"}} <= globals().keys()
assert not hasattr(package, "FloppyBackend")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import redis", ["redis"]),
        ("from .backends import simple", ["cacheorm.backends.simple"]),
        ("from . import errors", ["cacheorm.errors"]),
        ("if TYPE_CHECKING:\n    import redis\nelse:\n    import os", ["os"]),
        ("try:\n    import a\nexcept ImportError:\n    import b\nfinally:\n    import c", ["a", "b", "c"]),
        ("class C:\n    def f(self):\n        import redis", ["redis"]),
        ("with x:\n    import a\nfor y in z:\n    import b", ["a", "b"]),
        ("if cython.compiled:\n    import cython", []),
        ("match x:\n    case 1:\n        import a", ["a"]),
    ],
)
def test_the_rules_see_every_import_that_runs(source: str, found: list[str]) -> None:
    assert sorted(each.module for each in imports(PACKAGE / "models.py", source)) == sorted(found)


def test_an_import_inside_a_function_is_not_early() -> None:
    source = "def connect():\n    import redis\nif fast:\n    import hiredis"
    assert [each.module for each in imports(PACKAGE / "models.py", source, inside_functions=False)] == ["hiredis"]
