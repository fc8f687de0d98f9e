"""RESP: any bytes as the replies of a Redis server, in any pieces, to each kind of request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..seen import Seen
from ..source import Source
from ..streams import arrive, pieces

__all__ = ["SEEDS", "TOKENS", "prepare"]

_KINDS = (b"", b"$_", b"+$_", b":", b"*")
_POSITIONS = (None, [4, 0, 2, 1], [0, 0, 1, 2, 3], [9, 1, 2, 3], [-1, 0, 1, 2])


def prepare(co: Any) -> Callable[[bytes], Seen]:
    from importlib import import_module

    wire = import_module(f"{co.__name__}._speedups.wire")

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        how, count = source.byte(), source.pick((3, 1, 0, 2, 40))
        kinds, positions = source.pick(_KINDS), source.pick(_POSITIONS)
        limit = source.pick((1 << 29, 1 << 29, 1000, 100))
        reader = wire.RespReader(limit)
        values: list[Any] = [] if how & 1 else [...] * 5
        place = 0
        for piece in pieces(source):
            arrive(reader, piece)
            for _ in range(3):
                if how & 1:
                    result = seen.call(reader.read_values, values, count)
                else:
                    result = seen.call(reader.read_replies, values, positions, place, 4, kinds)
                    place = result % 4 if result is not None else 0
                seen.append((reader.pending, reader.capacity, [*values]))
                if result is None:
                    # The connection would be closed.
                    return seen
        return seen

    return run


_REPLIES = [
    b"+OK\r\n", b"+QUEUED\r\n", b"-ERR no \xff\r\n", b"!7\r\nERR\r\nx\xff\r\n", b"$3\r\na\r\n\r\n", b"$0\r\n\r\n",
    b"$-1\r\n",
    b"*-1\r\n", b"_\r\n", b"=7\r\ntxt:a\r\n\r\n", b":-12\r\n", b":+7\r\n", b":9223372036854775807\r\n", b",1.5\r\n",
    b"(-123456789012345678901234567890\r\n", b",-2e-3\r\n", b",-inf\r\n", b",nan\r\n", b"#t\r\n", b"*0\r\n",
    b"*3\r\n:1\r\n*2\r\n+a\r\n-ERR b\r\n%0\r\n", b"~2\r\n$1\r\na\r\n_\r\n",
    b"%2\r\n+a\r\n*1\r\n:1\r\n:2\r\n%1\r\n_\r\n#t\r\n", b"|1\r\n+ttl\r\n*1\r\n:1\r\n:5\r\n",
    b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", b"*1\r\n" * 8 + b":1\r\n", b"*3\r\n$1\r\na\r\n$-1\r\n$2\r\nab\r\n",
]  # fmt: skip

SEEDS = [
    bytes((how, 0, kinds, positions, limit)) + cut + reply + b"$1\r\na\r\n"
    for reply in _REPLIES
    for how, kinds, positions, limit, cut in (
        (0, 0, 0, 0, b"\0"), (1, 0, 0, 0, b"\0"), (0, 1, 1, 0, b"\1\2"), (1, 2, 2, 2, b"\1\5"),
    )
]  # fmt: skip
TOKENS = [
    *_REPLIES, *(bytes((kind,)) for kind in b"*$%~|>+-:_(,#!="), b"\r\n", b"\r", b"\n", b"0", b"00", b"-1",
    b"12345678901",
    b"9223372036854775808", b"999999999999", b"inf", b"1e999", b"*1\r\n" * 5, b"x" * 300, b"x" * 4090, b"+", b"1_0",
    b"\xb2",
]  # fmt: skip
