"""Which keys are those of one model, and back from keys to primary keys.

Keys are handled in batches, as one text with a key on each line: regular expressions find those of the model in it,
with the texts of the key values. Values of the usual types are made of these a column at a time. For other types, each
text is tried as a stored form of one kind after the other. Whatever is found counts only if the same key is made of it.

A key that ends in a digest is the model's, but its primary key cannot be told.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from .._speedups import keys as key_makers
from ..errors import InvalidKeyError
from ..metadata import RowPlan
from .marks import is_mark

__all__ = ["OwnKeys"]

# The end of a key that was too long for what it was made of.
_DIGEST = re.compile(rf"{re.escape(key_makers.DIGEST_MARK)}[0-9a-f]{{32}}\Z")
_DIGEST_SIZE = len(key_makers.DIGEST_MARK) + 32

# What is in keys for values of these types; any escaped text for those of others.
_PATTERNS: dict[Any, str] = {int: "0|-?[1-9][0-9]*", UUID: "[0-9a-f]{32}"}
_ESCAPED = "[!-9;-~]*"

_DIRECTIVE = re.compile(r"%(?:%|[#0\- +]*[0-9]*(?:\.[0-9]+)?[diouxXeEfFgGcrsa])?")


class _Leaf(NamedTuple):
    """One value in keys: that of a key field, or of a part of the composite key that it refers to.

    Attributes:
        converter: of the value.
        kind: the type of values that stand in keys without being converted; ``None`` for others.
        render: makes the text in keys of a key form.
    """

    converter: Any
    kind: type | None
    render: Callable[[Any], str]


class OwnKeys:
    """The keys of one model.

    Args:
        plan: the plan of the model.

    Raises:
        ValueError: the model has an ``index_formatter`` whose keys do not begin with fixed text.

    Attributes:
        prefix: what all keys of the model begin with.
        untold: how many keys there were whose primary keys cannot be told.
    """

    def __init__(self, plan: RowPlan) -> None:
        self.untold = 0
        self._plan = plan
        self._identity = plan.identity
        self._fields = [field.converter for field in plan.key_fields]
        self._leaves: list[_Leaf] = []
        self._formatted = self._identity.formatter is not None
        if self._formatted:
            self._read_format(self._identity.formatter)
        else:
            self._read_labels()

    def of_model(self, keys: Sequence[str]) -> list[str]:
        """Return those of some keys that are the model's, each once."""
        exact, digested = self._find(keys)
        return [*[found[0] for found in exact], *digested]

    def told(self, keys: Sequence[str]) -> tuple[list[Any], list[str]]:
        """Return the primary keys of those that are the model's, as a read returns them, and as many keys.

        Those whose primary keys cannot be told are counted.
        """
        exact, digested = self._find(keys)
        self.untold += len(digested)
        if not exact:
            return [], []
        found, *columns = map(list, zip(*exact, strict=True))
        try:
            pks, made = self._identity.identify_pks(self._by_columns(columns))
        except (ValueError, TypeError):
            made = []
        if made == found:
            return pks, found
        pks, found = [], []
        for key, *texts in exact:
            try:
                (pk,), (again,) = self._identity.identify_pks([self._by_trying(texts)])
            except (ValueError, TypeError):
                again = None
            if again == key:
                pks.append(pk)
                found.append(key)
            else:
                self.untold += 1
        return pks, found

    def unknown_pks(self, keys: Sequence[str]) -> list[Any]:
        """Return what stands for as many primary keys that nobody looks at."""
        count = len(self._fields)
        return [(None,) * count if count > 1 else None] * len(keys)

    def check_all_told(self) -> None:
        """Raise :exc:`InvalidKeyError` if there were keys whose primary keys cannot be told."""
        if self.untold:
            raise InvalidKeyError(
                f"{self._plan.model.__name__}: {self.untold} rows are left out, as their keys do not tell their primary"
                f" keys (keys of more than {key_makers.MAX_KEY_BYTES} bytes end in a digest); all others came before."
                " count() and purge() take them into account"
            )

    # -- what keys look like ---------------------------------------------------------------------

    def _read_labels(self) -> None:
        """Find what keys without a formatter look like."""
        start = self._identity.prefix
        pattern = ""
        for field in self._plan.key_fields:
            leaves = [_Leaf(part, kind, key_makers.text_maker(part)) for part, kind in _parts_of(field)]
            self._leaves += leaves
            pattern += re.escape(f"{start}:{key_makers.escape(field.name)}:")
            pattern += ":".join([f"({_PATTERNS.get(leaf.kind, _ESCAPED)})" for leaf in leaves])
            start = ""
        first = f"{self._identity.prefix}:{key_makers.escape(self._plan.key_fields[0].name)}:"
        self.prefix = first[: key_makers.MAX_KEY_BYTES - _DIGEST_SIZE]
        self._exact = self._other = re.compile(f"^({pattern})$", re.MULTILINE)

    def _read_format(self, formatter: Any) -> None:
        """Find what keys of a formatter look like."""
        refusal = f"{self._plan.model.__name__}: its keys cannot be enumerated, as its index_formatter"
        if not isinstance(formatter, str):
            raise ValueError(f"{refusal} is a function: a %-format string may begin with fixed text, which tells them")
        texts, directives = _split(formatter)
        if not texts[0]:
            raise ValueError(f"{refusal} does not begin with fixed text, which tells them from other keys")
        version = self._plan.options.key_version
        texts[0] = self.prefix = f"{version}:{texts[0]}" if version else texts[0]
        parts = [part for field in self._plan.key_fields for part in _parts_of(field)]
        if len(parts) != len(directives) or "%" in directives:
            # A format with names or widths among its values: only the beginning is known.
            self._exact = self._other = re.compile(f"^({re.escape(self.prefix)}(.*))$", re.MULTILINE)
            return
        self._leaves = [
            _Leaf(part, kind, directive.__mod__) for (part, kind), directive in zip(parts, directives, strict=True)
        ]
        # Where the two do not find the same texts, one holds what separates them: none of them can be told.
        self._exact, self._other = self._pattern(texts, directives, ".*?"), self._pattern(texts, directives, ".*")

    def _pattern(self, texts: list[str], directives: list[str], any_text: str) -> re.Pattern[str]:
        parts = [re.escape(texts[0])]
        for leaf, directive, text in zip(self._leaves, directives, texts[1:], strict=True):
            is_number = directive == "%d" or (directive == "%s" and leaf.kind is int)
            parts.append(f"({'-?[0-9]+' if is_number else any_text}){re.escape(text)}")
        return re.compile(f"^({''.join(parts)})$", re.MULTILINE)

    def _find(self, keys: Sequence[str]) -> tuple[list[tuple[str, ...]], list[str]]:
        """Return the keys of the model, each once, with the texts of their values; and those that end in a digest."""
        if self._formatted and self._plan.aging is not None:
            keys = [key for key in keys if not is_mark(key)]  # the patterns of other models do not find any
        unique = dict.fromkeys(keys)
        lines = "\n".join(unique)
        if lines.count("\n") >= len(unique):
            lines = "\n".join([key for key in unique if "\n" not in key])
        exact: list[tuple[str, ...]] = self._exact.findall(lines)
        if not self._leaves:
            return [], [key for key, _ in exact]
        digested = []
        if not self._formatted and key_makers.DIGEST_MARK in lines:
            size = key_makers.MAX_KEY_BYTES
            digested = [key for key in unique if len(key) == size and _DIGEST.search(key) and key.isascii()]
            exact = [found for found in exact if key_makers.DIGEST_MARK not in found[0]]
        if self._other is not self._exact and (other := self._other.findall(lines)) != exact:
            digested = [one[0] for one, two in zip(exact, other, strict=True) if one != two]
            exact = [one for one, two in zip(exact, other, strict=True) if one == two]
        return exact, digested

    # -- from texts to values --------------------------------------------------------------------

    def _by_columns(self, columns: Sequence[list[str]]) -> list[Any]:
        """Return the primary keys of texts of values that are all of the usual types.

        Raises:
            ValueError: there are others.
        """
        if len(self._leaves) != len(self._fields):
            raise ValueError("a reference to a composite key")
        values = [self._column(leaf, texts) for leaf, texts in zip(self._leaves, columns, strict=True)]
        return values[0] if len(values) == 1 else [*zip(*values, strict=True)]

    def _column(self, leaf: _Leaf, texts: list[str]) -> list[Any]:
        if leaf.kind is int:
            return [*map(int, texts)]
        if leaf.kind is str:
            return texts if self._formatted else [*map(key_makers.unescape, texts)]
        if leaf.kind is UUID and not self._formatted:
            return [UUID(text) for text in texts]
        raise ValueError("a value of another type")

    def _by_trying(self, texts: Sequence[str]) -> Any:
        """Return the primary key of the texts of its values.

        Raises:
            ValueError: no value is known that has such a text.
        """
        values = iter([self._value(leaf, text) for leaf, text in zip(self._leaves, texts, strict=True)])
        pk = [_nested(converter, values) for converter in self._fields]
        return tuple(pk) if len(pk) > 1 else pk[0]

    def _value(self, leaf: _Leaf, text: str) -> Any:
        converter = leaf.converter
        for stored in _stored_forms(text if self._formatted else key_makers.unescape(text)):
            try:
                value = converter.load(stored)
                again = converter.dump(value)
                value = converter.canonical(value, again)
                if leaf.render(converter.key_form(value, again)) == text:
                    return value
            except (ValueError, TypeError):
                continue
        raise ValueError("no value has such a text in keys")


def _stored_forms(text: str) -> Iterator[Any]:
    """Yield the stored forms that may have a text in keys."""
    yield text
    for read in (int, float, Decimal, ast.literal_eval, partial(int, base=16), partial(int, base=8)):
        try:
            yield read(text)
        except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError):
            continue
    if text.startswith("Decimal('"):
        yield from _stored_forms(text[9:-2])
    try:
        yield text.encode("latin-1")
    except UnicodeEncodeError:
        return


def _parts_of(field: Any) -> list[tuple[Any, type | None]]:
    """Return the converters of the values in keys that a key field has, each with its kind; see :class:`_Leaf`."""
    converter = field.converter
    if converter.key_parts is None:
        return [(converter, field.slot_converter.key_type)]
    return [(part, part.key_type) for part in _flat(converter)]


def _flat(converter: Any) -> list[Any]:
    parts = converter.key_parts
    return [converter] if parts is None else [leaf for part in parts for leaf in _flat(part)]


def _nested(converter: Any, values: Iterator[Any]) -> Any:
    """Return a key value made of the next values: one, or as many as the composite key that it refers to has."""
    parts = converter.key_parts
    return next(values) if parts is None else tuple([_nested(part, values) for part in parts])


def _split(formatter: str) -> tuple[list[str], list[str]]:
    """Return the texts of a ``%``-format string before, between and after its directives, and these.

    A directive that is not understood is ``"%"``.
    """
    texts = [""]
    directives = []
    place = 0
    for match in _DIRECTIVE.finditer(formatter):
        texts[-1] += formatter[place : match.start()]
        place = match.end()
        if match[0] == "%%":
            texts[-1] += "%"
        else:
            directives.append(match[0])
            texts.append("")
    texts[-1] += formatter[place:]
    return texts, directives
