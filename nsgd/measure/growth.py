"""Curve of growth: which share of a star's light each aperture holds, as a stretch of the series' own curve.

The sums of the sub's bright stars in soft and hard apertures are fitted by a Moffat profile (Moffat
1969, A&A 3, 455) as the pixels show it. Its width is free in every sub. Its beta, and how the real
profile deviates from a Moffat, are those of the series' first sub unless the data contradict them: a
prior with a narrow peak and broad wings, so that wings change only when they visibly do. Without that
prior a curve costs 1.3 to 1.6 times the photon limit in faint or cloudy subs, with it 1.04 to 1.2
times (Cramer-Rao), and whatever is wrong with the anchor's curve cancels in ratios. Stars that are out of focus or
trailed are tried as the anchor's, spread over a pupil or along a line (`blurred`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from nsgd.measure import blurred
from nsgd.measure.apertures import (
    APERTURES,
    PIXEL_VARIANCE,
    SOFT,
    WITHIN,
    areas,
    cumulated,
    edges_px,
    hard_radius,
    outside_share,
    shares,
    shares_and_slope,
    whole_shares,
)
from nsgd.measure.bright import Bright, Mean
from nsgd.records import Floats

BETAS = np.geomspace(1.5, 15.0, 25)
FINE = 30
"""Values of beta about the likeliest one that are tried besides, over three steps of `BETAS`: bright stars tell
beta to one per cent."""
USUAL_BETA, USUAL_SPREAD = 3.3, 0.45
"""Centre and width (in ln beta) of what telescopes and air make."""
ANY_SPREAD = 0.8
"""The same of stars out of focus or trailed."""
SAME_ODDS, CHANGE_ODDS, NEAR_SPREAD = 0.6, 0.03, 0.05
"""Prior probabilities that beta is the anchor's and that it is any, and how far (in ln beta) it else strays from
the anchor's: air and anchor both vary a little, and a belief without a middle ground would flip from sub to sub."""
DEVIATIONS = np.array([0.0002, 0.002, 0.002, 0.012, 0.064, 0.5])
"""Sizes of the deviation from the expected profile that are tried, relative to each share; with the last one, for
rings of defocused stars and long trails, the sums alone make the curve."""
HALOES = np.array([0.0002, 0.001, 0.05, 0.01, 0.02, 0.02])
"""Parts of the light that may have moved into or out of a halo, for each of those sizes."""
DEVIATION_ODDS = np.array([0.74, 0.13, 0.03, 0.06, 0.03, 0.01])
BLURRED = 4
"""Of the sizes, those from this one on are blurs that the air does not make (a trail, a defocus). They are tried twice:
also with the wings where the anchor had them, in pixels, for a blur spreads the core only."""
_SIZE_OF = np.append(np.arange(DEVIATIONS.size), np.arange(BLURRED, DEVIATIONS.size))
"""The size that each trial has, those with kept wings at the end."""
KEPT_ODDS, KEPT_DOUBT = 0.85, 0.15
"""Probability that the wings of such a star are the anchor's, and the relative doubt of their light in each ring."""
LEAST_BLURRED = 1e-3
"""Probability of such a blur from which on an explanation is sought (`blurred`): the air alone makes most subs."""
BLUR_DEVIATIONS, BLUR_HALO, BLUR_DOUBT = np.array([0.002, 0.012, 0.064]), 0.001, 0.05
"""Sizes of the deviations from a blurred profile, of its halo, and the relative doubt of its wings in each ring."""
HALO_WIDTH, HALO_BETA = 3.2, 2.2
"""FWHM, in units of the star's, and beta of a halo as thin cloud, dew and dust make it."""
CHANGE_ERR, WING_RINGS = 0.1, SOFT + 3
"""Light in the wings, from the ring beyond two FWHM on, is where sky, neighbours and models err: its change since the
anchor is wrong by this part of it, the same for all stars. While the profile stays, such errors cancel."""
LEAST_WINGS_ERR = 0.003
"""Of ln beta: the steps tell it no better."""
LOOSE = np.array([1.0, 0.25])
"""Prior variances of the common factor and of ln FWHM: next to nothing is known of them beforehand."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What one sub's curve of growth was found to be; the first sub's is the anchor of its series."""

    beta: float
    deviation: Floats
    """(11,) share of each soft aperture, of each ring and of all beyond them, less the Moffat's."""
    fwhm_px: float
    """Of the light on the sensor."""
    aperture_fwhm_px: float
    """What the apertures are multiples of."""


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """What is known of a sub's curve of growth beforehand."""

    profile: Profile
    """Of the series' first sub."""
    wings: Floats
    """(11,) share of each ring from `WING_RINGS` on and of all beyond if they shine as in that sub, else 0."""
    deviation: Floats
    """(11,) in the same rings and beyond, that sub's profile less its Moffat."""
    axes: tuple[float, float]
    """Long and short axis of this sub's apertures, of an ellipse with the area of the unit circle."""


@dataclass(frozen=True, slots=True, eq=False)
class Wings:
    """How far out a sub's light reaches, by beta: believed, and seen in this sub alone."""

    log_beta: float
    """Mean of the posterior, NaN where the profile is another altogether."""
    err: float
    seen_log_beta: float
    seen_err: float
    response: Floats
    """(10,) change of the logarithm of each aperture's share with ln beta."""


NOTHING_TOLD = Wings(np.nan, np.nan, np.nan, np.nan, np.zeros(APERTURES))


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Posterior of the curve of growth."""

    share: Floats
    """(10,) share of the flux to infinity in each aperture."""
    share_err: Floats
    """(10,) relative error, common to all stars of the sub."""
    profile: Profile
    wings_err: float
    """Relative error, common to all stars, that a changed profile brings."""
    told: Wings


def anchored(profile: Profile, aperture_fwhm_px: float, fwhm_px: float, axes: tuple[float, float]) -> Anchor:
    """The series' profile as it is expected in a sub whose apertures are ellipses of these axes and this FWHM.

    Parameters
    ----------
    fwhm_px
        Of the sub's light, geometric mean of both axes.
    axes
        Long and short axis of an ellipse with the area of the unit circle.
    """
    edges = hard_radius(aperture_fwhm_px)[WING_RINGS - SOFT - 1 :]
    shift = [np.sqrt(2.0 * _blur_px2(axis * fwhm_px, profile)) for axis in axes]
    radius = edges_px(edges, axes, np.array([shift[0], 0.0]), np.array([0.0, shift[1]])).reshape(edges.size, -1)
    plain = outside_share(radius, np.array(profile.fwhm_px), np.array(profile.beta), 2.0 * PIXEL_VARIANCE)
    known = hard_radius(profile.aperture_fwhm_px)
    beyond = np.cumsum(profile.deviation[:SOFT:-1])[::-1]
    deviation = np.interp(radius, known, beyond) * np.minimum(known[-1] / radius, 1.0) ** 2
    outside, differs = (np.append(part.mean(axis=1), 0.0) for part in (plain + deviation, deviation))
    core = np.zeros(WING_RINGS)
    wings = np.append(core, np.maximum(outside[:-1] - outside[1:], 0.0))
    return Anchor(profile, wings, np.append(core, differs[:-1] - differs[1:]), axes)


def _blur_px2(fwhm_px: float, profile: Profile) -> float:
    """Variance along one axis of what widened the anchor's stars to this FWHM: between a Gaussian's and a box's."""
    return max(fwhm_px**2 - profile.fwhm_px**2, 0.0) / 8.0


def fit_curve(
    mean: Mean, aperture_fwhm_px: float, fwhm_px: float, anchor: Anchor | None, rough_beta: float | None = None
) -> Fit:
    """Posterior mean of the curve over beta (the steps of `BETAS`), over the size of the deviations, and over blurs.

    The width is fitted. The profile's width and beta are those of a Moffat also where a blur explains the curve; its
    deviation has the rest.

    Parameters
    ----------
    rough_beta
        What an earlier fit found: the steps are finer about it. That first fit, without, asks for no blur and
        tells nothing of the wings.
    """
    widths = (aperture_fwhm_px, fwhm_px)
    spreads = _spreads(widths, anchor)
    steps = BETAS if rough_beta is None else _finer(rough_beta)
    betas = steps if anchor is None else np.append(steps, anchor.profile.beta)
    trials = _trials(mean, spreads, widths, (betas, anchor))
    log_weight = _log_weights(trials.log_like, _prior(steps, anchor), anchor)
    posterior = _normalised(log_weight)
    likely = np.nonzero(posterior > 1e-9)  # far off, where a fit may have run away, nothing is averaged
    weight = posterior[likely] / posterior[likely].sum()
    curves = [_Curves(weight, trials.found[likely], trials.whole[likely], spreads[likely[0]], LOOSE)]
    if anchor is not None and rough_beta is not None and _may_be_blurred(posterior, fwhm_px, anchor):
        curves = _with_blurs(mean, curves[0], (widths, anchor), float(np.logaddexp.reduce(log_weight, axis=None)))
    middle, variance, found = _averaged(mean, curves)
    beta = float(np.exp(weight @ np.log(betas)[likely[1]]))
    fwhm = float(np.exp(weight @ trials.log_width[likely]))
    profile = Profile(beta, found - whole_shares(aperture_fwhm_px, np.array(fwhm), np.array(beta)), fwhm, widths[0])
    wings = 1.0 - middle[WING_RINGS - 1]
    of_air = float(curves[0].weight.sum())
    before = wings
    if anchor is not None:
        before = of_air * weight @ _wings_before(anchor, profile, likely[0]) + (1.0 - of_air) * anchor.wings.sum()
    told = NOTHING_TOLD if rough_beta is None else _wings_told(trials, of_air * posterior, np.log(betas))
    return Fit(middle, np.sqrt(variance), profile, CHANGE_ERR * abs(float(wings - before)), told)


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """Curves of growth that are likely."""

    weight: Floats
    """(n,) their probabilities."""
    found: Floats
    """(n, 11) shares in unknown units."""
    whole: Floats
    """(n, figures + 1, 11) shares that are expected, and their change with each figure that was fitted."""
    spread: Floats
    """(n, 11, 11) covariances of the deviations from them."""
    loose: Floats
    """(figures + 1,) prior variances of the common factor and of the figures."""

    @property
    def total(self) -> Floats:
        """(n, 1) all the light, in the units of the shares found."""
        return np.asarray(self.found[:, SOFT:].sum(axis=1, keepdims=True))


def _may_be_blurred(posterior: Floats, fwhm_px: float, anchor: Anchor) -> bool:
    """Whether the stars, longer than the anchor's, may have a profile as the air does not make it."""
    return bool(posterior[BLURRED:].sum() > LEAST_BLURRED and fwhm_px * anchor.axes[0] > anchor.profile.fwhm_px)


def _averaged(mean: Mean, curves: list[_Curves]) -> tuple[Floats, Floats, Floats]:
    """(10,) share in each aperture and its relative variance, and (11,) share of each ring and of all beyond."""
    weight = np.concatenate([part.weight for part in curves])
    variance = np.concatenate([_share_variance(part, mean.covariance) for part in curves])
    found = np.concatenate([part.found / part.total for part in curves])
    share = cumulated(found[:, :APERTURES])
    middle = weight @ share
    return middle, weight @ (variance + (share / middle - 1.0) ** 2), weight @ found


def _with_blurs(
    mean: Mean, curves: _Curves, expected: tuple[tuple[float, float], Anchor], evidence: float
) -> list[_Curves]:
    """The same curves, and beside them those of blurs that are explained, each with its probability.

    Parameters
    ----------
    evidence
        Logarithm of that of all curves which explain no blur.
    """
    widths, anchor = expected
    sharp = blurred.Sharp(
        anchor.profile.fwhm_px, anchor.profile.beta, anchor.deviation,
        seen_fwhm_px=widths[1], aperture_fwhm_px=widths[0], axes=anchor.axes,
    )  # fmt: skip
    spreads = _blur_spreads(widths, anchor)
    explained = blurred.curves(mean.share, mean.covariance, sharp, spreads)
    if explained is None:
        return [curves]
    odds = DEVIATION_ODDS[BLURRED:].sum() / (len(blurred.BLURS) * len(spreads))
    part = float(expit(np.logaddexp.reduce(explained.log_like) + np.log(odds) - evidence))
    weight = part * _normalised(explained.log_like)
    likely = _Curves(weight, explained.found, explained.whole, explained.spread, blurred.LOOSE)
    return [replace(curves, weight=(1.0 - part) * curves.weight), likely]


def _wings_told(trials: _Trials, weight: Floats, place: Floats) -> Wings:
    """What the trials say of ln beta where the profile is a Moffat's as the air makes it, at (betas,) places.

    Parameters
    ----------
    weight
        (sizes, betas) posterior probability of each trial, explained blurs having the rest.
    """
    order = np.argsort(place, kind="stable")
    cell = np.empty(place.size)
    cell[order] = np.gradient(place[order])
    like = np.exp(trials.log_like[:BLURRED] - trials.log_like[:BLURRED].max()) * DEVIATION_ODDS[:BLURRED, None] * cell
    believed = weight[:BLURRED]
    if not believed.sum() > 0.5:
        return NOTHING_TOLD
    moments = [_moments(part / part.sum(), place) for part in (believed, like)]
    # the slope is sought over what is likely by either: a belief may be a single value
    both = 0.5 * (believed / believed.sum() + like / like.sum())
    likely = np.nonzero(both > 1e-9)
    found, share_of = trials.found[likely], both[likely] / both[likely].sum()
    log_share = np.log(cumulated(found[:, :APERTURES]) / found[:, SOFT:].sum(axis=1, keepdims=True))
    offset = place[likely[1]] - share_of @ place[likely[1]]
    response = (share_of * offset) @ log_share / (share_of @ offset**2)
    return Wings(*moments[0], *moments[1], response)


def _moments(probability: Floats, place: Floats) -> tuple[float, float]:
    """Mean and standard deviation of places with (sizes, betas) probabilities; no less than a step's own."""
    of_place = probability.sum(axis=0)
    mean = float(of_place @ place)
    return mean, float(np.sqrt(max(of_place @ (place - mean) ** 2, LEAST_WINGS_ERR**2)))


def _wings_before(anchor: Anchor, profile: Profile, trial: NDArray[np.intp]) -> Floats:
    """(n,) light in the wings that the anchor leads to expect, for each trial's number."""
    swollen = whole_shares(profile.aperture_fwhm_px, np.array(profile.fwhm_px), np.array(anchor.profile.beta))
    swollen += anchor.profile.deviation
    return np.asarray(np.where(trial < DEVIATIONS.size, swollen[WING_RINGS:].sum(), anchor.wings.sum()))


def _finer(beta: float) -> Floats:
    """`BETAS` with steps that lie closer about one of them."""
    place, step = np.log(BETAS), np.log(BETAS[1] / BETAS[0])
    middle = place[np.argmin(np.abs(place - np.log(beta)))]
    fine = np.exp(middle + 1.5 * step * np.linspace(-1.0, 1.0, FINE))
    return np.sort(np.concatenate((BETAS[np.abs(place - middle) > 1.6 * step], fine)))


@dataclass(frozen=True, slots=True, eq=False)
class _Trials:
    """Fits for every size of the deviations and every beta."""

    log_like: Floats
    """(sizes, betas)"""
    log_width: Floats
    whole: Floats
    """(sizes, betas, 2, 11) shares that are expected, and their change with ln FWHM."""
    found: Floats
    """(sizes, betas, 11) shares in unknown units, those of rings and beyond never below 0."""


def _trials(
    mean: Mean, spreads: Floats, widths: tuple[float, float], believed: tuple[Floats, Anchor | None]
) -> _Trials:
    betas, anchor = believed
    inverse = np.linalg.inv(mean.covariance + spreads[:, :APERTURES, :APERTURES])
    log_width = np.full((1, betas.size), np.log(widths[1]))
    for _ in range(4):
        plain, slope = shares_and_slope(widths[0], np.exp(log_width), betas)
        if anchor is not None:
            plain, slope = _as_expected(plain, slope, anchor)
        seen, along = plain[..., :APERTURES], slope[..., :APERTURES]
        of_seen, of_along = seen @ inverse, along @ inverse
        # the normal equations of a factor and a step of ln FWHM, two by two
        both = (of_seen * along).sum(axis=-1)
        ones, others = (of_seen * seen).sum(axis=-1), (of_along * along).sum(axis=-1)
        determinant = ones * others - both**2
        told, asked = of_seen @ mean.share, of_along @ mean.share
        factor = (told * others - asked * both) / determinant
        log_width = log_width + np.clip((asked * ones - told * both) / determinant / factor, -0.2, 0.2)
    left = mean.share - factor[..., None] * seen
    filtered = left @ inverse
    chi2 = (filtered * left).sum(axis=-1)
    log_like = -0.5 * (chi2 - np.linalg.slogdet(inverse)[1][:, None] + np.log(np.abs(determinant)))
    log_like = np.where(factor > blurred.LEAST_LIGHT, log_like, -np.inf)  # a star gives light
    found = plain + filtered @ spreads[:, :APERTURES] / factor[..., None]
    found[..., SOFT:] = np.maximum(found[..., SOFT:], 0.0)
    return _Trials(log_like, log_width, np.stack((plain, slope), axis=-2), found)


def _as_expected(plain: Floats, slope: Floats, anchor: Anchor) -> tuple[Floats, Floats]:
    """(sizes, betas, 11) shares and their change with ln FWHM, deviating from a Moffat's as the anchor's do."""
    kept = np.arange(_SIZE_OF.size)[:, None, None] >= DEVIATIONS.size
    held = kept & (np.arange(APERTURES + 1) >= WING_RINGS)
    plain = plain + anchor.profile.deviation
    return np.where(held, anchor.wings, plain), np.where(held, 0.0, slope)


def _share_variance(curves: _Curves, covariance: Floats) -> Floats:
    """(n, 10) relative variance of each enclosed share, one common factor of all sums being of no account.

    Width and deviations may trade against each other; what counts is how well the sums themselves fix the
    shares, so the covariance is that of their sum, posterior to the data, which do not see what lies beyond:
    of factor and figures first, and of the deviations where both are given.

    Parameters
    ----------
    covariance
        (10, 10) of the sums.
    """
    found, whole, spread = curves.found, curves.whole, curves.spread
    seen = whole[..., :APERTURES]
    inverse = np.linalg.inv(spread[:, :APERTURES, :APERTURES] + covariance)
    drawn = spread[..., :APERTURES] @ inverse
    left = spread - drawn @ spread[:, :APERTURES]
    along = whole - seen @ np.swapaxes(drawn, 1, 2)
    known = np.linalg.inv(np.diag(1.0 / curves.loose) + seen @ inverse @ np.swapaxes(seen, 1, 2))
    within = np.pad(WITHIN, ((0, 0), (0, 1)))
    rings = (np.arange(APERTURES + 1) >= SOFT) / curves.total
    change = within / cumulated(found[:, :APERTURES])[..., None] - rings[:, None, :]
    moved = change @ np.swapaxes(along, 1, 2)
    variance = ((change @ left) * change).sum(axis=-1) + ((moved @ known) * moved).sum(axis=-1)
    return np.asarray(np.maximum(variance, 0.0))


def _spreads(widths: tuple[float, float], anchor: Anchor | None) -> Floats:
    """(sizes, 11, 11) covariances of the deviations."""
    if anchor is None:
        return _deviating(widths, DEVIATIONS, HALOES)
    spreads = _deviating(widths, DEVIATIONS[_SIZE_OF], np.pad(HALOES, (0, DEVIATIONS.size - BLURRED)))
    spreads[DEVIATIONS.size :] = _with_doubt(spreads[DEVIATIONS.size :], anchor, KEPT_DOUBT)
    return spreads


def _blur_spreads(widths: tuple[float, float], anchor: Anchor) -> Floats:
    """(sizes, 11, 11) covariances of the deviations from a blurred profile."""
    haloes = np.full(BLUR_DEVIATIONS.size, BLUR_HALO)
    return _with_doubt(_deviating(widths, BLUR_DEVIATIONS, haloes), anchor, BLUR_DOUBT)


def _deviating(widths: tuple[float, float], parts: Floats, haloes: Floats) -> Floats:
    """(sizes, 11, 11) covariances of deviations by some part of each share, and of some part of the light in a halo."""
    typical = whole_shares(widths[0], np.array(widths[1]), np.array(3.0))
    halo = whole_shares(widths[0], np.array(HALO_WIDTH * widths[1]), np.array(HALO_BETA)) - typical
    return np.asarray(
        parts[:, None, None] ** 2 * np.diag(typical**2) + haloes[:, None, None] ** 2 * np.outer(halo, halo)
    )


def _with_doubt(spreads: Floats, anchor: Anchor, doubt: float) -> Floats:
    """The same where the wings are the anchor's, each ring but for a part of its light."""
    wings = np.diag(np.arange(APERTURES + 1) >= WING_RINGS)
    return np.where(wings, np.diag((doubt * anchor.wings) ** 2), spreads)


def _log_weights(log_like: Floats, prior: Floats, anchor: Anchor | None) -> Floats:
    """(sizes, betas) log of the posterior probabilities, free in a common summand."""
    odds = DEVIATION_ODDS
    if anchor is not None:
        part = np.where(np.arange(odds.size) < BLURRED, 1.0, 1.0 - KEPT_ODDS)
        odds = np.append(odds * part, odds[BLURRED:] * KEPT_ODDS)
    log_weight = log_like + np.log(odds)[:, None] + prior[_SIZE_OF[: odds.size]]
    return np.where(np.isfinite(log_weight), log_weight, -1e300)


def _normalised(log_weight: Floats) -> Floats:
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def _prior(betas: Floats, anchor: Anchor | None) -> Floats:
    """(sizes, betas) log of the prior probabilities of rising betas and, after them, of the anchor's if there is one.

    Where the profile is another altogether (out of focus, trailed) the anchor's beta says nothing.
    """
    place = np.log(betas)
    usual = _bell(place, np.log(USUAL_BETA), USUAL_SPREAD)
    any_beta = _bell(place, np.log(USUAL_BETA), ANY_SPREAD)
    if anchor is None:
        held, free = usual, any_beta
    else:
        near = _bell(place, np.log(anchor.profile.beta), NEAR_SPREAD)
        other = CHANGE_ODDS * usual + (1.0 - SAME_ODDS - CHANGE_ODDS) * near
        held, free = np.append(other, SAME_ODDS), np.append(any_beta, 0.0)
    return np.log(np.where((np.arange(DEVIATIONS.size) >= BLURRED)[:, None], free, held) + 1e-300)


def _bell(place: Floats, middle: float, spread: float) -> Floats:
    """Probability of each cell of a Gaussian: places may lie apart unevenly."""
    edges = np.concatenate(([-np.inf], 0.5 * (place[1:] + place[:-1]), [np.inf]))
    return np.asarray(np.diff(ndtr((edges - middle) / spread)))


def joint_flux(bright: Bright, mean: Mean, share: Floats, fit: Fit) -> tuple[Floats, Floats, Floats, Floats]:
    """Total flux of the bright stars from all their apertures together.

    Parameters
    ----------
    share
        (n, 10) share of each soft aperture and of each ring for each star.
    fit
        Its errors of the shares go up and down together in one sub.

    Returns
    -------
    flux, variance, common_err, response
        (n,) generalised least squares: ADU; ADU^2, the star's own photons included; the relative error
        that the shares bring to each star; and the change of the logarithm of its expected light with ln beta.
    """
    filtered = np.einsum("nkl,nl->nk", mean.inverse, share)
    variance = 1.0 / (filtered * share).sum(axis=1)
    gain = filtered * variance[:, None]
    flux = (gain * (bright.sums - mean.sky * areas(bright.aperture_fwhm_px))).sum(axis=1)
    # what a sum over rings is as a sum over apertures, each ring being one less the next
    part = np.concatenate((gain[:, :SOFT], gain[:, SOFT:] - np.pad(gain[:, SOFT + 1 :], ((0, 0), (0, 1)))), axis=1)
    expected = part * cumulated(share)
    return flux, variance, np.abs(expected @ fit.share_err), expected @ fit.told.response


def swollen_shares(fit: Fit, aperture_fwhm_px: float, swelling: Floats) -> Floats:
    """(n, 10) shares of stars that are wider by `swelling` in ln FWHM, over those of the fit."""
    return np.asarray(
        cumulated(_ring_swelling(fit, aperture_fwhm_px, swelling))
        / cumulated(_ring_swelling(fit, aperture_fwhm_px, np.zeros(1)))
    )


def _ring_swelling(fit: Fit, aperture_fwhm_px: float, swelling: Floats) -> Floats:
    beta = np.full(swelling.size, fit.profile.beta)
    return shares(aperture_fwhm_px, fit.profile.fwhm_px * np.exp(swelling), beta) + fit.profile.deviation[:APERTURES]


def evened(bright: Bright, fit: Fit, swelling: Floats) -> Bright:
    """The bright stars' sums as if all had the width of the fit; rings without light stay as they are."""
    swollen = _ring_swelling(fit, bright.aperture_fwhm_px, swelling)
    usual = np.broadcast_to(_ring_swelling(fit, bright.aperture_fwhm_px, np.zeros(1)), swollen.shape)
    change = np.divide(swollen, usual, out=np.ones_like(swollen), where=usual > 0)
    return replace(bright, sums=bright.sums / np.maximum(change, 0.2))
