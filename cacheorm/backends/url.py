"""Backends from URLs, so that the backend can be a line of configuration.

=============================================  ==============================================================
``memory://``                                  :class:`~cacheorm.backends.simple.SimpleBackend`
``file:///var/cache/app``                      :class:`~cacheorm.backends.filesystem.FileSystemBackend`
``redis://``, ``rediss://`` (TLS), ``unix://``  :class:`~cacheorm.backends.redis.RedisBackend`
``redis+sentinel://h1:26379,h2:26379/service``  the same, on the primary that sentinels name
``redis+cluster://h1:7000,h2:7000``            likewise, on a Redis Cluster
``rediss+sentinel://``, ``rediss+cluster://``  the same two with TLS
``memcached://h1:11211,h2:11211``              :class:`~cacheorm.backends.memcached.MemcachedBackend`
=============================================  ==============================================================

Options of the backend follow as a query: ``memory://?threshold=1000&default_ttl=60``. Messages never show the
URL, only its scheme and the names of its options: it may hold a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from .base import BaseBackend

__all__ = ["backend_from_url"]

_MEMCACHED_PORT = 11211


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
        problem = f"unknown scheme {scheme!r} of a backend URL{_suggestion(scheme.lower(), _FACTORIES)}"
    else:
        problem = "not a backend URL: it has no scheme"
    raise ValueError(f"{problem}; known are {', '.join(f'{known}://' for known in sorted(_FACTORIES))}")


# -- one factory per family of schemes ---------------------------------------------------------------


def _memory(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from .simple import SimpleBackend

    location, settings = _split(scheme, rest, options, {"default_ttl": int, "threshold": int, "max_bytes": int})
    if location not in ("", "/"):
        raise ValueError("memory:// takes no host and no path")
    return SimpleBackend(**settings)


def _file(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from urllib.parse import unquote

    from .filesystem import FileSystemBackend

    location, settings = _split(
        scheme, rest, options, {"default_ttl": int, "busy_timeout": float, "operation_timeout": float}
    )
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

    # All options but default_ttl are passed on to redis-py.
    location, mark, query = rest.partition("?")
    parts = query.split("&")
    own = [part for part in parts if part.startswith("default_ttl=")]
    kept = [part for part in parts if part not in own]
    settings = {**_parse(scheme, "&".join(own), {"default_ttl": int}), **options}
    return RedisBackend.from_url(f"{scheme}://{location}{mark if any(kept) else ''}{'&'.join(kept)}", **settings)


def _memcached(scheme: str, rest: str, options: Mapping[str, Any]) -> BaseBackend:
    from .memcached import MemcachedBackend

    known: dict[str, Callable[[str], Any]] = {
        "default_ttl": int,
        "timeout": float,
        "connect_timeout": float,
        "max_connections": int,
        "distribution": str,
        "on_server_failure": str,
        "retry_after": float,
        "weights": _weights,
    }
    location, settings = _split(scheme, rest, options, known)
    servers = [_host_and_port(host) for host in location.removesuffix("/").split(",")]
    weights = settings.pop("weights", [1] * len(servers))
    if len(weights) != len(servers):
        raise ValueError(f"memcached:// takes as many weights as servers: {len(servers)}, got {len(weights)}")
    return MemcachedBackend(
        servers=[(host, port, weight) for (host, port), weight in zip(servers, weights, strict=True)], **settings
    )


def _weights(text: str) -> list[int]:
    return [int(weight) for weight in text.split(",")]


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


def _split(
    scheme: str, rest: str, options: Mapping[str, Any], known: Mapping[str, Callable[[str], Any]]
) -> tuple[str, dict[str, Any]]:
    """Return the part before the query, and the settings of the query merged with ``options``."""
    if "#" in rest:
        raise ValueError(f"a {scheme}:// URL has no part after '#'; write %23 where the character is meant")
    location, _, query = rest.partition("?")
    settings = _parse(scheme, query, known)
    for name in options:
        _check_name(scheme, name, known)
    return location, {**settings, **options}


def _parse(scheme: str, query: str, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    from urllib.parse import parse_qsl

    settings: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        _check_name(scheme, name, known)
        if name in settings:
            raise ValueError(f"option {name} of the {scheme}:// URL is given twice")
        try:
            settings[name] = known[name](text)
        except ValueError:
            kind = {int: "a whole number", _weights: "a list of whole numbers"}.get(known[name], "a number")
            raise ValueError(f"option {name} of the {scheme}:// URL must be {kind}") from None
    return settings


def _check_name(scheme: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise ValueError(
            f"unknown option {name!r} of a {scheme}:// URL{_suggestion(name, known)}; known are {', '.join(known)}"
        )


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _host_and_port(text: str) -> tuple[str, int]:
    """Read ``host``, ``host:port``, ``[::1]`` or ``[::1]:port``."""
    if "@" in text:
        raise ValueError("memcached:// takes no user and password")
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise ValueError("memcached:// takes host:port, an IPv6 address in brackets: memcached://[::1]:11211")
    port = int(match[3] or _MEMCACHED_PORT)
    if not 0 < port < 1 << 16:
        raise ValueError("memcached:// takes a port from 1 to 65535")
    return match[1] or match[2], port


def _without_slash_before_drive(path: str) -> str:
    """Return a path of Windows without the slash before the drive: ``file:///C:/cache`` means ``C:/cache``."""
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path
