"""Pictures for phone, report and blink: the night's transmission graph and stretched thumbnails (Pillow only).

Drawn at twice the size and reduced, so that lines are smooth without a plotting library. Colours are those of Okabe
and Ito, told apart by everybody; vermillion always means "bad", and bad subs have another shape as well.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nsgd.records import Floats, SkyState, SubRow, SubStatus, Verdict

Rgb = tuple[int, int, int]

BACKGROUND: Rgb = (15, 19, 27)
PANEL: Rgb = (22, 28, 39)
GRID: Rgb = (48, 58, 74)
TEXT: Rgb = (232, 236, 242)
QUIET: Rgb = (150, 162, 180)
BAD: Rgb = (230, 97, 30)
CLOUD_SHADE: Rgb = (66, 40, 32)
SERIES: tuple[Rgb, ...] = (
    (86, 180, 233),
    (240, 228, 66),
    (0, 178, 130),
    (204, 121, 167),
    (230, 159, 0),
    (190, 190, 190),
)

STATE_COLOUR = {SkyState.CLEAR: SERIES[0], SkyState.LEARNING: QUIET, SkyState.UNKNOWN: QUIET}

_BAD_STATES = frozenset({SkyState.THINNING, SkyState.CLOUDY, SkyState.OBSTRUCTED, SkyState.DEW, SkyState.NO_STARS})
_SHARP = 2
_TOP = 1.12
_TICK_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480)


@dataclass(frozen=True, slots=True)
class Caption:
    """The words around a graph: headline (large, coloured by the state) and a line below it."""

    headline: str
    line: str = ""
    state: SkyState = SkyState.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the plot lies and how times become pixels; all in drawn (large) pixels."""

    left: int
    top: int
    right: int
    bottom: int
    begin_utc_s: float
    end_utc_s: float

    def x(self, utc_s: float) -> float:
        part = (utc_s - self.begin_utc_s) / (self.end_utc_s - self.begin_utc_s)
        return self.left + part * (self.right - self.left)

    def y(self, transmission: float) -> float:
        part = min(max(transmission, 0.0), _TOP) / _TOP
        return self.bottom - part * (self.bottom - self.top)


def night_graph(
    rows: Sequence[SubRow],
    verdicts: Sequence[Verdict],
    caption: Caption,
    *,
    cut_off: float = 0.75,
    zone: tzinfo | None = None,
    size_px: tuple[int, int] = (1080, 640),
) -> bytes:
    """The transmission of a night as a PNG that can be read on a phone.

    Parameters
    ----------
    rows, verdicts
        Subs of any number of series and their verdicts, in the same order.
    caption
        Headline and line above the graph.
    cut_off
        Transmission below which subs are rejected, drawn as a line.
    zone
        Zone of the time axis; None is the system's.
    size_px
        Width and height.

    Returns
    -------
    The PNG's bytes.
    """
    width, height = (side * _SHARP for side in size_px)
    image = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    frame = _frame(rows, width, height)
    _draw_caption(draw, caption, width)
    draw.rounded_rectangle((frame.left, frame.top, frame.right, frame.bottom), 6 * _SHARP, fill=PANEL)
    night = sorted(zip(rows, verdicts, strict=True), key=lambda pair: pair[0].order_utc_s)
    _draw_cloud(draw, frame, night)
    _draw_axes(draw, frame, zone)
    _draw_cut_off(draw, frame, cut_off)
    names = _series_names(rows)
    for number, name in enumerate(names):
        members = [pair for pair in night if _series_name(pair[0]) == name]
        _draw_series(draw, frame, members, SERIES[number % len(SERIES)])
    _draw_legend(draw, frame, names, width)
    small = image.resize(size_px, Image.Resampling.LANCZOS)
    return _png(small.quantize(96, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _frame(rows: Sequence[SubRow], width: int, height: int) -> _Frame:
    times = [row.order_utc_s for row in rows] or [0.0]
    begin, end = min(times), max(times)
    room = max(0.02 * (end - begin), 120.0)
    return _Frame(
        78 * _SHARP,
        118 * _SHARP,
        width - 26 * _SHARP,
        height - 96 * _SHARP,
        begin - room,
        max(end + room, begin + 600.0),
    )


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px * _SHARP)


def _draw_caption(draw: ImageDraw.ImageDraw, caption: Caption, width: int) -> None:
    colour = BAD if caption.state in _BAD_STATES else STATE_COLOUR.get(caption.state, TEXT)
    left = 26 * _SHARP
    draw.text((left, 14 * _SHARP), _fitting(draw, caption.headline, 46, width - 2 * left), colour, font=_font(46))
    draw.text((left, 72 * _SHARP), _fitting(draw, caption.line, 27, width - 2 * left), QUIET, font=_font(27))


def _fitting(draw: ImageDraw.ImageDraw, text: str, size_px: int, room: float) -> str:
    """The text on one line, cut with an ellipsis where it is too long."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:300]).split())
    font = _font(size_px)
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _draw_axes(draw: ImageDraw.ImageDraw, frame: _Frame, zone: tzinfo | None) -> None:
    font = _font(24)
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = frame.y(level)
        if level:
            draw.line((frame.left, y, frame.right, y), GRID, _SHARP)
        draw.text((frame.left - 10 * _SHARP, y), f"{100 * level:.0f}%", QUIET, font=font, anchor="rm")
    for moment, text in _ticks(frame, zone):
        x = frame.x(moment)
        draw.line((x, frame.top, x, frame.bottom), GRID, _SHARP)
        draw.text((x, frame.bottom + 8 * _SHARP), text, QUIET, font=font, anchor="ma")


def _ticks(frame: _Frame, zone: tzinfo | None) -> list[tuple[float, str]]:
    """Round local times, at most seven of them."""
    span_min = (frame.end_utc_s - frame.begin_utc_s) / 60.0
    step = next((minutes for minutes in _TICK_MINUTES if span_min / minutes <= 7.0), 1440)
    begin = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=frame.begin_utc_s)).astimezone(zone)
    past_midnight = begin.hour * 60 + begin.minute
    to_next = step - past_midnight % step
    first = frame.begin_utc_s + 60.0 * to_next - begin.second
    ticks = []
    for number in range(math.ceil(span_min / step) + 1):
        moment = first + 60.0 * step * number
        if moment < frame.end_utc_s:
            local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)).astimezone(zone)
            ticks.append((moment, local.strftime("%H:%M")))
    return ticks


def _draw_cut_off(draw: ImageDraw.ImageDraw, frame: _Frame, cut_off: float) -> None:
    y, dash = frame.y(cut_off), 14 * _SHARP
    for x in range(frame.left, frame.right, 2 * dash):
        draw.line((x, y, min(x + dash, frame.right), y), BAD, 2 * _SHARP)


def _draw_cloud(draw: ImageDraw.ImageDraw, frame: _Frame, night: Sequence[tuple[SubRow, Verdict]]) -> None:
    """Shade the times in which the sky was not clear."""
    for (row, verdict), (after, _) in zip(night, [*night[1:], *night[-1:]], strict=True):
        if verdict.sky_state in _BAD_STATES:
            begin = row.order_utc_s - 0.5 * (row.header.exposure_s or 0.0)
            end = min(after.order_utc_s, row.order_utc_s + 900.0) if after is not row else row.order_utc_s
            draw.rectangle(
                (frame.x(begin), frame.top, max(frame.x(end), frame.x(begin) + 2), frame.bottom), CLOUD_SHADE
            )


def _draw_series(
    draw: ImageDraw.ImageDraw, frame: _Frame, members: Sequence[tuple[SubRow, Verdict]], colour: Rgb
) -> None:
    radius = _SHARP * (5.5 if len(members) < 120 else 4.0 if len(members) < 400 else 2.5)
    faint: Rgb = tuple((part + 2 * ground) // 3 for part, ground in zip(colour, PANEL, strict=True))  # type: ignore[assignment]
    points = [_point(frame, row, verdict) for row, verdict in members]
    for (x, y), (x_next, y_next) in itertools.pairwise(points):
        if 0 <= x_next - x < 0.12 * (frame.right - frame.left):
            draw.line((x, y, x_next, y_next), faint, 2 * _SHARP)
    for (x, y), (_, verdict) in zip(points, members, strict=True):
        if verdict.status is SubStatus.OK:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
        else:
            _draw_cross(draw, (x, y), radius * 1.15)


def _point(frame: _Frame, row: SubRow, verdict: Verdict) -> tuple[float, float]:
    transmission = verdict.transmission_clear
    return frame.x(row.order_utc_s), frame.y(transmission if math.isfinite(transmission) else 0.0)


def _draw_cross(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float) -> None:
    x, y = at
    draw.line((x - radius, y - radius, x + radius, y + radius), BAD, 3 * _SHARP)
    draw.line((x - radius, y + radius, x + radius, y - radius), BAD, 3 * _SHARP)


def _series_name(row: SubRow) -> str:
    filter_name = "" if row.header.filter_name == "none" else row.header.filter_name
    return " ".join(part for part in (row.header.object_name, filter_name) if part) or "subs"


def _series_names(rows: Sequence[SubRow]) -> list[str]:
    return list(dict.fromkeys(_series_name(row) for row in rows))


def _draw_legend(draw: ImageDraw.ImageDraw, frame: _Frame, names: Sequence[str], width: int) -> None:
    x, y, font = frame.left, frame.bottom + 62 * _SHARP, _font(24)
    for number, name in enumerate(names[: len(SERIES)]):
        shown = _fitting(draw, name, 24, 0.4 * width)
        end = x + 26 * _SHARP + draw.textlength(shown, font)
        if end > frame.right - 150 * _SHARP:
            return
        radius = 7 * _SHARP
        draw.ellipse((x, y - radius, x + 2 * radius, y + radius), SERIES[number % len(SERIES)])
        draw.text((x + 22 * _SHARP, y), shown, TEXT, font=font, anchor="lm")
        x = int(end + 26 * _SHARP)
    _draw_cross(draw, (frame.right - 110 * _SHARP, y), 6.5 * _SHARP)
    draw.text((frame.right, y), "rejected", TEXT, font=font, anchor="rm")


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


# --- thumbnails ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """A screen stretch: black point, white point and midtones balance, in the pixels' units."""

    black: float
    white: float
    midtones: float

    def __call__(self, pixels: Floats | NDArray[np.float32]) -> NDArray[np.uint8]:
        """Pixels -> 0..255, NaN becomes black."""
        filled: Floats = np.where(np.isfinite(pixels), pixels, self.black)
        part = np.clip((filled - self.black) / (self.white - self.black), 0.0, 1.0)
        m = self.midtones
        curve = (m - 1.0) * part / ((2.0 * m - 1.0) * part - m)
        return np.asarray(np.rint(255.0 * curve), dtype=np.uint8)


def auto_stretch(pixels: Floats | NDArray[np.float32], sky_level: float = 0.2) -> Stretch:
    """The stretch that puts the sky at `sky_level` of the screen and 2.8 sigma below it to black.

    Midtones transfer function m(x) = (m - 1) x / ((2 m - 1) x - m), as image programs for astronomy use it.
    """
    finite: Floats = pixels[np.isfinite(pixels)].astype(float)
    if finite.size == 0:
        return Stretch(0.0, 1.0, 0.5)
    sky = float(np.median(finite))
    sigma = 1.4826 * float(np.median(np.abs(finite - sky)))
    white = max(float(finite.max()), sky + 20.0 * sigma, sky + 1e-6)
    black = max(float(finite.min()), sky - 2.8 * sigma)
    x = (sky - black) / (white - black)
    if not 0.0 < x < 1.0:
        return Stretch(black - 1e-6, white, 0.5)
    midtones = x * (sky_level - 1.0) / (2.0 * x * sky_level - x - sky_level)
    return Stretch(black, white, float(np.clip(midtones, 1e-4, 0.9999)))


def thumbnail(
    pixels: Floats | NDArray[np.float32], max_px: int = 480, stretch: Stretch | Sequence[Stretch] | None = None
) -> bytes:
    """A stretched picture of a sub as a PNG no larger than `max_px` on its long side.

    Parameters
    ----------
    pixels
        (h, w) mono or (h, w, 3) colour, linear, any unit.
    max_px
        Longest side.
    stretch
        One for all channels or one per channel; None makes one from the pixels, a shared one lets pictures be compared.
    """
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    step = max(1, math.ceil(max(planes.shape[:2]) / (2 * max_px)))
    planes = planes[::step, ::step]
    chosen = [auto_stretch(planes[..., number]) for number in range(planes.shape[2])] if stretch is None else stretch
    each = [chosen] * planes.shape[2] if isinstance(chosen, Stretch) else list(chosen)
    screen = np.stack([each[number](planes[..., number]) for number in range(planes.shape[2])], axis=-1)
    image = Image.fromarray(screen[..., 0] if screen.shape[2] == 1 else screen)
    image.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    return _png(image)
