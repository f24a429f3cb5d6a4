"""What the detector promises: false openings as rare as designed, steps found soon, drifts followed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nsgd.session.track import MOST_ONSETS, Line, Onset, Track, followed, threshold

SIGMA, ERROR = 0.0063, 0.0055
CADENCE_S = 180.0


def run(rng: np.random.Generator, subs: int, light: np.ndarray | float = 0.0) -> tuple[list[float], Track]:
    """Highest z after each sub of one stream whose ln(transmission) is `light` plus noise."""
    track, onsets, highest = Track(), (), []
    for number in range(subs):
        utc_s = CADENCE_S * number
        value = float(np.broadcast_to(light, subs)[number]) + SIGMA * rng.normal()
        onsets = followed(onsets, "s", track.lines, (utc_s, value, track.variance(ERROR)), number)
        highest.append(max((onset.z(track.choice) for onset in onsets), default=0.0))
        track = track.seen(utc_s, value, ERROR)
    return highest, track


def test_false_openings_are_as_rare_as_designed() -> None:
    rng = np.random.default_rng(8)
    wanted = 300.0
    fired = sum(max(run(rng, 100)[0]) > threshold(wanted) for _ in range(60))
    assert 60 * 100 / wanted / 3.0 <= fired <= 60 * 100 / wanted * 1.6


@pytest.mark.parametrize(("sigmas", "most"), [(2.0, 8.0), (3.0, 4.0), (5.0, 2.0)])
def test_a_step_is_found_soon(sigmas: float, most: float) -> None:
    delays = []
    for seed in range(12):
        light = np.where(np.arange(100) >= 60, -sigmas * SIGMA, 0.0)
        highest, _ = run(np.random.default_rng(seed), 100, light)
        delays.append(next((n - 59 for n in range(60, 100) if highest[n] > threshold(4500.0)), 40))
    assert np.mean(delays) <= most


def test_the_line_follows_a_slow_drift_and_says_how_well_it_is_known() -> None:
    drift = -0.004 * np.arange(120) * CADENCE_S / 3600.0
    _, track = run(np.random.default_rng(2), 120, drift)
    line = track.lines[track.choice]
    assert line.base == pytest.approx(drift[-1], abs=0.006)
    assert 0.0003 < math.sqrt(line.var_base) < 0.004


def test_a_line_that_is_not_known_well_raises_no_alarm() -> None:
    """The second sub of a night differs by 3 %: a night may begin anywhere near the clear level."""
    onsets = followed((), "s", (Line(), Line(wander=1)), (0.0, -0.03, SIGMA**2), 0)
    assert max((onset.z() for onset in onsets), default=0.0) < 1.1


def test_an_outlier_moves_the_line_little() -> None:
    _, track = run(np.random.default_rng(3), 60)
    before, after = track.lines[0].base, track.seen(CADENCE_S * 61, -0.5, ERROR).lines[0].base
    assert abs(after - before) < 0.004


def test_streams_add_up_since_they_look_at_one_sky() -> None:
    known = (Line(utc_s=0.0, var_base=1e-6), Line(utc_s=0.0, var_base=1e-6, wander=1))
    alone = Onset(0.0, 0).added("Ha", known, (0.0, -2 * SIGMA, SIGMA**2))
    both = alone.added("L", known, (CADENCE_S, -2 * SIGMA, SIGMA**2))
    assert both.z() == pytest.approx(math.sqrt(2.0) * alone.z(), rel=0.02)


def test_units_that_change_move_no_dip() -> None:
    _, track = run(np.random.default_rng(4), 30)
    now = CADENCE_S * 31
    assert track.shifted(0.05).surprise(now, 0.05, ERROR).dip == pytest.approx(track.surprise(now, 0.0, ERROR).dip)


def test_the_memory_of_onsets_is_bounded() -> None:
    onsets: tuple[Onset, ...] = ()
    lines = Track().lines
    for number in range(300):
        onsets = followed(onsets, "s", lines, (CADENCE_S * number, -0.002, SIGMA**2), number)
    assert len(onsets) <= MOST_ONSETS
