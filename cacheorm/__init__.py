"""An ORM whose rows live in a cache: typed models over Redis, memcached, SQLite files or memory.

>>> import cacheorm as co
>>> class User(co.Model):
...     id = co.IntegerField(primary_key=True)
...     name = co.StringField()
>>> sam = User.create(id=1, name="Sam")
>>> User.get(id=1).name
'Sam'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import backends
from ._speedups import enabled as speedups_enabled
from .backends import BaseBackend, SimpleBackend, backend_from_url
from .deadlines import deadline
from .errors import (
    BackendError,
    CacheORMError,
    ConflictError,
    DoesNotExist,
    FailedRow,
    InvalidKeyError,
    LazyLoadWarning,
    PayloadError,
    ShapeError,
    ValidationError,
    WriteError,
)
from .fields import (
    BinaryField,
    BooleanField,
    CompositeKey,
    DateField,
    DateTimeField,
    DateTimeTZField,
    DecimalField,
    EnumField,
    Field,
    FloatField,
    ForeignKeyField,
    IntegerField,
    JSONField,
    ListField,
    ShortUUIDField,
    StringField,
    StructField,
    TimeField,
    TimestampField,
    UUIDField,
)
from .metadata import bind, configure, defaults
from .models import CacheBuilder, Model
from .operations import Delete, Insert, Query, Update, apreload, preload
from .serializers import (
    BaseSerializer,
    JSONSerializer,
    MessagePackSerializer,
    PickleSerializer,
    ProtobufSerializer,
    SerializerRegistry,
    Zstd,
    registry,
)
from .types import NEVER

if TYPE_CHECKING:
    from . import signals
    from .backends import FileSystemBackend, MemcachedBackend, RedisBackend

__version__ = "0.1.0"

__all__ = [
    "NEVER",
    "BackendError",
    "BaseBackend",
    "BaseSerializer",
    "BinaryField",
    "BooleanField",
    "CacheBuilder",
    "CacheORMError",
    "CompositeKey",
    "ConflictError",
    "DateField",
    "DateTimeField",
    "DateTimeTZField",
    "DecimalField",
    "Delete",
    "DoesNotExist",
    "EnumField",
    "FailedRow",
    "Field",
    "FileSystemBackend",
    "FloatField",
    "ForeignKeyField",
    "Insert",
    "IntegerField",
    "InvalidKeyError",
    "JSONField",
    "JSONSerializer",
    "LazyLoadWarning",
    "ListField",
    "MemcachedBackend",
    "MessagePackSerializer",
    "Model",
    "PayloadError",
    "PickleSerializer",
    "ProtobufSerializer",
    "Query",
    "RedisBackend",
    "SerializerRegistry",
    "ShapeError",
    "ShortUUIDField",
    "SimpleBackend",
    "StringField",
    "StructField",
    "TimeField",
    "TimestampField",
    "UUIDField",
    "Update",
    "ValidationError",
    "WriteError",
    "Zstd",
    "apreload",
    "backend_from_url",
    "bind",
    "configure",
    "deadline",
    "default_backend",
    "preload",
    "registry",
    "signals",
    "speedups_enabled",
]

default_backend: BaseBackend
"""The backend of models that declare none; :func:`configure` sets it."""


def __getattr__(name: str) -> Any:
    # Looked up at each use, because configure() may have set another since.
    if name == "default_backend":
        return defaults.backend
    # Loaded at their first use: the modules that they need take milliseconds to import.
    if name in ("FileSystemBackend", "MemcachedBackend", "RedisBackend"):
        return getattr(backends, name)
    if name == "signals":
        return import_module(".signals", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
