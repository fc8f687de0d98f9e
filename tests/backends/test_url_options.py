"""Options of URLs: which there are, their types, TLS, and the sockets of memcached."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any

import pytest
import redis
from redis.connection import URL_QUERY_ARGUMENT_PARSERS
from servers import MemcachedServer
from urls import PLACES, options_of, refusal

import cacheorm as co
from cacheorm.backends import MemcachedBackend, RedisBackend, backend_from_url

WITHOUT_TLS = [scheme for scheme in PLACES if not scheme.startswith("rediss")]
WITH_TLS = [scheme for scheme in PLACES if scheme.startswith("rediss")]

# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", PLACES)
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sokcet_timeout=1", "unknown option 'sokcet_timeout' .* \\(did you mean 'socket_timeout'\\?\\)"),
        ("timeout=1", "unknown option of .* \\(did you mean 'socket_timeout'\\?\\)"),
        ("w0rd=1", "unknown option of .*; known are .*client_name, db, "),
        ("retry_on_error=w0rd", "unknown option"),
        ("host=w0rd", "unknown option"),
        ("connection_class=w0rd", "unknown option"),
        ("self=w0rd", "unknown option"),
        ("%zz=1", "unknown option"),
        ("socket_timeout", "option 1 of .* is not name=value"),
        ("db=0&", "option 2 of .* is not name=value"),
        ("db=0&&socket_timeout=1", "option 2 of .* is not name=value"),
        ("password=p4ss&w0rd", "option 2 of .* is not name=value; write & in a value as %26"),
        ("password=p4ss&w0rd=", "unknown option of"),
        ("password=", "option password .* must be a text that is not empty"),
        ("password=p4ss%zz", "option password .* is not percent-encoded UTF-8"),
        ("password=p4ss&password=p4ss", "option password .* is given twice"),
        ("socket_timeout=1&socket_timeout=1", "option socket_timeout .* is given twice"),
        ("socket_timeout=", "option socket_timeout .* must be a number of seconds from 0.001 to 2147483$"),
        ("socket_timeout=w0rd", "option socket_timeout .* must be a number of seconds"),
        ("socket_timeout=-1", "option socket_timeout .* must be a number of seconds"),
        ("socket_timeout=0", "option socket_timeout .* must be a number of seconds"),
        ("socket_timeout=nan", "option socket_timeout .* must be a number of seconds"),
        ("socket_timeout=inf", "option socket_timeout .* must be a number of seconds"),
        ("socket_timeout=1e9", "option socket_timeout .* must be a number of seconds"),
        ("socket_connect_timeout=-1", "option socket_connect_timeout .* must be a number of seconds"),
        ("max_connections=0", "option max_connections .* must be a whole number from 1 to 2147483647"),
        ("max_connections=1.5", "option max_connections .* must be a whole number"),
        ("protocol=4", "option protocol .* must be a whole number from 2 to 3"),
        ("retry_on_timeout=maybe", "option retry_on_timeout .* must be true or false"),
        ("default_ttl=-1", "option default_ttl .* must be a whole number from 0"),
        ("ssl=w0rd", "option ssl .* must be true or false"),
        ("ssl_min_version=1", "option ssl_min_version .* must be a whole number from 769 to 772"),
        ("ssl_cert_reqs=no", "option ssl_cert_reqs .* must be one of required, optional, none"),
        ("ssl_include_verify_flags=w0rd", "must be names of ssl.VerifyFlags, separated by commas"),
    ],
)
def test_options_are_known_and_typed(scheme: str, query: str, message: str) -> None:
    said = refusal(f"{scheme}://cl3rk:p4ss@{PLACES[scheme]}?{query}")
    assert re.search(message, said)
    assert not re.search("w0rd|p4ss|cl3rk|zz|maybe", said)


def test_options_of_sentinels_are_unknown_elsewhere() -> None:
    for name in ("sentinel_username", "sentinel_password", "min_other_sentinels", "check_connection"):
        assert "unknown option" in refusal(f"redis://h?{name}=1")
        backend_from_url(f"redis+sentinel://h/rows?{name}=1")


def test_options_that_a_unix_socket_lacks_are_unknown_there() -> None:
    assert "unknown option of a unix:// URL" in refusal("unix:///run/redis.sock?socket_keepalive=true")


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("socket_timeout=0.5", 0.5),
        ("socket_timeout=1e2", 100),
        ("socket_connect_timeout=3", 3),
        ("max_connections=7", 7),
        ("health_check_interval=0", 0),
        ("protocol=3", 3),
        ("client_name=a%26b", "a&b"),
        ("socket_keepalive=False", False),
        ("socket_keepalive=YES", True),
        ("retry_on_timeout=0", False),
        ("retry_on_timeout=on", True),
    ],
)
def test_options_are_read_by_their_types(query: str, value: object) -> None:
    options = options_of(f"redis://h?{query}")
    assert options[query.partition("=")[0]] == value
    assert type(options[query.partition("=")[0]]) in (type(value), float)


SAMPLES = {
    "db": "3",
    "socket_timeout": "1.5",
    "socket_connect_timeout": "2",
    "socket_read_size": "4096",
    "max_connections": "9",
    "health_check_interval": "30",
    "ssl_min_version": "771",
    "ssl_include_verify_flags": "VERIFY_X509_STRICT,VERIFY_CRL_CHECK_LEAF",
    "ssl_exclude_verify_flags": "VERIFY_X509_STRICT",
    "protocol": "3",
}
NOT_OF_OUR_POOL = {"timeout", "retry_on_error"}
"""An option of another pool, and one that is a list of exceptions, which no text is."""


@pytest.mark.parametrize("name", sorted(URL_QUERY_ARGUMENT_PARSERS.keys() - NOT_OF_OUR_POOL))
def test_types_are_those_of_redis_py(name: str) -> None:
    samples = [SAMPLES[name]] if name in SAMPLES else ["true", "false", "0", "1", "t", "F", "Y", "No", "YES", "TRUE"]
    for text in samples:
        value = options_of(f"rediss://h?{name}={text}")[name]
        theirs = URL_QUERY_ARGUMENT_PARSERS[name](text)
        assert (value, type(value)) == (theirs, type(theirs))


@pytest.mark.parametrize(
    "query", [f"{name}={text}" for name, text in SAMPLES.items()] + ["client_name=x", "ssl_ciphers=x"]
)
def test_options_are_those_of_connections(query: str) -> None:
    backend: Any = backend_from_url(f"rediss://h?{query}")
    backend.client.connection_pool.make_connection()


def test_verify_flags_are_those_of_ssl() -> None:
    options = options_of("rediss://h?ssl_include_verify_flags=VERIFY_X509_STRICT")
    assert options["ssl_include_verify_flags"] == [ssl.VerifyFlags.VERIFY_X509_STRICT]


def test_options_of_the_call_take_precedence_unless_they_are_none() -> None:
    url = "redis://:p4ss@h/3?socket_timeout=1&default_ttl=7"
    for make in (backend_from_url, RedisBackend.from_url):
        backend: Any = make(url, socket_timeout=2.5, password="other", db=4, default_ttl=8)
        options = backend.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["password"], options["db"]) == (2.5, "other", 4)
        assert backend.default_ttl == 8
        backend = make(url, socket_timeout=None, password=None, db=None, default_ttl=None)
        options = backend.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["password"], options["db"]) == (1, "p4ss", 3)
        assert backend.default_ttl == 7
    assert RedisBackend.from_url("redis://h").default_ttl == 600
    assert options_of("redis://h", socket_timeout=None)["socket_timeout"] is None


@pytest.mark.parametrize("scheme", PLACES)
def test_an_unknown_option_of_the_call_is_refused_by_its_name(scheme: str) -> None:
    url = f"{scheme}://:p4ss@{PLACES[scheme]}"
    assert "unknown option 'sokcet_timeout' of a" in refusal(url, sokcet_timeout=1)
    assert "did you mean 'socket_timeout'" in refusal(url, sokcet_timeout=1)
    assert "unknown option 'host'" in refusal(url, host="h")


def test_a_connection_class_of_the_call_has_options_of_its_own() -> None:
    class Own(redis.Connection):
        def __init__(self, *, colour: str, ssl_colour: str, **options: Any) -> None:
            super().__init__(**options)

    backend = RedisBackend.from_url("redis://h", connection_class=Own, colour="red", ssl_colour="blue")
    assert backend.client.connection_pool.connection_class is Own
    for query, message in (("sokcet_timeout=1", "unknown option 'sokcet_timeout'"), ("ssl=true", "use rediss://")):
        with pytest.raises(ValueError, match=message):
            RedisBackend.from_url(f"redis://h?{query}", connection_class=Own)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("timeout=0", "timeout .* must be a number of seconds from 0.001"),
        ("connect_timeout=x", "connect_timeout .* must be a number of seconds"),
        ("max_connections=0", "max_connections .* must be a whole number from 1"),
        ("retry_after=-1", "retry_after .* must be a number of seconds from 0 "),
        ("weights=0", "weights .* must be a list of whole numbers from 1 to 65535"),
        ("weights=65536", "weights .* must be a list of whole numbers from 1 to 65535"),
        ("weights=1,", "weights .* must be a list of whole numbers"),
        ("default_ttl=1&default_ttl=1", "default_ttl .* is given twice"),
        ("time_out=1", "unknown option 'time_out' .*did you mean 'timeout'"),
        ("ssl=perhaps", "ssl .* must be true or false"),
        ("password=cl3rk", "a memcached:// URL: memcached takes a username and a password, or neither"),
        ("username=cl%203rk&password=p4ss", "username must be a text without spaces"),
        ("ssl_ca_certs=/ca.pem", "ssl_ca_certs without TLS: pass ssl=True as well"),
        ("ssl=true&ssl_keyfile=/key.pem", "ssl_keyfile without ssl_certfile"),
    ],
)
def test_options_of_memcached_are_typed(query: str, message: str) -> None:
    assert re.search(message, refusal(f"memcached://h?{query}"))


@pytest.mark.parametrize("url", ["memory://?threshold=0", "memory://?default_ttl=-1", "file:///x?busy_timeout=-1"])
def test_options_of_embedded_backends_have_bounds(url: str) -> None:
    assert re.search(r"option \w+ of the (memory|file):// URL must be a (whole )?number", refusal(url))


# -- TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [scheme for scheme in WITHOUT_TLS if scheme != "redis+sentinel"])
def test_tls_is_not_asked_for_by_an_option(scheme: str) -> None:
    url = f"{scheme}://:p4ss@{PLACES[scheme]}"
    hint = "over a Unix socket" if scheme == "unix" else f"use {scheme.replace('redis', 'rediss')}://"
    for said in (refusal(f"{url}?ssl=true"), refusal(url, ssl=True)):
        assert said.startswith(f"option ssl is for TLS, and {scheme}:// is without: ")
        assert said.endswith(hint)
    backend_from_url(f"{url}?ssl=false")


@pytest.mark.parametrize("scheme", WITHOUT_TLS)
def test_options_for_tls_are_refused_without_it(scheme: str) -> None:
    url = f"{scheme}://:p4ss@{PLACES[scheme]}"
    for said in (refusal(f"{url}?ssl_ca_certs=/ca.pem"), refusal(url, ssl_ca_certs="/ca.pem")):
        assert f"option ssl_ca_certs is for TLS, and {scheme}:// is without: " in said


@pytest.mark.parametrize("scheme", WITH_TLS)
def test_a_scheme_with_tls_is_not_contradicted(scheme: str) -> None:
    url = f"{scheme}://:p4ss@{PLACES[scheme]}"
    assert "contradicts the scheme" in refusal(f"{url}?ssl=false")
    backend_from_url(f"{url}?ssl=true&ssl_ca_certs=/ca.pem")


def test_the_servers_of_a_service_may_have_tls_by_an_option() -> None:
    for url, options in (("?ssl=true&ssl_ca_certs=/ca.pem", {}), ("?ssl_ca_certs=/ca.pem", {"ssl": True})):
        backend: Any = backend_from_url(f"redis+sentinel://h/rows{url}", **options)
        pool = backend.client.connection_pool
        assert pool.connection_class is redis.sentinel.SentinelManagedSSLConnection
        assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
        (sentinel,) = pool.sentinel_manager.sentinels
        assert sentinel.connection_pool.connection_class is redis.Connection
    assert "use rediss+sentinel://, or ssl=true if" in refusal("redis+sentinel://h/rows?ssl_ca_certs=/ca.pem")


# -- sockets of memcached ------------------------------------------------------------------------------------


def test_memcached_takes_unix_sockets() -> None:
    with MemcachedServer(unix=True) as first, MemcachedServer(unix=True) as second, MemcachedServer() as third:
        for url in (
            f"memcached://{first.path}",
            f"memcached://{first.path},{second.path}",
            f"memcached://{first.path},127.0.0.1:{third.port},{second.path}?weights=1,2,3",
        ):
            with backend_from_url(url) as backend:
                rows = {f"row:{i}": b"%d" % i for i in range(100)}
                assert backend.set_many(rows) == dict.fromkeys(rows, True)
                assert asyncio.run(read_and_close(backend, rows)) == list(rows.values())


async def read_and_close(backend: co.BaseBackend, rows: dict[str, bytes]) -> list[bytes | None]:
    values = await backend.aget_many(*rows)
    await backend.aclose()
    return values


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/run/mc.sock", "/run/mc.sock"),
        ("/run/a%2Cb%40c%20d.sock", "/run/a,b@c d.sock"),
        ("h1,/run/mc.sock,[::1]:2/", "h1:11211, /run/mc.sock, [::1]:2"),
    ],
)
def test_servers_of_memcached(location: str, shown: str) -> None:
    assert repr(backend_from_url(f"memcached://{location}")) == f"<MemcachedBackend memcached at {shown}>"


def test_sockets_have_weights() -> None:
    backend: Any = backend_from_url("memcached:///run/a.sock,/run/b.sock?weights=1,9")
    shares = [server.rpartition("/")[2] for server in backend.servers_of(*(str(i) for i in range(1000)))]
    assert shares.count("b.sock") > 3 * shares.count("a.sock") > 0


@pytest.mark.parametrize(
    "location", ["/", "/run/", "/run/mc.sock/", "h1,/", "/run/%ff", "/run/%00", "/run/%zz", "h1/,h2"]
)
def test_what_is_no_socket_of_memcached_is_refused(location: str) -> None:
    assert re.search("path of a Unix socket", refusal(f"memcached://{location}"))


def test_servers_that_are_none_are_not_shown() -> None:
    for server in ("cl3rk:p4ss@h", ("h p4ss", 1), ("p4ss", 1, "p4ss"), {"p4ss"}):
        with pytest.raises(ValueError, match="server 2") as caught:
            MemcachedBackend(["h", server])  # type: ignore[list-item]
        assert "p4ss" not in str(caught.value)
