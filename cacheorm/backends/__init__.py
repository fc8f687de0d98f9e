"""Backends: they store rows in memory, a file, Redis or memcached, with the one interface of :class:`BaseBackend`.

Importing this package imports no driver, no database engine and no backend but the default one; each comes with its
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import BaseBackend
from .simple import SimpleBackend
from .url import backend_from_url

if TYPE_CHECKING:
    from .filesystem import FileSystemBackend
    from .memcached import MemcachedBackend
    from .redis import RedisBackend

__all__ = [
    "BaseBackend",
    "FileSystemBackend",
    "MemcachedBackend",
    "RedisBackend",
    "SimpleBackend",
    "backend_from_url",
]

_LATER = {"FileSystemBackend": "filesystem", "MemcachedBackend": "memcached", "RedisBackend": "redis"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
