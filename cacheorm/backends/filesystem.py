"""Rows in one SQLite file: durable, shared by the processes of one machine, with nothing to install.

*Atomicity*: every single-entry operation is atomic among all threads and processes; a batch is one transaction per
10 000 entries. *Durability*: what a write acknowledged survives the death of the process (``kill -9``); a power cut
may cost the last writes, never the file. *Eviction*: none. Expired entries do not exist for any operation; each write
removes a few of them, so the file keeps about the size of what lives, and never shrinks but by ``clear``. *Limits*:
keys are text that UTF-8 can encode, without NUL; key and value together just under SQLite's limit, 1 GB; a local disk,
since SQLite cannot lock files on most network file systems. *Lifetimes* follow the system's clock, to the millisecond.
"""

# Statements are put together from constants; whatever comes from a caller is bound.
# ruff: noqa: S608

from __future__ import annotations

import builtins
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from .._speedups import entries
from ..errors import BackendError, InvalidKeyError
from ..types import TTL, KeepTTL, Outcome, Value
from .base import BaseBackend, next_count, split_swaps

if TYPE_CHECKING:
    import sqlite3

    _Choice = Callable[[sqlite3.Connection, Sequence[str]], builtins.set[str]]

__all__ = ["FileSystemBackend"]

_FILE_NAME = "cache.sqlite3"

# Keys per SELECT. Larger gains nothing.
_READ_SIZE = 1000

# Entries per transaction: other writers wait for one, some 20 ms.
_WRITE_SIZE = 10_000

# After so many written entries, look for expired ones among twice as many.
_SWEEP_AFTER = 64

# About 3000 years, in seconds; the deadline has to fit 64 bits as milliseconds.
_LONGEST = 10**11

# What SQLite's record of a row needs besides key and value, generously.
_ROW_OVERHEAD = 100

# Keys go in as one JSON array: a third cheaper than a parameter for each, and one statement for every number.
_AMONG = "key IN (SELECT value FROM json_each(?))"
_LIVE = "(expires IS NULL OR expires > ?)"
_GET = f"SELECT value FROM entries WHERE key = ? AND {_LIVE}"
# An outer join has to read the array first, so the answer is as long as the array and in its order.
_GET_MANY = (
    f"SELECT entries.value FROM json_each(?) AS asked LEFT JOIN entries ON entries.key = asked.value AND {_LIVE}"
)
_UPSERT = """
INSERT INTO entries (key, expires, value) VALUES {}
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value
"""
_PUT = _UPSERT.format("(?, ?, ?)")
# To run a statement costs a third of what a row takes, so one writes several. The pages that they change, two for a
# row, still fit the 64 KB up to which SQLite keeps a statement's journal out of a temporary file.
_PUT_SIZE = 8
_PUT_MANY = _UPSERT.format(", ".join(["(?, ?, ?)"] * _PUT_SIZE))
_ADD = f"{_PUT} WHERE entries.expires <= ?"


class FileSystemBackend(BaseBackend):
    """Keeps entries in ``cache.sqlite3``, in WAL mode, in a folder.

    Args:
        path: the folder. It is made when first used (mode 0700, the file 0600); one that exists keeps its mode.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        busy_timeout: how long an operation waits while another process writes, in seconds, before it fails
            with :exc:`~cacheorm.errors.BackendError`.

    Threads and processes may share the folder, and forked children may go on using the backend. Do not remove the
    folder while it is in use: ``clear`` empties it.
    """

    def __init__(self, path: str | os.PathLike[str], default_ttl: int = 600, *, busy_timeout: float = 30.0) -> None:
        super().__init__(default_ttl)
        if isinstance(path, bytes) or not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a str or os.PathLike, got {type(path).__name__}")
        # Absolute, so that it stays the same folder after a chdir.
        self.path = os.path.abspath(os.fsdecode(path))
        self._file = os.path.join(self.path, _FILE_NAME)
        # Imported here, not with the package: it costs a program that keeps its rows elsewhere 6 ms.
        import json
        import sqlite3

        from ._sqlite import Connections, open_database

        file = self._file
        self._sqlite = sqlite3
        self._dumps = json.dumps
        self._connections = Connections(lambda: open_database(file, busy_timeout))
        # Without it, connections of a backend that is dropped unclosed would warn.
        weakref.finalize(self, self._connections.close)
        self._clock = time.time
        self._unswept = 0
        self._sweep_position: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        row = self._fetch(_GET, key)
        return None if row is None else row[0]

    def has(self, key: str) -> bool:
        return self._fetch(f"SELECT 1 FROM entries WHERE key = ? AND {_LIVE}", key) is not None

    def ttl(self, key: str) -> int | None:
        row = self._fetch(f"SELECT expires FROM entries WHERE key = ? AND {_LIVE}", key)
        if row is None:
            return None
        # Rounded up, and at least 1: 0 would say that it never expires.
        return 0 if row[0] is None else max(1, -((self._now() - row[0]) // 1000))

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        return self._execute(_PUT, (key, self._expires(ttl), stored))

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        stored = self._stored(key, value)
        if isinstance(ttl, KeepTTL):
            return self._execute(f"UPDATE entries SET value = ? WHERE key = ? AND {_LIVE}", (stored, key, self._now()))
        return self._execute(
            f"UPDATE entries SET value = ?, expires = ? WHERE key = ? AND {_LIVE}",
            (stored, self._expires(ttl), key, self._now()),
        )

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        return self._execute(_ADD, (key, self._expires(ttl), stored, self._now()))

    def delete(self, key: str) -> bool:
        self.check_key(key)
        return self._execute(f"DELETE FROM entries WHERE key = ? AND {_LIVE}", (key, self._now()))

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        expires = self._expires(ttl)
        with self._transaction() as connection:
            row = connection.execute(_GET, (key, self._now())).fetchone()
            count = next_count(key, row and row[0], delta)
            if row is None:
                connection.execute(_PUT, (key, expires, b"%d" % count))
            else:
                connection.execute("UPDATE entries SET value = ? WHERE key = ?", (b"%d" % count, key))
        return count

    def touch(self, key: str, ttl: TTL = None) -> bool:
        self.check_key(key)
        return self._execute(
            f"UPDATE entries SET expires = ? WHERE key = ? AND {_LIVE}", (self._expires(ttl), key, self._now())
        )

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        self._check_keys(keys)
        values: list[bytes | None] = []
        for start in range(0, len(keys), _READ_SIZE):
            part = keys[start : start + _READ_SIZE]
            with self._connection() as connection:
                values += [value for (value,) in connection.execute(_GET_MANY, (self._array(part), self._now()))]
        return values

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        for start in range(0, len(keys), _READ_SIZE):
            # No connection is held while the caller works on a chunk.
            yield self.get_many(*keys[start : start + _READ_SIZE])

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, None)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return self._write_many(mapping, ttl, self._present)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, lambda connection, keys: {*keys} - self._present(connection, keys))

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        values, tokens = split_swaps(mapping)

        def unchanged(connection: sqlite3.Connection, keys: Sequence[str]) -> builtins.set[str]:
            present = connection.execute(_GET_MANY, (self._array(keys), self._now()))
            found = zip(keys, present, strict=True)
            return {key for key, (value,) in found if value is not None and value == tokens[key]}

        return self._write_many(values, ttl, unchanged)

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        self._check_keys(keys)
        expires = self._expires(ttl)
        existed = dict.fromkeys(keys, False)
        applied = False
        for part in _parts([*existed], _WRITE_SIZE):
            with self._transaction(len(part), applied=applied) as connection:
                existed.update(dict.fromkeys(self._present(connection, part), True))
                sql = f"UPDATE entries SET expires = ? WHERE {_AMONG} AND {_LIVE}"
                connection.execute(sql, (expires, self._array(part), self._now()))
            applied = True
        return existed

    def delete_many(self, *keys: str) -> bool:
        self._check_keys(keys)
        distinct = [*dict.fromkeys(keys)]
        deleted = 0
        for part in _parts(distinct, _WRITE_SIZE):
            with self._transaction(len(part), applied=deleted > 0) as connection:
                sql = f"DELETE FROM entries WHERE {_AMONG} AND {_LIVE}"
                deleted += connection.execute(sql, (self._array(part), self._now())).rowcount
        return deleted == len(distinct)

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that is no ``str``, or that UTF-8 cannot encode."""
        self._check_keys((key,))

    def clear(self) -> None:
        """Remove every entry and, unless another process is at work, give the space back to the disk."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM entries")
        with self._connection() as connection, suppress(self._sqlite.OperationalError):
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def ping(self) -> bool:
        with self._connection() as connection:
            connection.execute("SELECT 1 FROM entries LIMIT 1").fetchall()
        return True

    def stats(self) -> dict[str, Any]:
        """Return ``entries``, ``expired`` (entries that take up space still), ``bytes`` (on disk) and ``path``.

        It reads the whole file.
        """
        with self._connection() as connection:
            sql = f"SELECT count(*), ifnull(sum({_LIVE}), 0) FROM entries"
            rows, live = connection.execute(sql, (self._now(),)).fetchone()
        size = 0
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                size += os.stat(self._file + suffix).st_size
        return {"entries": live, "expired": rows - live, "bytes": size, "path": self.path}

    def close(self) -> None:
        self._connections.close()

    # -- reading and writing ---------------------------------------------------------------------

    @contextmanager
    def _connection(self, *, writes: bool = False, applied: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one operation, and turn what goes wrong into BackendError.

        Args:
            writes: whether the operation writes.
            applied: whether an earlier part of the same operation is written already.
        """
        sqlite = self._sqlite
        try:
            connection = self._connections.take()
            try:
                yield connection
            except BaseException:
                # Also on Ctrl-C: nothing of what it interrupted, an open transaction or a half-read answer, may
                # reach the next borrower.
                self._connections.discard(connection)
                raise
            self._connections.give(connection)
        except (sqlite.Error, OSError) as error:
            # An I/O error is the one that leaves open how far a commit got; others roll back.
            broken = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite.SQLITE_IOERR
            raise BackendError(f"{self._file}: {error}", maybe_applied=applied or (writes and broken)) from error

    @contextmanager
    def _transaction(self, rows: int = 1, *, applied: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend a connection that holds the write lock; commit at the end, roll back on any exception."""
        with self._connections.write_lock, self._connection(writes=True, applied=applied) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            self._sweep(connection, rows)

    def _execute(self, sql: str, parameters: tuple[Any, ...]) -> bool:
        """Run one writing statement, which is a transaction by itself; tell whether it changed a row."""
        with self._connections.write_lock, self._connection(writes=True) as connection:
            changed = connection.execute(sql, parameters).rowcount > 0
            self._sweep(connection, 1)
        return changed

    def _fetch(self, sql: str, key: str) -> Any:
        self.check_key(key)
        with self._connection() as connection:
            return connection.execute(sql, (key, self._now())).fetchone()

    def _write_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL, choose: _Choice | None) -> Outcome:
        """Write a batch: all of it, or only the keys that are chosen inside the transaction."""
        batch = entries.stored_batch(mapping)
        self._check_keys(batch)
        keeps = isinstance(ttl, KeepTTL)
        expires = None if isinstance(ttl, KeepTTL) else self._expires(ttl)
        outcome = Outcome(dict.fromkeys(batch, True))
        for key in self._oversized(batch):
            outcome[key] = False
            outcome.reasons[key] = self._too_large(batch[key])
        if outcome.reasons:
            batch = {key: value for key, value in batch.items() if outcome[key]}
        items = iter(batch.items())
        applied = False
        while part := dict(islice(items, _WRITE_SIZE)):
            with self._transaction(len(part), applied=applied) as connection:
                if choose is not None:
                    chosen = choose(connection, [*part])
                    for key in part.keys() - chosen:
                        del part[key]
                        outcome[key] = False
                if keeps:
                    connection.executemany(
                        "UPDATE entries SET value = ? WHERE key = ?", zip(part.values(), part, strict=True)
                    )
                else:
                    self._put_many(connection, part, expires)
            applied = True
        return outcome

    def _put_many(self, connection: sqlite3.Connection, batch: Mapping[str, bytes], expires: int | None) -> None:
        parameters = chain.from_iterable(zip(batch, repeat(expires), batch.values(), strict=False))
        whole = islice(parameters, 3 * (len(batch) - len(batch) % _PUT_SIZE))
        connection.executemany(_PUT_MANY, zip(*repeat(whole, 3 * _PUT_SIZE), strict=True))
        connection.executemany(_PUT, zip(*repeat(parameters, 3), strict=True))

    def _present(self, connection: sqlite3.Connection, keys: Sequence[str]) -> builtins.set[str]:
        sql = f"SELECT key FROM entries WHERE {_AMONG} AND {_LIVE}"
        return {key for (key,) in connection.execute(sql, (self._array(keys), self._now()))}

    def _sweep(self, connection: sqlite3.Connection, rows: int) -> None:
        """Remove some expired entries: go round the table, twice as fast as it is written to.

        An index on the deadline would find them without looking, but costs every write 0.5 to 0.9 us, a third of
        its time; this costs 0.1.
        """
        self._unswept += rows
        if self._unswept < _SWEEP_AFTER:
            return
        steps, self._unswept = 2 * self._unswept, 0
        # The write is committed. Should this fail, the next operation will say so.
        with suppress(self._sqlite.Error):
            start = self._sweep_position
            if start is None:
                # Anywhere: a program that writes a little and exits would look at the same rows each time.
                (start,) = connection.execute("SELECT abs(random() % ifnull(max(id), 1)) FROM entries").fetchone()
            following = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
            (end,) = connection.execute(following, (start, steps)).fetchone()
            if end is not None:
                delete = "DELETE FROM entries WHERE id > ? AND id <= ? AND expires <= ?"
                connection.execute(delete, (start, end, self._now()))
            self._sweep_position = end or 0

    # -- keys, values, deadlines -----------------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _expires(self, ttl: TTL) -> int | None:
        seconds = self._seconds(ttl)
        return self._now() + min(seconds, _LONGEST) * 1000 if seconds else None

    def _check_keys(self, keys: Iterable[str]) -> None:
        # Joined first: one check in C covers a batch.
        try:
            joined = "".join(keys)
        except TypeError:
            entries.check_types(keys)
            raise
        if "\0" in joined:
            raise InvalidKeyError("a key has a NUL, at which SQLite's JSON functions end a text")
        if not joined.isascii():
            try:
                joined.encode()
            except UnicodeEncodeError:
                raise InvalidKeyError("a key has surrogates, which UTF-8 cannot encode") from None

    def _array(self, keys: Sequence[str]) -> str:
        """Give checked keys as a JSON array."""
        joined = '","'.join(keys)
        # What the models make is printable ASCII, and mostly needs no escapes: five times faster than the encoder.
        if joined.isascii() and joined.isprintable() and "\\" not in joined and joined.count('"') == 2 * len(keys) - 2:
            return f'["{joined}"]'
        return self._dumps(keys, ensure_ascii=False)

    def _stored(self, key: str, value: Value) -> bytes:
        """Check the key and the size of the value, and give its bytes."""
        stored = entries.stored_value(key, value)
        self._check_keys((key,))
        if self._oversized({key: stored}):
            raise BackendError(f"{self._file}: {key}: {self._too_large(stored)}")
        return stored

    def _oversized(self, batch: Mapping[str, bytes]) -> list[str]:
        limit = self._size_limit
        # The longest of each is a bound on every entry.
        if max(map(len, batch.values()), default=0) + 4 * max(map(len, batch), default=0) <= limit:
            return []
        return [key for key, value in batch.items() if len(key.encode()) + len(value) > limit]

    _size_limit = 10**9 - _ROW_OVERHEAD  # SQLITE_MAX_LENGTH, https://www.sqlite.org/limits.html

    def _too_large(self, value: bytes) -> str:
        return f"too large: {len(value)} bytes, and SQLite holds up to {self._size_limit} with the key"


def _parts(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
