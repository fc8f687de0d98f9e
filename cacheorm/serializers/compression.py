"""Compression of payloads with Zstandard (https://www.rfc-editor.org/rfc/rfc8878)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import PayloadError

__all__ = ["LIMIT", "Zstd", "decompress"]

LIMIT = 16 * 1024 * 1024
"""The default limit: the most bytes that a payload may decompress to."""

_HINT = "if that is right, raise the limit of Zstd in Meta.compress or Meta.accepts"
_LEVELS = range(-131072, 23)  # as zstd.h has them
_WINDOWS = (10, 31)  # base-2 logarithms, as zstd.h has them


class Zstd:
    """The compression of a model's rows, for ``Meta.compress``. ``compress = "zstd"`` means one with the defaults.

    In ``Meta.accepts``, the model reads compressed rows, of at most ``limit`` bytes, and compresses none.

    Args:
        level: from -131072 (fastest) through 1 to 22 (smallest, and slow). Reading is equally fast for all levels.
        threshold: rows that pack to fewer bytes are stored uncompressed, as are those that would not become smaller.
        limit: bytes. Payloads that would decompress to more are not read: a few bytes in the cache can stand for
            gigabytes. Rows that pack to more are stored uncompressed.

    Raises:
        TypeError: an argument is no whole number.
        ValueError: a level that does not exist, a negative threshold, or a limit below 1.
        ImportError: the library for it is missing; the message says which to install.
    """

    __slots__ = ("level", "limit", "threshold")

    def __init__(self, level: int = 3, threshold: int = 1024, limit: int = LIMIT) -> None:
        for name, given in (("level", level), ("threshold", threshold), ("limit", limit)):
            number: Any = given
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{name} is a whole number, got {type(number).__name__}")
        if level not in _LEVELS:
            raise ValueError(f"level is a number from {_LEVELS[0]} to {_LEVELS[-1]}")
        if threshold < 0 or limit < 1:
            raise ValueError("threshold is a number of bytes from 0, and limit one from 1")
        self.level = level
        self.threshold = threshold
        self.limit = limit
        _library()

    def compressor(self) -> Callable[[bytes], bytes]:
        """Return a function that compresses the rows of one batch; threads must not share it, since it has buffers."""
        zstd = _library()
        made = zstd.ZstdCompressor(level=self.level)
        compress, whole = made.compress, made.FLUSH_FRAME
        return lambda body: compress(body, whole)

    def __repr__(self) -> str:
        return f"Zstd(level={self.level}, threshold={self.threshold}, limit={self.limit})"


def decompress(body: bytes, limit: int) -> bytes:
    """Decompress the body of a payload.

    Args:
        body: one frame, and nothing after it.
        limit: the most bytes of the result; at most about twice as much memory is used.

    Raises:
        PayloadError: the result would be larger, or ``body`` is no such frame.
        ImportError: the library for it is missing.
    """
    zstd = _library()
    # A frame also says how much memory reading it takes, whatever it holds.
    window = min(max(limit.bit_length(), _WINDOWS[0]), _WINDOWS[1])
    reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window})
    try:
        data: bytes = reader.decompress(body, limit + 1)
    except zstd.ZstdError as error:
        if "memory" in str(error):  # of the window that the frame asks for
            raise PayloadError(f"takes more than {limit} bytes to be decompressed; {_HINT}") from error
        raise PayloadError("cannot be decompressed") from error
    if len(data) > limit:
        raise PayloadError(f"decompresses to more than {limit} bytes; {_HINT}")
    if not reader.eof or reader.unused_data:
        raise PayloadError("cannot be decompressed, because it is cut off or something follows it")
    return data


@cache
def _library() -> Any:
    """Return the standard library's module, or its backport for older Pythons."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        hint = "this Python was built without it" if sys.version_info >= (3, 14) else "pip install cacheorm[zstd]"
        raise ImportError(f"compressed rows need Zstandard: {hint}") from error
    return zstd
