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
from cacheorm.aging import Aging, Stamp
from cacheorm.options import Options
from cacheorm.payload import COMPRESSED, SIGNED, Ages, Header
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


NOW = 1_700_000_000_000


class Fixed(Aging):
    """Ages at a time that stands still."""

    def now(self) -> int:
        return NOW


AGINGS = {
    "keeps": Fixed(Options(ttl=1000, keep_stale=500)),
    "refreshes": Fixed(Options(ttl=1000, refresh_after=100, ttl_jitter=0.5)),
    "both": Fixed(Options(ttl=1000, refresh_after=100, keep_stale=500, ttl_jitter=0.25)),
}


def codec(twin: str, serializer: co.BaseSerializer, form: Envelope, aging: Any) -> Any:
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
            aging=aging,
        )
    return form.wrap(made, plan.identity)


def codecs(chosen: str, ages: str | None = None, **options: Any) -> list[Any]:
    aging = None if ages is None else AGINGS[ages]
    form = Envelope("Row", SERIALIZERS[chosen], aged=aging is not None, **options)
    return [codec(twin, SERIALIZERS[chosen], form, aging) for twin in TWINS]


def outcome(call: Any) -> Any:
    try:
        return [row and row.to_dict() for row in call()]
    except co.PayloadError as error:
        return type(error), str(error)


forms = st.fixed_dictionaries(
    {
        "version": st.sampled_from([None, 1, 2]),
        "compress": st.sampled_from([None, co.Zstd(threshold=20)]),
        "ages": st.sampled_from([None, *AGINGS]),
    }
)

# What an operation writes of ages, some of which cannot be written; and when rows are read.
stamps = st.none() | st.builds(
    Stamp,
    st.integers(NOW - 200_000, NOW + 200_000) | st.sampled_from([-5, 0, 2**60]),
    st.none() | st.sampled_from([0, -1, NOW, NOW + 50_000, 2**60]),
    st.sampled_from([0, 1000, 2**46]),
)
times = st.none() | st.sampled_from([0, NOW, NOW + 99_000]) | st.integers(NOW - 300_000, NOW + 2_000_000)


@pytest.mark.parametrize("chosen", SERIALIZERS)
@given(forms, st.lists(st.text(), min_size=1, max_size=6), stamps)
def test_all_forms_are_written_the_same(
    chosen: str, options: dict[str, Any], names: list[str], stamp: Stamp | None
) -> None:
    written = []
    for one in codecs(chosen, **options):
        rows = [Row(id=number, name=name, score=None) for number, name in enumerate(names)]
        payloads = one.dump_many(rows, True, stamp if options["ages"] else None)
        keys = [Row.key(id=number) for number in range(len(names))]
        assert [row.name for row in one.load_many(payloads, [*range(len(names))], keys, None, None, 0)] == names
        if stamp is None:
            each = zip(payloads, range(len(names)), keys, strict=True)
            assert [one.load(*read).to_dict() for read in each] == [row.to_dict() for row in rows]
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
        if data.draw(st.sampled_from([False, False, False, True])):
            times = st.integers(NOW - 1_200_000, NOW + 1_200_000) | st.integers(0, 2**48 - 1)
            ages = data.draw(st.builds(Ages, times, times | st.just(0), st.integers(0, 2**16 - 1)))
            form = data.draw(st.sampled_from(["json", "msgpack", "Custom"]))
            changed = bytearray(Header(form, None, 0, ages).pack()) + changed
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
    now = data.draw(times)
    found = []
    for one in codecs(chosen, accepts=accepts, **options):
        due: list[int] = []
        rows = outcome(lambda one=one, due=due: one.load_many(payloads, [*range(count)], keys, None, due, now))
        single = [outcome(lambda one=one, at=at: [one.load(payloads[at], at, keys[at])]) for at in range(count)]
        found.append((rows, due if isinstance(rows, list) else None, single))
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

    stamp = data.draw(stamps) if options["ages"] else None

    def patched(one: Any) -> Any:
        try:
            changes = one.pack_changes([Row(id=number, **values) for number in range(count)])
            return changes, one.patch_many(payloads, changes, keys, None, stamp)
        except (co.PayloadError, TypeError, ValueError) as error:
            return type(error), str(error)

    found = [patched(one) for one in codecs(chosen, accepts=accepts, **options)]
    assert found[0] == found[-1]
