"""Turn a view of the night into graphs: what is drawn, between which levels, with which events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from nsgd.dashboard.canvas import Ink
from nsgd.dashboard.events import GLYPHS, Event, Happening
from nsgd.dashboard.graphs import Curve, Figure, Level, Mark
from nsgd.dashboard.night import View
from nsgd.records import NAN, Floats

GRAPHS: dict[str, str] = {
    "transmission": "Transmission",
    "weight": "Weight, of the best sub",
    "fwhm_px": "FWHM, px",
    "stars": "Stars matched",
    "sky_adu": "Sky, ADU",
}


def clock_label(zone: ZoneInfo | None) -> Callable[[float, float], str]:
    """Labels of a time axis in local time: days, hours and minutes, or seconds, as the step asks."""

    def label(utc_s: float, step_s: float) -> str:
        moment = local_time(utc_s, zone)
        if step_s >= 86400:
            return moment.strftime("%d %b")
        return moment.strftime("%H:%M" if step_s >= 60 else "%H:%M:%S")

    return label


def local_time(utc_s: float, zone: ZoneInfo | None) -> datetime:
    """A moment in the zone of the settings, or in the system's where none is set."""
    return datetime.fromtimestamp(utc_s, UTC).astimezone(zone)


def figure(view: View, name: str, zone: ZoneInfo | None, events: Sequence[Event] = ()) -> Figure:
    """One of `GRAPHS` for the shown subs of a view."""
    build = {"transmission": _transmission, "weight": _weight}.get(name)
    x = _x_of(view)
    base = build(view, x) if build else Figure(GRAPHS[name], x, view.column(name), bad=view.bad)
    base = replace(base, marks=_marks(view, x, events))
    return base if by_number(view) else replace(base, x_label=clock_label(zone))


def by_number(view: View) -> bool:
    """True where several nights are shown: then x is the sub's number, not its time."""
    return not view.session and len(view.sessions) > 1


def _x_of(view: View) -> Floats:
    return np.arange(1.0, view.shown.size + 1) if by_number(view) else view.time_utc_s


def _transmission(view: View, x: Floats) -> Figure:
    """Measured transmission, clear level, expected extinction and the cut-off as it lies on the measured curve."""
    verdicts = view.verdicts
    measured = view.column("transmission")
    expected = 10.0 ** (-0.4 * np.nan_to_num(verdicts.extinction_mag[view.shown]))
    limit = verdicts.limits.transmission
    has_airmass = bool(np.isfinite(verdicts.extinction_mag[view.shown]).any())
    curves = (
        (Curve(x, expected, Ink.EXPECTED), Curve(x, limit * expected, Ink.CUT, f"cut {limit:g}")) if has_airmass else ()
    )
    cut = Level(limit, Ink.CUT, f"cut {limit:g}") if not has_airmass else Level(NAN, Ink.CUT)
    return Figure(
        GRAPHS["transmission"],
        x,
        measured,
        view.column("transmission_err"),
        view.bad,
        curves=curves,
        levels=(Level(1.0, Ink.LEVEL), cut),
        y_range=(min(limit - 0.05, 0.7), 1.0),
    )


def _weight(view: View, x: Floats) -> Figure:
    limit = view.verdicts.limits.weight
    return Figure(
        GRAPHS["weight"],
        x,
        view.column("weight_of_best"),
        bad=view.bad,
        levels=(Level(limit, Ink.CUT, f"cut {limit:g}"),),
        y_range=(0.0, 1.0),
    )


def _marks(view: View, x: Floats, events: Sequence[Event]) -> tuple[Mark, ...]:
    """Events on the axis of a graph: at their time, or at the sub that followed them."""
    marks = []
    for event in events:
        at = event.utc_s
        if by_number(view):
            at = float(x[min(int(np.searchsorted(view.time_utc_s, event.utc_s)), x.size - 1)])
        loud = event.kind in (Happening.TOLD, Happening.UNTOLD)
        marks.append(Mark(at, *GLYPHS[event.kind], Ink.ALERT if loud else Ink.MARK))
    return tuple(marks)
