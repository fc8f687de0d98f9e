# cython: language_level=3, annotation_typing=False
"""Rows to payloads, through any serializer: the one half of :mod:`._mapping`, which documents both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ...errors import ValidationError, unpackable
from ...payload import AGES_SIZE
from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from ._assigned_c import ALL, NEW, assigned
    from ._budget_c import Budget
else:
    from ._assigned import ALL, NEW, assigned
    from ._budget import Budget

__all__ = ["ABSENT_VALUE", "PackingRows"]

ABSENT_VALUE: Any = object()
"""What a slot without a value gives."""

_NO_NULL = ": it takes no null; declare it with null=True if it should"


class PackingRows:
    """Packs the rows of one model as ``{field name: stored value}``, without the primary key.

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
        aging: the :class:`~cacheorm.aging.Aging` of the model, whose prefix ends with the ages of a row; ``None``: its
            rows have none.
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
        aging: Any = None,
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
        self.prefix, self._pack, self._unpack, self.aging = prefix, pack, unpack, aging
        self._unwrap = unwrap or (lambda payload, key: (payload, None, serializer, None))
        self._splice, self._merge, self._unpack_set, self.measure = patch, merge, unpack_set, measure
        self.budget = Budget(memory_limit)
        # The names that rows have which were written before a field was renamed, with its present name.
        self.old_names = {old: field.name for field in self.columns for old in field.aliases}
        self._tracker = model._assigned
        self._key_bits = sum(field.bit for field in self.key_fields)

    # -- writing ---------------------------------------------------------------------------------

    def dump_many(self, instances: list[Any], many: bool = True, stamp: Any = None) -> list[bytes]:
        """Pack instances, filling in defaults and replacing their values by what a read returns.

        Args:
            instances: instances of the model.
            many: whether errors should say which row it is.
            stamp: the :class:`~cacheorm.aging.Stamp` of rows that have ages; ``None``: that of the model.

        Raises:
            ValidationError: all bad fields of the first bad row.
            TypeError: the serializer cannot hold the type of a stored value.
        """
        stamp = self.stamp_of(stamp)
        return [
            self.dump(instance, place if many else None, stamp and stamp.ages(place).pack())
            for place, instance in enumerate(instances)
        ]

    def stamp_of(self, stamp: Any) -> Any:
        """Return what is written into the headers of rows; ``None`` if they have no ages."""
        return stamp if stamp is not None or self.aging is None else self.aging.stamp()

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

    def dump(self, instance: Any, position: int | None = None, ages: bytes | None = None) -> bytes:
        """Pack one instance; ``position`` is its place in a bulk call, and ``ages`` are its packed ages."""
        row = self.convert(instance, position)
        try:
            return self.aged_prefix(ages) + self._pack(row)
        except Exception as error:  # a serializer's libraries have errors of their own
            raise self._unpackable(row, error) from error

    def aged_prefix(self, ages: bytes | None) -> bytes:
        """Return what a payload begins with that has these packed ages; ``None``: it has none."""
        return self.prefix if ages is None else self.prefix[:-AGES_SIZE] + ages

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
            value = field.peek(instance, ABSENT_VALUE)
            if changed is not None:
                if value is ABSENT_VALUE or not changed & field.bit:
                    continue
            elif value is ABSENT_VALUE or (value is None and not field.null):
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
