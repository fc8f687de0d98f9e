"""Payloads of all forms: compiled and pure codecs write the same bytes, and read the same rows and errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.rows import _mapping, _rows_py
from cacheorm.payload import COMPRESSED, SIGNED, Header
from cacheorm.serializers import Envelope, base
from cacheorm.serializers import json as json_module
from cacheorm.serializers import msgpack as msgpack_module

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import user_pb2

TWINS: dict[str, tuple[Any, Any]] = {"pure": (_mapping, _rows_py)}
if co.speedups_enabled:
    from cacheorm._speedups.rows import _mapping_c, _rows_c

    TWINS["compiled"] = (_mapping_c, _rows_c)


class Custom(co.BaseSerializer):
    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.JSONSerializer().loads(s[::-1])


SERIALIZERS = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "protobuf": co.ProtobufSerializer(user_pb2.User),
    "custom": Custom(),
    "signed": co.PickleSerializer(secret="secret"),
}


class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    score = co.IntegerField(null=True)
    married = co.BooleanField(default=False)


def codec(twin: str, serializer: co.BaseSerializer, form: Envelope) -> Any:
    """Give the codec that the package makes where this twin is in use."""
    mapping, rows = TWINS[twin]
    plan: Any = Row._meta
    with (
        mock.patch.object(base, "rows", rows),
        mock.patch.object(base, "mapping", mapping),
        mock.patch.object(json_module, "rows", rows),
        mock.patch.object(msgpack_module, "rows", rows),
    ):
        made = serializer.row_codec(
            Row,
            tuple(plan.fields.values()),
            plan.key_fields,
            plan.identity,
            False,
            prefix=form.prefix,
            unwrap=form.unwrap,
        )
    return form.wrap(made, plan.identity)


def codecs(chosen: str, **options: Any) -> list[Any]:
    form = Envelope("Row", SERIALIZERS[chosen], **options)
    return [codec(twin, SERIALIZERS[chosen], form) for twin in TWINS]


def outcome(call: Any) -> Any:
    try:
        return [row and row.to_dict() for row in call()]
    except co.PayloadError as error:
        return type(error), str(error)


forms = st.fixed_dictionaries(
    {"version": st.sampled_from([None, 1, 2]), "compress": st.sampled_from([None, co.Zstd(threshold=20)])}
)


@pytest.mark.parametrize("chosen", SERIALIZERS)
@given(forms, st.lists(st.text(), min_size=1, max_size=6))
def test_all_forms_are_written_the_same(chosen: str, options: dict[str, Any], names: list[str]) -> None:
    written = []
    for one in codecs(chosen, **options):
        rows = [Row(id=number, name=name, score=None) for number, name in enumerate(names)]
        payloads = one.dump_many(rows)
        keys = [Row.key(id=number) for number in range(len(names))]
        assert [row.name for row in one.load_many(payloads, [*range(len(names))], keys)] == names
        assert [one.load(*each).to_dict() for each in zip(payloads, range(len(names)), keys, strict=True)] == [
            row.to_dict() for row in rows
        ]
        written.append(payloads)
    assert written[0] == written[-1]


def drawn_payloads(data: Any, count: int) -> list[bytes | None]:
    """Draw the payloads of some rows, written by any serializer, of which some are broken."""
    payloads: list[bytes | None] = []
    for number in range(count):
        writer = data.draw(st.sampled_from([*SERIALIZERS]))
        (payload,) = codecs(writer, **data.draw(forms))[0].dump_many([Row(id=number, name="again " * 9, score=number)])
        changed = bytearray(payload)
        for _ in range(data.draw(st.sampled_from([0, 0, 0, 1, 2]))):
            changed[data.draw(st.integers(0, min(40, len(changed) - 1)))] = data.draw(st.integers(0, 255))
        if data.draw(st.sampled_from([False, False, False, True])):
            del changed[data.draw(st.integers(0, len(changed))) :]
        if data.draw(st.sampled_from([False, False, False, True])):
            header = Header(data.draw(st.sampled_from(["json", "pickle", "x", "Custom"])))
            flags = data.draw(st.sampled_from([0, SIGNED, COMPRESSED]))
            changed = bytearray(header._replace(flags=flags).pack()) + changed
        payloads.append(bytes(changed))
    return payloads


@pytest.mark.parametrize("chosen", SERIALIZERS)
@given(data=st.data())
def test_all_forms_whole_and_broken_are_read_the_same(chosen: str, data: Any) -> None:
    count = data.draw(st.sampled_from([1, 2, 6]))
    payloads = drawn_payloads(data, count)
    options = data.draw(forms)
    accepts = [SERIALIZERS[one] for one in data.draw(st.lists(st.sampled_from([*SERIALIZERS])))]
    keys = [Row.key(id=number) for number in range(count)]
    found = [
        outcome(lambda one=one: one.load_many(payloads, [*range(count)], keys))
        for one in codecs(chosen, accepts=accepts, **options)
    ]
    assert found[0] == found[-1]


@pytest.mark.parametrize("chosen", SERIALIZERS)
@given(data=st.data())
def test_all_forms_whole_and_broken_are_changed_the_same(chosen: str, data: Any) -> None:
    count = data.draw(st.sampled_from([1, 2, 6]))
    payloads = drawn_payloads(data, count)
    options = data.draw(forms)
    accepts = [SERIALIZERS[one] for one in data.draw(st.lists(st.sampled_from([*SERIALIZERS])))]
    keys = [Row.key(id=number) for number in range(count)]
    values = data.draw(
        st.fixed_dictionaries(
            {}, optional={"name": st.text(), "score": st.none() | st.integers(), "married": st.booleans()}
        )
    )

    def patched(one: Any) -> Any:
        changes = one.pack_changes([Row(id=number, **values) for number in range(count)])
        try:
            return changes, one.patch_many(payloads, changes, keys)
        except (co.PayloadError, TypeError, ValueError) as error:
            return type(error), str(error)

    found = [patched(one) for one in codecs(chosen, accepts=accepts, **options)]
    assert found[0] == found[-1]
