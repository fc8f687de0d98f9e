"""A folder of ``cacheorm._speedups`` in either build, whichever of the two the package itself has chosen."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cacheorm import _speedups

__all__ = ["compiled_build", "modules", "pure_build"]

SPEEDUPS = Path(_speedups.__file__).parent


def modules(folder: str) -> list[str]:
    """List the modules that exist in both builds, by their names without what tells the builds apart."""
    files = [path for path in (SPEEDUPS / folder).iterdir() if path.suffix in (".py", ".pyx", ".so", ".pyd")]
    if any(path.suffix == ".pyx" for path in files):
        # In a checkout, extensions of modules that are no longer there may lie about.
        files = [path for path in files if path.suffix in (".py", ".pyx")]
    names = {path.name.partition(".")[0] for path in files} - {"__init__"}
    twins = {name.removesuffix("_c") for name in names if name.endswith("_c")}
    return sorted(twins | {name for name in names if not name.endswith(("_c", "_py"))})


def pure_build(folder: str) -> Any:
    """Give the public names of a folder's Python modules."""
    twins = {path.stem for path in (SPEEDUPS / folder).glob("_*_py.py")}
    return _public(folder, [f"{name}_py" if f"{name}_py" in twins else name for name in modules(folder)])


def compiled_build(folder: str) -> Any:
    """Give the public names of a folder's extensions, ``None`` where they are not built."""
    try:
        return _public(folder, [f"{name}_c" for name in modules(folder)])
    except ImportError:
        if os.environ.get("CACHEORM_REQUIRE_EXTENSIONS", "0") not in ("", "0"):
            raise
        return None


def _public(folder: str, names: list[str]) -> SimpleNamespace:
    found = [importlib.import_module(f"cacheorm._speedups.{folder}.{name}") for name in names]
    return SimpleNamespace(**{name: getattr(module, name) for module in found for name in module.__all__})
