"""Rows to payloads and back, pure Python: the Python version of ``_rows_c.pyx``.

Payloads of msgpack are maps of field names to stored values, as the msgpack library writes them. Batches are taken a
column at a time (:mod:`._columns_py`) where all fields are of kinds whose values need no code of the user's; what is
unusual goes to :class:`~._mapping.MappingRows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any

import msgpack

from ...errors import PayloadError
from ...payload import ABSENT, AGES_SIZE
from .._limits import MAX_DEPTH
from .._msgpack import pack, unpack
from ._columns_py import UNUSUAL, Column, fill, read, read_set
from ._mapping import MappingRows
from ._measure_py import measure_msgpack
from ._patches_py import patch_json, patch_msgpack
from ._slots_py import clear

__all__ = ["DictRows", "MsgpackRows", "measure_msgpack", "pack", "patch_json", "patch_msgpack", "unpack"]

# Rows that are taken together. Fewer than the least are faster one by one; more than the most gain nothing.
_LEAST = 4
_MOST = 1000


class _ColumnRows(MappingRows):
    """Rows that are taken by columns where they can be.

    Args:
        arguments, options: of :class:`~._mapping.MappingRows`.
        packer: makes a function that packs the rows of one batch, whose values are text, ints and finite floats.
    """

    def __init__(
        self, *arguments: Any, packer: Callable[[], Callable[[dict[str, Any]], bytes]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._packer = packer
        self._key_columns: list[Column] = []
        self._row_columns: list[Column] = []
        try:
            for field, converter, in_payload in self.steps:
                of_slot = field.slot_converter if converter is field.converter else converter
                (self._row_columns if in_payload else self._key_columns).append(Column(field, of_slot))
        except UNUSUAL:
            self._row_columns = []
        self._key_columns.sort(key=lambda column: [field.name for field in self.key_fields].index(column.name))

    def dump_many(self, instances: list[Any], many: bool = True, stamp: Any = None) -> list[bytes]:
        """Do what :meth:`~._mapping.MappingRows.dump_many` does."""
        stamp = self.stamp_of(stamp)
        payloads: list[bytes] = []
        for start in range(0, len(instances), _MOST):
            part = instances[start : start + _MOST]
            places = range(start, start + len(part))
            ages = [stamp.ages(place).pack() for place in places] if stamp else [None] * len(part)
            packed = self._dump_columns(part)
            if packed is None:
                payloads += map(self.dump, part, places if many else repeat(None), ages)
            elif self.prefix:
                payloads += [self.aged_prefix(own) + body for own, body in zip(ages, packed, strict=True)]
            else:
                payloads += packed
        return payloads

    def _dump_columns(self, instances: list[Any]) -> list[bytes] | None:
        """Pack the bodies of rows; ``None`` if they have to be packed one by one."""
        columns = self._row_columns
        if not columns or len(instances) < _LEAST:
            return None
        try:
            for column in self._key_columns:
                column.dump(read(column.member, instances))
            stored = [column.dump(read(column.member, instances)) for column in columns]
        except UNUSUAL:
            return None
        return self._pack_columns(columns, stored)

    def _pack_columns(self, columns: list[Column], stored: list[list[Any]]) -> list[bytes] | None:
        names = [column.name for column in columns]
        pack_row = self._packer()
        try:
            return [pack_row(dict(zip(names, row, strict=True))) for row in zip(*stored, strict=True)]
        except Exception:  # a serializer's libraries have errors of their own, reported for single rows
            return None

    def pack_changes(self, instances: list[Any], many: bool = True, replace: bool = False) -> list[Any]:
        """Do what :meth:`~._mapping.MappingRows.pack_changes` does."""
        packed = None if replace or self._splice is None else self._changes_by_columns(instances)
        return super().pack_changes(instances, many, replace) if packed is None else packed

    def _changes_by_columns(self, instances: list[Any]) -> list[bytes] | None:
        """Pack the changes of rows of which the same fields were changed."""
        if not self._row_columns or len(instances) < _LEAST:
            return None
        if len(set(map(self._tracker.peek, instances))) > 1:
            return None
        mask = self.changed(instances[0])
        columns, stored = [], []
        try:
            for column in self._key_columns + self._row_columns:
                values = read_set(column.member, instances) if mask & column.bit else []
                if not values:
                    continue
                if len(values) < len(instances):
                    return None
                forms = column.dump(values)
                if column in self._row_columns:
                    columns.append(column)
                    stored.append(forms)
        except UNUSUAL:
            return None
        return self._pack_columns(columns, stored) if columns else None

    def patch_many(
        self,
        payloads: list[bytes | None],
        changes: list[Any],
        keys: list[str],
        unreadable: Callable[[PayloadError], object] | None = None,
        stamp: Any = None,
    ) -> list[bytes | None]:
        """Do what :meth:`~._mapping.MappingRows.patch_many` does."""
        if self._splice is None or len(payloads) < _LEAST or self.aging is not None:
            return super().patch_many(payloads, changes, keys, unreadable, stamp)
        patch_row = partial(self._patch_plain, self._packer())
        patched = [*map(patch_row, payloads, changes)]
        for at, payload in enumerate(payloads):
            if patched[at] is None and payload is not None:
                patched[at] = self.patch(payload, changes[at], keys[at], unreadable)
        return patched

    def _patch_plain(
        self, pack_row: Callable[[dict[str, Any]], bytes], payload: bytes | None, changes: bytes
    ) -> bytes | None:
        """Put changes into a row that is packed as it would be here, which gives the same bytes sooner."""
        if payload is None:
            return None
        try:
            if not payload.startswith(self.prefix):
                return None
            body = payload[len(self.prefix) :]
            if len(body) > MAX_DEPTH and not self.budget.is_small(body, self.measure):
                return None
            row = self._unpack(body)
            if type(row) is not dict or pack_row(row) != body or not self.old_names.keys().isdisjoint(row):
                return None
            row.update(self._unpack(changes))
            return self.prefix + pack_row(row)
        except Exception:  # as above
            return None

    def _load_all(
        self,
        payloads: list[bytes | None],
        pks: list[Any],
        keys: list[str],
        unreadable: Callable[[PayloadError], object] | None,
    ) -> list[Any]:
        if not len(payloads) == len(pks) == len(keys):
            return super()._load_all(payloads, pks, keys, unreadable)
        rows: list[Any] = []
        if ABSENT in payloads:
            payloads = [None if payload == ABSENT else payload for payload in payloads]
        for start in range(0, len(payloads), _MOST):
            part = slice(start, start + _MOST)
            loaded = self._load_columns(payloads[part], pks[part])
            if loaded is None:
                loaded = super()._load_all(payloads[part], pks[part], keys[part], unreadable)
            rows += loaded
        return rows

    def _load_columns(self, payloads: list[bytes | None], pks: list[Any]) -> list[Any] | None:
        columns = self._row_columns
        if not columns or len(payloads) < _LEAST:
            return None
        present = [payload for payload in payloads if payload is not None]
        if len(present) < len(payloads):
            of_present = [pk for pk, payload in zip(pks, payloads, strict=True) if payload is not None]
            found = self._load_columns(list[bytes | None](present), of_present)
            if found is None:
                return None
            rest = iter(found)
            return [None if payload is None else next(rest) for payload in payloads]
        bodies: list[bytes] = present
        if self.prefix:
            size = len(self.prefix)
            begin = self.prefix if self.aging is None else self.prefix[:-AGES_SIZE]
            if any(payload[: len(begin)] != begin or len(payload) < size for payload in present):
                return None
            bodies = [payload[size:] for payload in present]
        if max(map(len, bodies)) > MAX_DEPTH and not all(map(self.budget.is_small, bodies, repeat(self.measure))):
            return None
        try:
            documents = [*map(self._unpack, bodies)]
        except Exception:  # as above
            return None
        if set(map(type, documents)) != {dict}:
            return None
        try:
            values = [column.load([*map(itemgetter(column.name), documents)]) for column in columns]
        except UNUSUAL:
            return None
        model = self.model
        rows = [*map(model.__new__, repeat(model, len(payloads)))]
        key_values = zip(*pks, strict=True) if len(self._key_columns) > 1 else (pks,)
        for column, parts in zip(self._key_columns, key_values, strict=True):
            fill(column.member, rows, parts)
        for column, loaded in zip(columns, values, strict=True):
            fill(column.member, rows, loaded)
        if not model._sealed:
            clear(self._tracker, rows)  # what its __new__ has assigned is no change
        return rows


class DictRows(_ColumnRows):
    """The :class:`~._mapping.MappingRows` of any other serializer.

    Args:
        check: what ``pack`` does to refuse values before it packs them, where it does.
        pack_checked: ``pack`` without that, for rows whose values are known to be text and finite numbers;
            ``check`` is for the compiled codec, which knows it of single values.
    """

    def __init__(
        self,
        *arguments: Any,
        check: Callable[[Any], None] | None = None,
        pack_checked: Callable[[dict[str, Any]], bytes] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, packer=lambda: pack_checked or self._pack, **options)


class MsgpackRows(_ColumnRows):
    """The :class:`~._mapping.MappingRows` of the msgpack serializer."""

    def __init__(
        self,
        model: Any,
        fields: Iterable[Any],
        key_fields: Iterable[Any],
        identity: Any,
        skip_invalid: bool,
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            fields,
            key_fields,
            identity,
            "msgpack",
            pack,
            unpack,
            skip_invalid,
            packer=_batch_packer,
            patch=patch_msgpack,
            measure=measure_msgpack,
            **options,
        )


def _batch_packer() -> Callable[[dict[str, Any]], bytes]:
    # Not one for all: it has a buffer, which threads would share.
    packer: Callable[[dict[str, Any]], bytes] = msgpack.Packer(use_bin_type=True, strict_types=True).pack
    return packer
