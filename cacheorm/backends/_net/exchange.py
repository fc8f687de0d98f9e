"""Requests to one server and the replies that are due, without I/O; and how they are carried out on a connection.

*Read all or close*: a connection goes back to its pool for further use only after exactly the expected replies were
read. On any exception it is closed, so that nobody reads the replies of somebody else. *One policy of repeating*, by
effect:

===========================================  ==========================================================
what happened                                is it sent again?
===========================================  ==========================================================
an idle connection had broken, no byte came  reads: once, on a new connection
nothing was sent                             always, where there is another server to send it to
the server refused it, and did nothing       always, where there is another server to send it to
a timeout                                    never: the time is used up
the reply was lost                           if its effect is that of executing it once (:class:`Effect`)
===========================================  ==========================================================
"""

from __future__ import annotations

import time
from typing import Any

from ...errors import BackendError
from .transport import Effect

__all__ = ["Exchange", "converse", "half_of", "is_stale", "may_repeat", "run_exchange"]


class Exchange:
    """What one server is asked, and what it replies.

    Attributes:
        effect: what sending it again would do.
        hint: the end of the message if the server closes the connection without a reply.
        error: why it did not come to its end, where several exchanges go on at the same time.
        has_more: whether anything is left to send.
    """

    effect = Effect.READ
    hint = ""
    error: BackendError | None = None
    has_more = True

    def request(self) -> bytes | None:
        """Return what to send next; ``None`` if replies are to be read first."""
        raise NotImplementedError

    def read(self, reader: Any) -> bool:
        """Take the replies that have arrived. Return whether all replies were taken.

        Raises:
            ValueError: what arrived is no reply to what was asked.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """Begin again: nothing has been answered."""
        raise NotImplementedError


async def run_exchange(pool: Any, exchange: Exchange, end: float) -> None:
    """Carry out an exchange on a connection of a pool.

    Args:
        pool: connections to the server.
        exchange: what to ask.
        end: when to give up, in the time of :func:`time.monotonic`.

    Raises:
        BackendError: it did not come to its end; ``maybe_applied`` says whether it may have been executed.
    """
    while True:
        transport = pool.take_idle(end)
        if transport is None:
            transport = await pool.take(end)
        complete = False
        try:
            await converse(transport, exchange, end)
            complete = True
            return
        except (OSError, ValueError) as error:
            if not is_stale(error, transport, exchange):
                raise pool.failure(error, transport, exchange.effect) from error
        finally:
            pool.give_back(transport, complete)
        exchange.restart()


async def converse(transport: Any, exchange: Exchange, end: float) -> None:
    """Send what an exchange asks and read all that is due, on a connection that was taken."""
    while True:
        while exchange.has_more and not transport.sending and (data := exchange.request()) is not None:
            transport.send(data)
        await transport.receive(end)
        if exchange.read(transport.reader):
            return


def is_stale(error: Exception, transport: Any, exchange: Exchange) -> bool:
    """Return whether a read failed because an idle connection had broken before: then it is repeated on a new one."""
    broken = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return broken and transport.reused and not transport.answered and exchange.effect is Effect.READ


def half_of(end: float) -> float:
    """Return when half of the time until ``end`` will be over: for one attempt of several."""
    now = time.monotonic()
    return now + (end - now) / 2


def may_repeat(effect: Effect, sent: bool) -> bool:
    """Return whether requests without a reply may be sent to another server.

    Args:
        effect: their effect.
        sent: whether they may have been executed.
    """
    return effect is not Effect.STEP or not sent
