"""Zero points and scales from star fluxes whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nsgd.measure.scale import (
    Measured,
    empty_solution,
    field_pattern,
    first_solution,
    learn,
    measured,
    solve,
    zero_point,
)
from nsgd.measure.weight import relative_weight
from nsgd.records import Floats

SKY_ERR = 80.0
GAIN = 0.8


def true_fluxes(rng: np.random.Generator, stars: int) -> Floats:
    """Many faint stars, few bright ones, ADU: the faintest have a signal to noise of four."""
    return 4.0 * SKY_ERR * rng.uniform(1e-3, 1.0, stars) ** (-1.0 / 0.75)


def observed(rng: np.random.Generator, flux: Floats, light: float, floor: float = 0.0) -> Measured:
    """One sub's fluxes: photon and sky noise, and a relative error of each star that photons do not explain."""
    model = light * flux
    noise = np.sqrt(SKY_ERR**2 + model / GAIN + (floor * model) ** 2)
    sub = model + noise * rng.standard_normal(flux.size)
    return measured(sub, np.full(flux.size, SKY_ERR), np.zeros(flux.size, np.uint8), 0.0, GAIN)


def night(rng: np.random.Generator, lights: Floats, stars: int, floor: float = 0.0) -> list[Measured]:
    flux = true_fluxes(rng, stars)
    return [observed(rng, flux, float(light), floor) for light in lights]


def test_planted_light_of_every_sub_comes_out_within_honest_errors() -> None:
    pulls = []
    for seed in range(10):
        rng = np.random.default_rng([seed, 31])
        lights = np.append(1.0, rng.uniform(0.2, 1.5, 15))
        _, zeros = solve(night(rng, lights, 120))
        ratio = np.array([zero.value for zero in zeros]) / lights
        error = np.array([zero.err / zero.value for zero in zeros])
        pulls.append((ratio / np.average(ratio, weights=error**-2) - 1.0) / error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)
    assert np.abs(pulls).max() < 5.0


@settings(max_examples=30, deadline=None)
@given(light=st.floats(0.2, 1.5), seed=st.integers(0, 10_000), stars=st.integers(30, 400))
def test_a_sub_that_the_solution_has_not_seen_gets_its_planted_light_too(light: float, seed: int, stars: int) -> None:
    rng = np.random.default_rng([seed, 32])
    flux = true_fluxes(rng, stars)
    solution, zeros = solve([observed(rng, flux, 1.0) for _ in range(6)])
    gauge = float(np.mean([zero.value for zero in zeros]))
    zero = zero_point(observed(rng, flux, light), solution)
    common = float(np.hypot(zero.err / zero.value, zeros[0].err / zeros[0].value / 2.0))
    assert abs(zero.value / light / gauge - 1.0) < 5.0 * common


@pytest.mark.parametrize("light", [0.2, 1.0])
def test_faint_stars_bias_nothing_even_at_a_fifth_of_the_light(light: float) -> None:
    ratios = []
    for seed in range(70):
        rng = np.random.default_rng([seed, 33])
        flux = true_fluxes(rng, 100)
        solution, zeros = solve([observed(rng, flux, 1.0) for _ in range(3)])
        gauge = float(np.mean([zero.value for zero in zeros]))
        ratios.append(zero_point(observed(rng, flux, light), solution).value / light / gauge)
    mean, error = float(np.mean(ratios)), float(np.std(ratios) / np.sqrt(len(ratios)))
    assert abs(mean - 1.0) < 0.001 + 3.0 * error


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.1, 10.0), seed=st.integers(0, 10_000))
def test_a_sub_in_other_units_scales_in_proportion_and_weighs_the_same(factor: float, seed: int) -> None:
    rng = np.random.default_rng([seed, 34])
    flux = true_fluxes(rng, 80)
    solution, _ = solve([observed(rng, flux, 1.0) for _ in range(4)])
    sub = observed(rng, flux, 0.7)
    other = replace(sub, flux=factor * sub.flux, sky_err=factor * sub.sky_err, egain_e_per_adu=GAIN / factor)
    # the solution's own noise is the same in both, which is why the joint form (no noise of its own) is exact
    here, there = (zero_point(one, solution, joint=True) for one in (sub, other))
    assert there.value == pytest.approx(factor * here.value, rel=1e-4)
    assert there.err / there.value == pytest.approx(here.err / here.value, rel=1e-2)
    weights = [relative_weight(25.0 * f, 1.0 / z.value, 25.0) for f, z in ((1.0, here), (factor, there))]
    assert weights[1] == pytest.approx(weights[0], rel=1e-3)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(8)), seed=st.integers(0, 100))
@example(order=[3, 1, 2, 0, 4, 5, 6, 7], seed=44)
@example(order=[0, 2, 1, 3, 4, 5, 6, 7], seed=2)
@example(order=[0, 1, 2, 4, 3, 5, 6, 7], seed=25)
@example(order=[1, 7, 0, 5, 2, 6, 4, 3], seed=33)
def test_the_order_of_the_subs_changes_no_ratio(order: list[int], seed: int) -> None:
    rng = np.random.default_rng([seed, 35])
    subs = night(rng, np.array([1.0, 0.9, 0.3, 1.1, 0.6, 1.0, 0.8, 1.2]), 100)
    straight = solve(subs)[1]
    shuffled = dict(zip(order, solve([subs[k] for k in order])[1], strict=True))
    for k, zero in enumerate(straight):
        ratio = (zero.value / straight[0].value) / (shuffled[k].value / shuffled[0].value)
        assert ratio == pytest.approx(1.0, abs=0.2 * (zero.err / zero.value + straight[0].err / straight[0].value))


def test_the_same_subs_in_the_same_order_give_the_same_bits() -> None:
    subs = night(np.random.default_rng(36), np.linspace(0.4, 1.2, 10), 150)
    first, second = ([zero.value for zero in solve(subs)[1]] for _ in range(2))
    assert first == second


def test_many_subs_teach_more_than_one_reference() -> None:
    """A sub against a solution of twenty is better known than against one noisy sub."""
    rng = np.random.default_rng(37)
    flux = true_fluxes(rng, 100)
    alone = first_solution(observed(rng, flux, 1.0))
    many, _ = solve([observed(rng, flux, 1.0) for _ in range(20)])
    sub = observed(rng, flux, 0.9)
    assert zero_point(sub, many).err < 0.8 * zero_point(sub, alone).err


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_stars_that_vary_do_not_move_the_others(factor: float) -> None:
    rng = np.random.default_rng(38)
    flux = true_fluxes(rng, 150)
    solution, _ = solve([observed(rng, flux, 1.0) for _ in range(6)])
    sub = observed(rng, flux, 0.8)
    changed = sub.flux.copy()
    changed[np.argsort(-flux)[[2, 5, 11, 30, 60]]] *= factor
    straight, varied = zero_point(sub, solution), zero_point(replace(sub, flux=changed), solution)
    assert abs(varied.value - straight.value) < 1.5 * straight.err


def test_one_bright_star_cannot_decide() -> None:
    """With a floor of two per cent a star a thousand times brighter than the others weighs like one of them."""
    rng = np.random.default_rng(39)
    flux = np.append(np.full(60, 2e5), 2e8)
    solution, _ = solve([observed(rng, flux, 1.0, floor=0.02) for _ in range(8)])
    sub = observed(rng, flux, 0.8, floor=0.02)
    wrong = sub.flux.copy()
    wrong[-1] *= 1.04
    moved = zero_point(replace(sub, flux=wrong), solution).value / zero_point(sub, solution).value - 1.0
    assert abs(moved) < 0.004


def test_scatter_that_photons_do_not_explain_is_found_and_enters_the_error() -> None:
    rng = np.random.default_rng(40)
    flux = true_fluxes(rng, 300) * 100.0
    plain, _ = solve([observed(rng, flux, 1.0) for _ in range(10)])
    sub = observed(rng, flux, 0.7, floor=0.03)
    zero, quiet = zero_point(sub, plain), zero_point(observed(rng, flux, 0.7), plain)
    assert zero.floor == pytest.approx(0.03, rel=0.3)
    assert quiet.floor < 0.004
    assert zero.err > 3.0 * quiet.err


def test_a_common_error_of_all_stars_is_a_lower_bound_of_the_error() -> None:
    rng = np.random.default_rng(41)
    flux = true_fluxes(rng, 300)
    solution, _ = solve([observed(rng, flux, 1.0) for _ in range(5)])
    zero = zero_point(replace(observed(rng, flux, 0.9), common_err=0.01), solution)
    assert 0.01 * zero.value < zero.err < 0.02 * zero.value


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.floats(0.0, 1.0), stars=st.integers(1, 40))
def test_whatever_stars_are_missing_the_zero_point_is_a_positive_number_or_nothing(
    seed: int, missing: float, stars: int
) -> None:
    rng = np.random.default_rng([seed, 42])
    flux = true_fluxes(rng, stars)
    solution = first_solution(observed(rng, flux, 1.0))
    sub = observed(rng, flux, 0.8)
    gone = rng.uniform(size=stars) < missing
    holes = measured(np.where(gone, np.nan, sub.flux), sub.sky_err, np.zeros(stars, np.uint8), 0.0, GAIN)
    zero = zero_point(holes, solution)
    assert zero.stars <= int((~gone).sum())
    if zero.stars:
        assert np.isfinite(zero.value)
        assert zero.err > 0
    else:
        assert np.isnan(zero.value)


@pytest.mark.parametrize("stars", [5, 10])
def test_five_to_ten_stars_measure_a_dip_of_thirty_per_cent(stars: int) -> None:
    rng = np.random.default_rng(43)
    flux = 300.0 * SKY_ERR * rng.uniform(0.3, 1.0, stars)
    _, zeros = solve([observed(rng, flux, light) for light in (1.0, 1.0, 1.0, 0.7)])
    few, clear = zeros[3], np.mean([zero.value for zero in zeros[:3]])
    assert few.value / clear == pytest.approx(0.7, abs=4.0 * few.err)
    assert few.err / few.value < 0.02


def test_flagged_stars_take_no_part() -> None:
    rng = np.random.default_rng(44)
    flux = true_fluxes(rng, 50)
    flags = np.zeros(50, np.uint8)
    flags[:10] = [1 << (k % 6) for k in range(10)]
    sub = measured(flux, np.full(50, SKY_ERR), flags, 0.0, GAIN)
    assert not sub.usable[:10].any()
    assert sub.usable[10:].all()


def test_variable_stars_drop_out_and_a_star_hit_once_stays() -> None:
    rng = np.random.default_rng(144)
    flux = np.sort(true_fluxes(rng, 80))[::-1]
    subs = []
    amplitude = np.where(np.isin(np.arange(80), (2, 5, 9)), 0.3, 0.0)
    for k in range(24):
        light = flux * (1.0 + amplitude * np.sin(0.6 * k + np.arange(80)))
        light[10] *= 1.5 if k == 7 else 1.0
        subs.append(observed(rng, light, 1.0))
    solution, zeros = solve(subs)
    assert list(np.flatnonzero(solution.varying)) == [2, 5, 9]
    assert np.isnan([zero.residual[[2, 5, 9]] for zero in zeros]).all()
    ratio = np.array([zero.value for zero in zeros])
    assert ratio.std() / ratio.mean() < 1.5 * np.mean([zero.err / zero.value for zero in zeros])
    again, _ = solve(subs)
    np.testing.assert_array_equal(again.flux, solution.flux)


def test_a_grown_solution_keeps_every_star_under_its_number() -> None:
    rng = np.random.default_rng(45)
    flux = true_fluxes(rng, 30)
    solution = first_solution(observed(rng, flux[:20], 1.0)).grown(30)
    np.testing.assert_array_equal(np.isfinite(solution.flux), np.arange(30) < 20)
    sub = observed(rng, flux, 0.5)
    learnt = learn(solution, sub, zero_point(sub, solution))
    np.testing.assert_allclose(learnt.flux, flux, atol=6.0 * SKY_ERR / 0.5, rtol=0.1)


def test_subs_of_different_catalogue_generations_are_solved_together() -> None:
    rng = np.random.default_rng(46)
    flux = true_fluxes(rng, 120)
    subs = [observed(rng, flux[:60], 1.0), observed(rng, flux[:60], 0.8), observed(rng, flux, 0.6)]
    solution, zeros = solve(subs)
    assert np.isfinite(solution.flux).sum() == 120
    for zero, light in zip(zeros, (1.0, 0.8, 0.6), strict=True):
        assert zero.value / zeros[0].value == pytest.approx(light, abs=5.0 * (zero.err + zeros[0].err))


def test_nothing_known_is_nothing_said() -> None:
    sub = observed(np.random.default_rng(47), np.full(10, 1e5), 1.0)
    zero = zero_point(sub, empty_solution(10))
    assert np.isnan([zero.value, zero.err, zero.scatter, zero.floor]).all()
    assert solve([])[1] == []


def veiled(rng: np.random.Generator, shape: str, depth: float, stars: int = 250) -> tuple[Floats, ...]:
    """Residuals of stars under a veil, with one per cent noise: residual, sigma, u, v."""
    u, v = rng.uniform(-1.0, 1.0, (2, stars))
    light = {
        "uniform": np.ones(stars),
        "one_side": 1.0 - depth / (1.0 + np.exp((u + 0.5 * v) / 0.2)),
        "centre": 1.0 - depth * np.exp(-(u**2 + v**2) / 0.2),
        "patchy": 1.0 - 0.5 * depth * (1.0 + np.sin(7.0 * u + 1.0) * np.sin(6.0 * v)),
    }[shape]
    residual = light / np.median(light) - 1.0 + rng.normal(0.0, 0.01, stars)
    return residual, np.full(stars, 0.01), u, v


@pytest.mark.parametrize("shape", ["uniform", "one_side", "centre", "patchy"])
def test_the_pattern_over_the_field_is_named_right(shape: str) -> None:
    named = [field_pattern(*veiled(np.random.default_rng([seed, 48]), shape, 0.3)).name for seed in range(40)]
    assert named.count(shape) >= 38, named


def test_a_centre_is_seen_through_stars_most_of_which_are_faint() -> None:
    """Structure of 5 % under star errors of 9 %: single residuals show nothing, their map does."""
    named = []
    for seed in range(40):
        rng = np.random.default_rng([seed, 51])
        residual, _, u, v = veiled(rng, "centre", 0.3 if seed % 2 else 0.0)
        sigma = np.exp(rng.normal(np.log(0.08), 0.8, residual.size))
        named.append(field_pattern(residual + rng.normal(0.0, sigma), np.hypot(sigma, 0.01), u, v).name)
    assert named[1::2].count("centre") >= 18, named
    assert named[::2].count("uniform") >= 19, named


def test_few_stars_have_no_pattern() -> None:
    few = field_pattern(*veiled(np.random.default_rng(49), "one_side", 0.5, stars=14))
    assert (few.name, few.terms) == ("", ())
    assert np.isnan(few.rms)


def test_the_local_map_shows_the_side_that_is_dark() -> None:
    pattern = field_pattern(*veiled(np.random.default_rng(50), "one_side", 0.4))
    assert pattern.terms[0] > 0.05
    assert pattern.rms > 0.05
