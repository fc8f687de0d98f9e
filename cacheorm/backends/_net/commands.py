"""The operations of a backend over a network as coroutines; the connections decide whether they suspend."""

from __future__ import annotations

from typing import Any

__all__ = ["COMMANDS", "Commands"]

COMMANDS = (
    *("get", "has", "set", "replace", "add", "delete", "incr", "touch", "ttl"),
    *("get_many", "set_many", "replace_many", "add_many", "delete_many", "touch_many"),
    *("get_many_cas", "compare_and_set_many", "clear", "ping", "stats", "close"),
)
"""The names of the coroutine functions; :class:`~cacheorm.backends.base.BaseBackend` declares each."""

Commands = Any
"""Has a coroutine function for each of :data:`COMMANDS`, ``pools()`` as a backend has it, and ``get_chunks(keys)``
and ``scan_chunks(prefix, batch_size)``, which return :class:`~.sync_bridge.Chunks`.
"""
