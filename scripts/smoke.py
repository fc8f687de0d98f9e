"""Checks an installed cacheorm from outside.

Run on wheels, where nothing but the package and its dependencies is installed.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import cacheorm as co


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Balloon(co.Model):
    number = co.IntegerField(primary_key=True)
    label = co.StringField()
    color = co.EnumField(Color)
    height = co.FloatField(null=True)
    seen = co.DateTimeTZField()


def check(backend: co.BaseBackend, serializer: str) -> None:
    seen = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    rows = [
        {"number": number, "label": f"Nº {number}", "color": Color.BLUE, "height": number / 3, "seen": seen}
        for number in range(1000)
    ]
    with co.bind([Balloon], backend=backend, serializer=serializer):
        Balloon.insert_many(rows).execute()
        balloons = Balloon.query_many([{"number": number} for number in range(1001)]).execute()
        assert balloons.pop() is None
        assert [balloon.to_dict() for balloon in balloons] == rows
        assert Balloon.update(number=7, height=None).execute().height is None
        assert Balloon.delete(number=7).execute()
        assert Balloon.get_or_none(number=7) is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="the extensions must be in use")
    parser.add_argument("--pure", action="store_true", help="the extensions must not be in use")
    arguments = parser.parse_args()
    if arguments.compiled:
        assert co.speedups_enabled, "the extensions are not in use"
    if arguments.pure:
        assert not co.speedups_enabled, "the extensions are in use"

    for serializer in ("msgpack", "json"):
        check(co.SimpleBackend(), serializer)
        with tempfile.TemporaryDirectory() as folder:
            backend = co.FileSystemBackend(Path(folder, "rows"))
            check(backend, serializer)
            backend.close()
    build = "compiled" if co.speedups_enabled else "pure"
    print(f"cacheorm {co.__version__}, {build}, works: {Path(co.__file__).parent}")


if __name__ == "__main__":
    main()
