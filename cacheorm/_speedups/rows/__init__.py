"""Rows to payloads and back; and the slots of instances, which hold their values."""

from typing import TYPE_CHECKING

from .. import enabled

if TYPE_CHECKING or not enabled:
    from . import _adopt_py as adopt
    from . import _assigned as assigned
    from . import _budget as budget
    from . import _mapping as mapping
    from . import _slots_py as slots
    from ._rows_py import *
else:
    from . import _adopt_c as adopt
    from . import _assigned_c as assigned
    from . import _budget_c as budget
    from . import _mapping_c as mapping
    from . import _slots_c as slots
    from ._rows_c import *
