"""The loaders of a model: its functions that load missing rows, and which calls of them may run, and when."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from .errors import did_you_mean
from .options import Options
from .types import must_be_awaited

if TYPE_CHECKING:
    from .models import Model

__all__ = ["LoadLimit", "Loader", "Loaders", "OnlyAwaitedError", "Paused", "Uncommitted"]

Rows = Mapping[Any, Any] | Iterable[Any]

Loader = Callable[[list[Any]], Rows | Awaitable[Rows] | AsyncIterator[Any]]
"""Returns rows for a list of primary keys: by primary key, or in any order. An awaited operation also awaits it."""


class Uncommitted(list[Any]):
    """The rows of a loader that has read them in a transaction of its caller, which others must not see.

    They are returned to the caller alone: neither stored nor shared with others that wait for these rows.
    """


class OnlyAwaitedError(TypeError):
    """A called operation needs a function that can only be awaited."""


class Loaders:
    """The functions that load the missing rows of an operation, called or awaited.

    Args:
        called: what a called operation calls; an awaited one does so in a thread, unless there is ``awaited``.
        awaited: what an awaited operation calls in its event loop, and awaits where it has to.
        model: the model, if these are the loaders of its Meta. Then each may be the name of a method of the model.
    """

    __slots__ = ("_awaited", "_called", "_model")

    def __init__(
        self, called: Callable[..., Any] | str | None, awaited: Callable[..., Any] | str | None, model: Any = None
    ) -> None:
        self._called = called
        self._awaited = awaited
        self._model = model

    @classmethod
    def given(cls, loader: Any, argument: str = "a list of primary keys") -> Loaders:
        """Return the loader of one operation, which calls it in its own thread or event loop.

        Raises:
            TypeError: it is no function.
        """
        if not callable(loader):
            raise TypeError(f"the loader must be a function of {argument}, got {type(loader).__name__}")
        return cls(loader, loader)

    @classmethod
    def of_model(cls, model: type[Model], options: Options) -> Loaders | None:
        """Return the loaders of a model, ``None`` if it has none.

        Raises:
            TypeError: a name that is no class method or static method of the model.
        """
        if options.loader is None and options.aloader is None:
            return None
        for option in ("loader", "aloader"):
            _check_name(model, option, getattr(options, option))
        return cls(options.loader, options.aloader, model)

    def behind(self) -> Loaders:
        """Return the loaders for behind an answer, where a plain function of one operation is called in a thread."""
        return self if self._model is not None else type(self)(self._called, None)

    def to_call(self) -> Callable[..., Any]:
        """Return the function for a called operation.

        Raises:
            OnlyAwaitedError: there are only coroutine functions.
        """
        called = self._function(self._called)
        if called is None or (self._model is not None and must_be_awaited(called)):
            name = self._model.__name__
            raise OnlyAwaitedError(
                f"{name}: the rows that are not in the cache can only be loaded by an awaited read, since Meta has no"
                f" loader that is a plain function: use the methods whose names begin with 'a' (aget, aexecute,"
                " co.apreload, a foreign key's aget), or .cached_only()"
            )
        return called

    def to_await(self) -> tuple[Callable[..., Any], bool]:
        """Return the function for an awaited operation, and whether it has to be called in a thread."""
        awaited = self._function(self._awaited)
        if awaited is not None:
            return awaited, False
        called: Any = self._function(self._called)
        return called, not must_be_awaited(called)

    @property
    def only_awaited(self) -> bool:
        """Whether a called operation cannot call any of them."""
        called = self._function(self._called)
        return called is None or must_be_awaited(called)

    @property
    def in_loop(self) -> bool:
        """Whether the event loop of an awaited operation calls them behind an answer, and not a thread."""
        if self._model is None:
            return True  # of one operation: what a plain function gives may have to be awaited, too
        return self.only_awaited or (self._awaited is not None and self._awaited is not self._called)

    def _function(self, given: Callable[..., Any] | str | None) -> Callable[..., Any] | None:
        # Looked up at each load, as any method is that a subclass or a test may replace.
        found: Callable[..., Any] | None = getattr(self._model, given) if isinstance(given, str) else given
        return found


def _check_name(model: type[Model], option: str, given: object) -> None:
    """Raise :exc:`TypeError` for the name of something that cannot be called on the model itself."""
    if not isinstance(given, str):
        return
    where = f"{model.__name__}.Meta.{option}"
    found = next((vars(cls)[given] for cls in model.__mro__ if given in vars(cls)), None)
    if found is None:
        raise TypeError(f"{where}: {model.__name__} has no method {given!r}{did_you_mean(given, dir(model))}")
    if type(found) is FunctionType or not callable(getattr(model, given)):
        what = "a method of instances" if type(found) is FunctionType else type(found).__name__
        raise TypeError(f"{where}: {given!r} is {what}; declare it as a @classmethod or a @staticmethod")


class _Turn(Protocol):
    """A place in the queue of a :class:`LoadLimit`."""

    @property
    def is_left(self) -> bool:
        """Whether it needs no place any more."""

    def wake(self) -> None:
        """Let its caller look again whether it may go on."""


class LoadLimit:
    """A queue of the loader calls of a model, of which the first ``calls`` run.

    No lock is held, so that signal handlers and finalizers may load, and be interrupted, at any point: the queue
    changes by single operations of a dict, which are atomic, and each state in between is valid.

    Args:
        calls: how many calls may run at a time in this process.
    """

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self._queue: dict[Any, None] = {}
        self._process = os.getpid()

    def join(self, turn: _Turn) -> None:
        """Add a turn at the end of the queue."""
        if self._process != os.getpid():
            # The calls of the threads that a forked child does not have.
            self._queue, self._process = {}, os.getpid()
        self._queue[turn] = None

    def leave(self, turn: _Turn) -> None:
        """Remove a turn, and wake those that may go on by that."""
        self._queue.pop(turn, None)
        for first in self.running():
            first.wake()

    def may_go_on(self, turn: _Turn) -> bool:
        """Return whether a turn is among the first of the queue."""
        return turn in self.running()

    @property
    def is_full(self) -> bool:
        """Whether no turn that joins now may go on."""
        return len(self.running()) >= self.calls

    def ahead_of(self, turn: _Turn) -> list[Any]:
        """Return the turns before one that is in the queue."""
        turns = [*self._queue]
        return turns[: turns.index(turn)] if turn in turns else []

    def running(self) -> list[Any]:
        """Return the turns that may go on."""
        while True:
            try:
                turns = [*islice(self._queue, self.calls)]
            except RuntimeError:  # another thread has changed it meanwhile
                continue
            left = [turn for turn in turns if turn.is_left]
            if not left:
                return turns
            for turn in left:
                self._queue.pop(turn, None)


# How many keys are paused at most: then those are forgotten whose time is over, and if that does not help, all.
_MOST_PAUSED = 100_000


class Paused:
    """The keys of a model whose rows this process does not load anew for a while: it does so already, or has failed."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._failed_until: dict[str, float] = {}

    def hold(self, keys: Iterable[str], seconds: float, failed: bool = False) -> None:
        """Add keys, for some seconds; ``failed`` says that their rows could not be loaded."""
        until = dict.fromkeys(keys, time.monotonic() + seconds)
        self._until = _lasting(self._until)
        self._until.update(until)
        if failed:
            self._failed_until = _lasting(self._failed_until)
            self._failed_until.update(until)

    def release(self, keys: Iterable[str]) -> None:
        """Remove keys."""
        for key in keys:
            self._until.pop(key, None)
            self._failed_until.pop(key, None)

    def others(self, keys: list[str], places: list[int]) -> list[int]:
        """Return those of some places whose keys are not among them."""
        until = self._until
        if not until:
            return places
        now = time.monotonic()
        return [place for place in places if until.get(keys[place], 0.0) <= now]

    def has_failed(self, key: str) -> bool:
        """Return whether the row of a key could not be loaded lately."""
        return self._failed_until.get(key, 0.0) > time.monotonic()


def _lasting(until: dict[str, float]) -> dict[str, float]:
    """Return ``until`` itself, or what is left of it when there is too much."""
    if len(until) < _MOST_PAUSED:
        return until
    now = time.monotonic()
    left = {key: end for key, end in [*until.items()] if end > now}
    return left if len(left) < _MOST_PAUSED else {}
