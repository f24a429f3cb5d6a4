"""From decoded pixels to a `Frame`: colour planes, saturation, content id. The same for every format."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Light
from nsgd.errors import UnreadableFrame
from nsgd.frames.buffers import empty
from nsgd.frames.header import Cards, bayer_pattern, clean
from nsgd.records import Frame, HeaderFacts, Pixels, Plane
from nsgd.threads import shared

SMALLEST_SIDE_PX = 16
SAMPLE_RUNS = 64
SAMPLE_RUN_PIXELS = 256
MOSAIC_STEP = 4
"""Every so many rows of a colour cell are looked at."""
MOSAIC_CONTRAST = 4.0
"""How many times the difference of the two greens and its error a colour must stand out."""
SPLIT_ROWS = 32
"""Rows of a colour plane made at a time: their pixels stay in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A Bayer picture whose colours were split while it was read."""

    shape: tuple[int, ...]
    """(height, width) of the picture."""
    planes: tuple[Plane, ...]
    sample: Pixels
    """(64, 256) the pixels at `sample_places`."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a format's reader hands over."""

    cards: Cards
    pixels: Light
    """(height, width), or (3, height, width) for a colour picture; physical units. None of them where `split` is."""
    type_maximum: float = 0.0
    """Largest number the file's integers can hold, physical units; 0 for floating point."""
    split: Split | None = None
    averages: tuple[Pixels, ...] = ()
    """As a `Plane` has them, of a picture in one plane."""


def check_budget(cards: Cards, shape: tuple[int, ...], budget_bytes: int, scratch_bytes: int = 0) -> None:
    """Raise before anything is allocated that would not fit.

    Parameters
    ----------
    scratch_bytes
        Memory that decoding needs besides the float32 pixels.

    Raises
    ------
    UnreadableFrame
        The picture needs more memory than the budget, or is too small to be a sub.
    """
    if min(shape[-2:]) < SMALLEST_SIDE_PX:
        raise UnreadableFrame(f"The picture has only {shape[-1]} x {shape[-2]} pixels.")
    per_pixel = 4 if len(shape) != 2 else 7 if bayer_pattern(cards, shape[-2]) else 5
    needed = math.prod(shape) * per_pixel + scratch_bytes
    if needed > budget_bytes:
        raise UnreadableFrame(
            f"The picture needs {needed / 1e6:.0f} MB of memory, more than the {budget_bytes / 1e6:.0f} MB allowed "
            "(watch.budget_mb).",
            needed_bytes=needed,
        )


def frame_of(path: Path, header: HeaderFacts, decoded: Decoded) -> Frame:
    """The frame that measuring works on."""
    if decoded.split is not None:
        identity = content_id(decoded.cards, decoded.split.shape, decoded.split.sample)
        height_px, width_px = decoded.split.shape
        planes, pattern = decoded.split.planes, bayer_pattern(decoded.cards, height_px)
    else:
        identity = content_id(decoded.cards, decoded.pixels.shape, _sample(decoded.pixels.reshape(-1)))
        height_px, width_px = decoded.pixels.shape[-2:]
        planes, pattern = _planes(decoded, header)
    full_scale = decoded.type_maximum or _float_scale(decoded.pixels)
    if full_scale == 1.0 and header.egain_e_per_adu is not None:
        # calibration programs turn 16-bit ADU into 0..1 and leave EGAIN as it was
        header = replace(header, egain_e_per_adu=header.egain_e_per_adu * 65535.0)
    return Frame(
        path=str(path),
        content_id=identity,
        header=replace(header, width_px=width_px, height_px=height_px, bayer_pattern=pattern),
        planes=planes,
        saturation_adu=saturation_adu(decoded),
        full_scale_adu=full_scale,
    )


def _planes(decoded: Decoded, header: HeaderFacts) -> tuple[tuple[Plane, ...], str]:
    """The picture's colour planes and, of a mosaic, its pattern."""
    light = without_empty_edges(decoded.pixels)
    pattern = bayer_pattern(decoded.cards, light.shape[-2]) if light.ndim == 2 else ""
    if pattern and header.binning > 1 and not shows_mosaic(light[...], pattern):
        pattern = ""
    if light.ndim == 3:
        return tuple(Plane(name, plane) for name, plane in zip("RGB", light[...], strict=True)), pattern
    if pattern:
        return split_bayer(light[...], pattern), pattern
    return (Plane("L", light).with_averages(decoded.averages if light is decoded.pixels else ()),), pattern


def without_empty_edges(pixels: Light) -> Light:
    """The picture with rows and columns of nothing but zeros as missing (NaN).

    They are what registration leaves at a border, or space of a file that was reserved and not written. A picture
    of zeros only stays as it is.
    """
    rows, columns = _empty_lines(pixels, 0), _empty_lines(pixels, 1)
    if rows.all() or not (rows.any() or columns.any()):
        return pixels
    kept = np.array(pixels[...])
    kept[..., rows, :] = np.nan
    kept[..., :, columns] = np.nan
    return kept


def _empty_lines(pixels: Light, axis: int) -> NDArray[np.bool_]:
    """Which rows (axis 0) or columns (1) are zero throughout, in all of the planes (..., rows, columns)."""
    last = pixels.shape[-1 - axis] - 1

    def lit(lines: Any, places: Any) -> NDArray[np.bool_]:
        part = pixels[(..., lines, places) if axis == 0 else (..., places, lines)]
        return np.asarray(part.reshape(-1, *part.shape[-2:]).any(axis=(0, 2 - axis)))

    empty: NDArray[np.bool_] = ~lit(slice(None), [0, last // 3, last])
    for line in np.flatnonzero(empty):
        empty[line] = not lit([line], slice(None))[0]
    return empty


def shows_mosaic(pixels: Pixels, pattern: str) -> bool:
    """Whether a binned picture still has the colour cell that its header states.

    Some drivers bin pixels of one colour and keep the pattern, others add up the whole cell and leave the keyword.
    Where the pattern is there, the sky (which no sensor sees grey) differs between the colours by more than between
    the two greens, which tell of gradients and of odd and even rows.
    """
    height_px, width_px = (side // 2 * 2 for side in pixels.shape)
    cells = [pixels[place // 2 : height_px : 2, place % 2 : width_px : 2][::MOSAIC_STEP] for place in range(4)]
    level = {place: _level(cells[place]) for place in range(4)}
    first, second = (place for place in range(4) if pattern[place] == "G")
    green = 0.5 * (level[first][0] + level[second][0])
    contrast = max(abs(level[pattern.index(colour)][0] - green) for colour in "RB")
    doubt = abs(level[first][0] - level[second][0]) + max(err for _, err in level.values())
    return contrast > MOSAIC_CONTRAST * doubt


def _level(cell: Pixels) -> tuple[float, float]:
    """Mean of what lies near the median, and its standard error."""
    good = cell[np.isfinite(cell)]
    if good.size < 2:
        return 0.0, math.inf
    low, middle, high = np.percentile(good, [16.0, 50.0, 84.0])
    near = good[np.abs(good - middle) <= 2.0 * max(high - low, 1e-6)]
    return float(np.mean(near, dtype=np.float64)), float(np.std(near, dtype=np.float64)) / math.sqrt(near.size)


def split_bayer(pixels: Pixels, pattern: str) -> tuple[Plane, Plane, Plane]:
    """Half-size planes of a Bayer picture, G the mean of both greens.

    Parameters
    ----------
    pixels
        (height, width); an odd last row or column is left out.
    pattern
        The 2x2 cell at row 0, column 0.
    """
    planes = empty_planes(pixels.shape, pattern)

    def split(row: int) -> None:
        put_colours(pixels[2 * row : 2 * (row + SPLIT_ROWS)], pattern, planes, row)

    shared(split, range(0, pixels.shape[0] // 2, SPLIT_ROWS))
    return planes


def empty_planes(shape: tuple[int, ...], pattern: str) -> tuple[Plane, Plane, Plane]:
    """Half-size planes of a Bayer picture of this shape, to be filled by `put_colours`."""
    red, green, blue = (empty((shape[0] // 2, shape[1] // 2)) for _ in range(3))
    at_red, at_blue = pattern.index("R"), pattern.index("B")
    return (
        Plane("R", red, at_red % 2, at_red // 2, 2),
        Plane("G", green, 0.5, 0.5, 2, sites=2),
        Plane("B", blue, at_blue % 2, at_blue // 2, 2),
    )


def put_colours(strip: Pixels, pattern: str, planes: tuple[Plane, Plane, Plane], row: int) -> None:
    """Fill the planes' rows from `row` on with the colours of a strip of the picture, whose first row is 2 `row`."""
    rows = slice(row, row + len(strip) // 2)
    red, green, blue = (plane.pixels[rows] for plane in planes)
    height_px, width_px = red.shape
    cell = [strip[place // 2 : 2 * height_px : 2, place % 2 : 2 * width_px : 2] for place in range(4)]
    red[:], blue[:] = cell[pattern.index("R")], cell[pattern.index("B")]
    first, second = (place for place in range(4) if pattern[place] == "G")
    np.add(cell[first], cell[second], out=green)
    green *= np.float32(0.5)


def sample_places(pixels: int) -> NDArray[np.int64]:
    """Where in a picture the runs of pixels begin that tell it from all others."""
    return np.linspace(0, max(0, pixels - SAMPLE_RUN_PIXELS), SAMPLE_RUNS).astype(np.int64)


def _sample(flat: Light) -> list[Pixels]:
    return [flat[begin : begin + SAMPLE_RUN_PIXELS] for begin in sample_places(flat.size)]


def content_id(cards: Cards, shape: tuple[int, ...], sample: Iterable[Pixels]) -> str:
    """Identity of a sub, whatever its file is called: 32 hex digits.

    Made of the stated start time, the shape and a fixed sample of pixel values, whose noise is unique.
    The same for the FITS, XISF or compressed copy of one sub, and after a header was rewritten.
    """
    start = clean(str(cards["DATE-OBS"].value)) if "DATE-OBS" in cards else ""
    digest = hashlib.sha256(f"{start} {shape}".encode())
    for run in sample:
        digest.update(run.astype("<f4").tobytes())
    return digest.hexdigest()[:32]


def saturation_adu(decoded: Decoded) -> float:
    """Level that no pixel of this file can exceed: stated by the header, else given by the number type."""
    ceiling = decoded.type_maximum or _float_ceiling(decoded.pixels)
    for key in ("SATURATE", "SATLEVEL", "DATAMAX"):
        stated = decoded.cards[key].value if key in decoded.cards else None
        if isinstance(stated, int | float) and not isinstance(stated, bool) and 0.0 < stated <= ceiling:
            return float(stated)
    return ceiling


def _float_ceiling(light: Light) -> float:
    pixels = light[...]
    highest = float(np.max(pixels, initial=-np.inf, where=np.isfinite(pixels)))
    return 1.0 if highest <= 1.0 else max(65535.0, highest)


def _float_scale(light: Light) -> float:
    """Full scale of floating point: 1, also where resampling let a star's core overshoot; else 65535."""
    pixels = light[...]
    return 1.0 if float(np.max(pixels, initial=-np.inf, where=np.isfinite(pixels))) <= 2.0 else 65535.0
