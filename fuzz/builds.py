"""Both builds of the whole package in one process, under two names."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["PACKAGE", "compiled_build", "pure_build"]

PACKAGE = Path(importlib.util.find_spec("cacheorm").origin).parent  # type: ignore[union-attr, arg-type]
"""The folder of the package."""


@cache
def pure_build() -> Any:
    """Return the package without its extensions; a copy of its own if this process uses them."""
    import cacheorm

    return _load("cacheorm_pure") if cacheorm.speedups_enabled else cacheorm


@cache
def compiled_build() -> Any:
    """Return the package as this process uses it: compiled, unless the extensions are not there or not wanted."""
    import cacheorm

    return cacheorm


def _load(name: str) -> Any:
    # The package imports its own modules by relative names, so that it can have any name.
    spec = importlib.util.spec_from_file_location(
        name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[name] = importlib.util.module_from_spec(spec)
    wanted = {variable: os.environ.pop(variable, None) for variable in _CHOICES}
    os.environ["CACHEORM_NO_EXTENSIONS"] = "1"
    try:
        spec.loader.exec_module(package)
    finally:
        for variable, value in wanted.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value
    return package


_CHOICES = ("CACHEORM_NO_EXTENSIONS", "CACHEORM_REQUIRE_EXTENSIONS")
