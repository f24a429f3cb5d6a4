"""Mean shares of light in each aperture, of a sub's bright stars: what the curve of growth (`growth`) is fitted to.

A star's flux is unknown, neighbours hide in its rings, the sky under it is a little wrong: stars of many brightnesses,
weighted by how well they follow their mean, tell all of it apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from nsgd.measure.apertures import APERTURES, HARD_FWHM, SOFT, WITHIN, areas, overlaps, width_slope
from nsgd.records import Floats

EDGE_SCATTER = np.array([1.3e-3, 4e-4, 1e-4, 2e-5, 2e-5, 2e-5])
"""Relative scatter of the sums within sharp apertures by the star's place in its pixel, at a FWHM of 3.2 px."""
PLAIN = SOFT + 4
"""Apertures before this one hold most of a star's light and little of anything else."""
LEAST_SCATTER = 1e-5
LEAST_COMPANY = 0.004
"""Part of a star's light that an unseen neighbour must shed into one ring to count as one."""
MOST_MISFIT = 2.2
"""A star whose reduced chi-squared about the mean curve is higher loses weight: it is no single star."""
SKY_BIAS = 0.015
"""Error of the sky that all stars may share, in units of the pixel noise; the faint ones show how large it is. Of real
subs of four cameras it is 0.012."""
ROUNDS, FIRST_ROUNDS = 7, 4
"""In which the mean shares settle; and those that show the field and the light in the sky, after which they are found
anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Bright:
    """Sums of the bright stars that show the curve, and what their noise is made of."""

    sums: Floats
    """(n, 10) sky and neighbours taken out, ADU."""
    neighbour_var: Floats
    """(n, 10) ADU^2"""
    into_sky: Floats
    """(n, 10) what light in each ring adds to the sky under its own star, ADU for each ADU of the ring's light."""
    pixel_var: float
    sky_var: Floats
    """(n,) variance of the sky level under each star, ADU^2."""
    egain_e_per_adu: float
    aperture_fwhm_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """Mean shares of the bright stars (free in one common factor)."""

    share: Floats
    covariance: Floats
    """(10, 10)"""
    flux: Floats
    """(n,) ADU"""
    left: Floats
    """(n, 10) what the mean does not explain, ADU."""
    inverse: Floats
    """(n, 10, 10) inverse covariance of each star's sums."""
    variance: Floats
    """(n, 10) of each sum alone, as noise and foreseen neighbours make it, ADU^2."""
    sky: float
    """What the sky under all stars was taken too low by, ADU."""
    sky_err: float


def mean_shares(bright: Bright, start: Floats, fwhm_px: float, beta: float, rounds: int = ROUNDS) -> Mean:
    """Combine stars of unknown flux; neighbours that were not foreseen lose weight, ring by ring and star by star.

    A scatter of the apertures and of the stars' widths about the mean (by the place in the pixel, by what the optics
    do to the field, by companions) is found from the stars and added to their noise.
    """
    area = areas(bright.aperture_fwhm_px)
    empty, lit = overlaps(bright.aperture_fwhm_px, fwhm_px, beta)
    fixed = empty * bright.pixel_var
    fixed[np.diag_indices(APERTURES)] *= 1.0 + 1e-9
    slope = width_slope(bright.aperture_fwhm_px, fwhm_px, beta)
    # stars run along the last axis: all of them are worked on at once
    seen, neighbour_var = np.ascontiguousarray(bright.sums.T), np.ascontiguousarray(bright.neighbour_var.T)
    share, damp, sky = _seen_shares(bright, start), np.ones_like(seen), 0.0
    scatter = _scatter_covariance(_least_scatter2(fwhm_px), share, slope)
    flux = np.maximum(seen[SOFT - 1] / share[SOFT - 1], 1e-9)
    noises = np.stack((fixed, np.outer(area, area), lit))
    for step in range(rounds):
        amount = np.stack((np.ones_like(flux), bright.sky_var, flux / bright.egain_e_per_adu))
        sums = seen - sky * area[:, None]
        if step < rounds - 2:
            found = scatter2((sums / flux).T, (noises, (amount / flux**2).T), flux, share, slope)
            scatter = _scatter_covariance(np.maximum(found, _least_scatter2(fwhm_px)), share, slope)
        own = np.diagonal(noises, axis1=1, axis2=2).T @ amount
        known = _combined(np.concatenate((noises, scatter[None])), np.concatenate((amount, flux[None] ** 2)))
        known[_DIAGONAL] += neighbour_var + (damp - 1.0) * own
        inverse = inverses(known)
        filtered = _times(inverse, share)
        flux = np.maximum((filtered * sums).sum(axis=0) / (share @ filtered), 1e-9)
        left = sums - flux * share[:, None]
        damp = _damping(left, own + flux**2 * np.diag(scatter)[:, None])
        if step == 0:
            # outliers are told from what is expected, before one of them can draw the mean to itself
            continue
        trust = _trust(left, inverse)
        fresh, covariance = _shares_and_sky((seen, area, bright.pixel_var), (inverse, trust), share, flux)
        share, sky = fresh[:-1] * (share[SOFT - 1] / fresh[SOFT - 1]), float(fresh[-1])
    sky_err = float(np.sqrt(covariance[-1, -1]))
    inverse = np.ascontiguousarray(np.moveaxis(inverse * trust, -1, 0))
    return Mean(share, covariance[:-1, :-1], flux, left.T, inverse, (own + neighbour_var).T, sky, sky_err)


_DIAGONAL = np.diag_indices(APERTURES)


def _combined(kinds: Floats, amount: Floats) -> Floats:
    """(10, 10, n) sums of some (kinds, 10, 10) covariances, of each of which a star has its own (kinds, n) amount."""
    return np.asarray((kinds.reshape(len(kinds), -1).T @ amount).reshape(APERTURES, APERTURES, -1))


def _times(matrices: Floats, vector: Floats) -> Floats:
    """(10, n) products of (10, 10, n) symmetric matrices with a vector, the same or (10, n) one for each."""
    if vector.ndim == 1:
        return np.asarray((vector @ matrices.reshape(APERTURES, -1)).reshape(APERTURES, -1))
    return np.asarray((matrices * vector).sum(axis=1))


def inverses(matrices: Floats) -> Floats:
    """Inverses of (k, k, n) positive definite matrices, made in their place: Gauss and Jordan's, of all n at once."""
    step = np.empty_like(matrices)
    for k in range(len(matrices)):
        pivot = 1.0 / matrices[k, k]
        column = matrices[:, k].copy()
        column[k], matrices[:, k], matrices[k, k] = 0.0, 0.0, 1.0
        matrices[k] *= pivot
        matrices[:k, k], matrices[k + 1 :, k] = 0.0, 0.0
        matrices -= np.multiply(column[:, None], matrices[k], out=step)
    return matrices


def _seen_shares(bright: Bright, start: Floats) -> Floats:
    """(10,) median shares of the brightest stars, or the ones to start with where there are few."""
    most = np.argsort(-bright.sums[:, SOFT - 1], kind="stable")[: max(8, len(bright.sums) // 3)]
    within = bright.sums[most, SOFT:PLAIN].sum(axis=1)
    if most.size < 8 or not (within > 0).all():
        return start
    seen = np.median(bright.sums[most] / within[:, None], axis=0) * start[SOFT:PLAIN].sum()
    return np.asarray(np.where(seen > 0.1 * start, seen, start))


_APART = np.linalg.inv(WITHIN)
_PAIRS = np.triu_indices(APERTURES, 1)
_OF_PAIR = np.eye(APERTURES)[_PAIRS[0]] + np.eye(APERTURES)[_PAIRS[1]]


def scatter2(part: Floats, noise: tuple[Floats, Floats], flux: Floats, share: Floats, slope: Floats) -> Floats:
    """Scatter of single stars about their mean shares that noise does not explain.

    It is what the place in a pixel, an aberration or a companion does. Only ratios of two apertures tell it, since a
    star's flux is free: the scatter of every pair is the sum of both apertures' own and of how far a star's width
    draws them apart.

    Parameters
    ----------
    part, flux
        (n, 10) sums over the flux, and (n,) the flux, which only says which stars are bright.
    noise
        (kinds, 10, 10) covariances and (n, kinds) how much of each a star has, in units of its flux squared.
    share, slope
        (10,) mean shares and their change with ln FWHM.

    Returns
    -------
    ndarray
        (11,) squared relative scatter of each sum within an aperture, and of ln FWHM; zeros of fewer than 8 stars.
    """
    bright = np.argsort(-flux, kind="stable")[: max(8, flux.size // 3)]
    if bright.size < 8:
        return np.zeros(APERTURES + 1)
    within = WITHIN @ share
    seen = (part[bright] @ WITHIN.T / within).T
    error = WITHIN @ noise[0] @ WITHIN.T / np.outer(within, within)
    one, other = _PAIRS
    apart = seen[one] - seen[other]
    expected = (noise[1][bright] @ (error[:, one, one] + error[:, other, other] - 2.0 * error[:, one, other])).T
    apart -= _medians(apart)[:, None]
    excess = np.maximum(_medians(apart**2 - 0.455 * expected) / 0.455, 0.0)
    along = WITHIN @ slope / within
    design = np.concatenate((_OF_PAIR, ((along[one] - along[other]) ** 2)[:, None]), axis=1)
    weight = 1.0 / (excess + _medians(expected))
    return np.asarray(nnls(design * weight[:, None], excess * weight)[0])


def _medians(values: Floats) -> Floats:
    """(k,) medians of (k, n) rows, NaN where a value is: of short rows in a third of the time of numpy's."""
    ordered = np.sort(values, axis=1)
    middle = values.shape[1] // 2
    median = ordered[:, middle] if values.shape[1] % 2 else 0.5 * (ordered[:, middle - 1] + ordered[:, middle])
    return np.where(np.isnan(ordered[:, -1]), np.nan, median)


def _scatter_covariance(scatter2: Floats, share: Floats, slope: Floats) -> Floats:
    """(10, 10) of the soft apertures and rings of a star of flux 1."""
    each = _APART * (np.sqrt(scatter2[:-1]) * (WITHIN @ share))
    return np.asarray(each @ each.T + scatter2[-1] * np.outer(slope, slope))


def _least_scatter2(fwhm_px: float) -> Floats:
    """(11,) squared relative scatter that the place in a pixel makes."""
    edges = EDGE_SCATTER * (3.2 / fwhm_px) ** 2
    return np.concatenate((np.full(SOFT, LEAST_SCATTER), edges, np.full(2, LEAST_SCATTER))) ** 2


def own_sky_restored(bright: Bright, flux: Floats, share: Floats) -> Bright:
    """The sums without what the stars' own wings add to the sky under them, for shares of apertures and rings."""
    lost = flux * (bright.into_sky @ share)
    return replace(bright, sums=bright.sums + lost[:, None] * areas(bright.aperture_fwhm_px))


def _shares_and_sky(
    seen: tuple[Floats, Floats, float], weight: tuple[Floats, Floats], share: Floats, flux: Floats
) -> tuple[Floats, Floats]:
    """(11,) mean shares and the error of the sky that all stars share (ADU), and their (11, 11) covariance.

    Stars of many brightnesses tell both apart, whatever the flux of each may be: faint ones hold the sky's error,
    bright ones the shares. Of stars all alike only what is known of the sky beforehand does.

    Parameters
    ----------
    seen
        (10, n) sums, areas of the apertures and variance of a pixel.
    weight
        (10, 10, n) inverse covariances, and (n,) weights of the stars.
    """
    (sums, area, pixel_var), (inverse, trust) = seen, weight
    light = _times(inverse, share)
    alike = light / (share @ light)
    # what a star's own flux, which is free, takes up is no information; the shares' scale is held where it is
    of_sky = _times(inverse, area) - alike * (area @ light)
    of_sums = _times(inverse, sums) - alike * (light * sums).sum(axis=0)
    information: Floats = np.empty((APERTURES + 1, APERTURES + 1))
    told: Floats = np.empty(APERTURES + 1)
    information[:-1, :-1] = (inverse.reshape(-1, flux.size) @ (trust * flux**2)).reshape(APERTURES, APERTURES)
    information[:-1, -1] = information[-1, :-1] = of_sky @ (trust * flux)
    information[-1, -1] = area @ of_sky @ trust + 1.0 / (SKY_BIAS**2 * pixel_var)
    told[:-1] = of_sums @ (trust * flux) + light @ (trust * flux**2)
    told[-1] = area @ of_sums @ trust
    covariance = np.asarray(np.linalg.inv(information))
    return covariance @ told, covariance


def with_company(mean: Mean) -> NDArray[np.bool_]:
    """(n,) stars whose rings out to the fifth hold light that no list foresees: a neighbour lost in their wings."""
    ring = slice(SOFT + 1, SOFT + 5)
    part, err = mean.left[:, ring] / mean.flux[:, None], np.sqrt(mean.variance[:, ring]) / mean.flux[:, None]
    return np.asarray(((part > LEAST_COMPANY) & (part > 4.0 * err)).any(axis=1))


def departures(mean: Mean, fwhm_px: float) -> Floats:
    """(n, 10) by how much each star's shares depart from the curve, in units of its flux.

    They are shrunk to what is beyond their noise: by how far the stars differ among themselves, or by the star's own
    excess where that is the larger.
    """
    part, noise2 = mean.left / mean.flux[:, None], mean.variance / mean.flux[:, None] ** 2
    noise2 = noise2 + np.diag(_scatter_covariance(_least_scatter2(fwhm_px), mean.share, np.zeros(APERTURES)))
    usual2 = np.maximum(np.median(part**2 - 0.455 * noise2, axis=0) / 0.455, 0.0)
    excess2 = np.maximum(part**2 - noise2, usual2)
    return np.asarray(part * excess2 / (excess2 + noise2))


def departing_shares(known: Floats, known_fwhm_px: Floats, fwhm_px: float) -> Floats:
    """(n, 10) the same in the apertures of another sub, whose stars have another width.

    Within a ring light is spread evenly; beyond the last one nothing is known of it.
    """
    edge2 = np.append(0.0, HARD_FWHM) ** 2
    place2 = (HARD_FWHM * fwhm_px / known_fwhm_px[:, None]) ** 2
    part = np.clip((place2[:, :, None] - edge2[:-1]) / np.diff(edge2), 0.0, 1.0)
    within = (part * known[:, None, SOFT:]).sum(axis=2)
    return np.concatenate((known[:, :SOFT], np.diff(within, axis=1, prepend=0.0)), axis=1)


def _damping(left: Floats, variance: Floats) -> Floats:
    """(10, n) factor on the noise of sums that lie far from the mean, smooth so that no sub flips a star in or out."""
    pull = np.abs(left) / np.sqrt(variance)
    width = np.maximum(1.4826 * _medians(pull), 1.0)
    far2 = (pull / (2.5 * width)[:, None]) ** 2
    return np.asarray(1.0 + far2 * far2)


def _trust(left: Floats, inverse: Floats) -> Floats:
    """(n,) weight of each star by how well it follows the mean curve."""
    misfit = (left * _times(inverse, left)).sum(axis=0) / (APERTURES - 1)
    most = MOST_MISFIT * max(float(_medians(misfit[None])[0]), 1.0)
    return np.asarray(np.minimum(1.0, (most / np.maximum(misfit, 1e-9)) ** 2))
