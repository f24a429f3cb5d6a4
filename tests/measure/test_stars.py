"""Detection: stars are found where they are, with their size; what is no star is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_subs import SETTINGS, clear, field_of, frame_of
from scipy.spatial import cKDTree

from nsgd.errors import MeasureFailure
from nsgd.measure.recipe import Survey, catalogue_from, measure_sub, survey
from nsgd.records import Floats
from nsgd.simulate import Camera, Psf, SkyField, SubTruth, raw_camera, star_flux_adu


def look(sky_field: SkyField, truth: SubTruth, seed: int = 1) -> Survey:
    return survey(frame_of(sky_field, truth, seed), SETTINGS, 300)


def gap_px(seen: Survey, sky_field: SkyField, truth: SubTruth) -> Floats:
    """Distance of each detection from the nearest true star."""
    true = np.column_stack(truth.transform.apply(sky_field.x_px, sky_field.y_px))
    return np.asarray(cKDTree(true).query(np.column_stack((seen.points.x, seen.points.y)))[0])


def no_field() -> SkyField:
    none = np.empty(0)
    return SkyField(none, none, none, none, none, none, none, none)


@pytest.mark.parametrize("fwhm_px", [1.6, 3.2, 6.0])
def test_bright_stars_are_found_where_they_are(fwhm_px: float) -> None:
    sky_field, truth = field_of(1), clear(psf=Psf(fwhm_px=fwhm_px, beta=3.2))
    seen = look(sky_field, truth)
    assert np.median(gap_px(seen, sky_field, truth)[:20]) < 0.04 * fwhm_px
    assert len(seen.stars) > 40


def test_brightest_first_and_most_of_the_bright_ones() -> None:
    sky_field, truth = field_of(2), clear()
    seen = look(sky_field, truth)
    assert (np.diff(seen.stars.flux) <= 0).all()
    x, y = truth.transform.apply(sky_field.x_px, sky_field.y_px)
    inside = (x > 10) & (y > 10) & (x < 590) & (y < 390)
    bright = inside & (star_flux_adu(sky_field, truth)[:, 0] > 40.0 * truth.noise_adu() * 3.2)
    found = cKDTree(np.column_stack((seen.points.x, seen.points.y))).query(np.column_stack((x, y))[bright])[0] < 2.0
    assert found.mean() > 0.95


@pytest.mark.parametrize(
    ("fwhm_px", "ellipticity"), [(2.2, 0.0), (3.2, 0.3), (5.5, 0.1), (3.0, 0.5)], ids=lambda value: f"{value:g}"
)
def test_size_and_shape_are_right_to_three_per_cent(fwhm_px: float, ellipticity: float) -> None:
    truth = clear(psf=Psf(fwhm_px=fwhm_px, beta=3.2, ellipticity=ellipticity, angle_deg=40.0))
    shape = look(field_of(3), truth).shape
    assert shape.fwhm_px == pytest.approx(fwhm_px, rel=0.03)
    assert shape.ellipticity == pytest.approx(ellipticity, abs=0.03)
    if ellipticity:
        assert shape.elongation_deg == pytest.approx(40.0, abs=4.0)


@pytest.mark.parametrize("bayer", ["", "RGGB"])
@pytest.mark.parametrize("seed", range(3))
def test_a_frame_of_hot_pixels_and_cosmic_rays_has_no_stars(seed: int, bayer: str) -> None:
    """Undarkened pixels always read transmission 1: as stars they would hide a cloud that has taken every star."""
    camera = replace(raw_camera(bayer=bayer, hot_pixels=2500), width_px=600, height_px=400, hot_seed=seed)
    frame = frame_of(no_field(), clear(camera, cosmic_rays=60), seed)
    catalogue = catalogue_from(frame_of(field_of(2), clear(camera), seed), SETTINGS)
    for measure in (lambda: catalogue_from(frame, SETTINGS), lambda: measure_sub(frame, catalogue, SETTINGS)):
        with pytest.raises(MeasureFailure) as caught:
            measure()
        assert caught.value.kind == "no_stars"
        assert "none shaped like a star" in caught.value.sentence


@pytest.mark.parametrize("bayer", ["", "RGGB"])
def test_hot_pixels_among_stars_are_left_out(bayer: str) -> None:
    """Of 800 no more than one in fifty gets through: faint ones that look like the faintest stars."""
    camera = replace(raw_camera(bayer=bayer, hot_pixels=800), width_px=600, height_px=400)
    sky_field, truth = field_of(4, camera), clear(camera)
    seen = look(sky_field, truth)
    false = gap_px(seen, sky_field, truth) > 3.0
    assert false.sum() <= 16
    assert not false[:10].any()
    assert (~false).sum() > 45


@pytest.mark.parametrize("seed", range(4))
def test_satellite_trails_are_no_stars(seed: int) -> None:
    truth, sky_field = clear(satellites=3), field_of(6)
    seen = look(sky_field, truth, seed)
    assert (gap_px(seen, sky_field, truth) > 3.0).sum() <= 2
    with pytest.raises(MeasureFailure, match="stars found, 5 stars needed"):
        catalogue_from(frame_of(no_field(), truth, seed), SETTINGS)


def test_pure_noise_is_no_star() -> None:
    assert sum(len(look(no_field(), clear(), seed).stars) for seed in range(4)) <= 2


def test_nebula_is_no_star() -> None:
    empty = field_of(7, nebula=8)
    none = np.empty(0)
    glow = SkyField(
        none, none, none, none, empty.nebula_x_px, empty.nebula_y_px, empty.nebula_sigma_px, empty.nebula_e_s
    )
    assert len(look(glow, clear()).stars) <= 2


@pytest.mark.parametrize("psf", [Psf(3.2, 3.2, trail_px=7.0, trail_deg=35.0), Psf(3.2, 3.2, donut_px=5.0)])
def test_trailed_and_defocused_stars_are_stars(psf: Psf) -> None:
    camera = Camera(width_px=400, height_px=300)
    sky_field, truth = field_of(8, camera, stars=80), clear(camera, psf=psf)
    seen = look(sky_field, truth)
    assert np.median(gap_px(seen, sky_field, truth)[:15]) < 1.0
    assert len(seen.stars) >= 10


def test_a_crowded_field_fills_the_list_with_stars() -> None:
    camera = Camera(width_px=700, height_px=500)
    sky_field, truth = field_of(9, camera, stars=1500), clear(camera)
    seen = look(sky_field, truth)
    assert len(seen.stars) == 300
    assert (gap_px(seen, sky_field, truth) > 2.0).mean() < 0.03
