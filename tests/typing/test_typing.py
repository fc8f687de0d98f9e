"""mypy and pyright read the models of a user: right uses pass, and every wrong one is an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Checker = Callable[[Path], dict[int, str]]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def mypy_errors(path: Path) -> dict[int, str]:
    # With the repository's cache, in which `make types` has just put what is known of the package.
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    found = re.findall(rf"^.*{re.escape(path.name)}:(\d+): error: (.*)$", result.stdout, re.MULTILINE)
    return {int(line): message for line, message in found}


def pyright_errors(path: Path) -> dict[int, str]:
    # A project of its own: the repository's takes strict mode, whose opinions on style are not the question here.
    settings = path.with_name("pyrightconfig.json")
    settings.write_text(json.dumps({"include": [path.name], "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--project", str(settings)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, result.stdout
    return {
        entry["range"]["start"]["line"] + 1: entry["message"]
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
    }


@pytest.mark.parametrize("errors_of", [mypy_errors, pyright_errors])
@pytest.mark.parametrize("prefix", ["", "models_"])
class TestTypeCheckers:
    def test_right_uses_are_accepted(self, errors_of: Checker, prefix: str, tmp_path: Path) -> None:
        path = tmp_path / "accepted.py"
        path.write_text((HERE / f"{prefix}accepted.py").read_text("utf-8"), "utf-8")
        assert errors_of(path) == {}

    def test_every_wrong_use_is_refused(self, errors_of: Checker, prefix: str, tmp_path: Path) -> None:
        path = tmp_path / "rejected.py"
        path.write_text((HERE / f"{prefix}rejected.txt").read_text("utf-8"), "utf-8")
        wrong = {
            number for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.endswith("  # wrong")
        }
        assert wrong
        assert set(errors_of(path)) == wrong
