"""TIFF as N.I.N.A. and SharpCap write it: one grey or colour page, FITS cards in the title or description."""

from __future__ import annotations

import math
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.exif import DESCRIPTION, XP_TITLE, exposure_cards, read_entries
from nsgd.frames.fits import parse_cards
from nsgd.frames.header import Card
from nsgd.frames.planes import Decoded, check_budget
from nsgd.frames.source import Readable

_CARD_LINE = re.compile(r"[A-Z0-9_-]{1,8} *= *\S")


def tiff_cards(source: Readable) -> dict[str, Card]:
    """FITS cards written into title or description, completed by EXIF."""
    _check_magic(source)
    entries = read_entries(source)
    title = entries.get(XP_TITLE, b"")
    texts = (
        str(entries.get(DESCRIPTION, "")),
        title.decode("utf-16-le", "replace") if isinstance(title, bytes) else str(title),
    )
    lines = [line for text in texts for line in re.split(r"[\r\n\0]+", text) if _CARD_LINE.match(line)]
    return {**exposure_cards(entries), **parse_cards(b"".join(line.encode()[:80].ljust(80) for line in lines))}


def _check_magic(source: Readable) -> None:
    source.seek(0)
    start = source.read(4)
    if start[:2] not in (b"II", b"MM"):
        raise UnreadableFrame("This is no TIFF file.", may_retry=not start.strip(b"\0"))


def tiff_decode(source: BinaryIO, budget_bytes: int) -> Decoded:
    """Cards and pixels of the first page.

    Raises
    ------
    UnreadableFrame, NotASub
        Broken, over the budget, no picture. tifffile may raise anything else on a hostile file: call it
        where that is survived.
    """
    try:
        import tifffile
    except ImportError:
        raise UnreadableFrame("TIFF files need an extra: pip install 'nsgd[tiff]'.") from None
    cards = tiff_cards(source)
    source.seek(0)
    try:
        with tifffile.TiffFile(source) as tiff:
            page = tiff.pages[0]
            shape, dtype = tuple(page.shape), np.dtype(page.dtype)
            check_budget(cards, _plane_shape(shape), budget_bytes, 2 * math.prod(shape) * dtype.itemsize)
            raw = _through_pillow(source) if page.compression == tifffile.COMPRESSION.LZW else page.asarray()
    except (tifffile.TiffFileError, IndexError):
        raise UnreadableFrame("This TIFF file is cut off or damaged.", may_retry=True) from None
    if raw.shape != shape or raw.dtype.kind not in "uif":
        raise UnreadableFrame("This kind of TIFF is not supported.")
    pixels = np.moveaxis(raw, -1, 0) if raw.ndim == 3 and raw.shape[-1] == 3 else raw
    ceiling = float(np.iinfo(raw.dtype).max) if raw.dtype.kind in "ui" else 0.0
    return Decoded(cards, np.ascontiguousarray(pixels, dtype=np.float32), ceiling)


def _plane_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return shape
    if len(shape) == 3 and shape[2] == 3:
        return (3, *shape[:2])
    if len(shape) == 3 and shape[0] == 3:
        return shape
    raise NotASub("The TIFF file holds no picture of one or three planes.", "other")


def _through_pillow(source: BinaryIO) -> NDArray[Any]:
    """LZW, which tifffile alone cannot expand; Pillow keeps 16 bits of grey pictures."""
    from PIL import Image, UnidentifiedImageError

    source.seek(0)
    try:
        with Image.open(source) as picture:
            return np.asarray(picture)
    except UnidentifiedImageError:
        raise UnreadableFrame("This kind of TIFF is not supported.") from None
