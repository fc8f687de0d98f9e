"""Random histories of a database and its cache: reads, transactions that are committed or not, and a cache that fails.

A process of its own takes part in them: it is given a seed on a line of its input, and answers with a line when it has
done what follows from that.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import sqlalchemy as sa
from servers import HANG
from shops import prepare_sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import cacheorm as co
from cacheorm.ext.sqlalchemy import cached

__all__ = ["Participant"]

ROWS = range(4)


class Base(DeclarativeBase):
    pass


class ItemRow(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Participant:
    """One process of a history, with threads that act at random.

    Args:
        database: the URL of the database.
        cache: the URL of the Redis.
        on_commit: as ``cached`` takes it.
    """

    def __init__(self, database: str, cache: str, on_commit: str = "delete") -> None:
        self.engine = sa.create_engine(database, connect_args={"timeout": HANG})
        prepare_sqlite(self.engine)
        Base.metadata.create_all(self.engine)
        self.sessions = sessionmaker(self.engine)
        self.backend: Any = co.backend_from_url(f"{cache}?on_failure=miss&operation_timeout=0.3&retry_after=0.01")
        # No load takes so long that its lease has expired.
        self.items = cached(
            ItemRow, self.sessions, backend=self.backend, name="item", negative_ttl=60, lease=30, on_commit=on_commit
        )

    def act(self, seed: int, threads: int = 2, actions: int = 4) -> None:
        """Let threads read and write at random, each what follows from the seed."""

        def main(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            for _ in range(actions):
                self._read(chance) if chance.random() < 0.6 else self._write(chance)

        running = [threading.Thread(target=main, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(HANG)

    def _read(self, chance: random.Random) -> None:
        if chance.random() < 0.5:
            self.items.get_or_none(id=chance.choice(ROWS))
        else:
            self.items.query_many(chance.sample(ROWS, 3)).execute()

    def _write(self, chance: random.Random) -> None:
        # A transaction that others have overtaken is rolled back.
        with contextlib.suppress(sa.exc.OperationalError, sa.orm.exc.StaleDataError), self.sessions() as session:
            for _ in range(chance.randint(1, 2)):
                if chance.random() < 0.3:
                    with session.begin_nested() as savepoint:
                        self._change(session, chance)
                        if chance.random() < 0.5:
                            savepoint.rollback()
                else:
                    self._change(session, chance)
            session.commit() if chance.random() < 0.7 else session.rollback()

    def _change(self, session: Session, chance: random.Random) -> None:
        pk, text = chance.choice(ROWS), f"{chance.random()}"
        kind = chance.randrange(4)
        if kind == 0:
            session.merge(ItemRow(id=pk, text=text))
        elif kind == 1:
            session.execute(sa.update(ItemRow).where(ItemRow.text > text).values(text=text))
        elif kind == 2:
            session.execute(sa.delete(ItemRow).where(ItemRow.id == pk))
        else:
            session.execute(insert(ItemRow).values(id=pk, text=text).on_conflict_do_nothing())
        session.flush()

    def settle(self) -> None:
        """Wait until the cache replies, and has deleted what it was to delete."""
        deadline = time.monotonic() + HANG
        while self.backend.pending_invalidations()[0] or any(state.reason for state in self.backend.breakers()):
            assert time.monotonic() < deadline
            self.backend.retry_failed_servers()
            self.backend.get("another key")
            time.sleep(0.01)

    def differences(self) -> list[str]:
        """Return the rows in the cache that are not those of the database."""
        with self.sessions() as session:
            rows = {row.id: row.text for row in session.execute(sa.select(ItemRow.id, ItemRow.text))}
        found = self.items.get_many(ROWS, cached_only=True)
        wrong = [f"{pk}: {row.text} for {rows.get(pk)}" for pk, row in found.items() if row.text != rows.get(pk)]
        loaded = self.items.get_many(ROWS)  # a remembered miss may be wrong, too
        return wrong + [f"{pk}: missing" for pk in rows if pk not in loaded]

    def close(self) -> None:
        """Close all connections."""
        self.backend.close()
        self.engine.dispose()


def main() -> None:
    """Take part in the histories whose seeds come from the standard input."""
    participant = Participant(*sys.argv[1:])
    for line in sys.stdin:
        if line.strip() == "settle":
            participant.settle()
        else:
            participant.act(int(line))
        sys.stdout.write("done\n")
        sys.stdout.flush()
    participant.close()


if __name__ == "__main__":
    main()
