"""Serializers: rows as JSON, MessagePack, pickle or Protocol Buffers, and a registry that names them."""

from .base import BaseSerializer, SerializerRegistry, registry
from .compression import Zstd
from .form import PayloadForm
from .json import JSONSerializer
from .msgpack import MessagePackSerializer
from .pickle import PickleSerializer
from .protobuf import ProtobufSerializer

__all__ = [
    "BaseSerializer",
    "JSONSerializer",
    "MessagePackSerializer",
    "PayloadForm",
    "PickleSerializer",
    "ProtobufSerializer",
    "SerializerRegistry",
    "Zstd",
    "registry",
]

registry.register("json", JSONSerializer())
registry.register("msgpack", MessagePackSerializer())
registry.register("pickle", PickleSerializer())
