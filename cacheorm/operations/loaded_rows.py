"""What a load has found: rows for its caller, payloads for those that share it, and the rows that were not stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import BackendError, FailedRow, WriteError

__all__ = ["Loaded", "Refused"]


class Refused:
    """Loaded rows that the backend did not store.

    Attributes:
        rows: why, by key.
        cause: the error of the backend, if it raised one.
    """

    def __init__(self) -> None:
        self.rows: dict[str, FailedRow] = {}
        self.cause: BackendError | None = None

    def add(self, other: Refused, keys: Iterable[str]) -> None:
        """Add those of ``keys`` that were refused in a load."""
        if other.rows:
            self.rows |= {key: other.rows[key] for key in keys if key in other.rows}
            self.cause = self.cause or other.cause

    def raise_with(self, result: Any) -> None:
        """Raise a WriteError that holds the result of the operation, if there are any rows."""
        if self.rows:
            raise WriteError([*self.rows.values()], rows=result) from self.cause


class Loaded:
    """The rows that were found or loaded for some keys, ``None`` for no row.

    Attributes:
        rows: instances by key, for the caller that loads.
        payloads: what is stored, or would be, by key, for the callers that share the load.
        refused: those that could not be stored.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.payloads: dict[str, bytes | None] = {}
        self.refused = Refused()
