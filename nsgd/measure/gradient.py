"""Relative gradient: a smooth surface through sky differences at the series' nodes (numpy alone).

Thin-plate spline with the smoothing of NSG's knob, 10**s on coordinates that are centred and divided
by the largest radius (PixInsight's SurfaceSpline convention): Wahba 1990, "Spline Models for
Observational Data", chapter 2. The factorisation depends on the nodes only, so subs that share their
nodes share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats

MIN_NODES = 6
GRID = (25, 33)
"""Rows and columns on which a surface's figures are taken."""
DOWN, ACROSS = (np.linspace(-0.5, 0.5, n) for n in GRID)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A fitted surface; evaluate it with `at` or `grid`, pixels in, ADU out."""

    x: Floats
    """Node coordinates, normalised."""
    y: Floats
    bend: Floats
    """(n,) weights of the radial kernel."""
    plane: Floats
    """(3,) constant and slopes, per normalised unit."""
    centre_x_px: float
    centre_y_px: float
    radius_px: float

    def at(self, x_px: Floats, y_px: Floats) -> Floats:
        """Values at positions of any one shape, pixels."""
        u = (np.asarray(x_px, dtype=np.float64) - self.centre_x_px) / self.radius_px
        v = (np.asarray(y_px, dtype=np.float64) - self.centre_y_px) / self.radius_px
        out = self.plane[0] + self.plane[1] * u + self.plane[2] * v
        if self.bend.size:
            flat_u, flat_v = u.ravel(), v.ravel()
            squared = (flat_u[:, None] - self.x) ** 2 + (flat_v[:, None] - self.y) ** 2
            out = out + (_kernel(squared) @ self.bend).reshape(out.shape)
        return np.asarray(out)

    def grid(self, width_px: int, height_px: int, columns: int, rows: int) -> Floats:
        """(rows, columns) values on a regular grid from the first to the last pixel centre.

        Row by row: the distances of all points from all nodes would take 25 MB at a time.
        """
        x = np.linspace(0, width_px - 1, columns)
        return np.stack([self.at(x, np.full(columns, y)) for y in np.linspace(0, height_px - 1, rows)])


def _kernel(squared: Floats) -> Floats:
    """Thin-plate kernel r^2 ln r from squared distances; 0 at 0."""
    out = np.zeros_like(squared)
    np.log(squared, out=out, where=squared > 0)
    out *= 0.5 * squared
    return out


@lru_cache(maxsize=8)
def _inverse(nodes: bytes, smoothing: float) -> Floats:
    """(n + 3, n + 3) inverse of the spline's system for nodes of equal weight."""
    x, y = np.frombuffer(nodes, dtype=np.float64).reshape(2, -1)
    return np.asarray(np.linalg.inv(_system(x, y, np.full(x.size, smoothing))))


def _system(x: Floats, y: Floats, diagonal: Floats) -> Floats:
    n = x.size
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2)
    system[np.arange(n), np.arange(n)] += diagonal
    system[:n, n:] = np.column_stack((np.ones(n), x, y))
    system[n:, :n] = system[:n, n:].T
    return system


def fit_surface(
    x_px: Floats, y_px: Floats, z: Floats, weights: Floats, smoothness: float, size_px: tuple[int, int]
) -> Surface | None:
    """Fit a smoothing thin-plate spline to values at nodes.

    Parameters
    ----------
    x_px, y_px, z, weights
        (n,) node positions in pixels, values in ADU, relative weights (1 = a fully measured node).
        Nodes with a value that is not finite or a weight that is not positive are left out.
    smoothness
        NSG's knob s: the regularisation is 10**s / weight; from 4 on the surface is the plane of least squares.
    size_px
        (width, height) of the frame: it centres and scales the coordinates, so that the same s means
        the same stiffness whichever nodes are missing.

    Returns
    -------
    Surface or None
        None where fewer than six nodes are left, or where they lie on a line.
    """
    centre_x, centre_y = (size_px[0] - 1) / 2, (size_px[1] - 1) / 2
    radius = float(np.hypot(centre_x, centre_y))
    u, v = (x_px - centre_x) / radius, (y_px - centre_y) / radius
    use = np.isfinite(z) & (weights > 0)
    if int(use.sum()) < MIN_NODES or _on_a_line(np.stack((u[use], v[use])).tobytes()):
        return None
    values, weight = np.asarray(z, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if smoothness >= 4.0:
        plane = _plane(u[use], v[use], values[use], weight[use])
        return Surface(u[use], v[use], np.empty(0), plane, centre_x, centre_y, radius)
    smoothing = 10.0**smoothness
    if np.ptp(weight[use]) == 0.0:
        coefficients = _left_out(u, v, values, use, smoothing / float(weight[use][0]))
    else:
        u, v = u[use], v[use]
        right = np.concatenate((values[use], np.zeros(3)))
        coefficients = np.asarray(np.linalg.solve(_system(u, v, smoothing / weight[use]), right), dtype=np.float64)
    return Surface(u, v, coefficients[:-3], coefficients[-3:], centre_x, centre_y, radius)


def _left_out(u: Floats, v: Floats, z: Floats, use: NDArray[np.bool_], smoothing: float) -> Floats:
    """Coefficients with some nodes left out, from the factorisation that all subs share.

    A node of infinite smoothing is a node that is not there: Woodbury's formula in that limit.
    """
    inverse = _inverse(np.stack((u, v)).tobytes(), smoothing)
    coefficients = inverse[:, :-3] @ np.where(use, z, 0.0)
    out = np.flatnonzero(~use)
    if out.size:
        coefficients -= inverse[:, out] @ np.linalg.solve(inverse[np.ix_(out, out)], coefficients[out])
        coefficients[out] = 0.0
    return np.asarray(coefficients, dtype=np.float64)


@lru_cache(maxsize=8)
def _on_a_line(nodes: bytes) -> bool:
    """Subs of a series mostly share their nodes."""
    u, v = np.frombuffer(nodes, dtype=np.float64).reshape(2, -1)
    return bool(np.linalg.matrix_rank(np.column_stack((np.ones_like(u), u, v)), tol=1e-6) < 3)


def _plane(u: Floats, v: Floats, z: Floats, weight: Floats) -> Floats:
    root = np.sqrt(weight)
    design = np.column_stack((np.ones_like(u), u, v)) * root[:, None]
    return np.asarray(np.linalg.lstsq(design, z * root, rcond=None)[0])


@dataclass(frozen=True, slots=True)
class GradientFigures:
    """What one surface amounts to, ADU."""

    x_adu: float
    """Change across the full width (slope of the best plane)."""
    y_adu: float
    rms_adu: float
    """Scatter of the surface about its own mean."""
    diagonal_adu: tuple[float, float]
    """Bottom-right minus top-left, top-right minus bottom-left, a tenth of the height from the corners """


def figures(surface: Surface | None, width_px: int, height_px: int) -> GradientFigures:
    """Amplitude, direction and rms of a surface over the frame; NaN without a surface."""
    nan = float("nan")
    if surface is None:
        return GradientFigures(nan, nan, nan, (nan, nan))
    nodes = np.stack((surface.x, surface.y)).tobytes() if surface.bend.size else b""
    place = (surface.centre_x_px, surface.centre_y_px, surface.radius_px)
    figures = _looks(nodes, place, (width_px, height_px)) @ np.concatenate((surface.bend, surface.plane))
    x_adu, y_adu, falling, rising = (float(value) for value in figures[:4])
    return GradientFigures(x_adu, y_adu, float(np.sqrt(figures[4:] @ figures[4:])), (falling, rising))


@lru_cache(maxsize=8)
def _looks(nodes: bytes, place: tuple[float, float, float], size_px: tuple[int, int]) -> Floats:
    """(k, n + 3) matrix from spline coefficients to figures.

    Change across the width and the height, both differences of NSG's corner boxes, and numbers whose squares add up
    to the variance over a grid: with n of them as many as the grid has points.
    """
    x, y = np.meshgrid(np.linspace(0, size_px[0] - 1, GRID[1]), np.linspace(0, size_px[1] - 1, GRID[0]))
    inset = 0.15 * size_px[1]
    right, bottom = size_px[0] - 1 - inset, size_px[1] - 1 - inset
    all_x = np.append(x.ravel(), [inset, right, inset, right])
    all_y = np.append(y.ravel(), [inset, inset, bottom, bottom])
    u, v = (all_x - place[0]) / place[2], (all_y - place[1]) / place[2]
    node_u, node_v = np.frombuffer(nodes, dtype=np.float64).reshape(2, -1)
    kernel = _kernel((u[:, None] - node_u) ** 2 + (v[:, None] - node_v) ** 2)
    values = np.column_stack((kernel, np.ones_like(u), u, v))
    grid, corner = values[:-4] - values[:-4].mean(axis=0), values[-4:]
    z = grid.reshape(*GRID, -1)
    x_adu = np.einsum("ijk,j->k", z, ACROSS) / (GRID[0] * (ACROSS @ ACROSS))
    y_adu = np.einsum("ijk,i->k", z, DOWN) / (GRID[1] * (DOWN @ DOWN))
    spread = np.linalg.qr(grid, mode="r") / np.sqrt(len(grid))
    return np.concatenate((np.stack((x_adu, y_adu, corner[3] - corner[0], corner[1] - corner[2])), spread))


def node_difference(sub: Floats, reference: Floats, scale: float) -> Floats:
    """(n,) background of the normalised sub minus the reference's, ADU; NaN where either is missing."""
    return np.asarray(scale * sub.astype(np.float64) - reference.astype(np.float64))
