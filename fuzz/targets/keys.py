"""Keys: rows and primary keys of any values, alone and in batches, become the same keys or are refused alike."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from importlib import import_module
from typing import Any
from uuid import UUID

from ..models import as_instance, make_model
from ..seen import Seen, exact
from ..source import Color, Size, Source, Text

__all__ = ["SEEDS", "TOKENS", "prepare"]


def prepare(co: Any) -> Callable[[bytes], Seen]:
    models = _models(co)
    functions = import_module(f"{co.__name__}._speedups.keys")
    wire = import_module(f"{co.__name__}._speedups.wire")

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        how = source.byte()
        model = source.pick(models)
        names = [name for field in model._meta.key_fields for name in field.accepted_names]
        identity = model._meta.identity
        strict, many = bool(how & 1), bool(how & 2)
        rows = [_row(source, model, names, how) for _ in range(source.pick((1, 1, 2, 3, 5)))]
        if how & 64:
            rows = rows * 3
        if how & 4:
            made = seen.call(identity.identify_pks, rows, show=exact)
        else:
            made = seen.call(identity.identify, rows, strict, many, show=exact)
        seen.call(identity.identify_one, rows[0], strict, show=exact)
        if isinstance(rows[0], dict) and all(type(name) is str for name in rows[0]):
            seen.call(lambda: model.key(**rows[0]))
        if made is not None:
            pks, keys = made
            seen.call(functions.has_duplicates, keys)
            seen.call(functions.batch, keys, pks, 0, len(keys), show=exact)
            seen.call(functions.found, pks, [*map(source.pick, [(1, None)] * len(pks))], show=exact)
            _check(seen, wire, keys)
        else:
            _check(seen, wire, source.pick((list, tuple))(source.pick(_KEYS)(source) for _ in range(source.byte() % 5)))
        return seen

    return run


def _check(seen: Seen, wire: Any, keys: Any) -> None:
    before = len(seen.failures)
    seen.call(wire.check_memcached_keys, keys)
    seen.call(wire.check_keys, keys)
    if len(seen.failures) <= before + 1 and all(type(key) is str for key in keys):
        seen.call(wire.key_slots, keys)


def _models(co: Any) -> list[Any]:
    def keyed(name: str, *fields: Any, **meta: Any) -> Any:
        if len(fields) == 1:
            return make_model(co, name, {"id": fields[0](primary_key=True, **meta.pop("options", {}))}, **meta)
        names = "abcdef"[: len(fields)]
        key = co.CompositeKey(*names, index_formatter=meta.pop("index_formatter", None))
        made = {one: field() for one, field in zip(names, fields, strict=True)}
        return make_model(co, name, made, primary_key=key, **meta)

    number = keyed("Number", co.IntegerField)
    pair = keyed("Pair", co.StringField, co.IntegerField)

    return [
        number,
        pair,
        keyed("Word", co.StringField, namespace="app:1"),
        keyed("Unique", co.UUIDField),
        keyed("Uniques", co.UUIDField, co.UUIDField, co.StringField, version=3, version_in_key=True),
        keyed("Short", co.ShortUUIDField),
        keyed("Mixed", lambda **options: co.EnumField(Color, **options)),
        keyed("Sizes", lambda: co.EnumField(Size), co.BooleanField),
        keyed("Decimals", co.DecimalField),
        keyed("Floats", co.FloatField, co.DateField),
        keyed("Moments", co.DateTimeTZField),
        keyed("Times", co.DateTimeField, co.TimeField),
        keyed("Raw", lambda **options: co.BinaryField(ensure_str=False, **options)),
        keyed("Bytes", co.BinaryField, co.JSONField),
        keyed("Anything", co.Field),
        keyed("Lists", lambda **options: co.ListField(co.Field(), **options)),
        keyed("Formatted", co.StringField, options={"index_formatter": "user-%s"}),
        keyed("Padded", co.IntegerField, options={"index_formatter": "user-%05d"}),
        keyed("Made", co.UUIDField, co.IntegerField, index_formatter=_format),
        make_model(co, "Profile", {"user": co.ForeignKeyField(number, primary_key=True)}),
        make_model(
            co,
            "Member",
            {"user": co.ForeignKeyField(number), "pair": co.ForeignKeyField(pair)},
            primary_key=co.CompositeKey("user", "pair"),
        ),
    ]


def _format(unique: str, number: int) -> Any:
    return number if number == 13 else f"{unique}/{number}"


_EASY: tuple[Callable[[Source], Any], ...] = (
    lambda source: source.number(2),
    lambda source: source.text(),
    lambda source: UUID(bytes=source.take(16).ljust(16, b"\0")),
    lambda source: source.value(),
    lambda source: source.value(),
    lambda source: source.number(9),
    lambda source: (source.text(), source.number(1)),
    lambda source: source.take(3).hex(),
)
_KEYS = _EASY[1:5]


def _row(source: Source, model: Any, names: list[str], how: int) -> Any:
    """Take a row, or a primary key; of one batch most are of one kind."""
    # Values of one type each, as most batches have them.
    make = _EASY[how >> 3 & 7]
    kind = source.byte() if how & 128 else 0
    if how & 4 and not kind & 3:
        values = [make(source) for _ in model._meta.key_fields]
        return values[0] if len(values) == 1 else tuple(values)
    if kind > 250:
        return source.value()
    row = {field.name: make(source) for field in model._meta.key_fields}
    if kind & 4:
        row[source.pick((*names, "more", Text(names[0])))] = source.value()
    if kind & 8:
        row.pop(source.pick(names), None)
    if kind & 16:
        return UserDict(row)
    if kind & 32:
        return as_instance(model, row)
    return row


SEEDS = [
    bytes((how, model)) + rest
    for model in range(21)
    for how in (1, 3, 6, 9, 11, 14, 17, 22, 129, 131, 134, 155, 158, 210)
    for rest in (b"\x00\x01\x03abc\x00\x05", b"\x04\x00\x00\x01\x02\x03\x04\x05\x06\x07")
]
TOKENS = [b"\x00\x03a:b", b"\x03\xff\xfe\xfd", b"\x14\x00", b"\x13\x05\x01", b"\x16\x03", b"\x04\xc8" + b"x" * 260]
