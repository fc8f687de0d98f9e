"""What the payloads of one model look like, and which it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..errors import PayloadError
from ..payload import COMPRESSED, SIGNED, Header, identify
from ..types import to_bytes
from .base import BaseSerializer, registry
from .compression import LIMIT, Zstd, decompress
from .json import JSONSerializer
from .msgpack import MessagePackSerializer
from .signing import Signer

__all__ = ["PayloadForm"]

# The version of rows that say none, and of models that declare none.
_FIRST = 1

# They say what they are by their first byte, and reading them runs nobody's code: every model reads them.
_ALWAYS_READ = (JSONSerializer(), MessagePackSerializer())


class _Reader(NamedTuple):
    """What reads the payloads of one serializer."""

    name: str
    signer: Signer | None
    unpack: Callable[[bytes], Any]

    @classmethod
    def of(cls, serializer: BaseSerializer) -> _Reader:
        _, unpack, signer = serializer.row_format()
        return cls(str(serializer), signer, unpack)


class PayloadForm:
    """How one model writes its payloads, and which payloads it reads.

    What a payload says of itself chooses among the model's own serializer, those in ``Meta.accepts``, JSON and msgpack,
    and never beyond: no stored byte can make a model use another. Where the model's own signs, JSON and msgpack are
    read only if they are accepted, too: they are not signed.

    Args:
        model: the model's name, for errors.
        serializer: the model's own.
        accepts: others whose payloads it reads.
        version: ``Meta.version``.
        compress: ``Meta.compress``. What is compressed is read with or without it.

    Attributes:
        prefix: what the model's payloads begin with; empty for JSON and msgpack without a version.
    """

    def __init__(
        self,
        model: str,
        serializer: BaseSerializer,
        accepts: Iterable[BaseSerializer] = (),
        version: int | None = None,
        compress: Zstd | None = None,
    ) -> None:
        self._model = model
        self._compress = compress
        self._limit = LIMIT if compress is None else compress.limit
        self._version = _FIRST if version is None else version
        self._own = own = _Reader.of(serializer)
        self._readers: dict[tuple[str, bool], _Reader] = {}
        # The model's own comes last, so that it has its names whoever else claims them.
        for one in (*(() if own.signer else _ALWAYS_READ), *reversed([*accepts]), serializer):
            reader = _Reader.of(one)
            for name in _names(one):
                self._readers[name, reader.signer is not None] = reader
        bare = serializer.bare_format and version is None
        header = Header(_names(serializer)[0], version, SIGNED if own.signer else 0)
        self.prefix = b"" if bare else header.pack()
        self._compressed_prefix = header._replace(flags=header.flags | COMPRESSED).pack()

    def sealed(self, codec: Any, identity: Any) -> Any:
        """Give a codec whose payloads are also compressed and signed, where the model's are.

        Args:
            codec: packs and reads the rows of the model.
            identity: the model's :class:`~.._speedups.keys.Identity`.
        """
        if self._compress is None and self._own.signer is None:
            return codec
        return _SealedRows(codec, self, identity)

    def seal(self, payloads: list[bytes], keys: list[str]) -> list[bytes]:
        """Compress payloads where the model says so and it makes them smaller, and then sign them.

        Args:
            payloads: rows of the model, packed; each begins with :attr:`prefix`.
            keys: the keys that they are going to be stored under.
        """
        if self._compress is not None:
            payloads = self._compressed(payloads, self._compress)
        if self._own.signer is not None:
            payloads = [*map(self._own.signer.sign, payloads, keys)]
        return payloads

    def _compressed(self, payloads: list[bytes], how: Zstd) -> list[bytes]:
        start = len(self.prefix)
        made = []
        compress = None
        for payload in payloads:
            smaller = payload
            if how.threshold <= len(payload) - start <= how.limit:
                compress = compress or how.compressor()
                smaller = self._compressed_prefix + compress(payload[start:])
            made.append(smaller if len(smaller) < len(payload) else payload)
        return made

    def read(self, payload: Any, key: str) -> tuple[Any, str]:
        """Read a payload, whichever of the serializers wrote it.

        Args:
            payload: as a backend gave it; no remembered miss.
            key: the key that it is stored under.

        Returns:
            A mapping of fields, unless the payload is no row; the name of the serializer that read it.

        Raises:
            PayloadError: the payload is of another schema version, or does not say clearly what it is, or nothing that
                the model may use reads it, or its signature is wrong.
        """
        payload = to_bytes(payload)
        try:
            header, start = identify(payload)
        except ValueError as error:
            raise self._error(str(error), key) from None
        if header is None:
            # Older versions stored payloads of every serializer as they were.
            header, reader = Header(""), self._own
            if reader.signer is not None:
                raise self._error("is not signed", key, reader.name)
        else:
            reader = self._reader(header, key)
        if reader.signer is not None:
            try:
                payload = reader.signer.check(payload, key)
            except PayloadError as error:
                raise self._error(error.reason, key, reader.name) from None
        version = _FIRST if header.version is None else header.version
        if version != self._version:
            reason = f"is a row of version {version}, and the model is at version {self._version}"
            raise self._error(reason, key, reader.name)
        body = payload[start:]
        if header.flags & COMPRESSED:
            try:
                body = decompress(body, self._limit)
            except PayloadError as error:
                raise self._error(error.reason, key, reader.name) from error.__cause__
        try:
            return reader.unpack(body), reader.name
        except Exception as error:
            raise self._error(f"cannot be decoded ({type(error).__name__})", key, reader.name) from error

    def _reader(self, header: Header, key: str) -> _Reader:
        """Give what reads a payload with this header; its signer is one if, and only if, the payload is signed."""
        name, signed = header.serializer, bool(header.flags & SIGNED)
        reader = self._readers.get((name, signed))
        if reader is not None:
            return reader
        if (name, not signed) in self._readers:
            reason = "is signed, and there is no secret to check it with" if signed else "is not signed"
            raise self._error(reason, key, name)
        raise self._error(
            f"was written by the serializer {name!r}, which this model does not read: name it in Meta.accepts", key
        )

    def _error(self, reason: str, key: str, serializer: str | None = None) -> PayloadError:
        return PayloadError(reason, model=self._model, key=key, serializer=serializer)


class _SealedRows:
    """A codec whose payloads are sealed.

    Args:
        rows: the codec that packs them, and reads them with the form's :meth:`PayloadForm.read`.
        form: seals.
        identity: makes the keys.
    """

    def __init__(self, rows: Any, form: PayloadForm, identity: Any) -> None:
        self._rows = rows
        self._form = form
        self._identity = identity
        self.columns = rows.columns
        self.convert_many = rows.convert_many
        self.load = rows.load
        self.load_many = rows.load_many

    def dump_many(self, instances: list[Any], many: bool = True) -> list[bytes]:
        payloads = self._rows.dump_many(instances, many)
        keys = self._identity.identify(instances, False, many)[1]
        return self._form.seal(payloads, keys)


def _names(serializer: BaseSerializer) -> list[str]:
    """Give the names that headers may know a serializer by, the one it is written with first.

    That is what it is registered as, or its own name, or its class's. A name that its class has inherited is that of
    another format.
    """
    if serializer.bare_format:
        return [serializer.bare_format]
    own = vars(serializer).get("name") or vars(type(serializer)).get("name") or type(serializer).__name__
    return list(dict.fromkeys([*registry.names_of(serializer), own, type(serializer).__name__]))
