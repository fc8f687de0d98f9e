"""Signals that operations send for each row they write or remove, on `blinker <https://blinker.readthedocs.io>`_.

::

    @co.signals.post_save.connect_via(User)
    def welcome(sender, instance, created):
        ...

The sender is the model. A receiver that is connected to an abstract model hears of all models that inherit it, one that
is connected to a model with rows of its own hears of those only; without a sender it hears of all models. Receivers are
called for one row after another in the order of the operation, by the thread that executes it.
Blinker holds functions weakly: a receiver that nothing else refers to, such as a lambda, is forgotten.

This module is imported with its first use. Without receivers for a model, its operations do not so much as ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from blinker import Signal

__all__ = ["ModelSignal", "post_delete", "post_save", "pre_delete", "pre_save"]


class ModelSignal(Signal):
    """A signal whose senders are models, also heard by receivers of the abstract models that they inherit."""

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether somebody may hear of a model."""
        return any(map(super().has_receivers_for, _heard_as(sender)))

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """Give those who hear of a model, each once."""
        given: set[int] = set()
        for one in _heard_as(sender):
            for receiver in super().receivers_for(one):
                if id(receiver) not in given:
                    given.add(id(receiver))
                    yield receiver


def _heard_as(sender: Any) -> Iterator[Any]:
    """Give a model and the abstract ones among its parents, which send nothing themselves."""
    yield sender
    for parent in getattr(sender, "__mro__", ())[1:]:
        if type(parent) is type(sender) and not hasattr(parent, "_meta"):
            yield parent


pre_save = ModelSignal(
    """Sent with ``instance`` before a row is checked and written, and before any row of its operation is.

    What a receiver changes of the instance is stored; the primary key of a row that exists must stay. A receiver that
    raises stops the operation: nothing is written. The instance is the one that was given to the operation, if it was
    one; of an update, it is filled in first and is the whole row as it is about to be written. An atomic update sends
    the row as it was read and changed, and sends the signal again if it has to try the row again.
    """
)

post_save = ModelSignal(
    """Sent with ``instance`` and ``created`` after a row was written.

    ``created`` is ``True`` for inserts (also where they replaced a row, which they do not look at) and for rows that
    ``get_or_create`` created, and ``False`` for updates. Rows that were not stored, because they exist or do not, or
    because the backend refused them, send none.
    """
)

pre_delete = ModelSignal(
    """Sent with ``instance`` before a row is removed, and before any row of its operation is.

    The instance is the one that was given, or one of which only the primary key is set. A receiver that raises stops
    the operation: nothing is removed.
    """
)

post_delete = ModelSignal(
    """Sent with ``instance``, as ``pre_delete`` is, after a row was removed.

    An operation on one row sends it only where the row existed; one on many rows for all of them, as backends do not
    tell which of them existed.
    """
)
