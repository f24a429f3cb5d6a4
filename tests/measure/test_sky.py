"""Sky and noise of pixels whose truth is known: quantised, sloped, with holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nsgd.measure.sky import (
    Mesh,
    View,
    fill_gaps,
    interpolated_noise,
    masked_mesh,
    node_values,
    pixel_noise,
    sky_mesh,
    view_of,
)
from nsgd.records import Floats, Pixels, Plane

SHAPE = (400, 600)


def quantised(rng: np.random.Generator, sigma: float, step: int, level: float = 1000.0) -> Pixels:
    sky = level + sigma * rng.standard_normal(SHAPE)
    return np.asarray(np.rint(sky / step) * step if step > 1 else np.rint(sky), np.float32)


def slope(x: Floats, y: Floats) -> Floats:
    return np.asarray(500.0 + 0.1 * x - 0.05 * y)


def sloped(rng: np.random.Generator | None = None) -> Pixels:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = 0.0 if rng is None else 5.0 * rng.standard_normal(SHAPE)
    return np.asarray(slope(x, y) + noise, np.float32)


def mesh_of(pixels: Pixels) -> Mesh:
    view = view_of(Plane("L", pixels))
    return masked_mesh(view, sky_mesh(view), np.zeros(view.pixels.shape, bool))


@pytest.mark.parametrize("step", [1, 4, 16])
@pytest.mark.parametrize("sigma", [10.0, 25.0])
def test_noise_is_right_to_one_per_cent_whatever_the_step(sigma: float, step: int) -> None:
    truth = np.hypot(sigma, step / np.sqrt(12.0))
    found = [pixel_noise(quantised(np.random.default_rng([k, step]), sigma, step), None, 1) for k in range(4)]
    assert np.mean(found) == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("step", [1, 4, 16])
def test_sky_is_right_to_a_fiftieth_of_the_noise_whatever_the_step(step: int) -> None:
    for level in (1000.0, 1003.0, 1007.9):
        mesh = mesh_of(quantised(np.random.default_rng([3, step]), 10.0, step, level))
        assert np.nanmean(mesh.level) == pytest.approx(level, abs=0.2)
        assert np.nanstd(mesh.level) < 3.0 * 10.0 / 32.0


def test_gradients_cosmic_rays_and_hot_pixels_are_no_noise() -> None:
    rng = np.random.default_rng(5)
    pixels = sloped(rng)
    pixels.ravel()[rng.integers(0, pixels.size, pixels.size // 500)] += 4000.0
    assert pixel_noise(pixels, None, 1) == pytest.approx(5.0, rel=0.012)


def test_masked_stars_are_no_noise() -> None:
    rng = np.random.default_rng(6)
    pixels = sloped(rng)
    mask = np.zeros(SHAPE, bool)
    mask[:, 100:160] = True
    pixels[mask] += 300.0 * rng.standard_normal(int(mask.sum())).astype(np.float32)
    assert pixel_noise(pixels, mask, 1) == pytest.approx(5.0, rel=0.012)


@pytest.mark.parametrize("shift_px", [(0.5, 0.5), (0.2, -0.4), (0.3, 0.0)])
@pytest.mark.parametrize("order", [1, 3])
def test_interpolation_hides_no_noise(shift_px: tuple[float, float], order: int) -> None:
    pixels = ndimage.shift(sloped(np.random.default_rng(7)), shift_px, order=order, mode="nearest")
    assert pixel_noise(pixels, None, 1) < 0.93 * 5.0
    assert interpolated_noise(pixels, None, 1) == pytest.approx(5.0, rel=0.06)


def test_pixels_that_were_not_interpolated_keep_their_noise() -> None:
    pixels, mask = sloped(np.random.default_rng(8)), np.zeros((SHAPE[0] // 2, SHAPE[1] // 2), bool)
    mask[20:40] = True
    assert interpolated_noise(pixels, mask, 2) == pixel_noise(pixels, mask, 2)


def test_too_few_pixels_have_no_noise() -> None:
    empty = np.full((20, 20), np.nan, np.float32)
    assert np.isnan(pixel_noise(empty, None, 1))
    assert np.isnan(interpolated_noise(empty, None, 1))


def test_a_slope_is_followed_up_to_the_edges() -> None:
    mesh = mesh_of(sloped())
    x, y = np.meshgrid(np.linspace(16, 583, 25), np.linspace(16, 383, 17))
    np.testing.assert_allclose(mesh.at(x, y), slope(x, y), atol=0.2)


@settings(max_examples=30, deadline=None)
@given(dx=st.floats(-60.0, 60.0), dy=st.floats(-60.0, 60.0))
def test_nodes_of_a_sloped_sky_read_the_same_sky_under_any_dither(dx: float, dy: float) -> None:
    mesh = SLOPED
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(32.0, 600.0, 64.0), np.arange(32.0, 400.0, 64.0)))
    value, fraction = node_values(mesh, x + dx, y + dy, 32.0)
    measured = np.isfinite(value)
    assert measured.sum() > 20
    np.testing.assert_array_equal(measured, fraction > 0.25)
    np.testing.assert_allclose(value[measured], slope(x + dx, y + dy)[measured], atol=0.25)


SLOPED = mesh_of(sloped())


def test_nodes_off_the_frame_are_missing() -> None:
    value, fraction = node_values(SLOPED, np.array([-200.0, 300.0]), np.array([200.0, 900.0]), 32.0)
    assert np.isnan(value).all()
    assert (fraction == 0).all()


@pytest.mark.parametrize("border", [1, 20, 75])
def test_empty_borders_take_no_part(border: int) -> None:
    pixels = sloped(np.random.default_rng(7))
    pixels[:border], pixels[:, -border:] = np.nan, np.nan
    mesh = mesh_of(pixels)
    known = np.isfinite(mesh.level)
    x, y = np.meshgrid(np.linspace(100, 480, 15), np.linspace(100, 380, 11))
    np.testing.assert_allclose(mesh.at(x, y), slope(x, y), atol=1.5)
    assert known.sum() > 100
    assert pixel_noise(pixels, None, 1) == pytest.approx(5.0, rel=0.015)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.floats(0.0, 1.0))
def test_filled_gaps_lie_between_what_is_known(seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.uniform(10.0, 20.0, (7, 9))
    holes = np.where(rng.uniform(size=grid.shape) < missing, np.nan, grid)
    filled = fill_gaps(holes)
    known = np.isfinite(holes)
    np.testing.assert_array_equal(filled[known], grid[known])
    assert np.isfinite(filled).all()
    if known.any():
        assert filled.min() >= grid[known].min() - 1e-9
        assert filled.max() <= grid[known].max() + 1e-9


def test_a_large_plane_is_looked_at_through_averages_of_four() -> None:
    pixels = np.arange(3000 * 3000, dtype=np.float32).reshape(3000, 3000)
    view = view_of(Plane("L", pixels))
    assert view.bin == 2
    assert view.pixels[7, 11] == pytest.approx(float(pixels[14:16, 22:24].mean()))
    assert view_of(Plane("L", pixels[:400, :600])).bin == 1
    assert isinstance(view, View)


@settings(max_examples=30, deadline=None)
@given(st.floats(-16.0, 16.0), st.floats(-16.0, 16.0))
def test_a_compact_nebula_reads_the_same_under_any_dither(dx: float, dy: float) -> None:
    y, x = np.mgrid[0:384, 0:384].astype(float)

    def blob(at_x: Floats, at_y: Floats) -> Floats:
        return np.asarray(100.0 * np.exp(-0.5 * ((at_x - 190.0 - dx) ** 2 + (at_y - 200.0 - dy) ** 2) / 60.0**2))

    level = blob(x, y).reshape(12, 32, 12, 32).mean(axis=(1, 3))
    slope_x, slope_y = np.gradient(level, axis=1) / 32.0, np.gradient(level, axis=0) / 32.0
    mesh = Mesh(level, np.ones((12, 12)), np.full((12, 12), 1024.0), slope_x, slope_y, 32, 1, (384, 384))
    nodes = np.array([127.5, 191.5, 255.5])
    node_x, node_y = (part.ravel() for part in np.meshgrid(nodes, nodes))
    value, _ = node_values(mesh, node_x + dx, node_y + dy, 32.0)
    side = np.arange(-31.5, 32.0)
    true = [blob(a + dx + side[None, :], b + dy + side[:, None]).mean() for a, b in zip(node_x, node_y, strict=True)]
    assert value == pytest.approx(true, abs=1.0)
