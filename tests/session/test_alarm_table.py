"""The table of what must and what must not wake somebody, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from nsgd.session.sky import Observation
from nsgd.settings import Alarm
from tests.session.test_alerts import DUSK_UTC_S, Change, Night, but, dimmed

NO_MATCH = but(failure="no_match", transmission=math.nan)
NO_LIGHT = but(failure="no_stars", transmission=math.nan, stars_detected=0, sky_adu=300.0)
SITE = {"site_lat_deg": 50.0, "site_long_deg": 10.0}


def falling(subs: int, least: float, **swell: float) -> Change:
    """Light that goes smoothly down to `least` and stays there, stars that swell with it."""

    def change(seen: Observation, index: int) -> Observation:
        part = min(1.0, (index + 1) / subs)
        light = 1.0 - (1.0 - least) * part
        return replace(
            seen,
            transmission=seen.transmission * light,
            fwhm_px=seen.fwhm_px * (1.0 + swell.get("fwhm", 0.0) * part),
            sky_adu=seen.sky_adu * (1.0 + swell.get("sky", 0.0) * part),
        )

    return change


def veiled_centre(seen: Observation, index: int) -> Observation:
    """Frost on the window of the sensor: it grows from the centre outwards."""
    part = min(1.0, (index + 1) / 15.0)
    wet = falling(15, 0.5)(seen, index)
    uneven = 0.12 * part
    return replace(wet, pattern="centre", pattern_rms=uneven, star_scatter=0.05 + uneven, star_floor=uneven)


def tree(seen: Observation, index: int) -> Observation:
    part = min(1.0, (index + 1) / 16.0)
    across = 0.4 * math.sin(math.pi * part)
    return replace(
        falling(16, 0.1, sky=-0.3)(seen, index), pattern="one_side", pattern_rms=across, star_scatter=0.05 + across
    )


def dome(seen: Observation, index: int) -> Observation:
    light = 0.88 ** (index + 1)
    return replace(seen, transmission=seen.transmission * light, sky_adu=300.0 + 700.0 * light)


def dithered(seen: Observation, index: int) -> Observation:
    return replace(seen, stars_used=118 + index % 5, rotation_deg=0.01 * (index % 3))


def turned(seen: Observation, index: int) -> Observation:
    return replace(seen, rotation_deg=180.0, transmission=seen.transmission * 0.992, star_scatter=0.055)


def moonrise(seen: Observation, index: int) -> Observation:
    return replace(seen, sky_adu=seen.sky_adu * (1 + 0.12 * index), transmission_err=0.006 * (1 + 0.02 * index))


def car_lights(seen: Observation, index: int) -> Observation:
    return replace(seen, sky_adu=seen.sky_adu * (2.5 if index % 4 < 2 else 1.0), background_rms_adu=60.0)


def other_filter(seen: Observation, index: int) -> Observation:
    return replace(seen, series_id=2, label="M 31 R", learning=index < 5, sky_adu=400.0, stars_detected=90)


def other_object(seen: Observation, index: int) -> Observation:
    return replace(seen, series_id=3, label="M 81 L", learning=index < 5, sky_adu=1800.0, stars_detected=400)


def streaked(seen: Observation, index: int) -> Observation:
    return replace(seen, background_rms_adu=60.0, star_scatter=seen.star_scatter * (2.0 if index % 3 == 0 else 1.0))


def dawning(seen: Observation, index: int) -> Observation:
    return replace(seen, sky_adu=seen.sky_adu * 1.6**index, **SITE)


def after_dark(change: Change) -> Callable[[], Night]:
    return lambda: Night().subs(20).subs(20, change)


def told(change: Change, alarm: Alarm | None = None) -> Callable[[], Night]:
    return lambda: Night(alarm or Alarm()).subs(20).subs(20, change).subs(8)


def morning() -> Night:
    """50 N 10 E on 22 November: the sun rises at 06:30 UTC."""
    night = Night(cadence_s=300.0)
    night.number = 110
    night.subs(14, but(**SITE)).subs(10, dawning)
    return night.tick_to(DUSK_UTC_S + 13 * 3600.0)


def poor_field() -> Night:
    """Seven stars, of which now one and now two are not found: six are needed for a match."""
    few = but(stars_detected=7, stars_expected=7, stars_used=6)
    night = Night().subs(6, few)
    for _ in range(6):
        night.subs(4, but(failure="no_match", transmission=math.nan, stars_detected=5)).subs(1, few)
    return night


def stopped() -> Night:
    return Night().subs(20).pause(40)


def ended_by_a_person() -> Night:
    night = Night().subs(20)
    night.state = replace(night.state, ended=True)
    return night.pause(40)


@pytest.mark.parametrize(("night", "kinds"), [
    pytest.param(told(dimmed(0.5)), ["cloud", "clear"], id="cloud over a town"),
    pytest.param(told(dimmed(0.5, sky=0.85)), ["cloud", "clear"], id="cloud over a dark site"),
    pytest.param(told(dimmed(0.6, uneven=False, sky=1.3)), ["cloud", "clear"], id="fog"),
    pytest.param(told(falling(12, 0.5, fwhm=0.3)), ["dew", "clear"], id="dew on the objective"),
    pytest.param(told(veiled_centre), ["dew", "clear"], id="frost on the sensor's window"),
    pytest.param(told(tree), ["obstructed", "clear"], id="a tree"),
    pytest.param(told(dome), ["obstructed", "clear"], id="a dome that closes"),
    pytest.param(told(falling(20, 0.97)), [], id="extinction a little off"),
    pytest.param(told(but(fwhm_px=5.5)), [], id="out of focus"),
    pytest.param(told(but(fwhm_px=5.5), Alarm(soft_stars=True)), ["soft", "soft_over"], id="out of focus, asked for"),
    pytest.param(told(but(failure="no_flux", transmission=math.nan, stars_detected=30)), [], id="stars become rings"),
    pytest.param(told(but(ellipticity=0.6)), ["trailed", "trailed_over"], id="guiding failed"),
    pytest.param(told(NO_MATCH), ["field_lost", "field_lost_over"], id="field lost"),
    pytest.param(poor_field, [], id="too few stars to match"),
    pytest.param(told(streaked), [], id="satellites and aeroplanes"),
    pytest.param(told(dithered), [], id="dither"),
    pytest.param(lambda: Night().subs(20).pause(10).subs(30, turned), [], id="meridian flip"),
    pytest.param(told(moonrise), [], id="moonrise"),
    pytest.param(told(car_lights), [], id="car lights"),
    pytest.param(morning, ["dawn"], id="dawn"),
    pytest.param(told(other_filter), [], id="another filter"),
    pytest.param(told(other_object), [], id="another object"),
    pytest.param(told(NO_LIGHT), ["no_light", "no_light_over"], id="cap on"),
    pytest.param(told(but(failure="blank", transmission=math.nan, stars_detected=0, sky_adu=0.0)),
                 ["no_light", "no_light_over"], id="shutter stuck, all black"),
    pytest.param(stopped, ["no_subs"], id="capture stopped"),
    pytest.param(ended_by_a_person, ["dawn"], id="session ended"),
])  # fmt: skip
def test_what_wakes_somebody(night: Callable[[], Night], kinds: list[str]) -> None:
    said = night().said
    rings = [alert.kind for _, alert in said if not alert.resolves]
    assert rings[-1:] == kinds[:1]
    assert [alert.kind for _, alert in said if alert.resolves] == kinds[1:]
    assert rings[:-1] in ([], ["cloud"]), "light that is lost may be told before its cause is known"
