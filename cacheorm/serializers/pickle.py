"""Pickle, signed on backends that others can write to."""

from __future__ import annotations

from typing import Any

from .base import BaseSerializer, RowFormat
from .signing import Signer, hash_states

__all__ = ["PickleSerializer"]


class PickleSerializer(BaseSerializer):
    """Python's pickle. Reading a pickle runs the code that it names, so it is for trusted bytes only.

    Without arguments it is for use by itself, and for models in this process's memory. On other backends the model is
    refused, since any program that can write to the backend could run code here. With a secret every row is signed
    (HMAC-SHA256 over its key and its payload), and no byte is unpickled before its signature was checked.

    A signature shows that the row was once written under its key by a program that has the secret. It does not show
    that the row is the latest one: any program that can write to the backend can restore an older row.

    Args:
        secret: the secret, text (as UTF-8) or bytes, or a list of secrets. The first one signs, and rows signed with
            any of them are read, so that the secret can be changed. Use one of at least 32 random bytes
            (``secrets.token_bytes(32)``).
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
        macs, problem = hash_states(secret) if signed else ([], None)
        del secret  # a traceback may show the variables of this frame
        if problem is not None:
            raise problem
        if signed and unsafe:
            raise ValueError("a secret signs, and unsafe=True turns signing off: give one of them")
        self._signer = Signer(macs) if signed else None
        self.trusted_only = not signed and not unsafe

    def dumps(self, obj: Any) -> bytes:
        """Pickle ``obj`` with the highest protocol; sign it if there is a secret."""
        packed = _pack(obj)
        return packed if self._signer is None else self._signer.sign(packed)

    def loads(self, s: bytes) -> Any:
        """Unpickle trusted bytes, or with a secret those that :meth:`dumps` has signed.

        Raises:
            PayloadError: there is a secret, and the signature is missing or wrong.
        """
        return _unpack(s if self._signer is None else self._signer.check(s))

    def row_format(self) -> RowFormat:
        """Return functions that do not sign; the envelope signs rows and checks them, together with their keys."""
        cls = type(self)
        if cls.dumps is PickleSerializer.dumps and cls.loads is PickleSerializer.loads:
            return RowFormat(_pack, _unpack, self._signer)
        return RowFormat(self.dumps, self.load_row, self._signer)


def _pack(obj: Any) -> bytes:
    import pickle  # here, because few programs need it

    return pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)


def _unpack(payload: bytes) -> Any:
    import pickle

    return pickle.loads(payload)  # noqa: S301 - the callers have checked the signature, or trust the bytes
