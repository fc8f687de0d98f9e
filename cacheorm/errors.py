"""The errors that cacheorm raises on purpose.

::

    CacheORMError
    ├── ValidationError (ValueError)   a value that a field does not take, or a missing one
    ├── ShapeError (TypeError)         something in place of a row that is none
    ├── PayloadError                   stored bytes that are no row of the model
    ├── InvalidKeyError (ValueError)   a key that the backend cannot hold
    ├── WriteError                     rows that the backend refused
    │   └── ConflictError              rows that others kept changing during an atomic update
    ├── BackendError                   the backend failed; the driver's error is ``__cause__``
    └── DoesNotExist                   no such row; every model has its own subclass

    LazyLoadWarning (RuntimeWarning)   a related row was read inside a running event loop

Messages name the model, the key and the field. They name the *type* of an offending value and never
the value itself: rows hold passwords and personal data, and messages end up in logs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

__all__ = [
    "BackendError",
    "CacheORMError",
    "ConflictError",
    "DoesNotExist",
    "FailedRow",
    "InvalidKeyError",
    "LazyLoadWarning",
    "PayloadError",
    "ShapeError",
    "ValidationError",
    "WriteError",
]


class CacheORMError(Exception):
    """The base of all errors that cacheorm raises on purpose.

    Errors pickle with all attributes and notes. A cause that is no error of cacheorm is replaced by its text, as the
    errors of many drivers do not pickle.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if (cause := self.__cause__) is not None:
            kind = type(cause)
            text = f"{kind.__module__}.{kind.__qualname__}: {cause}"
            state["__cause__"] = cause if isinstance(cause, CacheORMError) else Exception(text)
        return _restored, (type(self), self.args), state


def _restored(kind: type[CacheORMError], args: tuple[Any, ...]) -> CacheORMError:
    """Return an error as pickle makes it: its attributes follow, so ``__init__`` is not called."""
    return kind.__new__(kind, *args)


class ValidationError(CacheORMError, ValueError):
    """A row has values that its fields do not take, or lacks required ones.

    All bad fields of one row are reported together.

    Args:
        model: name of the model, or ``None`` outside one.
        problems: ``(field name, problem)`` pairs, at least one.
        row: position of the row in a bulk call, ``None`` for a single row.
        key: the row's key, if its primary key is valid.

    Attributes:
        model, problems, row, key: as given.
    """

    def __init__(
        self,
        model: str | None,
        problems: Iterable[tuple[str, str]],
        row: int | None = None,
        key: str | None = None,
    ) -> None:
        self.model = model
        self.problems = list(problems)
        self.row = row
        self.key = key
        super().__init__(model, self.problems, row, key)

    def repositioned(self, positions: Sequence[int]) -> ValidationError:
        """Return the same error for rows that are part of a larger call, at ``positions`` in it."""
        return self if self.row is None else ValidationError(self.model, self.problems, positions[self.row], self.key)

    def __str__(self) -> str:
        prefix = f"{self.model}." if self.model else ""
        parts = [
            problem if problem.startswith("missing value for ") else f"{prefix}{field}: {problem}"
            for field, problem in self.problems
        ]
        context = [] if self.row is None else [f"row {self.row}"]
        if self.key is not None:
            context.append(f"key {self.key}")
        return "; ".join(parts) + (f" ({', '.join(context)})" if context else "")


class ShapeError(CacheORMError, TypeError):
    """Something in place of a row is none: it is no dict, instance or primary key, or names what the model has not.

    Args:
        text: what a row is, and what was given.
        row: its position in a bulk call, ``None`` for a single one.

    Attributes:
        row: as given.
    """

    def __init__(self, text: str, row: int | None = None) -> None:
        self.row = row
        super().__init__(text, row)

    def repositioned(self, positions: Sequence[int]) -> ShapeError:
        """Return the same error for something in a larger call; see :meth:`ValidationError.repositioned`."""
        return self if self.row is None else ShapeError(self.args[0], positions[self.row])

    def __str__(self) -> str:
        text: str = self.args[0]
        return text if self.row is None else f"{text} (row {self.row})"


class PayloadError(CacheORMError):
    """Stored bytes cannot be read as a row of the model.

    The error of a batch has the attributes of the first row that cannot be read, and lists all of them.

    Args:
        reason: what is wrong, in words.
        model: name of the model.
        key: key under which the payload is stored.
        field: the field that could not be read, ``None`` when the payload as a whole is bad.
        serializer: name of the serializer that read it.

    Attributes:
        failed: a :class:`FailedRow` for each row that cannot be read.
    """

    failed: list[FailedRow]

    def __init__(
        self,
        reason: str,
        *,
        model: str | None = None,
        key: str | None = None,
        field: str | None = None,
        serializer: str | None = None,
    ) -> None:
        self.reason = reason
        self.model = model
        self.key = key
        self.field = field
        self.serializer = serializer
        self.failed = [FailedRow(model or "", key or "", f"{field}: {reason}" if field else reason)]
        super().__init__(reason)

    @classmethod
    def listing(cls, first: PayloadError, failed: list[FailedRow]) -> PayloadError:
        """Return the error that lists ``failed``, with the first error as its cause; that one if it lists them all."""
        if len(failed) == len(first.failed):
            return first
        error = cls(first.reason, model=first.model, key=first.key, field=first.field, serializer=first.serializer)
        error.failed = failed
        error.__cause__ = first
        return error

    def __str__(self) -> str:
        if len(self.failed) > 1:
            return f"{len(self.failed)} rows cannot be read: {_first_of(self.failed)}"
        subject = ".".join(part for part in (self.model, self.field) if part)
        key = f"key {self.key}" if self.key is not None else ""
        serializer = f"read as {self.serializer}" if self.serializer else ""
        context = ", ".join(part for part in (key, serializer) if part)
        return (f"{subject}: " if subject else "") + self.reason + (f" ({context})" if context else "")


class InvalidKeyError(CacheORMError, ValueError):
    """A key that the backend cannot store; raised before any byte is sent."""


class FailedRow(NamedTuple):
    """One row that was not stored, or may not have been; or one that cannot be read.

    Attributes:
        model: its model's name.
        key: its key.
        reason: why, in words.
        maybe_applied: whether it may be stored all the same, because the reply was lost.
    """

    model: str
    key: str
    reason: str
    maybe_applied: bool = False


def _first_of(rows: list[FailedRow]) -> str:
    shown = "; ".join(f"{row.model} {row.key}: {row.reason}" for row in rows[:3])
    return shown + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")


class WriteError(CacheORMError):
    """The backend refused some rows; rows of the call that are not in ``failed`` are stored.

    Attributes:
        failed: a :class:`FailedRow` for each row that is not stored.
        stored: ``(model, key)`` of each row that is stored, for operations over several models; otherwise ``None``.
        rows: for rows that were loaded by a read-through, what the operation returns if all are stored; otherwise
            ``None``.
    """

    def __init__(
        self,
        failed: Sequence[FailedRow],
        stored: Sequence[tuple[str, str]] | None = None,
        done: str = "stored",
        rows: Any = None,
    ) -> None:
        self.failed = list(failed)
        self.stored = None if stored is None else list(stored)
        self.rows = rows
        self._done = done
        super().__init__(self.failed, self.stored, done)

    def __str__(self) -> str:
        rows = "row was" if len(self.failed) == 1 else "rows were"
        text = f"{len(self.failed)} {rows} not {self._done}: {_first_of(self.failed)}"
        return text if self.rows is None else f"{text} (the rows that were loaded are the error's .rows)"


class ConflictError(WriteError):
    """Some rows were changed by others each time that an atomic update tried to write them.

    Attributes:
        failed: a :class:`FailedRow` for each of these rows; all others of the call are stored.
    """


class BackendError(CacheORMError):
    """The backend could not be reached or answered with an error; ``__cause__`` is the driver's error.

    Args:
        message: what was attempted, against which server, and with what result; never credentials.
        maybe_applied: whether a write may have taken effect although no reply was read. ``False``
            means that it certainly did not.
    """

    def __init__(self, message: str, *, maybe_applied: bool = False) -> None:
        self.maybe_applied = maybe_applied
        super().__init__(message)

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} (the write may have been applied)" if self.maybe_applied else text


class DoesNotExist(CacheORMError):
    """No row has the given primary key. ``Model.DoesNotExist`` is a subclass of its own per model."""

    Related: ClassVar[type[DoesNotExist]]
    """The subclass, and an :exc:`AttributeError`, that foreign keys to the model raise. It makes ``hasattr`` and
    ``getattr`` with a default work for references to rows that do not exist."""


class LazyLoadWarning(RuntimeWarning):
    """Access to a foreign key read the related row inside a running event loop, which was blocked meanwhile."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message about an unknown name: the closest known one, or ``otherwise`` if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else otherwise


def unpackable(
    pack: Callable[[dict[str, Any]], object],
    model: str,
    serializer: str,
    row: Mapping[str, Any],
    error: Exception,
    key: str | None = None,
) -> Exception:
    """Return the error that names the field of a row that a serializer cannot pack.

    Args:
        pack: packs a row.
        model: the model's name.
        serializer: the serializer's name.
        row: the stored forms by field name.
        error: what ``pack`` raised for the row.
        key: the key of the row, if it is known.

    Raises:
        MemoryError: as ``pack``: it says nothing about the row.
    """
    what, found = f"{model}: the {serializer} serializer cannot hold the row", error
    for name, stored in row.items():
        try:
            pack({name: stored})
        except Exception as alone:  # noqa: BLE001 -- a serializer's libraries have errors of their own
            what, found = f"{model}.{name}: the {serializer} serializer cannot hold it", alone
            break
    if isinstance(found, MemoryError):
        raise found
    # Texts of errors that are not meant for values, such as PicklingError, may hold any part of one.
    known = isinstance(found, (TypeError, ValueError, OverflowError))
    kind = TypeError if isinstance(found, TypeError) else ValueError
    under = "" if key is None else f" (key {key})"
    return kind(f"{what}: {found if known else type(found).__name__}{under}")
