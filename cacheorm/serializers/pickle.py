"""Pickle, signed wherever others could write what is read."""

from __future__ import annotations

from typing import Any

from .base import BaseSerializer, RowFormat
from .signing import Signer, keyed

__all__ = ["PickleSerializer"]


class PickleSerializer(BaseSerializer):
    """Python's pickle. Reading a pickle runs the code that it names, so it is for trusted bytes only.

    Without arguments it is for bare use and for models in this process's memory; on any other backend, whoever can
    write to it could run code here, and the model is refused. With a secret every row is signed (HMAC-SHA256 over its
    key and its payload), and no byte is unpickled before its signature was checked.

    A signature shows that this row was once written under this key by somebody who has the secret. It does not show
    that it is the latest one: who can write to the backend can put an older row back.

    Args:
        secret: the secret, text (as UTF-8) or bytes; or several of them, to change it: the first signs, and rows
            signed with any are read. Use one of at least 32 random bytes (``secrets.token_bytes(32)``).
        unsafe: sign nothing and read everything, on any backend.

    Raises:
        TypeError: a secret that is neither text nor bytes.
        ValueError: an empty secret, or a secret and ``unsafe`` at once.
    """

    name = "pickle"

    def __init__(
        self,
        secret: str | bytes | list[str | bytes] | list[str] | list[bytes] | tuple[str | bytes, ...] | None = None,
        *,
        unsafe: bool = False,
    ) -> None:
        signed = secret is not None
        macs, problem = keyed(secret) if signed else ([], None)
        del secret  # a traceback may show the variables of this frame
        if problem is not None:
            raise problem
        if signed and unsafe:
            raise ValueError("a secret signs, and unsafe=True turns signing off: give one of them")
        self._signer = Signer(macs) if signed else None
        self.trusted_only = not signed and not unsafe

    def dumps(self, obj: Any) -> bytes:
        """Pickle ``obj`` with the highest protocol; signed, if there is a secret."""
        packed = _pack(obj)
        return packed if self._signer is None else self._signer.sign(packed)

    def loads(self, s: bytes) -> Any:
        """Unpickle bytes that you trust, or that :meth:`dumps` has signed.

        Raises:
            PayloadError: there is a secret, and the signature is none that :meth:`dumps` gave.
        """
        return _unpack(s if self._signer is None else self._signer.check(s))

    def row_format(self) -> RowFormat:
        """Pickle rows without a signature: theirs are made and checked with the key, around what this gives."""
        cls = type(self)
        if cls.dumps is PickleSerializer.dumps and cls.loads is PickleSerializer.loads:
            return RowFormat(_pack, _unpack, self._signer)
        return RowFormat(self.dumps, self.load_row, self._signer)


def _pack(obj: Any) -> bytes:
    import pickle  # here, because few programs need it

    return pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)


def _unpack(payload: bytes) -> Any:
    import pickle

    return pickle.loads(payload)  # noqa: S301 - whoever calls it has checked the signature, or trusts the bytes
