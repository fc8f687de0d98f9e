"""Which version of the hot code is taken: compiled, pure, or an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from measuring import measured
from servers import HANG

import cacheorm as co

# One of each module that has an extension of its own.
OFFERED = (
    *("convert.Anything", "convert.Date", "convert.Enumeration", "convert.Integer", "convert.Json", "convert.Text"),
    *("convert.Uuid", "keys.Identity", "rows.MsgpackRows", "adopt.Adopter", "mapping.MappingRows", "slots.Slot"),
    *("wire.MetaReader", "wire.ReplyBuffer", "wire.RespReader", "wire.check_keys", "wire.pack_keys"),
    *("hash_ring.HashRing", "entries.Entries", "records.pick"),
)

# Makes every extension look as if it had not been built.
WITHOUT_EXTENSIONS = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("cacheorm._speedups.") and name.endswith("_c"):
            raise ImportError(f"no {name}")
sys.meta_path.insert(0, Missing())
"""
REPORT = f"""
import cacheorm, cacheorm._speedups as chosen, operator
modules = {{operator.attrgetter(one)(chosen).__module__ for one in {OFFERED!r}}}
print(cacheorm.speedups_enabled, *sorted({{"compiled" if one.endswith("_c") else "pure" for one in modules}}))
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CACHEORM_")} | measured()
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**environment, **variables}, capture_output=True, text=True, timeout=HANG, check=False
    )


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_pure_version_can_be_asked_for(value: str) -> None:
    done = run(REPORT, CACHEORM_NO_EXTENSIONS=value)
    assert (done.stdout.split(), done.stderr) == (["False", "pure"], "")


def test_without_extensions_the_pure_version_is_taken() -> None:
    done = run(WITHOUT_EXTENSIONS + REPORT)
    assert (done.stdout.split(), done.stderr) == (["False", "pure"], "")


def test_required_extensions_that_are_missing_are_an_error_that_says_what_to_do() -> None:
    done = run(WITHOUT_EXTENSIONS + REPORT, CACHEORM_REQUIRE_EXTENSIONS="1")
    assert done.returncode != 0
    assert "ImportError: cacheorm's extensions are required (CACHEORM_REQUIRE_EXTENSIONS)" in done.stderr
    assert "pip install" in done.stderr
    assert "no cacheorm._speedups." in done.stderr


@pytest.mark.parametrize("value", ["", "0"])
def test_empty_and_zero_mean_not_set(value: str) -> None:
    unset = run(REPORT)
    done = run(REPORT, CACHEORM_NO_EXTENSIONS=value, CACHEORM_REQUIRE_EXTENSIONS="")
    assert (done.stdout, done.returncode) == (unset.stdout, 0)


def test_compiled_versions_are_taken_all_together_where_they_were_built() -> None:
    code = REPORT + "print(*sorted({type(one).__module__ for one in (cacheorm.IntegerField().make_converter(),)}))"
    done = run(code, CACHEORM_REQUIRE_EXTENSIONS="1" if co.speedups_enabled else "0")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:2] in (["True", "compiled"], ["False", "pure"])
    assert words[2].endswith("_c") == (words[0] == "True")
    if co.speedups_enabled:
        assert words[0] == "True"
