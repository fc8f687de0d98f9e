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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import enough
from children import fork_and_check
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheorm._speedups import records
from cacheorm.backends import FileSystemBackend
from cacheorm.backends import filesystem as filesystem_module
from cacheorm.backends._file import database
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.testing._suite import in_threads
from cacheorm.types import KEEP_TTL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def backend(folder: Path) -> Iterator[FileSystemBackend]:
    with FileSystemBackend(folder) as backend:
        yield backend


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rows_in_file(folder: Path) -> int:
    connection = sqlite3.connect(folder / "cache.sqlite3")
    try:
        return connection.execute("SELECT count(*) FROM entries").fetchone()[0]
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


def test_a_file_that_is_no_database_is_named_in_the_error(folder: Path) -> None:
    folder.mkdir()
    (folder / "cache.sqlite3").write_bytes(b"no database" * 1000)
    backend = FileSystemBackend(folder)
    for call in (backend.ping, backend.clear, backend.stats, lambda: backend.get_many("a"), lambda: backend.incr("a")):
        with pytest.raises(BackendError, match=r"cache\.sqlite3: file is not a database") as caught:
            call()
        assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_a_damaged_database_is_an_error_and_not_a_miss(folder: Path) -> None:
    with FileSystemBackend(folder) as backend:
        backend.set_many({str(i): b"x" * 100 for i in range(5000)})
    file = folder / "cache.sqlite3"
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(file.stat().st_size - 4096))
    with pytest.raises(BackendError, match="malformed"):
        FileSystemBackend(folder).get_many(*map(str, range(5000)))


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


def test_a_full_disk_loses_the_write_and_nothing_else(backend: FileSystemBackend) -> None:
    backend.set("a", b"1", 0)
    connection = backend._connections.take()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # The same error as that of a full disk, from the same place.
    connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    backend._connections.give(connection)
    with pytest.raises(BackendError, match="database or disk is full") as caught:
        backend.set_many({str(i): b"x" * 1000 for i in range(1000)})
    assert caught.value.maybe_applied is False
    assert backend.get_many("a", "0", "999") == [b"1", None, None]
    assert backend.set("b", b"2") is True


def test_an_error_after_the_first_transaction_says_that_something_was_written(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem_module, "_WRITE_SIZE", 10)
    backend.ping()
    connection = backend._connections.take()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    backend._connections.give(connection)
    with pytest.raises(BackendError, match=r"full.*may have been applied") as caught:
        backend.set_many({str(i): b"x" * 1000 for i in range(1000)})
    assert caught.value.maybe_applied is True
    assert backend.get("0") is not None
    assert backend.get("999") is None


def test_an_io_error_in_a_write_leaves_open_whether_it_was_applied(backend: FileSystemBackend) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with pytest.raises(BackendError, match="disk I/O error") as caught, backend._transaction():
        raise error
    assert caught.value.maybe_applied is True
    with pytest.raises(BackendError) as caught, backend._connection():
        raise error
    assert caught.value.maybe_applied is False


def test_an_entry_over_the_limit_of_sqlite_is_refused_by_itself(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSystemBackend, "_size_limit", 1000)
    for write in (backend.set, backend.add, backend.replace):
        with pytest.raises(BackendError, match="big: too large: 1001 bytes, and SQLite holds up to 1000"):
            write("big", b"x" * 1001)
    outcome = backend.set_many({"small": b"1", "big": b"x" * 1001, "k" * 990: b"x" * 11, "fits": b"x" * 996})
    assert list(outcome.values()) == [True, False, False, True]
    assert list(outcome.reasons) == ["big", "k" * 990]
    assert backend.get_many("small", "big", "fits") == [b"1", None, b"x" * 996]


def test_the_limit_of_sqlite_is_what_we_say(backend: FileSystemBackend) -> None:
    connection = backend._connections.take()
    assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) >= backend._size_limit
    backend._connections.give(connection)


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


def test_sweeping_forgets_the_places_of_keys_that_are_gone(crowded: FileSystemBackend, folder: Path) -> None:
    now = time.time()
    crowded._clock = lambda: now
    crowded.set_many({f"row {i}": b"x" for i in range(100)}, 10)
    crowded._clock = lambda: now + 10
    for _ in range(500):
        crowded.set("for ever", b"x", 0)
    assert rows_in_file(folder) == 1
    connection = crowded._connections.take()
    places = connection.execute("SELECT count(*) FROM moved").fetchone()[0]
    crowded._connections.give(connection)
    assert places <= 1
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


def test_expired_rows_leave_the_file_as_others_are_written(backend: FileSystemBackend, folder: Path) -> None:
    now = time.time()
    backend._clock = lambda: now
    backend.set_many({f"brief {i}": b"x" for i in range(1000)}, 10)
    backend.set_many({f"for ever {i}": b"x" for i in range(100)}, 0)
    backend._clock = lambda: now + 10
    assert backend.stats()["entries"] == 100
    assert backend.stats()["expired"] == 1000
    # At twice the speed of writing, two rounds of 1100 rows need as many writes.
    for i in range(1100):
        backend.set("a", i)
    assert backend.stats()["expired"] == 0
    assert rows_in_file(folder) == 101
    assert backend.get("for ever 0") == b"x"


def test_one_write_removes_a_bounded_number_of_rows(backend: FileSystemBackend) -> None:
    now = time.time()
    backend._clock = lambda: now
    backend.set_many({str(i): b"x" for i in range(5000)}, 10)
    backend._sweeper.position = 0
    backend._clock = lambda: now + 10
    backend.set_many({f"new {i}": b"x" for i in range(100)})
    # Of the 200 rows that it looked at, some were the new ones.
    assert 4800 <= backend.stats()["expired"] < 5000


def test_a_sweep_that_fails_does_not_fail_the_write(backend: FileSystemBackend) -> None:
    backend._sweeper.position = "no number"  # type: ignore[assignment]
    for i in range(100):
        assert backend.set("a", i) is True
    backend._sweeper.position = 2**70
    with pytest.raises(OverflowError):
        # What is no error of the engine is a mistake of ours, and shows.
        [backend.set("a", i) for i in range(100)]


def test_lifetimes_follow_the_clock_of_the_system(backend: FileSystemBackend) -> None:
    now = time.time()
    backend._clock = lambda: now
    backend.set("a", 1, 10)
    assert backend.ttl("a") == 10
    backend._clock = lambda: now + 9.5
    assert (backend.get("a"), backend.ttl("a")) == (b"1", 1)
    backend._clock = lambda: now + 10.001
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
    backend._connections.close()
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


def test_a_writer_in_another_process_is_waited_for_and_then_reported(folder: Path) -> None:
    with FileSystemBackend(folder, busy_timeout=0.2) as backend:
        backend.set("a", 1)
        other = sqlite3.connect(folder / "cache.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for write in (lambda: backend.set("a", 2), lambda: backend.incr("a"), lambda: backend.set_many({"a": 2})):
            start = time.monotonic()
            with pytest.raises(BackendError, match="locked") as caught:
                write()
            assert time.monotonic() - start > 0.15
            assert caught.value.maybe_applied is False
        assert backend.get("a") == b"1"
        other.execute("ROLLBACK")
        other.close()
        assert backend.incr("a") == 2


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


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8])
def test_what_was_acknowledged_survives_kill_9(folder: Path, seconds: float) -> None:
    program = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, folder], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "0\n"
    threading.Timer(seconds, program.send_signal, [signal.SIGKILL]).start()
    # A line that the kill cut short acknowledges nothing.
    last = [int(line) for line in program.communicate()[0].splitlines(keepends=True) if line.endswith("\n")][-1]
    assert program.returncode == -signal.SIGKILL
    with FileSystemBackend(folder) as backend:
        for batch in range(last + 1):
            keys = [f"{batch}:{i}" for i in range(200)]
            assert backend.get_many(*keys) == [(key * 20).encode() for key in keys]
        # A batch is one transaction: of the one that was under way, all rows are there or none.
        assert backend.get_many(*(f"{last + 1}:{i}" for i in range(200))).count(None) in (0, 200)
        connection = backend._connections.take()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        backend._connections.give(connection)


# -- fork ------------------------------------------------------------------------------------------------------


def test_no_connection_is_open_across_a_fork(backend: FileSystemBackend) -> None:
    backend.set("a", 1)
    assert len(backend._connections._idle) == 1
    wait = fork_and_check(
        lambda: not backend._connections._idle and backend.get("a") == b"1" and backend.incr("a") == 2
    )
    assert backend._connections._idle == []
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


def test_a_child_forgets_what_threads_that_it_does_not_have_were_holding(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The steps of the fork above, in this process.
    monkeypatch.setattr(database, "_FORK_PATIENCE", 0.05)
    pool = backend._connections
    connection = pool.take()
    assert pool.write_lock.acquire()
    database._before_fork()
    database._after_fork_in_child()
    connection.close()
    assert pool._lent == 0
    assert backend.incr("a") == 1


def test_a_fork_does_not_wait_for_ever_for_an_operation(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_FORK_PATIENCE", 0.05)
    backend.set("a", 1)
    with backend._connections.write_lock, backend._connection():
        fork_and_check(lambda: backend.incr("a") == 2)()
    assert backend.get("a") == b"2"


# -- interruption ------------------------------------------------------------------------------------------------


def test_ctrl_c_in_a_transaction_rolls_it_back(backend: FileSystemBackend) -> None:
    def interrupted() -> None:
        with backend._transaction() as connection:
            connection.execute("UPDATE entries SET record = 'half'")
            raise KeyboardInterrupt

    backend.set("a", 1)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert backend.get("a") == b"1"
    assert backend.incr("a") == 2


INTERRUPTED = """
import signal, sys, time
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
rows = {str(i): b"x" for i in range(3000)}
backend.set_many(rows)
interrupted = 0
deadline = time.monotonic() + 1.5
while time.monotonic() < deadline:
    signal.setitimer(signal.ITIMER_REAL, 0.003)
    try:
        while True:
            backend.set_many(rows)
            assert backend.get_many(*rows) == [b"x"] * 3000
            backend.incr("count")
    except KeyboardInterrupt:
        interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert backend.get("0") == b"x"
assert backend.incr("after") == 1
print(interrupted)
"""


def test_ctrl_c_at_any_moment_leaves_a_usable_backend(folder: Path) -> None:
    program = "import signal; signal.signal(signal.SIGALRM, signal.default_int_handler)" + INTERRUPTED
    ended = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    assert int(ended.stdout) > 50


# -- connections -------------------------------------------------------------------------------------------------


def test_threads_share_a_few_connections(backend: FileSystemBackend) -> None:
    in_threads(4, lambda i: [backend.get("a") for _ in range(20)])
    assert 1 <= len(backend._connections._idle) <= 4


def test_no_more_connections_are_kept_than_are_useful(
    backend: FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_IDLE", 1)
    with backend._connection(), backend._connection():
        pass
    assert len(backend._connections._idle) == len(backend._connections._current) == 1


def test_a_connection_in_use_at_close_is_closed_on_its_return(backend: FileSystemBackend) -> None:
    with backend._connection() as connection:
        backend.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert backend._connections._idle == []


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
