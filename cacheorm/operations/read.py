"""The one read path: primary keys and keys of a batch in, rows of the same length out.

Every read of rows is three steps: identify the batch (keys in one compiled call), fetch, and load (rows in one compiled
call for each part that arrives). The first is :meth:`Identity.identify`; the functions of this module do the others.
"""

from __future__ import annotations

from itertools import compress
from typing import Any, NamedTuple

from .._speedups import keys as key_makers
from ..aging import Stamp
from ..payload import ABSENT
from ..requests import Call, Fetch, Steps
from .unreadable import Unreadable

__all__ = ["DueRows", "Gaps", "Patched", "read", "read_patched", "read_with_gaps"]

Gaps = dict[str, tuple[Any, bytes | None]]
"""The keys without a row, except remembered misses: their primary keys, and the payload stored instead, or ``None``."""


class _RowDecoder:
    """Decodes the payloads of a batch as rows. It has slots, since thousands of awaited reads may exist at a time.

    Args:
        codec: the model's.
        pks: the primary keys of the batch.
        keys: its keys.
        unreadable: gets the errors of payloads that are no rows.

    Attributes:
        keys: the keys to read, each once.
    """

    __slots__ = ("codec", "keys", "pks", "unreadable")

    def __init__(self, codec: Any, pks: list[Any], keys: list[str], unreadable: Unreadable) -> None:
        if key_makers.has_duplicates(keys):
            pk_of = dict(zip(keys, pks, strict=True))
            pks, keys = [*pk_of.values()], [*pk_of]
        self.codec = codec
        self.unreadable = unreadable
        self.pks = pks
        self.keys = keys

    def __call__(self, payloads: list[bytes | None], start: int) -> list[Any]:
        """Return the rows of consecutive keys, ``None`` for each without one."""
        pks, keys = self.pks, self.keys
        if len(payloads) < len(keys):
            end = start + len(payloads)
            pks, keys = pks[start:end], keys[start:end]
        return self.load(payloads, pks, keys)

    def load(self, payloads: list[bytes | None], pks: list[Any], keys: list[str]) -> list[Any]:
        """Read payloads as rows."""
        rows: list[Any] = self.codec.load_many(payloads, pks, keys, self.unreadable)
        return rows

    def spread(self, rows: list[Any], keys: list[str]) -> list[Any]:
        """Return the rows of the distinct keys at every position of the keys of the batch."""
        if len(keys) == len(self.keys):
            return rows
        row_of = dict(zip(self.keys, rows, strict=True))
        return [row_of[key] for key in keys]


class _GapDecoder(_RowDecoder):
    """A row decoder that also collects the keys without a row."""

    __slots__ = ("gaps",)

    def __init__(self, codec: Any, pks: list[Any], keys: list[str], unreadable: Unreadable) -> None:
        super().__init__(codec, pks, keys, unreadable)
        self.gaps: Gaps = {}

    def __call__(self, payloads: list[bytes | None], start: int) -> list[Any]:
        """Return the rows of consecutive keys, and collect those without one."""
        rows = super().__call__(payloads, start)
        for index in key_makers.missing_positions(rows):
            if payloads[index] != ABSENT:
                self.gaps[self.keys[start + index]] = self.pks[start + index], payloads[index]
        return rows


class DueRows:
    """Rows that are to be loaded anew. Parts are kept as they were read: the rest has time until after the answer."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._parts: list[tuple[list[int], list[Any], list[str], list[bytes | None]]] = []

    def add(self, places: list[int], pks: list[Any], keys: list[str], payloads: list[bytes | None]) -> None:
        """Add those at some places of a part."""
        self.keys += [keys[place] for place in places]
        self._parts.append((places, pks, keys, payloads))

    def take(self) -> Gaps:
        """Return them by key, and forget what was read with them."""
        parts, self._parts = self._parts, []
        return {keys[at]: (pks[at], payloads[at]) for places, pks, keys, payloads in parts for at in places}


class _DueDecoder(_GapDecoder):
    """A decoder that also collects the rows that are to be loaded anew.

    Args:
        codec, pks, keys, unreadable: as for any decoder.
        due: gets them.
        paused: the keys that are left out.
    """

    __slots__ = ("due", "paused")

    def __init__(
        self, codec: Any, pks: list[Any], keys: list[str], unreadable: Unreadable, due: DueRows, paused: Any
    ) -> None:
        super().__init__(codec, pks, keys, unreadable)
        self.due = due
        self.paused = paused

    def load(self, payloads: list[bytes | None], pks: list[Any], keys: list[str]) -> list[Any]:
        places: list[int] = []
        rows: list[Any] = self.codec.load_many(payloads, pks, keys, self.unreadable, places)
        if places and (places := self.paused.others(keys, places)):
            self.due.add(places, pks, keys, payloads)
        return rows


def read(resolved: Any, pks: list[Any], keys: list[str], unreadable: Unreadable) -> Steps[list[Any]]:
    """Read rows; a key that occurs more than once has the same instance at each of its positions.

    Args:
        resolved: the model's backend and codec.
        pks: the primary keys.
        keys: the keys.
        unreadable: gets the errors of payloads that are no rows.

    Returns:
        As many instances, ``None`` for each key without a row.
    """
    decoder = _RowDecoder(resolved.codec, pks, keys, unreadable)
    rows: list[Any] = yield Fetch(resolved.backend, decoder.keys, decoder)
    return rows if decoder.keys is keys else decoder.spread(rows, keys)


def read_with_gaps(
    resolved: Any,
    pks: list[Any],
    keys: list[str],
    unreadable: Unreadable,
    due: DueRows | None = None,
    paused: Any = None,
) -> Steps[tuple[list[Any], Gaps]]:
    """Read rows as :func:`read` does; return them, and the keys without a row.

    Rows that are to be loaded anew are added to ``due``, those of ``paused`` keys excepted.
    """
    decoder = (
        _GapDecoder(resolved.codec, pks, keys, unreadable)
        if due is None
        else _DueDecoder(resolved.codec, pks, keys, unreadable, due, paused)
    )
    rows = yield Fetch(resolved.backend, decoder.keys, decoder)
    return decoder.spread(rows, keys), decoder.gaps


class Patched(NamedTuple):
    """Rows that exist, with changes put into them; each attribute has one element for each row.

    Attributes:
        keys: their keys, each once.
        rows: the rows.
        payloads: the new payloads.
        tokens: for a compare-and-set, the tokens.
    """

    keys: list[str]
    rows: list[Any]
    payloads: list[Any]
    tokens: list[Any]

    def without_misses(self) -> Patched:
        """Return the rows that exist; as it is, there may be ``None`` among them."""
        missing = key_makers.missing_positions(self.rows)
        if not missing:
            return self
        there = [row is not None for row in self.rows]
        columns: list[Any] = [[*compress(column, there)] for column in self]
        return Patched(*columns)


class _PatchingDecoder(_RowDecoder):
    """A row decoder that puts changes into the payloads before it decodes them, and keeps the new payloads."""

    __slots__ = ("changes", "payloads", "stamp")

    def __init__(
        self,
        codec: Any,
        pks: list[Any],
        keys: list[str],
        changes: list[Any],
        unreadable: Unreadable,
        stamp: Stamp | None,
    ) -> None:
        super().__init__(codec, pks, keys, unreadable)
        if self.keys is not keys:
            merged: dict[str, Any] = {}
            for key, change in zip(keys, changes, strict=True):
                merged[key] = codec.merged(merged[key], change) if key in merged else change
            changes = [*merged.values()]
        self.changes = changes
        self.stamp = stamp
        self.payloads: list[Any] = [None] * len(self.keys)

    def __call__(self, payloads: list[bytes | None], start: int) -> list[Any]:
        """Return the changed rows of consecutive keys, ``None`` for each without one."""
        changes, pks, keys, end = self.changes, self.pks, self.keys, start + len(payloads)
        if len(payloads) < len(keys):
            changes, pks, keys = changes[start:end], pks[start:end], keys[start:end]
        payloads = self.unreadable.drop_misses(self.codec, payloads, pks, keys)
        patched = self.codec.patch_many(payloads, changes, keys, self.unreadable, self.stamp)
        self.payloads[start:end] = patched
        return super().__call__(patched, start)


def read_patched(
    resolved: Any,
    pks: list[Any],
    keys: list[str],
    changes: list[Any],
    with_tokens: bool,
    unreadable: Unreadable,
    stamp: Stamp | None,
) -> Steps[Patched]:
    """Read rows and put changes into them.

    Args:
        resolved: the model's backend and codec.
        pks: the primary keys.
        keys: the keys; to a row whose key occurs more than once, all its changes are made.
        changes: as many changes, as the codec packs them.
        with_tokens: whether to read for a compare-and-set.
        unreadable: gets the errors of payloads that are no rows.
        stamp: what is written of their ages; ``None`` if they have none.
    """
    decoder = _PatchingDecoder(resolved.codec, pks, keys, changes, unreadable, stamp)
    tokens: list[Any] = []
    if with_tokens:
        entries = yield Call(resolved.backend, "get_many_cas", tuple(decoder.keys))
        if len(entries) != len(decoder.keys):
            raise Fetch(resolved.backend, decoder.keys, decoder).miscounted(len(entries))
        rows = decoder([entry and entry[0] for entry in entries], 0)
        tokens = [entry and entry[1] for entry in entries]
    else:
        rows = yield Fetch(resolved.backend, decoder.keys, decoder)
    return Patched(decoder.keys, rows, decoder.payloads, tokens).without_misses()
