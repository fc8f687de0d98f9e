"""configure() and bind(): the process's defaults, and models moved elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cacheorm as co
from cacheorm import metadata


@pytest.fixture(autouse=True)
def _fresh_defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the process's defaults as they were."""
    before = (metadata.defaults._backend, metadata.defaults._serializer)
    metadata.defaults._backend = metadata.defaults._serializer = None
    metadata.defaults.generation += 1
    yield
    metadata.defaults._backend, metadata.defaults._serializer = before
    metadata.defaults.generation += 1


def make(name: str = "User", **options: Any) -> Any:
    body = {
        "__qualname__": f"<locals>.{name}",
        "id": co.IntegerField(primary_key=True),
        "name": co.StringField(default="x"),
        "Meta": type("Meta", (), options),
    }
    return type(co.Model)(name, (co.Model,), body)


def test_the_default_is_one_backend_in_memory() -> None:
    assert isinstance(co.default_backend, co.SimpleBackend)
    assert co.default_backend is co.default_backend
    user = make()
    user.create(id=1)
    assert co.default_backend.get("m:user:id:1") is not None
    with pytest.raises(AttributeError, match="no attribute 'default_serializer'"):
        _ = co.default_serializer  # type: ignore[attr-defined]


def test_configure_moves_models_that_were_used_before(memory: co.SimpleBackend) -> None:
    user, own = make(), make("Own", backend=co.SimpleBackend(), serializer="msgpack")
    user.create(id=1)
    co.configure(backend=memory)
    assert co.default_backend is memory
    assert not user.exists(id=1)
    user.create(id=2)
    co.configure(serializer="json")
    user.create(id=3)
    assert memory.get("m:user:id:3") == b'{"name":"x"}'
    assert memory.get("m:user:id:2") != b'{"name":"x"}'
    assert co.default_backend is memory
    own.create(id=1)
    assert len(memory) == 2
    assert own._meta.serializer is co.registry.get_by_name("msgpack")


def test_configure_without_arguments_changes_nothing() -> None:
    before = co.default_backend
    co.configure()
    co.configure(backend=None, serializer=None)
    assert co.default_backend is before


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": 5},
        {"backend": "nowhere://"},
        {"backend": co.SimpleBackend},
        {"serializer": "yaml"},
        {"serializer": 5},
        {"backend": co.SimpleBackend(), "serializer": "yaml"},
    ],
)
def test_an_error_leaves_defaults_and_models_as_they_were(wrong: dict[str, Any]) -> None:
    user = make()
    plan, before, serializer = user._meta, co.default_backend, metadata.defaults.serializer
    with pytest.raises((TypeError, ValueError)):
        co.configure(**wrong)
    with pytest.raises((TypeError, ValueError)):
        co.bind([user], **wrong)
    assert (user._meta, co.default_backend, metadata.defaults.serializer) == (plan, before, serializer)


def test_a_default_that_is_empty_or_false_is_used_all_the_same() -> None:
    class Empty(co.SimpleBackend):
        def __bool__(self) -> bool:
            return False

    empty = Empty()
    co.configure(backend=empty)
    assert co.default_backend is empty
    user = make()
    assert user._meta.backend is empty
    other = Empty()
    with co.bind([user], backend=other):
        assert user._meta.backend is other


def test_threads_that_come_first_agree_on_the_default() -> None:
    for _ in range(20):
        metadata.defaults._backend = None
        metadata.defaults.generation += 1
        user = make()
        start = threading.Barrier(8)
        seen = []

        def use(start: threading.Barrier = start, user: Any = user, seen: list[Any] = seen) -> None:
            start.wait()
            seen.append(user._meta.backend)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, seen))) == 1


def test_a_default_serializer_that_is_gone_is_named() -> None:
    serializer = co.registry.get_by_name("msgpack")
    assert serializer is not None
    co.registry.unregister("msgpack")
    try:
        with pytest.raises(ValueError, match="the msgpack serializer was unregistered"):
            make().create(id=1)
    finally:
        co.registry.register("msgpack", serializer)


def test_a_default_that_a_model_cannot_use_is_refused_when_it_is_used(tmp_path: Path) -> None:
    user = make()
    co.configure(backend=co.FileSystemBackend(tmp_path), serializer="pickle")
    with pytest.raises(TypeError, match="User: pickle on FileSystemBackend is refused"):
        user.create(id=1)
    co.configure(serializer="json")
    assert user.create(id=1) == user.get(id=1)
    co.default_backend.close()


def test_bind_moves_models_at_once_and_for_good(memory: co.SimpleBackend) -> None:
    user, other = make(), make("Other")
    co.bind([user, other], backend=memory, serializer="json")
    user.create(id=1)
    other.create(id=1)
    assert (len(memory), memory.has("m:other:id:1"), memory.has("m:user:id:1")) == (2, True, True)
    assert memory.get("m:user:id:1") == b'{"name":"x"}'


def test_bind_ends_with_its_block_and_after_an_error(memory: co.SimpleBackend) -> None:
    user = make()
    user.create(id=1)
    with co.bind([user], backend=memory):
        assert not user.exists(id=1)
        user.create(id=2)
    assert user.exists(id=1)
    assert not user.exists(id=2)
    with pytest.raises(RuntimeError), co.bind((user,), backend=memory):
        raise RuntimeError
    assert user.exists(id=1)


def test_binds_nest() -> None:
    user = make()
    outer, inner = co.SimpleBackend(), co.SimpleBackend()
    with co.bind([user], backend=outer, serializer="json"):
        with co.bind([user], backend=inner):
            user.create(id=1)
            assert inner.get("m:user:id:1") == b'{"name":"x"}'
        with co.bind([user], serializer="pickle"):
            assert user._meta.backend is outer
        user.create(id=2)
    assert (len(inner), len(outer), len(co.default_backend)) == (1, 1, 0)  # type: ignore[arg-type]


def test_an_operation_keeps_the_backend_it_was_made_for(memory: co.SimpleBackend) -> None:
    user = make()
    with co.bind([user], backend=memory):
        operation = user.insert(id=1)
    operation.execute()
    assert len(memory) == 1


def test_bind_moves_only_the_models_it_names(memory: co.SimpleBackend) -> None:
    user = make()
    child: Any = type(co.Model)("Child", (user,), {"__qualname__": "<locals>.Child"})
    with co.bind([user], backend=memory):
        child.create(id=1)
    assert len(memory) == 0


def test_bind_takes_models_and_nothing_else() -> None:
    user = make()
    abstract: Any = type(co.Model)("Base", (co.Model,), {"Meta": type("Meta", (), {"abstract": True})})
    plan = user._meta
    for wrong in (5, [5], ["User"], [user, object()], [user, abstract], user):
        with pytest.raises((TypeError, AttributeError)):
            co.bind(wrong, backend=co.SimpleBackend())  # type: ignore[arg-type]
        assert user._meta is plan


def test_bind_takes_any_iterable_and_urls(tmp_path: Path) -> None:
    user, other = make(), make("Other")
    url = (tmp_path / "cache").as_uri()
    with co.bind((model for model in (user, other)), backend=url):
        assert user._meta.backend is other._meta.backend
        assert user.create(id=1) == user.get(id=1)
        user._meta.backend.close()


def test_relations_follow_where_their_models_are_bound(memory: co.SimpleBackend) -> None:
    user = make()
    post: Any = type(co.Model)("Post", (co.Model,), {"__qualname__": "<locals>.Post", "user": co.ForeignKeyField(user)})
    with co.bind([user], backend=memory):
        user.create(id=1, name="bound")
        assert post(user=1).user.name == "bound"
    with pytest.raises(user.DoesNotExist):
        _ = post(user=1).user
