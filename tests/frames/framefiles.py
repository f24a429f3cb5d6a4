"""Files for the tests of this room, written byte by byte so that they can also be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 2880


def card(key: str, value: object, comment: str = "") -> str:
    """One well-formed card."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value.replace(chr(39), chr(39) * 2):<8}'"
    else:
        text = f"{value!r:>20}"
    return f"{key:<8}= {text}{f' / {comment}' if comment else ''}"[:80]


def header_bytes(lines: Sequence[str], *, end: bool = True) -> bytes:
    """Cards, END and padding."""
    text = b"".join(line.encode("utf-8")[:80].ljust(80) for line in (*lines, *(["END"] if end else [])))
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def data_bytes(pixels: NDArray[np.generic], *, padded: bool = True) -> bytes:
    """Big-endian pixels; unsigned 16-bit ones are shifted as FITS wants it."""
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.int32) - 32768).astype(np.int16)
    raw = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return raw.ljust(-(-len(raw) // BLOCK) * BLOCK, b"\0") if padded else raw


def mandatory(pixels: NDArray[np.generic]) -> list[str]:
    """SIMPLE to NAXISn, and BZERO for unsigned numbers."""
    bitpix = pixels.dtype.itemsize * (-8 if pixels.dtype.kind == "f" else 8)
    lines = [card("SIMPLE", True), card("BITPIX", bitpix), card("NAXIS", pixels.ndim)]
    lines += [card(f"NAXIS{n + 1}", side) for n, side in enumerate(reversed(pixels.shape))]
    if pixels.dtype == np.uint16:
        lines += [card("BZERO", 32768), card("BSCALE", 1)]
    return lines


def write_fits(
    path: Path, pixels: NDArray[np.generic], cards: Sequence[tuple[str, object]] = (), lines: Sequence[str] = ()
) -> Path:
    """A whole FITS file; `lines` are raw card texts."""
    more = [card(key, value) for key, value in cards]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header_bytes([*mandatory(pixels), *more, *lines]) + data_bytes(pixels))
    return path


def noise(rng: np.random.Generator, height: int = 60, width: int = 80) -> NDArray[np.uint16]:
    """A picture with noise, no zeros."""
    return rng.integers(400, 1600, (height, width)).astype(np.uint16)


def xisf_bytes(xml: str, blocks: bytes = b"", *, stated_length: int | None = None) -> bytes:
    """A monolithic XISF file; `{at}` in the XML becomes the place of the first attached byte."""
    room = (len(xml.encode()) + 64) // 1024 * 1024 + 1024
    text = xml.replace("{at}", str(16 + room)).encode()
    length = room if stated_length is None else stated_length
    return b"XISF0100" + struct.pack("<II", length, 0) + text.ljust(room, b"\0") + blocks


def xisf_picture(attributes: str, inside: str = "") -> str:
    """The XML of a file with one picture."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">'
        f"<Image {attributes}>{inside}</Image></xisf>"
    )


def dng(pixels: NDArray[np.uint16], *, cell: bytes = b"\0\1\1\2") -> bytes:
    """A minimal DNG: one uncompressed sensor picture with EXIF."""
    height, width = pixels.shape
    exif = [
        (33434, 5, 1, struct.pack("<II", 30, 1)),
        (34855, 3, 1, struct.pack("<HH", 800, 0)),
        (36867, 2, 20, b"2026:11:22 23:10:05\0"),
        (36881, 2, 7, b"+01:00\0"),
    ]
    entries = [
        (254, 4, 1, struct.pack("<I", 0)), (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, 1, struct.pack("<HH", 16, 0)), (259, 3, 1, struct.pack("<HH", 1, 0)),
        (262, 3, 1, struct.pack("<HH", 32803, 0)), (271, 2, 6, b"Maker\0"), (272, 2, 9, b"Model 5D\0"),
        (273, 4, 1, b"PIXL"), (277, 3, 1, struct.pack("<HH", 1, 0)), (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", pixels.nbytes)), (33421, 3, 2, struct.pack("<HH", 2, 2)), (33422, 1, 4, cell),
        (34665, 4, 1, b"EXIF"), (50706, 1, 4, bytes([1, 4, 0, 0])), (50708, 2, 9, b"Model 5D\0"),
        (50714, 3, 1, struct.pack("<HH", 100, 0)), (50717, 3, 1, struct.pack("<HH", 16000, 0)),
        (50721, 10, 9, struct.pack("<18i", *[n for d in (1, 0, 0, 0, 1, 0, 0, 0, 1) for n in (d, 1)])),
        (50728, 5, 3, struct.pack("<6I", 1, 1, 1, 1, 1, 1)), (50778, 3, 1, struct.pack("<HH", 21, 0)),
    ]  # fmt: skip
    head_bytes = 8 + 2 + 12 * len(entries) + 4
    exif_at = head_bytes
    spare_at = exif_at + 2 + 12 * len(exif) + 4
    spare = b""
    pixels_at = spare_at + 400

    def directory(items: list[tuple[int, int, int, bytes]]) -> bytes:
        nonlocal spare
        out = struct.pack("<H", len(items))
        for tag, kind, count, value in items:
            value = {b"PIXL": struct.pack("<I", pixels_at), b"EXIF": struct.pack("<I", exif_at)}.get(value, value)
            if len(value) > 4:
                place = struct.pack("<I", spare_at + len(spare))
                spare += value + b"\0" * (len(value) % 2)
                value = place
            out += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        return out + bytes(4)

    head = b"II*\0" + struct.pack("<I", 8) + directory(entries) + directory(exif)
    return head + spare.ljust(400, b"\0") + pixels.astype("<u2").tobytes()
