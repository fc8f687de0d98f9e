"""Serializers: rows as JSON, MessagePack, pickle or Protocol Buffers, and a registry that names them."""

from .base import BaseSerializer, SerializerRegistry, registry
from .compression import Zstd
from .envelope import Envelope
from .json import JSONSerializer
from .msgpack import MessagePackSerializer
from .pickle import PickleSerializer
from .protobuf import ProtobufSerializer

__all__ = [
    "BaseSerializer",
    "Envelope",
    "JSONSerializer",
    "MessagePackSerializer",
    "PickleSerializer",
    "ProtobufSerializer",
    "SerializerRegistry",
    "Zstd",
    "registry",
]

registry.register("json", JSONSerializer())
registry.register("msgpack", MessagePackSerializer())
registry.register("pickle", PickleSerializer())
