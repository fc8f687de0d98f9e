"""``create()`` and ``get_or_create()`` go through a ``save()`` that a model overrides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co


@pytest.fixture(params=["called", "awaited"])
def do(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return what calls a method of a model, or awaits its twin."""

    def call(owner: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, method)(*args, **kwargs)

    def wait(owner: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            return await getattr(owner, f"a{method}")(*args, **kwargs)

        return asyncio.run(main())

    return call if request.param == "called" else wait


def page_on(on: co.BaseBackend) -> Any:
    """Return a model with a ``save()`` of its own, which notes its calls."""

    class Page(co.Model):
        id = co.IntegerField(primary_key=True)
        title = co.StringField()
        slug = co.StringField(default="")

        def save(self, *args: Any, **kwargs: Any) -> bool:
            self.slug = self.title.lower()
            calls.append(kwargs)
            return super().save(*args, **kwargs)

        class Meta:
            backend = on
            on_invalid = "miss"

    calls: list[dict[str, Any]] = []
    return Page, calls


def test_create_goes_through_save(backend: co.BaseBackend, do: Callable[..., Any]) -> None:
    page, calls = page_on(backend)
    row = do(page, "create", id=1, title="About Us")
    assert row.slug == page.get(id=1).slug == "about us"
    assert calls == [{"force_insert": True}]
    # It overwrites, as any create() does.
    do(page, "create", id=1, title="News")
    assert page.get(id=1).slug == "news"
    assert [call for call in calls if "ttl" in call] == []


def test_get_or_create_goes_through_save(backend: co.BaseBackend, do: Callable[..., Any]) -> None:
    page, calls = page_on(backend)
    row, created = do(page, "get_or_create", id=1, title="About Us")
    assert (row.slug, created, len(calls)) == ("about us", True, 1)
    row, created = do(page, "get_or_create", id=1, title="Another")
    assert (row.slug, created, len(calls)) == ("about us", False, 1)
    backend.set(page.key(id=2), b"no row")
    assert do(page, "get_or_create", id=2, title="Two")[1] is True
    assert page.get(id=2).slug == "two"


def test_asave_goes_through_save(backend: co.BaseBackend) -> None:
    page, calls = page_on(backend)

    async def main() -> None:
        row = page(id=1, title="About Us")
        assert await row.asave(force_insert=True, ttl=0)
        row.title = "News"
        assert await row.asave()

    asyncio.run(main())
    assert page.get(id=1).slug == "news"
    assert calls == [{"force_insert": True, "ttl": 0}, {}]


def test_bulk_forms_and_insert_do_not(memory: co.SimpleBackend) -> None:
    page, calls = page_on(memory)
    page.insert(id=1, title="A").execute()
    page.insert_many({"id": 2, "title": "B"}).execute()
    co.Insert([(page, {"id": 3, "title": "C"})]).execute()
    assert [row.slug for row in page.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()] == [""] * 3
    assert calls == []


def test_asave_of_its_own_is_what_awaited_calls_use(memory: co.SimpleBackend) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)
        how = co.StringField(default="")

        def save(self, *args: Any, **kwargs: Any) -> bool:
            self.how += "save"
            return super().save(*args, **kwargs)

        async def asave(self, *args: Any, **kwargs: Any) -> bool:
            self.how += "asave"
            return await super().asave(*args, **kwargs)

        class Meta:
            backend = memory

    async def main() -> None:
        assert (await Page.acreate(id=1)).how == "asave"
        assert (await Page.aget_or_create(id=2))[0].how == "asave"

    asyncio.run(main())
    assert Page.create(id=3).how == "save"
    assert [row.how for row in Page.get_many([1, 2, 3]).values()] == ["asave", "asave", "save"]


def test_a_save_that_is_put_in_later_counts(memory: co.SimpleBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = memory

    seen: list[Any] = []
    save = Page.save
    monkeypatch.setattr(Page, "save", lambda self, **options: seen.append(self.id) or save(self, **options))
    Page.create(id=1)
    Page.get_or_create(id=2)
    assert seen == [1, 2]
    assert len(Page.get_many([1, 2])) == 2


def test_of_many_that_get_or_create_one_row_one_creates_it(backend: co.BaseBackend) -> None:
    page, _ = page_on(backend)
    barrier = threading.Barrier(4)
    found: list[tuple[Any, bool]] = []

    def work(number: int) -> None:
        for key in range(20):
            barrier.wait()
            found.append(page.get_or_create(id=key, title=f"T{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert sum(created for _, created in found) == 20
    assert {(row.id, row.slug) for row, _ in found} == {(row.id, row.slug) for row in page.get_many(range(20)).values()}


def test_what_save_does_after_a_write_that_came_too_late_is_left_out(memory: co.SimpleBackend) -> None:
    mails: list[int] = []

    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        def save(self, *args: Any, **kwargs: Any) -> bool:
            if self.name == "late":
                User.insert(id=self.id, name="early").execute()
            done = super().save(*args, **kwargs)
            mails.append(self.id)
            return done

        class Meta:
            backend = memory

    row, created = User.get_or_create(id=1, name="late")
    assert (row.name, created, mails) == ("early", False, [])
    row, created = User.get_or_create(id=2, name="on time")
    assert (row.name, created, mails) == ("on time", True, [2])


def test_errors_of_save_reach_the_caller_and_change_nothing(memory: co.SimpleBackend, do: Callable[..., Any]) -> None:
    class Page(co.Model):
        name = co.StringField()

        def save(self, *args: Any, **kwargs: Any) -> bool:
            if self.name == "bad":
                raise LookupError("no")
            return super().save(*args, **kwargs)

        class Meta:
            backend = memory

    with pytest.raises(LookupError):
        do(Page, "create", name="bad")
    with pytest.raises(LookupError):
        do(Page, "get_or_create", id="0" * 32, name="bad")
    with pytest.raises(co.ValidationError, match=r"Page\.name"):
        do(Page, "create")
    assert memory.stats()["entries"] == 0
    assert do(Page, "create", name="good").id is not None


def test_save_must_not_change_the_key_of_a_row_that_get_or_create_creates(
    memory: co.SimpleBackend, do: Callable[..., Any]
) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)

        def save(self, *args: Any, **kwargs: Any) -> bool:
            self.id = 5
            return super().save(*args, **kwargs)

        class Meta:
            backend = memory

    with pytest.raises(ValueError, match=r"Page: .* changed the primary key that was asked for"):
        do(Page, "get_or_create", id=1)
    assert memory.stats()["entries"] == 0


def test_other_rows_and_a_second_save_inside_of_save_are_written_as_ever(memory: co.SimpleBackend) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)
        copies = co.IntegerField(default=0)

        def save(self, *args: Any, **kwargs: Any) -> bool:
            if self.id < 100:
                Page.create(id=self.id + 100)
                done = super().save(*args, **kwargs)
                self.copies = 1
                return super().save() and done
            return super().save(*args, **kwargs)

        class Meta:
            backend = memory

    assert Page.get_or_create(id=1)[1]
    assert Page.get_or_create(id=1)[0].copies == 1
    assert Page.exists(id=101)
    Page.delete(id=1).execute()
    assert Page.get_or_create(id=1)[1]


def test_a_save_that_passes_nothing_on_creates_all_the_same(memory: co.SimpleBackend, do: Callable[..., Any]) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)
        title = co.StringField(default="")

        def save(self, **options: Any) -> bool:
            return super().save()

        class Meta:
            backend = memory

    do(Page, "create", id=1)
    assert do(Page, "get_or_create", id=2)[1]
    assert len(Page.get_many([1, 2])) == 2
    row = Page.get(id=1)
    row.title = "later"
    Page.delete(id=1).execute()
    assert row.save() is False


def test_a_coroutine_function_in_place_of_save_is_awaited_or_refused(memory: co.SimpleBackend) -> None:
    class Page(co.Model):
        id = co.IntegerField(primary_key=True)

        async def save(self, *args: Any, **kwargs: Any) -> bool:  # type: ignore[override]
            return await super().asave(*args, **kwargs)

        class Meta:
            backend = memory

    for call in (Page.create, Page.get_or_create):
        with pytest.raises(TypeError, match=r"save\(\) gave coroutine, which can only be awaited"):
            call(id=1)

    async def main() -> None:
        row = await Page.acreate(id=1)
        assert (await Page.aget_or_create(id=2))[1]
        assert await row.asave()

    asyncio.run(main())
    assert len(Page.get_many([1, 2])) == 2


def test_fields_may_be_called_like_the_methods(memory: co.SimpleBackend, do: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match=r"hides the method"):

        class Rule(co.Model):
            id = co.IntegerField(primary_key=True)
            save = co.BooleanField(default=True)  # type: ignore[assignment]

            class Meta:
                backend = memory

    with pytest.warns(UserWarning, match=r"hides the method"):

        class Plan(co.Model):
            id = co.IntegerField(primary_key=True)
            asave = co.IntegerField(default=0)  # type: ignore[assignment]

            def save(self, *args: Any, **kwargs: Any) -> bool:
                self.asave = 5  # type: ignore[assignment]
                return super().save(*args, **kwargs)

            class Meta:
                backend = memory

    assert do(Rule, "create", id=1).save is True
    assert do(Rule, "get_or_create", id=2)[1] is True
    assert do(Plan, "create", id=1).asave == Plan.get(id=1).asave == 5
    assert do(Plan, "get_or_create", id=2)[0].asave == 5
