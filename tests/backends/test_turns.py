"""Places for connections in an event loop, and the entrance where operations wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co
from cacheorm.backends._busy import BusyError
from cacheorm.backends._turns import Entrance, Turns

PATIENCE = 30.0


class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(null=True)

    class Meta:
        name = "waiting_row"
        ttl = 600


def servers_of(entrance: Entrance, count: int, places: int, patience: float = PATIENCE) -> list[Turns]:
    return [Turns(places, patience, f"server {number}", "timeout", entrance) for number in range(count)]


async def pass_entrance(entrance: Entrance) -> None:
    """Wait as an operation does before it begins."""
    if entrance.is_shut:
        await entrance.wait()


async def rounds(count: int = 5) -> None:
    """Let the event loop go round, so that everybody gets on who can."""
    for _ in range(count):
        await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await main()

    asyncio.run(limited())


# -- places --------------------------------------------------------------------------------------------


def test_places_go_to_those_who_wait_in_the_order_they_came() -> None:
    async def main() -> None:
        (turns,) = servers_of(Entrance(), 1, 1)
        assert turns.take()
        assert not turns.take()
        got: list[int] = []

        async def one(number: int) -> None:
            await turns.wait()
            got.append(number)
            turns.give_back()

        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await rounds()
        assert got == []
        turns.give_back()
        await asyncio.gather(*tasks)
        assert got == [0, 1, 2, 3, 4]
        assert turns.free == 1

    run(main)


def test_whose_patience_ends_is_told_which_places_were_taken() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 1, patience=0.01)
        assert turns.take()
        expected = r"server 0: all 1 connections stayed in use for 0\.01 s; raise max_connections or timeout"
        with pytest.raises(BusyError, match=expected):
            await turns.wait()
        with pytest.raises(BusyError, match=expected):
            await pass_entrance(entrance)
        turns.give_back()
        assert turns.free == 1
        await pass_entrance(entrance)

    run(main)


def test_a_place_for_somebody_who_has_been_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        (turns,) = servers_of(Entrance(), 1, 1)
        assert turns.take()
        first, second = (asyncio.ensure_future(turns.wait()) for _ in range(2))
        await rounds()
        turns.give_back()
        first.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first
        turns.give_back()
        assert turns.free == 1

    run(main)


# -- the entrance --------------------------------------------------------------------------------------


def test_the_entrance_is_open_as_long_as_there_are_places() -> None:
    async def main() -> None:
        entrance = Entrance()
        assert not entrance.is_shut  # nothing is known of any server
        (turns,) = servers_of(entrance, 1, 2)
        assert not entrance.is_shut
        assert turns.take()
        assert not entrance.is_shut
        assert turns.take()
        assert entrance.is_shut
        turns.give_back()
        assert not entrance.is_shut

    run(main)


def test_one_begins_for_each_place_that_is_given_back() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 2)
        assert turns.take()
        assert turns.take()
        begun: list[int] = []

        async def operation(number: int) -> None:
            await pass_entrance(entrance)
            begun.append(number)
            assert turns.take()

        tasks = [asyncio.create_task(operation(number)) for number in range(4)]
        await rounds()
        assert begun == []
        turns.give_back()
        await rounds()
        assert begun == [0]
        turns.give_back()
        turns.give_back()
        await rounds()
        assert begun == [0, 1, 2]
        turns.give_back()
        await asyncio.gather(*tasks)
        assert begun == [0, 1, 2, 3]

    run(main)


def test_who_comes_later_waits_behind_those_who_are_called() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 1)
        assert turns.take()
        early = asyncio.create_task(pass_entrance(entrance))
        await rounds()
        turns.give_back()
        # Called, but its task has not gone on yet: the place is as good as taken.
        assert entrance.is_shut
        await early
        assert turns.take()

    run(main)


def test_operations_that_have_begun_come_before_those_that_have_not() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 1)
        assert turns.take()
        outside = asyncio.create_task(pass_entrance(entrance))
        await rounds()
        inside = asyncio.ensure_future(turns.wait())
        await rounds()
        turns.give_back()
        await rounds()
        assert inside.done()
        assert not outside.done()
        turns.give_back()
        await outside

    run(main)


def test_those_who_turn_out_to_need_no_place_let_the_next_begin() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 1)
        assert turns.take()
        waiting = [asyncio.create_task(pass_entrance(entrance)) for _ in range(100)]
        await rounds()
        turns.give_back()
        await asyncio.gather(*waiting)
        assert turns.free == 1

    run(main)


def test_those_who_are_cancelled_at_the_entrance_let_the_next_begin() -> None:
    async def main() -> None:
        entrance = Entrance()
        (turns,) = servers_of(entrance, 1, 1)
        assert turns.take()
        waiting = [asyncio.create_task(pass_entrance(entrance)) for _ in range(6)]
        await rounds()
        waiting[0].cancel()  # while it waits
        turns.give_back()
        waiting[1].cancel()  # called, and not there yet
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, True] + [False] * 4
        assert not entrance.is_shut

    run(main)


def test_with_several_servers_one_begins_for_as_many_places() -> None:
    async def main() -> None:
        entrance = Entrance()
        servers = servers_of(entrance, 3, 4)
        for turns in servers:
            for _ in range(4):
                assert turns.take()
        waiting = [asyncio.create_task(pass_entrance(entrance)) for _ in range(2)]
        await rounds()
        servers[0].give_back()
        servers[1].give_back()
        await rounds()
        assert not waiting[0].done()
        servers[1].give_back()
        await rounds()
        assert waiting[0].done()

    run(main)


def test_a_server_that_keeps_all_its_places_keeps_nobody_from_the_others() -> None:
    async def main() -> None:
        entrance = Entrance()
        hung, alive, idle = servers_of(entrance, 3, 1)
        for turns in (hung, alive, idle):
            assert turns.take()
        waiting = asyncio.create_task(pass_entrance(entrance))
        await rounds()
        assert not waiting.done()
        alive.give_back()
        await waiting
        assert not entrance.is_shut

    run(main)


def test_places_of_a_server_that_is_given_up_are_waited_for_no_longer() -> None:
    async def main() -> None:
        entrance = Entrance()
        (old,) = servers_of(entrance, 1, 1)
        assert old.take()
        waiting = asyncio.create_task(pass_entrance(entrance))
        await rounds()
        old.close()
        await waiting
        (new,) = servers_of(entrance, 1, 1)
        old.give_back()
        assert not entrance.is_shut
        assert new.take()
        assert entrance.is_shut

    run(main)


# -- operations ----------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "memcached", "two memcacheds"])
def narrow(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached_server: MemcachedServer
) -> Iterator[co.BaseBackend]:
    """A backend with one connection to each server."""
    if request.param == "redis":
        backend: co.BaseBackend = co.RedisBackend(
            host=HOST, port=redis_server.port, max_connections=1, socket_timeout=60
        )
        yield backend
        backend.close()
        return
    with MemcachedServer() as second:
        servers = [(HOST, memcached_server.port), (HOST, second.port)][: 1 if request.param == "memcached" else 2]
        backend = co.MemcachedBackend(servers=servers, max_connections=1, timeout=60)
        yield backend
        backend.close()


def test_no_more_operations_begin_than_there_are_connections(narrow: co.BaseBackend) -> None:
    with co.bind([Row], backend=narrow):
        rows = [{"id": number, "name": str(number)} for number in range(100)]
        Row.insert_many(rows).execute()
        most = begun = ended = 0

        def asked(number: int) -> Iterator[dict[str, int]]:
            nonlocal begun
            begun += 1
            yield {"id": number}

        async def read(number: int) -> str | None:
            nonlocal most, ended
            (row,) = await Row.query_many(asked(number)).aexecute()
            most = max(most, begun - ended)
            ended += 1
            return row.name

        async def main() -> list[str | None]:
            await Row.aget(id=0)  # from here on the servers are known
            return await asyncio.gather(*map(read, range(100)))

        assert asyncio.run(main()) == [row["name"] for row in rows]
        # With two servers they begin as long as one has nothing to do, whichever they turn out to need: how many begin
        # is up to the servers.
        assert most <= 3 or "," in repr(narrow)


def test_operations_of_every_kind_get_through_a_few_connections(narrow: co.BaseBackend) -> None:
    with co.bind([Row], backend=narrow):

        async def one(number: int) -> None:
            created = await Row.acreate(id=number, name="a")
            await Row.update_many([{"id": number, "name": "b"}]).aexecute()
            assert (await Row.aget(id=number)).name == "b"
            created.name = "c"
            await created.asave()
            assert [row.name for row in await co.Query((Row, [{"id": number}])).aexecute()] == ["c"]
            assert await Row.aget_many([number]) == {number: created}
            assert await Row.aexists(id=number)
            loaded = await Row.aget_or_load(-number - 1, lambda pk: {"name": "loaded"})
            assert loaded is not None
            assert await Row.adelete_by_id(number)
            with pytest.raises(co.ValidationError):
                await Row.aget(id="none")

        async def main() -> None:
            await asyncio.gather(*map(one, range(100)))

        asyncio.run(main())
