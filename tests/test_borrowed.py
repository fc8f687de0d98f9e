"""The check of `make lint` for borrowed references in the Cython sources."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "check_borrowed.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("check_borrowed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load()


@pytest.mark.parametrize(
    "source",
    [
        "values[<object> value] = None",
        "if value is not NULL and <object> value is not None:\n    pass",
        "target = PyDict_GetItemWithError(found, <object> value)",
        "related.write(instance, {name: <object> target})",
        "(<dict> <object> there)[name] = <object> target",
        "expected = self.place_of(<object> name, before)",
        "(<object> entry.field).__set__(instance, value)",
        "self.tracker.write(instance, marked(<object> state, self.bit))",
        "size = self.put(text, size, step, <object> found)",
        "raise IndexError(f(\n    <object> item,\n))",
        "return f(<object> found)",
        "parts.append(<object> item)",
    ],
)
def test_a_cast_that_nothing_holds_is_found(source: str) -> None:
    assert check.find(f"x = 1\n{source}\n")[0] == 2


@pytest.mark.parametrize(
    "source",
    [
        "value = <object> there",
        "return <object> value",
        "value = None if found is NULL else <object> found",
        "values[i] = <object> self.table.entries[at].value",
        "cdef object key = <object> PySequence_Fast_GET_ITEM(keys, index)",
        "Py_INCREF(<object> found)",
        "size = PyUnicode_GET_LENGTH(<object> key)",
        "found = look_up(names, <object> name)  # held: by the caller",
        "# held: by the table\nfound = look_up(names, <object> name)",
        'text = "f(<object> x)"  # f(<object> x)',
        '"""\nf(<object> x)\n"""',
    ],
)
def test_what_is_held_is_not(source: str) -> None:
    assert check.find(f"x = 1\n{source}\n") == []


def test_a_mark_without_a_reason_and_that_of_another_line_do_not_count() -> None:
    assert check.find("f(<object> x)  # held:\n") == [1]
    assert check.find("f(<object> x)  # held: by y\nf(<object> x)\n") == [2]


def test_it_names_the_place_and_fails(tmp_path: Path) -> None:
    (tmp_path / "bad.pyx").write_text("x = 1\nf(<object> x)\n")
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'bad.pyx'}:2: " in done.stdout


def test_the_sources_hold_what_they_cast() -> None:
    done = subprocess.run([sys.executable, SCRIPT, ROOT / "cacheorm"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
