"""What the backends without a server keep: the table of the one in memory, and the records of files."""

from typing import TYPE_CHECKING

from .. import enabled

if TYPE_CHECKING or not enabled:
    from . import _entries as entries
    from . import _records_py as records
else:
    from . import _entries_c as entries
    from . import _records_c as records
