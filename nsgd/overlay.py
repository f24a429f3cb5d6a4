"""Subs laid on top of each other: previews in the reference's pixels, normalised, under one stretch (numpy alone).

Dashboard and blink page share it. "Normalised" is scale and offset, as in NSG's blink dialog; "corrected" also
has the relative gradient taken out, as the exports do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsgd.frames.preview import Preview
from nsgd.measure.gradient import Surface
from nsgd.records import Floats, Transform

SHADOWS_SIGMA = 2.8
BACKGROUND = 0.22
"""Where the shared stretch puts the sky, as PixInsight's automatic one does."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """Places of the reference that a picture shows, one per picture pixel."""

    x_px: Floats
    """(height, width) full-resolution pixels of the reference."""
    y_px: Floats
    step_px: float


def sight(
    size_px: tuple[int, int], picture: tuple[int, int], zoom: int = 1, centre: tuple[float, float] = (0.5, 0.5)
) -> Sight:
    """The part of the reference that fits a picture.

    Parameters
    ----------
    size_px
        (width, height) of the reference.
    picture
        (width, height) of the picture, pixels of equal sides.
    zoom
        1 shows the whole frame, n an n-th of its width.
    centre
        Middle of what is shown, as parts of width and height; moved inwards where it would look outside.
    """
    step = max(size_px[0] / picture[0], size_px[1] / picture[1]) / zoom
    middle = [
        min(max(part * size, 0.5 * cells * step), size - 0.5 * cells * step) if cells * step < size else 0.5 * size
        for part, size, cells in zip(centre, size_px, picture, strict=True)
    ]
    x = middle[0] + (np.arange(picture[0]) - 0.5 * (picture[0] - 1)) * step - 0.5
    y = middle[1] + (np.arange(picture[1]) - 0.5 * (picture[1] - 1)) * step - 0.5
    grid_x, grid_y = np.meshgrid(x, y)
    return Sight(grid_x, grid_y, step)


def inverse(transform: Transform, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
    """Coordinates in a sub -> series coordinates (the other way than `Transform.apply`), pixels."""
    determinant = transform.a * transform.d - transform.b * transform.c

    def back(dx: Floats, dy: Floats) -> tuple[Floats, Floats]:
        return (
            (transform.d * dx - transform.b * dy) / determinant,
            (transform.a * dy - transform.c * dx) / determinant,
        )

    x, y = back(x_px - transform.tx, y_px - transform.ty)
    for _ in range(3 if transform.quad else 0):
        there_x, there_y = transform.apply(x, y)
        step_x, step_y = back(x_px - there_x, y_px - there_y)
        x, y = x + step_x, y + step_y
    return x, y


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """One sub on the reference's grid, ADU of the reference."""

    scaled: Floats
    """(height, width, channels) m times the sub, NaN outside it."""
    gradient: Floats
    """(height, width, channels) relative gradient there, its constant included; zeros where there is none."""

    @property
    def corrected(self) -> Floats:
        """The sub as the exports make it."""
        return self.scaled - self.gradient

    def uncorrected(self, sky_adu: Floats) -> Floats:
        """Scale and offset only: the sky's median brought to `sky_adu` (channels,)."""
        return self.scaled - (sky_of(self.scaled) - sky_adu)


def lay(
    preview: Preview,
    transforms: tuple[Transform, Transform],
    scales: Sequence[float],
    surfaces: Sequence[Surface | None],
    view: Sight,
) -> Laid:
    """Lay a preview on the reference.

    Parameters
    ----------
    transforms
        Of the reference and of the sub, both from series coordinates.
    scales
        m per channel; NaN counts as 1.
    surfaces
        Relative gradient per channel over the reference's pixels, None where there is none.
    """
    series_x, series_y = inverse(transforms[0], view.x_px, view.y_px)
    x, y = transforms[1].apply(series_x, series_y)
    m = np.array([value if np.isfinite(value) else 1.0 for value in scales])
    scaled = shrunk(preview, view.step_px).at(x, y) * m
    gradient = np.zeros_like(scaled)
    for channel, surface in enumerate(surfaces):
        if surface is not None:
            gradient[..., channel] = _smooth(surface, view)
    return Laid(scaled, gradient)


def _smooth(surface: Surface, view: Sight) -> Floats:
    """A surface on the picture's grid, from a coarse one: it has no detail to lose."""
    height, width = view.x_px.shape
    columns, rows = min(width, 33), min(height, 25)
    x, y = np.linspace(view.x_px[0, 0], view.x_px[0, -1], columns), np.linspace(view.y_px[0, 0], view.y_px[-1, 0], rows)
    coarse = surface.at(*np.meshgrid(x, y))
    across = np.stack([np.interp(view.x_px[0], x, line) for line in coarse])
    return np.stack([np.interp(view.y_px[:, 0], y, across[:, k]) for k in range(width)], axis=1)


def shrunk(preview: Preview, step_px: float) -> Preview:
    """The preview averaged until its pixels are about as large as `step_px`, so that no star falls between two."""
    height, width, channels = preview.pixels.shape
    bin_px = min(int(step_px / preview.step_px), height, width)
    if bin_px < 2:
        return preview
    rows, columns = height // bin_px, width // bin_px
    squares = preview.pixels[: rows * bin_px, : columns * bin_px].reshape(rows, bin_px, columns, bin_px, channels)
    middle = preview.step_px * (bin_px - 1) / 2
    return Preview(
        squares.mean(axis=(1, 3)), preview.channels, preview.origin_x_px + middle, preview.origin_y_px + middle,
        preview.step_px * bin_px,
    )  # fmt: skip


def sky_of(pixels: Floats) -> Floats:
    """(channels,) median of each channel, NaN where nothing is known."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    flat = flat[np.isfinite(flat).all(axis=-1)]
    return np.median(flat, axis=0) if flat.size else np.full(pixels.shape[-1], np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """One look for all pictures: per channel black point and span, and a midtone (PixInsight's transfer function)."""

    black: Floats
    span: Floats
    midtone: float

    def apply(self, pixels: Floats) -> NDArray[np.uint8]:
        """(height, width, 3) 0..255; missing pixels are black."""
        with np.errstate(invalid="ignore"):
            part = np.clip((pixels - self.black) / self.span, 0.0, 1.0)
        m = self.midtone
        bright = (m - 1.0) * part / ((2.0 * m - 1.0) * part - m)
        levels = np.nan_to_num(np.rint(255.0 * bright)).astype(np.uint8)
        return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels[..., :3]

    def brighter(self, factor: float) -> Stretch:
        """The same with the midtone moved: a factor above 1 lifts the sky."""
        return Stretch(self.black, self.span, min(max(self.midtone / factor, 1e-4), 0.9))


def shared_stretch(pixels: Floats) -> Stretch:
    """The automatic stretch of one picture, to be used for all: black 2.8 sigma under the sky, sky at 22 %, grey.

    Parameters
    ----------
    pixels
        (height, width, channels) ADU, as a rule the reference's.
    """
    flat = pixels.reshape(-1, pixels.shape[-1])
    flat = flat[np.isfinite(flat).all(axis=-1)]
    if not flat.size:
        zeros = np.zeros(pixels.shape[-1])
        return Stretch(zeros, zeros + 1.0, 0.5)
    sky = np.median(flat, axis=0)
    sigma = np.maximum(1.4826 * np.median(np.abs(flat - sky), axis=0), 1e-6 * np.maximum(np.abs(sky), 1.0))
    black = sky - SHADOWS_SIGMA * sigma
    span = np.maximum(np.quantile(flat, 0.9995, axis=0) - black, 8.0 * sigma)
    level = float(np.mean((sky - black) / span))
    black = sky - level * span  # the same level in every channel, so that the sky is grey whatever its noise
    return Stretch(black, span, (BACKGROUND - 1.0) * level / ((2.0 * BACKGROUND - 1.0) * level - BACKGROUND))
