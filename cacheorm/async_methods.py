"""The methods of models and instances for programs that run in an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from operator import methodcaller
from typing import Any, Self, TypeVar, overload

from .async_driver import arun
from .fields import Field
from .instances import Instance, refreshed
from .loaders import Loader
from .operations import ModelQuery, shortcuts
from .types import OF_MODEL, TTL, OfModel, is_coroutine_function

__all__ = ["AsyncMethods", "N", "saver"]

N = TypeVar("N", bound=int | float | Decimal)
"""The numbers of a field that can be added to."""


class AsyncMethods(Instance):
    """All methods of a model and its instances that do I/O, as coroutine functions.

    Each takes the same arguments, returns the same and raises the same errors as the method without the ``a``.
    """

    __slots__ = ()

    # -- of the model ----------------------------------------------------------------------------

    @classmethod
    async def acreate(cls, /, **values: Any) -> Self:
        """Await :meth:`create`."""
        return await arun(shortcuts.create(cls, values, saver(cls, "asave")), cls._meta.backend)

    @classmethod
    async def aget(cls, /, **pk: Any) -> Self:
        """Await :meth:`get`."""
        return await arun(shortcuts.get(cls, pk), cls._meta.backend)

    @classmethod
    async def aget_by_id(cls, pk: Any) -> Self:
        """Await :meth:`get_by_id`."""
        return await arun(shortcuts.get_by_id(cls, pk), cls._meta.backend)

    @classmethod
    async def aget_or_none(cls, /, **pk: Any) -> Self | None:
        """Await :meth:`get_or_none`."""
        query: ModelQuery[Self | None] = ModelQuery(cls._meta, [pk], False)
        return await query.aexecute()

    @classmethod
    async def aget_many(
        cls, pks: Iterable[Any], *, loader: Loader | None = None, cached_only: bool = False
    ) -> dict[Any, Self]:
        """Await :meth:`get_many`."""
        return await arun(shortcuts.get_many(cls, pks, loader, cached_only), cls._meta.backend)

    @classmethod
    async def aget_or_create(cls, defaults: Mapping[str, Any] | None = None, /, **values: Any) -> tuple[Self, bool]:
        """Await :meth:`get_or_create`."""
        return await shortcuts.get_or_create(cls, defaults, values, saver(cls, "asave")).aexecute()

    @classmethod
    async def aget_or_load(
        cls,
        pk: Any,
        loader: Callable[[Any], Any],
        *,
        ttl: TTL = None,
        negative_ttl: TTL | OfModel = OF_MODEL,
        lease: TTL | OfModel = OF_MODEL,
    ) -> Self | None:
        """Await :meth:`get_or_load`. The loader may be a coroutine function; any other blocks the event loop."""
        return await shortcuts.get_or_load(cls, pk, loader, ttl, negative_ttl, lease).aexecute()

    @classmethod
    async def aset_by_id(cls, pk: Any, values: Mapping[str, Any]) -> Self:
        """Await :meth:`set_by_id`."""
        return await arun(shortcuts.set_by_id(cls, pk, values), cls._meta.backend)

    @classmethod
    async def adelete_by_id(cls, pk: Any) -> bool:
        """Await :meth:`delete_by_id`."""
        return await arun(shortcuts.delete_by_id(cls, pk), cls._meta.backend)

    @overload
    @classmethod
    async def aincrement(cls, pk: Any, field: Field[N], by: int | float | Decimal = 1) -> N: ...
    @overload
    @classmethod
    async def aincrement(cls, pk: Any, field: Field[N | None], by: int | float | Decimal = 1) -> N: ...
    @overload
    @classmethod
    async def aincrement(cls, pk: Any, field: str, by: int | float | Decimal = 1) -> Any: ...
    @classmethod
    async def aincrement(cls, pk: Any, field: Any, by: Any = 1) -> Any:
        """Await :meth:`increment`."""
        return await arun(shortcuts.increment(cls, pk, field, by), cls._meta.backend)

    @classmethod
    async def aexpire_many(cls, pks: Iterable[Any], ttl: TTL = None) -> dict[Any, bool]:
        """Await :meth:`expire_many`."""
        return await arun(shortcuts.expire_many(cls, pks, ttl), cls._meta.backend)

    @classmethod
    async def aexists(cls, /, **pk: Any) -> bool:
        """Await :meth:`exists`."""
        return await arun(shortcuts.exists(cls, pk), cls._meta.backend)

    @classmethod
    async def _aread(cls, pk: Any) -> Self | None:
        # What foreign keys call: a model may have a field with the name of any method.
        query: ModelQuery[Self | None] = ModelQuery(cls._meta, [cls._meta.row_of(pk)], False)
        return await query.aexecute()

    # -- of an instance --------------------------------------------------------------------------

    async def asave(
        self, force_insert: bool = False, *, ttl: TTL = None, keep_ttl: bool = False, atomic: bool = False
    ) -> bool:
        """Await :meth:`save`.

        A ``save()`` that a subclass overrides runs in a thread, unless the subclass overrides this method, too.
        """
        model = type(self)
        blocks = _overrides(model, "save") and not is_coroutine_function(model.save)
        if blocks and not _overrides(model, "asave"):
            import asyncio

            given = {"force_insert": force_insert, "ttl": ttl, "keep_ttl": keep_ttl, "atomic": atomic}
            options: Any = {name: value for name, value in given.items() if value is not None and value is not False}
            return await asyncio.to_thread(self.save, **options)
        return await arun(shortcuts.save(self, force_insert, ttl, keep_ttl, atomic), type(self)._meta.backend)

    async def adelete_instance(self) -> bool:
        """Await :meth:`delete_instance`."""
        return await arun(shortcuts.delete(self), type(self)._meta.backend)

    async def arefresh(self) -> Self:
        """Await :meth:`refresh`."""
        return refreshed(self, await arun(shortcuts.get(type(self), self), type(self)._meta.backend))

    async def attl(self) -> int | None:
        """Await :meth:`ttl`."""
        return await arun(shortcuts.ttl_left(type(self)._meta, self), type(self)._meta.backend)

    async def atouch(self, ttl: TTL = None) -> bool:
        """Await :meth:`touch`."""
        return (await shortcuts.expire(self, ttl).aexecute())[0]


def saver(model: type[AsyncMethods], method: str) -> Callable[[Any], Any] | None:
    """Return what saves a new instance of a model that overrides ``save()`` or ``asave()``; ``None`` if it does not.

    Args:
        model: the model.
        method: ``"save"`` for blocking callers, ``"asave"`` for others. The latter calls an overridden ``save()``, too.
    """
    if _overrides(model, method):
        return methodcaller(method, force_insert=True)
    if is_coroutine_function(model.save):
        return methodcaller("save", force_insert=True)
    # Not by its name, which a field may have.
    return partial(AsyncMethods.asave, force_insert=True) if _overrides(model, "save") else None


def _overrides(model: type[AsyncMethods], method: str) -> bool:
    own = getattr(model, method)
    return own is not getattr(AsyncMethods, method) and not isinstance(own, Field)
