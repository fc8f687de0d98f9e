"""What is stored under the key of a row: its form, its size, and what the model reads in it."""

from __future__ import annotations

from typing import Any

from ..errors import PayloadError
from ..metadata import RowPlan
from ..payload import ABSENT, COMPRESSED, MAGIC, SIGNED, identify, is_absence, is_lease
from ..serializers.compression import LIMIT, decompress
from ..serializers.signing import SIZE
from .output import masked

__all__ = ["explain"]


def explain(plan: RowPlan, row: dict[str, Any]) -> dict[str, Any]:
    """Describe what is stored for a row.

    Returns:
        ``key``; ``backend``, its class; ``form``, in words, ``None`` if nothing is stored; the ``serializer`` that the
        payload names; ``version`` of the schema; ``compressed`` and ``signed``; ``stored_bytes``; ``packed_bytes``,
        those of the row alone, not compressed, without header and signature; ``ttl`` in seconds, 0 if it never
        expires; ``fields``, ``None`` if they cannot be read, and the ``problem`` that kept them from being read.
    """
    backend = plan.backend
    pk, key = plan.identity.identify_one(row, True)
    payload = backend.get(key)
    told: dict[str, Any] = {
        "key": key,
        "backend": type(backend).__name__,
        "form": None,
        "serializer": None,
        "version": None,
        "compressed": False,
        "signed": False,
        "stored_bytes": None,
        "packed_bytes": None,
        "ttl": None,
        "fields": None,
        "problem": None,
    }
    if payload is None:
        return told
    told["stored_bytes"] = len(payload)
    told["ttl"] = backend.ttl(key)
    if is_absence(payload):
        if payload == ABSENT:
            told["form"] = "a remembered miss: there is no such row"
        else:
            told["form"] = "a lease: the row is being loaded" if is_lease(payload) else "a lease that was given up"
        return told
    try:
        told.update(_form(plan, payload))
        # What the model would count as a miss is what somebody who asks wants to see.
        strict = RowPlan(
            plan.model, plan.options._replace(on_invalid="raise"), plan.fields, plan.key_fields, plan.composite
        )
        told["fields"] = masked(plan, strict.resolved().codec.load(payload, pk, key))
    except (PayloadError, ValueError) as error:
        told["problem"] = str(error)
    return told


def _form(plan: RowPlan, payload: bytes) -> dict[str, Any]:
    """Describe the form of a payload that is one of a row."""
    header, start = identify(payload)
    if header is None:
        return {"form": f"no header: read as {plan.serializer}", "packed_bytes": len(payload)}
    compressed, signed = bool(header.flags & COMPRESSED), bool(header.flags & SIGNED)
    body = payload[start : len(payload) - (SIZE if signed else 0)]
    if compressed:
        compress = plan.options.compress
        body = decompress(body, LIMIT if compress is None else compress.limit)
    return {
        "form": "with a header" if payload[0] == MAGIC else "bare",
        "serializer": header.serializer,
        "version": header.version,
        "compressed": compressed,
        "signed": signed,
        "packed_bytes": len(body),
    }
