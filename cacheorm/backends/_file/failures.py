"""``on_failure="miss"`` for a backend whose methods block: the same as over connections, without any.

Its methods become commands that never suspend. While writes fail (a full disk, a lock that others keep, a folder that
must not be written), they are left alone for ``retry_after`` seconds, so that reads do not wait for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ...deadlines import deadline
from ...errors import BackendError
from .._net.commands import COMMANDS
from .._net.transport import LeftAloneError

__all__ = ["forgets_on_failure"]

B = TypeVar("B", bound=type)

# They write, and a failure is one of the file, and not of what is asked.
_WRITES = {
    *("set", "replace", "delete", "touch"),
    *("set_many", "replace_many", "delete_many", "touch_many"),
}


def forgets_on_failure(cls: B) -> B:
    """Have the methods of a class of backends do what ``on_failure`` says."""
    methods = {name: getattr(cls, name) for name in COMMANDS}
    for name, method in methods.items():
        setattr(cls, name, _guarded(name, method, methods))
    return cls


def _guarded(name: str, method: Callable[..., Any], methods: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        pending = self._invalidations
        if pending is None:
            return method(self, *args, **options)
        from .._net.miss import MissOnFailure
        from .._net.sync_bridge import run_blocking

        commands = MissOnFailure(_Commands(self, methods), pending, self._server, self.operation_timeout)
        return run_blocking(getattr(commands, name)(*args, **options))

    return call


class _Commands:
    """The methods of a backend as coroutine functions.

    Args:
        backend: the backend.
        methods: its methods by name, which raise if they fail.
    """

    def __init__(self, backend: Any, methods: dict[str, Callable[..., Any]]) -> None:
        self._wrapped = backend
        self._methods = methods

    def owners(self, keys: list[str]) -> bytes:
        return bytes(len(keys))

    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        values = self._methods["get_many"](self._wrapped, *keys)
        return [None if value is None else (value, value) for value in values]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods[name]

        async def command(*args: Any, **options: Any) -> Any:
            if name not in _WRITES:
                return method(self._wrapped, *args, **options)
            breaker = self._wrapped._breakers.of(self._wrapped._server)
            try:
                probe = breaker.admit()
            except LeftAloneError as error:
                # What is asked for is checked all the same.
                with deadline(0), suppress(BackendError):
                    method(self._wrapped, *args, **options)
                raise error from None
            try:
                result = method(self._wrapped, *args, **options)
            except BackendError as error:
                breaker.fail(str(error.args[0]))
                raise
            finally:
                if probe is not None:
                    probe.release()
            breaker.succeed()
            return result

        return command
