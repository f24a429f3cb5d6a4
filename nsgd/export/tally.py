"""Hours kept and lost, and to what; spells of bad sky: the arithmetic of the morning report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np

from nsgd.export.judged import Judged
from nsgd.records import SkyState, SubRow
from nsgd.session.sky import BAD_STATES

CAUSES: Final = {
    SkyState.OBSTRUCTED: "obstruction",
    SkyState.DEW: "dew or frost",
    SkyState.THINNING: "cloud",
    SkyState.CLOUDY: "cloud",
    SkyState.NO_STARS: "cloud",
}
"""What took the light, by sky state."""
REASONS: Final = {
    "transmission": "low transmission",
    "weight": "bright sky or noise",
    "fwhm": "soft stars",
    "ellipticity": "trailed stars",
}
"""What a sub fell under, by the first word of its first reason."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a number of subs."""

    subs: int
    kept: int
    hours: float
    kept_hours: float
    effective_hours: float
    """Hours of subs as good as the best one that would give the same signal to noise."""
    lost: dict[str, float]
    """Hours lost by cause, the greatest first."""

    @property
    def lost_hours(self) -> float:
        """All hours that do not go into the stack."""
        return self.hours - self.kept_hours


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time in which the sky was not clear."""

    cause: str
    begin_utc_s: float
    end_utc_s: float
    lowest: float
    """Lowest clear-sky transmission in it; NaN where no star was left."""


def tally(found: Judged, rows: Sequence[SubRow]) -> Tally:
    """Count subs and hours."""
    lost: dict[str, float] = defaultdict(float)
    kept, kept_hours, effective, total = 0, 0.0, 0.0, 0.0
    for row in rows:
        hours = (row.header.exposure_s or 0.0) / 3600.0
        total += hours
        cause = cause_of(found, row)
        if cause:
            lost[cause] += hours
            continue
        kept += 1
        kept_hours += hours
        weight = found.verdicts[row.sub_id].weight_of_best
        effective += hours * (weight if np.isfinite(weight) else 0.0)
    return Tally(len(rows), kept, total, kept_hours, effective, dict(sorted(lost.items(), key=lambda item: -item[1])))


def cause_of(found: Judged, row: SubRow) -> str:
    """Why a sub is not kept, in a few words; "" where it is."""
    if found.accepted(row):
        return ""
    if row.decision == "reject":
        return "rejected by you"
    state = CAUSES.get(found.states.get(row.sub_id, SkyState.UNKNOWN))
    if row.failure is not None:
        return state or "not measurable"
    verdict = found.verdicts.get(row.sub_id)
    word = verdict.reasons[0].split()[0] if verdict and verdict.reasons else ""
    return state if state and word == "transmission" else REASONS.get(word, "other")


def spells(found: Judged, rows: Sequence[SubRow]) -> list[Spell]:
    """Stretches of bad sky, in time order."""
    timed = sorted(rows, key=lambda row: row.order_utc_s)
    return list(_spells(found, timed))


def _spells(found: Judged, timed: Sequence[SubRow]) -> Iterator[Spell]:
    def cause(row: SubRow) -> str:
        state = found.states.get(row.sub_id, SkyState.UNKNOWN)
        return CAUSES[state] if state in BAD_STATES else ""

    for name, group in groupby(timed, key=cause):
        members = list(group)
        if name:
            seen = [found.verdicts[row.sub_id].transmission_clear for row in members if row.sub_id in found.verdicts]
            lowest = min((value for value in seen if np.isfinite(value)), default=float("nan"))
            yield Spell(name, _begin(members[0]), _end(members[-1]), lowest)


def _begin(row: SubRow) -> float:
    return row.order_utc_s - 0.5 * (row.header.exposure_s or 0.0)


def _end(row: SubRow) -> float:
    return row.order_utc_s + 0.5 * (row.header.exposure_s or 0.0)
