"""Cached models in front of classes that SQLAlchemy maps: :func:`cached`, and :func:`invalidate`.

It needs SQLAlchemy 2.0 or later: ``pip install "cacheorm[sqlalchemy]"``.
"""

from __future__ import annotations

try:
    import sqlalchemy
except ImportError as error:
    raise ImportError('cacheorm.ext.sqlalchemy needs SQLAlchemy: pip install "cacheorm[sqlalchemy]"') from error
if sqlalchemy.__version__.startswith(("0.", "1.")):
    raise ImportError(
        f"cacheorm.ext.sqlalchemy needs SQLAlchemy 2.0 or later, and {sqlalchemy.__version__} is installed:"
        ' pip install "cacheorm[sqlalchemy]"'
    )

from ._cached import cached
from ._invalidating import invalidate

__all__ = ["cached", "invalidate"]
