"""Batches: order, duplicates, outcomes, sizes; and many threads at once."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from ..backends import BaseBackend
from ._suite import Name, Suite, in_threads

__all__ = ["BatchTests", "ThreadTests"]


class BatchTests(Suite):
    def test_empty_batches_do_nothing(self, backend: BaseBackend) -> None:
        assert backend.set_many({}) == backend.replace_many({}) == backend.add_many({}) == {}
        assert backend.get_many() == []
        assert backend.get_dict() == {}
        assert [value for values in backend.get_chunks([]) for value in values] == []
        assert backend.delete_many() is True

    def test_batches_keep_the_order_and_duplicates(self, backend: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        stored = backend.set_many({b: b"2", a: b"1"})
        assert isinstance(stored, dict)
        assert list(stored.items()) == [(b, True), (a, True)]
        values = backend.get_many(a, c, b, a, c)
        assert isinstance(values, list)
        assert values == [b"1", None, b"2", b"1", None]
        assert [v for chunk in backend.get_chunks([a, c, b, a]) for v in chunk] == [b"1", None, b"2", b"1"]
        assert list(backend.get_dict(c, b, a, b).items()) == [(c, None), (b, b"2"), (a, b"1")]

    def test_batches_tell_what_was_stored(self, backend: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        backend.set(b, b"1")
        assert list(backend.replace_many({a: b"2", b: b"2"}).items()) == [(a, False), (b, True)]
        assert list(backend.add_many({a: b"3", b: b"3", c: b"3"}).items()) == [(a, True), (b, False), (c, True)]
        assert backend.get_many(a, b, c) == [b"3", b"2", b"3"]

    def test_delete_many_goes_on_past_what_is_absent(self, backend: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        backend.set_many({a: b"1", c: b"1"})
        assert backend.delete_many(a, b, c) is False
        assert backend.get_many(a, c) == [None, None]
        backend.set_many({a: b"1", c: b"1"})
        assert backend.delete_many(a, c, a) is True
        assert backend.get_many(a, c) == [None, None]

    def test_ten_thousand_rows_make_a_batch(self, backend: BaseBackend, name: Name) -> None:
        rows = {name(str(i)): b"row %d" % i for i in range(10_000)}
        keys = list(rows)
        assert backend.set_many(rows, 100) == dict.fromkeys(keys, True)
        assert backend.get_many(*keys) == list(rows.values())
        assert [v for chunk in backend.get_chunks(keys) for v in chunk] == list(rows.values())
        assert backend.delete_many(*keys[::2]) is True
        assert list(backend.replace_many(dict.fromkeys(keys, b"2"), 100).values()) == [False, True] * 5000
        assert list(backend.add_many(dict.fromkeys(keys, b"3"), 100).values()) == [True, False] * 5000
        assert backend.get_many(*keys) == [b"3", b"2"] * 5000
        assert backend.delete_many(*keys) is True
        assert backend.get_many(*keys) == [None] * 10_000


class ThreadTests(Suite):
    def test_threads_lose_no_count(self, backend: BaseBackend, name: Name) -> None:
        counts = in_threads(8, lambda _: [backend.incr(name("a")) for _ in range(100)])
        assert sorted(count for part in counts for count in part) == list(range(1, 801))
        in_threads(8, lambda _: [backend.decr(name("a"), 2) for _ in range(50)])
        assert backend.get(name("a")) == b"0"

    def test_of_threads_that_add_one_key_one_wins(self, backend: BaseBackend, name: Name) -> None:
        keys = [name(str(i)) for i in range(50)]
        added = in_threads(8, lambda i: [backend.add(key, i) for key in keys])
        winners = [[i for i, won in enumerate(each) if won] for each in zip(*added, strict=True)]
        assert [len(found) for found in winners] == [1] * len(keys)
        assert backend.get_many(*keys) == [b"%d" % found[0] for found in winners]
        batch = [name(f"batch {i}") for i in range(50)]
        outcomes = in_threads(8, lambda i: backend.add_many(dict.fromkeys(batch, i)))
        assert [sum(outcome[key] for outcome in outcomes) for key in batch] == [1] * len(batch)

    def test_threads_read_and_write_batches_at_once(self, backend: BaseBackend, name: Name) -> None:
        def work(i: int) -> None:
            rows = {name(f"{i}-{j}"): b"%d %d" % (i, j) for j in range(200)}
            for _ in range(3):
                assert all(backend.set_many(rows).values())
                assert backend.get_many(*rows) == list(rows.values())
                assert backend.delete_many(*rows) is True

        in_threads(8, work)
