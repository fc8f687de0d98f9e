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

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from itertools import compress, islice, repeat
from typing import TYPE_CHECKING, Any

from .._speedups import entries, records
from ..errors import BackendError
from ..types import TTL, KeepTTL, Outcome, Value
from .base import BaseBackend, next_count, split_swaps

if TYPE_CHECKING:
    import sqlite3

    _Choice = Callable[[str, bytes | None], bool]

__all__ = ["FileSystemBackend"]

_FILE_NAME = "cache.sqlite3"

# Keys per chunk of an answer.
_READ_SIZE = 1024

# Entries per transaction: other writers wait for one, some 20 ms.
_WRITE_SIZE = 10_000

# After so many written entries, look for expired ones among twice as many.
_SWEEP_AFTER = 64

# About 3000 years, in seconds; the deadline has to fit 64 bits as milliseconds.
_LONGEST = 10**11

# What SQLite's record of a row needs besides key and value, generously.
_ROW_OVERHEAD = 100

# The deadline of what never expires: the largest number there is.
_NEVER = 2**63 - 1

# Where a round of sweeping begins, below all ids.
_LOWEST = -(2**63)

# Earlier than all deadlines: reads what has expired as well.
_ALL = -1

# An entry lies under the id of its key (see `records`), but for keys whose place another key held when they came:
# `moved` gives them ids of their own, below 0. Writers ask it inside their transactions, so a key has one place only.
_PLACE = "ifnull((SELECT id FROM moved WHERE key = ?), ?)"
_LIVE = "expires > ?"
_KEY = "substr({0}.record, 1, instr({0}.record, x'00'))"
_AMONG = "id IN (SELECT value FROM json_each(?))"
_AT = f"id = {_PLACE} AND {_LIVE} AND {_KEY.format('entries')} = ?"

# Whose record it is costs less to tell here than in SQL.
_GET = f"SELECT record FROM entries WHERE id = {_PLACE} AND {_LIVE}"

# To hand a row over costs as much as to find it, and a column a fifth of that: so one row answers for several keys.
_WIDTH = 16
# SQLite before 3.32 takes 999 parameters.
_MOST_ROWS = 32

_UPSERT = f"""
INSERT INTO entries (id, expires, record) VALUES {{}}
ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, record = excluded.record
WHERE {_KEY.format("entries")} = {_KEY.format("excluded")}
"""
_PUT = _UPSERT.format("(?, ?, ?)")
# To run a statement costs a third of what a row takes, so one writes several. The pages that they change, two for a
# row, still fit the 64 KB up to which SQLite keeps a statement's journal out of a temporary file.
_PUT_SIZE = 8
_PUT_MANY = _UPSERT.format(", ".join(["(?, ?, ?)"] * _PUT_SIZE))
_SET = _UPSERT.format(f"({_PLACE}, ?, ?)")
_ADD = f"{_SET} AND entries.expires <= ?"


def _read_statement(rows: int) -> str:
    """Give the statement that reads so many rows of records, the deadline being its last parameter."""
    columns = ", ".join(f"e{i}.record" for i in range(_WIDTH))
    now = rows * _WIDTH + 1
    # An outer join reads the left side first, so the answer is as long as that and in its order.
    joins = " ".join(
        f"LEFT JOIN entries AS e{i} ON e{i}.id = asked.column{i + 1} AND e{i}.expires > ?{now}" for i in range(_WIDTH)
    )
    asked = ", ".join(["(" + ", ".join("?" * _WIDTH) + ")"] * rows)
    return f"SELECT {columns} FROM (VALUES {asked}) AS asked {joins}"


# By the number of rows. Few, since each is prepared once per connection.
_READ = {1 << i: _read_statement(1 << i) for i in range(_MOST_ROWS.bit_length())}


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
        place = (key, *records.key_ids((key,)), self._now())
        with self._connection() as connection:
            row = connection.execute(_GET, place).fetchone()
        return None if row is None else records.pick((key,), (row,))[0]

    def has(self, key: str) -> bool:
        return self._fetch("1", key) is not None

    def ttl(self, key: str) -> int | None:
        row = self._fetch("expires", key)
        if row is None:
            return None
        # Rounded up, and at least 1: 0 would say that it never expires.
        return 0 if row[0] == _NEVER else max(1, -((self._now() - row[0]) // 1000))

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        row = (key, *records.key_ids((key,)), self._expires(ttl), records.make_record(key, stored))
        # Refused where another key holds the place; a batch looks for another.
        return self._execute(_SET, row) or self.set_many({key: stored}, ttl)[key]

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        record = records.make_record(key, self._stored(key, value))
        if isinstance(ttl, KeepTTL):
            return self._execute(f"UPDATE entries SET record = ? WHERE {_AT}", (record, *self._at(key)))
        sql = f"UPDATE entries SET record = ?, expires = ? WHERE {_AT}"
        return self._execute(sql, (record, self._expires(ttl), *self._at(key)))

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        row = (key, *records.key_ids((key,)), self._expires(ttl), records.make_record(key, stored))
        if self._execute(_ADD, (*row, self._now())):
            return True
        # It exists, or another key holds its place.
        return not self.has(key) and self.add_many({key: stored}, ttl)[key]

    def delete(self, key: str) -> bool:
        return self._execute(f"DELETE FROM entries WHERE {_AT}", self._at(key))

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        expires = self._expires(ttl)
        with self._transaction() as connection:
            ids = self._ids(connection, (key,))
            (value,) = self._read(connection, (key,), ids, self._now())
            count = next_count(key, value, delta)
            entry = {key: b"%d" % count}
            if value is None:
                self._put_many(connection, entry, ids, expires)
            else:
                self._put_values(connection, entry, ids)
        return count

    def touch(self, key: str, ttl: TTL = None) -> bool:
        return self._execute(f"UPDATE entries SET expires = ? WHERE {_AT}", (self._expires(ttl), *self._at(key)))

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        if not keys:
            return []
        # Checks them all, before anything is asked.
        ids = records.key_ids(keys)
        with self._connection() as connection:
            return self._read(connection, keys, self._settled(connection, keys, ids), self._now())

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        for start in range(0, len(keys), _READ_SIZE):
            # No connection is held while the caller works on a chunk.
            yield self.get_many(*keys[start : start + _READ_SIZE])

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, None)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return self._write_many(mapping, ttl, lambda key, value: value is not None)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, lambda key, value: value is None)

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        values, tokens = split_swaps(mapping)
        return self._write_many(values, ttl, lambda key, value: value is not None and value == tokens[key])

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        found = self._change_found(keys, f"UPDATE entries SET expires = ? WHERE {_AMONG}", self._expires(ttl))
        return {key: key in found for key in keys}

    def delete_many(self, *keys: str) -> bool:
        return len(self._change_found(keys, f"DELETE FROM entries WHERE {_AMONG}")) == len({*keys})

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that is no ``str``, or that UTF-8 cannot encode."""
        records.key_ids((key,))

    def clear(self) -> None:
        """Remove every entry and, unless another process is at work, give the space back to the disk."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM entries")
            connection.execute("DELETE FROM moved")
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

    def _fetch(self, column: str, key: str) -> Any:
        at = self._at(key)
        with self._connection() as connection:
            return connection.execute(f"SELECT {column} FROM entries WHERE {_AT}", at).fetchone()

    def _at(self, key: str) -> tuple[Any, ...]:
        """Give the parameters of ``_AT``."""
        return (key, *records.key_ids((key,)), self._now(), records.make_record(key, b""))

    def _change_found(self, keys: Iterable[str], sql: str, *parameters: Any) -> AbstractSet[str]:
        """Run a statement on those of the keys that exist, and tell which; the ids are its last parameter."""
        records.key_ids(keys)
        distinct = [*dict.fromkeys(keys)]
        existed: set[str] = set()
        for part in _parts(distinct, _WRITE_SIZE):
            with self._transaction(len(part), applied=bool(existed)) as connection:
                ids = self._ids(connection, part)
                present = [value is not None for value in self._read(connection, part, ids, self._now())]
                connection.execute(sql, (*parameters, self._dumps([*compress(ids, present)])))
            existed.update(compress(part, present))
        return existed

    def _ids(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[int]:
        """Give the places of keys, as of the transaction."""
        return self._settled(connection, keys, records.key_ids(keys))

    def _settled(self, connection: sqlite3.Connection, keys: Sequence[str], ids: list[int]) -> list[int]:
        """Put the places of moved keys in those of their ids."""
        # Nearly always there are none. A reader that is overtaken between this and its reading misses an entry
        # only if that was away for a moment.
        if connection.execute("SELECT 1 FROM moved LIMIT 1").fetchone() is None:
            return ids
        sql = "SELECT key, id FROM moved WHERE key IN (SELECT value FROM json_each(?))"
        moved = dict(connection.execute(sql, (self._dumps(keys),)))
        return [moved.get(key, number) for key, number in zip(keys, ids, strict=True)]

    def _read(
        self, connection: sqlite3.Connection, keys: Sequence[str], ids: Sequence[int], now: int
    ) -> list[bytes | None]:
        """Read the values of keys at their places, ``None`` where they are not there or have expired."""
        rows: list[tuple[bytes | None, ...]] = []
        most = _MOST_ROWS * _WIDTH
        for start in range(0, len(ids), most):
            part = ids[start : start + most]
            # The next power of two.
            height = 1 << ((len(part) - 1) // _WIDTH).bit_length()
            parameters = [*part, *repeat(None, height * _WIDTH - len(part)), now]
            rows += connection.execute(_READ[height], parameters).fetchall()
        return records.pick(keys, rows)

    def _write_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL, choose: _Choice | None) -> Outcome:
        """Write a batch: all of it, or only the entries that are chosen inside the transaction."""
        batch = entries.stored_batch(mapping)
        records.key_ids(batch)
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
                keys = [*part]
                ids = self._ids(connection, keys)
                if choose is not None:
                    present = self._read(connection, keys, ids, self._now())
                    chosen = [choose(key, value) for key, value in zip(keys, present, strict=True)]
                    outcome.update(zip(keys, chosen, strict=True))
                    part = dict(compress(part.items(), chosen))
                    ids = [*compress(ids, chosen)]
                if expires is None:
                    self._put_values(connection, part, ids)
                else:
                    self._put_many(connection, part, ids, expires)
            applied = True
        return outcome

    def _put_values(self, connection: sqlite3.Connection, batch: Mapping[str, bytes], ids: Sequence[int]) -> None:
        """Write over entries that exist, and leave their deadlines."""
        changed = zip(map(records.make_record, batch, batch.values()), ids, strict=True)
        connection.executemany("UPDATE entries SET record = ? WHERE id = ?", changed)

    def _put_many(
        self, connection: sqlite3.Connection, batch: Mapping[str, bytes], ids: Sequence[int], expires: int
    ) -> None:
        """Write entries, at their places or, where other keys hold those, at new ones."""
        parameters = iter(records.make_parameters(batch, ids, expires))
        whole = islice(parameters, 3 * (len(batch) - len(batch) % _PUT_SIZE))
        written = connection.executemany(_PUT_MANY, zip(*repeat(whole, 3 * _PUT_SIZE), strict=True)).rowcount
        written += connection.executemany(_PUT, zip(*repeat(parameters, 3), strict=True)).rowcount
        if written == len(batch):
            return
        found = self._read(connection, [*batch], ids, _ALL)
        for (key, value), there in zip(batch.items(), found, strict=True):
            if there is None:
                (lowest,) = connection.execute("SELECT min(ifnull(min(id), 0), 0) FROM entries").fetchone()
                connection.execute("REPLACE INTO moved (key, id) VALUES (?, ?)", (key, lowest - 1))
                connection.execute(_PUT, (lowest - 1, expires, records.make_record(key, value)))

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
                # Among the places below 0; the entries of others may come back to their own.
                forget = "DELETE FROM moved WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM entries)"
                connection.execute(forget, (start, end))
            self._sweep_position = _LOWEST if end is None else end

    # -- keys, values, deadlines -----------------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _expires(self, ttl: TTL) -> int:
        seconds = self._seconds(ttl)
        return self._now() + min(seconds, _LONGEST) * 1000 if seconds else _NEVER

    def _stored(self, key: str, value: Value) -> bytes:
        """Check the key and the size of the value, and give its bytes."""
        stored = entries.stored_value(key, value)
        self.check_key(key)
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
