"""What the verdicts promise: a clear level that nothing single can set, honest transmission, every reason."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsgd.records import Failure, HeaderFacts, Relation, SeriesRow, SubRow, SubStatus
from nsgd.session.almanac import airmass_at, airmass_of, altitude_deg, sun_altitude_deg
from nsgd.session.judge import Columns, Verdicts, clear_level, judge
from nsgd.settings import Limits

SERIES = SeriesRow(1, "key", "M 31", "L", "cam", 1, 100, 100, ("L",), 1, False, -2.0, {}, 1, 1)


def relation(zero: float | tuple[float, ...], err: float = 0.004, weight: float = 1.0) -> Relation:
    zeros = zero if isinstance(zero, tuple) else (zero,)
    return Relation(
        1, 1, zeros, tuple(err * z for z in zeros), tuple(1 / z for z in zeros), zeros, (weight,) * len(zeros),
        100, 0.05, 0.02, "uniform", 0.0, (), 0.0, 0.0, 0.0, (0.0, 0.0),
    )  # fmt: skip


def sub(number: int, zero: float | tuple[float, ...] = 60.0, night: str = "n1", **more: object) -> SubRow:
    """A sub of 60 s (zero 60 = a rate of 1 per second) taken two minutes after the one before."""
    utc_s = 1.8e9 + 120.0 * number
    header = HeaderFacts(exposure_s=60.0, mid_utc_s=utc_s, filter_name="L")
    fields: dict[str, object] = {
        "sub_id": number + 1, "content_id": str(number), "series_id": 1, "stream": "60s", "folder": "f",
        "path": f"f/{number}.fits", "gone": False, "header": header, "session": night, "arrived_utc_s": utc_s,
        "order_utc_s": utc_s, "order_flag": "", "failure": None, "measure_s": 0.1, "fwhm_px": 3.0, "ellipticity": 0.1,
        "relation": relation(zero),
    }  # fmt: skip
    return SubRow(**{**fields, **more})  # type: ignore[arg-type]


def verdicts(rows: list[SubRow], limits: Limits | None = None, series: SeriesRow = SERIES) -> Verdicts:
    return judge(Columns.from_rows(rows), series, limits or Limits())


def noisy(rng: np.random.Generator, count: int, level: float = 60.0, night: str = "n1", first: int = 0) -> list[SubRow]:
    return [sub(first + i, level * (1 + 0.005 * rng.normal()), night) for i in range(count)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_clear_sky_reads_one(rng: np.random.Generator) -> None:
    found = verdicts(noisy(rng, 100))
    assert np.median(found.transmission_clear) == pytest.approx(1.0, abs=0.003)
    assert np.std(found.transmission_clear) < 0.007


@pytest.mark.parametrize("outliers", [1, 2])
def test_single_subs_far_too_bright_do_not_set_the_level(rng: np.random.Generator, outliers: int) -> None:
    rows = noisy(rng, 60)
    for number in range(outliers):
        rows[20 + 7 * number] = sub(20 + 7 * number, 60.0 * (1.3 + 0.2 * number))
    assert np.median(verdicts(rows).transmission_clear) == pytest.approx(1.0, abs=0.006)


def test_an_exposure_that_begins_in_haze_takes_the_level_of_its_gain(rng: np.random.Generator) -> None:
    clear = [replace(row, stream="60s g100") for row in noisy(rng, 30)]
    hazy = [replace(row, stream="30s g100") for row in noisy(rng, 10, 42.0, "n1", 40)]
    other_gain = [replace(row, stream="60s g0") for row in noisy(rng, 10, 42.0, "n1", 60)]
    shutter = [replace(row, stream="90s g100") for row in noisy(rng, 10, 58.8, "n1", 80)]
    found = verdicts(clear + hazy + other_gain + shutter)
    assert np.median(found.transmission_clear[30:40]) == pytest.approx(0.7, abs=0.01)
    assert np.median(found.transmission_clear[40:50]) == pytest.approx(1.0, abs=0.01)
    assert np.median(found.transmission_clear[50:]) == pytest.approx(1.0, abs=0.01)
    early = verdicts(clear + hazy[:2])
    assert early.transmission_clear[-1] == pytest.approx(0.7, abs=0.02)
    assert not early.learning[-1]


def test_a_wholly_hazy_second_night_reads_its_haze(rng: np.random.Generator) -> None:
    rows = noisy(rng, 60) + noisy(rng, 60, 42.0, "n2", 700)
    found = verdicts(rows)
    assert np.median(found.transmission_clear[60:]) == pytest.approx(0.7, abs=0.006)
    assert not found.learning.any()


def test_a_first_night_that_began_in_cloud_comes_right_when_the_sky_clears(rng: np.random.Generator) -> None:
    rows = noisy(rng, 20, 45.0)
    assert np.median(verdicts(rows).transmission_clear) == pytest.approx(1.0, abs=0.01)
    rows += noisy(rng, 5, 60.0, first=20)
    found = verdicts(rows)
    assert np.median(found.transmission_clear[:20]) == pytest.approx(0.75, abs=0.01)
    assert np.median(found.transmission_clear[20:]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_cloud_for_any_part_of_the_night_leaves_the_level_alone(rng: np.random.Generator, share: float) -> None:
    rows = noisy(rng, 100)
    for number in range(int(100 * share)):
        rows[number] = sub(number, 60.0 * rng.uniform(0.3, 0.95))
    assert np.median(verdicts(rows).transmission_clear[-8:]) == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize("count", [3, 4, 5, 7, 10])
def test_few_subs_are_judged_honestly(rng: np.random.Generator, count: int) -> None:
    found = verdicts(noisy(rng, count))
    assert np.allclose(found.transmission_clear, 1.0, atol=0.02)
    assert found.learning.all() == (count < 5)


def test_the_first_subs_of_a_stream_are_learning_and_a_new_night_is_not(rng: np.random.Generator) -> None:
    assert verdicts(noisy(rng, 2)).learning.all()
    assert verdicts([]).learning.size == 0
    rows = [*noisy(rng, 12), sub(700, 60.0, "n2"), replace(sub(701, 60.0, "n2"), stream="10s")]
    learning = verdicts(rows).learning
    assert not learning[:13].any()
    assert learning[13]


def test_streams_have_clear_levels_of_their_own(rng: np.random.Generator) -> None:
    rows = noisy(rng, 20) + [
        replace(sub(100 + i, 600.0), stream="300s", header=HeaderFacts(exposure_s=300.0)) for i in range(8)
    ]
    found = verdicts(rows)
    assert found.transmission_clear[-8:] == pytest.approx(np.ones(8), abs=0.01)
    assert set(found.clear_level) == {"60s", "300s"}


def through_air(
    rng: np.random.Generator, k: float, airmass: np.ndarray, light: np.ndarray | float = 1.0
) -> list[SubRow]:
    zero = 60.0 * 10 ** (-0.4 * k * airmass) * (1 + 0.004 * rng.normal(size=airmass.size)) * light
    return [
        sub(i, float(zero[i]), header=HeaderFacts(exposure_s=60.0, airmass=float(airmass[i]), mid_utc_s=1.0))
        for i in range(airmass.size)
    ]


@pytest.mark.parametrize("k", [0.12, 0.20, 0.30])
def test_extinction_is_taken_out_also_where_the_site_differs(rng: np.random.Generator, k: float) -> None:
    found = verdicts(through_air(rng, k, np.linspace(1.0, 2.2, 150)))
    assert found.transmission_clear.min() > 0.965
    assert found.transmission.min() < 0.9
    assert found.extinction_k_mag["n1"] == pytest.approx(k, abs=0.03)


def test_cirrus_that_grows_with_airmass_is_not_swallowed_by_the_fit(rng: np.random.Generator) -> None:
    airmass = np.linspace(1.0, 1.6, 100)
    cirrus = np.where(np.arange(100) > 60, 0.85, 1.0)
    found = verdicts(through_air(rng, 0.2, airmass, cirrus))
    assert np.median(found.transmission_clear[65:]) == pytest.approx(0.85, abs=0.03)


def test_a_small_span_of_airmass_leaves_the_prior(rng: np.random.Generator) -> None:
    found = verdicts(through_air(rng, 0.4, np.linspace(1.0, 1.25, 100)))
    assert found.extinction_k_mag["n1"] == 0.20


def test_subs_without_airmass_are_judged_without_extinction(rng: np.random.Generator) -> None:
    found = verdicts(noisy(rng, 20))
    assert np.isnan(found.extinction_mag).all()
    assert np.isfinite(found.transmission_clear).all()


def test_every_reason_is_given(rng: np.random.Generator) -> None:
    rows = noisy(rng, 30)
    rows[5] = replace(sub(5, 30.0), relation=relation(30.0, weight=0.1), fwhm_px=9.0, ellipticity=0.6)
    verdict = verdicts(rows, Limits(fwhm_px=6.0, ellipticity=0.5)).row(5)
    assert verdict.status is SubStatus.REJECTED
    assert verdict.reasons == (
        "transmission 0.50 below 0.75", "weight 0.10 below 0.25", "fwhm 9.0 px above 6", "ellipticity 0.60 above 0.5",
    )  # fmt: skip


def test_a_persons_decision_wins(rng: np.random.Generator) -> None:
    rows = noisy(rng, 30)
    rows[3] = replace(sub(3, 20.0), decision="accept")
    rows[4] = replace(sub(4, 60.0), decision="reject")
    found = verdicts(rows)
    assert (found.row(3).status, found.row(3).reasons) == (SubStatus.OK, ("accepted by you",))
    assert (found.row(4).status, found.row(4).reasons) == (SubStatus.REJECTED, ("rejected by you",))


def test_a_failed_sub_stays_failed_and_says_why(rng: np.random.Generator) -> None:
    rows = noisy(rng, 10)
    failure = Failure("no_match", "5 stars matched, 6 needed")
    rows[2] = replace(rows[2], relation=None, failure=failure, decision="accept")
    verdict = verdicts(rows).row(2)
    assert verdict.status is SubStatus.FAILED
    assert "5 stars matched" in verdict.reasons[0]
    assert np.isnan(verdict.transmission)
    assert verdict.rank == 0


def test_limits_of_the_series_come_before_those_of_the_settings(rng: np.random.Generator) -> None:
    rows = [*noisy(rng, 20), sub(20, 50.0)]
    assert verdicts(rows).row(20).status is SubStatus.OK
    assert verdicts(rows, series=replace(SERIES, limits={"transmission": 0.9})).row(20).status is SubStatus.REJECTED


def test_ranks_count_from_the_highest_weight(rng: np.random.Generator) -> None:
    rows = [replace(sub(i), relation=relation(60.0, weight=weight)) for i, weight in enumerate((0.5, 2.0, 1.0))]
    found = verdicts(rows)
    assert [found.row(at).rank for at in range(3)] == [3, 1, 2]
    assert found.row(1).weight_of_best == pytest.approx(1.0)


def test_one_absurd_weight_does_not_reject_all_others(rng: np.random.Generator) -> None:
    rows = noisy(rng, 20)
    rows[7] = replace(rows[7], relation=relation(60.0, weight=50.0))
    assert verdicts(rows).ok.all()


def test_colour_subs_are_judged_by_the_mean_of_their_channels() -> None:
    rows = [sub(i, (120.0, 60.0, 30.0)) for i in range(10)] + [
        sub(10, (60.0, 30.0, 15.0)),
        sub(11, (120.0, 60.0, float("nan"))),
    ]
    found = verdicts(rows)
    assert found.transmission_clear[10] == pytest.approx(0.5)
    assert found.transmission_channel[10] == pytest.approx([0.5, 0.5, 0.5])
    assert found.transmission_clear[11] == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(40)))
def test_the_order_of_arrival_changes_nothing(order: list[int]) -> None:
    rows = noisy(np.random.default_rng(3), 40)
    for number in range(10, 20):
        rows[number] = sub(number, 40.0)
    straight, shuffled = verdicts(rows), verdicts([rows[i] for i in order])
    by_id = np.array([shuffled.of(row.sub_id).transmission_clear for row in rows])
    assert by_id == pytest.approx(straight.transmission_clear, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(1e-3, 1e6), max_size=60), noise=st.floats(1e-4, 0.05))
def test_the_clear_level_lies_within_the_values(values: list[float], noise: float) -> None:
    level, known = clear_level(np.array(values), noise)
    if not values:
        assert np.isnan(level)
        assert not known
    else:
        assert min(values) * (1 - 1e-9) <= level <= max(values) * (1 + 1e-9)


def test_the_previous_sub_of_the_stream_is_named_with_its_figure_of_today(rng: np.random.Generator) -> None:
    rows = noisy(rng, 6)
    rows[4] = replace(rows[4], relation=None, failure=Failure("no_stars", "0 stars"))
    found = verdicts(rows)
    assert found.row(5).previous_id == rows[3].sub_id
    assert found.row(5).previous_transmission == found.row(3).transmission_clear
    assert found.row(0).previous_id == 0


def test_columns_grow_and_take_new_figures(rng: np.random.Generator) -> None:
    rows = noisy(rng, 300)
    columns = Columns.from_rows(rows)
    columns.replace(sub(150, 30.0))
    assert len(columns) == 300
    assert rows[150].sub_id in columns
    assert judge(columns, SERIES, Limits()).of(rows[150].sub_id).transmission_clear == pytest.approx(0.5, abs=0.01)


def test_ten_thousand_subs_are_judged_in_milliseconds(rng: np.random.Generator) -> None:
    rows = []
    for night in range(50):
        rows += [replace(row, session=f"n{night}") for row in noisy(rng, 200, first=200 * night)]
    columns = Columns.from_rows(rows)
    judge(columns, SERIES, Limits())
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        judge(columns, SERIES, Limits())
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.03


def test_sun_and_stars_stand_where_the_almanac_puts_them() -> None:
    # Greenwich, 2026-06-21 12:00 UTC: the sun culminates at 90 - 51.48 + 23.44 degrees.
    assert sun_altitude_deg(51.48, 0.0, 1_782_043_200.0) == pytest.approx(61.96, abs=0.1)
    # Polaris stands at the latitude, at any hour.
    assert altitude_deg(37.95, 89.26, 50.0, 10.0, 1.8e9) == pytest.approx(50.0, abs=0.8)


def test_airmass_comes_from_the_best_source_there_is() -> None:
    assert airmass_of(HeaderFacts(airmass=1.5, altitude_deg=30.0), 0.0) == 1.5
    assert airmass_of(HeaderFacts(altitude_deg=30.0), 0.0) == pytest.approx(1.99, abs=0.01)
    placed = HeaderFacts(ra_deg=37.95, dec_deg=89.26, site_lat_deg=50.0, site_long_deg=10.0, mid_utc_s=1.8e9)
    assert airmass_of(placed, 1.8e9) == pytest.approx(1.30, abs=0.02)
    assert np.isnan(airmass_of(HeaderFacts(airmass=0.0), 0.0))
    assert np.isnan(airmass_at(-3.0))
