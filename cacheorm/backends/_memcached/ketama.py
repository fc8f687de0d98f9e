"""libmemcached's ketama: which server has which points of the ring.

https://www.last.fm/user/RJ/journal/2007/04/10/rz_libketama_-_a_consistent_hashing_algo_for_memcache_clients, in the
forms that ``update_continuum`` of https://github.com/awesomized/libmemcached (``src/libmemcached/hosts.cc``) gives it:

* ``ketama``: 100 points for each server and one-at-a-time hashes. Where any server weighs more than 1, the points are
  those of ``ketama_weighted``, while keys go on being hashed one-at-a-time.
* ``ketama_weighted``: about 160 points for each server, in proportion to their weights, and MD5 for points and keys.

Both are what a ``pylibmc.Client`` does whose constructor was given the behavior of that name.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from hashlib import md5

from ..._speedups import hash_ring
from .addresses import DEFAULT_PORT, Server

__all__ = ["DISTRIBUTIONS", "make_ring"]

DISTRIBUTIONS = ("ketama", "ketama_weighted")

_POINTS = 100
_POINTS_WEIGHTED = 160


def make_ring(servers: Sequence[Server], distribution: str, live: Collection[int] | None = None) -> hash_ring.HashRing:
    """Make the ring of some servers.

    Args:
        servers: all of them.
        distribution: one of :data:`DISTRIBUTIONS`.
        live: the places of those that keys may go to; at least one, all by default.
    """
    digest = distribution == "ketama_weighted"
    weighted = digest or any(server.weight > 1 for server in servers)
    places = range(len(servers)) if live is None else sorted(live)
    total = sum(servers[place].weight for place in places)
    points: list[tuple[int, int]] = []
    for place in places:
        name = _name(servers[place])
        if weighted:
            for i in range(_share(servers[place].weight, total, len(places))):
                made = md5(f"{name}-{i}".encode(), usedforsecurity=False).digest()
                points += [(number, place) for number in struct.unpack("<4I", made)]
        else:
            points += [(hash_ring.one_at_a_time(f"{name}-{i}".encode()), place) for i in range(_POINTS)]
    return hash_ring.HashRing(points, digest)


def _name(server: Server) -> str:
    """Give a server's name on the ring: as it was written, without the default port."""
    if isinstance(server.address, str):
        return f"{server.address}:0"
    host, port = server.address
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def _share(weight: int, total: int, servers: int) -> int:
    """Give the digests of a server, four points each, computed in 32 bits at each step as libmemcached does."""
    part = _single(_single(weight) / _single(total))
    share = _single(_single(_single(part * _POINTS_WEIGHTED) / 4) * _single(servers))
    return int(_single(share + _single(1e-10)))


def _single(number: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded
