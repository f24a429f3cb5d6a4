"""Sky background and pixel noise: one mesh of clipped means for detection, photometry and nodes.

Clipped means, never medians: on 12-bit cameras (steps of 16 ADU) a median is wrong by up to half of
the noise, a clipped mean by 2 % of it. Star-free by mask where a star list is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats, Pixels

Mask = NDArray[np.bool_]

CELL_PX = 64
"""Side of a mesh cell in full-resolution pixels (32 on small frames)."""
CLIP_SIGMA = 3.0
CLIPPED_STD = 0.98658
"""Standard deviation of a unit Gaussian truncated at 3 sigma."""
MASKED_CLIP_SIGMA = 5.0
"""With the stars masked, only cosmic rays and trails are clipped: faint stars left in the sky then dim like
all others, where a tighter clip would drop them from a clear sub and keep them in a cloudy one."""
MIN_CELL_FRACTION = 0.08
"""A cell with less star-free area than this has no value of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A plane, averaged over bin x bin pixels where it is large: pixel i lies at (i + 0.5) bin - 0.5."""

    pixels: Pixels
    bin: int


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Sky level and noise in cells of `cell` view pixels; NaN where a cell has no sky."""

    level: Floats
    """(ny, nx)"""
    sigma: Floats
    """(ny, nx) noise of one view pixel."""
    count: Floats
    """(ny, nx) number of view pixels behind the level."""
    cell: int
    bin: int

    def at(self, x_px: Floats, y_px: Floats) -> Floats:
        """Bilinear sky level at plane positions (pixels); gaps are filled from their neighbours."""
        return bilinear(fill_gaps(self.level), x_px, y_px, self.cell * self.bin)


def bilinear(grid: Floats, x_px: Floats, y_px: Floats, cell_px: float) -> Floats:
    """Interpolate cell values at positions; cell k is centred at (k + 0.5) cell_px - 0.5."""
    ny, nx = grid.shape
    u = np.clip((np.asarray(x_px) + 0.5) / cell_px - 0.5, -0.5, nx - 0.5)
    v = np.clip((np.asarray(y_px) + 0.5) / cell_px - 0.5, -0.5, ny - 0.5)
    i = np.clip(np.floor(u).astype(int), 0, max(nx - 2, 0))
    j = np.clip(np.floor(v).astype(int), 0, max(ny - 2, 0))
    i1, j1 = np.minimum(i + 1, nx - 1), np.minimum(j + 1, ny - 1)
    du, dv = u - i, v - j
    top = grid[j, i] * (1 - du) + grid[j, i1] * du
    bottom = grid[j1, i] * (1 - du) + grid[j1, i1] * du
    return np.asarray(top * (1 - dv) + bottom * dv)


def fill_gaps(grid: Floats) -> Floats:
    """Replace NaN cells by the mean of their known neighbours, growing inwards until none is left."""
    out = grid.copy()
    while (gaps := ~np.isfinite(out)).any():
        if gaps.all():
            return np.zeros_like(out)
        padded = np.pad(out, 1, constant_values=np.nan)
        stack = np.stack([padded[1 + j : j + 1 + out.shape[0], 1 + i : i + 1 + out.shape[1]] for j, i in _AROUND])
        known = np.isfinite(stack)
        total = np.where(known, stack, 0.0).sum(axis=0)
        number = known.sum(axis=0)
        fillable = gaps & (number > 0)
        out[fillable] = total[fillable] / number[fillable]
    return out


_AROUND = [(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1) if (j, i) != (0, 0)]


def view_of(pixels: Pixels) -> View:
    """Average a large plane over 2 x 2 pixels (four strided slices: the fastest way numpy has)."""
    if pixels.size < 8_000_000:
        return View(pixels, 1)
    h, w = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    out = pixels[0:h:2, 0:w:2] + pixels[1:h:2, 0:w:2]
    out += pixels[0:h:2, 1:w:2]
    out += pixels[1:h:2, 1:w:2]
    out *= np.float32(0.25)
    return View(out, 2)


def cell_size(view: View) -> int:
    """Mesh cell in view pixels."""
    full_px = CELL_PX if view.pixels.size * view.bin**2 >= 2_000_000 else CELL_PX // 2
    return full_px // view.bin


def sky_mesh(view: View, mask: Mask | None = None, thin: int = 1) -> Mesh:
    """Clipped mean, noise and count of every cell.

    Parameters
    ----------
    mask
        (h, w) of the view, True where a star keeps the pixel out of the sky; None = clip stars away only.
    thin
        Use every `thin`-th pixel of each axis: the coarse first look for detection uses 2.
    """
    cell = cell_size(view)
    ny, nx = (max(size // cell, 1) for size in view.pixels.shape)
    level, sigma, count = (np.full((ny, nx), np.nan) for _ in range(3))
    for j in range(ny):
        rows = slice(j * cell, (j + 1) * cell if j < ny - 1 else None)
        values, weight = _strip_cells(
            view.pixels[rows][::thin], cell, nx, thin, None if mask is None else mask[rows][::thin]
        )
        level[j], sigma[j], count[j] = _clip_cells(values, weight)
    return Mesh(level, sigma, count * thin * thin, cell, view.bin)


def _strip_cells(strip: Pixels, cell: int, nx: int, thin: int, mask: Mask | None) -> tuple[Pixels, Pixels | None]:
    """One row of cells as (nx, pixels); the last partial column is left to the clipped neighbours."""
    width = nx * cell
    shape = (strip.shape[0], nx, -1)
    values = strip[:, :width:thin].reshape(shape).transpose(1, 0, 2).reshape(nx, -1)
    if mask is None:
        return _without_gaps(values, None)
    free = ~mask[:, :width:thin].reshape(shape).transpose(1, 0, 2).reshape(nx, -1)
    return _without_gaps(values, free.astype(np.float32))


def _without_gaps(values: Pixels, free: Pixels | None) -> tuple[Pixels, Pixels | None]:
    """Missing pixels (NaN: empty borders, BLANK) take no part; a cell keeps what is left of it."""
    if np.isfinite(values.sum()):
        return values, free
    known = np.isfinite(values)
    return np.where(known, values, np.float32(0.0)), (known if free is None else known & (free > 0)).astype(np.float32)


def _clip_cells(values: Pixels, free: Pixels | None) -> tuple[Floats, Floats, Floats]:
    """Sigma-clipped mean of each row of values, started from quantiles of a thinned sample."""
    centre, width = _start(values, free)
    weight = np.ones_like(values) if free is None else free
    area = values.shape[1]
    centre0 = centre.astype(np.float32)[:, None]
    offset = values - centre0
    squared = offset * offset
    shift = np.zeros_like(centre)
    clip, clipped_std = (CLIP_SIGMA, CLIPPED_STD) if free is None else (MASKED_CLIP_SIGMA, 1.0)
    for _ in range(3):
        low = (shift - clip * width).astype(np.float32)[:, None]
        high = (shift + clip * width).astype(np.float32)[:, None]
        keep = weight * ((offset > low) & (offset < high))
        number = keep.sum(axis=1, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = np.einsum("ij,ij->i", keep, offset) / number
            variance = np.einsum("ij,ij->i", keep, squared) / number - shift**2
        width = np.sqrt(np.maximum(variance, 0.0)) / clipped_std
    known = number >= MIN_CELL_FRACTION * area
    return np.where(known, centre + shift, np.nan), np.where(known, width, np.nan), np.where(known, number, 0.0)


def _start(values: Pixels, free: Pixels | None) -> tuple[Floats, Floats]:
    """Median and lower-side width of a sample of each row: stars only push upwards."""
    step = max(values.shape[1] // 160, 1)
    sample = values[:, ::step].astype(np.float64)
    if free is not None:
        sample = np.where(free[:, ::step] > 0, sample, np.nan)
    sample.sort(axis=1)
    number = np.isfinite(sample).sum(axis=1)
    row = np.arange(len(sample))

    def quantile(q: float) -> Floats:
        index = np.clip((q * (number - 1)).astype(int), 0, None)
        return np.asarray(sample[row, index])

    middle = quantile(0.5)
    width = np.maximum(middle - quantile(0.159), 0.5 * (middle - quantile(0.023)))
    width = np.maximum(width, 0.25 * (quantile(0.75) - quantile(0.25)))
    floor = 1e-6 * np.maximum(np.abs(middle), 1e-3)
    return np.nan_to_num(middle), np.maximum(np.nan_to_num(width), floor)


def pixel_noise(pixels: Pixels, mask: Mask | None, mask_bin: int) -> float:
    """Standard deviation of a plane's pixels, free of stars, gradients and quantisation traps.

    Second differences along sampled rows, d = p[x] - (p[x-1] + p[x+1]) / 2, have the variance
    3/2 sigma^2 for independent pixels and see no gradient; a 3-sigma clip drops cosmic rays and hot
    pixels. Coarse steps (12- and 14-bit cameras) would upset the clip: a known dither is added first
    and its variance taken off again, so that the step's own step^2 / 12 stays in, as it is in the pixels.

    Parameters
    ----------
    mask
        True where a star is, in view pixels of `mask_bin`; None for none.

    Returns
    -------
    float
        ADU; NaN where fewer than 500 star-free pixels are sampled.
    """
    step = max(1, min(16, pixels.size // 400_000))
    rows = np.arange(step // 2, pixels.shape[0], step)
    sample = pixels[rows]
    difference = sample[:, 1:-1] - 0.5 * (sample[:, :-2] + sample[:, 2:])
    if mask is not None:
        columns = np.minimum(np.arange(1, pixels.shape[1] - 1) // mask_bin, mask.shape[1] - 1)
        hidden = mask[np.minimum(rows // mask_bin, mask.shape[0] - 1)][:, columns]
        flat = difference[~hidden]
    else:
        flat = difference.ravel()
    flat = flat[np.isfinite(flat)]
    if flat.size < 500:
        return float("nan")
    return _clipped_spread(flat, 0.5 * _quantum(flat)) / float(np.sqrt(1.5))


def _quantum(differences: Pixels) -> float:
    """Step between neighbouring values of quantised data (twice that of the half-step differences); 0 for none."""
    values = np.unique(differences[:20_000])
    if values.size < 2 or values.size > 2000:
        return 0.0
    return 2.0 * float(np.diff(values).min())


def _clipped_spread(values: Pixels, step: float) -> float:
    """Standard deviation of a symmetric distribution about 0, clipped at 3 sigma; `step` is that of the values."""
    if step > 0:
        values = values + np.random.default_rng(0).uniform(-step / 2, step / 2, values.size).astype(np.float32)
    low, high = np.quantile(values[:: max(values.size // 20_000, 1)], (0.159, 0.841))
    spread = max(float(high - low) / 2.0, 1e-12)
    for _ in range(10):
        kept = values[np.abs(values) < CLIP_SIGMA * spread]
        if kept.size < 100:
            break
        new = max(float(np.sqrt(np.mean(np.square(kept, dtype=np.float64)))) / CLIPPED_STD, 1e-12)
        settled = abs(new - spread) < 1e-4 * spread
        spread = new
        if settled:
            break
    return float(np.sqrt(max(spread**2 - step**2 / 12.0, 0.0)))


def paint_discs(shape: tuple[int, int], x: Floats, y: Floats, radius: Floats) -> Mask:
    """(h, w) mask, True within `radius` of the positions; all in pixels of that mask."""
    mask = np.zeros(shape, dtype=bool)
    whole = np.clip(np.ceil(radius).astype(int), 1, max(shape))
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    near = (column > -whole) & (column < shape[1] + whole) & (row > -whole) & (row < shape[0] + whole)
    for r in np.unique(whole[near]):
        chosen = near & (whole == r)
        dj, di = np.nonzero(np.hypot(*np.mgrid[-r : r + 1, -r : r + 1]) <= r)
        jj = (row[chosen][:, None] + (dj - r)).ravel()
        ii = (column[chosen][:, None] + (di - r)).ravel()
        inside = (jj >= 0) & (jj < shape[0]) & (ii >= 0) & (ii < shape[1])
        mask[jj[inside], ii[inside]] = True
    return mask


def node_values(mesh: Mesh, x_px: Floats, y_px: Floats, half_px: float) -> tuple[Floats, Floats]:
    """Mean sky in boxes centred at positions, from the cells they overlap, weighted by area and count.

    A box is a whole number of cells wide, so what it takes too much of a cell on one side it takes too
    little of on the other: structure that is linear over a cell (nebula) stays exact under any dither.

    Returns
    -------
    values, fraction
        (n,) ADU and the part of the box that is measured; NaN and 0 outside the frame.
    """
    cell = float(mesh.cell * mesh.bin)
    ny, nx = mesh.level.shape
    across = _overlap(x_px, half_px, cell, nx)
    down = _overlap(y_px, half_px, cell, ny)
    known = np.isfinite(mesh.level)
    weight = np.where(known, mesh.count / mesh.cell**2, 0.0)
    level = np.where(known, mesh.level, 0.0)
    pivot = float(level[known].mean()) if known.any() else 0.0
    total = np.einsum("nj,ji,ni->n", down, weight, across, optimize=True)
    value = np.einsum("nj,ji,ni->n", down, weight * (level - pivot), across, optimize=True)
    fraction = total / (2 * half_px / cell) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = pivot + value / total
    return np.where(fraction > 0.25, mean, np.nan), np.where(fraction > 0.25, np.minimum(fraction, 1.0), 0.0)


def _overlap(centre_px: Floats, half_px: float, cell_px: float, n: int) -> Floats:
    """(positions, n) part of each cell that the interval covers, 0..1."""
    edges = np.arange(n + 1) * cell_px - 0.5
    low = np.clip((centre_px - half_px)[:, None], edges[:-1], edges[1:])
    high = np.clip((centre_px + half_px)[:, None], edges[:-1], edges[1:])
    return np.asarray((high - low) / cell_px)
