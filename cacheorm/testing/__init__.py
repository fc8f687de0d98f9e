"""The tests that every backend has to pass, for authors of backends.

::

    # test_my_backend.py
    from cacheorm.testing import BackendConformance
    from my_backend import MyBackend

    class TestMyBackend(BackendConformance):
        def make_backend(self):
            return MyBackend()

pytest finds and runs them all. They test every method of :class:`~cacheorm.backends.base.BaseBackend`: what it returns,
what it refuses, and that it leaves other keys alone. Then they test the same for the methods that are awaited. With
``pytest.register_assert_rewrite("cacheorm.testing")`` in ``conftest.py``, failures show the values compared. The
package itself imports nothing from here.
"""

from __future__ import annotations

try:
    import pytest  # noqa: F401
except ImportError as error:
    raise ImportError("cacheorm.testing is made of pytest tests: pip install pytest") from error

from ._batches import BatchTests, ThreadTests
from ._compare_and_set import CompareAndSetTests
from ._entries import EntryTests
from ._keys import AWKWARD_KEYS, KeyTests
from ._lifetimes import LifetimeTests
from ._scans import ScanTests

__all__ = ["AWKWARD_KEYS", "BackendConformance"]


class BackendConformance(EntryTests, LifetimeTests, BatchTests, CompareAndSetTests, KeyTests, ScanTests, ThreadTests):
    """The conformance tests. Subclass it under a name that starts with ``Test``, and define how a backend is made.

    Override ``make_backend()``, or the fixture ``backend`` where making one needs other fixtures; and ``expire()``
    where entries of 1 second can be made to expire without waiting.

    Attributes:
        tells_lifetimes: whether ``ttl`` and ``KEEP_TTL`` work. If not, they have to raise NotImplementedError.
        can_clear: whether ``clear`` works. If not, it has to raise NotImplementedError.
        can_scan: whether ``scan`` works, and ``clear`` with a prefix. If not, they have to raise NotImplementedError.
        default_ttl: the expected ``default_ttl`` in seconds; ``None`` does not check it.
    """
