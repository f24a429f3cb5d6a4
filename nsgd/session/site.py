"""Rigs of one site see one sky: what the others' newest subs say of a loss of light that this one sees (pure).

Each rig says how much light its newest sub lost against its own clear expectation, and the error of that. For each
neighbour that is one ln likelihood ratio: "at least `LEAST_LOSS` is missing there too" over "it is clear there". One
sub says no more than `MOST_NATS` (a passing aeroplane, a bad guide star), so that two rigs at least must agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_LOSS = 0.05
"""ln; the smallest loss that this is about."""
MOST_NATS = 6.0
ENOUGH_NATS = 9.0
"""More than one rig alone can say."""
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
    """ln likelihood ratio of a loss of `LEAST_LOSS` over none, for Gaussian errors; bounded."""
    ratio = (loss * LEAST_LOSS - 0.5 * LEAST_LOSS**2) / max(loss_err, 1e-3) ** 2
    return min(max(ratio, -MOST_NATS), MOST_NATS)


def opinion(neighbours: Sequence[Neighbour], began_utc_s: float) -> Opinion:
    """What the neighbours say of a loss of light that this rig sees since `began_utc_s`.

    A neighbour's sub counts for a shared loss from the moment that it ended after the loss began; that it saw clear
    sky counts only where it began after that too: a front needs its time to cross a field of telescopes.
    """
    said = [
        (one, nats(one.loss, one.loss_err))
        for one in neighbours
        if math.isfinite(one.loss) and one.loss_err > 0 and one.end_utc_s > began_utc_s
    ]
    seen = [value for _, value in said if value > 0]
    clear = [value for one, value in said if value < 0 and one.begin_utc_s >= began_utc_s]
    total = sum(seen) + sum(clear)
    if total > ENOUGH_NATS or (sum(seen) > ENOUGH_NATS and len(seen) > len(clear)):
        return Opinion.SHARED
    if total < -ENOUGH_NATS:
        return Opinion.ALONE
    return Opinion.UNKNOWN
