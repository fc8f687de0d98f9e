"""Class statements: what becomes a field, what is inherited, what the primary key is, and what is refused."""

from __future__ import annotations

import abc
import asyncio
import gc
import importlib
import itertools
import types
import uuid
import weakref
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from lifetimes import left_of

import cacheorm as co

ModelBase: Any = type(co.Model)


def local_model(name: str, bases: tuple[Any, ...] = (co.Model,), /, **body: Any) -> Any:
    """Make a model as a function does: it is no twin of others."""
    return ModelBase(name, bases, {"__qualname__": f"<locals>.{name}", **body})


def meta(**options: Any) -> type:
    return type("Meta", (), options)


def declare(source: str, module: str, **names: Any) -> Any:
    """Run ``source`` as a module of that name."""
    made = types.ModuleType(module)
    vars(made).update({"co": co, **names})
    exec(source, vars(made))
    return made


# -- fields ------------------------------------------------------------------------------------------


def test_a_model_without_a_key_gets_a_uuid_that_is_made_on_the_first_write(memory: co.SimpleBackend) -> None:
    class Note(co.Model):
        text = co.StringField()

        class Meta:
            backend = memory

    assert isinstance(Note.id, co.UUIDField)
    assert list(Note._meta.fields) == ["id", "text"]
    note = Note(text="hello")
    assert (note._pk, note.id) == (None, None)
    note.save()
    assert isinstance(note.id, uuid.UUID)
    assert Note.get(id=note.id).text == "hello"
    first, second = Note.insert_many({"text": "a"}, {"text": "b"}).execute()
    assert first.id != second.id


def test_the_class_gives_the_field_and_the_instance_the_value() -> None:
    class User(co.Model):
        name = co.StringField(default="nobody")

    assert repr(User.name) == "<StringField: User.name>"
    assert User().name == "nobody"
    user = User(name="Sam")
    assert user.name == "Sam"
    del user.name
    assert user.name == "nobody"


def test_an_attribute_that_is_no_field_cannot_be_set() -> None:
    class User(co.Model):
        name = co.StringField()

    user: Any = User(name="Sam")
    with pytest.raises(AttributeError):
        user.nmae = "Bob"
    with pytest.raises(AttributeError):
        _ = user.nmae
    with pytest.raises(AttributeError, match="type object 'User' has no attribute 'nmae'"):
        _ = User.nmae  # type: ignore[attr-defined]


def test_one_field_object_under_two_names_makes_two_fields() -> None:
    text = co.StringField()

    class Note(co.Model):
        title = text
        body = text

    note = Note(title="t", body="b")
    assert (note.title, note.body) == ("t", "b")
    assert {Note.title.name, Note.body.name} == {"title", "body"}


def test_one_field_object_may_serve_two_models(memory: co.SimpleBackend) -> None:
    text = co.StringField()

    class First(co.Model):
        label = text

        class Meta:
            backend = memory

    class Second(co.Model):
        other = co.IntegerField()
        caption = text

        class Meta:
            backend = memory

    first, second = First.create(label="a"), Second.create(other=1, caption="b")
    assert (First.get_by_id(first.id).label, Second.get_by_id(second.id).caption) == ("a", "b")
    assert repr(First.label) == "<StringField: First.label>"
    assert repr(Second.caption) == "<StringField: Second.caption>"


METHODS = [name for name in dir(co.Model) if not name.startswith("_") and name != "DoesNotExist"]


@pytest.mark.parametrize("name", METHODS)
def test_a_field_may_be_called_like_a_method_of_models(name: str, memory: co.SimpleBackend) -> None:
    with pytest.warns(UserWarning, match=rf"^Odd\.{name}: the field hides the method \w+\.{name}; ") as warned:
        model = local_model(
            "Odd",
            number=co.IntegerField(primary_key=True),
            Meta=meta(backend=memory),
            **{name: co.IntegerField()},
        )
    assert [warning.filename for warning in warned] == [__file__]
    other = local_model("Other", odd=co.ForeignKeyField(model), Meta=meta(backend=memory))
    base: Any = co.Model

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(base, method).__func__(model, *args, **kwargs)

    row = model(**{"number": 1, name: 7})
    assert getattr(row, name) == 7
    assert row._pk == 1
    assert call("insert_many", [row]).execute() == [row]
    (found,) = call("query_many", {"number": 1}).execute()
    assert getattr(found, name) == 7
    assert base.to_dict(found) == {"number": 1, name: 7}
    assert call("get_or_create", number=1) == (row, False)
    assert call("create", **{"number": 2, name: 1}) == model(number=2)
    assert call("get", number=1) == call("get_by_id", 1) == call("get_many", [1])[1] == row
    assert call("set_by_id", 1, {name: 8}) == row
    assert call("exists", number=1)
    assert call("key", number=1) == "m:odd:number:1"
    assert getattr(other(odd=1).odd, name) == 8
    assert co.CacheBuilder(model, row={"number": 1}).build_key() == "m:odd:number:1"

    async def awaited() -> None:
        assert await call("aget", number=1) == await call("aget_by_id", 1) == (await call("aget_many", [1]))[1] == row
        assert await call("aget_or_none", number=1) == row
        assert await call("aget_or_create", number=1) == (row, False)
        assert await call("aget_or_load", 1, str) == row
        assert await call("acreate", **{"number": 2, name: 1}) == model(number=2)
        assert await call("aset_by_id", 1, {name: 8}) == row
        assert await call("aincrement", 1, name) == 9
        assert await call("aexists", number=1)
        assert await call("aexpire_many", [1, 3]) == {1: True, 3: False}
        assert await call("adelete_by_id", 2)
        assert getattr(await other.odd.aget(other(odd=1)), name) == 9
        assert await base.asave(row)
        assert await base.atouch(row)
        assert await base.attl(row)
        assert getattr(await base.arefresh(row), name) == 9
        assert await base.adelete_instance(row)
        assert await base.asave(row, force_insert=True)

    asyncio.run(awaited())
    setattr(row, name, 9)
    assert base.save(row)
    assert base.touch(row)
    assert base.ttl(row)
    assert getattr(base.refresh(row), name) == 9
    assert base.delete_instance(row)


@pytest.mark.parametrize("name", ["_meta", "_pk", "_loaded", "_relations", "DoesNotExist", "Meta", "__init__"])
def test_names_that_models_need_themselves_are_refused_as_fields(name: str) -> None:
    with pytest.raises(ValueError, match=f"a field cannot be called '{name}'"):
        local_model("Odd", **{name: co.IntegerField()})


# -- inheritance -------------------------------------------------------------------------------------


def test_fields_and_the_key_are_inherited_and_keep_to_their_class(memory: co.SimpleBackend) -> None:
    class Person(co.Model):
        number = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = memory

    class Employee(Person):
        salary = co.DecimalField(default=0)

    assert list(Employee._meta.fields) == ["number", "name", "salary"]
    assert (Person.number.model, Employee.number.model) == (Person, Employee)
    Person.create(number=1, name="Sam")
    Employee.create(number=1, name="Bob")
    assert (Person.get(number=1).name, Employee.get(number=1).name) == ("Sam", "Bob")
    assert Employee.key(number=1) == "m:employee:number:1"
    assert issubclass(Employee.DoesNotExist, Person.DoesNotExist)
    assert Person(number=1) != Employee(number=1)
    with pytest.raises(TypeError, match="Person has no field 'salary'"):
        Person(salary=1)


def test_abstract_bases_give_fields_and_methods_and_have_no_rows(memory: co.SimpleBackend) -> None:
    class Timed(co.Model):
        at = co.IntegerField(default=5)

        class Meta:
            abstract = True
            ttl = 5000

    class Named(co.Model):
        name = co.StringField()

        def shout(self) -> str:
            return self.name.upper()

        class Meta:
            abstract = True
            backend = memory

    class Event(Timed, Named):
        pass

    event = Event.create(name="a")
    assert (event.at, event.shout()) == (5, "A")
    assert event.ttl() in left_of(5000)
    assert Event._meta.options.abstract is False
    assert repr(Named.name) == "<StringField: Named.name>"
    with pytest.raises(AttributeError, match="Named is abstract and has no rows"):
        Named(name="x")
    with pytest.raises(AttributeError, match="Named is abstract and has no rows"):
        Named.query(id=1)
    with pytest.raises(AttributeError, match="Model is abstract and has no rows"):
        co.Model()


def test_a_diamond_follows_the_order_that_python_gives_it() -> None:
    class Root(co.Model):
        number = co.IntegerField(primary_key=True)
        what = co.StringField(default="root")

        class Meta:
            abstract = True
            ttl = 10

    class Left(Root):
        class Meta:
            abstract = True

    class Right(Root):
        what = co.StringField(default="right")

        class Meta:
            abstract = True
            ttl = 20

    class Both(Left, Right):
        pass

    assert Both().what == "right"
    assert Both._meta.ttl == 20
    assert list(Both._meta.fields) == ["number", "what"]


@pytest.mark.parametrize("owners", list(itertools.product([False, True], repeat=4)))
def test_any_lattice_of_bases_resolves_as_plain_attributes_do(owners: tuple[bool, ...]) -> None:
    shape = {"A": (), "B": ("A",), "C": ("A",), "D": ("B", "C"), "E": ("C", "B"), "F": ("C", "D")}
    plain: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for (name, bases), owns in zip(shape.items(), (*owners, False, False), strict=True):
        try:
            plain[name] = type(name, tuple(plain[base] for base in bases), {"what": name} if owns else {})
        except TypeError:  # no order exists
            with pytest.raises(TypeError):
                local_model(name, tuple(models[base] for base in bases))
            continue
        body = {"what": co.StringField(default=name)} if owns else {}
        above = tuple(models[base] for base in bases) or (co.Model,)
        models[name] = local_model(name, above, Meta=meta(abstract=True), **body)
    for name, cls in plain.items():
        row = local_model("Row", (models[name],))()
        assert getattr(row, "what", None) == getattr(cls, "what", None)


def test_a_subclass_can_shadow_a_field_or_remove_it(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        number = co.IntegerField(primary_key=True)
        name: Any = co.StringField()
        size: Any = co.IntegerField()

        class Meta:
            backend = memory

    class Changed(Base):
        size = co.StringField(default="XL")
        name = None

    class Again(Changed):
        name = co.StringField(default="back")

    assert list(Base._meta.fields) == ["number", "name", "size"]
    assert list(Changed._meta.fields) == ["number", "size"]
    assert Changed.create(number=1).size == "XL"
    with pytest.raises(TypeError, match="Changed has no field 'name'"):
        Changed(name="x")
    assert Again.create(number=1).name == "back"
    assert Base.create(number=1, name="n", size=3).size == 3


def test_a_property_may_take_the_place_of_an_inherited_field() -> None:
    class Base(co.Model):
        name: Any = co.StringField()

        class Meta:
            abstract = True

    class Fixed(Base):
        @property
        def name(self) -> str:
            return "fixed"

    assert Fixed().name == "fixed"
    assert list(Fixed._meta.fields) == ["id"]


def test_fields_of_plain_mixins_are_fields_of_the_model(memory: co.SimpleBackend) -> None:
    class Timed:
        at: Any = co.IntegerField(default=1)

        def later(self) -> int:
            return int(self.at) + 1

    class Event(Timed, co.Model):
        class Meta:
            backend = memory

    class Other(Timed, co.Model):
        at = co.IntegerField(default=2)

    event: Any = Event.create(at=5)
    assert (event.later(), Event.get_by_id(event.id).at, Other().at) == (6, 5, 2)
    event.anything = "goes, because a plain class brings a __dict__"


def test_two_models_with_rows_cannot_be_inherited_together() -> None:
    class First(co.Model):
        name = co.StringField(default="a")

    class Second(co.Model):
        pass

    class Child(First):
        name = co.StringField(default="b")

    with pytest.raises(TypeError, match=r"Both inherits two models that have rows \(First, Second\)"):
        local_model("Both", (First, Second))
    assert local_model("Fine", (Child, First))().name == "b"


def test_an_abstract_model_cannot_inherit_one_with_rows() -> None:
    class First(co.Model):
        pass

    with pytest.raises(TypeError, match="Second is abstract and inherits First, which has rows"):
        local_model("Second", (First,), Meta=meta(abstract=True))


def test_generic_and_abstract_base_classes_mix_with_models(memory: co.SimpleBackend) -> None:
    T = TypeVar("T")

    class MetaOfBoth(ModelBase, abc.ABCMeta):  # type: ignore[misc]
        pass

    class Shape(co.Model, metaclass=MetaOfBoth):
        @abc.abstractmethod
        def area(self) -> int: ...

        class Meta:
            abstract = True
            backend = memory

    class Square(Shape, Generic[T]):
        side = co.IntegerField()

        def area(self) -> int:
            return self.side**2

    square = Square.create(side=3)
    assert Square.get_by_id(square.id).area() == 9


def test_class_keywords_reach_init_subclass() -> None:
    seen: list[Any] = []

    class Base(co.Model):
        def __init_subclass__(cls, flag: str, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append(flag)

        class Meta:
            abstract = True

    class User(Base, flag="x"):
        pass

    assert seen == ["x"]


# -- the primary key ---------------------------------------------------------------------------------


def test_two_primary_keys_are_over_determined() -> None:
    with pytest.raises(ValueError, match="over-determined primary key of User: first, second"):

        class User(co.Model):
            first = co.IntegerField(primary_key=True)
            second = co.IntegerField(primary_key=True)

    with pytest.raises(ValueError, match=r"over-determined primary key of Mark: first, Meta\.primary_key"):

        class Mark(co.Model):
            first = co.IntegerField(primary_key=True)
            second = co.IntegerField()

            class Meta:
                primary_key = co.CompositeKey("first", "second")


def test_bases_that_bring_different_keys_are_over_determined() -> None:
    class First(co.Model):
        first = co.IntegerField(primary_key=True)

        class Meta:
            abstract = True

    class Second(co.Model):
        second = co.IntegerField(primary_key=True)

        class Meta:
            abstract = True

    class Third(co.Model):
        third = co.IntegerField()
        fourth = co.IntegerField()

        class Meta:
            abstract = True
            primary_key = co.CompositeKey("third", "fourth")

    for bases in [(First, Second), (First, Third), (Third, First)]:
        with pytest.raises(ValueError, match="over-determined primary key of Both: its bases"):
            local_model("Both", bases)
        both = local_model("Both", bases, own=co.IntegerField(primary_key=True))
        assert [field.name for field in both._meta.key_fields] == ["own"]


def test_a_subclass_with_a_key_of_its_own_keeps_the_old_key_as_a_field(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        number = co.IntegerField(primary_key=True, index_formatter="base-%d")
        name = co.StringField()

        class Meta:
            backend = memory

    class Coded(Base):
        code = co.StringField(primary_key=True)

    class Grandchild(Coded):
        pass

    class Pair(Base):
        class Meta:
            primary_key = co.CompositeKey("number", "name")

    Coded.create(code="x", number=3, name="n")
    assert Coded.get(code="x").number == 3
    assert (Coded.number.primary_key, Base.number.primary_key) == (False, True)
    assert Base.key(number=1) == "base-1"
    assert Coded.key(code="x") == "m:coded:code:x"
    assert Grandchild.key(code="x") == "m:grandchild:code:x"
    assert Pair.key(number=1, name="a") == "m:pair:number:1:name:a"


def test_a_composite_key_is_inherited(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        left = co.IntegerField()
        right = co.IntegerField()

        class Meta:
            abstract = True
            backend = memory
            primary_key = co.CompositeKey("left", "right", index_formatter="%d/%d")

    class Edge(Base):
        weight = co.FloatField(default=1)

    class Single(Base):
        left = co.IntegerField(primary_key=True)

    edge = Edge.create(left=1, right=2)
    assert edge._pk == (1, 2)
    assert Edge.key(left=1, right=2) == "1/2"
    assert repr(Edge._meta.primary_key) == "<CompositeKey: Edge.(left, right)>"
    assert Single.key(left=1) == "m:single:left:1"
    assert Single.create(left=1, right=2)._pk == 1


def test_the_nearer_composite_key_wins() -> None:
    class Root(co.Model):
        a = co.IntegerField()
        b = co.IntegerField()

        class Meta:
            abstract = True
            primary_key = co.CompositeKey("a", "b")

    class Turned(Root):
        class Meta:
            abstract = True
            primary_key = co.CompositeKey("b", "a")

    assert local_model("Row", (Turned, Root)).key(a=1, b=2) == "m:row:b:2:a:1"


def test_a_composite_key_needs_fields_that_are_never_null() -> None:
    key = co.CompositeKey("a", "b")
    with pytest.raises(ValueError, match="its composite key names 'b', which is no field of it"):
        local_model("Row", a=co.IntegerField(), Meta=meta(primary_key=key))
    with pytest.raises(ValueError, match=r"Row\.b: a part of the primary key cannot be null"):
        local_model("Row", a=co.IntegerField(), b=co.IntegerField(null=True), Meta=meta(primary_key=key))
    base = local_model("Base", a=co.IntegerField(), b=co.IntegerField(), Meta=meta(primary_key=key, abstract=True))
    with pytest.raises(ValueError, match="names 'b', which is no field"):
        local_model("Row", (base,), b=None)


def test_a_field_called_id_that_is_no_key_asks_for_one() -> None:
    with pytest.raises(ValueError, match="required primary key"):
        local_model("User", id=co.IntegerField())


def test_impossible_keys_are_refused_where_they_are_written() -> None:
    with pytest.raises(ValueError, match="cannot be null"):
        co.IntegerField(primary_key=True, null=True)
    with pytest.raises(ValueError, match="primary_key=True"):
        co.IntegerField(index_formatter="%d")
    names: tuple[Any, ...]
    for names in [("a",), ("a", 1)]:
        with pytest.raises(TypeError, match="names of two or more fields"):
            co.CompositeKey(*names)
    with pytest.raises(ValueError, match="twice"):
        co.CompositeKey("a", "a")


@pytest.mark.parametrize("formatter", ["%d-%d", "%s-%(x)s", lambda value: 1 / 0, lambda value: "", lambda value: 5])
def test_a_formatter_that_gives_no_key_is_named_in_the_error(formatter: Any) -> None:
    user = local_model("User", number=co.IntegerField(primary_key=True, index_formatter=formatter))
    with pytest.raises(ValueError, match="User: index_formatter"):
        user.key(number=1)


# -- slots, methods, constructors --------------------------------------------------------------------


def test_subclasses_may_have_slots_of_their_own() -> None:
    user = local_model("User", __slots__=("cached",), name=co.StringField())(name="Sam")
    user.cached = 1
    assert user.cached == 1
    with pytest.raises(AttributeError):
        user.other = 1
    one = local_model("One", __slots__="only")()
    one.only = 1
    free = local_model("Open", __slots__=("__dict__",), name=co.StringField())(name="Sam")
    free.anything = 2
    assert vars(free) == {"anything": 2}


def test_methods_and_properties_work_and_can_call_super(memory: co.SimpleBackend) -> None:
    class User(co.Model):
        name = co.StringField()

        class Meta:
            backend = memory

        @property
        def initial(self) -> str:
            return self.name[0]

        def save(self, force_insert: bool = False) -> bool:
            self.name = self.name.title()
            return super().save(force_insert)

    user = User.insert(name="sam").execute()
    assert user.initial == "s"
    user.save()
    assert User.get_by_id(user.id).initial == "S"


def test_a_constructor_of_ones_own_runs_for_dict_rows_and_not_for_reads(memory: co.SimpleBackend) -> None:
    made: list[str] = []

    class User(co.Model):
        number = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = memory

        def __init__(self, **values: Any) -> None:
            made.append("init")
            super().__init__(**{"name": "default", **values})

    class Child(User):
        pass

    for model in (User, Child):
        made.clear()
        model.insert_many({"number": 1}, {"number": 2, "name": "b"}).execute()
        model.insert(number=3).execute()
        assert made == ["init"] * 3
        rows = model.query_many({"number": number} for number in (1, 2, 3)).execute()
        assert [row and row.name for row in rows] == ["default", "b", "default"]
        assert made == ["init"] * 3


def test_a_hook_that_forgets_super_does_not_skip_the_constructor(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        def __init_subclass__(cls, **kwargs: Any) -> None:
            pass

        class Meta:
            abstract = True
            backend = memory

    class User(Base):
        name = co.StringField()

        def __init__(self, **values: Any) -> None:
            super().__init__(**{"name": "default", **values})

    assert User.insert().execute().name == "default"


def test_get_id_may_be_overridden(memory: co.SimpleBackend) -> None:
    """As Flask-Login's ``UserMixin`` does, which wants text."""

    class User(co.Model):
        number = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory

        def get_id(self) -> str:
            return str(self.number)

    user = User.create(number=1)
    assert (user.get_id(), user._pk) == ("1", 1)
    assert user.save()
    assert user == User.get(number=1)


def test_instances_can_be_referred_to_weakly() -> None:
    class User(co.Model):
        pass

    user = User()
    assert weakref.ref(user)() is user


def test_models_are_released_when_nobody_uses_them() -> None:
    class User(co.Model):
        parent = co.ForeignKeyField("self", null=True)
        later = co.ForeignKeyField("NeverDeclared", null=True)

    known = weakref.ref(User)
    del User
    gc.collect()
    assert known() is None


# -- names and twins ---------------------------------------------------------------------------------


def user_source(name: str = "User", options: str = "pass", formatter: str = "None") -> str:
    return (
        f"class {name}(co.Model):\n"
        f"    number = co.IntegerField(primary_key=True, index_formatter={formatter})\n"
        f"    class Meta:\n        backend = place\n        {options}\n"
    )


def test_two_modules_cannot_declare_models_that_write_the_same_keys(memory: co.SimpleBackend) -> None:
    first = declare(user_source(), "twins.first", place=memory)
    names = r"twins\.second\.User and twins\.first\.User would write the same keys \(m:user:"
    with pytest.raises(TypeError, match=names):
        declare(user_source(), "twins.second", place=memory)
    with pytest.raises(TypeError, match=r"twins\.second\.Person and twins\.first\.User"):
        declare(user_source("Person", "name = 'user'"), "twins.second", place=memory)
    for options in ("name = 'other'", "namespace = 'other'", "backend = co.SimpleBackend()"):
        declare(user_source(options=options), "twins.second", place=memory)
    del first


def test_models_on_the_default_backend_are_twins_too() -> None:
    source = "class OnDefault(co.Model):\n    pass\n"
    first = declare(source, "twins.first")
    with pytest.raises(TypeError, match="would write the same keys"):
        declare(source, "twins.second")
    del first


def test_executing_a_module_again_is_no_clash(memory: co.SimpleBackend) -> None:
    first = declare(user_source(), "notebook", place=memory)
    second = declare(user_source(), "notebook", place=memory)
    assert first.User is not second.User
    first.User.create(number=1)
    assert second.User.get(number=1) == second.User(number=1)


def test_a_module_can_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reloaded_models.py").write_text("import cacheorm as co\nclass Reloaded(co.Model):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("reloaded_models")
    before = module.Reloaded
    assert importlib.reload(module).Reloaded is not before


def test_classes_made_in_functions_are_no_twins(memory: co.SimpleBackend) -> None:
    def make() -> Any:
        class User(co.Model):
            class Meta:
                backend = memory

        return User

    assert make() is not make()


def test_a_twin_that_was_released_is_in_nobodys_way(memory: co.SimpleBackend) -> None:
    module = declare(user_source(), "twins.gone", place=memory)
    del module
    gc.collect()
    declare(user_source(), "twins.here", place=memory)


def test_different_formatters_keep_twins_apart(memory: co.SimpleBackend) -> None:
    first = declare(user_source(formatter="'a-%d'"), "twins.a", place=memory)
    declare(user_source(formatter="'b-%d'"), "twins.b", place=memory)
    with pytest.raises(TypeError, match="would write the same keys"):
        declare(user_source(formatter="'a-%d'"), "twins.c", place=memory)
    del first


@pytest.mark.parametrize("name", ["Ünïcode", "With_Underscore", "X" * 400])
def test_unusual_class_names_make_legal_keys(name: str) -> None:
    model = local_model(name, number=co.IntegerField(primary_key=True))
    key = model.key(number=1)
    assert len(key) <= 250
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert key != model.key(number=2)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"namespace": "app:v2"}, "app:v2:m:user:number:1"),
        ({"namespace": "my app"}, "my%20app:m:user:number:1"),
        ({"name": "a:b c"}, "m:a%3Ab%20c:number:1"),
        ({"name": "é"}, "m:%C3%A9:number:1"),
        ({"name": "a\r\nb\0"}, "m:a%0D%0Ab%00:number:1"),
    ],
)
def test_names_and_namespaces_are_escaped(options: dict[str, Any], key: str) -> None:
    user = local_model("User", number=co.IntegerField(primary_key=True), Meta=meta(**options))
    assert user.key(number=1) == key


def test_a_model_and_its_exception_show_their_names() -> None:
    class User(co.Model):
        pass

    assert repr(User) == "<Model: User>"
    assert User.DoesNotExist.__qualname__.endswith("User.DoesNotExist")
    assert User.DoesNotExist.__module__ == __name__
