"""A grid of dots that becomes terminal characters: braille, blocks or plain ASCII.

Coordinates are in cells and real-valued: x in 0..width to the right, y in 0..height upwards. What is
painted later decides the colour of a cell; letters lie above dots. No widget, no store: pure numpy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nsgd.dashboard.themes import Marker
from nsgd.records import Floats


class Ink(StrEnum):
    """What a stroke stands for; the theme gives each its colour (component class `graph--<ink>`)."""

    BLANK = "blank"
    AXIS = "axis"
    LABEL = "label"
    LINE = "line"
    ERROR = "error"
    LEVEL = "level"
    EXPECTED = "expected"
    CUT = "cut"
    CURSOR = "cursor"
    OK = "ok"
    BAD = "bad"
    FAILED = "failed"
    MARK = "mark"
    ALERT = "alert"


INKS: tuple[Ink, ...] = tuple(Ink)
_CODE = {ink: number for number, ink in enumerate(INKS)}

_ASCII = {
    Ink.LINE: ".",
    Ink.ERROR: "|",
    Ink.LEVEL: "-",
    Ink.EXPECTED: "~",
    Ink.CUT: "-",
    Ink.CURSOR: ":",
    Ink.OK: "o",
    Ink.BAD: "x",
    Ink.FAILED: "x",
    Ink.MARK: "|",
    Ink.ALERT: "|",
}

# Bit of each dot of a cell, [row from the top][column].
_BRAILLE_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)
_QUADRANT_BITS = np.array([[1, 2], [4, 8]], dtype=np.int64)
_QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"


_BITS = {Marker.BRAILLE: _BRAILLE_BITS, Marker.BLOCK: _QUADRANT_BITS, Marker.ASCII: np.array([[1]], dtype=np.int64)}

Run: TypeAlias = tuple[str, Ink]


class Canvas:
    """Dots and letters of `width` x `height` cells."""

    def __init__(self, width: int, height: int, marker: Marker) -> None:
        self.width = width
        self.height = height
        self.marker = marker
        bits = _BITS[marker]
        self._per_y, self._per_x = bits.shape
        self._dots: NDArray[np.bool_] = np.zeros((height * self._per_y, width * self._per_x), dtype=bool)
        self._inks: NDArray[np.uint8] = np.zeros((height, width), dtype=np.uint8)
        self._letters: dict[tuple[int, int], tuple[str, Ink]] = {}

    @property
    def dot_width(self) -> float:
        """Width of one dot in cells."""
        return 1.0 / float(self._per_x)

    def dots(self, x: Floats, y: Floats, ink: Ink) -> None:
        """Paint one dot at each (x, y), cells; what lies outside or is NaN is left out."""
        fine = np.isfinite(x) & np.isfinite(y)
        column = np.floor(x[fine] * self._per_x).astype(np.int64)
        row = self._dots.shape[0] - 1 - np.floor(y[fine] * self._per_y).astype(np.int64)
        inside = (column >= 0) & (column < self._dots.shape[1]) & (row >= 0) & (row < self._dots.shape[0])
        column, row = column[inside], row[inside]
        self._dots[row, column] = True
        self._inks[row // self._per_y, column // self._per_x] = _CODE[ink]

    def fat_dots(self, x: Floats, y: Floats, ink: Ink) -> None:
        """Paint points that can be seen from the bed: 2 dots wide, 2 high (one in blocks and ASCII)."""
        self.dots(x, y, ink)
        if self.marker is Marker.BRAILLE:
            step_x, step_y = self.dot_width, 1.0 / self._per_y
            odd = np.where((np.floor(x * self._per_x) % 2 == 0), step_x, -step_x)
            self.dots(x + odd, y, ink)
            self.dots(x, y - step_y, ink)
            self.dots(x + odd, y - step_y, ink)

    def bars(self, x: Floats, low: Floats, high: Floats, ink: Ink) -> None:
        """Paint vertical bars from `low` to `high` at each x (arrays of one shape, cells)."""
        fine = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
        x, low, high = x[fine], np.clip(low[fine], 0, self.height), np.clip(high[fine], 0, self.height)
        first = np.floor(low * self._per_y).astype(np.int64)
        counts = np.maximum(np.floor(high * self._per_y).astype(np.int64) - first, 0) + 1
        offset = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        self.dots(np.repeat(x, counts), (np.repeat(first, counts) + offset + 0.5) / self._per_y, ink)

    def polyline(self, x: Floats, y: Floats, ink: Ink) -> None:
        """Join the points by straight strokes; a NaN breaks the line."""
        if x.size < 2:
            return
        fine = np.isfinite(x[:-1] + x[1:] + y[:-1] + y[1:])
        x0, x1, y0, y1 = x[:-1][fine], x[1:][fine], y[:-1][fine], y[1:][fine]
        steps = np.maximum(np.abs(x1 - x0) * self._per_x, np.abs(y1 - y0) * self._per_y)
        counts = np.minimum(np.ceil(steps), 4096).astype(np.int64) + 1
        place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        part = place / np.maximum(np.repeat(counts, counts) - 1, 1)
        self.dots(
            np.repeat(x0, counts) + part * np.repeat(x1 - x0, counts),
            np.repeat(y0, counts) + part * np.repeat(y1 - y0, counts),
            ink,
        )

    def level(self, y: float, ink: Ink, dash: tuple[int, int] = (1, 0)) -> None:
        """Paint a horizontal line, `dash` = (dots on, dots off)."""
        number = np.arange(self.width * self._per_x)
        shown = number[number % sum(dash) < dash[0]] if self.marker is Marker.BRAILLE else number
        if self.marker is not Marker.BRAILLE and dash[1]:
            shown = number[(number // self._per_x) % 2 == 0]
        self.dots((shown + 0.5) / self._per_x, np.full(shown.size, y), ink)

    def upright(self, x: float, ink: Ink, dash: tuple[int, int] = (1, 0)) -> None:
        """Paint a vertical line over the whole height."""
        number = np.arange(self.height * self._per_y)
        shown = number[number % sum(dash) < dash[0]]
        self.dots(np.full(shown.size, x), (shown + 0.5) / self._per_y, ink)

    def letter(self, x: float, y: float, text: str, ink: Ink) -> None:
        """Put `text` (one column per character) with its first letter at cell (x, y)."""
        if not (np.isfinite(x) and np.isfinite(y)):
            return
        column, row = int(np.floor(x)), self.height - 1 - int(np.floor(y))
        for place, character in enumerate(text):
            if 0 <= column + place < self.width and 0 <= row < self.height:
                self._letters[row, column + place] = (character, ink)

    def rows(self) -> list[list[Run]]:
        """The picture from the top: per line, runs of characters of one ink."""
        characters = self._characters()
        inks = np.where(characters == " ", 0, self._inks)
        for (row, column), (character, ink) in self._letters.items():
            characters[row, column] = character
            inks[row, column] = _CODE[ink]
        return [_runs(line, codes) for line, codes in zip(characters, inks, strict=True)]

    def _characters(self) -> NDArray[np.str_]:
        if self.marker is Marker.ASCII:
            letters = np.array([_ASCII.get(ink, " ") for ink in INKS])
            return np.asarray(np.where(self._dots, letters[self._inks], " "))
        shape = (self.height, self._per_y, self.width, self._per_x)
        cells = np.einsum("aibj,ij->ab", self._dots.reshape(shape).astype(np.int64), _BITS[self.marker])
        if self.marker is Marker.BLOCK:
            return np.asarray(np.array(list(_QUADRANTS))[cells])
        table = np.array([" "] + [chr(0x2800 + code) for code in range(1, 256)])
        return np.asarray(table[cells])


def _runs(line: NDArray[np.str_], codes: NDArray[np.uint8]) -> list[Run]:
    """Join neighbours of one ink."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    starts = np.concatenate(([0], edges))
    ends = np.concatenate((edges, [codes.size]))
    return [("".join(line[a:b]), INKS[codes[a]]) for a, b in zip(starts, ends, strict=True) if b > a]
