"""What a serializer is, and the registry that names them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._speedups import mapping, rows

if TYPE_CHECKING:
    from .signing import Signer

__all__ = ["BaseSerializer", "RowFormat", "SerializerRegistry", "registry"]


class RowFormat(NamedTuple):
    """What packs and reads the rows of models.

    Attributes:
        pack: ``{field name: stored value}`` to bytes.
        unpack: those bytes to a mapping.
        signer: signs payloads with their keys, and checks the signature before ``unpack`` is called.
    """

    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    signer: Signer | None = None


class BaseSerializer:
    """Packs Python objects as bytes and back. :meth:`dumps` and :meth:`loads` are all a custom one needs.

    A row reaches :meth:`dumps` as ``{field name: stored value}`` without its primary key, where stored
    values are what the fields' ``cache_value`` gave: str, int, float, bytes, None, lists and dicts.
    """

    name: str = ""
    """What errors and payloads call this serializer; the class name where empty, or inherited from another format."""

    trusted_only: bool = False
    """Whether reading a payload from an untrusted source could run code."""

    def dumps(self, obj: Any) -> bytes:
        """Pack ``obj``.

        Raises:
            TypeError: the format has no such type.
            ValueError: the format cannot hold this value.
        """
        raise NotImplementedError

    def loads(self, s: bytes) -> Any:
        """Read back what :meth:`dumps` packed; any exception means that ``s`` is no such payload."""
        raise NotImplementedError

    def load_row(self, payload: bytes) -> Mapping[str, Any]:
        """Read a row as a mapping of field names; differs from :meth:`loads` where that gives an object."""
        row: Mapping[str, Any] = self.loads(payload)
        return row

    def check_fields(self, model: str, fields: Iterable[Any]) -> None:
        """Raise :exc:`TypeError` at class creation if the format cannot hold rows of these fields."""

    def converter(self, field: Any) -> Any:
        """Give what converts the values of one field to what this format stores, and back.

        That is the field's own converter, unless the format gives some of its stored values back as others (a
        float with fewer digits, say): after a write an instance holds what a later read gives.
        """
        return field.converter

    @property
    def bare_format(self) -> str:
        """The format of the payloads, ``json`` or ``msgpack``, where their first byte says it; they need no header."""
        return ""

    def row_format(self) -> RowFormat:
        """Give what packs and reads rows."""
        return RowFormat(self.dumps, self.load_row)

    def row_codec(
        self,
        model: Any,
        fields: Iterable[Any],
        key_fields: Iterable[Any],
        identity: Any,
        skip_invalid: bool,
        **options: Any,
    ) -> Any:
        """Build what packs and reads the rows of one model; see ``_speedups/rows/_mapping.py``."""
        pack, unpack, signer = self.row_format()
        # What is signed is read only by what checks the signature first: the codec for unusual payloads, which asks
        # options["read"]. The other one would take what begins as usual for its own.
        codec = rows.DictRows if signer is None else mapping.MappingRows
        return codec(
            model, fields, key_fields, identity, str(self), pack, unpack, skip_invalid, self.converter, **options
        )

    def __str__(self) -> str:
        return self.name or type(self).__name__


class SerializerRegistry:
    """Serializers by name, for ``Meta.serializer``. Safe to use from several threads."""

    def __init__(self) -> None:
        self._serializers: dict[str, BaseSerializer] = {}
        self._lock = threading.Lock()

    def register(self, unique_name: str, serializer: BaseSerializer) -> None:
        """Register ``serializer`` under a name.

        Raises:
            ValueError: the name is taken; unregister it first.
        """
        with self._lock:
            if unique_name in self._serializers:
                raise ValueError(f"a serializer is already registered as {unique_name!r}; unregister it first")
            self._serializers[unique_name] = serializer

    def unregister(self, unique_name: str) -> None:
        """Forget a serializer. Models that use it keep it.

        Raises:
            KeyError: no serializer has this name.
        """
        with self._lock:
            if unique_name not in self._serializers:
                raise KeyError(f"no serializer is registered as {unique_name!r}")
            del self._serializers[unique_name]

    def unregister_all(self) -> None:
        """Forget all serializers, the preset ones included."""
        with self._lock:
            self._serializers.clear()

    def get_by_name(self, unique_name: str) -> BaseSerializer | None:
        """Give the serializer of this name, or ``None``."""
        return self._serializers.get(unique_name)

    def names_of(self, serializer: BaseSerializer) -> list[str]:
        """Give the names that a serializer is registered under, in the order they were."""
        with self._lock:
            return [name for name, one in self._serializers.items() if one is serializer]

    def names(self) -> list[str]:
        """Give all registered names, sorted."""
        return sorted(self._serializers)


registry = SerializerRegistry()
"""Where ``Meta.serializer`` looks names up; ``json``, ``msgpack`` and ``pickle`` are preset."""
