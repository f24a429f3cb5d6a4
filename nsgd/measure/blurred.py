"""Stars that a defocus or the mount blurred: a Moffat spread over the pupil's shadow or along the star's way.

Where the air alone makes a star, its profile is a Moffat's. A blur that the air does not make spreads that Moffat,
wings and all: how far, and what the air did meanwhile, are three numbers, where a profile left free ring by ring is
ten. The sums of the bright stars fix them, whichever pupil or line explains these best (Gauss and Newton's
iteration from what the series' first sub lets expect; each kind's evidence by Laplace's approximation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv

from nsgd.measure.apertures import (
    APERTURES,
    ENCLOSED,
    ENCLOSED_WEIGHT,
    PIXEL_VARIANCE,
    SOFT,
    edges_px,
    hard_radius,
    moffat_scale2,
    outside_share,
    soft_sigma,
)
from nsgd.records import Floats

OBSTRUCTIONS = (0.0, 0.25, 0.5)
"""Radius of the hole in the pupil over the pupil's own, about as refractors, Newtonians and SCTs have it."""
RING_NODES, TURN_NODES, LINE_NODES = 3, 5, 6
"""Places along a radius of the pupil, in a quarter of a turn, and on half of the way."""
SPREAD = np.array([0.15, 0.7, 0.05])
"""How far (in ln) the air's FWHM, the size of the blur and beta may lie from what is expected."""
LOOSE = np.append(1.0, SPREAD**2)
"""Prior variances: of the common factor next to nothing is known."""
LEAST_BLUR = 0.05
"""Of the light's variance, that a blur is expected to make where stars are hardly wider than the sharp ones."""
LEAST_LIGHT = 0.1
"""Of the expected light, below which a fit has run away."""
ROUNDS, STEP, AT_REST, MOST_MOVE, FARTHEST = 8, 1e-3, 1e-3, 0.3, 4.0
"""Of the iteration: steps and moves in ln, and how far it may go from what is expected, in units of `SPREAD`; a fit
that would still move so much is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Blur:
    """A blur of size 1: places with x, y >= 0 that stand for all four quarters, and their weights (sum 1).

    x runs along the stars' long axis.
    """

    x: Floats
    y: Floats
    weight: Floats
    variance: float
    """Along x."""
    along: bool
    """Whether it makes the stars long."""


@dataclass(frozen=True, slots=True, eq=False)
class Sharp:
    """What the stars would be without the blur, and the apertures that they are seen in."""

    fwhm_px: float
    beta: float
    deviation: Floats
    """(11,) share of each ring in the wings and of all beyond, less the Moffat's; 0 nearer."""
    seen_fwhm_px: float
    """Of the blurred light, geometric mean of both axes."""
    aperture_fwhm_px: float
    axes: tuple[float, float]
    """Long and short axis of the apertures, of an ellipse with the area of the unit circle."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Curves of growth that blurs explain."""

    log_like: Floats
    """(n,) log of the evidence."""
    found: Floats
    """(n, 11) share of each soft aperture, of each ring and of all beyond."""
    whole: Floats
    """(n, 4, 11) shares that are expected, and their change with ln FWHM, ln size and ln beta."""
    spread: Floats
    """(n, 11, 11) covariance of the deviations from them."""


def pupil(obstruction: float) -> Blur:
    """Even light of an annulus of outer radius 1."""
    node, weight = np.polynomial.legendre.leggauss(RING_NODES)
    radius = np.sqrt(obstruction**2 + (1.0 - obstruction**2) * 0.5 * (node + 1.0))
    turn = 0.5 * np.pi * (np.arange(TURN_NODES) + 0.5) / TURN_NODES
    x, y = np.outer(radius, np.cos(turn)).ravel(), np.outer(radius, np.sin(turn)).ravel()
    return Blur(x, y, np.repeat(0.5 * weight, TURN_NODES) / TURN_NODES, 0.25 * (1.0 + obstruction**2), False)


def line() -> Blur:
    """Even light from -1 to 1 along x."""
    node, weight = np.polynomial.legendre.leggauss(2 * LINE_NODES)
    half = slice(LINE_NODES, None)
    return Blur(node[half], np.zeros(LINE_NODES), weight[half], 1.0 / 3.0, True)


BLURS = (*map(pupil, OBSTRUCTIONS), line())


def shares(sharp: Sharp, blur: Blur, place: Floats) -> Floats:
    """(n, 11) share in each soft aperture, in each ring and beyond them.

    Parameters
    ----------
    place
        (n, 3) ln of the air's FWHM (pixels), of the size of the blur (pixels) and of beta.
    """
    width, size, beta = np.exp(place).T
    x, y = size[:, None] * blur.x, size[:, None] * blur.y
    soft = _soft_shares(sharp, (x, y), (moffat_scale2(width, beta), beta)) @ blur.weight
    radius = edges_px(hard_radius(sharp.aperture_fwhm_px), sharp.axes, x, y)
    of_place = (slice(None), None, None, None)
    outside = outside_share(radius, width[of_place], beta[of_place], 2.0 * PIXEL_VARIANCE).mean(axis=-1) @ blur.weight
    edges = np.pad(1.0 - outside, ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0)))
    rest = 1.0 - sharp.deviation.sum()  # of the light; the wings' deviation has the other part
    return np.asarray(rest * np.concatenate((soft, np.diff(edges)), axis=1) + sharp.deviation)


def _soft_shares(sharp: Sharp, at_px: tuple[Floats, Floats], moffat: tuple[Floats, Floats]) -> Floats:
    """(n, 3, places) integrals of a Moffat at (n, places) times the soft apertures.

    A Moffat is a sum of Gaussians whose inverse variances follow a gamma distribution.
    """
    alpha2, beta = moffat
    gaussian = alpha2[:, None] / (2.0 * gammaincinv(beta[:, None] - 1.0, ENCLOSED)) + PIXEL_VARIANCE
    gaussian = gaussian[:, None, None, :]
    seen = np.ones(1)
    for at, axis in zip(at_px, sharp.axes, strict=True):
        own = (soft_sigma(sharp.aperture_fwhm_px)[:, None, None] * axis) ** 2
        seen = seen * np.sqrt(own / (own + gaussian)) * np.exp(-0.5 * at[:, None, :, None] ** 2 / (own + gaussian))
    return np.asarray(seen @ ENCLOSED_WEIGHT)


def curves(share: Floats, covariance: Floats, sharp: Sharp, spreads: Floats) -> Curves | None:
    """What each kind of blur makes of the mean shares of bright stars; fits that ran away are left out.

    Parameters
    ----------
    share, covariance
        (10,) free in one common factor, and (10, 10).
    spreads
        (sizes, 11, 11) covariances of the deviations that are tried.

    Returns
    -------
    Curves or None
        None where no fit makes sense.
    """
    parts = [part for blur in BLURS for part in _explained((share, covariance), sharp, blur, spreads)]
    if not parts:
        return None
    return Curves(*map(np.array, zip(*parts, strict=True)))


def _explained(
    mean: tuple[Floats, Floats], sharp: Sharp, blur: Blur, spreads: Floats
) -> Iterator[tuple[float, Floats, Floats, Floats]]:
    """Evidence, shares found, shares expected with their slopes, and covariance, of each size of the deviations."""
    share, covariance = mean
    start = place = _expected(sharp, blur)
    low, high = start - FARTHEST * SPREAD, start + FARTHEST * SPREAD
    high[1] = np.log(_largest_px(sharp, blur))
    for spread in spreads[::-1]:  # the loosest fit leads the others
        inverse = np.linalg.inv(covariance + spread[:APERTURES, :APERTURES])
        for _ in range(ROUNDS):
            whole = _with_slopes(sharp, blur, place)
            found = _solved(share, inverse, whole, place - start)
            if np.abs(found.change).max() < AT_REST:
                break
            place = np.clip(place + np.clip(found.change, -MOST_MOVE, MOST_MOVE), low, high)
        if found.factor < LEAST_LIGHT or np.abs(found.change).max() > MOST_MOVE:
            continue  # a star gives light, and a fit comes to rest
        moved = whole[0] + found.change @ whole[1:] + found.filtered @ spread[:APERTURES] / found.factor
        if (moved[: SOFT + 1] > 0).all():
            yield found.log_like, np.append(moved[:SOFT], np.maximum(moved[SOFT:], 0.0)), whole, spread


def _largest_px(sharp: Sharp, blur: Blur) -> float:
    """Size at which the farthest place lies on the edge of the innermost sharp aperture."""
    return float(
        hard_radius(sharp.aperture_fwhm_px)[0] / np.hypot(blur.x / sharp.axes[0], blur.y / sharp.axes[1]).max()
    )


def _expected(sharp: Sharp, blur: Blur) -> Floats:
    """(3,) ln of the air's FWHM, of the size of the blur and of beta, before the sums are asked."""
    seen_px = sharp.seen_fwhm_px * (sharp.axes[0] if blur.along else 1.0)
    variance_px2 = max(seen_px**2 - sharp.fwhm_px**2, LEAST_BLUR * sharp.fwhm_px**2) / (8.0 * np.log(2.0))
    return np.log([sharp.fwhm_px, np.sqrt(variance_px2 / blur.variance), sharp.beta])


def _with_slopes(sharp: Sharp, blur: Blur, place: Floats) -> Floats:
    """(4, 11) shares, and their change with each figure of `_expected`."""
    plain, *moved = shares(sharp, blur, place + STEP * np.eye(4, 3, -1))
    return np.stack((plain, *((one - plain) / STEP for one in moved)))


class _Solved(NamedTuple):
    change: Floats
    """(3,) of the figures."""
    factor: float
    filtered: Floats
    """(10,) what the fit leaves over, times the inverse covariance."""
    log_like: float


def _solved(share: Floats, inverse: Floats, whole: Floats, off: Floats) -> _Solved:
    """One step to the likeliest factor and figures, as if shares were linear in these; they lie `off` the expected."""
    seen = whole[:, :APERTURES]
    factor = float(seen[0] @ inverse @ share / (seen[0] @ inverse @ seen[0]))
    design = np.concatenate((seen[:1], factor * seen[1:]))
    prior = np.append(0.0, SPREAD**-2)
    normal = design @ inverse @ design.T + np.diag(prior)
    left = share - factor * seen[0]
    change = np.linalg.solve(normal, design @ inverse @ left - prior * np.append(0.0, off))
    left = left - change @ design
    chi2 = left @ inverse @ left + (((off + change[1:]) / SPREAD) ** 2).sum()
    log_volume = np.linalg.slogdet(normal)[1] - np.linalg.slogdet(inverse)[1] + 2.0 * np.log(SPREAD).sum()
    log_like = float(-0.5 * (chi2 + log_volume + np.log(2.0 * np.pi)))
    return _Solved(change[1:], factor + float(change[0]), left @ inverse, log_like)
