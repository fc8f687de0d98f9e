"""Signatures over a payload and the key that it is stored under."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import PayloadError

__all__ = ["SIZE", "Signer", "hash_states"]

# Signed data begins with its kind, so that a signature of an object is never valid for a row.
_ROW = b"cacheorm signed row\0"
_OBJECT = b"cacheorm signed object\0"

SIZE = 32  # of an HMAC-SHA256, in bytes


class Signer:
    """Signs with HMAC-SHA256 (https://www.rfc-editor.org/rfc/rfc2104), and checks signatures in constant time.

    Args:
        macs: at least one, as :func:`hash_states` returns them; the first signs, and all are tried for a check.
    """

    __slots__ = ("_macs", "_same")

    def __init__(self, macs: list[Any]) -> None:
        from hmac import compare_digest  # here, because few programs need it

        self._macs = macs
        self._same = compare_digest

    def sign(self, payload: bytes, key: str | None = None) -> bytes:
        """Return a payload with its signature at the end.

        Args:
            payload: any bytes.
            key: the key that they are going to be stored under; ``None`` for an object without a key.
        """
        return payload + _digest(self._macs[0], payload, key)

    def check(self, signed: bytes, key: str | None = None) -> bytes:
        """Check the signature of signed bytes; return the payload without it.

        Raises:
            PayloadError: it was signed for another key or with another secret, was changed since, or is not signed.
        """
        payload, given = signed[:-SIZE], signed[-SIZE:]
        for mac in self._macs:
            if self._same(_digest(mac, payload, key), given):
                return payload
        raise PayloadError(
            "its signature is wrong: it was written under another key or with a secret that is not known here, "
            "or changed since"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("what signs payloads cannot be pickled or copied, because its secrets would be, too")


def hash_states(secrets: Any) -> tuple[list[Any], Exception | None]:
    """Return a hash state for each secret, and an error for the caller to raise, or ``None``.

    Only the hash states are kept, so that printing the attributes of an object shows no secret. No error is raised
    here, because a traceback may show the variables of each frame.

    Args:
        secrets: text, as UTF-8, or bytes; or a list of them.
    """
    import hmac

    macs = []
    if isinstance(secrets, (str, bytes)):
        secrets = [secrets]
    elif not isinstance(secrets, (list, tuple)):
        return [], TypeError(f"a secret is text or bytes, or a list of them, got {type(secrets).__name__}")
    for secret in secrets:
        if not isinstance(secret, (str, bytes)):
            return [], TypeError(f"a secret is text or bytes, got {type(secret).__name__}")
        if not secret:
            return [], ValueError("a secret must not be empty")
        macs.append(hmac.new(secret.encode() if isinstance(secret, str) else secret, digestmod="sha256"))
    return macs, None if macs else ValueError("signing takes at least one secret")


def _digest(mac: Any, payload: bytes, key: str | None) -> bytes:
    mac = mac.copy()
    if key is None:
        mac.update(_OBJECT)
    else:
        name = key.encode("utf-8", "surrogatepass")
        # With its length, so that no end of a key can be taken for the start of a payload.
        mac.update(_ROW + len(name).to_bytes(8, "big") + name)
    mac.update(payload)
    digest: bytes = mac.digest()
    return digest
