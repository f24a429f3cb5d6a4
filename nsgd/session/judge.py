"""Relations + limits -> verdicts: pure, vectorised over a whole series, never stored.

A better sub tomorrow moves everybody's figures today, so verdicts are derived whenever they are
asked for: `Columns` keeps the scalars of a series, `judge` turns them into `Verdicts`.

Transmission
    T = rate / L. The rate is a sub's star flux per second of exposure, relative to the series'
    solution; L is the clear level of its stream (`clear_level`), an upper envelope over all nights.
Extinction
    T_clear = T * 10^(0.4 k (X - X_ref)); k is fitted night by night with a Gaussian prior per
    filter (`night_extinction`), X_ref is the lowest airmass of the series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nsgd.records import NAN, CutOffs, Floats, SeriesRow, SubRow, SubStatus, Verdict
from nsgd.session.almanac import airmass_of
from nsgd.session.series import gain_of

if TYPE_CHECKING:
    from nsgd.settings import Limits

    Limiting: TypeAlias = CutOffs | Limits

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LN_PER_MAG = 0.4 * np.log(10.0)

EXTINCTION_PRIOR_MAG = {
    "l": (0.20, 0.06),
    "b": (0.25, 0.07),
    "g": (0.16, 0.05),
    "v": (0.16, 0.05),
    "r": (0.11, 0.04),
    "i": (0.07, 0.04),
    "ha": (0.08, 0.04),
    "sii": (0.08, 0.04),
    "oiii": (0.17, 0.06),
}
"""Extinction per airmass, (mean, standard deviation), of a site near sea level; measured ranges of
ESO La Silla (0.20 at 440 nm, 0.11 at 540 nm, 0.05 at 650 nm) plus a hobby site's aerosol."""

EXTINCTION_PRIOR_OTHER_MAG = (0.18, 0.07)
"""For unfiltered and colour cameras and for names that are not known."""

FIT_SPAN_AIRMASS = 0.3
"""A night whose airmass spans less than this says nothing about extinction: prior only."""

SLOW_HAZE_MAG = 0.03
"""Transparency changes of this size over a night look like extinction; it limits what a fit may claim."""

QUARTER_STEP = 0.4506
"""First quartile of the change between two Gaussian subs, in units of one sub's noise."""

FIT_SUBS = 8
"""Fewest subs of a night that its extinction is fitted to."""

ENVELOPE_WIDTHS = (0.06, 0.04, 0.025, 0.02)
"""Loss of light, ln, from which on a sub has little say in the fit, in the steps of the fit."""

LEARNING_SUBS = 5
"""Subs of a new stream until its clear level counts as known."""

WINDOW = 0.025
"""Subs whose rates agree within this support each other as a level (relative)."""

SAME_RATE = 0.04
"""Two exposures of one gain whose clear levels differ by less have each seen clear sky."""

_REJECT, _ACCEPT = -1, 1
_DECISIONS = {"reject": _REJECT, "accept": _ACCEPT}


class Columns:
    """The scalar columns of one series, growing sub by sub; rows keep the order they came in.

    Parameters
    ----------
    more
        Further columns by name, and how to read them from a row; `judge` does not look at them.
    """

    _FLOATS = ("order_utc_s", "exposure_s", "airmass", "rate_err", "weight", "fwhm_px", "ellipticity")
    _INTS = ("sub_id", "night", "stream", "decision")

    def __init__(self, more: Mapping[str, Callable[[SubRow], float]] | None = None) -> None:
        self._size = 0
        self.channels = 1
        self._more = dict(more or {})
        self._floats = {name: np.empty(64) for name in (*self._FLOATS, *self._more)}
        self._ints = {name: np.empty(64, dtype=np.int64) for name in self._INTS}
        self._rate = np.empty((64, 3))
        self._failed = np.empty(64, dtype=np.bool_)
        self._sentences: dict[int, str] = {}
        self._rising = True
        self.nights: list[str] = []
        self.streams: list[str] = []

    @classmethod
    def from_rows(cls, rows: Iterable[SubRow]) -> Columns:
        """Columns of the given rows, in their order."""
        columns = cls()
        for row in rows:
            columns.append(row)
        return columns

    def __len__(self) -> int:
        return self._size

    def __contains__(self, sub_id: int) -> bool:
        return self._find(sub_id) is not None

    def index(self, sub_id: int) -> int:
        """Row number of a sub; KeyError where it is not here."""
        at = self._find(sub_id)
        if at is None:
            raise KeyError(sub_id)
        return at

    def _find(self, sub_id: int) -> int | None:
        """Row number of a sub. Most rows come by rising numbers: only what is out of order is looked for one by one."""
        ids = self.ints("sub_id")
        at = int(np.searchsorted(ids, sub_id))
        if at < len(ids) and ids[at] == sub_id:
            return at
        if self._rising:
            return None
        rows = np.flatnonzero(ids == sub_id)
        return int(rows[0]) if rows.size else None

    def append(self, row: SubRow) -> int:
        """Add a sub at the end, return its row number."""
        if self._size == len(self._failed):
            self._grow()
        at = self._size
        self._size += 1
        self._rising = self._rising and (at == 0 or int(self._ints["sub_id"][at - 1]) < row.sub_id)
        self._put(at, row)
        return at

    def replace(self, row: SubRow) -> None:
        """Take new figures of a sub that is here already; KeyError where it is not."""
        self._put(self.index(row.sub_id), row)

    def remove(self, sub_id: int) -> int:
        """Leave a sub out, return the row number it had; KeyError where it is not here."""
        at, last = self.index(sub_id), self._size - 1
        for column in (*self._floats.values(), *self._ints.values(), self._rate, self._failed):
            column[at:last] = column[at + 1 : self._size]
        self._size = last
        self._sentences = {row - (row > at): said for row, said in self._sentences.items() if row != at}
        return at

    def floats(self, name: str) -> Floats:
        """One column, (n,), a view that must not be written."""
        return self._floats[name][: self._size]

    def ints(self, name: str) -> Ints:
        """One column, (n,), a view that must not be written."""
        return self._ints[name][: self._size]

    @property
    def rate(self) -> Floats:
        """(n, channels) zero point per second of exposure and channel, NaN where there is none."""
        return self._rate[: self._size, : self.channels]

    @property
    def failed(self) -> Bools:
        """(n,) True where the sub could not be measured."""
        return self._failed[: self._size]

    def sentence(self, at: int) -> str:
        """Why the sub in this row failed, "" where it did not."""
        return self._sentences.get(at, "")

    def _grow(self) -> None:
        def twice(column: NDArray[Any]) -> NDArray[Any]:
            # The second half is not touched: memory that nobody writes to costs nothing.
            larger = np.empty((2 * len(column), *column.shape[1:]), dtype=column.dtype)
            larger[: len(column)] = column
            return larger

        self._floats = {name: twice(column) for name, column in self._floats.items()}
        self._ints = {name: twice(column) for name, column in self._ints.items()}
        self._rate = twice(self._rate)
        self._failed = twice(self._failed)

    def _put(self, at: int, row: SubRow) -> None:
        exposure_s = row.header.exposure_s or NAN
        relation = None if row.failure else row.relation
        self._failed[at] = relation is None
        self._sentences.pop(at, None)
        if row.failure:
            self._sentences[at] = f"{row.failure.kind}: {row.failure.sentence}"
        elif relation is None:
            self._sentences[at] = "not related to the series yet"
        self._rate[at] = NAN
        rate_err = weight = NAN
        if relation is not None:
            per_s = exposure_s if exposure_s > 0 else 1.0
            self.channels = max(self.channels, len(relation.zero))
            for channel, zero in enumerate(relation.zero):
                self._rate[at, channel] = zero / per_s if zero > 0 else NAN
            rate_err = _relative_error(relation.zero, relation.zero_err)
            weight = sum(relation.weight) / len(relation.weight) if relation.weight else NAN
        airmass = airmass_of(row.header, row.order_utc_s)
        values = (row.order_utc_s, exposure_s, airmass, rate_err, weight, row.fwhm_px, row.ellipticity)
        for name, value in zip(self._FLOATS, values, strict=True):
            self._floats[name][at] = value
        for name, figure in self._more.items():
            self._floats[name][at] = figure(row)
        codes = (row.sub_id, _code(self.nights, row.session), _code(self.streams, row.stream))
        for name, code in zip(self._INTS, (*codes, _DECISIONS.get(row.decision, 0)), strict=True):
            self._ints[name][at] = code


def _code(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def _relative_error(zero: Sequence[float], error: Sequence[float]) -> float:
    """Relative error of the mean of the channels."""
    # A handful of numbers, ten thousand times: plain floats are five times as fast as arrays here.
    parts = [e / z for z, e in zip(zero, error, strict=True) if 0 < z < math.inf and math.isfinite(e)]
    return math.sqrt(sum(part * part for part in parts)) / len(parts) if parts else NAN


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What `judge` found, one entry per row of the columns; `row(i)` gives it as a record."""

    columns: Columns
    limits: CutOffs
    transmission: Floats
    transmission_err: Floats
    transmission_clear: Floats
    extinction_mag: Floats
    weight: Floats
    weight_of_best: Floats
    learning: Bools
    ok: Bools
    """True where the sub goes into the stack."""
    failed: Bools
    transmission_channel: Floats
    """(n, channels) transmission of each channel, NaN where there is none."""
    clear_level: dict[str, float]
    """Per stream: clear-sky rate at the reference airmass, in the columns' unit."""
    extinction_k_mag: dict[str, float]
    """Per night: extinction per airmass that was taken out."""
    previous: Ints
    """Row of the measured sub of the same stream before each one in time, -1 for none."""

    def __len__(self) -> int:
        return len(self.weight)

    def of(self, sub_id: int) -> Verdict:
        """Verdict of one sub; KeyError where it is not in this series."""
        return self.row(self.columns.index(sub_id))

    def row(self, at: int) -> Verdict:
        """Verdict of one row with every reason spelled out."""
        failed, ok, before = bool(self.failed[at]), bool(self.ok[at]), int(self.previous[at])
        status = SubStatus.FAILED if failed else SubStatus.OK if ok else SubStatus.REJECTED
        return Verdict(
            sub_id=int(self.columns.ints("sub_id")[at]),
            status=status,
            reasons=self._reasons(at),
            transmission=float(self.transmission[at]),
            transmission_err=float(self.transmission_err[at]),
            transmission_clear=float(self.transmission_clear[at]),
            weight=float(self.weight[at]),
            weight_of_best=float(self.weight_of_best[at]),
            rank=_rank(self.weight, at),
            learning=bool(self.learning[at]),
            extinction_mag=float(self.extinction_mag[at]),
            previous_id=int(self.columns.ints("sub_id")[before]) if before >= 0 else 0,
            previous_transmission=float(self.transmission_clear[before]) if before >= 0 else NAN,
        )

    def _reasons(self, at: int) -> tuple[str, ...]:
        if self.failed[at]:
            return (self.columns.sentence(at),)
        decision = int(self.columns.ints("decision")[at])
        if decision == _ACCEPT:
            return ("accepted by you",)
        said = ("rejected by you",) if decision == _REJECT else ()
        return said + tuple(text for breach, text in self._breaches(at) if breach)

    def _breaches(self, at: int) -> tuple[tuple[bool, str], ...]:
        limits = self.limits
        clear, weight = float(self.transmission_clear[at]), float(self.weight_of_best[at])
        fwhm, ellipticity = (float(self.columns.floats(name)[at]) for name in ("fwhm_px", "ellipticity"))
        return (
            (clear < limits.transmission, f"transmission {clear:.2f} below {limits.transmission:g}"),
            (weight < limits.weight, f"weight {weight:.2f} below {limits.weight:g}"),
            (0 < limits.fwhm_px < fwhm, f"fwhm {fwhm:.1f} px above {limits.fwhm_px:g}"),
            (ellipticity > limits.ellipticity, f"ellipticity {ellipticity:.2f} above {limits.ellipticity:g}"),
        )


def in_force(series: SeriesRow, defaults: Limiting) -> CutOffs:
    """The cut-offs of a series: its own, else those of the settings."""
    return CutOffs(*(series.limits.get(name, getattr(defaults, name)) for name in CutOffs.__slots__))


def judge(columns: Columns, series: SeriesRow, limits: Limiting) -> Verdicts:
    """Verdicts of a whole series, in the columns' order.

    The result follows from the set of subs; the order they came in changes nothing but rounding.
    """
    limits = in_force(series, limits)
    channel_rate, rate = _mean_rate(columns)
    good = np.isfinite(rate) & ~columns.failed
    extinction_mag, k_of_night = _expected_extinction(columns, np.where(good, rate, NAN), series.filter_name)
    lifted = rate * np.exp(LN_PER_MAG * np.nan_to_num(extinction_mag))
    members = _streams_in_time(columns, good)
    levels, learning = _levels(columns, lifted, members)
    level_of_row = _spread(levels, columns.ints("stream"))
    transmission = rate / level_of_row
    transmission_clear = lifted / level_of_row
    weight, weight_of_best = _weights(columns)
    return Verdicts(
        columns=columns,
        limits=limits,
        transmission=transmission,
        transmission_err=transmission * columns.floats("rate_err"),
        transmission_clear=transmission_clear,
        extinction_mag=extinction_mag,
        weight=weight,
        weight_of_best=weight_of_best,
        learning=learning[columns.ints("stream")],
        ok=_accepted(columns, transmission_clear, weight_of_best, limits),
        failed=columns.failed.copy(),
        transmission_channel=channel_rate / level_of_row[:, None],
        clear_level={name: float(levels[code]) for code, name in enumerate(columns.streams)},
        extinction_k_mag={name: float(k_of_night[code]) for code, name in enumerate(columns.nights)},
        previous=_previous(members, len(rate)),
    )


def _mean_rate(columns: Columns) -> tuple[Floats, Floats]:
    """(n, channels) rates with the channels brought to one level, and their mean over the channels, (n,)."""
    rate = columns.rate
    if columns.channels == 1:
        return rate, rate[:, 0]
    typical = np.asarray([_median(column) for column in rate.T])
    rate = rate * (typical[0] / typical)
    seen = np.isfinite(rate)
    count = seen.sum(axis=1)
    total = np.where(seen, rate, 0.0).sum(axis=1)
    return rate, np.divide(total, count, out=np.full(len(count), NAN), where=count > 0)


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else NAN


def _spread(levels: Floats, codes: Ints) -> Floats:
    return levels[codes] if levels.size else np.empty(0)


# --- clear level ---------------------------------------------------------------------------------


def clear_level(values: Floats, noise: float = 0.005) -> tuple[float, bool]:
    """Robust upper envelope of the rates of one stream, and whether it can be relied on.

    The highest rate that enough other subs support, then the mean-shift from there to the densest
    place below: a single outlier upwards has no support, cloud lies outside the window, and a
    wholly hazy night stays below an earlier clear one.

    Parameters
    ----------
    values
        (n,) finite rates with the expected extinction taken out, any order, all nights.
    noise
        Relative scatter of one clear sub.

    Returns
    -------
    level, known
        NaN where there is no value; `known` is False while too few subs agree.
    """
    down = np.sort(values)[::-1]
    if down.size < 3:
        return _level_of_two(down), False
    window = max(WINDOW, 3.0 * noise)
    support = int(np.clip(round(0.02 * down.size), 2 if down.size < 8 else 3, 12))
    supported = down[support - 1 :] >= down[: down.size - support + 1] * (1.0 - window)
    if not supported.any():
        return float(down[1]), False
    # The last of the highest subs that support each other: of a clear night it lies about two sigma up, so no
    # further may the level sink.
    start = float(down[np.argmax(supported) + support - 1])
    top = max(_densest_near(down, start, max(0.01, 2.5 * noise)), start * (1.0 - 3.0 * noise))
    agreeing = np.count_nonzero(np.abs(down - top) <= window * top)
    return top, bool(down.size >= LEARNING_SUBS and agreeing >= min(LEARNING_SUBS - 1, support + 1))


def _level_of_two(down: Floats) -> float:
    """Of two subs that agree the mean, else the higher: cloud is likelier than an outlier upwards."""
    if down.size == 0:
        return NAN
    return float(down.mean() if down[-1] >= down[0] * (1.0 - WINDOW) else down[0])


def _densest_near(down: Floats, start: float, half_width: float) -> float:
    """Mean-shift with a flat window of relative half width, from above."""
    up = down[::-1]
    level = start
    for _ in range(20):
        low, high = np.searchsorted(up, (level * (1 - half_width), level * (1 + half_width)))
        mean = float(up[low : max(high, low + 1)].mean())
        if abs(mean - level) < 1e-5 * level:
            break
        level = mean
    return level


def _streams_in_time(columns: Columns, good: Bools) -> list[Ints]:
    """For each stream the rows of its good subs, in time order."""
    order = np.argsort(columns.floats("order_utc_s"), kind="stable")
    order = order[good[order]]
    codes = columns.ints("stream")[order]
    return [order[codes == code] for code in range(len(columns.streams))]


def _previous(members: list[Ints], size: int) -> Ints:
    previous = np.full(size, -1, dtype=np.int64)
    for rows in members:
        previous[rows[1:]] = rows[:-1]
    return previous


def _levels(columns: Columns, lifted: Floats, members: list[Ints]) -> tuple[Floats, Bools]:
    """Clear level of each stream, and whether it is still being learnt."""
    levels, learning = np.full(len(members), NAN), np.ones(len(members), dtype=np.bool_)
    for code, rows in enumerate(members):
        if rows.size:
            noise = _noise(lifted[rows], columns.floats("rate_err")[rows])
            levels[code], known = clear_level(lifted[rows], noise)
            learning[code] = not known
    return _borrowed(columns, levels, learning)


def _borrowed(columns: Columns, levels: Floats, learning: Bools) -> tuple[Floats, Bools]:
    """Streams of one gain collect light at one rate: one that has seen no clear sky yet takes another's level.

    Only a gain that the headers state will do; within `SAME_RATE` a stream's own level is the better one (shutters).
    """
    levels, learning, own = levels.copy(), learning.copy(), tuple(zip(levels, learning, strict=True))
    gains = [gain_of(stream) for stream in columns.streams]
    for code, gain in enumerate(gains):
        best = max(
            (level for other, (level, new) in zip(gains, own, strict=True) if other == gain and not new), default=NAN
        )
        level, new = own[code]
        if gain and (level < (1.0 - SAME_RATE) * best or (new and level < (1.0 + SAME_RATE) * best)):
            levels[code], learning[code] = best, False
    return levels, learning


def _noise(values: Floats, errors: Floats) -> float:
    """Relative scatter of one sub of a stream: its stated error or the change from sub to sub.

    Changes (of which two subs share the variance) count where both subs lie at the top, since in ragged cloud they
    are no noise; where there are too few such pairs, the quieter quarter of all changes, within narrow bounds.
    """
    stated = _median(errors)
    stated = stated if np.isfinite(stated) else 0.0
    if values.size < 5:
        return max(0.005, stated)
    steps = np.abs(np.diff(np.log(values)))
    high = values > (1.0 - WINDOW) * np.partition(values, -3)[-3]
    at_top = steps[high[1:] & high[:-1]]
    if at_top.size >= 5:
        return float(np.clip(1.4826 * np.median(at_top) / np.sqrt(2.0), max(0.003, stated), max(0.02, stated)))
    return float(np.clip(np.quantile(steps, 0.25) / QUARTER_STEP, max(0.003, stated), max(0.006, stated)))


# --- extinction ----------------------------------------------------------------------------------


def extinction_prior(filter_name: str) -> tuple[float, float]:
    """Mean and standard deviation of the extinction per airmass, magnitudes."""
    return EXTINCTION_PRIOR_MAG.get(filter_name.strip().lower(), EXTINCTION_PRIOR_OTHER_MAG)


def _expected_extinction(columns: Columns, rate: Floats, filter_name: str) -> tuple[Floats, Floats]:
    """Expected extinction of each sub above the reference airmass, and k of each night, magnitudes."""
    airmass = columns.floats("airmass")
    prior = extinction_prior(filter_name)
    usable = np.isfinite(airmass) & np.isfinite(rate)
    night = columns.ints("night")
    k_of_night = np.full(len(columns.nights), prior[0])
    if not usable.any():
        return np.full(len(airmass), NAN), k_of_night
    # The streams differ in level; put them on one before a night's slope is looked for.
    log_rate = np.log(rate, where=usable, out=np.full(len(rate), NAN))
    stream = columns.ints("stream")
    for code in range(len(columns.streams)):
        members = usable & (stream == code)
        log_rate[members] -= _median(log_rate[members])
    k_of_night = night_extinction(log_rate[usable], airmass[usable], night[usable], k_of_night, prior[1])
    reference = float(np.min(airmass[usable]))
    return k_of_night[night] * (airmass - reference), k_of_night


def night_extinction(log_rate: Floats, airmass: Floats, night: Ints, prior_k: Floats, prior_err: float) -> Floats:
    """Extinction per airmass of each night: slope of the night's upper envelope, with a prior.

    A straight line is fitted to ln(rate) by reweighted least squares in which subs below the line
    by more than a few per cent lose their say (cloud). The fit is believed as far as slow changes
    of transparency allow (`SLOW_HAZE_MAG` over the night's span), and not at all where the airmass
    spans less than `FIT_SPAN_AIRMASS`: a flat prior would swallow cirrus.

    Parameters
    ----------
    log_rate, airmass, night
        (n,) ln of the rates on one level, airmass, and number of the night, all finite.
    prior_k
        (nights,) expected extinction, magnitudes per airmass.
    prior_err
        Its standard deviation.

    Returns
    -------
    (nights,) extinction, magnitudes per airmass.
    """
    count = len(prior_k)
    lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lowest, night, airmass)
    np.maximum.at(highest, night, airmass)
    span = highest - lowest
    fitted = (span > FIT_SPAN_AIRMASS) & (np.bincount(night, minlength=count) >= FIT_SUBS)
    if not fitted.any():
        return prior_k
    used = fitted[night]
    x = (airmass - 0.5 * (lowest + highest)[night])[used]
    y = (log_rate + LN_PER_MAG * prior_k[night] * airmass)[used]
    haze_var = (LN_PER_MAG * SLOW_HAZE_MAG / np.where(fitted, span, 1.0)) ** 2
    slope = _upper_slopes(x, y, night[used], haze_var, (LN_PER_MAG * prior_err) ** 2)
    return np.asarray(np.maximum(prior_k - np.where(fitted, slope, 0.0) / LN_PER_MAG, 0.0), dtype=float)


def _upper_slopes(x: Floats, y: Floats, night: Ints, haze_var: Floats, prior_var: float) -> Floats:
    """(nights,) slope dy/dx of each night's upper envelope, drawn towards 0 by the prior."""
    count = len(haze_var)

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(night, values, minlength=count), dtype=float)

    slope, level = np.zeros(count), total(y) / np.maximum(np.bincount(night, minlength=count), 1)
    for width in ENVELOPE_WIDTHS:
        above = (y - level[night] - slope[night] * x) / width
        weight = np.where(above > 0, 1.0 / (1.0 + above * (above > 0)), 1.0 / (1.0 + above * above) ** 2)
        sum_w = np.maximum(total(weight), 1e-12)
        mean_x, mean_y = total(weight * x) / sum_w, total(weight * y) / sum_w
        xx = np.maximum(total(weight * x * x) - sum_w * mean_x**2, 1e-9)
        xy = total(weight * x * y) - sum_w * mean_x * mean_y
        belief = 1.0 / (width**2 / xx + haze_var)
        slope = xy / xx * belief / (belief + 1.0 / prior_var)
        level = mean_y - slope * mean_x
    return slope


# --- weights and decisions -----------------------------------------------------------------------


def _weights(columns: Columns) -> tuple[Floats, Floats]:
    """Weight relative to the reference, and weight per exposure relative to the best sub.

    A single sub may not tower over all others: the best counts at most twice the second best.
    """
    weight = np.where(columns.failed, NAN, columns.floats("weight"))
    per_exposure = weight / np.where(columns.floats("exposure_s") > 0, columns.floats("exposure_s"), 1.0)
    candidates = per_exposure[np.isfinite(per_exposure)]
    if not candidates.size:
        return weight, np.full(len(weight), NAN)
    top = np.sort(candidates)[-2:]
    return weight, per_exposure / min(float(top[-1]), 2.0 * float(top[0]))


def _rank(weight: Floats, at: int) -> int:
    """1 = highest weight, the earlier row first where two are equal; 0 = none known."""
    if not np.isfinite(weight[at]):
        return 0
    return 1 + int(np.count_nonzero(weight > weight[at]) + np.count_nonzero(weight[:at] == weight[at]))


def _accepted(columns: Columns, clear: Floats, weight: Floats, limits: CutOffs) -> Bools:
    """Subs that go into the stack: measured, within every cut-off; a person's decision wins."""
    decision = columns.ints("decision")
    bad = (clear < limits.transmission) | (weight < limits.weight)
    bad |= columns.floats("ellipticity") > limits.ellipticity
    if limits.fwhm_px > 0:
        bad |= columns.floats("fwhm_px") > limits.fwhm_px
    accepted: Bools = ~columns.failed & ((decision == _ACCEPT) | ((decision != _REJECT) & ~bad))
    return accepted
