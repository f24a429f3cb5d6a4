"""Apertures in units of a sub's FWHM, and which share of a Moffat's light each of them holds.

Three Gaussian ("soft") apertures see the core, seven ellipses with sharp edges the rest; of the sharp ones mostly the
rings between them are spoken of. The stars' Moffat (Moffat 1969, A&A 3, 455) is taken as the pixels show it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from nsgd.records import Floats

SOFT_FWHM = np.array([0.30, 0.45, 0.70])
"""Sigmas of the Gaussian apertures in units of the FWHM: they see the core, and no pixel phase."""
HARD_FWHM = np.array([1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0])
"""Radii of the sharp apertures in units of the FWHM: the outer ones see haloes (haze, dew) round bright stars."""
FORCED = 7
"""Apertures, counted from the first, that single stars may be summed in; the wider ones show the curve."""
SOFT = len(SOFT_FWHM)
APERTURES = SOFT + len(HARD_FWHM)
WITHIN = np.zeros((APERTURES, APERTURES))
WITHIN[:SOFT, :SOFT] = np.eye(SOFT)
WITHIN[SOFT:, SOFT:] = np.tri(APERTURES - SOFT)
"""Sums of soft apertures and rings to sums within apertures."""
LEAK_REACH, LEAK_STEP = 10.0, 0.1
"""How far away a neighbour's light is foreseen, and the step of its table, in FWHM."""
PIXEL_VARIANCE = 1.0 / 12.0
"""Variance per axis of a square pixel, px^2."""
ANGLES = 24
"""Directions in which an aperture's edge is sought from a place."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
ENCLOSED, ENCLOSED_WEIGHT = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS
"""Quadrature over the enclosed share of light, 0..1."""


def edges_px(radius_px: Floats, axes: tuple[float, float], x: Floats, y: Floats) -> Floats:
    """(..., radii, places, angles) distances of elliptical edges from places inside them, evenly all round.

    Parameters
    ----------
    radius_px
        (radii,) geometric mean of both axes.
    axes
        Long and short axis of an ellipse with the area of the unit circle.
    x, y
        (..., places) along the long and the short axis, pixels.
    """
    angle = 2.0 * np.pi * (np.arange(ANGLES) + 0.5) / ANGLES
    (long2, short2), cos, sin = np.square(axes), np.cos(angle), np.sin(angle)
    square = cos**2 / long2 + sin**2 / short2
    half = (x[..., None] * cos / long2 + y[..., None] * sin / short2)[..., None, :, :]
    inside = radius_px[:, None] ** 2 - (x**2 / long2 + y**2 / short2)[..., None, :]
    return np.asarray((np.sqrt(half**2 + square * np.maximum(inside, 0.0)[..., None]) - half) / square)


def light_in_sky(aperture_fwhm_px: float, mask_px: Floats, cell_px: float) -> Floats:
    """(n, 10) what a star's light in each ring adds to the sky that is interpolated under it.

    The sky is the mean of unmasked pixels in cells, interpolated straight between their centres: of places about
    the star it takes what a Gaussian of half a cell would, and beyond the star's mask the wings are in it.
    """
    edge = np.append(0.0, hard_radius(aperture_fwhm_px))
    outside = np.exp(-0.5 * np.maximum(edge, mask_px[:, None]) ** 2 / (0.5 * cell_px) ** 2)
    share = (outside[:, :-1] - outside[:, 1:]) / np.exp(-0.5 * (mask_px / (0.5 * cell_px)) ** 2)[:, None]
    return np.asarray(np.concatenate((np.zeros((mask_px.size, SOFT)), share / areas(aperture_fwhm_px)[SOFT:]), axis=1))


def soft_sigma(fwhm_px: float) -> Floats:
    """Sigmas of the soft apertures, pixels."""
    return SOFT_FWHM * fwhm_px


def hard_radius(fwhm_px: float) -> Floats:
    """Radii of the hard apertures, pixels."""
    return HARD_FWHM * fwhm_px


def moffat_scale2(fwhm_px: Floats, beta: Floats) -> Floats:
    """Moffat alpha^2."""
    return np.asarray(fwhm_px**2 / (4.0 * (2.0 ** (1.0 / beta) - 1.0)))


def _soft_share(sigma2: Floats, fwhm_px: Floats, beta: Floats) -> Floats:
    """Integral of a Moffat times exp(-r^2 / 2 sigma2); the three broadcast."""
    reach = (1.0 - ENCLOSED) ** (-1.0 / (np.asarray(beta)[..., None] - 1.0)) - 1.0
    half = 0.5 * moffat_scale2(fwhm_px, beta) / sigma2
    return np.asarray((ENCLOSED_WEIGHT * np.exp(-half[..., None] * reach)).sum(axis=-1))


def outside_share(radius_px: Floats, fwhm_px: Floats, beta: Floats, variance_px2: float) -> Floats:
    """Share of a Moffat outside circles, blurred to first order: by variance x pi r |dP/dr|; broadcasts."""
    alpha2 = moffat_scale2(fwhm_px, beta)
    x = 1.0 + radius_px**2 / alpha2
    outside = x ** (1.0 - beta)
    blur = variance_px2 * 2.0 * (beta - 1.0) * beta * radius_px**2 / alpha2**2 * outside / (x * x)
    return np.asarray(outside + blur)


def enclosed(radius_px: Floats, fwhm_px: Floats, beta: Floats) -> Floats:
    """Share of a pixelated Moffat within circles that are summed with exact pixel overlap; broadcasts.

    The pixels blur the light twice: they integrate it, and an aperture's edge cuts them.
    """
    return np.asarray(1.0 - outside_share(radius_px, fwhm_px, beta, 2.0 * PIXEL_VARIANCE))


def shares(aperture_fwhm_px: float, fwhm_px: Floats, beta: Floats) -> Floats:
    """(..., 10) share in each soft aperture, in the innermost hard one, and in each ring."""
    fwhm, power = np.asarray(fwhm_px, dtype=np.float64)[..., None], np.asarray(beta, dtype=np.float64)[..., None]
    sigma2 = soft_sigma(aperture_fwhm_px) ** 2
    blurred = sigma2 + PIXEL_VARIANCE
    soft = sigma2 / blurred * _soft_share(blurred, fwhm, power)
    within = enclosed(hard_radius(aperture_fwhm_px), fwhm, power)
    return np.concatenate((soft, within[..., :1], within[..., 1:] - within[..., :-1]), axis=-1)


def areas(aperture_fwhm_px: float) -> Floats:
    """(10,) integral of each soft aperture and area of each ring, pixels."""
    rings = np.diff(np.pi * hard_radius(aperture_fwhm_px) ** 2, prepend=0.0)
    return np.concatenate((2.0 * np.pi * soft_sigma(aperture_fwhm_px) ** 2, rings))


@lru_cache(maxsize=8)
def overlaps(aperture_fwhm_px: float, fwhm_px: float, beta: float) -> tuple[Floats, Floats]:
    """(10, 10) integrals of the products of two apertures, over the sky and over a star's light."""
    sigma2 = soft_sigma(aperture_fwhm_px) ** 2
    radius = np.linspace(0.0, HARD_FWHM[-1] * aperture_fwhm_px, 801)
    middle = 0.5 * (radius[1:] + radius[:-1])
    area = np.pi * np.diff(radius**2)
    alpha2 = float(moffat_scale2(np.array(fwhm_px), np.array(beta)))
    light = np.diff(1.0 - (1.0 + radius**2 / alpha2) ** (1.0 - beta))
    edge = np.concatenate(([0.0], hard_radius(aperture_fwhm_px)))
    rings = (middle >= edge[:-1, None]) & (middle < edge[1:, None])
    views = np.concatenate((np.exp(-0.5 * middle**2 / sigma2[:, None]), rings.astype(np.float64)))
    return (views * area) @ views.T, (views * light) @ views.T


@cache
def neighbour_shares(beta: float) -> Floats:
    """(10, distances) share of a star's light in each soft aperture and ring about a place `LEAK_STEP` FWHM apart.

    Apertures and stars have the same FWHM; a Moffat on a grid is convolved with each aperture.
    """
    place = np.arange(-2.0 * LEAK_REACH, 2.0 * LEAK_REACH + 0.5 * LEAK_STEP, LEAK_STEP)
    radius2 = place[None, :] ** 2 + place[:, None] ** 2
    alpha2 = float(moffat_scale2(np.array(1.0), np.array(beta)))
    light = LEAK_STEP**2 * (beta - 1.0) / (np.pi * alpha2) * (1.0 + radius2 / alpha2) ** -beta
    edges = np.concatenate(([0.0], HARD_FWHM))
    soft = (np.exp(-0.5 * radius2 / sigma**2) for sigma in SOFT_FWHM)
    rings = ((radius2 >= a**2) & (radius2 < b**2) for a, b in pairwise(edges))
    spectrum, middle = fft.rfft2(light), place.size // 2

    def seen(view: NDArray[Any]) -> Floats:
        about = fft.irfft2(spectrum * fft.rfft2(np.fft.ifftshift(view.astype(np.float64))), light.shape)
        return np.asarray(about[middle, middle : middle + round(LEAK_REACH / LEAK_STEP) + 1])

    return np.stack([seen(view) for view in chain(soft, rings)])


def leaks(distance_fwhm: Floats, beta: float) -> Floats:
    """(n, 10) share of a star's light that stars at these distances see in each soft aperture and ring."""
    table = neighbour_shares(round(2.0 * min(max(beta, 2.0), 6.0)) / 2.0)
    place = distance_fwhm / LEAK_STEP
    low = np.minimum(place.astype(np.intp), table.shape[1] - 2)
    part = (place - low)[:, None]
    return np.asarray((1.0 - part) * table[:, low].T + part * table[:, low + 1].T)


def width_slope(aperture_fwhm_px: float, fwhm_px: float, beta: float) -> Floats:
    """(10,) change of the shares with ln FWHM."""
    wider, plain = shares(aperture_fwhm_px, fwhm_px * np.array([1.001, 1.0]), np.array([beta, beta]))
    return np.asarray((wider - plain) / 1e-3)


def whole_shares(aperture_fwhm_px: float, fwhm_px: Floats, beta: Floats) -> Floats:
    """(..., 11) `shares` and the share beyond the last aperture."""
    inside = shares(aperture_fwhm_px, fwhm_px, beta)
    return np.concatenate((inside, 1.0 - inside[..., SOFT:].sum(axis=-1, keepdims=True)), axis=-1)


def shares_and_slope(aperture_fwhm_px: float, fwhm_px: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """(..., 11) `whole_shares` and their change with ln FWHM, of (..., betas) widths."""
    sigma2 = soft_sigma(aperture_fwhm_px) ** 2
    blurred = sigma2 + PIXEL_VARIANCE
    alpha2, power = moffat_scale2(fwhm_px, beta)[..., None], beta[:, None]
    reach = (1.0 - ENCLOSED) ** (-1.0 / (power - 1.0)) - 1.0
    half = 0.5 * alpha2 / blurred
    light = np.exp(-half[..., None] * reach[:, None, :])
    rows = light.reshape(-1, ENCLOSED.size)  # one product, not one for each beta
    soft = sigma2 / blurred * (rows @ ENCLOSED_WEIGHT).reshape(half.shape)
    light *= reach[:, None, :]
    wider = -2.0 * sigma2 / blurred * half * (rows @ ENCLOSED_WEIGHT).reshape(half.shape)
    # as in `enclosed`
    ratio = hard_radius(aperture_fwhm_px) ** 2 / alpha2
    outside, part = (1.0 + ratio) ** (1.0 - power), ratio / (1.0 + ratio)
    blur = 4.0 * PIXEL_VARIANCE * (power - 1.0) * power / alpha2 * part / (1.0 + ratio) * outside
    gone = 2.0 * (power - 1.0) * part * outside + blur * (2.0 * (power + 1.0) * part - 4.0)
    edges = np.concatenate((np.zeros_like(alpha2), 1.0 - outside - blur, np.ones_like(alpha2)), axis=-1)
    moved = np.concatenate((np.zeros_like(alpha2), -gone, np.zeros_like(alpha2)), axis=-1)
    return np.concatenate((soft, np.diff(edges)), axis=-1), np.concatenate((wider, np.diff(moved)), axis=-1)


def cumulated(parts: Floats) -> Floats:
    """Soft apertures as they are, rings summed up to apertures."""
    return np.concatenate((parts[:, :SOFT], np.cumsum(parts[:, SOFT:], axis=1)), axis=1)


def ring_shares(aperture_share: Floats) -> Floats:
    """(n, 10) shares of apertures -> shares of soft apertures and rings."""
    rings = np.diff(aperture_share[:, SOFT:], axis=1, prepend=0.0)
    return np.concatenate((aperture_share[:, :SOFT], rings), axis=1)


def best_apertures(flux_adu: Floats, fwhm_px: float, noise_adu: float, egain_e_per_adu: float) -> NDArray[np.intp]:
    """(n,) number of the aperture with the least noise for stars of this flux, by a Moffat of beta 3.2."""
    sky2, light2 = noise_terms(fwhm_px)
    variance = np.maximum(flux_adu, 0.0)[:, None] / egain_e_per_adu * light2 + noise_adu**2 * sky2
    return np.asarray(np.argmin(variance[:, 1:FORCED], axis=1) + 1)


@lru_cache(maxsize=8)
def noise_terms(fwhm_px: float) -> tuple[Floats, Floats]:
    """(10,) noise pixels of each aperture, and its photon variance over the flux, for total flux."""
    empty, lit = overlaps(fwhm_px, fwhm_px, 3.2)
    share = cumulated(shares(fwhm_px, np.array([fwhm_px]), np.array([3.2])))[0]
    sky2, light2 = np.diag(WITHIN @ empty @ WITHIN.T), np.diag(WITHIN @ lit @ WITHIN.T)
    return sky2 / share**2, light2 / share**2
