"""The backend in one SQLite file: durable, shared by the processes of one machine, with nothing to install.

*Atomicity*: every single-entry operation is atomic among all threads and processes; a batch is one transaction per
10 000 entries. *Durability*: acknowledged writes survive the death of the process (``kill -9``); a power cut may cost
the last writes, but does not damage the file. *Eviction*: none. Expired entries do not exist for any operation; each
write removes a few of them, so that the file stays about as large as the live entries. Only ``clear`` shrinks it.
*Limits*: keys are text that UTF-8 can encode, without NUL. Key and value together are limited to just under 1 GB by
SQLite. The disk has to be local, since SQLite cannot lock files on most network file systems. *Lifetimes* follow the
system's clock, to the millisecond.
"""

# Statements are put together from constants; values of callers are bound.
# ruff: noqa: S608

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeVar

from .._speedups import entries, records
from ..deadlines import check_seconds
from ..errors import BackendError
from ..types import TTL, KeepTTL, Outcome, PoolState, Value
from ._file import emptying, scanning, table
from ._file.failures import forgets_on_failure
from ._file.operations import FileOperations
from .base import next_count, split_swaps

if TYPE_CHECKING:
    from ._file.connections import Connection

    _Choice = Callable[[list[str], list[bytes | None]], list[bool]]

__all__ = ["FileSystemBackend"]

T = TypeVar("T")

_FILE_NAME = "cache.sqlite3"

# Keys per chunk of an answer.
_READ_SIZE = 1024

# About 3000 years, in seconds; the deadline has to fit 64 bits as milliseconds.
_LONGEST = 10**11

# An upper bound of the bytes of SQLite's record of a row besides key and value.
_ROW_OVERHEAD = 100


@forgets_on_failure
class FileSystemBackend(FileOperations):
    """Keeps entries in ``cache.sqlite3``, in WAL mode, in a folder.

    Args:
        path: the folder. It is created with the first operation (mode 0700, the file 0600); an existing one keeps its
            mode.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        busy_timeout: seconds for which an operation waits while others write, in this process or another; after that
            it fails with :exc:`~cacheorm.errors.BackendError`.
        operation_timeout: seconds that one operation may take in all: waiting, every part of a batch, every repetition.
            ``busy_timeout`` unless given.
        retry_after: with ``on_failure="miss"``, seconds for which nothing is written after a write failed.
        on_failure: see :class:`~cacheorm.backends.redis.RedisBackend`, and so ``on_failure_keys``.
        clock: returns the time in seconds since the epoch, for lifetimes; :func:`time.time` unless given.

    Attributes:
        size_limit: the most bytes of a key and its value together.

    Threads and processes may share the folder, and forked children may go on using the backend. Signal handlers and
    destructors may use it while their thread is in the middle of another operation: that one is repeated then. A file
    that is removed or replaced is opened anew with the next operation. One that is damaged is renamed to
    ``cache.sqlite3.damaged-1`` (or the next number), which is logged, and the cache begins anew.
    """

    size_limit: int = 10**9 - _ROW_OVERHEAD  # SQLITE_MAX_LENGTH, https://www.sqlite.org/limits.html

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_ttl: int = 600,
        *,
        busy_timeout: float = 30.0,
        operation_timeout: float | None = None,
        retry_after: float = 5.0,
        on_failure: str = "raise",
        on_failure_keys: int = 100_000,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(default_ttl)
        if isinstance(path, bytes) or not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a str or os.PathLike, got {type(path).__name__}")
        # Absolute, so that it stays the same folder after a chdir.
        self.path = os.path.abspath(os.fsdecode(path))
        file = os.path.join(self.path, _FILE_NAME)
        wait = check_seconds("busy_timeout", busy_timeout)
        if operation_timeout is not None:
            operation_timeout = check_seconds("operation_timeout", operation_timeout)
        timeout = wait if operation_timeout is None else operation_timeout
        self._open(file, timeout, retry_after, on_failure, on_failure_keys)
        self._open_file(file, wait, clock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        parameters = (key, *records.key_ids((key,)), self._now())
        row = self._run(lambda connection: connection.execute(table.GET, parameters).fetchone())
        return None if row is None else records.pick((key,), (row,))[0]

    def has(self, key: str) -> bool:
        return self._fetch("1", key) is not None

    def ttl(self, key: str) -> int | None:
        row = self._fetch("expires", key)
        if row is None:
            return None
        # Rounded up, and at least 1: 0 would say that it never expires.
        return 0 if row[0] == table.NEVER else max(1, -((self._now() - row[0]) // 1000))

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        row = (key, *records.key_ids((key,)), self._expires(ttl), records.make_record(key, stored))
        # Refused if another key has the id; set_many finds another id.
        return self._execute(table.SET, row) or self.set_many({key: stored}, ttl)[key]

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        record = records.make_record(key, self._stored(key, value))
        if isinstance(ttl, KeepTTL):
            return self._execute(
                f"UPDATE entries SET record = ? WHERE {table.WHERE_KEY}", (record, *self._key_parameters(key))
            )
        sql = f"UPDATE entries SET record = ?, expires = ? WHERE {table.WHERE_KEY}"
        return self._execute(sql, (record, self._expires(ttl), *self._key_parameters(key)))

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = self._stored(key, value)
        row = (key, *records.key_ids((key,)), self._expires(ttl), records.make_record(key, stored))
        if self._execute(table.ADD, (*row, self._now())):
            return True
        # It exists, or another key has its id.
        return not self.has(key) and self.add_many({key: stored}, ttl)[key]

    def delete(self, key: str) -> bool:
        return self._execute(f"DELETE FROM entries WHERE {table.WHERE_KEY}", self._key_parameters(key))

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        expires = self._expires(ttl)

        def count(connection: Connection) -> int:
            ids = table.entry_ids(connection, (key,))
            (value,) = table.read(connection, (key,), ids, self._now())
            count = next_count(key, value, delta)
            entry = {key: b"%d" % count}
            if value is None:
                table.put(connection, entry, ids, expires)
            else:
                table.put_values(connection, entry, ids)
            return count

        return self._transact(count, 1, self._end())

    def touch(self, key: str, ttl: TTL = None) -> bool:
        return self._execute(
            f"UPDATE entries SET expires = ? WHERE {table.WHERE_KEY}", (self._expires(ttl), *self._key_parameters(key))
        )

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        if not keys:
            return []
        # Checks all keys before anything is read.
        ids = records.key_ids(keys)
        return self._run(
            lambda connection: table.read(connection, keys, table.resolve_moved(connection, keys, ids), self._now())
        )

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        for start in range(0, len(keys), _READ_SIZE):
            # No connection is held while the caller works on a chunk.
            yield self.get_many(*keys[start : start + _READ_SIZE])

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, None)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return self._write_many(mapping, ttl, lambda keys, present: [value is not None for value in present])

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write_many(mapping, ttl, lambda keys, present: [value is None for value in present])

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        values, tokens = split_swaps(mapping)

        def unchanged(keys: list[str], present: list[bytes | None]) -> list[bool]:
            return [value is not None and value == tokens[key] for key, value in zip(keys, present, strict=True)]

        return self._write_many(values, ttl, unchanged)

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        found = self._change_found(keys, f"UPDATE entries SET expires = ? WHERE {table.WHERE_IDS}", self._expires(ttl))
        return {key: key in found for key in keys}

    def delete_many(self, *keys: str) -> bool:
        return len(self._change_found(keys, f"DELETE FROM entries WHERE {table.WHERE_IDS}")) == len({*keys})

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that is no ``str``, or that UTF-8 cannot encode."""
        records.key_ids((key,))

    def scan_chunks(self, prefix: str = "", batch_size: int = 1000) -> Iterator[list[str]]:
        self._check_scan(prefix, batch_size)
        keys = scanning.scan(self._run, prefix.encode(), min(batch_size, _READ_SIZE), self._now)
        return filter(None, map(self._without_pending, keys))

    def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        """Remove entries; of all, return the space to the disk, unless another process uses the file."""
        if prefix is not None:
            super().clear(prefix, everything=everything)
            return
        end = self._end()
        self._transact(emptying.remove_all, 1, end)
        self._run(self._interrupted_at(end, emptying.shrink), end=end)

    def ping(self) -> bool:
        self._run(lambda connection: connection.execute("SELECT 1 FROM entries LIMIT 1").fetchall())
        return True

    def stats(self) -> dict[str, Any]:
        """Return ``entries``, ``expired`` (expired entries that still take up space), ``bytes`` (on disk) and ``path``.

        It reads the whole file.
        """
        end = self._end()

        def count(connection: Connection) -> tuple[int, int]:
            sql = f"SELECT count(*), ifnull(sum({table.LIVE}), 0) FROM entries"
            rows, live = connection.execute(sql, (self._now(),)).fetchone()
            return rows, live

        rows, live = self._run(self._interrupted_at(end, count), end=end)
        size = 0
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                size += os.stat(self._file + suffix).st_size
        return {"entries": live, "expired": rows - live, "bytes": size, "path": self.path}

    def pools(self) -> list[PoolState]:
        """Return the current use of the SQLite connections, as one state."""
        return [self._database.state()]

    def close(self) -> None:
        self._database.close()

    # -- entries -----------------------------------------------------------------------------------

    def _fetch(self, column: str, key: str) -> Any:
        parameters = self._key_parameters(key)
        sql = f"SELECT {column} FROM entries WHERE {table.WHERE_KEY}"
        return self._run(lambda connection: connection.execute(sql, parameters).fetchone())

    def _key_parameters(self, key: str) -> tuple[Any, ...]:
        """Return the parameters of ``table.WHERE_KEY``."""
        return (key, *records.key_ids((key,)), self._now(), records.make_record(key, b""))

    def _change_found(self, keys: Iterable[str], sql: str, *parameters: Any) -> AbstractSet[str]:
        """Run a statement on the keys that exist, and return these; their ids are the statement's last parameter."""
        records.key_ids(keys)
        existed: set[str] = set()

        def change(connection: Connection, part: Sequence[str]) -> set[str]:
            ids = table.entry_ids(connection, part)
            present = [value is not None for value in table.read(connection, part, ids, self._now())]
            connection.execute(sql, (*parameters, self._dumps([*compress(ids, present)])))
            return {*compress(part, present)}

        self._in_parts([*dict.fromkeys(keys)], change, existed.update)
        return existed

    def _write_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL, choose: _Choice | None) -> Outcome:
        """Write a batch: all of it, or only the entries that ``choose`` selects inside the transaction."""
        batch = entries.stored_batch(mapping)
        records.key_ids(batch)
        expires = None if isinstance(ttl, KeepTTL) else self._expires(ttl)
        outcome = Outcome(dict.fromkeys(batch, True))
        for key in self._oversized(batch):
            outcome[key] = False
            outcome.reasons[key] = self._size_error(batch[key])
        if outcome.reasons:
            batch = {key: value for key, value in batch.items() if outcome[key]}

        def write(connection: Connection, part: Sequence[str]) -> dict[str, bool]:
            rows = batch if len(part) == len(batch) else {key: batch[key] for key in part}
            ids = table.entry_ids(connection, part)
            if choose is not None:
                chosen = choose([*part], table.read(connection, part, ids, self._now()))
                rows = dict(compress(rows.items(), chosen))
                ids = [*compress(ids, chosen)]
            if expires is None:
                table.put_values(connection, rows, ids)
            else:
                table.put(connection, rows, ids, expires)
            return {} if choose is None else dict(zip(part, chosen, strict=True))

        self._in_parts([*batch], write, outcome.update)
        return outcome

    # -- keys, values, lifetimes -----------------------------------------------------------------

    def _expires(self, ttl: TTL) -> int:
        seconds = self._seconds(ttl)
        return self._now() + min(seconds, _LONGEST) * 1000 if seconds else table.NEVER

    def _stored(self, key: str, value: Value) -> bytes:
        """Check the key and the size of the value; return its bytes."""
        stored = entries.stored_value(key, value)
        self.check_key(key)
        if self._oversized({key: stored}):
            raise BackendError(f"{self._file}: {key}: {self._size_error(stored)}")
        return stored

    def _oversized(self, batch: Mapping[str, bytes]) -> list[str]:
        limit = self.size_limit
        # The longest key and the longest value together bound every entry.
        if max(map(len, batch.values()), default=0) + 4 * max(map(len, batch), default=0) <= limit:
            return []
        return [key for key, value in batch.items() if len(key.encode()) + len(value) > limit]

    def _size_error(self, value: bytes) -> str:
        return f"too large: {len(value)} bytes, and SQLite holds up to {self.size_limit} with the key"
