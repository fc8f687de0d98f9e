"""The hot code, compiled or pure: the one place that chooses between them, all or nothing.

``CACHEORM_NO_EXTENSIONS=1`` in the environment takes the pure versions; ``CACHEORM_REQUIRE_EXTENSIONS=1``
makes missing extensions an error. Otherwise the compiled versions are taken where they were built.

=========== ==================================================================================
``adopt``   the rows that users pass, as instances
``convert`` field conversion: Python values to stored forms and back
``slots``   the descriptor over an instance's hidden slots
``entries`` what the in-memory backend holds
``keys``    primary keys to backend keys
``mapping`` rows to payloads and back, through any serializer
``records`` keys and values as the file backend holds them
``ring``    keys to the servers of a consistent-hash ring
``rows``    rows to msgpack payloads and back, straight from and to the slots
``wire``    the protocols of Redis and memcached: requests packed, replies parsed, no I/O
=========== ==================================================================================

``convert``, ``entries`` and ``mapping`` have one source, built under a second name, as has what ``keys`` falls back to.
The others, and the table that ``entries`` holds them in, are twins: the ``.pyx`` works on C buffers, the ``_py`` module
is the readable reference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["adopt", "convert", "enabled", "entries", "keys", "mapping", "records", "ring", "rows", "slots", "wire"]


def _set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


enabled = False
"""Whether the compiled versions are in use."""

if not TYPE_CHECKING and not _set("CACHEORM_NO_EXTENSIONS"):
    try:
        from . import _adopt_c as adopt
        from . import _convert_c as convert
        from . import _entries_c as entries
        from . import _keys_c as keys
        from . import _mapping_c as mapping
        from . import _records_c as records
        from . import _ring_c as ring
        from . import _rows_c as rows
        from . import _slots_c as slots
        from . import _wire_c as wire
    except ImportError as error:
        if _set("CACHEORM_REQUIRE_EXTENSIONS"):
            raise ImportError(
                "cacheorm's extensions are required (CACHEORM_REQUIRE_EXTENSIONS) but cannot be imported; "
                "install a prebuilt wheel, or a C compiler and run: pip install --force-reinstall cacheorm"
            ) from error
    else:
        enabled = True

if not enabled:
    from . import _adopt_py as adopt
    from . import _convert_py as convert
    from . import _entries_py as entries
    from . import _keys_py as keys
    from . import _mapping_py as mapping
    from . import _records_py as records
    from . import _ring_py as ring
    from . import _rows_py as rows
    from . import _slots_py as slots
    from . import _wire_py as wire
