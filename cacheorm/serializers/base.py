"""The base class of serializers, and the registry that names them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._speedups import budget, mapping, rows
from ..errors import PayloadError

if TYPE_CHECKING:
    from .signing import Signer

__all__ = ["BaseSerializer", "RowFormat", "SerializerRegistry", "check_cost", "registry"]

_budget = budget.Budget(None)


class RowFormat(NamedTuple):
    """The functions that pack and read the rows of models.

    Attributes:
        pack: ``{field name: stored value}`` to bytes.
        unpack: those bytes to a mapping.
        signer: signs payloads with their keys, and checks the signature before ``unpack`` is called.
        unpack_set: the same as ``unpack`` for the fields that are set in the packed row, if ``unpack`` returns others.
        merge: puts changed fields, ``{field name: stored value}``, into a packed row. ``None``: the row is unpacked and
            packed again.
        check_known: called before a row is packed in another format; raises :exc:`ValueError` if the packed row holds
            more than ``unpack`` returns.
        measure: tells what ``unpack`` would cost in memory and levels, as ``measure_msgpack`` of the rows does.
    """

    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    signer: Signer | None = None
    unpack_set: Callable[[bytes], Mapping[str, Any]] | None = None
    merge: Callable[[bytes, Mapping[str, Any]], bytes] | None = None
    check_known: Callable[[bytes], None] | None = None
    measure: Callable[[bytes, int, int], tuple[int, bytes]] | None = None


class BaseSerializer:
    """Packs Python objects as bytes and back. A custom one needs only :meth:`dumps` and :meth:`loads`.

    A row reaches :meth:`dumps` as ``{field name: stored value}`` without its primary key. Stored values are those that
    the fields' ``cache_value`` returns: str, int, float, bytes, None, lists and dicts.
    """

    name: str = ""
    """The name in errors and payloads; if it is empty or inherited from another format, the class name is used."""

    trusted_only: bool = False
    """Whether reading a payload from an untrusted source can run code."""

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
        """Read a row as a mapping of field names; differs from :meth:`loads` if that returns another object."""
        row: Mapping[str, Any] = self.loads(payload)
        return row

    def check_fields(self, model: str, fields: Iterable[Any]) -> None:
        """Raise :exc:`TypeError` at class creation if the format cannot hold rows of these fields."""

    def converter(self, field: Any) -> Any:
        """Return the converter between the values of one field and those that this format stores.

        That is the field's own converter, unless the format changes some stored values, such as a float that loses
        digits. After a write an instance has to hold what a later read returns.
        """
        return field.converter

    @property
    def bare_format(self) -> str:
        """``json`` or ``msgpack`` if the first byte of payloads tells it and they need no header; otherwise empty."""
        return ""

    def row_format(self) -> RowFormat:
        """Return the functions that pack and read rows."""
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
        """Return the codec, which packs and reads the rows of one model; see ``_speedups/rows/``."""
        form = self.row_format()
        # Signed payloads may be read only after the signature was checked. MappingRows reads all payloads with
        # options["unwrap"], which checks it; DictRows would read those with the usual prefix without a check.
        # Nor can DictRows tell a field that is not set from one that is zero, and may be there under an old name.
        fields = tuple(fields)
        special = form.signer is not None or (form.unpack_set is not None and any(field.aliases for field in fields))
        codec = mapping.MappingRows if special else rows.DictRows
        return codec(
            model,
            fields,
            key_fields,
            identity,
            str(self),
            form.pack,
            form.unpack,
            skip_invalid,
            self.converter,
            merge=form.merge,
            unpack_set=form.unpack_set,
            measure=form.measure,
            **options,
        )

    def __str__(self) -> str:
        return self.name or type(self).__name__


def check_cost(packed: bytes, measure: Callable[[bytes, int, int], tuple[int, bytes]]) -> None:
    """Raise :exc:`PayloadError` if reading a value costs more than reading a payload may by default."""
    given: object = packed
    if not isinstance(given, (bytes, bytearray, memoryview)):
        return  # for the reader to refuse
    try:
        _budget.check(bytes(given), measure)
    except budget.TooCostly as error:
        raise PayloadError(error.reason) from None


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
        """Remove a serializer. Models that use it keep it.

        Raises:
            KeyError: no serializer has this name.
        """
        with self._lock:
            if unique_name not in self._serializers:
                raise KeyError(f"no serializer is registered as {unique_name!r}")
            del self._serializers[unique_name]

    def unregister_all(self) -> None:
        """Remove all serializers, the preset ones included."""
        with self._lock:
            self._serializers.clear()

    def get_by_name(self, unique_name: str) -> BaseSerializer | None:
        """Return the serializer of this name, or ``None``."""
        return self._serializers.get(unique_name)

    def names_of(self, serializer: BaseSerializer) -> list[str]:
        """Return the names that a serializer is registered under, in the order of registration."""
        with self._lock:
            return [name for name, known in self._serializers.items() if known is serializer]

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        return sorted(self._serializers)


registry = SerializerRegistry()
"""The registry in which ``Meta.serializer`` looks names up; ``json``, ``msgpack`` and ``pickle`` are preset."""
