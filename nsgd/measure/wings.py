"""How steady the wings of the stars are in a series, and what that says of a sub whose own stars hardly show them.

A star's total flux hangs on the light far out, which faint stars do not show: where beta comes from one sub alone,
its error is the largest of all. Over a series the subs tell together what beta is and how much it strays from sub to
sub; each sub's fluxes are then moved to the beta that both make likely. Where beta strays much, or one sub stands
out, that sub's own stars have the say (a random effect with a wide second component; how wide it is, is summed over,
not chosen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nsgd.measure.scale import Measured
from nsgd.records import Floats

LEAST_SUBS = 4
"""Fewer tell nothing of what is usual in a series."""
STRAYS, USUAL_STRAY = np.geomspace(0.002, 0.2, 17), 0.02
"""How far ln beta may stray from sub to sub, and how far it does as a rule (half a Cauchy distribution)."""
ODD_STRAY, ODDS = 0.3, 0.05
"""How far it strays in a sub that stands out, and how many do."""
ROUNDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Steadiness:
    """What is likely in a series, for each of `STRAYS`."""

    log_beta: Floats
    """Mean ln beta."""
    probability: Floats


def learn(told: Sequence[Floats]) -> Steadiness | None:
    """Steadiness of a series from (5,) what each of its subs tells (`SubFacts.wings` of a channel); None for few."""
    known = np.array([one for one in told if one.size and np.isfinite(one).all()]).reshape(-1, 5)
    if len(known) < LEAST_SUBS:
        return None
    seen, err2 = known[:, 2], known[:, 3] ** 2
    middle = np.full(STRAYS.size, float(np.median(seen)))
    for _ in range(ROUNDS):
        usual, log_like = _usual(seen - middle[:, None], err2)
        weight = usual / (err2 + STRAYS[:, None] ** 2) + (1.0 - usual) / (err2 + ODD_STRAY**2)
        middle = (weight * seen).sum(axis=1) / weight.sum(axis=1)
    prior = np.log(STRAYS) - np.log1p((STRAYS / USUAL_STRAY) ** 2)
    posterior = log_like.sum(axis=1) - 0.5 * np.log(weight.sum(axis=1)) + prior
    probability = np.exp(posterior - posterior.max())
    return Steadiness(middle, probability / probability.sum())


def _usual(offset: Floats, err2: Floats) -> tuple[Floats, Floats]:
    """(strays, subs) probability that a sub strays as its series does, not as one that stands out; its likelihood."""
    parts = [
        np.log(share) - 0.5 * (offset**2 / (err2 + width2) + np.log(err2 + width2))
        for share, width2 in ((1.0 - ODDS, STRAYS[:, None] ** 2), (ODDS, ODD_STRAY**2))
    ]
    log_like = np.logaddexp(*parts)
    return np.exp(parts[0] - log_like), log_like


def steadied(sub: Measured, told: Floats, steady: Steadiness | None) -> Measured:
    """A channel's fluxes as they are at the beta that the sub and its series make likely together.

    Parameters
    ----------
    told
        (5,) what the sub tells, as `learn`.
    """
    if steady is None or not told.size or not np.isfinite(told).all():
        return sub
    log_beta, err, seen, seen_err, response = (float(value) for value in told)
    likely, likely_err = _likely(seen, seen_err, steady)
    light = float(np.exp(response * (likely - log_beta)))
    rest2 = max(sub.common_err**2 - (response * err) ** 2, 0.0)
    common_err = float(np.sqrt(rest2 + (response * likely_err) ** 2))
    return replace(sub, flux=sub.flux * light, sky_err=sub.sky_err * light, common_err=common_err)


def _likely(seen: float, seen_err: float, steady: Steadiness) -> tuple[float, float]:
    """ln beta of a sub, and its error."""
    offset = seen - steady.log_beta
    usual, _ = _usual(offset[:, None], np.array([seen_err**2]))
    share = steady.probability * np.stack((usual[:, 0], 1.0 - usual[:, 0]))
    stray2 = np.stack((STRAYS**2, np.full(STRAYS.size, ODD_STRAY**2)))
    part = stray2 / (stray2 + seen_err**2)
    place = steady.log_beta + part * offset
    mean = float((share * place).sum())
    return mean, float(np.sqrt((share * (part * seen_err**2 + (place - mean) ** 2)).sum()))
