"""The throughput pattern of raw subs: vignetting and dust that no flat has taken out.

It stays put in the detector while the stars move over it (drift, dither, meridian flip), so that star
residuals learn it: a low-order surface in detector coordinates, fitted with every star's and every sub's
own mean taken out of the design. What no star has crossed stays at nothing by a ridge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nsgd.measure.scale import Measured, ZeroPoint
from nsgd.records import Floats

DEGREE = 4
PRIOR = 0.1
"""Expected size of each coefficient."""
LEAST_GAIN = 60.0
"""Chi-squared that the pattern must explain to be believed."""
ROBUST_SIGMA = 4.0
LEAST_SPREAD = 0.02
"""Stars that move less than this (in half frames) tell nothing."""

_POWERS = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j > 0]


def terms(u: Floats, v: Floats) -> Floats:
    """(n, 14) polynomial terms at detector positions -1..1."""
    return np.stack([u**i * v**j for i, j in _POWERS], axis=1)


def value(pattern: Floats, u: Floats, v: Floats) -> Floats:
    """(n,) relative throughput at detector positions; 1 without a pattern."""
    if pattern.size == 0:
        return np.ones_like(u)
    return np.asarray(np.maximum(1.0 + terms(u, v) @ pattern, 0.2))


def learn_pattern(zeros: Sequence[ZeroPoint], u: Sequence[Floats], v: Sequence[Floats]) -> Floats:
    """(14,) coefficients from the star residuals of many subs; empty where they show no pattern.

    Parameters
    ----------
    zeros
        Zero points of the subs against one joint solution.
    u, v
        Detector positions of the stars of each sub, -1..1.
    """
    if len(zeros) < 3:
        return np.empty(0)
    n = max(len(zero.residual) for zero in zeros)
    residual, weight = _table([z.residual for z in zeros], n), _weights(zeros, n)
    places_u, places_v = _table(u, n), _table(v, n)
    seen = weight > 0
    if not seen.any() or _spread(places_u, seen) + _spread(places_v, seen) < LEAST_SPREAD:
        return np.empty(0)
    design = _free_of_means(terms(np.nan_to_num(places_u).ravel(), np.nan_to_num(places_v).ravel()), weight)
    target = _free_of_means(np.nan_to_num(residual).reshape(-1, 1), weight)[:, 0]
    pattern: Floats = np.zeros(design.shape[1])
    flat = weight.ravel()
    for _ in range(3):
        left = target - design @ pattern
        robust = flat * (left**2 * flat < ROBUST_SIGMA**2)
        normal = (design * robust[:, None]).T @ design + np.eye(design.shape[1]) / PRIOR**2
        projected = (design * robust[:, None]).T @ target
        pattern = np.asarray(np.linalg.solve(normal, projected), dtype=np.float64)
    return pattern if float(pattern @ projected) > LEAST_GAIN else np.empty(0)


def without_pattern(sub: Measured, pattern: Floats, u: Floats, v: Floats) -> Measured:
    """A channel's fluxes with the throughput at each star's place taken out."""
    if pattern.size == 0:
        return sub
    light = value(pattern, u, v)
    return Measured(sub.flux / light, sub.sky_err / light, sub.usable, sub.common_err, sub.egain_e_per_adu)


def _table(rows: Sequence[Floats], n: int) -> Floats:
    return np.stack([np.pad(row, (0, n - len(row)), constant_values=np.nan) for row in rows])


def _weights(zeros: Sequence[ZeroPoint], n: int) -> Floats:
    """1 / variance of the residuals, each sub's own floor included; 0 for stars not used."""
    parts = []
    for zero in zeros:
        good = np.isfinite(zero.residual) & np.isfinite(zero.sigma) & (zero.weight > 0)
        variance = np.where(good, zero.sigma, 1.0) ** 2 + np.nan_to_num(zero.floor) ** 2 + 0.003**2
        parts.append(np.pad(np.where(good, 1.0 / variance, 0.0), (0, n - len(good))))
    return np.stack(parts)


def _spread(places: Floats, seen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """Median over stars of how far they move in the detector."""
    values = np.where(seen, places, np.nan)
    kept = values[:, seen.sum(axis=0) > 1]
    if kept.size == 0:
        return 0.0
    return float(np.median(np.nanmax(kept, axis=0) - np.nanmin(kept, axis=0)))


def _free_of_means(columns: Floats, weight: Floats) -> Floats:
    """(subs * stars, k) columns without each star's and each sub's weighted mean (three alternations)."""
    cube = columns.reshape(*weight.shape, -1)
    for _ in range(3):
        for axis in (0, 1):
            total = np.maximum(weight.sum(axis=axis, keepdims=True), 1e-30)[:, :, None]
            cube = cube - (cube * weight[:, :, None]).sum(axis=axis, keepdims=True) / total
    return np.asarray((cube * (weight > 0)[:, :, None]).reshape(-1, columns.shape[1]))
