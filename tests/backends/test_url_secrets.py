"""No URL makes an exception or a backend show a secret, and none is read as something else than it says."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from amounts import enough
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urls import declare

from cacheorm.backends import RedisBackend, backend_from_url

MARKS = ("QZ7", "61279")
"""Each part of a secret, wherever a special character cuts it, holds one of them; the second looks like a port."""

HOSTS = {
    "redis": "db.example",
    "rediss": "db.example:6380",
    "unix": "/run/redis.sock",
    "redis+sentinel": "s1.example,s2.example:1/rows",
    "rediss+sentinel": "s1.example/rows",
    "redis+cluster": "n1.example,n2.example:7000",
    "rediss+cluster": "n1.example",
    "memcached": "m1.example,m2.example:11300",
}

secrets = st.lists(st.sampled_from([*MARKS, *"@/#?%&=+,;[]\\ \n\tü", "%zz", "%ff"]), max_size=5).map("".join)
option_names = st.sampled_from(
    [
        *("password", "username", "client_name", "sentinel_password", "ssl_password", "pasword", "QZ7", "weights"),
        *("socket_timeout", "db", "ssl", "protocol", "max_connections", "default_ttl", "ssl_cert_reqs"),
    ]
)


def strings_of(found: object) -> Iterator[str]:
    """Find every string that is reachable from an exception."""
    seen: set[int] = set()
    queue = [found]
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (str, bytes)):
            yield item if isinstance(item, str) else item.decode("latin-1")
        elif isinstance(item, BaseException):
            yield from (str(item), repr(item), *traceback.format_exception(item))
            # Those of Python have some of their values outside of the two.
            kept = [
                getattr(item, name, None) for name in ("object", "reason", "name", "obj", "filename", "text", "doc")
            ]
            queue += [item.args, vars(item), item.__cause__, item.__context__, *kept]
        elif isinstance(item, dict):
            queue += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            queue += item


def read(url: str) -> Any:
    """Return the backend of a URL, or ``None`` if it is refused, without a secret in either."""
    try:
        backend = backend_from_url(url)
    except ValueError as error:
        shown = [*strings_of(error)]
        with pytest.raises(ValueError, match=r"^Row.Meta.backend: ") as caught:
            declare(url)
        shown += strings_of(caught.value)
    else:
        shown = [repr(backend), str(backend)]
    assert not [text for text in shown for mark in MARKS if mark.lower() in text.lower()]
    return backend if len(shown) == 2 else None


def said_of(backend: Any) -> dict[str, Any]:
    pool = backend.client.connection_pool
    where = {name: pool.connection_kwargs[name] for name in ("host", "path") if name in pool.connection_kwargs}
    if hasattr(pool, "service_name"):
        where = {"service": pool.service_name}
    return {
        **where,
        **{name: pool.connection_kwargs.get(name) or "" for name in ("username", "password", "client_name")},
    }


def meant(scheme: str, **options: str) -> dict[str, Any]:
    place: dict[str, Any] = {"host": "db.example"}
    if scheme == "unix":
        place = {"path": "/run/redis.sock"}
    elif scheme.endswith("sentinel"):
        place = {"service": "rows"}
    return {**place, "username": "", "password": "", "client_name": "", **options}


@settings(max_examples=enough(5000, 500, "URLs"))
@given(st.sampled_from([*HOSTS]), secrets, secrets, st.sampled_from(["", "/", "/3", "/QZ7", "/3/QZ7", "?"]))
@example("redis", "", "QZ7@QZ7/QZ7", "/3")
@example("redis", "QZ7", "61279#QZ7", "/3")
@example("redis", "QZ7", "61279?password=QZ7", "/3")
@example("redis+sentinel", "QZ7", "61279/QZ7", "/3")
@example("unix", "/QZ7", "QZ7", "")
def test_user_and_password(scheme: str, user: str, password: str, end: str) -> None:
    backend = read(f"{scheme}://{user}:{password}@{HOSTS[scheme]}{'' if scheme == 'unix' else end}")
    if backend is not None and not scheme.endswith("cluster"):
        assert said_of(backend) == meant(scheme, username=user, password=password)


@settings(max_examples=enough(5000, 500, "URLs"))
@given(st.sampled_from([*HOSTS]), secrets, option_names, secrets, option_names, secrets)
@example("redis", "", "password", "QZ7&QZ7=QZ7", "", "")
@example("redis", "QZ7", "socket_timeout", "QZ7", "db", "61279")
def test_options(scheme: str, password: str, name: str, value: str, other: str, other_value: str) -> None:
    login = f":{password}@" if password else ""
    read(f"{scheme}://{login}{HOSTS[scheme]}?{name}={value}&{other}={other_value}")
    backend = read(f"{scheme}://{HOSTS[scheme]}?client_name={value}&password={other_value}")
    if backend is not None and not scheme.endswith("cluster"):
        assert said_of(backend) == meant(scheme, client_name=value, password=other_value)


@settings(max_examples=enough(1000, 200, "URLs"))
@given(st.sampled_from([*HOSTS][:5]), st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_what_is_encoded_is_read_as_it_was(scheme: str, user: str, password: str) -> None:
    url = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{HOSTS[scheme]}"
    assert said_of(backend_from_url(url)) == meant(scheme, username=user, password=password)
    assert said_of(RedisBackend.from_url(url)) == meant(scheme, username=user, password=password)


@settings(max_examples=enough(5000, 500, "URLs"))
@given(
    st.sampled_from([*HOSTS, "memory"]),
    st.text(st.one_of(st.sampled_from(":/@?#%[],&=+01"), st.characters())),
)
def test_any_other_text_is_read_or_is_a_value_error(scheme: str, rest: str) -> None:
    context = None
    try:
        backend_from_url(f"{scheme}://{rest}")
    except ValueError as error:
        context = error.__context__
    assert context is None


def test_the_strings_of_an_exception_are_found() -> None:
    error = ValueError("one", ["two"])
    error.add_note("three")
    error.four = {"four": b"five"}  # type: ignore[attr-defined]
    error.__cause__ = KeyError("six")
    with pytest.raises(UnicodeDecodeError) as caught:
        b"seven\xff".decode()
    error.__context__ = caught.value
    assert {"one", "two", "three", "four", "five", "six", "seven\xff"} <= {*strings_of(error)}
