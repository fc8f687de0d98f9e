"""Two models that would write the same keys to one backend: refused at class creation, by bind and by configure."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

import cacheorm as co
from cacheorm.metadata import defaults


def declare(source: str, module: str, **names: Any) -> Any:
    """Run ``source`` as a module of that name."""
    made = types.ModuleType(module)
    vars(made).update({"co": co, **names})
    exec(source, vars(made))
    return made


def user(module: str, backend: co.BaseBackend | None) -> Any:
    """Declare a model Clerk in a module."""
    source = (
        "class Clerk(co.Model):\n    id = co.IntegerField(primary_key=True)\n    class Meta:\n        backend = place\n"
    )
    return declare(source, module, place=backend).Clerk


@pytest.fixture
def places() -> list[co.BaseBackend]:
    return [co.SimpleBackend() for _ in range(3)]


@pytest.fixture
def restored() -> Iterator[None]:
    """Set the process's defaults back at the end."""
    before = defaults.chosen_backend
    yield
    defaults._backend = before
    defaults.generation += 1


# -- bind and configure ------------------------------------------------------------------------------


def test_bind_refuses_two_models_of_one_name_on_one_backend(places: list[co.BaseBackend]) -> None:
    one, other = user("bound.one", places[0]), user("bound.other", places[1])
    with pytest.raises(
        TypeError, match=r"bound\.one\.Clerk and bound\.other\.Clerk would write the same keys \(m:clerk:"
    ):
        co.bind([one], backend=places[1])
    with pytest.raises(TypeError, match=r"bound\.one\.Clerk and bound\.other\.Clerk would write the same keys"):
        co.bind([one, other], backend=places[2])
    with pytest.raises(TypeError, match="would write the same keys"), co.bind([other], backend=places[0]):
        pass
    assert [model._meta.backend for model in (one, other)] == places[:2]
    one.create(id=1)
    assert not other.exists(id=1)


def test_bind_allows_models_to_go_elsewhere(places: list[co.BaseBackend]) -> None:
    one, other = user("moved.one", places[0]), user("moved.other", places[1])
    co.bind([one], backend=places[2])
    co.bind([other], backend=places[0])
    co.bind([one], backend=places[1])
    with co.bind([one], backend=places[2]), co.bind([other], backend=places[1]):
        assert [model._meta.backend for model in (one, other)] == [places[2], places[1]]
    assert [model._meta.backend for model in (one, other)] == [places[1], places[0]]
    co.bind([one, other], serializer="json")
    co.bind([one], backend=places[1])


def test_bind_allows_a_module_that_was_executed_again_and_models_of_functions(places: list[co.BaseBackend]) -> None:
    first, second = user("again", places[0]), user("again", places[1])
    co.bind([first, second], backend=places[2])

    def make() -> Any:
        class Clerk(co.Model):
            class Meta:
                backend = places[0]

        return Clerk

    co.bind([make(), make()], backend=places[2])


@pytest.mark.usefixtures("restored")
def test_configure_refuses_what_bind_refuses(places: list[co.BaseBackend]) -> None:
    co.configure(backend=places[0])
    default, own = user("default.one", None), user("default.other", places[1])
    with pytest.raises(TypeError, match=r"default\.other\.Clerk and default\.one\.Clerk would write the same keys"):
        co.configure(backend=places[1], serializer="json")
    assert default._meta.backend is places[0]
    assert str(default._meta.serializer) != "json"
    co.configure(backend=places[2])
    with pytest.raises(TypeError, match="would write the same keys"):
        co.bind([own], backend=places[2])
    with pytest.raises(TypeError, match=r"default\.third\.Clerk and default\.one\.Clerk"):
        user("default.third", places[2])
    with co.bind([default], backend=places[0]):
        co.configure(backend=places[1])
        co.configure(backend=places[2])


# -- inherited formatters ----------------------------------------------------------------------------

FORMATTED = """
class Base(co.Model):
    id = co.IntegerField(primary_key=True, index_formatter="base-%d")
    class Meta:
        backend = place
        abstract = {abstract}
"""
SUB = "class {name}(Base):\n    {body}\n"


def test_a_model_that_inherits_the_formatter_of_one_with_rows_is_refused(memory: co.SimpleBackend) -> None:
    source = FORMATTED.format(abstract=False)
    with pytest.raises(
        TypeError, match=r"shop\.Sub and shop\.Base would .* index_formatter of Base: declare .* its own"
    ):
        declare(source + SUB.format(name="Sub", body="n = co.IntegerField()"), "shop", place=memory)
    own = "id = co.IntegerField(primary_key=True, index_formatter='sub-%d')"
    made = declare(source + SUB.format(name="Sub", body=own), "shop", place=memory)
    made.Base.create(id=1)
    assert (made.Sub.key(id=1), made.Sub.exists(id=1)) == ("sub-1", False)
    # Without a formatter the key has the model's name.
    made = declare(source + SUB.format(name="Sub", body="id = co.IntegerField(primary_key=True)"), "shop", place=memory)
    assert made.Sub.key(id=1) == "m:sub:id:1"
    elsewhere = "class Meta:\n        backend = co.SimpleBackend()"
    made = declare(source + SUB.format(name="Sub", body=elsewhere), "shop", place=memory)
    with pytest.raises(TypeError, match="would write the same keys"):
        co.bind([made.Sub], backend=memory)


def test_two_subclasses_of_one_abstract_model_cannot_share_its_formatter(memory: co.SimpleBackend) -> None:
    source = FORMATTED.format(abstract=True) + SUB.format(name="First", body="pass")
    assert declare(source, "shelf", place=memory).First.key(id=1) == "base-1"
    with pytest.raises(TypeError, match=r"shelf\.Second and shelf\.First would write the same keys"):
        declare(source + SUB.format(name="Second", body="pass"), "shelf", place=memory)
    source += "class Middle(Base):\n    class Meta:\n        abstract = True\nclass Third(Middle):\n    pass\n"
    with pytest.raises(TypeError, match=r"shelf\.Third and shelf\.First"):
        declare(source, "shelf", place=memory)


@pytest.mark.parametrize("mixin", [False, True])
def test_a_composite_key_with_a_formatter_is_not_shared_either(memory: co.SimpleBackend, mixin: bool) -> None:
    source = (
        "class Base(co.Model):\n    a = co.IntegerField()\n    b = co.IntegerField()\n"
        "    class Meta:\n        backend = place\n        abstract = True\n"
        "        primary_key = co.CompositeKey('a', 'b', index_formatter='%d/%d')\n"
    )
    if mixin:
        source = (
            "class Base:\n    id = co.IntegerField(primary_key=True, index_formatter='%d')\n"
            "class Model(co.Model):\n    class Meta:\n        backend = place\n        abstract = True\n"
        )
    bases = "(Base, Model)" if mixin else "(Base)"
    source += f"class First{bases}:\n    pass\n"
    declare(source, "pairs", place=memory)
    with pytest.raises(TypeError, match=r"pairs\.Second and pairs\.First would write the same keys"):
        declare(source + f"class Second{bases}:\n    pass\n", "pairs", place=memory)


def test_models_with_equal_formatters_that_have_nothing_in_common_are_allowed(memory: co.SimpleBackend) -> None:
    source = FORMATTED.format(abstract=False)
    made = declare(source + source.replace("Base", "Other"), "apart", place=memory)
    assert made.Base.key(id=1) == made.Other.key(id=1)


def test_inherited_formatters_in_functions(memory: co.SimpleBackend) -> None:
    source = FORMATTED.format(abstract=True) + FORMATTED.format(abstract=False).replace("Base", "Row")
    made = declare(source, "tested", place=memory)

    def make(*names: str) -> list[Any]:
        return [type(co.Model)(name, (made.Base,), {"__qualname__": f"make.<locals>.{name}"}) for name in names]

    # Each call of a function, as of a test, makes classes of its own.
    assert len(make("First") + make("Second") + make("First")) == 3

    def model_and_subclass() -> None:
        class Model(co.Model):
            id = co.IntegerField(primary_key=True, index_formatter="model-%d")

        class Sub(Model):
            pass

    with pytest.raises(TypeError, match=r"Sub and .*Model would write the same keys"):
        model_and_subclass()

    def siblings() -> None:
        class Abstract(co.Model):
            id = co.IntegerField(primary_key=True, index_formatter="model-%d")

            class Meta:
                abstract = True

        class One(Abstract):
            pass

        class Other(Abstract):
            pass

    for _ in range(2):
        with pytest.raises(TypeError, match=r"Other and .*One would write the same keys"):
            siblings()

    # A subclass with the name of its parent is meant to read its rows.
    class Row(made.Row):  # type: ignore[misc, name-defined]
        class Meta:
            on_invalid = "miss"

    made.Row.create(id=1)
    assert Row.exists(id=1)
