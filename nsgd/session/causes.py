"""Why light is missing: the signs of a dip -> its cause with evidence, or "unknown" (pure).

What each cause does, as far as one camera can see it:

===========  =====================================================================================
cloud        light irregular in time; stars uneven over the field; sky brighter (town) or darker
haze         low and even since the beginning of the night; or light falls smoothly and stars stay sharp
dew          light falls smoothly for many minutes and does not come back; stars swell; sky no brighter
obstruction  an edge moves over the field, or light and sky fall together to nothing
airmass      light falls smoothly and as slowly as when an object sinks, and the subs do not say how
             high it stood
===========  =====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nsgd.records import NAN, Floats

STILL_THERE = 0.5
"""Part of the deepest loss below which the light counts as coming back."""
SHARP, SWOLLEN = 1.02, 1.04
"""Stars narrower than the first, relative to clear sky, are as they were; wider than the second they are swollen."""
HIDDEN, DIMMED = 0.57, 0.15
"""Light that the sky loses, relative to the stars' (ln), behind something opaque; and behind wet glass at least."""
SINKING_PER_HOUR, SUNK = 0.22, 0.35
"""Most light that an object loses by sinking to 25 degrees: 0.25 mag per airmass, one airmass an hour; ln."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sub of a dip against what is normal for its stream; ratios are 1 where normal, NaN where not known."""

    utc_s: float
    dip: float
    """Light lost, ln."""
    sigma: float
    sky: float = NAN
    """Change of the sky's level against its trend, ln."""
    sky_sigma: float = 0.02
    scatter: float = NAN
    """Scatter of the star ratios."""
    floor: float = NAN
    """Part of that scatter that neither noise nor a clear sky explains, relative (difference of squares)."""
    stars: float = NAN
    """Number of stars found."""
    star_count: float = NAN
    """The normal number."""
    fwhm: float = NAN
    ellipticity: float = NAN
    """Difference."""
    pattern: str = ""
    pattern_rms: float = NAN
    """Difference."""
    background: float = NAN
    """Structure of the sky relative to its level."""
    stream: str = ""
    airmass: float = NAN
    """NaN where the loss may hold extinction that nobody could take out."""
    normal_subs: int = 0

    @property
    def cues(self) -> int:
        """Independent signs that agree with cloud: uneven stars, fewer stars, another sky."""
        if self.normal_subs < 3:
            return 0
        fewer = self.stars < 1.0 - max(0.08, 4.0 / math.sqrt(max(self.star_count, 1.0))) if self.stars > 0 else False
        another = abs(self.sky) > max(4.0 * self.sky_sigma, 0.01)
        return int(self.uneven) + int(fewer) + int(another)

    @property
    def uneven(self) -> bool:
        """Stars disagree more than usual, or a pattern lies over the field; in both cases more than by their noise."""
        scattered = self.scatter > 1.35 and not self.floor < 0.02
        return scattered or (self.pattern not in ("", "uniform") and self.pattern_rms > 0.02 and not self.floor < 0.01)

    @property
    def ambiguous(self) -> bool:
        """A person, a lamp or a cable before the telescope may look like this for one sub."""
        near = self.pattern in ("one_side", "centre") or self.sky < -4.0 * self.sky_sigma
        lit = self.sky > 0.5 or self.background > 1.5 or self.scatter > 3.0
        moved = self.ellipticity > 0.1 or self.fwhm > 1.3
        return near or lit or moved

    @property
    def odd(self) -> bool:
        """The sub itself is strange in a way that no cloud is: trailed, or lit by a lamp."""
        lamp = (self.sky > 0.5 and self.background > 2.0) or (self.scatter > 4.0 and self.sky > 0.2)
        trailed = self.ellipticity > 0.25
        return self.normal_subs >= 3 and (lamp or trailed)


@dataclass(frozen=True, slots=True)
class Cause:
    """What it is, as far as the signs go, and those signs in words."""

    name: str
    evidence: str = ""


def cause_of(samples: Sequence[Sample], from_start: bool, before: str = "") -> Cause:
    """Name the cause of a dip from its subs so far.

    Parameters
    ----------
    samples
        The dip's subs in time order, the last at least.
    from_start
        True where the night was never clear before.
    before
        What it was called so far; a name with equal signs is kept.
    """
    dips = _known([sample.dip for sample in samples])
    if not dips.size:
        return Cause(before or "unknown")
    edge = _edge(samples)
    if not edge and before == "obstruction" and dips[-1] > STILL_THERE * dips.max():
        edge = "an edge moved over the field"
    if edge:
        return Cause("obstruction", edge)
    covered = _covered(samples)
    if covered:
        return Cause("obstruction", covered)
    cloud = _cloud_signs(samples)
    sinking = "" if cloud or before in ("cloud", "haze", "obstruction") else _sinking(samples)
    if sinking:
        return Cause("airmass", sinking)
    smooth = _smooth_fall(samples) or (_still_wet(samples) if before == "dew" else "")
    if smooth and (not cloud or _round(samples)):
        return _dew_or_haze(samples, smooth, before)
    if from_start and not cloud and _steady(samples):
        return Cause("haze", "even over the field and steady since the night began")
    if cloud:
        return Cause("cloud", cloud)
    return Cause(before if before in ("cloud", "haze", "obstruction") else "unknown")


def _known(values: Sequence[float]) -> Floats:
    array: Floats = np.asarray(values, dtype=float)
    return np.asarray(array[np.isfinite(array)], dtype=float)


def _median(values: Sequence[float]) -> float:
    known = _known(values)
    return float(np.median(known)) if known.size else NAN


def _edge(samples: Sequence[Sample]) -> str:
    """One side of the field was dark for at least three subs and five minutes, and the light has not come back since.

    The edge of a cloud crosses the field faster than that; what the sky's rotation carries a roof or a tree across
    does not.
    """
    begin = None
    for number, sample in enumerate(samples):
        loss = 1.0 - math.exp(-max(sample.dip, 0.0)) if math.isfinite(sample.dip) else 0.0
        sided = sample.pattern == "one_side" and sample.pattern_rms > max(0.05, 0.4 * loss)
        begin = (number if begin is None else begin) if sided else None
        if begin is not None and number - begin >= 2 and sample.utc_s - samples[begin].utc_s >= 300.0:
            back = samples[-1].dip < STILL_THERE * max(one.dip for one in samples[begin:])
            return "" if back else "one side of the field is darker than the other"
    return ""


def _covered(samples: Sequence[Sample]) -> str:
    """Starlight and the light of the sky fall together, evenly, over three subs.

    Cloud leaves the sky bright, and dew takes less of its light than of the stars': it scatters, it does not hide.
    """
    last = samples[-3:]
    if len(last) < 3 or any(sample.uneven for sample in last):
        return ""
    together = all(sample.sky < -max(HIDDEN * sample.dip, 4.0 * sample.sky_sigma) for sample in last)
    falling = last[0].dip < last[1].dip < last[2].dip and last[2].dip > 0.15
    return "starlight and sky fall together" if together and falling else ""


def _smooth_fall(samples: Sequence[Sample]) -> str:
    """Light falls smoothly, from hardly any loss, over at least 8 minutes and 6 subs: the signature of dew."""
    times = np.array([sample.utc_s for sample in samples])
    dips = np.array([sample.dip for sample in samples])
    if len(samples) < 6 or not np.isfinite(dips).all() or times[-1] - times[0] < 480.0:
        return ""
    x = (times - times[0]) / (times[-1] - times[0])
    fit, left = _parabola(x, dips, [sample.stream for sample in samples])
    fall = float(fit[1] + fit[2])
    rough = float(np.sqrt(np.mean(left**2)))
    noise = float(np.median([sample.sigma for sample in samples]))
    if fall < max(0.04, 0.4 * (float(fit[0]) + fall)) or rough > max(1.5 * noise, 0.08 * fall) or not _rises(x, fit):
        return ""
    return "light falls smoothly"


def _dew_or_haze(samples: Sequence[Sample], smooth: str, before: str) -> Cause:
    """Light that falls smoothly: dew swells the stars or dims the sky as well; a bank of haze does neither."""
    if _round(samples):
        return Cause("dew", f"{smooth}, most of it in a round spot")
    swollen = _median([sample.fwhm for sample in samples[-8:]])
    if swollen > SWOLLEN:
        return Cause("dew", f"{smooth}, stars swell")
    known = [sample for sample in samples[-6:] if math.isfinite(sample.sky)]
    dimmed = [sample.sky < -max(DIMMED * sample.dip, 4.0 * sample.sky_sigma) for sample in known]
    if known and all(dimmed):
        return Cause("dew", f"{smooth}, some of the sky's too")
    if before == "dew" or not math.isfinite(swollen):
        return Cause("dew", smooth)
    if len(samples) >= 10 and swollen < SHARP:
        return Cause("haze", f"{smooth}, stars stay sharp")
    return Cause(before or "unknown", smooth)


def _round(samples: Sequence[Sample]) -> bool:
    """Whether the loss lies round the centre of the field, as frost on the sensor's window does; cloud drifts on."""
    shapes = [sample.pattern for sample in samples if sample.uneven]
    return len(shapes) >= 4 and shapes.count("centre") > 0.5 * len(shapes)


def _sinking(samples: Sequence[Sample]) -> str:
    """Light that falls no faster than an object sinks, where no sub says how high it stood."""
    if any(math.isfinite(sample.airmass) for sample in samples):
        return ""
    hours = (samples[-1].utc_s - samples[0].utc_s) / 3600.0
    noise = 3.0 * samples[-1].sigma
    fast = [
        sample.dip > 0.03 + noise + SINKING_PER_HOUR * (sample.utc_s - samples[0].utc_s) / 3600.0 for sample in samples
    ]
    if len(samples) < 6 or hours < 0.15 or samples[-1].dip > SUNK:
        return ""
    if sum(fast[:3]) > 1 or fast[-1] or sum(fast) > 0.1 * len(samples):
        return ""
    return "light falls as slowly as when an object sinks; the subs hold no airmass"


def _parabola(x: Floats, dips: Floats, streams: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients of a parabola through the dips of all streams, each at its own level, and what is left over."""
    names = sorted(set(streams))
    levels = np.array([[float(stream == name) for name in names] for stream in streams])
    terms = np.column_stack([levels, x, x**2])
    found = np.linalg.lstsq(terms, dips, rcond=None)[0]
    return np.array([found[: len(names)].mean(), *found[-2:]]), dips - terms @ found


def _still_wet(samples: Sequence[Sample]) -> str:
    """Dew that was recognised stays dew until the light comes back."""
    dips = _known([sample.dip for sample in samples])
    return "light fell smoothly and stays away" if dips[-1] > STILL_THERE * dips.max() else ""


def _rises(x: Floats, fit: Floats) -> bool:
    """A fitted parabola that hardly turns back within the data."""
    values = np.polynomial.polynomial.polyval(x, fit)
    return bool(values[-1] > np.max(values) - 0.15 * (np.max(values) - values[0]))


def _steady(samples: Sequence[Sample]) -> bool:
    dips = _known([sample.dip for sample in samples])
    return bool(dips.std() < max(0.03, 2.0 * samples[-1].sigma))


def _cloud_signs(samples: Sequence[Sample]) -> str:
    """What speaks for cloud in the last subs, in words; "" where nothing does."""
    last = samples[-6:]
    signs = []
    if sum(sample.uneven for sample in last) >= max(1, len(last) // 2):
        signs.append("stars dimmed unevenly over the field")
    changes = [sample.sky for sample in last if abs(sample.sky) > max(4.0 * sample.sky_sigma, 0.02)]
    if len(changes) >= max(1, len(last) // 2):
        change = math.exp(_median(changes)) - 1.0
        signs.append(f"sky {abs(change):.0%} {'brighter' if change > 0 else 'darker'}")
    rough = _roughness(samples)
    if rough:
        signs.append(rough)
    # Dew and roofs darken the sky as well: that alone speaks for nothing.
    return "" if all(sign.endswith("darker") for sign in signs) else ", ".join(signs)


def _roughness(samples: Sequence[Sample]) -> str:
    """Light comes back and goes again within a stream; of a longer dip no single sub may say so."""
    noise = float(np.median([sample.sigma for sample in samples]))
    for stream in {sample.stream for sample in samples}:
        dips = _known([sample.dip for sample in samples if sample.stream == stream])
        if dips.size >= 6:
            dips = np.median(np.lib.stride_tricks.sliding_window_view(dips, 3), axis=1)
        if dips.size > 1 and float(np.max(-np.diff(dips))) > max(4.0 * noise, 0.04):
            return "light comes and goes"
    return ""
