"""Serializers that tests of several formats take, among them one of a program's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cacheorm as co

sys.path.insert(0, str(Path(__file__).parent / "protos"))

import user_pb2

__all__ = ["SERIALIZERS", "UNKNOWN", "Reversed"]

# A field number that the message does not declare, and its value: https://protobuf.dev/programming-guides/encoding/
UNKNOWN = b"\xc0\x3e\x05"


class Reversed(co.BaseSerializer):
    """A format of its own."""

    def dumps(self, obj: Any) -> bytes:
        return json.dumps(obj).encode()[::-1]

    def loads(self, s: bytes) -> Any:
        return json.loads(s[::-1])


SERIALIZERS: dict[str, co.BaseSerializer] = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "protobuf": co.ProtobufSerializer(user_pb2.User),
    "signed": co.PickleSerializer(secret="secret"),
    "Reversed": Reversed(),
}
