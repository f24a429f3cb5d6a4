"""How bright a clear sub of a stream should be right now, and when the sky began to differ (pure).

`Line` follows ln(transmission) of a stream in clear sky: a level and a slope that wander slowly, tracked by a Kalman
filter. Small errors of the expected extinction and slow changes of transparency are followed.

`Onset` is the hypothesis "light has been missing since this sub": it holds the lines as they were before it, so that a
thick cirrus is not learnt as normal, and adds up what the subs since then say. The highest of all onsets decides: a
generalised likelihood ratio test (Lorden 1971; Willsky and Jones 1976) whose error of the line is part of the variance,
so that a line that is not well known cannot raise an alarm. Against a CUSUM that knows the size of the dip it
loses a few per cent in delay, at any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nsgd.session.backdrop import LEAST_SAY, MOST_SAY, Backdrop, Glow

BASE_SD = 0.03
"""How far a night may start from the clear level, ln."""


@dataclass(frozen=True, slots=True)
class Wander:
    """How much the light of a clear night changes by itself, ln and hours."""

    base: float
    """Random walk of the level, per square root of an hour."""
    slope: float
    """Random walk of the slope."""
    slope_sd: float
    """Slopes that are possible at all (a wrong extinction), per hour."""
    slope_life_h: float
    """A slope that nothing confirms dies away in this time."""


WANDERS = (
    Wander(0.0002, 0.0001, 0.0035, 0.8),
    Wander(0.0020, 0.006, 0.015, 1.0),
    Wander(0.0030, 0.05, 0.12, 3.0),
)
"""A steady night and a restless one; what the night itself shows decides between them. The last is for an object that
sinks (or rises) and whose airmass nobody knows."""
SINKING = 2
SWITCH_NATS, MOST_NATS = 4.5, 6.5
"""Evidence (ln likelihood ratio) for a restless night to be taken as one, and its bounds."""

EXTRA_SD, EXTRA_WEIGHT = 0.004, 10
"""Scatter of a clear sub beyond its stated error before any is measured, and how many subs that counts for."""
EXTRA_BOUNDS = (0.001, 0.015)

HIGHEST_BASE = 0.012
"""Subs above the clear level raise the line no further than this: the level itself is catching up."""
LOWEST_BASE = -0.08
LOWEST_SUNK = -0.35
"""The same where the airmass is not known."""

MOST_ONSETS = 24


@dataclass(frozen=True, slots=True)
class Line:
    """Level (ln transmission), slope (per hour) and their covariance at a time."""

    utc_s: float = math.nan
    base: float = 0.0
    slope: float = 0.0
    var_base: float = BASE_SD**2
    var_both: float = 0.0
    var_slope: float = WANDERS[0].slope_sd ** 2
    wander: int = 0
    """Which of `WANDERS`."""

    def _ahead(self, utc_s: float) -> tuple[float, float, float]:
        """Hours to a time, what is left of the slope then, and hours of slope on the way."""
        hours = max(0.0, utc_s - self.utc_s) / 3600.0 if self.utc_s == self.utc_s else 0.0
        life = WANDERS[self.wander].slope_life_h
        keep = math.exp(-hours / life)
        return hours, keep, life * (1.0 - keep)

    def base_at(self, utc_s: float) -> float:
        """Level at a later time."""
        return self.base + self._ahead(utc_s)[2] * self.slope

    def var_at(self, utc_s: float) -> float:
        """Variance of the level at a later time."""
        hours, _, moved = self._ahead(utc_s)
        wandered = WANDERS[self.wander].base ** 2 * hours + 2.0 * moved * self.var_both + moved**2 * self.var_slope
        return self.var_base + wandered

    def at(self, utc_s: float) -> Line:
        """The line carried on to a later time."""
        sky = WANDERS[self.wander]
        hours, keep, moved = self._ahead(utc_s)
        return Line(
            utc_s=utc_s,
            base=self.base + moved * self.slope,
            slope=keep * self.slope,
            var_base=self.var_at(utc_s),
            var_both=keep * (self.var_both + moved * self.var_slope),
            var_slope=min(keep**2 * self.var_slope + sky.slope**2 * hours, sky.slope_sd**2),
            wander=self.wander,
        )

    def learnt(self, value: float, variance: float) -> Line:
        """The line after one more clear sub at its own time; far outliers have a bounded say."""
        total = self.var_base + variance
        bound = 2.5 * math.sqrt(total)
        surprise = min(max(value - self.base, -bound), bound)
        gain, gain_slope = self.var_base / total, self.var_both / total
        lowest = LOWEST_SUNK if self.wander == SINKING else LOWEST_BASE
        return replace(
            self,
            base=min(max(self.base + gain * surprise, lowest), HIGHEST_BASE),
            slope=self.slope + gain_slope * surprise,
            var_base=self.var_base * (1.0 - gain),
            var_both=self.var_both * (1.0 - gain),
            var_slope=self.var_slope - gain_slope * self.var_both,
        )

    def shifted(self, by: float) -> Line:
        """The line in units that changed: a better clear level moves every sub by as much."""
        return replace(self, base=self.base + by)

    def loosened(self, sd: float) -> Line:
        """The line after something that may have moved the level a little (a flip, a long pause)."""
        return replace(self, var_base=min(self.var_base + sd**2, BASE_SD**2))


RESTLESS = Line(var_slope=WANDERS[1].slope_sd ** 2, wander=1)
Lines = tuple[Line, Line]


@dataclass(frozen=True, slots=True)
class Track:
    """One stream: its line for a steady and for a restless night, and the scatter of its subs."""

    lines: Lines = (Line(), RESTLESS)
    restless_nats: float = 0.0
    """Evidence for a restless night."""
    extra_var: float = EXTRA_SD**2
    """Scatter of the subs beyond their stated errors."""
    subs: int = 0

    @property
    def choice(self) -> int:
        """The line that dips are measured against."""
        return int(self.restless_nats > SWITCH_NATS)

    def variance(self, error: float) -> float:
        """Of one clear sub about the line, the line's own not included."""
        return error**2 + self.extra_var

    def surprise(self, utc_s: float, value: float, error: float) -> Surprise:
        """How far ln(transmission) `value` lies below the line."""
        return surprise(self.lines[self.choice], utc_s, value, self.variance(error))

    def seen(self, utc_s: float, value: float, error: float) -> Track:
        """Learn from a sub that is taken for clear: ln(transmission) `value` with its error."""
        steady, restless = (line.at(utc_s) for line in self.lines)
        variance = self.variance(error)
        line = restless if self.choice else steady
        expected = line.var_base + variance
        square = min((value - line.base) ** 2, 9.0 * expected)
        # A line that is not known well itself says little about the scatter of the subs.
        gain = variance / expected / (min(self.subs, 50) + EXTRA_WEIGHT)
        low, high = EXTRA_BOUNDS
        extra = min(max(self.extra_var + gain * (1.08 * square - expected), low**2), high**2)
        nats = self.restless_nats + _evidence(value, steady, restless, variance)
        lines = (steady.learnt(value, variance), restless.learnt(value, variance))
        return Track(lines, min(max(nats, -MOST_NATS), MOST_NATS), extra, self.subs + 1)

    def loosened(self, sd: float) -> Track:
        """After something that may have moved the level a little (a flip, a long pause)."""
        return replace(self, lines=(self.lines[0].loosened(sd), self.lines[1].loosened(sd)))

    def shifted(self, by: float) -> Track:
        """In units that changed."""
        return replace(self, lines=(self.lines[0].shifted(by), self.lines[1].shifted(by)))

    def sunk(self, dip: float, per_hour: float) -> Track:
        """The loss is extinction that nobody took out, and it goes on at this rate, ln."""
        line = replace(
            self.lines[self.choice].loosened(0.01),
            base=max(self.lines[self.choice].base - dip, LOWEST_SUNK),
            slope=-per_hour,
            var_both=0.0,
            var_slope=(0.5 * WANDERS[SINKING].slope_sd) ** 2,
            wander=SINKING,
        )
        return replace(self, lines=(line, line), restless_nats=0.0)

    def expected(self, utc_s: float) -> float:
        """Light that a clear sub has, where extinction stayed in; else 1."""
        line = self.lines[self.choice]
        return math.exp(min(line.base_at(utc_s), 0.0)) if line.wander == SINKING else 1.0

    def moved(self, dip: float) -> Track:
        """A steady loss is the new clear level."""
        steady, restless = (replace(line.loosened(0.01), base=line.base - dip, slope=0.0) for line in self.lines)
        return replace(self, lines=(steady, restless))


def _evidence(value: float, steady: Line, restless: Line, variance: float) -> float:
    """ln likelihood of one sub for a restless night over that for a steady one; bounded, an outlier is no evidence."""
    nats = 0.0
    for line, sign in ((steady, -1.0), (restless, 1.0)):
        total = line.var_base + variance
        nats += sign * (-0.5 * math.log(total) - 0.5 * min((value - line.base) ** 2 / total, 9.0))
    return min(max(nats, -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class Surprise:
    """One sub against a line."""

    dip: float
    """Light lost, ln; positive = fainter."""
    sigma: float
    """Its standard deviation, the line's own included."""

    @property
    def z(self) -> float:
        """Dip in sigma."""
        return self.dip / self.sigma


def surprise(line: Line, utc_s: float, value: float, variance: float) -> Surprise:
    """ln(transmission) `value` against a line; `variance` without the line's own."""
    return Surprise(line.base_at(utc_s) - value, math.sqrt(line.var_at(utc_s) + variance))


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums over the subs of one stream since an onset, against its lines from before it."""

    lines: Lines
    weight: float = 0.0
    """Sum of 1 / variance."""
    weighted: tuple[float, float] = (0.0, 0.0)
    """Sum of dip / variance, for each line."""
    late_s: float = 0.0
    """Sum of time / variance, for the lines' error at the mean time."""
    glow: Glow = field(default_factory=lambda: Glow(Backdrop()))

    def added(self, utc_s: float, value: float, variance: float, ln_sky: float = math.nan) -> Loss:
        """One more sub, and the sky behind it."""
        weight = 1.0 / variance
        steady, restless = self.lines
        weighted = (
            self.weighted[0] + weight * (steady.base_at(utc_s) - value),
            self.weighted[1] + weight * (restless.base_at(utc_s) - value),
        )
        return Loss(
            self.lines, self.weight + weight, weighted, self.late_s + weight * utc_s, self.glow.added(utc_s, ln_sky)
        )

    def shifted(self, by: float) -> Loss:
        """In units that changed; the dips so far stay what they were."""
        return replace(self, lines=(self.lines[0].shifted(by), self.lines[1].shifted(by)))

    def mean(self, choice: int) -> tuple[float, float]:
        """Mean dip against one of the lines and its variance, the line's own included."""
        own = self.lines[choice].var_at(self.late_s / self.weight)
        return self.weighted[choice] / self.weight, 1.0 / self.weight + own


Found = tuple[float, float, float]
"""Time, ln(transmission), variance of a sub."""
BehindIt = tuple[Backdrop, float]
"""The stream's sky as it was known before a sub, and ln of the sub's own."""
NO_SKY: BehindIt = (Backdrop(), math.nan)


@dataclass(frozen=True, slots=True)
class Onset:
    """Light missing since a sub: what the subs of every stream since then say."""

    utc_s: float
    number: int
    """Of the sub, counted since the night began."""
    losses: Mapping[str, Loss] = field(default_factory=dict)

    def added(self, key: str, lines: Lines, found: Found, sky: BehindIt = NO_SKY) -> Onset:
        """One more sub of stream `key`; `lines` are the stream's before this sub."""
        loss = self.losses.get(key) or Loss(lines, glow=Glow(sky[0]))
        return Onset(self.utc_s, self.number, {**self.losses, key: loss.added(*found, sky[1])})

    def shifted(self, key: str, by: float) -> Onset:
        """With one stream's units changed."""
        if key not in self.losses:
            return self
        return replace(self, losses={**self.losses, key: self.losses[key].shifted(by)})

    def z(self, choice: int = 0) -> float:
        """Mean dip of all streams in units of its error: photons, scatter and the line's own."""
        above, below = self._dip(choice)
        return above / math.sqrt(below) if below else 0.0

    def evidence(self, choice: int = 0) -> float:
        """The same with what the sky behind the stars says, as z of one Gaussian (z^2 / 2 in nats)."""
        above, below = self._dip(choice)
        if not above > 0:
            return 0.0
        nats = sum(loss.glow.nats(above / below) for loss in self.losses.values())
        nats = min(max(nats, LEAST_SAY), MOST_SAY)
        return math.sqrt(max(above**2 / below + 2.0 * nats, 0.0))

    def _dip(self, choice: int) -> tuple[float, float]:
        """Sums of dip / variance and of 1 / variance over the streams."""
        above = below = 0.0
        for loss in self.losses.values():
            dip, variance = loss.mean(choice)
            above += dip / variance
            below += 1.0 / variance
        return above, below


def followed(
    onsets: tuple[Onset, ...], key: str, lines: Lines, found: Found, number: int, sky: BehindIt = NO_SKY
) -> tuple[Onset, ...]:
    """All onsets after one more sub: it is added to each, and begins one; those that it refutes go.

    Of older ones only some are kept, so that their number stays below `MOST_ONSETS`.
    """
    fresh = Onset(found[0], number)
    grown = [onset.added(key, lines, found, sky) for onset in (*onsets, fresh)]
    kept = [onset for onset in grown if onset.z() > 0.2]
    while len(kept) > MOST_ONSETS:
        ages = [number - onset.number + 1 for onset in kept]
        # Drop the one whose neighbours in age cover it best.
        crowded = min(range(1, len(kept) - 1), key=lambda i: (ages[i - 1] - ages[i + 1]) / ages[i])
        kept.pop(crowded)
    return tuple(kept)


def threshold(subs_between: float) -> float:
    """z at which the highest onset fires falsely once in so many subs (fitted to simulated Gaussian nights)."""
    return math.sqrt(2.0 * (math.log(max(subs_between, 60.0)) - 1.68))
