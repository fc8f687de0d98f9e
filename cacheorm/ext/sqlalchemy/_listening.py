"""Listening to the sessions of the process: what their transactions change, and when they end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary, ref

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction

try:
    from sqlalchemy.util import await_
except ImportError:  # its name in 2.0
    from sqlalchemy.util import await_only as await_

from .._commits import Changes
from ._statements import Change, change_of

__all__ = ["changes_of", "is_listened_to", "listen"]


class _Unit:
    """What the transaction of a session, and its savepoints, have changed.

    Attributes:
        changes: by transaction or savepoint.
        executing: statements that connections are executing.
        committed: the changes of a transaction that was committed, until it has ended.
        may_last: whether changes may be in the database although the session has not committed them: a connection was
            told to commit, and fails then, or another one does; or it commits each statement by itself.
    """

    def __init__(self) -> None:
        self.changes: dict[SessionTransaction, Changes] = {}
        self.connections: list[sa.Connection] = []
        self.executing: dict[sa.Connection, Change] = {}
        self.committed: Changes | None = None
        self.may_last = False


_NAME = "cacheorm"
"""That of the unit of a session in its ``info``, so that it goes with the session, which it refers to."""

_sessions: WeakKeyDictionary[sa.Connection, ref[Session]] = WeakKeyDictionary()


def listen() -> None:
    """Begin to listen, if that is not done yet."""
    if event.contains(Session, "after_begin", _after_begin):
        return
    # Before what users listen for: their listeners may read the cache, or raise errors.
    event.listen(Session, "after_begin", _after_begin, insert=True)
    event.listen(Session, "do_orm_execute", _do_orm_execute, insert=True)
    event.listen(Session, "after_commit", _after_commit, insert=True)
    event.listen(Session, "after_transaction_end", _after_transaction_end, insert=True)


def is_listened_to(session: Session) -> bool:
    """Return whether others than this module listen to what a session executes, and may change it."""
    return any(listener is not _do_orm_execute for listener in session.dispatch.do_orm_execute)


def _after_begin(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    engine = connection.engine
    if not event.contains(engine, "before_execute", _before_execute):
        event.listen(engine, "before_execute", _before_execute, retval=True)
        event.listen(engine, "after_execute", _after_execute)
        event.listen(engine, "commit", _before_commit)
        event.listen(engine, "commit_twophase", _before_commit)
    if _session_of(connection) is not session:
        _sessions[connection] = ref(session)
        _unit_of(session).connections.append(connection)


def changes_of(session: Session) -> Changes | None:
    """Return what is removed after the commit of the innermost transaction of a session; ``None`` without one."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    return None if transaction is None else _unit_of(session).changes.setdefault(transaction, Changes())


def _session_of(connection: sa.Connection) -> Session | None:
    known = _sessions.get(connection)
    return None if known is None else known()


def _unit_of(session: Session) -> _Unit:
    unit: _Unit = session.info.setdefault(_NAME, _Unit())
    return unit


def _do_orm_execute(state: ORMExecuteState) -> None:
    """Have SQLAlchemy return the primary keys beside what a RETURNING of the user's says, where it can do so."""
    statement: Any = state.statement
    if (
        (state.is_update or state.is_delete)
        and state.is_orm_statement
        and statement._returning
        and state.execution_options.get("synchronize_session", "auto") == "auto"
    ):
        state.update_execution_options(synchronize_session="fetch")


def _before_execute(
    connection: sa.Connection, statement: Any, multiparams: Any, params: Any, execution_options: Any
) -> tuple[Any, Any, Any]:
    session = _session_of(connection)
    if session is not None:
        change = change_of(statement, connection, multiparams or ([params] if params else []))
        if change is not None:
            _unit_of(session).executing[connection] = change
            statement = change.statement
    return statement, multiparams, params


def _after_execute(
    connection: sa.Connection, statement: Any, multiparams: Any, params: Any, execution_options: Any, result: Any
) -> None:
    session = _session_of(connection)
    change = None if session is None else _unit_of(session).executing.pop(connection, None)
    if session is None or change is None or change.statement is not statement:
        return
    changes = changes_of(session)
    if changes is None:
        return
    _unit_of(session).may_last |= connection._is_autocommit_isolation()
    rows = change.rows(result)
    for cached, keys in change.cached:
        if rows is not None:
            pks = [tuple([row[key] for key in keys]) for row in rows]
            changes.add(cached, [pk[0] for pk in pks] if len(keys) == 1 else pks)
        elif not change.only_adds or cached.model._meta.options.negative_ttl:
            kind = type(statement).__visit_name__.upper()
            changes.add_all(cached, f"nothing tells which rows this {kind} of {keys[0].table} has changed")


def _before_commit(connection: sa.Connection, *_: Any) -> None:
    session = _session_of(connection)
    if session is not None:
        _unit_of(session).may_last = True


def _after_commit(session: Session) -> None:
    unit: _Unit | None = session.info.get(_NAME)
    if unit is None:
        return
    savepoint = session.get_nested_transaction()
    transaction = savepoint or session.get_transaction()
    changes = None if transaction is None else unit.changes.pop(transaction, None)
    if changes is None:
        return
    if savepoint is not None:
        outer = _around(savepoint)
        unit.changes.setdefault(outer, Changes()).update(changes)
        return
    unit.committed = changes
    _do(unit, changes.remove, changes.aremove)


def _around(savepoint: SessionTransaction) -> SessionTransaction:
    """Return the savepoint or transaction around a savepoint, past those that the session begins for itself."""
    outer = savepoint.parent
    while outer is not None and not outer.nested and outer.parent is not None:
        outer = outer.parent
    assert outer is not None  # noqa: S101 - a savepoint is in a transaction
    return outer


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    unit: _Unit | None = session.info.get(_NAME)
    if unit is None:
        return
    changes = unit.changes.pop(transaction, None)
    if transaction.parent is None:
        for connection in unit.connections:
            _sessions.pop(connection, None)
        del session.info[_NAME]
        committed = unit.committed
        if committed is None and changes is not None and unit.may_last:
            committed = changes
            _do(unit, changes.remove, changes.aremove)
        if committed is not None:
            # By now the session has given its connection back, which the loader may have to wait for.
            _do(unit, committed.load, committed.aload)


def _do(unit: _Unit, call: Callable[[], None], acall: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call, or await where the connections are those of an event loop: then this runs in a greenlet that can do so."""
    if any(connection.dialect.is_async for connection in unit.connections):
        await_(acall())
    else:
        call()
