"""Zero points and scales from lists of star fluxes (numpy alone).

The series' solution holds every star's true flux F_i, learnt from all its subs; a sub's zero point z
minimises sum w (f_i - z F_i)^2 with weights from *modelled* noise (sky, photons of z F_i, a floor
from the residuals), never from the measured flux, so that faint stars in cloud bias nothing. With
F from other subs the noise of F in the denominator is taken out (errors in variables, Fuller 1987);
in a joint refit it cancels by itself, because f and F then share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats, StarFlag

MIN_STAR_SNR = 4.0
"""Stars whose solution flux is known worse than this do not take part."""
TUKEY_C = 5.5
TUKEY_CHI2 = 0.818
"""E[weight x^2] of a unit Gaussian under Tukey's biweight with c = 5.5."""
TUKEY_VARIANCE = 0.963
"""Variance of the biweight mean over 1 / sum(weights): E[psi^2] / E[psi']^2 * E[weight]."""
MEDIAN_ERR = 1.2533
"""Error of a median over that of a mean, for Gaussian scatter."""
PRIOR_DOF = 8.0
"""Weight, in degrees of freedom, of the belief that the modelled noise is right when errors are scaled."""
GAIN_UNKNOWN_E_PER_ADU = 1.0
VARYING_SUBS, VARYING_FACTOR, LEAST_VARYING = 12, 5.0, 0.03
"""A star is variable where it scatters by 3 per cent and by five times what half of the stars stay
below, in excess of its noise; twelve subs are needed to tell."""
MOST_AT_ONCE = 0.05
"""One sub adds to a star's floor what a scatter of this size would, or of six times its noise, at most."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Star fluxes of a series, one channel: F = total / weight."""

    total: Floats
    """(n,) sum of w f / z over subs."""
    weight: Floats
    """(n,) sum of w, 1 / ADU^2."""
    misfit: Floats
    """(n,) sum of squared relative residuals in excess of the modelled noise."""
    subs: Floats
    """(n,) number of subs behind each star."""

    @property
    def flux(self) -> Floats:
        """(n,) ADU in a sub of zero point 1; NaN for stars not seen yet."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.weight > 0, self.total / self.weight, np.nan)

    @property
    def variance(self) -> Floats:
        """(n,) of `flux`, ADU^2; infinite for stars not seen yet."""
        with np.errstate(divide="ignore"):
            return np.where(self.weight > 0, 1.0 / self.weight, np.inf)

    @property
    def floor2(self) -> Floats:
        """(n,) squared systematic floor of each star's relative flux, shrunk towards none while few subs tell."""
        return np.maximum(self.misfit / (self.subs + 4.0), 0.0)

    @property
    def varying(self) -> Mask:
        """(n,) stars whose light changes by itself: their floor stands far above that of the series' other stars."""
        floor2, seen = self.floor2, self.subs >= VARYING_SUBS
        with np.errstate(invalid="ignore", divide="ignore"):
            noise2 = self.subs * self.variance / self.flux**2  # of one sub
            chance = 8.0 * np.sqrt(2.0 / self.subs) * noise2
            clear = seen & (noise2 < LEAST_VARYING**2)
        usual2 = float(np.median(floor2[clear])) if clear.any() else 0.0
        return np.asarray(seen & (floor2 > np.maximum(chance, max(VARYING_FACTOR**2 * usual2, LEAST_VARYING**2))))

    def grown(self, n: int) -> Solution:
        """The same solution with room for stars added by a new catalogue generation."""
        extra = n - self.total.size
        if extra <= 0:
            return self
        return Solution(*(np.pad(part, (0, extra)) for part in (self.total, self.weight, self.misfit, self.subs)))


def empty_solution(n: int) -> Solution:
    """A solution of n stars that nothing is known of."""
    return Solution(*(np.zeros(n) for _ in range(4)))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One channel of one sub's star fluxes with what their noise is made of."""

    flux: Floats
    """(n,) ADU, NaN where not measured."""
    sky_err: Floats
    """(n,) error without the star's own photons, ADU."""
    usable: Mask
    """(n,) False for saturated, blended, edge and masked stars."""
    common_err: float
    """Relative error that all stars share."""
    egain_e_per_adu: float


@dataclass(frozen=True, slots=True, eq=False)
class ZeroPoint:
    """A sub's zero point in one channel and how its stars agree on it."""

    value: float
    err: float
    stars: int
    scatter: float
    """Robust rms of f / (z F) - 1 over the stars used."""
    floor: float
    """Relative scatter that the modelled noise does not explain."""
    residual: Floats
    """(n,) f / (z F) - 1, NaN for stars not used."""
    sigma: Floats
    """(n,) expected relative error of the residual, the sub's own floor left out."""
    weight: Floats
    """(n,) robust factor 0..1 of each star."""


def measured(
    flux: Floats, sky_err: Floats, flags: NDArray[np.uint8], common_err: float, egain_e_per_adu: float | None
) -> Measured:
    """Facts of one channel made ready for the fits; flags of any kind keep a star out."""
    usable = (flags == StarFlag.OK) & np.isfinite(flux) & np.isfinite(sky_err) & (sky_err > 0)
    gain = egain_e_per_adu if egain_e_per_adu else GAIN_UNKNOWN_E_PER_ADU
    return Measured(np.asarray(flux, float), np.asarray(sky_err, float), usable, common_err, gain)


def zero_point(sub: Measured, solution: Solution, *, joint: bool = False) -> ZeroPoint:
    """Zero point of a sub against a solution.

    Parameters
    ----------
    joint
        True where the sub's own fluxes are part of the solution.

    Returns
    -------
    ZeroPoint
        `value` and `err` are NaN where no star is usable.
    """
    flux, variance = solution.flux, solution.variance
    with np.errstate(invalid="ignore"):
        chosen = sub.usable & ~solution.varying & (flux > MIN_STAR_SNR * np.sqrt(variance)) & (flux > 0)
    index = np.flatnonzero(chosen)
    if index.size == 0:
        return _nothing(sub.flux.size)
    f, big_f, var_f = sub.flux[index], flux[index], variance[index]
    floor2_star, sky2 = solution.floor2[index], sub.sky_err[index] ** 2
    own = 0.0 if joint else 1.0
    (z, z_err), floor = _start(f, big_f, sky2), 0.0
    robust = np.ones(index.size)
    for _ in range(20):
        model = max(z, 1e-6) * big_f
        noise2 = sky2 + model / sub.egain_e_per_adu + floor2_star * model**2 + own * z**2 * var_f
        var = noise2 + (floor * model) ** 2
        # A bright star is known far better than the first guess of z: it must not be cast out for the guess's error.
        pull = (f - model) / np.sqrt(var + (z_err * big_f) ** 2)
        robust = np.where(np.abs(pull) < TUKEY_C, (1.0 - (pull / TUKEY_C) ** 2) ** 2, 0.0)
        w = robust / var
        denominator = float(w @ (big_f**2 - own * var_f))
        if denominator <= 0:
            break
        new, z_err = float(w @ (f * big_f)) / denominator, denominator**-0.5
        floor = 0.5 * (floor + _floor(f / model - 1.0, noise2 / model**2))  # damped: else it may swing for ever
        if abs(new - z) < 1e-7 * abs(new):
            z = new
            break
        z = new
    return _finished(sub, index, z, floor, (big_f, var_f * own, floor2_star, robust))


def _nothing(n: int) -> ZeroPoint:
    nan, none = float("nan"), np.full(n, np.nan)
    return ZeroPoint(nan, nan, 0, nan, nan, none, none, np.zeros(n))


def _start(f: Floats, big_f: Floats, sky2: Floats) -> tuple[float, float]:
    """Median ratio of the stars that weigh most, and its error from their scatter."""
    snr = big_f / np.sqrt(sky2)
    best = np.argsort(-snr, kind="stable")[: max(7, f.size // 3)]
    ratio = f[best] / big_f[best]
    middle = _median(ratio)
    spread = 1.4826 * _median(np.abs(ratio - middle))
    return middle, MEDIAN_ERR * spread / float(np.sqrt(ratio.size))


def _median(values: Floats) -> float:
    """Of finite values; `np.median` takes several times as long over some hundred of them."""
    ordered, middle = np.sort(values), values.size // 2
    return float(ordered[middle] if values.size % 2 else 0.5 * (ordered[middle - 1] + ordered[middle]))


def _floor(residual: Floats, expected2: Floats) -> float:
    """Relative scatter in excess of the expected one; 0 where fewer than five stars tell.

    The moment estimator of a random effect (DerSimonian & Laird 1986, Control. Clin. Trials 7, 177), started
    from the bright third's median and with stars that stand out of it left aside: every star counts with what it
    knows, so that the faint ones, whose own noise hides any floor, neither feign one nor conceal the bright ones'.
    """
    if residual.size < 5:
        return 0.0
    squared = residual**2
    few = min(max(8, residual.size // 3), residual.size)
    best = np.argpartition(expected2, few - 1)[:few]
    floor2 = _median(squared[best]) / 0.455
    for _ in range(6):
        total = expected2 + floor2
        weight = (squared < TUKEY_C**2 * total) / (total * total)
        whole = float(np.add.reduce(weight))
        if whole == 0.0:
            break
        excess = np.minimum(squared, 9.0 * total) - expected2
        before, floor2 = floor2, max(float(weight @ excess) / whole, 0.0)
        if floor2 == before:
            break
    return float(np.sqrt(floor2))


def _finished(
    sub: Measured, index: NDArray[np.intp], z: float, floor: float, parts: tuple[Floats, Floats, Floats, Floats]
) -> ZeroPoint:
    """Errors scaled by the residuals, figures spread back over all stars."""
    big_f, var_f, floor2_star, robust = parts
    model = max(z, 1e-6) * big_f
    var = sub.sky_err[index] ** 2 + model / sub.egain_e_per_adu + (floor2_star + floor**2) * model**2 + z**2 * var_f
    used = robust > 0
    pull2 = ((sub.flux[index] - model)[used] ** 2) / var[used]
    dof = max(int(used.sum()) - 1, 0)
    chi2 = (PRIOR_DOF + float((robust[used] * pull2).sum()) / TUKEY_CHI2) / (PRIOR_DOF + dof)
    information = float((robust * big_f**2 / var).sum())
    err = float(np.sqrt(TUKEY_VARIANCE * chi2 / information)) if information > 0 else float("nan")
    residual, sigma, weight = np.full(sub.flux.size, np.nan), np.full(sub.flux.size, np.nan), np.zeros(sub.flux.size)
    expected = np.sqrt(var - (floor * model) ** 2) / model
    residual[index], sigma[index], weight[index] = sub.flux[index] / model - 1.0, expected, robust
    scatter = 1.4826 * _median(np.abs(residual[index]))
    total = float(np.hypot(err, z * sub.common_err))
    return ZeroPoint(z, total, int(used.sum()), scatter, floor, residual, sigma, weight)


def learn(solution: Solution, sub: Measured, zero: ZeroPoint, varying: Mask | None = None) -> Solution:
    """The solution with one more sub; stars that the sub contradicts grossly are left as they were.

    `varying` stars (the solution's own if not given) take no part in it, but are watched on.
    """
    if not zero.value > 0:
        return solution
    model = zero.value * np.where(np.isfinite(solution.flux), solution.flux, sub.flux / zero.value)
    noise2 = sub.sky_err**2 + np.maximum(model, 0.0) / sub.egain_e_per_adu
    varying = (solution.varying if varying is None else varying) & sub.usable & (model > 0)
    known = np.isfinite(zero.residual) | varying
    agrees = np.where(known, zero.weight > 0, True)
    use = sub.usable & agrees & (np.abs(model) > 0)
    var = noise2 + (max(zero.floor, 1e-3) * model) ** 2
    w = np.where(use, zero.value**2 / var, 0.0)
    gained = w * np.where(use, sub.flux, 0.0) / zero.value
    with np.errstate(invalid="ignore", divide="ignore"):
        residual2 = np.where(varying, (sub.flux / model - 1.0) ** 2, zero.residual**2)
        noise2 = np.where(varying, noise2 / model**2, zero.sigma**2) + zero.floor**2
    excess = np.where(known & sub.usable, np.nan_to_num(residual2 - noise2), 0.0)
    once = np.maximum(36.0 * np.nan_to_num(noise2), MOST_AT_ONCE**2)  # a cosmic ray is not a star's habit
    return Solution(
        solution.total + gained,
        solution.weight + w,
        solution.misfit + np.where(zero.weight > 0, excess, np.minimum(excess, once)),
        solution.subs + (known & sub.usable),
    )


def first_solution(sub: Measured) -> Solution:
    """Solution of a series' first sub, whose zero point is 1 by definition."""
    var = sub.sky_err**2 + np.maximum(sub.flux, 0.0) / sub.egain_e_per_adu
    w = np.where(sub.usable, 1.0 / var, 0.0)
    return Solution(w * np.where(sub.usable, sub.flux, 0.0), w, np.zeros(sub.flux.size), sub.usable.astype(float))


def solve(subs: Sequence[Measured], rounds: int = 4) -> tuple[Solution, list[ZeroPoint]]:
    """Joint fit of star fluxes and zero points to all subs of a series, one channel.

    Deterministic: it depends on the fluxes and their order only. The first pass learns sub by sub, the
    rounds then alternate between all zero points and all star fluxes.

    Returns
    -------
    solution, zero_points
        The gauge is the first sub that has usable stars: its zero point stays near 1.
    """
    n = max((sub.flux.size for sub in subs), default=0)
    whole = [padded(sub, n) for sub in subs]
    solution = empty_solution(n)
    for sub in whole:
        if not (solution.weight > 0).any():
            solution = first_solution(sub)
            continue
        solution = learn(solution, sub, zero_point(sub, solution))
    zeros = [zero_point(sub, solution, joint=True) for sub in whole]
    for _ in range(rounds - 1):
        relearnt = _relearn(solution, whole, zeros)
        zeros = [zero_point(sub, relearnt, joint=True) for sub in whole]
        solution = relearnt
    return solution, zeros


def _relearn(old: Solution, subs: Sequence[Measured], zeros: Sequence[ZeroPoint]) -> Solution:
    fresh = replace(empty_solution(old.total.size))
    carried = Solution(old.total, old.weight, np.zeros_like(old.misfit), np.zeros_like(old.subs))
    for sub, zero in zip(subs, zeros, strict=True):
        step = learn(carried, sub, zero, old.varying)
        fresh = Solution(
            fresh.total + step.total - carried.total,
            fresh.weight + step.weight - carried.weight,
            fresh.misfit + step.misfit,
            fresh.subs + step.subs,
        )
    seen = fresh.weight > 0
    return Solution(
        np.where(seen, fresh.total, old.total), np.where(seen, fresh.weight, old.weight), fresh.misfit, fresh.subs
    )


def padded(sub: Measured, n: int) -> Measured:
    """A sub of an earlier catalogue, with room for the n stars of a later one; a later sub stays as it is."""
    extra = n - sub.flux.size
    if extra <= 0:
        return sub
    return Measured(
        np.pad(sub.flux, (0, extra), constant_values=np.nan), np.pad(sub.sky_err, (0, extra), constant_values=np.nan),
        np.pad(sub.usable, (0, extra)), sub.common_err, sub.egain_e_per_adu,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """How the star ratios vary over the field."""

    name: str
    rms: float
    """Of the fitted low-order map over the frame (relative)."""
    terms: tuple[float, ...]
    """Local transmission 1 + c0 u + c1 v + c2 u^2 + c3 u v + c4 v^2 (about its mean), u, v in -1..1."""


def field_pattern(residual: Floats, sigma: Floats, u: Floats, v: Floats) -> Pattern:
    """Shape of the star residuals over the field and its low-order map.

    Residuals that scatter no more than their noise (or than one per cent) are `uniform`. Structure that falls
    steadily along one direction is `one_side`, structure that rises steadily from the centre is `centre`, if
    that profile explains most of it; anything else is `patchy`.

    Parameters
    ----------
    residual, sigma
        (n,) f / (z F) - 1 and its expected error; NaN for stars not used.
    u, v
        (n,) positions in the frame, -1..1.
    """
    good = np.isfinite(residual) & np.isfinite(sigma) & (sigma > 0)
    if good.sum() < 15:
        return Pattern("", float("nan"), ())
    r, s, x, y = residual[good], sigma[good], u[good], v[good]
    spread = 1.4826 * float(np.median(np.abs(r - np.median(r))))
    limit = 5.0 * np.hypot(s, spread)
    r = np.clip(r, -limit, limit)
    weight = 1.0 / (s**2 + PATTERN_FLOOR**2)
    r = r - float(np.average(r, weights=weight))
    terms = _low_order(r, weight, x, y)
    rms = _map_rms(terms)
    structure2 = float(np.average(r**2, weights=weight)) - len(r) / float(weight.sum())
    excess = (float((weight * r**2).sum()) - len(r)) / np.sqrt(2.0 * len(r))
    if excess < 5.0 or structure2 < LEAST_STRUCTURE**2:
        return Pattern("uniform", rms, terms)
    return Pattern(_shape_name(r, weight, x, y, structure2), max(rms, float(np.sqrt(structure2))), terms)


PATTERN_FLOOR = 0.01
LEAST_STRUCTURE = 0.015
MOST_OF_IT = 0.6


def _low_order(r: Floats, weight: Floats, x: Floats, y: Floats) -> tuple[float, ...]:
    design = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=1)
    normal = (design * weight[:, None]).T @ design + np.eye(6) * 1e-3 * weight.sum()
    fit = np.linalg.solve(normal, (design * weight[:, None]).T @ r)
    return tuple(float(value) for value in fit[1:])


def _map_rms(terms: tuple[float, ...]) -> float:
    """Scatter of the low-order map over the frame."""
    u, v = np.meshgrid(np.linspace(-1.0, 1.0, 9), np.linspace(-1.0, 1.0, 9))
    shape = terms[0] * u + terms[1] * v + terms[2] * u * u + terms[3] * u * v + terms[4] * v * v
    return float(shape.std())


def _shape_name(r: Floats, weight: Floats, x: Floats, y: Floats, structure2: float) -> str:
    """Name of the profile (along one of 24 directions, or outwards) that explains most of the structure."""
    angles = np.arange(24) * np.pi / 12
    along = max(_explained(r, weight, x * np.cos(a) + y * np.sin(a)) for a in angles)
    outwards = _explained(r, weight, np.hypot(x, y))
    if max(along, outwards) < MOST_OF_IT * structure2:
        return "patchy"
    return "one_side" if along >= outwards else "centre"


def _explained(r: Floats, weight: Floats, coordinate: Floats) -> float:
    """Variance that a rising profile along a coordinate takes away: six bins of equal count, pooled until they rise."""
    parts = np.array_split(np.argsort(coordinate, kind="stable"), 6)
    total = [float(weight[part].sum()) for part in parts]
    mean = [float(np.average(r[part], weights=weight[part])) for part in parts]
    levels: list[tuple[float, float]] = []
    for w, m in zip(total, mean, strict=True):
        levels.append((w, m))
        while len(levels) > 1 and levels[-2][1] > levels[-1][1]:
            (w1, m1), (w2, m2) = levels[-2:]
            levels[-2:] = [(w1 + w2, (w1 * m1 + w2 * m2) / (w1 + w2))]
    return (sum(w * m * m for w, m in levels) - len(levels)) / float(weight.sum())
