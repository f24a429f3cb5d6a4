"""Rigs of one site: what several see is cloud sooner, what one sees alone is its own, nobody is silenced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nsgd.records import Alert, SkyState
from nsgd.session.alerts import AlarmState, report, step
from nsgd.session.site import ALONE, Neighbour, Opinion, opinion
from nsgd.session.sky import Observation
from nsgd.settings import Alarm

DUSK_UTC_S = 1_795_287_600.0
CADENCE_S = 60.0


def seen(number: int, light: float, rng: np.random.Generator) -> Observation:
    return Observation(
        sub_id=number + 1, utc_s=DUSK_UTC_S + CADENCE_S * number, series_id=1, stream="55s", label="M 31 L",
        exposure_s=55.0, transmission=light * (1.0 + 0.006 * rng.normal()), transmission_err=0.006, learning=False,
        stars_used=120, stars_expected=120, stars_detected=180, star_scatter=0.05, star_floor=0.02, pattern="uniform",
        pattern_rms=0.004, sky_adu=1000.0, background_rms_adu=20.0, fwhm_px=3.0, ellipticity=0.06, rotation_deg=0.0,
    )  # fmt: skip


def others(utc_s: float, *losses: float) -> tuple[Neighbour, ...]:
    """Neighbours whose newest sub has just ended."""
    return tuple(Neighbour(utc_s - 30.0, utc_s + 25.0, loss, 0.01) for loss in losses)


def play(dim: list[float], losses: list[float] | None) -> tuple[AlarmState, list[tuple[int, Alert]]]:
    """Thirty clear subs, then some dim ones, with neighbours that lose as much light or none; None = out of reach."""
    rng, state, said = np.random.default_rng(8), AlarmState(), []
    for number, light in enumerate([1.0] * 30 + dim):
        one = seen(number, light, rng)
        near = () if losses is None else others(one.utc_s + 30.0, *(losses if number >= 30 else [0.0] * len(losses)))
        state, alerts = step(state, one, one.end_utc_s, Alarm(), None, near)
        said += [(number - 30, alert) for alert in alerts]
    return state, said


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.3, 0.4), Opinion.SHARED),
        ((0.3, 0.4, 0.3, 0.0), Opinion.SHARED),
        ((0.3, 0.4, 0.0), Opinion.UNKNOWN),
        ((0.3, 0.4, 0.3, *[0.0] * 6), Opinion.SHARED),
        ((0.3, 0.4, *[0.0] * 7), Opinion.UNKNOWN),
        ((0.3, *[0.0] * 8), Opinion.ALONE),
        ((0.3,), Opinion.UNKNOWN),
        ((0.0, 0.0), Opinion.ALONE),
        ((0.0,), Opinion.UNKNOWN),
        ((float("nan"),) * 9, Opinion.UNKNOWN),
        ((), Opinion.UNKNOWN),
    ],
)
def test_two_rigs_at_least_must_agree(losses: tuple[float, ...], expected: Opinion) -> None:
    assert opinion(others(DUSK_UTC_S + 60.0, *losses), DUSK_UTC_S) is expected


def test_clear_sky_counts_only_where_it_was_seen_after_the_loss_began() -> None:
    before = tuple(replace(one, begin_utc_s=DUSK_UTC_S - 10.0) for one in others(DUSK_UTC_S + 30.0, 0.0, 0.0, 0.0))
    assert opinion(before, DUSK_UTC_S) is Opinion.UNKNOWN


def test_a_loss_that_others_share_rings_one_sub_earlier() -> None:
    alone, shared = play([0.6] * 4, None)[1], play([0.6] * 4, [0.5, 0.5])[1]
    assert [(at, alert.kind) for at, alert in shared] == [(0, "cloud")]
    assert [alert.kind for _, alert in alone] == ["cloud"]
    assert alone[0][0] >= 1
    assert shared[0][1].shared
    assert not alone[0][1].shared


def test_a_loss_on_one_rig_alone_is_not_called_cloud() -> None:
    state, said = play([0.6] * 4, [0.0, 0.0, 0.0])
    assert [alert.kind for _, alert in said] == ["this_rig"]
    assert said[0][1].title.startswith("Only this rig loses light: 6")
    assert not said[0][1].shared
    assert state.sky is SkyState.OBSTRUCTED
    assert report(state, DUSK_UTC_S + 3600.0)["cause"] == ALONE


def test_one_stray_sub_of_each_neighbour_does_not_make_a_clear_rig_ring() -> None:
    assert not play([1.0] * 4, [0.4, 0.4, 0.4])[1]


def test_a_fleet_out_of_reach_changes_nothing() -> None:
    assert play([0.5] * 4, None)[1][0][1].kind == "cloud"
