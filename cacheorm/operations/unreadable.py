"""Rows that cannot be read: what an operation does about them, and the error that lists them."""

from __future__ import annotations

from typing import Any, Literal, Self

from ..errors import FailedRow, PayloadError
from ..metadata import RowPlan
from ..options import check_on_invalid
from .base import Operation, R

__all__ = ["ReadingOperation", "Unreadable"]


class Unreadable:
    """The rows of one operation that cannot be read; a codec calls it with the error of each.

    Args:
        plan: the plan of the model.
        on_invalid: ``"raise"`` or ``"miss"``; ``None`` for that of the model.
    """

    __slots__ = ("_failed", "_first", "_raises")

    def __init__(self, plan: RowPlan, on_invalid: str | None) -> None:
        self._raises = (on_invalid or plan.options.on_invalid) == "raise"
        self._first: PayloadError | None = None
        self._failed: list[FailedRow] = []

    def __call__(self, error: PayloadError) -> None:
        """Keep the error of a row, unless such rows count as misses."""
        if self._raises:
            self._first = self._first or error
            self._failed += error.failed

    def __bool__(self) -> bool:
        return self._first is not None

    def drop_misses(self, codec: Any, payloads: list[Any], pks: list[Any], keys: list[str]) -> list[Any]:
        """Return payloads that are about to be changed, with ``None`` for those that count as misses.

        Otherwise an update might mend what cannot be read, and so create a row.
        """
        if self._raises:
            return payloads
        rows = codec.load_many(payloads, pks, keys, self)
        return [None if row is None else payload for payload, row in zip(payloads, rows, strict=True)]

    def check(self) -> None:
        """Raise a :exc:`PayloadError` that lists the rows, if there are any."""
        if self._first is not None:
            raise PayloadError.listing(self._first, self._failed)


class ReadingOperation(Operation[R]):
    """An operation that reads rows."""

    _on_invalid: str | None = None

    def on_invalid(self, what: Literal["raise", "miss"]) -> Self:
        """Set what is done about stored bytes that are no row of the model, instead of the model's ``on_invalid``.

        Args:
            what: ``"raise"``: a :exc:`PayloadError` that lists all such rows of the operation; ``"miss"``: they count
                as rows that do not exist.

        Raises:
            ValueError: anything else.
        """
        self._on_invalid = check_on_invalid(what)
        return self

    def _unreadable(self) -> Unreadable:
        return Unreadable(self._plan, self._on_invalid)

    def _load_one(self, codec: Any, payload: bytes, pk: Any, key: str) -> Any:
        """Read one payload as an instance; return ``None`` for a miss."""
        if self._on_invalid is None:
            return codec.load(payload, pk, key)
        return self._load_many(codec, [payload], [pk], [key])[0]

    def _load_many(
        self, codec: Any, payloads: list[Any], pks: list[Any], keys: list[str], now: int | None = None
    ) -> list[Any]:
        """Read payloads as instances, ``None`` for a miss; raise an error that lists all that cannot be read.

        ``now`` is as for the codec: with 0, rows that are kept stale are read as well.
        """
        unreadable = self._unreadable()
        rows: list[Any] = codec.load_many(payloads, pks, keys, unreadable, None, now)
        unreadable.check()
        return rows
