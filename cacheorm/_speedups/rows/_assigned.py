# cython: language_level=3, annotation_typing=False
"""Which fields of an instance were changed since its row was read or stored. One source, also compiled.

Every instance has one hidden slot for that. It is empty as long as nothing was changed. Otherwise it holds a mask with
the bit ``1 << place`` of each field that was assigned. Where a value was handed out that can be changed in place, it
holds a tuple: the mask, and for each such field the field and a fingerprint of the value as it was.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

__all__ = ["ALL", "NEW", "assigned", "look", "marked"]

ALL = -1
"""The mask of an instance of which every value is a change."""

NEW = 1
"""The bit of an instance that was made by its ``__init__``, and not stored since. No field has it."""

_CONSTANT = frozenset({type(None), bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID})


def marked(state: Any, bit: int) -> Any:
    """Return the state of an instance after one of its fields was assigned."""
    if type(state) is tuple:
        return (state[0] | bit, *state[1:])
    return bit if state is None else state | bit


def look(field: Any, tracker: Any, instance: Any, value: Any) -> None:
    """Keep a fingerprint of a value that is handed out, if it is one that can be changed in place.

    Args:
        field: the field, of which the value is.
        tracker: the slot of the state.
        instance: the instance.
        value: the value.
    """
    if type(value) in _CONSTANT:
        return
    state = tracker.peek(instance)
    if type(state) is not tuple:
        state = (state or 0,)
    elif field in state:
        return
    if not state[0] & field.bit:
        tracker.poke(instance, (*state, field, _fingerprint(value)))


def assigned(state: Any, instance: Any) -> int:
    """Return the mask of the fields that were assigned, or whose values were changed in place."""
    if type(state) is not tuple:
        return state or 0
    mask: int = state[0]
    for at in range(1, len(state), 2):
        field, before = state[at], state[at + 1]
        if not mask & field.bit and (before is None or _fingerprint(field.peek(instance)) != before):
            mask |= field.bit
    return mask


def _fingerprint(value: Any) -> bytes | None:
    """Return bytes that are others once a value was changed; ``None`` if there is no way to tell."""
    import pickle  # here, because few programs need it

    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # objects raise what they like
        return None
