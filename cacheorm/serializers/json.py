"""JSON, on msgspec: of the libraries that keep integers of any size, the fastest in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._speedups import convert, rows
from .base import BaseSerializer, RowFormat, check_cost

__all__ = ["JSONSerializer"]


class JSONSerializer(BaseSerializer):
    """UTF-8 JSON (RFC 8259), compact. Integers of any size survive; NaN and infinities are refused."""

    name = "json"

    def dumps(self, obj: Any) -> bytes:
        """Pack ``obj`` as JSON.

        Raises:
            TypeError: for anything but str, int, float, bool, None, lists, tuples and dicts with string
                keys. Bytes have no form in JSON: ``BinaryField(ensure_str=True)`` stores them as text.
            ValueError: for NaN and infinities, and for text that is not valid Unicode.
        """
        # msgspec would write NaN as null, bytes as base64 and dates as text: all read back as something else.
        # The row itself is a level.
        convert.check_json(obj, outside=1)
        encoded: bytes = convert.json_codec()[0](obj)
        return encoded

    def loads(self, s: bytes) -> Any:
        """Read JSON; NaN, infinities and anything after the value are errors.

        Raises:
            PayloadError: it has more than 200 levels, or takes much more memory than it has bytes.
        """
        check_cost(s, convert.measure_json)
        return convert.json_codec()[1](s)

    def row_format(self) -> RowFormat:
        """Return the functions that pack, read and measure rows, unless a subclass changed the format."""
        form = super().row_format()
        return form._replace(unpack=convert.json_codec()[1], measure=convert.measure_json) if self.bare_format else form

    @property
    def bare_format(self) -> str:
        """``json``, but not where a subclass has changed the format."""
        cls = type(self)
        ours, base = JSONSerializer, BaseSerializer
        same = cls.dumps is ours.dumps and cls.loads is ours.loads and cls.load_row is base.load_row
        return "json" if same else ""

    def row_codec(
        self,
        model: Any,
        fields: Iterable[Any],
        key_fields: Iterable[Any],
        identity: Any,
        skip_invalid: bool,
        **options: Any,
    ) -> Any:
        """Build the codec that checks only values that JSON might not hold, unless a subclass changed the format."""
        if not self.bare_format:
            return super().row_codec(model, fields, key_fields, identity, skip_invalid, **options)
        return rows.DictRows(
            model,
            fields,
            key_fields,
            identity,
            str(self),
            self.dumps,
            convert.json_codec()[1],
            skip_invalid,
            self.converter,
            check=convert.check_json,
            pack_checked=convert.json_codec()[0],
            patch=rows.patch_json,
            measure=convert.measure_json,
            **options,
        )
