"""Protocol Buffers, by setting and reading the fields of a message through its descriptor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .base import BaseSerializer

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["ProtobufSerializer"]


class _Member:
    """How one field of a message is set and read."""

    __slots__ = ("has_presence", "is_map", "message", "name", "repeated")

    def __init__(self, field: FieldDescriptor) -> None:
        self.name: str = field.name
        self.repeated: bool = field.is_repeated
        self.has_presence: bool = field.has_presence
        nested = field.message_type
        self.is_map = bool(nested is not None and nested.GetOptions().map_entry)
        self.message = _Shape(nested) if nested is not None and not self.is_map else None
        if self.is_map and nested is not None and nested.fields_by_name["value"].message_type is not None:
            raise TypeError(
                f"protobuf map field {field.full_name}: values that are messages are not supported"
            )

    def put(self, message: Message, value: Any) -> None:
        """Set this field of ``message`` from plain Python values."""
        if self.is_map:
            getattr(message, self.name).update(value)
        elif self.repeated:
            target = getattr(message, self.name)
            if self.message is None:
                target.extend(value)
            else:
                for item in value:
                    self.message.fill(target.add(), item)
        elif self.message is None:
            setattr(message, self.name, value)
        else:
            target = getattr(message, self.name)
            target.SetInParent()
            self.message.fill(target, value)

    def take(self, message: Message) -> Any:
        """Read this field of ``message`` as plain Python values; ``None`` where it is known to be unset."""
        if self.has_presence and not message.HasField(self.name):
            return None
        value = getattr(message, self.name)
        if self.is_map:
            return dict(value)
        if self.message is not None:
            return [self.message.read(item) for item in value] if self.repeated else self.message.read(value)
        return list(value) if self.repeated else value


class _Shape:
    """The fields of a message type."""

    def __init__(self, descriptor: Any) -> None:
        self.full_name: str = descriptor.full_name
        # Filled on first use, because a message type may contain itself.
        self._descriptor = descriptor
        self._members: dict[str, _Member] | None = None

    @property
    def members(self) -> dict[str, _Member]:
        if self._members is None:
            self._members = {field.name: _Member(field) for field in self._descriptor.fields}
        return self._members

    def fill(self, message: Message, row: Any) -> None:
        if not isinstance(row, Mapping):
            raise TypeError(
                f"expected a mapping for the protobuf message {self.full_name}, got {type(row).__name__}"
            )
        members = self.members
        for name, value in row.items():
            if value is None:
                continue
            member = members.get(name)
            if member is None:
                raise ValueError(f"the protobuf message {self.full_name} has no field {name!r}")
            try:
                member.put(message, value)
            except (TypeError, ValueError) as error:
                # The library's own texts quote the value.
                raise type(error)(
                    f"the protobuf field {self.full_name}.{name} cannot hold this {type(value).__name__}"
                ) from error

    def read(self, message: Message) -> dict[str, Any]:
        return {name: member.take(message) for name, member in self.members.items()}


class ProtobufSerializer(BaseSerializer):
    """Rows as messages of one protobuf type, whose field names are those of the model.

    Args:
        descriptor: the generated message class, such as ``user_pb2.User``. It needs a field for every
            field of the model but the primary key, and ``optional`` (or another form with presence)
            for those that are ``null=True``: without it, "not set" and zero are the same bytes.

    Raises:
        TypeError: ``descriptor`` is no message class.
    """

    def __init__(self, descriptor: Any) -> None:
        shape = getattr(descriptor, "DESCRIPTOR", None)
        if not isinstance(descriptor, type) or not hasattr(shape, "fields"):
            raise TypeError(
                "ProtobufSerializer takes a generated message class such as user_pb2.User, "
                f"got {type(descriptor).__name__}"
            )
        self._message: type[Message] = descriptor
        self._shape = _Shape(shape)
        self.name = f"protobuf {self._shape.full_name}"

    def dumps(self, obj: Any) -> bytes:
        """Pack a message of this type, or a mapping of its fields (``None`` leaves a field unset).

        Raises:
            TypeError: neither of them, or a value of the wrong type.
            ValueError: an unknown field, or a number out of the field's range.
        """
        if isinstance(obj, Mapping):
            message = self._message()
            self._shape.fill(message, obj)
        elif isinstance(obj, self._message):
            message = obj
        else:
            raise TypeError(
                f"expected a mapping or a {self._shape.full_name} message, got {type(obj).__name__}"
            )
        return message.SerializeToString()

    def loads(self, s: bytes) -> Message:
        """Read a message."""
        return self._message.FromString(s)

    def load_row(self, payload: bytes) -> Mapping[str, Any]:
        """Read a message as ``{field name: value}``, ``None`` for fields that are not set."""
        return self._shape.read(self._message.FromString(payload))

    def check_fields(self, model: str, fields: Iterable[Any]) -> None:
        """Check that the message has every field of the model, with presence where null is a value.

        Raises:
            TypeError: naming each field that is missing or needs ``optional``.
        """
        missing = []
        flat = []
        for field in fields:
            member = self._shape.members.get(field.name)
            if member is None:
                missing.append(field.name)
            elif field.null and not member.has_presence:
                flat.append(field.name)
        problems = []
        if missing:
            problems.append(f"has no field {', '.join(missing)}")
        if flat:
            problems.append(
                f"cannot tell null from zero or empty for {', '.join(flat)}: declare it `optional`"
            )
        if problems:
            raise TypeError(f"{model}: the protobuf message {self._shape.full_name} {' and '.join(problems)}")
