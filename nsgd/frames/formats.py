"""One table of file formats: who reads cards, who reads pixels, who knows whether a file is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import PurePath
from typing import BinaryIO, cast

from nsgd.errors import UnreadableFrame
from nsgd.frames import fits, packed, raw, tiff, xisf
from nsgd.frames.header import Card
from nsgd.frames.names import COMPRESSED_SUFFIXES, FITS_SUFFIXES, RAW_SUFFIXES, TIFF_SUFFIXES, XISF_SUFFIXES, suffix_of
from nsgd.frames.planes import Decoded


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is read."""

    cards: Callable[[FileIO], dict[str, Card]]
    decode: Callable[[FileIO, int], Decoded]
    """(file, budget in bytes) -> cards and pixels."""
    whole: Callable[[FileIO, int], bool] | None = None
    """(file, its size) -> whether everything that it declares is there; None where the format cannot tell."""
    unfinished: Callable[[FileIO, int], bool] | None = None
    """(file, its size) -> whether stretches of a file of the right length were not written yet; None = not asked."""
    apart: bool = True
    """Decoded in the limited worker process."""
    modules: tuple[str, ...] = ()
    """Foreign modules that decoding imports; the worker loads them before its memory is limited."""


def _size(file: FileIO) -> int:
    return os.fstat(file.fileno()).st_size


def _has_empty_pages(file: FileIO, size: int) -> bool:
    return fits.unwritten_pages(file, 0, size, 1) > 0


FITS = Format(
    cards=lambda file: fits.read_cards(file)[0],
    decode=fits.decode,
    whole=lambda file, size: size >= fits.declared_bytes(file, size),
    unfinished=fits.looks_unfinished,
    apart=False,
)
GZIPPED = Format(packed.gz_cards, packed.gz_decode, packed.gz_is_whole, _has_empty_pages)
TILED = Format(
    cards=packed.fz_cards,
    decode=lambda file, budget_bytes: packed.fz_decode(file, budget_bytes, _size(file)),
    whole=lambda file, size: size >= fits.declared_bytes(file, size),
    unfinished=_has_empty_pages,
    modules=("astropy.io.fits",),
)
XISF = Format(
    cards=xisf.read_cards,
    decode=xisf.decode,
    whole=lambda file, size: size >= xisf.declared_bytes(file),
    unfinished=xisf.looks_unfinished,
)
TIFF = Format(
    cards=tiff.tiff_cards,
    decode=lambda file, budget_bytes: tiff.tiff_decode(cast(BinaryIO, file), budget_bytes),
    unfinished=_has_empty_pages,
    modules=("tifffile", "PIL.Image"),
)
RAW = Format(
    cards=raw.raw_cards,
    decode=lambda file, budget_bytes: raw.raw_decode(cast(BinaryIO, file), budget_bytes),
    modules=("rawpy",),
)

FORMATS: dict[str, Format] = {
    **dict.fromkeys(FITS_SUFFIXES, FITS),
    **{suffix: TILED if suffix.endswith(".fz") else GZIPPED for suffix in COMPRESSED_SUFFIXES},
    **dict.fromkeys(XISF_SUFFIXES, XISF),
    **dict.fromkeys(TIFF_SUFFIXES, TIFF),
    **dict.fromkeys(RAW_SUFFIXES, RAW),
}


def format_of(path: PurePath) -> Format:
    """The format that a file's name promises.

    Raises
    ------
    UnreadableFrame
        No format has this suffix.
    """
    found = FORMATS.get(suffix_of(path))
    if found is None:
        raise UnreadableFrame("This is no picture file that nsgd reads (FITS, XISF, TIFF or camera raw).")
    return found
