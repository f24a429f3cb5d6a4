"""The gradient surface from sky differences at nodes: what is planted comes back, and nothing rings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from nsgd.measure.gradient import MIN_NODES, Surface, figures, fit_surface, node_difference
from nsgd.records import Floats

SIZE = (900, 600)
SIGMA = 2.0
"""Noise of a node, ADU."""


def nodes() -> tuple[Floats, Floats]:
    x, y = np.meshgrid(np.arange(22.0, 900.0, 45.0), np.arange(22.0, 600.0, 45.0))
    return x.ravel(), y.ravel()


def plane(x: Floats, y: Floats) -> Floats:
    return np.asarray(40.0 + 0.05 * (x - 450.0) - 0.03 * (y - 300.0))


def bump(x: Floats, y: Floats) -> Floats:
    return np.asarray(30.0 * np.exp(-((x - 600.0) ** 2 + (y - 200.0) ** 2) / (2.0 * 180.0**2)))


def vignetting(x: Floats, y: Floats) -> Floats:
    return np.asarray(-60.0 * ((x - 450.0) ** 2 + (y - 300.0) ** 2) / (450.0**2 + 300.0**2))


def fitted(z: Floats, smoothness: float = -2.0, weights: Floats | None = None) -> Surface | None:
    x, y = nodes()
    return fit_surface(x, y, z, np.ones(x.size) if weights is None else weights, smoothness, SIZE)


@pytest.mark.parametrize("shape", [plane, bump, vignetting])
def test_a_planted_surface_comes_back_within_the_noise_of_its_nodes(shape: Callable[[Floats, Floats], Floats]) -> None:
    x, y = nodes()
    surface = fitted(shape(x, y) + np.random.default_rng(1).normal(0.0, SIGMA, x.size))
    assert surface is not None
    gx, gy = np.meshgrid(np.linspace(0, 899, 40), np.linspace(0, 599, 30))
    error = surface.at(gx, gy) - shape(gx, gy)
    assert np.sqrt(np.mean(error**2)) < 0.6 * SIGMA
    assert np.abs(error).max() < 3.0 * SIGMA


def test_a_plane_is_exact_whatever_the_knob() -> None:
    x, y = nodes()
    for smoothness in (-4.0, -2.0, 0.0, 2.0, 4.0):
        surface = fitted(plane(x, y), smoothness)
        assert surface is not None
        np.testing.assert_allclose(surface.at(x, y), plane(x, y), atol=1e-6)


def test_the_corners_do_not_ring() -> None:
    """Beyond the outermost nodes a step in the middle of the frame has died out."""
    x, _ = nodes()
    surface = fitted(np.where(x < 450.0, 0.0, 20.0))
    assert surface is not None
    edge = surface.grid(*SIZE, 31, 21)
    assert edge.min() > -4.0
    assert edge.max() < 24.0


def test_the_knob_goes_from_every_node_to_a_plane() -> None:
    x, y = nodes()
    z = bump(x, y) + np.random.default_rng(2).normal(0.0, SIGMA, x.size)
    surfaces = [fitted(z, smoothness) for smoothness in (-4.0, -2.0, 0.0, 2.0, 4.0)]
    left = [float(np.std(z - surface.at(x, y))) for surface in surfaces if surface is not None]
    assert left == sorted(left)
    stiff = surfaces[-1]
    assert stiff is not None
    assert stiff.bend.size == 0


def test_it_is_the_spline_of_pixinsight_and_scipy() -> None:
    """NSG's knob is RBFInterpolator's smoothing on centred coordinates over the largest radius."""
    x, y = nodes()
    rng = np.random.default_rng(3)
    z, weights = bump(x, y) + rng.normal(0.0, SIGMA, x.size), rng.choice([0.25, 0.5, 1.0], x.size)
    surface = fitted(z, -2.0, weights)
    assert surface is not None
    radius = float(np.hypot(449.5, 299.5))
    places = np.column_stack(((x - 449.5) / radius, (y - 299.5) / radius))
    peer = RBFInterpolator(places, z, kernel="thin_plate_spline", degree=1, smoothing=1e-2 / weights)
    np.testing.assert_allclose(surface.at(x, y), peer(places), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.floats(0.0, 1.0), smoothness=st.sampled_from([-4.0, -2.0, 0.5, 4.0]))
def test_whatever_nodes_are_missing_there_is_a_finite_surface_or_none(
    seed: int, missing: float, smoothness: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y = nodes()
    z = np.where(rng.uniform(size=x.size) < missing, np.nan, plane(x, y) + rng.normal(0.0, SIGMA, x.size))
    surface = fitted(z, smoothness)
    known = int(np.isfinite(z).sum())
    assert (surface is None) == (known < MIN_NODES)
    given_figures = figures(surface, *SIZE)
    numbers = [given_figures.x_adu, given_figures.y_adu, given_figures.rms_adu, *given_figures.diagonal_adu]
    assert np.isfinite(numbers).all() == (surface is not None)
    if surface is not None:
        assert np.isfinite(surface.grid(*SIZE, 9, 7)).all()


@settings(max_examples=25, deadline=None)
@given(row=st.integers(0, 12), keep=st.integers(6, 20), smoothness=st.sampled_from([-2.0, 4.0]))
def test_nodes_on_one_line_determine_no_surface(row: int, keep: int, smoothness: float) -> None:
    """A frame that overlaps in a strip leaves one row of nodes."""
    x, y = nodes()
    on_line = np.flatnonzero(y == np.unique(y)[row])[:keep]
    z = np.full(x.size, np.nan)
    z[on_line] = plane(x[on_line], y[on_line])
    assert fitted(z, smoothness) is None


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.floats(0.0, 0.9), smoothness=st.sampled_from([-4.0, -2.0, 1.0]))
def test_a_node_that_is_missing_is_as_if_it_had_never_been(seed: int, missing: float, smoothness: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = nodes()
    z = bump(x, y) + rng.normal(0.0, SIGMA, x.size)
    gone = rng.uniform(size=x.size) < missing
    whole = fitted(np.where(gone, np.nan, z), smoothness)
    never = fit_surface(x[~gone], y[~gone], z[~gone], np.ones(int((~gone).sum())), smoothness, SIZE)
    assert (whole is None) == (never is None)
    if whole is not None and never is not None:
        np.testing.assert_allclose(whole.grid(*SIZE, 9, 7), never.grid(*SIZE, 9, 7), atol=1e-4)


def test_figures_are_the_change_across_the_frame_and_along_both_diagonals() -> None:
    x, y = nodes()
    surface = fitted(plane(x, y))
    across = figures(surface, *SIZE)
    assert across.x_adu == pytest.approx(0.05 * 899, rel=1e-3)
    assert across.y_adu == pytest.approx(-0.03 * 599, rel=1e-3)
    assert across.rms_adu == pytest.approx(np.hypot(0.05 * 899, 0.03 * 599) / np.sqrt(12.0), rel=0.06)
    right, bottom = 899 - 180.0, 599 - 180.0
    assert across.diagonal_adu == pytest.approx((0.05 * right - 0.03 * bottom, 0.05 * right + 0.03 * bottom), rel=1e-3)


def test_the_difference_is_the_normalised_sub_minus_the_reference() -> None:
    np.testing.assert_allclose(
        node_difference(np.array([10.0, np.nan, 4.0]), np.array([12.0, 1.0, np.nan]), 2.0), [8.0, np.nan, np.nan]
    )
