"""Whole subs, from pixels to relations, against the truth that was planted in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from planted_subs import (
    CAMERA,
    PSF,
    SETTINGS,
    Series,
    clear,
    facts_of,
    field_of,
    frame_of,
    series_of,
    shoot,
    times,
    with_pixels,
)

from nsgd.counts import Counts
from nsgd.errors import MeasureFailure
from nsgd.measure.recipe import catalogue_from, identity_facts, measure_sub
from nsgd.measure.relate import Related, gradient_surfaces, measured_channels, relate
from nsgd.measure.scale import solve
from nsgd.records import Catalogue, Floats, Frame, Plane, StarFlag, SubFacts
from nsgd.settings import Measure
from nsgd.simulate import Camera, Psf, SkyGlow, place, star_flux_adu

FIELD = field_of(1)
FIRST = clear(transmission=0.9)


@pytest.fixture(scope="module")
def reference() -> Frame:
    return frame_of(FIELD, FIRST, 1)


@pytest.fixture(scope="module")
def second() -> Frame:
    """A dithered sub of the same field under the same sky."""
    return frame_of(FIELD, replace(FIRST, transform=place(CAMERA, 4.3, -2.7, 0.2)), 2)


@pytest.fixture(scope="module")
def catalogue(reference: Frame) -> Catalogue:
    return catalogue_from(reference, SETTINGS)


@pytest.fixture(scope="module")
def reference_facts(reference: Frame, catalogue: Catalogue) -> SubFacts:
    return facts_of(reference, catalogue)


def assert_scales(series: Series, within: float = 4.0) -> None:
    """Every scale is the planted one, within so many of its errors."""
    for index, relation in enumerate(series.relations[1:], 1):
        pull = (relation.scale[0] - series.true_scale(index)) / relation.scale_err[0]
        assert abs(pull) < within, (index, relation.scale, series.true_scale(index))


# ---- scale -------------------------------------------------------------------------------------------


def test_planted_transmissions_come_out_within_their_errors() -> None:
    lights = (1.0, 0.2, 0.35, 0.5, 0.75, 1.0, 1.3, 1.5)
    truths = [clear(transmission=light, transform=place(CAMERA, 3.0 * k, -2.0 * k)) for k, light in enumerate(lights)]
    series = shoot(FIELD, truths, 3)
    assert_scales(series)
    assert max(relation.scale_err[0] / relation.scale[0] for relation in series.relations) < 0.01


@pytest.mark.parametrize("factor", [0.7, 1.4, 2.0])
def test_swelling_stars_do_not_look_like_cloud(factor: float) -> None:
    truths = [clear()] * 3 + [clear(psf=replace(PSF, fwhm_px=factor * PSF.fwhm_px))] * 3
    series = shoot(FIELD, truths, 4)
    ratio = np.mean([relation.zero[0] for relation in series.relations[3:]])
    ratio /= np.mean([relation.zero[0] for relation in series.relations[:3]])
    error = np.mean([r.zero_err[0] / r.zero[0] for r in series.relations]) / np.sqrt(3.0)
    assert ratio == pytest.approx(1.0, abs=0.001 + 3.5 * error)
    assert error < 0.004


@pytest.mark.parametrize(
    "psf",
    [replace(PSF, ellipticity=0.5, angle_deg=30.0), replace(PSF, trail_px=6.0), Psf(3.2, 3.2, donut_px=5.0)],
    ids=["elongated", "trailed", "defocused"],
)
def test_the_shape_of_the_stars_does_not_move_the_scale(psf: Psf) -> None:
    assert_scales(shoot(FIELD, [clear(), clear(), clear(psf=psf)], 5), within=4.5)


def test_a_sky_ten_times_brighter_does_not_move_the_scale() -> None:
    bright = clear(sky=SkyGlow(level_e_s=80.0), transmission=0.8)
    assert_scales(shoot(FIELD, [clear(), clear(), bright], 6))


@pytest.mark.parametrize("factor", [0.25, 0.6, 1.7])
def test_a_sub_in_other_units_has_its_scale_divided_and_weighs_the_same(
    reference: Frame, second: Frame, factor: float
) -> None:
    series = series_of([FIRST] * 3, [reference, second, times(second, factor)])
    plain, other = series.relations[1:]
    assert other.scale[0] == pytest.approx(plain.scale[0] / factor, rel=1e-3)
    assert other.weight[0] == pytest.approx(plain.weight[0], rel=2e-3)
    assert other.gradient_rms_adu == pytest.approx(plain.gradient_rms_adu, rel=0.05)


def test_the_reference_is_exactly_itself(reference: Frame, second: Frame) -> None:
    relation = series_of([FIRST] * 2, [reference, second]).relations[0]
    assert (relation.scale, relation.scale_err, relation.weight) == ((1.0,), (0.0,), (1.0,))
    assert (relation.gradient_x_adu, relation.gradient_y_adu, relation.gradient_rms_adu) == (0.0, 0.0, 0.0)


def test_five_to_ten_stars_measure_a_dip_of_thirty_per_cent() -> None:
    camera = Camera(width_px=400, height_px=300)
    few = replace(field_of(8, camera, stars=40))
    bright = np.argsort(-few.flux_e_s)[:22]  # the field is larger than the frame: about seven fall on it
    few = replace(
        few, x_px=few.x_px[bright], y_px=few.y_px[bright], flux_e_s=np.full(22, 3000.0), colour=few.colour[bright]
    )
    truths = [clear(camera, transmission=light) for light in (1.0, 1.0, 0.7)]
    series = shoot(few, truths, 7)
    assert 5 <= series.relations[2].stars_used <= 12
    assert_scales(series, within=4.5)
    assert series.relations[2].scale_err[0] < 0.05


# ---- gradient ----------------------------------------------------------------------------------------


def plane(x: Floats, y: Floats) -> Floats:
    return np.asarray(60.0 * (x / 599.0 - 0.5) - 40.0 * (y / 399.0 - 0.5))


def bump(x: Floats, y: Floats) -> Floats:
    return np.asarray(50.0 * np.exp(-((x - 350.0) ** 2 + (y - 150.0) ** 2) / (2.0 * 150.0**2)))


@pytest.mark.parametrize("shape", [plane, bump])
def test_what_is_added_to_the_sky_is_the_gradient_and_does_not_move_the_scale(
    reference: Frame, shape: Callable[[Floats, Floats], Floats]
) -> None:
    y, x = np.mgrid[:400, :600].astype(float)
    twin = frame_of(FIELD, FIRST, 8)
    brighter = with_pixels(twin, twin.planes[0].pixels + shape(x, y))
    series = series_of([FIRST] * 3, [reference, twin, brighter])
    plain, sloped = series.relations[1:]
    assert sloped.scale[0] == pytest.approx(plain.scale[0], abs=0.3 * plain.scale_err[0])
    first = Related(1, series.facts[0], (1.0,), (0.001,))
    surfaces = [
        gradient_surfaces(facts, first, relation.scale, series.catalogue, -2.0)[0]
        for facts, relation in zip(series.facts[1:], (plain, sloped), strict=True)
    ]
    assert surfaces[0] is not None
    assert surfaces[1] is not None
    error = surfaces[1].at(x[::20, ::20], y[::20, ::20]) - surfaces[0].at(x[::20, ::20], y[::20, ::20])
    error -= plain.scale[0] * shape(x, y)[::20, ::20]
    assert np.sqrt(np.mean(error**2)) < 0.03 * twin_noise(series)
    assert np.abs(error).max() < 0.15 * twin_noise(series)


def twin_noise(series: Series) -> float:
    return series.facts[1].noise_adu[0]


def test_planted_gradients_come_back_under_dither_and_nebula() -> None:
    field = field_of(9, nebula=5)
    sloped = clear(sky=SkyGlow(slope_x=0.12, slope_y=-0.07), transform=place(CAMERA, 5.0, 3.0))
    series = shoot(field, [clear(), sloped], 9)
    relation = series.relations[1]
    x, y = np.meshgrid(np.linspace(0, 599, 25), np.linspace(0, 399, 17))
    truth = sloped.gradient_against(series.truths[0])(x, y)
    right = truth[:, -1].mean() - truth[:, 0].mean()
    bottom = truth[-1].mean() - truth[0].mean()
    # the sky level times the error of the scale is the same everywhere: it does not enter differences
    assert relation.gradient_x_adu == pytest.approx(right, rel=0.05)
    assert relation.gradient_y_adu == pytest.approx(bottom, rel=0.07)
    assert relation.gradient_rms_adu == pytest.approx(float(truth.std()), rel=0.08)


def test_the_same_sky_has_no_gradient(reference: Frame, second: Frame) -> None:
    relation = series_of([FIRST] * 2, [reference, second]).relations[1]
    assert relation.gradient_rms_adu < 0.06 * facts_of(reference, catalogue_from(reference, SETTINGS)).noise_adu[0]


# ---- registration and geometry -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dx", "dy", "angle_deg"), [(0.0, 0.0, 0.0), (31.0, -22.0, 1.5), (6.0, 9.0, 180.4), (0, 0, 71)]
)
def test_any_placement_is_found_and_costs_no_light(
    catalogue: Catalogue, reference: Frame, dx: float, dy: float, angle_deg: float
) -> None:
    truth = replace(FIRST, transform=place(CAMERA, dx, dy, angle_deg))
    frame = frame_of(FIELD, truth, 10)
    facts = facts_of(frame, catalogue)
    x, y = truth.transform.apply(catalogue.x, catalogue.y)
    found_x, found_y = facts.transform.apply(catalogue.x, catalogue.y)
    inside = (x > 0) & (y > 0) & (x < 600) & (y < 400)
    assert np.median(np.hypot(found_x - x, found_y - y)[inside]) < 0.15
    assert_scales(series_of([FIRST, truth], [reference, frame]))


def test_a_frame_that_is_registered_already_is_measured_where_it_stands(reference: Frame, catalogue: Catalogue) -> None:
    here, found = identity_facts(reference, catalogue, SETTINGS), facts_of(reference, catalogue)
    assert (here.transform.tx, here.transform.ty, here.transform.rotation_deg) == (0.0, 0.0, 0.0)
    good = (found.flags == StarFlag.OK) & (found.flux[:, 0] > 100 * found.flux_err[:, 0])
    np.testing.assert_allclose(here.flux[good, 0], found.flux[good, 0], rtol=0.01)


def test_thin_cloud_does_not_make_the_catalogue_forget_its_faint_stars(catalogue: Catalogue) -> None:
    """Fluxes are forced at the catalogue's places: also those that this sub alone would not show."""
    facts = facts_of(frame_of(FIELD, clear(transmission=0.25), 11), catalogue)
    assert facts.stars_detected < 0.75 * catalogue.stars_detected
    usable = catalogue.flags == StarFlag.OK
    assert np.isfinite(facts.flux[usable, 0]).mean() > 0.95


# ---- noise, weight, shape ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4, 16])
def test_noise_and_weight_are_right_whatever_the_step_of_the_camera(step: int) -> None:
    camera = replace(CAMERA, egain_e_per_adu=0.25 if step > 1 else 0.8, step_adu=step)
    truths = [clear(camera), clear(camera, transmission=0.6), clear(camera, sky=SkyGlow(level_e_s=30.0))]
    series = shoot(FIELD, truths, 12)
    for index, (truth, facts) in enumerate(zip(truths, series.facts, strict=True)):
        assert facts.noise_adu[0] == pytest.approx(truth.noise_adu(), rel=0.011)
        wanted = (truths[0].noise_adu() / (truth.noise_adu() * series.true_scale(index))) ** 2
        assert series.relations[index].weight[0] == pytest.approx(wanted, rel=0.03)


def test_facts_say_how_large_and_how_round_the_stars_are(catalogue: Catalogue) -> None:
    facts = facts_of(frame_of(FIELD, clear(psf=Psf(4.0, 3.2, ellipticity=0.25, angle_deg=60.0)), 13), catalogue)
    assert facts.fwhm_px == pytest.approx(4.0, rel=0.03)
    assert facts.ellipticity == pytest.approx(0.25, abs=0.03)


# ---- missing pixels, saturation, colour --------------------------------------------------------------


def test_empty_borders_cost_their_stars_only(reference: Frame, second: Frame, catalogue: Catalogue) -> None:
    pixels = second.planes[0].pixels.copy()
    pixels[:30], pixels[:, -45:] = np.nan, np.nan
    bordered = with_pixels(second, pixels)
    whole, cut = series_of([FIRST] * 3, [reference, second, bordered]).relations[1:]
    assert cut.scale[0] == pytest.approx(whole.scale[0], abs=1.5 * whole.scale_err[0])
    assert cut.weight[0] == pytest.approx(whole.weight[0], rel=0.01)
    facts = facts_of(bordered, catalogue)
    x, y = facts.transform.apply(catalogue.x, catalogue.y)
    assert np.isnan(facts.flux[(y < 29) | (x > 556), 0]).all()
    assert np.isfinite(facts.flux[(facts.flags == StarFlag.OK), 0]).all()


def test_saturated_stars_are_dropped_and_bias_nothing() -> None:
    field = replace(field_of(14), flux_e_s=field_of(14).flux_e_s * 8.0)
    series = shoot(field, [clear(), clear(), clear(transmission=0.4)], 14)
    saturated = (series.facts[0].flags & StarFlag.SATURATED) != 0
    assert 3 <= saturated.sum() < 0.5 * len(saturated)
    flux = series.facts[0].flux[:, 0]
    assert np.nanmin(flux[saturated]) > np.nanmedian(flux[~saturated])
    assert_scales(series)


def test_each_colour_has_its_own_scale_noise_and_weight() -> None:
    camera = Camera(width_px=800, height_px=600, bayer="GRBG")
    field = field_of(15, camera, stars=200)
    truths = [clear(camera), clear(camera), clear(camera, transmission=0.6, sky=SkyGlow(level_e_s=16.0))]
    series = shoot(field, truths, 15)
    assert series.catalogue.channels == ("R", "G", "B")
    relation, facts = series.relations[2], series.facts[2]
    for k, channel in enumerate("RGB"):
        truth = truths[2].noise_adu(channel)
        assert facts.noise_adu[k] == pytest.approx(truth, rel=0.02)
        assert abs(relation.scale[k] - series.true_scale(2)) < 4.5 * relation.scale_err[k]
    assert len({round(value, 6) for value in relation.scale}) == 3


def test_fluxes_are_total_fluxes_of_the_planted_stars(catalogue: Catalogue, reference_facts: SubFacts) -> None:
    x, y = FIRST.transform.apply(FIELD.x_px, FIELD.y_px)
    gap = np.hypot(catalogue.x[:, None] - x, catalogue.y[:, None] - y)
    nearest = gap.argmin(axis=1)
    good = (gap.min(axis=1) < 1.0) & (reference_facts.flags == StarFlag.OK)
    good &= reference_facts.flux[:, 0] > 50 * reference_facts.flux_err[:, 0]
    ratio = reference_facts.flux[good, 0] / star_flux_adu(FIELD, FIRST)[nearest[good], 0]
    assert good.sum() > 8
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


# ---- failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 1000.0, 65535.0])
def test_a_frame_without_noise_is_blank(reference: Frame, catalogue: Catalogue, level: float) -> None:
    flat = with_pixels(reference, np.full((400, 600), level))
    with pytest.raises(MeasureFailure) as caught:
        facts_of(flat, catalogue)
    assert caught.value.kind == "blank"


def test_a_frame_that_holds_no_number_is_blank(reference: Frame, catalogue: Catalogue) -> None:
    with pytest.raises(MeasureFailure) as caught:
        facts_of(with_pixels(reference, np.full((400, 600), np.nan)), catalogue)
    assert caught.value.kind == "blank"


@pytest.mark.parametrize("measure", [measure_sub, identity_facts], ids=["raw", "registered"])
def test_a_whiteout_has_no_stars_and_says_how_many(
    catalogue: Catalogue, measure: Callable[[Frame, Catalogue, Measure], SubFacts]
) -> None:
    with pytest.raises(MeasureFailure) as caught:
        measure(frame_of(FIELD, clear(transmission=0.0005), 16), catalogue, SETTINGS)
    assert caught.value.kind == "no_stars"
    assert caught.value.numbers["stars_detected"] < 6


def test_another_field_is_no_match_and_says_how_many(catalogue: Catalogue) -> None:
    with pytest.raises(MeasureFailure) as caught:
        facts_of(frame_of(field_of(17), clear(), 17), catalogue)
    assert caught.value.kind == "no_match"
    assert caught.value.numbers["stars_detected"] > 40
    assert caught.value.numbers["stars_matched"] < 20


# ---- catalogue ---------------------------------------------------------------------------------------


def test_a_new_generation_keeps_every_star_under_its_number_and_adds_behind() -> None:
    cloudy = frame_of(FIELD, clear(transmission=0.15), 18)
    bright = frame_of(FIELD, clear(transform=place(CAMERA, 12.0, -9.0, 3.0)), 19)
    first = catalogue_from(cloudy, SETTINGS)
    facts = facts_of(bright, first)
    grown = catalogue_from(bright, SETTINGS, first, facts.transform)
    assert grown.generation == first.generation + 1
    assert len(grown.x) > 1.3 * len(first.x)
    for name in ("x", "y", "flux", "flags"):
        np.testing.assert_array_equal(getattr(grown, name)[: len(first.x)], getattr(first, name))
    np.testing.assert_array_equal(grown.node_x[: len(first.node_x)], first.node_x)
    again = facts_of(bright, grown)
    old = (facts.flags == 0) & (facts.flux[:, 0] > 50 * facts.flux_err[:, 0])
    np.testing.assert_allclose(again.flux[: len(first.x)][old], facts.flux[old], rtol=0.03)
    new = np.arange(len(grown.x)) >= len(first.x)
    assert np.isfinite(again.flux[new & (again.flags == 0)]).all()


def test_facts_of_two_generations_share_their_common_stars() -> None:
    truths = [clear(transmission=0.15), clear(transform=place(CAMERA, 12.0, -9.0))]
    frames = [frame_of(FIELD, truth, 20 + k) for k, truth in enumerate(truths)]
    first = catalogue_from(frames[0], SETTINGS)
    grown = catalogue_from(frames[1], SETTINGS, first, facts_of(frames[1], first).transform)
    facts = [facts_of(frames[0], first), facts_of(frames[1], grown)]
    zeros = solve([measured_channels(f, CAMERA.egain_e_per_adu)[0] for f in facts])[1]
    reference = Related(1, facts[0], (zeros[0].value,), (zeros[0].err,))
    relation = relate(facts[1], [zeros[1]], reference, grown, -2.0, 1)
    assert relation.scale[0] == pytest.approx(truths[1].scale_against(truths[0]), abs=4.0 * relation.scale_err[0])
    assert np.isfinite(relation.gradient_rms_adu)


def test_measuring_twice_gives_the_same_bits(second: Frame, catalogue: Catalogue) -> None:
    one, two = (measure_sub(second, catalogue, SETTINGS) for _ in range(2))
    for name in ("flux", "flux_err", "flags", "node_sky"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.transform == two.transform
    assert one.noise_adu == two.noise_adu


def test_a_large_sub_is_measured_to_the_same_bits_without_ever_being_floats() -> None:
    camera = Camera(width_px=3200, height_px=2600)
    sky_field = field_of(12, camera, stars=900)
    kept, second = (frame_of(sky_field, clear(camera, transform=place(camera, 4.0 * k, 0.0)), 12 + k) for k in range(2))
    known = catalogue_from(kept, SETTINGS)
    seen = facts_of(second, known)
    assert isinstance(kept.planes[0].light, Counts)
    assert isinstance(second.planes[0].light, Counts)
    floats = replace(second, planes=(Plane("L", second.planes[0].pixels),))
    other = facts_of(floats, known)
    for field in fields(seen):
        np.testing.assert_array_equal(getattr(seen, field.name), getattr(other, field.name), field.name)


def test_blends_do_not_widen_the_stars(second: Frame, catalogue: Catalogue) -> None:
    """A few bright stars with a companion as bright beside them; the others tell how wide stars are."""
    plain = facts_of(second, catalogue)
    pixels = second.planes[0].pixels
    shifted = np.roll(pixels, (0, 5), axis=(0, 1)) - np.float32(np.median(pixels))
    doubled = pixels.copy()
    order = np.argsort(-catalogue.flux[:, 0])[10:18]
    for x, y in zip(*plain.transform.apply(catalogue.x[order], catalogue.y[order]), strict=True):
        box = (slice(max(int(y) - 12, 0), int(y) + 13), slice(max(int(x) - 12, 0), int(x) + 18))
        doubled[box] += shifted[box]
    blended = facts_of(with_pixels(second, doubled), catalogue)
    assert blended.fwhm_px == pytest.approx(plain.fwhm_px, rel=0.02)
