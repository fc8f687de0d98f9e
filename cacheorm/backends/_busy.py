"""What is raised when a pool of connections is full for too long."""

from __future__ import annotations

from ..errors import BackendError

__all__ = ["BusyError"]


class BusyError(BackendError):
    """All connections that there may be to a server stayed in use: that is nothing the server has done.

    Args:
        server: its name for messages.
        places: how many connections there may be.
        patience: seconds that somebody waited for one.
        option: what the user sets ``patience`` with.
    """

    def __init__(self, server: str, places: int, patience: float, option: str) -> None:
        super().__init__(
            f"{server}: all {places} connections stayed in use for {patience:g} s; raise max_connections or {option}"
        )
