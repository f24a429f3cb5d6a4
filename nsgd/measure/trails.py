"""Trails of satellites and aeroplanes: straight rows of peaks, and how far places are from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats

MOST_PLACES = 90
"""Peaks that lines are laid through at a time; a trail has one every few pixels."""
LEAST_PEAKS, LEAST_LENGTH_PX = 10, 150.0
"""A row of fewer peaks, or a shorter one, is a filament or a spike."""
WIDTH_PX = 3.0
"""How far from a line its peaks lie."""
BEYOND_PX = 40.0
"""How much farther than its outermost peaks a trail is taken to go: it fades, and stars beside it have peaks of their
own."""
MOST_TRAILS = 4


def trails_through(x: Floats, y: Floats) -> Floats:
    """(k, 4) ends x0, y0, x1, y1 of the straight rows that places form, those of the first places first."""
    places = np.column_stack((x, y))
    found: list[Floats] = []
    while len(places) >= LEAST_PEAKS and len(found) < MOST_TRAILS:
        start, along = _fullest_line(places[:MOST_PLACES])
        row = _beside_line(places, start, along)
        for _ in range(2):  # two places alone aim badly
            start, along = _middle_line(places[row])
            row = _beside_line(places, start, along)
        offset = places - start
        reach = offset[row] @ along
        if row.sum() < LEAST_PEAKS or np.ptp(reach) < LEAST_LENGTH_PX:
            break
        ends = (reach.min() - BEYOND_PX, reach.max() + BEYOND_PX)
        found.append(np.concatenate([start + end * along for end in ends]))
        places = places[~row]
    return np.array(found).reshape(-1, 4)


def _fullest_line(places: Floats) -> tuple[Floats, Floats]:
    """A place and the direction of the line through two of the places that most others lie near."""
    first, second = np.triu_indices(len(places), 1)
    way = places[second] - places[first]
    length = np.hypot(way[:, 0], way[:, 1])
    along = way / np.maximum(length, 1e-9)[:, None]
    offset = places[None, :, :] - places[first][:, None, :]
    across = np.abs(along[:, None, 0] * offset[..., 1] - along[:, None, 1] * offset[..., 0])
    best = int(((across <= WIDTH_PX) & (length > 10.0 * WIDTH_PX)[:, None]).sum(axis=1).argmax())
    return places[first[best]], along[best]


def _beside_line(places: Floats, start: Floats, along: Floats) -> NDArray[np.bool_]:
    offset = places - start
    return np.asarray(np.abs(along[0] * offset[:, 1] - along[1] * offset[:, 0]) <= WIDTH_PX)


def _middle_line(places: Floats) -> tuple[Floats, Floats]:
    """Mean of places and the direction in which they lie farthest apart."""
    middle = places.mean(axis=0)
    return middle, np.linalg.svd(places - middle, full_matrices=False)[2][0]


def distance_px(trails: Floats, x: Floats, y: Floats) -> Floats:
    """(n,) from each place to the nearest of (k, 4) trails, the units of both; infinite without any."""
    nearest = np.full(x.size, np.inf)
    for x0, y0, x1, y1 in trails:
        way = np.array([x1 - x0, y1 - y0])
        part = np.clip(((x - x0) * way[0] + (y - y0) * way[1]) / (way @ way), 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(x - x0 - part * way[0], y - y0 - part * way[1]))
    return nearest
