"""What is planted is what comes out: the simulator is the ruler that everything else is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nsgd.records import Transform
from nsgd.session.almanac import sun_altitude_deg
from nsgd.simulate import (
    Camera,
    Night,
    Psf,
    SkyField,
    SkyGlow,
    SubTruth,
    Veil,
    dark_site,
    describe,
    drip,
    names,
    night,
    paint_stars,
    place,
    raw_camera,
    render,
    star_field,
    star_flux_adu,
    write_night,
)

SMALL = Camera(width_px=300, height_px=200)


def lone_stars(x: list[float], y: list[float], flux_e_s: float, colour: float = 0.0) -> SkyField:
    none = np.zeros(0)
    return SkyField(
        np.array(x), np.array(y), np.full(len(x), flux_e_s), np.full(len(x), colour), none, none, none, none
    )


def empty_field() -> SkyField:
    return lone_stars([], [], 0.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261)


@pytest.mark.parametrize(
    "psf",
    [
        Psf(fwhm_px=1.2, beta=2.5),
        Psf(fwhm_px=3.5, beta=2.5, ellipticity=0.5, angle_deg=30.0),
        Psf(fwhm_px=6.0, beta=4.0, trail_px=5.0, trail_deg=20.0),
        Psf(fwhm_px=3.0, beta=3.0, donut_px=8.0),
    ],
    ids=["undersampled", "elliptical", "trailed", "defocused"],
)
def test_a_bright_star_has_its_planted_flux_to_one_part_in_ten_thousand(psf: Psf) -> None:
    image = np.zeros((1001, 1001), np.float32)
    paint_stars(image, np.array([500.3]), np.array([499.6]), np.array([1e6]), psf, noise_e=20.0)
    assert image.sum(dtype=np.float64) == pytest.approx(1e6, rel=1.2e-4)


def test_pixels_hold_the_integral_of_the_star_even_where_it_is_undersampled() -> None:
    psf = Psf(fwhm_px=1.4, beta=2.8, ellipticity=0.3, angle_deg=25.0)
    image = np.zeros((41, 41), np.float32)
    paint_stars(image, np.array([20.37]), np.array([19.71]), np.array([1e5]), psf, noise_e=0.1)
    fine = (np.arange(41 * 81) + 0.5) / 81 - 0.5
    u, v = fine[None, :] - 20.37, fine[:, None] - 19.71
    cos, sin = np.cos(np.radians(25.0)), np.sin(np.radians(25.0))
    width = 1.4 / (2.0 * np.sqrt(2.0 ** (1 / 2.8) - 1.0))
    along, across = (u * cos + v * sin) * np.sqrt(0.7) / width, (v * cos - u * sin) / np.sqrt(0.7) / width
    density = 1e5 * 1.8 / (np.pi * width**2) * (1.0 + along**2 + across**2) ** -2.8
    truth = density.reshape(41, 81, 41, 81).mean(axis=(1, 3))
    assert np.abs(image - truth).max() < 1e-4 * truth.max()


def test_the_star_is_as_wide_and_as_long_as_planted() -> None:
    psf = Psf(fwhm_px=9.0, beta=3.0, ellipticity=0.4, angle_deg=0.0)
    image = np.zeros((201, 201), np.float32)
    paint_stars(image, np.array([100.0]), np.array([100.0]), np.array([1e6]), psf, noise_e=1.0)
    above = image > 0.5 * image.max()
    assert 2.0 * np.sqrt(above.sum() / np.pi) == pytest.approx(9.0, rel=0.03)
    assert 1.0 - above.any(axis=1).sum() / above.any(axis=0).sum() == pytest.approx(0.4, abs=0.06)


def test_planted_flux_is_recovered_by_plain_sums(rng: np.random.Generator) -> None:
    field = lone_stars([60.0, 150.2, 230.7], [100.4, 99.0, 101.3], 9000.0)
    truth = SubTruth(SMALL, 0.0, psf=Psf(fwhm_px=3.0, beta=4.0), transmission=0.6)
    stars = np.mean([render(field, truth, rng).astype(np.float64) for _ in range(8)], axis=0)
    background = truth.background_adu(np.arange(300)[None, :], np.arange(200)[:, None])
    planted = star_flux_adu(field, truth)[:, 0]
    for x, planted_adu in zip([60, 150, 231], planted, strict=True):
        box = (slice(100 - 40, 100 + 41), slice(x - 40, x + 41))
        assert (stars[box] - background[box]).sum() == pytest.approx(planted_adu, rel=0.004)


def test_empty_pixels_have_the_planted_mean_and_noise(rng: np.random.Generator) -> None:
    for camera in (SMALL, replace(SMALL, egain_e_per_adu=0.06), replace(SMALL, egain_e_per_adu=0.06, step_adu=16)):
        truth = SubTruth(camera, 0.0, exposure_s=10.0)
        pixels = render(empty_field(), truth, rng).astype(np.float64)
        assert pixels.std() == pytest.approx(truth.noise_adu(), rel=0.012)
        assert pixels.mean() == pytest.approx(truth.background_adu(150.0, 100.0), abs=0.02 * truth.noise_adu())


@pytest.mark.parametrize("mean_e", [4.0, 60.0, 400.0])
def test_counting_noise_is_poissonian_down_to_few_electrons(mean_e: float, rng: np.random.Generator) -> None:
    camera = replace(SMALL, read_noise_e=0.0, egain_e_per_adu=1.0 / 64.0)
    truth = SubTruth(camera, 0.0, exposure_s=1.0, sky=SkyGlow(level_e_s=mean_e))
    electrons = (render(empty_field(), truth, rng) - camera.bias_adu) / 64.0
    skewness = ((electrons - mean_e) ** 3).mean() / electrons.std() ** 3
    assert electrons.var() == pytest.approx(mean_e, rel=0.03)
    assert skewness == pytest.approx(mean_e**-0.5, abs=0.035)


def test_a_star_lies_where_the_transform_puts_it(rng: np.random.Generator) -> None:
    transform = place(SMALL, 7.3, -4.2, rotation_deg=181.0)
    truth = SubTruth(SMALL, 0.0, transform=transform, psf=Psf(fwhm_px=3.0))
    pixels = render(lone_stars([170.0], [80.0], 4000.0), truth, rng).astype(np.float64)
    pixels -= np.median(pixels)
    x, y = transform.apply(np.array([170.0]), np.array([80.0]))
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    box = pixels[row - 5 : row + 6, column - 5 : column + 6]
    offset = np.arange(-5, 6)
    assert column + (box.sum(axis=0) @ offset) / box.sum() == pytest.approx(x[0], abs=0.06)
    assert row + (box.sum(axis=1) @ offset) / box.sum() == pytest.approx(y[0], abs=0.06)


def test_a_turn_by_180_degrees_keeps_the_centre_and_swaps_the_corners() -> None:
    turn = place(SMALL, rotation_deg=180.0)
    x, y = turn.apply(np.array([149.5, 0.0]), np.array([99.5, 0.0]))
    assert x == pytest.approx([149.5, 299.0])
    assert y == pytest.approx([99.5, 199.0])
    assert turn.rotation_deg == pytest.approx(180.0)


def test_relative_gradient_is_the_difference_of_the_planted_backgrounds(rng: np.random.Generator) -> None:
    reference = SubTruth(SMALL, 0.0)
    sub = replace(
        reference,
        transmission=0.5,
        sky=SkyGlow(12.0, slope_x=0.3, bump=0.2),
        transform=place(SMALL, 5.0, rotation_deg=180),
    )
    surface = sub.gradient_against(reference)
    first, second = (
        np.mean([render(empty_field(), truth, rng).astype(np.float64) for _ in range(20)], axis=0)
        for truth in (reference, sub)
    )
    boxes = {(60, 50): (60, 50), (200, 120): (200, 120)}
    for x, y in boxes:
        sub_x, sub_y = (round(float(v[0])) for v in sub.transform.apply(np.array([x * 1.0]), np.array([y * 1.0])))
        here = second[sub_y - 15 : sub_y + 16, sub_x - 15 : sub_x + 16].mean()
        there = first[y - 15 : y + 16, x - 15 : x + 16].mean()
        assert sub.scale_against(reference) * here - there == pytest.approx(
            float(surface(np.array(x * 1.0), np.array(y * 1.0))), abs=1.5
        )


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_bayer_cells_carry_their_own_colour(pattern: str, rng: np.random.Generator) -> None:
    camera = replace(SMALL, bayer=pattern)
    truth, star = SubTruth(camera, 0.0), lone_stars([150.0], [100.0], 20000.0, colour=2.0)
    pixels = render(star, truth, rng).astype(np.float64)
    planted = dict(zip("RGB", star_flux_adu(star, truth)[0], strict=True))
    assert planted["R"] > planted["B"]
    for k, letter in enumerate(pattern):
        cell = pixels[k // 2 :: 2, k % 2 :: 2]
        sky = truth.background_adu(np.arange(300)[None, :], np.arange(200)[:, None], letter)[k // 2 :: 2, k % 2 :: 2]
        assert np.median(cell - sky) == pytest.approx(0.0, abs=1.0)
        box = (cell - sky)[30:70, 55:95]
        assert box.sum() == pytest.approx(planted[letter] / 4.0, rel=0.03)


def test_hot_pixels_stay_in_the_sensor_while_the_field_moves(rng: np.random.Generator) -> None:
    camera = replace(raw_camera(), width_px=300, height_px=200, hot_pixels=30)
    first = render(empty_field(), SubTruth(camera, 0.0), rng)
    second = render(empty_field(), SubTruth(camera, 0.0, transform=place(camera, 20.0, 9.0)), rng)
    hot = first > np.median(first) + 800
    assert 10 <= hot.sum() <= 30
    assert (second[hot] > np.median(second) + 400).all()


def test_veils_take_light_where_they_say() -> None:
    u, v = np.linspace(-0.5, 0.5, 51)[None, :], np.linspace(-0.5, 0.5, 31)[:, None]
    assert Veil().at(u, v, 0.66) == pytest.approx(1.0)
    tree = Veil(edge_depth=0.9, edge_at=-0.1, edge_soft=0.2).at(u, v, 0.66)
    assert tree[15, 0] == pytest.approx(0.1, abs=0.01)
    assert tree[15, -1] == pytest.approx(1.0, abs=0.01)
    frost = Veil(centre_depth=0.5).at(u, v, 0.66)
    assert frost[15, 25] == pytest.approx(0.5)
    assert frost[0, 0] > 0.9
    cloud = Veil(patch_depth=0.6, patch_size=0.4).at(u, v, 0.66)
    assert 0.39 < cloud.min() < 0.6 < 0.9 < cloud.max() <= 1.0


def test_stars_outside_the_frame_and_hopeless_light_do_no_harm(rng: np.random.Generator) -> None:
    field = lone_stars([-500.0, 0.2, 299.9, 5000.0], [10.0, 0.1, 199.9, 5000.0], 500.0)
    dark = SubTruth(SMALL, 0.0, transmission=0.0)
    assert np.isfinite(render(field, dark, rng)).all()
    drowned = SubTruth(SMALL, 0.0, sky=SkyGlow(level_e_s=1e5))
    assert (render(field, drowned, rng) == 65535).all()


def test_star_counts_follow_a_power_law(rng: np.random.Generator) -> None:
    field = star_field(rng, stars=3000, width_px=900, height_px=600)
    on_frame = (field.x_px > 0) & (field.x_px < 899) & (field.y_px > 0) & (field.y_px < 599)
    assert on_frame.sum() == pytest.approx(3000, rel=0.1)
    brighter = [(field.flux_e_s > limit).sum() for limit in (20.0, 200.0)]
    assert brighter[0] / brighter[1] == pytest.approx(10**0.75, rel=0.2)


@pytest.mark.parametrize("name", names())
def test_every_night_can_be_rendered(name: str) -> None:
    plan = night(name, width_px=240, height_px=160)
    assert describe(name).endswith(".")
    assert len(plan.subs) >= 20
    for index in (0, len(plan.subs) - 1):
        pixels = plan.pixels(index)
        assert pixels.shape == (160, 240)
        assert pixels.dtype == np.uint16


def digest(plan: Night, index: int) -> str:
    return hashlib.sha256(plan.pixels(index).tobytes()).hexdigest()


def test_the_same_seed_gives_the_same_pixels_in_any_order() -> None:
    size = {"width_px": 240, "height_px": 160}
    first, again = night("demo", 5, **size), night("demo", 5, **size)
    assert [digest(first, k) for k in (0, 3)] == [digest(again, k) for k in (3, 0)][::-1]
    assert digest(first, 0) != digest(night("demo", 6, **size), 0)


def test_the_demo_night_is_clear_then_cloudy_then_clear() -> None:
    light = np.array([sub.transmission for sub in night("demo").subs])
    assert light[:10] == pytest.approx(1.0, abs=0.02)
    assert light[15:25].max() < 0.6
    assert light[-10:] == pytest.approx(1.0, abs=0.02)


def test_files_are_standard_fits_with_the_header_of_a_capture_program(tmp_path: Path) -> None:
    plan = night("bayer", subs=2, width_px=240, height_px=160)
    paths = write_night(plan, tmp_path)
    assert [p.relative_to(tmp_path).parts[:2] for p in paths] == [("2026-11-21", "LIGHT")] * 2
    assert paths[0].name == "2026-11-21_20-00-00_L_-10.00_60.00s_0001.fits"
    with fits.open(paths[1]) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert (hdus[0].data == plan.pixels(1)).all()
    assert (header["IMAGETYP"], header["FILTER"], header["OBJECT"]) == ("LIGHT", "L", "Sim bayer")
    assert header["DATE-OBS"] == "2026-11-21T20:01:05.0000000"
    assert (header["EXPTIME"], header["EGAIN"], header["BAYERPAT"]) == (60.0, 0.8, "RGGB")
    assert header["AIRMASS"] == pytest.approx(plan.subs[1].airmass, abs=1e-5)
    assert paths[0].stat().st_size % 2880 == 0


def test_a_dripped_file_grows_under_its_final_name_header_first(tmp_path: Path) -> None:
    plan = night("demo", subs=1, width_px=240, height_px=160)
    sizes: list[int] = []

    def watch(_: float) -> None:
        sizes.extend(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())

    (path,) = drip(plan, tmp_path, 10.0, sleep=watch)
    assert sizes[0] % 2880 == 0
    assert sizes[0] < 6000
    assert len(set(sizes)) >= 7
    assert sizes == sorted(sizes)
    assert path.read_bytes() == write_night(plan, tmp_path / "at once")[0].read_bytes()


def test_a_live_drip_stamps_each_sub_as_just_ended_and_reports_it(tmp_path: Path) -> None:
    plan = night("demo", subs=3, width_px=240, height_px=160)
    clock = iter([plan.subs[0].start_utc_s + 1000.0 * k for k in range(1, 9)])
    seen: list[Path] = []
    waits: list[float] = []
    paths = drip(plan, tmp_path, 20.0, sleep=waits.append, now=clock.__next__, wrote=seen.append)
    assert seen == paths
    assert sum(waits) == pytest.approx(60.0)
    starts = [fits.getheader(p)["DATE-OBS"] for p in paths]
    assert starts == sorted(set(starts))
    assert starts[0].startswith("2026-11-21T20:15:40")


def test_an_unknown_night_is_refused() -> None:
    with pytest.raises(KeyError):
        night("no such night")


@pytest.mark.parametrize(
    ("change", "truth"),
    [
        (lambda sub: replace(sub, transmission=0.5), 2.0),
        (lambda sub: replace(sub, exposure_s=120.0), 0.5),
        (lambda sub: replace(sub, extinction_mag=1.0), 10**0.4),
    ],
    ids=["cloud", "longer exposure", "lower in the sky"],
)
def test_the_true_scale_makes_up_for_lost_light(change: Callable[[SubTruth], SubTruth], truth: float) -> None:
    reference = SubTruth(SMALL, 0.0, transform=Transform())
    assert change(reference).scale_against(reference) == pytest.approx(truth)


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("hour", [0, 7, 13, 21])
def test_a_live_night_is_dark_whenever_it_is_played(month: int, hour: int) -> None:
    now_utc_s = datetime(2026, month, 21, hour, 30, tzinfo=UTC).timestamp()
    lat_deg, long_deg = dark_site(now_utc_s)
    for later_s in (0.0, 7200.0):
        assert sun_altitude_deg(lat_deg, long_deg, now_utc_s + later_s) < -18.0
