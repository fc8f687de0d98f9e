"""Updating fields of rows that exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Self

from .._speedups import assigned, slots
from ..errors import BackendError, ConflictError, FailedRow, ValidationError, WriteError
from ..requests import Call, SendSignal, Steps
from ..types import KEEP_TTL
from .base import R, WriteOperation
from .read import Patched, read_patched
from .signal_senders import SignalSenders, signal_senders
from .unreadable import ReadingOperation, Unreadable

__all__ = ["ModelUpdate"]


class _Batch(NamedTuple):
    """Rows to be updated; each attribute has one element for each row.

    Attributes:
        positions: their positions in the operation.
        changes: their changes, as the codec packs them.
        own: the instances that become the whole rows; empty if rows are returned as new instances.
        pks: their primary keys.
        keys: their keys.
    """

    positions: Sequence[int]
    changes: list[Any]
    own: list[Any]
    pks: list[Any]
    keys: list[str]

    def part(self, start: int, stop: int) -> _Batch:
        """Return the rows from index ``start`` to ``stop``."""
        columns: list[Any] = [column[start:stop] for column in self]
        return _Batch(*columns)

    def positioned(self, keys: list[str], rows: list[Any]) -> list[tuple[int, Any]]:
        """Return rows as pairs of the first position of their key and the row."""
        first = dict(zip(reversed(self.keys), reversed(self.positions), strict=True))
        return [(first[key], row) for key, row in zip(keys, rows, strict=True)]

    def some(self, indexes: list[int]) -> _Batch:
        """Return the rows at some indexes."""
        columns: list[Any] = [[column[index] for index in indexes] if column else [] for column in self]
        return _Batch(*columns)


class ModelUpdate(ReadingOperation[R], WriteOperation[R]):
    """Puts the stored forms of the fields that are named into the stored rows, where these still exist.

    The other fields stay as they are stored: they are neither converted nor checked, and those that the model does not
    know are kept. Of an instance, the fields are named that were assigned since it was read or stored, or whose values
    were changed in place.

    Returns the whole row as an instance, or ``None`` for a row that does not exist. A row that is deleted between the
    read and the write stays deleted. Changes by others in between are overwritten, unless the update is :meth:`atomic`.
    All changes are converted and packed before anything is read or written.

    Raises (on execute):
        ValidationError: all bad fields of the first bad row.
        PayloadError: stored bytes that are no row of the model; its ``failed`` lists all such rows. None of the part
            (see :meth:`chunk_size`) with the first of them was written, and none after it.
        TypeError, ValueError: the row was written by another serializer, and the model's cannot hold all of it.
        WriteError: rows that the backend refused; all others are stored.
        ConflictError: rows that others changed at each try; only from :meth:`atomic` updates.
    """

    _verb = "update"
    _retries: int | None = None
    _function: Callable[[Any], object] | None = None
    # Results of the rows that an execution has updated before it failed, by their positions: the next one must not
    # change them again.
    _done: dict[int, Any] = {}  # noqa: RUF012 -- replaced, never changed

    def keep_ttl(self) -> Self:
        """Keep the lifetime of each row instead of starting that of the model anew."""
        self._ttl = KEEP_TTL
        return self

    def atomic(self, retries: int = 100) -> Self:
        """Write a row only if it has not been changed since it was read; otherwise read it again and retry.

        Only the rows that others have changed meanwhile are read and written again. Each row by itself is atomic,
        the batch is not.

        Args:
            retries: how often a row is tried again before it counts as failed. Of concurrent writers of a row, one
                succeeds at each try.

        Raises:
            ValueError: a negative number of retries.
        """
        given: Any = retries
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise ValueError("retries must be a whole number, at least 0")
        self._retries = retries
        return self

    def apply(self, function: Callable[[Any], object]) -> Self:
        """Change each row that exists by a function, after the fields that are named.

        ::

            def visit(user: User) -> None:
                user.visits += 1

            User.update(id=1).apply(visit).atomic().execute()

        Args:
            function: called with the row as an instance, which it changes in place; its result is ignored. It must not
                change the primary key. If others have changed the row meanwhile, :meth:`atomic` updates call it again
                with the new row.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(function):
            raise TypeError(f"expected a function that changes a row, got {type(function).__name__}")
        self._function = function
        return self

    def steps(self) -> Steps[R]:
        plan = self._plan
        rows = [*self._rows]
        instances = plan.adopt(rows, True, self._many)
        changes = plan.resolved().codec.pack_changes(instances, self._many)
        pks, keys = plan.identity.identify(instances, False, self._many)
        # Not if all rows were dicts, unless related instances were assigned.
        whole = plan.model in set(map(type, rows))
        own = instances if whole or (plan.related is not None and slots.holds(plan.related, instances)) else []
        batch = _Batch(range(len(rows)), changes, own, pks, keys)
        done = self._done
        if done:
            batch = batch.some([position for position in batch.positions if position not in done])
        results = yield from self._update_parts(batch)
        if done:
            done = done | dict(zip(batch.positions, results, strict=True))
            results = [done[position] for position in range(len(rows))]
        self._done = dict(enumerate(results)) if self._is_part else {}
        return results if self._many else results[0]  # type: ignore[return-value]

    def _update_parts(self, batch: _Batch) -> Steps[list[Any]]:
        """Update rows in parts. If some are not updated, note the results of the others."""
        plan = self._plan
        count = len(batch.keys)
        size = self._chunk or plan.resolved().backend.chunk_size
        signals = signal_senders("save", plan.model)
        if signals is not None and signals.before is not None:
            # A receiver may stop the operation before anything is written, so all rows have to be in one part.
            size = max(1, count)
        results: list[Any] = []
        refused: list[FailedRow] = []
        changed: list[FailedRow] = []
        unreadable = self._unreadable()
        try:
            for start in range(0, count, size):
                part = batch if size >= count else batch.part(start, start + size)
                # The other parts are written all the same: rows that are not in the error are stored.
                updated = yield from self._update(part, refused, changed, unreadable)
                if not unreadable:
                    results += updated
            unreadable.check()
            if refused:
                raise WriteError(refused + changed)
            if changed:
                raise ConflictError(changed)
        except BaseException as error:
            named = {row.key for row in refused + changed}
            known = zip(batch.positions, batch.keys, results, strict=False)
            self._done = self._done | {position: row for position, key, row in known if key not in named}
            if isinstance(error, BackendError) and results:
                error.add_note(f"{len(results)} rows of {plan.model.__name__} had been updated before")
            raise
        return results

    def _update(
        self, batch: _Batch, refused: list[FailedRow], changed: list[FailedRow], unreadable: Unreadable
    ) -> Steps[list[Any]]:
        """Update rows; try those that others changed meanwhile again, up to ``_retries`` times.

        Args:
            batch: the rows.
            refused: a list to which the rows that the backend refused are added.
            changed: a list to which the rows that others changed at each try are added.
            unreadable: gets the errors of rows that cannot be read. Once it has one, nothing is written.
        """
        if self._retries is None:
            return (yield from self._attempt(batch, set(), refused, unreadable))
        results: dict[int, Any] = {}
        keys = batch.keys
        left = list(range(len(keys)))
        try:
            for _ in range(self._retries + 1):
                conflicts: set[str] = set()
                part = batch if len(left) == len(keys) else batch.some(left)
                results |= zip(left, (yield from self._attempt(part, conflicts, refused, unreadable)), strict=True)
                if not conflicts:
                    return [*map(results.__getitem__, range(len(keys)))]
                left = [index for index in left if keys[index] in conflicts]
        except BaseException:
            again = {*left, *(index for index, key in enumerate(keys) if key in {row.key for row in refused})}
            self._done = self._done | {batch.positions[index]: results[index] for index in results.keys() - again}
            raise
        reason = f"others changed it {self._retries + 1} times in a row"
        names = dict.fromkeys([keys[index] for index in left])
        changed += [FailedRow(self._plan.model.__name__, key, reason) for key in names]
        return [results[index] for index in range(len(keys))]

    def _attempt(
        self, batch: _Batch, conflicts: set[str], refused: list[FailedRow], unreadable: Unreadable
    ) -> Steps[list[Any]]:
        """Read rows, change them and write them back; return them, ``None`` for each that was not written.

        Args:
            batch: the rows.
            conflicts: an atomic update adds the keys that others have changed.
            refused: the rows that the backend refused are added.
            unreadable: gets the errors of rows that cannot be read.
        """
        backend = self._plan.resolved().backend
        failed_reads = backend.failed_reads
        found = yield from self._read(batch, unreadable)
        if unreadable:
            # Later parts are read to list all such rows, and not written.
            return [None] * len(batch.keys)
        keys, rows = found.keys, found.rows
        if backend.failed_reads != failed_reads and (unread := {*batch.keys} - {*keys}):
            # What could not be read counts as missing: it must not be there later, with its old value.
            yield Call(backend, "delete_many", tuple(unread))
        if not rows:
            return [None] * len(batch.keys)
        if self._function is not None:
            for row in rows:
                self._function(row)
            self._check_keys(keys, rows, "the function given to apply()")
            self._change_again(batch, found)
        after: SendSignal | None = None
        signals = signal_senders("save", self._plan.model)
        if signals is not None:
            after = yield from self._prepare_signals(signals, batch, found)
        # Putting the same values into a row once more changes nothing; what a function does is not done twice.
        stored: set[str] | None = set() if self._function is not None or after is not None else None
        try:
            written = yield from self._write_back(found, after, refused, stored)
        except BaseException:
            self._note(batch, dict(zip(keys, rows, strict=True)), stored or ())
            raise
        all_written = len(written) == len(keys) and all(written.values())
        if self._retries is not None and not all_written:
            named = {row.key for row in refused}
            conflicts.update([key for key in keys if not written.get(key) and key not in named])
        if not (all_written and len(keys) == len(batch.keys)):
            row_of = {key: row for key, row in zip(keys, rows, strict=True) if written.get(key)}
            rows = [row_of.get(key) for key in batch.keys]
        return self._complete(rows, batch, self._plan.tracker) if batch.own else rows

    def _write_back(
        self, found: Patched, after: SendSignal | None, refused: list[FailedRow], stored: set[str] | None
    ) -> Steps[dict[str, bool]]:
        """Write changed rows back; return ``{key: written?}``. See :meth:`_write_many`."""
        keys, payloads = found.keys, found.payloads
        if self._retries is not None:
            swaps = [*zip(payloads, found.tokens, strict=True)]
            return self._write_many("compare_and_set_many", keys, swaps, after, refused, stored)
        if self._many:
            return self._write_many("replace_many", keys, payloads, after, refused, stored)
        return self._write_one(keys[0], payloads[0], after, stored)

    def _write_one(
        self, key: str, payload: Any, after: SendSignal | None, stored: set[str] | None
    ) -> Steps[dict[str, bool]]:
        written = yield Call(self._plan.resolved().backend, "replace", (key, payload, self._pick_ttl()))
        if written and stored is not None:
            stored.add(key)
        if written and after is not None:
            yield after
        return {key: written}

    def _note(self, batch: _Batch, row_of: dict[str, Any], stored: Collection[str]) -> None:
        """Note the results of rows that are stored, though the operation fails."""
        if not stored:
            return
        rows = [row_of[key] if key in stored else None for key in batch.keys]
        if batch.own:
            rows = self._complete(rows, batch, self._plan.tracker)
        done = zip(batch.positions, batch.keys, rows, strict=True)
        self._done = self._done | {position: row for position, key, row in done if key in stored}

    def _read(self, batch: _Batch, unreadable: Unreadable) -> Steps[Patched]:
        """Read the stored rows, with the changes put into them, and for an atomic update their tokens."""
        resolved, keys = self._plan.resolved(), batch.keys
        if self._many or self._retries is not None:
            with_tokens = self._retries is not None
            changes, stamp = batch.changes, self._stamp()
            return read_patched(resolved, batch.pks, keys, changes, with_tokens, unreadable, stamp)
        return self._read_one(batch, unreadable)

    def _read_one(self, batch: _Batch, unreadable: Unreadable) -> Steps[Patched]:
        resolved, keys = self._plan.resolved(), batch.keys
        stored = [(yield Call(resolved.backend, "get", (keys[0],)))]
        stored = unreadable.drop_misses(resolved.codec, stored, batch.pks, keys)
        payloads = resolved.codec.patch_many(stored, batch.changes, keys, unreadable, self._stamp())
        rows = resolved.codec.load_many(payloads, batch.pks, keys, unreadable)
        return Patched(keys, rows, payloads, []).without_misses()

    def _change_again(self, batch: _Batch, found: Patched) -> None:
        """Put into the payloads what other code has changed in the rows."""
        plan = self._plan
        codec, tracker = plan.resolved().codec, plan.tracker
        changed = []
        for at, row in enumerate(found.rows):
            if mask := assigned.assigned(tracker.peek(row), row) & ~plan.key_bits:
                tracker.poke(row, mask)
                changed.append(at)
        rows, keys = [found.rows[at] for at in changed], [found.keys[at] for at in changed]
        try:
            changes = codec.pack_changes(rows, self._many, True)
        except ValidationError as error:
            raise error.repositioned([at for at, _ in batch.positioned(keys, rows)]) from error.__cause__
        patched = codec.patch_many([found.payloads[at] for at in changed], changes, keys)
        for at, payload in zip(changed, patched, strict=True):
            found.payloads[at] = payload
        slots.clear(tracker, rows)

    def _prepare_signals(self, signals: SignalSenders, batch: _Batch, found: Patched) -> Steps[SendSignal | None]:
        """Send ``pre_save``, and return the signal to send for rows that are stored, if there are receivers."""
        tracker = self._plan.tracker
        row_of = dict(zip(found.keys, found.rows, strict=True))
        masks: list[tuple[Any, int]] = []
        if self._retries is None and batch.own:
            # Receivers get the caller's instances. Not for an atomic update, which may have to change the row again.
            pairs = [pair for pair in zip(batch.keys, batch.own, strict=True) if pair[0] in row_of]
            masks = [(row, assigned.assigned(tracker.peek(row), row)) for _, row in pairs]
            self._complete([row_of.get(key) for key in batch.keys], batch, tracker)
            found.rows[:] = (row_of | dict(pairs)).values()
        try:
            positioned = batch.positioned(found.keys, found.rows)
            if signals.before is not None:
                yield from self._send_before(signals.before, positioned)
                self._check_keys(found.keys, found.rows, "a receiver of pre_save")
                self._change_again(batch, found)
        finally:
            # Until the rows are stored, what was changed in the caller's instances is still to be written.
            for row, mask in masks:
                tracker.poke(row, mask)
        return None if signals.after is None else SendSignal(signals.after, positioned, {"created": False})

    def _complete(self, rows: list[Any], batch: _Batch, tracker: Any) -> list[Any]:
        """Return the caller's instances in place of rows, with all values of these."""
        plan = self._plan
        completed: list[Any] = slots.complete(plan.every_field, rows, batch.own, plan.related, tracker)
        return completed

    def _check_keys(self, keys: list[str], rows: list[Any], culprit: str) -> None:
        """Raise ValueError if the primary key of a row was changed since it was read."""
        try:
            found = self._plan.identity.identify(rows, False)[1]
        except (TypeError, ValueError):
            found = []
        if keys != found:
            raise ValueError(f"{self._plan.model.__name__}: {culprit} changed the primary key of a row that exists")
