"""Backends from URLs, so that the backend can be a line of configuration.

=============================================  ==============================================================
``memory://``                                  :class:`~cacheorm.backends.simple.SimpleBackend`
``file:///var/cache/app``                      :class:`~cacheorm.backends.filesystem.FileSystemBackend`
``redis://``, ``rediss://`` (TLS), ``unix://``  :class:`~cacheorm.backends.redis.RedisBackend`
``redis+sentinel://h1:26379,h2:26379/service``  the same, on the primary that sentinels name
``redis+cluster://h1:7000,h2:7000``            likewise, on a Redis Cluster
``rediss+sentinel://``, ``rediss+cluster://``  the same two with TLS
``memcached://h1:11211,h2:11211``              :class:`~cacheorm.backends.memcached.MemcachedBackend`
``memcached:///run/a.sock,/run/b.sock``        the same, over Unix sockets
=============================================  ==============================================================

Options of the backend follow as a query: ``memory://?threshold=1000&default_ttl=60``. Messages never show the
URL, only its scheme and the names of its options: it may hold a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ._url_options import FLAG, TEXT, Kind, check_names, choice, list_of, read_options, seconds, suggestion, whole
from ._url_parts import no_spaces
from .base import BaseBackend

__all__ = ["backend_from_url"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def backend_from_url(url: str, **options: Any) -> BaseBackend:
    """Return a new backend for a URL. It connects with its first operation.

    Args:
        url: see the table above; special characters have to be percent-encoded.
        options: options of the backend, which take precedence over those in the URL.

    Raises:
        ValueError: the scheme or an option is unknown, or the URL is malformed. The message does not show it.
        ImportError: the driver of that backend is not installed.
    """
    if not isinstance(url, str):
        raise TypeError(f"a backend URL must be a str, got {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    factory = _FACTORIES.get(scheme.lower())
    if factory is not None and separator:
        return factory(scheme.lower(), rest, options)
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        problem = f"unknown scheme {scheme!r} of a backend URL{suggestion(scheme.lower(), _FACTORIES)}"
    else:
        problem = "not a backend URL: it has no scheme"
    raise ValueError(f"{problem}; known are {', '.join(f'{known}://' for known in sorted(_FACTORIES))}")


# -- one factory per family of schemes ---------------------------------------------------------------


def _memory(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from .simple import SimpleBackend

    no_spaces(scheme, rest)
    location, settings = _split(
        scheme, rest, options, {"default_ttl": whole(), "max_bytes": whole(1), "threshold": whole(1)}
    )
    if location not in ("", "/"):
        raise ValueError("memory:// takes no host and no path")
    return SimpleBackend(**settings)


def _file(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from urllib.parse import unquote

    from .filesystem import FileSystemBackend

    if "#" in rest:
        raise ValueError("a file:// URL has no part after '#'; write %23 where the character is meant")
    # A space may be part of a name, but not at the end: it is that of a line of a file.
    if rest != rest.strip() or _CONTROL.search(rest):
        raise ValueError("a file:// URL has a space at its end, a line break or a control character: percent-encode it")
    known = {
        "default_ttl": whole(),
        "busy_timeout": seconds(0),
        "on_failure": choice("raise", "miss"),
        "on_failure_keys": whole(),
        "operation_timeout": seconds(),
        "retry_after": seconds(0),
    }
    location, settings = _split(scheme, rest, options, known)
    location = location.removeprefix("localhost") if location.startswith("localhost/") else location
    if not location.startswith("/"):
        raise ValueError("file:// takes an absolute path, with three slashes: file:///var/cache/app")
    # Bytes that are no UTF-8 are kept as they are.
    path = unquote(location, errors="surrogateescape")
    if "\0" in path:
        raise ValueError("file:// takes a path, which cannot hold a NUL")
    return FileSystemBackend(_without_slash_before_drive(path) if os.name == "nt" else path, **settings)


def _redis(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from .redis import RedisBackend

    return RedisBackend.from_url(f"{scheme}://{rest}", **options)


def _memcached(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from ._memcached.addresses import MAX_WEIGHT, read_url_servers
    from ._memcached.ketama import DISTRIBUTIONS
    from ._memcached.rings import POLICIES
    from .memcached import MemcachedBackend

    no_spaces(scheme, rest)
    known = {
        "default_ttl": whole(),
        "timeout": seconds(),
        "connect_timeout": seconds(),
        "max_connections": whole(1),
        "distribution": choice(*DISTRIBUTIONS),
        "on_failure": choice(*POLICIES),
        "on_failure_keys": whole(),
        "on_server_failure": choice(*POLICIES),
        "operation_timeout": seconds(),
        "password": TEXT,
        "reply_limit": whole(1),
        "retry_after": seconds(0),
        "ssl": FLAG,
        "ssl_ca_certs": TEXT,
        "ssl_certfile": TEXT,
        "ssl_check_hostname": FLAG,
        "ssl_keyfile": TEXT,
        "username": TEXT,
        "weights": list_of(whole(1, MAX_WEIGHT), f"a list of whole numbers from 1 to {MAX_WEIGHT}"),
    }
    location, settings = _split(scheme, rest, options, known)
    servers = read_url_servers(location, settings.pop("weights", None))
    try:
        return MemcachedBackend(servers=servers, **settings)
    except (TypeError, ValueError) as error:  # options that go with others, or a password that cannot be sent
        problem = str(error)
    raise ValueError(f"a memcached:// URL: {problem}")


_FACTORIES: dict[str, Callable[[str, str, Mapping[str, Any]], BaseBackend]] = {
    "memory": _memory,
    "file": _file,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+sentinel": _redis,
    "rediss+sentinel": _redis,
    "redis+cluster": _redis,
    "rediss+cluster": _redis,
    "memcached": _memcached,
}


# -- parts of a URL ----------------------------------------------------------------------------------


def _split(scheme: str, rest: str, options: Mapping[str, Any], known: Mapping[str, Kind]) -> tuple[str, dict[str, Any]]:
    """Return the part before the query, and the settings of the query merged with ``options``."""
    location, _, query = rest.partition("?")
    check_names(scheme, options, known)
    return location, {**read_options(scheme, query, known), **options}


def _without_slash_before_drive(path: str) -> str:
    """Return a path of Windows without the slash before the drive: ``file:///C:/cache`` means ``C:/cache``."""
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path
