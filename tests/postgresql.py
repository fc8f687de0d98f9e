"""A PostgreSQL server for tests, on a free port of 127.0.0.1, with its files in a temporary folder.

    with PostgresServer() as server, server.database() as url:
        connection = psycopg.connect(url)

It writes nothing through to the disk, and ends with the process that started it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import count
from pathlib import Path
from typing import Self

from servers import HANG, HOST, ServerProcess, launcher

__all__ = ["PostgresServer"]

# Where Debian, Homebrew (of either processor) and Red Hat have the programs, which is not in PATH.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/pgsql-*/bin",
)
_OWNER = b"user\0postgres\0database\0postgres\0\0"
_numbers = count(1)


class PostgresServer(ServerProcess):
    """A PostgreSQL with a superuser ``postgres`` who needs no password.

    Unlike the others, it keeps its data when it is killed or restarted; :meth:`stop` removes them.
    """

    program = "postgres"
    # A connection of the protocol's version 3.0, and the answer that it is let in.
    greeting = struct.pack("!II", 8 + len(_OWNER), 3 << 16) + _OWNER
    answers_with = (b"R",)
    # What it calls an immediate shutdown. SIGKILL would leave shared memory behind.
    ending = signal.SIGQUIT

    def __init__(self, *options: str) -> None:
        super().__init__(*options)
        # It refuses to run as root; the package makes a user for it.
        if os.geteuid() == 0:
            self.user = next(user for user in ("postgres", "nobody") if _is_a_user(user))

    def folders(self) -> str:
        found = [folder for pattern in _FOLDERS for folder in glob(pattern)]
        return os.pathsep.join(sorted(found, key=_version, reverse=True))

    def command(self) -> list[str]:
        assert self._folder is not None
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_wal_senders": 0,
            "wal_level": "minimal",
            "autovacuum": "off",
            "max_prepared_transactions": 4,
        }
        return [
            "-D",
            self._folder.name,
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]

    def start(self) -> Self:
        """Start the server and wait until it answers, with the data that it had; at first with none."""
        if self._folder is None:
            self.find(self.program)
            self._folder = tempfile.TemporaryDirectory(prefix="cacheorm-postgresql-")
            self._initialize(self._folder.name)
        return super().start()

    def _initialize(self, folder: str) -> None:
        """Write the files of a new server."""
        if self.user:
            shutil.chown(folder, self.user)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [*launcher(self.ending, self.user), self.find("initdb"), f"--pgdata={folder}", *options],
            # A folder that this user may not enter is complained of.
            cwd=folder,
            check=True,
            timeout=HANG,
            stdout=subprocess.DEVNULL,
        )

    def clear(self) -> None:
        """Fail: each test has a database of its own."""
        raise NotImplementedError("take a database() instead")

    def url(self, database: str = "postgres") -> str:
        """Give the URL of a database."""
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and give its URL; remove it at the end, whoever is connected to it."""
        name = f"test_{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)


def _is_a_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _version(folder: str) -> int:
    """Give the version in ``/usr/lib/postgresql/17/bin`` and the like; 0 without one."""
    digits = "".join(filter(str.isdigit, Path(folder).parent.name))
    return int(digits or 0)
