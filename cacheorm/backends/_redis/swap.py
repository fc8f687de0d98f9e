"""Comparing and setting a batch in Redis: the script, and how a batch is cut for it.

https://redis.io/docs/latest/develop/programmability/eval-intro/. A run takes any keys of one node: each is compared and
set by itself, so that a batch may be cut anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain

from .exchanges import Command

__all__ = ["Swaps"]

# While a script runs, nobody else is served: so many bytes of values make one run.
_BYTES = 1 << 20

# An entry of another type than text, or a refused write, is an error of its own, and the others go on.
_TEXT = """
local done = {}
for i, key in ipairs(KEYS) do
  local ttl, old, new = ARGV[1], ARGV[2 * i], ARGV[2 * i + 1]
  local reply = redis.pcall('GET', key)
  if reply == old then
    if ttl == '0' then reply = redis.pcall('SET', key, new)
    elseif ttl == '-1' then reply = redis.pcall('SET', key, new, 'KEEPTTL')
    else reply = redis.pcall('SET', key, new, 'EX', ttl) end
    done[i] = reply.err or 1
  else
    done[i] = type(reply) == 'table' and reply.err or 0
  end
end
return done
"""
_DIGEST = hashlib.sha1(_TEXT.encode(), usedforsecurity=False).hexdigest()


class Swaps:
    """A batch of entries to compare and set.

    Args:
        keys: of the entries.
        old: what each has to hold.
        new: what it is set to.
        seconds: its lifetime; 0 never expires, -1 keeps the entry's own.
    """

    def __init__(self, keys: Sequence[str], old: Sequence[bytes], new: Sequence[bytes], seconds: int) -> None:
        self.keys = keys
        self._old = old
        self._new = new
        self._seconds = seconds

    def by_digest(self, group: Sequence[int]) -> Command:
        """Return the command that runs the script on a server that has run it before.

        Others answer ``NOSCRIPT``. The reply has for each key 1 (set), 0 (it holds something else) or why it was
        refused.

        Args:
            group: positions of the entries.
        """
        return self._run(("EVALSHA", _DIGEST), group)

    def by_text(self, group: Sequence[int]) -> Command:
        """Return the command that runs the script on any server, which then knows it."""
        return self._run(("EVAL", _TEXT), group)

    def parts(self, group: Sequence[int]) -> Iterator[list[int]]:
        """Cut positions into runs of at most so many bytes, from the second entry on."""
        whole = sum(sum(map(len, map(values.__getitem__, group))) for values in (self._old, self._new))
        if whole <= _BYTES:  # as nearly always: nothing is done for each entry
            yield [*group]
            return
        part: list[int] = []
        size = 0
        for position in group:
            grown = len(self._old[position]) + len(self._new[position])
            if part and size + grown > _BYTES:
                yield part
                part, size = [], 0
            part.append(position)
            size += grown
        if part:
            yield part

    def _run(self, script: Command, group: Sequence[int]) -> Command:
        keys = map(self.keys.__getitem__, group)
        pairs = zip(map(self._old.__getitem__, group), map(self._new.__getitem__, group), strict=True)
        return (*script, len(group), *keys, self._seconds, *chain.from_iterable(pairs))
