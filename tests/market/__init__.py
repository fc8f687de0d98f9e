"""An app of Django, and the settings, which a process has once: to be imported before any module of Django."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings

__all__ = ["Router", "emptied"]

settings.configure(
    USE_TZ=True,
    INSTALLED_APPS=["market"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DATABASE_ROUTERS=["market.Router"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()


class Router:
    """Sends all models to the database that the present test is about."""

    alias = "default"

    def db_for_read(self, model: object, **hints: object) -> str:
        return Router.alias

    db_for_write = db_for_read

    def allow_relation(self, one: object, other: object, **hints: object) -> bool:
        return True


@contextmanager
def emptied(alias: str) -> Iterator[str]:
    """Have a database used for all models, and empty it at the end."""
    Router.alias = alias
    try:
        yield alias
    finally:
        Router.alias = "default"
        from django.db import connections, transaction

        from .models import MODELS

        connection = connections[alias]
        assert not connection.in_atomic_block
        tables = [model._meta.db_table for model in MODELS]
        tables += [field.m2m_db_table() for model in MODELS for field in model._meta.local_many_to_many]
        # Foreign keys are checked at the commit.
        with transaction.atomic(using=alias), connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
