"""The commands of docs/command-line.md print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "command-line.md"

_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What differs between two runs, and two machines.
_VARIES = re.compile(
    r"(?<=ttl           )\d+|\d+(?= s$)|[\d.]+(?= ms$)|(?<=bytes    )\d+|(?<=path     ).*", re.MULTILINE
)


def test_the_commands_print_what_the_document_says(tmp_path: Path) -> None:
    blocks = _BLOCK.findall(DOCUMENT.read_text("utf-8"))
    (module,) = (code for kind, code in blocks if kind == "python")
    sessions = "".join(code for kind, code in blocks if kind == "console")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    # The rows are written once; afterwards the module only says what they look like.
    subprocess.run([sys.executable, "-c", module], cwd=tmp_path, env=environment, check=True)
    (tmp_path / "shop.py").write_text(module.partition("User.create")[0], "utf-8")
    commands = re.split(r"^\$ cacheorm ", sessions, flags=re.MULTILINE)[1:]
    assert len(commands) > 8
    for command in commands:
        words, _, expected = command.partition("\n")
        done = subprocess.run(
            [sys.executable, "-m", "cacheorm", *words.split()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "", words
        assert _VARIES.sub("N", done.stdout) == _VARIES.sub("N", expected), words
