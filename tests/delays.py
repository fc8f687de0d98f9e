"""A network that takes its time: a proxy that holds replies back, for many connections at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import Self

from servers import HANG

try:
    from uvloop import run
except ImportError:  # it does not exist for Windows
    from asyncio import run

__all__ = ["DelayingProxy"]

_HOST = "127.0.0.1"


class DelayingProxy:
    """Passes requests on at once, and replies after a random delay, in order.

    It runs an event loop in a thread of its own; the quicker kind, as what it serves waits for it.

    Args:
        port: of the server on this machine.
        delay: seconds by which replies are delayed at most; may be changed at any time.

    Attributes:
        hung: replies wait until it is false again.
        accepted: how many connections there were.
        open: how many there are.
    """

    def __init__(self, port: int, delay: float = 0.0) -> None:
        self.delay = delay
        self.hung = False
        self.accepted = 0
        self.open = 0
        self.port = 0
        self._target = port
        self._random = random.Random(7)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(HANG), "the proxy did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(HANG)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            tasks[task] = writer
            task.add_done_callback(lambda task: tasks.pop(task, None))

        server = await asyncio.start_server(accept, _HOST, 0, backlog=1024)
        self.port = int(server.sockets[0].getsockname()[1])
        self._started.set()
        await self._stop.wait()
        server.close()
        while tasks:  # one more may be accepted meanwhile
            ending, tasks = tasks, {}
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            # A task that was cancelled before its first step has closed nothing.
            await asyncio.gather(*map(_end, ending.values()), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        try:
            with contextlib.suppress(OSError):
                source, sink = await asyncio.open_connection(_HOST, self._target)
                try:
                    # Whoever ends it, both sides end.
                    ways = [asyncio.ensure_future(self._pass(reader, sink, False))]
                    ways.append(asyncio.ensure_future(self._pass(source, writer, True)))
                    try:
                        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for way in ways:
                            way.cancel()
                        await asyncio.gather(*ways, return_exceptions=True)
                finally:
                    await _end(sink)
        finally:
            self.open -= 1
            await _end(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if replies and self.delay:
                    await asyncio.sleep(self._random.random() * self.delay)
                while replies and self.hung:
                    await asyncio.sleep(0.005)
                writer.write(data)
                await writer.drain()


async def _end(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever of it is still to be sent."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
