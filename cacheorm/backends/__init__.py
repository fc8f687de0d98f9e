"""Where rows are kept: memory, a file, Redis or memcached, all behind the one contract of :class:`BaseBackend`.

Importing this package imports no driver and no database engine; each comes with the first backend that needs it.
"""

from .base import BaseBackend
from .filesystem import FileSystemBackend
from .memcached import MemcachedBackend
from .redis import RedisBackend
from .simple import SimpleBackend
from .url import backend_from_url

__all__ = [
    "BaseBackend",
    "FileSystemBackend",
    "MemcachedBackend",
    "RedisBackend",
    "SimpleBackend",
    "backend_from_url",
]
