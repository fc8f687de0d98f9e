"""The keys of whole batches: the Python version of ``_keys_c.pyx``.

Both do the rows themselves whose key values are plain ints, UUIDs and ASCII texts, given in dicts or instances,
and leave every other row, and every error, to :class:`~._identity.Identity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from uuid import UUID

from . import _identity
from ._identity import DIGEST_MARK, KEY_TYPES, MAX_KEY_BYTES, escape, shortened, text_maker, unescape

__all__ = [
    "DIGEST_MARK",
    "KEY_TYPES",
    "MAX_KEY_BYTES",
    "Identity",
    "RowReader",
    "batch",
    "escape",
    "found",
    "has_duplicates",
    "missing_positions",
    "text_maker",
    "unescape",
]


class _Step(NamedTuple):
    peek: Any
    name: str
    other_name: str
    exact: type | None
    label: str


class Identity(_identity.Identity):
    """Tells rows of one model apart; see :class:`~._identity.Identity`."""

    _quick: tuple[_Step, ...] | None = None

    def identify_one(self, row: Any, strict: bool) -> tuple[Any, str]:
        """Find the primary key of one row; see :meth:`identify`.

        Returns:
            The primary key, and the backend key.
        """
        found = self._identify_quickly(row, strict, self._quick or self._steps_of_rows())
        return found or self.identify_row(row, strict, None)

    def identify(self, rows: Iterable[Any], strict: bool, many: bool = True) -> tuple[list[Any], list[str]]:
        """Find the primary keys of rows.

        Args:
            rows: mappings and instances of the model; with ``strict`` and ``many`` also plain primary keys, tuples for
                composite ones.
            strict: whether a mapping may hold nothing but the primary key.
            many: whether errors should say which row it is.

        Returns:
            The primary keys, Python values as a read returns them (tuples of a composite key's), and the
            backend keys, both as long as ``rows``.

        Raises:
            ValidationError: a key value is missing or of the wrong type.
            TypeError: something that is no row, or names that are not the primary key's.
        """
        quick = self._quick or self._steps_of_rows()
        pks: list[Any] = []
        keys: list[str] = []
        columns = self._identify_columns(rows, strict, many, quick) if type(rows) is list else None
        if columns is not None:
            return columns
        for position, row in enumerate(rows):
            found = self._identify_quickly(row, strict, quick)
            pk, key = found or self.identify_row(row, strict, position if many else None)
            pks.append(pk)
            keys.append(key)
        return pks, keys

    def identify_pks(self, pks: Iterable[Any]) -> tuple[list[Any], list[str]]:
        """Find the keys of rows by their primary keys.

        Args:
            pks: primary keys, tuples for composite ones.

        Returns:
            The primary keys as a read returns them, and as many backend keys.

        Raises:
            TypeError, ValueError: a composite key that is no tuple, or of the wrong length.
            ValidationError: a key value is of the wrong type.
        """
        if type(pks) is list and pks and type(pks[0]) not in (dict, self.model):
            columns = self._identify_columns(pks, True, True, self._quick or self._steps_of_rows())
            if columns is not None:
                return columns
        found = [self.identify_pk(pk, position) for position, pk in enumerate(pks)]
        return [pk for pk, _ in found], [key for _, key in found]

    def _steps_of_rows(self) -> tuple[_Step, ...]:
        # Made at the first use: by then the models that key fields refer to are declared.
        steps = []
        start = self.prefix
        for field in self.fields:
            exact = field.slot_converter.key_type
            if exact is UUID and self.formatter is not None:
                exact = None  # a formatter gets the stored form, which is another
            names = field.accepted_names
            steps.append(_Step(field.peek, names[0], names[-1], exact, f"{start}:{escape(field.name)}:"))
            start = ""
        self._quick = tuple(steps)
        return self._quick

    def _identify_columns(
        self, rows: list[Any], strict: bool, many: bool, quick: tuple[_Step, ...]
    ) -> tuple[list[Any], list[str]] | None:
        """Take rows that are all of one kind, with key values all of one, a field at a time."""
        kinds = set(map(type, rows))
        given, plain = kinds == {dict}, strict and many and kinds == {tuple if len(quick) > 1 else quick[0].exact}
        if not given and not plain and kinds != {self.model}:
            return None
        sized = (given and strict) or (plain and len(quick) > 1)
        if (sized and set(map(len, rows)) != {len(quick)}) or self.formatter is not None:
            return None
        columns: list[list[Any]] = []
        texts: list[list[str]] = []
        for at, step in enumerate(quick):
            try:
                if plain:
                    values = [row[at] for row in rows] if len(quick) > 1 else rows[:]
                else:
                    values = [row[step.name] for row in rows] if given else [*map(step.peek, rows)]
                if set(map(type, values)) != {step.exact}:
                    return None
                texts.append(_LABELLED[step.exact](step.label, values))
            except (KeyError, ValueError):
                return None
            columns.append(values)
        single = len(columns) == 1
        keys = texts[0] if single else [*map("".join, zip(*texts, strict=True))]
        if max(map(len, keys)) > MAX_KEY_BYTES:
            keys = [*map(shortened, keys)]
        return (columns[0] if single else [*zip(*columns, strict=True)]), keys

    def _identify_quickly(self, row: Any, strict: bool, quick: tuple[_Step, ...]) -> tuple[Any, str] | None:
        given = type(row) is dict
        if given:
            if strict and len(row) != len(quick):
                return None
        elif type(row) is not self.model:
            return None
        key = ""
        values: list[Any] = []
        for peek, name, other_name, exact, label in quick:
            if given:
                value = row.get(name)
                if value is None:
                    value = row.get(other_name)
            else:
                value = peek(row)
            if exact is None or type(value) is not exact:
                return None
            try:
                key += _LABELLED[exact](label, [value])[0]
            except ValueError:
                return None
            values.append(value)
        key = shortened(key) if self.formatter is None else self.format(values)
        return (tuple(values) if len(values) > 1 else values[0]), key


class RowReader:
    """Reads rows one at a time, the shortest way: primary key, key, payload, row.

    Args:
        identity: the model's :class:`Identity`.
        resolve: returns what is resolved now, with the attributes ``generation``, ``backend`` and ``codec``.
        defaults: its attribute ``generation`` says when that has changed.
    """

    def __init__(self, identity: Identity, resolve: Callable[[], Any], defaults: Any) -> None:
        self._identity = identity
        self._resolve = resolve
        self._defaults = defaults
        self._generation: int | None = None

    def read(self, row: Any) -> Any:
        """Read one row, ``None`` if there is none.

        Args:
            row: a mapping of the primary key's values, or an instance.

        Raises:
            ValidationError: a key value is missing or of the wrong type.
            TypeError: something that is no row, or names that are not the primary key's.
            PayloadError: stored bytes that are no row of the model.
        """
        if self._generation != self._defaults.generation:
            resolved = self._resolve()
            self._backend, self._load = resolved.backend, resolved.codec.load
            self._generation = resolved.generation
        pk, key = self._identity.identify_one(row, True)
        # Looked up on each call, so that it can be wrapped.
        payload = self._backend.get(key)
        return None if payload is None else self._load(payload, pk, key)


def batch(keys: list[str], values: list[Any], start: int, stop: int) -> dict[str, Any]:
    """Return the keys from ``start`` to ``stop`` with their values; of a key that is there twice, the last value.

    Raises:
        ValueError: there are not as many values as keys.
    """
    if len(keys) != len(values):
        raise ValueError("keys and values must be of one length")
    return dict(zip(keys[start:stop], values[start:stop], strict=True))


def found(pks: list[Any], rows: list[Any]) -> dict[Any, Any]:
    """Return the rows that there are by primary key.

    Args:
        pks: primary keys; lists of values become tuples.
        rows: as many rows, ``None`` where there is none.
    """
    if len(pks) != len(rows):
        raise ValueError("primary keys and rows must be of one length")
    pairs = zip(pks, rows, strict=True)
    return {tuple(pk) if isinstance(pk, list) else pk: row for pk, row in pairs if row is not None}


def has_duplicates(keys: list[str]) -> bool:
    """Tell whether a key is in ``keys`` more than once."""
    return len(set(keys)) < len(keys)


def missing_positions(rows: list[Any]) -> list[int]:
    """Return the positions where there is no row but ``None``."""
    return [position for position, row in enumerate(rows) if row is None]


def _label_ints(label: str, values: list[Any]) -> list[str]:
    return [f"{label}{value}" for value in values]  # ValueError for more digits than Python converts


def _label_texts(label: str, values: list[Any]) -> list[str]:
    joined = "".join(values)
    if not joined.isascii():
        raise ValueError("not ASCII")
    return [label + value for value in values] if joined.isalnum() else [label + escape(value) for value in values]


def _label_uuids(label: str, values: list[Any]) -> list[str]:
    return [f"{label}{value.int:032x}" for value in values]


# For each type that a converter may have as its ``key_type``: what values of exactly that type are in keys.
_LABELLED: dict[Any, Callable[[str, list[Any]], list[str]]] = {int: _label_ints, str: _label_texts, UUID: _label_uuids}
