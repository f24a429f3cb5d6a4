"""What the sky behind the stars may say about cloud: as much as it knows, and never too much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nsgd.session.backdrop import LEAST_SAY, MOST_SAY, Backdrop, Glow

NOISE = 0.004


def settled(step_s: float = 180.0, slope_per_hour: float = 0.0, subs: int = 200, seed: int = 1) -> Backdrop:
    """The sky after many clear subs; the last one at time 0."""
    rng, sky = np.random.default_rng(seed), Backdrop()
    for number in range(subs):
        at_s = step_s * (number - subs + 1)
        sky = sky.learnt(at_s, 6.9 + slope_per_hour * at_s / 3600.0 + NOISE * float(rng.normal()), number)
    return sky


def nats(change: float, loss: float, sky: Backdrop | None = None, subs: int = 4) -> float:
    sky = sky or settled()
    glow = Glow(sky)
    for number in range(1, subs + 1):
        glow = glow.added(180.0 * number, sky.expected(180.0 * number) + change)
    return glow.nats(loss)


@pytest.mark.parametrize("change", [0.03, -0.03])
def test_a_sky_that_changes_with_the_loss_speaks_for_cloud(change: float) -> None:
    assert nats(change, loss=0.05) > 1.5
    assert nats(change, loss=0.05) <= MOST_SAY


def test_a_sky_that_keeps_its_level_speaks_against_cloud_but_softly() -> None:
    assert LEAST_SAY <= nats(0.0, loss=0.05) < 0.0


def test_a_change_far_greater_than_such_a_cloud_makes_says_nothing() -> None:
    assert nats(0.5, loss=0.02) == 0.0


def test_twilight_and_an_unknown_sky_say_nothing() -> None:
    assert nats(0.03, 0.05, settled(slope_per_hour=3.0)) == 0.0
    assert Glow(Backdrop()).added(0.0, 6.9).nats(0.05) == 0.0
    assert Glow(settled()).added(0.0, math.nan).nats(0.05) == 0.0


def test_under_a_clear_sky_it_hardly_raises_the_rate_of_false_openings() -> None:
    """The mean likelihood ratio is 1 where there is no cloud; the bounds may only lift it a little."""
    rng, sky = np.random.default_rng(4), settled()
    ratios = [math.exp(nats(sky.sigma * 0.8 * float(rng.normal()), 0.02, sky)) for _ in range(2000)]
    assert float(np.mean(ratios)) < 1.1


def test_moonlight_is_followed() -> None:
    sky = settled(slope_per_hour=0.3)
    assert sky.slope == pytest.approx(0.3, abs=0.1)
    assert sky.expected(900.0) == pytest.approx(6.9 + 0.075, abs=0.02)


@pytest.mark.parametrize("step_s", [10.0, 60.0, 180.0])
def test_the_error_of_what_is_expected_is_known_at_any_cadence(step_s: float) -> None:
    pulls = []
    for seed in range(60):
        sky = settled(step_s, seed=seed)
        pulls.append((6.9 - sky.expected(1500.0)) / math.hypot(sky.sigma_at(1500.0), 1e-9))
    assert 0.2 < float(np.std(pulls)) < 1.3


def test_after_a_pause_nobody_knows_the_sky() -> None:
    assert math.isnan(settled().expected(3600.0))
    assert math.isnan(settled().after_pause().expected(60.0))
