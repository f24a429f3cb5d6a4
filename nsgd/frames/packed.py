"""Compressed FITS: `.fits.gz` as a stream, `.fits.fz` (tile compression) through astropy."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from io import FileIO

import numpy as np

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames import fits
from nsgd.frames.header import Card
from nsgd.frames.planes import Decoded, check_budget

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31
"""zlib's word for: a gzip header, and the largest window."""
PIECE_BYTES = 1 << 18
HCOMPRESS_MAGIC = b"\xdd\x99"
MAX_START_BYTES = 1 << 20
"""So many bytes may pass before the first expanded one."""


# ---- gzip ----------------------------------------------------------------------------------------


class GzipSource:
    """The expanded content of a gzip file as a stream; never expands more than is asked for.

    Going backwards begins anew. A file that ends early raises UnreadableFrame (`may_retry`).
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._rewind()
        start = file.read(2)
        if start != GZIP_MAGIC:
            unwritten = GZIP_MAGIC.startswith(start) or not start.strip(b"\0")
            raise UnreadableFrame("This is no gzip file.", may_retry=unwritten)
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._expander = zlib.decompressobj(GZIP_WINDOW)
        self._packed = b""
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; `size` must be given."""
        pieces, wanted = [], size
        while wanted > 0:
            piece = self._expand(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill as much of the buffer as there is."""
        data = self.read(min(len(buffer), PIECE_BYTES))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a byte of the expanded content."""
        if whence != 0:
            raise ValueError(whence)
        if offset < self.position:
            self._rewind()
        while self.position < offset and self._expand(min(offset - self.position, PIECE_BYTES)):
            continue
        return self.position

    def _expand(self, most: int) -> bytes:
        """Some of the next bytes; b"" at the end."""
        while True:
            if self._expander.eof:
                self._packed = self._expander.unused_data or self._file.read(PIECE_BYTES)
                if not self._packed.startswith(GZIP_MAGIC):
                    return b""
                self._expander = zlib.decompressobj(GZIP_WINDOW)
            self._packed = self._packed or self._file.read(PIECE_BYTES)
            if not self._packed:
                raise UnreadableFrame("The compressed file ends early.", may_retry=True)
            if self.position == 0 and self._file.tell() > MAX_START_BYTES:
                raise UnreadableFrame("The compressed file's own header does not end.")
            try:
                piece = self._expander.decompress(self._packed, most)
            except zlib.error:
                raise UnreadableFrame("The compressed data are damaged.") from None
            self._packed = self._expander.unconsumed_tail
            if piece:
                self.position += len(piece)
                return piece


def gz_cards(file: FileIO) -> dict[str, Card]:
    """Header of a gzipped FITS file; only its first blocks are expanded."""
    return fits.read_cards(GzipSource(file))[0]


def gz_decode(file: FileIO, budget_bytes: int) -> Decoded:
    """Cards and pixels; expands at most two blocks behind the last declared pixel.

    Raises
    ------
    UnreadableFrame, NotASub
        As `fits.decode`; also where the checksum is wrong, or something else than another unit follows.
    """
    source = GzipSource(file)
    decoded = fits.decode(source, budget_bytes)
    source.read(-source.position % fits.BLOCK)  # the padding; where the stream ends here, zlib checks its sum
    if source.read(fits.BLOCK)[:8] not in (b"", b"XTENSION"):
        raise UnreadableFrame("The compressed data are damaged: they are longer than the header says.", may_retry=True)
    return decoded


def gz_is_whole(file: FileIO, size: int) -> bool:
    """Whether the trailer states the length that the FITS header declares (with or without padding).

    RFC 1952: the last four bytes are the expanded length modulo 2^32.
    """
    cards, offset = fits.read_cards(GzipSource(file))
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
    if fits.declared_bytes(file, stored_bytes) > stored_bytes:
        raise UnreadableFrame("The compressed file ends early.", may_retry=True)
    layout = _layout(cards)
    check_budget(cards, layout.shape, budget_bytes, 2 * layout.nbytes + stored_bytes)
    sides = _tile_sides(cards, layout, budget_bytes)
    if cards["ZCMPTYPE"].value == "HCOMPRESS_1":
        _check_hcompressed(file, unit, _tile_sizes(layout, sides))
    file.seek(0)
    with astropy_fits.open(file, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True) as units:
        raw = np.asarray(units[unit].data)
    if raw.shape != layout.shape:
        raise UnreadableFrame("The compressed picture has not the size that its header states.")
    pixels = np.empty(layout.shape, np.float32)
    for row in range(layout.shape[0]):
        fits.to_physical(raw[row], layout, pixels[row])
    return Decoded(cards, pixels, fits.type_maximum(layout))


def _tile_sides(cards: dict[str, Card], layout: fits.Layout, budget_bytes: int) -> list[int]:
    """Sides of a tile along each axis, the fastest first; no tile may need more memory than the whole picture may."""
    sides = [cards[f"ZTILE{n}"].value if f"ZTILE{n}" in cards else None for n in range(1, len(layout.shape) + 1)]
    usual = [layout.shape[-1]] + [1] * (len(sides) - 1)
    found = [usual[k] if side is None else side for k, side in enumerate(sides)]
    whole = [side for side in found if isinstance(side, int) and not isinstance(side, bool) and side >= 1]
    if len(whole) < len(found):
        raise UnreadableFrame("The compressed picture's tiles make no sense.")
    if math.prod(whole) * abs(layout.bitpix) // 8 > budget_bytes:
        raise UnreadableFrame("The compressed picture's tiles need more memory than allowed (watch.budget_mb).")
    return whole


def _tile_sizes(layout: fits.Layout, sides: list[int]) -> Iterator[int]:
    """Pixels of each tile, in the order of the table's rows; those at the far edges are smaller."""
    lengths = zip(layout.shape, reversed(sides), strict=True)
    along = [[min(side, length - begin) for begin in range(0, length, side)] for length, side in lengths]
    return (math.prod(parts) for parts in itertools.product(*along))


def _check_hcompressed(file: FileIO, unit: int, sizes: Iterator[int]) -> None:
    """Each tile's stream must begin as one and be of the tile's size: its decoder believes what it is given.

    R. White's format (1992): two bytes of magic, and both sides as big-endian numbers of four bytes.
    """
    from astropy.io import fits as astropy_fits

    file.seek(0)
    # not closed here, or the file would be
    units = astropy_fits.open(file, memmap=False, disable_image_compression=True, lazy_load_hdus=True)
    streams = units[unit].data["COMPRESSED_DATA"]
    starts = [np.asarray(stream[:10]).astype(np.uint8).tobytes() for stream in streams]
    for start, size in itertools.zip_longest(starts, sizes, fillvalue=None):
        if start is None or size is None:
            raise UnreadableFrame("The compressed picture has not as many tiles as its size needs.")
        stated = int.from_bytes(start[2:6], "big") * int.from_bytes(start[6:10], "big")
        if start and (start[:2] != HCOMPRESS_MAGIC or stated != size):
            raise UnreadableFrame("The compressed data are damaged: a tile is of another size than the header says.")
