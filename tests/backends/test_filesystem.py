from __future__ import annotations

import gc
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from amounts import enough
from children import fork_and_check
from hypothesis import given, settings
from hypothesis import strategies as st
from lifetimes import Clock
from servers import HANG

from cacheorm._speedups import records
from cacheorm.backends import FileSystemBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.testing._suite import in_threads
from cacheorm.types import KEEP_TTL, PoolState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(folder: Path, clock: Clock) -> Iterator[FileSystemBackend]:
    with FileSystemBackend(folder, clock=clock) as backend:
        yield backend


class Faults:
    """What goes wrong in SQLite, on connections that are opened from now on.

    Attributes:
        pages: how many the file may have; ``None`` does not limit it.
        before: what is called with the connection before a statement that begins in some way.
    """

    def __init__(self) -> None:
        self.pages: int | None = None
        self.before: dict[str, Callable[[sqlite3.Connection], object]] = {}

    def connect(self, real: Any, *args: Any, factory: Any = sqlite3.Connection, **options: Any) -> sqlite3.Connection:
        faults = self

        class Connection(factory):  # type: ignore[misc]
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                for begin, act in [*faults.before.items()]:
                    if sql.startswith(begin):
                        act(self)
                cursor: sqlite3.Cursor = super().execute(sql, *parameters)
                return cursor

        connection: sqlite3.Connection = real(*args, factory=Connection, **options)
        if self.pages is not None:
            connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection

    def fail(self, statement: str, error: BaseException) -> None:
        """Raise an error in place of a statement that begins so."""

        def act(connection: sqlite3.Connection) -> None:
            raise error

        self.before[statement] = act


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults()
    monkeypatch.setattr(sqlite3, "connect", partial(faults.connect, sqlite3.connect))
    return faults


def pages_of(folder: Path) -> int:
    connection = sqlite3.connect(folder / "cache.sqlite3")
    try:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
    finally:
        connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rows_in_file(folder: Path, table: str = "entries") -> int:
    connection = sqlite3.connect(folder / "cache.sqlite3")
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


# -- the file ------------------------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_use(folder: Path) -> None:
    backend = FileSystemBackend(folder)
    assert not folder.exists()
    assert backend.get("a") is None
    assert (folder / "cache.sqlite3").exists()


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    umask = os.umask(0)
    try:
        backend = FileSystemBackend(folder / "deeper")
        backend.set("a", 1)
        assert mode(folder / "deeper") == 0o700
        names = {path.name: mode(path) for path in (folder / "deeper").iterdir()}
        assert names == dict.fromkeys(("cache.sqlite3", "cache.sqlite3-wal", "cache.sqlite3-shm"), 0o600)
        backend.close()
    finally:
        os.umask(umask)


def test_a_folder_that_exists_keeps_its_mode(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    with FileSystemBackend(folder) as backend:
        backend.set("a", 1)
    assert mode(folder) == 0o755


def test_a_relative_path_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with FileSystemBackend("cache") as backend:
        monkeypatch.chdir("/")
        backend.set("a", 1)
        assert repr(backend) == f"<FileSystemBackend {str(tmp_path / 'cache')!r}>"
    assert (tmp_path / "cache" / "cache.sqlite3").exists()


@pytest.mark.parametrize("path", [None, 7, b"/tmp/x"])
def test_a_path_is_a_str_or_a_path_object(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be"):
        FileSystemBackend(path)


def test_rows_outlive_the_backend(folder: Path) -> None:
    with FileSystemBackend(folder) as backend:
        backend.set_many({"a": b"1", "b": b"2"}, 0)
    with FileSystemBackend(str(folder)) as backend:
        assert backend.get_many("b", "a") == [b"2", b"1"]


def test_closing_leaves_one_file(folder: Path) -> None:
    with FileSystemBackend(folder) as backend:
        backend.set("a", 1)
    assert [path.name for path in folder.iterdir()] == ["cache.sqlite3"]


def test_a_backend_dropped_unclosed_closes_its_connections(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = FileSystemBackend(folder)
        backend.set("a", 1)
        del backend
        gc.collect()
    assert [path.name for path in folder.iterdir()] == ["cache.sqlite3"]


def test_a_program_that_never_closes_ends_without_a_warning(folder: Path) -> None:
    program = "import sys; from cacheorm.backends import *; b = FileSystemBackend(sys.argv[1]); b.set('a', 1)"
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, folder], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_importing_the_backends_does_not_import_sqlite() -> None:
    program = "import sys, cacheorm.backends; sys.exit('sqlite3' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# -- what can be wrong with it ---------------------------------------------------------------------------


def test_a_file_in_place_of_the_folder_is_named_in_the_error(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(BackendError, match=str(folder)) as caught:
        FileSystemBackend(folder).get("a")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.maybe_applied is False


def test_a_folder_that_cannot_be_made_is_named_in_the_error() -> None:
    with pytest.raises(BackendError, match="/dev/null/cache") as caught:
        FileSystemBackend("/dev/null/cache").set("a", 1)
    assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_a_file_of_a_later_layout_is_refused(folder: Path) -> None:
    with FileSystemBackend(folder) as backend:
        backend.set("a", 1)
    connection = sqlite3.connect(folder / "cache.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BackendError, match="layout 99, this cacheorm reads 2"):
        backend.get("a")


def test_a_file_of_an_earlier_layout_starts_anew(folder: Path) -> None:
    folder.mkdir()
    connection = sqlite3.connect(folder / "cache.sqlite3")
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT UNIQUE, expires INTEGER, value BLOB)")
    connection.execute("INSERT INTO entries (key, value) VALUES ('a', 'old')")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with FileSystemBackend(folder) as backend, FileSystemBackend(folder) as other:
        assert backend.get("a") is None
        assert backend.set("a", b"new") is True
        assert other.get_many("a", "b") == [b"new", None]


def test_an_old_sqlite_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 23, 1))
    with pytest.raises(BackendError, match=r"SQLite 3\.24 or later is needed"):
        FileSystemBackend(folder).get("a")


def test_a_full_disk_loses_the_write_and_nothing_else(folder: Path, faults: Faults) -> None:
    with FileSystemBackend(folder) as backend:
        backend.set("a", b"1", 0)
    # The same error as that of a full disk, from the same place.
    faults.pages = pages_of(folder) + 10
    with FileSystemBackend(folder) as backend:
        with pytest.raises(BackendError, match="database or disk is full") as caught:
            backend.set_many({str(i): b"x" * 1000 for i in range(1000)})
        assert caught.value.maybe_applied is False
        assert backend.get_many("a", "0", "999") == [b"1", None, None]
        assert backend.set("b", b"2") is True


def test_an_error_after_the_first_transaction_says_that_something_was_written(folder: Path, faults: Faults) -> None:
    rows = {str(i): b"x" * 100 for i in range(25_000)}
    with FileSystemBackend(folder) as backend:
        backend.set_many(dict(islice(rows.items(), 12_000)))
        faults.pages = pages_of(folder)
        backend.clear()
    with FileSystemBackend(folder) as backend:
        with pytest.raises(BackendError, match=r"full.*may have been applied") as caught:
            backend.set_many(rows)
        assert caught.value.maybe_applied is True
        assert backend.get("0") is not None
        assert backend.get("24999") is None


def test_an_io_error_in_a_write_leaves_open_whether_it_was_applied(backend: FileSystemBackend, faults: Faults) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    backend.ping()
    faults.fail("COMMIT", error)
    with pytest.raises(BackendError, match="disk I/O error") as caught:
        backend.set_many({"a": b"1", "b": b"2"})
    assert caught.value.maybe_applied is True
    faults.before.clear()
    backend.ping()
    faults.fail("", error)
    with pytest.raises(BackendError, match="disk I/O error") as caught:
        backend.get("a")
    assert caught.value.maybe_applied is False


def test_an_entry_over_the_limit_of_sqlite_is_refused_by_itself(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSystemBackend, "size_limit", 1000)
    for write in (backend.set, backend.add, backend.replace):
        with pytest.raises(BackendError, match="big: too large: 1001 bytes, and SQLite holds up to 1000"):
            write("big", b"x" * 1001)
    outcome = backend.set_many({"small": b"1", "big": b"x" * 1001, "k" * 990: b"x" * 11, "fits": b"x" * 996})
    assert list(outcome.values()) == [True, False, False, True]
    assert list(outcome.reasons) == ["big", "k" * 990]
    assert backend.get_many("small", "big", "fits") == [b"1", None, b"x" * 996]


def test_the_limit_of_sqlite_is_what_we_say(backend: FileSystemBackend, faults: Faults) -> None:
    limits: list[int] = []
    faults.before[""] = lambda connection: limits.append(connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH))
    backend.ping()
    assert min(limits) >= backend.size_limit


# -- keys ------------------------------------------------------------------------------------------------


@settings(max_examples=enough(40), deadline=None)
@given(st.lists(st.text(max_size=20), unique=True, max_size=20))
def test_every_key_is_itself_and_no_other(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    with FileSystemBackend(tmp_path_factory.getbasetemp() / "keys") as backend:
        try:
            stored = backend.set_many({key: repr(key) for key in keys})
        except InvalidKeyError:
            assert any("\0" in key for key in keys)
            return
        assert stored == dict.fromkeys(keys, True)
        assert backend.get_many(*keys, *keys) == [repr(key).encode() for key in keys] * 2
        assert backend.delete_many(*keys) is True
        assert backend.get_many(*keys) == [None] * len(keys)


def test_an_invalid_key_says_why(backend: FileSystemBackend) -> None:
    with pytest.raises(InvalidKeyError, match="NUL"):
        backend.get_many("a", "b\0c")
    with pytest.raises(InvalidKeyError, match="surrogates"):
        backend.set("\ud800", 1)
    with pytest.raises(InvalidKeyError, match="must be a str, got bytes"):
        backend.delete(b"a")  # type: ignore[arg-type]


# Two keys with the same id: the CRC-32 of all but the last three bytes is the same, and so are those.
SAME_ID = ("m:a02552f76dbdf5fd:123", "m:670009b22c087272:123")


@pytest.fixture
def crowded(backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch) -> FileSystemBackend:
    """A backend whose keys have three ids among them."""

    key_ids = records.key_ids
    monkeypatch.setattr(records, "key_ids", lambda keys: [number % 3 for number in key_ids(keys)])
    return backend


def test_keys_with_one_id_are_entries_of_their_own(crowded: FileSystemBackend) -> None:
    rows = {f"row {i}": b"%d" % i for i in range(100)}
    assert crowded.set_many(rows) == dict.fromkeys(rows, True)
    assert crowded.get_many(*rows, "absent", "row 7") == [*rows.values(), None, b"7"]
    assert [crowded.get(key) for key in rows] == [*rows.values()]
    assert crowded.set_many({key: value * 2 for key, value in rows.items()}) == dict.fromkeys(rows, True)
    assert crowded.stats()["entries"] == 100
    assert crowded.add_many({"row 5": b"no", "new": b"yes"}) == {"row 5": False, "new": True}
    assert crowded.add("row 6", b"no") is False
    assert crowded.add("newer", b"yes") is True
    assert crowded.replace("row 5", b"five") is True
    assert crowded.replace("nothing", b"five") is False
    assert crowded.replace_many({"row 8": b"eight", "nothing": b""}, KEEP_TTL) == {"row 8": True, "nothing": False}
    assert crowded.incr("count", 5) == 5
    assert crowded.incr("count") == 6
    assert crowded.touch_many(["row 9", "nothing"], 0) == {"row 9": True, "nothing": False}
    assert (crowded.ttl("row 9"), crowded.has("row 9"), crowded.has("nothing")) == (0, True, False)
    assert crowded.get_many("row 5", "row 8", "new", "newer", "count") == [b"five", b"eight", b"yes", b"yes", b"6"]
    assert crowded.delete("row 1") is True
    assert crowded.delete("row 1") is False
    assert crowded.delete_many(*list(rows)[2:]) is True
    assert crowded.get_many(*rows) == [b"00", *[None] * 99]


def test_a_key_whose_place_is_taken_keeps_its_own_when_the_other_goes(crowded: FileSystemBackend) -> None:
    keys = [f"row {i}" for i in range(10)]
    for key in keys:
        assert crowded.set(key, key) is True
    for i, key in enumerate(keys):
        assert crowded.delete(key) is True
        for left in keys[i + 1 :]:
            assert crowded.set(left, left * 2) is True
        assert crowded.get_many(*keys) == [None] * (i + 1) + [(left * 2).encode() for left in keys[i + 1 :]]
        assert crowded.stats()["entries"] == 9 - i


def test_sweeping_forgets_the_places_of_keys_that_are_gone(
    crowded: FileSystemBackend, folder: Path, clock: Clock
) -> None:
    crowded.set_many({f"row {i}": b"x" for i in range(100)}, 10)
    clock.now += 10
    for _ in range(500):
        crowded.set("for ever", b"x", 0)
    assert rows_in_file(folder) == 1
    assert rows_in_file(folder, "moved") <= 1
    assert crowded.get_many("for ever", "row 1") == [b"x", None]


def test_two_keys_that_truly_share_an_id_do_not_meet(backend: FileSystemBackend) -> None:
    first, second = SAME_ID
    assert records.key_ids([first]) == records.key_ids([second])
    assert backend.set(first, b"1") is True
    assert (backend.get(second), backend.get_many(second, first)) == (None, [None, b"1"])
    assert backend.delete(second) is False
    assert backend.set_many({second: b"2"}) == {second: True}
    assert backend.get_many(first, second) == [b"1", b"2"]
    assert backend.delete(first) is True
    assert backend.get(second) == b"2"


# -- expiry ------------------------------------------------------------------------------------------------


def test_expired_rows_leave_the_file_as_others_are_written(
    backend: FileSystemBackend, folder: Path, clock: Clock
) -> None:
    backend.set_many({f"brief {i}": b"x" for i in range(1000)}, 10)
    backend.set_many({f"for ever {i}": b"x" for i in range(100)}, 0)
    clock.now += 10
    assert backend.stats()["entries"] == 100
    assert backend.stats()["expired"] == 1000
    # At twice the speed of writing, two rounds of 1100 rows need as many writes.
    for i in range(1100):
        backend.set("a", i)
    assert backend.stats()["expired"] == 0
    assert rows_in_file(folder) == 101
    assert backend.get("for ever 0") == b"x"


def test_one_write_removes_a_bounded_number_of_rows(backend: FileSystemBackend, clock: Clock) -> None:
    backend.set_many({str(i): b"x" for i in range(5000)}, 10)
    clock.now += 10
    expired = [5000]
    for _ in range(3):
        backend.set_many({f"new {i}": b"x" for i in range(100)})
        expired.append(backend.stats()["expired"])
    # Of the 200 rows that each looked at, some were the new ones; and it may have come to the end of the file.
    assert all(before - 200 <= after <= before for before, after in pairwise(expired))
    assert expired[-1] < 5000


def test_a_sweep_that_fails_does_not_fail_the_write(backend: FileSystemBackend, faults: Faults) -> None:
    sweep = "DELETE FROM entries WHERE id > "
    faults.fail(sweep, sqlite3.OperationalError("no"))
    for i in range(100):
        assert backend.set("a", i) is True
    faults.fail(sweep, OverflowError("no number of SQLite's"))
    with pytest.raises(OverflowError):
        # What is no error of the engine is a mistake of ours, and shows.
        [backend.set("a", i) for i in range(100)]


def test_lifetimes_follow_the_clock_of_the_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    with FileSystemBackend(folder) as backend:
        backend.set("a", 1, 10)
        assert backend.ttl("a") == 10
        clock.now += 9.5
        assert (backend.get("a"), backend.ttl("a")) == (b"1", 1)
        clock.now += 0.501
        assert (backend.get("a"), backend.ttl("a")) == (None, None)


def test_a_lifetime_of_a_googol_fits(backend: FileSystemBackend) -> None:
    assert backend.set("a", 1, 10**100) is True
    assert backend.get("a") == b"1"


# -- clear and stats -----------------------------------------------------------------------------------------


def test_clear_gives_the_space_back(backend: FileSystemBackend, folder: Path) -> None:
    backend.set_many({str(i): b"x" * 1000 for i in range(5000)})
    assert backend.stats()["bytes"] > 5_000_000
    backend.clear()
    assert backend.stats() == {"entries": 0, "expired": 0, "bytes": backend.stats()["bytes"], "path": str(folder)}
    assert backend.stats()["bytes"] < 200_000


def test_clear_succeeds_beside_a_reader(backend: FileSystemBackend, folder: Path) -> None:
    backend.set("a", 1)
    reader = sqlite3.connect(folder / "cache.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entries").fetchall()
    backend.close()
    with FileSystemBackend(folder, busy_timeout=0.1) as other:
        other.clear()
        assert other.get("a") is None
    reader.close()


# -- several at once -----------------------------------------------------------------------------------------

COUNT = """
import sys
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
for i in range(200):
    backend.incr("count", ttl=0)
won = sum(backend.add_many({f"row {i}": sys.argv[2] for i in range(500)}).values())
won += sum(backend.add(f"single {i}", sys.argv[2]) for i in range(100))
print(won)
"""


def test_processes_that_start_at_once_lose_no_count_and_no_row(folder: Path) -> None:
    programs = [
        subprocess.Popen([sys.executable, "-c", COUNT, folder, str(i)], stdout=subprocess.PIPE, text=True)
        for i in range(6)
    ]
    won = [int(program.communicate()[0]) for program in programs]
    assert [program.returncode for program in programs] == [0] * 6
    assert sum(won) == 600
    with FileSystemBackend(folder) as backend:
        assert backend.get("count") == b"1200"


@pytest.fixture
def locked(folder: Path) -> Iterator[sqlite3.Connection]:
    """A writer that has the lock, as another process has it."""
    with FileSystemBackend(folder) as backend:
        backend.set("a", 1)
    other = sqlite3.connect(folder / "cache.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


WRITES: list[Callable[[FileSystemBackend], object]] = [
    lambda backend: backend.set("a", 2),
    lambda backend: backend.incr("a"),
    lambda backend: backend.set_many({"a": 2}),
]


@pytest.mark.parametrize("write", WRITES, ids=["set", "incr", "set_many"])
def test_a_writer_in_another_process_is_waited_for(
    write: Callable[[FileSystemBackend], object], folder: Path, locked: sqlite3.Connection
) -> None:
    with FileSystemBackend(folder, busy_timeout=120) as backend:
        threading.Timer(0.2, locked.execute, ["ROLLBACK"]).start()
        write(backend)
        assert backend.get("a") == b"2"


@pytest.mark.parametrize("write", WRITES, ids=["set", "incr", "set_many"])
def test_a_writer_in_another_process_that_does_not_end_is_reported(
    write: Callable[[FileSystemBackend], object], folder: Path, locked: sqlite3.Connection
) -> None:
    with FileSystemBackend(folder, busy_timeout=0.2) as backend:
        with pytest.raises(BackendError, match="locked") as caught:
            write(backend)
        assert caught.value.maybe_applied is False
        assert backend.get("a") == b"1"
        locked.execute("ROLLBACK")
        write(backend)
        assert backend.get("a") == b"2"


def test_opening_waits_while_another_process_makes_the_file(folder: Path) -> None:
    folder.mkdir()
    other = sqlite3.connect(folder / "cache.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.3, other.close).start()
    with FileSystemBackend(folder) as backend:
        assert backend.set("a", 1) is True


def test_opening_does_not_wait_for_ever(folder: Path) -> None:
    folder.mkdir()
    other = sqlite3.connect(folder / "cache.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BackendError, match="locked"):
        FileSystemBackend(folder, busy_timeout=0.1).get("a")
    other.close()


WRITE_FOR_EVER = """
import sys
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
batch = 0
while True:
    backend.set_many({f"{batch}:{i}": f"{batch}:{i}" * 20 for i in range(200)}, 0)
    print(batch, flush=True)
    batch += 1
"""


@pytest.mark.parametrize("batches", [1, 10, 30])
def test_what_was_acknowledged_survives_kill_9(folder: Path, batches: int) -> None:
    program = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, folder], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    lines = [program.stdout.readline() for _ in range(batches)]
    program.kill()
    # A line that the kill cut short acknowledges nothing.
    lines += [line for line in program.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
    assert lines == [f"{batch}\n" for batch in range(len(lines))]
    assert program.returncode == -signal.SIGKILL
    with FileSystemBackend(folder) as backend:
        for batch in range(len(lines)):
            keys = [f"{batch}:{i}" for i in range(200)]
            assert backend.get_many(*keys) == [(key * 20).encode() for key in keys]
        # A batch is one transaction: of the one that was under way, all rows are there or none.
        assert backend.get_many(*(f"{len(lines)}:{i}" for i in range(200))).count(None) in (0, 200)
    connection = sqlite3.connect(folder / "cache.sqlite3")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


# -- fork ------------------------------------------------------------------------------------------------------


def idle(backend: FileSystemBackend) -> int:
    """Return how many connections are open, none of which is in use."""
    (state,) = backend.pools()
    assert state == PoolState(str(Path(backend.path, "cache.sqlite3")), None, 0, state.idle, 0)
    return state.idle


def test_no_connection_is_open_across_a_fork(backend: FileSystemBackend) -> None:
    backend.set("a", 1)
    assert idle(backend) == 1
    wait = fork_and_check(lambda: idle(backend) == 0 and backend.get("a") == b"1" and backend.incr("a") == 2)
    assert idle(backend) == 0
    wait()
    assert backend.incr("a") == 3


def test_children_forked_amid_writing_threads_work_and_lose_nothing(backend: FileSystemBackend) -> None:
    done = threading.Event()
    written = [0]

    def work() -> None:
        while not done.is_set():
            backend.incr("count", ttl=0)
            backend.set_many({str(i): b"x" for i in range(50)})
            written[0] += 1

    def count_once() -> bool:
        backend.incr("count", ttl=0)
        backend.close()
        return True

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            fork_and_check(count_once)()
    finally:
        done.set()
        thread.join()
    assert backend.get("count") == b"%d" % (written[0] + 10)


# -- interruption ------------------------------------------------------------------------------------------------


def test_ctrl_c_in_a_transaction_rolls_it_back(backend: FileSystemBackend, faults: Faults) -> None:
    backend.set("a", 1)
    faults.fail("COMMIT", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        backend.set_many({"a": 9, "b": 9})
    faults.before.clear()
    assert backend.get_many("a", "b") == [b"1", None]
    assert backend.incr("a") == 2


INTERRUPTED = """
import random, signal, sys
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
rows = {str(i): b"x" for i in range(3000)}
backend.set_many(rows)
chance = random.Random(1)
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + chance.random() * 0.01)
        while True:
            backend.set_many(rows)
            assert backend.get_many(*rows) == [b"x"] * 3000
            backend.incr("count")
    except KeyboardInterrupt:
        pass
    assert backend.get("0") == b"x"
assert backend.incr("after") == 1
"""


def test_ctrl_c_at_any_moment_leaves_a_usable_backend(folder: Path) -> None:
    program = "import signal; signal.signal(signal.SIGALRM, signal.default_int_handler)" + INTERRUPTED
    ended = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# -- connections -------------------------------------------------------------------------------------------------


def test_threads_share_a_few_connections(backend: FileSystemBackend) -> None:
    in_threads(4, lambda i: [backend.get("a") for _ in range(20)])
    assert 1 <= idle(backend) <= 4


def test_no_more_connections_are_kept_than_are_useful(backend: FileSystemBackend, faults: Faults) -> None:
    together = threading.Barrier(20)
    opened: set[int] = set()

    def meet(connection: sqlite3.Connection) -> None:
        if threading.get_ident() not in opened:
            opened.add(threading.get_ident())
            together.wait()  # each has a connection of its own

    # An existing file, as one thread has to create it before the others.
    backend.ping()
    backend.close()
    faults.before["PRAGMA"] = meet
    in_threads(20, lambda i: backend.get("a"))
    assert len(opened) == 20
    assert idle(backend) == 16


def test_a_connection_in_use_at_close_is_closed_on_its_return(backend: FileSystemBackend, faults: Faults) -> None:
    used: list[sqlite3.Connection] = []

    def close(connection: sqlite3.Connection) -> None:
        if not used:
            used.append(connection)
            assert backend.pools()[0].in_use == 1
            backend.close()

    backend.set("a", 1)
    faults.before["COMMIT"] = close
    assert backend.incr("a") == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[0].execute("SELECT 1")
    assert idle(backend) == 0
    assert backend.get("a") == b"2"


def test_chunks_hold_no_connection_between_them(backend: FileSystemBackend) -> None:
    rows = {str(i): b"%d" % i for i in range(2500)}
    backend.set_many(rows)
    chunks = backend.get_chunks(list(rows))
    first = next(chunks)
    backend.close()
    assert [len(chunk) for chunk in chunks] == [1024, 452]
    assert first == [b"%d" % i for i in range(1024)]


def test_large_batches_are_several_transactions(backend: FileSystemBackend) -> None:
    rows = {str(i): b"1" for i in range(25_000)}
    assert all(backend.set_many(rows).values())
    assert sum(backend.replace_many({**rows, "absent": b"2"}, KEEP_TTL).values()) == 25_000
    assert backend.get_many("0", "24999", "absent") == [b"1", b"1", None]
    assert backend.delete_many(*rows, "absent") is False
    assert backend.stats()["entries"] == 0


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17, 1000])
def test_a_batch_of_any_size_is_written_whole(backend: FileSystemBackend, count: int) -> None:
    # Every third is there before, and longer than what is written over it.
    backend.set_many({f"row {i}": b"x" * 300 for i in range(0, count, 3)}, 0)
    rows = {f"row {i}": b"%d" % i for i in range(count)}
    assert backend.set_many(rows, 60) == dict.fromkeys(rows, True)
    assert backend.get_many(*rows) == list(rows.values())
    assert {backend.ttl(key) for key in rows} == {60}
    assert backend.stats()["entries"] == count
    added = {f"row {i}": b"added" for i in range(count + 10)}
    assert sum(backend.add_many(added).values()) == 10
    assert backend.get_many(*added) == [*rows.values(), *[b"added"] * 10]
