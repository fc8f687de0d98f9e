"""Enumerating the keys of one Redis server with ``SCAN`` (https://redis.io/docs/latest/commands/scan/).

A cursor is a place in a hash table of one process, whose order depends on a number that the process has chosen by
chance. After a restart, the cursors of before are of no use, and the iteration begins again. So it does where a primary
has become the replica of another one, as it drops what it had and loads what that one has.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from ...errors import BackendError
from .._net.scanning import Ends, texts_of
from .exchanges import Command
from .refusals import refuse

__all__ = ["Ask", "begins_with", "scan_server"]

Ask = Callable[[Sequence[Command], float], Awaitable[list[Any]]]
"""Sends commands to one server, and returns their replies; the second argument is when to give up."""

_SPECIAL = re.compile(rb"[*?\[\]\\]")

# How often one iteration begins again.
_MOST_RESTARTS = 5


def begins_with(prefix: str) -> bytes:
    """Return the glob-style pattern of keys that begin with a prefix."""
    return _SPECIAL.sub(rb"\\\g<0>", prefix.encode()) + b"*"


async def scan_server(server: str, ask: Ask, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
    """Yield the keys that match a pattern, in lists, with duplicates and empty lists among them.

    Args:
        server: the name of the server for messages.
        ask: how to ask it.
        pattern: glob-style.
        count: about how many keys the server looks at for each request.
        ends: bounds each request.

    Raises:
        BackendError: the server failed or refused, or was restarted or replaced again and again.
    """
    run = await _run_of(ask, ends)
    for _ in range(_MOST_RESTARTS + 1):
        cursor: Any = b"0"
        while True:
            (reply,) = await ask([("SCAN", cursor, "MATCH", pattern, "COUNT", count)], ends())
            if isinstance(reply, str):
                refuse(server, reply)
            cursor, keys = reply
            yield texts_of(keys)
            if cursor in (b"0", 0):
                break
        last, run = run, await _run_of(ask, ends)
        if run == last:
            return
    times = _MOST_RESTARTS + 1
    raise BackendError(f"{server}: the keys cannot be enumerated, as it was restarted or replaced {times} times")


async def _run_of(ask: Ask, ends: Ends) -> list[str | None]:
    """Return the id of the server's process, and that of the data it has, which another primary gives a replica.

    Either is ``None`` if the server does not tell.
    """
    replies = await ask([("INFO", "server"), ("INFO", "replication")], ends())
    return [_value(reply, name) for reply, name in zip(replies, ("run_id", "master_replid"), strict=True)]


def _value(reply: Any, name: str) -> str | None:
    """Return one of the values that ``INFO`` tells."""
    if isinstance(reply, dict):
        return str(reply.get(name))
    found = re.search(rb"^%b:(\w+)" % name.encode(), reply, re.MULTILINE) if isinstance(reply, bytes) else None
    return None if found is None else found[1].decode()
