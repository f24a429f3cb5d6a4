"""Relative gradient: the fitted surface against the planted one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nsgd.measure.gradient import fit_surface, node_difference
from nsgd.simulate import Camera, SkyGlow, SubTruth, place
from tests.benchmarks.planted import BENCH, SETTINGS, Row, base_sub, dithered, field_of, measure_night

CAMERA = Camera(width_px=1500, height_px=1000)
OTHERS = (Camera(width_px=1936, height_px=1096), Camera(width_px=3400, height_px=2500))
"""Their sky has other cells, and the larger one is looked at through averages."""
LARGEST = Camera(width_px=6248, height_px=4176)
CASES = (
    "none",
    "plane",
    "bump",
    "plane and bump",
    "vignetting change",
    "after a flip",
    "sky x8 and plane",
    "cloud 0.4",
)


def changed(name: str, camera: Camera) -> SubTruth:
    """A sub whose background differs from the reference's in one way."""
    plain = base_sub(camera)
    plane = SkyGlow(8.0, slope_x=0.25, slope_y=-0.15)
    return {
        "none": plain,
        "plane": replace(plain, sky=plane),
        "bump": replace(plain, sky=SkyGlow(8.0, bump=0.25)),
        "plane and bump": replace(plain, sky=replace(plane, bump=0.25, bump_size=0.2)),
        "vignetting change": replace(plain, camera=replace(camera, vignetting=0.08)),
        "after a flip": replace(plain, sky=plane, transform=place(camera, 9.0, -6.0, rotation_deg=180.4)),
        "sky x8 and plane": replace(plain, sky=replace(plane, level_e_s=64.0)),
        "cloud 0.4": replace(plain, transmission=0.4, sky=SkyGlow(11.0, slope_x=0.1)),
    }[name]


def run_gradient(task: tuple[str, int, int, Camera]) -> tuple[float, float]:
    """Rms and 99th percentile of fitted minus true surface, in units of the sub's normalised pixel noise."""
    name, seed, nebula, camera = task
    rng = np.random.default_rng([BENCH, 31, seed])
    subs = dithered([base_sub(camera)] * 4 + [changed(name, camera)], rng)
    night = measure_night(field_of(BENCH + seed, camera, 500, nebula=nebula), subs, BENCH + seed)
    catalogue, facts, truths = night.catalogue, night.measured_facts, night.measured_truths
    scale = night.zeros["L"][0].value / night.zeros["L"][-1].value
    weights = np.minimum(facts[0].node_fraction, facts[-1].node_fraction).astype(np.float64)
    values = node_difference(facts[-1].node_sky[:, 0], facts[0].node_sky[:, 0], scale)
    size = (camera.width_px, camera.height_px)
    surface = fit_surface(catalogue.node_x, catalogue.node_y, values, weights, SETTINGS.smoothness, size)
    assert surface is not None
    x, y = np.meshgrid(np.linspace(0, size[0] - 1, 75), np.linspace(0, size[1] - 1, 50))
    sub_x, sub_y = truths[-1].transform.apply(x, y)
    common = (sub_x >= 0) & (sub_x < size[0]) & (sub_y >= 0) & (sub_y < size[1])
    true = scale * truths[-1].background_adu(sub_x, sub_y) - truths[0].background_adu(x, y)
    off = (surface.at(x, y) - true)[common] / (scale * truths[-1].noise_adu())
    return float(np.sqrt((off**2).mean())), float(np.percentile(np.abs(off), 99))


def rows(quick: bool, mapper: Any) -> list[Row]:
    """Rms <= 1.5 % and p99 <= 4 % of the pixel noise, without and with nebula in both frames."""
    seeds = range(1 if quick else 4)
    plans = [(name, 0, CAMERA) for name in CASES] + [("plane", 8, CAMERA), ("cloud 0.4", 8, CAMERA)]
    others = OTHERS if quick else (*OTHERS, LARGEST)
    plans += [(name, nebula, camera) for camera in others for name, nebula in (("plane and bump", 0), ("plane", 8))]
    tasks = [(name, 60 + seed, nebula, camera) for name, nebula, camera in plans for seed in seeds]
    results = list(mapper(run_gradient, tasks))
    table = []
    for k, (name, nebula, camera) in enumerate(plans):
        size = f", {camera.width_px} x {camera.height_px}"
        mine = np.array(results[k * len(seeds) : (k + 1) * len(seeds)])
        rms, p99 = float(np.sqrt((mine[:, 0] ** 2).mean())), float(mine[:, 1].mean())
        table.append(
            Row(
                "gradient",
                f"{name}{', with nebula' * bool(nebula)}{size * (camera != CAMERA)}",
                "rms <= 1.5 %, p99 <= 4 %",
                f"{100 * rms:.2f} %, {100 * p99:.2f} %",
                rms <= 0.015 and p99 <= 0.04,
            )
        )
    return table
