"""Field conversion: Python values to stored forms and back. Each module has one source."""

from typing import TYPE_CHECKING

from .. import enabled
from .._limits import MAX_DEPTH

if TYPE_CHECKING or not enabled:
    from ._converter import *
    from ._enumerations import *
    from ._numbers import *
    from ._structured import *
    from ._temporal import *
    from ._text import *
    from ._uuids import *
else:
    from ._converter_c import *
    from ._enumerations_c import *
    from ._numbers_c import *
    from ._structured_c import *
    from ._temporal_c import *
    from ._text_c import *
    from ._uuids_c import *
