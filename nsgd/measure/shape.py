"""Size and shape of a sub's stars: adaptive elliptical moments and the stacked profile of bright stars.

Moments under a Gaussian window that adapts to each star (Bernstein & Jarvis 2002, AJ 123, 583) have the
star's own axis ratio for any elliptical profile; the stacked profile, in units of those moments, gives
the full width at half maximum without assuming one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Light
from nsgd.measure.sky import Mesh, bilinear, fill_gaps
from nsgd.measure.stars import FWHM_PER_SIGMA, StarList, cutouts
from nsgd.records import NAN, Floats, Pixels

SHAPE_STARS = 80
LEAST_WINDOW_PX = 1.0
"""Sigma of the narrowest window on half-size planes: a narrower one feels where in its pixel a star lies."""
MOST_ASTRAY = 0.15
"""Stars whose width strays by more than this (or by three times the stars' scatter) from the median are blends."""
PIXEL_VARIANCE = 1.0 / 12.0
"""A square pixel adds this to each axis of what the optics and the air made, px^2."""
MOST_ROUNDS, SETTLED = 14, 1e-5
"""Windows take the stars' shapes so many times at most, and until none changes by more than this part."""
MOST_LEAP, LEAP_WINDOW_PX = 4.0, 1.1
"""A window takes a star's shape at one leap if the star is at most so many times as large as what is seen of it, and
the window's sigma at least so wide: a narrow one feels where in its pixel the star lies."""
PIXEL_FWHM2 = FWHM_PER_SIGMA**2 * PIXEL_VARIANCE


@dataclass(frozen=True, slots=True)
class Shape:
    """Star size and shape of a sub: medians over its bright, unsaturated stars."""

    fwhm_px: float = NAN
    """Of the light that falls on the sensor (pixel integration taken out)."""
    seen_fwhm_px: float = NAN
    """As the pixels show it; apertures are sized by it."""
    ellipticity: float = NAN
    elongation_deg: float = NAN


Moments = tuple[Floats, Floats, Floats]


def shape_of(
    plane: Light, mesh: Mesh, stars: StarList, saturation_above_sky: float, sites: Light | None = None
) -> Shape:
    """Median FWHM, ellipticity and direction of the bright stars; NaN where fewer than three can be measured.

    Parameters
    ----------
    plane, mesh
        (h, w) pixels and their sky.
    stars
        Brightest first.
    saturation_above_sky
        Stars with a higher peak are left out, ADU.
    sites
        (h, w) plane of one site of each Bayer cell, where `plane` is the sum of all: the sites of a sum lie apart,
        which would make round stars oval. Its pixels are half a cell wide.
    """
    noise = bilinear(fill_gaps(mesh.sigma), stars.x, stars.y, mesh.cell * mesh.bin) * mesh.bin
    fine = np.flatnonzero((stars.peak < 0.8 * saturation_above_sky) & (stars.peak > 20.0 * noise))
    if fine.size < 5:
        fine = np.flatnonzero((stars.peak < 0.9 * saturation_above_sky) & np.isfinite(stars.x))
    chosen = stars.take(fine[:SHAPE_STARS])
    if len(chosen) < 3:
        return Shape()
    start = float(np.clip(np.median(chosen.fwhm_px) / FWHM_PER_SIGMA, 0.6, 15.0))
    half = int(np.ceil(5.0 * start)) + 2
    raw, left, top = cutouts(plane if sites is None else sites, chosen.x, chosen.y, half)
    sky = mesh.at(chosen.x, chosen.y) if sites is None else _border_level(raw)
    pixel_variance = PIXEL_VARIANCE if sites is None else PIXEL_VARIANCE / 4.0
    stamp = raw - sky.astype(np.float32)[:, None, None]
    least = 0.0 if sites is None else LEAST_WINDOW_PX
    x, y, moments = adaptive_moments(stamp, chosen.x - left, chosen.y - top, start, least)
    sound = _sound(moments, half)
    if sound.sum() < 3:
        return Shape()
    moments = (moments[0][sound], moments[1][sound], moments[2][sound])
    sigma = np.sqrt(np.sqrt(moments[0] * moments[1] - moments[2] ** 2))
    width = _profile_fwhm(stamp[sound], (x[sound], y[sound]), moments)
    seen = width * float(np.median(sigma))
    if float(np.median(sigma)) < least:
        moments = _averaged(moments, chosen.x[sound], chosen.y[sound])
    ellipticity, angle = _ellipse(moments, pixel_variance)
    fwhm = float(np.sqrt(max(seen**2 - FWHM_PER_SIGMA**2 * pixel_variance, 0.09 * seen**2)))
    return Shape(fwhm, seen if sites is None else float(np.sqrt(fwhm**2 + PIXEL_FWHM2)), ellipticity, angle)


def _averaged(moments: Moments, x: Floats, y: Floats) -> Moments:
    """Medians of the moments over stars that lie near each other: an undersampled star's alone make it oval."""
    third = [np.argsort(np.argsort(axis, kind="stable"), kind="stable") * 3 // axis.size for axis in (x, y)]
    zone = 3 * third[0] + third[1]
    xx, yy, xy = (np.array([np.median(part[zone == k]) for k in np.unique(zone)]) for part in moments)
    return xx, yy, xy


def _border_level(stamp: Pixels) -> Floats:
    """(n,) median of the outermost pixels of stamps, where the star has faded."""
    border = np.concatenate((stamp[:, 0], stamp[:, -1], stamp[:, 1:-1, 0], stamp[:, 1:-1, -1]), axis=1)
    return np.asarray(np.median(border, axis=1), dtype=np.float64)


def _sound(moments: Moments, half: int) -> NDArray[np.bool_]:
    """Stars whose window found one star, as wide as the others: a blend's light would set the profile."""
    xx, yy, xy = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        single = np.isfinite(xx + yy + xy) & (xx * yy - xy**2 > 1e-3) & (np.maximum(xx, yy) < (0.5 * half) ** 2)
        width = 0.25 * np.log(xx * yy - xy**2)
    if single.sum() < 8:
        return np.asarray(single)
    astray = np.abs(width - np.median(width[single]))
    limit = max(MOST_ASTRAY, 3.0 * 1.4826 * float(np.median(astray[single])))
    return np.asarray(single & (astray <= limit))


def adaptive_moments(
    stamp: Pixels, x: Floats, y: Floats, sigma_px: float, least_window_px: float = 0.0
) -> tuple[Floats, Floats, Moments]:
    """Centroids and covariances under Gaussian windows that take each star's own shape.

    Parameters
    ----------
    stamp
        (n, side, side) sky-free pixels; `x`, `y` starting positions in them.

    Returns
    -------
    x, y, (xx, yy, xy)
        NaN where a window lost its star. At the fixed point the window equals twice the weighted
        covariance, which for a Gaussian star is the star's own; of stars narrower than the narrowest window it is
        taken out of what they show.
    """
    grid = np.arange(stamp.shape[1], dtype=np.float64)
    xx, yy, xy = np.full(x.size, sigma_px**2), np.full(x.size, sigma_px**2), np.zeros(x.size)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for _ in range(MOST_ROUNDS):
            dx, dy = grid - x[:, None], grid - y[:, None]
            extra = np.maximum(least_window_px**2 - np.sqrt(xx * yy - xy**2), 0.0)
            window = (xx + extra, yy + extra, xy)
            weight = _elliptical_window(dx, dy, window) * stamp
            sums = _powers(dy) @ weight @ np.swapaxes(_powers(dx), 1, 2)
            total = sums[:, 0, 0]
            mx, my = sums[:, 0, 1] / total, sums[:, 1, 0] / total
            x, y = x + mx, y + my
            spread = sums[:, 0, 2] / total - mx**2, sums[:, 2, 0] / total - my**2, sums[:, 1, 1] / total - mx * my
            before = xx, yy, xy
            xx, yy, xy = _unwindowed(spread, window, extra)
            bad = (total <= 0) | (xx * yy - xy**2 <= 1e-4) | (xx <= 0)
            xx, yy, xy = (np.where(bad, np.nan, part) for part in (xx, yy, xy))
            change = np.abs(np.stack((xx - before[0], yy - before[1], xy - before[2])))
            if not (change > SETTLED * np.sqrt(xx * yy)).any():
                break
    return x, y, (xx, yy, xy)


def _unwindowed(seen: Moments, window: Moments, extra: Floats) -> Moments:
    """Covariances of stars from those under a Gaussian window.

    Of Gaussians, the inverse covariance seen is the sum of the star's and the window's. Twice what is seen has the
    same fixed point where the window may take the star's shape; it stands in where the star seems far wider.
    """
    det, wide = seen[0] * seen[1] - seen[2] ** 2, window[0] * window[1] - window[2] ** 2
    a, b = seen[1] / det - window[1] / wide, seen[0] / det - window[0] / wide
    c = window[2] / wide - seen[2] / det
    inverse = np.where((a > 0) & (b > 0), a * b - c**2, np.nan)
    star = b / inverse, a / inverse, -c / inverse
    leap = (extra > 0.0) | ((inverse * det > MOST_LEAP**-2) & (wide > LEAP_WINDOW_PX**4))
    xx, yy, xy = (np.where(leap, whole, 2.0 * half) for whole, half in zip(star, seen, strict=True))
    return xx, yy, xy


def _elliptical_window(dx: Floats, dy: Floats, moments: Moments) -> Floats:
    """(n, side, side) Gaussians of the covariances given, at (n, side) distances along both axes."""
    xx, yy, xy = (part[:, None] for part in moments)
    det = xx * yy - xy**2
    exponent = (xy / det * dy)[:, :, None] * dx[:, None, :]
    exponent -= (0.5 * xx / det * dy**2)[:, :, None]
    exponent -= (0.5 * yy / det * dx**2)[:, None, :]
    return np.asarray(np.exp(exponent, out=exponent))


def _powers(d: Floats) -> Floats:
    """(n, 3, side) 1, d and d^2."""
    return np.stack((np.ones_like(d), d, d**2), axis=1)


def _profile_fwhm(stamp: Pixels, centre: tuple[Floats, Floats], moments: Moments) -> float:
    """FWHM in units of the adaptive sigma: a Moffat fitted to the stacked profile out to three sigma."""
    grid = np.arange(stamp.shape[1], dtype=np.float64)
    dx, dy = grid[None, None, :] - centre[0][:, None, None], grid[None, :, None] - centre[1][:, None, None]
    xx, yy, xy = (part[:, None, None] for part in moments)
    radius = np.sqrt((yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / (xx * yy - xy**2))
    near = radius < 1.2
    flux = np.array([s[n].sum() for s, n in zip(stamp, near, strict=True)]) / np.maximum(near.sum(axis=(1, 2)), 1)
    good = flux > 0
    # stars count by their light: a faint or astray one must not set the profile
    light = np.broadcast_to(flux[good][:, None, None], stamp[good].shape).ravel()
    value, where = stamp[good].ravel().astype(np.float64), radius[good].ravel()
    inside = where < 3.0
    bins = np.minimum((where[inside] / 3.0 * 24).astype(int), 23)
    total = np.bincount(bins, weights=light[inside], minlength=24)
    kept = total > 0
    mean_r = np.sqrt(np.bincount(bins, weights=(where**2 * light)[inside], minlength=24)[kept] / total[kept])
    profile = np.bincount(bins, weights=value[inside], minlength=24)[kept] / total[kept]
    count = np.bincount(bins, minlength=24).astype(np.float64)
    return _moffat_width(mean_r, profile, count[kept])


def _moffat_width(radius: Floats, profile: Floats, weight: Floats) -> float:
    """FWHM of the Moffat (grid over beta and alpha, free amplitude) nearest to a profile."""
    beta = np.geomspace(1.6, 12.0, 40)[:, None, None]
    alpha2 = np.geomspace(0.3, 60.0, 160)[None, :, None]
    model = np.exp(-beta * np.log1p(radius**2 / alpha2))
    along, norm = model @ (weight * profile), model**2 @ weight
    misfit = weight @ profile**2 - along**2 / norm
    b, a = np.unravel_index(int(misfit.argmin()), misfit.shape)
    return float(2.0 * np.sqrt(alpha2[0, a, 0] * (2.0 ** (1.0 / beta[b, 0, 0]) - 1.0)))


def _ellipse(moments: Moments, pixel_variance: float) -> tuple[float, float]:
    """Median ellipticity of the stars and the direction they share (NaN where they are round or disagree)."""
    xx, yy, xy = moments[0] - pixel_variance, moments[1] - pixel_variance, moments[2]
    half_sum, difference = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    minor = np.maximum(half_sum - difference, 1e-6)
    ellipticity = 1.0 - np.sqrt(minor / (half_sum + difference))
    angle2 = np.arctan2(2.0 * xy, xx - yy)
    mean_x, mean_y = float(np.mean(ellipticity * np.cos(angle2))), float(np.mean(ellipticity * np.sin(angle2)))
    shared = float(np.degrees(0.5 * np.arctan2(mean_y, mean_x))) if np.hypot(mean_x, mean_y) > 0.03 else NAN
    return float(np.median(ellipticity)), shared
