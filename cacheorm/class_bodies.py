"""The checks of class bodies: declarations that mean something else than they say."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import FunctionType, GenericAlias, UnionType
from typing import Any, ClassVar, Final, TypeAlias
from uuid import UUID

from .fields import CompositeKey, Field, ForeignKeyField, ListField
from .types import is_model

__all__ = ["annotations_of", "check_bodies", "check_class", "is_field", "is_of_class", "name_of"]

# What these functions are given may be anything that a class has, also an object that runs code when its attributes or
# its ``__class__`` are read. They ask its type instead.

_NAME = re.compile(r"\W*(?:\w+\.)*(\w+)")
_OF_CLASS = re.compile(r"\b(ClassVar|Final|TypeAlias)\b")
_ALIASES: Any = (type(Field[Any]), GenericAlias)
_COLLECTIONS = (tuple, list, set, frozenset)
_STORED = (
    *(type(None), bool, int, float, str, bytes, bytearray, dict, Decimal, UUID, date, time, timedelta, Enum),
    *_COLLECTIONS,
)


def annotations_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a class body or of the ``vars()`` of a class, text or objects; of a union the first."""
    given = body.get("__annotations__")
    if given is None and sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(body)
        if annotate is not None:
            given = annotationlib.call_annotate_function(annotate, annotationlib.Format.STRING)
    return {name: kind.__args__[0] if type(kind) is UnionType else kind for name, kind in (given or {}).items()}


def name_of(annotation: Any) -> str:
    """Return the last part of the name that an annotation begins with: ``StringField`` of ``co.StringField[str]``."""
    if type(annotation) is str:
        found = _NAME.match(annotation)
        return found[1] if found else ""
    origin = _origin(annotation)
    return origin.__name__ if _is_class(origin) else ""


def is_of_class(annotation: Any, module: str) -> bool:
    """Return whether an annotation says that a name is an attribute of the class.

    Args:
        annotation: the annotation.
        module: the name of the module that the class is in, where ``ClassVar`` may have another name.
    """
    if type(annotation) is str:
        if _OF_CLASS.search(annotation):
            return True
        annotation = getattr(sys.modules.get(module), "__dict__", {}).get(name_of(annotation))
    origin = _origin(annotation)
    return any(origin is special for special in (ClassVar, Final, TypeAlias))


def is_field(value: Any) -> bool:
    """Return whether a value is a field."""
    return issubclass(type(value), Field)


def _is_class(value: Any) -> bool:
    return issubclass(type(value), type)


def _origin(value: Any) -> Any:
    """Return what an alias like ``StringField[str]`` is made of, or any other value."""
    while issubclass(type(value), _ALIASES):
        value = value.__origin__
    return value


def _is_of_field(annotation: Any) -> bool:
    if type(annotation) is not str:
        return is_field(annotation) or _field_class(annotation) is not None
    name = name_of(annotation)
    return name.endswith("Field") and name in {cls.__name__ for cls in _field_classes()}


def _field_classes() -> list[type[Field[Any]]]:
    classes: list[type[Field[Any]]] = [Field]
    for cls in classes:
        classes += cls.__subclasses__()
    return classes


def check_bodies(
    model: str, qualname: str, body: Mapping[str, Any], ancestors: Collection[type], checked: Collection[type]
) -> None:
    """Refuse values that were meant to be fields or options, and are neither.

    Args:
        model: the name of the model.
        qualname: its qualified name.
        body: the names of its body. Those that are annotated with ``ClassVar`` may have any value.
        ancestors: the classes that it inherits.
        checked: those of them whose bodies have been checked.

    Raises:
        TypeError: the first of them.
    """
    # A field that has a name of its own is only referred to in a list.
    named = [value for names in (body, *map(vars, ancestors)) for value in names.values() if is_field(value)]
    bodies = [(qualname, body), *((base.__qualname__, vars(base)) for base in ancestors if base not in checked)]
    for scope, names in bodies:
        annotations = annotations_of(names)
        for name, value in names.items():
            mistake = _mistake(name, value, f"{scope}.", named)
            if mistake is None:
                continue
            annotation = annotations.get(name)
            if not is_of_class(annotation, names.get("__module__", "")) and name_of(annotation) not in ("type", "Type"):
                raise TypeError(f"{model}.{name}: {mistake}")


def _mistake(name: str, value: Any, scope: str, named: list[Field[Any]]) -> str | None:
    field_class = _field_class(value)
    if field_class is not None and not field_class.__qualname__.startswith(scope):
        return f"a field class without parentheses; write {name} = {field_class.__name__}()"
    if issubclass(type(value), CompositeKey) or value is CompositeKey:
        return "a composite key is an option; write primary_key = co.CompositeKey(...) in class Meta"
    is_meta = name != "Meta" and name.strip("_").lower() == "meta"
    if is_meta and (_is_class(value) or (name == "_meta" and not is_field(value))):
        return "options are only read from a class that is called Meta; write class Meta:"
    if type(value) not in _COLLECTIONS:
        return None
    is_single = type(value) in (tuple, list) and len(value) == 1
    if any(_is_new_field(part, named) or (is_single and _field_class(part) and not name.isupper()) for part in value):
        if type(value) is tuple and is_single:
            return "a field in a tuple; remove the comma after it"
        return f"a {type(value).__name__} of fields declares none; give each field a name"
    return None


def _field_class(value: Any) -> type[Field[Any]] | None:
    value = _origin(value)
    return value if _is_class(value) and issubclass(value, Field) else None


def _is_new_field(value: Any, named: list[Field[Any]]) -> bool:
    return is_field(value) and value.model is None and not any(value is field for field in named)


def check_class(cls: type, root: type, fields: Mapping[str, Field[Any]], inherited: Collection[str]) -> None:
    """Check a class that has its fields: its annotations and defaults; warn of methods that it hides.

    Args:
        cls: the model.
        root: the class that all models inherit.
        fields: the fields of the model.
        inherited: the names of those that its parents have too.

    Raises:
        TypeError: an annotation declares nothing, or a field does not take its default.
    """
    names = {name: field for field in fields.values() for name in (field.name, *field.accepted_names)}
    _check_annotations(cls, root, names)
    _check_defaults(cls.__name__, fields)
    _warn_of_hidden_methods(cls, [name for name, field in names.items() if field.name not in inherited])


def _check_annotations(cls: type, root: type, names: Collection[str]) -> None:
    """Refuse annotations that were meant to be fields, and declare none.

    An abstract model may annotate what its subclasses will declare, and a plain class what the class has that inherits
    it; but both are refused if they name a field.
    """
    own = [base for base in cls.__mro__ if base not in root.__mro__]
    checked = {checked for base in own[1:] if is_model(base) for checked in base.__mro__}
    for base in own:
        if base in checked:
            continue
        values = vars(base)
        has_rows = is_model(cls) and "_declared" in values
        for name, annotation in annotations_of(values).items():
            if name in names or name[0] == "_" or is_of_class(annotation, base.__module__):
                continue
            if name in values:
                if not has_rows or _is_attribute(name, values[name], annotation):
                    continue
                problem = "a value with an annotation declares no field"
            elif any(name in vars(other) for other in own):
                continue
            elif _is_of_field(annotation):
                problem = "an annotation with a field declares none"
            elif has_rows and cls.__dictoffset__ == 0:
                problem = "an annotation alone declares no field"
            else:
                continue
            raise TypeError(
                f"{cls.__name__}.{name}: {problem}; write {name} = co.StringField() or another field; annotate an "
                "attribute of the class with ClassVar, and put what only type checkers read under `if TYPE_CHECKING:`"
            )


def _is_attribute(name: str, value: Any, annotation: Any) -> bool:
    """Return whether a value with an annotation is an attribute of the class, rather than meant to be a default."""
    cls: type = type(value)
    if name.isupper() or hasattr(cls, "__get__"):
        return True
    if issubclass(cls, _STORED):
        # None removes an inherited field.
        return value is None and type(annotation) in (str, type(None)) and str(annotation).strip("'\"") == "None"
    return callable(value) or name_of(annotation) in {base.__name__ for base in cls.__mro__}


def _check_defaults(model: str, fields: Mapping[str, Field[Any]]) -> None:
    """Refuse defaults that cannot be written. Those of foreign keys whose model is not known yet are not checked."""
    for name, field in fields.items():
        if field.default is None or field.makes_default or _is_unknown(field, field.default):
            continue
        default = field.make_default()  # a copy: the program's own code may change what it converts
        try:
            field.converter.dump(default)
        except ValueError as error:
            cause = error.__cause__
            # Other errors of the program's own code say that it cannot run yet, rather than what it was given.
            if cause is None or isinstance(cause, (TypeError, ValueError)) or _is_about(cause, default):
                raise TypeError(f"{model}.{name}: the field does not take its default: {error}") from error
        except Exception:  # noqa: BLE001, S110 - code of the program that cannot run yet
            pass


def _is_about(error: BaseException, value: Any) -> bool:
    return isinstance(error, AttributeError) and error.obj is value


def _is_unknown(field: Any, default: Any) -> bool:
    """Return whether a default refers to a model that is not declared yet, or to a row that is not stored yet."""
    while isinstance(field, ListField):
        field = field.field
    if not isinstance(field, ForeignKeyField):
        return False
    return isinstance(field.target, str) or isinstance(default, field.target)


def _warn_of_hidden_methods(cls: type, names: Iterable[str]) -> None:
    """Warn of methods that the model inherits, and that the fields with these names hide."""
    for name in names:
        for base in cls.__mro__[1:]:
            if issubclass(type(vars(base).get(name)), (FunctionType, classmethod, staticmethod, property)):
                warnings.warn(
                    f"{cls.__name__}.{name}: the field hides the method {base.__name__}.{name}; give the field another "
                    "name if the method is needed",
                    stacklevel=_depth_of_package(),
                )
                break


def _depth_of_package() -> int:
    """Return the number of the first frame outside of this package: that of the class statement. The caller's is 1."""
    depth, frame = 1, sys._getframe(1)
    package = __name__.rpartition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{package}."):
        depth, frame = depth + 1, frame.f_back
    return depth
