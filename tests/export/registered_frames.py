"""Simulated sets of calibrated, registered frames whose scale and gradient are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy.io import fits

from nsgd.simulate import Camera, Psf, SkyField, SkyGlow, SubTruth, render, star_field

START_UTC_S = 1_763_856_000.0
CAMERA = Camera(width_px=900, height_px=600)


@dataclass
class RegisteredSet:
    """Frames on disk and what was planted in them."""

    folder: Path
    sky: SkyField
    truths: list[SubTruth] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    borders: list[tuple[slice, slice]] = field(default_factory=list)
    """The part of each frame that holds a picture."""

    def pixels(self, at: int) -> np.ndarray:
        """Pixels as they stand in the file, full scale = 1."""
        with fits.open(self.paths[at]) as units:
            return np.asarray(units[0].data, dtype=np.float32)


def header_of(truth: SubTruth, noise: Sequence[float]) -> fits.Header:
    """What PixInsight leaves in a calibrated, registered frame."""
    header = fits.Header()
    header["IMAGETYP"] = "Light Frame"
    header["OBJECT"] = "M 31"
    header["FILTER"] = truth.filter_name
    header["EXPTIME"] = truth.exposure_s
    header["DATE-OBS"] = datetime.fromtimestamp(truth.start_utc_s, UTC).isoformat(timespec="milliseconds")[:-6]
    header["INSTRUME"] = truth.camera.name
    header["EGAIN"] = truth.camera.egain_e_per_adu
    header["AIRMASS"] = truth.airmass
    for channel, value in enumerate(noise):
        header[f"NOISE{channel:02d}"] = value
    return header


def registered_set(folder: Path, truths: Sequence[SubTruth], *, seed: int = 1, border_px: int = 0) -> RegisteredSet:
    """Render and write a set; `border_px` of zeros stand on two sides that change from frame to frame."""
    rng = np.random.default_rng(seed)
    camera = truths[0].camera
    sky = star_field(rng, stars=400, width_px=camera.width_px, height_px=camera.height_px)
    found = RegisteredSet(folder, sky)
    folder.mkdir(parents=True, exist_ok=True)
    for number, truth in enumerate(truths):
        pixels = render(sky, truth, rng).astype(np.float32) / np.float32(65535.0)
        inside = _inside(number, border_px, camera)
        framed = np.zeros_like(pixels)
        framed[inside] = pixels[inside]
        path = folder / f"M31_{truth.filter_name}_{number + 1:04d}_c_r.fits"
        fits.PrimaryHDU(framed, header_of(truth, [truth.noise_adu() / 65535.0])).writeto(path)
        found.truths.append(truth)
        found.paths.append(path)
        found.borders.append(inside)
    return found


def _inside(number: int, border_px: int, camera: Camera) -> tuple[slice, slice]:
    if not border_px:
        return np.s_[:, :]
    sides = (np.s_[border_px:, border_px:], np.s_[:-border_px, : -2 * border_px], np.s_[:, :])
    return sides[number % 3]


def cloudy_truths(count: int = 9, camera: Camera = CAMERA, filter_name: str = "L") -> list[SubTruth]:
    """Cloud, seeing and a gradient that turns; the first two frames are the clear ones."""
    rng = np.random.default_rng(5)
    truths = []
    for number in range(count):
        cloud = 1.0 if number < 2 else float(rng.uniform(0.45, 1.0))
        truths.append(
            SubTruth(
                camera,
                START_UTC_S + 70.0 * number,
                filter_name=filter_name,
                transmission=cloud,
                psf=Psf(fwhm_px=float(rng.uniform(2.8, 4.0))),
                sky=SkyGlow(
                    level_e_s=8.0 * (1.0 + 0.6 * (1.0 - cloud)),
                    slope_x=float(rng.uniform(-0.3, 0.3)),
                    slope_y=float(rng.uniform(-0.2, 0.2)),
                    bump=float(rng.uniform(0.0, 0.15)),
                    bump_size=0.35,
                ),
            )
        )
    return truths
