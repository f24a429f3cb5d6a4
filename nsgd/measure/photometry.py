"""Forced photometry in total flux: sums where stars are, corrected by the sub's own curve of growth.

Every catalogue star is summed in the one of six circular apertures (in units of the sub's FWHM) that
gives its least noise; the choice follows from the catalogue, so it is the same in every sub. The
curve of growth of the sub's bright stars turns each sum into total flux, and a Moffat profile fitted
to its outer rings adds the light beyond the largest aperture. Swelling stars thus do not look like
cloud, whatever their shape: defocused and trailed stars have a curve of growth like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nsgd.records import Floats, Pixels

RADII_FWHM = np.array([0.75, 1.0, 1.4, 2.0, 2.8, 4.0])
"""Aperture radii in units of the sub's FWHM."""
GROWTH_STARS = 150
FIELD_PRIOR = 0.03
"""Expected size of the change of a share across the field."""
FIELD_GAIN = 25.0
"""Chi-squared that a change across the field must explain to be believed."""
MAX_BETA, MIN_BETA = 12.0, 1.6

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """Curve of growth: share of the total flux within each aperture."""

    radius_px: Floats
    share: Floats
    """(6,) enclosed share of the flux to infinity."""
    share_err: Floats
    """(6,) relative errors, common to all stars of the sub."""
    stars: int
    field: Floats
    """(6, 5) relative change of the share across the field: u, v, u^2, u v, v^2 with u, v in -1..1."""

    def at(self, aperture: NDArray[np.intp], u: Floats, v: Floats) -> Floats:
        """Enclosed share of stars at field positions u, v for their aperture numbers."""
        terms = np.stack((u, v, u * u - 1 / 3, u * v, v * v - 1 / 3), axis=1)
        return np.asarray(self.share[aperture] * (1.0 + np.einsum("nk,nk->n", self.field[aperture], terms)))


def circle_sums(pixels: Pixels, x: Floats, y: Floats, radius_px: Floats | float) -> Floats:
    """(n,) sums in circles with exact pixel overlap, sky not subtracted, ADU (NaN off the frame)."""
    total, _, _ = sep.sum_circle(pixels, x, y, radius_px, subpix=0)
    off = (x < -0.5) | (y < -0.5) | (x > pixels.shape[1] - 0.5) | (y > pixels.shape[0] - 0.5)
    return np.where(off, np.nan, total)


@dataclass(frozen=True, slots=True, eq=False)
class GrowthStars:
    """Bright, unsaturated stars that show the curve of growth."""

    x: Floats
    y: Floats
    sky_adu: Floats
    foreign: Floats
    """(n, 6) flux of neighbours within each aperture, in units of the star's own, as the catalogue expects it."""


def foreign_light(
    star: tuple[Floats, Floats, Floats], all_stars: tuple[Floats, Floats, Floats], fwhm_px: float
) -> Floats:
    """(n, 6) light of neighbours within each aperture over the star's own flux.

    Parameters
    ----------
    star, all_stars
        x, y and flux (any one unit) of the stars asked about and of all that are known.
    """
    radius = RADII_FWHM * fwhm_px
    tree = cKDTree(np.column_stack(all_stars[:2]))
    out = np.zeros((star[0].size, 6))
    near = tree.query_ball_point(np.column_stack(star[:2]), float(radius[-1] + 1.5 * fwhm_px))
    for k, others in enumerate(near):
        index = np.asarray(others, dtype=np.intp)
        distance = np.hypot(all_stars[0][index] - star[0][k], all_stars[1][index] - star[1][k])
        index, distance = index[distance > 0.7 * fwhm_px], distance[distance > 0.7 * fwhm_px]
        inside = 1.0 / (1.0 + np.exp((distance[:, None] - radius) / (0.3 * fwhm_px)))
        out[k] = (inside * all_stars[2][index][:, None]).sum(axis=0) / max(float(star[2][k]), 1e-9)
    return out


def growth_curve(pixels: Pixels, stars: GrowthStars, fwhm_px: float, noise_adu: float, egain: float) -> Growth:
    """Curve of growth of bright, unsaturated stars whose neighbours' expected light is taken out.

    Parameters
    ----------
    fwhm_px
        Size of the stars of this plane.
    egain
        Electrons per ADU.

    Notes
    -----
    The share between two neighbouring radii is the clipped, noise-weighted mean ratio of their sums; their
    product runs from the largest radius inwards. The outer rings give alpha and beta of a Moffat
    profile (Moffat 1969, A&A 3, 455): share beyond r = (1 + r^2 / alpha^2)^(1 - beta).
    """
    radius = RADII_FWHM * fwhm_px
    area = np.pi * radius**2
    sums = np.stack(
        [circle_sums(pixels, stars.x, stars.y, r) - a * stars.sky_adu for r, a in zip(radius, area, strict=True)],
        axis=1,
    )
    own = sums[:, 3] / (1.0 + stars.foreign[:, 3])
    sums = sums - own[:, None] * stars.foreign
    lonely = stars.foreign[:, 5] < max(0.3, float(np.sort(stars.foreign[:, 5])[min(20, len(own) - 1)]))
    chosen = np.isfinite(sums).all(axis=1) & (sums[:, 3] > 0) & lonely
    sums, flux, foreign = sums[chosen], sums[chosen, 3], stars.foreign[chosen]
    u = 2.0 * stars.x[chosen] / pixels.shape[1] - 1.0
    v = 2.0 * stars.y[chosen] / pixels.shape[0] - 1.0
    ratio, error, field = np.ones(6), np.zeros(6), np.zeros((6, 5))
    for k in range(4, -1, -1):
        sky_part = (area[k + 1] - area[k]) * noise_adu**2
        neighbours = 0.1 * (foreign[:, k + 1] - foreign[:, k]) * flux
        ring_noise = np.sqrt(sky_part + 0.1 * flux / egain + neighbours**2) / flux
        value, sigma, slope = _robust_ratio(sums[:, k], sums[:, k + 1], ring_noise, (u, v))
        ratio[k], error[k] = ratio[k + 1] * value, np.hypot(error[k + 1], sigma)
        field[k] = field[k + 1] + slope
    outside = _moffat_outside(ratio, error)
    return Growth(radius, ratio * (1.0 - outside[0]), np.hypot(error, outside[1]), int(chosen.sum()), field)


def _robust_ratio(
    inner: Floats, outer: Floats, noise: Floats, position: tuple[Floats, Floats]
) -> tuple[float, float, Floats]:
    """Clipped weighted mean of inner / outer, its error, and its relative change over the field (many stars only)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = inner / outer
    keep = np.isfinite(ratio) & (outer > 0)
    slope = np.zeros(5)
    if keep.sum() < 1:
        return float("nan"), float("nan"), slope
    floor = 0.0
    value = float(np.median(ratio[keep]))
    for _ in range(5):
        spread = np.sqrt(noise**2 + floor**2)
        pull = np.abs(ratio - value) / spread
        width = max(1.4826 * float(np.median(pull[keep])), 0.3)
        use = keep & (pull < 3.0 * width)
        weight = np.where(use, 1.0 / spread**2, 0.0)
        value = float((weight * np.where(use, ratio, 0.0)).sum() / weight.sum())
        floor = np.sqrt(max(float(np.median((ratio[use] - value) ** 2) / 0.455 - np.median(noise[use] ** 2)), 0.0))
    number = max(int(use.sum()), 1)
    scatter = np.sqrt(
        float((weight * np.where(use, ratio - value, 0.0) ** 2).sum() / weight.sum()) / max(number - 1, 1)
    )
    error = max(scatter, float(1.0 / np.sqrt(weight.sum()))) / value
    if number >= 40:
        slope = _field_slope(ratio[use] / value - 1.0, weight[use], position[0][use], position[1][use])
    return value, error, slope


def _field_slope(residual: Floats, weight: Floats, u: Floats, v: Floats) -> Floats:
    """Five low-order terms of a residual over the field; zeros unless they beat noise clearly."""
    design = np.stack((u, v, u * u - 1 / 3, u * v, v * v - 1 / 3), axis=1)
    weight = np.minimum(weight, 3.0 * float(np.median(weight)))
    # chi-squared of the residuals about zero is about the number of stars: errors are taken from the scatter
    weight = weight * residual.size / float((weight * residual**2).sum())
    normal = (design * weight[:, None]).T @ design + np.eye(5) / FIELD_PRIOR**2
    projected = (design * weight[:, None]).T @ residual
    slope = np.linalg.solve(normal, projected)
    return np.asarray(slope) if float(slope @ projected) > FIELD_GAIN else np.zeros(5)


def _moffat_outside(ratio: Floats, error: Floats) -> tuple[float, float]:
    """Share of the flux beyond the largest aperture, and its error, from the shares inside it.

    A grid over beta with alpha from the innermost share that the fit uses; the three rings between
    1.0 and 2.8 FWHM decide, with a mild prior at beta = 3.5 so that faint subs stay sane.
    """
    if not np.isfinite(ratio).all():
        return 0.0, 0.01
    r2 = RADII_FWHM**2
    beta = np.geomspace(MIN_BETA, MAX_BETA, 60)[:, None]
    alpha2 = np.geomspace(0.15, 12.0, 120)[None, :]
    inside = 1.0 - (1.0 + r2[:, None, None] / alpha2) ** (1.0 - beta)
    model = inside / inside[5]
    sigma = np.maximum(error, 2e-4)
    chi2 = sum(
        ((model[k] - ratio[k]) / (sigma[k] + (3e-3 if k < 2 else 1e-3 if k < 3 else 0.0))) ** 2 for k in range(1, 5)
    )
    chi2 = chi2 + (np.log(beta / 3.5) / 0.5) ** 2
    probability = np.exp(-0.5 * (chi2 - chi2.min()))
    outside = 1.0 - inside[5]
    mean = float((probability * outside).sum() / probability.sum())
    variance = float((probability * (outside - mean) ** 2).sum() / probability.sum())
    return mean, float(np.sqrt(variance))


def choose_apertures(flux_adu: Floats, fwhm_px: float, noise_adu: float, egain_e_per_adu: float) -> NDArray[np.intp]:
    """(n,) number of the aperture with the least noise for stars of this total flux and this noise.

    A Moffat profile of beta 3 stands for the curve of growth; the true one is measured later.
    """
    share = 1.0 - (1.0 + RADII_FWHM**2 / 0.962) ** -2.0
    variance = (
        np.maximum(flux_adu, 0.0)[:, None] * share / egain_e_per_adu
        + np.pi * (RADII_FWHM * fwhm_px) ** 2 * noise_adu**2
    )
    return np.asarray(np.argmin(variance[:, :5] / share[:5] ** 2, axis=1))


def total_flux(
    pixels: Pixels, x: Floats, y: Floats, sky_adu: Floats, aperture: NDArray[np.intp], growth: Growth
) -> tuple[Floats, Floats]:
    """Total flux of stars and the number of noise pixels behind it.

    Parameters
    ----------
    x, y, sky_adu, aperture
        (n,) plane positions, local sky per pixel, number of the aperture to use.

    Returns
    -------
    flux, pixels
        (n,) ADU; and the noise-equivalent area, so that the sky's part of the error is noise * sqrt(area).
    """
    radius = growth.radius_px[aperture]
    u, v = 2.0 * x / pixels.shape[1] - 1.0, 2.0 * y / pixels.shape[0] - 1.0
    share = growth.at(aperture, np.clip(u, -1, 1), np.clip(v, -1, 1))
    area = np.pi * radius**2
    flux = (circle_sums(pixels, x, y, radius) - area * sky_adu) / share
    return flux, area / share**2
