"""Fields of dates, times and instants."""

from __future__ import annotations

import contextlib
import time as clock
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from converted import refuses, takes
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co

EAST = timezone(timedelta(hours=8))
NOON = datetime(2020, 1, 2, 12, 30, 45, 678)


class Moment(datetime):
    """What pendulum and freezegun make."""


class Vague(tzinfo):
    """A time zone that knows nothing."""

    def utcoffset(self, when: datetime | None) -> None:
        return None


class Broken(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        raise RuntimeError("hunter2")


class TestDateTimeField:
    @pytest.mark.parametrize(
        ("value", "expected", "text"),
        [
            (NOON, NOON, "2020-01-02T12:30:45.000678"),
            (datetime(2020, 1, 2), datetime(2020, 1, 2), "2020-01-02T00:00:00"),
            (datetime(1, 1, 1), datetime(1, 1, 1), "0001-01-01T00:00:00"),
            (datetime.max, datetime.max, "9999-12-31T23:59:59.999999"),
            (Moment(2020, 1, 2), datetime(2020, 1, 2), "2020-01-02T00:00:00"),
            ("2020-01-02 12:30:45.000678", NOON, "2020-01-02T12:30:45.000678"),
            ("2020-01-02T12:30", datetime(2020, 1, 2, 12, 30), "2020-01-02T12:30:00"),
            ("2020-01-02", datetime(2020, 1, 2), "2020-01-02T00:00:00"),
        ],
    )
    def test_stores_iso_text(self, value: Any, expected: datetime, text: str) -> None:
        assert takes(co.DateTimeField(), value, expected) == text

    @pytest.mark.parametrize("value", ["tomorrow", "", 5, date(2020, 1, 2), time(1), [], "2020-13-01", b"2020-01-02"])
    def test_refuses_what_is_no_datetime(self, value: Any) -> None:
        refuses(co.DateTimeField(), value, "expected a datetime or the text of one, got ")

    @pytest.mark.parametrize("value", [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=Vague()), "2020-01-02T12:30:45Z"])
    def test_refuses_a_time_zone(self, value: Any) -> None:
        refuses(co.DateTimeField(), value, "expected a datetime without time zone, got ")

    def test_does_not_hold_a_fold(self) -> None:
        field = co.DateTimeField()
        value = NOON.replace(fold=1)
        assert field.converter.canonical(value, field.converter.dump(value)).fold == 0

    def test_formats_come_before_iso_and_in_their_order(self) -> None:
        field = co.DateTimeField(formats=["%d.%m.%Y", "%Y%d%m"])
        takes(field, "02.01.2020", datetime(2020, 1, 2))
        takes(field, "20200201", datetime(2020, 1, 2))
        takes(field, "2020-01-02T12:30", datetime(2020, 1, 2, 12, 30))
        refuses(field, "02/01/2020", "expected a datetime or the text of one, got str")

    def test_reads_the_rows_of_older_versions(self) -> None:
        field = co.DateTimeField()
        assert field.python_value("2020-01-02 12:30:45.000678") == NOON
        assert field.python_value("2020-01-02 12:30:45") == NOON.replace(microsecond=0)

    @pytest.mark.parametrize(
        "stored",
        [
            "2020-01-02",
            "2020-01-02T12:30",
            "2020-W01-4T12:30:45",
            "20200102T123045.000",
            "2020-01-02T12:30:45Z",
            "",
            "2020-01-02T12:30:45,000678",
            "2020-01-02T24:00:00",
            "2020-13-02T00:00:00",
            "2020-01-02x12:30:45",
            5,
            NOON,
            "2020-01-02T12:30:45.678",
            "2020-01-02T12:30:45+00:00",
            "2020-01-02T12:30:4\u0665",
            "2020-01-02T12:30:45.123+01",
        ],
    )
    def test_reads_nothing_else(self, stored: Any) -> None:
        refuses(co.DateTimeField(), stored, "expected the ISO text of a datetime without time zone", reading=True)

    @pytest.mark.parametrize("field", [co.DateTimeField, co.DateField, co.TimeField])
    @pytest.mark.parametrize("wrong", ["%Y", [5], 5, {"%Y"}])
    def test_formats_that_are_no_list_are_an_error_at_the_declaration(self, field: Any, wrong: Any) -> None:
        with pytest.raises(TypeError, match="formats is a list of strptime formats"):
            field(formats=wrong)


class TestDateField:
    @pytest.mark.parametrize(
        "value", [date(2020, 1, 2), NOON, datetime(2020, 1, 2), "2020-01-02", "2020-01-02 12:30:45", Moment(2020, 1, 2)]
    )
    def test_takes_dates_and_the_dates_of_datetimes(self, value: Any) -> None:
        assert takes(co.DateField(), value, date(2020, 1, 2)) == "2020-01-02"

    @pytest.mark.parametrize("value", ["2020 01 01", "", 5, time(1), [], 0.5])
    def test_refuses_everything_else(self, value: Any) -> None:
        refuses(co.DateField(), value, "expected a date or the text of one, got ")

    @pytest.mark.parametrize("value", [NOON.replace(tzinfo=UTC), "2020-01-02T12:30:45+08:00"])
    def test_refuses_a_time_zone(self, value: Any) -> None:
        refuses(co.DateField(), value, "expected a date without time zone, got ")

    def test_takes_formats(self) -> None:
        takes(co.DateField(["%d.%m.%Y"]), "02.01.2020", date(2020, 1, 2))

    @pytest.mark.parametrize(
        "stored", ["20200102", "2020-W01-4", "2020-01-02T00:00:00", "2020-13-02", "2020-01-0\u0662", 5, None.__class__]
    )
    def test_reads_only_iso_dates(self, stored: Any) -> None:
        refuses(co.DateField(), stored, "expected the ISO text of a date, got ", reading=True)


class TestTimeField:
    @pytest.mark.parametrize(
        ("value", "expected", "text"),
        [
            (time(12, 30, 45, 678), time(12, 30, 45, 678), "12:30:45.000678"),
            (time(0), time(0), "00:00:00"),
            (time(1, 2, 3, fold=1), time(1, 2, 3), "01:02:03"),
            (NOON, NOON.time(), "12:30:45.000678"),
            ("12:30", time(12, 30), "12:30:00"),
            ("00:00", time(0), "00:00:00"),
            ("2020-01-02 12:30:45", time(12, 30, 45), "12:30:45"),
        ],
    )
    def test_takes_times_and_the_times_of_datetimes(self, value: Any, expected: time, text: str) -> None:
        assert takes(co.TimeField(), value, expected) == text

    @pytest.mark.parametrize("value", ["noon", "", 5, date(2020, 1, 2), "2020-01-02", [], "25:00"])
    def test_refuses_everything_else(self, value: Any) -> None:
        refuses(co.TimeField(), value, "expected a time or the text of one, got ")

    @pytest.mark.parametrize("value", [time(1, tzinfo=UTC), NOON.replace(tzinfo=EAST), "12:30+08:00"])
    def test_refuses_a_time_zone(self, value: Any) -> None:
        refuses(co.TimeField(), value, "expected a time without time zone, got ")

    def test_takes_formats(self) -> None:
        takes(co.TimeField(["%H.%M"]), "12.30", time(12, 30))

    @pytest.mark.parametrize(
        "stored", ["12:30", "24:00:00", "12:30:45.678", "12:30:45Z", "123045.6", "12:30:45+01:00", 5, ""]
    )
    def test_reads_only_iso_times(self, stored: Any) -> None:
        refuses(co.TimeField(), stored, "expected the ISO text of a time without time zone, got ", reading=True)


class TestDateTimeTZField:
    @pytest.mark.parametrize(
        ("value", "expected", "text"),
        [
            (NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC), "2020-01-02T12:30:45.000678+00:00"),
            (datetime(2020, 1, 2, 8, tzinfo=EAST), datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
            (Moment(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
            (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999+00:00"),
        ],
    )
    def test_stores_utc(self, value: datetime, expected: datetime, text: str) -> None:
        field = co.DateTimeTZField()
        assert takes(field, value, expected) == text
        assert field.python_value(text).tzinfo is UTC

    @pytest.mark.parametrize("value", ["2020-01-02T12:30:45+00:00", 5, date(2020, 1, 2), time(1, tzinfo=UTC)])
    def test_refuses_text_and_whatever_is_no_datetime(self, value: Any) -> None:
        refuses(co.DateTimeTZField(), value, "expected a datetime with time zone, got ")

    @pytest.mark.parametrize("value", [NOON, NOON.replace(tzinfo=Vague())])
    def test_refuses_naive_datetimes(self, value: datetime) -> None:
        refuses(co.DateTimeTZField(), value, "expected a datetime with time zone, got datetime without one")

    @pytest.mark.parametrize(
        "value", [datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))]
    )
    def test_refuses_instants_off_the_calendar(self, value: datetime) -> None:
        refuses(co.DateTimeTZField(), value, "expected a datetime within the years 1 to 9999 in UTC, got one beyond")

    def test_tells_of_a_failing_time_zone_only_the_type_of_its_error(self) -> None:
        refuses(
            co.DateTimeTZField(), NOON.replace(tzinfo=Broken()), "the time zone of the datetime raised RuntimeError"
        )

    @pytest.mark.parametrize(
        "stored",
        ["2020-01-02T12:30:45.000678+0000", "2020-01-02T20:30:45.000678+0800", "2020-01-02T20:30:45.000678+08:00"],
    )
    def test_reads_the_rows_of_older_versions(self, stored: str) -> None:
        value = co.DateTimeTZField().python_value(stored)
        assert value == NOON.replace(tzinfo=UTC)
        assert value.tzinfo is UTC

    @pytest.mark.parametrize(
        "stored",
        [
            "2020-01-02T12:30:45",
            "2020-01-02 12:30:45+00:00",
            "2020-01-02T24:00:00+00:00",
            "2020-13-02T00:00:00+00:00",
            "0001-01-01T00:00:00+0800",
            "2020-01-02T12:30:45Z",
            "2020-W01-4T12:30:45+00:00",
            "",
            5,
            "2020-01-02T25:00:00+0800",
            "2020-01-02T12:30:45.123456+00:0\u0660",
            "2020-01-02T12:30:45+9900",
        ],
    )
    def test_reads_nothing_else(self, stored: Any) -> None:
        refuses(co.DateTimeTZField(), stored, "expected the ISO text of a datetime with time zone, got ", reading=True)


class TestTimestampField:
    @pytest.mark.parametrize(
        ("resolution", "ticks"),
        [(1, 1), (10, 10), (100, 100), (2, 100), (3, 1000), (4, 10**4), (5, 10**5), (6, 10**6), (10**6, 10**6)],
    )
    def test_the_resolution_is_a_number_of_ticks_or_its_power_of_ten(self, resolution: int, ticks: int) -> None:
        field = co.TimestampField(resolution=resolution, utc=True)
        assert field.cache_value(datetime(1970, 1, 1, 0, 0, 7)) == 7 * ticks

    @pytest.mark.parametrize("wrong", [0, -1, 7, 42, 10**7, "1", 1.0, True, None])
    def test_other_resolutions_are_an_error_at_the_declaration(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="resolution is 1, 10"):
            co.TimestampField(resolution=wrong)

    @pytest.mark.parametrize(
        ("resolution", "microsecond", "kept"),
        [(1, 999_999, 0), (10, 678_999, 600_000), (3, 678_999, 678_000), (6, 678_999, 678_999)],
    )
    @pytest.mark.parametrize("year", [1969, 2020])
    def test_rounds_down_to_a_tick(self, resolution: int, microsecond: int, kept: int, year: int) -> None:
        field = co.TimestampField(resolution=resolution, utc=True)
        value = datetime(year, 5, 6, 7, 8, 9, microsecond)
        takes(field, value, value.replace(microsecond=kept))

    @given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)))
    def test_microseconds_are_exact(self, value: datetime) -> None:
        takes(co.TimestampField(resolution=6, utc=True), value, value)

    @given(st.datetimes(datetime(1900, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)))
    def test_microseconds_of_aware_values_are_exact_in_local_time_too(self, value: datetime) -> None:
        field = co.TimestampField(resolution=6)
        assert field.python_value(field.cache_value(value)).astimezone(UTC) == value

    @pytest.mark.parametrize("utc", [False, True])
    def test_aware_values_keep_their_instant(self, utc: bool) -> None:
        field = co.TimestampField(utc=utc)
        assert field.cache_value(datetime(1970, 1, 1, 8, 0, 7, tzinfo=EAST)) == 7
        assert field.cache_value(datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC)) == 7

    def test_local_times_follow_the_zone(self, local_zone: Callable[[str], None]) -> None:
        field = co.TimestampField()
        local_zone("Europe/Berlin")
        stored = takes(field, datetime(2020, 7, 1, 12), datetime(2020, 7, 1, 12))
        assert stored == datetime(2020, 7, 1, 10, tzinfo=UTC).timestamp()
        takes(field, datetime(1955, 3, 4, 5, 6), datetime(1955, 3, 4, 5, 6))
        local_zone("America/New_York")
        assert field.python_value(stored) == datetime(2020, 7, 1, 6)

    @pytest.mark.parametrize(
        ("zone", "twice", "first"),
        [
            ("Europe/Berlin", datetime(2023, 10, 29, 2, 30), datetime(2023, 10, 29, 0, 30, tzinfo=UTC)),
            ("America/New_York", datetime(2023, 11, 5, 1, 30), datetime(2023, 11, 5, 5, 30, tzinfo=UTC)),
        ],
    )
    @pytest.mark.parametrize("resolution", [1, 6])
    def test_the_second_of_two_equal_local_times_stays_the_second(
        self, local_zone: Callable[[str], None], zone: str, twice: datetime, first: datetime, resolution: int
    ) -> None:
        local_zone(zone)
        field = co.TimestampField(resolution=resolution)
        early, late = (field.cache_value(twice.replace(fold=fold)) for fold in (0, 1))
        assert early == first.timestamp() * field.resolution
        assert late - early == 3600 * field.resolution
        assert [field.python_value(stored).fold for stored in (early, late)] == [0, 1]
        assert field.converter.canonical(twice.replace(fold=1), late).fold == 1
        assert field.converter.canonical(twice, early).fold == 0

    def test_an_aware_value_in_a_fold_reads_back_as_the_right_one(self, local_zone: Callable[[str], None]) -> None:
        local_zone("Europe/Berlin")
        field = co.TimestampField(resolution=6)
        value = field.python_value(field.cache_value(datetime(2023, 10, 29, 1, 30, 0, 5, tzinfo=UTC)))
        assert (value, value.fold) == (datetime(2023, 10, 29, 2, 30, 0, 5), 1)

    def test_a_local_time_that_never_was_becomes_one_that_was(self, local_zone: Callable[[str], None]) -> None:
        local_zone("Europe/Berlin")
        takes(co.TimestampField(), datetime(2023, 3, 26, 2, 30), datetime(2023, 3, 26, 3, 30))

    def test_fold_means_nothing_where_nothing_folds(self) -> None:
        field = co.TimestampField(utc=True)
        value = datetime(2020, 1, 2, fold=1)
        assert field.converter.canonical(value, field.converter.dump(value)).fold == 0

    def test_takes_dates_as_their_midnight(self) -> None:
        takes(co.TimestampField(), date(2020, 1, 2), datetime(2020, 1, 2))
        takes(co.TimestampField(utc=True), date(2020, 1, 2), datetime(2020, 1, 2))

    @pytest.mark.parametrize(
        ("seconds", "ticks"),
        [(7, 700), (0.29, 29), (-0.001, -1), (Decimal("1.239"), 123), (-7, -700), (0, 0), (1e-320, 0)],
    )
    def test_takes_seconds_exactly(self, seconds: Any, ticks: int) -> None:
        assert co.TimestampField(resolution=2, utc=True).cache_value(seconds) == ticks

    @pytest.mark.parametrize("value", ["2020-01-02", "7", True, time(1), [], float("nan")])
    def test_refuses_text_and_everything_else(self, value: Any) -> None:
        refuses(co.TimestampField(), value, "expected a datetime, a date or a number of seconds, got ")

    @pytest.mark.parametrize("value", [10**12, -(10**11), 1e300, Decimal("1E+999999999")])
    @pytest.mark.parametrize("utc", [False, True])
    def test_refuses_seconds_off_the_calendar(self, value: Any, utc: bool) -> None:
        refuses(co.TimestampField(utc=utc), value, "expected a time within the years 1 to 9999, got ")

    @pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
    @pytest.mark.parametrize("value", [datetime.min, datetime.max, date.min, date.max])
    def test_the_ends_of_the_calendar_are_readable_or_refused(
        self, local_zone: Callable[[str], None], zone: str, value: Any
    ) -> None:
        local_zone(zone)
        # Whether an instant is readable there depends on the system; what is written is.
        field = co.TimestampField()
        with contextlib.suppress(co.ValidationError):
            assert field.python_value(field.cache_value(value)).year == value.year

    def test_refuses_an_aware_value_off_the_calendar(self) -> None:
        refuses(
            co.TimestampField(), datetime.min.replace(tzinfo=EAST), "expected a datetime within the years 1 to 9999"
        )

    @pytest.mark.parametrize("stored", [1.0, True, "1", [], None.__class__])
    def test_reads_only_integers(self, stored: Any) -> None:
        refuses(co.TimestampField(), stored, "expected an integer, got ", reading=True)

    @pytest.mark.parametrize("stored", [10**12, -(10**12), 2**200])
    @pytest.mark.parametrize("utc", [False, True])
    def test_reads_no_time_off_the_calendar(self, stored: int, utc: bool) -> None:
        refuses(co.TimestampField(utc=utc), stored, "expected a time within the years 1 to 9999", reading=True)

    def test_the_default_is_now(self, local_zone: Callable[[str], None]) -> None:
        local_zone("America/New_York")
        for utc in (False, True):
            field = co.TimestampField(utc=utc)
            default = field.make_default()
            assert default.tzinfo is None
            assert abs(field.cache_value(default) - clock.time()) < 5

    def test_the_default_may_be_another_or_none(self) -> None:
        assert co.TimestampField(default=None, null=True).make_default() is None
        assert co.TimestampField(default=NOON).make_default() == NOON
