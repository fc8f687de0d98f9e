"""What backends keep to themselves is theirs: tests look at them through what is public, so that it may be replaced."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import cacheorm as co

TESTS = Path(__file__).parent
BACKENDS = TESTS.parent / "cacheorm" / "backends"

# The tests of compiled code look inside the table that the in-memory backend is made of; those of files, at the clock,
# the waits, the locks and the forks that faults have to meet at one point; those of the network core, at parts of it.
LOOK_INSIDE = (
    "patience.py",
    "skipping.py",
    "speedups",
    "backends/test_invalidations.py",
    "backends/test_on_failure.py",
    "backends/test_redis_unreachable.py",
    "backends/test_filesystem_damage.py",
    "backends/test_filesystem_forks.py",
    "backends/test_filesystem_time.py",
)
MODULES = [
    path for path in sorted(TESTS.rglob("*.py")) if not any(path.is_relative_to(TESTS / place) for place in LOOK_INSIDE)
]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


def defined(tree: ast.AST) -> Iterator[str]:
    """Find the names of functions, classes and attributes that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@cache
def private_names() -> frozenset[str]:
    """Return the private names of backends: those in their modules, and those that compiled code gives them."""
    backend = co.SimpleBackend()
    names = {name for path in BACKENDS.rglob("*.py") for name in defined(ast.parse(path.read_text("utf-8")))}
    return frozenset(filter(is_private, names | {*dir(backend)}))


def of_itself(node: ast.Attribute) -> bool:
    return ast.unparse(node.value) in {"self", "cls", "super()"}


def is_module(name: str | None) -> bool:
    """Tell whether a dotted name is that of a private module of backends, or of something private in one."""
    parts = (name or "").split(".")
    return parts[:2] == ["cacheorm", "backends"] and any(map(is_private, parts))


def reached(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find where a test reaches into a backend: lines, and what they name."""
    own = {*defined(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private_names():
            if not (of_itself(node) and node.attr in own):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if is_module(alias.name))
        elif isinstance(node, ast.ImportFrom):
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name) for name in named if is_module(name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            yield from ((node.lineno, text) for text in texts if text in private_names() or is_module(text))


def test_no_test_reaches_into_a_backend() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}: {what}"
        for path in MODULES
        for line, what in reached(ast.parse(path.read_text("utf-8")))
    ]
    assert found == [], "look at what is public: pools(), breakers(), a proxy, the server, a clock that is passed in"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("backend._blocking", ["backend._blocking"]),
        ("backend.pools()[0]._replace(idle=1)", []),
        ("memory._store", ["memory._store"]),
        ("import cacheorm.backends._redis.blocking", ["cacheorm.backends._redis.blocking"]),
        ("from cacheorm.backends import _network", ["cacheorm.backends._network"]),
        ("from cacheorm.backends.url import _redis", ["cacheorm.backends.url._redis"]),
        ("from cacheorm.backends.redis import RedisBackend", []),
        ("monkeypatch.setattr(pool, '_idle', [])", ["_idle"]),
        ("patch.setattr('cacheorm.backends._loops.PerLoop', None)", ["cacheorm.backends._loops.PerLoop"]),
        ("getattr(backend, 'get')", []),
        ("class Own:\n    def __init__(self):\n        self._idle = 0", []),
        ("class Sub(Backend):\n    def f(self):\n        return self._idle", ["self._idle"]),
    ],
)
def test_the_rule_sees_what_is_reached_for(source: str, found: list[str]) -> None:
    assert [what for _, what in reached(ast.parse(source))] == found
