"""The primary image of a FITS file, also where its header breaks the standard.

Own code because capture programs' headers do break it (unquoted dates, free-format cards), because a
file may be cut or replaced while it is read (so: `readinto`, never a memory map), and for speed: bytes
are swapped, shifted and turned into float32 while they lie in the processor's cache.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Counts, Light
from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.buffers import empty, room
from nsgd.frames.header import Card, Cards, Value, bayer_pattern, stated_binning
from nsgd.frames.planes import (
    SAMPLE_RUN_PIXELS,
    Decoded,
    Split,
    check_budget,
    empty_planes,
    put_colours,
    sample_places,
)
from nsgd.frames.source import Source
from nsgd.halving import LARGE_PLANE, halve, halve_counts
from nsgd.records import Pixels
from nsgd.threads import shared

BLOCK = 2880
CARD = 80
MAX_HEADER_BYTES = 1 << 20
MAX_HDUS = 64
CHUNK_BYTES, STRIP_BYTES = 1 << 19, 1 << 20
"""Bytes converted, and bytes of rows averaged, at a time: a second-level cache holds them, and with less of them the
threads wait for each other more often than they gain."""
STRETCH_STRIPS = 8
"""So many strips a thread reads before it takes the next ones."""
SPLIT_PIXELS, SPLIT_STEPS = 1 << 20, 2
"""Pixels whose colours are split at a time, and how often before a thread takes the next part."""
PAGE_BYTES = 4096
"""Unit in which file systems hand out space; a page of zeros is one that was not written yet."""

_RAW_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""FITS is big-endian."""
Fill = Callable[[memoryview], int | None]
"""Puts bytes into a buffer and says how many."""
_STRUCTURE = (b"BITPIX", b"NAXIS", b"PCOUNT", b"GCOUNT")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d*)?|\.\d{1,40})([EeDd][+-]?\d{1,4})?")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an image lies in the file and how its numbers are written."""

    bitpix: int
    shape: tuple[int, ...]
    """Array shape: (height, width) or (planes, height, width)."""
    bzero: float
    bscale: float
    blank: int | None
    offset: int
    """First byte of the pixels."""

    @property
    def pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.pixels * abs(self.bitpix) // 8

    @property
    def end(self) -> int:
        """Byte behind the last pixel; the padding behind it may be missing."""
        return self.offset + self.nbytes


# ---- header --------------------------------------------------------------------------------------


def parse_value(text: str) -> tuple[Value, str]:
    """Value and comment of a card's text behind the "="; anything unquoted that is no number is a string."""
    text = text.strip()
    if text.startswith("'"):
        closing = re.search(r"'(?!')", re.sub("''", "\0\0", text[1:]))
        if closing is None:
            return text[1:].replace("''", "'").rstrip(), ""
        inner, rest = text[1 : closing.start() + 1], text[closing.end() + 1 :]
        return inner.replace("''", "'").rstrip(), rest.partition("/")[2].strip()
    word, _, comment = text.partition("/")
    word = word.strip()
    if word in ("T", "F"):
        return word == "T", comment.strip()
    if not word:
        return None, comment.strip()
    if _NUMBER.fullmatch(word):
        number = float(word.replace("D", "E").replace("d", "e"))
        whole = word.lstrip("+-").isdigit() and abs(number) < 2**53
        return (int(word) if whole else number), comment.strip()
    return word, comment.strip()


def parse_cards(block: bytes) -> dict[str, Card]:
    """Cards of a header block; the first of equal keys counts, HISTORY and COMMENT lines are joined."""
    cards: dict[str, Card] = {}
    remarks: dict[str, list[str]] = {"HISTORY": [], "COMMENT": []}
    last = ""
    for start in range(0, len(block), CARD):
        line = block[start : start + CARD].decode("utf-8", "replace")
        key = line[:8].strip().upper()
        if key in remarks:
            remarks[key].append(line[8:].strip())
        elif key == "CONTINUE" and last:
            _continue_string(cards, last, line[8:])
        else:
            last = _add_card(cards, line)
    for key, lines in remarks.items():
        if lines:
            cards[key] = Card("\n".join(lines))
    return cards


def _parse_structure(block: bytes) -> dict[str, Card]:
    """Only the cards that tell a unit's length: a backlog of thousands of files is asked for it."""
    lines = (block[start : start + CARD] for start in range(0, len(block), CARD))
    return parse_cards(b"".join(line for line in lines if line.startswith(_STRUCTURE)))


def _add_card(cards: dict[str, Card], line: str) -> str:
    key, equals, rest = line.partition("=")
    if not line[:8].strip():
        return ""  # a remark
    key = key.strip().upper().removeprefix("HIERARCH ").strip()
    if not equals or not key or len(key) > 60 or "'" in key:
        return ""
    cards.setdefault(key, Card(*parse_value(rest)))
    return key


def _continue_string(cards: dict[str, Card], key: str, text: str) -> None:
    begun = cards[key].value
    more, comment = parse_value(text)
    if isinstance(begun, str) and begun.endswith("&") and isinstance(more, str) and len(begun) < 4096:
        cards[key] = Card(begun[:-1] + more, comment or cards[key].comment)


def read_cards(
    file: Source, offset: int = 0, parse: Callable[[bytes], dict[str, Card]] = parse_cards
) -> tuple[dict[str, Card], int]:
    """Cards of the header at `offset`, and the byte where its data begin.

    Raises
    ------
    UnreadableFrame
        The file does not begin as FITS, or ends before END (that may be retried).
    """
    file.seek(offset)
    block = b""
    while len(block) < MAX_HEADER_BYTES:
        part = file.read(BLOCK)
        if offset == 0 and not block and not b"SIMPLE".startswith(part[:6]):
            unwritten = not part.strip(b"\0")
            raise UnreadableFrame("This is no FITS file: it does not begin with SIMPLE.", may_retry=unwritten)
        begin = len(block)
        block += part
        for start in range(begin, len(block), CARD):
            if block[start : start + CARD].rstrip() == b"END":
                data = offset + -(-(start + CARD) // BLOCK) * BLOCK
                return parse(block[:start]), data
        if len(part) < BLOCK:
            raise UnreadableFrame("The file ends inside its header.", may_retry=True, bytes=offset + len(block))
    raise UnreadableFrame("The header has no END within 1 MiB.")


def _integer(cards: Cards, key: str, default: int | None = None) -> int:
    value = cards[key].value if key in cards else default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableFrame(f"The header's {key} is no whole number.")
    return value


def _factor(cards: Cards, key: str, default: float) -> float:
    value = cards[key].value if key in cards else default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnreadableFrame(f"The header's {key} is no finite number.")
    return float(value)


def axes(cards: Cards) -> tuple[int, ...]:
    """NAXIS1, NAXIS2, ... as written; () for an empty primary unit."""
    count = _integer(cards, "NAXIS", 0)
    if not 0 <= count <= 9:
        raise UnreadableFrame(f"The header claims {count} axes.")
    lengths = tuple(_integer(cards, f"NAXIS{number}") for number in range(1, count + 1))
    if any(length < 0 for length in lengths):
        raise UnreadableFrame("The header claims an axis of negative length.")
    return lengths


def decode(file: Source, budget_bytes: int) -> Decoded:
    """Cards and pixels of the primary image.

    Raises
    ------
    UnreadableFrame, NotASub
        As `read_cards`, `image_layout` and `read_pixels`; also where the pixels do not fit the budget, and where a
        part of them was reserved but never written.
    """
    cards, offset = read_cards(file)
    layout = image_layout(cards, offset)
    check_budget(cards, layout.shape, budget_bytes)
    split = split_while_read(file, layout, cards)
    if split is not None:
        return Decoded(cards, np.empty(0, np.float32), type_maximum(layout), split)
    averages = _room_for_averages(layout)
    # a worker's answer travels as floats
    kept = isinstance(file, FileIO) and _may_be_kept(layout) and not bayer_pattern(cards, layout.shape[0])
    pixels = (read_counts if kept else read_pixels)(file, layout, averages)
    unwritten = unwritten_share(pixels, layout)
    if unwritten and not _sum_is_right(file, cards, layout):
        raise UnreadableFrame(
            f"{max(1.0, 100.0 * unwritten):.0f} % of the picture was never written (all zero bytes); copy it again.",
            may_retry=True,
            share=unwritten,
        )
    return Decoded(cards, pixels, type_maximum(layout), averages=averages)


def _room_for_averages(layout: Layout) -> tuple[Pixels, ...]:
    """Of a picture in one plane those over 2 x 2 pixels, of a large one also those over 4 x 4."""
    if len(layout.shape) != 2:
        return ()
    bins = (2, 4) if layout.pixels >= LARGE_PLANE else (2,)
    return tuple(empty((layout.shape[0] // bin_px, layout.shape[1] // bin_px)) for bin_px in bins)


def _may_be_kept(layout: Layout) -> bool:
    """Whether a picture is in one plane, large enough to be worth it, and of 16-bit numbers that differ from ADU by a
    zero point at most."""
    plain = layout.bitpix == 16 and layout.bscale == 1.0 and layout.blank is None
    large = len(layout.shape) == 2 and layout.pixels >= LARGE_PLANE
    return plain and large and layout.bzero in (0.0, 32768.0)


def unwritten_share(pixels: Light, layout: Layout) -> float:
    """Share of the pixels that lie in whole pages of zero bytes, where zero bytes do not mean the value 0.

    Reserved space reads as zeros; under BZERO = 32768 these would pass for half of full scale.
    """
    if layout.bzero == 0.0 or layout.bitpix < 0:
        return 0.0
    run, flat = PAGE_BYTES * 8 // layout.bitpix, pixels.reshape(-1)
    nothing = np.float32(layout.bzero)
    begins = np.flatnonzero(flat[: flat.size - run + 1 : run] == nothing) * run
    empty = sum(bool((flat[begin : begin + run] == nothing).all()) for begin in begins)
    return empty * run / flat.size


def type_maximum(layout: Layout) -> float:
    """Largest number the file's integers can hold, 0 for floating point."""
    if layout.bitpix < 0:
        return 0.0
    top = 255 if layout.bitpix == 8 else 2 ** (layout.bitpix - 1) - 1
    return top * layout.bscale + layout.bzero


def _sum_is_right(file: Source, cards: Cards, layout: Layout) -> bool:
    """True where the header's DATASUM proves that the pixels are all there."""
    stated = str(cards["DATASUM"].value) if "DATASUM" in cards else ""
    return stated.isdigit() and int(stated[:20]) == checksum(file, layout.offset, layout.end)


def looks_unfinished(file: Source, size: int) -> bool:
    """True where a file of the right length holds pages that were reserved but not written."""
    if not unwritten_pages(file, 0, size, 1):
        return False
    cards, offset = read_cards(file)
    layout = image_layout(cards, offset)
    return unwritten_pages(file, layout.offset, layout.end, 1) > 0 and not _sum_is_right(file, cards, layout)


def image_layout(cards: Cards, offset: int) -> Layout:
    """How the image behind these cards is written.

    Raises
    ------
    UnreadableFrame
        The header contradicts itself.
    NotASub
        There is no two-dimensional picture in one or three planes.
    """
    bitpix = _integer(cards, "BITPIX")
    if bitpix not in _RAW_TYPES:
        raise UnreadableFrame(f"The header's BITPIX = {bitpix} does not exist.")
    lengths = list(axes(cards))
    while len(lengths) > 2 and lengths[-1] == 1:
        lengths.pop()
    if len(lengths) not in (2, 3) or (len(lengths) == 3 and lengths[2] != 3) or min(lengths) < 1:
        raise NotASub("The file holds no picture of one or three planes.", "other")
    bscale = _factor(cards, "BSCALE", 1.0)
    if bscale == 0.0:
        raise UnreadableFrame("The header's BSCALE is 0.")
    blank = _integer(cards, "BLANK") if "BLANK" in cards and bitpix > 0 else None
    return Layout(bitpix, tuple(reversed(lengths)), _factor(cards, "BZERO", 0.0), bscale, blank, offset)


def declared_bytes(file: Source, size: int) -> int:
    """Bytes that the file's headers declare up to the last pixel, over all of its units.

    Raises
    ------
    UnreadableFrame
        A header is cut off (may be retried) or makes no sense.
    """
    offset = end = 0
    for _ in range(MAX_HDUS):
        if offset > 0 and (offset >= size or not begins_extension(file, offset)):
            return end
        cards, data = read_cards(file, offset, _parse_structure)
        end = _unit_end(cards, data)
        offset = next_unit(cards, data)
    raise UnreadableFrame(f"The file has more than {MAX_HDUS} units.")


def _unit_end(cards: Cards, data: int) -> int:
    """Byte behind the data of a unit whose data begin at `data` (FITS standard 4.0, equation 2)."""
    items = math.prod(axes(cards)) if axes(cards) else 0
    per_item = abs(_integer(cards, "BITPIX")) // 8
    nbytes = per_item * _integer(cards, "GCOUNT", 1) * (items + _integer(cards, "PCOUNT", 0))
    if nbytes < 0:
        raise UnreadableFrame("The header declares a negative length.")
    return data + nbytes


def next_unit(cards: Cards, data: int) -> int:
    """Where the unit behind this one would begin."""
    return -(-_unit_end(cards, data) // BLOCK) * BLOCK


def begins_extension(file: Source, offset: int) -> bool:
    """True where an extension's header begins at `offset`."""
    file.seek(offset)
    return file.read(8) == b"XTENSION"


# ---- pixels --------------------------------------------------------------------------------------


def read_pixels(file: Source, layout: Layout, averages: tuple[Pixels, ...] = ()) -> Pixels:
    """Pixels in physical units (BSCALE, BZERO and BLANK applied), native float32.

    Parameters
    ----------
    averages
        (height // 2, width // 2) and, if wanted, (height // 4, width // 4) to be filled with the means over 2 x 2 and
        4 x 4 pixels of a picture in one plane.

    Returns
    -------
    ndarray
        Shape `layout.shape`.

    Raises
    ------
    UnreadableFrame
        The file ended early; may be retried.
    """
    width = layout.shape[-1]
    rows = empty((layout.pixels // width, width))

    def strip(part: slice, fill: Fill) -> None:
        _read_stretch(fill, layout, rows[part].reshape(-1))
        for bin_px, average in zip((1, 2), averages, strict=False):
            finer = rows if bin_px == 1 else averages[0]
            halve(_of_rows(finer, part, bin_px), _of_rows(average, part, 2 * bin_px))

    _read_rows(file, layout, strip)
    return rows.reshape(layout.shape)


def read_counts(file: Source, layout: Layout, averages: tuple[Pixels, ...]) -> Counts:
    """A picture in one plane of 16-bit numbers as they are, and `averages` as `read_pixels` fills them.

    Raises
    ------
    UnreadableFrame
        As `read_pixels`.
    """
    counts = Counts(room(layout.shape, np.dtype(_RAW_TYPES[16])), layout.bzero)

    def strip(part: slice, fill: Fill) -> None:
        rows = counts.raw[part]
        if not filled(fill, rows.reshape(-1).view(np.uint8).data):
            raise _ended_early(layout)
        halve_counts(Counts(rows, counts.zero), _of_rows(averages[0], part, 2))
        halve(_of_rows(averages[0], part, 2), _of_rows(averages[1], part, 4))

    _read_rows(file, layout, strip)
    return counts


def _read_rows(file: Source, layout: Layout, strip: Callable[[slice, Fill], None]) -> None:
    """Let `strip` read all rows of a picture, some times four of them at a time, by two threads where that may be."""
    width = layout.shape[-1]
    height = layout.pixels // width
    high = 4 * max(STRIP_BYTES // (4 * width * abs(layout.bitpix) // 8), 1)

    def stretch(first: int) -> None:
        fill = _from(number, layout, slice(first * width, None))
        for top in range(first, min(first + STRETCH_STRIPS * high, height), high):
            strip(slice(top, min(top + high, height)), fill)

    if isinstance(file, FileIO) and hasattr(os, "preadv"):
        number = file.fileno()
        shared(stretch, range(0, height, STRETCH_STRIPS * high))
    else:
        file.seek(layout.offset)
        for top in range(0, height, high):
            strip(slice(top, min(top + high, height)), file.readinto)


def _of_rows(average: Pixels, part: slice, bin_px: int) -> Pixels:
    """The averages of whole groups of some rows."""
    return average[part.start // bin_px : part.stop // bin_px]


def _ended_early(layout: Layout) -> UnreadableFrame:
    return UnreadableFrame("The file ended before its last pixel.", may_retry=True, bytes_needed=layout.end)


def split_while_read(file: Source, layout: Layout, cards: Cards) -> Split | None:
    """The colours of a Bayer picture, split while its rows lie in the processor's cache.

    None for every other picture, and where rows, columns or pages look as if they might be empty: those are read
    whole and looked at.

    Raises
    ------
    UnreadableFrame
        As `read_pixels`.
    """
    pattern = bayer_pattern(cards, layout.shape[0]) if len(layout.shape) == 2 else ""
    plain = layout.bitpix in (8, 16) and layout.blank is None and layout.shape[0] % 2 == 0
    if not isinstance(file, FileIO) or not hasattr(os, "preadv"):
        return None
    if not pattern or not plain or stated_binning(cards) > 1:
        return None
    (height, width), number = layout.shape, file.fileno()
    probes = [_pixels_from(number, layout, row * width, width) for row in (0, (height - 1) // 3, height - 1)]
    if not np.any(probes, axis=0).all():
        return None
    planes = empty_planes(layout.shape, pattern)
    step = max(SPLIT_PIXELS // (2 * width), 1)

    def part(first: int) -> bool:
        strip = np.empty((2 * step, width), np.float32)
        for row in range(first, min(first + SPLIT_STEPS * step, height // 2), step):
            rows = strip[: height - 2 * row]
            _pixels_from(number, layout, 2 * row * width, rows.size, rows.reshape(-1))
            if _may_be_empty(rows, 2 * row * width, layout):
                return False
            put_colours(rows, pattern, planes, row)
        return True

    if not all(shared(part, range(0, height // 2, SPLIT_STEPS * step))):
        return None
    places = sample_places(layout.pixels)
    return Split(
        layout.shape, planes, np.stack([_pixels_from(number, layout, place, SAMPLE_RUN_PIXELS) for place in places])
    )


def _pixels_from(number: int, layout: Layout, first: int, count: int, out: Pixels | None = None) -> Pixels:
    """Some pixels of a picture, from the `first` one on."""
    pixels = np.empty(count, np.float32) if out is None else out
    _read_stretch(_from(number, layout, slice(first, first + count)), layout, pixels)
    return pixels


def _may_be_empty(rows: Pixels, first: int, layout: Layout) -> bool:
    """Whether a row of zeros or a page of zero bytes may be among these rows, the first pixel of which is given."""
    last = rows.shape[1] - 1
    if not rows[:, [0, last // 3, last]].any(axis=1).all():
        return True
    if layout.bzero == 0.0:
        return False
    run, flat = PAGE_BYTES * 8 // layout.bitpix, rows.reshape(-1)
    begins = np.arange(-first % run, flat.size, run)
    nothing = [flat[np.minimum(begins + place, flat.size - 1)] == np.float32(layout.bzero) for place in (0, 1, 5)]
    return bool(np.all(nothing, axis=0).any())


def _from(file_number: int, layout: Layout, part: slice) -> Fill:
    """`readinto` from a place of its own, so that two threads can read one file."""
    place = layout.offset + int(part.start) * abs(layout.bitpix) // 8

    def fill(window: memoryview) -> int:
        nonlocal place
        count = os.preadv(file_number, [window], place)
        place += count
        return count

    return fill


def _read_stretch(fill: Fill, layout: Layout, out: Pixels) -> None:
    """Convert a stretch of pixels while it lies in the processor's cache."""
    raw: NDArray[Any] = np.empty(min(CHUNK_BYTES * 8 // abs(layout.bitpix), out.size), _RAW_TYPES[layout.bitpix])
    window = raw.view(np.uint8).data
    for done in range(0, out.size, raw.size):
        pixels = out[done : done + raw.size]
        if not filled(fill, window[: pixels.size * raw.itemsize]):
            raise _ended_early(layout)
        to_physical(raw[: pixels.size], layout, pixels)


def read_fully(file: Source, window: memoryview) -> bool:
    """Fill the window from the file; False where the file ends first."""
    return filled(file.readinto, window)


def filled(fill: Fill, window: memoryview) -> bool:
    """Fill the window, however little comes at a time; False where there is no more."""
    while window:
        count = fill(window)
        if not count:
            return False
        window = window[count:]
    return True


def to_physical(raw: NDArray[Any], layout: Layout, out: Pixels) -> None:
    """Raw numbers of any byte order -> physical float32 (BSCALE, BZERO, BLANK applied) in `out`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if raw.itemsize <= 2 or raw.dtype.kind == "f":
            numbers = raw
            if layout.bscale != 1.0:
                numbers = np.multiply(raw, np.float32(layout.bscale), out=out, dtype=np.float32, casting="unsafe")
            # converted and moved in one pass: threads wait for each other at every call
            np.add(numbers, np.float32(layout.bzero), out=out, dtype=np.float32, casting="unsafe")
        else:
            # 32-bit integers lose their last digits if they pass float32 before BZERO is added
            out[...] = raw.astype(np.float64) * layout.bscale + layout.bzero
    if layout.blank is not None:
        out[raw == layout.blank] = np.nan


def unwritten_pages(file: Source, first: int, end: int, enough: int | None = None) -> int:
    """Number of whole pages of zeros between two bytes: space that was reserved but not written yet.

    Looks at one word of each page, and at the whole page only where that is zero; stops after finding
    `enough`.
    """
    first = -(-first // PAGE_BYTES) * PAGE_BYTES
    pages = max(0, (end - first) // PAGE_BYTES)
    buffer = np.empty((256, PAGE_BYTES // 8), np.uint64)
    window = buffer.reshape(-1).view(np.uint8).data
    file.seek(first)
    empty = 0
    for begin in range(0, pages, len(buffer)):
        count = min(len(buffer), pages - begin)
        if not read_fully(file, window[: count * PAGE_BYTES]):
            break
        candidates = np.flatnonzero(buffer[:count, 0] == 0)
        empty += int(np.count_nonzero(~buffer[candidates].any(axis=1)))
        if enough is not None and empty >= enough:
            break
    return empty


def checksum(file: Source, first: int, end: int) -> int:
    """FITS checksum (one's complement sum of 32-bit words, FITS standard 4.0, appendix J) of a range of bytes."""
    file.seek(first)
    total, left = 0, end - first
    while left > 0:
        part = file.read(min(1 << 22, left))
        if not part:
            break
        left -= len(part)
        part += b"\0" * (-len(part) % 4)
        total += int(np.frombuffer(part, ">u4").sum(dtype=np.uint64))
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return (total & 0xFFFFFFFF) + (total >> 32)
