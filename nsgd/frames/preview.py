"""Previews: small linear pictures of subs, kept beside the store because capture files move away (numpy alone).

A preview is the sub's own pixels, averaged in squares until the longer side fits, in ADU; where its pixels lie
in the sub is part of it, so that previews of different subs can be laid on top of each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Light
from nsgd.records import Floats, Floats32, Frame, Pixels
from nsgd.threads import shared

MOST_PX = 1024
BAND_PIXELS = 500_000
"""Pixels averaged at a time."""
_LEVELS = 65535


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """Pixel (i, j) shows the place origin_px + step_px * (i, j) of the sub, full-resolution pixels."""

    pixels: Floats32
    """(height, width, channels), ADU; a missing pixel is NaN only where all pixels of its square are."""
    channels: tuple[str, ...]
    origin_x_px: float
    origin_y_px: float
    step_px: float

    def at(self, x_px: Floats, y_px: Floats) -> Floats:
        """Brightness at places of the sub (bilinear).

        Parameters
        ----------
        x_px, y_px
            (...) full-resolution pixels of the sub.

        Returns
        -------
        (..., channels) ADU, NaN outside the picture.
        """
        height, width, _ = self.pixels.shape
        x, y = (x_px - self.origin_x_px) / self.step_px, (y_px - self.origin_y_px) / self.step_px
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        x, y = np.clip(np.nan_to_num(x), 0, width - 1), np.clip(np.nan_to_num(y), 0, height - 1)
        left = np.minimum(x.astype(np.int64), max(width - 2, 0))
        top = np.minimum(y.astype(np.int64), max(height - 2, 0))
        right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        u, v = (x - left)[..., None], (y - top)[..., None]
        upper = self.pixels[top, left] * (1 - u) + self.pixels[top, right] * u
        lower = self.pixels[below, left] * (1 - u) + self.pixels[below, right] * u
        return np.where(inside[..., None], upper * (1 - v) + lower * v, np.nan)


def make_preview(frame: Frame, most_px: int = MOST_PX) -> Preview:
    """The preview of a frame whose longer side has at most `most_px` pixels."""
    first = frame.planes[0]
    bin_px = bin_for(max(first.light.shape), most_px)
    # each channel stays in one piece of memory
    pixels = np.moveaxis(np.stack([_binned(plane.light, bin_px) for plane in frame.planes]), 0, -1)
    origin_x = float(np.mean([plane.origin_x_px for plane in frame.planes]))
    origin_y = float(np.mean([plane.origin_y_px for plane in frame.planes]))
    middle = first.step_px * (bin_px - 1) / 2
    return Preview(pixels, frame.channels, origin_x + middle, origin_y + middle, float(first.step_px * bin_px))


def bin_for(longer_px: int, most_px: int = MOST_PX) -> int:
    """Side of the squares that a picture's longer side is divided into."""
    return max(1, -(-longer_px // most_px))


def _binned(pixels: Light, bin_px: int) -> Pixels:
    """Means of squares; rows and columns that fill none are left out."""
    height, width = (side // bin_px for side in pixels.shape)
    out = np.empty((height, width), np.float32)
    step = max(1, BAND_PIXELS // (bin_px * pixels.shape[1]))

    def fill(top: int) -> None:
        rows = slice(top, min(top + step, height))
        # whole rows first: memory is then walked in its own order, and only once
        band = pixels[rows.start * bin_px : rows.stop * bin_px, : width * bin_px]
        total = band.reshape(-1, bin_px, width * bin_px).sum(axis=1, dtype=np.float32)
        out[rows] = total[:, 0::bin_px]
        for column in range(1, bin_px):
            out[rows] += total[:, column::bin_px]
        out[rows] /= np.float32(bin_px * bin_px)

    shared(fill, range(0, height, step))
    return out


def save_preview(path: Path, preview: Preview) -> None:
    """Keep a preview in a file, whole or not at all, with 65,535 levels a channel."""
    pixels = preview.pixels
    low, high = np.array([_edges(pixels[..., k]) for k in range(pixels.shape[-1])], dtype=np.float64).T
    step = np.where(high > low, (high - low) / (_LEVELS - 1), 1.0)
    levels = np.empty(pixels.shape, np.uint16)
    for k in range(pixels.shape[-1]):
        levels[..., k] = _levels(pixels[..., k], low[k], step[k])
    place = np.array([preview.origin_x_px, preview.origin_y_px, preview.step_px])
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            np.savez(file, levels=levels, low=low, step=step, place=place, channels=np.array(preview.channels))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _levels(values: Floats32, low: float, step: float) -> NDArray[np.uint16]:
    """Level of each pixel of a channel, 0 where it is missing."""
    level = values - np.float32(low)
    level /= np.float32(step)
    np.rint(level, out=level)
    level += 1.0
    level[~np.isfinite(level)] = 0.0
    return level.astype(np.uint16)


def _edges(values: Floats32) -> tuple[float, float]:
    """Lowest and highest value."""
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def load_preview(path: Path) -> Preview | None:
    """A kept preview; None where it is missing or broken (they are bounded in number and may go any time)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            levels, low, step, place = kept["levels"], kept["low"], kept["step"], kept["place"]
            channels = tuple(str(name) for name in kept["channels"])
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        return None
    pixels = (low + (levels.astype(np.float64) - 1) * step).astype(np.float32)
    pixels[levels == 0] = np.nan
    return Preview(pixels, channels, float(place[0]), float(place[1]), float(place[2]))


def trim_previews(folder: Path, most_mb: float, spare: Iterable[Path] = ()) -> int:
    """Delete the oldest previews until they take at most `most_mb` megabytes; returns how many went.

    Parameters
    ----------
    spare
        Previews that stay whatever their age (the references).
    """
    kept = set(spare)
    found = sorted(
        ((p.stat().st_mtime_ns, p.stat().st_size, p) for p in folder.glob("*.npz")), key=lambda item: item[:1]
    )
    total, gone = sum(size for _, size, _ in found), 0
    for _, size, path in found:
        if total <= most_mb * 1e6:
            break
        if path not in kept:
            path.unlink(missing_ok=True)
            total, gone = total - size, gone + 1
    return gone
