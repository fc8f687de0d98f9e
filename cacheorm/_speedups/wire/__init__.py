"""The protocols of Redis and memcached without I/O: requests packed, replies parsed; and where keys go."""

from typing import TYPE_CHECKING

from .. import enabled

if TYPE_CHECKING or not enabled:
    from . import _hash_ring_py as hash_ring
    from ._checks_py import *
    from ._meta_py import *
    from ._reply_buffer_py import *
    from ._resp_py import *
    from ._resp_reader_py import *
else:
    from . import _hash_ring_c as hash_ring
    from ._checks_c import *
    from ._meta_c import *
    from ._reply_buffer_c import *
    from ._resp_c import *
    from ._resp_reader_c import *
