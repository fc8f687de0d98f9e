"""Changing fields of rows that exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from .._speedups import slots
from ..errors import BackendError, ConflictError, FailedRow, ValidationError, WriteError
from ..store import Call, Notice, Tell
from ..types import KEEP_TTL
from .base import R, Steps, WriteOperation
from .notices import notices
from .query import read

__all__ = ["ModelUpdate"]

_ABSENT: Any = object()


_Batch = tuple[Sequence[int], list[Any], list[Any], list[str]]
"""Rows to be updated: their places in the operation, instances with what is to change, primary keys, and keys."""


def _some(batch: _Batch, left: list[int]) -> _Batch:
    places, changes, pks, keys = batch
    return (
        [places[at] for at in left],
        [changes[at] for at in left],
        [pks[at] for at in left],
        [keys[at] for at in left],
    )


class ModelUpdate(WriteOperation[R]):
    """Reads rows, changes the fields that are named, and writes them back where they still exist.

    Gives the whole row as an instance, or ``None`` where there was none. A row that is deleted between
    the read and the write stays deleted; what others change in between is overwritten, unless the update is
    :meth:`atomic`. All changes are checked before anything is read or written.

    Raises (on execute):
        ValidationError: all bad fields of the first bad row.
        PayloadError: stored bytes that are no row of the model.
        WriteError: rows that the backend refused; all others are stored.
        ConflictError: rows that others kept changing; only of :meth:`atomic` updates.
    """

    _retries: int | None = None
    _function: Callable[[Any], object] | None = None

    def keep_ttl(self) -> Self:
        """Leave the rows the lifetime they have instead of starting the model's anew."""
        self._ttl = KEEP_TTL
        return self

    def atomic(self, retries: int = 100) -> Self:
        """Write a row only where nobody else has changed it since it was read; otherwise read it again and retry.

        Only the rows that others have changed meanwhile are read and written again. Each row by itself is atomic,
        the batch is not.

        Args:
            retries: how often a row is tried again before it counts as failed. Of all who write a row at a time, one
                succeeds.

        Raises:
            ValueError: a negative number of retries.
        """
        given: Any = retries
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise ValueError("retries must be a whole number, at least 0")
        self._retries = retries
        return self

    def apply(self, function: Callable[[Any], object]) -> Self:
        """Let a function change each row that exists, after the fields that are named.

        ::

            def visit(user: User) -> None:
                user.visits += 1

            User.update(id=1).apply(visit).atomic().execute()

        Args:
            function: gets the row as an instance and changes it in place; what it returns is ignored. It must not
                change the primary key, and :meth:`atomic` calls it again, with the row as it is then, when somebody
                else was faster.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(function):
            raise TypeError(f"expected a function that changes a row, got {type(function).__name__}")
        self._function = function
        return self

    def steps(self) -> Steps[R]:
        plan = self._plan
        changes = plan.adopt(self._rows)
        plan.resolved().codec.convert_many(changes, self._many)
        pks, keys = plan.identity.identify(changes, False, self._many)
        places = range(len(changes))
        if not self._many:
            (result,) = yield from self._update((places, changes, pks, keys))
            return result  # type: ignore[no-any-return]
        updated: list[Any] = []
        failures: list[WriteError] = []
        size = self._chunk or plan.backend.chunk_size
        told = notices("save", plan.model)
        if told is not None and told.before is not None:
            # A receiver may stop the operation as long as nothing is written: all rows are changed before the first.
            size = max(1, len(changes))
        for start in range(0, len(changes), size):
            part = slice(start, start + size)
            try:
                updated += yield from self._update((places[part], changes[part], pks[part], keys[part]))
            except WriteError as error:
                # The other parts are written all the same: rows that an error does not name are stored.
                failures.append(error)
            except BackendError as error:
                if updated:
                    error.add_note(f"{len(updated)} rows of {plan.model.__name__} had been updated before")
                raise
        if failures:
            kind = ConflictError if all(isinstance(one, ConflictError) for one in failures) else WriteError
            raise kind([row for one in failures for row in one.failed])
        return updated  # type: ignore[return-value]

    def _update(self, batch: _Batch) -> Steps[list[Any]]:
        """Update rows; those that others changed meanwhile again, as often as is allowed."""
        if self._retries is None:
            return (yield from self._attempt(batch, set(), []))
        results: dict[int, Any] = {}
        refused: list[FailedRow] = []
        keys = batch[3]
        left = list(range(len(keys)))
        for _ in range(self._retries + 1):
            conflicts: set[str] = set()
            results |= zip(left, (yield from self._attempt(_some(batch, left), conflicts, refused)), strict=True)
            left = [at for at in left if keys[at] in conflicts]
            if not left:
                break
        else:
            name, reason = self._plan.model.__name__, f"others changed it {self._retries + 1} times in a row"
            rows = [FailedRow(name, key, reason) for key in dict.fromkeys(keys[at] for at in left)]
            raise WriteError(refused + rows) if refused else ConflictError(rows)
        if refused:
            raise WriteError(refused)
        return [results[at] for at in range(len(keys))]

    def _attempt(self, batch: _Batch, conflicts: set[str], refused: list[FailedRow]) -> Steps[list[Any]]:
        """Read rows, change them and write them back.

        An atomic update adds the keys that others have changed to ``conflicts``, and the rows that the backend refused
        to ``refused``, since rows of both kinds may be among those of one batch.
        """
        resolved = self._plan.resolved()
        codec = resolved.codec
        places, changes, pks, keys = batch
        tokens: dict[str, Any] = {}
        if self._retries is not None:
            rows, tokens = yield from self._read_with_tokens(pks, keys)
        elif self._many:
            rows = yield from read(resolved, pks, keys)
        else:
            payload = yield Call(resolved.backend, "get", (keys[0],))
            rows = [None if payload is None else codec.load(payload, pks[0], keys[0])]
        existing = {key: row for key, row in zip(keys, rows, strict=True) if row is not None}
        merge = merge_related if self._plan.references else slots.copy
        for key, change in zip(keys, changes, strict=True):
            if key in existing:
                merge(codec.columns, change, existing[key])
        if self._function is not None:
            for row in existing.values():
                self._change(row, self._function)
        told: Tell | None = None
        heard = notices("save", self._plan.model)
        if heard is not None and existing:
            if self._retries is None:
                # Receivers get the instances that were given. An atomic update may have to make their changes again.
                for key, change in zip(keys, changes, strict=True):
                    if key in existing:
                        merge(codec.columns, existing[key], change)
                        existing[key] = change
            first = dict(zip(reversed(keys), reversed(places), strict=True))
            placed = [(first[key], row) for key, row in existing.items()]
            if heard.before is not None:
                yield from self._tell_of_existing(heard.before, placed)
            if heard.after is not None:
                told = Tell(heard.after, placed, {"created": False})
        rows = list(existing.values())
        try:
            payloads = codec.dump_many(rows, self._many)
        except ValidationError as error:
            first = dict(zip(reversed(keys), reversed(places), strict=True))
            raise error.among([first[key] for key in existing]) from error.__cause__
        if not existing:
            written: dict[str, bool] = {}
        elif self._retries is not None:
            swaps = [(payload, tokens[key]) for key, payload in zip(existing, payloads, strict=True)]
            written = yield from self._write_many("compare_and_set_many", list(existing), swaps, told, refused)
            named = {row.key for row in refused}
            conflicts.update(key for key in existing if not written.get(key) and key not in named)
        elif self._many:
            written = yield from self._write_many("replace_many", list(existing), payloads, told)
        else:
            written = {keys[0]: (yield Call(resolved.backend, "replace", (keys[0], payloads[0], self._pick_ttl())))}
            if told is not None and written[keys[0]]:
                yield told
        # An instance that only named some fields becomes the whole row, the caller's own included.
        for key, change in zip(keys, changes, strict=True):
            if written.get(key) and existing[key] is not change:
                merge(codec.columns, existing[key], change)
        return [change if written.get(key) else None for key, change in zip(keys, changes, strict=True)]

    def _read_with_tokens(self, pks: list[Any], keys: list[str]) -> Steps[tuple[list[Any], dict[str, Any]]]:
        """Read rows, the same one at every place of its key, and what stands for the bytes they were read from."""
        resolved = self._plan.resolved()
        pk_of = dict(zip(keys, pks, strict=True))
        found = yield Call(resolved.backend, "get_many_cas", tuple(pk_of))
        if len(found) != len(pk_of):
            raise BackendError(f"{type(resolved.backend).__name__} gave {len(found)} values for {len(pk_of)} keys")
        payloads = [entry and entry[0] for entry in found]
        rows = dict(zip(pk_of, resolved.codec.load_many(payloads, list(pk_of.values()), list(pk_of)), strict=True))
        tokens = {key: entry[1] for key, entry in zip(pk_of, found, strict=True) if entry}
        return [rows[key] for key in keys], tokens

    def _change(self, row: Any, function: Callable[[Any], object]) -> None:
        before = row._pk
        function(row)
        if row._pk != before:
            raise ValueError(f"{self._plan.model.__name__}: the function given to apply() changed the primary key")

    def _tell_of_existing(self, notice: Notice, rows: list[tuple[int, Any]]) -> Steps[None]:
        before = [row._pk for _, row in rows]
        yield from self._tell_before(notice, rows)
        if [row._pk for _, row in rows] != before:
            raise ValueError(
                f"{self._plan.model.__name__}: a receiver of pre_save changed the primary key of a row that exists"
            )


def merge_related(columns: tuple[Any, ...], source: Any, target: Any) -> None:
    """Copy the fields that ``source`` has values for, and the related instances it holds."""
    stale = target._related
    if stale:
        for field in columns:
            if field.peek(source, _ABSENT) is not _ABSENT:
                stale.pop(field.name, None)
    slots.copy(columns, source, target)
    loaded = source._related
    if loaded:
        target._relations.update(loaded)
