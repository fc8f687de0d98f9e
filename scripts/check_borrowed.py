"""Finds casts of borrowed pointers to objects that nothing holds, in Cython sources.

``<object> pointer`` makes no reference: if what it is passed to hashes, compares, converts, allocates or collects, code
of the application may run, and release the last one. So such a cast is bound to a name at once, put where it is kept,
or returned, all of which make a reference. Two uses need none: an argument of a macro that only looks at the object,
and one with a comment that says what holds it, on its line or above it::

    found = PyDict_GetItem(names, <object> step.name)  # held: by the steps
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find"]

_SUFFIXES = {".pxd", ".pxi", ".pyx"}

# Macros that look at an object, or count its references, and run no other code.
_LOOKING = (
    "PyBytes_AS_STRING|PyBytes_CheckExact|PyBytes_GET_SIZE|PyList_GET_SIZE|PyLong_Check|PyUnicode_CheckExact|"
    "PyUnicode_DATA|PyUnicode_GET_LENGTH|PyUnicode_KIND|Py_DECREF|Py_INCREF|Py_XDECREF|Py_XINCREF|item_of"
)
_LOOKED_AT = re.compile(rf"\b(?:{_LOOKING})\(<object>\s*[\w.]+(?:\(\w+, \w+\))?(?:\[\w+\])?(?=[,)])")
_STRINGS_AND_COMMENTS = re.compile(
    r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*', re.DOTALL
)
_MARK = re.compile(r"#\s*held: \S")
_CAST = re.compile(r"<object>")
# A name, an attribute or a place of a container; what it gets is the cast alone, or the one of two branches.
_BOUND = re.compile(
    r"""(?:return\s|(?:cdef\s+[\w.]+\s+)?[\w.]+(?:\[[\w.]+\])?\s*=)
        \s*(?:[^<>()]*\selse\s+)?
        <object>\s*[\w.]+(?:\[[^\]]*\](?:\.\w+)?|\([^()]*(?:<PyObject\s\*>\s*\w+)?[^()]*\))?
        (?:\s+if\s[^<>()]*\selse\s[^<>()]*)?""",
    re.VERBOSE,
)


def find(source: str) -> list[int]:
    """Return the lines, from 1, of the casts in a source that are not held."""
    return [line for line, code, marked in _statements(source) if not marked and not _is_held(code)]


def _is_held(code: str) -> bool:
    code = _LOOKED_AT.sub("looked_at(", code).strip()
    return not _CAST.search(code) or _BOUND.fullmatch(code) is not None


def _statements(source: str) -> Iterator[tuple[int, str, bool]]:
    """Return the first line of each statement, its code without strings and comments, and whether it is marked."""
    marks = {number for number, line in enumerate(source.splitlines(), 1) if _MARK.search(line)}
    blank = _STRINGS_AND_COMMENTS.sub(lambda found: '""' * (found[0][0] != "#") + "\n" * found[0].count("\n"), source)
    begun, code, depth, above = 0, "", 0, False
    for number, line in enumerate(blank.splitlines(), 1):
        if not code:
            begun = number
        code = f"{code} {line.strip()}".strip()
        depth += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        if depth > 0:
            continue
        # A comment that stands alone belongs to the statement below it.
        marked = above or not marks.isdisjoint(range(begun, number + 1))
        above = marked and not code
        if code:
            yield begun, code, marked
        code = ""


def main(folders: list[str]) -> int:
    """Print the casts in the Cython sources of folders; return 1 if there are any."""
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*")) if file.suffix in _SUFFIXES]
    found = 0
    for file in files:
        for line in find(file.read_text("utf-8")):
            found = 1
            print(f"{file}:{line}: a borrowed pointer is cast to an object that nothing holds")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
