"""What goes on behind an answer: in a few daemon threads, or as tasks of the running event loop.

A thread ends as soon as nothing is left to do, so that none is left behind. There is no lock, since signal handlers and
finalizers may add work at any point: shared state changes by single operations of a deque and dicts, which are atomic,
and each state in between is valid. A place belongs to a thread by an object that only the thread refers to, so that no
exception that strikes here keeps a place taken.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["in_loop", "in_thread", "is_ending", "is_idle"]

_MOST_THREADS = 4
_MOST_WAITING = 100
"""How many functions wait for a thread at most."""
_MOST_TASKS = 100


class _Holder:
    """Held by the thread that has a place, and by nobody else."""

    __slots__ = ("__weakref__",)


_waiting: deque[Callable[[], object]] = deque()
# The places for threads, and who has taken each.
_places: dict[int, weakref.ref[_Holder]] = {}
_tasks: set[Any] = set()
_ending = False


def is_ending() -> bool:
    """Return whether the interpreter is about to end, after which nothing is logged."""
    return _ending


def is_idle() -> bool:
    """Return whether nothing goes on, and nothing waits to."""
    _drop_closed()
    return not (_waiting or _tasks or _has_thread())


def in_thread(work: Callable[[], object]) -> bool:
    """Call a function in a thread, soon; return ``False`` if that is not possible: there is too much to do."""
    if _ending or len(_waiting) >= _MOST_WAITING:
        return False
    _waiting.append(work)
    _start()
    if _has_thread():
        return True
    # No thread can be started. Unless one has just taken it, and ended:
    with suppress(ValueError):
        _waiting.remove(work)
        return False
    return True


def _start() -> None:
    """Start a thread if there is a place for one."""
    holder = _Holder()
    taken = weakref.ref(holder)
    for place in range(_MOST_THREADS):
        known = _places.get(place)
        if known is not None and known() is None:
            _places.pop(place, None)
        if _places.setdefault(place, taken) is taken:
            try:
                threading.Thread(target=_work, args=(place, holder), name="cacheorm-behind", daemon=True).start()
            except BaseException as error:
                _leave(place, holder)
                if not isinstance(error, RuntimeError):  # too many threads, or the interpreter is ending
                    raise
            return


def _has_thread() -> bool:
    return any(holder() is not None for holder in [*_places.values()])


def _work(place: int, holder: _Holder) -> None:
    """Call functions until there are none."""
    try:
        while not _ending:
            try:
                work = _waiting.popleft()
            except IndexError:
                break
            work()
            del work  # what it refers to is not needed while this thread waits for another one
    finally:
        _leave(place, holder)
    # What was added when this thread seemed to be there still.
    if _waiting and not _ending:
        _start()


def _leave(place: int, holder: _Holder) -> None:
    known = _places.get(place)
    if known is not None and known() is holder:
        _places.pop(place, None)


def in_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run a coroutine as a task of the running event loop; return ``False`` if there is too much to do."""
    import asyncio
    from contextvars import Context

    _drop_closed()
    if _ending or len(_tasks) >= _MOST_TASKS:
        return False
    # In a context of its own: no deadline of the caller bounds it, and no loader of the caller is around it.
    task: Any = asyncio.get_running_loop().create_task(work(), name="cacheorm-behind", context=Context())
    task._log_destroy_pending = False  # where the loop ends without it, nobody has to be told
    _tasks.add(task)  # the loop itself refers to it weakly
    task.add_done_callback(_tasks.discard)
    return True


def _drop_closed() -> None:
    """Forget the tasks of event loops that are closed: these never end."""
    for task in [*_tasks]:
        if task.get_loop().is_closed():
            _tasks.discard(task)


@atexit.register
def _end() -> None:
    """Begin nothing more, and wait for nobody: daemon threads end with the interpreter."""
    global _ending  # noqa: PLW0603 - a state of the process
    _ending = True
    _waiting.clear()


def _forget() -> None:
    """Forget what other threads were to do in a forked child, which does not have them."""
    _waiting.clear()
    _places.clear()
    _tasks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
