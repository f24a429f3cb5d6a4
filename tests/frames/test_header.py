"""Headers of the common capture programs mean what their authors meant."""

from __future__ import annotations

import math
import time
import unicodedata
from pathlib import PurePath
from zoneinfo import ZoneInfo

import pytest
from framefiles import header_bytes
from header_samples import SAMPLES, Sample
from hypothesis import given
from hypothesis import strategies as st

from nsgd.frames.fits import parse_cards
from nsgd.frames.header import (
    Card,
    airmass_of,
    altitude_of,
    bayer_pattern,
    clean,
    facts,
    filter_name,
    parse_utc_s,
    sexagesimal,
    with_sky_position,
)
from nsgd.records import HeaderFacts


def facts_of(sample: Sample) -> HeaderFacts:
    lines = [line for line in sample.cards.strip("\n").split("\n") if line]
    return facts(parse_cards(header_bytes(lines)), PurePath("/captures") / sample.name)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_every_programs_header_is_understood(sample: Sample) -> None:
    found = facts_of(sample)
    for name, expected in sample.expected.items():
        value = getattr(found, name)
        if isinstance(expected, float):
            expected = pytest.approx(expected, abs=2e-6 if name.endswith("utc_s") else 1e-9)
        assert value == expected, name


def test_a_time_in_a_name_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        found = facts({}, PurePath("Light_M 31_30.0s_20250824-225213.fit"))
        assert found.start_utc_s == parse_utc_s("2025-08-24T20:52:13Z")
        assert facts({}, PurePath("IC 434_20251018-045926401_16C.fits")).start_utc_s == 1760756366.401
        assert facts({}, PurePath("2025-10-18-04-59-26-401.fit")).start_utc_s == parse_utc_s("2025-10-18T02:59:26Z")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_users_zone_serves_times_without_one() -> None:
    zone = ZoneInfo("America/Santiago")
    found = facts({}, PurePath("Light_M 31_30.0s_20250824-225213.fit"), zone=zone)
    assert found.start_utc_s == parse_utc_s("2025-08-25T02:52:13Z")
    card = facts({"DATE-LOC": Card("2025-08-24T22:52:13.5")}, PurePath("a.fit"), zone=zone)
    assert (card.start_utc_s, card.time_source) == (parse_utc_s("2025-08-25T02:52:13.5Z"), "DATE-LOC")


@pytest.mark.parametrize("name", ["NGC 7000 B", "IC 434", "Sh2-101", "M 31 Light", "Image_Arp.145_2017", "Horsehead"])
def test_no_filter_is_read_into_ordinary_names(name: str) -> None:
    assert filter_name({}, PurePath(f"{name}_0001.fits"), {}) in ({"NGC 7000 B": "B"}.get(name, "none"),)


def test_the_users_aliases_win() -> None:
    aliases = {"Filter 2": "R", "LP": "L-eXtreme", "Ha": "Hα 3nm"}
    assert filter_name({"FILTER": Card("filter 2")}, PurePath("a.fit"), aliases) == "R"
    assert filter_name({"FILTER": Card("LP")}, PurePath("a.fit"), aliases) == "L-eXtreme"
    assert filter_name({"FILTER": Card("HA")}, PurePath("a.fit"), aliases) == "Hα 3nm"
    assert filter_name({"FILTER": Card("Filter 3")}, PurePath("a.fit"), aliases) == "Filter 3"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Ha", "Ha"), ("H-alpha", "Ha"), ("H_Alpha", "Ha"), ("HA", "Ha"), ("OIII", "OIII"), ("O3", "OIII"),
        ("Oiii", "OIII"), ("SII", "SII"), ("S2", "SII"), ("L", "L"), ("Lum", "L"), ("Luminance", "L"),
        ("Red", "R"), ("g", "G"), ("BLUE", "B"), ("", "none"), ("None", "none"), ("IRCUT", "IRCUT"),
        ("Astrodon L filter", "Astrodon L filter"), ("red filter", "R"), (5, "5"), (None, "none"), (True, "True"),
    ],
)  # fmt: skip
def test_filters_have_one_name(said: str | int | None, name: str) -> None:
    assert filter_name({"FILTER": Card(said)}, PurePath("a.fit"), {}) == name


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-22T22:10:05", "2026-11-22T22:10:05+00:00"),
        ("2026-11-22T22:10:05.6477108", "2026-11-22T22:10:05.647710+00:00"),
        ("2026-11-22T22:10:05.6Z", "2026-11-22T22:10:05.6+00:00"),
        ("2026-11-22T23:10:05+01:00", "2026-11-22T22:10:05+00:00"),
        ("2026-11-22 22:10:05", "2026-11-22T22:10:05+00:00"),
        ("2026/11/22T22:10:05", "2026-11-22T22:10:05+00:00"),
        ("20261122T221005", "2026-11-22T22:10:05+00:00"),
        ("2016-12-31T23:59:60", "2017-01-01T00:00:00+00:00"),
        ("06/05/98T01:02:03", "1998-05-06T01:02:03+00:00"),
        ("04/07/18T14:03:03", "2018-07-04T14:03:03+00:00"),
        ("2026-11-22T22:10:5.25", "2026-11-22T22:10:05.25+00:00"),
        ("2026-11-22T22:10: 5", "2026-11-22T22:10:05+00:00"),
        ("2026-11-22T22:10", "2026-11-22T22:10:00+00:00"),
        ("2026-11-22T22:10:60.000", "2026-11-22T22:11:00+00:00"),
        ("2026-11-22T22:10:05.5 UTC", "2026-11-22T22:10:05.5+00:00"),
        ("2026-11-22T22:10:05.500(UTC)", "2026-11-22T22:10:05.5+00:00"),
        ("2026-11-22T18:40:05-0330", "2026-11-22T22:10:05+00:00"),
    ],
)
def test_times_are_read_in_every_spelling(text: str, utc: str) -> None:
    assert parse_utc_s(text) == parse_utc_s(utc)
    assert parse_utc_s(text) is not None


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-22", "2026-13-45T00:00:00", "T", "99999999T999999", ":60"])
def test_what_is_no_time_is_missing(text: str) -> None:
    assert parse_utc_s(text) is None


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    parse_utc_s(text)
    sexagesimal(text)
    keys = ("DATE-OBS", "FILTER", "EXPTIME", "XBINNING", "IMAGETYP", "BAYERPAT", "RA", "SITELAT", "OBJECT")
    found = facts({key: Card(text) for key in keys}, PurePath(text.replace("\0", "") or "a.fit"))
    assert found.exposure_s is None or math.isfinite(found.exposure_s)


@given(st.text(max_size=300))
def test_cleaned_text_holds_nothing_that_could_act(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 80
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\x1b]52;c;ZXZpbA==\x07M 31", "]52;c;ZXZpbA==M 31"),
        ("M\u202e31\u200b", "M31"),
        ("  M \t\n 31 ", "M 31"),
        ("e\u0301toile", "étoile"),
        ("\udcff\udcfename", "name"),
        ("[@click=app.quit]x[/]", "[@click=app.quit]x[/]"),
    ],
)
def test_hostile_text_is_disarmed_and_honest_text_kept(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("cards", "height", "pattern"),
    [
        ({}, 100, ""),
        ({"BAYERPAT": ""}, 100, ""),
        ({"BAYERPAT": "RGGB    "}, 100, "RGGB"),
        ({"BAYERPAT": "'grbg'"}, 100, "GRBG"),
        ({"COLORTYP": "BGGR"}, 100, "BGGR"),
        ({"COLORTYP": "RGB"}, 100, ""),
        ({"BAYERPAT": "NONE"}, 100, ""),
        ({"CFAIMAGE": "no"}, 100, ""),
        ({"BAYERPAT": "", "COLORTYP": "GBRG"}, 100, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1}, 100, "GRBG"),
        ({"BAYERPAT": "RGGB", "YBAYROFF": 1}, 100, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 1}, 100, "BGGR"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "TOP-DOWN"}, 100, "RGGB"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, 100, "GBRG"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, 101, "RGGB"),
    ],
)
def test_the_bayer_cell_is_that_of_the_first_array_row(cards: dict[str, str | int], height: int, pattern: str) -> None:
    assert bayer_pattern({key: Card(value) for key, value in cards.items()}, height) == pattern


def test_altitude_agrees_with_astropy() -> None:
    coordinates = pytest.importorskip("astropy.coordinates")
    from astropy import units
    from astropy.time import Time
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        for ra, dec, lat, long, when in [
            (83.82, -5.39, 48.2, 11.6, "2026-01-15T21:00:00"),
            (299.9, 22.72, -31.3, 149.1, "2018-09-07T11:31:45"),
            (10.7, 41.3, 37.5, -119.7, "2020-11-01T06:00:00"),
        ]:
            place = coordinates.EarthLocation(lat=lat * units.deg, lon=long * units.deg)
            sky = coordinates.SkyCoord(ra * units.deg, dec * units.deg)
            expected = sky.transform_to(coordinates.AltAz(obstime=Time(when), location=place)).alt.deg
            utc_s = parse_utc_s(when)
            assert utc_s is not None
            assert altitude_of(ra, dec, lat, long, utc_s) == pytest.approx(expected, abs=0.4)


def test_airmass_grows_towards_the_horizon_and_ends_there() -> None:
    assert airmass_of(90.0) == pytest.approx(1.0, abs=1e-3)
    assert airmass_of(30.0) == pytest.approx(1.994, abs=0.005)
    assert airmass_of(2.0) is None
    assert airmass_of(None) is None


def test_the_users_site_serves_headers_without_one() -> None:
    header = HeaderFacts(ra_deg=83.82, dec_deg=-5.39, mid_utc_s=parse_utc_s("2026-01-15T21:00:00"))
    assert with_sky_position(header).airmass is None
    assert with_sky_position(header, (48.2, 11.6)).altitude_deg == pytest.approx(35.7, abs=1.5)
