"""One call after another with memory exhausted at each of its allocations: ``python exhausting.py FULL CALL...``.

A process of its own, since what goes wrong may end it. Each line that it writes says what it is about to do, so that the
last one tells what it did not survive.
"""

from __future__ import annotations

import gc
import json
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import _testcapi


class PlainJson:
    """The standard library's JSON in place of msgspec, which does not survive this: 0.22 reads and writes at NULL."""

    class Encoder:
        def encode(self, value: Any) -> bytes:
            return json.dumps(value, separators=(",", ":")).encode()

    class Decoder:
        def decode(self, data: bytes) -> Any:
            return json.loads(data)


sys.modules["msgspec"] = sys.modules["msgspec.json"] = types.ModuleType("msgspec")
vars(sys.modules["msgspec"]).update(json=PlainJson, **vars(PlainJson))

import bare_calls  # noqa: F401, E402 - adds its own to the calls
from calls import CALLS, Call, outcome  # noqa: E402


# No call comes to this allocation.
NEVER = 1 << 30


class Wrong(Exception):
    """What a call did that it should not."""


def is_exhaustion(error: BaseException | None) -> bool:
    """Return whether an error is a MemoryError, or has one behind it.

    Where compiled code catches an error and there is no memory for its traceback, a MemoryError takes its place.
    """
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def fail(run: Callable[[], Any], place: int) -> tuple[Any, BaseException | None, bool]:
    """Run with one allocation failing. That all which follow fail too is more than Python itself survives.

    Returns:
        What the call returned, what it raised, and whether it has come to that allocation.
    """
    result: Any = None
    failure: BaseException | None = None
    came = True
    # A trace makes the object of most frames when they begin, so that few are made as the stack is unwound: see
    # is_right(). Compiled code that called such a frame could not go on. This function of C gives None.
    sys.settrace(getattr)
    _testcapi.set_nomemory(place, place + 1)
    try:
        result = run()
    except BaseException as error:  # noqa: BLE001 - all of them are looked at
        failure = error
    try:
        for _ in range(0 if place == NEVER else place + 2):
            object()
    except MemoryError:
        came = False
    _testcapi.remove_mem_hooks()
    sys.settrace(None)
    return result, failure, came


def failed_compiled(error: BaseException) -> bool:
    """Return whether compiled code raised an error: it names its files from the root of the project."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename.startswith("cacheorm/_speedups/")


def is_right(tried: Call, result: Any, failure: BaseException | None, right: Any) -> bool:
    """Return whether a call gave what it gives with memory enough, as far as the interpreter lets it.

    That raises errors without their texts when it cannot make those. Python 3.11 clears what was raised, and says that
    it is gone, when it has no memory for the object of a frame as the stack is unwound (``take_ownership`` in frame.c).
    """
    if failure is None:
        return bool(tried.show(result) == right)
    if isinstance(failure, SystemError):
        return str(failure) == "error return without exception set"
    return isinstance(right, tuple) and type(failure).__name__ == right[0]


def attempt(tried: Call, place: int, right: list[Any]) -> bool:
    """Run a call with memory exhausted; return whether the call has come to that allocation.

    Raises:
        Wrong: it did neither that nor raise what says why, or left the state of things wrong.
    """
    before = [sys.getrefcount(one) for one in tried.inputs]
    result, failure, came = fail(tried.run, place)
    exhausted = is_exhaustion(failure)
    if not exhausted and not is_right(tried, result, failure, right[0]):
        raise Wrong(f"gave {result!r:.300}") from failure
        del found
    # The interpreter itself leaks here and there, where a list grows or a generator is made.
    strict = failure is None or failed_compiled(failure)
    where = "" if failure is None else "".join(traceback.format_exception(failure))
    del result, failure
    after = [sys.getrefcount(one) for one in tried.inputs]
    if before != after:
        gc.collect()
        after = [sys.getrefcount(one) for one in tried.inputs]
    for one, had, has in zip(tried.inputs, before, after, strict=True):
        if has < had or (strict and has > had):
            raise Wrong(f"{has - had:+} references to an input, {type(one).__name__} {one!r:.60}\n{where}")
    if exhausted and (found := outcome(tried)) not in right:
        raise Wrong(f"the next call gave {found!r}")
    return came


def sweep(make: Callable[[], Call], full: bool) -> Iterator[int]:
    """Fail each allocation of a call; give the one that is about to fail."""
    tried = make()
    right = [outcome(tried), outcome(tried)]
    # What the trace makes of each function once is made now: the interpreter does not survive it otherwise.
    fail(make().run, NEVER)
    place = 0
    yield place
    while attempt(make(), place, right):
        # Neighbours often are of one kind; the others have their turn in a long run.
        place += 1 if full else 3
        yield place


def main(full: bool, names: list[str]) -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
    wrong = 0
    for name in names:
        try:
            for place in sweep(CALLS[name], full):
                print(f"{name}: allocation {place} fails", flush=True)
        except Wrong as error:
            wrong += 1
            print(f"wrong: {error}", flush=True)
            if error.__cause__ is not None:
                traceback.print_exception(error.__cause__, file=sys.stdout)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1] == "full", sys.argv[2:] or [*CALLS])
