"""How old the rows of a model may become: when they are loaded anew, and for how long they are kept after that.

Times are milliseconds of the wall clock, which processes share. After a clock was set back, rows seem to be written in
the future: if they are as far ahead as a row that is due is old, they are loaded anew as well. No row outlives the
lifetime that its backend counts.
"""

from __future__ import annotations

import itertools
import time
import zlib
from typing import Any, NamedTuple

from .options import RETRY_SECONDS, Options
from .payload import Ages, ages_of, is_absence
from .types import KEEP_TTL, KeepTTL

__all__ = ["DUE", "FRESH", "OVER", "Aging", "Stamp"]

OVER, FRESH, DUE = -1, 0, 1
"""What a payload is: past its lifetime, and kept stale; to be given; to be given, and loaded anew."""

# The golden ratio, in parts of 2**32: the multiples of it are spread evenly (Knuth, volume 3, section 6.4).
_GOLDEN = 2654435769

# Milliseconds, two thousand years. With the part of a row, of 16 bits, it has less than 63.
_LONGEST = 2**46


class Stamp(NamedTuple):
    """What the codec writes into the headers of the rows of one operation.

    Attributes:
        now: when they are written.
        ends: when their lifetime ends, 0: the backend alone knows; ``None``: as it is stored in each row.
        spread: by how much jitter makes that earlier at most.
    """

    now: int
    ends: int | None
    spread: int = 0

    def ages(self, place: int) -> Ages:
        """Return the ages of a row that is written as a whole, at one place of its batch."""
        part = ((self.now + place) * _GOLDEN & 0xFFFFFFFF) >> 16
        return Ages(self.now, self.ends_of(part), part)

    def ends_of(self, part: int) -> int:
        """Return when the lifetime of a row ends that has a share in the jitter."""
        return self.ends - (self.spread * part >> 16) if self.ends else 0


class Aging:
    """The ages that rows of one model may have.

    Args:
        options: the Meta options of the model.

    Attributes:
        due_after: the milliseconds after which a row is loaded anew, 0 for never.
        spread: by how much jitter makes that less at most.
        keeps: whether rows are kept stale.
        retry_after: the seconds for which a row is given as it is after its loader has failed.
        loader_timeout: the seconds after which a row that is kept stale is given; ``None``: when the loader fails.
        failures: how many loads of such rows have failed.
    """

    def __init__(self, options: Options) -> None:
        self.due_after = min(1000 * (options.refresh_after or 0), _LONGEST)
        self.spread = round(self.due_after * options.ttl_jitter)
        self.keeps = options.keep_stale is not None
        self.retry_after = options.retry_after or RETRY_SECONDS
        self.loader_timeout = options.loader_timeout
        self.failures = 0
        self._failures = itertools.count(1)
        self._keep_stale = options.keep_stale or 0
        self._ttl = options.ttl
        self._jitter = options.ttl_jitter

    @classmethod
    def of_model(cls, options: Options) -> Aging | None:
        """Return the ages of a model, ``None`` if its rows have none."""
        return None if options.refresh_after is None and options.keep_stale is None else cls(options)

    def now(self) -> int:
        """Return the present time in milliseconds."""
        return time.time_ns() // 1_000_000

    def count_failure(self) -> None:
        """Count a load that failed."""
        self.failures = next(self._failures)  # an addition would lose some, of threads that count at the same time

    # -- for what is written ----------------------------------------------------------------------

    def stamp(self, ttl: int | KeepTTL | None = None) -> Stamp:
        """Return what is written into headers.

        Args:
            ttl: the lifetime that an operation gives to rows, in seconds; ``None``: that of the model.
        """
        now = self.now()
        if ttl is KEEP_TTL:
            return Stamp(now, None)
        seconds: Any = self._ttl if ttl is None else ttl
        if not self.keeps or not seconds or 1000 * seconds > _LONGEST:
            return Stamp(now, 0)
        return Stamp(now, now + 1000 * seconds, round(1000 * seconds * self._jitter) if ttl is None else 0)

    def lifetime(self, ttl: int | KeepTTL | None) -> int | KeepTTL | None:
        """Return for how many seconds the backend is to keep a row that lives for ``ttl``, 0 for ever."""
        if ttl is KEEP_TTL or not ttl or not self.keeps:
            return ttl
        return ttl + self._keep_stale  # type: ignore[operator]

    def renewed(self, payload: bytes, key: str, stamp: Stamp | None) -> bytes:
        """Return the packed ages of a row after a change.

        What is not changed is as old as it was. A row that was written without ages is taken as written now.

        Args:
            payload: the row as it is stored.
            key: its key.
            stamp: what the operation writes; ``None``: the ages stay as they are stored.
        """
        ages = ages_of(payload) or Ages(self.now(), 0, zlib.crc32(key.encode()) >> 16)
        if stamp is not None and stamp.ends is not None:
            ages = ages._replace(ends=stamp.ends_of(ages.part))
        return ages.pack()

    # -- for what is read -------------------------------------------------------------------------

    def state(self, payload: bytes, now: int) -> int:
        """Return whether a payload is :data:`OVER`, :data:`FRESH` or :data:`DUE`; what is no row is fresh.

        Args:
            payload: what is stored.
            now: the present time; 0: whatever its age, it is not over.
        """
        ages = ages_of(payload)
        if ages is None:
            # Its age begins to count when it is first read.
            return FRESH if not self.due_after or is_absence(payload) else DUE
        if self.keeps and ages.ends and now >= ages.ends:
            return OVER
        if not self.due_after:
            return FRESH
        age = now - ages.written
        return DUE if age >= self.due_after - (self.spread * ages.part >> 16) or -age >= self.due_after else FRESH

    def is_over(self, payload: bytes) -> bool:
        """Return whether the lifetime of a payload has ended: then it is no row, but kept stale."""
        return self.keeps and self.state(payload, self.now()) == OVER
