"""Finding stars and their shape: local maxima on the view, windowed centroids on the full pixels.

Hot pixels and cosmic rays are told from stars by their sharpness: a star of any seeing spreads over
its neighbours, a hot pixel does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nsgd.counts import Counts, Light, physical
from nsgd.measure.sky import Mesh, View, bilinear, fill_gaps, row_bands
from nsgd.records import Floats, Pixels
from nsgd.threads import shared

Integers = NDArray[np.intp]

FWHM_PER_SIGMA = 2.3548200450309493
SMOOTHED_NOISE = 0.375
"""Noise of pixels smoothed by [1 2 1] along both axes, over that of single ones."""
LEAST_WINDOW_PX = 1.0
"""Sigma of the narrowest window for centroids: a narrower one feels where in its pixel a star lies."""
TRAIL_REACH_PX = 14.0
"""Stars, also trailed and defocused ones, are dark this far from their peak."""
LEAST_SPREAD = 0.22
"""Light beside the two highest pixels of the 3x3 over the highest: a star of FWHM 0.8 px has 0.27."""
LEAST_OF_TYPICAL = 0.4
"""The same over that of the sub's own stars; a hot pixel has 0."""


@dataclass(frozen=True, slots=True, eq=False)
class StarList:
    """Detected stars, brightest first; positions in plane pixels."""

    x: Floats
    y: Floats
    flux: Floats
    """Flux in a window of about two FWHM, ADU."""
    peak: Floats
    """Highest pixel above the sky, ADU."""
    fwhm_px: Floats
    ellipticity: Floats
    angle_deg: Floats
    on_trails: Floats = field(default_factory=lambda: np.empty((2, 0)))
    """(2, k) x and y of peaks whose light goes on to both sides: they are none of the stars."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: Integers | NDArray[np.bool_]) -> StarList:
        """The chosen stars, in the order given."""
        return StarList(
            self.x[chosen], self.y[chosen], self.flux[chosen], self.peak[chosen],
            self.fwhm_px[chosen], self.ellipticity[chosen], self.angle_deg[chosen], self.on_trails,
        )  # fmt: skip


def find_peaks(view: View, mesh: Mesh, sigma: float, most: int) -> tuple[Integers, Integers, Floats]:
    """Local maxima above the sky of the view.

    Returns
    -------
    row, column, height
        View pixels and height above the sky in units of its noise, highest first, at most `most`.
    """
    height, width = view.pixels.shape
    level, noise = (fill_gaps(grid).astype(np.float32) for grid in (mesh.level, mesh.sigma))
    noise *= np.float32(1.0 if view.bin > 1 else SMOOTHED_NOISE)
    bars = level + np.float32(sigma) * noise
    left, right, share = _between(level.shape[1], width, mesh.cell)

    def peaks_of(rows: slice) -> tuple[Integers, Integers, Floats]:
        cell_rows = np.minimum(np.arange(rows.start, rows.stop, mesh.cell) // mesh.cell, len(bars) - 1)
        strip, times = _strip(view, rows)
        bar = times * _mixed(bars[cell_rows][:, left], bars[cell_rows][:, right], share)
        above = np.flatnonzero(strip[1:-1].reshape(len(bar), -1, width) > bar[:, None])
        row, column, value = _maxima(strip, above)
        at_left, at_right = ((cell_rows[row // mesh.cell], side[column]) for side in (left, right))
        sky, deviation = (_mixed(grid[at_left], grid[at_right], share[column]) for grid in (level, noise))
        excess = (value / times - sky) / deviation
        return row + rows.start, column, excess.astype(np.float64)

    found = shared(peaks_of, row_bands(height, width, mesh.cell))
    row, column, excess = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(-excess, kind="stable")
    order = order[_fair_share(row[order] // mesh.cell, column[order] // mesh.cell, most)][:most]
    return row[order], column[order], excess[order]


def _between(number: int, width: int, cell: int) -> tuple[Integers, Integers, Pixels]:
    """Of each of `width` columns the cells to its left and right, of `number`, and the right one's share."""
    place = (np.arange(width) + 0.5) / cell - 0.5
    left = np.clip(np.floor(place).astype(int), 0, max(number - 2, 0))
    share = np.clip(place - left, 0.0, min(number - 1.0, 1.0))
    return left, np.minimum(left + 1, number - 1), share.astype(np.float32)


def _mixed(left: Pixels, right: Pixels, share: Pixels) -> Pixels:
    """What lies between two values, at the right one's share."""
    return np.asarray(left + share * (right - left))


def _fair_share(cell_row: Integers, cell_column: Integers, most: int) -> NDArray[np.bool_]:
    """Which of the peaks (highest first) to keep, so that no cell takes far more than its share.

    A satellite's trail or a star's diffraction spike is a row of peaks; without a cap they would be the
    whole list. A cell may hold eight times the average share, four at least.
    """
    if cell_row.size == 0:
        return np.zeros(0, dtype=bool)
    cell = cell_row * (int(cell_column.max()) + 1) + cell_column
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], cell[order], side="left")
    place = np.empty(cell.size, dtype=np.intp)
    place[order] = np.arange(cell.size) - first
    cells = (int(cell_row.max()) + 1) * (int(cell_column.max()) + 1)
    return np.asarray(place < max(4, 8 * most // cells))


def _strip(view: View, rows: slice) -> tuple[Pixels, np.float32]:
    """Rows of the view with one more above and below, smoothed where the view is not binned, and their multiple.

    The [1 2 1] kernel lifts stars over the noise of single pixels; a binned view has had that already. Smoothed pixels
    are sums of sixteen.
    """
    last = view.pixels.shape[0] - 1
    margin = 1 if view.bin > 1 else 2
    first, end = rows.start - margin, rows.stop + margin
    inside = first >= 0 and end <= last + 1
    raw = view.pixels[first:end] if inside else view.pixels[np.clip(np.arange(first, end), 0, last)]
    if view.bin > 1:
        return raw, np.float32(1.0)
    pairs = raw[:-1] + raw[1:]
    down = pairs[:-1] + pairs[1:]
    out = np.empty_like(down)
    np.add(down[:, :-1], down[:, 1:], out=pairs[1:, 1:])
    np.add(pairs[1:, 1:-1], pairs[1:, 2:], out=out[:, 1:-1])
    out[:, 0], out[:, -1] = 4.0 * down[:, 0], 4.0 * down[:, -1]
    return out, np.float32(16.0)


def _maxima(strip: Pixels, above: Integers) -> tuple[Integers, Integers, Pixels]:
    """Row, column and value of those of the bright pixels that no neighbour tops; a plateau counts once, at its last.

    `strip` has one row more above and below than the flat indices `above` and the rows count.
    """
    width, flat = strip.shape[1], strip.reshape(-1)
    place = above + width
    place = place[(place % width > 0) & (place % width < width - 1)]
    value = flat[place]
    for step in (1, -1, width, -width, width + 1, width - 1, -width + 1, -width - 1):
        neighbour = flat[place + step]
        highest = value > neighbour if step > 0 else value >= neighbour
        place, value = place[highest], value[highest]
    return place // width - 1, place % width, value


def cutouts(pixels: Light, x: Floats, y: Floats, half: int) -> tuple[Pixels, Integers, Integers]:
    """(n, 2 half + 1, 2 half + 1) pixels about rounded positions (kept inside the frame), and their corners."""
    side = 2 * half + 1
    left = np.clip(np.rint(x).astype(int) - half, 0, max(pixels.shape[1] - side, 0))
    top = np.clip(np.rint(y).astype(int) - half, 0, max(pixels.shape[0] - side, 0))
    width = pixels.shape[1]
    rows = (top * width + left)[:, None] + np.arange(side) * width
    if isinstance(pixels, Counts):
        return physical(sliding_window_view(pixels.raw.reshape(-1), side)[rows], pixels.zero), left, top
    return sliding_window_view(pixels.reshape(-1), side)[rows], left, top


def highest(pixels: Light, x: Floats, y: Floats) -> Pixels:
    """(n,) highest of the 3 x 3 pixels about rounded positions, kept inside the frame."""
    left = np.clip(np.rint(x).astype(int) - 1, 0, max(pixels.shape[1] - 3, 0))
    top = np.clip(np.rint(y).astype(int) - 1, 0, max(pixels.shape[0] - 3, 0))
    corner, width, flat = top * pixels.shape[1] + left, pixels.shape[1], pixels.reshape(-1)
    best = flat[corner]
    for offset in (1, 2, width, width + 1, width + 2, 2 * width, 2 * width + 1, 2 * width + 2):
        np.maximum(best, flat[corner + offset], out=best)
    return best


def _windowed(
    stamp: Floats, x: Floats, y: Floats, sigma_px: Floats
) -> tuple[Floats, Floats, Floats, tuple[Floats, Floats, Floats]]:
    """Gaussian-weighted flux, centroid shift and second moments of background-free stamps."""
    # the window is a product of one along x and one along y: all moments are two matrix products
    powers = [_window_powers(stamp.shape[1], centre, sigma_px) for centre in (x, y)]
    sums = np.swapaxes(powers[1], 1, 2) @ stamp @ powers[0]
    total = sums[:, 0, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = sums[:, 0, 1] / total, sums[:, 1, 0] / total
        xx = sums[:, 0, 2] / total - mean_x**2
        yy = sums[:, 2, 0] / total - mean_y**2
        xy = sums[:, 1, 1] / total - mean_x * mean_y
    return total, mean_x, mean_y, (xx, yy, xy)


def _window_powers(side: int, centre: Floats, sigma_px: Floats) -> Floats:
    """(n, side, 3) a Gaussian window along one axis, times 1, d and d^2, d being the distance from the centre."""
    d = np.arange(side) - centre[:, None]
    window = np.exp(-0.5 * (d / sigma_px[:, None]) ** 2)
    return np.stack((window, window * d, window * d**2), axis=2)


def centroids(
    pixels: Light, mesh: Mesh, x: Floats, y: Floats, sigma_px: float, rounds: int = 4
) -> tuple[Floats, Floats, Floats, tuple[Floats, Floats, Floats]]:
    """Windowed centroids (Bertin's XWIN iteration) from starting positions.

    Returns
    -------
    x, y, total, moments
        Centroids in plane pixels (NaN where the window holds no light or the centroid runs away),
        weighted flux, and weighted second moments (xx, yy, xy).
    """
    half = int(np.ceil(3.5 * sigma_px)) + 1
    raw, left, top = cutouts(pixels, x, y, half)
    stamp = (raw - mesh.at(x, y).astype(np.float32)[:, None, None]).astype(np.float64)
    cx, cy = x - left, y - top
    width = np.full(x.size, sigma_px)
    for _ in range(rounds):
        total, shift_x, shift_y, moments = _windowed(stamp, cx, cy, width)
        cx, cy = cx + 2.0 * np.nan_to_num(shift_x), cy + 2.0 * np.nan_to_num(shift_y)
        cx, cy = np.clip(cx, -half, 3 * half), np.clip(cy, -half, 3 * half)
    astray = ~(total > 0) | (np.hypot(cx + left - x, cy + top - y) > max(2.0, 2.0 * sigma_px))
    return np.where(astray, np.nan, cx + left), np.where(astray, np.nan, cy + top), total, moments


def is_hot(pixels: Light, mesh: Mesh, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """True where the light stands in one pixel (or two side by side) instead of spreading as the stars' does.

    Of the 3x3 about the highest pixel all but the two highest are summed: to several times the peak for a
    star, to nothing for a hot pixel or cosmic ray. What the sub's own stars show sets the bar, so that it is
    low for undersampled stars and high for all others; a faint speck must clear it by its noise.
    """
    around, left, top = cutouts(pixels, x, y, 2)
    flat = around.reshape(len(around), -1)
    best = flat.argmax(axis=1)
    stamp, _, _ = cutouts(pixels, (left + best % 5).astype(np.float64), (top + best // 5).astype(np.float64), 1)
    stamp = stamp - mesh.at(x, y).astype(np.float32)[:, None, None]
    ordered = np.sort(stamp.reshape(len(stamp), 9), axis=1)
    noise = bilinear(fill_gaps(mesh.sigma), x, y, mesh.cell * mesh.bin) * mesh.bin
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = ordered[:, :-2].sum(axis=1) / ordered[:, -1]
        sharp = ~(spread > LEAST_SPREAD)
        plain = np.flatnonzero(~sharp & (ordered[:, -1] > 15.0 * noise))
    if plain.size >= 8:
        typical = float(np.median(spread[plain[np.argsort(-ordered[plain, -1], kind="stable")[:60]]]))
        sharp |= ~(spread > LEAST_OF_TYPICAL * typical)
    return np.asarray(sharp)


def on_trail(pixels: Light, mesh: Mesh, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """True where the light goes on to both sides: a satellite's trail, not a star.

    Of 24 directions, one and its opposite must still hold 0.4 of the peak at `TRAIL_REACH_PX`.
    """
    sky = mesh.at(x, y)
    noise = bilinear(fill_gaps(mesh.sigma), x, y, mesh.cell * mesh.bin) * mesh.bin
    bar = sky + np.maximum(0.4 * (highest(pixels, x, y) - sky), 5.0 * noise)
    trail = np.zeros(x.size, dtype=bool)
    # hardly a star has light on one side: few are looked at on the other
    bright = _beside(pixels, x, y, -TRAIL_REACH_PX) > bar[:, None]
    some = np.flatnonzero(bright.any(axis=1))
    other = _beside(pixels, x[some], y[some], TRAIL_REACH_PX) > bar[some, None]
    trail[some] = (bright[some] & other).any(axis=1)
    return trail


def _beside(pixels: Light, x: Floats, y: Floats, reach_px: float) -> Pixels:
    """(n, 12) highest of 3 x 3 pixels so far from a star in directions over half a turn."""
    angle = np.arange(12) * np.pi / 12
    column = np.rint(x[:, None] + reach_px * np.cos(angle)).astype(int)
    row = np.rint(y[:, None] + reach_px * np.sin(angle)).astype(int)
    return highest(pixels, column.ravel(), row.ravel()).reshape(row.shape)


def few_saturated(saturated: NDArray[np.bool_], most: int) -> Integers:
    """Numbers of the first `most` stars, a third of them saturated at most: those tell place, not shape or flux.

    A long exposure of the Milky Way has more saturated stars than a list holds.
    """
    kept = ~saturated | (np.cumsum(saturated) <= most // 3)
    return np.flatnonzero(kept)


def detect(
    plane: Light, view: View, mesh: Mesh, sigma: float, most: int, saturation_above_sky: float = np.inf
) -> StarList:
    """Stars of a plane, brightest first, at most `most`; hot pixels and cosmic rays left out.

    Parameters
    ----------
    plane
        (h, w) full pixels; `view` and `mesh` belong to it.
    sigma
        Height of a local maximum on the view, in units of its noise.
    saturation_above_sky
        Stars with a higher peak make up a third of the list at most.
    """
    row, column, _ = find_peaks(view, mesh, sigma, 8 * most)
    x = np.asarray((column + 0.5) * view.bin - 0.5, dtype=np.float64)
    y = np.asarray((row + 0.5) * view.bin - 0.5, dtype=np.float64)
    if x.size == 0:
        return _no_stars()
    keep = ~is_hot(plane, mesh, x, y)
    x, y = x[keep], y[keep]
    saturated = highest(plane, x, y) - mesh.at(x, y) > 0.8 * saturation_above_sky
    few = few_saturated(saturated, 2 * most)
    (x, y), on_trails = _off_trails(plane, mesh, (x[few], y[few]), 2 * most)
    if x.size == 0:
        return _no_stars()
    peak = highest(plane, x, y) - mesh.at(x, y)
    fine = np.flatnonzero(peak <= 0.8 * saturation_above_sky)
    typical = (fine if fine.size >= 10 else np.arange(x.size))[:60]
    sigma_px = _typical_sigma(plane, mesh, x[typical], y[typical])
    cx, cy, total, moments = centroids(plane, mesh, x, y, sigma_px)
    fwhm, ellipticity, angle = _shape(moments, sigma_px)
    stars = StarList(cx, cy, 2.0 * total, peak.astype(np.float64), fwhm, ellipticity, angle, on_trails)
    stars = stars.take(np.isfinite(cx) & (fwhm > 0.7))
    stars = stars.take(~_streaks(stars.ellipticity))
    stars = stars.take(np.argsort(-stars.flux, kind="stable"))
    stars = stars.take(_unique(stars, 1.5 * sigma_px * FWHM_PER_SIGMA / 2))
    return stars.take(few_saturated(stars.peak > 0.8 * saturation_above_sky, most)[:most])


def _off_trails(plane: Light, mesh: Mesh, places: tuple[Floats, Floats], most: int) -> tuple[Floats, Floats]:
    """(2, n) the first `most` of the places that lie on no trail, and (2, k) those before them that do."""
    kept, dropped = np.empty((2, 0)), np.empty((2, 0))
    for begin in range(0, places[0].size, most):
        some = np.stack([axis[begin : begin + most] for axis in places])
        trail = on_trail(plane, mesh, some[0], some[1])
        kept, dropped = np.append(kept, some[:, ~trail], axis=1), np.append(dropped, some[:, trail], axis=1)
        if kept.shape[1] >= most:
            break
    return kept[:, :most], dropped


def _streaks(ellipticity: Floats) -> NDArray[np.bool_]:
    """Pieces of satellite trails: far more elongated than the bulk of the stars, which is round."""
    known = ellipticity[np.isfinite(ellipticity)]
    if known.size < 10 or float(np.quantile(known, 0.3)) > 0.4:
        return np.zeros(ellipticity.size, dtype=bool)
    return np.asarray(np.nan_to_num(ellipticity) > 0.75)


def _no_stars() -> StarList:
    return StarList(*(np.empty(0) for _ in range(7)))


def _typical_sigma(plane: Light, mesh: Mesh, x: Floats, y: Floats) -> float:
    """Gaussian width of the brighter stars, found by matching the window to the moments."""
    sigma = 1.5
    for _ in range(6):
        _, _, _, (xx, yy, _) = centroids(plane, mesh, x, y, sigma, rounds=2)
        measured = 0.5 * (xx + yy)
        ok = np.isfinite(measured) & (measured > 0.05) & (measured < 0.98 * sigma**2)
        if ok.sum() < 3:
            sigma = min(sigma * 1.6, 12.0)
            continue
        middle = float(np.median(measured[ok]))
        new = float(np.clip(np.sqrt(1.0 / (1.0 / middle - 1.0 / sigma**2)), LEAST_WINDOW_PX, 12.0))
        if abs(new - sigma) < 0.03 * sigma:
            return new
        sigma = new if new < 2.0 * sigma else 2.0 * sigma
    return sigma


def _shape(moments: tuple[Floats, Floats, Floats], sigma_px: float) -> tuple[Floats, Floats, Floats]:
    """FWHM, ellipticity and angle of the stars behind Gaussian-weighted moments.

    For a Gaussian star the weighted covariance W obeys W^-1 = S^-1 + I / sigma^2, S being the star's own.
    """
    xx, yy, xy = moments
    determinant = xx * yy - xy**2
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b, c = yy / determinant - sigma_px**-2, xx / determinant - sigma_px**-2, -xy / determinant
        inverse = a * b - c**2
        sxx, syy, sxy = b / inverse, a / inverse, -c / inverse
        half_sum, half_difference = 0.5 * (sxx + syy), np.hypot(0.5 * (sxx - syy), sxy)
        major, minor = half_sum + half_difference, half_sum - half_difference
        ok = (determinant > 0) & (a > 0) & (b > 0) & (inverse > 0) & (minor > 0)
        fwhm = np.where(ok, FWHM_PER_SIGMA * np.sqrt(np.sqrt(np.abs(major * minor))), 4.0 * sigma_px * FWHM_PER_SIGMA)
        ellipticity = np.where(ok, 1.0 - np.sqrt(np.abs(minor / major)), np.nan)
    return fwhm, ellipticity, np.degrees(0.5 * np.arctan2(2 * sxy, sxx - syy))


def _unique(stars: StarList, radius_px: float) -> Integers:
    """Indices that keep only the brightest star within `radius_px` (brightest first)."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.column_stack((stars.x, stars.y))).query_pairs(radius_px, output_type="ndarray")
    dropped = np.zeros(len(stars), dtype=bool)
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if not dropped[first]:
            dropped[second] = True
    return np.flatnonzero(~dropped)
