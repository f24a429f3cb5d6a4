"""What a series says of the wings of its stars: a steady one more than its subs, a wandering one nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_subs import CAMERA, PSF, clear, facts_of, field_of, frame_of

from nsgd.measure.recipe import catalogue_from
from nsgd.measure.scale import Measured, measured
from nsgd.measure.wings import LEAST_SUBS, STRAYS, learn, steadied
from nsgd.records import Floats
from nsgd.settings import Measure

USUAL = np.log(3.2)
RESPONSE = -0.12


def told_of(rng: np.random.Generator, log_beta: Floats, err: Floats) -> list[Floats]:
    """What subs of these ln beta tell: their own stars' say is what the fluxes stand on."""
    seen = log_beta + err * rng.normal(size=log_beta.size)
    return [np.array([b, e, b, e, RESPONSE]) for b, e in zip(seen, err, strict=True)]


def sub_of(light: float, told: Floats, log_beta: float, common_err: float = 0.01) -> Measured:
    """A sub whose stars were measured at the beta that it tells, not at its own."""
    flux = light * np.geomspace(1e3, 1e6, 20) * np.exp(RESPONSE * (told[0] - log_beta))
    return measured(flux, 0.001 * flux, np.zeros(20, np.uint8), common_err, 1.0)


@pytest.mark.parametrize(("stray", "least", "most"), [(0.0, 0.0, 0.012), (0.03, 0.02, 0.045), (0.1, 0.07, 0.15)])
def test_it_is_learnt_how_far_the_wings_stray(stray: float, least: float, most: float) -> None:
    rng = np.random.default_rng([int(1e4 * stray), 71])
    steady = learn(told_of(rng, USUAL + stray * rng.normal(size=60), rng.uniform(0.005, 0.03, 60)))
    assert steady is not None
    assert steady.probability @ steady.log_beta == pytest.approx(USUAL, abs=3.0 * np.hypot(stray, 0.01) / np.sqrt(60))
    assert least <= steady.probability @ STRAYS <= most


@pytest.mark.parametrize("stray", [0.0, 0.03, 0.1])
def test_fluxes_come_nearer_to_the_truth_and_their_errors_stay_honest(stray: float) -> None:
    alone, together, pulls = [], [], []
    for seed in range(20):
        rng = np.random.default_rng([seed, 72])
        log_beta, err = USUAL + stray * rng.normal(size=30), rng.uniform(0.01, 0.05, 30)
        told = told_of(rng, log_beta, err)
        steady = learn(told)
        for one, b in zip(told, log_beta, strict=True):
            sub = sub_of(1.0, one, b, abs(RESPONSE) * one[1])
            better = steadied(sub, one, steady)
            off = float(np.log(better.flux / np.geomspace(1e3, 1e6, 20)).mean())
            alone.append(RESPONSE * (one[0] - b))
            together.append(off)
            pulls.append(off / better.common_err)
    gain = np.std(together) / np.std(alone)
    assert gain < (0.5 if stray == 0.0 else 0.9 if stray < 0.05 else 1.02)
    # whether wings are steady is never quite certain, and the error says so
    assert (0.3 if stray == 0.0 else 0.8) < np.sqrt(np.mean(np.square(pulls))) < 1.25


def test_one_sub_whose_wings_changed_has_the_say_of_its_own_stars() -> None:
    rng = np.random.default_rng(73)
    told = told_of(rng, np.append(np.full(40, USUAL), np.log(2.4)), np.full(41, 0.02))
    sub = sub_of(1.0, told[-1], told[-1][0])
    moved = steadied(sub, told[-1], learn(told))
    assert np.log(moved.flux / sub.flux).max() == pytest.approx(0.0, abs=0.1 * abs(RESPONSE) * 0.02)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(1, 40), stray=st.floats(0.0, 0.3))
def test_a_sub_is_moved_no_farther_than_to_what_is_usual(seed: int, number: int, stray: float) -> None:
    rng = np.random.default_rng([seed, 74])
    told = told_of(rng, USUAL + stray * rng.normal(size=number), rng.uniform(0.003, 0.5, number))
    steady = learn(told)
    assert (steady is None) == (number < LEAST_SUBS)
    for one in told:
        sub = sub_of(0.5, one, USUAL)
        moved = steadied(sub, one, steady)
        way = 0.0 if steady is None else np.abs(RESPONSE * (steady.log_beta - one[0])).max()
        assert np.all(np.isfinite(moved.flux))
        assert np.abs(np.log(moved.flux / sub.flux)).max() <= way + 1e-9
        np.testing.assert_allclose(moved.sky_err / moved.flux, sub.sky_err / sub.flux)


def test_subs_that_tell_nothing_stay_as_they_are() -> None:
    rng = np.random.default_rng(75)
    steady = learn(told_of(rng, np.full(10, USUAL), np.full(10, 0.02)))
    sub = sub_of(1.0, np.array([USUAL, 0.02, USUAL, 0.02, RESPONSE]), USUAL)
    assert steadied(sub, np.empty(0), steady) is sub
    assert steadied(sub, np.array([np.nan, np.nan, np.nan, np.nan, 0.0]), steady) is sub
    assert learn([np.empty(0)] * 20) is None


def test_a_sub_tells_the_planted_beta_within_its_error() -> None:
    field = field_of(76, stars=250)
    catalogue = catalogue_from(frame_of(field, clear(), 1), Measure())
    pulls = []
    for seed, beta in enumerate((2.6, 2.9, 3.2, 3.6, 4.2)):
        facts = facts_of(frame_of(field, clear(psf=replace(PSF, beta=beta)), 20 + seed), catalogue)
        believed, err, seen, seen_err, response = facts.wings[0]
        assert np.isfinite([believed, err]).all()
        assert -0.5 < response < 0.0
        pulls.append((seen - np.log(beta)) / seen_err)
    assert np.abs(pulls).max() < 3.5


@pytest.mark.parametrize("blur", [{"donut_px": 7.0}, {"trail_px": 6.0}], ids=["defocused", "trailed"])
def test_stars_that_something_else_than_the_air_blurs_tell_no_beta(blur: dict[str, float]) -> None:
    field = field_of(77, stars=250)
    catalogue = catalogue_from(frame_of(field, clear(), 1), Measure())
    facts = facts_of(frame_of(field, clear(CAMERA, psf=replace(PSF, **blur)), 2), catalogue)
    assert np.isnan(facts.wings[0, 0])
