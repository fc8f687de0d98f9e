"""Two releases of a model write the same row in any order: every field holds what was written to it last."""

from __future__ import annotations

import sys
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from amounts import enough, tried
from hypothesis import given, settings
from hypothesis import strategies as st

import cacheorm as co

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import user_pb2

SERIALIZERS: dict[str, co.BaseSerializer] = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "protobuf": co.ProtobufSerializer(user_pb2.User),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text(max_size=40),
    "small": st.integers(-1000, 1000),
    "tags": st.lists(st.text(max_size=3), max_size=3),
    "score": st.none() | st.integers(-(2**40), 2**40),
    "email": st.none() | st.text(max_size=3),
    "married": st.booleans(),
}
DEFAULTS: dict[str, Any] = {"name": "", "small": 0, "tags": [], "score": None, "email": None, "married": False}


def release(names: list[str], backend: co.BaseBackend, serializer: co.BaseSerializer) -> Any:
    """Declare a release of the model that knows some of the fields, in any order."""
    fields: dict[str, co.Field[Any]] = {
        "name": co.StringField(default=""),
        "small": co.IntegerField(default=0),
        "tags": co.ListField(co.StringField(), default=[]),
        "score": co.IntegerField(null=True),
        "email": co.StringField(null=True),
        "married": co.BooleanField(default=False),
    }
    body = {
        "id": co.IntegerField(primary_key=True),
        **{name: fields[name] for name in names},
        "Meta": type("Meta", (), {"backend": backend, "serializer": serializer}),
        "__qualname__": "<locals>.Row",
    }
    return type(co.Model)("Row", (co.Model,), body)


class Writers:
    """Both releases, the instances that they hold, and what the row must hold."""

    def __init__(self, serializer: co.BaseSerializer, names: dict[int, list[str]]) -> None:
        backend = co.SimpleBackend()
        self._names = names
        self.models = {number: release(known, backend, serializer) for number, known in names.items()}
        self.held: list[tuple[Any, dict[str, Any]]] = []
        self.row = dict(DEFAULTS)
        self.models[2].create(id=1)

    def insert(self, number: int, changes: dict[str, Any]) -> None:
        self.models[number].insert(id=1, **changes).execute()
        self.row = DEFAULTS | changes

    def update(self, number: int, changes: dict[str, Any]) -> None:
        self.models[number].update(id=1, **changes).execute()
        self.row |= changes

    def update_many(self, number: int, changes: dict[str, Any]) -> None:
        parts = [{"id": 1, name: value} for name, value in changes.items()]
        self.models[number].update_many([*parts, *({"id": pk} for pk in range(2, 8))]).execute()
        self.row |= changes

    def atomic(self, number: int, changes: dict[str, Any]) -> None:
        self.models[number].update_many({"id": 1, **changes}).atomic().execute()
        self.row |= changes

    def apply(self, number: int, changes: dict[str, Any]) -> None:
        def change(row: Any) -> None:
            for name, value in changes.items():
                setattr(row, name, copy(value))
            if "tags" in self._names[number]:
                row.tags.append("applied")

        update = self.models[number].update(id=1).apply(change)
        (update.atomic() if changes else update).execute()
        self.row |= changes
        if "tags" in self._names[number]:
            self.row["tags"] = [*self.row["tags"], "applied"]

    def increment(self, number: int, changes: dict[str, Any]) -> None:
        if "small" not in self._names[number]:
            return
        self.row["small"] += len(changes)
        assert self.models[number].increment(1, "small", len(changes)) == self.row["small"]

    def read(self, number: int, changes: dict[str, Any]) -> None:
        self.held.append((self.models[number].get(id=1), {}))

    def assign(self, number: int, changes: dict[str, Any]) -> None:
        for row, pending in self.held[-1:]:
            for name in type(row)._meta.fields.keys() & changes.keys():
                setattr(row, name, copy(changes[name]))
                pending[name] = changes[name]

    def append(self, number: int, changes: dict[str, Any]) -> None:
        for row, pending in self.held[:1]:
            if "tags" in type(row)._meta.fields:
                row.tags.append("appended")
                pending["tags"] = [*row.tags]

    def save(self, number: int, changes: dict[str, Any]) -> None:
        for row, pending in self.held[-2:]:
            assert row.save(atomic=bool(changes))
            self.row |= pending
            pending.clear()


@pytest.mark.parametrize("chosen", SERIALIZERS)
@settings(max_examples=enough(7000, 200), deadline=None)
@given(st.data())
def test_every_field_holds_what_was_written_to_it_last(chosen: str, data: st.DataObject) -> None:
    known = {number: data.draw(st.lists(st.sampled_from([*VALUES]), min_size=1, unique=True)) for number in (1, 2)}
    writers = Writers(SERIALIZERS[chosen], known)
    steps = [name for name in vars(Writers) if not name.startswith("_")]
    for _ in range(data.draw(st.integers(1, 12))):
        number = data.draw(st.sampled_from([1, 2]))
        names = data.draw(st.lists(st.sampled_from(known[number]), max_size=3, unique=True))
        changes = {name: data.draw(VALUES[name]) for name in names}
        getattr(writers, data.draw(st.sampled_from(steps)))(number, changes)
        tried["interleaved writes of two releases"] += 1
        for release_number, model in writers.models.items():
            expected = {name: writers.row[name] for name in known[release_number]}
            assert model.get(id=1).to_dict() == {"id": 1, **expected}
