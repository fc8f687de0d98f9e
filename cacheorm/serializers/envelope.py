"""The envelope of a model's payloads: header, schema version, compression and signature around the packed row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, NoReturn

from ..errors import PayloadError
from ..payload import AGES_SIZE, COMPRESSED, SIGNED, Ages, Header, identify
from ..types import to_bytes
from .base import BaseSerializer, RowFormat, registry
from .compression import Zstd, decompress
from .json import JSONSerializer
from .msgpack import MessagePackSerializer
from .signing import Signer

__all__ = ["Envelope"]

# The version of rows without one in the header, and of models without Meta.version.
_FIRST = 1

# Their first byte identifies them, and reading them runs no code of a payload's choice: every model reads them.
_ALWAYS_READ = (JSONSerializer(), MessagePackSerializer())

# Takes and returns all fields of a row, and those that are set.
_Upgrade = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


class _Reader(NamedTuple):
    """Reads the payloads of one serializer."""

    name: str
    form: RowFormat

    @classmethod
    def of(cls, serializer: BaseSerializer) -> _Reader:
        """Return the reader for a serializer."""
        return cls(str(serializer), serializer.row_format())

    @property
    def signer(self) -> Signer | None:
        """What signs the payloads, if they are signed."""
        return self.form.signer


class Envelope:
    """How one model encloses its packed rows in payloads, and which payloads it reads.

    The header of a payload selects one of these serializers: the model's own, those in ``Meta.accepts``, JSON and
    msgpack. No stored byte can make a model use another one. If the model's own serializer signs, JSON and msgpack are
    read only if they are in ``Meta.accepts`` as well, since they are not signed.

    Args:
        model: the model's name, for errors.
        serializer: the model's own serializer.
        accepts: further serializers whose payloads it reads, and a compression if it reads compressed ones.
        version: ``Meta.version``.
        compress: ``Meta.compress``. Without it, compressed payloads are read if ``accepts`` has a compression.
        upgrade: ``Meta.upgrade``.
        aged: whether the model's rows have ages in their headers.

    Attributes:
        prefix: the bytes that uncompressed payloads begin with; empty for JSON and msgpack without a version and ages.
            It ends with ages, if rows have them, in whose place there are those of each row.
    """

    def __init__(
        self,
        model: str,
        serializer: BaseSerializer,
        accepts: Iterable[BaseSerializer | Zstd] = (),
        version: int | None = None,
        compress: Zstd | None = None,
        upgrade: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None,
        aged: bool = False,
    ) -> None:
        self._model = model
        self._ages_size = AGES_SIZE if aged else 0
        self._upgrade = upgrade
        self._compress = compress
        serializers = [accepted for accepted in accepts if isinstance(accepted, BaseSerializer)]
        compressions = [compress, *(accepted for accepted in accepts if isinstance(accepted, Zstd))]
        # The most bytes that a payload may decompress to; 0 if compressed ones are not read.
        self._limit = max(accepted.limit if accepted else 0 for accepted in compressions)
        self._version = _FIRST if version is None else version
        self._own = own = _Reader.of(serializer)
        self._readers: dict[tuple[str, bool], _Reader] = {}
        # The model's own comes last, so that its names win if another serializer has the same ones.
        for accepted in (*(() if own.signer else _ALWAYS_READ), *reversed(serializers), serializer):
            reader = own if accepted is serializer else _Reader.of(accepted)
            for name in _names(accepted):
                self._readers[name, reader.signer is not None] = reader
        bare = serializer.bare_format and version is None and not aged
        header = Header(_names(serializer)[0], version, SIGNED if own.signer else 0, Ages(0) if aged else None)
        self.prefix = b"" if bare else header.pack()
        compressed = header._replace(flags=header.flags | COMPRESSED).pack()
        self._compressed_prefix = compressed[: len(compressed) - self._ages_size]

    def wrap(self, codec: Any, identity: Any) -> Any:
        """Return a codec that also compresses and signs, or the given one if the model does neither.

        Args:
            codec: packs and reads the rows of the model.
            identity: the model's :class:`~.._speedups.keys.Identity`.
        """
        if self._compress is None and self._own.signer is None:
            return codec
        return _EnvelopeCodec(codec, self, identity)

    def compress_and_sign(self, payloads: list[bytes], keys: list[str]) -> list[bytes]:
        """Compress payloads if that makes them smaller, then sign them; each only if the model does.

        Args:
            payloads: packed rows of the model; each begins with :attr:`prefix`.
            keys: the keys that they are going to be stored under.
        """
        if self._compress is not None:
            payloads = self._compressed(payloads, self._compress)
        if self._own.signer is not None:
            payloads = [*map(self._own.signer.sign, payloads, keys)]
        return payloads

    def _compressed(self, payloads: list[bytes], options: Zstd) -> list[bytes]:
        start = len(self.prefix)
        ages_at = start - self._ages_size
        result = []
        compress = None
        for payload in payloads:
            smaller = payload
            if options.threshold <= len(payload) - start <= options.limit:
                compress = compress or options.compressor()
                smaller = self._compressed_prefix + payload[ages_at:start] + compress(payload[start:])
            result.append(smaller if len(smaller) < len(payload) else payload)
        return result

    def unwrap(self, payload: Any, key: str) -> tuple[bytes, RowFormat | None, str, _Upgrade | None]:
        """Unwrap a payload: check its signature and version, and decompress it.

        Args:
            payload: as a backend returned it; no remembered miss.
            key: the key that it is stored under.

        Returns:
            Its body, the format of that, which is ``None`` for the model's own serializer, the serializer's name, and
            what turns the row into one of the model's version, ``None`` if it is one.

        Raises:
            PayloadError: a bad header, a schema version or a serializer that the model does not read, a wrong
                signature, or a body that cannot be decompressed.
        """
        payload = to_bytes(payload)
        try:
            header, start = identify(payload)
        except ValueError as error:
            raise self._error(str(error), key) from None
        if header is None:
            # Older versions stored the payloads of every serializer without a header.
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
        upgrade: _Upgrade | None = None
        if version < self._version and self._upgrade is not None:
            upgrade = partial(self._upgraded, self._upgrade, version, key, reader.name)
        elif version != self._version:
            reason = f"is a row of version {version}, and the model is at version {self._version}"
            unread = self._error(reason, key, reader.name)
            if header.serializer:
                raise unread
            # Without a header it may be no row at all: that is known when it is unpacked, before it is upgraded.
            upgrade = partial(_refuse, unread)
        body = payload[start:]
        if header.flags & COMPRESSED:
            if not self._limit:
                remedy = "name 'zstd' in Meta.accepts, or set Meta.compress"
                reason = f"is compressed, which this model does not read: {remedy}"
                raise self._error(reason, key, reader.name)
            try:
                body = decompress(body, self._limit)
            except PayloadError as error:
                raise self._error(error.reason, key, reader.name) from error.__cause__
        return body, None if reader is self._own else reader.form, reader.name, upgrade

    def _upgraded(
        self,
        upgrade: Callable[[int, Any], Any],
        version: int,
        key: str,
        serializer: str,
        row: Mapping[str, Any],
        found: Mapping[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the stored forms of a row of an older version as those of the model's version."""
        # What is known to be unset is not in the row; other fields that are not set may be zero or empty.
        unset = {name: None for name, value in row.items() if value is None and name not in found}
        try:
            upgraded = upgrade(version, {name: value for name, value in row.items() if name not in unset})
        except MemoryError:
            raise
        except Exception as error:
            # Without its text, which may quote a value.
            reason = f"is a row of version {version}, for which Meta.upgrade raised {type(error).__name__}"
            raise self._error(reason, key, serializer) from error
        if not isinstance(upgraded, dict):
            reason = (
                f"is a row of version {version}, for which Meta.upgrade gave {type(upgraded).__name__}; it has to "
                "return the row as a dict"
            )
            raise self._error(reason, key, serializer)
        found = {name: value for name, value in upgraded.items() if name in found or row.get(name) is None or value}
        return unset | upgraded, found

    def _reader(self, header: Header, key: str) -> _Reader:
        """Return the reader for a payload with this header; it has a signer if, and only if, the payload is signed."""
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


def _refuse(error: PayloadError, *_: object) -> NoReturn:
    raise error


class _EnvelopeCodec:
    """A codec whose payloads are compressed and signed.

    Args:
        codec: packs rows, and reads payloads with :meth:`Envelope.unwrap`.
        envelope: compresses and signs.
        identity: makes the keys.
    """

    def __init__(self, codec: Any, envelope: Envelope, identity: Any) -> None:
        self._codec = codec
        self._envelope = envelope
        self._identity = identity
        self.merged = codec.merged
        self.pack_changes = codec.pack_changes
        self.load = codec.load
        self.load_many = codec.load_many

    def dump_many(self, instances: list[Any], many: bool = True, stamp: Any = None) -> list[bytes]:
        payloads = self._codec.dump_many(instances, many, stamp)
        keys = self._identity.identify(instances, False, many)[1]
        return self._envelope.compress_and_sign(payloads, keys)

    def patch_many(
        self,
        payloads: list[bytes | None],
        changes: list[Any],
        keys: list[str],
        unreadable: Callable[[PayloadError], object] | None = None,
        stamp: Any = None,
    ) -> list[bytes | None]:
        patched = self._codec.patch_many(payloads, changes, keys, unreadable, stamp)
        found = [(payload, key) for payload, key in zip(patched, keys, strict=True) if payload is not None]
        enclosed = iter(self._envelope.compress_and_sign([payload for payload, _ in found], [key for _, key in found]))
        return [None if payload is None else next(enclosed) for payload in patched]


def _names(serializer: BaseSerializer) -> list[str]:
    """Return the names that a serializer may have in headers; the first is the one that is written.

    They are the names under which it is registered, its own name, and that of its class. A ``name`` that its class
    inherits is not one of them, since it belongs to another format.
    """
    if serializer.bare_format:
        return [serializer.bare_format]
    own = vars(serializer).get("name") or vars(type(serializer)).get("name") or type(serializer).__name__
    return list(dict.fromkeys([*registry.names_of(serializer), own, type(serializer).__name__]))
