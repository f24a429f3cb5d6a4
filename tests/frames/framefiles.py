"""FITS files for the tests of this room, written byte by byte so that they can also be wrong."""

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
