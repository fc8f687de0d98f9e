"""Inserting rows, and creating a row if there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import ContextVar
from operator import not_
from typing import Any, NamedTuple, Self, TypeVar, overload

from .._speedups import slots
from ..errors import BackendError, ConflictError, FailedRow, WriteError
from ..metadata import RowPlan
from ..requests import Call, CallFunction, SendSignal, Steps
from ..types import TTL
from .base import R, WriteOperation
from .compare_and_set import swap
from .presence import are_rows
from .signal_senders import signal_senders

__all__ = ["GetOrCreate", "ModelInsert", "keyless_rows", "take_back_keys"]

T = TypeVar("T")

_CREATED = {"created": True}

# How often get_or_create tries to read or create a row that others create and remove at the same time.
_TRIES = 16


class Creation(NamedTuple):
    """The row that a ``get_or_create`` creates.

    Attributes:
        instance: the row.
        key: its key.
    """

    instance: Any
    key: str


_creation: ContextVar[Creation | None] = ContextVar("cacheorm_creation", default=None)
"""The row for which ``get_or_create`` has called an overridden ``save()``."""


class CreatedByOthersError(ConflictError):
    """Others have created the row that an overridden ``save()`` was to create."""


class ModelInsert(WriteOperation[R]):
    """Writes rows, replacing rows with the same keys, and returns the instances in the order given.

    All rows are converted before the first byte is sent: if one is bad, nothing is written.

    Raises (on execute):
        ValidationError: all bad fields of the first bad row.
        WriteError: rows that the backend refused; all others are stored.
    """

    _verb = "insert"
    _if_absent = False
    _takes_back = True
    # Instances of an execution that failed, some of them stored under keys that were made for them: made anew from
    # dicts, they would be stored again under other keys.
    _kept: Any = None
    _creation: Creation | None = None

    @overload
    def if_absent(self: ModelInsert[list[T]]) -> ModelInsert[list[T | None]]: ...
    @overload
    def if_absent(self: ModelInsert[R]) -> ModelInsert[R | None]: ...
    def if_absent(self) -> Any:
        """Write only rows that do not exist yet; the result has ``None`` for the others."""
        self._if_absent = True
        return self

    def _only_create(self, creation: Creation) -> Self:
        """Write the row of a ``get_or_create``, only if there is still none."""
        self._if_absent, self._creation = True, creation
        return self

    def steps(self) -> Steps[R]:
        instances = self._kept or self._plan.adopt(self._rows, many=self._many)
        self._kept = None
        keyless = keyless_rows(self._plan, instances) if self._takes_back else []
        stored: set[str] | None = set() if keyless else None
        insert = self._insert_many(instances, stored) if self._many else self._insert_one(instances)
        try:
            result: Any = yield from insert
        except BaseException as error:
            take_back_keys(self._plan, keyless, error, stored or ())
            if stored or (keyless and isinstance(error, (BackendError, WriteError))):
                self._kept = instances
            raise
        slots.clear(self._plan.tracker, result if self._many else [result])
        return result  # type: ignore[no-any-return]

    def _insert_one(self, instances: list[Any]) -> Steps[Any]:
        plan = self._plan
        resolved = plan.resolved()
        signals = signal_senders("save", plan.model)
        if signals is not None and signals.before is not None:
            yield from self._send_before(signals.before, [(0, instances[0])])
        payload = resolved.codec.dump_many(instances, False)[0]
        pk, key = plan.identity.identify_one(instances[0], False)
        if self._creation is not None and self._creation.key != key:
            raise ValueError(
                f"{plan.model.__name__}: a receiver of pre_save, or save(), changed the primary key that was asked for"
            )
        method = "add" if self._if_absent else "set"
        stored = yield Call(resolved.backend, method, (key, payload, self._pick_ttl()))
        if self._if_absent:
            written = {key: stored} if stored else (yield from self._replace_misses({key: payload}, {key: pk}))
            if not written[key]:
                return None
        elif stored is False:
            raise WriteError([FailedRow(plan.model.__name__, key, "refused by the backend")])
        if signals is not None and signals.after is not None:
            yield SendSignal(signals.after, [(0, instances[0])], _CREATED)
        return instances[0]

    def _insert_many(self, instances: list[Any], stored: set[str] | None) -> Steps[list[Any]]:
        plan = self._plan
        codec = plan.resolved().codec
        signals = signal_senders("save", plan.model)
        if signals is not None and signals.before is not None:
            yield from self._send_before(signals.before, list(enumerate(instances)))
        after = None if signals is None else signals.after
        payloads = codec.dump_many(instances)
        pks, keys = plan.identity.identify(instances, False)
        if not self._if_absent:
            rows = None if after is None else SendSignal(after, list(enumerate(instances)), _CREATED)
            yield from self._write_many("set_many", keys, payloads, rows, stored_keys=stored)
            return instances
        # Of several rows with the same key the first is added, as if they were inserted one after another.
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        positions = list(first.values())
        rows = (
            None if after is None else SendSignal(after, [(index, instances[index]) for index in positions], _CREATED)
        )
        added = yield from self._write_many("add_many", list(first), [payloads[index] for index in positions], rows)
        refused = {key: payloads[index] for key, index in first.items() if not added.get(key)}
        if refused:
            replaced = yield from self._replace_misses(refused, {key: pks[first[key]] for key in refused})
            added.update(replaced)
            if after is not None:
                written = [first[key] for key in replaced if replaced[key]]
                yield SendSignal(after, [(index, instances[index]) for index in written], _CREATED)
        return [
            instance if added.get(key) and first[key] == position else None
            for position, (key, instance) in enumerate(zip(keys, instances, strict=True))
        ]

    def _replace_misses(self, payloads: dict[str, bytes], pks: dict[str, Any]) -> Steps[dict[str, bool]]:
        """Write rows in place of what is stored but no row; return ``{key: written?}``."""
        plan, backend = self._plan, self._plan.backend

        def are_none(keys: list[str], stored: list[Any]) -> list[bool]:
            return [*map(not_, are_rows(plan, [pks[key] for key in keys], keys, stored))]

        outcome = yield from swap(backend, payloads, self._pick_ttl(), self._chunk or backend.chunk_size, are_none)
        if outcome.reasons:
            name = self._plan.model.__name__
            raise WriteError(
                [FailedRow(name, key, text, key in outcome.unsure) for key, text in outcome.reasons.items()]
            )
        return outcome


def keyless_rows(plan: RowPlan, rows: list[Any]) -> list[tuple[Any, Any]]:
    """Return the rows that get a part of their primary key from its default, each with the field."""
    fields = [field for field in plan.key_fields if field.default is not None]
    return [(field, row) for field in fields for row in rows if field.peek(row) is None]


def take_back_keys(
    plan: RowPlan, keyless: list[tuple[Any, Any]], error: BaseException, stored: Collection[str] = ()
) -> None:
    """Take back the keys that were made for rows that are not stored, so that saving them again inserts them.

    Args:
        plan: the plan of their model.
        keyless: rows of :func:`keyless_rows`.
        error: the error of the write.
        stored: keys of rows that are stored all the same. Of a :exc:`WriteError`, these are all that it does not name.
    """
    if isinstance(error, WriteError):
        failed = {row.key for row in error.failed}
        keyless = [(field, row) for field, row in keyless if plan.key_of(row) in failed]
    elif stored:
        keyless = [(field, row) for field, row in keyless if plan.key_of(row) not in stored]
    for field, row in keyless:
        field.poke(row, None)


class GetOrCreate(WriteOperation[tuple[Any, bool]]):
    """Reads a row, or writes it if there is none; of concurrent callers, one writes it and all get its row.

    Args:
        plan: the plan of the model.
        rows: the primary key, and the row to create.
        save: called with the instance to create, if the model overrides ``save()``.
    """

    _verb = "get_or_create"

    def __init__(self, plan: RowPlan, rows: tuple[Any, Any], save: Callable[[Any], Any] | None) -> None:
        super().__init__(plan, rows, False)
        self._save = save

    def steps(self) -> Steps[tuple[Any, bool]]:
        plan = self._plan
        key_part, full = self._rows
        if plan.model._plain_init:
            for name in full:
                if name not in plan.names:
                    raise plan.unknown_name(name)
        pk, key = plan.identity.identify_one(key_part, True)
        resolved = plan.resolved()
        for _ in range(_TRIES):
            payload = yield Call(resolved.backend, "get", (key,))
            found = None if payload is None else resolved.codec.load(payload, pk, key)
            if found is not None:
                return found, False
            (instance,) = plan.adopt([full])
            if (yield from self._create(Creation(instance, key))):
                return instance, True
        raise WriteError([FailedRow(plan.model.__name__, key, "refused by the backend")])

    def _create(self, creation: Creation) -> Steps[bool]:
        """Write a row unless others have written one meanwhile. Return whether it was written."""
        if self._save is None:
            insert: ModelInsert[Any] = ModelInsert(self._plan, [creation.instance], False)._only_create(creation)
            return (yield from insert.steps()) is not None
        before = _creation.get()
        _creation.set(creation)
        try:
            yield CallFunction(self._save, (creation.instance,), "save()")
        except CreatedByOthersError:
            return False
        finally:
            _creation.set(before)
        return True


def save_new(instance: Any, ttl: TTL) -> Steps[bool]:
    """Write an instance as a new row, as ``save()`` does.

    Raises:
        CreatedByOthersError: ``get_or_create`` creates it, and others have done so meanwhile.
    """
    insert: ModelInsert[Any] = ModelInsert(type(instance)._meta, [instance], False)
    if ttl is not None:
        insert.ttl(ttl)
    creation = _creation.get()
    if creation is None or creation.instance is not instance:
        yield from insert.steps()
        return True
    if (yield from insert._only_create(creation).steps()) is None:
        raise CreatedByOthersError([FailedRow(type(instance).__name__, creation.key, "others have created it")])
    _creation.set(None)  # saving it again is an update
    return True
