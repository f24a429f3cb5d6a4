"""The first line of every screen: state word, glyph, number, age; loud when it is old."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from nsgd.dashboard.inert import inert
from nsgd.records import NAN, SkyState, SubRow

if TYPE_CHECKING:
    from nsgd.dashboard.glance import Glance
    from nsgd.dashboard.night import View

DOWN, STOPPED = "DAEMON DOWN", "DAEMON STOPPED"


class Tone(StrEnum):
    """How loud a state is; the theme gives each a colour."""

    GOOD = "good"
    WARN = "warn"
    ALERT = "alert"
    QUIET = "quiet"


_LOOKS: dict[str, tuple[str, str, Tone]] = {
    SkyState.CLEAR: ("●", "o", Tone.GOOD),
    SkyState.THINNING: ("◐", "!", Tone.WARN),
    SkyState.CLOUDY: ("✖", "X", Tone.ALERT),
    SkyState.OBSTRUCTED: ("◪", "X", Tone.ALERT),
    SkyState.DEW: ("◍", "!", Tone.ALERT),
    SkyState.NO_STARS: ("✖", "X", Tone.ALERT),
    SkyState.LEARNING: ("…", ".", Tone.QUIET),
    SkyState.NO_DATA: ("■", "#", Tone.QUIET),
    SkyState.UNKNOWN: ("?", "?", Tone.QUIET),
}


def looks(state: str) -> tuple[str, str, Tone]:
    """Glyph, plain-ASCII glyph and loudness of a sky state; an unknown word looks unknown."""
    return _LOOKS.get(state, _LOOKS[SkyState.UNKNOWN])


@dataclass(frozen=True)
class Headline:
    """What the first line says."""

    word: str
    glyph: str
    plain: str
    tone: Tone
    transmission: float = NAN
    filter_name: str = ""
    kept: int = 0
    subs: int = 0
    age_s: float = NAN
    note: str = ""
    """What is wrong with the figures ("STALE", "DAEMON DOWN"); "" where they are fresh."""


def age(seconds: float) -> str:
    """ "42 s", "3 min", "2 h 05", "3 days"."""
    if not math.isfinite(seconds):
        return ""
    whole = max(0, int(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} days"


def headline(night: Glance, view: View | None, now_utc_s: float) -> Headline:
    """What the sky does as far as the newest sub tells, and how old that is.

    Parameters
    ----------
    view
        The newest sub's series, for its counts; None where that sub belongs to none.
    """
    newest = night.newest()
    note = daemon_note(night, now_utc_s)
    if newest is not None and note and now_utc_s - seen_utc_s(newest) > 86400.0:
        # A store that `nsgd measure` left: nobody expects a daemon there.
        note = f"NIGHT OF {newest.session}"
    if newest is None:
        return Headline("NO SUBS YET", "■", "#", Tone.QUIET, note=note)
    sky = night.sky()
    age_s = now_utc_s - seen_utc_s(newest)
    note = note or ("STALE" if age_s > stale_after_s(night) else "")
    glyph, plain, tone = _LOOKS[sky.state]
    if note:
        glyph, plain, tone = "■", "#", Tone.WARN if note in (DOWN, STOPPED) else Tone.QUIET
    line = Headline(sky.state.upper(), glyph, plain, tone, sky.transmission, age_s=age_s, note=note)
    if view is None:
        return line
    kept = view.kept()
    return replace(line, filter_name=inert(view.series.filter_name, 12), kept=kept.kept, subs=kept.subs)


def seen_utc_s(row: SubRow) -> float:
    """When a sub saw the sky last: the end of its exposure, or its arrival where its own time is not trusted."""
    if row.order_flag:
        return row.arrived_utc_s
    return row.order_utc_s + 0.5 * (row.header.exposure_s or 0.0)


def daemon_note(night: Glance, now_utc_s: float) -> str:
    """ "DAEMON DOWN" where nobody measures, "" where it lives."""
    daemon = night.daemon
    if daemon is None:
        return "NO DAEMON"
    return "" if night.daemon_lives(now_utc_s) else STOPPED if daemon.stopped else DOWN


def stale_after_s(night: Glance) -> float:
    """Age from which the newest sub is old: three cadences and two minutes, at least 15 minutes."""
    return min(max(3.0 * night.cadence_s() + 120.0, 900.0), 3 * 3600.0)


def say(line: Headline, width: int, *, plain: bool = False) -> str:
    """The headline in at most `width` cells: the least important parts go first."""
    glyph = line.plain if plain else line.glyph
    old = age(line.age_s)
    parts = [
        (0, f"{glyph} {line.note or line.word}"),
        (4, f"was {line.word}" if line.note and line.subs else ""),
        (2, f"T {line.transmission:.2f}" if math.isfinite(line.transmission) else ""),
        (3, f"{line.filter_name} {line.kept}/{line.subs}" if line.subs else ""),
        (1, f"{old} ago" if old else ""),
    ]
    kept = [(rank, text) for rank, text in parts if text]
    while len(kept) > 1 and sum(len(text) + 2 for _, text in kept) > width:
        kept.remove(max(kept))
    return "  ".join(text for _, text in kept)[:width]
