"""Registration: hard cases with a known transform, and lists that have no match at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nsgd.errors import MeasureFailure
from nsgd.measure.recipe import catalogue_from, measure_sub
from nsgd.records import Transform
from nsgd.simulate import Camera, Psf, SubTruth, place, raw_camera
from tests.benchmarks.planted import BENCH, SETTINGS, Row, base_sub, field_of, frame_of

SIZE = {"width_px": 900, "height_px": 600}
KINDS = (
    "any angle", "flip", "80 % of stars hidden", "Milky Way", "satellites, hot pixels", "few stars",
    "large shift", "trailed", "defocused", "colour", "no true match", "hot pixels only",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One registration and what came of it."""

    kind: str
    matched: bool
    offset_px: float
    """Largest error of the transform over the frame's common part; NaN without a match."""
    residual_px: float
    should_match: bool
    sentence: str = ""


def plan(kind: str, seed: int) -> tuple[SubTruth, SubTruth, int, int]:
    """Reference, sub, number of stars and the sub's own field seed of one case."""
    rng = np.random.default_rng([BENCH, KINDS.index(kind), seed])
    camera = replace(raw_camera(bayer="RGGB") if kind == "colour" else Camera(), **SIZE)
    if kind in ("satellites, hot pixels", "hot pixels only"):
        camera = replace(raw_camera(hot_pixels=1500), **SIZE)
    reference = base_sub(camera)
    stars = {"Milky Way": 3500, "few stars": 25}.get(kind, 220)
    shift = rng.uniform(-40.0, 40.0, 2)
    angle = float(rng.normal(0.0, 0.3))
    sub = reference
    if kind == "any angle":
        angle = float(rng.uniform(-180.0, 180.0))
    elif kind == "flip":
        angle = 180.0 + float(rng.normal(0.0, 1.0))
    elif kind == "80 % of stars hidden":
        sub = replace(sub, transmission=float(rng.uniform(0.06, 0.1)), sky=replace(sub.sky, level_e_s=14.0))
    elif kind == "satellites, hot pixels":
        sub = replace(sub, satellites=4, cosmic_rays=300)
    elif kind == "large shift":
        shift = np.array([rng.choice([-1, 1]) * 360.0, rng.uniform(-150.0, 150.0)])
    elif kind == "trailed":
        sub = replace(sub, psf=replace(sub.psf, trail_px=float(rng.uniform(6.0, 14.0)), trail_deg=30.0))
    elif kind == "defocused":
        sub = replace(sub, psf=Psf(fwhm_px=3.0, donut_px=float(rng.uniform(5.0, 9.0))))
    elif kind == "hot pixels only":
        sub = replace(sub, transmission=0.0)
    sub = replace(sub, transform=place(camera, float(shift[0]), float(shift[1]), rotation_deg=angle))
    return reference, sub, stars, seed + (1000 if kind == "no true match" else 0)


def run_case(task: tuple[str, int]) -> Case:
    """Catalogue from the clear sub, registration of the hard one without any hint but the identity."""
    kind, seed = task
    reference, sub, stars, own_seed = plan(kind, seed)
    sky = field_of(BENCH + seed, reference.camera, stars)
    other = sky if own_seed == seed else field_of(BENCH + own_seed, reference.camera, stars)
    rng = np.random.default_rng([BENCH, seed, 5])
    catalogue = catalogue_from(frame_of(sky, reference, rng), SETTINGS)
    should = kind not in ("no true match", "hot pixels only")
    try:
        facts = measure_sub(frame_of(other, sub, rng), catalogue, SETTINGS, [Transform()])
    except MeasureFailure as failure:
        return Case(kind, False, float("nan"), float("nan"), should, f"{failure.kind}: {failure.sentence}")
    x, y = np.meshgrid(np.linspace(0, 899, 19), np.linspace(0, 599, 13))
    true_x, true_y = sub.transform.apply(x, y)
    common = (true_x >= 0) & (true_x < 900) & (true_y >= 0) & (true_y < 600)
    found_x, found_y = facts.transform.apply(x, y)
    error = np.hypot(found_x - true_x, found_y - true_y)[common]
    return Case(kind, True, float(np.sqrt((error**2).mean())), facts.residual_px, should)


def rows(quick: bool, mapper: object) -> list[Row]:
    """At least 200 cases: success by kind, error of the transform, false matches."""
    each = 1 if quick else 20
    tasks = [(kind, seed) for kind in KINDS for seed in range(each)]
    cases = list(mapper(run_case, tasks))  # type: ignore[operator]
    table = []
    for kind in KINDS:
        mine = [case for case in cases if case.kind == kind]
        good = [case for case in mine if case.matched == case.should_match and not case.offset_px > 1.0]
        bad = next(
            (case.sentence or f"transform off by {case.offset_px:.1f} px" for case in mine if case not in good), ""
        )
        goal = "all match" if mine[0].should_match else "none matches"
        table.append(Row("registration", kind, goal, f"{len(good)} of {len(mine)}", len(good) == len(mine), bad))
    matched = [case for case in cases if case.matched and case.should_match]
    plain = [
        case
        for case in matched
        if case.kind not in ("80 % of stars hidden", "few stars", "large shift", "trailed", "defocused")
    ]
    offset = float(np.median([case.offset_px for case in plain]))
    residual = float(np.percentile([case.residual_px for case in plain], 95))
    worst = max(matched, key=lambda case: case.offset_px)
    table.append(
        Row(
            "registration", "transform error, median rms over the frame", "<= 0.1 px", f"{offset:.3f} px", offset <= 0.1
        )
    )
    table.append(
        Row("registration", "residual of bright stars, 95 %", "<= 0.1 px", f"{residual:.3f} px", residual <= 0.1)
    )
    table.append(
        Row(
            "registration",
            "largest transform error of a match",
            "< 1 px",
            f"{worst.offset_px:.2f} px",
            worst.offset_px < 1.0,
            worst.kind,
        )
    )
    return table
