"""Pickle: fine on its own and in memory, refused wherever others could write what is read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

import cacheorm as co

REFUSED = r"^Row: pickle on FileSystemBackend is refused.*co\.PickleSerializer\(secret=\.\.\.\)$"


def make_model(**options: Any) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        any = co.Field(null=True)
        raw = co.BinaryField(ensure_str=False, default=b"")
        Meta = type("Meta", (), options)

    return Row


@pytest.fixture
def file_backend(tmp_path: Path) -> Any:
    with co.FileSystemBackend(tmp_path / "cache") as backend:
        yield backend


def test_bare_use_works() -> None:
    serializer = co.PickleSerializer()
    for value in (None, {"a": {1, 2}, "when": dt.datetime(2020, 1, 1)}, b"\xff", co.Field):
        assert serializer.loads(serializer.dumps(value)) == value


def test_a_model_in_memory_may_use_it() -> None:
    model = make_model(backend=co.SimpleBackend(), serializer="pickle")
    model.create(id=1, any={1: [2, None]}, raw=b"\xff")
    assert model.get(id=1).any == {1: [2, None]}
    assert model.get(id=1).raw == b"\xff"


@pytest.mark.parametrize("serializer", ["pickle", co.PickleSerializer()])
def test_a_model_on_a_backend_outside_the_process_is_refused_when_its_class_is_created(
    file_backend: Any, serializer: Any
) -> None:
    with pytest.raises(TypeError, match=REFUSED):
        make_model(backend=file_backend, serializer=serializer)


def test_a_default_backend_that_is_set_later_is_refused_at_the_first_use(file_backend: Any) -> None:
    model = make_model(serializer="pickle")
    before = co.default_backend
    co.configure(backend=co.SimpleBackend())
    try:
        model.create(id=1, any=5)
        co.configure(backend=file_backend)
        for use in (
            lambda: model.create(id=1),
            lambda: model.get(id=1),
            lambda: model.insert_many({"id": 1}).execute(),
        ):
            with pytest.raises(TypeError, match=REFUSED):
                use()
    finally:
        co.configure(backend=before)


def test_a_default_serializer_that_is_set_later_is_refused_at_the_first_use(file_backend: Any) -> None:
    model = make_model(backend=file_backend)
    before = co.defaults.serializer
    co.configure(serializer="pickle")
    try:
        with pytest.raises(TypeError, match=REFUSED):
            model.get_or_none(id=1)
    finally:
        co.configure(serializer=before)


def test_binding_is_refused_too_and_changes_nothing(file_backend: Any) -> None:
    model = make_model(backend=co.SimpleBackend(), serializer="pickle")
    with pytest.raises(TypeError, match=REFUSED):
        co.bind([model], backend=file_backend)
    model.create(id=1, any=5)
    assert model.get(id=1).any == 5


def test_what_cannot_be_pickled_is_reported_with_model_and_field_and_without_the_value() -> None:
    model = make_model(backend=co.SimpleBackend(), serializer="pickle")

    def local_S3CRET() -> None: ...

    with pytest.raises((TypeError, ValueError), match=r"^Row\.any: the pickle serializer cannot hold it: ") as caught:
        model.create(id=1, any=local_S3CRET)
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("payload", [b"", b"\x81", b"garbage", b"\x80\x05]."])
def test_payloads_that_are_no_row_are_payload_errors(payload: bytes) -> None:
    model = make_model(backend=co.SimpleBackend(), serializer="pickle")
    model._meta.backend.set(model.key(id=1), payload)
    with pytest.raises(co.PayloadError, match=r"^Row: .*read as (pickle|msgpack)\)$"):
        model.get(id=1)
