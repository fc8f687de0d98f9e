# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Primary keys to backend keys: the general path. One source, also compiled under a second name.

A key is ``<prefix>:<field>:<value>`` for each key field, such as ``m:user:id:7``. Values are
percent-encoded (RFC 3986) wherever they are not printable ASCII, or hold ``%`` or ``:``, so that no two
primary keys share a key and a key is always legal in memcached and on a Redis command line.

This takes every key field and every wrong input, and makes all errors about keys. ``_keys_py.py`` and its
C version do the common keys of whole batches faster, and leave everything else to this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from ...errors import ShapeError, ValidationError
from .. import _shim as cython

if cython.compiled:
    import cython

__all__ = ["DIGEST_MARK", "KEY_TYPES", "MAX_KEY_BYTES", "Identity", "escape", "text_maker", "unescape"]

KEY_TYPES = frozenset({bool, int, float, str, bytes, Decimal, UUID, date, datetime, time})
"""The types of most values in primary keys: what is of one is neither a row nor several."""

MAX_KEY_BYTES = 250
"""The longest key that memcached takes; generated keys keep to it on every backend."""

_DIGEST_BYTES = 16
# No escaped text holds "%~" ("%" is always followed by two hex digits), so a digested key never equals
# one that was short enough to stay as it is.
DIGEST_MARK = "%~"
"""What comes before the digest in a key that was too long."""

_UNSAFE = re.compile(r"[^!-$&-9;-~]")
_UNSAFE_BUT_COLON = re.compile(r"[^!-$&-~]")

# What the texts of numbers, constants, bytes, lists and dicts start with.
_LOOKS_LIKE_ANOTHER = re.compile(r"-?[0-9]|-?inf$|nan$|True$|False$|None$|b['\"]|Decimal\('|[\[{]")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


def escape(text: str, colon: bool = False) -> str:
    """Percent-encode what is not printable ASCII, and ``%``, and ``:`` unless ``colon`` allows it."""
    pattern = _UNSAFE_BUT_COLON if colon else _UNSAFE
    return text if pattern.search(text) is None else pattern.sub(_percent, text)


def unescape(text: str) -> str:
    """Return the text that :func:`escape` has made this of.

    Raises:
        ValueError: it has not made this of any.
    """
    if "%" not in text:
        return text
    parts = text.split("%")
    encoded = parts[0].encode() + b"".join([bytes.fromhex(part[:2]) + part[2:].encode() for part in parts[1:]])
    return encoded.decode("utf-8", "surrogatepass")


def _text(stored: Any) -> str:
    if type(stored) is str:
        return escape(stored)
    if type(stored) is int:
        return str(stored)
    if type(stored) is list or type(stored) is dict:
        return _marked(repr(stored))
    if isinstance(stored, bytes):
        return escape(stored.decode("latin-1"))
    return escape(str(stored))


def _mixed_text(stored: Any) -> str:
    """Return the text of a value in keys, for a field that stores values of more than one type."""
    if type(stored) is str:
        return escape(stored) if _LOOKS_LIKE_ANOTHER.match(stored) is None else _marked(stored)
    if type(stored) in (bytes, list, dict, Decimal):
        return escape(repr(stored))
    return _text(stored)


def _marked(text: str) -> str:
    # An escaped text never encodes such a character, so this is the text of nothing else.
    return f"%{ord(text[0]):02X}{escape(text[1:])}"


def text_maker(converter: Any) -> Callable[[Any], str]:
    """Return the function that makes the text of a value in keys, escaped, from its key form."""
    if converter.key_parts is None:
        return _mixed_text if converter.mixed else _text
    # How many values a composite key has is fixed by its model, so writing them one after another keeps keys apart.
    makers = [*map(text_maker, converter.key_parts)]
    return lambda forms: ":".join([make(form) for make, form in zip(makers, forms, strict=True)])


def _flat(converter: Any, form: Any) -> list[Any]:
    """Return the values in a key form: one, or all of a composite key that is referred to."""
    if converter.key_parts is None:
        return [form]
    return [value for part, one in zip(converter.key_parts, form, strict=True) for value in _flat(part, one)]


def shortened(key: str) -> str:
    """Replace the tail of a key that is too long by a digest of the whole."""
    if len(key) <= MAX_KEY_BYTES:
        return key
    from hashlib import blake2b  # here, because few keys are that long: it loads OpenSSL

    digest = blake2b(key.encode("ascii"), digest_size=_DIGEST_BYTES).hexdigest()
    return key[: MAX_KEY_BYTES - len(DIGEST_MARK) - len(digest)] + DIGEST_MARK + digest


@cython.cclass
class Identity:
    """Tells rows of one model apart: finds the primary key in a row and makes its key.

    Args:
        model: the model class.
        fields: its primary-key fields, in key order.
        prefix: what every key starts with, escaped; not used with a formatter.
        formatter: a ``%``-format string or a callable of the key forms of the key values, or ``None``.
        version: what comes before the keys of a formatter, with a colon; empty for nothing.
    """

    model: Any = cython.declare(object, visibility="readonly")
    name: str = cython.declare(object, visibility="readonly")
    fields: tuple[Any, ...] = cython.declare(tuple, visibility="readonly")
    formatter: str | Callable[..., str] | None = cython.declare(object, visibility="readonly")
    _steps: list[tuple[Any, tuple[str, ...], Any, str]] = cython.declare(list)
    _texts: list[Callable[[Any], str]] | None = cython.declare(list)
    prefix: str = cython.declare(object, visibility="readonly")
    _version: str = cython.declare(object)
    _names: set[str] = cython.declare(set)

    def __init__(
        self,
        model: Any,
        fields: Iterable[Any],
        prefix: str,
        formatter: str | Callable[..., str] | None,
        version: str = "",
    ) -> None:
        self.model = model
        self.name = model.__name__
        self.fields = tuple(fields)
        self.formatter = formatter
        self._steps = [
            (field, field.accepted_names, field.converter, f":{escape(field.name)}:") for field in self.fields
        ]
        self._texts = None
        self.prefix = prefix
        self._version = f"{version}:" if version else ""
        self._names = {name for field in self.fields for name in field.accepted_names}

    def identify_row(self, row: Any, strict: bool, position: int | None) -> tuple[Any, str]:
        """Find the primary key of one row.

        Args:
            row: a mapping, or an instance of the model; in a batch with ``strict``, also a plain primary key.
            strict: whether a mapping may hold nothing but the primary key.
            position: which row of its batch it is, for errors; ``None`` for a single one.

        Returns:
            The primary key as a read returns it (a tuple for a composite one), and the backend key.

        Raises:
            ValidationError: a key value is missing or of the wrong type, or the names of one have different values.
            ShapeError: something that is no row, or names that are not the primary key's.
        """
        # The check for what most rows are comes first: asking an abstract class costs more than all the rest.
        kind = type(row)
        is_mapping = kind is dict or (kind not in KEY_TYPES and isinstance(row, Mapping))
        if not is_mapping and type(row) is not self.model:
            if strict and position is not None and self._may_be_key(row):
                return self.identify_pk(row, position)
            raise self.model._meta.not_a_row(type(row).__name__, position, strict and position is not None)
        try:
            pk, forms = self._find(row, is_mapping)
        except ValidationError as error:
            problems, cause = error.problems, error.__cause__
        else:
            problems, cause = [], None
        if strict and is_mapping and not self._names.issuperset(row):
            raise self._extra_names(row, position)
        if problems:
            raise ValidationError(self.name, problems, position) from cause
        return (pk if len(self.fields) > 1 else pk[0]), self.key(forms)

    def _may_be_key(self, given: Any) -> bool:
        """Return whether something that is no row may be a primary key, as rows of other models are of references."""
        if given is None or (len(self.fields) > 1 and not isinstance(given, (tuple, list))):
            return False
        return not hasattr(type(given), "_meta") or hasattr(self.fields[0], "object_id_name")

    def identify_pk(self, pk: Any, position: int) -> tuple[Any, str]:
        """Find the key of a row by its primary key; see :meth:`identify_row`.

        Raises:
            ShapeError: a composite key that is no tuple.
            ValidationError: one of the wrong length, or a key value of the wrong type.
        """
        parts = (pk,) if len(self.fields) == 1 else pk
        fits = isinstance(parts, (tuple, list)) and len(parts) == len(self.fields)
        try:
            # The function of the plan, which is not compiled, makes the error.
            row = (
                dict(zip([field.name for field in self.fields], parts, strict=True))
                if fits
                else self.model._meta.row_of(pk)
            )
        except TypeError as error:
            raise ShapeError(str(error), position) from None
        except ValueError:
            names = ", ".join(field.name for field in self.fields)
            problem = f"the primary key ({names}) takes {len(self.fields)} values, got {len(pk)}"
            raise ValidationError(self.name, [(self.fields[0].name, problem)], position) from None
        return self.identify_row(row, True, position)

    def _find(self, row: Any, is_mapping: bool) -> tuple[tuple[Any, ...], list[Any]]:
        pk = []
        forms = []
        problems = []
        for field, names, converter, _ in self._steps:
            value: Any = None
            if is_mapping:
                for name in names:
                    value = row.get(name)
                    if value is not None:
                        break
                other = row.get(names[-1])
                if other is not None and not (other is value or field.same(value, other)):
                    problems.append((field.name, f"{names[0]} and {names[-1]} contradict each other"))
                    continue
            else:
                value = field.key_value(row)
            if value is None:
                problems.append((field.name, f"missing value for <Field: {self.name}.{field.name}>"))
                continue
            try:
                stored = converter.dump(value)
                value = converter.canonical(value, stored)
                forms.append(converter.key_form(value, stored))
                pk.append(value)
            except ValueError as error:
                problems.append((field.name, str(error)))
        if problems:
            raise ValidationError(self.name, problems)
        return tuple(pk), forms

    def _extra_names(self, row: Mapping[Any, Any], position: int | None) -> Exception:
        extra = [name for name in row if name not in self._names]
        strange = next((name for name in extra if not isinstance(name, str)), None)
        if strange is not None:
            return self.model._meta.unknown_name(strange, position)  # type: ignore[no-any-return]
        key = ", ".join(field.name for field in self.fields)
        text = f"{self.name}: {', '.join(map(repr, extra))} does not belong to the primary key ({key})"
        return ShapeError(text, position)

    def key(self, forms: list[Any]) -> str:
        """Make the key of a row from the key forms of its key values."""
        if self.formatter is not None:
            return self.format(forms)
        if self._texts is None:
            # At the first use: by then the models that key fields refer to are declared.
            self._texts = [text_maker(converter) for _, _, converter, _ in self._steps]
        key = self.prefix
        for position, (_, _, _, label) in enumerate(self._steps):
            key += label + self._texts[position](forms[position])
        return shortened(key)

    def format(self, forms: Iterable[Any]) -> str:
        """Make the key of a row with the model's own formatter."""
        values = [value for step, form in zip(self._steps, forms, strict=True) for value in _flat(step[2], form)]
        formatter = self.formatter
        try:
            key = formatter % tuple(values) if isinstance(formatter, str) else formatter(*values)  # type: ignore[misc]
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"{self.name}: index_formatter cannot format the primary key: {type(error).__name__}"
            ) from error
        if type(key) is not str or not key:
            raise ValueError(f"{self.name}: index_formatter gave {type(key).__name__}, expected a key (str)")
        return self._version + key
