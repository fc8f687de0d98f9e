"""What a load has found: rows for its caller, payloads for those that share it, and the rows that were not stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import BackendError, FailedRow, WriteError

__all__ = ["Loaded", "Refused", "not_stored"]


class Refused:
    """Loaded rows that the backend did not store.

    Attributes:
        rows: why, by key.
        cause: the error of the backend, if it raised one.
    """

    def __init__(self) -> None:
        self.rows: dict[str, FailedRow] = {}
        self.cause: BackendError | None = None

    def among(self, keys: Iterable[str]) -> list[Refused]:
        """Return a list with those of some keys; an empty one if all of them are stored."""
        found = Refused()
        found.rows = {key: self.rows[key] for key in keys if key in self.rows} if self.rows else {}
        found.cause = self.cause
        return [found] if found.rows else []


def not_stored(refused: list[Refused], result: Any) -> WriteError:
    """Return the error for rows that an operation has loaded, or shares with others; it holds the result."""
    rows = {key: row for each in refused for key, row in each.rows.items()}
    error = WriteError([*rows.values()], rows=result)
    error.__cause__ = next((each.cause for each in refused if each.cause is not None), None)
    return error


class Loaded:
    """The rows that were found or loaded for some keys, ``None`` for no row.

    Attributes:
        rows: instances by key, for the caller that loads.
        payloads: what is stored, or would be, by key, for the callers that share the load.
        refused: those that could not be stored.
        is_shared: whether the callers that wait may have them too.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.payloads: dict[str, bytes | None] = {}
        self.refused = Refused()
        self.is_shared = True
