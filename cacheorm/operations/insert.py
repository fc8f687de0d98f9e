"""Inserting rows, and creating a row if there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Set
from contextvars import ContextVar
from operator import not_
from typing import Any, NamedTuple, Self, TypeVar, overload

from .._speedups import assigned, slots
from ..errors import ConflictError, FailedRow, WriteError
from ..metadata import RowPlan
from ..requests import Call, CallFunction, SendSignal, Steps
from ..types import TTL
from .base import R, WriteOperation
from .compare_and_set import swap
from .presence import are_rows
from .signal_senders import signal_senders

__all__ = ["Creation", "GetOrCreate", "MadeKeys", "ModelInsert", "create_by", "is_creation", "related_to", "save_new"]

T = TypeVar("T")

_CREATED = {"created": True}

# How often get_or_create tries to read or create a row that others create and remove at the same time.
_TRIES = 16


class Creation(NamedTuple):
    """The row that an overridden ``save()`` is called to create.

    Attributes:
        instance: the row.
        key: the key that it has to have, and that no row may have yet; ``None`` for ``create``.
    """

    instance: Any
    key: str | None


_creation: ContextVar[Creation | None] = ContextVar("cacheorm_creation", default=None)


def is_creation(instance: Any) -> bool:
    """Return whether an overridden ``save()`` was called to create an instance, and has not done so yet."""
    creation = _creation.get()
    return creation is not None and creation.instance is instance


def create_by(save: Callable[[Any], Any], creation: Creation) -> Steps[None]:
    """Call an overridden ``save()``, so that the ``save()`` that it calls inserts the row."""
    before = _creation.get()
    _creation.set(creation)
    try:
        yield CallFunction(save, (creation.instance,), "save()")
    finally:
        _creation.set(before)


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
    _creation: Creation | None = None
    # Of an execution that failed. Instances, some of which may be stored under keys that were made for them: made anew
    # from dicts, they would be stored again under other keys. And the keys that it has added.
    _kept: Any = None
    _added: Set[str] = frozenset()
    # Of an operation on several models, which finds out itself what became of the rows.
    _made: MadeKeys | None = None

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
        made = self._made or MadeKeys(self._plan)
        insert = self._insert_many(instances, made) if self._many else self._insert_one(instances, made)
        try:
            result: Any = yield from insert
        except BaseException as error:
            if self._made is None:
                made.settle(error, related_to([instances]))
                if made.rows and made.sent:
                    self._kept = instances
            self._added |= made.stored
            raise
        self._added = made.stored if self._is_part else frozenset()
        slots.clear(self._plan.tracker, result if self._many else [result])
        return result  # type: ignore[no-any-return]

    def _insert_one(self, instances: list[Any], made: MadeKeys) -> Steps[Any]:
        plan = self._plan
        resolved = plan.resolved()
        signals = signal_senders("save", plan.model)
        if signals is not None and signals.before is not None:
            yield from self._send_before(signals.before, [(0, instances[0])])
        if self._made is None:
            made.look(instances)
        payload = resolved.codec.dump_many(instances, False, self._stamp())[0]
        pk, key = plan.identity.identify_one(instances[0], False)
        if self._creation is not None and self._creation.key not in (None, key):
            raise ValueError(
                f"{plan.model.__name__}: a receiver of pre_save, or save(), changed the primary key that was asked for"
            )
        method = "add" if self._if_absent else "set"
        made.sent = True
        stored = yield Call(resolved.backend, method, (key, payload, self._pick_ttl()))
        if self._if_absent:
            written = {key: stored} if stored else (yield from self._replace_misses({key: payload}, {key: pk}))
            if not written[key]:
                return None
        elif stored is False:
            raise WriteError([FailedRow(plan.model.__name__, key, "refused by the backend")])
        made.stored.add(key)
        if signals is not None and signals.after is not None:
            yield SendSignal(signals.after, [(0, instances[0])], _CREATED)
        return instances[0]

    def _insert_many(self, instances: list[Any], made: MadeKeys) -> Steps[list[Any]]:
        plan = self._plan
        codec = plan.resolved().codec
        signals = signal_senders("save", plan.model)
        if signals is not None and signals.before is not None:
            yield from self._send_before(signals.before, list(enumerate(instances)))
        after = None if signals is None else signals.after
        if self._made is None:
            made.look(instances)
        payloads = codec.dump_many(instances, True, self._stamp())
        pks, keys = plan.identity.identify(instances, False)
        made.sent = True
        stored = made.stored if made.rows or self._if_absent else None
        if not self._if_absent:
            rows = None if after is None else SendSignal(after, list(enumerate(instances)), _CREATED)
            yield from self._write_many("set_many", keys, payloads, rows, stored_keys=stored)
            return instances
        # Of several rows with the same key the first is added, as if they were inserted one after another.
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        new = {key: position for key, position in first.items() if key not in self._added}
        positions = list(new.values())
        rows = (
            None if after is None else SendSignal(after, [(index, instances[index]) for index in positions], _CREATED)
        )
        added = yield from self._write_many(
            "add_many", list(new), [payloads[index] for index in positions], rows, stored_keys=stored
        )
        refused = {key: payloads[index] for key, index in new.items() if not added.get(key)}
        if refused:
            replaced = yield from self._replace_misses(refused, {key: pks[first[key]] for key in refused})
            added.update(replaced)
            if after is not None:
                written = [first[key] for key in replaced if replaced[key]]
                yield SendSignal(after, [(index, instances[index]) for index in written], _CREATED)
        added.update(dict.fromkeys(self._added, True))
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
            raise WriteError(self._failed_rows(outcome.reasons, outcome.unsure))
        return outcome


class MadeKeys:
    """The primary keys that an insert makes by their defaults, and what becomes of their rows.

    Args:
        plan: the plan of the model.

    Attributes:
        rows: pairs of a field and a row that gets it from its default.
        sent: whether a write was sent.
        stored: the keys that are known to be stored.
    """

    def __init__(self, plan: RowPlan) -> None:
        self._plan = plan
        self.rows: list[tuple[Any, Any]] = []
        self.sent = False
        self.stored: set[str] = set()

    def look(self, rows: list[Any]) -> None:
        """Find the rows without a key."""
        fields = [field for field in self._plan.key_fields if field.default is not None]
        self.rows = [(field, row) for field in fields for row in rows if field.peek(row) is None]

    def settle(self, error: BaseException, related: Collection[int]) -> None:
        """Take back the keys of rows that are not stored, so that saving them inserts them.

        A row that may be stored keeps its key, and so does one that others refer to. Saving it inserts it all the same.

        Args:
            error: the error of the write.
            related: the identities of the instances that rows of the call refer to.
        """
        plan = self._plan
        failed = {row.key: row for row in error.failed} if isinstance(error, WriteError) else None
        for field, row in self.rows:
            unsure = False
            if self.sent:
                key = plan.key_of(row)
                if key in self.stored or (failed is not None and key not in failed):
                    continue
                known = error if failed is None else failed[key]
                unsure = getattr(known, "maybe_applied", True)
            if unsure or id(row) in related:
                plan.tracker.poke(row, assigned.unsaved(plan.tracker.peek(row)))
            else:
                field.poke(row, None)


def related_to(groups: Iterable[list[Any]]) -> set[int]:
    """Return the identities of the instances that rows, given by model, refer to."""
    rows = [row for group in groups for row in group if type(row)._meta.references]
    return {id(instance) for row in rows for instance in (type(row)._meta.related.peek(row) or {}).values()}


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
        try:
            yield from create_by(self._save, creation)
        except CreatedByOthersError:
            return False
        return True


def save_new(instance: Any, ttl: TTL) -> Steps[bool]:
    """Write an instance as a new row, as ``save()`` does.

    Raises:
        CreatedByOthersError: ``get_or_create`` creates it, and others have done so meanwhile.
    """
    insert: ModelInsert[Any] = ModelInsert(type(instance)._meta, [instance], False)
    if ttl is not None:
        insert.ttl(ttl)
    creation = _creation.get() if is_creation(instance) else None
    if creation is None or creation.key is None:
        yield from insert.steps()
    elif (yield from insert._only_create(creation).steps()) is None:
        raise CreatedByOthersError([FailedRow(type(instance).__name__, creation.key, "others have created it")])
    if creation is not None:
        _creation.set(None)  # saving it again is an update
    return True
