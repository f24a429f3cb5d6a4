"""Which files of a capture folder may be subs, judged by name alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from pathlib import PurePath

FITS_SUFFIXES = frozenset({".fit", ".fits", ".fts"})
COMPRESSED_SUFFIXES = frozenset({f"{fits}{packed}" for fits in FITS_SUFFIXES for packed in (".fz", ".gz")})
XISF_SUFFIXES = frozenset({".xisf"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
RAW_SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".pef"})
CAPTURE_SUFFIXES = FITS_SUFFIXES | COMPRESSED_SUFFIXES | XISF_SUFFIXES | TIFF_SUFFIXES | RAW_SUFFIXES

IGNORED = (
    ".*",  # hidden; also rsync's .name.XXXXXX, Syncthing's .syncthing.*, macOS's ._name, .Trash-1000
    "~*",
    "*.tmp",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "@eadir",  # Synology
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "*$$dslr_sensortemp$$*",  # N.I.N.A.: moved to its final name in a moment
)
"""File and folder names (lower case, * and ?) of sync tools, thumbnails, rubbish bins and unfinished copies."""


def suffix_of(path: PurePath) -> str:
    """Lower-case suffix; two-part for compressed FITS (`.fits.fz`)."""
    return suffix_of_name(path.name)


def suffix_of_name(name: str) -> str:
    """`suffix_of` for a bare file name: a scan asks it of thousands."""
    name = name.lower()
    if name.endswith((".fz", ".gz")):
        for packed in COMPRESSED_SUFFIXES:
            if name.endswith(packed):
                return packed
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" if dot and stem and suffix else ""


def is_ignored(name: str, extra: Sequence[str] = ()) -> bool:
    """True for a file or folder name that is on the built-in list or on the user's."""
    return _ignoring(tuple(extra)).match(name.lower()) is not None


@lru_cache(maxsize=8)
def _ignoring(extra: tuple[str, ...]) -> re.Pattern[str]:
    """All patterns as one: a scan asks it about every name."""
    return re.compile("|".join(translate(pattern.lower()) for pattern in (*IGNORED, *extra)))


def looks_like_image(path: PurePath) -> bool:
    """True where the name is that of a picture which may be a sub."""
    return suffix_of(path) in CAPTURE_SUFFIXES and not is_ignored(path.name)
