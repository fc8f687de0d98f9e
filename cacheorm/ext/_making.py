"""Making the classes of cached models, whose rows and errors pickle by the class that they were made of.

Such a class has the name of another one, mostly in the same module, so that pickle would not find it by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from ..declaration import ModelBase
from ..errors import CacheORMError, DoesNotExist
from ..fields import Field
from ..models import Model
from ..types import is_model

__all__ = ["make_model"]

Place = tuple[str, str, str]
"""The module that calls ``cached()``, the name of the class that it is called for, and what keys begin with."""

_made: WeakValueDictionary[Place, type[Model]] = WeakValueDictionary()

# Options of Meta that follow from the class.
_NOT_OPTIONS = ("aloader", "loader", "primary_key")


def make_model(
    origin: type[Any],
    name: str,
    module: str,
    fields: Mapping[str, Field[Any]],
    options: Mapping[str, Any],
    follows: Mapping[str, Any],
) -> Any:
    """Return a model.

    Args:
        origin: the class that it is made of, whose name it has.
        name: the name of that class with what it is in.
        module: the name of the module that asks for it.
        fields: its fields by name.
        options: options of Meta that are given.
        follows: options of Meta that follow from the class.

    Raises:
        TypeError: options are given that follow from the class.
    """
    for option in _NOT_OPTIONS:
        if option in options:
            raise TypeError(f"cached({origin.__name__}): {option} follows from the class, and cannot be given")
    body: dict[str, Any] = {
        **fields,
        "Meta": type("Meta", (), {**options, **follows}),
        "__doc__": f"Rows of {name}, kept in a cache.",
        "__module__": module,
        "__qualname__": origin.__qualname__,
        "__reduce_ex__": _reduce,
        "_made_of": origin,
    }
    model: Any = ModelBase(origin.__name__, (Model,), body)
    if is_model(model):
        _made[_place(model)] = model
        _pickle_errors(model)
    return model


def _place(model: type[Model]) -> Place:
    # The main module has another name in the processes that multiprocessing starts.
    module = "__main__" if model.__module__ == "__mp_main__" else model.__module__
    return module, model.__qualname__, model._meta.prefix


def _known_place(model: type[Model]) -> Place | None:
    """Return where a model is found; ``None`` for one that inherits it, which is found by its own name."""
    place = _place(model)
    return place if _made.get(place) is model else None


def _model_at(place: Place) -> type[Model]:
    """Return a model that was made by :func:`make_model`.

    Raises:
        CacheORMError: there is none, also after its module was imported.
    """
    module, name, prefix = place
    if place not in _made:
        import_module(module)
    model = _made.get(place)
    if model is None:
        raise CacheORMError(
            f"what belongs to the cached model of {name} cannot be unpickled, as {module} has not called cached() for"
            f" it with the same name and namespace ({prefix}:...)"
        )
    return model


def _reduce(instance: Model, protocol: Any) -> tuple[Any, ...]:
    reduced: Any = object.__reduce_ex__(instance, max(protocol, 2))
    place = _known_place(type(instance))
    return reduced if place is None else (_blank, (place,), reduced[2])


def _blank(place: Place) -> Model:
    """Return an instance as pickle makes it: its values follow."""
    model = _model_at(place)
    return model.__new__(model)


def _pickle_errors(model: Any) -> None:
    """Have the errors of a model pickle as its rows do."""
    kinds = {model.DoesNotExist: False, model.DoesNotExist.Related: True}

    def reduce(error: DoesNotExist) -> tuple[Any, ...]:
        reduced = CacheORMError.__reduce__(error)
        place = _known_place(model) if type(error) in kinds else None
        return reduced if place is None else (_error, (place, kinds[type(error)], error.args), reduced[2])

    model.DoesNotExist.__reduce__ = reduce


def _error(place: Place, is_related: bool, args: tuple[Any, ...]) -> DoesNotExist:
    kind = _model_at(place).DoesNotExist
    return (kind.Related if is_related else kind)(*args)
