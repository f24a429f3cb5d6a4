"""What the alarm promises: it sees what takes light, names it, rings once, and lets people sleep."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from nsgd.records import Alert, HeaderFacts, SkyState, SubRow, SubStatus, Verdict
from nsgd.session.alerts import (
    AlarmState,
    acknowledge,
    end_session,
    is_clear,
    is_quiet,
    notice,
    over,
    replay,
    report,
    snooze,
    step,
)
from nsgd.session.sky import BAD_STATES, Observation, Sky, look, states
from nsgd.settings import Alarm

DUSK_UTC_S = 1_795_287_600.0
"""2026-11-21 19:00 UTC, 20:00 in Berlin."""
BERLIN = ZoneInfo("Europe/Berlin")
PLAIN = Observation(
    sub_id=1, utc_s=DUSK_UTC_S, series_id=1, stream="170s", label="M 31 L", exposure_s=170.0, transmission=1.0,
    transmission_err=0.006, learning=False, stars_used=120, stars_expected=120, stars_detected=180, star_scatter=0.05,
    star_floor=0.02, pattern="uniform", pattern_rms=0.004, sky_adu=1000.0, background_rms_adu=20.0, fwhm_px=3.0,
    ellipticity=0.06, rotation_deg=0.0,
)  # fmt: skip

Change = Callable[[Observation, int], Observation]


@dataclass
class Night:
    """An alarm and what it said; subs come every 180 s, ticks every minute between them."""

    alarm: Alarm = field(default_factory=Alarm)
    zone: ZoneInfo | None = BERLIN
    cadence_s: float = 180.0
    seed: int = 5
    state: AlarmState = field(default_factory=AlarmState)
    said: list[tuple[int, Alert]] = field(default_factory=list)
    states: list[SkyState] = field(default_factory=list)
    now_utc_s: float = DUSK_UTC_S - 200.0
    number: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def subs(self, count: int, change: Change | None = None) -> Night:
        for index in range(count):
            self.tick_to(DUSK_UTC_S + self.cadence_s * self.number + self.cadence_s)
            self.take(change, index)
        return self

    def take(self, change: Change | None = None, index: int = 0) -> None:
        rng, scale = self.rng, self.cadence_s / 180.0
        seen = replace(
            PLAIN,
            sub_id=self.number + 1,
            utc_s=self.now_utc_s - 0.5 * self.cadence_s,
            exposure_s=170.0 * scale,
            transmission=1.0 + 0.006 * rng.normal(),
            star_scatter=0.05 * (1 + 0.06 * rng.normal()),
            stars_detected=int(rng.poisson(180)),
            sky_adu=1000.0 * (1 + 0.003 * rng.normal()),
            fwhm_px=3.0 * (1 + 0.02 * rng.normal()),
        )
        self.number += 1
        seen = change(seen, index) if change else seen
        seen = replace(seen, rejected=seen.transmission < 0.75 or bool(seen.failure))
        self.hear(step(self.state, seen, self.now_utc_s, self.alarm, self.zone))
        self.states.append(self.state.sky)

    def hear(self, stepped: tuple[AlarmState, tuple[Alert, ...]]) -> None:
        # What is remembered between two steps is what the store holds: JSON text.
        self.state = AlarmState.from_json(stepped[0].to_json())
        assert self.state.to_json() == stepped[0].to_json()
        self.said += [(self.number, alert) for alert in stepped[1]]

    def tick_to(self, utc_s: float) -> Night:
        while self.now_utc_s + 60.0 < utc_s:
            self.now_utc_s += 60.0
            self.hear(step(self.state, None, self.now_utc_s, self.alarm, self.zone))
        self.now_utc_s = max(utc_s, self.now_utc_s)
        return self

    def pause(self, minutes: float) -> Night:
        """Nothing comes; later subs keep their cadence from here."""
        begin = self.now_utc_s
        self.tick_to(begin + 60.0 * minutes)
        self.number += round(60.0 * minutes / self.cadence_s)
        return self

    @property
    def kinds(self) -> list[str]:
        return [alert.kind for _, alert in self.said]


def dimmed(light: float, *, uneven: bool = True, sky: float = 1.1) -> Change:
    """Cloud: light lost, stars uneven, sky brighter."""

    def change(seen: Observation, index: int) -> Observation:
        return replace(
            seen,
            transmission=seen.transmission * light,
            star_scatter=seen.star_scatter * (1.8 if uneven else 1.0),
            star_floor=0.075 if uneven else 0.02,
            stars_detected=int(seen.stars_detected * light),
            sky_adu=seen.sky_adu * sky,
            pattern="patchy" if uneven else "uniform",
            pattern_rms=0.05 if uneven else 0.004,
        )

    return change


def but(**fields: object) -> Change:
    return lambda seen, index: replace(seen, **fields)  # type: ignore[arg-type]


# --- one event, one pair of messages -------------------------------------------------------------


def test_cloud_rings_once_and_says_once_when_it_has_gone() -> None:
    night = Night().subs(20).subs(15, dimmed(0.5)).subs(20)
    assert night.kinds == ["cloud", "clear"]
    (at, first), (_, last) = night.said
    assert at <= 22
    assert first.event_id == last.event_id
    assert (first.urgent, first.resolves, last.urgent, last.resolves) == (True, False, False, True)


def test_the_first_message_says_what_a_person_needs_at_night() -> None:
    first = Night().subs(20).subs(6, dimmed(0.4)).said[0][1]
    assert re.fullmatch(r"Cloud: \d\d % of clear", first.title)
    assert "Since 21:0" in first.body
    assert "M 31 L" in first.body
    assert "rejected" in first.body
    assert "dimmed unevenly" in first.body
    assert len(first.body) < 300


def test_the_all_clear_says_how_long_it_was_and_what_it_cost() -> None:
    last = Night().subs(20).subs(10, dimmed(0.4)).subs(10).said[-1][1]
    assert last.title.startswith("Clear again: ")
    assert re.search(r"Cloud from 21:0\d to 21:3\d \(\d\d min\)", last.body)
    assert "Cloud from 21:0" in last.body
    assert "to 21:30" in last.body  # where the first good sub began
    assert "Lost: 10 subs, 28 min" in last.body
    assert "Deepest: " in last.body


def test_the_all_clear_comes_with_the_third_good_sub() -> None:
    night = Night().subs(20).subs(10, dimmed(0.4)).subs(5)
    assert night.said[-1][0] == 33


def test_the_state_sees_a_small_loss_that_does_not_ring() -> None:
    night = Night().subs(30).subs(10, dimmed(0.95, uneven=False, sky=1.0))
    assert night.states[31] is SkyState.THINNING
    assert not night.said


def test_a_veil_of_two_percent_is_seen_within_a_few_subs_and_goes_again() -> None:
    night = Night().subs(40).subs(20, dimmed(0.98, uneven=False, sky=1.0)).subs(10)
    assert SkyState.THINNING in night.states[40:46]
    assert night.states[-1] is SkyState.CLEAR


def test_one_sub_deep_in_cloud_with_other_signs_rings_at_once() -> None:
    night = Night(cadence_s=300.0).subs(20).subs(1, dimmed(0.35))
    assert night.kinds == ["cloud"]


def test_broken_cloud_stays_within_its_messages() -> None:
    night = Night().subs(15)
    for _ in range(12):
        night.subs(4, dimmed(0.5)).subs(5)
    first, last = night.said[0][1].created_utc_s, night.said[-1][1].created_utc_s
    assert len(night.said) <= 12
    times = [alert.created_utc_s for _, alert in night.said]
    assert max(sum(0 <= other - t < 3600 for other in times) for t in times) <= 4
    assert len(night.said) <= 2 + 2 * (last - first) / 3600.0


@pytest.mark.parametrize("cadence_s", [10.0, 60.0, 300.0])
def test_cloud_rings_within_two_subs_or_two_minutes_at_any_cadence(cadence_s: float) -> None:
    night = Night(cadence_s=cadence_s).subs(40).subs(20, dimmed(0.6))
    at = night.said[0][0] - 40
    assert 1 <= at <= max(2, math.ceil(120.0 / cadence_s) + 1)


@pytest.mark.parametrize(("sensitivity", "light", "rings"), [
    ("calm", 0.7, False), ("normal", 0.7, True), ("normal", 0.88, False), ("keen", 0.90, True), ("calm", 0.4, True),
])  # fmt: skip
def test_three_sensitivities(sensitivity: str, light: float, rings: bool) -> None:
    night = Night(Alarm(sensitivity=sensitivity)).subs(20).subs(8, dimmed(light))  # type: ignore[arg-type]
    assert (night.kinds == ["cloud"]) == rings


def test_cloud_seen_through_one_filter_counts_for_the_next() -> None:
    def filters(seen: Observation, index: int) -> Observation:
        name = ("Ha", "L")[index % 2]
        return replace(seen, series_id=1 + index % 2, label=f"M 31 {name}")

    night = Night().subs(30, filters)
    night.subs(2, lambda seen, index: dimmed(0.6)(filters(seen, index), index))
    assert night.kinds == ["cloud"]
    assert night.said[0][0] == 32


def test_a_hazy_second_night_is_announced() -> None:
    night = Night().subs(5, dimmed(0.7, uneven=False, sky=1.0))
    assert night.kinds == ["cloud"]
    assert night.said[0][1].title.startswith(("Haze", "Light is lost"))


def test_a_new_stream_is_learning_and_never_clear() -> None:
    night = Night().subs(4, but(learning=True))
    assert set(night.states) == {SkyState.LEARNING}


def test_a_better_clear_level_is_no_dip() -> None:
    """The night began in thin cloud; when it clears, all earlier subs are judged anew and lower."""
    night = Night().subs(12)
    level, last = [1.0], [0, 1.0]

    def clearing(seen: Observation, index: int) -> Observation:
        rate = 1.1 * seen.transmission
        before = last[1] / level[0]
        level[0] = min(1.1, level[0] + 0.05) if index else level[0]
        now = last[1] / level[0] if last[0] else before
        seen = replace(seen, transmission=rate / level[0], previous_id=last[0], previous_transmission=now)
        last[:] = [seen.sub_id, rate]
        return seen

    night.subs(15, clearing)
    assert not night.said
    assert not BAD_STATES & set(night.states)


# --- the table of what must and must not wake somebody (shared rules) ----------------------------


def test_dew_rings_with_its_own_text() -> None:
    def wet(seen: Observation, index: int) -> Observation:
        part = min(1.0, index / 18.0)
        return replace(
            seen, transmission=seen.transmission * (1 - 0.55 * part), fwhm_px=seen.fwhm_px * (1 + 0.3 * part)
        )

    night = Night().subs(20).subs(20, wet)
    assert night.states[-1] is SkyState.DEW
    assert "dew" in night.kinds
    assert any("Dew" in alert.title for _, alert in night.said)
    assert len(night.said) <= 2


def test_an_edge_that_moves_over_the_field_is_an_obstruction() -> None:
    def edge(seen: Observation, index: int) -> Observation:
        part = (index + 1) / 16.0
        across = 0.4 * math.sin(math.pi * part)
        return replace(
            seen, transmission=seen.transmission * (1 - 0.9 * part), pattern="one_side", pattern_rms=across,
            star_scatter=seen.star_scatter * (1 + 8 * across), sky_adu=seen.sky_adu * (1 - 0.3 * part),
        )  # fmt: skip

    night = Night().subs(20).subs(14, edge)
    assert night.states[-1] is SkyState.OBSTRUCTED
    assert "obstructed" in night.kinds


def test_moonrise_does_not_ring() -> None:
    night = Night().subs(10).subs(60, lambda seen, index: replace(seen, sky_adu=seen.sky_adu * (1 + 0.1 * index)))
    assert not night.said
    assert not BAD_STATES & set(night.states)


def test_swelling_stars_do_not_ring_unless_asked_for() -> None:
    soft = but(fwhm_px=5.5)
    assert not Night().subs(10).subs(30, soft).said
    assert Night(Alarm(soft_stars=True)).subs(10).subs(30, soft).kinds[0] == "soft"


def test_trailed_stars_ring_with_the_third_sub() -> None:
    trailed = but(ellipticity=0.6)
    night = Night().subs(10).subs(2, trailed)
    assert not night.said
    assert night.subs(10, trailed).kinds == ["trailed"]
    assert night.subs(2).kinds == ["trailed", "trailed_over"]


def test_a_lost_field_rings_after_two_subs_and_is_no_cloud() -> None:
    night = Night().subs(10).subs(1, but(failure="no_match", transmission=math.nan))
    assert not night.said
    night.subs(1, but(failure="no_match", transmission=math.nan))
    assert night.kinds == ["field_lost"]
    assert night.subs(1).kinds == ["field_lost", "field_lost_over"]


def test_a_cap_on_the_telescope_rings_after_two_subs() -> None:
    blank = but(failure="blank", transmission=math.nan, stars_detected=0)
    night = Night().subs(10).subs(1, blank)
    assert not night.said
    assert night.subs(3, blank).kinds == ["no_light"]
    assert night.subs(3).kinds == ["no_light", "no_light_over"]


def test_a_dark_frame_without_stars_is_no_cloud() -> None:
    dark = but(failure="no_stars", transmission=math.nan, stars_detected=1, sky_adu=300.0)
    night = Night().subs(10).subs(1, dark)
    assert not night.said
    assert night.subs(2, dark).kinds == ["no_light"]
    assert night.subs(60, dark).kinds == ["no_light"], "also when the sky of before is long forgotten"
    assert night.subs(3).kinds == ["no_light", "no_light_over"]


def test_subs_full_of_daylight_are_no_dark_frames() -> None:
    white = but(failure="blank", transmission=math.nan, stars_detected=0, sky_adu=65000.0, level_of_full=1.0)
    night = Night().subs(10).subs(8, white)
    assert not night.said
    assert night.states[-1] is SkyState.UNKNOWN


def test_a_dome_that_closes_is_an_obstruction_and_no_dew() -> None:
    def closing(seen: Observation, index: int) -> Observation:
        light = 0.9 ** (index + 1)
        return replace(seen, transmission=seen.transmission * light, sky_adu=300.0 + 700.0 * light)

    night = Night().subs(20).subs(9, closing)
    assert night.states[-1] is SkyState.OBSTRUCTED
    assert "obstructed" in night.kinds
    assert not any("Dew" in alert.title for _, alert in night.said)


@pytest.mark.parametrize("filters", [("L",), ("L", "R", "G", "B")])
def test_an_object_that_sinks_does_not_ring_though_no_sub_says_how_high_it_stands(filters: tuple[str, ...]) -> None:
    def sinking(seen: Observation, index: int) -> Observation:
        number = index % len(filters)
        airmass = 1.0 / math.cos(math.radians(15.0 * index / 20.0))
        light = 10 ** (-0.4 * (0.22 - 0.03 * number) * (airmass - 1.0))
        return replace(seen, transmission=seen.transmission * light, series_id=1 + number)

    night = Night().subs(90, sinking)  # four and a half hours, to airmass 2.5
    assert not night.said
    assert is_clear(night.state, night.alarm) is True
    night.subs(6, lambda seen, index: dimmed(0.6)(sinking(seen, 90), index)).subs(5, lambda seen, _: sinking(seen, 91))
    assert night.kinds == ["cloud", "clear"]


def test_dew_is_seen_at_a_cadence_of_ten_seconds_too() -> None:
    def wet(seen: Observation, index: int) -> Observation:
        part = min(1.0, index / 240.0)
        return replace(seen, transmission=seen.transmission * (1 - 0.5 * part), fwhm_px=seen.fwhm_px * (1 + 0.3 * part))

    night = Night(cadence_s=10.0).subs(60).subs(260, wet)
    assert night.states[-1] is SkyState.DEW


def test_a_bank_of_haze_that_comes_slowly_is_no_dew() -> None:
    def hazy(seen: Observation, index: int) -> Observation:
        part = min(1.0, index / 24.0)
        return replace(seen, transmission=seen.transmission * (1 - 0.4 * part), airmass=1.2)

    night = Night().subs(20).subs(30, hazy)
    assert night.kinds == ["cloud"]
    assert night.state.cause == "haze"


def test_a_new_filter_in_cloud_knows_of_no_clear_sky() -> None:
    fresh = but(series_id=2, label="M 31 R", learning=True)
    night = Night().subs(20).subs(5, dimmed(0.5)).subs(4, fresh)
    assert night.kinds == ["cloud"]
    assert (night.states[-1], night.state.cause) == (SkyState.UNKNOWN, "clear level not known")


def test_a_field_that_matches_no_more_in_cloud_is_not_lost() -> None:
    torn = but(failure="no_match", transmission=math.nan, stars_detected=110)
    night = Night().subs(15).subs(3, dimmed(0.5)).subs(6, torn).subs(6)
    assert night.kinds == ["cloud", "clear"]


def test_cloud_so_thick_that_no_star_is_left_rings() -> None:
    gone = but(failure="no_stars", transmission=math.nan, stars_detected=2)
    night = Night().subs(10).subs(2, dimmed(0.7)).subs(6, gone).subs(8)
    assert night.kinds == ["cloud", "clear"]
    assert night.states[15] is SkyState.NO_STARS
    assert "no stars were left" in night.said[-1][1].body


@pytest.mark.parametrize("change", [
    pytest.param(but(ellipticity=0.7, transmission=0.5, star_scatter=0.12), id="bumped"),
    pytest.param(but(star_scatter=0.6, sky_adu=3000.0, background_rms_adu=500.0, transmission=0.4), id="flashlight"),
    pytest.param(but(star_scatter=0.12, background_rms_adu=60.0), id="satellites"),
    pytest.param(but(transmission=0.8), id="aeroplane"),
    pytest.param(but(failure="no_match", transmission=math.nan), id="no match once"),
    pytest.param(but(failure="no_stars", stars_detected=0, transmission=math.nan), id="empty once"),
    pytest.param(but(transmission=1.4), id="far too bright"),
    pytest.param(
        but(transmission=0.3, star_scatter=0.12, star_floor=0.11, pattern="one_side", pattern_rms=0.4, sky_adu=700.0,
            stars_detected=90), id="somebody before the telescope",
    ),
    pytest.param(but(transmission=0.4, sky_adu=400.0, stars_detected=90), id="exposure broken off"),
    pytest.param(
        but(transmission=0.4, star_scatter=0.12, star_floor=0.11, sky_adu=2000.0, stars_detected=90), id="soft lamp"
    ),
])  # fmt: skip
def test_a_single_odd_sub_never_rings(change: Change) -> None:
    night = Night().subs(12)
    for _ in range(6):
        night.subs(1, change).subs(6)
    assert not night.said


def test_a_meridian_flip_with_its_pause_does_not_ring() -> None:
    night = (
        Night()
        .subs(20)
        .pause(9)
        .subs(30, lambda s, i: replace(s, rotation_deg=180.0, transmission=s.transmission * 0.99))
    )
    assert not night.said
    assert night.states[-1] is SkyState.CLEAR


def test_a_small_steady_loss_becomes_the_new_normal() -> None:
    night = Night().subs(30).subs(60, lambda s, i: replace(s, transmission=s.transmission * 0.975))
    assert SkyState.THINNING in night.states
    assert night.states[-1] is SkyState.CLEAR


def test_a_thick_cirrus_that_stays_is_never_learnt_as_normal() -> None:
    night = Night().subs(20).subs(120, dimmed(0.88, uneven=False, sky=1.0))
    assert set(night.states[24:]) <= BAD_STATES


def test_heavy_tails_do_not_ring() -> None:
    rng = np.random.default_rng(3)
    night = Night().subs(150, lambda s, i: replace(s, transmission=1.0 + 0.012 * float(rng.standard_t(3))))
    assert not night.said


def test_twilight_silences_the_sky() -> None:
    """50 N 10 E on 22 November: the sun is 8 degrees down at 06:00 UTC."""
    site = {"site_lat_deg": 50.0, "site_long_deg": 10.0}
    night = Night(cadence_s=300.0)
    night.number = 120
    night.subs(12, but(**site)).subs(10, lambda s, i: replace(dimmed(0.4)(s, i), **site))
    assert not night.said


def test_stars_that_drown_in_the_dawn_do_not_ring_even_where_nobody_knows_the_place() -> None:
    night = Night().subs(20).subs(8, lambda s, i: replace(s, sky_adu=s.sky_adu * 1.8**i))
    night.subs(6, but(failure="blank", transmission=math.nan, stars_detected=0))
    assert not night.said


def test_cloud_that_glows_and_swallows_the_stars_is_no_dawn() -> None:
    night = Night().subs(20).subs(5, lambda s, i: dimmed(0.9 - 0.15 * i, sky=1.8**i)(s, i))
    night.subs(6, but(failure="no_stars", transmission=math.nan, stars_detected=1))
    assert night.kinds == ["cloud"]


# --- silence of the camera -----------------------------------------------------------------------


def test_missing_subs_ring_once_and_say_when_they_are_back() -> None:
    night = Night().subs(20).pause(13)
    assert not night.said
    assert night.pause(60).kinds == ["no_subs"]
    assert night.state.sky is SkyState.NO_DATA
    assert night.subs(3).kinds == ["no_subs", "no_subs_over"]


def test_long_exposures_have_more_patience() -> None:
    night = Night(cadence_s=900.0).subs(10).pause(40)
    assert not night.said


def test_after_the_session_was_ended_nobody_misses_subs() -> None:
    night = Night(Alarm(dawn_summary=False)).subs(20)
    night.state = end_session(night.state)
    assert not night.pause(300).said


def test_at_dawn_nobody_misses_subs_and_the_night_is_summed_up() -> None:
    site = {"site_lat_deg": 50.0, "site_long_deg": 10.0}
    night = Night(cadence_s=300.0).subs(60, but(**site)).subs(10, lambda s, i: replace(dimmed(0.5)(s, i), **site))
    night.subs(60, but(**site))
    assert night.kinds == ["cloud", "clear"]
    night.tick_to(DUSK_UTC_S + 13 * 3600)
    assert night.kinds == ["cloud", "clear", "dawn"]
    summary = night.said[-1][1]
    assert re.fullmatch(r"Night of 2026-11-21: 9\.\d h kept of 10\.\d h", summary.title)
    assert "130 subs" in summary.body
    assert re.search(r"Cloud \d\d:\d\d to \d\d:\d\d: 10 subs lost", summary.body)


def test_subs_that_state_no_exposure_are_counted_and_no_time_is_made_up() -> None:
    site = {"site_lat_deg": 50.0, "site_long_deg": 10.0, "exposure_s": float("nan")}
    night = Night(cadence_s=300.0).subs(60, but(**site)).subs(10, lambda s, i: replace(dimmed(0.5)(s, i), **site))
    night.subs(60, but(**site)).tick_to(DUSK_UTC_S + 13 * 3600)
    clear, dawn = night.said[-2][1], night.said[-1][1]
    assert re.search(r"Lost: \d+ subs\. ", clear.body)
    assert re.fullmatch(r"Night of 2026-11-21: \d+ kept of 130", dawn.title)


def test_a_sequencer_that_pauses_for_cloud_is_not_missed_at_once() -> None:
    night = Night().subs(20).subs(5, dimmed(0.4)).pause(45)
    assert night.kinds == ["cloud"]


def test_a_lost_share_mutes_missing_subs() -> None:
    night = Night().subs(20)
    night.hear(notice(night.state, "folder_lost", "/nas is gone", night.now_utc_s, night.alarm, BERLIN))
    assert night.pause(60).kinds == ["folder_lost"]
    night.hear(notice(night.state, "folder_lost", "/nas is gone", night.now_utc_s, night.alarm, BERLIN))
    night.hear(over(night.state, "folder_lost", night.now_utc_s, night.alarm, BERLIN))
    assert night.kinds[:2] == ["folder_lost", "folder_lost_over"]


# --- manners -------------------------------------------------------------------------------------


def test_a_backlog_never_rings() -> None:
    night = Night()
    for number in range(40):
        seen = replace(
            PLAIN, sub_id=number + 1, utc_s=DUSK_UTC_S + 180.0 * number, transmission=0.4 if 10 < number < 30 else 1.0
        )
        night.hear(step(night.state, seen, DUSK_UTC_S + 12 * 3600.0, night.alarm, BERLIN))
    assert not night.said


@pytest.mark.parametrize("hours_off", [-8.0, -2.0, 5.0])
def test_a_capture_clock_that_is_hours_off_does_not_silence_the_alarm(hours_off: float) -> None:
    night = Night()
    wrong = lambda seen: replace(seen, utc_s=seen.utc_s + 3600.0 * hours_off)  # noqa: E731
    night.subs(20, lambda seen, index: wrong(seen)).subs(6, lambda seen, index: wrong(dimmed(0.4)(seen, index)))
    assert night.kinds == ["cloud"]


def test_a_night_without_any_star_from_the_start_brings_one_message() -> None:
    night = Night().subs(10, but(failure="no_stars", transmission=math.nan, stars_detected=0))
    assert night.kinds == ["cloud"]
    assert night.said[0][1].title.startswith("No stars: thick cloud")


def test_older_subs_than_the_newest_change_nothing() -> None:
    night = Night().subs(20)
    before = night.state.to_json()
    late = replace(PLAIN, utc_s=DUSK_UTC_S + 60.0, transmission=0.2)
    night.hear(step(night.state, late, night.now_utc_s, night.alarm, BERLIN))
    assert night.state.to_json() == before


def test_quiet_hours_keep_still_and_tell_afterwards_what_is_still_true() -> None:
    alarm = Alarm(quiet_from="20:30", quiet_to="22:30")
    still = Night(alarm).subs(15).subs(45, dimmed(0.5))
    assert [messages_clock(alert) for _, alert in still.said] == ["22:30"]
    gone = Night(alarm).subs(15).subs(10, dimmed(0.5)).subs(40)
    assert not gone.said


def messages_clock(alert: Alert) -> str:
    from nsgd.session.messages import clock

    return clock(alert.created_utc_s, BERLIN)


@pytest.mark.parametrize(("hours", "clock", "quiet"), [
    (("22:00", "07:00"), "23:10", True), (("22:00", "07:00"), "06:59", True), (("22:00", "07:00"), "07:00", False),
    (("01:00", "05:00"), "03:00", True), (("01:00", "05:00"), "23:00", False), (("", ""), "03:00", False),
])  # fmt: skip
def test_quiet_hours_may_cross_midnight(hours: tuple[str, str], clock: str, quiet: bool) -> None:
    hour, minute = map(int, clock.split(":"))
    utc_s = DUSK_UTC_S + 4 * 3600.0 + 3600.0 * hour + 60.0 * minute  # DUSK + 4 h is midnight in Berlin
    assert is_quiet(utc_s, Alarm(quiet_from=hours[0], quiet_to=hours[1]), BERLIN) == quiet


def test_snooze_keeps_still_for_its_time() -> None:
    night = Night().subs(15)
    night.state = snooze(night.state, 60.0, night.now_utc_s)
    night.subs(15, dimmed(0.5))
    assert not night.said
    assert night.subs(10, dimmed(0.5)).kinds == ["cloud"]


def test_an_acknowledged_event_brings_only_its_all_clear() -> None:
    night = Night().subs(15).subs(4, dimmed(0.5))
    night.state = acknowledge(night.state)
    night.subs(20, dimmed(0.3)).subs(10)
    assert night.kinds == ["cloud", "clear"]


def test_at_most_so_many_messages_in_an_hour_and_each_alarm_keeps_room_for_its_all_clear() -> None:
    night = Night(Alarm(per_hour=2, per_night=4)).subs(12)
    for _ in range(8):
        night.subs(3, dimmed(0.4)).subs(12)
    assert len(night.said) <= 4
    assert night.kinds[0::2] == ["cloud"] * len(night.kinds[0::2])
    assert night.kinds[1::2] == ["clear"] * len(night.kinds[1::2])


def test_state_survives_a_restart_in_the_middle_of_a_cloud() -> None:
    night = Night().subs(15).subs(5, dimmed(0.5))
    night.state = AlarmState.from_json(night.state.to_json())
    assert night.subs(10, dimmed(0.5)).subs(6).kinds == ["cloud", "clear"]


def test_a_state_of_another_make_is_begun_anew() -> None:
    for text in (None, "{broken", '{"seen": {"state": "purple"}}'):
        assert AlarmState.from_json(text).to_json() == AlarmState().to_json()


def test_a_new_night_begins_anew() -> None:
    night = Night(Alarm(dawn_summary=True)).subs(15).subs(5, dimmed(0.5))
    night.number += 480  # a day of 180 s subs
    night.now_utc_s = DUSK_UTC_S + 180.0 * night.number
    night.subs(3)
    assert night.kinds[0] == "cloud"
    assert "clear" not in night.kinds
    assert night.state.tally.subs == 3


# --- for other programs --------------------------------------------------------------------------


def test_a_gap_in_cloud_is_no_clear_sky_for_a_sequencer_before_the_all_clear() -> None:
    night = Night().subs(15).subs(5, dimmed(0.5))
    assert is_clear(night.state, night.alarm) is False
    assert is_clear(night.subs(2).state, night.alarm) is False
    assert is_clear(night.subs(1).state, night.alarm) is True


@pytest.mark.parametrize(("state", "transmission", "expected"), [
    ("clear", 0.99, True), ("thinning", 0.95, True), ("thinning", 0.87, False), ("cloudy", 0.4, False),
    ("no stars", math.nan, False), ("dew", 0.95, False), ("learning", 1.0, None), ("no data", 1.0, None),
    ("unknown", math.nan, None),
])  # fmt: skip
def test_is_clear_tells_a_sequencer_whether_to_go_on(state: str, transmission: float, expected: bool | None) -> None:
    alarm = AlarmState(seen=Sky(state=SkyState(state), transmission=transmission))
    assert is_clear(alarm, Alarm()) is expected


def test_the_report_is_plain_json_without_nan() -> None:
    import json

    for state in (AlarmState(), Night().subs(5).state, Night().subs(15).subs(4, dimmed(0.5)).state):
        values = json.loads(json.dumps(report(state, DUSK_UTC_S), allow_nan=False))
        assert values["state"] == str(state.sky)
    assert values["event_told"] is True
    assert values["cause"] == "cloud"


def test_sky_states_of_stored_subs_follow_from_the_subs_alone() -> None:
    subs = [
        replace(PLAIN, sub_id=i, utc_s=DUSK_UTC_S + 180.0 * i, transmission=0.6 if 20 <= i < 30 else 1.0)
        for i in range(50)
    ]
    found = states(subs)
    assert found[10] is SkyState.CLEAR
    assert found[20] is SkyState.CLOUDY
    assert found[49] is SkyState.CLEAR
    sky = Sky()
    for one in subs:
        sky = look(sky, one)
    assert sky.state is found[49]


def test_a_stored_night_replays_as_it_went_also_through_its_gaps() -> None:
    rows, verdicts = [], []
    for number in [*range(40), *range(60, 80)]:
        utc_s = DUSK_UTC_S + 180.0 * number
        header = HeaderFacts(object_name="M 31", filter_name="L", exposure_s=170.0, mid_utc_s=utc_s)
        rows.append(SubRow(number, str(number), 1, "170s", "f", "f", False, header, "n", utc_s, utc_s, "", None, 0.1))
        light = 0.5 if 20 <= number < 30 else 1.0
        status = SubStatus.OK if light > 0.75 else SubStatus.REJECTED
        verdicts.append(Verdict(number, status, (), light, 0.006, light, 1.0, 1.0, 1, False))
    found = replay(rows[::-1], verdicts[::-1], Alarm(), BERLIN)
    said = [alert for _, _, alerts in found for alert in alerts]
    assert [alert.kind for alert in said] == ["cloud", "clear", "no_subs", "no_subs_over"]
    assert sum(state in BAD_STATES for _, state, _ in found) in range(10, 14)
    strict = replay(rows, verdicts, Alarm(sensitivity="calm"), BERLIN)
    assert "cloud" in [alert.kind for _, _, alerts in strict for alert in alerts]


def test_an_object_first_seen_in_cloud_brings_no_all_clear_before_its_light_keeps_still() -> None:
    rng = np.random.default_rng(8)

    def other(seen: Observation, index: int) -> Observation:
        seen = replace(seen, series_id=7, label="M 81 L", learning=index < 5)
        return replace(seen, transmission=seen.transmission * (1.0 - 0.07 * float(rng.random())))

    night = Night().subs(20).subs(6, dimmed(0.5)).subs(30, other)
    assert night.kinds == ["cloud"]
    assert is_clear(night.state, night.alarm) is not True
    steady = but(series_id=7, label="M 81 L")
    night.subs(12, steady)
    assert night.kinds == ["cloud", "clear"]
    assert night.states[-1] is SkyState.CLEAR


def test_a_first_night_that_began_clear_has_its_all_clear_after_three_subs() -> None:
    night = Night().subs(5, but(learning=True)).subs(6).subs(8, dimmed(0.5)).subs(4)
    assert night.kinds == ["cloud", "clear"]


def test_a_first_night_that_began_in_cloud_has_none_before_its_light_keeps_still() -> None:
    rising = [0.5, 0.55, 0.5, 0.6, 0.55, 0.8, 0.9, 0.85, 0.95, 0.9]

    def torn(seen: Observation, index: int) -> Observation:
        best = max(rising[: index + 1])
        return replace(seen, transmission=seen.transmission * rising[index] / best, learning=index < 5)

    night = Night().subs(10, torn).subs(3)
    assert night.state.sky is SkyState.UNKNOWN
    rough = Night(seed=night.seed, state=night.state, number=night.number, now_utc_s=night.now_utc_s)
    assert night.subs(10).state.sky is SkyState.CLEAR
    rng = np.random.default_rng(3)
    rough.subs(24, lambda seen, index: replace(seen, transmission=seen.transmission + 0.006 * float(rng.normal())))
    assert rough.state.sky is SkyState.CLEAR, "also where subs scatter by more than they state"


def test_an_object_first_seen_in_cloud_is_clear_when_a_known_one_is() -> None:
    other = but(series_id=7, label="M 81 L", learning=True)
    night = Night().subs(20).subs(6, dimmed(0.5)).subs(5, other).subs(4)
    assert night.kinds == ["cloud", "clear"]


def test_trails_that_match_nothing_are_a_lost_field_and_no_thick_cloud() -> None:
    drawn = but(failure="no_match", transmission=math.nan, stars_detected=70, ellipticity=0.8)
    night = Night().subs(10).subs(4, drawn)
    assert night.kinds == ["field_lost"]


def test_stars_that_go_after_they_were_trailed_are_lost_by_the_mount() -> None:
    trailed, gone = but(ellipticity=0.9), but(failure="no_stars", transmission=math.nan, stars_detected=0)
    night = Night().subs(10).subs(2, trailed).subs(6, gone)
    assert night.kinds == ["field_lost"]
