"""Keys, nights and name order."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from nsgd.records import HeaderFacts
from nsgd.session.series import natural_key, series_key, session_of, stream_key

HEADER = HeaderFacts(
    object_name="M 31", filter_name="Ha", camera="ASI2600MM", width_px=6248, height_px=4176, exposure_s=60.0, gain=100.0
)
BERLIN = ZoneInfo("Europe/Berlin")


def utc_s(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_spelling_of_the_object_does_not_split_a_series() -> None:
    assert series_key(HEADER) == series_key(replace(HEADER, object_name="m31", exposure_s=300.0, gain=0.0))


def test_what_cannot_be_stacked_is_another_series() -> None:
    changes = (
        {"object_name": "M33"},
        {"filter_name": "OIII"},
        {"camera": "other"},
        {"binning": 2},
        {"width_px": 100},
        {"bayer_pattern": "RGGB"},
    )
    keys = {series_key(replace(HEADER, **change)) for change in changes} | {
        series_key(HEADER),
        series_key(HEADER, "panel 2"),
    }
    assert len(keys) == len(changes) + 2


def test_a_separator_inside_a_name_does_not_make_two_series_one() -> None:
    assert series_key(replace(HEADER, object_name="a|b", filter_name="c")) != series_key(
        replace(HEADER, object_name="a", filter_name="b|c")
    )


def test_stream_names_exposure_and_gain() -> None:
    assert stream_key(HEADER) == "60s g100"
    assert stream_key(replace(HEADER, gain=None, exposure_s=0.5)) == "0.5s"
    assert stream_key(replace(HEADER, exposure_s=None)) == "?s g100"


def test_a_night_ends_at_local_noon() -> None:
    assert session_of(utc_s("2026-03-28T20:00"), BERLIN) == "2026-03-28"
    assert session_of(utc_s("2026-03-29T02:30"), BERLIN) == "2026-03-28"  # clocks were put forward at 01:00 UTC
    assert session_of(utc_s("2026-03-29T09:59"), BERLIN) == "2026-03-28"
    assert session_of(utc_s("2026-03-29T10:01"), BERLIN) == "2026-03-29"
    assert session_of(utc_s("2026-03-29T10:01"), ZoneInfo("UTC")) == "2026-03-28"


def test_times_before_1970_and_the_system_zone_work() -> None:
    assert session_of(-86400.0, ZoneInfo("UTC")) == "1969-12-30"
    assert len(session_of(0.0, None)) == 10


def test_names_sort_as_people_count() -> None:
    names = ["sub_10.fits", "Sub_9.fits", "sub_2.fits", "a.fits", "10.fits", "9.fits"]
    assert sorted(names, key=natural_key) == ["9.fits", "10.fits", "a.fits", "sub_2.fits", "Sub_9.fits", "sub_10.fits"]


@given(st.lists(st.text(max_size=20), max_size=6))
def test_any_names_can_be_sorted_and_order_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)
