"""URLs of Redis: of a server, of a service under sentinels, and of a cluster. Nothing connects here."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import redis

from .._addresses import Address, decode
from .._url_options import FLAG, TEXT, Kind, check_names, choice, list_of, read_options, seconds, whole
from .._url_parts import Parts, read_addresses, read_login, refuse, split_url
from .endpoint import option_names

__all__ = ["RedisURL", "read_url"]

_PORT = 6379
_SENTINEL_PORT = 26379


def _verify_flags(name: str) -> Any:
    from ssl import VerifyFlags

    return VerifyFlags.__members__.get(name)


_FLAG_NAMES = list_of(Kind("", _verify_flags), "names of ssl.VerifyFlags, separated by commas")

# Options of redis-py's connections, of the types that its own URLs give them. Those that the installed version does not
# have are unknown.
_OPTIONS: dict[str, Kind] = {
    "client_name": TEXT,
    "db": whole(),
    "decode_responses": FLAG,
    "encoding": TEXT,
    "encoding_errors": TEXT,
    "health_check_interval": whole(),
    "legacy_responses": FLAG,
    "lib_name": TEXT,
    "lib_version": TEXT,
    "password": TEXT,
    "protocol": whole(2, 3),
    "retry_on_timeout": FLAG,
    "socket_connect_timeout": seconds(),
    "socket_keepalive": FLAG,
    "socket_read_size": whole(1),
    "socket_timeout": seconds(),
    "username": TEXT,
    "ssl_ca_certs": TEXT,
    "ssl_ca_data": TEXT,
    "ssl_ca_path": TEXT,
    "ssl_cert_reqs": choice("required", "optional", "none"),
    "ssl_certfile": TEXT,
    "ssl_check_hostname": FLAG,
    "ssl_ciphers": TEXT,
    "ssl_exclude_verify_flags": _FLAG_NAMES,
    "ssl_include_verify_flags": _FLAG_NAMES,
    "ssl_keyfile": TEXT,
    "ssl_min_version": whole(0x301, 0x304),
    "ssl_ocsp_expected_cert": TEXT,
    "ssl_password": TEXT,
    "ssl_validate_ocsp": FLAG,
    "ssl_validate_ocsp_stapled": FLAG,
}
_OF_POOL: dict[str, Kind] = {"max_connections": whole(1), "ssl": FLAG}
# Arguments of RedisBackend itself.
_OF_BACKEND: dict[str, Kind] = {
    "default_ttl": whole(),
    "on_failure": choice("raise", "miss"),
    "on_failure_keys": whole(),
    "operation_timeout": seconds(),
    "reply_limit": whole(1),
    "retry_after": seconds(0),
}
_OF_SENTINELS: dict[str, Kind] = {
    "check_connection": FLAG,
    "min_other_sentinels": whole(),
    "sentinel_password": TEXT,
    "sentinel_username": TEXT,
}
# What a program may pass besides the URL, and a text cannot say.
_OF_CALL = {
    "cluster": {"address_remap"},
    "sentinel": {"sentinel_kwargs"},
    "server": {"cache", "cache_config", "connection_class", "single_connection_client"},
}
_SAID_BY_URL = {"host", "path", "port"}
_SCHEMES = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}


class RedisURL(NamedTuple):
    """What a URL says.

    Attributes:
        topology: ``"server"``, ``"sentinel"`` or ``"cluster"``.
        tls: whether connections to Redis servers use TLS.
        tls_everywhere: whether those to sentinels do, too.
        addresses: of the server, the sentinels or the nodes; empty for a Unix socket.
        name: of the service under sentinels, or the path of a Unix socket; otherwise empty.
        options: of the connections, those of the program included.
        settings: arguments of the backend itself, likewise.
    """

    topology: str
    tls: bool
    tls_everywhere: bool
    addresses: list[Address]
    name: str
    options: dict[str, Any]
    settings: dict[str, Any]

    @property
    def connection_class(self) -> Any:
        """The class of connections of redis-py."""
        if not self.addresses:
            return redis.UnixDomainSocketConnection
        return redis.SSLConnection if self.tls else redis.Connection

    def place(self) -> dict[str, Any]:
        """Return where a single server is, as options of its connections."""
        if not self.addresses:
            return {"path": self.name}
        host, port = self.addresses[0]
        return {"host": host, "port": port}


def read_url(url: str, given: Mapping[str, Any]) -> RedisURL:
    """Read a URL.

    Args:
        url: see :meth:`~cacheorm.backends.redis.RedisBackend.from_url`.
        given: options that a program passes besides it, which take precedence.

    Raises:
        TypeError: it is no ``str``.
        ValueError: it is no such URL, an option is unknown, or two parts contradict each other. The message shows
            no part of the URL but its scheme and the names of known options.
    """
    if not isinstance(url, str):
        raise TypeError(f"a Redis URL must be a str, got {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    topology = _SCHEMES.get(scheme)
    if topology is None or not separator:
        raise ValueError(f"not a Redis URL: expected {', '.join(f'{known}://' for known in _SCHEMES)}")
    parts = split_url(scheme, rest)
    with_tls = option_names(redis.SSLConnection)
    there = option_names(redis.UnixDomainSocketConnection) if scheme == "unix" else with_tls
    known = {name: kind for name, kind in _OPTIONS.items() if name in (with_tls if name.startswith("ssl_") else there)}
    known |= _OF_POOL | _OF_BACKEND
    if topology == "sentinel":
        known |= _OF_SENTINELS
    said = read_options(scheme, parts.query, known)
    _add(scheme, said, read_login(scheme, parts.login))
    addresses, name, database = _read_place(scheme, topology, parts)
    _add(scheme, said, database)
    _check_given(scheme, topology, given, known, there)
    options = {**given, **said, **{name: value for name, value in given.items() if value is not None}}
    if topology == "cluster" and options.get("db"):
        raise ValueError("a Redis Cluster has no databases but 0: leave the number out of the URL")
    tls = _read_tls(scheme, topology, options)
    settings = {name: options.pop(name) for name in _OF_BACKEND if name in options}
    settings = {name: value for name, value in settings.items() if value is not None}
    return RedisURL(topology, tls, scheme.startswith("rediss"), addresses, name, options, settings)


def _read_place(scheme: str, topology: str, parts: Parts) -> tuple[list[Address], str, dict[str, int]]:
    """Return addresses, a name (of a service or of a Unix socket) and ``db`` if the path has it."""
    if scheme == "unix":
        path = decode(parts.path)
        if parts.hosts not in ("", "localhost") or not path or path.endswith("/") or "\0" in path:
            refuse(scheme, "expected the absolute path of a socket, with three slashes: unix:///run/redis.sock")
        return [], path, {}
    addresses = read_addresses(scheme, parts.hosts, _SENTINEL_PORT if topology == "sentinel" else _PORT)
    if topology == "sentinel":
        service, slash, database = parts.path.removeprefix("/").partition("/")
        name = decode(service)
        if not name:
            refuse(scheme, f"expected the name of a service after the hosts: {scheme}://host:port,host:port/service/0")
        return addresses, name, _read_database(scheme, slash + database)
    if topology == "server" and len(addresses) > 1:
        refuse(scheme, "it takes one host; for several there are redis+sentinel:// and redis+cluster://")
    return addresses, "", _read_database(scheme, parts.path)


def _read_database(scheme: str, path: str) -> dict[str, int]:
    text = (decode(path) or path).removeprefix("/").removesuffix("/")
    if not text and path in ("", "/"):
        return {}
    number = _OPTIONS["db"].read(text)
    if number is None or not text.isdigit():
        refuse(scheme, "expected the number of one database at the end of its path, such as /0")
    return {"db": number}


def _add(scheme: str, said: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add what the parts before the query say to what the query says."""
    for name, value in more.items():
        if said.setdefault(name, value) != value:
            raise ValueError(f"option {name} of the {scheme}:// URL contradicts what stands before the '?'")


def _check_given(
    scheme: str, topology: str, given: Mapping[str, Any], known: Mapping[str, Kind], there: Set[str]
) -> None:
    """Check the names of options that a program passes: connections of asyncio would ignore unknown ones."""
    if "connection_class" in given and topology == "server":
        return  # It has options of its own.
    taken = known.keys() | there | _OF_CALL[topology]
    if topology != "sentinel":
        taken |= option_names(redis.ConnectionPool)
    check_names(scheme, given.keys() - (taken - _SAID_BY_URL), known)


def _read_tls(scheme: str, topology: str, options: dict[str, Any]) -> bool:
    """Take ``ssl`` out of the options; return whether connections to Redis servers use TLS.

    Raises:
        ValueError: TLS is asked for where the scheme is without, or the other way round.
    """
    by_scheme = scheme.startswith("rediss")
    said = options.pop("ssl", None)
    tls = by_scheme if said is None else bool(said)
    if by_scheme and not tls:
        raise ValueError(f"option ssl of the {scheme}:// URL contradicts the scheme, which is for TLS: leave it out")
    if by_scheme or (tls and topology == "sentinel"):
        return True
    of_tls = ["ssl"] if tls else []
    if "connection_class" not in options:
        of_tls += [name for name in options if name.startswith("ssl_")]
    if of_tls:
        hint = f"use {scheme.replace('redis', 'rediss')}://"
        if topology == "sentinel":
            hint += ", or ssl=true if only the servers have it"
        elif scheme == "unix":
            hint = "there is none over a Unix socket"
        raise ValueError(f"option {of_tls[0]} is for TLS, and {scheme}:// is without: {hint}")
    return False
