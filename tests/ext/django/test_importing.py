"""The module says what to install, and nothing else imports Django."""

from __future__ import annotations

import subprocess
import sys

import pytest

MISSING = "sys.modules['django'] = None"
OLD = "sys.modules['django'] = SimpleNamespace(VERSION=(3, 2, 25), get_version=lambda: '3.2.25')"


@pytest.mark.parametrize(
    ("django", "message"),
    [
        (MISSING, "cacheorm.ext.django needs Django: pip install 'cacheorm[django]'"),
        (OLD, "cacheorm.ext.django needs Django 4.2 or later, and finds 3.2.25"),
    ],
    ids=["missing", "old"],
)
def test_it_says_what_to_install(django: str, message: str) -> None:
    program = f"""
import sys
from types import SimpleNamespace
{django}
import cacheorm.ext
try:
    import cacheorm.ext.django
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == message
