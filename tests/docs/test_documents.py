"""The examples of the documents are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
def test_examples_run_as_written(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # One namespace per document: later examples go on from earlier ones, as a reader does.
    exec(compile(code_of(document), str(document), "exec"), {"__name__": f"documents_{document.stem}"})


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_has_a_quick_start() -> None:
    assert "insert_many" in code_of(ROOT / "README.md")
