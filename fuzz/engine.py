"""The search for inputs of which the builds make different things, guided by what earlier inputs have reached."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .builds import PACKAGE, compiled_build, pure_build
from .leaks import growth
from .lines import Lines
from .seen import Failure, Seen

__all__ = ["Find", "Fuzzer"]

_LARGEST = 4096

# What differs between errors of one kind: numbers, what is quoted, and the names of models and fields.
_VARIES = re.compile(r"\d+|'.*'|\".*\"|\b[A-Z]\w*\.\w+\b")

# How often an input is run to see whether objects stay.
_RUNS = 20


class Find(NamedTuple):
    """An input of which the builds make different things, or that leaves something behind."""

    data: bytes
    kind: str
    text: str


class Fuzzer:
    """Runs inputs of one target in both builds.

    Args:
        target: a module of :mod:`.targets`.
        seed: the same one gives the same inputs.
        corpus: inputs to begin with, besides the target's own.
        keep: called with each input that reached something new.
    """

    def __init__(
        self, target: Any, seed: int, corpus: Iterable[bytes] = (), keep: Callable[[bytes], object] | None = None
    ) -> None:
        self._runs = target.prepare(pure_build()), target.prepare(compiled_build())
        self._lines = Lines(PACKAGE)
        self._tokens = [*target.TOKENS, *_TOKENS]
        self._chance = random.Random(seed)
        self._keep = keep
        # Those that are still to be run, the first one last.
        self._queue = [*corpus, *target.SEEDS][::-1]
        self._failures: set[tuple[str, str]] = set()
        self.corpus: list[bytes] = []
        self.executions = 0

    @property
    def lines(self) -> int:
        """How many lines of the pure build have run."""
        return self._lines.count

    def next_input(self) -> bytes:
        """Return the next input: one of those to begin with, or one that is made of others."""
        return self._queue.pop() if self._queue else self._mutated()

    def run(self, data: bytes) -> Find | None:
        """Run an input in both builds; keep it if it reached something new."""
        self.executions += 1
        seen, new = self._lines.run(self._runs[0], data)
        find = _difference(data, seen, self._runs[1](data))
        if find is not None:
            return find
        # One error may list several problems.
        kinds = {(one.kind, text[:80]) for one in seen.failures for text in _VARIES.sub("", one.text).split("; ")}
        if not kinds <= self._failures:
            self._failures |= kinds
            new = True
        if new or not self.corpus:
            self.corpus.append(data)
            if self._keep is not None:
                self._keep(data)
            return self.leak(data)
        return None

    def compare(self, data: bytes) -> Find | None:
        """Run an input in both builds, and nothing else."""
        pure, compiled = (run(data) for run in self._runs)
        return _difference(data, pure, compiled)

    def smallest(self, find: Find) -> Find:
        """Return a shorter input that has the same effect."""
        size = len(find.data) // 2
        while size:
            at = 0
            while at < len(find.data):
                shorter = self.compare(find.data[:at] + find.data[at + size :])
                if shorter is not None and shorter.kind == find.kind:
                    find = shorter
                else:
                    at += size
            size //= 2
        return find

    def leak(self, data: bytes) -> Find | None:
        """Run an input again and again, and see whether objects stay."""
        if not growth(lambda: self._runs[1](data), _RUNS):
            return None
        return Find(data, "leak", "the compiled build leaves objects behind at every run")

    def _mutated(self) -> bytes:
        chance = self._chance
        # Mostly of those that came last, which few others were made of.
        place = chance.random()
        data = bytearray(self.corpus[int(len(self.corpus) * (1 - place * place))] if place else self.corpus[-1])
        for _ in range(1 << int(chance.random() * 4)):
            self._mutate(data)
        return bytes(data[:_LARGEST])

    def _mutate(self, data: bytearray) -> None:
        """Change an input at one place."""
        chance = self._chance
        how = int(chance.random() * 10)
        size = len(data)
        at = int(chance.random() * (size + 1))
        some = 1 + int(chance.random() ** 3 * 16)
        if how == 0 and at < size:
            data[at] ^= 1 << int(chance.random() * 8)
        elif how <= 2 and at < size:
            data[at] = int(chance.random() * 256)
        elif how == 3 and at < size:
            data[at] = (data[at] + chance.choice((-1, 1))) & 255
        elif how == 4:
            data[at:at] = chance.randbytes(some)
        elif how == 5:
            del data[at : at + some]
        elif how == 6:
            data[at:at] = chance.choice(self._tokens)
        elif how == 7:
            token = chance.choice(self._tokens)
            data[at : at + len(token)] = token
        elif how == 8:
            other = chance.choice(self.corpus)
            begin = int(chance.random() * (len(other) + 1))
            data[at:at] = other[begin : begin + some * 4]
        else:
            data[at:at] = data[at : at + some] * int(1 + chance.random() * 4)


_TOKENS = [
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80" + b"\0" * 7,
    b"0",
    b"9",
]


def _difference(data: bytes, pure: Seen, compiled: Seen) -> Find | None:
    if repr(pure) == repr(compiled):
        return None
    for at in range(max(len(pure), len(compiled))):
        pair = [seen[at] if at < len(seen) else "nothing" for seen in (pure, compiled)]
        if repr(pair[0]) != repr(pair[1]):
            break
    kinds = [_VARIES.sub("", f"{one.kind} {one.text}") if isinstance(one, Failure) else "result" for one in pair]
    return Find(data, " / ".join(kinds), f"at {at}\n  pure:     {_shown(pair[0])}\n  compiled: {_shown(pair[1])}")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) < 600 else f"{text[:600]} ..."
