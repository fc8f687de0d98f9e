"""Connections that block, shared by threads. Their coroutines never suspend; see :mod:`.sync_bridge`.

Sockets are non-blocking, and waits are for readiness: CPython continues a wait that a signal interrupts with the time
that is left (https://peps.python.org/pep-0475/), while an interrupted ``recv`` of a blocking socket would begin its
timeout anew. A server that cannot get rid of its replies stops reading requests, so nothing here waits for sending
alone: whenever the socket takes no more, what has arrived is taken off it.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any

from .breaker import Breaker
from .lock import Lock
from .pool import Pool, Turn
from .transport import Endpoint, end_with_reset

__all__ = ["BlockingTransport", "ThreadIO", "connect_to", "quiet"]

# Windows has no poll; its select takes sockets of any number, which elsewhere end at 1024.
_HAS_POLL = hasattr(select, "poll")

# Seconds that a wait may take at most, for system calls that take no more.
_LONGEST_WAIT = 1e6


class BlockingTransport:
    """A :class:`~.transport.Transport` over a socket.

    Args:
        reader: parses the replies.
    """

    __slots__ = (
        "__weakref__",
        "_again",
        "_is_tls",
        "_poll",
        "_polls_writing",
        "_socket",
        "_unsent",
        "answered",
        "closed",
        "reader",
        "reused",
        "sending",
        "sent",
        "used",
        "waiting_since",
    )

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.sent = self.answered = self.reused = self.closed = self.sending = False
        self.used = self.waiting_since = 0.0
        self._unsent: deque[memoryview] = deque()
        self._socket: Any = None
        self._poll: Any = None

    def attach(self, opened: Any) -> None:
        """Take over a connected socket, or what behaves like one."""
        self._socket = quiet(opened)
        opened.setblocking(False)
        # The errors by which a socket says that it is not ready.
        self._again: tuple[type[BaseException], ...] = (BlockingIOError,)
        self._is_tls = hasattr(opened, "pending")
        if self._is_tls:
            import ssl

            self._again += (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        if _HAS_POLL:
            self._polls_writing = False
            self._poll = select.poll()
            self._poll.register(opened.fileno(), select.POLLIN)

    def alive(self) -> bool:
        try:
            if not self._ready(0)[0]:
                return True
            # A server with TLS may send session tickets at any time, which are no reply.
            return self._is_tls and not self.collect()
        except (OSError, ValueError):
            return False

    def send(self, data: bytes) -> None:
        if self.sending:
            self._unsent.append(memoryview(data))
            self._flush()
            return
        # Set first: an exception may strike once the system has the data, and before that is known.
        was_sent, self.sent = self.sent, True
        try:
            size = self._socket.send(data)
        except self._again:
            # Of what the layer of TLS does not take yet, a part may have been sent.
            size, self.sent = 0, was_sent or self._is_tls
        if size != len(data):
            self._unsent.append(memoryview(data)[size:])
            self.sending = True

    def collect(self) -> bool:
        try:
            size = self._socket.recv_into(self.reader.room())
        except self._again:
            return False
        if not size:
            raise ConnectionResetError("the server closed the connection")
        self.answered = True
        self.reader.fill(size)
        return True

    async def receive(self, end: float) -> None:
        if self._is_tls and self.collect():  # its layer may hold what the system does not show
            return
        while True:
            now = self.waiting_since = time.monotonic()
            left = end - now if end > now else 0.0
            if self._poll is not None and not self.sending and not self._polls_writing:
                # As nearly always, and in as few steps as there can be.
                if not self._poll.poll(left * 1000 if left < _LONGEST_WAIT else _LONGEST_WAIT * 1000):
                    raise TimeoutError("no answer in time")
                if self.collect():
                    return
                continue
            readable, writable = self._ready(left)
            if writable:
                self._flush()
            if readable:
                if self.collect():
                    return
            elif not writable:
                raise TimeoutError("no answer in time")

    def close(self) -> None:
        self.closed = True
        if self._socket is not None:
            self._socket.close()

    def drop_unsent(self) -> None:
        if self._socket is not None:
            end_with_reset(self._socket)

    leave_to_parent = close  # only this process's copy

    def interest(self) -> tuple[Any, bool]:
        """Return the socket, and whether something is left to send."""
        return self._socket, self.sending

    def proceed(self, writable: bool) -> bool:
        """Send what is left if the socket takes it. Return whether the TLS layer holds something to read."""
        if writable:
            self._flush()
        return self._is_tls and bool(self._socket.pending())

    def _flush(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                self.sent = True
                size = self._socket.send(unsent[0])
                if size == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][size:]
        except self._again:
            pass
        self.sending = bool(unsent)

    def _ready(self, seconds: float) -> tuple[bool, bool]:
        """Wait until the socket can be read from, or written to if there is something to send."""
        if self._poll is None:
            (ready,) = _select([self], seconds) or [(self, False, False)]
            return ready[1], ready[2]
        if self._polls_writing != self.sending:
            self._polls_writing = self.sending
            self._poll.modify(self._socket.fileno(), select.POLLIN | (select.POLLOUT if self.sending else 0))
        events = self._poll.poll(seconds * 1000 if seconds < _LONGEST_WAIT else _LONGEST_WAIT * 1000)
        if not events:
            return False, False
        if not self._polls_writing:
            return True, False
        # Errors and hang-ups count as readable: reading tells which it was.
        return bool(events[0][1] & ~select.POLLOUT), bool(events[0][1] & select.POLLOUT)


class ThreadIO:
    """The :class:`~.transport.IO` for threads.

    Args:
        reply_limit: the most bytes of a reply.
    """

    def __init__(self, reply_limit: int) -> None:
        self._reply_limit = reply_limit

    def pool(self, endpoint: Endpoint, breaker: Breaker) -> Pool:
        return ThreadPool(endpoint, breaker, self._reply_limit)

    async def wait_any(self, transports: Sequence[Any], end: float) -> Sequence[Any]:
        while True:
            if held := [transport for transport in transports if transport.proceed(False)]:
                return held
            now = time.monotonic()
            for transport in transports:
                transport.waiting_since = now
            events = (_poll if _HAS_POLL else _select)(transports, max(end - now, 0.0))
            if not events:
                raise TimeoutError("no answer in time")
            for transport, _, writable in events:
                if writable:
                    with contextlib.suppress(OSError):  # reading tells what is wrong
                        transport.proceed(True)
            if ready := [transport for transport, readable, _ in events if readable]:
                return ready

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def lock(self, server: str) -> Lock:
        return Lock(server, self.sleep, threading.get_ident)


class ThreadPool(Pool):
    """A :class:`~.pool.Pool` shared by threads. A forked child makes connections of its own."""

    def _make(self) -> BlockingTransport:
        return BlockingTransport(self._endpoint.make_reader(self._reply_limit))

    def _begin_connecting(self, transport: Any, timeout: float | None) -> Any:
        results: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        # A thread, as neither the look-up of a name nor the steps of a greeting can be ended from outside.
        context = contextvars.copy_context()
        _thread.start_new_thread(context.run, (_connect, self._endpoint, timeout, results))
        return transport, results

    async def _connected(self, connecting: Any, end: float) -> None:
        transport, results = connecting
        try:
            opened, error = results.get(timeout=_seconds_until(end))
        except Empty:
            raise TimeoutError("timed out") from None
        if error is not None:
            raise error
        transport.attach(opened)

    def _make_turn(self, end: float) -> Turn:
        return _Turn(end)


class _Turn(Turn):
    """The turn of a thread; another one of the same thread is that of a signal handler or a finalizer."""

    __slots__ = ("_bell",)

    def __init__(self, end: float) -> None:
        super().__init__(threading.get_ident(), end)
        self._bell: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        if self._bell.empty():
            self._bell.put(None)

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._bell.get(timeout=seconds)


def connect_to(address: tuple[str, int] | str, timeout: float | None) -> socket.socket:
    """Return a socket that is connected to a host and port, or to the path of a Unix socket.

    Raises:
        OSError: it cannot be connected.
    """
    if not isinstance(address, str):
        opened = socket.create_connection(address, timeout)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened


def _connect(endpoint: Endpoint, timeout: float | None, results: SimpleQueue[tuple[Any, Any]]) -> None:
    """Connect in a thread of its own, and put the socket, or the error, into ``results``."""
    try:
        results.put((quiet(endpoint.connect(timeout)), None))
    except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits for it
        results.put((None, error))


def quiet(opened: Any) -> Any:
    """Let a socket close without a warning when nobody has closed it.

    A backend lives as long as the model that has it, and goes as quietly. A method of the transport would come too
    late: of objects that refer to one another, the collector finalizes the oldest ones first.
    """
    kind: Any = type(opened)
    if issubclass(kind, socket.socket):  # what only behaves like one stays as it is
        with contextlib.suppress(TypeError):
            opened.__class__ = _quiet_kind(kind)
    return opened


@cache
def _quiet_kind(kind: Any) -> Any:
    if "_is_quiet" in kind.__dict__:
        return kind
    return type(kind.__name__, (kind,), {"__slots__": (), "__del__": kind.close, "_is_quiet": True})


def _seconds_until(end: float) -> float | None:
    left = end - time.monotonic()
    return None if left == math.inf else min(max(left, 0.0), _LONGEST_WAIT)


def _poll(transports: Sequence[BlockingTransport], seconds: float) -> list[tuple[BlockingTransport, bool, bool]]:
    """Wait until at least one socket is ready. Return each of those, and whether it can be read and written."""
    poll = select.poll()
    by_number: dict[int, BlockingTransport] = {}
    for transport in transports:
        opened, writes = transport.interest()
        by_number[opened.fileno()] = transport
        poll.register(opened.fileno(), select.POLLIN | (select.POLLOUT if writes else 0))
    events = poll.poll(min(seconds, _LONGEST_WAIT) * 1000)
    # Errors and hang-ups count as readable: reading tells which it was.
    return [(by_number[n], bool(event & ~select.POLLOUT), bool(event & select.POLLOUT)) for n, event in events]


def _select(transports: Sequence[BlockingTransport], seconds: float) -> list[tuple[BlockingTransport, bool, bool]]:
    """Do the same as :func:`_poll` on a system without it."""
    sockets = [(transport, *transport.interest()) for transport in transports]
    writers = [opened for _, opened, writes in sockets if writes]
    reads, writes, errors = select.select(
        [opened for _, opened, _ in sockets], writers, writers, min(seconds, _LONGEST_WAIT)
    )
    ready = [(transport, opened in reads or opened in errors, opened in writes) for transport, opened, _ in sockets]
    return [event for event in ready if event[1] or event[2]]
