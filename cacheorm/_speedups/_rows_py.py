"""Rows to msgpack payloads and back, pure Python: the readable twin of ``_rows_c.pyx``.

Payloads are msgpack maps of field names to stored values, as the msgpack library writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from ._mapping_py import MappingRows

__all__ = ["DictRows", "MsgpackRows", "pack", "unpack"]


def pack(value: Any) -> bytes:
    """Pack a value as msgpack, text as ``str`` and bytes as ``bin``."""
    return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]


def unpack(payload: bytes) -> Any:
    """Read one msgpack value; anything after it is an error."""
    return msgpack.unpackb(payload, raw=False, strict_map_key=False)


class DictRows(MappingRows):
    """The :class:`~._mapping_py.MappingRows` of any other serializer.

    Args:
        check: what ``pack`` does to refuse values before it packs them, where it does.
        pack_checked: ``pack`` without that; the compiled codec calls it for rows whose values it knows to be
            text and finite numbers, and ``check`` only for the others.
    """

    def __init__(
        self,
        *arguments: Any,
        check: Callable[[Any], None] | None = None,
        pack_checked: Callable[[dict[str, Any]], bytes] | None = None,
    ) -> None:
        super().__init__(*arguments)


class MsgpackRows(MappingRows):
    """The :class:`~._mapping_py.MappingRows` of the msgpack serializer."""

    def __init__(
        self, model: Any, fields: Iterable[Any], key_fields: Iterable[Any], identity: Any, skip_invalid: bool
    ) -> None:
        super().__init__(model, fields, key_fields, identity, "msgpack", pack, unpack, skip_invalid)
