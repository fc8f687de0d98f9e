"""MessagePack: the default, compact and the fastest here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._speedups import rows
from .base import BaseSerializer

__all__ = ["MessagePackSerializer"]


class MessagePackSerializer(BaseSerializer):
    """MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), text as str, bytes as bin."""

    name = "msgpack"

    def dumps(self, obj: Any) -> bytes:
        """Pack ``obj``.

        Raises:
            TypeError: for types that msgpack does not have.
            OverflowError: for integers outside -2**63 to 2**64-1.
        """
        return rows.pack(obj)

    def loads(self, s: bytes) -> Any:
        """Read one value; anything after it is an error."""
        return rows.unpack(s)

    def row_codec(
        self, model: Any, fields: Iterable[Any], key_fields: Iterable[Any], identity: Any, skip_invalid: bool
    ) -> Any:
        """Build the codec that works straight on the rows' slots, unless a subclass changed the format."""
        cls = type(self)
        if cls.dumps is MessagePackSerializer.dumps and cls.loads is MessagePackSerializer.loads:
            return rows.MsgpackRows(model, fields, key_fields, identity, skip_invalid)
        return super().row_codec(model, fields, key_fields, identity, skip_invalid)
