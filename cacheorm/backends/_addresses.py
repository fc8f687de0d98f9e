"""Hosts and ports as text: the one place that reads ``host:port``, for lists of servers and for URLs."""

from __future__ import annotations

import re

__all__ = ["Address", "decode", "is_host", "is_port", "read_address"]

Address = tuple[str, int]
"""``(host, port)``; an IPv6 address without brackets."""

_ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?")
_ZONE = re.compile(r"[\w.~-]+")
_LONGEST_NAME = 253


def read_address(text: str, default_port: int, *, encoded: bool = False) -> Address | None:
    """Read ``host``, ``host:port``, ``[::1]`` or ``[::1]:port``.

    Args:
        text: the address.
        default_port: the port of an address that names none.
        encoded: whether the host is percent-encoded, as it is in URLs.

    Returns:
        The host and the port, or ``None`` if the text is no such address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    bracketed, name, port = match.groups()
    if bracketed:
        # RFC 6874 writes %25 before the zone; many people and tools write only %.
        bracketed = bracketed.replace("%25", "%", 1) if encoded else bracketed
        host = bracketed if _is_ipv6(bracketed) else None
    else:
        host = decode(name) if encoded else name
        host = host if host is not None and _is_name(host) else None
    number = int(port or default_port)
    return (host, number) if host is not None and is_port(number) else None


def is_host(host: object) -> bool:
    """Return whether something is a name or an address of a host, an IPv6 address without brackets."""
    return isinstance(host, str) and (_is_name(host) or _is_ipv6(host))


def is_port(port: int) -> bool:
    """Return whether a number is a port to connect to."""
    return 0 < port < 1 << 16


def decode(text: str) -> str | None:
    """Return percent-encoded UTF-8 decoded, once. ``+`` stays ``+``.

    Returns:
        ``None`` if a ``%`` has no two hexadecimal digits after it, or the bytes are no UTF-8. It is no exception, as
        the built-in one holds the text, which may be a password.
    """
    from urllib.parse import unquote

    if re.search("%(?![0-9A-Fa-f]{2})", text):
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


def _is_name(host: str) -> bool:
    # The resolver takes a bare number for an IPv4 address, but who writes one means a port.
    return len(host) <= _LONGEST_NAME and _NAME.fullmatch(host) is not None and not host.isdecimal()


def _is_ipv6(host: str) -> bool:
    from ipaddress import IPv6Address

    address, mark, zone = host.partition("%")
    if mark and not _ZONE.fullmatch(zone):
        return False
    try:
        IPv6Address(address)
    except ValueError:
        return False
    return True
