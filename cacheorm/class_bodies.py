"""The checks of class bodies: declarations that mean something else than they say."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from types import FunctionType
from typing import Any

from .fields import CompositeKey, Field, ForeignKeyField, ListField
from .types import is_model

__all__ = ["annotations_of", "check_body", "check_class"]

_OF_CLASS = re.compile(r"\b(ClassVar|Final)\b")
_OF_FIELD = re.compile(r"\w*Field\b")


def annotations_of(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of a class body, or of the ``vars()`` of a class, as text."""
    given = body.get("__annotations__")
    if given is None and sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(body)
        if annotate is not None:
            given = annotationlib.call_annotate_function(annotate, annotationlib.Format.STRING)
    return {name: _text(annotation) for name, annotation in (given or {}).items()}


def _text(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type):
        return "Field" if issubclass(annotation, Field) else annotation.__name__
    return repr(annotation)


def check_body(model: str, qualname: str, body: Mapping[str, Any]) -> None:
    """Refuse values that were meant to be fields or options, and are neither.

    Args:
        model: the name of the model.
        qualname: the qualified name of the class whose body it is: the model, or a plain class that it inherits.
        body: the names of that body. Those that are annotated with ``ClassVar`` may have any value.

    Raises:
        TypeError: the first of them.
    """
    fields = [value for value in body.values() if isinstance(value, Field)]
    annotations = annotations_of(body)
    for name, value in body.items():
        if not _OF_CLASS.search(annotations.get(name, "")):
            mistake = _mistake(name, value, f"{qualname}.", fields)
            if mistake:
                raise TypeError(f"{model}.{name}: {mistake}")


def _mistake(name: str, value: Any, scope: str, fields: list[Field[Any]]) -> str | None:
    if (field_class := _field_class(value)) is not None and not field_class.__qualname__.startswith(scope):
        return f"a field class without parentheses; write {name} = {field_class.__name__}()"
    if isinstance(value, CompositeKey):
        return "a composite key is an option; write primary_key = co.CompositeKey(...) in class Meta"
    is_meta = name != "Meta" and name.strip("_").lower() == "meta"
    if is_meta and (isinstance(value, type) or (name == "_meta" and not isinstance(value, Field))):
        return "options are only read from a class that is called Meta; write class Meta:"
    # A field that has a name of its own in the body is only referred to.
    if isinstance(value, (tuple, list)) and value and all(_is_new_field(part, fields) for part in value):
        if type(value) is tuple and len(value) == 1:
            return "a field in a tuple; remove the comma after it"
        return f"a {type(value).__name__} of fields declares none; give each field a name"
    return None


def _field_class(value: Any) -> type[Field[Any]] | None:
    value = getattr(value, "__origin__", value)  # of StringField[str]
    return value if isinstance(value, type) and issubclass(value, Field) else None


def _is_new_field(value: Any, fields: list[Field[Any]]) -> bool:
    if isinstance(value, Field):
        return value.model is None and not any(value is field for field in fields)
    return _field_class(value) is not None


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
    free = any("__dict__" in vars(base).get("__slots__", ()) for base in own)
    for base in own:
        if base in checked:
            continue
        values = vars(base)
        for name, text in annotations_of(values).items():
            taken = any(name in vars(other) for other in own if other is not base)
            if name in names or _OF_CLASS.search(text):
                continue
            if _OF_FIELD.search(text) and not taken:
                problem = "an annotation with a field declares none"
            elif not is_model(cls) or "_declared" not in values or name[0] == "_":
                continue
            elif name in values:
                if name.isupper() or callable(values[name]) or hasattr(values[name], "__get__"):
                    continue
                problem = "a value with an annotation declares no field"
            elif free or taken:
                continue
            else:
                problem = "an annotation alone declares no field"
            raise TypeError(
                f"{cls.__name__}.{name}: {problem}; write {name} = co.StringField() or another field; annotate an "
                "attribute of the class with ClassVar, and put what only type checkers read under `if TYPE_CHECKING:`"
            )


def _check_defaults(model: str, fields: Mapping[str, Field[Any]]) -> None:
    """Refuse defaults that cannot be written. Those of foreign keys whose model is not known yet are not checked."""
    for name, field in fields.items():
        if field.default is None or field.makes_default or _is_unknown(field, field.default):
            continue
        try:
            field.converter.dump(field.default)
        except ValueError as error:
            cause = error.__cause__
            # Other errors of the program's own code say that it cannot run yet, rather than what it was given.
            if cause is None or isinstance(cause, (TypeError, ValueError)) or _is_about(cause, field.default):
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
            if isinstance(vars(base).get(name), (FunctionType, classmethod, staticmethod, property)):
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
