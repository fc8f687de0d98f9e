"""Signals that operations send for each row they write or remove, on `blinker <https://blinker.readthedocs.io>`_.

::

    @co.signals.post_save.connect_via(User)
    def welcome(sender, instance, created):
        ...

The sender is the model. A receiver that is connected to a model with rows is called for rows of this model only. One
that is connected to an abstract model is called for all models that inherit it, and one that is connected without a
sender for all models. Receivers are called for one row after another in the order of the operation, by the thread that
executes it. Blinker refers to receivers weakly: one that nothing else refers to, such as a lambda, is dropped.

This module is imported with its first use. Until then operations do not look for receivers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from blinker import Signal

from .types import is_model

__all__ = ["ModelSignal", "post_delete", "post_save", "pre_delete", "pre_save"]


class ModelSignal(Signal):
    """A signal whose senders are models; receivers of the abstract models that they inherit get it as well."""

    def has_receivers_for(self, sender: Any) -> bool:
        """Return whether there may be receivers for a model."""
        return any(map(super().has_receivers_for, _senders(sender)))

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """Yield the receivers for a model, each once."""
        yielded: set[int] = set()
        for model in _senders(sender):
            for receiver in super().receivers_for(model):
                if id(receiver) not in yielded:
                    yielded.add(id(receiver))
                    yield receiver


def _senders(sender: Any) -> Iterator[Any]:
    """Yield a model and the abstract models that it inherits, which send nothing themselves."""
    yield sender
    for parent in getattr(sender, "__mro__", ())[1:]:
        if type(parent) is type(sender) and not is_model(parent):
            yield parent


pre_save = ModelSignal(
    """Sent with ``instance`` before a row is checked and written, and before any row of its operation is.

    Receivers may change the instance, and the changes are stored; they must not change the primary key of a row that
    exists. A receiver that raises stops the operation: nothing is written. The instance is the one that was given to
    the operation, if it was one. For an update, it holds the whole row as it is about to be written. An atomic update
    sends the row as it was read and changed, and sends the signal again each time that it tries the row again.
    """
)

post_save = ModelSignal(
    """Sent with ``instance`` and ``created`` after a row was written.

    ``created`` is ``True`` for inserts (also if they replaced a row, which they do not check) and for rows that
    ``get_or_create`` created, and ``False`` for updates. It is not sent for rows that were not stored, because they
    exist already, do not exist, or were refused by the backend.
    """
)

pre_delete = ModelSignal(
    """Sent with ``instance`` before a row is removed, and before any row of its operation is.

    The instance is the one that was given, or one with only the primary key set. A receiver that raises stops the
    operation: nothing is removed.
    """
)

post_delete = ModelSignal(
    """Sent with ``instance`` after a row was removed; the instance is that of ``pre_delete``.

    An operation on one row sends it only if the row existed. An operation on many rows sends it for all of them, since
    backends do not report which of them existed.
    """
)
