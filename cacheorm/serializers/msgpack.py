"""MessagePack: the default, compact and the fastest here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._speedups import rows
from .base import BaseSerializer, RowFormat, check_cost

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
        """Read one value; anything after it is an error.

        Raises:
            PayloadError: it has more than 200 levels, or takes much more memory than it has bytes.
        """
        check_cost(s, rows.measure_msgpack)
        return rows.unpack(s)

    def row_format(self) -> RowFormat:
        """Return the functions that pack, read and measure rows, unless a subclass changed the format."""
        form = super().row_format()
        return form._replace(unpack=rows.unpack, measure=rows.measure_msgpack) if self.bare_format else form

    @property
    def bare_format(self) -> str:
        """``msgpack``, but not where a subclass has changed the format."""
        cls = type(self)
        ours, base = MessagePackSerializer, BaseSerializer
        same = cls.dumps is ours.dumps and cls.loads is ours.loads and cls.load_row is base.load_row
        return "msgpack" if same else ""

    def row_codec(
        self,
        model: Any,
        fields: Iterable[Any],
        key_fields: Iterable[Any],
        identity: Any,
        skip_invalid: bool,
        **options: Any,
    ) -> Any:
        """Build the codec that works straight on the rows' slots, unless a subclass changed the format."""
        if self.bare_format and type(self).converter is BaseSerializer.converter:
            return rows.MsgpackRows(model, fields, key_fields, identity, skip_invalid, **options)
        return super().row_codec(model, fields, key_fields, identity, skip_invalid, **options)
