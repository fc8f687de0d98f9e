"""Loads of several processes, and of one that forks, ends, or closes its event loop: none twice, none that hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from children import fork_and_check
from clusters import wait_until
from servers import HANG

import cacheorm as co
from cacheorm import behind

if TYPE_CHECKING:
    from lifetimes import Clock

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[co.BaseBackend]:
    """A backend that processes share."""
    if request.param == "file":
        with co.FileSystemBackend(tmp_path / "cache", operation_timeout=HANG) as made:
            yield made
    else:
        yield request.getfixturevalue("redis_backend")


class Calls:
    """A loader that writes down its calls where all processes see them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def __call__(self, pks: list[int]) -> dict[int, dict[str, str]]:
        with self._path.open("a") as file:
            file.write(f"{len(pks)}\n")
        return {pk: {"name": f"user {pk}"} for pk in pks}

    def clear(self) -> None:
        self._path.write_text("")

    @property
    def sizes(self) -> list[int]:
        """The number of rows of each call."""
        return [*map(int, self._path.read_text().split())]


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls")


def user_model(backend: Any, loader: Any, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        Meta = type("Meta", (), {"backend": backend, "ttl": 10_000, "loader": loader, "lease": 600, **options})

    return User


def in_processes(count: int, check: Callable[[], bool]) -> None:
    """Run ``check`` in forked processes that begin it at the same moment."""
    waiting, release = os.pipe()

    def begin() -> bool:
        os.close(release)
        os.read(waiting, 1)
        return check()

    waits = [fork_and_check(begin) for _ in range(count)]
    os.close(release)
    os.close(waiting)
    for wait in waits:
        wait()


@needs_fork
def test_fifty_processes_on_a_cold_key_call_the_loader_once(shared: co.BaseBackend, calls: Calls) -> None:
    user = user_model(shared, calls)
    in_processes(50, lambda: user.get(id=1).name == "user 1")
    assert calls.sizes == [1]


@needs_fork
def test_of_all_processes_one_loads_a_batch_anew_by_one_call(
    shared: co.BaseBackend, calls: Calls, wall_clock: Clock
) -> None:
    user = user_model(shared, calls, refresh_after=100)
    user.query_many(range(300)).execute()
    wall_clock.now += 101
    user.query_many(range(300, 1000)).execute()
    calls.clear()

    def read() -> bool:
        rows = user.query_many(range(1000)).execute()
        wait_until("nothing goes on", behind.is_idle)
        return [row.name for row in rows] == [f"user {pk}" for pk in range(1000)]

    in_processes(8, read)
    assert calls.sizes == [300]


@needs_fork
def test_of_all_processes_one_loads_what_is_past_its_ttl(
    shared: co.BaseBackend, calls: Calls, wall_clock: Clock
) -> None:
    user = user_model(shared, calls, keep_stale=10_000)
    user.get(id=1)
    wall_clock.now += 10_001
    calls.clear()
    in_processes(8, lambda: user.get(id=1).name == "user 1")
    assert calls.sizes == [1]


@needs_fork
def test_a_forked_child_loads_anew_what_the_parent_was_loading(
    shared: co.BaseBackend, calls: Calls, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(pks: list[int]) -> Any:
        begun.set()
        assert go_on.wait(HANG)
        return calls(pks)

    user = user_model(shared, slow, refresh_after=100)
    go_on.set()
    user.query_many(range(3)).execute()
    calls.clear()
    begun.clear()
    go_on.clear()
    wall_clock.now += 101
    user.get(id=0)
    assert begun.wait(HANG)

    def check() -> bool:
        assert behind.is_idle()
        assert user.get(id=0).name == "user 0"  # the parent loads it anew
        go_on.set()
        assert user.get(id=1).name == "user 1"
        wait_until("nothing goes on", behind.is_idle)
        return calls.sizes == [1]

    fork_and_check(check)()
    go_on.set()
    settled()
    assert calls.sizes == [1, 1]


PROGRAM = """
import asyncio, logging, sys, threading, time
import cacheorm as co
from cacheorm.aging import Aging

logging.getLogger("asyncio").setLevel(logging.ERROR)  # in the development mode, it tells of slow machines
now = 1_700_000_000
Aging.now = lambda aging: now * 1000
begun = threading.Event()
hangs = False

class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta:
        backend = sys.argv[1]
        ttl = 1000
        refresh_after = 100
        keep_stale = 1000
        loader_timeout = 0.01

        def loader(pks):
            begun.set()
            while hangs:
                time.sleep(0.01)
            return {pk: {"name": "user"} for pk in pks}

class Awaited(User):
    class Meta:
        name = "awaited"

        async def aloader(pks):
            begun.set()
            while hangs:
                await asyncio.sleep(0.01)
            return {pk: {"name": "user"} for pk in pks}

User.query_many(range(3)).execute()
Awaited.query_many(range(3)).execute()
begun.clear()
hangs = True
"""

ENDS = {
    "while a row is loaded anew": "now += 101; User.get(id=0); assert begun.wait(60)",
    "while a loader is late": "now += 1001; assert User.get(id=0).name == 'user'; assert begun.wait(60)",
    "while many wait for a thread": "now += 101; [User.get_or_load(pk, lambda pk: {'name': 'x'}) for pk in range(3)]",
    "at once": "hangs = False; now += 101; User.query_many(range(3)).execute()",
    "from a function that is called at the end": "import atexit; atexit.register(lambda: User.get(id=0)); now += 101",
    "in an event loop": "now += 101; asyncio.run(Awaited.aget(id=0))",
    "in an event loop, with a plain loader": "now += 101; asyncio.run(User.aget(id=0)); assert begun.wait(60)",
    "in an event loop, late": "now += 1001; asyncio.run(Awaited.query_many(range(3)).aexecute())",
    "in an event loop that is only closed": (
        "now += 101; loop = asyncio.new_event_loop(); loop.run_until_complete(Awaited.aget(id=0));"
        " loop.run_until_complete(asyncio.sleep(0)); loop.close()"
    ),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
def test_a_process_ends_without_a_word(kind: str, end: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "redis":
        url = f"redis://127.0.0.1:{request.getfixturevalue('redis_server').port}"
    else:
        url = "memory://" if kind == "memory" else f"file://{tmp_path / 'cache'}"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", f"{PROGRAM}\n{ENDS[end]}\n", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_loop_that_was_closed_leaves_nothing_behind(memory: co.SimpleBackend, wall_clock: Clock) -> None:
    asked = []

    async def load(pks: list[int]) -> dict[int, dict[str, str]]:
        asked.append(pks)
        if len(asked) == 2:
            await asyncio.sleep(HANG)
        return {pk: {"name": "user"} for pk in pks}

    user = user_model(memory, None, aloader=load, refresh_after=100, lease=1)
    asyncio.run(user.aget(id=0))
    wall_clock.now += 101

    async def begin() -> None:
        await user.aget(id=0)
        while len(asked) < 2:
            await asyncio.sleep(0)

    asyncio.run(begin())
    assert behind.is_idle()

    async def again() -> bool:
        await user.aget(id=0)
        await asyncio.sleep(0)
        return len(asked) == 3

    wait_until("another loop loads it anew", lambda: asyncio.run(again()))
