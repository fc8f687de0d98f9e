"""libmemcached's own answer to where a key lies, asked of the library that pylibmc runs on."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import _pylibmc
import pylibmc

__all__ = ["owners_by_pylibmc", "pylibmc_client"]

_library = ctypes.CDLL(_pylibmc.__file__)
_library.memcached_generate_hash.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_library.memcached_generate_hash.restype = ctypes.c_uint32


def pylibmc_client(servers: Sequence[Any], behavior: str) -> Any:
    """Make a client on servers given as ``(host, port, weight)`` or as the path of a socket."""
    specs = [server if isinstance(server, str) else "[{}]:{}:{}".format(*server) for server in servers]
    return pylibmc.Client(specs, behaviors={behavior: True})


def owners_by_pylibmc(client: Any, keys: Sequence[str]) -> bytes:
    """Give the place of the server that the client would ask for each key.

    pylibmc does not tell, but libmemcached does: the first thing in a client's object is its ``memcached_st``.
    """
    handle = ctypes.c_void_p.from_address(id(client) + object.__basicsize__).value
    ask = _library.memcached_generate_hash
    encoded = [key.encode("utf-8") for key in keys]
    return bytes([ask(handle, key, len(key)) for key in encoded])
