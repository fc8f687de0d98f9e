"""The examples of the documents are run as they stand there."""

from __future__ import annotations

import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cacheorm as co

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def code_of(document: Path) -> str:
    """Join the Python examples of a document, on the lines that they stand on there."""
    text = document.read_text("utf-8")
    lines = [""] * text.count("\n")
    for match in _BLOCK.finditer(text):
        start = text.count("\n", 0, match.start(1))
        for offset, line in enumerate(match.group(1).splitlines()):
            lines[start + offset] = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_run_as_written(document: Path, tmp_path: Path) -> None:
    """One program per document: later examples go on from earlier ones, as a reader does."""
    program = tmp_path / f"example-{document.stem}.py"  # not asyncio.py: modules of this folder come first
    program.write_text(code_of(document), "utf-8")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_begins_with_the_two_commands_and_has_a_quick_start() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("## Quick start")
    assert "insert_many" in code_of(ROOT / "README.md")


def test_every_public_method_of_models_says_what_it_does() -> None:
    for name in dir(co.Model):
        if not name.startswith("_") and name != "DoesNotExist":
            assert getattr(co.Model, name).__doc__, name
    shown = pydoc.plain(pydoc.render_doc(co.Model))
    assert "Declare fields as class attributes" in shown
    assert "get_or_create" in shown


@pytest.mark.parametrize("name", [name for name in co.__all__ if name not in ("default_backend", "speedups_enabled")])
def test_every_public_name_has_a_docstring_of_its_own(name: str) -> None:
    thing = getattr(co, name)
    assert thing.__doc__
    if isinstance(thing, type):
        assert "__doc__" in vars(thing)
