"""Running operations concurrently: requests that can share a round trip are merged into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from ..errors import BackendError, PayloadError, WriteError
from ..requests import Call, Fetch, Request, SendSignal, Sleep, Steps, WaitFor
from ..types import Outcome

__all__ = ["OperationResult", "run_merged"]


class OperationResult:
    """The outcome of one operation.

    Attributes:
        result: what it returned, if it came to its end.
        error: the error of its backend, if that ended it.
        replies: for each of its requests that write or remove keys, these keys and the reply.
        unsure: the keys that it may have written or removed, because the reply was lost.
    """

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BackendError | WriteError | None = None
        self.replies: list[tuple[Iterable[str], Any]] = []
        self.unsure: set[str] = set()

    def written(self) -> set[str]:
        """Return the keys that it is known to have written or removed."""
        found: set[str] = set()
        for keys, reply in self.replies:
            found.update([key for key in keys if reply[key]] if isinstance(reply, Outcome) else keys)
        return found


def run_merged(
    operations: Sequence[Steps[Any]], positions: Sequence[Sequence[int]] | None = None, reads: bool = False
) -> Steps[list[OperationResult]]:
    """Run operations concurrently.

    In each round, the requests of all operations are gathered before the first is sent, so that an operation that
    refuses its rows (with any error but those of backends) stops all of them. An error of a backend ends only the
    operations that asked for what failed. Signals are sent before that, for the rows of all operations in their order.
    After rows that cannot be read, the others are read, so that the error lists all such rows, and nothing is written.

    Operations that only read may load rows. One whose loader fails ends alone: the others have leases to replace. And
    none waits for others as long as another one can go on, since others may wait for that.

    Args:
        operations: running operations, as :meth:`Operation.steps` returns them.
        positions: the position of each row of each operation among the rows of all; only signals need them.
        reads: whether the operations only read.

    Raises:
        PayloadError: rows of any of the operations that cannot be read.
        Exception: what a loader of one of them has raised.
    """
    results = [OperationResult() for _ in operations]
    unreadable: list[PayloadError] = []
    failed: list[Exception] = []
    waiting: dict[int, Request] = {}
    begun = False

    def advance(number: int, resume: Callable[[], Request]) -> None:
        try:
            waiting[number] = resume()
        except StopIteration as stop:
            results[number].result = stop.value
        except (BackendError, WriteError) as error:
            results[number].error = error
        except PayloadError as error:
            unreadable.append(error)
        except Exception as error:
            if not (reads and begun):
                raise
            failed.append(error)

    try:
        for number, operation in enumerate(operations):
            advance(number, operation.__next__)
        begun = True
        while waiting and (reads or not unreadable or all(map(_reads, waiting.values()))):
            sending = [number for number, request in waiting.items() if isinstance(request, SendSignal)]
            if sending and positions is not None:
                yield from _send([(waiting.pop(number), positions[number]) for number in sending])
                for number in sending:
                    advance(number, _sender(operations[number], None))
                continue
            requests = _possible(waiting)
            for number in requests:
                del waiting[number]
            resumptions: dict[int, Callable[[], Request]] = {}
            for merged in _merge(requests):
                try:
                    reply = yield merged.request
                except Exception as error:  # noqa: BLE001 - not handled here, but handed to the operations
                    resumptions |= {number: _thrower(operations[number], error) for number in merged.numbers}
                    if getattr(error, "maybe_applied", False):
                        for number in merged.numbers:
                            results[number].unsure.update(_changed_keys(requests[number]))
                    continue
                for number, own in zip(merged.numbers, merged.split(reply), strict=True):
                    results[number].replies.append((_changed_keys(requests[number]), own))
                    resumptions[number] = _sender(operations[number], own)
            for number in requests:
                advance(number, resumptions[number])
    except BaseException as error:
        if reads and not isinstance(error, (Exception, GeneratorExit)):
            for operation in operations:
                yield from _interrupted(operation, error)
        raise
    finally:
        for operation in operations:
            operation.close()
    if unreadable:
        raise PayloadError.listing(unreadable[0], [row for error in unreadable for row in error.failed])
    if failed:
        raise failed[0]
    return results


def _possible(waiting: dict[int, Request]) -> dict[int, Request]:
    """Return the requests to carry out next: all that do not wait, else one, if possible one that waits for a time."""
    found = {number: waiting[number] for number in waiting if not isinstance(waiting[number], (Sleep, WaitFor))}
    if found or not waiting:
        return found
    number = min(waiting, key=lambda each: isinstance(waiting[each], WaitFor))
    return {number: waiting[number]}


def _interrupted(operation: Steps[Any], interruption: BaseException) -> Steps[None]:
    """Let an operation that is interrupted release what it has, such as leases."""
    with suppress(BaseException):  # it ends with the interruption, which the caller raises
        request = operation.throw(interruption)
        while True:
            try:
                reply = yield request
            except Exception as error:  # noqa: BLE001 - not handled here, but handed to the operation
                request = operation.throw(error)
            else:
                request = operation.send(reply)


def _send(signals: Sequence[tuple[Any, Sequence[int]]]) -> Steps[None]:
    """Send the signals of several operations in the order of their rows.

    Args:
        signals: requests, each with the position of every row of its operation among the rows of all.
    """
    rows = [(positions[index], request, (index, row)) for request, positions in signals for index, row in request.rows]
    rows.sort(key=itemgetter(0))
    for _, consecutive in groupby(rows, key=lambda entry: id(entry[1])):
        entries = list(consecutive)
        yield entries[0][1]._replace(rows=[row for _, _, row in entries])


# The methods that take one mapping of what to write, and the lifetime.
_WRITES = ("set_many", "add_many", "replace_many", "compare_and_set_many")


def _reads(request: Request) -> bool:
    return isinstance(request, Fetch) or (isinstance(request, Call) and request.method == "get_many_cas")


# The methods that take keys.
_OF_KEYS = ("delete_many", "get_many_cas")


def _changed_keys(request: Request) -> Iterable[str]:
    """Return the keys that a request writes or removes."""
    if isinstance(request, Call) and request.method in _WRITES:
        return request.args[0]  # type: ignore[no-any-return]
    return request.args if isinstance(request, Call) and request.method == "delete_many" else ()


def _sender(operation: Steps[Any], reply: Any) -> Callable[[], Request]:
    return lambda: operation.send(reply)


def _thrower(operation: Steps[Any], error: Exception) -> Callable[[], Request]:
    return lambda: operation.throw(error)


class _Merged(NamedTuple):
    """One request in place of those of several operations.

    Attributes:
        request: the request.
        numbers: the numbers of the operations.
        split: splits the reply into one for each of them.
    """

    request: Request
    numbers: list[int]
    split: Callable[[Any], list[Any]]


def _merge(requests: dict[int, Request]) -> Iterator[_Merged]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, request in requests.items():
        group: tuple[Any, ...] = (number,)
        if isinstance(request, Fetch):
            group = ("fetch", id(request.backend))
        elif isinstance(request, Call) and request.method in _WRITES:
            batch, ttl = request.args
            group = (request.method, id(request.backend), ttl)
            # Of two writes of one key, the later must stay the later.
            if not all(batch.keys().isdisjoint(_args(requests[other])[0]) for other in groups.get(group, ())):
                group = (number,)
        elif isinstance(request, Call) and request.method in _OF_KEYS:
            group = (request.method, id(request.backend))
        groups.setdefault(group, []).append(number)
    for numbers in groups.values():
        request, split = _merge_group([requests[number] for number in numbers])
        yield _Merged(request, numbers, split)


def _merge_group(requests: list[Any]) -> tuple[Request, Callable[[Any], list[Any]]]:
    first = requests[0]
    if len(requests) == 1:
        return first, lambda reply: [reply]
    if isinstance(first, Fetch):
        keys = [*chain.from_iterable(request.keys for request in requests)]
        ends = [*accumulate(len(request.keys) for request in requests)]
        return Fetch(first.backend, keys, _MergedDecoder(requests, ends)), lambda rows: _split(rows, ends)
    if first.method in _WRITES:
        batches = [_args(request)[0] for request in requests]
        merged = dict(batches[0])
        for batch in batches[1:]:
            merged.update(batch)
        request = Call(first.backend, first.method, (merged, first.args[1]))
        return request, lambda outcome: [_outcome_of(outcome, batch, len(merged)) for batch in batches]
    args = (*chain.from_iterable(map(_args, requests)),)
    ends = [*accumulate(len(_args(request)) for request in requests)]
    # A method of keys returns a list of values, or one value for all of them.
    return Call(
        first.backend, first.method, args
    ), lambda reply: _split(reply, ends) if isinstance(reply, list) else [reply] * len(ends)


def _args(request: Any) -> tuple[Any, ...]:
    args: tuple[Any, ...] = request.args
    return args


def _split(values: list[Any], ends: list[int]) -> list[list[Any]]:
    """Split a list at ``ends``. Surplus values go to the last operation, which refuses them."""
    starts = [0, *ends[:-1]]
    return [values[start:end] for start, end in zip(starts, [*ends[:-1], len(values)], strict=True)]


class _MergedDecoder:
    """Decodes the values of merged fetches, each section with the decoder of its own fetch.

    Args:
        fetches: the fetches.
        ends: the position at which the keys of each fetch end among the keys of all.
    """

    def __init__(self, fetches: list[Fetch], ends: list[int]) -> None:
        self._sections = [*zip([fetch.decode for fetch in fetches], [0, *ends[:-1]], ends, strict=True)]

    def __call__(self, values: list[bytes | None], start: int) -> list[Any]:
        decoded: list[Any] = []
        for decode, first, end in self._sections:
            low, high = max(first, start), min(end, start + len(values))
            if low < high:
                decoded += decode(values[low - start : high - start], low - first)
        return decoded


def _outcome_of(outcome: Any, batch: Any, count: int) -> Outcome:
    """Return the outcome of one of several merged writes.

    Args:
        outcome: the outcome of the merged write.
        batch: the entries of the one write.
        count: the number of keys of the merged write.
    """
    if len(outcome) == count and all(outcome.values()):
        return Outcome(dict.fromkeys(batch, True))
    reasons = getattr(outcome, "reasons", {})
    stored = {key: outcome.get(key, False) for key in batch}
    part = Outcome(stored, {key: reasons[key] for key in batch if key in reasons})
    part.unsure.update(key for key in getattr(outcome, "unsure", ()) if key in part)
    return part
