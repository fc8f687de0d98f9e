"""Protocol Buffers; the fields of a message are set and read through its descriptor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .._speedups import convert
from .base import BaseSerializer, RowFormat

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["ProtobufSerializer"]

# The largest number that rounds to a 32-bit float; the library makes infinity of what is larger.
_LARGEST_SINGLE = (2 - 2**-24) * 2.0**127

# Messages of fewer bytes are not measured: they are small, whatever they hold.
_UNMEASURED = 1 << 14

# FieldDescriptor.TYPE_... of https://protobuf.dev/reference/protobuf/google.protobuf/#field-kind; importing the
# library only for these numbers would make it a requirement.
_DOUBLE, _FLOAT, _BOOL, _STRING = 1, 2, 8, 9

# The converters whose stored values a member of this type returns unchanged, if it takes them at all.
_FAITHFUL: dict[int, set[type]] = {
    _STRING: {
        convert.Text,
        convert.Uuid,
        convert.DecimalText,
        convert.Json,
        convert.DateTime,
        convert.DateTimeTZ,
        convert.Date,
        convert.Time,
    },
    _DOUBLE: {convert.Real},
    _BOOL: {convert.Boolean},
}


class _Member:
    """One field of a message: sets it and reads it."""

    def __init__(self, field: FieldDescriptor) -> None:
        self.name: str = field.name
        self.full_name: str = field.full_name
        self.repeated: bool = field.is_repeated
        self.has_presence: bool = field.has_presence
        nested = field.message_type
        self.is_map = bool(nested is not None and nested.GetOptions().map_entry)
        value: Any = nested.fields_by_name["value"] if self.is_map else field  # type: ignore[union-attr]
        self.message = None if value.message_type is None else _MessageType(value.message_type)
        self.type: int = value.type
        # Of the alternatives of a oneof, setting one clears the others; `optional` makes a oneof of one.
        group = field.containing_oneof
        self.oneof: str | None = group.name if group is not None and len(group.fields) > 1 else None

    def put(self, message: Message, value: Any) -> None:
        """Set this field of ``message`` from plain Python values."""
        try:
            if self.is_map:
                target = getattr(message, self.name)
                for key, item in value.items():
                    if self.message is None:
                        target[key] = self._checked(item)
                    else:
                        self.message.fill(target[key], item)
            elif self.repeated:
                if isinstance(value, (str, bytes, Mapping)):
                    raise TypeError
                target = getattr(message, self.name)
                for item in value:
                    if self.message is None:
                        target.append(self._checked(item))
                    else:
                        self.message.fill(target.add(), item)
            elif self.message is None:
                setattr(message, self.name, self._checked(value))
            else:
                target = getattr(message, self.name)
                target.SetInParent()
                self.message.fill(target, value)
        except _Refused:
            raise
        except (AttributeError, TypeError) as error:
            raise _RefusedType(self._refusal(value)) from error
        except (OverflowError, ValueError) as error:
            raise _RefusedValue(self._refusal(value)) from error

    def _checked(self, value: Any) -> Any:
        if self.type == _FLOAT and _LARGEST_SINGLE <= abs(value) < float("inf"):
            raise ValueError
        return value

    def _refusal(self, value: Any) -> str:
        # The library's own texts quote the value.
        return f"the protobuf field {self.full_name} cannot hold this {type(value).__name__}"

    def take(self, message: Message) -> Any:
        """Read this field of ``message`` as plain Python values; ``None`` if it is known to be unset."""
        if self.has_presence and not message.HasField(self.name):
            return None
        value = getattr(message, self.name)
        nested = self.message
        if self.is_map:
            return dict(value) if nested is None else {key: nested.read(item) for key, item in value.items()}
        if self.repeated:
            return list(value) if nested is None else [nested.read(item) for item in value]
        return value if nested is None else nested.read(value)


class _MessageType:
    """The fields of a message type."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.full_name: str = descriptor.full_name
        # Filled on first use, because a message type may contain itself.
        self._descriptor = descriptor
        self._members: dict[str, _Member] | None = None

    @property
    def members(self) -> dict[str, _Member]:
        if self._members is None:
            self._members = {field.name: _Member(field) for field in self._descriptor.fields}
        return self._members

    def fill(self, message: Message, row: Any, merge: bool = False) -> None:
        """Set the fields that ``row`` names; ``merge`` says whether the message has others."""
        if not isinstance(row, Mapping):
            raise _RefusedType(
                f"expected a mapping for the protobuf message {self.full_name}, got {type(row).__name__}"
            )
        members = self.members
        chosen: dict[str, str] = {}
        if merge:
            chosen = {one.oneof: name for name, one in members.items() if one.oneof and message.HasField(name)}
        for name, value in row.items():
            if value is None:
                continue
            member = members.get(name)
            if member is None:
                raise _RefusedValue(f"the protobuf message {self.full_name} has no field {name!r}")
            if member.oneof is not None and chosen.setdefault(member.oneof, name) != name:
                raise _RefusedValue(
                    f"the protobuf message {self.full_name} holds {chosen[member.oneof]} or {name}, not both: "
                    f"they are alternatives (oneof {member.oneof})"
                )
            member.put(message, value)

    def measure(self, message: Message, allowed: int) -> int:
        """Return about how much memory :meth:`read` takes for a message, two for a byte; it ends above ``allowed``."""
        # A dict of all fields, as it may be while it grows.
        cost = 2 * (232 + 100 * max(len(self.members) - 5, 0))
        for field, value in message.ListFields():
            member = self.members.get(field.name)
            if member is None or cost > allowed:
                continue
            if not (member.repeated or member.is_map):
                cost += member.message.measure(value, allowed - cost) if member.message else 0
                continue
            cost += 2 * len(value) * (100 if member.is_map else 40)
            if member.message is not None:
                for item in value.values() if member.is_map else value:
                    cost += member.message.measure(item, allowed - cost)
                    if cost > allowed:
                        break
        return cost

    def read(self, message: Message) -> dict[str, Any]:
        return {name: member.take(message) for name, member in self.members.items()}


class _Refused(Exception):
    """A value that a message cannot hold; the error does not quote it."""


class _RefusedType(_Refused, TypeError):
    pass


class _RefusedValue(_Refused, ValueError):
    pass


class _ThroughMessage(convert.Converter):
    """A converter whose stored values went through the message, which may change them.

    A ``float`` keeps 32 bits, an enumeration takes labels and returns numbers, and a nested message returns all its
    fields. After a write an instance holds what a later read returns.
    """

    def __init__(self, inner: Any, member: _Member, make: Callable[[], Message]) -> None:
        self._inner = inner
        self._member = member
        self._make = make

    def dump(self, value: Any) -> Any:
        stored = self._inner.dump(value)
        if stored is None:
            return None
        message = self._make()
        try:
            self._member.put(message, stored)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return self._member.take(message)

    def load(self, stored: Any) -> Any:
        return self._inner.load(stored)

    def weigh(self, stored: Any, most: int) -> int:
        weight: int = self._inner.weigh(stored, most)
        return weight

    def canonical(self, value: Any, stored: Any) -> Any:
        return None if stored is None else self._inner.load(stored)


class ProtobufSerializer(BaseSerializer):
    """Rows as messages of one protobuf type, whose field names are those of the model.

    Args:
        descriptor: the generated message class, such as ``user_pb2.User``. It needs a field for every
            field of the model but the primary key, and ``optional`` (or another form with presence)
            for those that are ``null=True``: without it, "not set" and zero are the same bytes.

    Raises:
        TypeError: ``descriptor`` is no message class.
    """

    def __init__(self, descriptor: type[Message]) -> None:
        given: Any = descriptor
        message_descriptor: Any = getattr(given, "DESCRIPTOR", None)
        if not isinstance(given, type) or not hasattr(message_descriptor, "fields"):
            raise TypeError(
                "ProtobufSerializer takes a generated message class such as user_pb2.User, "
                f"got {given.__name__ if isinstance(given, type) else type(given).__name__}"
            )
        self._message = descriptor
        self._message_type = _MessageType(message_descriptor)
        self.name = f"protobuf {self._message_type.full_name}"

    def dumps(self, obj: Any) -> bytes:
        """Pack a message of this type, or a mapping of its fields (``None`` leaves a field unset).

        Raises:
            TypeError: neither of them, or a value of the wrong type.
            ValueError: an unknown field, a number out of the field's range, two alternatives of a ``oneof``, or
                a required field (of proto2) that is not set.
        """
        if isinstance(obj, Mapping):
            message = self._message()
            self._message_type.fill(message, obj)
        elif isinstance(obj, self._message):
            message = obj
        else:
            raise TypeError(f"expected a mapping or a {self._message_type.full_name} message, got {type(obj).__name__}")
        if not message.IsInitialized():
            missing = ", ".join(message.FindInitializationErrors())  # type: ignore[attr-defined]
            raise ValueError(f"the protobuf message {self._message_type.full_name} requires {missing}")
        return message.SerializeToString()

    def loads(self, s: bytes) -> dict[str, Any]:
        """Read a message as ``{field name: value}``, numbers and enumerations as ``int`` or ``float``.

        Fields that are not set have their defaults: zero, an empty text or list. Those with presence have ``None``:
        ``optional`` ones, messages, and alternatives of a ``oneof``. So :meth:`dumps` makes the same message of it.
        """
        return self._message_type.read(self.message(s))

    def message(self, s: bytes) -> Message:
        """Read a message, as an instance of the message class."""
        return self._message.FromString(s)

    def row_format(self) -> RowFormat:
        """Return functions that keep what a message holds beside the fields that it declares."""
        cls = type(self)
        if cls.dumps is ProtobufSerializer.dumps and cls.loads is ProtobufSerializer.loads:
            return RowFormat(
                self.dumps, self.load_row, None, self._load_set, self._merge, self._check_known, self._measure
            )
        return super().row_format()

    def _measure(self, payload: bytes, allowed: int, levels: int) -> tuple[int, bytes]:
        """Return about how much memory reading a message takes; the library itself reads no more than 100 levels."""
        if len(payload) < _UNMEASURED:
            return 0, b""
        return self._message_type.measure(self.message(payload), allowed), b""

    def _load_set(self, payload: bytes) -> Mapping[str, Any]:
        message = self.message(payload)
        members = self._message_type.members
        names = [field.name for field, _ in message.ListFields()]
        return {name: members[name].take(message) for name in names if name in members}

    def _merge(self, payload: bytes, changes: Mapping[str, Any]) -> bytes:
        message = self.message(payload)
        for name in changes:
            message.ClearField(name)
        self._message_type.fill(message, changes, merge=True)
        return self.dumps(message)

    def _check_known(self, payload: bytes) -> None:
        message, known = self.message(payload), self._message()
        self._message_type.fill(known, self._message_type.read(message))
        # Unknown fields are compared by no implementation of the library in the same way as by another.
        if known.ByteSize() != message.ByteSize():
            raise ValueError(
                f"it has fields that the protobuf message {self._message_type.full_name} does not declare, and that "
                "would be lost: declare them there, or store the whole row anew"
            )

    def converter(self, field: Any) -> Any:
        """Return the field's converter, or one that goes through the message if that may change values."""
        member = self._message_type.members[field.name]
        inner = field.converter
        if not member.repeated and not member.is_map and type(inner) in _FAITHFUL.get(member.type, ()):
            return inner
        return _ThroughMessage(inner, member, self._message)

    def check_fields(self, model: str, fields: Iterable[Any]) -> None:
        """Check that the message has every field of the model, with presence where null is a value.

        Raises:
            TypeError: naming each field that is missing, needs ``optional``, or cannot be null.
        """
        missing, flat, plural = [], [], []
        for field in fields:
            member = self._message_type.members.get(field.name)
            if member is None:
                missing.append(field.name)
            elif field.null and (member.repeated or member.is_map):
                plural.append(field.name)
            elif field.null and not member.has_presence:
                flat.append(field.name)
        problems = []
        if missing:
            problems.append(f"has no field {', '.join(missing)}")
        if flat:
            problems.append(f"cannot tell null from zero or empty for {', '.join(flat)}: declare it `optional`")
        if plural:
            problems.append(
                f"cannot tell null from empty for {', '.join(plural)}, as repeated and map fields are never unset: "
                "declare the model's field without null=True, and with default=[] or default={}"
            )
        if problems:
            raise TypeError(f"{model}: the protobuf message {self._message_type.full_name} {' and '.join(problems)}")
