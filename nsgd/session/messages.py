"""The words of the alarm: what a person needs at 3 a.m., in one title and a few lines that stand alone (pure)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from nsgd.records import Alert, SkyState
from nsgd.session.site import ALONE
from nsgd.session.sky import Dip, Sky

if TYPE_CHECKING:
    from nsgd.session.alerts import Event, Tally

CAUSES = {
    "cloud": "Cloud",
    "haze": "Haze",
    "dew": "Dew or frost?",
    "obstruction": "Something stands before the telescope?",
    "no stars": "No stars",
    ALONE: "Only this rig loses light",
}
KINDS = {"dew": "dew", "obstruction": "obstructed", ALONE: "this_rig"}
"""Cause -> kind of the message; all others are `cloud`."""
TROUBLES = {
    "no_subs": ("No new subs", "Subs arrive again"),
    "folder_lost": ("The capture folder is gone", "The capture folder is back"),
    "cannot_save": ("nsgd cannot save", "nsgd can save again"),
    "disk_low": ("The disk is nearly full", "The disk has room again"),
    "internal_errors": ("nsgd keeps failing", "nsgd works again"),
    "field_lost": ("The field is lost", "The field is found again"),
    "no_light": ("No light in the subs: cap on, shutter stuck?", "There is light again"),
    "soft": ("Stars are soft", "Stars are sharp again"),
    "trailed": ("Stars are trailed", "Stars are round again"),
}


TREND_S = 900.0


def local(utc_s: float, zone: tzinfo | None) -> datetime:
    """Local time; None is the system's zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc_s)).astimezone(zone)


def clock(utc_s: float, zone: tzinfo | None) -> str:
    """Local time as "22:41"."""
    return local(utc_s, zone).strftime("%H:%M")


def duration(seconds: float) -> str:
    """ "33 min" or "2.4 h"."""
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"


def counted(number: int, thing: str = "sub") -> str:
    """ "1 sub", "3 subs"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def percent(transmission: float) -> str:
    """ "43 % of clear", or "no stars"."""
    if transmission > 1.1:
        return "brighter than any sub so far"
    return f"{100.0 * transmission:.0f} % of clear" if math.isfinite(transmission) else "no stars"


def trend(dip: Dip | None) -> str:
    """Where the light is going over the last quarter of an hour, "" where that cannot be told."""
    samples = dip.samples if dip else ()
    known = [one for one in samples if math.isfinite(one.dip) and samples[-1].utc_s - one.utc_s <= TREND_S]
    if len(known) < 3:
        return ""
    half = len(known) // 2
    change = sum(s.dip for s in known[-half:]) / half - sum(s.dip for s in known[:half]) / half
    if abs(change) < max(0.03, 2.0 * known[-1].sigma):
        return "steady"
    return "getting worse" if change > 0 else "getting better"


def now_line(sky: Sky, state: SkyState) -> str:
    """The sky of the moment as one line."""
    words = [str(state)]
    if state is not SkyState.NO_DATA and math.isfinite(sky.transmission):
        words.append(percent(sky.transmission))
    if sky.cause and state not in (SkyState.CLEAR, SkyState.LEARNING) and sky.cause != str(state):
        words.append(sky.cause)
    return ", ".join(words)


def first(event: Event, sky: Sky, now_utc_s: float, zone: tzinfo | None, urgent: bool) -> Alert:
    """The first message of an event."""
    if event.kind in TROUBLES:
        lines = (f"{_sentence(event.sentence)} Since {clock(event.began_utc_s, zone)}.", _series(sky))
        return _alert(event, event.kind, TROUBLES[event.kind][0], lines, now_utc_s, urgent)
    title = f"{CAUSES.get(event.cause, 'Light is lost')}: {percent(sky.transmission)}"
    if event.cause == "no stars":
        title = "No stars: thick cloud, or something covers the telescope"
    return _alert(event, KINDS.get(event.cause, "cloud"), title, _sky_lines(event, sky, zone), now_utc_s, urgent)


def other_cause(event: Event, sky: Sky, now_utc_s: float, zone: tzinfo | None) -> Alert:
    """The event is not what its first message said: somebody should look at the telescope."""
    kind = KINDS.get(event.cause, "cloud")
    name = CAUSES[event.cause] if CAUSES[event.cause].endswith("?") else f"{CAUSES[event.cause]}:"
    title = f"{name} {percent(sky.transmission)}"
    if trend(sky.dip) == "getting worse":
        title += ", still falling"
    return _alert(event, kind, title, _sky_lines(event, sky, zone), now_utc_s, True)


def _sky_lines(event: Event, sky: Sky, zone: tzinfo | None) -> tuple[str, ...]:
    error = f" ± {100.0 * sky.transmission_err:.0f}" if sky.transmission_err > 0.005 else ""
    now = f"{100.0 * sky.transmission:.0f}{error} % of clear sky" if math.isfinite(sky.transmission) else "no stars"
    going = trend(sky.dip)
    evidence = event.sentence or ("cause not clear yet" if event.cause == "unknown" else "")
    return (
        f"Since {clock(event.began_utc_s, zone)}: {now}{', ' + going if going else ''}.",
        _sentence(evidence),
        f"{counted(event.lost)} rejected so far. {_series(sky)}".strip(),
    )


def all_clear(event: Event, sky: Sky, now_utc_s: float, zone: tzinfo | None) -> Alert:
    """The last message of an event."""
    span = f"{clock(event.began_utc_s, zone)} to {clock(event.ended_utc_s, zone)}"
    lasted = f"{span} ({duration(event.ended_utc_s - event.began_utc_s)})"
    if event.kind in TROUBLES:
        lines: tuple[str, ...] = (f"It lasted from {lasted}.", _series(sky))
        return _alert(event, f"{event.kind}_over", TROUBLES[event.kind][1], lines, now_utc_s, False)
    name = event.cause if event.cause in ("cloud", "haze", "dew", "obstruction") else "loss of light"
    spent = f", {duration(event.lost_s)}" if event.lost_s else ""  # some programs state no exposure
    cost = f"Lost: {counted(event.lost)}{spent}." if event.lost else "No sub was lost."
    deepest = f" Deepest: {percent(event.deepest)}." if event.deepest > 0 else " At its worst no stars were left."
    lines = (f"{_capital(name)} from {lasted}.", cost + deepest, _series(sky))
    return _alert(event, "clear", f"Clear again: {percent(sky.transmission)}", lines, now_utc_s, False)


def summary(tally: Tally, night: str, now_utc_s: float, zone: tzinfo | None) -> Alert:
    """What the night brought."""
    kept_s = tally.exposure_s - tally.lost_s
    lines = [f"{counted(tally.subs)} from {clock(tally.first_utc_s, zone)} on, {tally.subs - tally.lost} kept."]
    for span in tally.spans[:6]:
        name = span.cause or span.kind
        when = f"{clock(span.began_utc_s, zone)} to {clock(span.ended_utc_s, zone)}"
        lines.append(f"{_capital(name)} {when}: {counted(span.lost)} lost.")
    if len(tally.spans) > 6:
        lines.append(f"And {len(tally.spans) - 6} more.")
    exposure = f"{duration(kept_s)} kept of {duration(tally.exposure_s)}"
    title = f"Night of {night}: {exposure if tally.exposure_s else f'{tally.subs - tally.lost} kept of {tally.subs}'}"
    return Alert(f"night-{night}", "dawn", title, "\n".join(lines), now_utc_s)


def _series(sky: Sky) -> str:
    return f"{sky.label}." if sky.label else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return f"{_capital(text)}." if text and text[-1] not in ".!?" else _capital(text)


def _alert(event: Event, kind: str, title: str, lines: tuple[str, ...], now_utc_s: float, urgent: bool) -> Alert:
    body = "\n".join(line for line in lines if line)
    resolves = kind == "clear" or kind.endswith("_over")
    shared = event.shared and kind in ("cloud", "clear")
    return Alert(event.event_id, kind, title, body, now_utc_s, urgent=urgent, resolves=resolves, shared=shared)
