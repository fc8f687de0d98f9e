"""The tests that every backend has to pass, for authors of backends.

::

    # test_my_backend.py
    from cacheorm.testing import BackendConformance
    from my_backend import MyBackend

    class TestMyBackend(BackendConformance):
        def make_backend(self):
            return MyBackend()

pytest finds and runs them all: every method of :class:`~cacheorm.backends.base.BaseBackend`, with what it returns, what
it refuses, and what it must not do to other keys; and then the same of its methods that are awaited. With
``pytest.register_assert_rewrite("cacheorm.testing")`` in ``conftest.py``, failures show the values compared. The
package itself imports nothing from here.
"""

from __future__ import annotations

try:
    import pytest  # noqa: F401
except ImportError as error:
    raise ImportError("cacheorm.testing is made of pytest tests: pip install pytest") from error

from ._batches import BatchTests, ThreadTests
from ._entries import EntryTests
from ._keys import AWKWARD_KEYS, KeyTests
from ._lifetimes import LifetimeTests
from ._swaps import SwapTests

__all__ = ["AWKWARD_KEYS", "BackendConformance"]


class BackendConformance(EntryTests, LifetimeTests, BatchTests, SwapTests, KeyTests, ThreadTests):
    """Subclass it under a name that starts with ``Test``, and say how a backend is made.

    Override ``make_backend()``, or the fixture ``backend`` where making one needs other fixtures; and ``expire()``
    where entries of 1 second can be made to expire without waiting.

    Attributes:
        tells_lifetimes: whether ``ttl`` and ``KEEP_TTL`` work. Where they do not, they raise NotImplementedError.
        can_clear: whether ``clear`` works. Where it does not, it raises NotImplementedError.
        default_ttl: the ``default_ttl`` of the backends made, in seconds; ``None`` does not look.
    """
