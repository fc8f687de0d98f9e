"""Real servers for tests and benchmarks: redis-server and memcached on free ports of 127.0.0.1.

No pytest in here::

    with RedisServer() as server:
        client = redis.Redis(port=server.port)

Servers keep nothing on disk, listen on loopback only, and end with the process that started them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

__all__ = [
    "HANG",
    "HOST",
    "MemcachedServer",
    "MissingServerError",
    "RedisServer",
    "ServerProcess",
    "free_port",
    "launcher",
]

HOST = "127.0.0.1"
HANG = 300.0
"""Seconds after which the rig gives up a wait. Nothing takes as long on a busy machine: it only ends what hangs."""

_START_ATTEMPTS = 5


class MissingServerError(RuntimeError):
    """A server's program is not installed: the tests cannot run, so they fail rather than skip."""


# Below the ports that systems give to outgoing connections, which come and go.
_PORTS = range(10_000, 32_000)
_claims: list[socket.socket] = []


def free_port() -> int:
    """Give a port that nobody listens on, and that on Linux no other process is given by this function."""
    while True:
        port = random.choice(_PORTS)
        claim = _claim(port)
        if claim is None:
            continue
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port


def _claim(port: int) -> socket.socket | None:
    """Take a name that one process at a time can have, and that goes with it; ``None`` if another has it."""
    claim = socket.socket(socket.AF_UNIX if sys.platform == "linux" else socket.AF_INET)
    try:
        if sys.platform == "linux":
            claim.bind(f"\0cacheorm-tests-{port}")
    except OSError:
        claim.close()
        return None
    return claim


# On Linux, a process that becomes the server, and ends when the one that started it does, however that ends
# (``man 2 prctl``). A `preexec_fn` would do it without another Python, but hangs now and then where other threads run.
# It takes another user by itself: that user may not be allowed to read this Python, which has been read by then.
_LAUNCHER = """
import ctypes, os, pwd, sys
parent, ending, user, *command = sys.argv[1:]
if user:
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(ending), 0, 0, 0)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


def launcher(ending: signal.Signals, user: str = "") -> list[str]:
    """Give what to put before a command, which then runs as ``user``, and ends by a signal when this process does."""
    if sys.platform != "linux" and not user:
        return []
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(int(ending)), user]


class ServerProcess:
    """One server: its process, its TCP port and, where asked for, its Unix socket.

    Args:
        options: further command-line arguments.
        unix: listen on a Unix socket (at ``path``) instead of TCP.
    """

    program = ""
    greeting = b""
    answers_with: tuple[bytes, ...] = ()
    clearing = b""
    cleared = b""
    ending = signal.SIGKILL
    user = ""
    """The user to run as; the one of the tests if empty."""

    def __init__(self, *options: str, unix: bool = False) -> None:
        self.options = options
        self.port = 0
        self._folder = tempfile.TemporaryDirectory(prefix="cacheorm-") if unix else None
        self.path = str(Path(self._folder.name, "server.sock")) if self._folder else None
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Give the command line, without the program's name."""
        raise NotImplementedError

    def find(self, program: str) -> str:
        """Give the path of a program of the server."""
        found = shutil.which(program) or shutil.which(program, path=self.folders())
        if found is None:
            raise MissingServerError(
                f"{program} is not installed, and the tests need it: run `make test`, or `apt-get install redis-server"
                " memcached postgresql`, or `brew install redis memcached postgresql@17`"
            )
        return found

    def folders(self) -> str:
        """Give the folders where the server's programs may be besides those in PATH, written as PATH is."""
        return ""

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started, and not killed since."""
        return self._process is not None

    def start(self) -> Self:
        """Start the server and wait until it answers; on the port it had before, if it had one."""
        program = self.find(self.program)
        known = self.port
        for _ in range(_START_ATTEMPTS):
            # Another process may take the port before the server does: it ends then, and the next is tried.
            self.port = known or free_port()
            self._process = subprocess.Popen(
                [*launcher(self.ending, self.user), program, *self.command(), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._wait():
                return self
            self.kill()
        raise RuntimeError(f"{self.program} does not start with {self.command() + list(self.options)}")

    def _wait(self) -> bool:
        """Wait until the server answers; return whether it does, or has ended instead."""
        assert self._process is not None
        deadline = time.monotonic() + HANG
        while self._process.poll() is None:
            if self.answers():
                return True
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.program} runs, but does not answer at {self.path or self.port}")
            time.sleep(0.01)
        return False

    def connect(self, timeout: float = HANG) -> socket.socket:
        """Open a plain connection to the server."""
        if self.path is None:
            return socket.create_connection((HOST, self.port), timeout)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def answers(self) -> bool:
        """Tell whether the server answers by now."""
        try:
            # The port may be another process's, which accepts and says nothing.
            with self.connect(timeout=5.0) as connection:
                connection.sendall(self.greeting)
                return connection.recv(64).startswith(self.answers_with)
        except OSError:
            return False

    def clear(self) -> None:
        """Remove every entry."""
        with self.connect() as connection:
            connection.sendall(self.clearing)
            reply = connection.recv(64)
        assert reply == self.cleared, reply

    def pause(self) -> None:
        """Stop the process without ending it: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is only on its way: until all threads have stopped, they may still answer.
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, as ``kill -9`` does, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(self.ending)
            self._process.send_signal(signal.SIGCONT)  # one that is paused takes no other signal but SIGKILL
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill the server and start it again, empty, at the same address."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End the process and remove its socket."""
        self.kill()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class RedisServer(ServerProcess):
    """A redis-server without persistence."""

    program = "redis-server"
    greeting = b"PING\r\n"
    answers_with = (b"+PONG", b"-NOAUTH")
    clearing = b"FLUSHALL\r\n"
    cleared = b"+OK\r\n"

    def command(self) -> list[str]:
        address = ["--port", str(self.port), "--bind", HOST]
        if self.path is not None:
            address = ["--port", "0", "--unixsocket", self.path]
        return [
            *address,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            tempfile.gettempdir(),
            # What a replica is sent would stay there, and be loaded by the next server.
            "--dbfilename",
            f"cacheorm-{self.port}.rdb",
            "--rdb-del-sync-files",
            "yes",
            "--databases",
            "16",
        ]

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"unix://{self.path}" if self.path is not None else f"redis://{HOST}:{self.port}/0"


class MemcachedServer(ServerProcess):
    """A memcached of 1 GB, which it takes as it needs it, or what ``options`` say."""

    program = "memcached"
    greeting = b"mn\r\n"
    answers_with = (b"MN",)
    clearing = b"flush_all\r\n"
    cleared = b"OK\r\n"

    def command(self) -> list[str]:
        address = ["-p", str(self.port), "-U", "0", "-l", HOST]
        if self.path is not None:
            address = ["-s", self.path]
        # It refuses to run as root unless told that this is meant.
        user = ["-u", "root"] if os.name == "posix" and os.geteuid() == 0 else []
        return [*address, *user, "-m", "1024", "-t", "2"]

    @property
    def address(self) -> tuple[str, int] | str:
        """What ``MemcachedBackend(servers=[...])`` takes."""
        return self.path if self.path is not None else (HOST, self.port)

    @property
    def url(self) -> str:
        """The URL of a server that listens on TCP."""
        return f"memcached://{HOST}:{self.port}"
