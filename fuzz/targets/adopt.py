"""Rows as users pass them: dicts and instances of any values become the same instances and payloads."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

from ..models import WHOLE_ROW, as_instance, make_model, models_of_rows
from ..seen import Seen, exact, rows
from ..source import Source, Text

__all__ = ["SEEDS", "TOKENS", "prepare"]


def prepare(co: Any) -> Callable[[bytes], Seen]:
    models = _models(co)
    user = models[0]

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        how = source.byte()
        model = source.pick(models)
        related = [user(id=1), user(), user(id="7")]
        given = [_row(source, model, related, how) for _ in range(source.pick((1, 1, 2, 3, 5)))]
        changes = bool(how & 1)
        instances = seen.call(model._meta.adopt, given, changes, bool(how & 2), show=rows)
        related[1].id = 9
        if instances is None:
            return seen
        codec = model._meta.resolved().codec
        seen.call(model._meta.adopt, instances, show=rows)
        if changes:
            seen.call(codec.pack_changes, instances, bool(how & 2), bool(how & 4), show=exact)
        else:
            seen.call(codec.dump_many, instances, bool(how & 2), show=exact)
        seen.append(rows(instances))
        if not seen.failures and not changes:
            # What is written again has not changed.
            seen.call(codec.dump_many, instances, show=exact)
            name, value = _name(source, model), source.value()
            seen.call(setattr, instances[0], name, value)
            seen.call(codec.pack_changes, instances[:1], False, bool(how & 4), show=exact)
            seen.append(rows(instances))
        return seen

    return run


def _models(co: Any) -> list[Any]:
    def users(name: str, base: Any = None, **namespace: Any) -> Any:
        return make_model(co, name, namespace, base, primary_key=None)

    user: Any = make_model(
        co,
        "User",
        {
            "id": co.IntegerField(primary_key=True),
            "name": co.StringField(default="none"),
            "friend": co.ForeignKeyField("self", null=True),
            "boss": co.ForeignKeyField("self", null=True, object_id_name="chief"),
            "friends": co.ListField(co.ForeignKeyField("self"), null=True),
            "note": co.JSONField(null=True),
            "tags": co.ListField(co.StringField(), default=[]),
        },
        serializer="msgpack",
    )

    class Made(user):
        """Takes part in making its instances."""

        class Meta:
            name = "made"

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self.note = "made"

    class Other(user):
        """Its instances come from elsewhere."""

        class Meta:
            name = "other"

        def __new__(cls, **values: Any) -> Any:
            made = super().__new__(cls)
            made.note = "new"
            return made

    return [user, Made, Other, *models_of_rows(co)]


def _name(source: Source, model: Any) -> Any:
    at = source.byte()
    names = [*model._meta.names]
    if at < 240:
        return names[at % len(names)]
    return source.pick(("nme", "pk", "_pk", 5, None, Text(names[0]), "i" + "d", "save"))


def _row(source: Source, model: Any, related: list[Any], how: int) -> Any:
    whole = how & 16
    row: dict[Any, Any] = {name: WHOLE_ROW[name] for name in model._meta.fields if name in WHOLE_ROW} if whole else {}
    if whole:
        row["id"] = 1
    for _ in range(source.byte() % 6):
        name = _name(source, model)
        kind = source.byte()
        if kind < 180:
            row[name] = source.value()
        elif kind < 220:
            row[name] = source.pick(related)
        else:
            row[name] = [source.pick(related) for _ in range(kind % 4)]
    kind = source.byte() if how & 8 else 0
    if kind & 1:
        return UserDict(row)
    if kind & 2:
        return source.pick((None, 5, "ab", [("id", 1)], (), related[0], object))
    if kind & 4:
        return as_instance(model, row)
    return row


SEEDS = [
    bytes((how, model)) + rest
    for model in range(13)
    for how in (0, 1, 2, 3, 5, 8, 10, 16, 17, 18, 19, 21, 24)
    for rest in (
        b"\x00\x01\x00\x00\x04",
        b"\x03\x02\x00\x00\x04\x02\xc8\x00\x01\x01\x00\x00\x03\x00\xc8\x01\x04\xff\x01",
        b"\x00\x05\x00\x00\x13\x05\x01\x03\x00\x18\x03abc\x05\x00\x1c\x01\x02\x03\x04\x05\x06",
    )
]
TOKENS = [
    b"\x00\x03abc",
    b"\x0c\x00\x01",
    b"\x13\x05\x01",
    b"\x16\x03",
    b"\x25\x02\x00\x01",
    b"\x27\x01\x00\x05",
    b"\xf5\x01",
]
