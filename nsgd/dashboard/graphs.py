"""Graphs of the night: a figure (numbers and what they mean) and the widget that draws it.

A `Figure` is made from records (`figures.py`) and knows no widget; `draw` turns it into characters for any
size; `Graph` puts these on the screen in the colours of the theme.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from nsgd.dashboard.canvas import Canvas, Ink, Run
from nsgd.dashboard.themes import Marker
from nsgd.records import NAN, Floats


@dataclass(frozen=True, eq=False)
class Curve:
    """A line behind the points (expected extinction, a fit), with a short name at its end."""

    x: Floats
    y: Floats
    ink: Ink = Ink.EXPECTED
    name: str = ""


@dataclass(frozen=True)
class Level:
    """A horizontal line with a short name at its right end."""

    y: float
    ink: Ink
    name: str = ""


@dataclass(frozen=True)
class Mark:
    """An event on the time axis: one glyph (and its plain-ASCII stand-in)."""

    x: float
    glyph: str
    plain: str
    ink: Ink = Ink.MARK


@dataclass(frozen=True, eq=False)
class Figure:
    """One graph: points with errors and inks, and what is drawn around them."""

    title: str
    x: Floats
    y: Floats
    err: Floats | None = None
    bad: NDArray[np.bool_] | None = None
    """(n,) True where the sub is rejected or failed: drawn as crosses."""
    joined: bool = True
    curves: tuple[Curve, ...] = ()
    levels: tuple[Level, ...] = ()
    marks: tuple[Mark, ...] = ()
    cursor_x: float = NAN
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    """Least range that is shown; the data may widen it."""
    x_label: Callable[[float, float], str] = field(default=lambda value, step: f"{value:g}")
    note: str = ""


def nice_ticks(low: float, high: float, most: int) -> tuple[Floats, float]:
    """Round numbers between `low` and `high`, at most `most` of them, and their step (1, 2 or 5 times 10^n)."""
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low or most < 1:
        return np.array([]), 1.0
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999))
    return _multiples(low, high, step), step


_CLOCK_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def clock_ticks(low: float, high: float, most: int) -> tuple[Floats, float]:
    """Full minutes, hours or days between two times in seconds, at most `most` of them, and their step."""
    rough = (high - low) / max(most, 1)
    step = float(next((s for s in _CLOCK_STEPS_S if s >= rough), np.ceil(rough / 86400) * 86400))
    return _multiples(low, high, step), step


def _multiples(low: float, high: float, step: float) -> Floats:
    first = np.ceil(low / step - 1e-9)
    return np.arange(first, np.floor(high / step + 1e-9) + 1) * step


def tick_label(value: float, step: float) -> str:
    """A number with as many decimals as its step needs; thousands as k."""
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    if step >= 1000:
        return f"{value / 1000:g}k"
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9))) if step < 1 else 0
    return f"{value + 0.0 if abs(value) > 1e-9 * step else 0.0:.{decimals}f}"


def _y_span(figure: Figure) -> tuple[float, float]:
    """The range of y that holds the points, their levels and the range asked for, with some air."""
    parts = [figure.y[np.isfinite(figure.y)], np.array(figure.y_range or ())]
    parts.append(np.array([level.y for level in figure.levels if np.isfinite(level.y)]))
    values = np.concatenate(parts)
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(high)):
        half = max(0.5, 1e-6 * abs(high))
        return low - half, high + half
    air = 0.04 * (high - low)
    # Nothing here can be negative unless it is: an axis that starts at zero starts at zero.
    return (0.0 if 0.0 <= low < air else low - air), high + air


def _x_span(figure: Figure) -> tuple[float, float]:
    if figure.x_range is not None:
        low, high = figure.x_range
    elif figure.x.size:
        low, high = float(np.min(figure.x)), float(np.max(figure.x))
    else:
        low, high = 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


@dataclass(frozen=True)
class Frame:
    """Where the plot lies inside the widget, and the map from values to cells."""

    left: int
    width: int
    height: int
    x_span: tuple[float, float]
    y_span: tuple[float, float]

    def column(self, x: Floats) -> Floats:
        low, high = self.x_span
        return (x - low) / (high - low) * (self.width - 1) + 0.5

    def row(self, y: Floats) -> Floats:
        low, high = self.y_span
        return (y - low) / (high - low) * (self.height - 1e-6)

    def x_at(self, column: float) -> float:
        """The value under a column of the widget."""
        low, high = self.x_span
        return low + (column - self.left) / max(self.width - 1, 1) * (high - low)


def frame_of(figure: Figure, width: int, height: int) -> Frame:
    """Lay out a graph in `width` x `height` cells: title, plot, axis line, tick labels."""
    y_span = _y_span(figure)
    body = max(height - 3, 1)
    ticks, step = nice_ticks(*y_span, max(body // 2, 2))
    left = max((len(tick_label(float(tick), step)) for tick in ticks), default=1) + 1
    left = min(left, width // 2)
    return Frame(left, max(width - left, 1), body, _x_span(figure), y_span)


def draw(figure: Figure, width: int, height: int, marker: Marker, *, clock: bool = True) -> list[list[Run]]:
    """Draw a figure as `height` lines of runs (text, ink) that are `width` cells wide."""
    if width < 12 or height < 4:
        return [[(figure.title[:width].ljust(width), Ink.LABEL)]] + [[(" " * width, Ink.BLANK)]] * (height - 1)
    frame = frame_of(figure, width, height)
    canvas = Canvas(frame.width, frame.height, marker)
    _paint(canvas, figure, frame)
    lines = [_title_line(figure, width)]
    lines += [[*left, *row] for left, row in zip(_y_axis(frame, marker), canvas.rows(), strict=True)]
    return lines + _x_axis(figure, frame, marker, clock=clock)


def _title_line(figure: Figure, width: int) -> list[Run]:
    title = figure.title[:width]
    note = figure.note[: max(width - len(title) - 2, 0)]
    gap = width - len(title) - len(note)
    return [(title, Ink.LABEL), (" " * gap, Ink.BLANK), (note, Ink.AXIS)]


def _paint(canvas: Canvas, figure: Figure, frame: Frame) -> None:
    """Put levels, events, errors, line and points on the canvas, the most important last."""
    for level in figure.levels:
        dash = (2, 2) if level.ink is Ink.CUT else (1, 3)
        canvas.level(float(frame.row(np.array(level.y))), level.ink, dash)
    for mark in figure.marks:
        canvas.upright(float(frame.column(np.array(mark.x))), mark.ink, (1, 3))
    for curve in figure.curves:
        canvas.polyline(frame.column(curve.x), frame.row(curve.y), curve.ink)
    if np.isfinite(figure.cursor_x):
        canvas.upright(float(frame.column(np.array(figure.cursor_x))), Ink.CURSOR, (1, 1))
    _paint_points(canvas, figure, frame)
    for level in figure.levels:
        _write_name(canvas, level.name, float(frame.row(np.array(level.y))), level.ink)
    for curve in figure.curves:
        if curve.name and curve.y.size:
            _write_name(canvas, curve.name, float(frame.row(curve.y[-1:])[0]), curve.ink)


def _write_name(canvas: Canvas, name: str, y: float, ink: Ink) -> None:
    """Put the name of a line on its right end."""
    canvas.letter(canvas.width - len(name), min(y, canvas.height - 1e-3), name, ink)


def _paint_points(canvas: Canvas, figure: Figure, frame: Frame) -> None:
    x, y = frame.column(figure.x), frame.row(figure.y)
    bad = figure.bad if figure.bad is not None else np.zeros(x.size, dtype=bool)
    crowded = x.size > 4 * frame.width
    if figure.err is not None:
        canvas.bars(x, frame.row(figure.y - figure.err), frame.row(figure.y + figure.err), Ink.ERROR)
    if figure.joined and not crowded:
        canvas.polyline(x, y, Ink.LINE)
    paint = canvas.dots if x.size > 1.4 * frame.width else canvas.fat_dots
    paint(x[~bad], y[~bad], Ink.OK)
    if crowded or canvas.marker is Marker.ASCII:
        paint(x[bad], y[bad], Ink.BAD)
    else:
        for bad_x, bad_y in zip(x[bad], y[bad], strict=True):
            canvas.letter(float(bad_x), min(max(float(bad_y), 0.0), canvas.height - 1e-3), "×", Ink.BAD)
    for failed_x in x[bad & ~np.isfinite(y)]:
        canvas.letter(float(failed_x), 0.0, "!", Ink.BAD)


def _y_axis(frame: Frame, marker: Marker) -> list[list[Run]]:
    """The numbers and the line left of the plot, from the top."""
    edge, tick_edge = ("|", "+") if marker is Marker.ASCII else ("│", "┤")
    ticks, step = nice_ticks(*frame.y_span, max(frame.height // 2, 2))
    labels: dict[int, str] = {}
    for tick in ticks:
        row = frame.height - 1 - int(np.floor(float(frame.row(np.array(tick)))))
        labels.setdefault(row, tick_label(float(tick), step))
    lines = []
    for row in range(frame.height):
        label = labels.get(row, "")[: frame.left - 1]
        lines.append([(label.rjust(frame.left - 1), Ink.LABEL), (tick_edge if label else edge, Ink.AXIS)])
    return lines


def _x_axis(figure: Figure, frame: Frame, marker: Marker, *, clock: bool) -> list[list[Run]]:
    """The line below the plot with its ticks and events, and the labels under it."""
    corner, dash, tick_dash = ("+", "-", "+") if marker is Marker.ASCII else ("└", "─", "┴")
    find = clock_ticks if clock else nice_ticks
    ticks, step = find(*frame.x_span, max(frame.width // 12, 1))
    axis: list[Run] = [(dash, Ink.AXIS)] * frame.width
    labels = [" "] * (frame.left + frame.width)
    for tick in ticks:
        column = int(frame.column(np.array(float(tick))))
        axis[column] = (tick_dash, Ink.AXIS)
        _place_label(labels, frame.left + column, figure.x_label(float(tick), step))
    for mark in figure.marks:
        column = int(frame.column(np.array(mark.x)))
        if 0 <= column < frame.width:
            axis[column] = (mark.plain if marker is Marker.ASCII else mark.glyph, mark.ink)
    line: list[Run] = [(" " * (frame.left - 1), Ink.BLANK), (corner, Ink.AXIS), *axis]
    return [line, [("".join(labels), Ink.LABEL)]]


def _place_label(labels: list[str], centre: int, text: str) -> None:
    """Write `text` around `centre` where it does not touch its neighbour."""
    start = max(0, min(centre - len(text) // 2, len(labels) - len(text)))
    if all(character == " " for character in labels[max(start - 1, 0) : start + len(text) + 1]):
        labels[start : start + len(text)] = list(text)


class Drawing(Widget):
    """Characters in the inks of the theme, drawn anew when what they show, the size or the marker changes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"graph--{ink.value}" for ink in Ink}
    DEFAULT_CSS = """
    Drawing { height: 1fr; min-height: 5; }
    """

    marker: reactive[Marker] = reactive(Marker.BRAILLE)

    def __init__(self, name: str) -> None:
        super().__init__(id=name)
        self._lines: list[list[Run]] | None = None
        self._drawn_for = (0, 0)

    def lines(self, width: int, height: int) -> list[list[Run]]:
        """The drawing from the top, `width` cells wide; fewer lines than `height` leave the rest blank."""
        raise NotImplementedError

    def redraw(self) -> None:
        self._lines = None
        self.refresh()

    def watch_marker(self) -> None:
        self.redraw()

    def render_line(self, y: int) -> Strip:
        size = (self.size.width, self.size.height)
        if self._lines is None or self._drawn_for != size:
            self._lines, self._drawn_for = self.lines(*size), size
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        line = self._lines[y]
        styles = {ink: self._style(ink) for ink in {ink for _, ink in line}}
        return Strip([Segment(text, styles[ink]) for text, ink in line], self.size.width)

    def _style(self, ink: Ink) -> Style:
        return self.get_component_rich_style(f"graph--{ink.value}")


class Graph(Drawing):
    """A figure on the screen."""

    figure: reactive[Figure | None] = reactive(None, always_update=True)

    class Picked(Message):
        """The user clicked at a value of x."""

        def __init__(self, graph: Graph, x: float) -> None:
            super().__init__()
            self.graph = graph
            self.x = x

    def __init__(self, name: str, *, clock: bool = True) -> None:
        super().__init__(name)
        self._clock = clock

    def watch_figure(self) -> None:
        self.redraw()

    def point_at(self, cursor_x: float) -> None:
        """Move the cursor line; where it stands there already, nothing is drawn again."""
        if self.figure is not None and not _same(self.figure.cursor_x, cursor_x):
            self.figure = replace(self.figure, cursor_x=cursor_x)

    def lines(self, width: int, height: int) -> list[list[Run]]:
        if self.figure is None:
            return []
        return draw(self.figure, width, height, self.marker, clock=self._clock)

    def on_click(self, event: Click) -> None:
        if self.figure is not None:
            frame = frame_of(self.figure, self.size.width, self.size.height)
            self.post_message(self.Picked(self, frame.x_at(event.x)))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
