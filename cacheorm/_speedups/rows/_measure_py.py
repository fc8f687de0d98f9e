"""What reading msgpack would cost, before it is read, pure Python: the Python version of ``_measure.pxi``."""

from __future__ import annotations

import re

from ._patches_py import COUNTED, SIZED, SIZES

__all__ = ["measure_msgpack"]

# Values of one byte that Python has but once.
_SHARED = re.compile(rb"[\x00-\x7f\xfb-\xff]+")


def map_memory(count: int) -> int:
    """Return the bytes that a dict takes."""
    for most, memory in ((0, 64), (5, 224), (10, 352), (21, 640)):
        if count <= most:
            return memory
    return 80 * count


def measure_msgpack(body: bytes, allowed: int, levels: int) -> tuple[int, bytes]:
    """Return about how much memory the objects take that msgpack is read as.

    Lists and dicts count two for a byte of memory, all other objects three. What Python shares counts nothing: small
    ints, texts of one byte. Nor do the texts that are keys of dicts of a few entries, as those of many dicts are equal.

    Args:
        body: any bytes. Where they are no msgpack, what has been measured so far is returned.
        allowed: no more than this is measured.
        levels: of lists and dicts that there may be.

    Returns:
        The sum, -1 if there are more levels; and the packed row from the name of the field where it ended.
    """
    end = len(body)
    at = cost = name_at = 0
    # Of each list and dict that has begun: how many values are still to come, and whether its keys count nothing.
    pending = [1]
    few = [False]
    while cost <= allowed:
        while not pending[-1]:
            pending.pop()
            few.pop()
            if not pending:
                return cost, b""
        if at >= end:
            return cost, b""
        is_key = few[-1] and not pending[-1] & 1
        if len(pending) == 2 and not pending[1] & 1:
            name_at = at
        pending[-1] -= 1
        head = body[at]
        if head < 0x80 or head >= 0xFB:
            run = _SHARED.match(body, at, at + 1 + pending[-1]).end()  # type: ignore[union-attr]
            pending[-1] -= run - at - 1
            at = run
            continue
        counted = COUNTED.get(head)
        if counted is not None or head < 0xA0:
            width, each = counted or (0, 2 if head < 0x90 else 1)
            count = int.from_bytes(body[at + 1 : at + 1 + width], "big") if width else head & 0x0F
            at += 1 + width
            if count * each > end - at:
                return cost, b""
            if len(pending) > levels:
                return -1, body[name_at:]
            cost += 2 * (map_memory(count) if each == 2 else 56 + 8 * count)
            pending.append(count * each)
            few.append(each == 2 and count <= 21)
            continue
        start, size = at + 1, max(SIZES[head] - 1, 0)
        if head in SIZED:
            width = SIZED[head]
            size = int.from_bytes(body[start : start + width], "big") + (0xC7 <= head <= 0xC9)
            start += width
        at = start + size
        if at > end:
            return cost, b""
        if head < 0xC0 or 0xD9 <= head <= 0xDB:
            if size > 1 and not is_key:
                cost += 3 * (52 + size if body[start] < 0x80 else 80 + 2 * size)
        elif head >= 0xE0:
            cost += 96
        elif 0xC4 <= head <= 0xC6:
            cost += 3 * (36 + size) if size > 1 else 0
        elif 0xC7 <= head <= 0xC9 or 0xD4 <= head <= 0xD8:
            cost += 3 * (128 + size)
        elif head >= 0xCD or head in (0xCA, 0xCB):
            cost += 96
    return cost, body[name_at:]
