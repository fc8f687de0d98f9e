"""The base classes of operations: rows as input, a generator of requests, a result."""

from __future__ import annotations

import sys
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, Self, TypeVar

from .._speedups import keys as key_makers
from ..aging import Stamp
from ..async_driver import admission, arun
from ..errors import BackendError, FailedRow, ShapeError, ValidationError, WriteError
from ..metadata import RowPlan
from ..requests import Call, SendSignal, SignalSender, Steps
from ..sync_driver import run
from ..types import KeepTTL, check_ttl
from .rows import DrawnRows

__all__ = ["Operation", "Steps", "WriteOperation"]

R = TypeVar("R")

_JITTER_PARTS = 8


class Operation(Generic[R]):
    """An operation on rows of one model; nothing happens until :meth:`execute`, or until it is awaited.

    Args:
        plan: the model's plan.
        rows: mappings or instances; in operations that only name rows also primary keys.
        many: whether the result is that of many rows; an operation on a single row uses the backend's methods for
            single keys.
        by_pk: whether the rows are primary keys instead, plain values or tuples for composite ones.
    """

    _verb: ClassVar[str]
    """The name of the method that makes it."""

    _begun = False

    # Whether it is a part of an operation on several models. What such a part has done is not done again when another
    # part has failed, and the whole operation is executed again.
    _is_part = False

    def __init__(self, plan: RowPlan, rows: Iterable[Any], many: bool, by_pk: bool = False) -> None:
        self._plan = plan
        self._rows = rows
        self._many = many
        self._by_pk = by_pk
        self._chunk: int | None = None

    def _identify(self, rows: Iterable[Any], start: int = 0) -> tuple[list[Any], list[str]]:
        """Return the primary keys and keys of rows of a batch, of which the first is at position ``start``."""
        identity = self._plan.identity
        try:
            found: tuple[list[Any], list[str]] = (
                identity.identify_pks(rows) if self._by_pk else identity.identify(rows, True)
            )
        except (ShapeError, ValidationError) as error:
            raise error.repositioned(range(start, sys.maxsize)) from error.__cause__
        return found

    def chunk_size(self, rows: int) -> Self:
        """Pass ``rows`` rows to the backend at a time; the default is the backend's own ``chunk_size``."""
        given: Any = rows
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise ValueError("chunk_size must be a whole number of rows, at least 1")
        self._chunk = rows
        return self

    def steps(self) -> Steps[R]:
        """Return the operation as a generator of requests, for a driver to run."""
        raise NotImplementedError

    def execute(self) -> R:
        """Run the operation and return its result.

        One that failed can be executed again, and does what was not done: also over an iterator, whose rows are kept
        until the operation has succeeded.

        Raises:
            RuntimeError: the rows came from an iterator, which is used up or has raised an error.
        """
        self._begun = True
        return self._ended(run(self.steps()))

    async def aexecute(self) -> R:
        """Run the operation in an event loop and return its result; ``await operation`` does the same.

        Loaders and receivers of signals may be coroutine functions. If the task is cancelled, a write that has begun
        may have happened or not.
        """
        self._begun = True
        # Here and not in arun(), so that an operation that waits has no generator and no second coroutine yet.
        wait = admission(self._first_backend())
        seconds = None if wait is None else await wait
        return self._ended(await arun(self.steps(), seconds=seconds))

    def _ended(self, result: R) -> R:
        """Forget the rows of an iterator after the operation has succeeded; return its result."""
        if type(self._rows) is DrawnRows:
            self._rows.forget()
        return result

    def _first_backend(self) -> Any:
        """Return the backend that is used first; ``None`` if that is not known yet."""
        return self._plan.backend

    def __await__(self) -> Generator[Any, None, R]:
        return self.aexecute().__await__()

    def _named(self) -> str:
        """Return the model and the verb, for a text."""
        return f"{self._plan.model.__name__}.{self._verb}{'_many' if self._many else ''}"

    def __repr__(self) -> str:
        state = "executed" if self._begun else "not executed: call .execute(), or await it"
        return f"<{type(self).__name__}: {self._named()}, {state}>"


class WriteOperation(Operation[R]):
    """An operation that writes rows with a lifetime."""

    _ttl: int | KeepTTL | None = None

    def ttl(self, seconds: float | timedelta) -> Self:
        """Set the lifetime of the rows in seconds, instead of the model's ttl; :data:`~cacheorm.NEVER` never expires.

        Raises:
            ValueError: a negative number, or a fraction of a second.
        """
        self._ttl = check_ttl(seconds)
        return self

    def _pick_ttl(self) -> int | KeepTTL | None:
        """Return for how long the backend is to keep the rows."""
        ttl = self._plan.pick_ttl() if self._ttl is None else self._ttl
        aging = self._plan.aging
        return ttl if aging is None else aging.lifetime(ttl)

    def _stamp(self) -> Stamp | None:
        """Return what the headers of the rows are to say of their ages; ``None`` if they have none."""
        aging = self._plan.aging
        return None if aging is None else aging.stamp(self._ttl)

    def _failed_rows(self, reasons: Mapping[str, str], unsure: Collection[str]) -> list[FailedRow]:
        """Return the rows that the backend refused, with its reasons; those of ``unsure`` keys may be stored."""
        name = self._plan.model.__name__
        return [FailedRow(name, key, reason, key in unsure) for key, reason in reasons.items()]

    def _batch_size(self, rows: int) -> int:
        """Return how many rows of a batch are passed to the backend at a time."""
        size = self._chunk or self._plan.resolved().backend.chunk_size
        if self._ttl is None and self._plan.options.ttl_jitter:
            # A batch has one lifetime, so rows spread over a few batches spread their expiry.
            return min(size, max(1, -(-rows // _JITTER_PARTS)))
        return size

    def _send_before(self, sender: SignalSender, rows: Sequence[tuple[int, Any]]) -> Steps[None]:
        """Send ``pre_save`` for pairs of a row's position in the operation and the row, which receivers may change."""
        yield SendSignal(sender, rows, {})
        # Receivers may have assigned related rows that have no primary key yet.
        self._plan.adopt(row for _, row in rows)

    def _write_many(
        self,
        method: str,
        keys: list[str],
        payloads: list[Any],
        after: SendSignal | None = None,
        refused: list[FailedRow] | None = None,
        stored_keys: set[str] | None = None,
    ) -> Steps[dict[str, bool]]:
        """Write payloads under their keys; return ``{key: stored?}``, or ``{}`` of ``set_many``, which stores all.

        Args:
            method: the method of the backend. ``compare_and_set_many`` takes pairs of a payload and a token.
            keys: the keys. Of a key that occurs more than once, the last payload stays.
            payloads: as many payloads.
            after: the signal to send for rows that are stored; it has as many rows as there are keys.
            refused: a list to which the rows that the backend refused are added, instead of an error.
            stored_keys: a set to which the keys of the rows that are stored are added, also before an error.

        Raises:
            WriteError: the backend refused rows; the other rows have been written.
        """
        name = self._plan.model.__name__
        backend = self._plan.resolved().backend
        size = self._batch_size(len(keys))
        rows = {} if after is None else dict(zip(keys, after.rows, strict=True))
        stored: dict[str, bool] = {}
        failed: list[FailedRow] = [] if refused is None else refused
        for start in range(0, len(keys), size):
            # A dict for each part: one of a million rows would not fit into the processor's caches.
            batch = key_makers.batch(keys, payloads, start, start + size)
            try:
                outcome = yield Call(backend, method, (batch, self._pick_ttl()))
            except BackendError as error:
                if start:
                    error.add_note(f"{start} of {len(keys)} rows of {name} had been written before")
                raise
            reasons: Mapping[str, str] = getattr(outcome, "reasons", {})
            unsure: Collection[str] = getattr(outcome, "unsure", ())
            if reasons:
                failed += self._failed_rows(reasons, unsure)
            if method != "set_many":
                stored.update(outcome)
            elif not (len(outcome) == len(batch) and all(outcome.values())):
                failed += [
                    FailedRow(name, key, "refused by the backend")
                    for key in batch
                    if key not in reasons and not outcome.get(key, False)
                ]
            if stored_keys is not None:
                stored_keys.update([key for key in batch if outcome.get(key, False)])
            if after is not None:
                yield after._replace(rows=[rows[key] for key in batch if outcome.get(key, False)])
        if failed and refused is None:
            raise WriteError(failed)
        return stored
