"""One run of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .contests import Contest, Result, run
from .stores import Stores

__all__ = ["Run"]


@dataclass
class Run:
    """One run of the comparison: its options, and the figures so far."""

    stores: Stores
    rounds: int
    seconds: float
    full: bool
    only: Sequence[str]
    found: dict[str, Any] = field(default_factory=dict)
    show: Callable[[str], None] = lambda text: None

    def selects(self, section: str, title: str) -> bool:
        """Return whether a line is to be measured."""
        return not self.only or any(word == section or word in title.lower() for word in self.only)

    def step(self, title: str) -> Callable[[], None]:
        """Show what is being measured; return the function to call after each turn."""
        turns = 0

        def tick() -> None:
            nonlocal turns
            turns += 1
            self.show(f"{title} ({turns})")

        self.show(title)
        return tick

    def contest(self, contest: Contest, rounds: int | None = None) -> Result:
        """Run one contest."""
        tick = self.step(f"{contest.title}, {contest.shape.name}, {contest.rows_shown:,}")
        return run(contest, self.stores, rounds or self.rounds, self.seconds, tick)
