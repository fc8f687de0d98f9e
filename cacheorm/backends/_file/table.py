"""The tables of the file: ids of entries, and reading and writing many entries at once.

Each function takes a connection, and is part of one query or one transaction of its caller.
"""

# Statements are put together from constants; values of callers are bound.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING

from ..._speedups import records

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "ADD",
    "GET",
    "LIVE",
    "NEVER",
    "SET",
    "WHERE_IDS",
    "WHERE_KEY",
    "entry_ids",
    "put",
    "put_values",
    "read",
    "resolve_moved",
]

NEVER = 2**63 - 1
"""The deadline of entries that never expire: the largest 64-bit integer."""

# Earlier than all deadlines: reads expired entries as well.
_ALL = -1

# The id of an entry is computed from its key (see `records`). If another key has that id already, the entry is stored
# under an id below 0, which is recorded in `moved`. Writers read `moved` inside their transactions, so that a key has
# one id only.
_ID = "ifnull((SELECT id FROM moved WHERE key = ?), ?)"
LIVE = "expires > ?"
_KEY = "substr({0}.record, 1, instr({0}.record, x'00'))"
WHERE_IDS = "id IN (SELECT value FROM json_each(?))"
WHERE_KEY = f"id = {_ID} AND {LIVE} AND {_KEY.format('entries')} = ?"

# The key of the record is compared in Python, which costs less than in SQL.
GET = f"SELECT record FROM entries WHERE id = {_ID} AND {LIVE}"

# Returning a row costs as much as finding it, and a column a fifth of that. So each row of a result has the records of
# several keys.
_WIDTH = 16
# SQLite before 3.32 takes 999 parameters.
_MOST_ROWS = 32

_UPSERT = f"""
INSERT INTO entries (id, expires, record) VALUES {{}}
ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, record = excluded.record
WHERE {_KEY.format("entries")} = {_KEY.format("excluded")}
"""
_PUT = _UPSERT.format("(?, ?, ?)")
# Running a statement costs a third of writing a row, so one statement writes several rows. The pages that they change,
# two for each row, fit into 64 KB; up to that size SQLite keeps a statement's journal in memory.
_PUT_SIZE = 8
_PUT_MANY = _UPSERT.format(", ".join(["(?, ?, ?)"] * _PUT_SIZE))
SET = _UPSERT.format(f"({_ID}, ?, ?)")
ADD = f"{SET} AND entries.expires <= ?"


def _read_statement(rows: int) -> str:
    """Return the statement that reads ``rows * _WIDTH`` records; its last parameters are a deadline for each column."""
    columns = ", ".join(f"e{i}.record" for i in range(_WIDTH))
    # An outer join reads its left side first, so that the result has the length and the order of that side.
    joins = " ".join(
        f"LEFT JOIN entries AS e{i} ON e{i}.id = ids.column{i + 1} AND e{i}.expires > ?" for i in range(_WIDTH)
    )
    ids = ", ".join(["(" + ", ".join("?" * _WIDTH) + ")"] * rows)
    return f"SELECT {columns} FROM (VALUES {ids}) AS ids {joins}"


# Statements by their number of rows. There are few of them, since each is prepared once per connection.
_READ = {1 << i: _read_statement(1 << i) for i in range(_MOST_ROWS.bit_length())}


def entry_ids(connection: sqlite3.Connection, keys: Sequence[str]) -> list[int]:
    """Return the ids under which the entries of keys are stored, or are going to be stored in this transaction."""
    return resolve_moved(connection, keys, records.key_ids(keys))


def resolve_moved(connection: sqlite3.Connection, keys: Sequence[str], ids: list[int]) -> list[int]:
    """Return ``ids`` with those of moved keys replaced by the ids in ``moved``."""
    # Nearly always there are no moved keys. An entry may be moved between this and the read that follows; then the read
    # misses it, but only if the entry was removed in between and written anew.
    if connection.execute("SELECT 1 FROM moved LIMIT 1").fetchone() is None:
        return ids
    moved: dict[str, int] = {}
    for start in range(0, len(keys), _WIDTH * _MOST_ROWS):
        part = keys[start : start + _WIDTH * _MOST_ROWS]
        marks = ", ".join("?" * len(part))
        moved.update(connection.execute(f"SELECT key, id FROM moved WHERE key IN ({marks})", part).fetchall())
    return [moved.get(key, number) for key, number in zip(keys, ids, strict=True)]


def read(connection: sqlite3.Connection, keys: Sequence[str], ids: Sequence[int], now: int) -> list[bytes | None]:
    """Read the values of keys under their ids; ``None`` for entries that do not exist or have expired."""
    rows: list[tuple[bytes | None, ...]] = []
    most = _MOST_ROWS * _WIDTH
    for start in range(0, len(ids), most):
        part = ids[start : start + most]
        # The next power of two.
        height = 1 << ((len(part) - 1) // _WIDTH).bit_length()
        parameters = [*part, *repeat(None, height * _WIDTH - len(part)), *repeat(now, _WIDTH)]
        rows += connection.execute(_READ[height], parameters).fetchall()
    return records.pick(keys, rows)


def put_values(connection: sqlite3.Connection, batch: Mapping[str, bytes], ids: Sequence[int]) -> None:
    """Replace the values of entries that exist, and keep their deadlines."""
    changed = [*zip(map(records.make_record, batch, batch.values()), ids, strict=True)]
    connection.executemany("UPDATE entries SET record = ? WHERE id = ?", changed)


def put(connection: sqlite3.Connection, batch: Mapping[str, bytes], ids: Sequence[int], expires: int) -> None:
    """Write entries under their ids, or under new ids if other keys have those."""
    parameters = iter(records.make_parameters(batch, ids, expires))
    whole = islice(parameters, 3 * (len(batch) - len(batch) % _PUT_SIZE))
    written = connection.executemany(_PUT_MANY, zip(*repeat(whole, 3 * _PUT_SIZE), strict=True)).rowcount
    written += connection.executemany(_PUT, zip(*repeat(parameters, 3), strict=True)).rowcount
    if written == len(batch):
        return
    found = read(connection, [*batch], ids, _ALL)
    for (key, value), there in zip(batch.items(), found, strict=True):
        if there is None:
            (lowest,) = connection.execute("SELECT min(ifnull(min(id), 0), 0) FROM entries").fetchone()
            connection.execute("REPLACE INTO moved (key, id) VALUES (?, ?)", (key, lowest - 1))
            connection.execute(_PUT, (lowest - 1, expires, records.make_record(key, value)))
