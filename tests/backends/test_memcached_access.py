"""memcacheds that ask for a user name and a password, and those that speak TLS."""

from __future__ import annotations

import os
import socket
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from certificates import Certificates
from faults import say
from loops import FACTORIES, call
from observing import in_use
from servers import HANG, HOST, MemcachedServer

from cacheorm.backends import backend_from_url
from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError

ROWS = {f"key:{i}": b"%d" % i for i in range(2500)}
SECRET = "open-sesame"
LARGE = {f"{i}:" + "k" * 200: b"%d" % i * 300_000 for i in range(40)}

ways = pytest.mark.parametrize("way", ["called", *FACTORIES])


def check(backend: MemcachedBackend, way: Any) -> None:
    """Write and read a batch in parts, and one that fills the buffers of both sides."""
    assert call(way, backend, "set_many", ROWS) == dict.fromkeys(ROWS, True)
    assert call(way, backend, "get_many", *ROWS, "absent") == [*ROWS.values(), None]
    assert all(call(way, backend, "set_many", LARGE).values())
    assert call(way, backend, "get_many", *LARGE, *LARGE) == [*LARGE.values()] * 2
    assert call(way, backend, "get", "key:7") == b"7"


# -- a user name and a password --------------------------------------------------------------------------


class ServerWithUsers(MemcachedServer):
    """A memcached that takes one user."""

    answers_with = (b"CLIENT_ERROR unauthenticated",)

    def __init__(self, folder: Path, password: str = SECRET) -> None:
        file = folder / "users"
        file.write_text(f"ada:{password}\n")
        super().__init__("-Y", str(file))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerWithUsers]:
    with ServerWithUsers(tmp_path_factory.mktemp("users")) as server:
        yield server


@ways
def test_each_connection_begins_with_a_user_name_and_a_password(way: Any, guarded: ServerWithUsers) -> None:
    with MemcachedBackend([guarded.address], username="ada", password=SECRET, timeout=60) as backend:
        check(backend, way)


@pytest.mark.parametrize("password", ["open-sesame", "a/b@c#d?e&f=g%h+i:j"])
def test_a_url_has_them_as_options(password: str, tmp_path: Path) -> None:
    with ServerWithUsers(tmp_path, password) as server:
        url = f"memcached://{HOST}:{server.port}?username=ada&password={quote(password, safe='')}"
        with backend_from_url(url) as backend:
            assert backend.set("k", b"v")
            assert password not in repr(backend)
        with backend_from_url(f"memcached://{HOST}:{server.port}", username="ada", password=password) as backend:
            assert backend.get("k") == b"v"


@ways
@pytest.mark.parametrize("password", ["wrong-sesame", "é" * 40])
def test_a_wrong_password_is_an_error_that_does_not_show_it(way: Any, password: str, guarded: ServerWithUsers) -> None:
    with MemcachedBackend([guarded.address], username="ada", password=password, timeout=60) as backend:
        for method, *args in (("get", "k"), ("set_many", {"k": b""}), ("get_many", *ROWS)):
            with pytest.raises(BackendError, match="it refused the username and the password") as caught:
                call(way, backend, method, *args)
            assert caught.value.maybe_applied is False
            text = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(backend)
            assert password not in text
        assert backend.breakers()[0].reason is None, "a server that refuses is there"
        assert in_use(backend) == [0]


@ways
def test_a_server_left_alone_is_tried_with_the_password(way: Any, tmp_path: Path) -> None:
    with ServerWithUsers(tmp_path) as server:
        options: Any = {"username": "ada", "password": SECRET, "timeout": 60, "retry_after": 3600}
        with MemcachedBackend([server.address], **options) as backend:
            server.kill()
            with pytest.raises(BackendError, match="cannot connect"):
                call(way, backend, "get", "k")
            server.start()
            with pytest.raises(BackendError, match="was not asked"):
                call(way, backend, "get", "k")
            backend.retry_failed_servers()
            assert call(way, backend, "set", "k", b"v") is True
            assert backend.breakers()[0].reason is None


def test_who_has_no_password_is_told_which_options_to_pass(guarded: ServerWithUsers) -> None:
    with (
        MemcachedBackend([guarded.address]) as backend,
        pytest.raises(BackendError, match=r"unauthenticated .*pass username= and password="),
    ):
        backend.get("k")


def test_a_server_without_users_keeps_no_password(memcached_server: MemcachedServer) -> None:
    with MemcachedBackend([memcached_server.address], username="ada", password=SECRET) as backend:
        assert backend.set("k", b"v")
    with memcached_server.connect() as connection:
        connection.sendall(b"mg cacheorm-authentication v\r\n")
        assert connection.recv(100) == b"EN\r\n"


@ways
def test_a_server_with_sasl_is_told_apart(way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ServerWithSASL(MemcachedServer):
        def answers(self) -> bool:
            try:
                self.connect().close()
            except OSError:
                return False
            return True

    (tmp_path / "memcached.conf").write_text("mech_list: plain\n")
    monkeypatch.setenv("SASL_CONF_PATH", str(tmp_path))
    with (
        ServerWithSASL("-S") as server,
        MemcachedBackend([server.address], username="ada", password=SECRET, timeout=60) as backend,
        pytest.raises(BackendError, match="-S speaks the binary protocol only") as caught,
    ):
        call(way, backend, "get", "k")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_answers_a_password_with_nonsense_is_refused() -> None:
    with (
        say(b"\x00\xff\r\n") as server,
        MemcachedBackend([(HOST, server.port)], username="ada", password=SECRET) as backend,
        pytest.raises(BackendError, match="refused the username"),
    ):
        backend.get("k")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"username": "ada"}, TypeError),
        ({"password": SECRET}, TypeError),
        ({"username": "ada", "password": SECRET.encode()}, TypeError),
        ({"username": "ada", "password": f"{SECRET} "}, ValueError),
        ({"username": "ada", "password": f"{SECRET}\r\nflush_all"}, ValueError),
        ({"username": f"{SECRET}\0", "password": "x"}, ValueError),
        ({"username": "ada", "password": ""}, ValueError),
        ({"username": "ada", "password": SECRET * 100}, ValueError),
        ({"username": "ada", "password": SECRET, "client": object()}, TypeError),
    ],
)
def test_what_cannot_be_sent_is_refused_without_being_shown(options: Any, expected: Any) -> None:
    with pytest.raises(expected) as caught:
        MemcachedBackend(**options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# -- TLS -------------------------------------------------------------------------------------------------


class ServerWithTLS(MemcachedServer):
    """A memcached whose connections are encrypted."""

    def __init__(self, certificates: Certificates, *options: str) -> None:
        super().__init__(*certificates.memcached_options(), *options)
        self._context = ssl.create_default_context(cafile=str(certificates.authority))
        self._context.load_cert_chain(certificates.chain, certificates.key)

    def connect(self, timeout: float = HANG) -> socket.socket:
        return self._context.wrap_socket(super().connect(timeout), server_hostname=HOST)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(certificates: Certificates) -> Iterator[ServerWithTLS]:
    with ServerWithTLS(certificates) as server:
        yield server


@ways
def test_rows_pass_over_tls(way: Any, encrypted: ServerWithTLS, certificates: Certificates) -> None:
    authority = str(certificates.authority)
    for options in ({"ssl": True, "ssl_ca_certs": authority}, {"ssl": ssl.create_default_context(cafile=authority)}):
        with MemcachedBackend([encrypted.address], timeout=60, **options) as backend:  # type: ignore[arg-type]
            check(backend, way)
            assert in_use(backend) == [0]


def test_a_url_may_ask_for_tls(encrypted: ServerWithTLS, certificates: Certificates) -> None:
    url = f"memcached://{HOST}:{encrypted.port}?ssl=true&ssl_ca_certs={quote(str(certificates.authority))}"
    with backend_from_url(url) as backend:
        assert backend.set("k", b"v")


@ways
def test_a_certificate_that_nobody_has_signed_is_refused(way: Any, encrypted: ServerWithTLS) -> None:
    with (
        MemcachedBackend([encrypted.address], ssl=True, timeout=60) as backend,
        pytest.raises(BackendError, match=r"cannot connect: .*CERTIFICATE_VERIFY_FAILED") as caught,
    ):
        call(way, backend, "set", "k", b"v")
    assert caught.value.maybe_applied is False


@ways
def test_a_certificate_for_another_host_is_refused_unless_told(
    way: Any, encrypted: ServerWithTLS, certificates: Certificates
) -> None:
    for check_hostname in (True, None, False):
        with MemcachedBackend(
            [("localhost", encrypted.port)],
            ssl=True,
            ssl_ca_certs=str(certificates.authority),
            ssl_check_hostname=check_hostname,
            timeout=60,
        ) as backend:
            if check_hostname is False:
                assert call(way, backend, "set", "k", b"v") is True
            else:
                with pytest.raises(BackendError, match="Hostname mismatch"):
                    call(way, backend, "set", "k", b"v")


@ways
def test_a_server_that_asks_for_a_certificate_gets_one(way: Any, certificates: Certificates) -> None:
    authority = str(certificates.authority)
    files = {"ssl_certfile": str(certificates.chain), "ssl_keyfile": str(certificates.key)}
    options: Any = {"ssl": True, "ssl_ca_certs": authority, "timeout": 60, "retry_after": 0}
    with ServerWithTLS(certificates, "-o", f"ssl_verify_mode=2,ssl_ca_cert={authority}") as server:
        with MemcachedBackend([server.address], **options, **files) as backend:
            assert call(way, backend, "set", "k", b"v") is True
        with MemcachedBackend([server.address], **options) as backend, pytest.raises(BackendError):
            call(way, backend, "get", "k")


@ways
def test_a_server_that_does_not_speak_tls_is_an_error(way: Any, memcached_server: MemcachedServer) -> None:
    with (
        MemcachedBackend([memcached_server.address], ssl=True, timeout=2) as backend,
        pytest.raises(BackendError, match="cannot connect: "),
    ):
        call(way, backend, "get", "k")


@ways
def test_passwords_and_tls_go_together_with_several_servers(
    way: Any, certificates: Certificates, tmp_path: Path
) -> None:
    class Guarded(ServerWithTLS):
        answers_with = (b"CLIENT_ERROR unauthenticated",)

    (tmp_path / "users").write_text(f"ada:{SECRET}\n")
    options = ["-Y", str(tmp_path / "users"), "-m", "64"]
    with (
        Guarded(certificates, *options) as one,
        Guarded(certificates, *options) as other,
        MemcachedBackend(
            [one.address, other.address],
            username="ada",
            password=SECRET,
            ssl=True,
            ssl_ca_certs=str(certificates.authority),
            timeout=60,
            on_failure="raise",
        ) as backend,
    ):
        check(backend, way)
        one.restart()
        assert call(way, backend, "get_many", "key:1") in ([None], [b"1"])
        check(backend, way)


def test_a_hung_server_with_tls_may_have_applied_what_was_written(
    encrypted: ServerWithTLS, certificates: Certificates
) -> None:
    with MemcachedBackend(
        [encrypted.address], ssl=True, ssl_ca_certs=str(certificates.authority), timeout=2, retry_after=0
    ) as backend:
        backend.ping()
        encrypted.pause()
        try:
            with pytest.raises(BackendError, match="no answer in time") as caught:
                backend.set("k", b"x" * 900_000)
        finally:
            encrypted.resume()
        assert caught.value.maybe_applied is True


@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        ({"ssl_ca_certs": "x"}, TypeError, "ssl_ca_certs without TLS"),
        ({"ssl_check_hostname": False}, TypeError, "ssl_check_hostname without TLS"),
        ({"ssl": ssl.create_default_context(), "ssl_ca_certs": "x"}, TypeError, "beside an ssl.SSLContext"),
        ({"ssl": True, "ssl_keyfile": "x"}, TypeError, "ssl_keyfile without ssl_certfile"),
        ({"ssl": "true"}, TypeError, "must be True, False or an ssl.SSLContext, got str"),
        ({"ssl": True, "ssl_ca_certs": os.devnull + "/x"}, OSError, "No such file|Not a directory"),
        ({"ssl": True, "servers": "/run/mc.sock"}, ValueError, "over TCP only"),
        ({"ssl": True, "client": object()}, TypeError, "a client takes no"),
    ],
)
def test_options_of_tls_that_contradict_each_other_are_refused(options: Any, expected: Any, message: str) -> None:
    with pytest.raises(expected, match=message):
        MemcachedBackend(**options)
