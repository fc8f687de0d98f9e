"""Operations as users write them: every line must pass mypy --strict and pyright."""

import datetime
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any, assert_type

import cacheorm as co


class Base(co.Model):
    created = co.IntegerField(default=0)

    class Meta:
        abstract = True


class User(Base):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()


class Visit(co.Model):
    user = co.ForeignKeyField(User)
    guide = co.ForeignKeyField(User, null=True)
    back = co.ForeignKeyField("self", null=True)
    day = co.IntegerField()
    user_id: int

    class Meta:
        backend = "memory://"
        ttl = 60
        primary_key = co.CompositeKey("user", "day", index_formatter="%s.%d")


class Counter(co.Model):
    id = co.IntegerField(primary_key=True)
    ratio = co.FloatField(default=0.0)
    price = co.DecimalField(default=Decimal(0))
    maybe = co.IntegerField(null=True)

    class Meta:
        version = 2

        @staticmethod
        def upgrade(version: int, stored: dict[str, Any]) -> dict[str, Any]:
            return {**stored, "version": version}


class Loaded(co.Model):
    id = co.IntegerField(primary_key=True)

    class Meta:
        loader = "fetch"
        negative_ttl = datetime.timedelta(minutes=1)
        lease = None
        max_loads = 8
        ttl = 3600
        refresh_after = 60
        keep_stale = datetime.timedelta(hours=1)
        retry_after = 5
        loader_timeout = 0.5

        @staticmethod
        async def aloader(pks: list[int]) -> dict[int, dict[str, Any]]:
            return {pk: {} for pk in pks}

    @classmethod
    def fetch(cls, pks: list[int]) -> "list[Loaded]":
        return [cls(id=pk) for pk in pks]


def keys() -> Iterator[dict[str, int]]:
    yield {"id": 1}


user = User(id=1, name="Sam")
visit = Visit(user=user, day=1)

# fields, through inheritance and references
assert_type(user.created, int)
assert_type(visit.user, User)
assert_type(visit.user.name, str)
assert_type(visit.guide, User | None)
assert_type(visit.user_id, int)

# a reference takes an instance or a key
visit.user = user
visit.user = 7
visit.user = "7"
visit.guide = None
visit.guide = 7
visit.guide = user
visit.back = visit
visit.back = (1, 2)
co.ForeignKeyField(User, lazy="raise", null=True)
assert_type(user.validate(), None)

# operations
assert_type(User.create(id=1), User)
assert_type(User.insert(id=1).execute(), User)
assert_type(User.insert(id=1).ttl(60).if_absent().execute(), User | None)
assert_type(User.insert(id=1).if_absent().if_absent().ttl(60).execute(), User | None)
assert_type(User.insert_many([user]).if_absent().chunk_size(5).execute(), list[User | None])
assert_type(co.Insert([user]).if_absent().execute(), list[Any | None])
assert_type(User.insert_many({"id": 1}, user).chunk_size(5).execute(), list[User])
assert_type(User.insert_many([user, {"id": 1}]).ttl(0).execute(), list[User])
assert_type(User.get_by_id(1), User)
assert_type(User.get_or_none(id=1), User | None)
assert_type(User.get_many([1, 2]), dict[Any, User])
assert_type(Visit.get_many([(1, 2)]), dict[Any, Visit])
assert_type(User.query_many(keys()).execute(), list[User | None])
assert_type(User.update(id=1, name="x").keep_ttl().on_invalid("miss").execute(), User | None)
assert_type(User.query(id=1).on_invalid("raise").execute(), User | None)
assert_type(User.update_many({"id": 1}).ttl(5).execute(), list[User | None])
assert_type(User.set_by_id(1, {"name": "x"}), User)
assert_type(User.delete(id=1).execute(), bool)
assert_type(User.delete_many(keys()).execute(), bool)
assert_type(User.delete_by_id(1), bool)
assert_type(User.get_or_create(id=1, defaults={"name": "x"}), tuple[User, bool])
assert_type(User.exists(id=1), bool)
assert_type(User.key(id=1), str)


# reading through
def load_users(ids: list[int]) -> dict[int, dict[str, str]]:
    return {pk: {"name": "x"} for pk in ids}


def load_visits(pks: list[tuple[int, int]]) -> Iterator[Visit]:
    yield from (Visit(user_id=user_id, day=day) for user_id, day in pks)


assert_type(User.get_or_load(1, lambda pk: {"name": "x"}), User | None)
assert_type(
    User.get_or_load(1, User.get_by_id, ttl=5, negative_ttl=datetime.timedelta(minutes=1), lease=None), User | None
)
assert_type(User.query(id=1).load_missing(load_users).execute(), User | None)
assert_type(User.query_many(keys()).load_missing(load_users).ttl(5).execute(), list[User | None])
assert_type(Visit.query_many().load_missing(load_visits, negative_ttl=5, lease=5).execute(), list[Visit | None])
assert_type(User.query(id=1).cached_only().execute(), User | None)
assert_type(User.query_many([1]).cached_only().preload("x").execute(), list[User | None])
assert_type(co.Query((User, [1])).cached_only().execute(), list[Any])
assert_type(User.get_many([1], loader=load_users), dict[Any, User])
assert_type(User.get_many([1], cached_only=True), dict[Any, User])
assert_type(co.preload(visit, Visit.user, cached_only=True), Visit)


def visit_once(row: User) -> None:
    row.created += 1


# atomic updates, lifetimes, related rows, many models, signals
assert_type(User.update_many(keys()).apply(visit_once).atomic(retries=5).execute(), list[User | None])
assert_type(User.update(id=1).atomic().ttl(datetime.timedelta(hours=1)).execute(), User | None)
assert_type(User.expire_many([1, 2], co.NEVER), dict[Any, bool])
assert_type([*User.scan()], list[User])
assert_type([*User.scan_keys(batch_size=10)], list[Any])
assert_type(User.count() + User.purge(), int)
assert_type(User.increment(1, User.created, 2), int)
assert_type(User.increment(1, "created"), Any)
assert_type(Counter.increment(1, Counter.ratio, 0.5), float)
assert_type(Counter.increment(1, Counter.price, Decimal("0.5")), Decimal)
assert_type(Counter.increment(1, Counter.maybe), int)
assert_type(Visit.query_many(keys()).preload(Visit.user, "guide").execute(), list[Visit | None])
assert_type(co.preload([visit, None], Visit.user), list[Visit | None])
assert_type(co.preload(visit, (Visit.user, "guide")), Visit)
assert_type(co.Insert([user, (Visit, [{"user": 1, "day": 1}])]).ttl(5).execute(), list[Any])
assert_type(co.Query((User, keys()), visit).preload("user").execute(), list[Any])
assert_type(co.Update([user]).atomic().execute(), list[Any])
assert_type(co.Delete(user, visit).execute(), bool)


@co.signals.post_save.connect_via(User)
def saved(sender: type[User], instance: User, created: bool) -> None: ...


# instances
assert_type(user.save(), bool)
assert_type(user.save(force_insert=True), bool)
assert_type(user.delete_instance(), bool)
assert_type(user.refresh(), User)
assert_type(user.touch(5), bool)
assert_type(user.touch(), bool)
assert_type(user.ttl(), int | None)
assert_type(user.to_dict(), dict[str, Any])
assert_type(User.from_dict({"id": 1}), User)
assert_type(co.CacheBuilder(User, row={"id": 1}).build_key(), str)


# in an event loop
async def load_users_slowly(ids: list[int]) -> dict[int, dict[str, str]]:
    return load_users(ids)


async def load_visits_slowly(pks: list[tuple[int, int]]) -> AsyncIterator[Visit]:
    for user_id, day in pks:
        yield Visit(user_id=user_id, day=day)


async def load_user(pk: int) -> dict[str, str] | None:
    return {"name": "x"} if pk else None


async def awaited() -> None:
    assert_type([row async for row in User.ascan(batch_size=10)], list[User])
    assert_type([pk async for pk in User.ascan_keys()], list[Any])
    assert_type(await User.acount() + await User.apurge(), int)
    assert_type(await User.acreate(id=1), User)
    assert_type(await User.aget(id=1), User)
    assert_type(await User.aget_by_id(1), User)
    assert_type(await User.aget_or_none(id=1), User | None)
    assert_type(await User.aget_many([1, 2]), dict[Any, User])
    assert_type(await User.aget_many([1, 2], loader=load_users_slowly), dict[Any, User])
    assert_type(await User.query_many([1, 2]).cached_only(), list[User | None])
    assert_type(await co.apreload([visit], Visit.user, cached_only=True), list[Visit])
    assert_type(await User.aget_or_create(id=1, defaults={"name": "x"}), tuple[User, bool])
    assert_type(await User.aget_or_load(1, load_user, ttl=5, lease=None), User | None)
    assert_type(await User.aset_by_id(1, {"name": "x"}), User)
    assert_type(await User.adelete_by_id(1), bool)
    assert_type(await User.aexpire_many([1, 2], co.NEVER), dict[Any, bool])
    assert_type(await User.aexists(id=1), bool)
    assert_type(await User.aincrement(1, User.created, 2), int)
    assert_type(await Counter.aincrement(1, Counter.price), Decimal)
    assert_type(await Counter.aincrement(1, "price"), Any)
    assert_type(await User.insert(id=1).if_absent().aexecute(), User | None)
    assert_type(await user.asave(force_insert=True), bool)
    assert_type(await user.adelete_instance(), bool)
    assert_type(await user.arefresh(), User)
    assert_type(await user.atouch(5), bool)
    assert_type(await user.attl(), int | None)
    assert_type(await User.query(id=1).aexecute(), User | None)
    assert_type(await User.query(id=1), User | None)
    assert_type(await User.query_many([1, 2]).preload("x"), list[User | None])
    assert_type(await User.query_many(1, 2).load_missing(load_users_slowly), list[User | None])
    assert_type(await User.insert(id=1), User)
    assert_type(await User.insert_many([user]).ttl(5), list[User])
    assert_type(await User.update(id=1), User | None)
    assert_type(await User.delete_many([1, 2]), bool)
    assert_type(await co.Query((User, [1, 2])), list[Any])
    assert_type(await co.Delete((User, 1)), bool)
    assert_type(await User.insert(id=1).ttl(60).aexecute(), User)
    assert_type(await User.insert_many([user]).aexecute(), list[User])
    assert_type(await User.update_many(keys()).atomic().aexecute(), list[User | None])
    assert_type(await User.delete(id=1).aexecute(), bool)
    assert_type(await User.query_many(keys()).load_missing(load_users_slowly).aexecute(), list[User | None])
    assert_type(await Visit.query_many().load_missing(load_visits_slowly).aexecute(), list[Visit | None])
    assert_type(await Visit.user.aget(visit), User)
    assert_type(await Visit.guide.aget(visit), User | None)
    assert_type(await co.apreload([visit, None], Visit.user), list[Visit | None])
    assert_type(await co.apreload(visit, (Visit.user, "guide")), Visit)
    assert_type(await co.Insert([user]).aexecute(), list[Any])
    assert_type(await co.Delete(user).aexecute(), bool)
    async with co.SimpleBackend() as backend:
        assert_type(backend, co.SimpleBackend)
        assert_type(await backend.aget("a"), bytes | None)
        assert_type(await backend.aset_many({"a": b"1"}, ttl=60), dict[str, bool])
        async for values in backend.aget_chunks(["a"]):
            assert_type(values, list[bytes | None])


# defaults and errors
assert_type(co.default_backend, co.BaseBackend)
co.configure(backend="memory://", serializer="json")
with co.bind([User, Visit], backend=co.SimpleBackend(), serializer=co.JSONSerializer()):
    pass
try:
    User.get(id=1)
except User.DoesNotExist as error:
    assert_type(error, co.DoesNotExist)
except co.WriteError as refused:
    assert_type(refused.failed, list[co.FailedRow])
    assert_type(refused.stored, list[tuple[str, str]] | None)
except co.BackendError as failed:
    assert_type(failed.maybe_applied, bool)
