"""Ctrl-C at a moment that a test chooses, in place of one that a clock chooses."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["ctrl_c_after"]


@contextlib.contextmanager
def ctrl_c_after(event: threading.Event) -> Iterator[None]:
    """Send Ctrl-C to the main thread once an event has been set.

    The block must not end before by itself. It raises :exc:`KeyboardInterrupt`, wherever it waits by then.
    """
    left = threading.Event()

    def interrupt() -> None:
        event.wait()
        if left.is_set():
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        left.set()
        event.set()
        thread.join()
