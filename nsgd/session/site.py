"""Rigs of one site see one sky: what the others' newest subs say of a loss of light that this one sees (pure).

Each rig says how much light its newest sub lost against its own clear expectation, and the error of that. For each
neighbour the ln likelihood ratio of "at least `LEAST_LOSS` is missing there too" over "it is clear there" decides what
it saw. Every rig has a bad sub of its own now and then (wind, a lamp, a lost guide star); a loss is shared where so
many of the neighbours do not lose light at once by such chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_LOSS = 0.08
"""ln; the smallest loss that this is about."""
SURE_NATS = 3.0
"""Evidence from which on a sub counts as dim or as clear."""
STRAY = 0.02
"""Part of a rig's subs that are dim for a reason of its own."""
CHANCE = 1e-3
"""What a site may take for cloud by chance, of all dim subs of one rig."""
ALONE = "this rig"
"""Cause of a loss that the others of the site do not see: dew, an obstruction, or the rig's own fault."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The newest sub of another rig of the site."""

    begin_utc_s: float
    """Earliest begin of its exposure."""
    end_utc_s: float
    loss: float
    """Light that is missing against its own clear expectation, ln; positive = fainter."""
    loss_err: float


class Opinion(StrEnum):
    """What a site thinks of one rig's loss of light."""

    SHARED = "shared"
    ALONE = "alone"
    UNKNOWN = "unknown"


def nats(loss: float, loss_err: float) -> float:
    """ln likelihood ratio of a loss of `LEAST_LOSS` over none, for Gaussian errors."""
    return (loss * LEAST_LOSS - 0.5 * LEAST_LOSS**2) / max(loss_err, 1e-3) ** 2


def chance(dim: int, neighbours: int) -> float:
    """Probability that at least `dim` of so many neighbours have a bad sub of their own at once (binomial)."""
    some = range(dim, neighbours + 1)
    return sum(math.comb(neighbours, k) * STRAY**k * (1.0 - STRAY) ** (neighbours - k) for k in some)


def opinion(neighbours: Sequence[Neighbour], began_utc_s: float) -> Opinion:
    """What the neighbours say of a loss of light that this rig sees since `began_utc_s`.

    Every sub that ended since then has its say on whether the loss is shared. That a neighbour saw clear sky proves
    this rig to be alone only where its sub began after the loss: a front needs its time to cross a field of telescopes.
    """
    said = [
        (one, nats(one.loss, one.loss_err))
        for one in neighbours
        if math.isfinite(one.loss) and one.loss_err > 0 and one.end_utc_s > began_utc_s
    ]
    dim = sum(value > SURE_NATS for _, value in said)
    clear = [one for one, value in said if value < -SURE_NATS]
    after = sum(one.begin_utc_s >= began_utc_s for one in clear)
    if chance(dim, dim + len(clear)) < CHANCE:
        return Opinion.SHARED
    return Opinion.ALONE if after >= 2 and after > 4 * dim else Opinion.UNKNOWN
