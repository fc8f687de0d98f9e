"""A call, with one of its allocations failing, each in its turn: ``python exhausting.py STEP CALL``.

``STEP`` is 1 for each allocation, 3 for every third. It is a process of its own, since what goes wrong may end it. Each
line that it writes says what it is about to do, so that the last one tells what it did not survive.
"""

from __future__ import annotations

import _testcapi
import gc
import json
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any


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
from calls import CALLS, Call, Raised, outcome, payloads  # noqa: E402

# What Python 3.11 says when it has lost an error, here one of a function in Python.
LOST = re.compile("error return without exception set|<function .* returned NULL without setting an exception")

# No call comes to this allocation.
FAR = 1 << 30


class Wrong(Exception):
    """What a call did that it should not."""


def is_exhaustion(error: BaseException | None) -> bool:
    """Return whether an error says that memory is exhausted, or has one behind it that does.

    Python 3.11 clears what was raised, and says that it is gone, where it has no memory for the object of a frame as
    the stack is unwound.
    """
    while error is not None and not isinstance(error, MemoryError):
        if sys.version_info < (3, 12) and isinstance(error, SystemError) and LOST.match(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return error is not None


def fail(run: Callable[[], Any], place: int, traced: bool = False) -> tuple[Any, BaseException | None, bool]:
    """Run with one allocation failing. That all which follow fail too is more than Python itself survives.

    Args:
        run: what to run.
        place: the allocation.
        traced: whether to have the objects of frames made when those begin.

    Returns:
        What the call returned, what it raised, and whether it has come to that allocation.
    """
    result: Any = None
    failure: BaseException | None = None
    came = True
    sys.settrace(getattr if traced else None)  # a function of C that gives None
    _testcapi.set_nomemory(place, place + 1)
    try:
        result = run()
    except BaseException as error:  # noqa: BLE001 - all of them are looked at
        failure = error
    try:
        for _ in range(place + 2 if place < FAR else 0):
            bytearray(1)
    except MemoryError:
        came = False
    _testcapi.remove_mem_hooks()
    sys.settrace(None)
    return result, failure, came


def failed_compiled(error: BaseException) -> bool:
    """Return whether compiled code raised an error: it names its files from the root of the project."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename.startswith("cacheorm/_speedups/")


def must_be_traced(right: list[Any]) -> bool:
    """Return whether a call ends with an error that Python 3.11 may lose on its way; see :func:`is_exhaustion`.

    Compiled code does not survive that. A trace itself may end a generator in its middle: other calls go without.
    """
    return sys.version_info < (3, 12) and isinstance(right[0], Raised)


def attempt(tried: Call, place: int, right: list[Any], kept: list[Any]) -> bool:
    """Run a call with one allocation failing; return whether the call has come to that allocation.

    Args:
        tried: the call.
        place: the allocation.
        right: what the call gives with memory enough, and when it is repeated.
        kept: the payloads of all rows before the call and after it.

    Raises:
        Wrong: it gave neither that nor an error that says why, or left the state of things wrong.
    """
    before = [sys.getrefcount(one) for one in tried.inputs]
    result, failure, came = fail(tried.run, place, must_be_traced(right))
    exhausted = is_exhaustion(failure)
    if failure is None:
        fine = tried.show(result) == right[0]
    else:  # the interpreter raises errors without their texts when it cannot make those
        fine = exhausted or (isinstance(right[0], Raised) and type(failure).__name__ == right[0].kind)
    if not fine:
        raise Wrong(f"gave {result!r:.300}") from failure
    # The interpreter itself leaks here and there, where a list grows or a generator is made.
    strict = failure is None or failed_compiled(failure)
    where = "" if failure is None else "".join(traceback.format_exception(failure))
    del result, failure
    after = [sys.getrefcount(one) for one in tried.inputs]
    if after != before:
        gc.collect()
        after = [sys.getrefcount(one) for one in tried.inputs]
    for one, had, has in zip(tried.inputs, before, after, strict=True):
        more = has - had
        if more < 0 or (strict and more):
            raise Wrong(f"{more:+} references to an input, {type(one).__name__} {one!r:.60}\n{where}")
    if not gc.isenabled():
        raise Wrong("left the collection off")
    for found, *whole in zip(payloads(), *kept, strict=True):
        if found not in whole:
            raise Wrong(f"left the payload {found!r:.300}\n{where}")
    if exhausted and (found := outcome(tried)) not in right:
        raise Wrong(f"was repeated and gave {found!r:.300}\n{where}")
    return came


def sweep(make: Callable[[], Call], step: int) -> Iterator[int]:
    """Fail one allocation of a call after another; give the one that is about to fail."""
    tried = make()
    kept = [payloads()]
    right = [outcome(tried)]
    kept.append(payloads())
    right.append(outcome(tried))
    if must_be_traced(right):
        fail(make().run, FAR, True)  # what a trace makes of each function once is made now
    place = 0
    yield place
    while attempt(make(), place, right, kept):
        place += step
        yield place


def main(step: str, name: str) -> None:
    gc.freeze()
    gc.set_threshold(0)  # on, as far as anyone can tell
    for place in sweep(CALLS[name], int(step)):
        sys.stdout.write(f"allocation {place} fails\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
