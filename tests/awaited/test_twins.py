"""Everything that does I/O can be awaited: a twin for each method, found by looking at all that is public."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co
from cacheorm import operations
from cacheorm.operations.base import Operation

Models = Any
Run = Callable[[Any], Any]

# They make operations, which do nothing until they are executed, or tell what is known without a backend.
WITHOUT_IO = {
    co.Model: {"insert", "insert_many", "query", "query_many", "update", "update_many", "delete", "delete_many"}
    | {"key", "get_id", "to_dict", "from_dict", "validate", "DoesNotExist"},
    co.BaseBackend: {"check_key"},
    co.ForeignKeyField: {"python_value", "cache_value"},
}


def public(owner: Any) -> dict[str, Any]:
    """The functions of a class, its own and those of its ancestors here, by name."""
    found: dict[str, Any] = {}
    for ancestor in reversed(owner.__mro__):
        if ancestor.__module__.startswith("cacheorm"):
            found |= {name: member for name, member in vars(ancestor).items() if not name.startswith("_")}
    plain = {name: getattr(member, "__func__", member) for name, member in found.items()}
    return {name: member for name, member in plain.items() if inspect.isfunction(member)}


def with_io(owner: Any) -> list[str]:
    known = public(owner)
    twins = {name for name in known if name[:1] == "a" and (inspect.iscoroutinefunction(known[name]))}
    return sorted(known.keys() - twins - WITHOUT_IO[owner] - {f"a{name}" for name in ITERATED})


# Their twins are asynchronous iterators, and what these are of is the same.
ITERATED = {"get_chunks", "scan", "scan_chunks", "scan_keys"}


def item_of(method: Any) -> str:
    """Return the type of the items of an iterator of either kind."""
    found = re.fullmatch(
        r"(?:Async)?(?:Iterator|Generator)\[(.*?)(?:, None)*\]", inspect.signature(method).return_annotation
    )
    assert found is not None
    return found[1]


def same_parameters(method: Any, twin: Any) -> bool:
    return list(inspect.signature(method).parameters.values()) == list(inspect.signature(twin).parameters.values())


@pytest.mark.parametrize("name", with_io(co.Model))
def test_models_and_instances_have_a_twin_of_each_method(name: str) -> None:
    methods = public(co.Model)
    assert f"a{name}" in methods, f"Model.{name} has no twin: what does no I/O is listed in this file"
    twin = methods[f"a{name}"]
    assert same_parameters(methods[name], twin)
    assert inspect.iscoroutinefunction(twin) is (name not in ITERATED)
    if name in ITERATED:
        assert item_of(methods[name]) == item_of(twin)
        return
    assert inspect.signature(methods[name]).return_annotation == inspect.signature(twin).return_annotation


@pytest.mark.parametrize("name", with_io(co.BaseBackend))
def test_backends_have_a_twin_of_each_method(name: str) -> None:
    methods = public(co.BaseBackend)
    twin = methods[f"a{name}"]
    assert same_parameters(methods[name], twin)
    assert inspect.iscoroutinefunction(twin) is (name not in ITERATED)
    if name in ITERATED:
        assert item_of(methods[name]) == item_of(twin)
        return
    assert inspect.signature(methods[name]).return_annotation == inspect.signature(twin).return_annotation


@pytest.mark.parametrize("backend", [co.SimpleBackend, co.FileSystemBackend, co.RedisBackend, co.MemcachedBackend])
def test_no_backend_has_methods_that_only_block(backend: Any) -> None:
    without_io = {"from_url", "check_key", "servers_of", "breakers", "pending_invalidations", "retry_failed_servers"}
    for name in with_io_of(backend) - without_io:
        assert hasattr(backend, f"a{name}"), f"{backend.__name__}.{name} has no twin"


def with_io_of(backend: Any) -> set[str]:
    return {name for name in public(backend) if not (name[:1] == "a" and hasattr(backend, name[1:]))}


@pytest.mark.parametrize(
    "operation",
    [one for one in map(operations.__dict__.get, operations.__all__) if isinstance(one, type)]
    + [co.Insert, co.Query, co.Update, co.Delete],
)
def test_operations_are_executed_in_both_ways(operation: Any) -> None:
    if issubclass(operation, Operation):
        assert inspect.iscoroutinefunction(operation.aexecute)
        assert same_parameters(operation.execute, operation.aexecute)


def test_functions_that_do_io_have_a_twin() -> None:
    functions = {name for name in co.__all__ if inspect.isfunction(getattr(co, name))}
    # They set things up; nothing connects until it is used.
    without_io = {"backend_from_url", "bind", "configure", "deadline"}
    plain = functions - without_io - {name for name in functions if inspect.iscoroutinefunction(getattr(co, name))}
    assert plain == {"preload"}
    for name in plain:
        assert same_parameters(getattr(co, name), getattr(co, f"a{name}"))


# -- no thread hides behind a network ----------------------------------------------------------------------


# A file is read and written in threads.
NETWORKS_AND_MEMORY = pytest.mark.parametrize("backend", ["simple", "redis", "memcached"], indirect=True)


@pytest.fixture
def without_threads(backend: co.BaseBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(asyncio, "to_thread", refuse)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)


@NETWORKS_AND_MEMORY
def test_awaited_operations_need_no_threads(models: Models, run: Run, without_threads: None) -> None:
    async def main() -> None:
        await models.User.insert_many({"id": number} for number in range(2000)).aexecute()
        found = await asyncio.gather(*(models.User.query_many([{"id": n}, {"id": -1}]).aexecute() for n in range(100)))
        assert [[row and row.id for row in rows] for rows in found] == [[n, None] for n in range(100)]
        await models.User.update_many({"id": 1, "name": "Sam"}).atomic().aexecute()
        assert await models.User.aincrement(1, "visits") == 1
        assert (await models.User.aget_or_load(5000, loaded)).name == "loaded"
        assert await models.User.delete_many({"id": number} for number in range(2000)).aexecute()
        assert await models.User._meta.backend.aping()
        await models.User._meta.backend.aclose()

    run(main())


async def loaded(pk: int) -> dict[str, str]:
    return {"name": "loaded"}


@NETWORKS_AND_MEMORY
def test_the_methods_of_backends_need_no_threads(backend: co.BaseBackend, run: Run, without_threads: None) -> None:
    async def main() -> None:
        assert await backend.aset_many({f"k{i}": b"v" for i in range(3000)})
        assert await backend.aget_many("k1", "absent") == [b"v", None]
        assert await backend.aincr("n", 2) == 2
        assert (await backend.astats())["entries"] >= 3001
        await backend.aclear(everything=True)
        await backend.aclose()

    run(main())
