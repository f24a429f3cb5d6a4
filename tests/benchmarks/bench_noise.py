"""Pixel noise, weight, star size and shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nsgd.measure.recipe import catalogue_from, measure_sub
from nsgd.measure.weight import relative_weight
from nsgd.records import Floats, Plane
from nsgd.simulate import Camera, Psf, SkyField, SkyGlow, SubTruth, raw_camera
from tests.benchmarks.planted import (
    BENCH,
    SETTINGS,
    Row,
    base_sub,
    dithered,
    field_of,
    frame_of,
    measure_night,
)

SIZE = {"width_px": 900, "height_px": 600}


def noise_cases() -> dict[str, tuple[SubTruth, int]]:
    """Subs and their star numbers, by name."""
    plain = base_sub(replace(Camera(), **SIZE))
    cases: dict[str, tuple[SubTruth, int]] = {"plain": (plain, 300)}
    for step, sigma in ((1, 3.0), (1, 10.0), (4, 4.0), (4, 10.0), (16, 10.0), (16, 20.0)):
        egain = np.sqrt(400.0 + 3.5**2) / sigma
        camera = replace(plain.camera, step_adu=step, egain_e_per_adu=float(egain), full_adu=65520)
        sub = replace(plain, camera=camera, exposure_s=20.0, sky=SkyGlow(level_e_s=20.0))
        cases[f"steps of {step} ADU, sigma {sigma:.0f} ADU"] = (sub, 300)
    cases["strong gradient"] = (replace(plain, sky=SkyGlow(8.0, slope_x=0.5, slope_y=-0.3, bump=0.4)), 300)
    cases["3000 stars"] = (plain, 3000)
    cases["sky x10"] = (replace(plain, sky=SkyGlow(80.0)), 300)
    cases["raw, hot pixels, cosmic rays"] = (
        replace(plain, camera=replace(raw_camera(hot_pixels=2000), **SIZE), cosmic_rays=200, satellites=1),
        300,
    )
    cases["colour"] = (replace(plain, camera=replace(raw_camera(bayer="GRBG"), **SIZE)), 300)
    return cases


def run_noise(task: tuple[str, int]) -> list[float]:
    """Measured over true noise, per channel."""
    name, seed = task
    truth, stars = noise_cases()[name]
    rng = np.random.default_rng([BENCH, 21, seed])
    sky_field = field_of(BENCH + seed, truth.camera, stars, nebula=4)
    frame = frame_of(sky_field, truth, rng)
    facts = measure_sub(frame, catalogue_from(frame, SETTINGS), SETTINGS)
    starless = frame_of(*without_stars(sky_field, truth), rng)
    planes = zip(facts.noise_adu, frame.planes, starless.planes, strict=True)
    return [noise / true_noise(truth, plane, empty) for noise, plane, empty in planes]


def without_stars(sky_field: SkyField, truth: SubTruth) -> tuple[SkyField, SubTruth]:
    """The same sky and nebula with nothing sharp in it."""
    camera = replace(truth.camera, hot_pixels=0)
    dark = replace(sky_field, flux_e_s=np.zeros_like(sky_field.flux_e_s))
    return dark, replace(truth, camera=camera, cosmic_rays=0, satellites=0)


def true_noise(truth: SubTruth, plane: Plane, starless: Plane) -> float:
    """Noise of the sky and the nebula, rms over the frame, and the photon noise of the middle pixel's starlight."""
    y, x = np.mgrid[0 : truth.camera.height_px : 8, 0 : truth.camera.width_px : 8]
    sky = truth.background_adu(x.astype(float), y.astype(float), plane.name)
    nebula = float(starless.pixels.mean(dtype=np.float64) - sky.mean())
    starlight = max(middle_mean(plane.pixels) - middle_mean(starless.pixels), 0.0)
    return float(np.sqrt(truth.noise_adu(plane.name) ** 2 + (nebula + starlight) / truth.camera.egain_e_per_adu))


def middle_mean(values: Floats) -> float:
    """Mean of the middle half of the values: a median that steps do not move."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(values[(values >= low) & (values <= high)].mean())


def run_weight(task: tuple[str, int]) -> list[float]:
    """Measured over true weight against sub 0 of a short night."""
    name, seed = task
    truth, _ = noise_cases()["plain"]
    change: dict[str, Any] = {
        "transmission 0.3": {"transmission": 0.3},
        "sky x10": {"sky": SkyGlow(80.0)},
        "FWHM x1.8": {"psf": Psf(fwhm_px=5.8, beta=3.2)},
        "half exposure": {"exposure_s": 30.0},
    }[name]
    rng = np.random.default_rng([BENCH, 22, seed])
    subs = dithered([truth] * 4 + [replace(truth, **change)] * 4, rng)
    night = measure_night(field_of(BENCH + seed, truth.camera, 300), subs, BENCH + seed)
    zeros, facts, truths = night.zeros["L"], night.measured_facts, night.measured_truths
    ratios = []
    for k in range(1, len(facts)):
        scale = zeros[0].value / zeros[k].value
        weight = relative_weight(facts[k].noise_adu[0], scale, facts[0].noise_adu[0])
        true_scale = truths[k].scale_against(truths[0])
        ratios.append(weight / (truths[0].noise_adu() / (truths[k].noise_adu() * true_scale)) ** 2)
    return ratios


def rows(quick: bool, mapper: Any) -> list[Row]:
    """Noise within 1 %, weight within 2.5 %."""
    table = []
    seeds = range(2 if quick else 6)
    for group, names, run, bound in (
        ("noise", list(noise_cases()), run_noise, 0.01),
        ("weight", ["transmission 0.3", "sky x10", "FWHM x1.8", "half exposure"], run_weight, 0.025),
    ):
        results = list(mapper(run, [(name, 40 + seed) for name in names for seed in seeds]))
        for k, name in enumerate(names):
            values = np.concatenate(results[k * len(seeds) : (k + 1) * len(seeds)])
            worst = float(values[np.abs(values - 1.0).argmax()])
            table.append(
                Row(
                    group,
                    f"{group}: {name}",
                    f"within {100 * bound:.1f} %",
                    f"{100 * (values.mean() - 1):+.2f} % (worst {100 * (worst - 1):+.2f})",
                    bool(abs(worst - 1.0) <= bound),
                )
            )
    return table


def run_shape(task: tuple[float, float, float, int]) -> tuple[float, float]:
    """Measured FWHM over the planted one as the pixels show it, and measured ellipticity."""
    fwhm, beta, ellipticity, seed = task
    camera = replace(Camera(), **SIZE)
    truth = base_sub(camera, psf=Psf(fwhm, beta, ellipticity, angle_deg=30.0 + 7 * seed))
    rng = np.random.default_rng([BENCH, 23, seed])
    frame = frame_of(field_of(BENCH + seed, camera, 300), truth, rng)
    facts = measure_sub(frame, catalogue_from(frame, SETTINGS), SETTINGS)
    return facts.fwhm_px, facts.ellipticity


def shape_rows(quick: bool, mapper: Any) -> list[Row]:
    """FWHM and ellipticity within 3 %; any FWHM between the star before and behind the pixels is true."""
    seeds = range(1 if quick else 3)
    plans = [(f, b, e) for f in (2.2, 3.0, 4.5, 7.0) for b, e in ((2.5, 0.0), (4.0, 0.0), (3.0, 0.2), (3.0, 0.45))]
    results = list(mapper(run_shape, [(*plan, seed) for plan in plans for seed in seeds]))
    table = []
    for k, (fwhm, beta, ellipticity) in enumerate(plans):
        mine = np.array(results[k * len(seeds) : (k + 1) * len(seeds)])
        seen = np.hypot(fwhm, 0.68)
        measured = float(mine[:, 0].mean())
        off = 0.0 if fwhm <= measured <= seen else min(measured / fwhm - 1.0, measured / seen - 1.0, key=abs)
        name = f"FWHM {fwhm} px, beta {beta}, ellipticity {ellipticity}"
        table.append(Row("shape", name, "within 3 %", f"{measured:.2f} px ({100 * off:+.1f} %)", abs(off) <= 0.03))
        if ellipticity > 0:
            found = float(mine[:, 1].mean())
            close = abs(found / ellipticity - 1.0)
            table.append(
                Row(
                    "shape",
                    f"ellipticity {ellipticity} at {fwhm} px",
                    "within 3 %",
                    f"{found:.3f} ({100 * (found / ellipticity - 1):+.1f} %)",
                    close <= 0.03,
                )
            )
    return table
