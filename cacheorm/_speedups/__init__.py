"""The hot code, compiled or pure: the one place that chooses between them, all or nothing.

``CACHEORM_NO_EXTENSIONS=1`` in the environment takes the pure versions; ``CACHEORM_REQUIRE_EXTENSIONS=1``
makes missing extensions an error. Otherwise the compiled versions are taken where they were built.

=========== ================================================================================================
``convert`` field conversion: Python values to stored forms and back
``keys``    primary keys to backend keys
``rows``    rows to payloads and back, straight from and to the slots; with ``adopt`` (the rows that users pass, as
            instances), ``assigned`` (which fields of an instance were changed), ``budget`` (what reading a payload may
            cost), ``mapping`` (rows to payloads and back, through any serializer) and ``slots`` (the descriptor over an
            instance's hidden slots)
``wire``    the protocols of Redis and memcached: requests packed, replies parsed, no I/O; with ``hash_ring`` (keys to
            the servers of a consistent-hash ring)
``memory``  ``entries`` (what the in-memory backend holds) and ``records`` (keys and values as the file backend holds
            them)
=========== ================================================================================================

Each is a folder, whose ``__init__`` imports the versions that :data:`enabled` asks for. ``_X.py`` is one source for
both builds: Python, also compiled as ``_X_c``. ``_X_py.py`` and ``_X_c.pyx`` are two versions: one is the
readable reference, the other works on C buffers. A ``.pxd`` declares what compiled modules call of each other.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

__all__ = [
    "adopt",
    "assigned",
    "budget",
    "convert",
    "enabled",
    "entries",
    "hash_ring",
    "keys",
    "mapping",
    "records",
    "rows",
    "slots",
    "wire",
]


def _set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def _forget_folders() -> None:
    """Remove the folders that were imported, so that they can be imported again."""
    for name in [name for name in sys.modules if name.startswith(f"{__name__}.")]:
        del sys.modules[name]
        globals().pop(name.removeprefix(f"{__name__}."), None)


enabled = False
"""Whether the compiled versions are in use."""

if not TYPE_CHECKING and not _set("CACHEORM_NO_EXTENSIONS"):
    enabled = True
    try:
        from . import convert, keys, memory, rows, wire  # noqa: F401
    except ImportError as error:
        if _set("CACHEORM_REQUIRE_EXTENSIONS"):
            raise ImportError(
                "cacheorm's extensions are required (CACHEORM_REQUIRE_EXTENSIONS) but cannot be imported; "
                "install a prebuilt wheel, or a C compiler and run: pip install --force-reinstall cacheorm"
            ) from error
        enabled = False
        _forget_folders()

from . import convert, keys, rows, wire  # noqa: E402
from .memory import entries, records  # noqa: E402
from .rows import adopt, assigned, budget, mapping, slots  # noqa: E402
from .wire import hash_ring  # noqa: E402
