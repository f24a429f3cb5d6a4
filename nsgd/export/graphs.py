"""Graphs as SVG text for the report: points over time, and a compass of gradients. No script, no font, no library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import groupby
from typing import Final

from nsgd.export.text import html_text

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 28
TICK_MINUTES: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720)
MOST_TIME_TICKS: Final = 6
GAP: Final = 0.08
"""Points further apart than this part of the axis are not joined."""


@dataclass(frozen=True, slots=True)
class Point:
    """One sub in a graph."""

    x: float
    y: float
    colour: str
    """CSS class of its series."""
    kept: bool
    title: str
    """What a pointer that rests on it shows."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What a graph over time shows besides its points."""

    begin_utc_s: float
    end_utc_s: float
    zone: tzinfo | None
    low: float
    high: float
    unit: str = ""
    """Written behind the numbers of the vertical axis."""
    cut_offs: Sequence[float] = ()
    shades: Sequence[tuple[float, float]] = ()
    """Stretches of time that were not clear."""
    marks: Sequence[tuple[float, str]] = field(default=())
    """Moments with a title: alerts."""
    numbered: bool = False
    """Begin and end are numbers of subs: no time is known."""

    def x(self, utc_s: float) -> float:
        """Pixels from the left."""
        part = (utc_s - self.begin_utc_s) / (self.end_utc_s - self.begin_utc_s)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top; values outside lie on the edge."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def over_time(points: Sequence[Point], axes: Axes, label: str) -> str:
    """Points over time; kept subs are dots, the others crosses."""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(label)}">']
    parts += [_shade(axes, begin, end) for begin, end in axes.shades]
    parts += _level_lines(axes)
    parts += _time_lines(axes)
    parts += [_dashes(axes, value) for value in axes.cut_offs]
    seen = [point for point in points if math.isfinite(point.y) and math.isfinite(point.x)]
    for colour, members in groupby(sorted(seen, key=lambda p: (p.colour, p.x)), key=lambda p: p.colour):
        parts.append(_thread(axes, colour, list(members)))
    radius = 3.4 if len(seen) < 100 else 2.6 if len(seen) < 300 else 1.8
    parts += [_marker(point, axes.x(point.x), axes.y(point.y), radius) for point in seen]
    parts += [_mark(axes, moment, title) for moment, title in axes.marks]
    parts.append("</svg>")
    return "".join(parts)


def compass(points: Sequence[Point], label: str, unit: str) -> str:
    """Gradient vectors as points about the centre: up is up in the frame, rings are amplitudes."""
    seen = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    reach = max((math.hypot(point.x, point.y) for point in seen), default=1.0) or 1.0
    step = nice_step(reach, 3)
    rings = max(1, math.ceil(reach / step - 1e-9))
    middle_x, middle_y, radius = WIDTH / 2, HEIGHT / 2, HEIGHT / 2 - 14
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(label)}">']
    cross = f"M{middle_x - radius} {middle_y}h{2 * radius}M{middle_x} {middle_y - radius}v{2 * radius}"
    parts.append(f'<path class="grid" d="{cross}"/>')
    for ring in range(1, rings + 1):
        r = radius * ring / rings
        parts.append(f'<circle class="grid ring" cx="{middle_x}" cy="{middle_y}" r="{r:.1f}"/>')
        parts.append(f'<text class="tick" x="{middle_x + 4}" y="{middle_y - r + 11:.1f}">{ring * step:g}{unit}</text>')
    for point in seen:
        x, y = (value / (rings * step) * radius for value in (point.x, point.y))
        parts.append(_marker(point, middle_x + x, middle_y + y, 3.2))
    parts.append("</svg>")
    return "".join(parts)


def bar(parts: Sequence[tuple[float, str, str]]) -> str:
    """A bar of shares: (value, CSS class, title)."""
    total = sum(value for value, _, _ in parts) or 1.0
    x, drawn = 0.0, ['<svg class="bar" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img">']
    for value, colour, title in parts:
        width = 1000.0 * value / total
        drawn.append(
            f'<rect class="{colour}" x="{x:.1f}" y="0" width="{max(width - 2, 1):.1f}" height="26">'
            f"<title>{html_text(title)}</title></rect>"
        )
        x += width
    return "".join(drawn) + "</svg>"


def nice_step(span: float, most: int) -> float:
    """A round step (1, 2, 2.5 or 5 times a power of ten) that divides a span into at most `most` parts."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def padded_range(values: Iterable[float], floor: float | None = None) -> tuple[float, float]:
    """Lowest and highest value with some room, for an axis; (0, 1) where there is none."""
    seen = [value for value in values if math.isfinite(value)]
    if not seen:
        return 0.0, 1.0
    low, high = min(seen), max(seen)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return (low - room if floor is None else max(floor, low - room)), high + room


def time_ticks(axes: Axes) -> list[tuple[float, str]]:
    """Round local times along the axis."""
    span_min = (axes.end_utc_s - axes.begin_utc_s) / 60.0
    step = next((minutes for minutes in TICK_MINUTES if span_min / minutes <= MOST_TIME_TICKS), 1440)
    if axes.numbered:
        step = max(1, round(nice_step(axes.end_utc_s - axes.begin_utc_s, 5)))
        numbers = range(step, math.ceil(axes.end_utc_s), step)
        return [(float(number), f"{number}") for number in numbers]
    begin = local_time(axes.begin_utc_s, axes.zone)
    first = axes.begin_utc_s + 60.0 * (step - (begin.hour * 60 + begin.minute) % step) - begin.second
    moments = [first + 60.0 * step * number for number in range(MOST_TIME_TICKS + 2)]
    return [(at, f"{local_time(at, axes.zone):%H:%M}") for at in moments if at < axes.end_utc_s]


def local_time(utc_s: float, zone: tzinfo | None) -> datetime:
    """A moment on the clock of the site; None is the system's zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc_s)).astimezone(zone)


def _shade(axes: Axes, begin: float, end: float) -> str:
    left, right = axes.x(max(begin, axes.begin_utc_s)), axes.x(min(end, axes.end_utc_s))
    size = f'width="{max(right - left, 1):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="shade" x="{left:.1f}" y="{TOP}" {size}/>'


def _level_lines(axes: Axes) -> list[str]:
    step = nice_step(axes.high - axes.low, 5)
    parts = []
    for number in range(math.ceil(axes.low / step - 1e-9), math.floor(axes.high / step + 1e-9) + 1):
        y, text = axes.y(number * step), f"{number * step:.6g}"
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{text}{html_text(axes.unit)}</text>')
    return parts


def _time_lines(axes: Axes) -> list[str]:
    parts = []
    for moment, text in time_ticks(axes):
        x = axes.x(moment)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}">{text}</text>')
    return parts


def _dashes(axes: Axes, value: float) -> str:
    return f'<path class="cut" d="M{LEFT} {axes.y(value):.1f}H{WIDTH - RIGHT}"/>'


def _thread(axes: Axes, colour: str, members: Sequence[Point]) -> str:
    """A faint line through neighbouring points of one series."""
    path, last = [], -math.inf
    for point in members:
        x = axes.x(point.x)
        joined = x - last <= GAP * (WIDTH - LEFT - RIGHT)
        path.append(f"{'L' if joined else 'M'}{x:.1f} {axes.y(point.y):.1f}")
        last = x
    return f'<path class="thread {colour}" d="{"".join(path)}"/>'


def _marker(point: Point, x: float, y: float, radius: float) -> str:
    title = f"<title>{html_text(point.title)}</title>"
    if point.kept:
        return f'<circle class="dot {point.colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'
    r = radius * 0.95
    cross = f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"
    return f'<path class="cross {point.colour}" d="{cross}">{title}</path>'


def _mark(axes: Axes, moment: float, title: str) -> str:
    x = axes.x(min(max(moment, axes.begin_utc_s), axes.end_utc_s))
    return (
        f'<g class="mark"><title>{html_text(title)}</title><path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<path class="flag" d="M{x:.1f} {TOP}l7 3.5l-7 3.5z"/></g>'
    )
