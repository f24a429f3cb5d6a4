"""What the dashboard knows of the store: series, subs and alerts in memory, kept up to date by changes.

No widget and no clock here: `Night` merges what `Reader.changes_since` tells, `View` is one series as the
screens show it (judged, in time order), `Kept` counts what a set of cut-offs would keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nsgd.records import NAN, Floats, SeriesRow, SubRow, SubStatus, Verdict
from nsgd.session.alerts import AlarmState
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.series import natural_key
from nsgd.session.sky import Sky, look, observe
from nsgd.settings import Limits

if TYPE_CHECKING:
    from nsgd.session.store import AlertRow, Changes, DaemonStatus

Ints = NDArray[np.int64]

SKY_MEMORY = 60
"""Subs that the sky state is read from; what is older has no say in it."""


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
        return f"{self.kept} of {self.subs} kept, {hours(self.effective_s)} effective of {hours(self.taken_s)}"


def hours(seconds: float) -> str:
    """Exposure time as people say it: "42 min", "3.1 h"."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True, eq=False)
class View:
    """One series as the screens show it: rows in time order with their verdicts."""

    series: SeriesRow
    rows: Sequence[SubRow]
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
        """Figures of the shown subs: one column of rows or verdicts by name, NaN where missing."""
        if name in ("transmission", "transmission_err", "transmission_clear", "weight", "weight_of_best"):
            return np.asarray(getattr(self.verdicts, name), dtype=float)[self.shown]
        return np.array([FIGURES[name](self.rows[i]) for i in self.shown], dtype=float)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """True where a shown sub is rejected or failed."""
        return ~self.verdicts.ok[self.shown]

    def judged(self, limits: Limits) -> Verdicts:
        """The same series under other cut-offs than those in force."""
        return judge(self.verdicts.columns, replace(self.series, limits={}), limits)

    def kept(self, limits: Limits | None = None) -> Kept:
        """Count what the cut-offs in force, or other ones, keep of the shown subs."""
        verdicts = self.verdicts if limits is None else self.judged(limits)
        ok = verdicts.ok[self.shown]
        exposure_s = np.nan_to_num(verdicts.columns.floats("exposure_s")[self.shown])
        worth = np.clip(np.nan_to_num(verdicts.weight_of_best[self.shown]), 0.0, None)
        return Kept(ok.size, int(ok.sum()), float(exposure_s.sum()), float((exposure_s * worth)[ok].sum()))


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else NAN


FIGURES: dict[str, Callable[[SubRow], float]] = {
    "fwhm_px": lambda row: row.fwhm_px,
    "ellipticity": lambda row: row.ellipticity,
    "stars": lambda row: float(row.stars_matched),
    "sky_adu": lambda row: _mean(row.sky_adu),
    "noise_adu": lambda row: _mean(row.noise_adu),
    "scale": lambda row: _mean(row.relation.scale) if row.relation else NAN,
    "gradient_rms_adu": lambda row: row.relation.gradient_rms_adu if row.relation else NAN,
    "rotation_deg": lambda row: NAN if row.failure else row.transform.rotation_deg,
}
"""Scalars of a row by name; NaN where the sub has none."""


def limits_of(series: SeriesRow, defaults: Limits) -> Limits:
    """The cut-offs in force for a series."""
    return defaults.model_copy(update=dict(series.limits)) if series.limits else defaults


def _is_internal(row: SubRow) -> bool:
    return row.failure is not None and row.failure.kind == "internal"


@dataclass
class Night:
    """Everything read from the store so far."""

    limits: Limits = field(default_factory=Limits)
    last_change: int = 0
    series: dict[int, SeriesRow] = field(default_factory=dict)
    subs: dict[int, SubRow] = field(default_factory=dict)
    alerts: dict[int, AlertRow] = field(default_factory=dict)
    daemon: DaemonStatus | None = None
    ignored: dict[str, int] = field(default_factory=dict)
    _order: dict[int, list[SubRow]] = field(default_factory=dict)
    """Per series: its subs in time order."""
    _stale: set[int] = field(default_factory=set)
    """Series whose order must be made anew."""
    _verdicts: dict[int, Verdicts] = field(default_factory=dict)
    """Per series: what was judged since it last changed."""
    _alarm_text: str | None = None
    _judged: AlarmState | None = None
    """The daemon's alarm, as it stands in the store."""
    _alarm: AlarmState | None = None
    _newest_view: View | None = None

    def merge(self, changes: Changes) -> set[int]:
        """Take in what changed; returns the series that look different now."""
        touched = {row.series_id for row in changes.series}
        for row in changes.series:
            self.series[row.series_id] = row
        for sub in changes.subs:
            old = self.subs.get(sub.sub_id)
            if old is not None:
                touched.add(old.series_id)
            self.subs[sub.sub_id] = sub
            touched.add(sub.series_id)
        self._stale |= touched
        if touched:
            self._alarm = self._newest_view = None
        if changes.alarm is not None and changes.alarm != self._alarm_text:
            self._alarm_text, self._alarm = changes.alarm, None
            self._judged = AlarmState.from_json(changes.alarm)
        for series_id in touched:
            self._verdicts.pop(series_id, None)
        for alert in changes.alerts:
            self.alerts[alert.alert_id] = alert
        self.daemon = changes.daemon
        self.last_change = max(self.last_change, changes.last)
        return touched

    def rows(self, series_id: int) -> list[SubRow]:
        """Subs of one series (0 = failed before their series was known) in time order."""
        if self._stale:
            self._sort()
        return self._order.get(series_id, [])

    def _sort(self) -> None:
        groups: dict[int, list[SubRow]] = {series_id: [] for series_id in self._stale}
        for row in self.subs.values():
            if row.series_id in groups:
                groups[row.series_id].append(row)
        for series_id, rows in groups.items():
            rows.sort(key=lambda row: (row.order_utc_s, natural_key(row.path), row.sub_id))
            self._order[series_id] = rows
        self._stale.clear()

    def daemon_lives(self, now_utc_s: float) -> bool:
        """True where a daemon is alive on this store."""
        return self.daemon is not None and self.daemon.alive(now_utc_s)

    def newest(self) -> SubRow | None:
        """The sub that was exposed last."""
        return next(reversed(self.recent(1)), None)

    def newest_view(self) -> View | None:
        """The newest sub's series on its newest night; None where that sub belongs to none."""
        newest = self.newest()
        if self._newest_view is None and newest is not None:
            self._newest_view = self.view(newest.series_id)
        return self._newest_view

    def verdicts(self, series_id: int) -> Verdicts:
        """Verdicts of a series, in the order of `rows`; KeyError where the series is not known."""
        if series_id not in self._verdicts:
            columns = Columns.from_rows(self.rows(series_id))
            self._verdicts[series_id] = judge(columns, self.series[series_id], self.limits)
        return self._verdicts[series_id]

    def recent(self, most: int) -> list[SubRow]:
        """The last subs of all series, in time order."""
        tails = [row for series_id in {0, *self.series} for row in self.rows(series_id)[-most:]]
        return sorted(tails, key=lambda row: row.order_utc_s)[-most:]

    def sky(self) -> Sky:
        """What the sky does after the newest subs of all series, as the alarm sees it."""
        return self.alarm().seen

    def alarm(self) -> AlarmState:
        """The alarm as the daemon has judged it; where none did, the sky after the newest subs."""
        if self._alarm is None:
            self._alarm = self._judged if self._judged is not None and self._has_seen(self._judged) else self._rebuilt()
        return self._alarm

    def _has_seen(self, alarm: AlarmState) -> bool:
        """Whether the alarm knows the newest sub; those over which nsgd itself failed it never sees."""
        newest = next((row for row in reversed(self.recent(SKY_MEMORY)) if not _is_internal(row)), None)
        return newest is not None and alarm.seen.last_utc_s >= newest.order_utc_s

    def _rebuilt(self) -> AlarmState:
        sky = Sky()
        for row in self.recent(SKY_MEMORY):
            sky = look(sky, observe(row, self.verdict(row)))
        return AlarmState(seen=sky)

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
        rows = self.rows(series_id)
        verdicts = self.verdicts(series_id)
        sessions = tuple(sorted({row.session for row in rows}))
        night = sessions[-1] if session is None and sessions else (session or "")
        shown = [i for i, row in enumerate(rows) if not night or row.session == night]
        return View(series, rows, verdicts, np.array(shown, dtype=np.int64), night, sessions)
