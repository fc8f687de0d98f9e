"""Code of the application that runs amid compiled code, and takes away or looks at what that works on.

Hashes, comparisons, hooks of enumerations and deserializers may change rows, dicts and lists, run a collection, or walk
all objects that the collector knows. Each test runs in a process of its own, whose memory allocator overwrites what is
freed.
"""

from __future__ import annotations

import pytest
from guarded import run_guarded

PREAMBLE = """
import enum, gc, sys, uuid
import cacheorm as co
place = co.SimpleBackend()

class Author(co.Model):
    id = co.UUIDField(primary_key=True)
    class Meta:
        backend = place

class Book(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(Author)
    title = co.StringField(null=True)
    class Meta:
        backend = place

class Fickle(uuid.UUID):
    "A key whose hash, and comparison, take it out of the row that holds it."
    book = None
    calls = 0
    def __hash__(self):
        if Fickle.book is not None:
            Fickle.calls += 1
            book, Fickle.book = Fickle.book, None
            book.author_id = uuid.UUID(int=Fickle.calls)
            Fickle.book = book
            [bytes(120) for _ in range(100)]
        return 7
    def __eq__(self, other):
        return hash(self) == hash(other)

class Name(str):
    "A name in a row whose hash, and comparison, empty that row."
    row = None
    calls = 0
    def __hash__(self):
        if Name.row is not None and Name.row:
            Name.calls += 1
            Name.row.clear()
            [bytes(120) for _ in range(100)]
        return str.__hash__(self)
    def __eq__(self, other):
        return hash(self) == hash(other) and str.__eq__(self, other)

def walk(kinds=(list, tuple)):
    "Look at everything that the collector tracks, gaps included."
    for one in gc.get_objects():
        if type(one) in kinds:
            for item in one:
                type(item)
"""

PRELOADED = """
book = Book(id=1)
book.author_id = Fickle(int=1)
Fickle.book = book
for _ in range(5):
    book.author_id = Fickle(int=1)
    try:
        co.preload([book, None, book], "author")
        book.author
    except Author.DoesNotExist:
        pass
assert Fickle.calls
"""

RELATED = """
from cacheorm._speedups import slots
book = Book(id=1)
book.author_id = Fickle(int=1)
class Same(uuid.UUID):
    def __hash__(self):
        return 7
found = {Same(int=1): object()}
Fickle.book = book
assert [type(one) for one in slots.distinct(Book.author, [book])] == [Fickle]
for _ in range(5):
    book.author_id = Fickle(int=1)
    slots.relate(Book._related, Book.author, "author", [book, book], found)
assert Fickle.calls
"""

FOUND_IS_EMPTIED = """
from cacheorm._speedups import slots
class Emptying(uuid.UUID):
    def __hash__(self):
        found.clear()
        return uuid.UUID.__hash__(self)
found = {}
books = [Book(id=1), Book(id=2)]
for book in books:
    book.author_id = Emptying(int=5)
    found = {uuid.UUID(int=5): Author(id=uuid.UUID(int=5))}
    slots.relate(Book._related, Book.author, "author", [book], found)
    assert not found
"""

ADOPTED = """
for given in (Name("title"), Name("id"), Name("author_id"), Name("nothing")):
    for before, after in ((), ()), (("id",), ()), ((), ("title",)), (("id",), ("title",)):
        for write in (Book.insert_many, Book.update_many, lambda rows: Book(**rows[0])):
            # Values that nothing but the row refers to.
            row = {name: str(uuid.uuid4()) for name in (*before, given, *after)}
            Name.row = row
            try:
                done = write([row])
                if not isinstance(done, Book):
                    done.execute()
            except (RuntimeError, TypeError, ValueError):
                pass
            Name.row = None
assert Name.calls
"""

IDENTIFIED = """
class Pair(co.Model):
    a = co.StringField()
    b = co.StringField()
    class Meta:
        backend = place
        primary_key = co.CompositeKey("a", "b")

class Looking(str):
    def __hash__(self):
        walk()
        return str.__hash__(self)
    def __eq__(self, other):
        walk()
        return str.__eq__(self, other)

for name, other in (("a", "b"), ("b", "a")):
    for kind in (Name, Looking):
        for read in (Pair.query_many, Pair.delete_many, lambda rows: Pair.query(**rows[0])):
            row = {kind(name): str(uuid.uuid4()), other: str(uuid.uuid4())}
            Name.row = row if kind is Name else None
            try:
                read([row]).execute()
            except (TypeError, ValueError):
                pass
            Name.row = None
assert Name.calls
"""

SEEN_WITH_GAPS = """
class Color(enum.Enum):
    RED = 1
    @classmethod
    def _missing_(cls, value):
        walk()
        return cls.RED

for serializer in ("msgpack", "json"):
    class Colored(co.Model):
        id = co.IntegerField(primary_key=True)
        colors = co.ListField(co.EnumField(Color))
        class Meta:
            backend = place
            name = "colored-" + serializer
    Colored._meta = Colored._meta.rebind(None, co.registry.get_by_name(serializer))
    place.set(Colored.key(id=1), Colored._meta.serializer.dumps({"colors": [1, 2, 1, 3] * 8}))
    found = Colored.get(id=1)
    assert found.colors == [Color.RED] * 32
    assert Colored.query_many([1, 1]).execute()[1].colors == found.colors
"""

TRACKED_AMID_A_COLLECTION = """
class Listed(co.Model):
    id = co.IntegerField(primary_key=True)
    ids = co.ListField(co.UUIDField())
    more = co.ListField(co.ListField(co.UUIDField()), null=True)
    class Meta:
        backend = place
gc.callbacks.append(lambda phase, details: walk((list,)))  # the interpreter itself makes tuples with gaps
keys = [uuid.UUID(int=i) for i in range(12)]
Listed.insert_many([{"id": i, "ids": keys, "more": [keys, []]} for i in range(5)]).execute()
assert Listed.get(id=2).ids == keys
gc.set_threshold(4)
assert Listed.get(id=2).ids == keys
assert [row.more for row in Listed.query_many(range(3)).execute()] == [[keys, []]] * 3
gc.set_threshold(0)
"""

SLOTS_ARE_REPLACED = """
from cacheorm._speedups import slots
book, other = Book(id=1), Book(id=1, author_id=uuid.UUID(int=9))
for _ in range(5):
    book.author_id = Fickle(int=1)
    book._relations["author"] = Author(id=uuid.UUID(int=1))
    Fickle.book = book
    slots.complete((Book.author,), [other], [book], Book._related)
    Fickle.book = None
    assert book.author_id == uuid.UUID(int=9)
assert Fickle.calls
"""


@pytest.mark.parametrize(
    "code",
    [
        PRELOADED,
        RELATED,
        FOUND_IS_EMPTIED,
        ADOPTED,
        IDENTIFIED,
        SEEN_WITH_GAPS,
        TRACKED_AMID_A_COLLECTION,
        SLOTS_ARE_REPLACED,
    ],
    ids=["preload", "relate", "found", "adopt", "identify", "gaps", "collection", "slots"],
)
def test_code_of_the_application_may_change_and_see_anything_meanwhile(code: str) -> None:
    run_guarded(__file__, PREAMBLE + code)
