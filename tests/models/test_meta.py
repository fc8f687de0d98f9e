"""Meta options: what they may be, how they are inherited, and what is refused when the class is created."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import cacheorm as co


def model_with(bases: tuple[Any, ...] = (co.Model,), **options: Any) -> Any:
    body = {"__qualname__": "<locals>.User", "Meta": type("Meta", (), options)}
    return type(co.Model)("User", bases, body)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("tttl", "did you mean 'ttl'"),
        ("backends", "did you mean 'backend'"),
        ("x", "known are: abstract, accepts, aloader, backend"),
    ],
)
def test_an_unknown_option_is_an_error_that_names_the_closest(option: str, hint: str) -> None:
    with pytest.raises(TypeError, match=rf"User\.Meta has no option '{option}'; {hint}"):
        model_with(**{option: 1})


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("backend", 5, TypeError),
        ("backend", co.SimpleBackend, TypeError),
        ("backend", {}, TypeError),
        ("backend", "nowhere://", ValueError),
        ("serializer", 5, TypeError),
        ("serializer", co.JSONSerializer, TypeError),
        ("serializer", "yaml", ValueError),
        ("ttl", "60", TypeError),
        ("ttl", True, TypeError),
        ("ttl", -1, ValueError),
        ("ttl", -0.5, ValueError),
        ("ttl", 0.5, ValueError),
        ("ttl", float("inf"), ValueError),
        ("ttl_jitter", 1.5, ValueError),
        ("ttl_jitter", -0.1, ValueError),
        ("ttl_jitter", True, ValueError),
        ("ttl_jitter", "0.5", ValueError),
        ("ttl_jitter", float("nan"), ValueError),
        ("name", "", TypeError),
        ("name", 5, TypeError),
        ("namespace", b"x", TypeError),
        ("on_invalid", "ignore", ValueError),
        ("on_invalid", ["miss"], ValueError),
        ("primary_key", "id", ValueError),
        ("primary_key", ("a", "b"), ValueError),
        ("abstract", "no", TypeError),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_by_name(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"User\.Meta\.{option}"):
        model_with(**{option: value})


def test_an_option_with_a_colon_for_an_equals_sign_is_refused() -> None:
    colon: Any = {"ttl": "60"}
    for annotation in (60, "60", int):
        with pytest.raises(TypeError, match=r"^User\.Meta\.ttl: an annotation sets no option; write ttl = "):
            model_with(__annotations__={"ttl": annotation})
    with pytest.raises(TypeError, match=r"^User\.Meta\.name: an annotation sets no option"):
        model_with(__annotations__={"name": "'users'"})
    with pytest.raises(TypeError, match=r"^User\.Meta\.ttl: an annotation sets no option"):
        model_with((type("Mixin", (), {"Meta": type("Meta", (), {"__annotations__": colon})}), co.Model))

    class Common:
        ttl: int
        name: ClassVar[str]
        helper: int

    def user(**names: Any) -> Any:
        meta = type("Meta", (Common,), names)
        return type(co.Model)("User", (co.Model,), {"__qualname__": "<locals>.User", "Meta": meta})

    assert user(ttl=60, __annotations__={"ttl": int})._meta.ttl == 60
    with pytest.raises(TypeError, match=r"^User\.Meta\.ttl: "):
        user()
    base = model_with(ttl=50, abstract=True)
    with pytest.raises(TypeError, match=r"^User\.Meta\.ttl: "):
        type(co.Model)("User", (base,), {"Meta": type("Meta", (base.Meta,), {"__annotations__": colon})})


def test_a_url_with_a_password_is_not_shown() -> None:
    with pytest.raises(ValueError, match="backend") as caught:
        model_with(backend="nowhere://user:hunter2@host/")
    assert "hunter2" not in str(caught.value)


def test_a_meta_that_is_no_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"User\.Meta must be a class, got dict"):
        type(co.Model)("User", (co.Model,), {"Meta": {"ttl": 5}})
    assert type(co.Model)("User", (co.Model,), {"Meta": None, "__qualname__": "<locals>.User"})


def test_none_for_backend_and_serializer_counts_as_left_out(memory: co.SimpleBackend) -> None:
    plain = model_with(backend=None, serializer=None)
    assert plain._meta.backend is co.default_backend
    assert plain._meta.serializer is co.registry.get_by_name("msgpack")
    base = model_with(abstract=True, backend=memory, serializer="json")
    child = model_with((base,), backend=None, serializer=None)
    assert child._meta.backend is memory
    assert child._meta.serializer is co.registry.get_by_name("json")


def test_options_are_inherited_but_for_name_key_and_abstract(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        number = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory
            serializer = "json"
            ttl = 50
            ttl_jitter = 0.5
            namespace = "app"
            name = "thing"
            on_invalid = "miss"

    class Child(Base):
        class Meta:
            ttl = None

    assert Base.key(number=1) == "app:m:thing:number:1"
    assert Child.key(number=1) == "app:m:child:number:1"
    options = Child._meta.options
    assert (options.backend, options.ttl_jitter, options.on_invalid, options.ttl) == (memory, 0.5, "miss", None)


def test_every_base_contributes_its_options(memory: co.SimpleBackend) -> None:
    short = model_with(abstract=True, ttl=50, namespace="short")
    readable = model_with(abstract=True, serializer="json", backend=memory, ttl=99)
    options = model_with((short, readable), ttl_jitter=0.5)._meta.options
    assert (options.ttl, options.namespace, options.backend, options.ttl_jitter) == (50, "short", memory, 0.5)
    assert options.serializer is co.registry.get_by_name("json")


def test_meta_may_inherit_the_meta_of_the_base(memory: co.SimpleBackend) -> None:
    class Common:
        namespace = "common"
        name = "given"

    class Base(co.Model):
        left = co.IntegerField()
        right = co.IntegerField()

        class Meta:
            abstract = True
            backend = memory
            name = "base"
            ttl = 50
            primary_key = co.CompositeKey("left", "right")

    class Child(Base):
        class Meta(Base.Meta):
            ttl_jitter = 0.5

    class Single(Base):
        number = co.IntegerField(primary_key=True)

        class Meta(Common, Base.Meta):
            pass

    assert Child._meta.options.abstract is False
    assert Child.key(left=1, right=2) == "m:child:left:1:right:2"
    assert (Child._meta.ttl, Child._meta.options.ttl_jitter, Child._meta.backend) == (50, 0.5, memory)
    assert Single.key(number=1) == "common:m:given:number:1"


def test_a_shorter_lifetime_than_a_second_never_becomes_forever() -> None:
    assert model_with(ttl=0)._meta.ttl == 0
    assert model_with(ttl=1.9)._meta.ttl == 1
    with pytest.raises(ValueError, match="0 or at least 1 second"):
        model_with(ttl=0.9)


def test_models_that_name_one_url_share_one_backend(tmp_path: Any) -> None:
    url = (tmp_path / "cache").as_uri()
    first, second = model_with(backend=url), model_with(backend=url)
    assert first._meta.backend is second._meta.backend
    assert model_with(backend="memory://")._meta.backend is model_with(backend="memory://")._meta.backend


def test_whatever_behaves_like_a_backend_is_one(memory: co.SimpleBackend) -> None:
    class Traced:
        def __init__(self, inner: co.BaseBackend) -> None:
            self.inner = inner
            self.used: list[str] = []

        def __getattr__(self, name: str) -> Any:
            self.used.append(name)
            return getattr(self.inner, name)

    class Empty(co.SimpleBackend):
        def __bool__(self) -> bool:
            return False

    traced = Traced(memory)
    user = model_with(backend=traced)
    row = user.create()
    assert user.query_many([row]).execute() == [row]
    assert {"set", "get_chunks"} <= set(traced.used)
    empty = Empty()
    assert model_with(backend=empty)._meta.backend is empty


def test_a_serializer_may_be_an_instance(memory: co.SimpleBackend) -> None:
    serializer = co.JSONSerializer()
    user = model_with(backend=memory, serializer=serializer)
    assert user._meta.serializer is serializer
    row = user.create()
    assert memory.get(user.key(id=row.id)) == b"{}"


def test_rows_that_cannot_be_read_are_errors_or_misses(backend: co.BaseBackend) -> None:
    strict = model_with(backend=backend, name="user")
    lenient = model_with(backend=backend, name="user", on_invalid="miss")
    row = strict.create()
    backend.set(strict.key(id=row.id), b"\xff\xff nonsense")
    for read in (
        lambda: strict.get(id=row.id),
        lambda: strict.query_many([row]).execute(),
        row.refresh,
        strict.update(id=row.id).execute,
    ):
        with pytest.raises(co.PayloadError, match=r"User: .* \(key m:user:id:[0-9a-f]{32}, read as msgpack\)"):
            read()
    assert lenient.get_or_none(id=row.id) is None
    assert lenient.query_many({"id": row.id}).execute() == [None]
    assert lenient.update(id=row.id).execute() is None
    assert lenient.get_or_create(id=row.id)[1] is True
    assert lenient.get_or_create(id=row.id)[1] is False
    assert strict.get(id=row.id) == row


def test_pickle_stays_in_this_process(backend: co.BaseBackend, memory: co.SimpleBackend) -> None:
    row = model_with(backend=memory, serializer="pickle").create()
    assert type(row).get(id=row.id) == row
    if not backend.in_process:
        with pytest.raises(TypeError, match=r"User: pickle on \w+ is refused.*PickleSerializer\(secret="):
            model_with(backend=backend, serializer="pickle")
        with pytest.raises(TypeError, match="pickle"):
            co.bind([type(row)], backend=backend)
        assert type(row)._meta.backend is memory


# -- Meta of plain classes ---------------------------------------------------------------------------


def test_a_meta_in_a_plain_mixin_is_used_where_python_finds_it(memory: co.SimpleBackend) -> None:
    class Short:
        class Meta:
            ttl = 50
            backend = memory
            namespace = "short"

    class Long:
        class Meta:
            ttl = 99
            serializer = "json"

    class Base(co.Model):
        class Meta:
            abstract = True
            ttl = 70
            on_invalid = "miss"

    def options(*bases: Any, **own: Any) -> Any:
        return model_with(bases, **own)._meta.options

    user = type(co.Model)("User", (Short, co.Model), {"__qualname__": "<locals>.User"})
    assert user.Meta is Short.Meta
    assert (user._meta.ttl, user._meta.backend, user._meta.options.namespace) == (50, memory, "short")
    assert options(Short, Base).ttl == 50
    assert options(Base, Short).ttl == 70
    assert options(Base, Short).backend is memory
    assert options(Short, Base).on_invalid == "miss"
    assert options(Short, Long, co.Model).ttl == 50
    assert options(Short, Long, co.Model).serializer is co.registry.get_by_name("json")
    assert options(Short, co.Model, ttl=5).ttl == 5
    assert options(Short, co.Model, ttl=None).ttl is None
    assert options(Short, co.Model, backend=None).backend is memory
    child = model_with((Long, user))
    assert (child._meta.ttl, child._meta.backend) == (99, memory)


def test_a_meta_in_a_plain_mixin_is_refused_for_what_it_cannot_be() -> None:
    with pytest.raises(TypeError, match=r"User\.Meta has no option 'tttl'; did you mean 'ttl'"):
        model_with((type("Mixin", (), {"Meta": type("Meta", (), {"tttl": 5})}), co.Model))
    with pytest.raises(ValueError, match=r"User\.Meta\.ttl"):
        model_with((type("Mixin", (), {"Meta": type("Meta", (), {"ttl": -5})}), co.Model))
    with pytest.raises(TypeError, match=r"User\.Meta must be a class, got dict"):
        model_with((type("Mixin", (), {"Meta": {"ttl": 5}}), co.Model))


def test_the_first_model_of_a_mixin_has_its_name_and_key_and_subclasses_have_not(memory: co.SimpleBackend) -> None:
    class Places:
        left = co.IntegerField()
        right = co.IntegerField()

        class Meta:
            name = "place"
            primary_key = co.CompositeKey("left", "right")
            backend = memory

    place = model_with((Places, co.Model))
    assert place.key(left=1, right=2) == "m:place:left:1:right:2"
    same = model_with((Places, co.Model), ttl=5)
    assert same.key(left=1, right=2) == "m:place:left:1:right:2"
    explicit = type(co.Model)("Spot", (Places, co.Model), {"__qualname__": "<locals>.Spot", "Meta": Places.Meta})
    assert explicit.key(left=1, right=2) == "m:place:left:1:right:2"
    assert model_with((place,)).key(left=1, right=2) == "m:user:left:1:right:2"
    own_key = type(co.Model)(
        "Own", (Places, co.Model), {"__qualname__": "<locals>.Own", "id": co.IntegerField(primary_key=True)}
    )
    assert own_key.key(id=1) == "m:place:id:1"
    base = model_with((type("Mixin", (), {"Meta": type("Meta", (), {"abstract": True, "ttl": 5})}), co.Model))
    with pytest.raises(AttributeError, match="abstract"):
        base.key(id=1)
    assert model_with((base,))._meta.ttl == 5


def test_none_in_a_meta_that_inherits_another_counts_as_left_out(memory: co.SimpleBackend) -> None:
    class Common:
        backend = memory
        serializer = "json"
        ttl = 5

    class User(co.Model):
        class Meta(Common):
            backend = None
            serializer = None
            ttl = None

    assert User._meta.backend is memory
    assert User._meta.serializer is co.registry.get_by_name("json")
    assert User._meta.ttl is None
