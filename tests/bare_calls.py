"""Calls of the functions that are compiled, without an operation around them."""

from __future__ import annotations

import json
from array import array
from typing import Any

from calls import COUNT, MODELS, Call, call, fresh, parts, row_of, shown, stored

from cacheorm._speedups import adopt, hash_ring, keys, records, rows, slots, wire
from cacheorm._speedups.memory import entries
from fuzz.streams import arrive

LruTable = entries.LruTable

MODEL = MODELS["msgpack"]
PLAN = MODEL._meta


def pks_of(count: int = COUNT) -> list[int]:
    return [10**6 + number for number in range(count)]


def texts(count: int = COUNT) -> list[str]:
    return [f"m:row:id:{number} \u00e9" for number in range(count)]


def contents(count: int = COUNT) -> list[bytes]:
    return [b"content %d" % number for number in range(count)]


# -- keys ----------------------------------------------------------------------------------------------


@call
def identify() -> Call:
    given = [*fresh(MODEL), MODEL(id=10**6)]
    return Call(lambda: PLAN.identity.identify(given, False), inputs=(*parts(given),))


@call
def identify_keys() -> Call:
    given = [{"id": str(pk)} for pk in pks_of()]
    return Call(lambda: (PLAN.identity.identify(given, True), PLAN.identity.identify_pks(pks_of())))


@call
def identify_formatted() -> Call:
    identity = keys.Identity(MODEL, [PLAN.fields["text"], PLAN.fields["uuid"]], "m:row", "%s of %s")
    given = fresh(MODEL)
    return Call(lambda: identity.identify(given, False), inputs=(*parts(given),))


@call
def identify_wrong() -> Call:
    given: list[Any] = [{"id": 10**6}, {"id": "none"}]
    return Call(lambda: PLAN.identity.identify(given, True), inputs=(*given,))


@call
def escape_long() -> Call:
    identity = keys.Identity(MODEL, [PLAN.fields["text"]], "m:row", None)
    given = [{"text": f"{number} %:" * 60} for number in range(2)]
    return Call(lambda: identity.identify(given, True), inputs=(*parts(given),))


@call
def positions() -> Call:
    names, values = texts(), [*contents(COUNT - 1), None]

    def run() -> Any:
        return (
            keys.batch(names, values, 0, COUNT),
            keys.found([[name, 1] for name in names], values),
            keys.has_duplicates(names),
            keys.missing_positions([None] * COUNT),
        )

    return Call(run, inputs=(names, values, *names, *values[:-1]))


# -- rows ----------------------------------------------------------------------------------------------


@call
def adopt_rows() -> Call:
    adopter = adopt.Adopter(MODEL, PLAN.names, PLAN.references)
    given = [*fresh(MODEL), MODEL(**row_of(0))]
    return Call(lambda: adopter.adopt(given), shown, (*parts(given),))


@call
def adopt_changes() -> Call:
    adopter = adopt.Adopter(MODEL, PLAN.names, PLAN.references)
    given = fresh(MODEL)
    return Call(lambda: adopter.adopt(given, True, True), shown, (*parts(given),))


@call
def adopt_wrong() -> Call:
    adopter = adopt.Adopter(MODEL, PLAN.names, PLAN.references)
    given: list[Any] = [{"id": 10**6}, {"id": 10**6, "nmae": "text"}]
    return Call(lambda: adopter.adopt(given, False, True), inputs=(*given,))


@call
def patches() -> Call:
    row = {f"name {number}": [number, f"text {number}", {"a": None}] for number in range(COUNT)}
    changes = {"name 1": "other", "more": 1.5}
    packed, changed = rows.pack(row), rows.pack(changes)
    text, other = json.dumps(row).encode(), json.dumps(changes).encode()
    old = {"old": "name 2"}

    def run() -> Any:
        return (
            rows.patch_msgpack(packed, changed, old),
            rows.patch_json(text, other, old),
            rows.unpack(packed),
            rows.pack(row),
        )

    return Call(run, inputs=(packed, changed, text, other, old, row))


@call
def patch_many() -> Call:
    codec = PLAN.resolved().codec
    pks = stored(MODEL)
    names = [MODEL.key(id=pk) for pk in pks]
    payloads = [PLAN.resolved().backend.get(name) for name in names]
    given = [MODEL(id=pk, text=f"other {pk}", tags=["a"]) for pk in pks]

    def run() -> Any:
        return codec.patch_many(payloads, codec.pack_changes(given), names)

    return Call(run, inputs=(*names, *payloads, *given))


@call
def slots_of_rows() -> Call:
    author = PLAN.fields["author"]
    found = [None, *(MODEL(**row) for row in fresh(MODEL))]
    targets = [None, *(MODEL(id=pk) for pk in pks_of())]
    others = {one: MODEL(id=5) for one in slots.distinct(author, found)}

    def run() -> Any:
        slots.relate(MODEL._relations, author, "author", found, others)
        slots.clear(PLAN.fields["note"], found)
        return (
            [*slots.distinct(author, found)],
            slots.holds(author, found),
            slots.complete((*PLAN.fields.values(),), found[1:], targets[1:], None),
        )

    return Call(run, lambda result: [repr(result[0]), result[1], shown(result[2])], (*found[1:], *targets[1:]))


@call
def converters() -> Call:
    kinds = [(field.converter, field.name) for field in PLAN.fields.values() if field.name != "author"]
    (row,) = fresh(MODEL, 1)
    row["count"] = 2**70

    def run() -> Any:
        made = [(converter, converter.dump(row[name])) for converter, name in kinds]
        return [converter.load(stored) for converter, stored in made if stored is not None]

    # What is compared is made outside: where list.__repr__ has no memory, it keeps what it has.
    return Call(run, repr, (*parts(row),))


@call
def decimals() -> Call:
    converter = PLAN.fields["price"].converter
    given = ["1.50", 7, "1e3"]
    return Call(lambda: [str(converter.load(converter.dump(one))) for one in given], inputs=(given,))


# -- protocols -----------------------------------------------------------------------------------------


@call
def requests() -> Call:
    names, values = texts(), contents()

    def run() -> Any:
        return (
            wire.pack_command(("SET", names[0], values[0], 10**6)),
            wire.pack_commands([("GET", name) for name in names], 0, COUNT, 1000),
            wire.pack_keys(b"MGET", names, 0, COUNT),
            wire.pack_gets(names, [1, 0], 0, 2),
            wire.pack_set(names, values, 60, b"NX", None, 0, COUNT, 1000),
            wire.pack_meta(b"md", names, b"q", 0, COUNT),
            wire.pack_meta_get(names, 0, COUNT),
            wire.pack_meta_set(names, values, 60, b"S", 0, COUNT, 1000),
        )

    return Call(run, inputs=(names, values, *names, *values))


@call
def routes() -> Call:
    names, values = texts(), contents()
    owners = array("H", [number % 3 for number in range(wire.SLOTS)])
    ring = hash_ring.HashRing([(number << 24, number % 3) for number in range(200)], False)

    def run() -> Any:
        served = ring.owners(names)
        dealt = hash_ring.partition(served, values, 3)
        result: list[Any] = [None] * COUNT
        hash_ring.reassemble(served, 0, dealt, [0] * 3, result)
        wire.check_keys(names)
        return (
            wire.key_slots(names),
            wire.route(names, owners, 3, 0, COUNT),
            dealt,
            result,
            wire.encode_values(names, [b"a", "\u00e9", 10**6, 1.5, *values[4:]]),
            wire.total_size(values),
            hash_ring.HashRing([(1, 0)], True).owner(names[0]),
        )

    # Not the values: where list() has no memory, Python 3.11 keeps what it was given, which are lists of them.
    return Call(run, inputs=(names, values, *names))


RESP = (
    b"*3\r\n:1\r\n*2\r\n+a\r\n-ERR b\r\n%1\r\n+key\r\n,1.5\r\n"
    b"|1\r\n+ttl\r\n*1\r\n:1\r\n:5000\r\n(123456789012345678901234567890\r\n"
    b">1\r\n+x\r\n~2\r\n#t\r\n_\r\n=7\r\ntxt:abc\r\n!5\r\nERR e\r\n"
)


@call
def resp_replies() -> Call:
    stream = RESP + b"$20000\r\n" + b"v" * 20000 + b"\r\n"

    def run() -> Any:
        reader = wire.RespReader()
        values: list[Any] = [None] * 7
        place = 0
        for start in range(0, len(stream), 7000):
            arrive(reader, stream[start : start + 7000])
            place = reader.read_replies(values, None, place, 7, b"")
        return values, place

    return Call(run, inputs=(stream,))


@call
def resp_values() -> Call:
    stream = b"*%d\r\n" % COUNT + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in contents())

    def run() -> Any:
        reader = wire.RespReader()
        values: list[Any] = []
        for start in range(0, len(stream), 30):
            arrive(reader, stream[start : start + 30])
            reader.read_values(values, COUNT)
        return values

    return Call(run, inputs=(stream,))


@call
def resp_wrong() -> Call:
    def run() -> Any:
        reader = wire.RespReader()
        arrive(reader, b"*2\r\n+fine\r\n$x\r\n")
        return reader.read_replies([None], None, 0, 1, b"")

    return Call(run)


@call
def meta_replies() -> Call:
    names, values = ["a", "b", "c"], contents()
    stream = b"VA %d ka\r\n%b\r\nVA 20000 kc\r\n%b\r\nMN\r\n" % (len(values[0]), values[0], b"v" * 20000)

    def run() -> Any:
        reader = wire.MetaReader()
        read: list[Any] = [None] * 3
        place = 0
        for start in range(0, len(stream), 7000):
            arrive(reader, stream[start : start + 7000])
            place = reader.read_values(names, read, place, 3)
        arrive(reader, b"HD\r\nSERVER_ERROR too large\r\nVA 1 t5\r\nx\r\n")
        statuses: list[Any] = [None, None]
        return place, read, reader.read_statuses(statuses, None, 0, 2), statuses, reader.read_reply()

    return Call(run, inputs=(stream, names))


@call
def meta_lines() -> Call:
    stream = b"key=a exp=-1\nkey=b exp=-1\nEND\r\n"

    def run() -> Any:
        reader = wire.MetaReader()
        read = []
        for start in range(0, len(stream), 9):
            arrive(reader, stream[start : start + 9])
            read.append(reader.read_lines())
        return b"".join(read)

    return Call(run, inputs=(stream,))


@call
def meta_wrong() -> Call:
    def run() -> Any:
        reader = wire.MetaReader()
        arrive(reader, b"VA x kb\r\n")
        return reader.read_values(["a", "b"], [None, None], 0, 2)

    return Call(run)


# -- memory --------------------------------------------------------------------------------------------


def lru_table() -> Any:
    table = LruTable(True)
    for number in range(20):
        table.put(f"old {number}", b"old", float(number))
    return table


def of_table(table: Any) -> Any:
    held = table.items()
    assert len(table) == len(held)
    assert table.size == sum(len(key) + len(value) for key, value in held)
    return [(key, value, table.deadline(key)) for key, value in held], table.timed


@call
def lru_put_many() -> Call:
    given = dict(zip(texts(40), contents(40), strict=True))

    def run() -> Any:
        table = lru_table()
        table.put_many(given, 5.0)
        return of_table(table), table.use_many([*given, "old 3", "none"]), [*table]

    return Call(run, inputs=(given, *given, *given.values()))


@call
def lru_deadlines() -> Call:
    given = texts(40)

    def run() -> Any:
        table = lru_table()
        for name in given:
            table.put(name, b"value", 7.0)
        moved = table.set_deadlines([*given, "none"], 3.0), table.expire(2.0), table.remove(given[0]), of_table(table)
        table.clear()
        return moved, of_table(table)

    return Call(run, inputs=(given, *given))


@call
def lru_keys() -> Call:
    given = texts(40)

    def run() -> Any:
        table = lru_table()
        for name in given:
            table.put(name, b"value", 7.0)
        found, cursor = table.keys_from(None, 15)
        more, end = table.keys_from(cursor, 100)
        return sorted(found + more), end

    return Call(run, inputs=(given, *given))


@call
def record_files() -> Call:
    given = dict(zip(texts(), contents(), strict=True))

    def run() -> Any:
        ids = records.key_ids([*given])
        parameters = records.make_parameters(given, ids, 7)
        return ids, parameters, records.pick([*given], [parameters[2::3]])

    return Call(run, inputs=(given, *given, *given.values()))


@call
def key_refused() -> Call:
    def run() -> Any:
        return records.key_ids(["fine", "a\0b"])

    return Call(run)
