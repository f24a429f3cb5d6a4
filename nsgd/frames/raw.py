"""DSLR and mirrorless raw files through rawpy: the sensor's own pixels, not interpolated."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from nsgd.errors import UnreadableFrame
from nsgd.frames.exif import exposure_cards, read_entries
from nsgd.frames.header import BAYER_PATTERNS, Card
from nsgd.frames.planes import Decoded, check_budget
from nsgd.frames.source import Readable

BYTES_PER_PIXEL = 6
"""rawpy's own copy of the sensor and the buffer that it reads, per pixel."""


def raw_cards(source: Readable) -> dict[str, Card]:
    """Exposure, ISO, camera and time from EXIF."""
    return exposure_cards(read_entries(source))


def raw_decode(source: BinaryIO, budget_bytes: int) -> Decoded:
    """Cards and pixels of the visible sensor area, black level subtracted.

    Raises
    ------
    UnreadableFrame
        Broken, over the budget, or a sensor without a 2x2 colour cell (X-Trans, Foveon).
    """
    try:
        import rawpy
    except ImportError:
        raise UnreadableFrame("Raw files need an extra: pip install 'nsgd[raw]'.") from None
    cards = raw_cards(source)
    source.seek(0)
    try:
        with rawpy.imread(source) as raw:
            shape = (int(raw.sizes.height), int(raw.sizes.width))
            cards["BAYERPAT"] = Card(_pattern(raw))
            check_budget(cards, shape, budget_bytes, BYTES_PER_PIXEL * raw.sizes.raw_height * raw.sizes.raw_width)
            pixels = np.ascontiguousarray(raw.raw_image_visible, dtype=np.float32)
            black = float(np.mean(raw.black_level_per_channel))
            white = float(raw.white_level)
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise UnreadableFrame(f"This raw file cannot be read ({type(error).__name__}).", may_retry=True) from None
    pixels -= np.float32(black)
    return Decoded(cards, pixels, white - black)


def _pattern(raw: Any) -> str:
    """The 2x2 cell of the visible area's first pixel; "" for a monochrome sensor."""
    cell = raw.raw_pattern
    if cell is None or raw.num_colors == 1:
        return ""
    if cell.shape != (2, 2):
        raise UnreadableFrame("This raw file's sensor has no 2x2 colour cell; such files are not supported.")
    names, top, left = raw.color_desc.decode("ascii", "replace"), raw.sizes.top_margin, raw.sizes.left_margin
    pattern = "".join(names[raw.raw_color(y + top, x + left)] for y in (0, 1) for x in (0, 1))
    if pattern not in BAYER_PATTERNS:
        raise UnreadableFrame("This raw file's colour cell is not supported.")
    return pattern
