"""Fixtures that need no import: running servers, one of each per test process, and empty backends on them."""

from __future__ import annotations

import gc
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clusters import RedisCluster
    from postgresql import PostgresServer
    from sentinels import SentinelGroup

    from cacheorm.backends import BaseBackend
    from cacheorm.backends.memcached import MemcachedBackend
    from cacheorm.backends.redis import RedisBackend

# Tests are imported by path (--import-mode=importlib), which leaves this folder off sys.path; what they share
# is made importable here, as `servers`.
sys.path.insert(0, str(Path(__file__).parent))

from amounts import LONG, enough, tried
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import patience
from servers import MemcachedServer, RedisServer
from skipping import SkippingClock, skipping_clock

# How long an example takes depends on what else the machine does. A long run looks for new inputs, and prints how to
# run the one that fails again; any other takes the same inputs every time.
settings.register_profile(
    "suite",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    max_examples=enough(100),
    derandomize=not LONG,
    print_blob=True,
)
settings.load_profile("suite")


_TESTS = Path(__file__).parent

# What the build changes: conversion, keys, rows and payloads, and protocols, the ring and records on real servers.
# Clients that are passed in reach their servers by the same calls as our own connections, or by code of others.
# `make test` runs these in both builds. All else is the same Python in both, and is run in the compiled build only.
_CHANGED_BY_BUILD = (
    "speedups",
    "fields",
    "fuzz",
    "models",
    "serializers",
    "backends/test_conformance_embedded.py",
    "backends/test_conformance_servers.py",
    "backends/test_ketama.py",
    "backends/test_memcached.py",
    "backends/test_pickling.py",
    "backends/test_redis.py",
    "backends/test_redis_replies.py",
    "backends/test_simple.py",
    "backends/test_simple_interruptions.py",
    "test_payload.py",
    "test_sync_driver.py",
    "test_types.py",
)

# Tests of models that are about operations and declarations, and not about values, keys and payloads; and about what
# compiled code alone could leave behind.
_SAME_IN_BOTH = (
    "models/test_class_bodies.py",
    "models/test_execute_again.py",
    "models/test_lazy.py",
    "models/test_leaks.py",
    "models/test_outages.py",
    "models/test_overridden_save.py",
    "models/test_presence.py",
    "models/test_same_keys.py",
    "models/test_signals.py",
)

# What models hand to backends is bytes, whichever backend it is, and the tests of conformance are of all of them: in
# both builds, models are tried in memory and on a server.
_SAME_IN_BOTH_ON = {"file", "memcached"}

# The tests of the code that exists twice; models and fields drive most of it.
_MEASURED_PURE = ("speedups", "fields", "models")

# Tests whose coverage is not measured, as those with the mark `no_cover`: they try again what others do once, among
# threads, tasks, failures and event loops.
_UNMEASURED = (
    "awaited/test_cancellation.py",
    "awaited/test_loops.py",
    "backends/test_redis_failovers.py",
    "backends/test_redis_tls.py",
    "backends/test_turns.py",
    "benchmarks",
    "models/test_concurrency.py",
    "test_hazards.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--changed-by-build", action="store_true", help="take only the tests of what the build changes (conftest.py)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = (*_CHANGED_BY_BUILD, *_SAME_IN_BOTH, *_MEASURED_PURE, *_UNMEASURED)
    if missing := [place for place in listed if not (_TESTS / place).exists()]:
        raise pytest.UsageError(f"conftest.py lists tests that do not exist: {', '.join(missing)}")
    if config.getoption("changed_by_build"):
        changed = [item for item in items if _is_changed_by_build(item)]
        kept = {*changed}
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = changed
    if config.getoption("cov_source", None):
        _measure_once(items)


def _is_changed_by_build(item: pytest.Item) -> bool:
    if not _is_below(item, _CHANGED_BY_BUILD) or _is_below(item, _SAME_IN_BOTH):
        return False
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return not (_is_below(item, ("models",)) and parameters.get("backend") in _SAME_IN_BOTH_ON)


def _measure_once(items: list[pytest.Item]) -> None:
    """Measure the coverage of each test in one build: a measurement takes as long again as the test.

    Tests of what exists twice are measured where it is Python, and the others where it is C, which leaves fewer lines.
    """
    from cacheorm import speedups_enabled

    for item in items:
        measured_pure = _is_below(item, _MEASURED_PURE) and not _is_below(item, _SAME_IN_BOTH)
        if measured_pure == speedups_enabled or _is_below(item, _UNMEASURED):
            item.add_marker("no_cover")


def _is_below(item: pytest.Item, places: tuple[str, ...]) -> bool:
    return any(item.path.is_relative_to(_TESTS / place) for place in places)


@settings(max_examples=1)
@given(st.none())
def _use_hypothesis(value: None) -> None:
    """Let Hypothesis make what it makes once, and expects the garbage collector to know."""


def pytest_collection_finish() -> None:
    """Keep all that collecting made out of the garbage collector's way: thousands of tests, that stay to the end."""
    _use_hypothesis()
    gc.collect()
    gc.freeze()


# -- figures of what was tried: each process counts, and the one that prints adds them up


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Count the inputs that Hypothesis has generated; its statistics are text."""
    tried["generated inputs"] += sum(map(int, re.findall(r"(\d+) passing", getattr(item, "hypothesis_statistics", ""))))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(tried)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    tried.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = [f"{count:,} {what}" for what, count in sorted(tried.items()) if count]
    if figures:
        terminalreporter.write_line(f"Tried: {', '.join(figures)}")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Let Ctrl-C interrupt, also where the tests run in a shell's background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """Let backends have the time that they need on a busy machine."""
    # Tests of types import nothing of the package, and run where it is not built.
    with patience() if "cacheorm" in sys.modules else nullcontext():
        yield


@pytest.fixture(scope="session")
def shared_redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis_server: RedisServer) -> RedisServer:
    """A running redis-server, shared but empty: tests that kill or configure one start their own."""
    shared_redis_server.clear()
    return shared_redis_server


@pytest.fixture(scope="session")
def shared_memcached_server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def memcached_server(shared_memcached_server: MemcachedServer) -> MemcachedServer:
    """A running memcached, shared but empty: tests that kill or configure one start their own."""
    shared_memcached_server.clear()
    return shared_memcached_server


@pytest.fixture(scope="session")
def shared_postgres_server() -> Iterator[PostgresServer]:
    from postgresql import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(shared_postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of a running PostgreSQL: tests that kill one start their own."""
    with shared_postgres_server.database() as url:
        yield url


@pytest.fixture
def clock() -> Iterator[SkippingClock]:
    """Time that a test may skip, for backends that are made in it."""
    with skipping_clock() as clock:
        yield clock


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A running Redis Cluster, shared: tests that kill nodes of it start their own, and slots are moved back."""
    from clusters import RedisCluster

    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sentinel_group() -> Iterator[SentinelGroup]:
    """A primary and a replica of Redis under three sentinels, shared: tests that kill one start their own."""
    from sentinels import SentinelGroup

    with SentinelGroup() as group:
        yield group


@pytest.fixture
def redis_backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """A backend on an empty database of the shared redis-server."""
    from cacheorm.backends.redis import RedisBackend

    with RedisBackend(host="127.0.0.1", port=redis_server.port) as backend:
        backend.clear(everything=True)
        yield backend


@pytest.fixture
def memcached_backend(memcached_server: MemcachedServer) -> Iterator[MemcachedBackend]:
    """A backend on the shared memcached, emptied."""
    from cacheorm.backends.memcached import MemcachedBackend

    with MemcachedBackend(servers=[memcached_server.address]) as backend:
        backend.clear(everything=True)
        yield backend


@pytest.fixture(params=["simple", "file", "redis", "memcached"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseBackend]:
    """Each backend in turn, empty, against real servers."""
    import cacheorm as co

    made: BaseBackend
    if request.param == "simple":
        made = co.SimpleBackend()
    elif request.param == "file":
        made = co.FileSystemBackend(tmp_path / "cache")
    elif request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        made = co.RedisBackend(host="127.0.0.1", port=redis.port)
    else:
        memcached: MemcachedServer = request.getfixturevalue("memcached_server")
        made = co.MemcachedBackend(servers=[("127.0.0.1", memcached.port)])
    made.clear(everything=True)
    yield made
    made.close()
