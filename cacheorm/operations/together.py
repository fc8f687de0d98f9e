"""Several operations side by side: requests that can share a round trip do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

from ..errors import BackendError, WriteError
from ..store import Call, Fetch, Request, Tell
from ..types import Outcome
from .base import Steps

__all__ = ["End", "together"]


class End:
    """How an operation came out.

    Attributes:
        result: what it gave, if it came to its end.
        error: the error of its backend, if that ended it.
        replies: what it was answered to each request that writes or removes keys, after these keys.
        unsure: the keys that it may have written or removed: the answer was lost on its way.
    """

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BackendError | WriteError | None = None
        self.replies: list[tuple[Iterable[str], Any]] = []
        self.unsure: set[str] = set()

    def written(self) -> set[str]:
        """Give the keys that it is known to have written or removed."""
        found: set[str] = set()
        for keys, reply in self.replies:
            found.update([key for key in keys if reply[key]] if isinstance(reply, Outcome) else keys)
        return found


def together(parts: Sequence[Steps[Any]], places: Sequence[Sequence[int]]) -> Steps[list[End]]:
    """Run operations side by side.

    In each round, the requests of all of them are gathered before the first is sent, so that an operation that refuses
    its rows (with any error but those of backends) stops all of them. An error of a backend ends only those that asked
    for what failed. Receivers of signals are called before that, for the rows of all operations in their order.

    Args:
        parts: operations under way, as :meth:`Operation.steps` gives them.
        places: where the rows of each lie among those of all.
    """
    ends = [End() for _ in parts]
    waiting: dict[int, Request] = {}

    def advance(place: int, resume: Callable[[], Request]) -> None:
        try:
            waiting[place] = resume()
        except StopIteration as stop:
            ends[place].result = stop.value
        except (BackendError, WriteError) as error:
            ends[place].error = error

    try:
        for place, part in enumerate(parts):
            advance(place, part.__next__)
        while waiting:
            telling = [place for place, request in waiting.items() if isinstance(request, Tell)]
            if telling:
                yield from _tell([(waiting.pop(place), places[place]) for place in telling])
                for place in telling:
                    advance(place, _sender(parts[place], None))
                continue
            requests, waiting = waiting, {}
            answers: dict[int, Callable[[], Request]] = {}
            for shared in _shared(requests):
                try:
                    reply = yield shared.request
                except Exception as error:  # noqa: BLE001 - not handled here, but handed to those who asked
                    answers |= {place: _thrower(parts[place], error) for place in shared.places}
                    if getattr(error, "maybe_applied", False):
                        for place in shared.places:
                            ends[place].unsure.update(_changed(requests[place]))
                    continue
                for place, own in zip(shared.places, shared.split(reply), strict=True):
                    ends[place].replies.append((_changed(requests[place]), own))
                    answers[place] = _sender(parts[place], own)
            for place in requests:
                advance(place, answers[place])
    finally:
        for part in parts:
            part.close()
    return ends


def _tell(tells: Sequence[tuple[Any, Sequence[int]]]) -> Steps[None]:
    """Send the signals of several operations, given with the places of the rows of each, in the order of the rows."""
    rows = [(places[place], tell, (place, row)) for tell, places in tells for place, row in tell.rows]
    rows.sort(key=itemgetter(0))
    for _, of_one in groupby(rows, key=lambda entry: id(entry[1])):
        entries = list(of_one)
        yield entries[0][1]._replace(rows=[row for _, _, row in entries])


def _changed(request: Request) -> Iterable[str]:
    """Give the keys that a request writes or removes."""
    if isinstance(request, Call) and request.method in _WRITES:
        return request.args[0]  # type: ignore[no-any-return]
    return request.args if isinstance(request, Call) and request.method == "delete_many" else ()


def _sender(part: Steps[Any], reply: Any) -> Callable[[], Request]:
    return lambda: part.send(reply)


def _thrower(part: Steps[Any], error: Exception) -> Callable[[], Request]:
    return lambda: part.throw(error)


class _Shared(NamedTuple):
    """One request in place of those of several operations, and what takes its reply apart for them."""

    request: Request
    places: list[int]
    split: Callable[[Any], list[Any]]


# What they write is one mapping, followed by the lifetime.
_WRITES = ("set_many", "add_many", "replace_many", "compare_and_set_many")

# What they are given are keys.
_OF_KEYS = ("delete_many", "get_many_cas")


def _shared(requests: dict[int, Request]) -> Iterator[_Shared]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, request in requests.items():
        group: tuple[Any, ...] = (place,)
        if isinstance(request, Fetch):
            group = ("fetch", id(request.backend))
        elif isinstance(request, Call) and request.method in _WRITES:
            batch, ttl = request.args
            group = (request.method, id(request.backend), ttl)
            # Of two writes of one key, the later must stay the later.
            if not all(batch.keys().isdisjoint(_args(requests[other])[0]) for other in groups.get(group, ())):
                group = (place,)
        elif isinstance(request, Call) and request.method in _OF_KEYS:
            group = (request.method, id(request.backend))
        groups.setdefault(group, []).append(place)
    for places in groups.values():
        yield _share(places, [requests[place] for place in places])


def _share(places: list[int], requests: list[Request]) -> _Shared:
    first = requests[0]
    if isinstance(first, Fetch):
        return _share_fetch(places, requests)
    if isinstance(first, Call) and first.method in _WRITES:
        batches = [_args(request)[0] for request in requests]
        merged = dict(batches[0]) if len(batches) > 1 else batches[0]
        for batch in batches[1:]:
            merged.update(batch)
        request = Call(first.backend, first.method, (merged, first.args[1]))
        return _Shared(request, places, lambda outcome: [_part(outcome, batch, len(merged)) for batch in batches])
    if isinstance(first, Call) and first.method in _OF_KEYS:
        keys = tuple(key for request in requests for key in _args(request))
        counts = [len(_args(request)) for request in requests]
        return _Shared(Call(first.backend, first.method, keys), places, lambda reply: _parts(reply, counts))
    return _Shared(first, places, lambda reply: [reply])


def _parts(reply: Any, counts: Sequence[int]) -> list[Any]:
    """Take apart what a call on keys gave: a list of values, or one for all of them."""
    if not isinstance(reply, list):
        return [reply] * len(counts)
    values = iter(reply)
    found = [list(islice(values, count)) for count in counts]
    found[-1] += values  # too many are noticed by who gets them
    return found


def _args(request: Any) -> tuple[Any, ...]:
    args: tuple[Any, ...] = request.args
    return args


def _part(outcome: Any, batch: Any, count: int) -> Outcome:
    if len(outcome) == count and all(outcome.values()):
        return Outcome(dict.fromkeys(batch, True))
    reasons = getattr(outcome, "reasons", {})
    stored = {key: outcome.get(key, False) for key in batch}
    part = Outcome(stored, {key: reasons[key] for key in batch if key in reasons})
    part.unsure.update(key for key in getattr(outcome, "unsure", ()) if key in part)
    return part


def _share_fetch(places: list[int], requests: list[Any]) -> _Shared:
    starts = [0]
    for request in requests:
        starts.append(starts[-1] + len(request.keys))

    def receive(position: int, values: list[bytes | None]) -> None:
        end = position + len(values)
        for request, start, stop in zip(requests, starts[:-1], starts[1:], strict=True):
            low, high = max(position, start), min(end, stop)
            if low < high:
                request.receive(low - start, values[low - position : high - position])

    keys = [key for request in requests for key in request.keys]
    return _Shared(Fetch(requests[0].backend, keys, receive), places, lambda reply: [reply] * len(places))
