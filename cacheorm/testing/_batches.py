"""Batches: order, duplicates, outcomes, sizes; and many threads at once."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from ..backends import BaseBackend
from ._suite import Name, Suite, in_threads

__all__ = ["BatchTests", "ThreadTests"]


class BatchTests(Suite):
    def test_empty_batches_do_nothing(self, store: BaseBackend) -> None:
        assert store.set_many({}) == store.replace_many({}) == store.add_many({}) == {}
        assert store.get_many() == []
        assert store.get_dict() == {}
        assert [value for values in store.get_chunks([]) for value in values] == []
        assert store.delete_many() is True

    def test_batches_keep_the_order_and_duplicates(self, store: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        stored = store.set_many({b: b"2", a: b"1"})
        assert isinstance(stored, dict)
        assert list(stored.items()) == [(b, True), (a, True)]
        values = store.get_many(a, c, b, a, c)
        assert isinstance(values, list)
        assert values == [b"1", None, b"2", b"1", None]
        assert [v for chunk in store.get_chunks([a, c, b, a]) for v in chunk] == [b"1", None, b"2", b"1"]
        assert list(store.get_dict(c, b, a, b).items()) == [(c, None), (b, b"2"), (a, b"1")]

    def test_batches_tell_what_was_stored(self, store: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        store.set(b, b"1")
        assert list(store.replace_many({a: b"2", b: b"2"}).items()) == [(a, False), (b, True)]
        assert list(store.add_many({a: b"3", b: b"3", c: b"3"}).items()) == [(a, True), (b, False), (c, True)]
        assert store.get_many(a, b, c) == [b"3", b"2", b"3"]

    def test_delete_many_goes_on_past_what_is_absent(self, store: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        store.set_many({a: b"1", c: b"1"})
        assert store.delete_many(a, b, c) is False
        assert store.get_many(a, c) == [None, None]
        store.set_many({a: b"1", c: b"1"})
        assert store.delete_many(a, c, a) is True
        assert store.get_many(a, c) == [None, None]

    def test_ten_thousand_rows_make_a_batch(self, store: BaseBackend, name: Name) -> None:
        rows = {name(str(i)): b"row %d" % i for i in range(10_000)}
        keys = list(rows)
        assert store.set_many(rows, 100) == dict.fromkeys(keys, True)
        assert store.get_many(*keys) == list(rows.values())
        assert [v for chunk in store.get_chunks(keys) for v in chunk] == list(rows.values())
        assert store.delete_many(*keys[::2]) is True
        assert list(store.replace_many(dict.fromkeys(keys, b"2"), 100).values()) == [False, True] * 5000
        assert list(store.add_many(dict.fromkeys(keys, b"3"), 100).values()) == [True, False] * 5000
        assert store.get_many(*keys) == [b"3", b"2"] * 5000
        assert store.delete_many(*keys) is True
        assert store.get_many(*keys) == [None] * 10_000


class ThreadTests(Suite):
    def test_threads_lose_no_count(self, store: BaseBackend, name: Name) -> None:
        counts = in_threads(8, lambda _: [store.incr(name("a")) for _ in range(100)])
        assert sorted(count for part in counts for count in part) == list(range(1, 801))
        in_threads(8, lambda _: [store.decr(name("a"), 2) for _ in range(50)])
        assert store.get(name("a")) == b"0"

    def test_of_threads_that_add_one_key_one_wins(self, store: BaseBackend, name: Name) -> None:
        keys = [name(str(i)) for i in range(50)]
        added = in_threads(8, lambda i: [store.add(key, i) for key in keys])
        winners = [[i for i, won in enumerate(of_key) if won] for of_key in zip(*added, strict=True)]
        assert [len(found) for found in winners] == [1] * len(keys)
        assert store.get_many(*keys) == [b"%d" % found[0] for found in winners]
        batch = [name(f"batch {i}") for i in range(50)]
        outcomes = in_threads(8, lambda i: store.add_many(dict.fromkeys(batch, i)))
        assert [sum(outcome[key] for outcome in outcomes) for key in batch] == [1] * len(batch)

    def test_threads_read_and_write_batches_at_once(self, store: BaseBackend, name: Name) -> None:
        def work(i: int) -> None:
            rows = {name(f"{i}-{j}"): b"%d %d" % (i, j) for j in range(200)}
            for _ in range(3):
                assert all(store.set_many(rows).values())
                assert store.get_many(*rows) == list(rows.values())
                assert store.delete_many(*rows) is True

        in_threads(8, work)
