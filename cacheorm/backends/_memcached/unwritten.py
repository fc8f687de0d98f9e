"""What stands in the place of an entry's status when its server failed."""

from __future__ import annotations

from ...errors import BackendError

__all__ = ["Unwritten"]


class Unwritten(str):
    """Why an entry was not written: its server failed.

    Attributes:
        error: what happened.
    """

    error: BackendError

    def __new__(cls, error: BackendError) -> Unwritten:
        made = super().__new__(cls, error)
        made.error = error
        return made
