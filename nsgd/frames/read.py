"""One file -> one frame: the door of this room.

`read_frame` chooses the format by suffix, checks the file's kind before its pixels are touched, and makes
sure that the file did not change while it was read. Plain FITS is read here; everything else in a worker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import tzinfo
from io import FileIO
from pathlib import Path

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.formats import Format, format_of
from nsgd.frames.header import Cards, facts, shown_name, with_sky_position
from nsgd.frames.names import CAPTURE_SUFFIXES, looks_like_image
from nsgd.frames.planes import Decoded, frame_of
from nsgd.frames.worker import decoder
from nsgd.records import Frame, FrameKind, HeaderFacts

__all__ = [
    "CAPTURE_SUFFIXES",
    "is_whole",
    "looks_like_image",
    "looks_unfinished",
    "read_frame",
    "read_header",
    "read_master",
]

NO_ALIASES: Mapping[str, str] = {}


def read_frame(
    path: Path,
    *,
    budget_mb: int = 1024,
    aliases: Mapping[str, str] = NO_ALIASES,
    site: tuple[float, float] | None = None,
    zone: tzinfo | None = None,
) -> Frame:
    """Read one sub.

    Parameters
    ----------
    path
        The file.
    budget_mb
        Most memory that reading it may take, megabytes.
    aliases
        The user's filter names.
    site
        Latitude and longitude in degrees (east positive) for headers that name no site.
    zone
        Zone of times that name none (in file names, EXIF); the system's where None.

    Raises
    ------
    UnreadableFrame
        Broken, incomplete, too large, or it changed while it was read (`may_retry`).
    NotASub
        A whole file that is no light frame.
    """
    found = format_of(path)
    with _opened(path) as file:
        header = _checked_facts(path, _cards(found, path, file), aliases, site, zone)
        decoded = _decoded(found, path, file, budget_mb)
    return frame_of(path, header, decoded)


def read_master(path: Path, *, budget_mb: int = 4096) -> Frame:
    """Read a master dark, flat or bias, whatever kind its header names; raises UnreadableFrame as `read_frame`."""
    found = format_of(path)
    with _opened(path) as file:
        decoded = _decoded(found, path, file, budget_mb)
    return frame_of(path, facts(decoded.cards, path), decoded)


def read_header(
    path: Path,
    *,
    aliases: Mapping[str, str] = NO_ALIASES,
    site: tuple[float, float] | None = None,
    zone: tzinfo | None = None,
) -> HeaderFacts:
    """What the header and the name say, without pixels; raises as `read_frame`."""
    found = format_of(path)
    with _opened(path) as file:
        return _checked_facts(path, _cards(found, path, file), aliases, site, zone)


def is_whole(path: Path, size: int) -> bool | None:
    """Whether `size` bytes hold everything that the file itself declares; None where the format cannot tell.

    A file that is broken beyond doubt counts as "cannot tell": reading it says what is wrong.
    """
    try:
        whole = format_of(path).whole
        if whole is None:
            return None
        with _opened(path) as file:
            return whole(file, size)
    except UnreadableFrame as problem:
        return False if problem.may_retry else None
    except NotASub:
        return None


def looks_unfinished(path: Path) -> bool:
    """True where a file of the right length holds stretches that were reserved but not written yet."""
    try:
        unfinished = format_of(path).unfinished
        if unfinished is None:
            return False
        with _opened(path) as file:
            return unfinished(file, os.fstat(file.fileno()).st_size)
    except (UnreadableFrame, NotASub):
        return False


def _cards(found: Format, path: Path, file: FileIO) -> Cards:
    return decoder.cards(path) if found.apart else found.cards(file)


def _decoded(found: Format, path: Path, file: FileIO, budget_mb: int) -> Decoded:
    budget_bytes = budget_mb * 1_000_000
    return decoder.decode(path, budget_bytes) if found.apart else found.decode(file, budget_bytes)


def _checked_facts(
    path: Path, cards: Cards, aliases: Mapping[str, str], site: tuple[float, float] | None, zone: tzinfo | None
) -> HeaderFacts:
    header = with_sky_position(facts(cards, path, aliases=aliases, zone=zone), site)
    if header.kind is not FrameKind.LIGHT:
        raise NotASub(f"{shown_name(path)} is no sub but a {header.kind} frame.", header.kind.value)
    return header


@contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    """The file, read-only; it must be a regular file and be the same before and after.

    Never blocks on a FIFO, never maps the file into memory (a file that shrinks would kill the process).
    """
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableFrame(f"{shown_name(path)} is no regular file.")
            yield file
            after, named = os.fstat(file.fileno()), path.stat()
    except FileNotFoundError:
        raise UnreadableFrame(f"{shown_name(path)} is gone.") from None
    except IsADirectoryError:
        raise UnreadableFrame(f"{shown_name(path)} is a folder.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableFrame(f"{shown_name(path)} cannot be read: {reason}.", may_retry=True) from error
    except MemoryError:
        raise UnreadableFrame(f"{shown_name(path)} does not fit into the memory that is left.") from None
    if _identity(before) != _identity(after) or _identity(after) != _identity(named):
        raise UnreadableFrame(f"{shown_name(path)} changed while it was read.", may_retry=True)


_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino
