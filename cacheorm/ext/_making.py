"""Making the classes of cached models, whose rows pickle by the class that they were made of.

Such a class has the name of another one, mostly in the same module, so that pickle would not find it by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from ..declaration import ModelBase
from ..errors import CacheORMError
from ..fields import Field
from ..models import Model
from ..types import is_model

__all__ = ["make_model"]

# By the module that calls cached(), the name of the class that it is called for, and what keys begin with.
_made: WeakValueDictionary[tuple[str, str, str], type[Model]] = WeakValueDictionary()

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
    }
    model: Any = ModelBase(origin.__name__, (Model,), body)
    if is_model(model):
        _made[_place(model)] = model
    return model


def _place(model: type[Model]) -> tuple[str, str, str]:
    # The main module has another name in the processes that multiprocessing starts.
    module = "__main__" if model.__module__ == "__mp_main__" else model.__module__
    return module, model.__qualname__, model._meta.prefix


def _reduce(instance: Model, protocol: Any) -> tuple[Any, ...]:
    reduced: Any = object.__reduce_ex__(instance, max(protocol, 2))
    model = type(instance)
    # A model that inherits it is found by its own name.
    if _made.get(_place(model)) is not model:
        return reduced  # type: ignore[no-any-return]
    return _blank, _place(model), reduced[2]


def _blank(module: str, name: str, prefix: str) -> Model:
    """Return an instance as pickle makes it: its values follow.

    Raises:
        CacheORMError: there is no such model, also after its module was imported.
    """
    if (module, name, prefix) not in _made:
        import_module(module)
    model = _made.get((module, name, prefix))
    if model is None:
        raise CacheORMError(
            f"a row of the cached model of {name} cannot be unpickled, as {module} has not called cached() for it with"
            f" the same name and namespace ({prefix}:...)"
        )
    return model.__new__(model)
