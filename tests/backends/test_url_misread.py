"""URLs that would be read as something else than their author meant are refused; all others mean what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from urls import PLACES, options_of, refusal

from cacheorm.backends import MemcachedBackend, RedisBackend, backend_from_url

WITH_CLIENT = [scheme for scheme in PLACES if not scheme.endswith("cluster")]

# -- the examples of the docs ------------------------------------------------------------------------------

DOCS = (Path(__file__).parents[2] / "docs" / "backends.md").read_text(encoding="utf-8").partition("## URLs")[2]
ACCEPTED, _, REFUSED = DOCS.partition("## Compare and set")[0].partition("| refused | because |")


@pytest.mark.parametrize("url", re.findall(r"^(?!file:)\w+(?:\+\w+)?://\S+", ACCEPTED, re.MULTILINE))
def test_examples_of_urls_are_read(url: str) -> None:
    backend_from_url(url)


@pytest.mark.parametrize("url", re.findall(r"`([^` ]+)`", "".join(re.findall(r"^\| `.*?\|", REFUSED, re.MULTILINE))))
def test_examples_of_misread_urls_are_refused(url: str) -> None:
    refusal(url)


# -- user and password -----------------------------------------------------------------------------------

PASSWORDS = [
    "p4ss@w0rd",
    "p4ss@w0rd/w1rd",
    "p4ss/w0rd",
    "12345/w0rd",
    "12345/0",
    "p4ss#w0rd",
    "12345#w0rd",
    "p4ss?w0rd",
    "12345?w0rd",
    "12345?db=1",
    "12345?password=w0rd",
    "p4ss w0rd",
    "p4ss\nw0rd",
    "p4ss\tw0rd",
    "p4ss\u200bw0rd",
    "p4ss%zzw0rd",
    "p4ss%w0rd",
    "p4ssw0rd%",
    "p4ss%ffw0rd",
]


@pytest.mark.parametrize("user", ["", "cl3rk"])
@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", PLACES)
def test_a_password_that_is_not_encoded_is_refused_with_how_to_encode_it(scheme: str, password: str, user: str) -> None:
    message = refusal(f"{scheme}://{user}:{password}@{PLACES[scheme]}")
    assert "percent-encoded (@ as %40, / as %2F, " in message
    assert "urllib.parse.quote(text, safe='')" in message
    for secret in ("p4ss", "12345", "w0rd", "cl3rk", ".example", "run"):
        assert secret not in message.replace("unix:///run/redis.sock", "")


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_user_that_is_not_encoded_is_refused_too(password: str) -> None:
    message = refusal(f"redis://{password}@db.example/0")
    assert "percent-encoded" in message
    assert "w0rd" not in message


@pytest.mark.parametrize("password", [*PASSWORDS, "a+b", "50%2525", "%41", "a:b", "[x]", "ünï", "&=;,", "\0"])
@pytest.mark.parametrize("scheme", WITH_CLIENT)
def test_what_is_encoded_is_decoded_once(scheme: str, password: str) -> None:
    coded = quote(password, safe="")
    for url in (
        f"{scheme}://cl3rk:{coded}@{PLACES[scheme]}",
        f"{scheme}://{PLACES[scheme]}?username=cl3rk&password={coded}",
        f"{scheme}://cl3rk:{coded}@{PLACES[scheme]}?password={coded}",
    ):
        options = options_of(url)
        assert (options["username"], options["password"]) == ("cl3rk", password)


@pytest.mark.parametrize("password", ["a+b", "a:b", "[x]", "ünï", "a,b", "a&b=c", "~!$'()*;"])
@pytest.mark.parametrize("scheme", WITH_CLIENT)
def test_characters_that_have_one_meaning_need_no_encoding(scheme: str, password: str) -> None:
    assert options_of(f"{scheme}://:{password}@{PLACES[scheme]}")["password"] == password


def test_a_plus_stays_a_plus_in_options() -> None:
    assert options_of("redis://h?password=a+b%2Bc%20d")["password"] == "a+b+c d"


@pytest.mark.parametrize("login", ["", "@", ":@"])
def test_user_and_password_may_be_empty(login: str) -> None:
    options = options_of(f"redis://{login}h")
    assert (options.get("username"), options.get("password")) == (None, None)


def test_a_user_may_have_no_password() -> None:
    options = options_of("redis://cl3rk@h")
    assert (options.get("username"), options.get("password")) == ("cl3rk", None)


@pytest.mark.parametrize("scheme", PLACES)
def test_two_passwords_are_refused(scheme: str) -> None:
    message = refusal(f"{scheme}://cl3rk:p4ss@{PLACES[scheme]}?password=w0rd")
    assert message == f"option password of the {scheme}:// URL contradicts what stands before the '?'"
    assert "option username" in refusal(f"{scheme}://cl3rk:p4ss@{PLACES[scheme]}?username=clerk")


@pytest.mark.parametrize(
    "url", ["memcached://cl3rk:p4ss@h", "memcached://:p4@ss/w0rd@h1,h2", "memcached://cl3rk@h", "memcached:///run/a@b"]
)
def test_memcached_takes_no_user_and_password_before_its_hosts(url: str) -> None:
    assert refusal(url).startswith("memcached:// takes user and password as options")


# -- hosts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":6379",
        "h:",
        "h:0",
        "h:65536",
        "h:-1",
        "h:+1",
        "h:1x",
        "h:\u0661",
        "h:1:2",
        "6379",
        "::1",
        "[::1",
        "[]",
        "[h]",
        "[::1]x",
        "[::1%]",
        "[1.2.3.4]",
        "a b",
        "a\tb",
        "a%20b",
        "a%00b",
        "a%2Fb",
        "a%40b",
        "a%zzb",
        "a..b",
        ".a",
        "*",
        "a\u3002b",
        "a\uff20b",
        "a\xa0b",
        "x" * 254,
    ],
)
@pytest.mark.parametrize("scheme", [*(scheme for scheme in PLACES if scheme != "unix"), "memcached"])
def test_what_is_no_host_is_refused(scheme: str, host: str) -> None:
    path = "/rows" if scheme.endswith("sentinel") else ""
    message = refusal(f"{scheme}://{host}{path}")
    assert re.search("host|space", message)
    if scheme.endswith(("sentinel", "cluster", "memcached")):
        for url in (f"{scheme}://good,{host}{path}", f"{scheme}://{host},good{path}"):
            assert re.search("host|space", refusal(url))


@pytest.mark.parametrize(
    ("host", "read"),
    [
        ("h", "h"),
        ("My_Host-1.example.", "My_Host-1.example."),
        ("bücher.example", "bücher.example"),
        ("b%C3%BCcher.example", "bücher.example"),
        ("127.1", "127.1"),
        ("[::1]", "::1"),
        ("[::ffff:1.2.3.4]", "::ffff:1.2.3.4"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
    ],
)
def test_hosts_are_read_alike_by_all_schemes(host: str, read: str) -> None:
    assert options_of(f"redis://{host}:7")["host"] == read
    service: Any = backend_from_url(f"redis+sentinel://{host}:7/rows")
    (sentinel,) = service.client.connection_pool.sentinel_manager.sentinels
    assert sentinel.connection_pool.connection_kwargs["host"] == read
    shown = f"[{read}]:7" if ":" in read else f"{read}:7"
    assert repr(backend_from_url(f"redis+cluster://{host}:7")) == f"<RedisBackend Redis Cluster at {shown}>"
    assert repr(backend_from_url(f"memcached://{host}:7")) == f"<MemcachedBackend memcached at {shown}>"
    assert repr(MemcachedBackend([f"{shown}:3"])) == f"<MemcachedBackend memcached at {shown}>"


def test_several_hosts_for_one_server_are_refused_with_what_takes_several() -> None:
    assert "redis+sentinel:// and redis+cluster://" in refusal("redis://:p4ss@h1,h2:6379/0")


def test_schemes_may_be_in_upper_case() -> None:
    for scheme in PLACES:
        for make in (backend_from_url, RedisBackend.from_url):
            assert repr(make(f"{scheme.upper()}://{PLACES[scheme]}")) == repr(make(f"{scheme}://{PLACES[scheme]}"))


@pytest.mark.parametrize("scheme", ["memory", "memcached", "file", *PLACES])
def test_white_space_around_a_url_is_refused(scheme: str) -> None:
    place = {"memory": "", "memcached": "h", "file": "/var/x"}.get(scheme) or PLACES.get(scheme, "")
    for end in (" ", "\n", "\r\n", "\t"):
        assert re.search("space|line break", refusal(f"{scheme}://{place}{end}"))
    assert "no scheme" in refusal(f" {scheme}://{place}") if scheme not in PLACES else True


def test_a_space_inside_the_path_of_a_file_is_part_of_it(tmp_path: Path) -> None:
    backend: Any = backend_from_url(f"file://{tmp_path}/my cäche 100%")
    assert backend.path == str(tmp_path / "my cäche 100%")
    assert "line break" in refusal(f"file://{tmp_path}/my\ncache")


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "run/redis.sock",
        "redis.sock",
        ":p4ss@redis.sock",
        "/run/",
        "/run/%ff",
        "/run/%00x",
        "/run/x%",
        "h:1/x",
        ":p4ss/w0rd@/run/redis.sock",
        ":p4ss@/w0rd@/run/redis.sock",
    ],
)
def test_what_is_no_path_of_a_unix_socket_is_refused(rest: str) -> None:
    message = refusal(f"unix://{rest}")
    assert message.startswith("not a unix:// URL: ")
    assert "w0rd" not in message


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("/run/redis.sock", "/run/redis.sock"),
        ("localhost/run/redis.sock", "/run/redis.sock"),
        ("/run/redis@6379.sock", "/run/redis@6379.sock"),
        ("cl3rk:p4ss@/run/my%20redis+.sock", "/run/my redis+.sock"),
    ],
)
def test_the_path_of_a_unix_socket(rest: str, path: str) -> None:
    assert options_of(f"unix://{rest}?db=3")["path"] == path


@pytest.mark.parametrize("url", [None, b"redis://h", 5])
def test_a_url_is_a_str(url: Any) -> None:
    for make in (backend_from_url, RedisBackend.from_url):
        with pytest.raises(TypeError, match=f"must be a str, got {type(url).__name__}"):
            make(url)


# -- databases ---------------------------------------------------------------------------------------------

BAD_DATABASES = [
    "cache",
    "x",
    "-1",
    "+1",
    "1x",
    "1.0",
    "1_0",
    "%201",
    "1%20",
    "\u0661",
    "2147483648",
    "9" * 5000,
    "%zz",
]


@pytest.mark.parametrize("db", [*BAD_DATABASES, "1/2", "/1", "1//", "0/x"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_a_path_that_is_no_number_of_a_database_is_refused(scheme: str, db: str) -> None:
    service = "/rows" if scheme.endswith("sentinel") else ""
    message = refusal(f"{scheme}://:p4ss@h{service}/{db}")
    assert "expected the number of one database at the end of its path, such as /0; special characters" in message


@pytest.mark.parametrize("db", [db for db in BAD_DATABASES if db not in ("1_0", "+1", "%zz")])
@pytest.mark.parametrize("scheme", PLACES)
def test_an_option_that_is_no_number_of_a_database_is_refused(scheme: str, db: str) -> None:
    message = refusal(f"{scheme}://{PLACES[scheme]}?db={db}")
    assert message == f"option db of the {scheme}:// URL must be a whole number from 0 to 2147483647"


@pytest.mark.parametrize(
    ("rest", "db"),
    [("h", None), ("h/", None), ("h/0", 0), ("h/3", 3), ("h/3/", 3), ("h/03", 3), ("h/3?db=3", 3), ("h?db=3", 3)],
)
def test_path_and_option_name_a_database(rest: str, db: int | None) -> None:
    assert options_of(f"redis://{rest}").get("db") == db
    assert options_of(f"redis+sentinel://{rest.replace('h', 'h/rows', 1)}").get("db") == db


@pytest.mark.parametrize("rest", ["h/3?db=4", "h/0?db=4", "h/3?db=0"])
def test_two_databases_are_refused(rest: str) -> None:
    assert "option db of the redis:// URL contradicts" in refusal(f"redis://{rest}")
    service = rest.replace("h/", "h/rows/", 1)
    assert "option db of the redis+sentinel:// URL contradicts" in refusal(f"redis+sentinel://{service}")


def test_a_cluster_has_only_database_0() -> None:
    backend_from_url("redis+cluster://h/0?db=0")
    for rest in ("h/1", "h?db=1"):
        assert "no databases but 0" in refusal(f"redis+cluster://{rest}")
