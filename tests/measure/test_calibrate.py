"""Calibration on the fly: what bias, dark and flat planted is gone, and a master that does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_subs import clear, field_of, frame_of, series_of, with_pixels

from nsgd.errors import MeasureFailure
from nsgd.measure.calibrate import Masters, calibrated
from nsgd.records import Floats, Frame
from nsgd.simulate import Camera, place, raw_camera

RAW = replace(raw_camera(hot_pixels=600), width_px=600, height_px=400, vignetting=0.35)
FIELD = field_of(31)


def flat_light(camera: Camera = RAW) -> Floats:
    x, y = np.arange(camera.width_px)[None, :].astype(float), np.arange(camera.height_px)[:, None].astype(float)
    return camera.throughput(x, y)


def master(sub: Frame, level: Floats | float, **header: object) -> Frame:
    """A master frame without noise, as large as the sub."""
    made = with_pixels(sub, np.broadcast_to(np.asarray(level, float), sub.planes[0].pixels.shape))
    return replace(made, header=replace(sub.header, **header))  # type: ignore[arg-type]


def dark_level(exposure_s: float) -> Floats:
    """Bias, dark current and the sensor's hot pixels."""
    rng = np.random.default_rng([RAW.hot_seed, 1])
    electrons = np.full((400, 600), RAW.dark_e_s * exposure_s)
    rows, columns = (rng.integers(0, n, RAW.hot_pixels) for n in electrons.shape)
    np.add.at(electrons, (rows, columns), 8.0 * rng.lognormal(0.0, 1.5, RAW.hot_pixels) * exposure_s)
    return RAW.bias_adu + electrons / RAW.egain_e_per_adu


@pytest.fixture(scope="module")
def sub() -> Frame:
    return frame_of(FIELD, clear(RAW), 31)


@pytest.fixture(scope="module")
def masters(sub: Frame) -> Masters:
    flat = RAW.bias_adu + 20000.0 * flat_light()
    return Masters(bias=master(sub, RAW.bias_adu), dark=master(sub, dark_level(60.0)), flat=master(sub, flat))


def test_the_sky_is_flat_and_free_of_its_pedestal(sub: Frame, masters: Masters) -> None:
    pixels = calibrated(sub, masters).planes[0].pixels
    sky = 8.0 * 60.0 / RAW.egain_e_per_adu * flat_light().mean()
    blocks = np.array(
        [np.median(block) for row in np.array_split(pixels, 4) for block in np.array_split(row, 4, axis=1)]
    )
    np.testing.assert_allclose(blocks, sky, rtol=0.012)
    raw = sub.planes[0].pixels
    assert np.median(raw[:50, :50]) < 0.9 * np.median(raw[175:225, 275:325])


def test_averages_of_the_raw_pixels_do_not_stay(sub: Frame, masters: Masters) -> None:
    raw = sub.planes[0].pixels
    averaged = replace(sub, planes=(sub.planes[0].with_averages((raw[::2, ::2],)),))
    assert not calibrated(averaged, masters).planes[0].averages


def test_hot_pixels_of_the_dark_are_gone(sub: Frame, masters: Masters) -> None:
    hot = dark_level(60.0) > RAW.bias_adu + 1500.0
    pixels = calibrated(sub, masters).planes[0].pixels
    assert hot.sum() > 50
    assert np.median(sub.planes[0].pixels[hot]) > 2500.0
    assert abs(np.median(pixels[hot]) - np.median(pixels)) < 100.0


def test_a_flat_takes_the_vignetting_out_of_the_star_ratios_across_a_flip(masters: Masters) -> None:
    truths = [clear(RAW), clear(RAW), clear(RAW, transform=place(RAW, 25.0, 18.0, 180.0))]
    raw = [frame_of(FIELD, truth, 40 + k) for k, truth in enumerate(truths)]
    plain = series_of(truths, raw).relations[2]
    flat = series_of(truths, [calibrated(frame, masters) for frame in raw]).relations[2]
    assert flat.star_scatter < plain.star_scatter
    assert flat.scale[0] == pytest.approx(1.0, abs=4.0 * flat.scale_err[0])
    assert flat.gradient_rms_adu < 0.5 * plain.gradient_rms_adu


def test_a_dark_of_another_exposure_is_scaled_about_the_bias(sub: Frame, masters: Masters) -> None:
    long = master(sub, dark_level(300.0), exposure_s=300.0)
    wanted = calibrated(sub, replace(masters, flat=None)).planes[0].pixels
    scaled = calibrated(sub, replace(masters, dark=long, flat=None)).planes[0].pixels
    np.testing.assert_allclose(scaled, wanted, atol=0.5)


def test_a_master_stored_as_zero_to_one_is_brought_to_the_sub(sub: Frame, masters: Masters) -> None:
    assert masters.dark is not None
    unit = replace(with_pixels(masters.dark, masters.dark.planes[0].pixels / sub.full_scale_adu), full_scale_adu=1.0)
    wanted = calibrated(sub, Masters(dark=masters.dark)).planes[0].pixels
    np.testing.assert_allclose(calibrated(sub, Masters(dark=unit)).planes[0].pixels, wanted, atol=0.1)


def test_the_saturation_level_moves_with_the_pedestal(sub: Frame) -> None:
    assert calibrated(sub, Masters(bias=master(sub, 500.0))).saturation_adu == sub.saturation_adu - 500.0


def test_dead_pixels_of_the_flat_are_missing_afterwards(sub: Frame) -> None:
    light = 20000.0 * flat_light()
    light[10, 20] = 3.0
    pixels = calibrated(sub, Masters(flat=master(sub, light))).planes[0].pixels
    assert np.isnan(pixels[10, 20])
    assert np.isnan(pixels).sum() == 1


@pytest.mark.parametrize(
    ("kind", "header", "said"),
    [
        ("bias", {"binning": 2}, "the master bias has binning 2, this sub 1"),
        ("bias", {"gain": 200.0}, "the master bias has gain 200.0, this sub 100.0"),
        ("dark", {"gain": 0.0}, "the master dark has gain 0.0, this sub 100.0"),
        ("dark", {"ccd_temp_c": -2.0}, "the master dark has temperature -2.0 C, this sub -10.0 C"),
        ("dark", {"exposure_s": 300.0}, "the master dark has 300 s, this sub 60 s; name a matching dark, or a bias"),
        ("flat", {"binning": 3}, "the master flat has binning 3, this sub 1"),
    ],
)
def test_a_master_that_does_not_fit_is_refused_with_a_sentence(
    sub: Frame, kind: str, header: dict[str, object], said: str
) -> None:
    wrong = master(sub, 500.0, **header)
    with pytest.raises(MeasureFailure) as caught:
        calibrated(sub, Masters(**{kind: wrong}))
    assert caught.value.kind == "calibration"
    assert said in caught.value.sentence


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_a_master_of_another_size_or_pattern_is_refused(sub: Frame, kind: str) -> None:
    small = frame_of(FIELD, clear(replace(RAW, width_px=500)), 32)
    colour = frame_of(FIELD, clear(replace(RAW, bayer="RGGB")), 33)
    for other, word in ((small, "500x400 mono"), (colour, "600x400 RGGB")):
        with pytest.raises(
            MeasureFailure, match=f"the master {kind} has size or pattern {word}, this sub 600x400 mono"
        ):
            calibrated(sub, Masters(**{kind: other}))


def test_a_master_of_another_colour_order_is_refused() -> None:
    here, there = (frame_of(FIELD, clear(replace(RAW, bayer=bayer)), 34) for bayer in ("RGGB", "GRBG"))
    with pytest.raises(MeasureFailure, match="has size or pattern 600x400 GRBG, this sub 600x400 RGGB"):
        calibrated(here, Masters(dark=there))


def test_a_flat_of_another_gain_or_temperature_is_as_good(sub: Frame) -> None:
    other = master(sub, 20000.0 * flat_light(), gain=0.0, ccd_temp_c=15.0, exposure_s=2.0)
    assert np.isfinite(calibrated(sub, Masters(flat=other)).planes[0].pixels).all()


def test_the_masters_themselves_are_left_as_they_were(sub: Frame, masters: Masters) -> None:
    before = [m.planes[0].pixels.copy() for m in (masters.bias, masters.dark, masters.flat) if m]
    raw = sub.planes[0].pixels.copy()
    calibrated(sub, masters)
    for m, pixels in zip((masters.bias, masters.dark, masters.flat), before, strict=True):
        assert m is not None
        np.testing.assert_array_equal(m.planes[0].pixels, pixels)
    np.testing.assert_array_equal(sub.planes[0].pixels, raw)
