"""The order in which the writers of one process get their turn.

SQLite's own lock is what keeps writers apart, and it is held by nothing but an open transaction. What is here only says
who tries next, so that nobody polls without need, and nobody is overtaken for ever. Nothing is lost with a writer that
ends at any point: a ticket counts only while its writer refers to it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Lock, get_ident
from weakref import ref

from ...deadlines import remaining

__all__ = ["Ticket", "Writers"]

# Seconds between two tries of the first writer, which grow while another process keeps the lock.
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01

# Seconds after which a writer tries although others came first: they may be in the same thread, below a signal handler.
_OVERTAKING_PAUSE = 0.05


class Ticket:
    """The place of one writer that waits."""

    __slots__ = ("__weakref__", "pause", "thread", "woken")

    def __init__(self) -> None:
        self.pause = _FIRST_PAUSE
        self.thread = get_ident()
        self.woken = Lock()
        self.woken.acquire()


class Writers:
    """The writers of one file that wait, the one that came first in front. Its length counts them."""

    def __init__(self) -> None:
        self._tickets: deque[ref[Ticket]] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self) -> Ticket:
        """Return a place behind all others."""
        ticket = Ticket()
        self._tickets.append(ref(ticket))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place up, and wake who is first now."""
        self._forget(ref(ticket))
        self.wake()

    def wake(self) -> None:
        """Let the first one try, as a write has ended."""
        first = self._first()
        if first is not None:
            with suppress(RuntimeError):  # it has been woken already
                first.woken.release()

    def wait(self, ticket: Ticket, end: float) -> None:
        """Wait until it is worth trying to write.

        Args:
            ticket: the writer's.
            end: the time on the monotonic clock after which not to wait.
        """
        first = self._first()
        if first is None or first is ticket or first.thread == ticket.thread:
            pause = ticket.pause
            ticket.pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            pause = _OVERTAKING_PAUSE
        ticket.woken.acquire(timeout=min(pause, remaining(end)))

    def _first(self) -> Ticket | None:
        while True:
            try:
                place = self._tickets[0]
            except IndexError:
                return None
            ticket = place()
            if ticket is not None:
                return ticket
            self._forget(place)

    def _forget(self, place: ref[Ticket]) -> None:
        with suppress(ValueError):
            self._tickets.remove(place)
