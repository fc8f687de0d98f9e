"""Bytes that arrive in pieces, as from a socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .source import Source

__all__ = ["arrive", "pieces"]

# What lies in a buffer behind the bytes that arrived, and is not to be read whatever it looks like.
_BEHIND = b"1\r\n" * 10


def pieces(source: Source) -> Iterator[bytes]:
    """Cut what is left of an input: with up to three bytes of it that say where, and a byte that says how many."""
    cuts = [source.byte() for _ in range(source.byte() % 4)]
    stream = source.rest()
    for cut in cuts:
        yield stream[:cut]
        stream = stream[cut:]
    yield stream


def arrive(reader: Any, data: bytes) -> None:
    """Receive bytes, however little room there is at a time."""
    view = memoryview(data)
    while view:
        room = reader.room()
        size = min(len(room), len(view))
        room[:size] = view[:size]
        behind = room[size : size + len(_BEHIND)]
        behind[:] = _BEHIND[: len(behind)]
        reader.fill(size)
        view = view[size:]
