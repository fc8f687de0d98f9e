"""Every public name is used by some test."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import cacheorm as co
from cacheorm.operations import ModelDelete, ModelExpire, ModelInsert, ModelQuery, ModelUpdate

TESTS = Path(__file__).parent
THIS = Path(__file__)
# The documents are tests too: their examples run.
SOURCES = [path for path in TESTS.rglob("*.py") if path != THIS] + [*TESTS.parent.glob("docs/*.md")]
WORDS = {word for path in SOURCES for word in re.findall(r"\w+", path.read_text("utf-8"))}

CLASSES = [
    co.BaseBackend,
    co.BaseSerializer,
    co.Field,
    co.Model,
    co.SerializerRegistry,
    co.WriteError,
    ModelDelete,
    ModelExpire,
    ModelInsert,
    ModelQuery,
    ModelUpdate,
]


@pytest.mark.parametrize("name", co.__all__)
def test_a_name_of_the_package_is_tested(name: str) -> None:
    assert hasattr(co, name)
    assert name in WORDS


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_public_methods_are_tested_and_documented(cls: type) -> None:
    # What awaits another method is tested with it: tests/awaited/test_twins.py.
    public = [name for name in vars(cls) if not name.startswith("_") and not (name[0] == "a" and name[1:] in vars(cls))]
    untested = [name for name in public if name not in WORDS]
    assert untested == []
    undocumented = [name for name in public if not inspect.getdoc(getattr(cls, name))]
    assert undocumented == []
