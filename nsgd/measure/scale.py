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

SIDE_BY_SIDE = 32
"""Subs worked on at once: their numbers stay in the processor's cache."""
FLOOR_STARS = 5
"""Fewer tell nothing of a floor."""
MOST_ROUNDS, SETTLED, DAMPING = 20, 1e-7, 1.0 / 3.0
MOST_RELEARNT, AT_REST = 12, 0.05
"""How often a joint fit learns the star fluxes anew at most, and by what part of its error a zero point may still
move at the end."""
LEAST_Z = 1e-6
ENDLESS = 1e30

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


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Subs side by side against one solution: star fluxes over the solution's, and what their relative variance is.

    A star that is not used has a ratio of 1 and next to infinite noise.
    """

    ratio: Floats
    """(s, n) f / F"""
    sky2: Floats
    """(s, n) of the sky, in a sub of zero point 1."""
    photons: Floats
    """(s, n) of the star's own light, in a sub of zero point 1."""
    fixed: Floats
    """(n,) systematic floor of each star, and the noise of F where the sub is not part of it."""
    unbiased: Floats
    """(n,) share of F^2 that is not the noise of F."""
    used: Mask
    """(s, n)"""

    def take(self, rows: Mask) -> _Side:
        """Some of the subs."""
        return replace(
            self, ratio=self.ratio[rows], sky2=self.sky2[rows], photons=self.photons[rows], used=self.used[rows]
        )

    def variance(self, z: Floats) -> Floats:
        """(s, n) relative variance of f / (z F), the subs' own floors left out."""
        inverse = 1.0 / z[:, None]
        out = self.sky2 * inverse
        out += self.photons
        out *= inverse
        out += self.fixed
        return out


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Where the zero points of subs side by side stand, all (s,)."""

    z: Floats
    err2: Floats
    """Relative, squared."""
    floor2: Floats

    def take(self, rows: Mask) -> _State:
        """Some of the subs."""
        return _State(self.z[rows], self.err2[rows], self.floor2[rows])


def zero_point(sub: Measured, solution: Solution, *, joint: bool = False) -> ZeroPoint:
    """Zero point of one sub, as `zero_points`."""
    return zero_points([sub], solution, joint=joint)[0]


def zero_points(
    subs: Sequence[Measured], solution: Solution, *, joint: bool = False, near: Sequence[ZeroPoint] | None = None
) -> list[ZeroPoint]:
    """Zero points of subs against a solution.

    Parameters
    ----------
    joint
        True where the subs' own fluxes are part of the solution.
    near
        Zero points of the same subs against a solution much like this one, to start from.

    Returns
    -------
    list of ZeroPoint
        `value` and `err` are NaN where no star is usable.
    """
    flux, variance = solution.flux, solution.variance
    with np.errstate(invalid="ignore"):
        known = ~solution.varying & (flux > MIN_STAR_SNR * np.sqrt(variance)) & (flux > 0)
    columns, found = np.flatnonzero(known), []
    for begin in range(0, len(subs), SIDE_BY_SIDE):
        some = slice(begin, begin + SIDE_BY_SIDE)
        found += _zero_points(subs[some], (solution, columns), joint, near[some] if near else None)
    return found


def _zero_points(
    subs: Sequence[Measured],
    against: tuple[Solution, NDArray[np.intp]],
    joint: bool,
    near: Sequence[ZeroPoint] | None,
) -> list[ZeroPoint]:
    side = _side_by_side(subs, *against, joint)
    seen = np.asarray(side.used.any(axis=1))
    out = [_nothing(sub.flux.size) for sub in subs]
    if not seen.any():
        return out
    side, rows = side.take(seen), [int(row) for row in np.flatnonzero(seen)]
    start = _start(side) if near is None else _carried([near[k] for k in rows])
    state, robust = _reconsidered(side, *_settle(side, start))
    for row, point in zip(rows, _finished([subs[k] for k in rows], against[1], side, state, robust), strict=True):
        out[row] = point
    return out


def _nothing(n: int) -> ZeroPoint:
    nan, none = float("nan"), np.full(n, np.nan)
    return ZeroPoint(nan, nan, 0, nan, nan, none, none, np.zeros(n))


def _side_by_side(subs: Sequence[Measured], solution: Solution, columns: NDArray[np.intp], joint: bool) -> _Side:
    flux, variance = solution.flux[columns], solution.variance[columns]
    used = np.stack([sub.usable[columns] for sub in subs])
    ratio = np.stack([sub.flux[columns] for sub in subs]) / flux
    sky2 = (np.stack([sub.sky_err[columns] for sub in subs]) / flux) ** 2
    egain = np.array([sub.egain_e_per_adu for sub in subs])[:, None]
    own = 0.0 if joint else 1.0
    noise2 = own * variance / flux**2
    return _Side(
        np.where(used, ratio, 1.0), np.where(used, sky2, ENDLESS), 1.0 / (egain * flux),
        solution.floor2[columns] + noise2, 1.0 - noise2, used,
    )  # fmt: skip


def _start(side: _Side) -> _State:
    """Median ratio of the stars that weigh most, its error from their scatter, and the floor that this leaves."""
    number = side.used.sum(axis=1)
    best, few = _least(side.sky2, np.maximum(7, number // 3), side.used)
    middle = _medians(side.ratio, best, few)
    spread = 1.4826 * _medians(np.abs(side.ratio - middle[:, None]), best, few)
    z = np.maximum(middle, LEAST_Z)
    expected2 = side.variance(z)
    best, few_bright = _least(expected2, np.maximum(8, number // 3), side.used)
    floor2 = _medians((side.ratio / z[:, None] - 1.0) ** 2, best, few_bright) / 0.455
    return _State(z, (MEDIAN_ERR * spread / z) ** 2 / few, np.where(number < FLOOR_STARS, 0.0, floor2))


def _carried(near: Sequence[ZeroPoint]) -> _State:
    z, err, floor = (np.array([getattr(point, name) for point in near]) for name in ("value", "err", "floor"))
    return _State(np.maximum(z, LEAST_Z), (err / z) ** 2, floor**2)


def _least(values: Floats, few: NDArray[np.intp], used: Mask) -> tuple[Mask, NDArray[np.intp]]:
    """The `few` used stars of each sub with the least values (more where values are equal), and their number."""
    last = np.minimum(few, used.sum(axis=1)) - 1
    limit = np.sort(np.where(used, values, np.inf), axis=1)[np.arange(len(last)), last]
    chosen = used & (values <= limit[:, None])
    return chosen, chosen.sum(axis=1)


def _medians(values: Floats, chosen: Mask, number: NDArray[np.intp]) -> Floats:
    """(s,) median of each sub's chosen stars."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    row, middle = np.arange(len(number)), number // 2
    return np.asarray(0.5 * (ordered[row, middle] + ordered[row, middle - 1 + number % 2]))


def _settle(side: _Side, state: _State) -> tuple[_State, Floats]:
    """Iterate until every sub stands still; a sub that does is not touched any more, whoever is beside it.

    Returns
    -------
    state, robust
        Robust factors 0..1 (s, n) of the stars.
    """
    whole, robust = state, np.zeros_like(side.ratio)
    z, err2, floor2 = whole.z.copy(), whole.err2.copy(), whole.floor2.copy()
    rows = np.arange(z.size)
    for _ in range(MOST_ROUNDS):
        state, weights, moved = _round(side, state)
        z[rows], err2[rows], floor2[rows], robust[rows] = state.z, state.err2, state.floor2, weights
        if not moved.all():
            rows, side, state = rows[moved], side.take(moved), state.take(moved)
        if rows.size == 0:
            break
    return _State(z, err2, floor2), robust


def _reconsidered(side: _Side, state: _State, robust: Floats) -> tuple[_State, Floats]:
    """The likelier of two rests, for subs that have a floor and whose brightest stars contradict their zero point.

    Where two or three stars know far more than all others, a first guess that is the others' feigns a floor that lets
    them have it their way; a start without a floor at the median by weight finds what the bright ones say.
    """
    expected2 = side.variance(state.z)
    bright = _weighted_medians(side.ratio, np.where(side.used, 1.0 / expected2, 0.0))
    doubtful = (state.floor2 > 0) & ((bright / state.z - 1.0) ** 2 > 0.1 * state.err2) & (bright > LEAST_Z)
    if not doubtful.any():
        return state, robust
    rows = np.flatnonzero(doubtful)
    again = side.take(doubtful)
    sure = 1.0 / np.where(again.used, 1.0 / expected2[rows], 0.0).sum(axis=1)
    other, other_robust = _settle(again, _State(bright[rows], sure, np.zeros(rows.size)))
    plainer = (other.floor2 == 0) * 0.5 * np.log(again.used.sum(axis=1))  # a floor is one figure more (Schwarz 1978)
    better = _misfit(again, other) < _misfit(again, state.take(doubtful)) + plainer
    z, err2, floor2, robust = state.z.copy(), state.err2.copy(), state.floor2.copy(), robust.copy()
    rows, other, other_robust = rows[better], other.take(better), other_robust[better]
    z[rows], err2[rows], floor2[rows], robust[rows] = other.z, other.err2, other.floor2, other_robust
    return _State(z, err2, floor2), robust


def _weighted_medians(values: Floats, weight: Floats) -> Floats:
    """(s,) value at which half of each row's weight lies below."""
    order = np.argsort(values, axis=1)
    total = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    middle = (total < 0.5 * total[:, -1:]).sum(axis=1)
    return np.asarray(np.take_along_axis(values, order, axis=1)[np.arange(len(values)), middle])


def _misfit(side: _Side, state: _State) -> Floats:
    """(s,) minus the logarithm of the likelihood, Tukey's loss in the place of the square."""
    total = side.variance(state.z) + state.floor2[:, None]
    pull2 = (side.ratio / state.z[:, None] - 1.0) ** 2 / total
    loss = TUKEY_C**2 / 6.0 * (1.0 - np.maximum(1.0 - pull2 / TUKEY_C**2, 0.0) ** 3) + 0.5 * np.log(total)
    return np.asarray(np.where(side.used, loss, 0.0).sum(axis=1))


def _round(side: _Side, state: _State) -> tuple[_State, Floats, Mask]:
    """One step of all zero points and floors: new state, robust factors, and which subs still move."""
    expected2 = side.variance(state.z)
    squared = side.ratio / state.z[:, None]
    squared -= 1.0
    squared *= squared
    total = expected2 + state.floor2[:, None]
    # A bright star is known far better than the first guess of z: it must not be cast out for the guess's error.
    pull2 = squared / (total + state.err2[:, None])
    robust = np.maximum(1.0 - pull2 / TUKEY_C**2, 0.0)
    robust *= robust
    weight = robust / total
    information = np.einsum("ij,j->i", weight, side.unbiased)
    light = np.einsum("ij,ij->i", weight, side.ratio)
    floor2 = _floor2(squared, expected2, total, side.used)
    sound = information > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(sound, np.maximum(light / information, LEAST_Z), state.z)
        err2 = np.where(sound, 1.0 / information, state.err2)
    moved = sound & (np.abs(z - state.z) >= SETTLED * z)
    # damped: the floor overshoots by half of its distance, and else might swing for ever
    return _State(z, err2, DAMPING * state.floor2 + (1.0 - DAMPING) * floor2), robust, moved


def _floor2(squared: Floats, expected2: Floats, total: Floats, used: Mask) -> Floats:
    """(s,) squared relative scatter in excess of the expected one; 0 where fewer than five stars tell.

    One step of the moment estimator of a random effect (DerSimonian & Laird 1986, Control. Clin. Trials 7, 177), with
    stars that stand out of it left aside: every star counts with what it knows, so that the faint ones, whose own noise
    hides any floor, neither feign one nor conceal the bright ones'.
    """
    weight = 1.0 / total
    weight *= weight
    weight *= squared < TUKEY_C**2 * total
    excess = np.minimum(squared, 9.0 * total)
    excess -= expected2
    whole, gained = np.add.reduce(weight, axis=1), np.einsum("ij,ij->i", weight, excess)
    floor2 = np.maximum(gained / np.maximum(whole, 1e-300), 0.0)
    return np.where(used.sum(axis=1) < FLOOR_STARS, 0.0, floor2)


def _finished(
    subs: Sequence[Measured], columns: NDArray[np.intp], side: _Side, state: _State, robust: Floats
) -> list[ZeroPoint]:
    """Errors scaled by the residuals, figures spread back over all stars."""
    expected2 = side.variance(state.z)
    total = expected2 + state.floor2[:, None]
    residual = side.ratio / state.z[:, None] - 1.0
    counted = (robust > 0) & side.used
    number = counted.sum(axis=1)
    weight = np.where(counted, robust / total, 0.0)
    chi2 = PRIOR_DOF + np.einsum("ij,ij->i", weight, residual**2) / TUKEY_CHI2
    chi2 /= PRIOR_DOF + np.maximum(number - 1, 0)
    information = np.add.reduce(weight, axis=1)
    with np.errstate(divide="ignore"):
        err = np.where(information > 0, state.z * np.sqrt(TUKEY_VARIANCE * chi2 / information), np.nan)
    err = np.hypot(err, state.z * np.array([sub.common_err for sub in subs]))
    scatter = 1.4826 * _medians(np.abs(residual), side.used, side.used.sum(axis=1))
    floor, sigma = np.sqrt(state.floor2), np.sqrt(expected2)
    spread = (_spread_back(part, columns, subs[0].flux.size) for part in
              ((residual, side.used, np.nan), (sigma, side.used, np.nan), (robust, side.used, 0.0)))  # fmt: skip
    return [
        ZeroPoint(float(z), float(e), int(n), float(s), float(f), *stars)
        for z, e, n, s, f, *stars in zip(state.z, err, number, scatter, floor, *spread, strict=True)
    ]


def _spread_back(part: tuple[Floats, Mask, float], columns: NDArray[np.intp], n: int) -> Floats:
    """(s, n) values of some columns, and what the stars have that are not used."""
    values, used, nothing = part
    out = np.full((len(values), n), nothing)
    out[:, columns] = np.where(used, values, nothing)
    return out


def learn(solution: Solution, sub: Measured, zero: ZeroPoint, varying: Mask | None = None) -> Solution:
    """The solution with one more sub; stars that the sub contradicts grossly are left as they were.

    `varying` stars (the solution's own if not given) take no part in it, but are watched on.
    """
    gained = _gains(solution, [sub], [zero], solution.varying if varying is None else varying)
    return _sum(solution, gained)


def _sum(first: Solution, second: Solution) -> Solution:
    return Solution(
        first.total + second.total, first.weight + second.weight, first.misfit + second.misfit,
        first.subs + second.subs,
    )  # fmt: skip


def _gains(solution: Solution, subs: Sequence[Measured], zeros: Sequence[ZeroPoint], varying: Mask) -> Solution:
    """What subs add to a solution."""
    bright = [k for k, zero in enumerate(zeros) if zero.value > 0]
    gained = empty_solution(solution.total.size)
    for begin in range(0, len(bright), SIDE_BY_SIDE):
        some = bright[begin : begin + SIDE_BY_SIDE]
        gained = _sum(gained, _gained(solution.flux, [subs[k] for k in some], [zeros[k] for k in some], varying))
    return gained


def _gained(flux: Floats, subs: Sequence[Measured], zeros: Sequence[ZeroPoint], varying: Mask) -> Solution:
    f, usable = np.stack([sub.flux for sub in subs]), np.stack([sub.usable for sub in subs])
    sky_err, egain = np.stack([sub.sky_err for sub in subs]), np.array([[sub.egain_e_per_adu] for sub in subs])
    z, floor = np.array([[zero.value] for zero in zeros]), np.array([[zero.floor] for zero in zeros])
    trust = np.stack([zero.weight for zero in zeros])
    model = z * np.where(np.isfinite(flux), flux, f / z)
    noise2 = sky_err**2 + np.maximum(model, 0.0) / egain
    strange = varying & usable & (model > 0)
    residual = np.stack([zero.residual for zero in zeros])
    known = np.isfinite(residual) | strange
    use = usable & (~known | (trust > 0)) & (np.abs(model) > 0)
    var = noise2 + (np.maximum(floor, 1e-3) * model) ** 2
    w = np.where(use, z**2 / var, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual2 = np.where(strange, (f / model - 1.0) ** 2, residual**2)
        sigma2 = np.where(strange, noise2 / model**2, np.stack([zero.sigma for zero in zeros]) ** 2) + floor**2
    excess = np.where(known & usable, np.nan_to_num(residual2 - sigma2), 0.0)
    once = np.maximum(36.0 * np.nan_to_num(sigma2), MOST_AT_ONCE**2)  # a cosmic ray is not a star's habit
    misfit = np.where(trust > 0, excess, np.minimum(excess, once))
    light = w * np.where(use, f, 0.0) / z
    return Solution(*(part.sum(axis=0, dtype=np.float64) for part in (light, w, misfit, known & usable)))


def first_solution(sub: Measured) -> Solution:
    """Solution of a series' first sub, whose zero point is 1 by definition."""
    var = sub.sky_err**2 + np.maximum(sub.flux, 0.0) / sub.egain_e_per_adu
    w = np.where(sub.usable, 1.0 / var, 0.0)
    return Solution(w * np.where(sub.usable, sub.flux, 0.0), w, np.zeros(sub.flux.size), sub.usable.astype(float))


def solve(subs: Sequence[Measured]) -> tuple[Solution, list[ZeroPoint]]:
    """Joint fit of star fluxes and zero points to all subs of a series, one channel.

    Deterministic: it depends on the fluxes and their order only. The first pass learns from as many subs at a time
    as it knows already, rounds then alternate between all zero points and all star fluxes until the zero points rest.

    Returns
    -------
    solution, zero_points
        The gauge is the first sub that has usable stars: its zero point stays near 1.
    """
    n = max((sub.flux.size for sub in subs), default=0)
    whole = [padded(sub, n) for sub in subs]
    solution = _first_pass(whole, n)
    zeros = zero_points(whole, solution, joint=True)
    for _ in range(MOST_RELEARNT):
        solution, before = _relearn(solution, whole, zeros), zeros
        zeros = zero_points(whole, solution, joint=True, near=zeros)
        if not any(abs(new.value - old.value) > AT_REST * new.err for new, old in zip(zeros, before, strict=True)):
            break
    return solution, zeros


def _first_pass(subs: Sequence[Measured], n: int) -> Solution:
    done = next((k + 1 for k, sub in enumerate(subs) if sub.usable.any()), len(subs))
    solution = first_solution(subs[done - 1]) if done else empty_solution(n)
    while done < len(subs):
        some = subs[done : 2 * done]
        solution = _sum(solution, _gains(solution, some, zero_points(some, solution), solution.varying))
        done += len(some)
    return solution


def _relearn(old: Solution, subs: Sequence[Measured], zeros: Sequence[ZeroPoint]) -> Solution:
    fresh = _gains(old, subs, zeros, old.varying)
    seen = fresh.weight > 0
    return replace(fresh, total=np.where(seen, fresh.total, old.total), weight=np.where(seen, fresh.weight, old.weight))


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

    Residuals that scatter no more than their noise (or than one per cent) and show no low-order map are `uniform`.
    Where most stars are faint, only such a map stands out from their noise. Structure that falls
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
    spread = 1.4826 * _median(np.abs(r - _median(r)))
    variance = s * s
    limit = 5.0 * np.sqrt(variance + spread**2)
    r = np.clip(r, -limit, limit)
    weight = 1.0 / (variance + PATTERN_FLOOR**2)
    whole = float(weight.sum())
    r -= float(weight @ r) / whole
    terms, gain = _low_order(r, weight, x, y)
    rms = _map_rms(terms)
    beyond_noise = float(weight @ (r * r)) - len(r)
    structure2, excess = beyond_noise / whole, beyond_noise / np.sqrt(2.0 * len(r))
    mapped = gain > LEAST_GAIN and rms > LEAST_STRUCTURE
    if (excess < 5.0 and not mapped) or structure2 < LEAST_STRUCTURE**2:
        return Pattern("uniform", rms, terms)
    return Pattern(_shape_name(r, weight, x, y, structure2), max(rms, float(np.sqrt(structure2))), terms)


PATTERN_FLOOR = 0.01
LEAST_STRUCTURE = 0.015
LEAST_GAIN = 45.0
"""Chi-squared that the five terms of a low-order map must explain: chance does so once in a hundred million."""
MOST_OF_IT = 0.6
BINS = 6


def _low_order(r: Floats, weight: Floats, x: Floats, y: Floats) -> tuple[tuple[float, ...], float]:
    """Terms of a map of second order, and the chi-squared that it explains."""
    design = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y))
    weighted = design * weight
    normal = weighted @ design.T + np.eye(6) * 1e-3 * weight.sum()
    fit = np.linalg.solve(normal, weighted @ r)
    gain = float(weight @ (r * r - (r - fit @ design) ** 2))
    return tuple(float(value) for value in fit[1:]), gain


_U, _V = (axis.ravel() for axis in np.meshgrid(np.linspace(-1.0, 1.0, 9), np.linspace(-1.0, 1.0, 9)))
_EVERYWHERE = np.stack((_U, _V, _U * _U, _U * _V, _V * _V), axis=1)


def _map_rms(terms: tuple[float, ...]) -> float:
    """Scatter of the low-order map over the frame."""
    return float((_EVERYWHERE @ terms).std())


def _median(values: Floats) -> float:
    """Of finite values; `np.median` takes several times as long over some hundred of them."""
    ordered, middle = np.sort(values), values.size // 2
    return float(ordered[middle] if values.size % 2 else 0.5 * (ordered[middle - 1] + ordered[middle]))


def _shape_name(r: Floats, weight: Floats, x: Floats, y: Floats, structure2: float) -> str:
    """Name of the profile (along one of 24 directions, or outwards) that explains most of the structure."""
    angles = (np.arange(24) * np.pi / 12)[:, None]
    explained = _explained(r, weight, np.concatenate((x * np.cos(angles) + y * np.sin(angles), [np.hypot(x, y)])))
    along, outwards = max(explained[:-1]), explained[-1]
    if max(along, outwards) < MOST_OF_IT * structure2:
        return "patchy"
    return "one_side" if along >= outwards else "centre"


def _explained(r: Floats, weight: Floats, coordinates: Floats) -> list[float]:
    """Variance that a rising profile along each of (k, n) coordinates takes away: six bins of equal count, pooled."""
    order = np.argsort(coordinates, axis=1, kind="stable")
    begins = np.cumsum([0, *(part.size for part in np.array_split(r, BINS))])[:-1]
    total = np.add.reduceat(weight[order], begins, axis=1)
    mean = np.add.reduceat((weight * r)[order], begins, axis=1) / total
    whole = float(weight.sum())
    return [_risen(list(zip(t, m, strict=True))) / whole for t, m in zip(total.tolist(), mean.tolist(), strict=True)]


def _risen(bins: list[tuple[float, float]]) -> float:
    """Weighted squares of the means of neighbouring bins, (weight, mean), pooled until they rise, less their noise."""
    levels: list[tuple[float, float]] = []
    for one in bins:
        levels.append(one)
        while len(levels) > 1 and levels[-2][1] > levels[-1][1]:
            (w1, m1), (w2, m2) = levels[-2:]
            levels[-2:] = [(w1 + w2, (w1 * m1 + w2 * m2) / (w1 + w2))]
    return sum(w * m * m for w, m in levels) - len(levels)
