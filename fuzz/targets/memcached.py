"""memcached: any bytes as the replies of a server to meta commands, in any pieces, to each kind of request."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..seen import Seen
from ..source import Source
from ..streams import arrive, pieces

__all__ = ["SEEDS", "TOKENS", "prepare"]

_KEYS = (["a", "b", "é", "a", "c"], ("a", "k" * 250, "b"), ["a"], [])
_POSITIONS = (None, [5, 4, 3, 0, 1], [0, 0, 0, 0, 0], [0, 9, 1, 2, 3], [-1, 0, 1, 2, 3])


def prepare(co: Any) -> Callable[[bytes], Seen]:
    wire = import_module(f"{co.__name__}._speedups.wire")

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        how, keys, positions = source.byte() % 4, source.pick(_KEYS), source.pick(_POSITIONS)
        reader = wire.MetaReader(source.pick((1 << 29, 1 << 29, 1000, 10)))
        values: list[Any] = [None] * len(keys)
        statuses: list[Any] = [None] * 6
        place = 0
        for piece in pieces(source):
            arrive(reader, piece)
            for _ in range(3):
                failures = len(seen.failures)
                if how == 0:
                    result = seen.call(reader.read_values, keys, values, place, len(keys))
                    place = result if result is not None and result >= 0 else 0
                elif how == 1:
                    result = seen.call(reader.read_statuses, statuses, positions, place, 5)
                    place = result or 0
                elif how == 2:
                    seen.call(reader.read_reply)
                else:
                    seen.call(reader.read_lines)
                seen.append((reader.pending, reader.capacity, [*values], [*statuses]))
                if len(seen.failures) > failures:
                    # The connection would be closed.
                    return seen
        return seen

    return run


_REPLIES = [
    b"VA 1 ka\r\n1\r\nMN\r\n", b"VA 1 ka\r\n1\r\nVA 4 kb\r\n\r\nMN\r\nVA 0 k\xc3\xa9\r\n\r\nMN\r\n",
    b"VA 3 t5 kb c2\r\nxyz\r\n",
    b"VA 1 t5\r\n1\r\n", b"VA 2 kb s2 f0\r\nab\r\n", b"MN\r\n", b"HD\r\n", b"NS\r\n", b"NF\r\n", b"EX\r\n", b"EN\r\n",
    b"HD t5\r\n",
    b"ERROR\r\n", b"ERROR x\r\n", b"SERVER_ERROR out of memory\r\n", b"CLIENT_ERROR bad\xff\r\n", b"STAT time 5\r\n",
    b"VA 1 k" + b"k" * 250 + b"\r\n1\r\n", b"ME a exp=-1 la=3\r\n", b"1\r\n", b"VERSION 1.6\r\n",
]  # fmt: skip

SEEDS = [
    bytes((how, 0, positions, limit)) + cut + reply + b"HD\r\n"
    for reply in _REPLIES
    for how in range(4)
    for positions, limit, cut in ((0, 0, b"\0"), (1, 2, b"\1\4"))
]
TOKENS = [
    *_REPLIES, b"VA ", b"VA  ", b" ka", b" kb", b"\r\n", b"\r", b"\n", b" ", b"k", b"9999999999", b"1073741824",
    b"0000000001",
    b"-", b"+1", b"1_0", b"\xb2", b"x" * 300, b"x" * 4090, b"k" * 250, b"SERVER_ERROR ", b"HD", b"\0",
]  # fmt: skip
