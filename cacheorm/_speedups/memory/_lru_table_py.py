"""Values by key in order of use, each with a deadline, pure Python: the Python version of ``_lru_table_c.pyx``.

A method that takes several keys is atomic to other threads and to destructors: in the C version none of their code can
run in the middle of it. Here the caller's lock ensures that.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

__all__ = ["LruTable", "is_exact"]

# How many outdated entries of timers there may be before the timers are rebuilt.
_SLACK = 1024


def is_exact(batch: object) -> bool:
    """Tell whether a batch is a ``dict`` of strings and bytes whose classes do not derive from those."""
    # Two calls of set() check it without a step of Python for each row.
    return type(batch) is dict and set(map(type, batch)) <= {str} and set(map(type, batch.values())) <= {bytes}


class LruTable:
    """Bytes under ``str`` keys, the least recently used first.

    Of a key whose class derives from ``str`` only the text counts. What is no ``str`` is no key of any value. Whatever
    is stored by a method becomes the last.

    Deadlines are what the caller makes of them: infinity by default, which is none.

    Args:
        measured: whether to keep the size of keys and values up to date.
    """

    __slots__ = ("_deadlines", "_measured", "_serial", "_size", "_timed_keys", "_timers", "_values")

    def __init__(self, measured: bool = False) -> None:
        self._measured = measured
        self._size = 0
        # Apart from each other, so that the garbage collector has no object per value to visit.
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._deadlines: dict[str, float] = {}
        # A heap, with an item per write. A value that was written over or removed since leaves its key behind, which
        # is told by its deadline.
        self._timers: list[tuple[float, int, list[str]]] = []
        self._serial = 0
        # Keys in all timers.
        self._timed_keys = 0

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._values])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _text(key) in self._values

    def items(self) -> list[tuple[str, bytes]]:
        """Return keys and values in order of use."""
        return [*self._values.items()]

    def keys_from(self, cursor: Any, count: int) -> tuple[list[str], Any]:
        """Return some keys; keys that stay in the table are there once in the results of all calls.

        Args:
            cursor: what the call before returned; ``None`` for the first call.
            count: the most keys to return, at least 1.

        Returns:
            The keys, and the cursor of the next call; ``None`` instead if there are no more.
        """
        # In the C version it is a place in the table, so that nothing grows with the number of keys.
        left = [*self._values][::-1] if cursor is None else cursor
        keys = [left.pop() for _ in range(min(count, len(left)))]
        return [key for key in keys if key in self._values], left or None

    def get(self, key: object) -> bytes | None:
        """Return the value of a key, which is no use of it."""
        return self._values.get(_text(key)) if isinstance(key, str) else None

    def use(self, key: object) -> bytes | None:
        """Return the value of a key."""
        if not isinstance(key, str):
            return None
        key = _text(key)
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def use_many(self, keys: list[str] | tuple[str, ...]) -> tuple[list[bytes | None], int]:
        """Return the values of keys in their order, ``None`` for each that has none, and how many those are."""
        values = [self.use(key) for key in keys]
        return values, values.count(None)

    def put(self, key: object, value: object, deadline: float | None) -> None:
        """Store a value; with ``None``, one that was there keeps its deadline."""
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise TypeError("a key is a str, and a value bytes")
        self.put_many({_text(key): value}, deadline)

    def put_many(self, batch: Mapping[Any, Any], deadline: float | None) -> None:
        """Store values in their order; see :meth:`put`. Nothing is stored if one of them cannot be."""
        if not all(isinstance(key, str) and isinstance(value, bytes) for key, value in batch.items()):
            raise TypeError("a key is a str, and a value bytes")
        keys = [_text(key) for key in batch]
        if deadline is not None and keys:
            self._time(keys, deadline)
        for key, value in zip(keys, batch.values(), strict=True):
            # In this order, and in the other one when values go, an interruption leaves the size too large: then more
            # is evicted, down to an empty table, which has a size of 0 again.
            self._size += len(key) + len(value) if self._measured else 0
            old = self._values.get(key)
            self._values[key] = bytes(value)
            self._size -= len(key) + len(old) if self._measured and old is not None else 0
            self._values.move_to_end(key)

    def remove(self, key: object) -> bool:
        """Remove a value. Return whether there was one."""
        if key not in self:
            return False
        key = _text(key)  # type: ignore[arg-type]  # only a str is in it
        self._deadlines.pop(key, None)
        value = self._values.pop(key)
        if self._measured:
            self._size -= len(key) + len(value)
        return True

    def remove_first(self) -> None:
        """Remove the least recently used value, if there is any."""
        if self._values:
            key, value = self._values.popitem(last=False)
            self._size -= len(key) + len(value) if self._measured else 0
            self._deadlines.pop(key, None)
        else:
            self._size = 0

    def clear(self) -> None:
        """Remove all values."""
        self._values.clear()
        self._size = 0
        self._deadlines.clear()
        self._forget_outdated()

    @property
    def size(self) -> int:
        """The characters of all keys and the bytes of all values; without ``measured`` they are added up now."""
        if self._measured:
            return self._size
        return sum(map(len, self._values)) + sum(map(len, self._values.values()))

    # -- deadlines -------------------------------------------------------------------------------

    @property
    def timed(self) -> int:
        """How many values have a deadline."""
        return len(self._deadlines)

    @property
    def timers(self) -> int:
        """How many timers are pending; it does not grow with what was written over."""
        return len(self._timers)

    @property
    def next_deadline(self) -> float:
        """No value has an earlier deadline; infinity if none has any."""
        return self._timers[0][0] if self._timers else inf

    def deadline(self, key: object) -> float | None:
        """Return a key's deadline, ``None`` if it has no value."""
        return self._deadlines.get(_text(key), inf) if isinstance(key, str) and key in self else None

    def set_deadlines(self, keys: list[Any] | tuple[Any, ...], deadline: float) -> list[bool]:
        """Set another deadline for values, which is no use of them. Return for each key whether it has a value."""
        if not isinstance(keys, (list, tuple)):
            raise TypeError("keys are a list or a tuple")
        found = [key in self for key in keys]
        texts = [_text(key) for key, present in zip(keys, found, strict=True) if present]
        if texts:
            self._time(texts, deadline)
        return found

    def expire(self, now: float) -> int:
        """Remove the values whose deadlines are not after ``now``. Return how many."""
        count = 0
        while self._timers and self._timers[0][0] <= now:
            deadline, _, keys = self._timers[0]
            for key in keys:
                # Those that were written again since have another one.
                if self._deadlines.get(key) == deadline:
                    count += self.remove(key)
            heapq.heappop(self._timers)
            self._timed_keys -= len(keys)
        return count

    def _time(self, keys: list[str], deadline: float) -> None:
        if deadline == inf:
            for key in keys:
                self._deadlines.pop(key, None)
            return
        if self._timed_keys > 2 * len(self._deadlines) + _SLACK:
            self._forget_outdated()
        # In this order, an interruption (Ctrl-C) between two steps leaves a timer without values, which does no harm,
        # and never a value without a timer. The serial keeps the heap's comparisons from reaching the keys.
        self._serial += 1
        self._timed_keys += len(keys)
        heapq.heappush(self._timers, (deadline, self._serial, keys))
        self._deadlines.update(dict.fromkeys(keys, deadline))

    def _forget_outdated(self) -> None:
        """Forget the timers of values that are gone. Amortised: it takes as many writes to get here again."""
        keys_by_deadline: dict[float, list[str]] = {}
        for key, deadline in self._deadlines.items():
            keys_by_deadline.setdefault(deadline, []).append(key)
        # Sorted is a heap.
        self._timers = [(when, i, keys) for i, (when, keys) in enumerate(sorted(keys_by_deadline.items()))]
        self._serial = len(self._timers)
        self._timed_keys = len(self._deadlines)


def _text(key: str) -> str:
    """Return the text of a key as an exact ``str``, whatever methods its class overrides."""
    return key if type(key) is str else str.__str__(key)
