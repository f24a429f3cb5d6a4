"""Compressed FITS: `.fits.gz` as a stream, `.fits.fz` (tile compression) through astropy."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

import numpy as np

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames import fits
from nsgd.frames.header import Card
from nsgd.frames.planes import Decoded, check_budget
from nsgd.frames.source import Source

GZIP_MAGIC = b"\x1f\x8b"


# ---- gzip ----------------------------------------------------------------------------------------


@contextmanager
def _unzipped(file: FileIO) -> Iterator[Source]:
    file.seek(0)
    start = file.read(2)
    if start != GZIP_MAGIC:
        unwritten = GZIP_MAGIC.startswith(start) or not start.strip(b"\0")
        raise UnreadableFrame("This is no gzip file.", may_retry=unwritten)
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield stream
    except EOFError:
        raise UnreadableFrame("The compressed file ends early.", may_retry=True) from None
    except (zlib.error, gzip.BadGzipFile):
        raise UnreadableFrame("The compressed data are damaged.") from None


def gz_cards(file: FileIO) -> dict[str, Card]:
    """Header of a gzipped FITS file; only its first blocks are expanded."""
    with _unzipped(file) as stream:
        return fits.read_cards(stream)[0]


def gz_decode(file: FileIO, budget_bytes: int) -> Decoded:
    """Cards and pixels; expands no byte behind the last declared pixel. Raises as `fits.decode`."""
    with _unzipped(file) as stream:
        return fits.decode(stream, budget_bytes, look_for_gaps=False)


def gz_is_whole(file: FileIO, size: int) -> bool:
    """Whether the trailer states the length that the FITS header declares (with or without padding).

    RFC 1952: the last four bytes are the expanded length modulo 2^32.
    """
    with _unzipped(file) as stream:
        cards, offset = fits.read_cards(stream)
    end = fits.image_layout(cards, offset).end
    file.seek(size - 4)
    stated = int.from_bytes(file.read(4), "little")
    padded = -(-end // fits.BLOCK) * fits.BLOCK
    return stated in (end % 2**32, padded % 2**32)


# ---- tile compression ----------------------------------------------------------------------------


def fz_cards(file: FileIO) -> dict[str, Card]:
    """Cards of the compressed picture, the primary unit's where it has none of its own.

    Raises
    ------
    NotASub
        No unit holds a compressed picture.
    """
    return _find_picture(file)[1]


def _find_picture(file: FileIO) -> tuple[int, dict[str, Card]]:
    """Number of the unit with the first tile-compressed picture, and its cards."""
    offset, first = 0, dict[str, Card]()
    for unit in range(fits.MAX_HDUS):
        if unit > 0 and not fits.begins_extension(file, offset):
            break
        cards, data = fits.read_cards(file, offset)
        if "ZIMAGE" in cards and cards["ZIMAGE"].value is True:
            return unit, {**first, **cards}
        first = first or cards
        offset = fits.next_unit(cards, data)
    raise NotASub("The file holds no compressed picture.", "other")


def _layout(cards: dict[str, Card]) -> fits.Layout:
    """Layout of the expanded picture, from the Z keywords (FITS standard 4.0, section 10)."""
    plain = {key: card for key, card in cards.items() if not key.startswith(("NAXIS", "BITPIX"))}
    for key in ("BITPIX", "NAXIS", *(f"NAXIS{n}" for n in range(1, 10))):
        if f"Z{key}" in cards:
            plain[key] = cards[f"Z{key}"]
    return fits.image_layout(plain, 0)


def fz_decode(file: FileIO, budget_bytes: int, stored_bytes: int) -> Decoded:
    """Cards and pixels of a tile-compressed picture.

    Parameters
    ----------
    stored_bytes
        Length of the file, all of which astropy reads.

    Raises
    ------
    UnreadableFrame, NotASub
        Broken, over the budget, or no picture. astropy may raise anything else on a hostile file: call it
        where that is survived.
    """
    from astropy.io import fits as astropy_fits

    unit, cards = _find_picture(file)
    layout = _layout(cards)
    check_budget(cards, layout.shape, budget_bytes, 2 * layout.nbytes + stored_bytes)
    _check_tiles(cards, layout, budget_bytes)
    file.seek(0)
    with astropy_fits.open(file, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True) as units:
        raw = np.asarray(units[unit].data)
    if raw.shape != layout.shape:
        raise UnreadableFrame("The compressed picture has not the size that its header states.")
    pixels = np.empty(layout.shape, np.float32)
    for row in range(layout.shape[0]):
        fits.to_physical(raw[row], layout, pixels[row])
    return Decoded(cards, pixels, fits.type_maximum(layout))


def _check_tiles(cards: dict[str, Card], layout: fits.Layout, budget_bytes: int) -> None:
    """No single tile may need more memory than the whole picture may."""
    sides = [cards[f"ZTILE{n}"].value for n in (1, 2, 3) if f"ZTILE{n}" in cards]
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise UnreadableFrame("The compressed picture's tiles make no sense.")
    whole = math.prod(int(side) for side in sides if isinstance(side, int))
    if sides and whole * abs(layout.bitpix) // 8 > budget_bytes:
        raise UnreadableFrame("The compressed picture's tiles need more memory than allowed (watch.budget_mb).")
