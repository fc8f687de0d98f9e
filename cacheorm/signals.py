"""Signals that operations send for each row they write or remove, on `blinker <https://blinker.readthedocs.io>`_.

::

    @co.signals.post_save.connect_via(User)
    def welcome(sender, instance, created):
        ...

The sender is the model, itself and not the models it inherits; a receiver that is connected without one hears of all
models. Receivers are called for one row after another in the order of the operation, by the thread that executes it.
Blinker holds functions weakly: a receiver that nothing else refers to, such as a lambda, is forgotten.

This module is imported with its first use. Without receivers for a model, its operations do not so much as ask it.
"""

from __future__ import annotations

from blinker import Signal

__all__ = ["post_delete", "post_save", "pre_delete", "pre_save"]

pre_save = Signal(
    """Sent with ``instance`` before a row is checked and written, and before any row of its operation is.

    What a receiver changes of the instance is stored; the primary key of a row that exists must stay. A receiver that
    raises stops the operation: nothing is written. The instance is the one that was given to the operation, if it was
    one; of an update, it is filled in first and is the whole row as it is about to be written. An atomic update sends
    the row as it was read and changed, and sends the signal again if it has to try the row again.
    """
)

post_save = Signal(
    """Sent with ``instance`` and ``created`` after a row was written.

    ``created`` is ``True`` for inserts (also where they replaced a row, which they do not look at) and for rows that
    ``get_or_create`` created, and ``False`` for updates. Rows that were not stored, because they exist or do not, or
    because the backend refused them, send none.
    """
)

pre_delete = Signal(
    """Sent with ``instance`` before a row is removed, and before any row of its operation is.

    The instance is the one that was given, or one of which only the primary key is set. A receiver that raises stops
    the operation: nothing is removed.
    """
)

post_delete = Signal(
    """Sent with ``instance``, as ``pre_delete`` is, after a row was removed.

    An operation on one row sends it only where the row existed; one on many rows for all of them, as backends do not
    tell which of them existed.
    """
)
