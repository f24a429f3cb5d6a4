"""Planted nights for the benchmarks: render, measure with nsgd, and compare with the truth and the photon limit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from nsgd.errors import MeasureFailure
from nsgd.frames.read import read_frame
from nsgd.measure import scale
from nsgd.measure.recipe import catalogue_from, measure_sub
from nsgd.measure.relate import detector_places
from nsgd.records import Catalogue, Floats, Frame, SubFacts
from nsgd.settings import Measure
from nsgd.simulate import (
    Camera,
    Psf,
    SkyField,
    SubTruth,
    paint_stars,
    place,
    render,
    star_flux_adu,
    sub_cards,
    write_sub,
)
from nsgd.walk.fit import solve_channel

SETTINGS = Measure()
BENCH = 90_000
"""Seeds of the benchmarks start here; those of the tests stay below."""
BETA_STRAY = 0.05
"""How far ln beta strays from sub to sub within real nights: by 0.03 to 0.1 on those of three cameras."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, the goal as text, the figure and whether it holds."""

    group: str
    figure: str
    goal: str
    reached: str
    holds: bool | None
    """None = reported without a goal."""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A measured night beside its truth."""

    sky_field: SkyField
    truths: tuple[SubTruth, ...]
    catalogue: Catalogue
    facts: tuple[SubFacts | MeasureFailure, ...]
    frames: tuple[Frame, ...] = ()
    zeros: dict[str, list[scale.ZeroPoint]] = field(default_factory=dict)

    def ratio(self, channel: str) -> tuple[Floats, Floats]:
        """Measured over true light of each sub (free in one common factor), and its relative error."""
        zeros = self.zeros[channel]
        value = np.array([zero.value for zero in zeros])
        truth = np.array([t.clear_light * t.exposure_s for t in self.measured_truths])
        return value / truth, np.array([zero.err for zero in zeros]) / value

    @property
    def measured_truths(self) -> list[SubTruth]:
        return [t for t, f in zip(self.truths, self.facts, strict=True) if isinstance(f, SubFacts)]

    @property
    def measured_facts(self) -> list[SubFacts]:
        return [f for f in self.facts if isinstance(f, SubFacts)]


def frame_of(sky_field: SkyField, truth: SubTruth, rng: np.random.Generator) -> Frame:
    """Render one sub and read it back as the daemon would."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_sub(Path(folder) / "LIGHT" / "sub.fits", render(sky_field, truth, rng), sub_cards(truth))
        return read_frame(path)


def base_sub(camera: Camera, **changes: object) -> SubTruth:
    """A plain clear sub, FWHM 3.2 px."""
    return replace(SubTruth(camera, 1.8e9, psf=Psf(fwhm_px=3.2, beta=3.2)), **changes)  # type: ignore[arg-type]


def dithered(subs: Sequence[SubTruth], rng: np.random.Generator, reach_px: float = 12.0) -> list[SubTruth]:
    """The same subs, a minute apart, each shifted by a random dither; the first stays where it is."""
    moved = []
    for index, sub in enumerate(subs):
        dx, dy = rng.uniform(-reach_px, reach_px, 2) * (index > 0)
        transform = replace(sub.transform, tx=sub.transform.tx + dx, ty=sub.transform.ty + dy)
        moved.append(replace(sub, transform=transform, start_utc_s=sub.start_utc_s + 65.0 * index))
    return moved


def measure_night(sky_field: SkyField, truths: Sequence[SubTruth], seed: int, *, keep_frames: bool = False) -> Planted:
    """Render and measure every sub; the first makes the catalogue, all of them the solution, as in a series."""
    catalogue: Catalogue | None = None
    facts: list[SubFacts | MeasureFailure] = []
    frames = []
    hints = []
    for index, truth in enumerate(truths):
        frame = frame_of(sky_field, truth, np.random.default_rng([seed, index]))
        if catalogue is None:
            catalogue = catalogue_from(frame, SETTINGS)
        try:
            facts.append(measure_sub(frame, catalogue, SETTINGS, hints))
            hints = [facts[-1].transform]
        except MeasureFailure as failure:
            facts.append(failure)
        if keep_frames:
            frames.append(frame)
    assert catalogue is not None
    night = Planted(sky_field, tuple(truths), catalogue, tuple(facts), tuple(frames))
    for k, channel in enumerate(catalogue.channels):
        parts = [
            scale.measured(f.flux[:, k], f.flux_err[:, k], f.flags, f.flux_common_err[k], t.camera.egain_e_per_adu)
            for f, t in zip(night.measured_facts, night.measured_truths, strict=True)
        ]
        places = [detector_places(f, catalogue) for f in night.measured_facts]
        told = [f.wings[k] for f in night.measured_facts]
        night.zeros[channel] = solve_channel(parts, told, places).zeros
    return night


def photon_limits(night: Planted, index: int, channel: int = 0) -> tuple[float, float]:
    """Smallest possible relative error of a sub's light from the stars that nsgd used (Cramer-Rao).

    Positions, sky and true fluxes count as known, and so does the kind of profile; how wide, how elongated, how far
    trailed or out of focus this sub's stars are must come from the sub itself, and beta is known to `BETA_STRAY`
    beforehand, as far as it strays on real nights. Information = sum over stars and pixels of (F d)(F d)' / (F P / gain
    + sigma^2), d being the derivatives of P by ln F and by those figures. The second limit is that of a profile which
    is known exactly, as it is to nobody.
    """
    truth = night.measured_truths[index]
    zero = night.zeros[night.catalogue.channels[channel]][index]
    used = zero.weight > 0
    truth_x, truth_y = night.truths[0].transform.apply(night.sky_field.x_px, night.sky_field.y_px)
    gap, nearest = cKDTree(np.column_stack((truth_x, truth_y))).query(
        np.column_stack((night.catalogue.x[used], night.catalogue.y[used]))
    )
    flux = star_flux_adu(night.sky_field, truth)[nearest[gap < 3.0], channel]
    slopes = profile_slopes(truth.psf, truth.camera)
    empty2 = truth.noise_adu(night.catalogue.channels[channel]) ** 2
    information = np.zeros((len(slopes), len(slopes)))
    for one in flux:
        weighed = slopes * (one**2 / (one * slopes[0] / truth.camera.egain_e_per_adu + empty2))
        information += weighed @ slopes.T
    known = float(1.0 / np.sqrt(information[0, 0]))
    information[1, 1] += 1.0 / BETA_STRAY**2
    return float(np.sqrt(np.linalg.inv(information)[0, 0])), known


@lru_cache(maxsize=64)
def profile_slopes(psf: Psf, camera: Camera) -> Floats:
    """(k, pixels) a star of flux 1, and its change with ln beta, ln FWHM, ellipticity, trail and defocus."""
    step = 0.02
    changes: list[dict[str, tuple[float, float]]] = [
        {"beta": (psf.beta * (1 - step), psf.beta * (1 + step))},
        {"fwhm_px": (psf.fwhm_px * (1 - step), psf.fwhm_px * (1 + step))},
        {"ellipticity": (psf.ellipticity, psf.ellipticity + 2 * step)},
    ]
    changes += [{"trail_px": (psf.trail_px * (1 - step), psf.trail_px * (1 + step))}] * (psf.trail_px > 0)
    changes += [{"donut_px": (psf.donut_px * (1 - step), psf.donut_px * (1 + step))}] * (psf.donut_px > 0)
    rows = [unit_star(psf, camera).ravel()]
    for change in changes:
        ends = [unit_star(replace(psf, **{k: v[end] for k, v in change.items()}), camera).ravel() for end in (0, 1)]  # type: ignore[arg-type]
        rows.append((ends[1] - ends[0]) / (2 * step))
    return np.array(rows)


def unit_star(psf: Psf, camera: Camera, half: int = 24) -> Floats:
    """Pixel-integrated star of flux 1; on every second pixel of both axes for a colour camera's planes."""
    image = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    middle = np.array([half + 0.21]), np.array([half - 0.33])
    paint_stars(image, *middle, np.array([1.0]), replace(psf, corner_growth=0.0), 1e-6)
    return image[::2, ::2].astype(np.float64) if camera.bayer else image.astype(np.float64)


def robust_std(values: Floats) -> float:
    """Standard deviation from the middle 68 % of the values."""
    low, high = np.nanpercentile(values, (15.87, 84.13))
    return float(0.5 * (high - low))


def field_of(seed: int, camera: Camera, stars: int, **changes: object) -> SkyField:
    """A star field for the frame of a camera."""
    from nsgd.simulate import star_field

    return star_field(
        np.random.default_rng([seed, 99]),
        stars=stars,
        width_px=camera.width_px,
        height_px=camera.height_px,
        **changes,  # type: ignore[arg-type]
    )


def turned(sub: SubTruth, angle_deg: float, dx: float = 0.0, dy: float = 0.0) -> SubTruth:
    """The sub with its field turned about the frame's centre and shifted."""
    return replace(sub, transform=place(sub.camera, dx, dy, rotation_deg=angle_deg))
