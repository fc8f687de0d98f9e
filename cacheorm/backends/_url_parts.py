"""The parts of a URL that names servers: user and password, hosts, path and query.

A URL with an unescaped special character in a password can often be read as another URL. All such URLs are refused,
and messages show no part of them: what looks like a host may be the end of a password.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from ._addresses import Address, decode, read_address

__all__ = ["Parts", "no_spaces", "read_addresses", "read_login", "refuse", "split_url"]

_ENCODE = (
    "special characters of user, password and options have to be percent-encoded (@ as %40, / as %2F, : as %3A,"
    " # as %23, ? as %3F, & as %26, % as %25, a space as %20), as urllib.parse.quote(text, safe='') does"
)


class Parts(NamedTuple):
    """The parts of a URL, each of them still percent-encoded and without its delimiters.

    Attributes:
        login: user and password; ``None`` if there is none.
        hosts: what is between them and the path.
        path: from the first slash on, which it includes; empty if there is none.
        query: the options.
    """

    login: str | None
    hosts: str
    path: str
    query: str


def split_url(scheme: str, rest: str) -> Parts:
    """Split what follows ``://``.

    Raises:
        ValueError: it has characters that belong to no part, or could be split in another way, too.
    """
    no_spaces(scheme, rest)
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    login, at, hosts = authority.rpartition("@")
    # Where the path has to be absolute, as that of a Unix socket, user and password end in "@/".
    if "@" in login or ("@/" if scheme == "unix" else "@") in path or "@" in query:
        refuse(scheme, "there is an '@' that does not end user and password")
    return Parts(login if at else None, hosts, slash + path, query)


def no_spaces(scheme: str, rest: str) -> None:
    """Check that a URL has no ``#``, space, line break or invisible character.

    Raises:
        ValueError: it has one.
    """
    if "#" in rest:
        refuse(scheme, "it has no part after '#'")
    if " " in rest or not rest.isprintable():
        refuse(scheme, "it has a space, a line break or an invisible character")


def read_login(scheme: str, login: str | None) -> dict[str, str]:
    """Read ``user:password``, ``:password`` or ``user``; return ``username`` and ``password`` as far as they are there.

    Raises:
        ValueError: one is not percent-encoded UTF-8.
    """
    username, _, password = (login or "").partition(":")
    read = {"username": decode(username), "password": decode(password)}
    if None in read.values():
        refuse(scheme, "user or password is not percent-encoded UTF-8")
    return {name: text for name, text in read.items() if text}


def read_addresses(scheme: str, text: str, default_port: int) -> list[Address]:
    """Read hosts, each with a port or without, separated by commas.

    Raises:
        ValueError: one is no address.
    """
    read = [read_address(item, default_port, encoded=True) for item in text.split(",")]
    addresses = [address for address in read if address is not None]
    if len(addresses) != len(read):
        refuse(
            scheme,
            f"expected host or host:port, a port from 1 to 65535, and IPv6 addresses in brackets: [::1]:{default_port}",
        )
    return addresses


def refuse(scheme: str, problem: str) -> NoReturn:
    """Raise a ``ValueError`` that says what is wrong with a URL, and how to write what was probably meant."""
    raise ValueError(f"not a {scheme}:// URL: {problem}; {_ENCODE}")
