"""Parsing the arguments of the commands: a model, primary keys of its rows, a backend."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, time
from typing import Any

from ..backends import BaseBackend
from ..fields import Field, ForeignKeyField
from ..metadata import RowPlan, bind
from ..models import Model
from ..operations.rows import slices
from ..options import resolve_backend
from ..types import is_model

__all__ = ["UsageError", "backend_of", "model_of", "pks_of"]


class UsageError(Exception):
    """Wrong arguments; the message says what is wrong."""


def model_of(reference: str, backend: str | None = None) -> type[Model]:
    """Import a model.

    Args:
        reference: ``package.module:Model``, as seen from the current directory.
        backend: the URL of a backend to use instead of the model's own.

    Raises:
        UsageError: there is no such model, or it cannot be used on that backend.
    """
    name, colon, path = reference.partition(":")
    if not (name and colon and path):
        raise UsageError(f"a model is given as package.module:Model, got {reference!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        # What a module prints when it is imported is not part of the output.
        with contextlib.redirect_stdout(sys.stderr):
            found: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"cannot import {name}: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            from difflib import get_close_matches

            models = [key for key, value in vars(found).items() if isinstance(value, type) and issubclass(value, Model)]
            close = get_close_matches(part, models, 1) or models
            hint = f"; it has: {', '.join(close)}" if close else ""
            raise UsageError(f"{name} has no {path!r}{hint}")
        found = getattr(found, part)
    if not (is_model(found) and issubclass(found, Model)):
        what = "an abstract model" if isinstance(found, type) and issubclass(found, Model) else type(found).__name__
        raise UsageError(f"{reference} is no model with rows, but {what}")
    try:
        if backend is not None:
            bind([found], backend=backend)
        found._meta.resolved()
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if found._meta.backend.in_process:
        sys.stderr.write(
            f"cacheorm: {found.__name__} keeps its rows in the memory of each process, and this one has none;"
            " --backend URL looks elsewhere\n"
        )
    return found


def backend_of(reference: str) -> BaseBackend:
    """Return the backend of a URL, or that of a model given as ``package.module:Model``."""
    if "://" not in reference:
        return model_of(reference)._meta.backend
    try:
        backend = resolve_backend(reference)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    assert backend is not None  # noqa: S101 - it is a URL
    return backend


# -- rows ------------------------------------------------------------------------------------------------


def pks_of(plan: RowPlan, words: Sequence[str]) -> list[dict[str, Any]]:
    """Parse primary keys; return each as ``{field name: value}``.

    Args:
        plan: the model's plan.
        words: for each row values in the order of the key's fields, or ``field=value`` in any order; ``-`` stands for
            the words of standard input.

    Raises:
        UsageError: words that are no primary keys of the model.
    """
    names = {name: field for field in plan.key_fields for name in field.accepted_names}
    size = len(plan.key_fields)
    words = [word for given in words for word in (_words_of_stdin(size) if given == "-" else [given])]
    named = [word.partition("=")[0] in names and "=" in word for word in words]
    if len(words) % size or (any(named) and not all(named)):
        key = ", ".join(field.name for field in plan.key_fields)
        raise UsageError(
            f"the primary key of {plan.model.__name__} is {key}: give a value for each, or each as field=value"
        )
    rows = []
    for part in slices(words, size):
        if all(named):
            given = {names[name]: text for name, _, text in (word.partition("=") for word in part)}
            if len(given) < size:
                raise UsageError(f"{' '.join(part)}: a field of the primary key is given twice, and another not at all")
        else:
            given = dict(zip(plan.key_fields, part, strict=True))
        row = {field.name: _value(plan, field, text) for field, text in given.items()}
        try:
            plan.key_of(row)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
        rows.append(row)
    return rows


def _words_of_stdin(size: int) -> Iterator[str]:
    """Yield the values of a primary key from each line of standard input, separated by spaces."""
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if text:
            yield from [text] if size == 1 else text.split()


def _value(plan: RowPlan, field: Field[Any], text: str) -> Any:
    """Convert a text to a value of a field."""
    converter = field.converter
    problem: Exception | None = None
    for value in _candidates(field, text):
        try:
            converter.dump(value)
        except (TypeError, ValueError) as error:
            problem = problem or error
        else:
            return value
    raise UsageError(f"{plan.model.__name__}.{field.name}: {problem}")


def _candidates(field: Field[Any], text: str) -> Iterator[Any]:
    """Yield the values that a text may stand for; first the text itself, which most fields convert."""
    yield text
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        # A reference to a composite key is a list of its values.
        yield tuple(value) if isinstance(field, ForeignKeyField) and isinstance(value, list) else value
    members = getattr(_final_target(field), "enum_class", None)
    if members is not None and text in members.__members__:
        yield members[text]
    for kind in (datetime, time):
        with contextlib.suppress(ValueError):
            yield kind.fromisoformat(text)


def _final_target(field: Field[Any]) -> Field[Any]:
    """Return the field of a key that a foreign key refers to in the end; any other field is returned as it is."""
    while isinstance(field, ForeignKeyField) and field.rel_model._meta.composite is None:
        field = field.rel_model._meta.key_fields[0]
    return field
