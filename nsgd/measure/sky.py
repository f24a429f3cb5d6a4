"""Sky background and pixel noise: one mesh of clipped means for detection, photometry and nodes.

Clipped means, never medians: on 12-bit cameras (steps of 16 ADU) a median is wrong by up to half of
the noise, a clipped mean by 2 % of it. Star-free by mask where a star list is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Light
from nsgd.halving import LARGE_PLANE, halve
from nsgd.records import Floats, Pixels, Plane
from nsgd.threads import shared

Mask = NDArray[np.bool_]

CELL_PX = 64
"""Side of a mesh cell in full-resolution pixels (32 on small frames)."""
CLIP_SIGMA = 3.0
CLIPPED_STD = 0.98658
"""Standard deviation of a unit Gaussian truncated at 3 sigma."""
NOISE_BLOCKS = 3
"""Blocks per side."""
BLOCKS_PX = (2, 6)
"""Sides of the blocks that show an interpolated plane's noise."""
CORRELATED = 1.04
"""How much more noise than single pixels the small ones show where neighbours share theirs; faint stars feign less."""
NOISE_CLIP_SIGMA, NOISE_CLIPPED_STD = 2.5, 0.95460
"""The noise is taken from the core of its distribution, which hot pixels and faint stars hardly reach; and the
standard deviation of a unit Gaussian truncated there."""
MASKED_CLIP_SIGMA = 5.0
"""With the stars masked, only cosmic rays and trails are clipped: faint stars left in the sky then dim like
all others, where a tighter clip would drop them from a clear sub and keep them in a cloudy one."""
BAND_ROWS = 32
"""Rows worked on at a time: they stay in the processor's cache."""
BAND_PIXELS = 800_000
"""Pixels of such bands given to a thread at a time: with fewer, threads wait for the interpreter longer than they
gain."""
LARGE_SKY = 2_000_000
"""Pixels from which on a plane whose stars are sought elsewhere is averaged over 2 x 2 of them."""
COARSE_THIN = 4
LARGE_PIXELS = 3_000_000
MIN_CELL_FRACTION = 0.08
"""A cell with less star-free area than this has no value of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A plane, averaged over bin x bin pixels where it is large: pixel i lies at (i + 0.5) bin - 0.5."""

    pixels: Pixels
    bin: int


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Sky level and noise in cells of `cell` view pixels; NaN where a cell has no sky.

    The last row and column hold what the frame has left over; every level stands for the nominal centre
    of its cell, moved there along the local slope from the centroid of the pixels behind it.
    """

    level: Floats
    """(ny, nx)"""
    sigma: Floats
    """(ny, nx) noise of one view pixel."""
    count: Floats
    """(ny, nx) number of view pixels behind the level."""
    slope_x: Floats
    """(ny, nx) change of the level per view pixel."""
    slope_y: Floats
    cell: int
    bin: int
    size: tuple[int, int]
    """(height, width) of the view."""

    def at(self, x_px: Floats, y_px: Floats) -> Floats:
        """Bilinear sky level at plane positions (pixels); gaps are filled from their neighbours."""
        return bilinear(fill_gaps(self.level), x_px, y_px, self.cell * self.bin)

    def err_at(self, x_px: Floats, y_px: Floats) -> Floats:
        """Error of that level in units of the noise of a plane pixel: larger where stars leave a cell few pixels."""
        with np.errstate(divide="ignore"):
            variance = np.where(self.count > 0, 1.0 / (self.count * self.bin**2), np.nan)
        places, shares = _between_cells(self.count.shape, x_px, y_px, self.cell * self.bin)
        return np.asarray(np.sqrt((shares**2 * fill_gaps(variance)[places]).sum(axis=0)))


def bilinear(grid: Floats, x_px: Floats, y_px: Floats, cell_px: float) -> Floats:
    """Interpolate cell values at positions; cell k is centred at (k + 0.5) cell_px - 0.5."""
    places, shares = _between_cells(grid.shape, x_px, y_px, cell_px)
    return np.asarray((shares * grid[places]).sum(axis=0))


def _between_cells(
    shape: tuple[int, ...], x_px: Floats, y_px: Floats, cell_px: float
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], Floats]:
    """(4, n) rows and columns of the cells about positions, and the share that each has in what lies between them."""
    ny, nx = shape
    u = np.clip((np.asarray(x_px) + 0.5) / cell_px - 0.5, -0.5, nx - 0.5)
    v = np.clip((np.asarray(y_px) + 0.5) / cell_px - 0.5, -0.5, ny - 0.5)
    i = np.clip(np.floor(u).astype(int), 0, max(nx - 2, 0))
    j = np.clip(np.floor(v).astype(int), 0, max(ny - 2, 0))
    i1, j1 = np.minimum(i + 1, nx - 1), np.minimum(j + 1, ny - 1)
    du, dv = u - i, v - j
    shares = np.stack(((1 - dv) * (1 - du), (1 - dv) * du, dv * (1 - du), dv * du))
    return (np.stack((j, j, j1, j1)), np.stack((i, i1, i, i1))), shares


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


def view_of(plane: Plane, large: int = LARGE_PLANE) -> View:
    """A plane of at least `large` pixels averaged over 2 x 2 of them."""
    if plane.light.size < large:
        return View(plane.pixels, 1)
    return View(plane.averages[0] if plane.averages else _halved(plane.pixels), 2)


def sky_view(plane: Plane, view: View) -> View:
    """The view that the sky is measured in: where stars are sought in averages over 2 x 2 pixels, those over 4 x 4.

    Of the sky they tell as much, in a quarter of the time.
    """
    if view.bin == 1:
        return view
    return View(plane.averages[1] if len(plane.averages) > 1 else _halved(view.pixels), 2 * view.bin)


def _halved(pixels: Pixels) -> Pixels:
    """(h // 2, w // 2) means over 2 x 2 pixels."""
    out = np.empty((pixels.shape[0] // 2, pixels.shape[1] // 2), np.float32)

    def fill(top: int) -> None:
        halve(pixels[2 * top : 2 * (top + BAND_ROWS)], out[top : top + BAND_ROWS])

    shared(fill, range(0, len(out), BAND_ROWS))
    return out


def cell_size(view: View) -> int:
    """Mesh cell in view pixels."""
    full_px = CELL_PX if view.pixels.size * view.bin**2 >= 2_000_000 else CELL_PX // 2
    return full_px // view.bin


def sky_mesh(view: View) -> Mesh:
    """Clipped mean, noise and count of every cell: the first look, before any star is known.

    Of a large plane every fourth view pixel of each axis is taken, and the mesh smoothed over 3 x 3 cells.
    """
    cell = cell_size(view)
    height, width = view.pixels.shape
    thin = COARSE_THIN if view.pixels.size * view.bin**2 >= LARGE_PIXELS else 1
    level, sigma, count = (np.full(_cells(view.pixels.shape, cell), np.nan) for _ in range(3))

    def fill(block: tuple[slice, slice]) -> None:
        values = _as_cells(view.pixels, *block, cell, thin)
        shape = level[block].shape
        found = _clip_cells(values.reshape(len(values), -1))
        level[block], sigma[block], count[block] = (part.reshape(shape) for part in found)

    shared(fill, list(_blocks((height, width), cell)) if thin == 1 else _whole_cells((height, width), cell, thin))
    if thin > 1:
        level, sigma = _box_mean(level), _box_mean(sigma)
    slope_x, slope_y = _slopes(level)
    return Mesh(level, sigma, count * thin * thin, slope_x / cell, slope_y / cell, cell, view.bin, (height, width))


def masked_mesh(view: View, first: Mesh, mask: Mask) -> Mesh:
    """The mesh again with the stars masked: unbiased by them, every star-free pixel used; the noise stays the first's.

    Parameters
    ----------
    first
        The first look at the same plane, in this view or a finer one; it tells what is an outlier.
    mask
        (h, w) of the view, True where a star keeps the pixel out of the sky.
    """
    cell, size = first.cell * first.bin // view.bin, (view.pixels.shape[0], view.pixels.shape[1])
    level0, sigma0 = fill_gaps(first.level), fill_gaps(first.sigma) * (first.bin / view.bin)
    number, total, down, across = _masked_sums(view.pixels, mask, (level0, sigma0), cell)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = level0 + total / number
        off_x, off_y = (np.where(number > 0, part / number, 0.0) - (cell - 1) / 2 for part in (across, down))
    known = number >= MIN_CELL_FRACTION * _cell_areas(number.shape, cell, size)
    level, count = np.where(known, level, np.nan), np.where(known, number, 0.0)
    slope_x, slope_y = _slopes(level)
    level -= (slope_x * off_x + slope_y * off_y) / cell
    return Mesh(level, sigma0, count, slope_x / cell, slope_y / cell, cell, view.bin, size)


def _cells(shape: tuple[int, ...], cell: int) -> tuple[int, int]:
    """Rows and columns of cells: whole ones plus one for a remainder of at least a quarter of a cell."""
    rows, columns = (max(length // cell + (length % cell >= cell // 4), 1) for length in shape[:2])
    return rows, columns


def _blocks(shape: tuple[int, ...], cell: int) -> Iterator[tuple[slice, slice]]:
    """Cells of one size together, as slices of cells: each row of whole cells, then the remainders."""
    ny, nx = (length // cell for length in shape[:2])
    rows, columns = _cells(shape, cell)
    for j in range(ny):
        if nx:
            yield slice(j, j + 1), slice(0, nx)
    if columns > nx and ny:
        yield slice(0, ny), slice(nx, columns)
    if rows > ny and nx:
        yield slice(ny, rows), slice(0, nx)
    if rows > ny and columns > nx:
        yield slice(ny, rows), slice(nx, columns)


def _whole_cells(shape: tuple[int, ...], cell: int, thin: int) -> list[tuple[slice, slice]]:
    """The whole cells alone, in an even number of portions of rows of them."""
    ny, nx = (length // cell for length in shape[:2])
    number = 2 * max(1, round(ny * nx * (cell // thin) ** 2 / (2 * BAND_PIXELS)))
    edges = np.linspace(0, ny, min(number, ny) + 1).astype(int)
    return [(slice(*rows), slice(0, nx)) for rows in pairwise(edges)]


def _as_cells(array: NDArray[Any], rows: slice, columns: slice, cell: int, thin: int) -> NDArray[Any]:
    """(cells, height, width) pixels of a block of cells of one size, thinned."""
    part = array[rows.start * cell : rows.stop * cell : thin, columns.start * cell : columns.stop * cell : thin]
    down, across = rows.stop - rows.start, columns.stop - columns.start
    high, wide = part.shape[0] // down, part.shape[1] // across
    return part.reshape(down, high, across, wide).transpose(0, 2, 1, 3).reshape(down * across, high, wide)


def _masked_sums(pixels: Pixels, mask: Mask, first: tuple[Floats, Floats], cell: int) -> Floats:
    """(4, ny, nx) star-free pixels of each cell: their number, and sums of their offset, place down and place across.

    The offset is that from the cell's first level; pixels more than five sigma from it take no part.
    """
    ny, nx = first[0].shape
    width, height = min(nx * cell, pixels.shape[1]), min(ny * cell, pixels.shape[0])
    high = min(cell, BAND_ROWS)
    base, limit2 = (np.repeat(part.astype(np.float32), cell, axis=1)[:, None, :width]
                    for part in (first[0], (MASKED_CLIP_SIGMA * first[1]) ** 2))  # fmt: skip
    columns = np.empty((4, -(-height // high), width), np.float32)

    def fill(rows: slice) -> None:
        band = np.arange(rows.start // high, -(-rows.stop // high))
        shape, of_cell = (band.size, -1, width), band * high // cell
        part, starry = pixels[rows, :width].reshape(shape), mask[rows, :width].reshape(shape)
        _column_sums(part, starry, (base[of_cell], limit2[of_cell]), columns[:3, band[0] : band[-1] + 1])

    shared(fill, row_bands(height, width, high))
    np.multiply(columns[0], np.arange(width, dtype=np.float32) % cell, out=columns[3])
    by_band = np.add.reduceat(columns, np.arange(0, width, cell), axis=2, dtype=np.float64)
    by_band[2] += (high * np.arange(by_band.shape[1]) % cell)[:, None] * by_band[0]
    return np.asarray(np.add.reduceat(by_band, np.arange(0, by_band.shape[1], cell // high), axis=1))


def row_bands(height: int, width: int, high: int) -> list[slice]:
    """Rows in portions of some bands that are `high`, and the remainder of a lower one."""
    whole = height // high * high
    step = high * max(1, BAND_PIXELS // (high * width))
    portions = [slice(top, min(top + step, whole)) for top in range(0, whole, step)]
    return portions + [slice(whole, height)] * (height > whole)


def _column_sums(pixels: Pixels, mask: Mask, first: tuple[Pixels, Pixels], out: Pixels) -> None:
    """Fill (3, n, width) `out` with number, offset and place down of what is star-free in the columns of n bands.

    Sums run down the columns first: the processor adds a whole row to another at once.
    """
    base, limit2 = first
    offset = pixels - base
    kept = offset * offset
    keep = kept < limit2
    kept[...] = np.greater(keep, mask, out=keep)
    offset *= kept
    np.matmul(np.ones((1, pixels.shape[1]), np.float32), offset, out=out[1, :, None])
    if not np.isfinite(out[1]).all():  # missing pixels (NaN: empty borders, BLANK) take no part
        known = np.isfinite(pixels)
        _column_sums(np.where(known, pixels, np.float32(0.0)), mask | ~known, first, out)
        return
    weight = np.stack((np.ones(pixels.shape[1]), np.arange(pixels.shape[1]))).astype(np.float32)
    out[0], out[2] = np.moveaxis(weight @ kept, 1, 0)


def _slopes(level: Floats) -> tuple[Floats, Floats]:
    """Change of the level per cell along x and y, from the mesh averaged over 3 x 3 cells."""
    smooth = _box_mean(level)
    slope_y = np.gradient(smooth, axis=0) if level.shape[0] > 1 else np.zeros_like(level)
    slope_x = np.gradient(smooth, axis=1) if level.shape[1] > 1 else np.zeros_like(level)
    return np.asarray(slope_x), np.asarray(slope_y)


def _box_mean(grid: Floats) -> Floats:
    """(ny, nx) mean over 3 x 3 cells; gaps filled, the edges carried on in a straight line."""
    filled = fill_gaps(grid)
    ny, nx = filled.shape
    padded = np.pad(filled, 1, mode="reflect", reflect_type="odd") if min(ny, nx) > 1 else np.pad(filled, 1, "edge")
    return np.asarray(sum(padded[j : j + ny, i : i + nx] for j in range(3) for i in range(3)) / 9.0)


def _clip_cells(values: Pixels) -> tuple[Floats, Floats, Floats]:
    """Sigma-clipped mean of each row of values, started from quantiles of a thinned sample."""
    centre, width = _start(values)
    offset = values - centre.astype(np.float32)[:, None]
    if not np.isfinite(offset.sum()):
        offset[~np.isfinite(offset)] = np.finfo(np.float32).max  # outside of every clip, and nothing times 0
    kept, ones = np.empty_like(offset), np.ones(offset.shape[1], np.float32)
    shift = np.zeros_like(centre)
    for _ in range(3):
        low = (shift - CLIP_SIGMA * width).astype(np.float32)[:, None]
        high = (shift + CLIP_SIGMA * width).astype(np.float32)[:, None]
        kept[...] = (offset > low) & (offset < high)
        number = (kept @ ones).astype(np.float64)
        kept *= offset
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = (kept @ ones) / number
            variance = np.einsum("ij,ij->i", kept, kept) / number - shift**2
        width = np.sqrt(np.maximum(variance, 0.0)) / CLIPPED_STD
    known = number >= MIN_CELL_FRACTION * values.shape[1]
    return np.where(known, centre + shift, np.nan), np.where(known, width, np.nan), np.where(known, number, 0.0)


def _start(values: Pixels) -> tuple[Floats, Floats]:
    """Median and lower-side width of a sample of each row: stars only push upwards."""
    sample = np.sort(values[:, :: max(values.shape[1] // 80, 1)], axis=1)
    # what is missing comes last
    last = np.maximum(np.isfinite(sample).sum(axis=1) - 1, 0)
    row = np.arange(len(sample))

    def quantile(q: float) -> Floats:
        return np.asarray(sample[row, (q * last).astype(int)], dtype=np.float64)

    middle = quantile(0.5)
    width = np.maximum(middle - quantile(0.159), 0.5 * (middle - quantile(0.023)))
    width = np.maximum(width, 0.25 * (quantile(0.75) - quantile(0.25)))
    floor = 1e-6 * np.maximum(np.abs(middle), 1e-3)
    known = np.isfinite(middle)
    return np.where(known, middle, 0.0), np.where(known, np.maximum(width, floor), floor)


def pixel_noise(pixels: Light, mask: Mask | None, mask_bin: int) -> float:
    """Standard deviation of a plane's pixels, free of stars, gradients and quantisation traps.

    Second differences along sampled rows, d = p[x] - (p[x-1] + p[x+1]) / 2, have the variance
    3/2 sigma^2 for independent pixels and see no gradient; a tight clip drops cosmic rays and hot
    pixels. Coarse steps (12- and 14-bit cameras) would upset the clip: a known dither is added first
    and its variance taken off again, so that the step's own step^2 / 12 stays in, as it is in the pixels.
    A sky that is brighter on one side is noisier there, and a clip would take from a mixture of noises what is large
    in it: blocks of the frame are measured one by one and their variances averaged, those of a bright nebula at most
    as twice the median.

    Parameters
    ----------
    mask
        True where a star is, in view pixels of `mask_bin`; None for none.

    Returns
    -------
    float
        ADU; NaN where fewer than 500 star-free pixels are sampled.
    """
    return _spread_of(*_second_differences(pixels, mask, mask_bin))


def interpolated_noise(pixels: Pixels, mask: Mask | None, mask_bin: int) -> float:
    """Noise that the pixels of an interpolated plane had before: what their sums still have.

    Interpolation shares a pixel's noise out to its neighbours and hides a part of it from differences of single
    pixels, while means over blocks keep it: their noise, in units of a pixel's, falls short by what is in proportion
    to one over a block's side, which blocks of two sizes tell. Where small blocks agree with single pixels, nothing
    was interpolated (the reference is not, as a rule), and these know best.

    Parameters
    ----------
    mask
        As `pixel_noise`.

    Returns
    -------
    float
        ADU, never less than `pixel_noise`; that where stars leave too few blocks.
    """
    plain = pixel_noise(pixels, mask, mask_bin)
    hidden = np.zeros(pixels.shape, dtype=bool) if mask is None else _at_full_size(mask, mask_bin, pixels.shape)
    fine, coarse = BLOCKS_PX
    in_fine, in_coarse = (side * _spread_of(*_block_differences(pixels, hidden, side)) for side in BLOCKS_PX)
    before = (coarse * in_coarse - fine * in_fine) / (coarse - fine)
    return before if in_fine > CORRELATED * plain and before > plain else plain


def _at_full_size(mask: Mask, mask_bin: int, shape: tuple[int, ...]) -> Mask:
    """A view's mask, pixel by pixel of the plane."""
    rows, columns = (np.minimum(np.arange(n) // mask_bin, m - 1) for n, m in zip(shape, mask.shape, strict=True))
    return np.asarray(mask[np.ix_(rows, columns)])


def _block_differences(pixels: Pixels, hidden: Mask, side: int) -> tuple[Pixels, Mask]:
    """Second differences of the means of blocks along their rows, and where one of three blocks holds a star."""
    height, width = (length // side for length in pixels.shape)
    blocks = pixels[: height * side, : width * side].reshape(height, side, width, side).mean(axis=(1, 3))
    starry = np.asarray(hidden[: height * side, : width * side].reshape(height, side, width, side).any(axis=(1, 3)))
    difference = blocks[:, 1:-1] - np.float32(0.5) * (blocks[:, :-2] + blocks[:, 2:])
    return difference, starry[:, 1:-1] | starry[:, :-2] | starry[:, 2:]


def _spread_of(difference: Pixels, hidden: Mask) -> float:
    """Standard deviation of the values behind second differences, NaN where fewer than 500 are not hidden."""
    side = NOISE_BLOCKS if difference.size >= NOISE_BLOCKS**2 * 2000 else 1
    found = [difference[part][~hidden[part]] for part in _parts(difference.shape, side)]
    found = [flat if np.isfinite(flat.sum()) else flat[np.isfinite(flat)] for flat in found]
    enough = [flat for flat in found if flat.size >= 500]
    if not enough:
        return float("nan")
    step = 0.5 * _quantum(np.concatenate([flat[: 20_000 // len(enough)] for flat in enough]))
    squares = np.array([_clipped_spread(flat, step) ** 2 for flat in enough])
    weight = np.array([flat.size for flat in enough])
    return float(np.sqrt(np.average(np.minimum(squares, 2.0 * np.median(squares)), weights=weight) / 1.5))


def _parts(shape: tuple[int, ...], side: int) -> list[tuple[slice, slice]]:
    """The frame cut in `side` times `side`."""
    rows, columns = (np.linspace(0, length, side + 1).astype(int) for length in shape)
    return [(slice(*r), slice(*c)) for r in pairwise(rows) for c in pairwise(columns)]


def _second_differences(pixels: Light, mask: Mask | None, mask_bin: int) -> tuple[Pixels, Mask]:
    """p[x] - (p[x-1] + p[x+1]) / 2 along sampled rows, and where a star is."""
    step = max(1, pixels.size // 350_000)
    rows = np.arange(step // 2, pixels.shape[0], step)
    sample = pixels[rows]
    difference = sample[:, :-2] + sample[:, 2:]
    difference *= np.float32(-0.5)
    difference += sample[:, 1:-1]
    if mask is None:
        return difference, np.zeros(difference.shape, dtype=bool)
    seen = mask[np.minimum(rows // mask_bin, mask.shape[0] - 1)]
    hidden = np.repeat(seen, mask_bin, axis=1) if mask_bin > 1 else seen
    hidden = np.pad(hidden, ((0, 0), (0, max(pixels.shape[1] - hidden.shape[1], 0))), mode="edge")
    return difference, hidden[:, 1 : pixels.shape[1] - 1]


def _quantum(differences: Pixels) -> float:
    """Step between neighbouring values of quantised data (twice that of the half-step differences); 0 for none."""
    values = np.unique(differences[:20_000])
    if values.size < 2 or values.size > 2000:
        return 0.0
    return 2.0 * float(np.diff(values).min())


def _clipped_spread(values: Pixels, step: float) -> float:
    """Standard deviation of a symmetric distribution about 0, clipped; `step` is that of the values."""
    if step > 0:
        values = values + np.float32(step) * _dither(1 << values.size.bit_length())[: values.size]
    sample = np.sort(values[:: max(values.size // 2_000, 1)])
    low, high = sample[int(0.159 * sample.size)], sample[int(0.841 * sample.size)]
    spread = max(float(high - low) / 2.0, 1e-12)
    squares = np.square(values)
    for _ in range(10):
        inside = squares < (NOISE_CLIP_SIGMA * spread) ** 2
        number = np.count_nonzero(inside)
        if number < 100:
            break
        total = float(squares @ inside.astype(np.float32))
        new = max(float(np.sqrt(total / number)) / NOISE_CLIPPED_STD, 1e-12)
        settled = abs(new - spread) < 1e-4 * spread
        spread = new
        if settled:
            break
    return float(np.sqrt(max(spread**2 - step**2 / 12.0, 0.0)))


@lru_cache(maxsize=2)
def _dither(number: int) -> Pixels:
    """The same numbers between -0.5 and 0.5 at every call; how many there are does not change the first ones."""
    return (np.random.default_rng(0).random(number) - 0.5).astype(np.float32)


def paint_discs(shape: tuple[int, int], x: Floats, y: Floats, radius: Floats) -> Mask:
    """(h, w) mask, True within `radius` of the positions; all in pixels of that mask."""
    mask = np.zeros(shape, dtype=bool)
    whole = np.clip(np.ceil(radius).astype(int), 1, max(shape))
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    near = (column > -whole) & (column < shape[1] + whole) & (row > -whole) & (row < shape[0] + whole)
    flat = mask.reshape(-1)
    whole_in = (column >= whole) & (column < shape[1] - whole) & (row >= whole) & (row < shape[0] - whole)
    for r in np.unique(whole[near]):
        dj, di = np.nonzero(np.hypot(*np.mgrid[-r : r + 1, -r : r + 1]) <= r)
        chosen = whole_in & (whole == r)
        flat[(row[chosen] * shape[1] + column[chosen])[:, None] + ((dj - r) * shape[1] + di - r)] = True
        chosen = near & ~whole_in & (whole == r)
        jj = (row[chosen][:, None] + (dj - r)).ravel()
        ii = (column[chosen][:, None] + (di - r)).ravel()
        inside = (jj >= 0) & (jj < shape[0]) & (ii >= 0) & (ii < shape[1])
        mask[jj[inside], ii[inside]] = True
    return mask


def node_values(mesh: Mesh, x_px: Floats, y_px: Floats, half_px: float) -> tuple[Floats, Floats]:
    """Mean sky in boxes centred at positions, from the cells they overlap, weighted by area and count.

    Of a cell that a box cuts, the part inside is taken along the cell's own slope, so structure that bends over a
    few cells (nebula) stays the same under any dither. Where part of a box is outside the frame, its mean is moved
    to the box's centre along the local slope.

    Returns
    -------
    values, fraction
        (n,) ADU and the part of the box that is measured; NaN and 0 outside the frame.
    """
    across, place_x, off_x = _overlap(x_px, half_px / mesh.bin, mesh, 1)
    down, place_y, off_y = _overlap(y_px, half_px / mesh.bin, mesh, 0)
    known = np.isfinite(mesh.level)
    weight = np.where(known, np.minimum(mesh.count / _cell_areas(mesh.level.shape, mesh.cell, mesh.size), 1.0), 0.0)
    pivot = float(mesh.level[known].mean()) if known.any() else 0.0
    bend_x, bend_y = (np.gradient(fill_gaps(mesh.level), axis=axis) / mesh.cell if mesh.level.shape[axis] > 1
                      else np.zeros_like(mesh.level) for axis in (1, 0))  # fmt: skip
    total = _pooled(down, weight, across)

    def mean(values: Floats, down: Floats = down, across: Floats = across) -> Floats:
        return _pooled(down, weight * np.where(known, values, 0.0), across) / total

    with np.errstate(invalid="ignore", divide="ignore"):
        value = pivot + mean(mesh.level - pivot)
        value += mean(bend_x, across=across * off_x) + mean(bend_y, down=down * off_y)
        beside_x = (x_px + 0.5) / mesh.bin - 0.5 - mean(np.ones_like(weight), across=across * place_x)
        beside_y = (y_px + 0.5) / mesh.bin - 0.5 - mean(np.ones_like(weight), down=down * place_y)
        value += mean(mesh.slope_x) * beside_x + mean(mesh.slope_y) * beside_y
    fraction = total / (2.0 * half_px / mesh.bin) ** 2
    enough = fraction > 0.25
    return np.where(enough, value, np.nan), np.where(enough, np.minimum(fraction, 1.0), 0.0)


def _pooled(down: Floats, values: Floats, across: Floats) -> Floats:
    """(n,) sums of cells over boxes, each cell by what of it lies in the box."""
    return np.asarray(((down @ values) * across).sum(axis=1))


def _cell_areas(shape: tuple[int, ...], cell: int, size: tuple[int, int]) -> Floats:
    """(ny, nx) number of view pixels of each cell."""
    rows, columns = (
        np.minimum(cell, length - np.arange(number) * cell) for number, length in zip(shape, size, strict=True)
    )
    return np.asarray(rows[:, None] * columns, dtype=np.float64)


def _overlap(position_px: Floats, half: float, mesh: Mesh, axis: int) -> tuple[Floats, Floats, Floats]:
    """(positions, n) length of each cell that the boxes cover, that part's place, and how far from the cell's it is.

    View pixels; a cell's place is its nominal centre.
    """
    n = mesh.level.shape[axis]
    low_edge = np.arange(n) * float(mesh.cell)
    high_edge = np.minimum(low_edge + mesh.cell, mesh.size[axis])
    centre = ((position_px + 0.5) / mesh.bin)[:, None]
    low = np.clip(centre - half, low_edge, high_edge)
    high = np.clip(centre + half, low_edge, high_edge)
    place = 0.5 * (low + high) - 0.5
    return high - low, place, place - (low_edge + (mesh.cell - 1) / 2)
