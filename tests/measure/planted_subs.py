"""Small frames whose truth is known, read back as the daemon reads them, and what is measured in them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nsgd.frames.read import read_frame
from nsgd.measure import scale
from nsgd.measure.recipe import catalogue_from, measure_sub
from nsgd.measure.relate import Related, measured_channels, relate
from nsgd.records import Catalogue, Frame, Pixels, Relation, SubFacts
from nsgd.settings import Measure
from nsgd.simulate import Camera, Psf, SkyField, SubTruth, render, star_field, sub_cards, write_sub

SETTINGS = Measure()
CAMERA = Camera(width_px=600, height_px=400)
PSF = Psf(fwhm_px=3.2, beta=3.2)


def field_of(seed: int, camera: Camera = CAMERA, stars: int = 150, nebula: int = 0) -> SkyField:
    size = {"width_px": camera.width_px, "height_px": camera.height_px}
    return star_field(np.random.default_rng([seed, 9]), stars=stars, nebula=nebula, **size)


def clear(camera: Camera = CAMERA, **changes: object) -> SubTruth:
    """A plain clear sub."""
    return replace(SubTruth(camera, 1.8e9, psf=PSF), **changes)  # type: ignore[arg-type]


def frame_of(sky_field: SkyField, truth: SubTruth, seed: int) -> Frame:
    """Render one sub, write it, read it."""
    pixels = render(sky_field, truth, np.random.default_rng([seed, 10]))
    with tempfile.TemporaryDirectory() as folder:
        return read_frame(write_sub(Path(folder) / "LIGHT" / "sub.fits", pixels, sub_cards(truth)))


def with_pixels(frame: Frame, *planes: Pixels) -> Frame:
    """The frame with other numbers in its planes."""
    changed = tuple(replace(p, light=np.asarray(q, np.float32)) for p, q in zip(frame.planes, planes, strict=True))
    return replace(frame, planes=changed)


def times(frame: Frame, factor: float) -> Frame:
    """The frame in other units: every number `factor` times as large."""
    header = replace(frame.header, egain_e_per_adu=(frame.header.egain_e_per_adu or 1.0) / factor)
    other = with_pixels(frame, *(plane.pixels * np.float32(factor) for plane in frame.planes))
    return replace(other, header=header, saturation_adu=frame.saturation_adu * factor)


def facts_of(frame: Frame, catalogue: Catalogue) -> SubFacts:
    return measure_sub(frame, catalogue, SETTINGS)


@dataclass(frozen=True, eq=False)
class Series:
    """Measured subs of one field; the first made the catalogue and is the reference."""

    truths: tuple[SubTruth, ...]
    catalogue: Catalogue
    facts: tuple[SubFacts, ...]
    smoothness: float = -2.0

    @cached_property
    def relations(self) -> list[Relation]:
        """Every sub related to the first, against the solution of them all."""
        subs = [
            measured_channels(facts, truth.camera.egain_e_per_adu)
            for facts, truth in zip(self.facts, self.truths, strict=True)
        ]
        fits = [scale.solve([sub[k] for sub in subs])[1] for k in range(len(subs[0]))]
        zeros = [[fit[n] for fit in fits] for n in range(len(subs))]
        first = Related(1, self.facts[0], tuple(z.value for z in zeros[0]), tuple(z.err for z in zeros[0]))
        return [
            relate(facts, zero, first, self.catalogue, self.smoothness, 1)
            for facts, zero in zip(self.facts, zeros, strict=True)
        ]

    def true_scale(self, index: int) -> float:
        return self.truths[index].scale_against(self.truths[0])


def series_of(truths: Sequence[SubTruth], frames: Sequence[Frame]) -> Series:
    """Measure frames of one field."""
    catalogue = catalogue_from(frames[0], SETTINGS)
    return Series(tuple(truths), catalogue, tuple(facts_of(frame, catalogue) for frame in frames))


def shoot(sky_field: SkyField, truths: Sequence[SubTruth], seed: int) -> Series:
    """Render and measure subs of one field."""
    return series_of(truths, [frame_of(sky_field, truth, 100 * seed + k) for k, truth in enumerate(truths)])
