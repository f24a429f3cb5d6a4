"""Whole nights: clear-sky rms, raw subs across a flip, the pattern's name, and the real cloud of data/tres1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from nsgd.errors import MeasureFailure, NotASub
from nsgd.frames.read import read_frame
from nsgd.measure import scale
from nsgd.measure.recipe import catalogue_from, measure_sub
from nsgd.records import Floats, Pixels, SubFacts
from nsgd.simulate import Camera, Veil, night
from tests.benchmarks.planted import (
    BENCH,
    SETTINGS,
    Planted,
    Row,
    base_sub,
    dithered,
    field_of,
    measure_night,
    photon_limits,
)

SIZE = {"width_px": 1000, "height_px": 700}
CLEAR_NIGHTS = ("clear", "airmass", "focus", "moonrise", "gradient", "guiding", "satellites", "milkyway", "coarse")
DATA = Path(__file__).parents[3] / "shared" / "data"


def run_night(task: tuple[str, int, int]) -> tuple[Floats, Floats]:
    """Measured over true light of every sub of a scripted night, and its photon limit; first channel."""
    name, seed, subs = task
    plan = night(name, BENCH + seed, subs=subs, **SIZE)
    measured = measure_night(plan.field, plan.subs, BENCH + seed)
    channels = measured.catalogue.channels
    ratios = np.array([measured.ratio(channel)[0] for channel in channels])
    ratios = (ratios / np.median(ratios, axis=1, keepdims=True)).mean(axis=0)
    limits = np.array([photon_limits(measured, k, len(channels) // 2)[1] for k in range(len(ratios))])
    return ratios, limits / np.sqrt(len(channels))


def rows(quick: bool, mapper: Any) -> list[Row]:
    """Clear-sky rms of calibrated nights and of raw ones, across a flip too."""
    subs, seeds = (10, 1) if quick else (40, 2)
    names = (*CLEAR_NIGHTS, "flip")
    results = list(mapper(run_night, [(name, 800 + seed, subs) for name in names for seed in range(seeds)]))
    table = []
    for k, name in enumerate(names):
        mine = results[k * seeds : (k + 1) * seeds]
        ratios = np.array([ratio for ratio, _ in mine])
        limit = float(np.sqrt(np.mean([(lim**2).mean() for _, lim in mine])))
        rms = float((ratios / ratios.mean(axis=1, keepdims=True)).std())
        raw = name in ("flip", "satellites")
        goal = (0.005 if raw else 0.003) if name != "flip" else 0.01
        goal = max(goal, 1.3 * limit)
        note = f"photon limit {100 * limit:.3f} %" + (", raw subs" if raw else "")
        table.append(
            Row("nights", f"clear-sky rms: {name}", f"<= {100 * goal:.2f} %", f"{100 * rms:.3f} %", rms <= goal, note)
        )
        if name == "flip":
            half = ratios.shape[1] // 2
            step = ratios[:, half:].mean(axis=1) / ratios[:, :half].mean(axis=1) - 1.0
            sides = float(np.mean([ratios[:, :half].std(), ratios[:, half:].std()]))
            table.append(
                Row(
                    "nights",
                    "raw subs: rms on one side of the flip",
                    "<= 0.50 %",
                    f"{100 * sides:.3f} %",
                    sides <= 0.005,
                )
            )
            worst = float(np.abs(step).max())
            table.append(
                Row("nights", "raw subs: step across the flip", "<= 1.00 %", f"{100 * worst:.3f} %", worst <= 0.01)
            )
    return table


def veil_of(name: str, rng: np.random.Generator) -> tuple[Veil, float]:
    """A random veil of a kind and the transmission behind it."""
    depth = float(rng.uniform(0.25, 0.7))
    if name == "patchy":
        size = float(rng.uniform(0.25, 0.6))
        return Veil(patch_depth=depth, patch_size=size, patch_seed=int(rng.integers(1 << 30))), 0.9
    if name == "one_side":
        turn = float(rng.choice([0.0, 90.0, 180.0, 270.0]) + rng.normal(0.0, 15.0))
        at, soft = float(rng.uniform(-0.25, 0.15)), float(rng.uniform(0.25, 0.8))
        return Veil(edge_depth=max(depth, 0.4), edge_at=at, edge_soft=soft, edge_deg=turn), 1.0
    if name == "centre":
        return Veil(centre_depth=depth, centre_size=float(rng.uniform(0.15, 0.3))), 1.0
    return Veil(), float(rng.uniform(0.3, 1.0))


def run_pattern(task: tuple[str, int]) -> list[str]:
    """Names that nsgd gives to six subs of one kind."""
    name, seed = task
    rng = np.random.default_rng([BENCH, 41, seed])
    camera = replace(Camera(), **SIZE)
    base = base_sub(camera)
    veiled = []
    for _ in range(6):
        veil, light = veil_of(name, rng)
        veiled.append(replace(base, veil=veil, transmission=light))
    planted = measure_night(field_of(BENCH + seed, camera, 350), dithered([base] * 10 + veiled, rng), BENCH + seed)
    return [pattern_name(planted, k) for k in range(10, len(planted.measured_facts))]


def pattern_name(planted: Planted, index: int) -> str:
    """The name of one sub's pattern, as the relation gives it."""
    zero, facts = planted.zeros["L"][index], planted.measured_facts[index]
    x, y = facts.transform.apply(planted.catalogue.x, planted.catalogue.y)
    u, v = 2.0 * x / (SIZE["width_px"] - 1) - 1.0, 2.0 * y / (SIZE["height_px"] - 1) - 1.0
    return scale.field_pattern(zero.residual, zero.sigma, u, v).name


def pattern_rows(quick: bool, mapper: Any) -> list[Row]:
    """Uniform, patchy, one side, centre: named right in at least 95 of 100 subs."""
    names, seeds = ("uniform", "patchy", "one_side", "centre"), range(1 if quick else 8)
    results = list(mapper(run_pattern, [(name, 900 + seed) for name in names for seed in seeds]))
    table = []
    for k, name in enumerate(names):
        given = [label for part in results[k * len(seeds) : (k + 1) * len(seeds)] for label in part]
        right = sum(label == name for label in given)
        wrong = ", ".join(f"{given.count(w)} {w or 'unnamed'}" for w in sorted(set(given) - {name}))
        table.append(
            Row("pattern", f"{name}", ">= 95 %", f"{right} of {len(given)}", right >= 0.95 * len(given), wrong)
        )
    return table


def real_dark(folder: Path) -> Pixels:
    """Mean of the darks of a folder, about its own level: taken off, it leaves the sky where it was."""
    mean = np.mean([fits.getdata(path).astype(np.float32) for path in sorted(folder.glob("*d.fit"))], axis=0)
    return np.asarray(mean - np.median(mean), np.float32)


def real_facts(folder: Path, step: int, dark: Pixels | None = None) -> list[SubFacts]:
    """Facts of the lights of a folder in name order, each step-th, dark-subtracted where a dark is given."""
    facts: list[SubFacts] = []
    catalogue = None
    for path in sorted(folder.glob("*.fit"))[::step]:
        try:
            frame = read_frame(path)
            if dark is not None:
                frame = replace(frame, planes=(replace(frame.planes[0], light=frame.planes[0].pixels - dark),))
            catalogue = catalogue or catalogue_from(frame, SETTINGS)
            facts.append(measure_sub(frame, catalogue, SETTINGS, [facts[-1].transform] if facts else []))
        except (NotASub, MeasureFailure):
            continue
    return facts


def real_rows(quick: bool, mapper: Any) -> list[Row]:
    """data/tres1: star scatter, scale errors, and two halves of the stars that must agree."""
    folder = DATA / "tres1"
    if not folder.is_dir():
        return [Row("real", "data/tres1", "", "not there: skipped", None)]
    facts, clean = (real_facts(folder, 6 if quick else 1, dark) for dark in (None, real_dark(folder)))
    parts = [scale.measured(f.flux[:, 0], f.flux_err[:, 0], f.flags, 0.0, None) for f in facts]
    _, zeros = scale.solve(parts)
    value = np.array([zero.value for zero in zeros])
    dip = value / np.median(value[: max(10 // (6 if quick else 1), 1)])
    error = float(np.median([zero.err / zero.value for zero in zeros]))
    scatter = float(np.median([zero.scatter for zero in zeros]))
    return [
        Row("real", "data/tres1: lights measured", "90 of 90", f"{len(facts)}", quick or len(facts) == 90),
        Row("real", "data/tres1: median error of the scale", "<= 0.3 %", f"{100 * error:.2f} %", error <= 0.003),
        Row("real", "data/tres1: scatter of the star ratios", "", f"{100 * scatter:.2f} %", None),
        Row(
            "real",
            "data/tres1: deepest dip",
            "about 17 %",
            f"{100 * (1 - dip.min()):.1f} %",
            None,
            f"at light {dip.argmin() + 1}",
        ),
        _halves_row("raw", facts),
        _halves_row("dark-subtracted", clean),
    ]


def _halves_row(name: str, facts: list[SubFacts]) -> Row:
    """Chi-squared per sub of the light that every other star shows against what the others show."""
    parts = [scale.measured(f.flux[:, 0], f.flux_err[:, 0], f.flags, 0.0, None) for f in facts]
    curves = []
    for half in (0, 1):
        keep = np.arange(parts[0].flux.size) % 2 == half
        curves.append(scale.solve([replace(part, usable=part.usable & keep) for part in parts])[1])
    even, odd = (np.array([zero.value for zero in curve]) for curve in curves)
    ratio = even / odd
    variance = sum(np.array([zero.err / zero.value for zero in curve]) ** 2 for curve in curves)
    chi2 = float(np.mean((ratio / np.average(ratio, weights=1.0 / variance) - 1.0) ** 2 / variance))
    return Row("real", f"data/tres1, {name}: chi2 of two halves", "0.8 .. 1.3", f"{chi2:.2f}", 0.8 <= chi2 <= 1.3)
