"""What happened during the night besides light: flips, filter changes, refocusing, alerts told or not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nsgd.dashboard.inert import inert
from nsgd.dashboard.night import Night, View
from nsgd.records import NAN, Floats
from nsgd.session.store import AlertRow

REFOCUS_STEP = 0.10
"""Change of the stars' width, relative, that counts as refocused when it comes with a pause."""


class Happening(StrEnum):
    """Kinds of events, in the order in which a crowded graph drops them last."""

    FLIP = "meridian flip"
    FILTER = "other filter or object before"
    FOCUS = "refocused"
    TOLD = "alert sent"
    UNTOLD = "alert not delivered"
    CLEAR = "all-clear"


GLYPHS: dict[Happening, tuple[str, str]] = {
    Happening.FLIP: ("⟲", "F"),
    Happening.FILTER: ("◆", "f"),
    Happening.FOCUS: ("◎", "o"),
    Happening.TOLD: ("▲", "A"),
    Happening.UNTOLD: ("△", "!"),
    Happening.CLEAR: ("▽", "C"),
}


@dataclass(frozen=True)
class Event:
    """One event: when, what, and the words for it."""

    utc_s: float
    kind: Happening
    words: str


def events_of(night: Night, view: View) -> tuple[Event, ...]:
    """Everything that happened while the shown subs of a view were taken, in time order."""
    if not view.shown.size:
        return ()
    found = [*_flips(view), *_filters(night, view), *_focus(view), *_alerts(night, view)]
    return tuple(sorted(found, key=lambda event: event.utc_s))


def _flips(view: View) -> list[Event]:
    """The rotation against the series turns by more than a quarter."""
    times = view.time_utc_s
    rotation = view.column("rotation_deg")
    seen = np.flatnonzero(np.isfinite(rotation))
    turned = np.abs((np.diff(rotation[seen]) + 180.0) % 360.0 - 180.0) > 90.0
    return [Event(float(times[i]), Happening.FLIP, Happening.FLIP.value) for i in seen[1:][turned]]


def _filters(night: Night, view: View) -> list[Event]:
    """Subs of another series came in between; changes back and forth after every sub are no events."""
    mine = view.series.series_id
    times = view.time_utc_s
    others = [night.subs_of(series_id).columns.floats("order_utc_s") for series_id in night.series if series_id != mine]
    came = np.concatenate(others) if others else np.array([])
    places = np.flatnonzero(np.bincount(np.searchsorted(times, came[(times[0] < came) & (came < times[-1])])))
    if places.size > max(4, times.size // 6):
        return []
    return [Event(float(times[i]), Happening.FILTER, Happening.FILTER.value) for i in places]


def _focus(view: View) -> list[Event]:
    """The stars' width steps after a pause in the subs."""
    times, width = view.time_utc_s, view.column("fwhm_px")
    if times.size < 7:
        return []
    gap = np.diff(times)
    paused = np.flatnonzero(gap > 1.3 * np.median(gap)) + 1
    found = []
    for i in paused:
        before, after = _middle(width[max(i - 3, 0) : i]), _middle(width[i : i + 3])
        if abs(np.log(after / before)) > REFOCUS_STEP:
            words = f"{Happening.FOCUS.value}: FWHM {before:.1f} to {after:.1f} px"
            found.append(Event(float(times[i]), Happening.FOCUS, words))
    return found


def _middle(values: Floats) -> float:
    fine = values[np.isfinite(values)]
    return float(np.median(fine)) if fine.size else NAN


def _alerts(night: Night, view: View) -> list[Event]:
    first, last = float(view.time_utc_s[0]) - 1800.0, float(view.time_utc_s[-1]) + 1800.0
    return [_alert(row) for row in night.alerts.values() if first <= row.alert.created_utc_s <= last]


def _alert(row: AlertRow) -> Event:
    title = inert(row.alert.title, 80)
    told = delivered(row)
    kind = Happening.CLEAR if row.alert.resolves else Happening.TOLD if told else Happening.UNTOLD
    return Event(row.alert.created_utc_s, kind, f"{title} ({delivery_words(row)})")


def delivered(row: AlertRow) -> bool:
    """True where at least one service took the alert."""
    return any(delivery.state == "sent" for delivery in row.deliveries)


def delivery_words(row: AlertRow) -> str:
    """What became of an alert: sent, on its way, or why not."""
    if not row.deliveries:
        return "no service is set up"
    sent = sum(delivery.state == "sent" for delivery in row.deliveries)
    if sent == len(row.deliveries):
        return "sent"
    errors = [inert(delivery.error, 60) for delivery in row.deliveries if delivery.error]
    waiting = any(delivery.state == "pending" for delivery in row.deliveries)
    words = f"sent to {sent} of {len(row.deliveries)}" if sent else "on its way" if waiting else "not delivered"
    return f"{words}: {errors[-1]}" if errors else words
