"""A network that misbehaves on purpose: a proxy that cuts replies off, and servers that say what they like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self

from servers import HANG

__all__ = ["Proxy", "ScriptedServer", "say"]

_HOST = "127.0.0.1"


class _Listener:
    """Accepts connections and serves each in a thread of its own, until it is closed."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server((_HOST, port))
        self.port = int(self._socket.getsockname()[1])
        self.accepted = 0
        self._open: list[socket.socket] = []
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.refuse()
        for thread in self._threads:
            thread.join(HANG)

    def refuse(self) -> None:
        """Close all connections, and take no more."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop()

    def drop(self) -> None:
        """Close all connections."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _add(self, connection: socket.socket) -> None:
        """Note a connection that :meth:`drop` has to close; it may have been made just when the others were closed."""
        self._open.append(connection)
        if self._is_closed:
            self.drop()

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                self._add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.serve(connection)


class Proxy(_Listener):
    """Forwards to a server on the same machine.

    Attributes:
        cut_after: how many further bytes of replies are let through; ``None`` for all.
        once: forget ``cut_after`` at the first cut, so that the next connection works.
        hang: at the cut, keep the connection open and silent instead of closing it.
        silent: set when replies have been held back at a cut.
        requests: all bytes that clients sent.
        before_request: called with what a client sent, before the server gets it.
        before_reply: called before anything of a reply is passed on.
    """

    def __init__(self, port: int) -> None:
        self.cut_after: int | None = None
        self.once = self.hang = False
        self.silent = threading.Event()
        self.requests = bytearray()
        self.before_request: Callable[[bytes], object] = lambda data: None
        self.before_reply: Callable[[], object] = lambda: None
        self._target = port
        self._clients: list[socket.socket] = []
        super().__init__()

    def interject(self, data: bytes) -> None:
        """Send clients what no server has said."""
        for connection in self._clients:
            connection.sendall(data)

    def serve(self, connection: socket.socket) -> None:
        self._clients.append(connection)
        with socket.create_connection((_HOST, self._target)) as server:
            self._add(server)
            self._start(self._forward_requests, connection, server)
            self._forward_replies(server, connection)
            for side in (connection, server):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self.requests += data
                self.before_request(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _forward_replies(self, server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(1 << 16):
            self.before_reply()
            if self.cut_after is not None:
                data, rest = data[: self.cut_after], data[self.cut_after :]
                self.cut_after -= len(data)
                client.sendall(data)
                if rest:
                    self.silent.set()
                if rest and self.once:
                    self.cut_after = None
                if rest and not self.hang:
                    return
            else:
                client.sendall(data)


class ScriptedServer(_Listener):
    """Runs ``script(connection)`` for each connection, on a given port or a free one."""

    def __init__(self, script: Callable[[socket.socket], None], port: int = 0) -> None:
        self._script = script
        super().__init__(port)

    def serve(self, connection: socket.socket) -> None:
        self._script(connection)


@contextlib.contextmanager
def say(reply: bytes) -> Iterator[ScriptedServer]:
    """Run a server that answers whatever arrives with the same bytes."""

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(reply)

    with ScriptedServer(script) as server:
        yield server
