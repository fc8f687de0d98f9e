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

__all__ = ["ALL", "NEW", "assigned", "is_unsaved", "look", "marked", "unsaved"]

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


class _Unsaved:
    """Stands in a state for a field without a bit: the row has a key that was made for it, and may not be stored."""

    bit = 0


_UNSAVED = _Unsaved()


def unsaved(state: Any) -> Any:
    """Return the state of an instance that is to be inserted though it has a primary key."""
    if is_unsaved(state):
        return state
    return (*(state if type(state) is tuple else (state or 0,)), _UNSAVED, b"")


def is_unsaved(state: Any) -> bool:
    """Return whether an instance is to be inserted though it has a primary key."""
    return type(state) is tuple and _UNSAVED in state


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
        tracker.poke(instance, (*state, field, _fingerprint(field, value)))


def assigned(state: Any, instance: Any) -> int:
    """Return the mask of the fields that were assigned, or whose values were changed in place."""
    if type(state) is not tuple:
        return state or 0
    mask: int = state[0]
    for at in range(1, len(state), 2):
        field, before = state[at], state[at + 1]
        if field is not _UNSAVED and not mask & field.bit and _is_other(field, field.peek(instance), before):
            mask |= field.bit
    return mask


def _fingerprint(field: Any, value: Any) -> Any:
    """Return what is another one once a value was changed; ``None`` if there is no way to tell.

    It is the pickled value, or of one that cannot be pickled its pickled stored form, in a tuple.
    """
    try:
        return _dumps(value)
    except MemoryError:
        raise
    except Exception:  # objects raise what they like
        stored = _stored(field, value)
        return None if stored is None else (stored,)


def _is_other(field: Any, value: Any, before: Any) -> bool:
    """Return whether a value was changed since its fingerprint was taken."""
    if before is None:
        return True
    now = _fingerprint(field, value)
    if now == before:
        return False
    if type(now) is tuple or type(before) is tuple or type(value) is dict:
        return True
    # Objects keep caches, which are pickled: what counts is what is stored.
    import pickle

    try:
        stored = _stored(field, pickle.loads(before))  # noqa: S301 - pickled by this process
    except MemoryError:
        raise
    except Exception:
        return True
    return stored is None or stored != _stored(field, value)


def _stored(field: Any, value: Any) -> bytes | None:
    """Return the pickled stored form of a value; ``None`` if it has none."""
    try:
        return _dumps(field.converter.dump(value))
    except MemoryError:
        raise
    except Exception:
        return None


def _dumps(value: Any) -> bytes:
    import pickle  # here, because few programs need it

    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
