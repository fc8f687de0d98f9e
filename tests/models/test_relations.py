"""Foreign keys: when they load and when not, what they take, and how names find models."""

from __future__ import annotations

import copy
import pickle
import types
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co

MEMORY = co.SimpleBackend()


class Counting(co.SimpleBackend):
    """Records the keys of all reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.reads.append(key)
        return super().get(key)

    def get_many(self, *keys: str) -> list[bytes | None]:
        self.reads += keys
        return super().get_many(*keys)


class Writer(co.Model):
    number = co.IntegerField(primary_key=True)
    name = co.StringField(default="nobody")

    class Meta:
        backend = MEMORY
        namespace = "test_relations"


class Book(co.Model):
    title = co.StringField(primary_key=True)
    writer = co.ForeignKeyField(Writer)
    sequel_of = co.ForeignKeyField("self", null=True)

    class Meta:
        backend = MEMORY
        namespace = "test_relations"


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def models(counting: Counting) -> Any:
    with co.bind([Writer, Book], backend=counting):
        Writer.insert_many({"number": 1, "name": "Ann"}, {"number": 2, "name": "Bea"}).execute()
        yield counting


def model(name: str, /, *bases: Any, **body: Any) -> Any:
    given = body.pop("Meta", {"backend": MEMORY})
    made = type("Meta", (), given)
    return type(co.Model)(name, bases or (co.Model,), {"__qualname__": f"<locals>.{name}", "Meta": made, **body})


# -- loading -----------------------------------------------------------------------------------------


def test_a_related_row_is_read_once_when_it_is_used(models: Counting) -> None:
    Book.create(title="A", writer=1)
    book = Book.get(title="A")
    models.reads.clear()
    assert book.writer_id == 1  # type: ignore[attr-defined]
    assert repr(book) == "Book(title='A', writer_id=1)"
    assert book.to_dict() == {"title": "A", "writer": 1, "sequel_of": None}
    assert models.reads == []
    assert book.writer.name == "Ann"
    assert book.writer is book.writer
    assert models.reads == [Writer.key(number=1)]


def test_an_assigned_instance_is_never_read(models: Counting) -> None:
    ann = Writer.get(number=1)
    models.reads.clear()
    book = Book.create(title="A", writer=ann)
    assert book.writer is ann
    assert Book(title="B", writer_id=ann).writer is ann
    assert models.reads == []


def test_assigning_another_row_forgets_the_loaded_one(models: Counting) -> None:
    book: Any = Book(title="A", writer=1)
    ann = book.writer
    book.writer_id = 2
    assert book.writer.name == "Bea"
    book.writer = ann
    assert (book.writer, book.writer_id) == (ann, 1)
    book.writer = 2
    assert (book.writer.name, book.writer_id) == ("Bea", 2)
    book.writer_id = ann
    assert (book.writer, book.writer_id) == (ann, 1)
    del book.writer
    with pytest.raises(Writer.DoesNotExist):
        _ = book.writer


def test_assigning_the_same_id_keeps_the_loaded_row(models: Counting) -> None:
    book: Any = Book(title="A", writer=1)
    ann = book.writer
    book.writer_id = 1
    assert book.writer is ann


def test_refresh_forgets_loaded_rows(models: Counting) -> None:
    book = Book.create(title="A", writer=1)
    assert book.writer.name == "Ann"
    Writer.update(number=1, name="Anna").execute()
    assert book.refresh().writer.name == "Anna"


def test_a_missing_target_is_noticed_when_it_is_used(models: Counting) -> None:
    Book.create(title="A", writer=404)
    book: Any = Book.get(title="A")
    assert book.writer_id == 404
    with pytest.raises(Writer.DoesNotExist, match="Writer: no row under key test_relations:m:writer:number:404"):
        _ = book.writer
    Writer.create(number=404, name="Late")
    assert book.writer.name == "Late"


def test_a_reference_that_was_never_set_is_an_error_unless_it_may_be_null(models: Counting) -> None:
    book: Any = Book(title="A")
    with pytest.raises(Writer.DoesNotExist, match=r"<ForeignKeyField: Book\.writer> is not set"):
        _ = book.writer
    assert (book.writer_id, book.sequel_of, book.sequel_of_id) == (None, None, None)
    with pytest.raises(co.ValidationError, match=r"missing value for <Field: Book\.writer>"):
        book.save(force_insert=True)


def test_null_references_are_stored_and_cleared(models: Counting) -> None:
    first = Book.create(title="A", writer=1)
    second = Book.create(title="B", writer=1, sequel_of=first)
    assert Book.get(title="B").sequel_of == first
    cleared = Book.update(title="B", sequel_of=None).execute()
    assert cleared is not None
    assert cleared.sequel_of is None
    second.sequel_of = None
    assert second.sequel_of is None
    assert Book.get(title="B").to_dict()["sequel_of"] is None


def test_a_null_reference_has_no_loaded_row_to_pickle(models: Counting) -> None:
    Book.create(title="A", writer=1)
    book = Book.get(title="A")
    assert book.writer.name == "Ann"
    models.reads.clear()
    for again in (pickle.loads(pickle.dumps(book)), copy.deepcopy(book), copy.copy(book)):
        assert again.writer.name == "Ann"
        assert again.sequel_of is None
    assert models.reads == []


def test_rows_that_refer_to_each_other_copy_and_pickle() -> None:
    book = Book(title="A", writer=Writer(number=1, name="Ann"))
    book.sequel_of = book
    for again in (pickle.loads(pickle.dumps(book)), copy.deepcopy(book)):
        assert again.sequel_of is again


# -- writing -----------------------------------------------------------------------------------------


def test_rows_take_instances_and_ids_under_either_name(models: Counting) -> None:
    ann = Writer.get(number=1)
    rows = Book.insert_many(
        {"title": "A", "writer": ann},
        {"title": "B", "writer_id": ann},
        {"title": "C", "writer": 1},
        {"title": "D", "writer_id": "1"},
        Book(title="E", writer=ann),
    ).execute()
    assert [row.writer_id for row in rows] == [1] * 5  # type: ignore[attr-defined]
    found = Book.query_many({"title": title} for title in "ABCDE").execute()
    assert [row and row.writer for row in found] == [ann] * 5


@pytest.mark.parametrize("name", ["writer", "writer_id"])
@pytest.mark.parametrize("as_instance", [False, True])
def test_updates_take_instances_and_ids_under_either_name(models: Counting, name: str, as_instance: bool) -> None:
    Book.create(title="A", writer=1)
    target = Writer.get(number=2) if as_instance else 2
    row: Any = Book.update(**{"title": "A", name: target}).execute()
    assert (row.writer_id, row.writer.name) == (2, "Bea")
    assert Book.get(title="A").writer.name == "Bea"


def test_two_updates_of_one_row_leave_the_right_related_row(models: Counting) -> None:
    Book.create(title="A", writer=1)
    ann = Writer.get(number=1)
    rows: Any = Book.update_many({"title": "A", "writer": ann}, {"title": "A", "writer_id": 2}).execute()
    assert [(row.writer_id, row.writer.name) for row in rows] == [(2, "Bea"), (2, "Bea")]


def test_an_update_keeps_a_loaded_row_that_is_still_right(models: Counting) -> None:
    ann = Writer.get(number=1)
    book = Book.create(title="A", writer=ann)
    assert book.save()
    assert book.writer is ann


def test_an_instance_without_a_key_gives_it_when_the_row_is_written() -> None:
    owner_model = model("Owner", name=co.StringField(default="x"))
    pet_model = model("Pet", owner=co.ForeignKeyField(owner_model), other=co.ForeignKeyField(owner_model, null=True))
    owner = owner_model()
    pet = pet_model(owner=owner, other=owner)
    assert (pet.owner, pet.owner_id) == (owner, None)
    owner.save()
    assert pet.owner_id == owner.id
    pet.save()
    found = pet_model.get_by_id(pet.id)
    assert (found.owner, found.other) == (owner, owner)


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("write", ["insert_many", "update_many", "insert"])
def test_an_instance_that_was_never_saved_is_refused_and_not_written_as_null(null: bool, write: str) -> None:
    owner_model = model("Owner")
    place = co.SimpleBackend()
    pet_model = model(
        "Pet",
        number=co.IntegerField(primary_key=True),
        owner=co.ForeignKeyField(owner_model, null=null),
        age=co.IntegerField(default=1),
        Meta={"backend": place},
    )
    if write == "update_many":
        pet_model.create(number=1, owner=owner_model.create())
    before = len(place), place.get(pet_model.key(number=1))
    pet = pet_model(number=1, owner=owner_model(), age="old")
    rows = {"insert": lambda: pet.save(force_insert=True), "insert_many": pet_model.insert_many(pet).execute}
    rows["update_many"] = pet_model.update_many(pet).execute
    with pytest.raises(
        co.ValidationError, match=r"Pet\.owner: the Owner .* no primary key yet: save it first; Pet\.age:"
    ):
        rows[write]()
    assert (len(place), place.get(pet_model.key(number=1))) == before
    assert pet.owner_id is None
    assert pet.owner._pk is None
    with pytest.raises(co.ValidationError, match="save it first"):
        pet_model.insert(number=1, owner=owner_model()).execute()
    pet.owner.save()
    pet.age = 2
    assert pet.save(force_insert=True)
    assert pet_model.get(number=1).owner == pet.owner


def test_rows_of_one_batch_may_refer_to_earlier_ones() -> None:
    node = model("Node", parent=co.ForeignKeyField("self", null=True))
    root = node()
    child = node(parent=root)
    leaf = node(parent=child)
    node.insert_many(root, child, leaf).execute()
    assert node.get_by_id(leaf.id).parent.parent == root
    orphan = node()
    with pytest.raises(co.ValidationError, match=r"Node\.parent: .* save it first \(row 0"):
        node.insert_many(node(parent=orphan), orphan).execute()


def test_a_row_of_another_model_is_refused(models: Counting) -> None:
    for wrong in (Book(title="B"), object(), [1], {"number": 1}):
        with pytest.raises(co.ValidationError, match=r"Book\.writer: "):
            Book.insert(title="A", writer=wrong).execute()
    assert not Book.exists(title="A")


def test_a_row_of_a_submodel_is_refused_because_its_key_is_another() -> None:
    base = model("Base", number=co.IntegerField(primary_key=True))
    child = model("Child", base)
    proxy = model("Proxy", base, Meta={"name": "base"})
    ref = model("Ref", number=co.IntegerField(primary_key=True), base=co.ForeignKeyField(base))
    with pytest.raises(co.ValidationError, match=r"Ref\.base: expected a Base, got Child, whose rows have keys"):
        ref.create(number=1, base=child.create(number=1))
    same = proxy.create(number=2)
    assert ref.create(number=1, base=same).base is same
    assert ref.get(number=1).base == base(number=2)


def test_a_default_reference_is_an_id_an_instance_or_a_callable(models: Counting) -> None:
    ann = Writer.get(number=1)
    for default in (1, ann, lambda: 1, lambda: ann):
        essay = model("Essay", writer=co.ForeignKeyField(Writer, default=default), Meta={"backend": models})
        row = essay()
        assert row.writer_id == 1
        assert row.to_dict()["writer"] == 1
        assert row.writer.name == "Ann"
        row.save()
        assert essay.get_by_id(row.id).writer == ann
        assert essay.insert().execute().writer_id == 1
        assert essay(writer=2).writer.name == "Bea"


# -- keys --------------------------------------------------------------------------------------------


def test_a_foreign_key_may_be_the_primary_key() -> None:
    user = model("User", number=co.IntegerField(primary_key=True))
    profile = model("Profile", user=co.ForeignKeyField(user, primary_key=True), text=co.StringField(default=""))
    extra = model("Extra", profile=co.ForeignKeyField(profile, primary_key=True))
    sam = user.create(number=1)
    row = profile.create(user=sam, text="hi")
    assert (row._pk, profile.key(user=sam), profile.key(user_id="1")) == (1, "m:profile:user:1", "m:profile:user:1")
    for found in (profile.get(user=sam), profile.get(user_id=1), profile.get_by_id(1), profile.get_by_id(sam)):
        assert (found.text, found.user) == ("hi", sam)
    assert profile.update(user=sam, text="ho").execute().text == "ho"
    assert extra.create(profile=row)._pk == 1
    assert extra.get(profile=1).profile.user == sam
    assert profile.delete(user=sam).execute() is True


def test_an_unsaved_row_as_primary_key_is_taken_over_on_insert() -> None:
    user = model("User")
    profile = model("Profile", user=co.ForeignKeyField(user, primary_key=True))
    sam = user()
    row = profile(user=sam)
    assert row._pk is None
    with pytest.raises(co.ValidationError, match="save it first"):
        row.save()
    sam.save()
    assert row.save()
    assert profile.get(user=sam)._pk == sam.id


def test_a_foreign_key_may_refer_to_a_composite_key(backend: co.BaseBackend) -> None:
    for serializer in ("msgpack", "json"):
        options = {"backend": backend, "serializer": serializer, "namespace": serializer}
        edge = model(
            "Edge",
            left=co.IntegerField(),
            right=co.StringField(),
            Meta={**options, "primary_key": co.CompositeKey("left", "right")},
        )
        note = model(
            "Note", number=co.IntegerField(primary_key=True), edge=co.ForeignKeyField(edge, null=True), Meta=options
        )
        pinned = model("Pinned", edge=co.ForeignKeyField(edge, primary_key=True), Meta=options)
        row = edge.create(left=1, right="a:b")
        for given in (row, (1, "a:b"), [1, "a:b"], ("1", "a:b")):
            note.create(number=1, edge=given)
            found = note.get(number=1)
            assert (found.edge_id, found.edge) == ((1, "a:b"), row)
        assert pinned.create(edge=row)._pk == (1, "a:b")
        assert pinned.get(edge=(1, "a:b")).edge == row
        assert pinned.key(edge=row) == f"{serializer}:m:pinned:edge:1:a%3Ab"
        assert pinned.get_many([(1, "a:b")]) == {(1, "a:b"): pinned(edge=row)}
        for wrong in (5, (1,), (1, 2, 3), ("x", "y")):
            with pytest.raises(co.ValidationError, match=r"Note\.edge: "):
                note.create(number=1, edge=wrong)


def test_the_id_name_can_be_chosen() -> None:
    user = model("User", number=co.IntegerField(primary_key=True))
    post = model(
        "Post",
        author=co.ForeignKeyField(user, "author_number", null=True),
        editor_id=co.ForeignKeyField(user, null=True),
    )
    sam = user.create(number=1)
    row = post(author_number=sam, editor_id=sam)
    assert (row.author_number, row.author, row.editor_id) == (1, sam, 1)
    assert post.author_number is post.author
    with pytest.raises(TypeError, match="did you mean 'author'"):
        post(author_id=1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"a": co.ForeignKeyField(Writer), "a_id": co.IntegerField()}, "both use the name 'a_id'"),
        ({"a": co.ForeignKeyField(Writer, "x"), "b": co.ForeignKeyField(Writer, "x")}, "both use the name 'x'"),
        ({"a": co.ForeignKeyField(Writer, "a")}, "a name other than the field's own"),
        ({"a": co.ForeignKeyField(Writer), "a_id": property(lambda self: 1)}, "'a_id', which the class uses"),
    ],
)
def test_names_that_collide_are_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model("Post", **body)


def test_a_foreign_key_takes_a_model_or_a_name() -> None:
    abstract = model("Abstract", Meta={"abstract": True})
    for wrong, what in [
        (5, "int"),
        (int, "type"),
        (Writer(number=1), "Writer"),
        (abstract, "the abstract Abstract"),
        (None, "NoneType"),
    ]:
        with pytest.raises(TypeError, match=f"ForeignKeyField takes a model with rows, .* got {what}"):
            co.ForeignKeyField(wrong)  # type: ignore[call-overload]


# -- names -------------------------------------------------------------------------------------------


def run(source: str, module: str = "names") -> Any:
    made = types.ModuleType(module)
    vars(made).update({"co": co, "MEMORY": MEMORY})
    exec(source, vars(made))
    return made


def declared(name: str, body: str = "pass") -> str:
    options = f"class Meta:\n        backend = MEMORY\n        namespace = __name__\n    {body}"
    return f"class {name}(co.Model):\n    number = co.IntegerField(primary_key=True)\n    {options}\n"


def test_a_name_finds_a_model_that_is_declared_later() -> None:
    module = run(declared("Post", "tag = co.ForeignKeyField('Tag', null=True)"))
    post = module.Post(number=1, tag=5)
    assert post.tag_id == 5
    with pytest.raises(co.CacheORMError, match=r"<ForeignKeyField: Post\.tag> refers to 'Tag', and no such model"):
        _ = post.tag
    with pytest.raises(co.CacheORMError, match="no such model"):
        post.save(force_insert=True)
    exec(declared("Tag"), vars(module))
    tag = module.Tag.create(number=5)
    assert post.tag == tag
    assert module.Post.create(number=2, tag=tag).tag is tag


def test_an_instance_can_be_assigned_before_its_model_was_looked_up() -> None:
    module = run(declared("Post", "tag = co.ForeignKeyField('Tag')") + declared("Tag"))
    tag = module.Tag(number=5)
    post = module.Post(number=1, tag=tag)
    assert (post.tag, post.tag_id) == (tag, 5)


def test_a_name_prefers_its_own_module_and_may_say_which() -> None:
    source = declared("Tag") + declared("Post", "tag = co.ForeignKeyField('Tag', null=True)")
    one, two = run(source, "names.one"), run(source, "names.two")
    assert one.Post.tag.rel_model is one.Tag
    assert two.Post.tag.rel_model is two.Tag
    other = run(declared("Post", "tag = co.ForeignKeyField('names.two.Tag', null=True)"), "names.other")
    assert other.Post.tag.rel_model is two.Tag
    vague = run(declared("Post", "tag = co.ForeignKeyField('Tag', null=True)"), "names.vague")
    with pytest.raises(co.CacheORMError, match="several modules declare one"):
        _ = vague.Post.tag.rel_model


def test_executing_the_target_again_leads_to_the_new_one() -> None:
    module = run(declared("Tag") + declared("Post", "tag = co.ForeignKeyField('Tag')"), "names.again")
    old = module.Tag
    assert module.Post.tag.rel_model is old
    exec(declared("Tag"), vars(module))
    assert module.Post.tag.rel_model is module.Tag
    assert module.Tag is not old
    tag = module.Tag(number=1)
    assert module.Post(number=1, tag=tag).tag is tag


def test_a_name_finds_the_model_of_the_same_call() -> None:
    def make(first: bool) -> Any:
        if first:

            class Tag(co.Model):
                pass

        class Post(co.Model):
            tag = co.ForeignKeyField("Tag")

        if not first:

            class Tag(co.Model):  # type: ignore[no-redef]
                pass

        assert Post.tag.rel_model is Tag
        return Post, Tag

    kept = [make(False), make(False), make(True), make(False)]
    assert len({tag for _, tag in kept}) == 4


def test_a_local_name_may_mean_a_model_of_the_module() -> None:
    class Post(co.Model):
        book = co.ForeignKeyField("Book")

    assert Post.book.rel_model is Book


def test_inherited_references_point_where_they_did() -> None:
    base = model("Tree", number=co.IntegerField(primary_key=True), up=co.ForeignKeyField("self", null=True))
    base.add = None
    child = model("Oak", base)
    assert base.up.rel_model is base
    assert child.up.rel_model is child
    named = run(
        declared("Tree", "up = co.ForeignKeyField('Tree', null=True)") + "class Oak(Tree):\n    pass\n",
        "names.inherited",
    )
    assert named.Tree.up.rel_model is named.Tree
    assert named.Oak.up.rel_model is named.Tree


def test_a_name_in_an_abstract_base_is_looked_up_from_there() -> None:
    source = declared("Tag") + (
        "class Tagged(co.Model):\n    tag = co.ForeignKeyField('Tag', null=True)\n"
        "    class Meta:\n        abstract = True\n        backend = MEMORY\n"
    )
    library = run(source, "names.library")
    program = run(declared("Tag"), "names.program")
    vars(program)["Tagged"] = library.Tagged
    exec("class Post(Tagged):\n    pass\n", vars(program))
    assert program.Post.tag.rel_model is library.Tag


def test_rows_without_loaded_relations_carry_no_place_for_them(models: Counting) -> None:
    rows: Any = Book.insert_many({"title": "A", "writer_id": 1}, {"title": "B", "writer_id": 2}).execute()
    rows += Book.query_many(rows).execute()
    for row in rows:
        repr(row)
        _ = row.writer_id, row.sequel_of
        copy.copy(row)
        assert not hasattr(row, "_loaded")


@pytest.mark.parametrize("stored", [b'{"edge":5}', b'{"edge":[1]}', b'{"edge":["x","y"]}', b'{"edge":{"a":1}}'])
def test_a_stored_reference_of_the_wrong_form_is_a_payload_error(stored: bytes) -> None:
    place = co.SimpleBackend()
    options = {"backend": place, "serializer": "json"}
    edge = model(
        "Edge",
        left=co.IntegerField(),
        right=co.StringField(),
        Meta={**options, "primary_key": co.CompositeKey("left", "right")},
    )
    note = model("Note", number=co.IntegerField(primary_key=True), edge=co.ForeignKeyField(edge), Meta=options)
    place.set(note.key(number=1), stored)
    with pytest.raises(co.PayloadError, match=r"^Note\.edge: .*\(key m:note:number:1, read as json\)$"):
        note.get(number=1)


def test_a_name_may_mean_a_model_made_in_another_function_of_the_module() -> None:
    def make() -> Any:
        class OnlyHere(co.Model):
            pass

        return OnlyHere

    only = make()

    class Post(co.Model):
        other = co.ForeignKeyField("OnlyHere")

    assert Post.other.rel_model is only
    assert Post.other.accepted_names == ("other", "other_id")


def test_a_primary_key_cannot_refer_to_its_own_model() -> None:
    with pytest.raises(ValueError, match=r"Node\.parent: a primary key cannot refer to its own model"):
        model("Node", parent=co.ForeignKeyField("self", primary_key=True))
    key = co.CompositeKey("up", "number")
    with pytest.raises(ValueError, match=r"Node\.up: a primary key cannot refer"):
        model("Node", up=co.ForeignKeyField("self"), number=co.IntegerField(), Meta={"primary_key": key})


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("late", ["key", "save"])
def test_a_row_whose_key_is_that_of_a_related_row_gets_it_later(composite: bool, late: str) -> None:
    user = model("User", name=co.StringField(default=""))
    if composite:
        profile = model(
            "Profile",
            user=co.ForeignKeyField(user),
            day=co.IntegerField(),
            n=co.IntegerField(default=0),
            Meta={"backend": MEMORY, "primary_key": co.CompositeKey("user", "day")},
        )
        values: dict[str, Any] = {"day": 2}
    else:
        profile = model("Profile", user=co.ForeignKeyField(user, primary_key=True), n=co.IntegerField(default=0))
        values = {}
    sam = user()
    row = profile(user=sam, **values)
    assert row._pk is None
    with pytest.raises(TypeError, match="without a primary key"):
        hash(row)
    with pytest.raises(co.ValidationError, match=r"missing value for <Field: Profile.user>"):
        row.delete_instance()
    if late == "key":
        sam.id = uuid.uuid4()
    else:
        sam.save()
    expected = (sam.id, 2) if composite else sam.id
    assert (row.user_id, row._pk, row.get_id()) == (sam.id, expected, expected)
    assert (profile.user.key_value(row), profile.user.peek(row)) == (sam.id, None)
    kept = {row}
    assert row.delete_instance() is False
    with pytest.raises(profile.DoesNotExist):
        row.refresh()
    assert row.touch() is False
    assert row.ttl() is None
    # The row was never stored under that key, so it is new.
    assert row.save() is True
    assert row in kept
    assert profile.get_by_id(expected) == row
    row.n = 3
    assert row.save() is True
    assert row.refresh().n == 3
    assert row.delete_instance() is True


def test_null_takes_the_place_of_an_instance_without_a_key() -> None:
    user = model("User")
    essay = model("Essay", writer=co.ForeignKeyField(user, null=True))
    sam = user()
    row = essay(writer=sam)
    row.writer = None
    sam.save()
    assert (row.writer_id, row.writer) == (None, None)
    row.save()
    assert essay.get_by_id(row.id).writer_id is None


@pytest.mark.parametrize("declared", ["class", "name"])
@pytest.mark.parametrize("name", ["writer", "writer_id"])
def test_an_instance_of_another_model_is_never_taken_for_its_key(declared: str, name: str) -> None:
    user = model("Author", id=co.IntegerField(primary_key=True))
    other = model("Other", id=co.IntegerField(primary_key=True))
    essay = model(
        "Essay",
        id=co.IntegerField(primary_key=True),
        writer=co.ForeignKeyField(user if declared == "class" else "Author", null=True),
    )
    user.create(id=1)
    expected = "Essay.writer: expected a Author or its primary key, got an instance of Other"
    stranger = other(id=1)
    row = essay(id=1, **{name: stranger})
    actions: list[Callable[[], Any]] = [
        lambda: row.writer_id,
        lambda: row.writer,
        row.to_dict,
        row.save,
        row.validate,
        lambda: essay.create(id=1, **{name: stranger}),
        lambda: essay.update(id=1, **{name: stranger}).execute(),
        lambda: essay.insert_many({"id": 1, name: stranger}).execute(),
    ]
    for action in actions:
        with pytest.raises(co.ValidationError) as caught:
            action()
        assert expected in str(caught.value)
    assert not essay.exists(id=1)
    profile = model("Profile", user=co.ForeignKeyField(user, primary_key=True))
    for action in (profile(user=stranger).delete_instance, lambda: profile.get(user=stranger)):
        with pytest.raises(co.ValidationError, match="expected a Author or its primary key, got an instance of Other"):
            action()
    assert profile(user=stranger) != profile(user=1)
