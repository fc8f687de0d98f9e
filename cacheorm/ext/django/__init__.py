"""Cached models made of Django models, 4.2 LTS and later: ``pip install "cacheorm[django]"``.

::

    from cacheorm.ext.django import cached

    Product = cached(shop.models.Product, backend="redis://localhost", ttl=3600)
    Product.query_many(ids).execute()  # the cache, and SELECT ... WHERE id IN (...) for what is missing

Whatever the ORM changes in the database is removed from the cache after the commit; see docs/django.md.
"""

try:
    import django
except ImportError as error:
    raise ImportError("cacheorm.ext.django needs Django: pip install 'cacheorm[django]'") from error

if django.VERSION < (4, 2):
    raise ImportError(f"cacheorm.ext.django needs Django 4.2 or later, and finds {django.get_version()}")

from ._declaring import cached
from ._transactions import invalidate

__all__ = ["cached", "invalidate"]
