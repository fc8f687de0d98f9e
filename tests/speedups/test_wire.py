"""The protocols without I/O: what is packed, what is parsed, and that the compiled twin does exactly the same."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from amounts import enough
from builds import compiled_build, pure_build
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from cacheorm._speedups import wire
from cacheorm.errors import InvalidKeyError
from fuzz.streams import arrive

pure = pure_build("wire")
compiled = compiled_build("wire")

needs_compiled = pytest.mark.skipif(compiled is None, reason="the extensions are not built")


# -- what is packed ------------------------------------------------------------------------------------


def test_a_redis_command_is_an_array_of_bulk_strings() -> None:
    assert wire.pack_command(("SET", "é", b"\x00", 12)) == (
        b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$1\r\n\x00\r\n$2\r\n12\r\n"
    )


def test_many_commands_are_packed_one_after_another() -> None:
    commands = [("WATCH", "é"), ["GET", b"\xff"], ("MULTI",), ("EXPIRE", "k", 60), ()]
    one_by_one = [wire.pack_command(command) for command in commands]
    assert wire.pack_commands(commands, 0, 5, 1000) == (b"".join(one_by_one), 5)
    assert wire.pack_commands(commands, 1, 3, 1000) == (b"".join(one_by_one[1:3]), 3)
    assert wire.pack_commands(commands, 4, 9, 1000) == (b"*0\r\n", 5)
    assert wire.pack_commands(commands, 5, 9, 1000) == (b"", 5)


def test_a_redis_command_takes_a_part_of_the_keys() -> None:
    assert wire.pack_keys(b"MGET", ["a", "b", "c", "d"], 1, 3) == b"*3\r\n$4\r\nMGET\r\n$1\r\nb\r\n$1\r\nc\r\n"
    assert wire.pack_keys(b"MGET", ("a", "b"), 1, 1000) == b"*2\r\n$4\r\nMGET\r\n$1\r\nb\r\n"


@pytest.mark.parametrize(
    ("ttl", "condition", "options"),
    [
        (0, b"", []),
        (600, b"", [b"EX", b"600"]),
        (31_536_000, b"NX", [b"EX", b"31536000", b"NX"]),
        (0, b"XX", [b"XX"]),
        (-1, b"XX", [b"KEEPTTL", b"XX"]),
    ],
)
def test_a_set_says_lifetime_and_condition(ttl: int, condition: bytes, options: list[bytes]) -> None:
    expected = wire.pack_command(("SET", "k", b"value", *options))
    assert wire.pack_set(["k"], [b"value"], ttl, condition, None, 0, 1, 100) == (expected, 1)


def test_packing_stops_at_the_limit_but_packs_one_entry_whatever_its_size() -> None:
    keys, values = ["a", "b", "c"], [b"x" * 100, b"y" * 100, b"z"]
    for pack in (
        lambda start, limit: wire.pack_set(keys, values, 0, b"", None, start, 3, limit),
        lambda start, limit: wire.pack_set(
            ["z", *keys[::-1]], [b"", *values[::-1]], 0, b"", [3, 2, 1], start, 3, limit
        ),
        lambda start, limit: wire.pack_commands(
            [("SET", *one) for one in zip(keys, values, strict=True)], start, 3, limit
        ),
        lambda start, limit: wire.pack_meta_set(keys, values, 0, b"S", start, 3, limit),
    ):
        assert pack(0, 1)[1] == 1
        assert pack(0, 150)[1] == 2
        assert pack(1, 10_000)[1] == 3
        assert pack(0, 1)[0] + pack(1, 1)[0] + pack(2, 1)[0] == pack(0, 10_000)[0]


def test_meta_commands_are_lines() -> None:
    assert wire.pack_meta(b"md", ["a", "é"], b"", 0, 2) == b"md a\r\nmd \xc3\xa9\r\n"
    assert wire.pack_meta(b"mg", ["a", "b"], b"t c", 1, 2) == b"mg b t c\r\n"
    assert wire.pack_meta_get(["a", "b", "c"], 1, 3) == b"mg b k v q\r\nmg c k v q\r\nmn\r\n"
    assert wire.pack_meta_set(["a", "b"], [b"", b"12"], 60, b"R", 0, 2, 1000) == (
        b"ms a 0 T60 MR\r\n\r\nms b 2 T60 MR\r\n12\r\n",
        2,
    )


def test_slots_are_those_of_the_specification() -> None:
    assert wire.key_slots(["123456789", "", "foo", "{foo}bar", "{}foo", "a{foo}{bar}", "{foo"]) == [
        0x31C3,
        0,
        12182,
        12182,
        key_slot(b"{}foo"),
        12182,
        key_slot(b"{foo"),
    ]


def test_keys_are_divided_by_the_node_that_serves_their_slot() -> None:
    owners = array("H", [65535] * wire.SLOTS)
    keys = ["foo", "bar", "{foo}1", "nobody", "bar"]
    foo, bar = wire.key_slots(["foo", "bar"])
    owners[foo], owners[bar] = 1, 0
    assert wire.route(keys, owners, 2, 0, 5) == [[1, 4], [0, 2], [3]]
    assert wire.route(tuple(keys), owners, 2, 1, 4) == [[1], [2], [3]]
    assert wire.route(keys, owners, 1, 0, 99) == [[1, 4], [0, 2, 3]]
    for wrong in (array("H", [0] * 5), array("I", [0] * wire.SLOTS)):
        with pytest.raises(ValueError, match="16384 numbers of type H"):
            wire.route(keys, wrong, 1, 0, 5)


def test_what_goes_to_a_node_is_packed_by_position() -> None:
    keys, values = ["a", "é", "c"], [b"1", b"22", b""]
    gets = [wire.pack_command(("GET", key)) for key in keys]
    assert wire.pack_gets(keys, [2, 0, 2], 0, 9) == gets[2] + gets[0] + gets[2]
    assert wire.pack_gets(keys, [2, 0, 2], 1, 2) == gets[0]
    assert wire.pack_gets(tuple(keys), None, 1, 9) == gets[1] + gets[2]
    sets = [wire.pack_command(("SET", keys[i], values[i], "EX", 60, "NX")) for i in range(3)]
    assert wire.pack_set(keys, values, 60, b"NX", [1, 2, 0], 0, 9, 1000) == (sets[1] + sets[2] + sets[0], 3)
    assert wire.pack_set(keys, values, 60, b"NX", [1, 2, 0], 1, 2, 1000) == (sets[2], 2)
    assert wire.pack_set(keys, values, 60, b"NX", [1, 2, 0], 1, 3, 0) == (sets[2], 2)
    for outside in (3, -1, 1 << 70):
        with pytest.raises(IndexError, match=f"position {outside} is outside"):
            wire.pack_gets(keys, [0, outside], 0, 2)
        with pytest.raises(IndexError, match=f"position {outside} is outside"):
            wire.pack_set(keys, values, 0, b"", [outside], 0, 1, 1000)


# -- what is refused before anything is packed -----------------------------------------------------------


@pytest.mark.parametrize("key", ["", "x" * 251, "é" * 126, "a b", "a\r\nflush_all", "\n", "\0", "\t", "\x1f", "\x7f"])
def test_keys_that_memcached_would_misread_are_refused(key: str) -> None:
    with pytest.raises(InvalidKeyError):
        wire.check_memcached_keys(["good", key])


@pytest.mark.parametrize("key", [b"bytes", 5, None, "\ud800"])
def test_keys_that_are_no_text_are_refused(key: Any) -> None:
    for check in (wire.check_keys, wire.check_memcached_keys):
        with pytest.raises(InvalidKeyError):
            check(["good", key])


def test_keys_up_to_the_limit_are_taken() -> None:
    wire.check_memcached_keys(["x" * 250, "é" * 125, "!~", "\x80"])
    wire.check_keys(["", "a b\r\n\0", "x" * 100_000])


def test_values_that_are_bytes_stay_the_same_list() -> None:
    values: list[Any] = [b"a", b""]
    assert wire.encode_values(["k", "l"], values) is values
    assert wire.encode_values(["k", "l", "m", "n"], [b"a", "é", -5, 1.5]) == [b"a", b"\xc3\xa9", b"-5", b"1.5"]


@pytest.mark.parametrize("value", [None, True, [], {}])
def test_values_of_other_types_are_errors_that_name_the_key(value: Any) -> None:
    with pytest.raises(TypeError, match="second"):
        wire.encode_values(["first", "second"], [b"", value])


def test_a_text_that_is_no_unicode_is_an_error_that_keeps_it_secret() -> None:
    with pytest.raises(ValueError, match=r"^k: the text cannot be encoded as UTF-8$"):
        wire.encode_values(["k"], ["secret\ud800"])


# -- what is parsed --------------------------------------------------------------------------------------


def values_of(reader: Any, keys: list[str], *pieces: bytes) -> list[bytes | None]:
    values: list[bytes | None] = [None] * len(keys)
    position = 0
    for piece in pieces:
        arrive(reader, piece)
        position = reader.read_values(keys, values, position, len(keys))
    assert position == -1
    return values


REPLY = b"VA 1 ka\r\n1\r\nVA 4 kc\r\n\r\nMN\r\nVA 0 kd\r\n\r\nMN\r\n"


def test_hits_find_their_places_and_misses_stay_none() -> None:
    reader = wire.MetaReader()
    assert values_of(reader, ["a", "b", "c", "d", "e"], REPLY) == [b"1", None, b"\r\nMN", b"", None]
    assert reader.pending == 0


def test_a_key_asked_twice_is_answered_twice() -> None:
    assert values_of(wire.MetaReader(), ["a", "a"], b"VA 1 ka\r\n1\r\nVA 1 ka\r\n1\r\nMN\r\n") == [b"1", b"1"]


def test_replies_may_arrive_in_any_pieces() -> None:
    keys = ["a", "b", "c", "d"]
    whole = values_of(wire.MetaReader(), keys, REPLY)
    for cut in range(len(REPLY)):
        reader = wire.MetaReader()
        assert values_of_pieces(reader, keys, REPLY[:cut], REPLY[cut:]) == whole
    assert values_of_pieces(wire.MetaReader(), keys, *(REPLY[i : i + 1] for i in range(len(REPLY)))) == whole


def values_of_pieces(reader: Any, keys: list[str], *pieces: bytes) -> list[bytes | None]:
    values: list[bytes | None] = [None] * len(keys)
    position = 0
    for piece in pieces:
        assert position >= 0
        arrive(reader, piece)
        position = reader.read_values(keys, values, position, len(keys))
    assert position == -1
    return values


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"VA 1 kz\r\n1\r\n", "not asked for"),
        (b"VA 1 kb\r\n1\r\nVA 1 ka\r\n1\r\n", "not asked for"),
        (b"VA 1\r\n1\r\n", "without its key"),
        (b"VA 1 t5\r\n1\r\n", "without its key"),
        (b"VA 1 ka\r\n123\r\n", "not as long"),
        (b"VA -1 ka\r\n1\r\n", "size of a value"),
        (b"VA x ka\r\n1\r\n", "size of a value"),
        (b"VA  1 ka\r\n1\r\n", "size of a value"),
        (b"VA 99999999999 ka\r\n", "size of a value"),
        (b"VA 2000000000 ka\r\n", "option reply_limit of the backend takes 536870912"),
        (b"HD\r\n", "a value or MN"),
        (b"SERVER_ERROR out of memory writing get response\r\n", "out of memory writing get response"),
        (b"\r\n", "a value or MN"),
        (b"x" * 5000, "longer than"),
    ],
)
def test_replies_that_are_not_to_this_request_are_errors(reply: bytes, words: str) -> None:
    reader = wire.MetaReader()
    arrive(reader, reply)
    with pytest.raises(ValueError, match=words):
        reader.read_values(["a", "b"], [None, None], 0, 2)


def test_an_unexpected_line_is_not_shown_whole() -> None:
    reader = wire.MetaReader()
    arrive(reader, b"a password in the wrong place\r\n")
    with pytest.raises(ValueError, match=r"got b'a password in th'$"):
        reader.read_values(["a"], [None], 0, 1)


@pytest.mark.parametrize(("position", "stop"), [(-1, 1), (0, 3), (2, 1)])
def test_places_outside_of_the_batch_are_errors(position: int, stop: int) -> None:
    with pytest.raises(IndexError):
        wire.MetaReader().read_values(["a", "b"], [None, None], position, stop)
    with pytest.raises(IndexError):
        wire.MetaReader().read_values(["a", "b"], [None], 0, 2)


def test_statuses_keep_their_order_and_the_words_of_a_refusal() -> None:
    reader = wire.MetaReader()
    statuses: list[Any] = [None] * 8
    arrive(reader, b"HD\r\nNS\r\nSERVER_ERROR object too large for cache\r\nHD kx\r\nEX\r\nNF\r\nEN\r\nERR")
    assert reader.read_statuses(statuses, None, 0, 8) == 7
    arrive(reader, b"OR\r\nHD\r\n")
    assert reader.read_statuses(statuses, None, 7, 8) == 8
    refusal = "SERVER_ERROR object too large for cache"
    assert statuses == [True, False, refusal, True, False, False, False, "ERROR"]
    assert reader.pending == len(b"HD\r\n")


def test_statuses_go_where_their_entries_stand() -> None:
    reader = wire.MetaReader()
    statuses: list[Any] = ["untouched"] * 4
    arrive(reader, b"HD\r\nNS\r\nHD\r\n")
    assert reader.read_statuses(statuses, [3, 0, 2], 0, 2) == 2
    assert statuses == [False, "untouched", "untouched", True]


@pytest.mark.parametrize("line", [b"MN", b"HDX", b"VA 1", b"H", b"", b"ERRORS", b"SERVER_ERROR"])
def test_lines_that_are_no_status_are_errors(line: bytes) -> None:
    reader = wire.MetaReader()
    arrive(reader, line + b"\r\n")
    with pytest.raises(ValueError, match="expected a status"):
        reader.read_statuses([None], None, 0, 1)


# -- what is parsed: Redis -------------------------------------------------------------------------------


MGET = b"*5\r\n$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n_\r\n$4\r\n*1\r\n\r\n"
MGOT = [b"a\r\n", None, b"", None, b"*1\r\n"]


def test_the_values_of_an_mget_arrive_in_any_pieces() -> None:
    for cut in range(len(MGET)):
        reader = wire.RespReader()
        values: list[bytes | None] = []
        arrive(reader, MGET[:cut])
        assert reader.read_values(values, 5) is False
        arrive(reader, MGET[cut:] + MGET)
        assert reader.read_values(values, 5) is True
        assert values == MGOT
        assert reader.pending == len(MGET)
        assert reader.read_values(values, 5) is True
        assert values == MGOT * 2
        assert reader.read_values(values, 5) is False


def replies_to(reader: Any, count: int, *pieces: bytes, kinds: bytes = b"") -> list[Any]:
    """Take ``count`` replies that arrive in pieces."""
    values: list[Any] = [...] * count
    place = 0
    for piece in pieces:
        arrive(reader, piece)
        place = reader.read_replies(values, None, place, count, kinds)
    assert place == count
    return values


REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b"+\r\n", b""),
    (b"+QUEUED\r\n", b"QUEUED"),
    (b"-ERR no \xff\r\n", "ERR no \ufffd"),
    (b"!7\r\nERR\r\nx\xff\r\n", "ERR\r\nx\ufffd"),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"=7\r\ntxt:a\r\n\r\n", b"a\r\n"),
    (b":-12\r\n", -12),
    (b":+7\r\n", 7),
    (b":9223372036854775807\r\n", (1 << 63) - 1),
    (b":-9223372036854775808\r\n", -(1 << 63)),
    (b"(-123456789012345678901234567890\r\n", -123456789012345678901234567890),
    (b",1.5\r\n", 1.5),
    (b",-2e-3\r\n", -0.002),
    (b",10\r\n", 10.0),
    (b",-inf\r\n", float("-inf")),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n*2\r\n+a\r\n-ERR b\r\n%0\r\n", [1, [b"a", "ERR b"], {}]),
    (b"~2\r\n$1\r\na\r\n_\r\n", [b"a", None]),
    (b"%2\r\n+a\r\n*1\r\n:1\r\n:2\r\n%1\r\n_\r\n#t\r\n", {b"a": [1], 2: {None: True}}),
    (b"%2\r\n+a\r\n:1\r\n$1\r\na\r\n:2\r\n", {b"a": 2}),
    (b"|1\r\n+ttl\r\n*1\r\n:1\r\n:5\r\n", 5),
    (b"|0\r\n|1\r\n:1\r\n:1\r\n+OK\r\n", b"OK"),
    (b"*2\r\n|1\r\n+ttl\r\n:3\r\n:5\r\n|0\r\n*1\r\n:6\r\n", [5, [6]]),
    (b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n>0\r\n+OK\r\n", b"OK"),
    (b"*1\r\n" * 8 + b":1\r\n", [[[[[[[[1]]]]]]]]),
]


@pytest.mark.parametrize(("stream", "reply"), REPLIES)
def test_every_reply_becomes_an_object(stream: bytes, reply: Any) -> None:
    reader = wire.RespReader()
    (found,) = replies_to(reader, 1, stream + b"+more\r\n")
    assert (found, type(found)) == (reply, type(reply))
    assert reader.pending == len(b"+more\r\n")
    assert replies_to(reader, 1, b"") == [b"more"]


def test_replies_arrive_in_any_pieces() -> None:
    stream = b"".join(one for one, _ in REPLIES)
    expected = [reply for _, reply in REPLIES]
    for cut in range(len(stream) + 1):
        assert replies_to(wire.RespReader(), len(REPLIES), stream[:cut], stream[cut:]) == expected
    pieces = [stream[i : i + 1] for i in range(len(stream))]
    assert replies_to(wire.RespReader(), len(REPLIES), *pieces) == expected


def test_replies_go_where_their_commands_stand() -> None:
    reader = wire.RespReader()
    values: list[Any] = ["untouched"] * 5
    arrive(reader, b"$1\r\na\r\n-MOVED 1 h:1\r\n>1\r\n+x\r\n_\r\n:4\r\n$1")
    assert reader.read_replies(values, [4, 0, 2], 0, 2) == 2
    assert values == ["MOVED 1 h:1", "untouched", "untouched", "untouched", b"a"]
    assert reader.read_replies(values, [4, 0, 2, 1, 3], 2, 5) == 4
    assert values == ["MOVED 1 h:1", 4, None, "untouched", b"a"]
    assert reader.pending == len(b"$1")
    assert reader.read_replies(values, None, 5, 5) == 5


@pytest.mark.parametrize(
    ("positions", "place", "stop"),
    [([1], 0, 1), ([-1], 0, 1), ([0], -1, 1), ([0], 1, 0), ([0], 0, 2), (None, 0, 2), (None, -1, 0)],
)
def test_replies_never_go_outside_of_the_batch(positions: list[int] | None, place: int, stop: int) -> None:
    reader, meta = wire.RespReader(), wire.MetaReader()
    arrive(reader, b"$1\r\na\r\n")
    arrive(meta, b"HD\r\n")
    with pytest.raises(IndexError):
        reader.read_replies([None], positions, place, stop)
    with pytest.raises(IndexError):
        meta.read_statuses([None], positions, place, stop)
    assert (reader.pending, meta.pending) == (7, 4)


def test_replies_of_other_kinds_than_those_asked_for_are_errors() -> None:
    stream = b"|1\r\n:1\r\n:1\r\n>1\r\n:1\r\n-ERR no\r\n$-1\r\n!3\r\nERR\r\n_\r\n"
    assert replies_to(wire.RespReader(), 4, stream, kinds=b"$_") == ["ERR no", None, "ERR", None]
    for kinds, other in ((b"$_", b"+"), (b"+$_", b":"), (b"*", b"$"), (b"*", b"\x00"), (b"$_", b"*-1\r\n")):
        reader = wire.RespReader()
        arrive(reader, other)
        with pytest.raises(ValueError, match="expected a reply that begins with one of") as caught:
            reader.read_replies([None], None, 0, 1, kinds)
        assert str(caught.value).endswith(f"{kinds!a}, got {other[:1]!a}")
    assert replies_to(wire.RespReader(), 1, b"*1\r\n:1\r\n", kinds=b"*") == [[1]]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"\r\n", "expected a reply, got b''"),
        (b"x\r\n", "expected a reply, got b'x'"),
        (b".\r\n", "expected a reply, got b'.'"),
        (b"$?\r\n", r"expected a size, got b'\$\?'"),
        (b"*?\r\n", r"expected a size, got b'\*\?'"),
        (b"$-2\r\n", "expected a size"),
        (b"$1x\r\n", "expected a size"),
        (b"$\r\n", "expected a size"),
        (b"$1234567890123\r\n", "expected a size"),
        (b"=-1\r\n", "expected a size"),
        (b"!-1\r\n", "expected a size"),
        (b"%-1\r\n", "expected a size"),
        (b"~-1\r\n", "expected a size"),
        (b"$1 and a part of a secret\r\n", r"expected a size, got b'\$1 and a part of'$"),
        (b"$1\r\nabc", "not as long"),
        (b"=3\r\ntxt\r\n", "without its format"),
        (b"=4\r\ntext\r\n", "without its format"),
        (b"_x\r\n", "expected nothing, got b'_x'"),
        (b"#x\r\n", "expected a boolean"),
        (b"#\r\n", "expected a boolean"),
        (b":\r\n", "expected an integer"),
        (b":-\r\n", "expected an integer"),
        (b":1_0\r\n", "expected an integer"),
        (b":12345678901234567890\r\n", "expected an integer"),
        (b":9223372036854775808\r\n", "expected an integer"),
        (b":-9223372036854775809\r\n", "expected an integer"),
        (b"(\r\n", "expected a big number"),
        (b"(-\r\n", "expected a big number"),
        (b"(1_0\r\n", "expected a big number"),
        (b",\r\n", "expected a double"),
        (b",1_0\r\n", "expected a double"),
        (b",.5\r\n", "expected a double"),
        (b",infinity\r\n", "expected a double"),
        (b"*1\r\n" * 9, "more than 8 levels"),
        (b"*1\r\n" * 7 + b"|0\r\n" * 3 + b"*1\r\n*0\r\n", "more than 8 levels"),
        (b"*1\r\n>0\r\n", "a push came inside"),
        (b"%1\r\n*0\r\n:1\r\n", "a key of a map"),
        (b"%1\r\n%0\r\n:1\r\n", "a key of a map"),
        (b"$" + b"1" * 5000, "longer than 4096"),
    ],
)
def test_replies_that_the_protocol_does_not_know_are_errors(reply: bytes, words: str) -> None:
    reader = wire.RespReader()
    arrive(reader, reply)
    with pytest.raises(ValueError, match=words):
        reader.read_replies([None], None, 0, 1)


def test_big_numbers_are_read_up_to_the_length_of_a_line() -> None:
    digits = b"9" * 4093
    assert replies_to(wire.RespReader(), 1, b"(" + digits + b"\r\n") == [int(digits)]


def test_what_a_reply_claims_to_hold_takes_no_memory() -> None:
    reader = wire.RespReader()
    capacity = reader.capacity
    tracemalloc.start()
    try:
        arrive(reader, b"*4000000\r\n%1000000\r\n$100000000\r\nab")
        assert reader.read_replies([None], None, 0, 1) == 0
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert reader.capacity == capacity


def test_an_array_needs_no_more_memory_than_its_largest_value() -> None:
    reader = wire.RespReader()
    found: list[Any] = [None]
    arrive(reader, b"*1000\r\n")
    value = b"x" * 10_000
    for _ in range(1000):
        assert reader.read_replies(found, None, 0, 1) == 0
        arrive(reader, b"$10000\r\n" + value + b"\r\n")
    assert reader.read_replies(found, None, 0, 1) == 1
    assert found == [[value] * 1000]
    assert reader.capacity == 1 << 18


def test_a_refused_mget_gives_its_refusal() -> None:
    for refusal, words in ((b"-NOAUTH first\r\n", "NOAUTH first"), (b"!5\r\nERR x\r\n", "ERR x")):
        reader = wire.RespReader()
        values: list[Any] = []
        arrive(reader, b">1\r\n+x\r\n|1\r\n+a\r\n+b\r\n" + refusal + MGET)
        assert reader.read_values(values, 5) is True
        assert values == [words]
        assert reader.read_values(values, 5) is True
        assert values == [words, *MGOT]


def test_an_mget_may_come_after_pushes_and_hold_attributes() -> None:
    stream = b">1\r\n+x\r\n|1\r\n+a\r\n+b\r\n*2\r\n|1\r\n+a\r\n+b\r\n$1\r\n1\r\n|0\r\n_\r\n"
    for cut in range(len(stream)):
        reader = wire.RespReader()
        values: list[Any] = []
        arrive(reader, stream[:cut])
        assert reader.read_values(values, 2) is False
        arrive(reader, stream[cut:])
        assert reader.read_values(values, 2) is True
        assert values == [b"1", None]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"*3\r\n", "expected 2 values, got 3"),
        (b"*-1\r\n", "expected 2 values, got -1"),
        (b"*\r\n", "expected a size"),
        (b"*?\r\n", "expected a size"),
        (b"*1234567890123\r\n", "expected a size"),
        (b"$1\r\n", r"begins with one of b'\*', got b'\$'"),
        (b"*2\r\n:1\r\n", r"begins with one of b'\$_', got b':'"),
        (b"*2\r\n*0\r\n", r"begins with one of b'\$_', got b'\*'"),
        (b"*2\r\n\r\n", "begins with one of"),
        (b"*2\r\n-ERR no\r\n", "expected a value, got a refusal"),
        (b"*2\r\n>0\r\n", "a push came inside"),
        (b"*2\r\n_x\r\n", "expected nothing"),
        (b"*2\r\n$-2\r\n", "expected a size"),
        (b"*2\r\n$1\r\nabc", "not as long"),
        (b"*2\r\n$" + b"1" * 5000, "longer than 4096"),
    ],
)
def test_replies_that_no_mget_gets_are_errors(reply: bytes, words: str) -> None:
    reader = wire.RespReader()
    arrive(reader, reply)
    with pytest.raises(ValueError, match=words):
        reader.read_values([], 2)


class Meddler:
    """Moves what a reader holds when it is replaced by a reply."""

    def __init__(self, reader: Any, values: list[Any]) -> None:
        self.reader = reader
        self.values = values

    def __del__(self) -> None:
        self.reader.room()[:] = b"!" * len(self.reader.room())
        self.values.append(None)
        del self.values[-1]


@pytest.mark.parametrize("large", [0, 1 << 17])
def test_code_that_runs_when_a_value_is_replaced_may_use_the_reader(large: int) -> None:
    value = b"v" * large
    keys = ["a", "b", "c", "d"]
    reader, meta = wire.RespReader(), wire.MetaReader()
    for _ in range(3):
        values: list[Any] = []
        values += [Meddler(reader, values) for _ in keys]
        arrive(reader, b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for _ in keys))
        assert reader.read_replies(values, [3, 1, 0, 2], 0, 4) == 4
        assert values == [value] * 4
        assert reader.pending == 0
        values = []
        values += [Meddler(meta, values) for _ in keys]
        arrive(meta, b"".join(b"VA %d k%b\r\n%b\r\n" % (len(value), key.encode(), value) for key in keys) + b"MN\r\n")
        assert meta.read_values(keys, values, 0, 4) == -1
        assert values == [value] * 4
        values = []
        values += [Meddler(meta, values) for _ in keys]
        arrive(meta, b"HD\r\nNS\r\n" * 2)
        assert meta.read_statuses(values, [3, 1, 0, 2], 0, 4) == 4
        assert values == [True, False, False, True]
        assert meta.pending == 0


def test_the_buffer_grows_with_the_largest_value_only() -> None:
    reader = wire.RespReader()
    small, large = b"x" * 100_000, b"y" * 3_000_000
    values: list[bytes | None] = []
    for _ in range(20):
        arrive(reader, b"*1\r\n$100000\r\n" + small + b"\r\n")
        assert reader.read_values(values, 1)
    assert values == [small] * 20
    assert reader.capacity == 1 << 18
    arrive(reader, b"*1\r\n$3000000\r\n" + large + b"\r\n")
    assert reader.read_values(values, 1)
    assert values[-1] == large
    assert reader.capacity <= 1 << 23


def test_no_more_can_arrive_than_there_is_room_for() -> None:
    reader = wire.RespReader()
    room = reader.room()
    for size in (-1, len(room) + 1):
        with pytest.raises(ValueError, match=f"no room for {size} bytes"):
            reader.fill(size)
    reader.fill(len(room))
    assert reader.pending == len(room)
    # The view stays valid, whatever becomes of the reader.
    assert len(reader.room()) >= len(room)
    room[0] = 1


# -- what is parsed: memcached, one by one ---------------------------------------------------------------


def test_any_reply_can_be_read_by_itself() -> None:
    reader = wire.MetaReader()
    arrive(reader, b"VA 2 t5 c9\r\nhi\r\nHD t-1\r\nEN\r\nCLIENT_ERROR bad flag\r\nSTAT time 12\r\nVA 3\r\nab")
    assert reader.read_reply() == (b"VA", [b"t5", b"c9"], b"hi")
    assert reader.read_reply() == (b"HD", [b"t-1"], None)
    assert reader.read_reply() == (b"EN", [], None)
    assert reader.read_reply() == (b"CLIENT_ERROR bad flag", [], None)
    assert reader.read_reply() == (b"STAT", [b"time", b"12"], None)
    assert reader.read_reply() is None
    arrive(reader, b"cd\r\n")
    with pytest.raises(ValueError, match="not as long"):
        reader.read_reply()


# -- compiled and pure do the same -----------------------------------------------------------------------


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 -- whatever it is, the other twin must raise it too
        return type(error), str(error)


texts = st.text(max_size=20) | st.text(st.characters(codec="ascii"), max_size=260) | st.text("ab\ud800\r ", max_size=3)
anything = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary(max_size=9) | texts


@needs_compiled
@given(st.lists(texts | anything, max_size=5))
def test_compiled_checks_of_keys_equal_the_pure_ones(keys: list[Any]) -> None:
    for check in ("check_keys", "check_memcached_keys"):
        for given_keys in (keys, tuple(keys)):
            results = [outcome(partial(getattr(twin, check), given_keys)) for twin in (pure, compiled)]
            assert results[0] == results[1]


@needs_compiled
@given(st.lists(st.tuples(texts, anything), max_size=5))
def test_compiled_encoding_of_values_equals_the_pure_one(entries: list[tuple[str, Any]]) -> None:
    keys, values = [key for key, _ in entries], [value for _, value in entries]
    results = [outcome(partial(twin.encode_values, keys, values)) for twin in (pure, compiled)]
    assert results[0] == results[1]


@needs_compiled
@given(
    st.lists(st.tuples(texts, st.binary(max_size=12) | st.just(b"x" * 1234)), max_size=6),
    st.sampled_from([-1, 0, 1, 600, 31_536_000, 1 << 70]),
    st.sampled_from([b"", b"NX", b"XX"]),
    st.integers(-2, 7),
    st.integers(-2, 7),
    st.sampled_from([0, 1, 60, 500, 1 << 20]),
)
def test_compiled_packing_equals_the_pure_one(
    entries: list[tuple[str, bytes]], ttl: int, condition: bytes, start: int, stop: int, limit: int
) -> None:
    keys, values = [key for key, _ in entries], [value for _, value in entries]
    calls: list[Callable[[Any], Any]] = [
        lambda twin: twin.pack_set(keys, values, ttl, condition, None, start, stop, limit),
        lambda twin: twin.pack_commands([keys, tuple(values), ["SET", *keys, *values, ttl], ()], start, stop, limit),
        lambda twin: twin.pack_keys(b"MGET", tuple(keys), start, stop),
        lambda twin: twin.pack_command(["SET", *keys, *values, ttl]),
        lambda twin: twin.pack_meta(b"md", keys, condition, start, stop),
        lambda twin: twin.pack_meta_get(keys, start, stop),
        lambda twin: twin.pack_meta_set(keys, values, ttl, b"S", start, stop, limit),
        lambda twin: twin.total_size([*values, None]),
    ]
    for call in calls:
        assert outcome(partial(call, pure)) == outcome(partial(call, compiled))


FRAGMENTS = [
    b"VA ", b"VA 1 ka\r\n1\r\n", b"VA 3 t5 kb c2\r\nxyz\r\n", b"VA 0 k\xc3\xa9\r\n\r\n", b"MN\r\n", b"HD\r\n",
    b"NS\r\n", b"NF\r\n", b"EX\r\n", b"EN\r\n", b"HD t5\r\n", b"ERROR\r\n", b"ERROR x\r\n",
    b"SERVER_ERROR out of memory\r\n", b"CLIENT_ERROR bad\xff\r\n", b"\r\n", b"\r", b"\n", b" ", b"k", b"a", b"1",
    b"9999999999", b"1073741824", b"-", b"STAT time 5\r\n", b"x" * 2000,
]  # fmt: skip

streams = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12).map(b"".join)


def parse(twin: Any, stream: bytes, cuts: list[int], method: str) -> Any:
    """Feed a stream in pieces, and note all that can be seen after each."""
    reader = twin.MetaReader()
    keys = ["a", "b", "é", "a", "c"]
    values: list[bytes | None] = [None] * len(keys)
    statuses: list[Any] = [None] * 6
    position = place = 0
    seen: list[Any] = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in pairwise(edges):
        arrive(reader, stream[begin:end])
        if method == "values":
            result = outcome(partial(reader.read_values, keys, values, position, len(keys)))
            position = result if isinstance(result, int) and result >= 0 else 0
        elif method == "statuses":
            result = outcome(partial(reader.read_statuses, statuses, [5, 4, 3, 0, 1], place, 5))
            place = result if isinstance(result, int) else 0
        else:
            result = [outcome(reader.read_reply) for _ in range(8)]
        seen.append((result, reader.pending, list(values), list(statuses)))
    return seen


@needs_compiled
@settings(max_examples=enough(500))
@given(streams, st.lists(st.integers(0, 300), max_size=4), st.sampled_from(["values", "statuses", "replies"]))
@example(b"VA 1 ka\r\n1\r\nMN\r\n", [9], "values")
@example(b"x" * 4095 + b"\r\n", [], "values")
@example(b"x" * 4094 + b"\r\n", [], "replies")
@example(b"x" * 4095 + b"\r", [], "statuses")
@example(b"VA 1073741824 ka\r\n1\r\n", [], "values")
@example(b"VA 1073741825 ka\r\n1\r\n", [], "values")
@example(b"VA 00000000001 ka\r\n1\r\n", [], "values")
@example(b"VA 0000000001 ka\r\n1\r\n", [], "values")
def test_compiled_parsing_equals_the_pure_one(stream: bytes, cuts: list[int], method: str) -> None:
    assert parse(pure, stream, cuts, method) == parse(compiled, stream, cuts, method)


@needs_compiled
@settings(max_examples=enough(300))
@given(st.data())
def test_compiled_parsing_of_damaged_replies_equals_the_pure_one(data: st.DataObject) -> None:
    reply = bytearray(b"VA 12 ka\r\nhello\r\nworld\r\nVA 1 kb\r\n2\r\nVA 2 k\xc3\xa9\r\nab\r\nVA 0 kc\r\n\r\nMN\r\n")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(reply) - 1))
        reply[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    cut = data.draw(st.integers(0, len(reply)))
    assert parse(pure, bytes(reply), [cut], "values") == parse(compiled, bytes(reply), [cut], "values")
    assert parse(pure, bytes(reply), [cut], "replies") == parse(compiled, bytes(reply), [cut], "replies")


RESP_FRAGMENTS = [
    b"*2\r\n", b"*3\r\n", b"*0\r\n", b"*-1\r\n", b"*", b"$", b"$1\r\na\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$5\r\nab\r\n",
    b"_\r\n", b"+OK\r\n", b"+", b"+QUEUED\r\n", b"-ERR no\r\n", b"-\xff\r\n", b"!2\r\n\xffx\r\n", b"=5\r\ntxt:a\r\n",
    b"=3\r\ntxt\r\n", b":1\r\n", b":-5\r\n", b"(12345678901234567890\r\n", b"(", b",1.5\r\n", b",nan\r\n", b",",
    b"#t\r\n", b"#", b"%1\r\n", b"%2\r\n", b"~1\r\n", b"|1\r\n", b"|0\r\n", b">1\r\n", b">0\r\n", b"*1\r\n" * 5, b"?",
    b"\r\n", b"\r", b"\n", b"-", b"1", b"e", b"12345678901", b"$300000\r\n" + b"z" * 300_000 + b"\r\n", b"x" * 2000,
]  # fmt: skip

resp_streams = st.lists(st.sampled_from(RESP_FRAGMENTS) | st.binary(max_size=4), max_size=12).map(b"".join)


def parse_resp(twin: Any, stream: bytes, cuts: list[int], method: str) -> str:
    """Let a stream arrive in pieces, and note all that can be seen after each."""
    reader = twin.RespReader()
    found: list[Any] = [] if method == "values" else [...] * 5
    place = 0
    seen: list[Any] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]):
        arrive(reader, stream[begin:end])
        for _ in range(3):
            if method == "values":
                result = outcome(partial(reader.read_values, found, 3))
            else:
                positions = None if method == "replies" else [4, 0, 2, 1]
                kinds = {"gets": b"$_", "sets": b"+$_"}.get(method, b"")
                result = outcome(partial(reader.read_replies, found, positions, place, 4, kinds))
                place = result % 4 if isinstance(result, int) else 0
            seen.append((result, reader.pending, reader.capacity, list(found)))
    # As text, so that objects of equal value and other type differ, and nan equals itself.
    return repr(seen)


methods = st.sampled_from(["values", "replies", "gets", "sets"])


@needs_compiled
@settings(max_examples=enough(1000))
@given(resp_streams, st.lists(st.integers(0, 400), max_size=4), methods)
@example(b"*3\r\n" + b"$1\r\na\r\n" * 3, [5, 11], "values")
@example(b"*3\r\n$1\r\na\r\n:1\r\n", [5], "values")
@example(b"-ERR no\r\n*3\r\n$-1\r\n|1\r\n+a\r\n+b\r\n_\r\n-ERR\r\n", [], "values")
@example(b"+" + b"x" * 4093 + b"\r\n", [], "sets")
@example(b"+" + b"x" * 4094 + b"\r\n", [], "sets")
@example(b"+" + b"x" * 4094 + b"\r", [4000], "sets")
@example(b"*3\r\n$999999999999\r\na", [], "values")
@example(b"*999999999999\r\n%999999999999\r\n", [], "replies")
@example(b"$1\r\na\r\n$-1\r\n_\r\n-ERR no\r\n", [9], "gets")
@example(b"|1\r\n+a\r\n+b\r\n:1\r\n", [9], "gets")
@example(b":1\r\n$1\r\na\r\n+OK\r\n", [2, 6], "replies")
@example(b":-9223372036854775808\r\n:+7\r\n:-0\r\n:12x\r\n", [], "replies")
@example(b":9223372036854775808\r\n:-9223372036854775809\r\n:00000000000000000001\r\n", [], "replies")
@example(b":99999999999999999999\r\n:\r\n:+\r\n", [], "replies")
@example(b"(1\xb2\r\n,1\xb2\r\n:1\xb2\r\n", [], "replies")
@example(b"(" + b"9" * 4093 + b"\r\n(+\r\n(x\r\n", [], "replies")
@example(b",-nan\r\n,+inf\r\n,1e999\r\n,1.e5\r\n,1e\r\n,1\n\r\n", [], "replies")
@example(b"=4\r\ntxt:\r\n=4\r\ntxt.\r\n=-1\r\n!-1\r\n", [], "replies")
@example(b"_\r\n#t\r\n$-1\r\n-ERR no\r\n", [1], "replies")
@example(b"%2\r\n:1\r\n+a\r\n#t\r\n+b\r\n%1\r\n%0\r\n:1\r\n", [7], "replies")
@example(b"*1\r\n" * 8 + b"|0\r\n", [], "replies")
@example(b"*1\r\n>1\r\n+a\r\n:1\r\n", [], "replies")
@example(b">1\r\n+a\r\n|0\r\n>0\r\n:1\r\n", [3], "replies")
def test_compiled_parsing_of_redis_equals_the_pure_one(stream: bytes, cuts: list[int], method: str) -> None:
    assert parse_resp(pure, stream, cuts, method) == parse_resp(compiled, stream, cuts, method)


@needs_compiled
@settings(max_examples=enough(300))
@given(st.data())
def test_compiled_parsing_of_damaged_values_equals_the_pure_one(data: st.DataObject) -> None:
    reply = bytearray(
        b"*3\r\n$12\r\nhello\r\nworld\r\n$-1\r\n$2\r\nab\r\n%2\r\n+a\r\n~1\r\n:-12\r\n$1\r\nb\r\n,1.25e5\r\n"
        b"|1\r\n#t\r\n_\r\n=5\r\ntxt:x\r\n>1\r\n!3\r\nERR\r\n(1234567890\r\n"
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(reply) - 1))
        reply[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2) | st.sampled_from([b"*", b"$", b"%", b"|", b">", b"-1", b"0"])
        )
    cut = data.draw(st.integers(0, len(reply)))
    method = data.draw(methods)
    assert parse_resp(pure, bytes(reply), [cut], method) == parse_resp(compiled, bytes(reply), [cut], method)


lines = st.binary(max_size=20).map(lambda line: line.replace(b"\r\n", b""))
leaves = st.one_of(
    lines.map(lambda line: (b"+%b\r\n" % line, line)),
    lines.map(lambda line: (b"-%b\r\n" % line, line.decode("utf-8", "replace"))),
    st.binary(max_size=40).map(lambda data: (b"$%d\r\n%b\r\n" % (len(data), data), data)),
    st.binary(max_size=40).map(lambda data: (b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data), data)),
    st.binary(max_size=40).map(lambda data: (b"!%d\r\n%b\r\n" % (len(data), data), data.decode("utf-8", "replace"))),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: (b":%d\r\n" % number, number)),
    st.integers(-(1 << 300), 1 << 300).map(lambda number: (b"(%d\r\n" % number, number)),
    st.floats(allow_nan=False).map(lambda number: (b",%b\r\n" % repr(number).encode(), number)),
    st.sampled_from([(b"_\r\n", None), (b"$-1\r\n", None), (b"*-1\r\n", None), (b"#t\r\n", True), (b"#f\r\n", False)]),
)


def join(head: bytes, items: list[tuple[bytes, Any]]) -> bytes:
    return head + b"".join(stream for stream, _ in items)


def aggregates(inner: st.SearchStrategy[tuple[bytes, Any]]) -> st.SearchStrategy[tuple[bytes, Any]]:
    pairs = st.lists(st.tuples(leaves, inner), max_size=3)
    return (
        st.lists(inner, max_size=4).map(lambda items: (join(b"*%d\r\n" % len(items), items), [one for _, one in items]))
        | st.lists(inner, max_size=4).map(
            lambda items: (join(b"~%d\r\n" % len(items), items), [one for _, one in items])
        )
        | pairs.map(
            lambda items: (
                join(b"%%%d\r\n" % len(items), [one for pair in items for one in pair]),
                {key[1]: value[1] for key, value in items},
            )
        )
        | st.tuples(pairs, inner).map(
            lambda both: (
                join(b"|%d\r\n" % len(both[0]), [one for pair in both[0] for one in pair]) + both[1][0],
                both[1][1],
            )
        )
    )


pushes = st.lists(leaves, min_size=1, max_size=3).map(lambda items: join(b">%d\r\n" % len(items), items))


@settings(max_examples=enough(500))
@given(
    st.lists(st.tuples(st.just(b"") | pushes, st.recursive(leaves, aggregates, max_leaves=8)), max_size=5),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_any_replies_are_read_as_what_they_are(replies: list[tuple[bytes, tuple[bytes, Any]]], cuts: list[int]) -> None:
    stream = b"".join(push + reply for push, (reply, _) in replies)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(edges)]
    reader = wire.RespReader()
    found = replies_to(reader, len(replies), *pieces)
    assert repr(found) == repr([reply for _, (_, reply) in replies])
    assert reader.pending == 0


@needs_compiled
def test_twins_offer_the_same_names() -> None:
    assert compiled is not None
    assert vars(pure).keys() == vars(compiled).keys()


@needs_compiled
@given(st.lists(texts.map(lambda text: text.replace("\ud800", "{")) | st.text("ab{}é", max_size=9), max_size=6))
@example(["{", "}", "{}", "{a}", "{a}{b}", "}{a}", "{{a}}", "{a", "a}{"])
def test_slots_are_the_same_compiled_pure_and_in_redis_py(keys: list[str]) -> None:
    expected = [key_slot(key.encode()) for key in keys]
    assert pure.key_slots(keys) == expected
    assert compiled is not None
    assert compiled.key_slots(keys) == expected


@needs_compiled
@given(
    st.lists(st.tuples(texts, st.binary(max_size=12)), max_size=6),
    st.sampled_from([-1, 0, 600]),
    st.sampled_from([b"", b"NX"]),
    st.none() | st.lists(st.integers(-1, 6) | st.just(1 << 70) | st.just(None), max_size=6),
    st.integers(0, 3),
    st.integers(-1, 7),
    st.integers(-1, 7),
    st.sampled_from([0, 60, 1 << 20]),
)
def test_compiled_routing_and_packing_by_position_equal_the_pure_ones(
    entries: list[tuple[str, bytes]],
    ttl: int,
    condition: bytes,
    positions: Any,
    nodes: int,
    start: int,
    stop: int,
    limit: int,
) -> None:
    keys, values = [key for key, _ in entries], [value for _, value in entries]
    owners = array("H", [slot % 4 for slot in range(wire.SLOTS)])
    calls: list[Callable[[Any], Any]] = [
        lambda twin: twin.key_slots(keys),
        lambda twin: twin.route(keys, owners, nodes, start, 5),
        lambda twin: twin.pack_gets(keys, positions, start, stop),
        lambda twin: twin.pack_set(keys, values, ttl, condition, positions, start, stop, limit),
    ]
    for call in calls:
        assert outcome(partial(call, pure)) == outcome(partial(call, compiled))


# -- limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        (b"$999999999999\r\n", 999999999999),
        (b"=1001\r\ntxt:", 1001),
        (b"!1001\r\nERR ", 1001),
        (b"$1001\r\n" + b"x" * 1001 + b"\r\n", 1001),
        (b"*999999999\r\n", 64 * 999999999),
        (b"%9\r\n", 64 * 18),
        (b"|9\r\n", 64 * 18),
        (b">16\r\n", 64 * 16),
        (b"*2\r\n*8\r\n" + b"$1\r\n0\r\n" * 7 + b"$400\r\n", 64 * 10 + 407),
        (b"*4\r\n" + b"*4\r\n" * 4, 64 * 16),
        (b"*12\r\n" + b"*1\r\n*0\r\n" * 4, 64 * 16),
    ],
)
def test_a_reply_that_is_too_large_is_refused_where_it_begins(stream: bytes, size: int) -> None:
    reader = wire.RespReader(1000)
    arrive(reader, b"*1\r\n$900\r\n" + b"x" * 900 + b"\r\n*15\r\n" + b"*0\r\n" * 15)
    assert reader.read_replies([None, None], None, 0, 2) == 2
    arrive(reader, stream)
    with pytest.raises(ValueError, match=rf"a reply has {size} bytes or more; the option reply_limit .* takes 1000"):
        reader.read_replies([None], None, 0, 1)


@pytest.mark.parametrize("read", ["values", "reply"])
def test_a_value_of_memcached_that_is_too_large_is_refused_where_it_begins(read: str) -> None:
    reader = wire.MetaReader(1000)
    arrive(reader, b"VA 9999999999 ka\r\n")
    with pytest.raises(ValueError, match="a reply has 9999999999 bytes or more; the option reply_limit"):
        reader.read_reply() if read == "reply" else reader.read_values(["a"], [None], 0, 1)
    reader = wire.MetaReader(1000)
    assert values_of(reader, ["a"], b"VA 1000 ka\r\n" + b"x" * 1000 + b"\r\nMN\r\n") == [b"x" * 1000]


def test_whole_lines_are_taken_as_they_are() -> None:
    stream = b"key=a exp=1\nkey=b\r\n\nEND\r\n"
    for size in range(1, len(stream) + 1):
        reader = wire.MetaReader()
        read = []
        for start in range(0, len(stream), size):
            arrive(reader, stream[start : start + size])
            read.append(reader.read_lines())
        assert b"".join(read) == stream
        assert reader.pending == 0
        assert all(lines.endswith(b"\n") for lines in read if lines)
    reader = wire.MetaReader()
    arrive(reader, b"x" * 4095)
    assert reader.read_lines() == b""
    arrive(reader, b"x")
    with pytest.raises(ValueError, match="a line is longer than 4096 bytes"):
        reader.read_lines()
