"""What the fleet view says of each rig, as words; the troubled rigs come first. No widget and no clock here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nsgd.dashboard.headline import Tone, age, looks
from nsgd.dashboard.inert import fit, inert
from nsgd.fleet.read import Rig

SILENT_S = 60.0
"""A rig that said nothing for longer than this, its heartbeats included, is silent."""
LONG_GONE_S = 86_400.0


@dataclass(frozen=True)
class Line:
    """One rig as it is shown."""

    rig: Rig
    word: str
    glyph: str
    plain: str
    tone: Tone
    trouble: int
    """0 is the worst; lines are sorted by it."""


def line_of(rig: Rig, now_utc_s: float) -> Line:
    """How a rig is shown: its own word, or that it is silent."""
    silent_s = now_utc_s - rig.seen_utc_s
    if not silent_s <= SILENT_S:
        gone = not silent_s <= LONG_GONE_S
        return Line(rig, "gone" if gone else "silent", "■", "#", Tone.QUIET if gone else Tone.WARN, 5 if gone else 2)
    glyph, plain, tone = looks(rig.state)
    trouble = 0 if rig.alert else {Tone.ALERT: 1, Tone.WARN: 1, Tone.QUIET: 3, Tone.GOOD: 4}[tone]
    return Line(rig, rig.state, glyph, plain, tone, trouble)


def lines_of(rigs: Sequence[Rig], now_utc_s: float, site: str = "") -> list[Line]:
    """Rigs whose site holds the word, the troubled ones first."""
    shown = [line_of(rig, now_utc_s) for rig in rigs if site.lower() in rig.site.lower()]
    return sorted(shown, key=lambda line: (line.trouble, line.rig.site, line.rig.name))


def cells_of(line: Line, now_utc_s: float, *, plain: bool) -> list[str]:
    """What a line says, in the order of `COLUMNS`."""
    rig = line.rig
    light = f"{rig.transmission:.2f}" if math.isfinite(rig.transmission) else ""
    return [
        inert(rig.name, 20), inert(rig.site, 16), f"{line.plain if plain else line.glyph} {line.word}", light,
        inert(rig.series, 24), age(now_utc_s - rig.last_sub_utc_s), inert(rig.alert, 60),
    ]  # fmt: skip


COLUMNS = ("rig", "site", "state", "T", "series", "last sub", "alert")
NARROW = ("rig", "state", "T", "last sub")


def site_line(rigs: Sequence[Rig], now_utc_s: float) -> str:
    """Every site with how many of its rigs say what."""
    sites: dict[str, Counter[str]] = {}
    for rig in sorted(rigs, key=lambda rig: rig.site):
        sites.setdefault(rig.site, Counter())[line_of(rig, now_utc_s).word] += 1
    parts = [
        f"{inert(site, 16) or 'no site'}: {', '.join(f'{count} {word}' for word, count in words.most_common())}"
        for site, words in sites.items()
    ]
    return "   ".join(parts)


def plain_lines(rigs: Sequence[Rig], now_utc_s: float) -> Iterator[str]:
    """The fleet as lines of plain ASCII."""
    widths = (20, 16, 14, 5, 24, 9, 40)
    for line in lines_of(rigs, now_utc_s):
        cells = cells_of(line, now_utc_s, plain=True)
        text = " ".join(fit(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        yield text.encode("ascii", "replace").decode("ascii")
