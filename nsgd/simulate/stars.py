"""Stars: where they are, how bright, and how a telescope spreads them over the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats, Floats32

BATCH_PIXELS = 1 << 17
"""Stamps are computed together up to this many pixels, so that they stay in the cache."""

RADII_PX = tuple(int(r) for r in np.unique(np.round(5 * 1.18 ** np.arange(28))))


@dataclass(frozen=True, slots=True)
class Psf:
    """Elliptical Moffat star, optionally trailed or out of focus.

    `fwhm_px` is the geometric mean of both axes before the pixels integrate it; angles run in
    degrees from +x towards +y.
    """

    fwhm_px: float = 3.5
    beta: float = 3.0
    ellipticity: float = 0.0
    """1 - b/a"""
    angle_deg: float = 0.0
    trail_px: float = 0.0
    """Length over which the mount smeared the star."""
    trail_deg: float = 0.0
    donut_px: float = 0.0
    """Outer radius of the defocused pupil, its inner radius is 0.4 of that; 0 = in focus."""
    corner_growth: float = 0.0
    """Relative growth of the FWHM from the centre to the corners (field curvature)."""

    def offsets(self) -> tuple[Floats, Floats, Floats]:
        """Points that the Moffat is spread over: dx, dy in pixels and their weights (sum 1)."""
        dx, dy, weight = np.zeros(1), np.zeros(1), np.ones(1)
        if self.donut_px > 0.0:
            dx, dy, weight = _annulus(self.donut_px, self.fwhm_px)
        if self.trail_px > 0.0:
            along, share = np.polynomial.legendre.leggauss(int(np.ceil(2.0 * self.trail_px / self.fwhm_px)) + 3)
            along = 0.5 * self.trail_px * along
            angle = np.radians(self.trail_deg)
            dx = (dx[:, None] + along * np.cos(angle)).ravel()
            dy = (dy[:, None] + along * np.sin(angle)).ravel()
            weight = (weight[:, None] * 0.5 * share).ravel()
        return dx, dy, weight

    def missing_beyond(self, radius_px: float) -> float:
        """Part of the light outside a circle: (1 + r^2/a^2)^(1 - beta), the Moffat's integral to infinity."""
        width = self.fwhm_px / moffat_fwhm(self.beta)
        return float((1.0 + (radius_px / width) ** 2) ** (1.0 - self.beta))


@dataclass(frozen=True, slots=True, eq=False)
class SkyField:
    """Stars and nebula in field coordinates (pixels of an untouched sub); reaches beyond the frame.

    `flux_e_s` (n,) is what the camera collects through clear air, electrons a second at white;
    `colour` (n,) is B - R in magnitudes. The nebula is a sum of round Gaussians with peaks in e/s/px.
    """

    x_px: Floats
    y_px: Floats
    flux_e_s: Floats
    colour: Floats
    nebula_x_px: Floats
    nebula_y_px: Floats
    nebula_sigma_px: Floats
    nebula_e_s: Floats

    def channel_flux(self, channel: str) -> Floats:
        """Flux of every star in one colour channel or filter, e-/s (n,)."""
        tilt, share = CHANNELS.get(channel, (0.0, 1.0))
        return np.asarray(share * self.flux_e_s * 10.0 ** (0.2 * tilt * self.colour))


CHANNELS: dict[str, tuple[float, float]] = {
    "L": (0.0, 1.0),
    "R": (1.0, 0.32),
    "G": (0.0, 0.36),
    "B": (-1.0, 0.30),
    "Ha": (1.0, 0.03),
    "OIII": (-0.3, 0.03),
    "SII": (1.1, 0.025),
}
"""Per channel: how it leans to red (+1) or blue (-1), and its share of white light."""


def star_field(
    rng: np.random.Generator,
    *,
    stars: int = 300,
    width_px: int = 900,
    height_px: int = 600,
    flux_e_s: tuple[float, float] = (8.0, 20000.0),
    nebula: int = 0,
) -> SkyField:
    """Scatter stars with a realistic luminosity function, N(> flux) ~ flux^-0.75, over and around a frame.

    `stars` is the mean number that falls on the frame; the field is a square that holds the frame at
    any rotation and dither. `flux_e_s` gives the faintest and brightest flux, `nebula` the number of blobs.
    """
    half = 0.5 * float(np.hypot(width_px, height_px)) + 0.06 * width_px
    total = round(stars * (2.0 * half) ** 2 / (width_px * height_px))
    centre_x, centre_y = 0.5 * (width_px - 1), 0.5 * (height_px - 1)
    faint, bright = flux_e_s
    shallowest = (faint / bright) ** 0.75
    flux = faint * rng.uniform(shallowest, 1.0, total) ** (-1.0 / 0.75)
    return SkyField(
        x_px=centre_x + rng.uniform(-half, half, total),
        y_px=centre_y + rng.uniform(-half, half, total),
        flux_e_s=flux,
        colour=rng.normal(0.9, 0.5, total),
        nebula_x_px=centre_x + rng.normal(0.0, 0.22 * width_px, nebula),
        nebula_y_px=centre_y + rng.normal(0.0, 0.22 * height_px, nebula),
        nebula_sigma_px=height_px * rng.uniform(0.02, 0.15, nebula),
        nebula_e_s=rng.uniform(0.3, 2.0, nebula),
    )


def moffat_fwhm(beta: float) -> float:
    """FWHM of a Moffat of width a = 1: 2 sqrt(2^(1/beta) - 1)."""
    return float(2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))


def paint_stars(image: Floats32, x: Floats, y: Floats, flux: Floats, psf: Psf, noise_e: float) -> None:
    """Add pixel-integrated stars to an image (h, w), or (channels, h, w) with flux (n, channels).

    `flux` is the integral to infinity; a stamp ends where what is left out is a tenth of the star's own
    photon error, at most 1/200 and at least 1/20,000 of it. `noise_e` is the noise of an empty pixel.
    """
    planes = image if image.ndim == 3 else image[None]
    fluxes = flux if flux.ndim == 2 else flux[:, None]
    height, width = planes.shape[1:]
    radius = _stamp_radius(fluxes.max(axis=1), psf, noise_e)
    inside = (x > -radius) & (x < width + radius) & (y > -radius) & (y < height + radius) & (radius > 0)
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    far2 = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (centre @ centre)
    fwhm = psf.fwhm_px * (1.0 + psf.corner_growth * far2)
    for stamp_px in np.unique(radius[inside]):
        group = np.flatnonzero(inside & (radius == stamp_px))
        for part in _batches(group, int(stamp_px)):
            stamps = _stamps(x[part], y[part], fwhm[part], psf, int(stamp_px))
            _add(planes, stamps, x[part], y[part], fluxes[part])


def _annulus(outer_px: float, fwhm_px: float) -> tuple[Floats, Floats, Floats]:
    """Even cover of the out-of-focus pupil by points closer than half a FWHM."""
    rings = max(2, int(np.ceil(1.2 * outer_px / fwhm_px)) + 1)
    edges = outer_px * np.linspace(0.4, 1.0, rings + 1)
    dx, dy, weight = [], [], []
    for inner, outer in pairwise(edges):
        mean = 0.5 * (inner + outer)
        angle = np.arange(n := int(np.ceil(4.0 * np.pi * mean / fwhm_px)) + 6) * 2.0 * np.pi / n
        dx.append(mean * np.cos(angle))
        dy.append(mean * np.sin(angle))
        weight.append(np.full(n, (outer**2 - inner**2) / n))
    share = np.concatenate(weight)
    return np.concatenate(dx), np.concatenate(dy), share / share.sum()


def _stamp_radius(flux: Floats, psf: Psf, noise_e: float) -> Floats:
    """Stamp radius per star, pixels, from a short list of radii; 0 for stars without light."""
    photon_error = np.sqrt(np.maximum(flux, 0.0) + 8.0 * psf.fwhm_px**2 * noise_e**2)
    missing = np.clip(0.1 * photon_error / np.maximum(flux, 1e-9), 5e-5, 5e-3)
    width = psf.fwhm_px / np.sqrt(1.0 - psf.ellipticity) * (1.0 + psf.corner_growth) / moffat_fwhm(psf.beta)
    needed = width * np.sqrt(missing ** (1.0 / (1.0 - psf.beta)) - 1.0) + psf.donut_px + 0.5 * psf.trail_px + 1.0
    ladder = np.array(RADII_PX, dtype=np.float64)
    radius = ladder[np.minimum(np.searchsorted(ladder, needed), len(ladder) - 1)]
    return np.where(flux > 0.0, radius, 0.0)


def _batches(group: NDArray[np.intp], radius: int) -> Iterator[NDArray[np.intp]]:
    size = max(1, BATCH_PIXELS // (2 * radius + 1) ** 2)
    for start in range(0, len(group), size):
        yield group[start : start + size]


def _stamps(x: Floats, y: Floats, fwhm: Floats, psf: Psf, radius: int) -> Floats32:
    """Unit-flux stamps (n, 2r+1, 2r+1) about the pixel nearest to each star."""
    dx, dy, weight = psf.offsets()
    side = np.arange(-radius, radius + 1)
    reach = float(np.abs([dx, dy]).max()) + 1.5 * float(fwhm.max()) / np.sqrt(1.0 - psf.ellipticity)
    core = min(radius, int(np.ceil(reach + 1.0)))
    inner = slice(radius - core, radius + core + 1)
    total = np.zeros((len(x), len(side), len(side)), np.float32)
    for shift_x, shift_y, share in zip(dx, dy, weight, strict=True):
        off_x = (side[None, None, :] - (x - np.round(x) + shift_x)[:, None, None]).astype(np.float32)
        off_y = (side[None, :, None] - (y - np.round(y) + shift_y)[:, None, None]).astype(np.float32)
        form = _Form(fwhm, psf)
        stamp = form.far(off_x, off_y)
        stamp[:, inner, inner] = form.near(off_x[:, :, inner], off_y[:, inner, :])
        total += np.float32(share) * stamp
    return total


class _Form:
    """A Moffat f = n (1 + u)^-beta with u = A x^2 + 2 B x y + C y^2, one row per star."""

    def __init__(self, fwhm: Floats, psf: Psf) -> None:
        axis_ratio = np.sqrt(1.0 - psf.ellipticity)
        width = fwhm / moffat_fwhm(psf.beta)
        major, minor = (width / axis_ratio) ** -2, (width * axis_ratio) ** -2
        cos, sin = np.cos(np.radians(psf.angle_deg)), np.sin(np.radians(psf.angle_deg))
        self.beta = np.float32(psf.beta)
        self.norm = _column((psf.beta - 1.0) / (np.pi * width**2))
        self.xx = _column(major * cos**2 + minor * sin**2)
        self.yy = _column(major * sin**2 + minor * cos**2)
        self.xy = _column((major - minor) * cos * sin)

    def value(self, x: Floats32, y: Floats32) -> tuple[Floats32, Floats32]:
        """f and 1 + u at points."""
        one_u = 1.0 + self.xx * x * x + (2.0 * self.xy * x) * y + self.yy * y * y
        return self.norm * np.exp(-self.beta * np.log(one_u)), one_u

    def far(self, x: Floats32, y: Floats32) -> Floats32:
        """Pixel integral away from the core: f + (1/24) Laplacian of f."""
        value, one_u = self.value(x, y)
        slope2 = 4.0 * ((self.xx * x + self.xy * y) ** 2 + (self.xy * x + self.yy * y) ** 2)
        bend = 2.0 * (self.xx + self.yy)
        return np.asarray(value * (1.0 + self.beta / 24.0 / one_u * ((self.beta + 1.0) * slope2 / one_u - bend)))

    def near(self, x: Floats32, y: Floats32) -> Floats32:
        """Pixel integral in the core by Gauss-Legendre points (5 x 5, exact to the 9th order)."""
        nodes, weights = np.polynomial.legendre.leggauss(5)
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
        for node_y, weight_y in zip(0.5 * nodes, 0.5 * weights, strict=True):
            for node_x, weight_x in zip(0.5 * nodes, 0.5 * weights, strict=True):
                value, _ = self.value(x + np.float32(node_x), y + np.float32(node_y))
                total += np.float32(weight_x * weight_y) * value
        return total


def _column(values: Floats) -> Floats32:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def _add(planes: Floats32, stamps: Floats32, x: Floats, y: Floats, fluxes: Floats) -> None:
    """Add stamps times their fluxes to every plane, cut at the frame's edges."""
    height, width = planes.shape[1:]
    radius = stamps.shape[1] // 2
    lows = np.round(np.stack([x, y])).astype(np.int64) - radius
    for k, (low_x, low_y) in enumerate(lows.T):
        rows = slice(max(0, low_y), min(height, low_y + 2 * radius + 1))
        columns = slice(max(0, low_x), min(width, low_x + 2 * radius + 1))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            continue
        stamp = stamps[k, rows.start - low_y : rows.stop - low_y, columns.start - low_x : columns.stop - low_x]
        for plane, flux in zip(planes, fluxes[k], strict=True):
            plane[rows, columns] += np.float32(flux) * stamp
