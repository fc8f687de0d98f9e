"""Comparing and setting a batch in Redis: the script, and how a batch is cut for it.

https://redis.io/docs/latest/develop/programmability/eval-intro/. A run takes any keys of one node: each is compared and
set by itself, so that a batch may be cut anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

__all__ = ["by_digest", "by_text", "parts"]

# While a script runs, nobody else is served: so many entries, and bytes of values, make one run.
_ENTRIES = 1000
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


def by_digest(keys: Sequence[str], old: Sequence[bytes], new: Sequence[bytes], seconds: int) -> tuple[Any, ...]:
    """Give the command that runs the script on a server that has run it before; others answer ``NOSCRIPT``.

    Args:
        keys: of the entries.
        old: what each has to hold.
        new: what it is set to.
        seconds: its lifetime; 0 never expires, -1 keeps the entry's own.

    The reply has for each key 1 (set), 0 (it holds something else) or why it was refused.
    """
    return ("EVALSHA", _DIGEST, *_rest(keys, old, new, seconds))


def by_text(keys: Sequence[str], old: Sequence[bytes], new: Sequence[bytes], seconds: int) -> tuple[Any, ...]:
    """Give the command that runs the script on any server, which then knows it."""
    return ("EVAL", _TEXT, *_rest(keys, old, new, seconds))


def parts(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[slice]:
    """Cut a batch into runs of at most so many entries and, from the second entry on, bytes."""
    start = size = 0
    for position in range(len(old)):
        grown = size + len(old[position]) + len(new[position])
        if position - start == _ENTRIES or (position > start and grown > _BYTES):
            yield slice(start, position)
            start, grown = position, grown - size
        size = grown
    if old:
        yield slice(start, len(old))


def _rest(keys: Sequence[str], old: Sequence[bytes], new: Sequence[bytes], seconds: int) -> tuple[Any, ...]:
    return (len(keys), *keys, seconds, *chain.from_iterable(zip(old, new, strict=True)))
