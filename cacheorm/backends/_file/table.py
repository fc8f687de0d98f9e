"""Entries in the tables of the file: where each lies, and reading and writing many at once.

Everything here takes a connection, and belongs to one answer or one transaction of the caller's.
"""

# Statements are put together from constants; whatever comes from a caller is bound.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING

from ..._speedups import records

if TYPE_CHECKING:
    import sqlite3

__all__ = ["ADD", "AMONG", "AT", "GET", "LIVE", "NEVER", "SET", "places", "put", "put_values", "read", "settle"]

NEVER = 2**63 - 1
"""The deadline of what never expires: the largest number there is."""

# Earlier than all deadlines: reads what has expired as well.
_ALL = -1

# An entry lies under the id of its key (see `records`), but for keys whose place another key held when they came:
# `moved` gives them ids of their own, below 0. Writers ask it inside their transactions, so a key has one place only.
_PLACE = "ifnull((SELECT id FROM moved WHERE key = ?), ?)"
LIVE = "expires > ?"
_KEY = "substr({0}.record, 1, instr({0}.record, x'00'))"
AMONG = "id IN (SELECT value FROM json_each(?))"
AT = f"id = {_PLACE} AND {LIVE} AND {_KEY.format('entries')} = ?"

# Whose record it is costs less to tell here than in SQL.
GET = f"SELECT record FROM entries WHERE id = {_PLACE} AND {LIVE}"

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
SET = _UPSERT.format(f"({_PLACE}, ?, ?)")
ADD = f"{SET} AND entries.expires <= ?"


def _read_statement(rows: int) -> str:
    """Give the statement that reads so many rows of records, the deadline being its last parameters, one a column."""
    columns = ", ".join(f"e{i}.record" for i in range(_WIDTH))
    # An outer join reads the left side first, so the answer is as long as that and in its order.
    joins = " ".join(
        f"LEFT JOIN entries AS e{i} ON e{i}.id = asked.column{i + 1} AND e{i}.expires > ?" for i in range(_WIDTH)
    )
    asked = ", ".join(["(" + ", ".join("?" * _WIDTH) + ")"] * rows)
    return f"SELECT {columns} FROM (VALUES {asked}) AS asked {joins}"


# By the number of rows. Few, since each is prepared once per connection.
_READ = {1 << i: _read_statement(1 << i) for i in range(_MOST_ROWS.bit_length())}


def places(connection: sqlite3.Connection, keys: Sequence[str]) -> list[int]:
    """Give where the entries of keys lie, or will, as of the transaction."""
    return settle(connection, keys, records.key_ids(keys))


def settle(connection: sqlite3.Connection, keys: Sequence[str], ids: list[int]) -> list[int]:
    """Put the places of moved keys in those of their ids."""
    # Nearly always there are none. A reader that is overtaken between this and its reading misses an entry
    # only if that was away for a moment.
    if connection.execute("SELECT 1 FROM moved LIMIT 1").fetchone() is None:
        return ids
    moved: dict[str, int] = {}
    for start in range(0, len(keys), _WIDTH * _MOST_ROWS):
        part = keys[start : start + _WIDTH * _MOST_ROWS]
        marks = ", ".join("?" * len(part))
        moved.update(connection.execute(f"SELECT key, id FROM moved WHERE key IN ({marks})", part).fetchall())
    return [moved.get(key, number) for key, number in zip(keys, ids, strict=True)]


def read(connection: sqlite3.Connection, keys: Sequence[str], ids: Sequence[int], now: int) -> list[bytes | None]:
    """Read the values of keys at their places, ``None`` where they are not there or have expired."""
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
    """Write over entries that exist, and leave their deadlines."""
    changed = zip(map(records.make_record, batch, batch.values()), ids, strict=True)
    connection.executemany("UPDATE entries SET record = ? WHERE id = ?", changed)


def put(connection: sqlite3.Connection, batch: Mapping[str, bytes], ids: Sequence[int], expires: int) -> None:
    """Write entries, at their places or, where other keys hold those, at new ones."""
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
