"""Pictures and maps in a terminal: two pixels a cell by half blocks, or shades of letters in ASCII."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from nsgd.dashboard.inert import fit
from nsgd.dashboard.themes import Marker
from nsgd.records import Floats

_SHADES = " .:-=+*#%@"

_LOW, _MIDDLE, _HIGH = (np.array(c, dtype=float) for c in ((16, 62, 128), (98, 104, 112), (255, 202, 122)))


def diverging(values: Floats, most: float) -> NDArray[np.uint8]:
    """(h, w, 3) colours from blue (-most) through grey (0) to light orange (+most); black where NaN.

    Brightness rises all the way, so that the map also reads without colour.
    """
    part = np.clip(np.nan_to_num(values) / max(most, 1e-12), -1.0, 1.0)[..., None]
    colour = np.where(part < 0, _MIDDLE + part * (_MIDDLE - _LOW), _MIDDLE + part * (_HIGH - _MIDDLE))
    return np.where(np.isnan(values)[..., None], 0, np.rint(colour)).astype(np.uint8)


class Picture(Widget):
    """An RGB picture with a caption line below it; it shows as many pixels as fit from the top left."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"picture--caption"}
    DEFAULT_CSS = """
    Picture { height: 1fr; min-height: 4; }
    """

    pixels: reactive[NDArray[np.uint8] | None] = reactive(None, always_update=True)
    caption: reactive[str] = reactive("")
    marker: reactive[Marker] = reactive(Marker.BRAILLE)
    red: reactive[bool] = reactive(False)
    """Shades of red only, for night vision."""

    @property
    def room_px(self) -> tuple[int, int]:
        """(width, height) of the largest picture that fits, in square pixels."""
        rows = max(self.size.height - 1, 1)
        return max(self.size.width, 1), rows * 2

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        used = 0 if self.pixels is None else -(-self.pixels.shape[0] // 2)
        if y == min(self.size.height - 1, used):
            style = self.get_component_rich_style("picture--caption")
            return Strip([Segment(fit(self.caption, width), style)], width)
        if self.pixels is None or y > used:
            return Strip.blank(width, self.rich_style)
        top = self.pixels[2 * y]
        below = self.pixels[min(2 * y + 1, self.pixels.shape[0] - 1)]
        segments = self._letters(top, below) if self.marker is Marker.ASCII else self._halves(top, below)
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def _letters(self, top: NDArray[np.uint8], below: NDArray[np.uint8]) -> list[Segment]:
        bright = (top.astype(float) + below).mean(axis=-1) / 510.0
        line = "".join(_SHADES[min(int(value * len(_SHADES)), len(_SHADES) - 1)] for value in bright)
        return [Segment(line, self.rich_style)]

    def _halves(self, top: NDArray[np.uint8], below: NDArray[np.uint8]) -> list[Segment]:
        pairs = np.concatenate((self.tinted(top), self.tinted(below)), axis=-1)
        edges = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=-1)) + 1
        starts, ends = np.concatenate(([0], edges)), np.concatenate((edges, [len(pairs)]))
        return [
            Segment("▀" * int(end - start), _style(tuple(int(value) for value in pairs[start])))
            for start, end in zip(starts, ends, strict=True)
        ]

    def tinted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels as they are, or in shades of red."""
        if not self.red:
            return pixels
        shade = pixels.mean(axis=-1)
        return np.stack((shade, 0.22 * shade, 0.16 * shade), axis=-1).astype(np.uint8)


def _style(pair: tuple[int, ...]) -> Style:
    return Style(color=Color.from_rgb(*pair[:3]), bgcolor=Color.from_rgb(*pair[3:]))
