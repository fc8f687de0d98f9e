"""Class bodies that say something else than they mean, and the names that fields may have."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import enum
import functools
import gc
import logging
import pickle
import sys
import threading
import types
import uuid
import warnings
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, NewType, Protocol, TypeAlias, TypeVar
from unittest import mock

import pytest
from amounts import enough

import cacheorm as co

ModelBase: Any = type(co.Model)
T = TypeVar("T")


def model(name: str = "User", bases: tuple[Any, ...] = (co.Model,), /, **body: Any) -> Any:
    return ModelBase(name, bases, {"__qualname__": f"<locals>.{name}", **body})


def declare(body: str, head: str = "class User(Base):", **names: Any) -> Any:
    """Declare a model with a body of source text, once with annotations as text and once as objects."""
    for future in ("from __future__ import annotations\n", ""):
        made = types.ModuleType("declared")
        vars(made).update({"co": co, "Base": co.Model, "ClassVar": ClassVar, "Final": Final, "Any": Any, **names})
        source = f"{future}def make():\n    {head}\n" + "".join(f"        {line}\n" for line in body.splitlines())
        exec(f"{source}    return User", vars(made))
        with mock.patch.dict(sys.modules, declared=made):
            user = made.make()
    return user


class Upper(co.Field[str]):
    """A field of the application."""


# -- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("name = co.StringField", r"a field class without parentheses; write name = StringField\(\)"),
        ("name = co.StringField[str]", r"a field class without parentheses; write name = StringField\(\)"),
        ("name = Upper", r"a field class without parentheses; write name = Upper\(\)"),
        ("name = co.StringField(),", "a field in a tuple; remove the comma after it"),
        ("name = co.StringField,", "a field in a tuple; remove the comma after it"),
        ("name = [co.StringField()]", "a list of fields declares none"),
        ("name = co.StringField(), co.StringField()", "a tuple of fields declares none"),
        ("name = co.CompositeKey('a', 'b')", "a composite key is an option; write primary_key"),
        ("class meta:\n    ttl = 5", "options are only read from a class that is called Meta"),
        ("class META:\n    ttl = 5", "options are only read from a class that is called Meta"),
        ("class _Meta:\n    ttl = 5", "options are only read from a class that is called Meta"),
        ("class _meta:\n    ttl = 5", "options are only read from a class that is called Meta"),
        ("_meta = {'ttl': 5}", "options are only read from a class that is called Meta"),
        ("name: co.StringField", "an annotation with a field declares none; write name = co.StringField"),
        ("name = co.CompositeKey", "a composite key is an option; write primary_key"),
        ("name = {co.StringField()}", "a set of fields declares none"),
        ("name = [co.StringField(), None]", "a list of fields declares none"),
        ("name: co.StringField = None", "a value with an annotation declares no field"),
        ("name: co.StringField | None", "an annotation with a field declares none"),
        ("name: co.StringField[str]", "an annotation with a field declares none"),
        ("name: co.StringField()", "an annotation with a field declares none"),
        ("name: 'co.StringField'", "an annotation with a field declares none"),
        ("name: str", r"an annotation alone declares no field; write name = co\.StringField\(\) or another"),
        ("name: Upper", "declares no"),
        ("ttl: int", "an annotation alone declares no field"),
        ("name: str = 'x'", "a value with an annotation declares no field"),
        ("name: str | None = None", "a value with an annotation declares no field"),
        ("name: list[str] = dataclasses.field(default_factory=list)", "a value with an annotation declares no field"),
        ("id: int | None", "the key would be a UUID"),
        ("id: 'str'", "the key would be a UUID"),
        ("id: int", r"the key would be a UUID; write id = co\.IntegerField\(primary_key=True\)"),
        ("name = co.IntegerField(default='two')", "the field does not take its default: expected an integer"),
        ("name = co.BooleanField(default='false')", "the field does not take its default"),
        ("name = co.StringField(default=[])", "the field does not take its default"),
        ("name = co.StringField(max_length=2, default='abc')", "the field does not take its default"),
        ("name = co.ListField(co.IntegerField(), default=['x'])", "the field does not take its default: item 0"),
        ("name = co.EnumField(Tone, default='loud')", "the field does not take its default"),
        ("name = co.StructField(str.upper, str, default=5)", "the field does not take its default"),
        ("name = co.StructField(lambda x: x.number, str, default=5)", "the field does not take its default"),
        ("name = co.ForeignKeyField('self', default=[])", "the field does not take its default"),
    ],
)
def test_a_declaration_that_declares_nothing_is_an_error_that_says_what_was_meant(line: str, text: str) -> None:
    name = line.split()[1].rstrip(":") if line.startswith("class") else line.split()[0].rstrip(":")
    with pytest.raises(TypeError, match=rf"^User\.{name}: .*{text}"):
        declare(line, Upper=Upper, Tone=Tone, dataclasses=dataclasses)


def test_errors_show_no_default() -> None:
    with pytest.raises(TypeError) as caught:
        declare("pin = co.IntegerField(default='hunter2')")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "kind: ClassVar[str] = 'x'\nfield_class: ClassVar = co.StringField\nparts: ClassVar = (co.StringField(),)",
        "LIMIT: int = 5\nlimit: Final = 5\nname: ClassVar[str]",
        "_cache: dict[str, int]\n_size: int = 5",
        "__slots__ = ('cached',)\ncached: int",
        "__slots__ = ('__dict__',)\ncached: int",
        "__slots__ = '__dict__'\ncached: int",
        "id: 'uuid.UUID'\nother = 'x'\nnames = ()",
        "author = co.ForeignKeyField('User')\nauthor_id: int",
        "class Upper(co.Field):\n    pass\nAlias = Upper\nname = Upper()",
        "meta = co.JSONField(default={})\nmetadata = {}",
        "def method(self): ...\nmethod: Any",
        "a = co.StringField()\nb = co.StringField()\nboth = (a, b)\none = (a,)",
        "name = co.IntegerField(default='2')\nother = co.StringField(default=5)\nlater = co.IntegerField(default=str)",
        "name = co.ForeignKeyField('Later', default=5)\nnames = co.ListField(co.ForeignKeyField('Later'), default=[5])",
        "name: str = co.StringField()",
        "_cache: dict[str, co.Field] = {}\n_field: co.Field",
        "name = co.StringField()\nSEARCHABLE: tuple[co.Field, ...] = (name,)",
        "KIND: Literal['TextField'] = 'TextField'",
        "pk: 'type[co.IntegerField]' = property(lambda self: co.IntegerField)",
        "kinds = (co.StringField, co.BinaryField)\nTEXT_FIELDS = (co.StringField,)\nall = {co.StringField}",
        "field_class: type[co.Field] = co.StringField\nother: 'type[co.Field]' = co.StringField",
        "id: UserId\nclass Meta:\n    name = 'legal'",
        "id: ClassVar[int]",
        "limit: CV[int] = 3\nother: 'CV[int]' = 3\nJson: TypeAlias = 'dict[str, Any]'\nPair: TypeAlias = int | str",
        "objects: Manager = Manager()\nothers: Manager['User'] = Manager()\nlast: 'Manager' = Manager()",
        "logger: logging.Logger = logging.getLogger('x')\nmodel_config = {'strict': True}",
        "size: int = functools.cached_property(len)\nparse: Callable[..., int] = functools.partial(int, 3)",
        "__slots__ = {'cached': 'a comment'}\ncached: int\n__match_args__: tuple[str, ...] = ('id',)",
        "@dataclasses.dataclass\nclass Address:\n    street: str\n    fields: list[co.Field]",
        "class Pair(NamedTuple):\n    left: int\n    right: str = ''\nclass Kind(enum.Enum):\n    A = 'a'",
    ],
)
def test_what_is_meant_as_it_is_written_is_accepted(body: str) -> None:
    legal = {"UserId": NewType("UserId", uuid.UUID), "CV": ClassVar, "Manager": Manager, "NamedTuple": NamedTuple}
    modules = {"dataclasses": dataclasses, "enum": enum, "functools": functools, "logging": logging, "uuid": uuid}
    typing = {"Callable": Callable, "Literal": Literal, "TypeAlias": TypeAlias}
    declare(body, **legal, **modules, **typing)


class Manager(Generic[T]):
    """An attribute that other mappers have."""


def test_a_list_may_refer_to_the_fields_of_the_classes_that_are_inherited() -> None:
    class Mixin:
        name = co.StringField()
        email = co.StringField()

    first = declare("search = (Mixin.name, Mixin.email)", "class User(Mixin, co.Model):", Mixin=Mixin)
    declare("search = [Mixin.name, first.id]", "class User(first):", Mixin=Mixin, first=first)
    with pytest.raises(TypeError, match=r"^User\.search: a list of fields declares none"):
        declare("search = [Mixin.name, co.StringField()]", "class User(Mixin, co.Model):", Mixin=Mixin)


def test_classes_of_other_libraries_may_annotate_their_own_fields() -> None:
    class FormField:
        pass

    class Form:
        form: FormField
        field: FormField | None = None
        other: "FormField | None" = None  # noqa: UP037
        name: str

    made = declare("form: FormField = FormField()", "class User(Form, co.Model):", Form=Form, FormField=FormField)
    assert made.field is None


def test_instances_that_have_a_dict_may_have_annotated_attributes() -> None:
    user = declare("note: str", "class User(Mixin, co.Model):", Mixin=type("Mixin", (), {}))
    row = user()
    row.note = "x"
    assert row.note == "x"
    with pytest.raises(TypeError, match=r"^User\.note: an annotation alone declares no field"):
        declare("note: str", "class User(Mixin, co.Model):", Mixin=type("Mixin", (), {"__slots__": ()}))


def test_a_field_that_is_removed_may_be_annotated() -> None:
    base = model("Base", name=co.StringField(), other=co.StringField())
    user = declare("name: None = None\nother: 'None' = None", Base=base)
    assert list(user._meta.fields) == ["id"]


def test_an_inherited_annotation_says_what_the_key_is_too() -> None:
    abstract: Any = {"Meta": type("Meta", (), {"abstract": True})}
    for base in (
        (model("Base", __annotations__={"id": int}, **abstract),),
        (type("Mixin", (), {"__annotations__": {"id": "int"}}), co.Model),
    ):
        with pytest.raises(TypeError, match=r"^User\.id: .*the key would be a UUID"):
            model("User", base)
        assert model("User", base, id=co.IntegerField(primary_key=True))
        assert model("User", base, __annotations__={"id": uuid.UUID}).id


def test_protocols_and_abstract_classes_may_be_inherited_with_a_metaclass_of_both() -> None:
    class Named(Protocol):
        name: str

        def greet(self) -> str:
            return f"I am {self.name}"

    metaclass: Any = type("Both", (ModelBase, type(Named)), {})
    user = metaclass("User", (Named, co.Model), {"__qualname__": "<locals>.User", "name": co.StringField()})
    assert user(name="Sam").greet() == "I am Sam"


class Lazy:
    """An object that must not be used before the program runs, like those of web frameworks."""

    def fail(self, *args: object) -> Any:
        raise RuntimeError("used while a class was created")

    __class__ = property(fail)  # type: ignore[assignment]
    __getattribute__ = __eq__ = __hash__ = fail  # type: ignore[assignment]
    __repr__ = __bool__ = __len__ = __iter__ = __call__ = fail


def test_the_checks_run_no_code_of_what_a_class_has() -> None:
    names: dict[str, Any] = {name: Lazy() for name in ("current", "meta", "hidden", "replaced")}
    names |= {"parts": (Lazy(),), "several": [Lazy(), Lazy()], "__annotations__": {"current": int, "more": Lazy()}}
    base = model("Base", (type("Mixin", (), names), co.Model), Meta=type("Meta", (), {"abstract": True}))
    user = model("User", (base,), **names)
    assert list(model("Child", (user,), hidden=co.IntegerField())._meta.fields) == ["id", "hidden"]


def test_the_check_of_a_default_leaves_the_default_alone() -> None:
    class Popping(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            return value.pop()

    assert model(name=Popping(default=[1, 2]))().name == [1, 2]


def test_fields_and_methods_may_be_annotated_again_where_they_are_inherited() -> None:
    class Named:
        title: str
        shared = co.StringField()

    class Base(co.Model):
        later: int
        name = co.StringField()

        @property
        def size(self) -> int:
            return 1

        class Meta:
            abstract = True

    user = declare(
        "later = co.IntegerField()\nname: str\nsize: int\nshared: str", "class User(Named, Base):", **locals()
    )
    assert {"later", "name", "shared"} <= set(user._meta.fields)
    with pytest.raises(TypeError, match=r"^User\.later: an annotation alone declares no field"):
        declare("pass", Base=Base)
    with pytest.raises(TypeError, match=r"^User\.name: an annotation with a field declares none"):
        declare("name: co.StringField\nclass Meta:\n    abstract = True")


def test_the_bodies_of_plain_mixins_are_checked_with_the_first_model() -> None:
    for mixin in (
        type("Mixin", (), {"name": co.StringField}),
        type("Mixin", (), {"name": (co.StringField(),)}),
        type("Mixin", (), {"name": co.IntegerField(default="two")}),
        type("Mixin", (), {"__annotations__": {"name": co.StringField}}),
    ):
        with pytest.raises(TypeError, match=r"^User\.name: "):
            model("User", (mixin, co.Model))


def test_a_default_that_code_of_the_program_cannot_convert_yet_is_not_checked() -> None:
    def field(failure: Exception) -> Any:
        class Late(co.Field[str]):
            def cache_value(self, value: Any) -> Any:
                raise failure

        return Late(default="x")

    for unready in (RuntimeError("not configured"), KeyError("not configured"), AttributeError("no key")):
        model(name=field(unready))
    for wrong in (TypeError("wrong"), ValueError("wrong")):
        with pytest.raises(TypeError, match=r"^User\.name: the field does not take its default: cache_value raised"):
            model(name=field(wrong))


def test_a_related_instance_is_a_default_if_it_is_of_the_right_model() -> None:
    user, other = model(id=co.IntegerField(primary_key=True)), model("Other")
    model("Article", author=co.ForeignKeyField(user, default=user()))
    with pytest.raises(TypeError, match=r"^Article\.author: the field does not take its default"):
        model("Article", author=co.ForeignKeyField(user, default=other()))


class Tone(enum.Enum):
    HIGH = "h"
    LOW = "l"

    def __call__(self) -> str:
        raise AssertionError("a member is a value")

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.HIGH if value == "shrill" else None


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_a_member_of_an_enumeration_is_a_value_also_if_it_can_be_called(
    serializer: str, memory: co.SimpleBackend
) -> None:
    user = model(
        id=co.IntegerField(primary_key=True),
        tone=co.EnumField(Tone, default=Tone.LOW),
        tones=co.ListField(co.EnumField(Tone), default=[Tone.LOW]),
        Meta=type("Meta", (), {"backend": memory, "serializer": serializer}),
    )
    assert user(id=1).tone is Tone.LOW
    user.create(id=1)
    user.insert_many({"id": 2}, {"id": 3, "tone": "shrill"}).execute()
    assert [row.tone for row in user.query_many([{"id": 1}, {"id": 2}, {"id": 3}]).execute()] == [
        Tone.LOW,
        Tone.LOW,
        Tone.HIGH,
    ]


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_what_an_older_release_stored_goes_through_the_hook_of_the_enumeration(serializer: str, backend: Any) -> None:
    if serializer == "pickle" and not backend.in_process:
        serializer = "json"

    class Meta:
        name = "note"
        primary_key = co.CompositeKey("tone", "number")

    Meta.backend, Meta.serializer = backend, serializer  # type: ignore[attr-defined]
    old = model("Old", tone=co.StringField(), number=co.IntegerField(), other=co.StringField(), Meta=Meta)
    new = model("New", tone=co.EnumField(Tone), number=co.IntegerField(), other=co.EnumField(Tone), Meta=Meta)
    old.insert_many([{"tone": "h", "number": number, "other": "shrill"} for number in range(3)]).execute()
    assert new.key(tone="shrill", number=1) == old.key(tone="h", number=1)
    assert new.get(tone="shrill", number=1).other is Tone.HIGH
    rows = new.query_many([{"tone": Tone.HIGH, "number": number} for number in range(3)]).execute()
    assert [(row.tone, row.other) for row in rows] == [(Tone.HIGH, Tone.HIGH)] * 3
    old.create(tone="h", number=1, other="flat")
    with pytest.raises(co.PayloadError, match="expected the value of a member of Tone"):
        new.get(tone="h", number=1)


# -- names -------------------------------------------------------------------------------------------

NAMES = [
    "self",
    "cls",
    "defaults",
    "values",
    "pk",
    "row",
    "instance",
    "name",
    "kwargs",
    "meta",
    "_value_id",
    "x",
    "_value_x",
]


def odd_model(backend: Any) -> Any:
    return model(
        "Odd",
        self=co.StringField(primary_key=True),
        **{name: co.StringField(null=True) for name in NAMES if name != "self"},
        Meta=type("Meta", (), {"backend": backend}),
    )


def test_fields_may_have_the_names_of_arguments_and_slots(backend: Any) -> None:
    odd = odd_model(backend)
    values = {name: name.upper() for name in NAMES}
    row = odd(**values)
    assert row.to_dict() == values
    assert odd.from_dict(values).to_dict() == values
    assert odd.create(**values) == row
    assert odd.insert(**values).execute() == row
    assert odd.get(self="SELF").to_dict() == odd.get_or_none(self="SELF").to_dict() == values
    assert odd.get_or_create(**values) == (row, False)
    assert odd.query(self="SELF").execute().to_dict() == values
    assert odd.update(self="SELF", cls="c", pk=None, _value_x="v").execute()._value_x == "v"
    assert odd.set_by_id("SELF", {"defaults": "d", "values": "v"}).defaults == "d"
    assert odd.exists(self="SELF")
    assert odd.key(self="SELF") == co.CacheBuilder(odd, row=values).build_key() == "m:odd:self:SELF"
    assert co.Query((odd, [{"self": "SELF"}])).execute() == [row]
    assert co.Insert((odd, [values]), odd(**values)).execute() == [row, row]
    assert co.Update((odd, [{"self": "SELF", "cls": "x"}])).execute()[0].cls == "x"
    assert odd.delete(self="SELF").execute()
    assert odd.get_or_create(**values) == (row, True)
    assert odd.get(self="SELF").to_dict() == values


async def awaited(odd: Any, values: dict[str, str]) -> None:
    row = odd(**values)
    assert await odd.acreate(**values) == row
    assert (await odd.aget(self="SELF")).to_dict() == (await odd.aget_or_none(self="SELF")).to_dict() == values
    assert await odd.aexists(self="SELF")
    assert await odd.aget_or_create(**values) == (row, False)
    assert await odd.adelete_by_id("SELF")
    assert await odd.aget_or_create(**values) == (row, True)


def test_so_they_may_where_calls_are_awaited(memory: co.SimpleBackend) -> None:
    asyncio.run(awaited(odd_model(memory), {name: name.upper() for name in NAMES}))


def test_values_for_creating_are_given_first_where_a_field_is_called_defaults(memory: co.SimpleBackend) -> None:
    options = {"id": co.IntegerField(primary_key=True), "Meta": type("Meta", (), {"backend": memory})}
    usual = model("Usual", name=co.StringField(), **options)
    odd = model("Odd", defaults=co.JSONField(null=True), name=co.StringField(null=True), **options)
    assert usual.get_or_create(id=1, defaults={"name": "a"})[0].name == "a"
    assert usual.get_or_create({"name": "b"}, id=2)[0].name == "b"
    assert usual.get_or_create(id=2, defaults=None)[0].name == "b"
    assert odd.get_or_create(id=1, defaults={"name": "a"})[0].to_dict() == {
        "id": 1,
        "defaults": {"name": "a"},
        "name": None,
    }
    assert odd.get_or_create({"name": "b"}, id=2, defaults=[1])[0].to_dict() == {"id": 2, "defaults": [1], "name": "b"}
    with pytest.raises(TypeError, match="Usual has no field 'defaults'"):
        usual.get_or_create({"name": "a"}, id=3, defaults={})


def test_a_slot_and_a_field_of_one_name_are_kept_apart_in_copies_too(memory: co.SimpleBackend) -> None:
    pair = globals()["PairOfSlots"]
    row = pair(id=1, x="x", _value_x="v")
    for copied in (copy.copy(row), copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert copied.to_dict() == {"id": 1, "x": "x", "_value_x": "v"}
    with co.bind([pair], backend=memory):
        pair.create(id=1, x="x", _value_x="v")
        found = pickle.loads(pickle.dumps(pair.get(id=1)))
        pair.update(id=1, _value_x="changed").execute()
        found.x = "y"
        assert found.save()
        assert pair.get(id=1).to_dict() == {"id": 1, "x": "y", "_value_x": "changed"}


class HalfOfSlots(co.Model):
    id = co.IntegerField(primary_key=True)
    x = co.StringField()


class PairOfSlots(HalfOfSlots):
    _value_x = co.StringField()


def test_a_field_that_hides_a_method_warns_once() -> None:
    class Base(co.Model):
        def full_name(self) -> str:
            return ""

        @property
        def size(self) -> int:
            return 1

        class Meta:
            abstract = True

    def declared(*bases: Any, **fields: Any) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = model("User", bases, **fields)
        return made, [str(warning.message) for warning in caught]

    user, texts = declared(Base, full_name=co.StringField(), size=co.IntegerField(), ttl=co.IntegerField())
    assert [text.split(";")[0] for text in texts] == [
        "User.full_name: the field hides the method Base.full_name",
        "User.size: the field hides the method Base.size",
        "User.ttl: the field hides the method Instance.ttl",
    ]
    assert declared(user, ttl=co.FloatField())[1] == []
    mixin = type("Mixin", (), {"save": co.StringField()})
    assert [text.split(";")[0] for text in declared(mixin, co.Model)[1]] == [
        "User.save: the field hides the method Instance.save"
    ]
    assert [text.split(";")[0] for text in declared(co.Model, get=co.ForeignKeyField(user))[1]] == [
        "User.get: the field hides the method Model.get",
        "User.get_id: the field hides the method Instance.get_id",
    ]


# -- models that are not complete yet ----------------------------------------------------------------


@pytest.mark.parametrize("parent", ["abstract", "with rows"])
@pytest.mark.parametrize(
    "use",
    [
        lambda cls: cls.create(id=1),
        lambda cls: cls(id=1),
        lambda cls: cls.query_many([{"id": 1}]),
        lambda cls: cls.key(id=1),
        lambda cls: cls._meta.fields,
        lambda cls: cls.author_id,
        co.ForeignKeyField,
        lambda cls: co.Insert((cls, [{"id": 1}])).execute(),
        lambda cls: co.bind([cls], backend="memory://"),
    ],
)
def test_a_model_says_that_it_is_not_complete_yet(parent: str, use: Any, memory: co.SimpleBackend) -> None:
    seen: list[str] = []

    def try_it(cls: Any) -> None:
        with pytest.raises((AttributeError, TypeError), match=r"User(, which)? is not complete yet"):
            use(cls)
        seen.append(cls.__name__)

    class Base(co.Model):
        id = co.IntegerField(primary_key=True)

        def __init_subclass__(cls) -> None:
            super().__init_subclass__()
            try_it(cls)

        class Meta:
            backend = memory
            abstract = parent == "abstract"

    class Named(co.StringField[str]):
        def __set_name__(self, owner: Any, name: str) -> None:
            try_it(owner)

    class User(Base):
        name = Named(default="")
        author = co.ForeignKeyField("self", null=True)

    assert seen == ["User", "User"]
    assert User.create(id=1).name == ""


# -- many threads ------------------------------------------------------------------------------------


def declare_in_threads(sources: list[tuple[dict[str, Any], list[str]]]) -> list[BaseException]:
    """Execute class statements, those of each namespace in a thread of its own; return the errors."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(sources))

    def work(names: dict[str, Any], statements: list[str]) -> None:
        barrier.wait()
        try:
            for statement in statements:
                exec(statement, names)
        except (TypeError, RuntimeError) as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=each) for each in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return errors


def namespace(module: str, **options: Any) -> dict[str, Any]:
    base = model("Base", Meta=type("Meta", (), {"abstract": True, **options}))
    return {"co": co, "__name__": module, "Base": base}


def test_models_are_declared_by_many_threads_at_once() -> None:
    source = """
class M{number}(Base):
    id = co.IntegerField(primary_key=True)
    parent = co.ForeignKeyField("self", null=True)
    next = co.ForeignKeyField("M{next}", null=True)
    others = co.ListField(co.ForeignKeyField("M{next}"), default=[])
"""
    each = enough(300)
    statements = [source.format(number=number, next=(number + 1) % each) for number in range(each)]
    spaces = [namespace(f"declared_in_{thread}", namespace=f"thread {thread}") for thread in range(6)]
    assert declare_in_threads([(names, statements) for names in spaces]) == []
    for names in spaces:
        for number in range(each):
            following = names[f"M{(number + 1) % each}"]
            assert names[f"M{number}"].next.rel_model is following
            assert names[f"M{number}"].others.field.rel_model is following


def test_of_two_threads_one_may_declare_a_model_of_given_keys() -> None:
    for attempt in range(enough(200)):
        spaces = [namespace(f"module{thread}", namespace=f"twins {attempt}") for thread in range(2)]
        (error,) = declare_in_threads([(names, ["class Twin(Base): pass"]) for names in spaces])
        assert "would write the same keys" in str(error)
        assert ["Twin" in names for names in spaces].count(True) == 1


def test_a_finalizer_may_declare_a_model_while_another_is_declared() -> None:
    late: list[Any] = []

    class Garbage:
        def __del__(self) -> None:
            late.append(model("Late", other=co.ForeignKeyField("Late", null=True)))

    for _ in range(20):
        one, other = Garbage(), Garbage()
        one.other, other.other = other, one  # type: ignore[attr-defined]
        del one, other
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            names: dict[str, Any] = {"co": co, "__name__": "collected"}
            exec("class Early(co.Model):\n    later = co.ForeignKeyField('Early', null=True)", names)
        finally:
            gc.set_threshold(*threshold)
    assert late
    assert late[-1].other.rel_model is late[-1]


def test_names_of_released_models_are_forgotten() -> None:
    made = model("Released", others=co.ListField(co.ForeignKeyField("self"), default=[]))
    known = weakref.ref(made)
    del made
    gc.collect()
    assert known() is None
