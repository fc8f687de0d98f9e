"""The errors by themselves: their tree, their texts, their pickles."""

from __future__ import annotations

import builtins
import copy
import importlib
import pickle
import pkgutil
import re
from typing import Any

import pytest

import cacheorm as co
from cacheorm import errors
from cacheorm.operations.insert import CreatedByOthersError

ERRORS: list[Any] = [
    co.CacheORMError("text"),
    co.ValidationError("User", [("name", "expected text")], 3, "m:user:id:1"),
    co.ValidationError(None, [("StringField", "expected text")]),
    co.ShapeError("User: a row is a dict", 3),
    co.PayloadError("is null", model="User", key="m:user:id:1", field="name", serializer="json"),
    co.PayloadError("is empty"),
    co.PayloadError.listing(
        co.PayloadError("is empty", model="User", key="m:user:id:1"),
        [co.FailedRow("User", f"m:user:id:{number}", "is empty") for number in range(1, 6)],
    ),
    co.InvalidKeyError("too long"),
    co.WriteError([co.FailedRow("User", "m:user:id:1", "too large")]),
    co.WriteError([co.FailedRow("User", "m:user:id:1", "is full", True)], [("User", "m:user:id:2")], rows=[1, None]),
    co.ConflictError([co.FailedRow("User", "m:user:id:1", "others changed it")], done="updated"),
    CreatedByOthersError([co.FailedRow("User", "m:user:id:1", "others have created it")]),
    co.BackendError("redis at host:6379: no reply", maybe_applied=True),
    co.BackendError("refused"),
    co.DoesNotExist("no row"),
]


def kinds_of_the_package() -> list[Any]:
    """Return every class of exceptions that a module of the package defines."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(co.__path__, "cacheorm."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == module.name:
                found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return [found[name] for name in sorted(found)]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_errors_pickle_and_copy_whole(error: Any) -> None:
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)]
    for again in [*copies, copy.copy(error), copy.deepcopy(error)]:
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", kinds_of_the_package(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_package_pickles_with_all_that_it_has(kind: Any) -> None:
    example = next((error for error in ERRORS if type(error) is kind), None)
    error = copy.copy(example) if example else kind("some text")
    error.add_note("a note")
    error.of_a_user = {"request": 7}
    error.__cause__ = LookupError("its cause") if isinstance(error, co.CacheORMError) else None
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.__notes__ == ["a note"]
        if error.__cause__ is not None:
            assert str(again.__cause__) == "builtins.LookupError: its cause"
            assert str(pickle.loads(pickle.dumps(again)).__cause__).endswith("LookupError: its cause")


def test_errors_of_cacheorm_pickle_as_causes_of_others() -> None:
    error = co.WriteError([co.FailedRow("User", "m:user:id:1", "no reply", True)])
    error.__cause__ = co.BackendError("Redis at host:6379: no reply", maybe_applied=True)
    error.__cause__.__cause__ = Unpicklable("the driver's")
    again = pickle.loads(pickle.dumps(error)).__cause__
    assert type(again) is co.BackendError
    assert again.maybe_applied
    assert str(again.__cause__).endswith("Unpicklable: the driver's")


def test_errors_of_a_users_own_kind_pickle_whatever_their_arguments() -> None:
    for error in (Full("host", 3), Unreadable("bad", 7)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("it does not pickle")


class Full(co.BackendError):
    def __init__(self, host: str, entries: int) -> None:
        self.entries = entries
        super().__init__(f"{host} is full")


class Unreadable(co.PayloadError):
    def __init__(self, reason: str, version: int) -> None:
        self.version = version
        super().__init__(reason, model="User")


def test_the_tree_is_the_one_that_is_written_down() -> None:
    members = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = {kind.__name__: kind for kind in members if issubclass(kind, Exception)}
    assert sorted([*kinds, "FailedRow"]) == errors.__all__
    # The lines of the tree in the docstring: indentation, the name, and a foreign base in brackets.
    assert errors.__doc__ is not None
    found = re.findall(r"^    ([│├└─ ]*)(\w+)(?: \((\w+)\))?", errors.__doc__, re.MULTILINE)
    ancestors: list[type] = []
    for indent, name, foreign in found:
        kind = kinds.pop(name)
        assert getattr(co, name) is kind
        del ancestors[len(indent) // 4 :]
        expected = [*ancestors[-1:], *([getattr(builtins, foreign)] if foreign else [])]
        assert list(kind.__bases__) == (expected or [Exception])
        ancestors.append(kind)
    assert kinds == {}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (co.ValidationError("User", [("a", "bad"), ("b", "worse")]), "User.a: bad; User.b: worse"),
        (co.ValidationError("User", [("a", "bad")], 0), "User.a: bad (row 0)"),
        (co.ValidationError("User", [("a", "bad")], 5, "k"), "User.a: bad (row 5, key k)"),
        (co.ValidationError(None, [("a", "bad")]), "a: bad"),
        (
            co.ValidationError("User", [("a", "missing value for <Field: User.a>")]),
            "missing value for <Field: User.a>",
        ),
        (co.PayloadError("bad"), "bad"),
        (co.PayloadError("bad", model="User", key="k"), "User: bad (key k)"),
        (
            co.PayloadError("bad", model="User", key="k", field="a", serializer="json"),
            "User.a: bad (key k, read as json)",
        ),
        (co.BackendError("bad"), "bad"),
        (co.BackendError("bad", maybe_applied=True), "bad (the write may have been applied)"),
        (co.WriteError([co.FailedRow("U", "k", "r")]), "1 row was not stored: U k: r"),
        (
            co.WriteError([co.FailedRow("U", "k", "r")], rows=["a secret"]),
            "1 row was not stored: U k: r (the rows that were loaded are the error's .rows)",
        ),
        (
            co.WriteError([co.FailedRow("U", str(number), "r") for number in range(5)]),
            "5 rows were not stored: U 0: r; U 1: r; U 2: r; and 2 more",
        ),
    ],
)
def test_texts_say_where_and_what(error: Exception, text: str) -> None:
    assert str(error) == text


def test_a_failed_row_reads_by_name() -> None:
    row = co.FailedRow("User", "k", "too large")
    assert (row.model, row.key, row.reason) == ("User", "k", "too large")
