"""Averaging over 2 x 2 pixels: the same to the last bit while a picture is read and afterwards."""

from __future__ import annotations

import numpy as np

from nsgd.counts import Counts
from nsgd.records import Pixels

LARGE_PLANE = 8_000_000
"""Pixels from which on a plane is looked at through averages: stars are sought in those over 2 x 2 pixels, and the sky
is measured in those over 4 x 4."""


def halve(pixels: Pixels, out: Pixels) -> None:
    """Fill (h // 2, w // 2) `out` with the means over 2 x 2 of (h, w) pixels; an odd last row or column is left out."""
    height, width = 2 * out.shape[0], 2 * out.shape[1]
    # whole rows first, while they lie in the processor's cache
    pairs = pixels[0:height:2] + pixels[1:height:2]
    np.add(pairs[:, 0:width:2], pairs[:, 1:width:2], out=out)
    out *= np.float32(0.25)


def halve_counts(counts: Counts, out: Pixels) -> None:
    """`halve` of numbers as a file holds them."""
    height, width = 2 * out.shape[0], 2 * out.shape[1]
    # sums of whole numbers are exact, so that it does not matter when the zero point is added
    pairs = np.add(counts.raw[0:height:2], counts.raw[1:height:2], dtype=np.float32, casting="unsafe")
    np.add(pairs[:, 0:width:2], pairs[:, 1:width:2], out=out)
    out *= np.float32(0.25)
    out += np.float32(counts.zero)
