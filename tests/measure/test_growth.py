"""The curve of growth: what stars have of their own must neither pass for noise nor for cloud."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsgd.measure import apertures, growth, photometry
from nsgd.measure.bright import departing_shares, scatter2
from nsgd.records import Floats
from nsgd.simulate import Camera, Psf, SkyField
from tests.measure.planted_subs import clear, field_of, shoot

APERTURE_PX = 2.0
SHARE = apertures.shares(APERTURE_PX, np.array(1.7), np.array(3.0))


def star_sums(rng: np.random.Generator, stars: int, scatter: Floats, width: float) -> Floats:
    """(stars, 10) parts of each star's light in soft apertures and rings, with planted scatter."""
    soft, within = SHARE[: apertures.SOFT], np.cumsum(SHARE[apertures.SOFT :])
    slope = apertures.width_slope(APERTURE_PX, 1.7, 3.0)
    relative = 1.0 + scatter * rng.normal(size=(stars, apertures.APERTURES))
    whole = np.concatenate((soft, within)) * relative
    rings = np.diff(whole[:, apertures.SOFT :], axis=1, prepend=0.0)
    turned = np.concatenate((whole[:, : apertures.SOFT], rings), axis=1)
    return np.asarray(turned + width * rng.normal(size=(stars, 1)) * slope)


def test_the_scatter_of_cores_and_widths_is_told_apart_by_pairs_of_apertures() -> None:
    rng = np.random.default_rng(3)
    planted = np.array([0.06, 0.02, 0.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    part = star_sums(rng, 900, planted, 0.03)
    noise = (1e-8 * np.eye(apertures.APERTURES)[None], np.ones((900, 1)))
    slope = apertures.width_slope(APERTURE_PX, 1.7, 3.0)
    found = np.sqrt(scatter2(part, noise, np.arange(900.0), SHARE, slope))
    assert found[:2] == pytest.approx(planted[:2], rel=0.2)
    assert found[-1] == pytest.approx(0.03, rel=0.2)
    assert found[4:-1] == pytest.approx(0.0, abs=0.006)


@given(st.floats(0.5, 2.0), st.integers(0, 2**32 - 1))
def test_what_stars_have_of_their_own_keeps_its_place_on_the_sky_when_apertures_grow(width: float, seed: int) -> None:
    known = np.random.default_rng(seed).normal(scale=0.01, size=(3, apertures.APERTURES))
    moved = departing_shares(known, np.full(3, 2.0), 2.0 * width)
    radius, grown = np.append(0.0, apertures.HARD_FWHM), apertures.HARD_FWHM * width
    for before, after in zip(known[:, apertures.SOFT :], moved[:, apertures.SOFT :], strict=True):
        within = np.append(0.0, np.cumsum(before))
        expected = np.interp(np.minimum(grown, radius[-1]) ** 2, radius**2, within)
        assert np.cumsum(after) == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(moved[:, : apertures.SOFT], known[:, : apertures.SOFT])


@pytest.mark.parametrize(
    ("blur", "fwhm_px", "axes"),
    [({"trail_px": 6.0}, 4.58, (1.27, 0.787)), ({"donut_px": 6.0}, 9.8, (1.0, 1.0)), ({}, 3.27, (1.0, 1.0))],
)
def test_the_wings_of_a_blurred_star_are_foreseen(
    blur: dict[str, float], fwhm_px: float, axes: tuple[float, float]
) -> None:
    """A trail and a defocus: what stands out there is the sharp star's light, in pixels, not in widths."""
    sharp = growth.Profile(3.2, np.zeros(apertures.APERTURES + 1), 3.2, 3.27)
    wings = growth.anchored(sharp, fwhm_px, fwhm_px, axes).wings
    y, x = np.mgrid[-120:121, -120:121].astype(float)
    alpha2 = 3.2**2 / (4.0 * (2.0 ** (1.0 / 3.2) - 1.0))
    image = sum(
        weight * 2.2 / (np.pi * alpha2) * (1.0 + ((x - dx) ** 2 + (y - dy) ** 2) / alpha2) ** -3.2
        for dx, dy, weight in zip(*Psf(3.2, 3.2, **blur).offsets(), strict=True)
    )
    distance = np.hypot(x / axes[0], y / axes[1])
    edges = apertures.hard_radius(fwhm_px)[growth.WING_RINGS - apertures.SOFT - 1 :]
    true = [image[(distance >= inner) & (distance < outer)].sum() for inner, outer in pairwise(edges)]
    assert wings[growth.WING_RINGS : -1] == pytest.approx(np.array(true), rel=0.15)
    assert (wings[: growth.WING_RINGS] == 0.0).all()


def test_without_a_star_there_is_no_curve() -> None:
    none = np.empty(0)
    stars = photometry.GrowthStars(none, none, none, none, *[np.empty((0, 10))] * 3, none, 64.0)
    pixels = np.random.default_rng(1).normal(100.0, 5.0, (200, 300)).astype(np.float32)
    assert photometry.growth_curve(pixels, stars, photometry.Outline(3.0), (5.0, 1.0), None) is None


def accompanied(sky_field: SkyField, rng: np.random.Generator) -> SkyField:
    """Every star with a companion in its wings, a hundredth to a twentieth as bright, too near to be told from it."""
    distance, angle = rng.uniform(4.5, 11.0, sky_field.x_px.size), rng.uniform(0.0, 2.0 * np.pi, sky_field.x_px.size)
    return replace(
        sky_field,
        x_px=np.append(sky_field.x_px, sky_field.x_px + distance * np.cos(angle)),
        y_px=np.append(sky_field.y_px, sky_field.y_px + distance * np.sin(angle)),
        flux_e_s=np.append(sky_field.flux_e_s, sky_field.flux_e_s * rng.uniform(0.01, 0.05, sky_field.x_px.size)),
        colour=np.tile(sky_field.colour, 2),
    )


def test_companions_and_a_jittering_focus_of_undersampled_stars_do_not_look_like_cloud() -> None:
    rng = np.random.default_rng(12)
    camera = Camera(width_px=640, height_px=480)
    widths = rng.uniform(1.4, 1.8, 10)
    truths = [clear(camera, psf=Psf(fwhm_px=float(width), beta=3.2)) for width in widths]
    series = shoot(accompanied(field_of(12, camera, 150), rng), truths, 12)
    scales = np.array([relation.scale[0] for relation in series.relations])
    assert np.std(scales / np.mean(scales)) < 0.0025


@given(st.floats(0.4, 6.0), st.floats(0.0, 0.6), st.floats(0.0, 1.0))
def test_no_sky_is_left_in_soft_apertures_however_wide_and_wherever_in_the_pixel(
    sigma: float, ellipticity: float, phase: float
) -> None:
    pixels = np.full((160, 160), 31_000.0, np.float32)
    place = np.array([80.0 + phase]), np.array([70.0 - phase]), np.array([30_000.0])
    outline = photometry.Outline(2.0, ellipticity, 30.0)
    light = photometry.soft_sums(pixels, place, sigma, outline) / (2.0 * np.pi * sigma**2)
    nothing = photometry.soft_sums(pixels, (*place[:2], place[2] + 1000.0), sigma, outline)
    assert nothing == pytest.approx(0.0, abs=1e-6)
    if sigma > 1.0:
        assert light == pytest.approx(1000.0, rel=0.01)
