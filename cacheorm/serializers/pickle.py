"""Pickle, for rows that never leave this process."""

from __future__ import annotations

from typing import Any

from .base import BaseSerializer

__all__ = ["PickleSerializer"]


class PickleSerializer(BaseSerializer):
    """Python's pickle. Reading a pickle runs code that the pickle names, so it is for trusted bytes only.

    :meth:`dumps` and :meth:`loads` work on their own. A model may use it on a backend in this process's
    memory; on any other, whoever can write to it could run code here, and the model is refused.
    """

    name = "pickle"
    trusted_only = True

    def dumps(self, obj: Any) -> bytes:
        """Pickle ``obj`` with the highest protocol."""
        import pickle  # here, because few programs need it

        return pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)

    def loads(self, s: bytes) -> Any:
        """Unpickle bytes that you trust."""
        import pickle

        return pickle.loads(s)  # noqa: S301 - the class says whose bytes these may be
