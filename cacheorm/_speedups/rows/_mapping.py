# cython: language_level=3, annotation_typing=False
"""Rows to payloads and back, through any serializer. One source, also compiled under a second name.

This is the general path: it takes every field, every serializer and every malformed input, and it is where all errors
about rows are made. The codec of :mod:`._rows_py` does the common cases faster and hands everything else to this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import PayloadError
from ...payload import is_absence
from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from ._budget_c import checked
    from ._packing_c import ABSENT_VALUE, PackingRows
else:
    from ._budget import checked
    from ._packing import ABSENT_VALUE, PackingRows

__all__ = ["MappingRows"]

Unreadable = Callable[[PayloadError], object]


class MappingRows(PackingRows):
    """Packs the rows of one model as ``{field name: stored value}``, without the primary key, and reads them back."""

    # -- changing --------------------------------------------------------------------------------

    def patch_many(
        self,
        payloads: list[bytes | None],
        changes: list[Any],
        keys: list[str],
        unreadable: Unreadable | None = None,
        stamp: Any = None,
    ) -> list[bytes | None]:
        """Put changed fields into payloads, and leave all others as they are stored.

        Args:
            payloads: as a backend gave them, ``None`` for a miss. Those of other serializers become ones of this one,
                and those of older versions rows of the model's version.
            changes: as many changes of :meth:`pack_changes`.
            keys: the keys, for errors.
            unreadable: as for :meth:`load_many`.
            stamp: of rows that have ages, when the lifetime of the changed rows ends; ``None``: as it is stored.

        Returns:
            As many payloads, ``None`` where there is no row.

        Raises:
            PayloadError: a payload that is no row of the model.
            TypeError, ValueError: a row of another serializer that this one cannot hold.
        """
        return [
            None if payload is None else self.patch(payload, change, key, unreadable, stamp)
            for payload, change, key in zip(payloads, changes, keys, strict=True)
        ]

    def patch(
        self, payload: bytes, changes: Any, key: str, unreadable: Unreadable | None = None, stamp: Any = None
    ) -> bytes | None:
        """Put changed fields into one payload."""
        if is_absence(payload) or (self.aging is not None and self.aging.is_over(payload)):
            return None
        prefix = self.aged_prefix(None if self.aging is None else self.aging.renewed(payload, key, stamp))
        try:
            body, other, serializer, upgrade = self._unwrap(payload, key)
            anew = other is not None or upgrade is not None
            if self._splice is not None and not anew:
                patched = self._splice(body, changes, self.old_names)
                if patched is not None:
                    return prefix + patched
            checked(self, self.budget.check, key, serializer, body, (other or self).measure)
            before = self._unpacked(body, other, key, serializer)
            row = self._as_today(before, body, other, upgrade) if anew else before
            named = changes if self._splice is None else self._unpack(changes)
            if not anew:
                row = {name: value for name, value in row.items() if self.old_names.get(name) not in named}
            try:
                if other is not None and other.check_known is not None:
                    other.check_known(body)
                return prefix + self._repacked(body, other, anew, before, row, named)
            except Exception as error:  # as above
                if upgrade is not None:
                    self._check_upgraded(body, other, before, row, key)
                raise self._unpackable({**row, **named}, error, key) from error
        except PayloadError as error:
            self._refuse(error, unreadable)
            return None

    def _repacked(self, body: bytes, other: Any, anew: bool, before: Any, row: Any, named: Any) -> bytes:
        """Pack a row with changes, where possible in the body that it was unpacked from."""
        if self._merge is None or other is not None:
            return self._pack({**row, **named})
        changes = dict.fromkeys(name for name in before if name not in row)
        if anew:
            # What was not upgraded may have unknown parts. Unpacked again, as values may have been changed in place.
            stored = self._unpack(body)
            changes |= {name: row[name] for name in row if name not in stored or stored[name] != row[name]}
        return self._merge(body, changes | named)

    def _check_upgraded(self, body: bytes, other: Any, before: Any, row: Any, key: str) -> None:
        """Raise :exc:`PayloadError` if an upgraded row cannot be packed, whatever was to be changed in it."""
        try:
            self._repacked(body, other, True, before, row, {})
        except Exception as error:  # as above
            reason = f"Meta.upgrade gave what cannot be stored: {self._unpackable(row, error)}"
            raise self.invalid(reason, key, self.serializer) from error

    def _refuse(self, error: PayloadError, unreadable: Unreadable | None) -> None:
        if unreadable is not None:
            unreadable(error)
        elif not self.skip_invalid:
            raise error

    def merged(self, changes: Any, later: Any) -> Any:
        """Return two changes of one row as one."""
        return {**changes, **later} if self._splice is None else self._splice(changes, later)

    # -- reading ---------------------------------------------------------------------------------

    def load_many(
        self,
        payloads: list[bytes | None],
        pks: list[Any],
        keys: list[str],
        unreadable: Unreadable | None = None,
        due: list[int] | None = None,
        now: int | None = None,
    ) -> list[Any]:
        """Read payloads as instances.

        Args:
            payloads: as a backend gave them, ``None`` for a miss.
            pks: the primary keys, as :meth:`Identity.identify` gave them: tuples for composite ones.
            keys: the keys, for errors.
            unreadable: called with the error of each payload that is no row of the model, in place of which the result
                has ``None``. Without it the first one is raised, or ignored with ``skip_invalid``.
            due: a list to which the positions of rows are added that are to be loaded anew.
            now: the time at which rows that have ages are read, in milliseconds; ``None``: the present; 0: no row is
                past its lifetime.

        Returns:
            A list as long as ``payloads``: an instance, or ``None`` for a miss.

        Raises:
            PayloadError: a payload that is no row of the model.
        """
        if self.aging is None:
            return self._load_all(payloads, pks, keys, unreadable)
        at = self.aging.now() if now is None else now
        # Below 0: past its lifetime; above 0: to be loaded anew.
        states = [0 if payload is None else self.aging.state(payload, at) for payload in payloads]
        found = [None if state < 0 else payload for payload, state in zip(payloads, states, strict=True)]
        rows = self._load_all(found, pks, keys, unreadable)
        if due is not None:
            due += [place for place, state in enumerate(states) if state > 0 and rows[place] is not None]
        return rows

    def _load_all(
        self, payloads: list[bytes | None], pks: list[Any], keys: list[str], unreadable: Unreadable | None
    ) -> list[Any]:
        """Read payloads as :meth:`load_many` does, whatever their ages are."""
        return [
            None if payload is None else self.load(payload, pk, key, unreadable, True)
            for payload, pk, key in zip(payloads, pks, keys, strict=True)
        ]

    def load(
        self, payload: bytes, pk: Any, key: str, unreadable: Unreadable | None = None, any_age: bool = False
    ) -> Any:
        """Read one payload as an instance, with ``any_age`` also one past its lifetime; see :meth:`load_many`."""
        if not any_age and self.aging is not None and self.aging.is_over(payload):
            return None
        try:
            return self._load(payload, pk, key)
        except PayloadError as error:
            self._refuse(error, unreadable)
            return None

    def _load(self, payload: bytes, pk: Any, key: str) -> Any:
        if is_absence(payload):
            return None
        body, other, serializer, upgrade = self._unwrap(payload, key)
        left = checked(self, self.budget.check, key, serializer, body, (other or self).measure)
        row = self._unpacked(body, other, key, serializer)
        if upgrade is not None or self.old_names:
            row = self._as_today(row, body, other, upgrade)
        checked(self, self.budget.weigh, key, serializer, len(body), row, self.steps, left)
        instance = self.model.__new__(self.model)
        if self._tracker.peek(instance):
            self._tracker.poke(instance, 0)  # what its __new__ has assigned is no change
        for field, value in zip(self.key_fields, pk if len(self.key_fields) > 1 else (pk,), strict=True):
            field.poke(instance, value)
        for field, converter, in_payload in self.steps:
            if not in_payload:
                continue
            stored = row.get(field.name, ABSENT_VALUE)
            if stored is None and field.null:
                value = None
            elif stored is None or stored is ABSENT_VALUE:
                # Null where the field takes none (any more) is what a write makes of it: no value.
                value = self._late_default(field, converter, key, serializer)
            else:
                try:
                    value = converter.load(stored)
                except ValueError as error:
                    raise self.invalid(str(error), key, serializer, field.name) from error
            field.poke(instance, value)
        return instance

    def _unpacked(self, body: bytes, other: Any, key: str, serializer: str) -> Mapping[str, Any]:
        """Return the row in the body of a payload as a mapping of stored forms."""
        try:
            row = self._unpack(body) if other is None else other.unpack(body)
        except PayloadError as error:
            raise self.invalid(error.reason, key, serializer, error.field) from error.__cause__
        except (ImportError, MemoryError):  # they say nothing about the payload
            raise
        except Exception as error:
            raise self.invalid(f"cannot be decoded ({type(error).__name__})", key, serializer) from error
        if not isinstance(row, Mapping):
            raise self.invalid(f"expected a map of fields, got {type(row).__name__}", key, serializer)
        return row

    def _as_today(
        self, row: Mapping[str, Any], body: bytes, other: Any, upgrade: Callable[..., Any] | None
    ) -> dict[str, Any]:
        """Return an unpacked row as it is written today: of the model's version, with the names of its fields."""
        unpack_set = self._unpack_set if other is None else other.unpack_set
        found = row if unpack_set is None else unpack_set(body)
        if upgrade is not None:
            row, found = upgrade(row, found)
        today = {}
        # In the order of the plan, in which rows are read sooner.
        for field in self.columns:
            name = next((name for name in (field.name, *field.aliases) if name in found), field.name)
            if name in row:
                today[field.name] = row[name]
        return {**today, **{name: value for name, value in found.items() if name not in self.old_names}}

    def _late_default(self, field: Any, converter: Any, key: str, serializer: str) -> Any:
        """Return the value of a field that the model did not have when the row was written."""
        value = field.make_default()
        if value is None:
            if not field.null:
                raise self.invalid("has no value, and the field no default", key, serializer, field.name)
            return None
        try:
            return converter.canonical(value, converter.dump(value))
        except ValueError as error:
            reason = f"has no value, and its default is wrong: {error}"
            raise self.invalid(reason, key, serializer, field.name) from error

    def invalid(self, reason: str, key: str, serializer: str, field: str | None = None) -> PayloadError:
        return PayloadError(reason, model=self.name, key=key, field=field, serializer=serializer)
