"""After the last commit of any history, no row in the cache differs from that of the database."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import histories
import pytest
from amounts import LONG, enough
from histories import Participant
from servers import RedisServer

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("on_commit", ["delete", "write"])
def test_no_cached_row_differs_in_the_end(on_commit: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/test.db"
    count = enough(5_000, 6, of="histories of a database and its cache")
    first = random.randrange(2**32) if LONG else 1
    with RedisServer() as server:
        here = Participant(database, server.url, on_commit)
        command = [sys.executable, histories.__file__, database, server.url, on_commit]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as there:
            assert there.stdin is not None
            assert there.stdout is not None

            def tell(line: str) -> None:
                there.stdin.write(f"{line}\n")
                there.stdin.flush()

            try:
                for seed in range(first, first + count):
                    chance = random.Random(seed)
                    tell(str(-seed))
                    fault = chance.random()
                    if fault < 0.1:
                        server.pause()
                    elif fault < 0.2:
                        server.kill()
                    here.act(seed)
                    if fault < 0.1:
                        server.resume()
                    elif fault < 0.2:
                        server.start()
                    here.act(seed + 1)
                    assert there.stdout.readline() == "done\n"
                    tell("settle")
                    here.settle()
                    assert there.stdout.readline() == "done\n"
                    assert here.differences() == [], f"seed {seed}"
            finally:
                there.stdin.close()
                here.close()
