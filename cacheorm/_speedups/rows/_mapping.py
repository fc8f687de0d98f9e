# cython: language_level=3, annotation_typing=False
"""Rows to payloads and back, through any serializer. One source, also compiled under a second name.

This is the general path: it takes every field, every serializer and every malformed input, and it is where all errors
about rows are made. The codec of :mod:`._rows_py` does the common cases faster and hands everything else to this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ...errors import PayloadError, ValidationError, unpackable
from ...payload import is_absence
from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from ._assigned_c import ALL, NEW, assigned
    from ._budget_c import Budget, checked
else:
    from ._assigned import ALL, NEW, assigned
    from ._budget import Budget, checked

__all__ = ["MappingRows"]

_ABSENT: Any = object()
_NO_NULL = ": it takes no null; declare it with null=True if it should"
Unreadable = Callable[[PayloadError], object]


class MappingRows:
    """Packs the rows of one model as ``{field name: stored value}``, without the primary key, and reads them back.

    Args:
        model: the model class.
        fields: all its fields, in declaration order.
        key_fields: those of the primary key.
        identity: the model's :class:`~..keys._keys_py.Identity`, to name the row in errors.
        serializer: name of the serializer, for errors.
        pack: ``{name: stored}`` to bytes.
        unpack: bytes to a mapping.
        skip_invalid: whether a payload that cannot be read counts as no row rather than as an error.
        converter_of: returns the converter of a field that is part of the payload; by default its own.
        prefix: what every payload begins with, before what ``pack`` gave.
        unwrap: a payload and its key to its body, the format of that (``None`` for this one), the name of the
            serializer that packed it, and what upgrades the row (``None`` for nothing), which takes and returns what
            ``unpack`` and ``unpack_set`` gave; may raise :exc:`PayloadError` and :exc:`ImportError`. By default
            payloads have no prefix and ``unpack`` reads them.
        patch: puts packed changes into a packed row, or returns ``None``; see :mod:`._patches_py`. Without it, changes
            are dicts of stored forms.
        merge: puts a dict of changes into a packed row, where the format can do so without unpacking it.
        unpack_set: the same as ``unpack`` for the fields that are set in the row, if ``unpack`` returns others.
        measure, memory_limit: what bounds the cost of ``unpack``; see :class:`~._budget.Budget`.
    """

    def __init__(
        self,
        model: Any,
        fields: Iterable[Any],
        key_fields: Iterable[Any],
        identity: Any,
        serializer: str,
        pack: Callable[[dict[str, Any]], bytes],
        unpack: Callable[[bytes], Any],
        skip_invalid: bool,
        converter_of: Callable[[Any], Any] | None = None,
        prefix: bytes = b"",
        unwrap: Callable[[bytes, str], tuple[bytes, Any, str, Any]] | None = None,
        patch: Callable[..., bytes | None] | None = None,
        merge: Callable[[bytes, dict[str, Any]], bytes] | None = None,
        unpack_set: Callable[[bytes], Mapping[str, Any]] | None = None,
        measure: Callable[[bytes, int, int], tuple[int, bytes]] | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.model = model
        self.name = model.__name__
        self.key_fields = tuple(key_fields)
        self.columns = tuple(field for field in fields if field not in self.key_fields)
        self.identity, self.serializer, self.skip_invalid = identity, serializer, skip_invalid
        pick = converter_of or (lambda field: field.converter)
        self.steps = [
            (field, pick(field), True) if field in self.columns else (field, field.converter, False) for field in fields
        ]
        self._unpackable = partial(unpackable, pack, self.name, serializer)
        self.prefix, self._pack, self._unpack = prefix, pack, unpack
        self._unwrap = unwrap or (lambda payload, key: (payload, None, serializer, None))
        self._splice, self._merge, self._unpack_set, self.measure = patch, merge, unpack_set, measure
        self.budget = Budget(memory_limit)
        # The names that rows have which were written before a field was renamed, with its present name.
        self.old_names = {old: field.name for field in self.columns for old in field.aliases}
        self._tracker = model._assigned
        self._key_bits = sum(field.bit for field in self.key_fields)

    # -- writing ---------------------------------------------------------------------------------

    def dump_many(self, instances: list[Any], many: bool = True) -> list[bytes]:
        """Pack instances, filling in defaults and replacing their values by what a read returns.

        Args:
            instances: instances of the model.
            many: whether errors should say which row it is.

        Raises:
            ValidationError: all bad fields of the first bad row.
            TypeError: the serializer cannot hold the type of a stored value.
        """
        return [self.dump(instance, place if many else None) for place, instance in enumerate(instances)]

    def pack_changes(self, instances: list[Any], many: bool = True, replace: bool = False) -> list[Any]:
        """Convert and pack the fields that were changed since their row was read or stored, for :meth:`patch_many`.

        Args:
            instances: instances of the model.
            many: whether errors should say which row it is.
            replace: whether to replace their values by what a read returns.

        Returns:
            The changes of each instance; all values of one that is new, or has another primary key by now.

        Raises:
            ValidationError, TypeError: as :meth:`dump_many`.
        """
        return [self.changes(instance, place if many else None, replace) for place, instance in enumerate(instances)]

    def dump(self, instance: Any, position: int | None = None) -> bytes:
        """Pack one instance; ``position`` is its place in a bulk call."""
        row = self.convert(instance, position)
        try:
            return self.prefix + self._pack(row)
        except Exception as error:  # a serializer's libraries have errors of their own
            raise self._unpackable(row, error) from error

    def changes(self, instance: Any, position: int | None, replace: bool) -> Any:
        """Pack the changed fields of one instance; see :meth:`pack_changes`."""
        row = self.convert(instance, position, self.changed(instance), replace)
        if self._splice is None:
            return row
        try:
            return self._pack(row)
        except Exception as error:  # as above
            raise self._unpackable(row, error) from error

    def changed(self, instance: Any) -> int:
        """Return the mask of the fields that were changed since the row of an instance was read or stored."""
        mask = assigned(self._tracker.peek(instance), instance)
        # A row that was read and got another key is another row.
        return ALL if mask & self._key_bits and not mask & NEW else mask

    def convert(
        self, instance: Any, position: int | None, changed: int | None = None, replace: bool = True
    ) -> dict[str, Any]:
        """Convert values of an instance and return the stored forms by field name.

        Args:
            instance: an instance of the model.
            position: its place in a bulk call, for errors.
            changed: the mask of the fields to convert, as far as they have values. ``None`` are all, with their
                defaults where they have no values.
            replace: whether to replace the values by what a read returns.
        """
        row: dict[str, Any] = {}
        problems = []
        cause: BaseException | None = None
        for field, converter, in_payload in self.steps:
            value = field.peek(instance, _ABSENT)
            if changed is not None:
                if value is _ABSENT or not changed & field.bit:
                    continue
            elif value is _ABSENT or (value is None and not field.null):
                value = field.make_default()
            try:
                if value is None:
                    if not field.null:
                        hint = _NO_NULL if changed is not None and in_payload else ""
                        problems.append((field.name, f"missing value for <Field: {self.name}.{field.name}>{hint}"))
                        continue
                    stored = canonical = None
                else:
                    stored = converter.dump(value)
                    if stored is None and not field.null:
                        problems.append((field.name, "its stored form is null, and the field takes no null"))
                        continue
                    canonical = converter.canonical(value, stored)
                    for validator in field.validators:
                        validator(canonical)
            except ValueError as error:
                problems.append((field.name, str(error)))
                cause = cause or error.__cause__
                continue
            if replace:
                field.poke(instance, canonical)
            if in_payload:
                row[field.name] = stored
        if problems:
            raise ValidationError(self.name, problems, position, self._key_of(instance)) from cause
        return row

    def _key_of(self, instance: Any) -> str | None:
        try:
            return self.identity.identify([instance], False)[1][0]  # type: ignore[no-any-return]
        except (TypeError, ValueError):
            return None

    # -- changing --------------------------------------------------------------------------------

    def patch_many(
        self, payloads: list[bytes | None], changes: list[Any], keys: list[str], unreadable: Unreadable | None = None
    ) -> list[bytes | None]:
        """Put changed fields into payloads, and leave all others as they are stored.

        Args:
            payloads: as a backend gave them, ``None`` for a miss. Those of other serializers become ones of this one,
                and those of older versions rows of the model's version.
            changes: as many changes of :meth:`pack_changes`.
            keys: the keys, for errors.
            unreadable: as for :meth:`load_many`.

        Returns:
            As many payloads, ``None`` where there is no row.

        Raises:
            PayloadError: a payload that is no row of the model.
            TypeError, ValueError: a row of another serializer that this one cannot hold.
        """
        return [
            None if payload is None else self.patch(payload, change, key, unreadable)
            for payload, change, key in zip(payloads, changes, keys, strict=True)
        ]

    def patch(self, payload: bytes, changes: Any, key: str, unreadable: Unreadable | None = None) -> bytes | None:
        """Put changed fields into one payload."""
        if is_absence(payload):
            return None
        try:
            body, other, serializer, upgrade = self._unwrap(payload, key)
            anew = other is not None or upgrade is not None
            if self._splice is not None and not anew:
                patched = self._splice(body, changes, self.old_names)
                if patched is not None:
                    return self.prefix + patched
            checked(self, self.budget.check, key, serializer, body, (other or self).measure)
            before = self._unpacked(body, other, key, serializer)
            row = self._as_today(before, body, other, upgrade) if anew else before
            named = changes if self._splice is None else self._unpack(changes)
            if not anew:
                row = {name: value for name, value in row.items() if self.old_names.get(name) not in named}
            try:
                if other is not None and other.check_known is not None:
                    other.check_known(body)
                return self.prefix + self._repacked(body, other, anew, before, row, named)
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
        self, payloads: list[bytes | None], pks: list[Any], keys: list[str], unreadable: Unreadable | None = None
    ) -> list[Any]:
        """Read payloads as instances.

        Args:
            payloads: as a backend gave them, ``None`` for a miss.
            pks: the primary keys, as :meth:`Identity.identify` gave them: tuples for composite ones.
            keys: the keys, for errors.
            unreadable: called with the error of each payload that is no row of the model, in place of which the result
                has ``None``. Without it the first one is raised, or ignored with ``skip_invalid``.

        Returns:
            A list as long as ``payloads``: an instance, or ``None`` for a miss.

        Raises:
            PayloadError: a payload that is no row of the model.
        """
        return [
            None if payload is None else self.load(payload, pk, key, unreadable)
            for payload, pk, key in zip(payloads, pks, keys, strict=True)
        ]

    def load(self, payload: bytes, pk: Any, key: str, unreadable: Unreadable | None = None) -> Any:
        """Read one payload as an instance; see :meth:`load_many`."""
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
            stored = row.get(field.name, _ABSENT)
            if stored is None and field.null:
                value = None
            elif stored is None or stored is _ABSENT:
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
