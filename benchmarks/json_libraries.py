"""Which JSON library the serializer is on, and why: ``python -m benchmarks.json_libraries``.

Prints for each library that is installed how long one row takes, whether an integer of 100 bits comes back as it
was, and what becomes of NaN. Only the standard library's is always there; ``pip install orjson ujson
python-rapidjson`` for the others.
"""

from __future__ import annotations

import importlib
import json
import math
import timeit
from collections.abc import Callable
from typing import Any

import cacheorm as co

ROW = {
    "name": "Sam Smith",
    "height": 178.8,
    "married": 1,
    "gender": 2,
    "email": None,
    "created_at": "2026-11-23T04:53:11.123456+00:00",
}
BIG = 1 << 100
ROUNDS = 5
CALLS = 20_000

Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def codecs() -> dict[str, Codec]:
    """Return the functions of each library that pack and read bytes, set to refuse NaN if possible."""
    standard = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
    serializer = co.JSONSerializer()
    found: dict[str, Codec] = {
        "json": (lambda value: standard(value).encode(), json.loads),
        "msgspec, checked (ours)": (serializer.dumps, serializer.loads),
    }
    for name in ("msgspec.json", "orjson", "ujson", "rapidjson"):
        try:
            library: Any = importlib.import_module(name)
        except ImportError:
            continue
        if name == "msgspec.json":
            found[name] = (library.encode, library.decode)
        elif name == "orjson":
            found[name] = (library.dumps, library.loads)
        else:
            found[name] = (packer(library), library.loads)
    return found


def packer(library: Any) -> Callable[[Any], bytes]:
    """Return a function that packs bytes with a library that makes text."""

    def pack(value: Any) -> bytes:
        packed: bytes = library.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return packed

    return pack


def outcome(codec: Codec, value: Any) -> str:
    """Return a description of what is read back for a value."""
    pack, unpack = codec
    try:
        back = unpack(pack([value]))[0]
    except (TypeError, ValueError, OverflowError) as error:
        return f"refused ({type(error).__name__})"
    if type(back) is type(value) and (back == value or math.isnan(back)):
        return "kept"
    return f"becomes {type(back).__name__}"


def main() -> None:
    """Measure, and print a table."""
    print(f"{'library':<26}{'pack us':>9}{'read us':>9}  {'100-bit integer':<26}NaN")
    for name, codec in codecs().items():
        pack, unpack = codec
        payload = pack(ROW)
        times = [
            min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6
            for call in (lambda pack=pack: pack(ROW), lambda unpack=unpack, payload=payload: unpack(payload))
        ]
        print(f"{name:<26}{times[0]:>9.2f}{times[1]:>9.2f}  {outcome(codec, BIG):<26}{outcome(codec, math.nan)}")


if __name__ == "__main__":
    main()
