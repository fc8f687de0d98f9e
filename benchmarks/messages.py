"""A protobuf message for the standard row, described here so that no generated file and no protoc is needed."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["user_message"]


@cache
def user_message() -> Any:
    """Return the message class."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="cacheorm_bench/user.proto", package="cacheorm.bench", syntax="proto3"
    )
    message = file.message_type.add(name="User")
    for number, (name, kind, optional) in enumerate(
        [
            ("name", kinds.TYPE_STRING, False),
            ("height", kinds.TYPE_DOUBLE, False),
            ("married", kinds.TYPE_BOOL, False),
            ("gender", kinds.TYPE_INT64, False),
            ("email", kinds.TYPE_STRING, True),
            ("created_at", kinds.TYPE_STRING, False),
        ],
        start=1,
    ):
        field = message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
        if optional:
            # This is how protoc writes `optional`: as a oneof of its own.
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cacheorm.bench.User"))
