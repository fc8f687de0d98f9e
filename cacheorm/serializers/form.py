"""What the payloads of one model look like, and which it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import PayloadError
from ..payload import Header, identify
from ..types import to_bytes
from .base import BaseSerializer, registry
from .json import JSONSerializer
from .msgpack import MessagePackSerializer

__all__ = ["PayloadForm"]

# The version of rows that say none, and of models that declare none.
_FIRST = 1

# They say what they are by their first byte, and reading them runs nobody's code: every model reads them.
_ALWAYS_READ = (JSONSerializer(), MessagePackSerializer())


_Reader = tuple[Callable[[bytes], Any], str]


class PayloadForm:
    """How one model writes its payloads, and which payloads it reads.

    What a payload says of itself chooses among the model's own serializer, those in ``Meta.accepts``, JSON and msgpack,
    and never beyond: no stored byte can make a model use another.

    Args:
        model: the model's name, for errors.
        serializer: the model's own.
        accepts: others whose payloads it reads.
        version: ``Meta.version``.

    Attributes:
        prefix: what the model's payloads begin with; empty for JSON and msgpack without a version.
    """

    def __init__(
        self,
        model: str,
        serializer: BaseSerializer,
        accepts: Iterable[BaseSerializer] = (),
        version: int | None = None,
    ) -> None:
        self._model = model
        self._version = _FIRST if version is None else version
        self._own: _Reader = (serializer.load_row, str(serializer))
        self._readers: dict[str, _Reader] = {}
        # The model's own comes last, so that it has its names whoever else claims them.
        for one in (*_ALWAYS_READ, *reversed([*accepts]), serializer):
            for name in _names(one):
                self._readers[name] = (one.load_row, str(one))
        bare = serializer.bare_format and version is None
        self.prefix = b"" if bare else Header(_names(serializer)[0], version).pack()

    def read(self, payload: Any, key: str) -> tuple[Any, str]:
        """Read a payload, whichever of the serializers wrote it.

        Args:
            payload: as a backend gave it; no remembered miss.
            key: the key that it is stored under.

        Returns:
            A mapping of fields, unless the payload is no row; the name of the serializer that read it.

        Raises:
            PayloadError: the payload is of another schema version, or does not say clearly what it is, or nothing that
                the model may use reads it.
        """
        payload = to_bytes(payload)
        try:
            header, start = identify(payload)
        except ValueError as error:
            raise self._error(str(error), key) from None
        if header is None:
            # Older versions stored payloads of every serializer as they were.
            header, reader = Header(""), self._own
        else:
            known = self._readers.get(header.serializer)
            if known is None:
                raise self._error(
                    f"was written by the serializer {header.serializer!r}, which this model does not read: "
                    "name it in Meta.accepts",
                    key,
                )
            reader = known
        unpack, name = reader
        version = _FIRST if header.version is None else header.version
        if version != self._version:
            raise self._error(f"is a row of version {version}, and the model is at version {self._version}", key, name)
        try:
            return unpack(payload[start:]), name
        except Exception as error:
            raise self._error(f"cannot be decoded ({type(error).__name__})", key, name) from error

    def _error(self, reason: str, key: str, serializer: str | None = None) -> PayloadError:
        return PayloadError(reason, model=self._model, key=key, serializer=serializer)


def _names(serializer: BaseSerializer) -> list[str]:
    """Give the names that headers may know a serializer by, the one it is written with first.

    That is what it is registered as, or its own name, or its class's. A name that its class has inherited is that of
    another format.
    """
    if serializer.bare_format:
        return [serializer.bare_format]
    own = vars(serializer).get("name") or vars(type(serializer)).get("name") or type(serializer).__name__
    return list(dict.fromkeys([*registry.names_of(serializer), own, type(serializer).__name__]))
