"""What goes wrong is said once, completely, with names and without values; and nothing is written halfway."""

from __future__ import annotations

import datetime
import enum
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from servers import MemcachedServer, RedisServer

import cacheorm as co
from cacheorm.types import TTL, Outcome, Value

SECRET = "hunter2-correct-horse"
MEMORY = co.SimpleBackend()


class Color(enum.Enum):
    RED = 1


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    height = co.FloatField(default=1.5)
    email = co.StringField(null=True)

    class Meta:
        backend = MEMORY
        namespace = "test_errors"


@pytest.fixture
def user(backend: co.BaseBackend) -> Iterator[type[User]]:
    with co.bind([User], backend=backend):
        yield User


class Refusing(co.SimpleBackend):
    """Refuses the keys that end in one of some texts, with or without saying why."""

    def __init__(self, *endings: str, reason: str | None = None) -> None:
        super().__init__()
        self.endings = endings
        self.reason = reason

    def _split(self, mapping: Mapping[str, Value], write: Callable[..., Outcome], ttl: Any) -> Outcome:
        good = {key: value for key, value in mapping.items() if not key.endswith(self.endings)}
        stored = write(good, ttl)
        bad = [key for key in mapping if key not in good]
        reasons = dict.fromkeys(bad, self.reason) if self.reason else {}
        return Outcome({key: key in good and stored[key] for key in mapping}, reasons)

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return not key.endswith(self.endings) and super().set(key, value, ttl)

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._split(mapping, super().set_many, ttl)

    def replace_many(self, mapping: Mapping[str, Value], ttl: Any = None) -> Outcome:
        return self._split(mapping, super().replace_many, ttl)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._split(mapping, super().add_many, ttl)


# -- bad values --------------------------------------------------------------------------------------


def test_all_bad_fields_of_a_row_are_reported_together(user: type[User]) -> None:
    with pytest.raises(co.ValidationError) as caught:
        user.insert(id=1, name=[], height="tall", email={}).execute()
    error = caught.value
    assert (error.model, error.row, error.key) == ("User", None, "test_errors:m:user:id:1")
    assert [field for field, _ in error.problems] == ["name", "height", "email"]
    assert str(error).startswith("User.name: ")
    assert "; User.height: " in str(error)
    assert str(error).endswith("(key test_errors:m:user:id:1)")
    assert isinstance(error, ValueError)
    assert not user.exists(id=1)


def test_a_missing_value_is_named_as_it_always_was(user: type[User]) -> None:
    for write in (user.insert(id=1).execute, lambda: user.create(id=1), lambda: user(id=1).save(force_insert=True)):
        with pytest.raises(ValueError, match=r"^missing value for <Field: User\.name> \(key "):
            write()
    with pytest.raises(ValueError, match=r"^missing value for <Field: User\.id>"):
        user.insert(name="Sam").execute()
    with pytest.raises(
        ValueError, match=r"^missing value for <Field: User\.id>; missing value for <Field: User\.name>"
    ):
        user.insert().execute()
    with pytest.raises(ValueError, match=r"^missing value for <Field: User\.name>"):
        user.update(id=1, name=None).execute()


@pytest.mark.parametrize("position", [0, 1, 499, 999])
def test_one_bad_row_among_a_thousand_means_that_nothing_is_written(user: type[User], position: int) -> None:
    rows: list[dict[str, Any]] = [{"id": number, "name": "x"} for number in range(1000)]
    rows[position]["height"] = SECRET
    with pytest.raises(
        co.ValidationError, match=rf"^User\.height: .* \(row {position}, key test_errors:m:user:id:{position}\)$"
    ):
        user.insert_many(rows).chunk_size(10).execute()
    assert user.query_many({"id": number} for number in range(1000)).execute() == [None] * 1000


def test_one_bad_change_among_many_means_that_nothing_is_changed(user: type[User]) -> None:
    user.insert_many({"id": number, "name": "x"} for number in range(50)).execute()
    changes: list[dict[str, Any]] = [{"id": number, "name": "y"} for number in range(50)]
    changes[33] = {"id": 33, "height": "tall"}
    with pytest.raises(co.ValidationError, match=r"User\.height: .*row 33"):
        user.update_many(changes).chunk_size(10).execute()
    changes[33] = {"name": "no key"}
    for update in (user.update_many(changes), user.update_many(changes).chunk_size(10)):
        with pytest.raises(co.ValidationError, match=r"missing value for <Field: User\.id>.*row 33"):
            update.execute()
    found = user.query_many({"id": number} for number in range(50)).execute()
    assert {row.name for row in found if row} == {"x"}


@pytest.mark.parametrize("wrong", [5, "Sam", None, object(), 1.5, b"x", Color.RED])
@pytest.mark.parametrize("form", ["insert_many", "update_many"])
def test_what_is_no_row_is_a_type_error_and_changes_nothing(user: type[User], form: str, wrong: Any) -> None:
    user.create(id=1, name="Sam")
    good = {"id": 1, "name": "changed"}
    for place, rows in enumerate([(wrong,), (good, wrong), ([good, good, wrong],)]):
        with pytest.raises(
            TypeError, match=rf"^User: a row is a dict or an instance of User, got \w+ \(row {place}\)$"
        ):
            getattr(user, form)(*rows).execute()
    assert user.get(id=1).name == "Sam"


@pytest.mark.parametrize(
    "wrong", ["Sam", None, object(), 1.5, b"x", Color.RED, True, {1: {"id": 1}}, {"id": 1, "x": 1}]
)
@pytest.mark.parametrize("form", ["query_many", "delete_many"])
def test_what_is_no_key_says_where_it_came_and_changes_nothing(user: type[User], form: str, wrong: Any) -> None:
    user.create(id=1, name="Sam")
    for place, rows in enumerate([(wrong,), ({"id": 1}, wrong), ([1, {"id": 1}, wrong],)]):
        with pytest.raises((TypeError, co.ValidationError), match=rf"^User.* \(row {place}\)$"):
            getattr(user, form)(*rows).chunk_size(1).execute()
    assert user.get(id=1).name == "Sam"


@pytest.mark.parametrize("form", ["insert_many", "query_many", "update_many", "delete_many"])
def test_a_dict_of_rows_is_no_row(user: type[User], form: str) -> None:
    with pytest.raises(TypeError, match=r"got a dict with a name of type int \(a dict of rows\? .*\) \(row 0\)$"):
        getattr(user, form)({1: {"id": 1, "name": "Sam"}}).execute()


def test_a_row_of_another_model_is_no_row(user: type[User]) -> None:
    class Other(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

    class Child(User):
        pass

    for wrong in (Other(id=1, name="x"), Child(id=1, name="x")):
        for form in (user.insert_many, user.query_many, user.update_many, user.delete_many):
            with pytest.raises(TypeError, match="a row is a dict or an instance of User"):
                form(wrong).execute()


def test_names_that_no_field_has_are_errors_everywhere(user: type[User]) -> None:
    user.create(id=1, name="Sam")
    calls: list[Callable[[], object]] = [
        lambda: user.create(id=1, nmae="x"),
        lambda: user.insert(id=1, nmae="x").execute(),
        lambda: user.insert_many({"id": 2, "name": "x"}, {"id": 1, "nmae": "x"}).execute(),
        lambda: user.update(id=1, nmae="x").execute(),
        lambda: user.update_many({"id": 1, "nmae": "x"}).execute(),
        lambda: user.set_by_id(1, {"nmae": "x"}),
        lambda: user.get_or_create(id=1, nmae="x"),
        lambda: user.get_or_create(id=1, defaults={"nmae": "x"}),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="User has no field 'nmae'; did you mean 'name'"):
            call()
    assert not user.exists(id=2)


def test_names_outside_the_key_are_errors_in_query_and_delete(user: type[User]) -> None:
    user.create(id=1, name="Sam")
    calls: list[Callable[[], object]] = [
        lambda: user.query(id=1, name="Sam").execute(),
        lambda: user.query_many({"id": 1, "name": "Sam"}).execute(),
        lambda: user.delete(id=1, name="Sam").execute(),
        lambda: user.delete_many({"id": 1}, {"id": 1, "name": "Sam"}).execute(),
        lambda: user.get(id=1, name="Sam"),
        lambda: user.get_or_none(id=1, name="Sam"),
        lambda: user.exists(id=1, name="Sam"),
        lambda: user.key(id=1, name="Sam"),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"User: 'name' does not belong to the primary key \(id\)"):
            call()
    with pytest.raises(TypeError, match="'nmae' does not belong"):
        user.query(nmae=1).execute()
    for call in (user.query().execute, user.delete().execute, user.get, user.exists):
        with pytest.raises(co.ValidationError, match=r"missing value for <Field: User\.id>"):
            call()
    assert user.get(id=1).name == "Sam"


def test_a_part_of_the_key_given_twice_has_to_be_the_same() -> None:
    class Visit(co.Model):
        user = co.ForeignKeyField(User)
        day = co.IntegerField()

        class Meta:
            backend = MEMORY
            primary_key = co.CompositeKey("user", "day")

    row = Visit.create(user=1, day=1)
    assert Visit.query(user=User(id=1), user_id="1", day=1).execute() == row
    with pytest.raises(co.ValidationError, match=r"^Visit\.user: user and user_id contradict each other$"):
        Visit.query(user=1, user_id=2, day=1).execute()


def test_a_key_of_the_wrong_type_is_a_validation_error(user: type[User]) -> None:
    for call in (user.query(id="x").execute, user.delete(id=1.5).execute, user.update(id=[], name="x").execute):
        with pytest.raises(co.ValidationError, match=r"^User\.id: "):
            call()
    with pytest.raises(co.ValidationError, match=r"^User\.id: .*\(row 1\)"):
        user.query_many({"id": 1}, {"id": "x"}).execute()


FIELDS: dict[str, Any] = {
    "UUIDField": co.UUIDField(null=True),
    "ShortUUIDField": co.ShortUUIDField(null=True),
    "IntegerField": co.IntegerField(null=True),
    "EnumField": co.EnumField(Color, null=True),
    "BooleanField": co.BooleanField(null=True),
    "FloatField": co.FloatField(null=True),
    "DecimalField": co.DecimalField(null=True),
    "StringField": co.StringField(max_length=3, null=True),
    "BinaryField": co.BinaryField(null=True),
    "DateTimeField": co.DateTimeField(null=True),
    "DateTimeTZField": co.DateTimeTZField(null=True),
    "DateField": co.DateField(null=True),
    "TimeField": co.TimeField(null=True),
    "TimestampField": co.TimestampField(null=True),
    "StructField": co.StructField(lambda value: value.nothing, str, null=True),
    "JSONField": co.JSONField(null=True),
    "ListField": co.ListField(co.IntegerField(), null=True),
    "ForeignKeyField": co.ForeignKeyField(User, null=True),
}
WRONG = [SECRET, [SECRET], {SECRET: SECRET}, (SECRET,), SECRET.encode(), {SECRET}, object(), 10**400, float("nan")]


@pytest.mark.parametrize("kind", FIELDS)
def test_no_field_shows_a_value_in_an_error_or_its_traceback(kind: str) -> None:
    body = {"id": co.IntegerField(primary_key=True), "value": FIELDS[kind].clone()}
    meta = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": "json"})
    model: Any = type(co.Model)("Row", (co.Model,), {"__qualname__": "<locals>.Row", "Meta": meta, **body})
    refused = 0
    for wrong in WRONG:
        for call in (
            lambda value=wrong: model.insert(id=1, value=value).execute(),
            lambda value=wrong: model.update_many({"id": 1, "value": value}).execute(),
            lambda value=wrong: model.query(id=value).execute(),
        ):
            try:
                call()
            except (co.CacheORMError, TypeError, ValueError, AttributeError) as error:
                refused += 1
                shown = "".join(traceback.format_exception(error))
                messages = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
                assert SECRET not in messages
                assert "0000000" not in messages
    assert refused > len(WRONG)


def test_validators_refuse_values_with_the_other_problems(user: type[User]) -> None:
    def not_admin(name: str) -> None:
        if name == "admin":
            raise ValueError("is reserved")

    class Named(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(validators=[not_admin])
        age = co.IntegerField()

        class Meta:
            backend = MEMORY

    with pytest.raises(co.ValidationError, match=r"^Named\.name: is reserved; Named\.age: "):
        Named.create(id=1, name=b"admin", age="x")
    with pytest.raises(co.ValidationError, match="is reserved"):
        Named.update(id=1, name="admin").execute()


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_what_a_serializer_cannot_hold_names_the_field_and_writes_nothing(serializer: str) -> None:
    class Custom(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            return value

        def python_value(self, value: Any) -> Any:
            return value

    place = co.SimpleBackend()
    body = {
        "id": co.IntegerField(primary_key=True),
        "value": Custom(),
        "Meta": type("Meta", (), {"backend": place, "serializer": serializer}),
    }
    model: Any = type(co.Model)("Row", (co.Model,), {"__qualname__": "<locals>.Row", **body})
    for wrong in (object(), {1, 2}, datetime.timezone):
        with pytest.raises((TypeError, ValueError), match=r"Row\.value"):
            model.insert_many({"id": 1, "value": 1}, {"id": 2, "value": wrong}).execute()
    assert len(place) == 0


# -- refused and failed writes -----------------------------------------------------------------------


@pytest.mark.parametrize("reason", [None, "out of memory"])
def test_refused_rows_are_listed_and_all_others_are_stored(reason: str | None) -> None:
    place = Refusing(":3", ":7", reason=reason)
    with co.bind([User], backend=place):
        with pytest.raises(co.WriteError) as caught:
            User.insert_many({"id": number, "name": "x"} for number in range(10)).chunk_size(4).execute()
        said = reason or "refused by the backend"
        keys = ["test_errors:m:user:id:3", "test_errors:m:user:id:7"]
        assert caught.value.failed == [co.FailedRow("User", key, said) for key in keys]
        assert str(caught.value) == f"2 rows were not stored: User {keys[0]}: {said}; User {keys[1]}: {said}"
        assert {row.id for row in User.query_many({"id": n} for n in range(10)).execute() if row} == set(range(10)) - {
            3,
            7,
        }
        with pytest.raises(co.WriteError, match="1 row was not stored: User test_errors:m:user:id:3: refused"):
            User.create(id=3, name="x")
        with pytest.raises(co.WriteError):
            User(id=3, name="x").save(force_insert=True)


def test_rows_refused_in_an_update_are_told_from_rows_that_are_gone() -> None:
    place = Refusing(reason="too large")
    with co.bind([User], backend=place):
        User.insert_many({"id": number, "name": "x"} for number in range(4)).execute()
        place.endings = (":2",)
        with pytest.raises(co.WriteError) as caught:
            User.update_many({"id": number, "name": "y"} for number in range(6)).execute()
        assert [row.key for row in caught.value.failed] == ["test_errors:m:user:id:2"]
        assert [row and row.name for row in User.query_many({"id": n} for n in range(5)).execute()] == [
            "y",
            "y",
            "x",
            "y",
            None,
        ]
        place.endings = (":12",)
        with pytest.raises(co.WriteError):
            User.insert_many({"id": 12, "name": "x"}, {"id": 5, "name": "x"}).if_absent().execute()
        assert User.exists(id=5)


def test_a_get_or_create_that_is_never_stored_is_a_write_error() -> None:
    class Full(co.SimpleBackend):
        def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
            return False

    with co.bind([User], backend=Full()), pytest.raises(co.WriteError, match="1 row was not stored"):
        User.get_or_create(id=1, name="x")


def test_a_backend_that_loses_count_does_not_mix_up_rows() -> None:
    class Short(co.SimpleBackend):
        def get_many(self, *keys: str) -> list[bytes | None]:
            return super().get_many(*keys)[1:]

    with co.bind([User], backend=Short()):
        User.insert_many({"id": number, "name": "x"} for number in range(4)).execute()
        with pytest.raises(co.BackendError, match="Short gave 3 values for 4 keys"):
            User.query_many({"id": number} for number in range(4)).execute()


def test_an_error_halfway_tells_how_far_it_came() -> None:
    class Dying(co.SimpleBackend):
        left = 2

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise co.BackendError("gone", maybe_applied=True)

        def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
            self._step()
            return super().set_many(mapping, ttl)

        def replace_many(self, mapping: Mapping[str, Value], ttl: Any = None) -> Outcome:
            self._step()
            return super().replace_many(mapping, ttl)

    place = Dying()
    rows = [{"id": number, "name": "x"} for number in range(10)]
    with co.bind([User], backend=place):
        with pytest.raises(co.BackendError) as caught:
            User.insert_many(rows).chunk_size(3).execute()
        assert caught.value.__notes__ == ["6 of 10 rows of User had been written before"]
        assert len(place) == 6
        place.left = 10
        User.insert_many(rows).execute()
        place.left = 1
        with pytest.raises(co.BackendError) as caught:
            User.update_many(rows).chunk_size(3).execute()
        assert caught.value.__notes__ == ["3 rows of User had been updated before"]
        place.left = 0
        with pytest.raises(co.BackendError) as caught:
            User.insert_many(rows).execute()
        assert not hasattr(caught.value, "__notes__")


# -- servers that die --------------------------------------------------------------------------------


def test_a_redis_that_dies_is_a_backend_error_and_its_return_is_noticed() -> None:
    with RedisServer() as server, co.RedisBackend(port=server.port) as place, co.bind([User], backend=place):
        _check_death_and_return(server, place, "ConnectionError")


def test_a_memcached_that_dies_is_a_backend_error_and_its_return_is_noticed() -> None:
    with (
        MemcachedServer() as server,
        co.MemcachedBackend(servers=[("127.0.0.1", server.port)]) as place,
        co.bind([User], backend=place),
    ):
        _check_death_and_return(server, place, "OSError")


def _check_death_and_return(
    server: RedisServer | MemcachedServer, backend: co.RedisBackend | co.MemcachedBackend, cause: str
) -> None:
    rows = [{"id": number, "name": SECRET} for number in range(100)]
    User.insert_many(rows).execute()
    server.kill()
    operations: list[Callable[[], object]] = [
        lambda: User.create(id=1, name=SECRET),
        lambda: User.get(id=1),
        lambda: User.exists(id=1),
        lambda: User.delete(id=1).execute(),
        lambda: User.get_or_create(id=1, name=SECRET),
        lambda: User(id=1).ttl(),
        User.insert_many(rows).execute,
        User.query_many({"id": number} for number in range(100)).execute,
        User.update_many(rows).execute,
        User.delete_many({"id": number} for number in range(100)).execute,
    ]
    for operation in operations:
        with pytest.raises(co.BackendError) as caught:
            operation()
        error = caught.value
        assert str(server.port) in str(error)
        # The first one finds the server down; the others are not let through to it for a while.
        if operation is operations[0]:
            assert any(base.__name__ == cause for base in type(error.__cause__).__mro__)
        assert isinstance(error.maybe_applied, bool)
        assert SECRET not in "".join(traceback.format_exception_only(error))
        assert pickle.loads(pickle.dumps(error)).maybe_applied == error.maybe_applied
    server.start()
    backend.retry_failed_servers()
    assert User.query_many({"id": 1}).execute() == [None]
    User.insert_many(rows).execute()
    assert User.get(id=99).name == SECRET
    assert User.update(id=99, name="y").execute() is not None
    server.restart()
    assert User.get_or_none(id=99) is None
    assert User.create(id=99, name="z") == User.get(id=99)


def test_errors_of_models_survive_pickling(memory: co.SimpleBackend) -> None:
    with co.bind([User], backend=Refusing(":1")):
        for call in (
            lambda: User.insert(id=1, name=[]).execute(),
            lambda: User.insert_many({"id": 1, "name": "x"}).execute(),
            lambda: User.get(id=5),
        ):
            with pytest.raises(co.CacheORMError) as caught:
                call()
            again = pickle.loads(pickle.dumps(caught.value))
            assert type(again) is type(caught.value)
            assert str(again) == str(caught.value)
            assert vars(again) == vars(caught.value)
