"""Primary keys to backend keys."""

from typing import TYPE_CHECKING

from .. import enabled

if TYPE_CHECKING or not enabled:
    from ._keys_py import *
else:
    from ._keys_c import *
