"""The sky behind the stars as a second witness of cloud: how bright it should be, and what a change of it says (pure).

Cloud throws the light of a town back, or hides the glow of a dark sky: how much of either nobody knows beforehand. The
evidence is therefore a Bayes factor over that unknown strength. Where the sky keeps its level it speaks against cloud,
but softly, since thin cloud over a dark site changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nsgd.records import NAN

FOLLOWED_S = 720.0
"""Time in which the line follows the sky, where subs are shorter than that."""
KNOWN_S = 1800.0
"""Moon and twilight may change the sky without a cloud when its last clear sub is longer ago than this."""
STEEP_PER_HOUR = 1.0
"""Where the sky changes faster than this, ln, moon or twilight are at work: it is no witness."""
STRENGTH = 0.5
"""Typical change of the sky, ln, per loss of starlight, ln; of either sign."""
STRONGEST = 2.0
"""A sky that changes more than this per loss is changed by something else."""
LEAST_SAY, MOST_SAY = -0.3, 2.5
"""Bounds of the sky's say, whatever it does."""
AVERAGED = 0.6
"""Part of one sub's variance that the mean of many keeps: the error of a smoothed line carried on."""


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Level and slope of a stream's clear sky, ln (Holt's linear smoothing); NaN before the first sub."""

    utc_s: float = NAN
    ln_sky: float = NAN
    slope: float = 0.0
    """Per hour."""
    noise: float = 0.01
    """Mean of |surprise|."""
    step_s: float = 180.0
    """Time between its subs."""

    @property
    def sigma(self) -> float:
        """Standard deviation of the next sub about the line."""
        return 1.25 * self.noise

    def sigma_at(self, utc_s: float) -> float:
        """The same of a sub at a later time: the slope's error grows (variances of an alpha-beta tracker)."""
        steps = min(max((utc_s - self.utc_s) / self.step_s, 1.0), 1e4) if self.utc_s == self.utc_s else 1.0
        alpha = _gain(self.step_s)
        beta = _slope_gain(alpha)
        scale = alpha * (4.0 - beta - 2.0 * alpha)
        level, both, slope = 2.0 * alpha**2 + beta * (2.0 - 3.0 * alpha), beta * (2.0 * alpha - beta), 2.0 * beta**2
        ahead, one = (1.0 + (level + 2.0 * n * both + n**2 * slope) / scale for n in (steps, 1.0))
        return self.sigma * math.sqrt(ahead / one)

    def expected(self, utc_s: float) -> float:
        """ln of the sky's level at a time; NaN where the last clear sub says nothing about it any more."""
        if utc_s - self.utc_s > KNOWN_S:
            return NAN
        return self.ln_sky + self.slope * (utc_s - self.utc_s) / 3600.0

    def after_pause(self) -> Backdrop:
        """The moon and the twilight went on meanwhile: the sky's level is not known."""
        return replace(self, ln_sky=NAN, slope=0.0)

    def learnt(self, utc_s: float, ln_sky: float, subs: int) -> Backdrop:
        """The line after one more clear sub; `subs` came before it."""
        if not math.isfinite(ln_sky):
            return self
        surprise = ln_sky - self.expected(utc_s)
        if not math.isfinite(surprise):
            return replace(self, utc_s=utc_s, ln_sky=ln_sky, slope=0.0)
        passed_s = max(utc_s - self.utc_s, 4.0)
        gain = max(1.0 / (subs + 1), _gain(self.step_s))
        slope = self.slope + _slope_gain(gain) * surprise / passed_s * 3600.0
        return Backdrop(
            utc_s=utc_s,
            ln_sky=ln_sky - (1.0 - gain) * surprise,
            slope=max(min(slope, 20.0), -20.0),
            noise=max(self.noise + 0.08 * (min(abs(surprise), 4.0 * self.noise) - self.noise), 0.002),
            step_s=self.step_s + 0.2 * (min(passed_s, 1200.0) - self.step_s),
        )


def _gain(step_s: float) -> float:
    """Gain of the level, so that the sky is followed in the same time at any cadence."""
    return min(max(step_s / FOLLOWED_S, 0.05), 0.25)


def _slope_gain(gain: float) -> float:
    """Gain of the slope that goes with the level's."""
    return min(gain**2, 0.25 * gain)


@dataclass(frozen=True, slots=True)
class Glow:
    """The sky since an onset, against its line from before it."""

    before: Backdrop
    total: float = 0.0
    """Sum of the differences, ln."""
    subs: int = 0

    def added(self, utc_s: float, ln_sky: float) -> Glow:
        """One more sub; one whose sky is not known says nothing."""
        change = ln_sky - self.before.expected(utc_s)
        if not math.isfinite(change) or abs(self.before.slope) > STEEP_PER_HOUR:
            return self
        return Glow(self.before, self.total + change, self.subs + 1)

    def nats(self, loss: float) -> float:
        """ln Bayes factor for cloud that takes `loss` of the starlight, ln, over none.

        The change that such a cloud makes is Gaussian about 0 with standard deviation `STRENGTH` * loss.
        """
        if not self.subs or not loss > 0:
            return 0.0
        change = self.total / self.subs
        variance = self.before.sigma**2 * max(1.0 / self.subs, AVERAGED)
        ratio = (STRENGTH * loss) ** 2 / variance
        square = change**2 / variance
        found = 0.5 * square * ratio / (1.0 + ratio) - 0.5 * math.log1p(ratio)
        most = MOST_SAY if abs(change) < STRONGEST * loss + math.sqrt(variance) else 0.0
        return min(max(found, LEAST_SAY), most)
