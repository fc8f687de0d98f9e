"""The report of ``cacheorm explain``: what is stored under the key of a row, and what the model reads from it."""

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
        ``key``; ``backend``, its class; ``form``, in words, ``None`` if nothing is stored; ``serializer``, its name in
        the payload; ``version`` of the schema; ``compressed`` and ``signed``; ``stored_bytes``; ``packed_bytes``, the
        size of the packed row alone, not compressed, without header and signature; ``ttl`` in seconds, 0 if it never
        expires; ``fields``, ``None`` if they cannot be read; and the ``problem`` with reading them.
    """
    backend = plan.backend
    pk, key = plan.identity.identify_one(row, True)
    payload = backend.get(key)
    report: dict[str, Any] = {
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
        return report
    report["stored_bytes"] = len(payload)
    report["ttl"] = backend.ttl(key)
    if is_absence(payload):
        if payload == ABSENT:
            report["form"] = "a remembered miss: there is no such row"
        else:
            report["form"] = "a lease: the row is being loaded" if is_lease(payload) else "a lease that was given up"
        return report
    try:
        report.update(_envelope(plan, payload))
        # A payload that the model would treat as a miss is shown with its error.
        strict = RowPlan(
            plan.model, plan.options._replace(on_invalid="raise"), plan.fields, plan.key_fields, plan.composite
        )
        # A row that is kept stale is shown, too.
        report["fields"] = masked(plan, strict.resolved().codec.load_many([payload], [pk], [key], None, None, 0)[0])
        if plan.aging is not None and plan.aging.is_over(payload):
            report["form"] = "kept stale: its lifetime has ended"
    except (PayloadError, ValueError) as error:
        report["problem"] = str(error)
    return report


def _envelope(plan: RowPlan, payload: bytes) -> dict[str, Any]:
    """Describe the envelope of the payload of a row."""
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
