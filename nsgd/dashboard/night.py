"""What the dashboard knows of the store: series, subs and alerts in memory, kept up to date by changes.

No widget and no clock here: `Night` merges what `Reader.changes_since` tells, `View` is one series as the
screens show it (judged, in time order), `Kept` counts what a set of cut-offs would keep. Of each sub only the figures
of lists and graphs stay, in arrays; whoever wants all of one sub asks the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nsgd.dashboard.glance import SKY_MEMORY, Glance, Seen
from nsgd.records import NAN, CutOffs, Floats, SeriesRow, SubRow, SubStatus, Verdict
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.series import natural_key

if TYPE_CHECKING:
    from nsgd.session.judge import Limiting
    from nsgd.session.sky import Sky
    from nsgd.session.store import AlertRow, Changes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """What one set of cut-offs keeps of the subs it was counted over."""

    subs: int
    kept: int
    taken_s: float
    """Exposure of all subs."""
    effective_s: float
    """Exposure of the kept ones, each counted by its weight per exposure relative to the best sub."""

    def sentence(self) -> str:
        return f"{self.kept} of {self.subs} kept, {self.exposure()}"

    def exposure(self) -> str:
        """Both exposures as people say them, in one unit: "31 min effective of 42 min", "2.2 h effective of 3.1 h"."""
        if self.subs and not self.taken_s:
            return "exposure unknown"
        unit, unit_s, decimals = ("min", 60.0, 0) if self.taken_s < 5400 else ("h", 3600.0, 1)
        effective, taken = (f"{seconds / unit_s:.{decimals}f} {unit}" for seconds in (self.effective_s, self.taken_s))
        return f"{effective} effective of {taken}"


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else NAN


FIGURES: dict[str, Callable[[SubRow], float]] = {
    "stars": lambda row: float(row.stars_matched),
    "sky_adu": lambda row: _mean(row.sky_adu),
    "noise_adu": lambda row: _mean(row.noise_adu),
    "scale": lambda row: _mean(row.relation.scale) if row.relation else NAN,
    "gradient_rms_adu": lambda row: row.relation.gradient_rms_adu if row.relation else NAN,
    "falling_adu": lambda row: row.relation.gradient_diagonal_adu[0] if row.relation else NAN,
    "rising_adu": lambda row: row.relation.gradient_diagonal_adu[1] if row.relation else NAN,
    "rotation_deg": lambda row: NAN if row.failure else row.transform.rotation_deg,
}
"""Scalars of a row beside those that verdicts are made of; NaN where the sub has none. `falling` is the gradient from
the top left to the bottom right, `rising` from the bottom left to the top right."""
_JUDGED = ("transmission", "transmission_err", "transmission_clear", "weight", "weight_of_best")


@dataclass(frozen=True, slots=True)
class Sub:
    """One sub as a line of a list shows it."""

    sub_id: int
    series_id: int
    path: str
    order_utc_s: float
    order_flag: str
    decided: bool
    """True where a person accepted or rejected it."""
    verdict: Verdict
    figure: Callable[[str], float]
    """A figure of the sub by name, NaN where it has none."""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Subs:
    """The subs of one series in arrays, in the order they came in: about 400 bytes a sub, its path included."""

    def __init__(self, series_id: int) -> None:
        self.series_id = series_id
        self.columns = Columns(FIGURES)
        self.paths: list[str] = []
        self._flags: dict[int, str] = {}
        self._order: Ints | None = None

    def __contains__(self, sub_id: int) -> bool:
        return sub_id in self.columns

    def put(self, row: SubRow) -> None:
        """Take in a new sub or new figures of a known one."""
        if row.sub_id in self.columns:
            self.columns.replace(row)
            self.paths[self.columns.index(row.sub_id)] = row.path
        else:
            self.columns.append(row)
            self.paths.append(row.path)
        self._flags.pop(row.sub_id, None)
        if row.order_flag:
            self._flags[row.sub_id] = row.order_flag
        self._order = None

    def remove(self, sub_id: int) -> None:
        """Leave out a sub that belongs to another series now."""
        del self.paths[self.columns.remove(sub_id)]
        self._flags.pop(sub_id, None)
        self._order = None

    @property
    def order(self) -> Ints:
        """Row numbers in time order, equal times in natural name order."""
        if self._order is None:
            times, ids = self.columns.floats("order_utc_s"), self.columns.ints("sub_id")
            order: Ints = np.argsort(times, kind="stable")
            if (np.diff(times[order]) == 0.0).any():
                order = np.array(
                    sorted(range(len(times)), key=lambda at: (times[at], natural_key(self.paths[at]), ids[at])),
                    dtype=np.int64,
                )
            self._order = order
        return self._order

    def sessions(self) -> tuple[str, ...]:
        """Nights in which these subs were taken."""
        # Not `np.unique`, which loads all of numpy's masked arrays.
        taken = np.flatnonzero(np.bincount(self.columns.ints("night")))
        return tuple(sorted(self.columns.nights[code] for code in taken))

    def of_session(self, session: str) -> Ints:
        """Row numbers of one night, "" for all, in time order."""
        if not session:
            return self.order
        code = self.columns.nights.index(session) if session in self.columns.nights else -1
        found: Ints = self.order[self.columns.ints("night")[self.order] == code]
        return found

    def sub(self, at: int, verdict: Verdict) -> Sub:
        """The sub in one row."""
        columns = self.columns
        sub_id = int(columns.ints("sub_id")[at])
        return Sub(
            sub_id, self.series_id, self.paths[at], float(columns.floats("order_utc_s")[at]),
            self._flags.get(sub_id, ""), bool(columns.ints("decision")[at]), verdict,
            lambda name: float(columns.floats(name)[at]),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class View:
    """One series as the screens show it: its subs with their verdicts."""

    series: SeriesRow
    subs: Subs
    verdicts: Verdicts
    shown: Ints
    """Row numbers of the session that is looked at, in time order."""
    session: str
    """Night shown, "" for all nights."""
    sessions: tuple[str, ...]

    @property
    def time_utc_s(self) -> Floats:
        return self.verdicts.columns.floats("order_utc_s")[self.shown]

    def column(self, name: str) -> Floats:
        """Figures of the shown subs: one column of subs or verdicts by name, NaN where missing."""
        if name in _JUDGED:
            return np.asarray(getattr(self.verdicts, name), dtype=float)[self.shown]
        return self.verdicts.columns.floats(name)[self.shown]

    def sub(self, at: int) -> Sub:
        """The sub in one row."""
        return self.subs.sub(at, self.verdicts.row(at))

    def sub_id(self, at: int) -> int:
        return int(self.verdicts.columns.ints("sub_id")[at])

    def place_of(self, sub_id: int, lines: Ints) -> int | None:
        """Where in a list of row numbers a sub stands; None where it is not in it."""
        found = np.flatnonzero(self.verdicts.columns.ints("sub_id")[lines] == sub_id)
        return int(found[0]) if found.size else None

    @property
    def bad(self) -> NDArray[np.bool_]:
        """True where a shown sub is rejected or failed."""
        return ~self.verdicts.ok[self.shown]

    def judged(self, limits: Limiting) -> Verdicts:
        """The same series under other cut-offs than those in force."""
        return judge(self.verdicts.columns, replace(self.series, limits={}), limits)

    def kept(self, limits: Limiting | None = None) -> Kept:
        """Count what the cut-offs in force, or other ones, keep of the shown subs."""
        verdicts = self.verdicts if limits is None else self.judged(limits)
        ok = verdicts.ok[self.shown]
        exposure_s = np.nan_to_num(verdicts.columns.floats("exposure_s")[self.shown])
        worth = np.clip(np.nan_to_num(verdicts.weight_of_best[self.shown]), 0.0, None)
        return Kept(ok.size, int(ok.sum()), float(exposure_s.sum()), float((exposure_s * worth)[ok].sum()))


def _default_limits() -> CutOffs:
    from nsgd.settings import Limits

    defaults = Limits()
    return CutOffs(*(getattr(defaults, name) for name in CutOffs.__slots__))


@dataclass
class Night(Glance):
    """Everything read from the store so far."""

    limits: Limiting = field(default_factory=_default_limits)
    last_change: int = 0
    series: dict[int, SeriesRow] = field(default_factory=dict)
    alerts: dict[int, AlertRow] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    _subs: dict[int, Subs] = field(default_factory=dict)
    """By series; 0 = failed before their series was known."""
    _verdicts: dict[int, Verdicts] = field(default_factory=dict)
    """Per series: what was judged since it last changed."""
    _rebuilt: Sky | None = None
    _newest_view: View | None = None

    def merge(self, changes: Changes) -> set[int]:
        """Take in what changed; returns the series that look different now."""
        touched = {row.series_id for row in changes.series}
        for row in changes.series:
            self.series[row.series_id] = row
        for sub in changes.subs:
            touched |= self._put(sub)
        if changes.subs:
            rows = {row.sub_id: row for row in (*self.newest_rows, *changes.subs)}
            self.newest_rows = sorted(rows.values(), key=lambda row: row.order_utc_s)[-SKY_MEMORY:]
        if touched:
            self._rebuilt = self._newest_view = None
        for series_id in touched:
            self._verdicts.pop(series_id, None)
        for alert in changes.alerts:
            self.alerts[alert.alert_id] = alert
        self.hear(changes.alarm)
        self.daemon = changes.daemon
        self.last_change = max(self.last_change, changes.last)
        return touched

    def _put(self, row: SubRow) -> set[int]:
        """Take in one sub; returns the series that it touches."""
        before = self._home(row.sub_id)
        if before is not None and before.series_id != row.series_id:
            before.remove(row.sub_id)
        self.subs_of(row.series_id).put(row)
        return {row.series_id} | ({before.series_id} if before is not None else set())

    def _home(self, sub_id: int) -> Subs | None:
        return next((subs for subs in self._subs.values() if sub_id in subs), None)

    def subs_of(self, series_id: int) -> Subs:
        """Subs of one series (0 = failed before their series was known)."""
        if series_id not in self._subs:
            self._subs[series_id] = Subs(series_id)
        return self._subs[series_id]

    @property
    def count(self) -> int:
        """How many subs are known."""
        return sum(len(subs.columns) for subs in self._subs.values())

    def path_of(self, sub_id: int) -> str:
        """File of a sub, "" where it is not known."""
        home = self._home(sub_id)
        return home.paths[home.columns.index(sub_id)] if home is not None else ""

    def newest_view(self) -> View | None:
        """The newest sub's series on its newest night; None where that sub belongs to none."""
        newest = self.newest()
        if self._newest_view is None and newest is not None:
            self._newest_view = self.view(newest.series_id)
        return self._newest_view

    def verdicts(self, series_id: int) -> Verdicts:
        """Verdicts of a series, by the row numbers of `subs_of`; KeyError where the series is not known."""
        if series_id not in self._verdicts:
            self._verdicts[series_id] = judge(self.subs_of(series_id).columns, self.series[series_id], self.limits)
        return self._verdicts[series_id]

    def sky(self) -> Seen:
        """What the sky does as the daemon has judged it; where none did, what the newest subs of all series say."""
        return self.told if self.told_all else self.rebuilt()

    def rebuilt(self) -> Sky:
        """The sky after the newest subs, as the alarm would see it."""
        from nsgd.session.sky import Sky, look, observe

        if self._rebuilt is None:
            sky = Sky()
            for row in self.newest_rows:
                sky = look(sky, observe(row, self.verdict(row)))
            self._rebuilt = sky
        return self._rebuilt

    def verdict(self, row: SubRow) -> Verdict:
        """The verdict of one sub, also where it failed before its series was known."""
        if row.series_id in self.series:
            return self.verdicts(row.series_id).of(row.sub_id)
        reasons = (row.failure.sentence,) if row.failure else ()
        return Verdict(row.sub_id, SubStatus.FAILED, reasons, NAN, NAN, NAN, NAN, NAN, 0, learning=True)

    def view(self, series_id: int, session: str | None = None) -> View | None:
        """One series judged; `session` None = its newest night, "" = all nights."""
        series = self.series.get(series_id)
        if series is None:
            return None
        subs = self.subs_of(series_id)
        sessions = subs.sessions()
        night = sessions[-1] if session is None and sessions else (session or "")
        return View(series, subs, self.verdicts(series_id), subs.of_session(night), night, sessions)
