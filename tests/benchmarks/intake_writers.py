"""Ways in which files come into a capture folder, imitated byte by byte.

Each writer gets the folder, the file's number and a pace (1 = as fast as a camera that saves in a few
seconds) and returns when the last byte is written: the path and that moment.
"""

from __future__ import annotations

import gzip
import mmap
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 2880
WIDTH, HEIGHT = 320, 240


class Written(NamedTuple):
    path: Path
    done_s: float
    """time.monotonic() after the last byte."""
    changed_s: float = 0.0
    """The same after a later rewrite or rename; 0 where there is none."""


def pixels_of(number: int) -> NDArray[np.uint16]:
    """The picture that file `number` must hold; its first pixel carries the number."""
    pixels = np.random.default_rng(number).integers(300, 60000, (HEIGHT, WIDTH)).astype(np.uint16)
    pixels[0, 0] = number
    return pixels


def header(number: int, more: tuple[str, ...] = ()) -> bytes:
    lines = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
             f"NAXIS1  = {WIDTH:20d}", f"NAXIS2  = {HEIGHT:20d}", "BZERO   =                32768",
             "BSCALE  =                    1", "EXPTIME =                 60.0", "FILTER  = 'Ha'",
             f"FRAMENR = {number:20d}", *more, "END"]  # fmt: skip
    text = b"".join(line.encode().ljust(80) for line in lines)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def body(number: int) -> bytes:
    raw = (pixels_of(number).astype(np.int32) - 32768).astype(">i2").tobytes()
    return raw.ljust(-(-len(raw) // BLOCK) * BLOCK, b"\0")


def whole(number: int) -> bytes:
    return header(number) + body(number)


def _pieces(data: bytes, count: int) -> list[bytes]:
    step = -(-len(data) // count)
    return [data[begin : begin + step] for begin in range(0, len(data), step)]


def _stream(path: Path, data: bytes, pieces: int, pause_s: float) -> Written:
    with path.open("wb") as file:
        for piece in _pieces(data, pieces):
            file.write(piece)
            file.flush()
            time.sleep(pause_s)
    return Written(path, time.monotonic())


def indi(folder: Path, number: int, pace: float) -> Written:
    """fopen, fwrite, fclose under the final name."""
    return _stream(folder / f"indi_{number}.fits", whole(number), 1, 0.0)


def nina(folder: Path, number: int, pace: float) -> Written:
    """Header, then pixels in small writes, then padding."""
    return _stream(folder / f"nina_{number}.fits", whole(number), 20, 0.05 * pace)


def stalling(folder: Path, number: int, pace: float) -> Written:
    """A slow share: two long pauses, one of them in the middle of the last block."""
    path, data = folder / f"stall_{number}.fits", whole(number)
    with path.open("wb") as file:
        for begin, end in ((0, 50_000), (50_000, len(data) - 1500), (len(data) - 1500, len(data))):
            file.write(data[begin:end])
            file.flush()
            if end < len(data):
                time.sleep(3.0 * pace)
    return Written(path, time.monotonic())


def preallocated(folder: Path, number: int, pace: float) -> Written:
    """The size is right at once, the content comes from front to back."""
    path, data = folder / f"prealloc_{number}.fits", whole(number)
    with path.open("wb") as file:
        file.truncate(len(data))
        for piece in _pieces(data, 10):
            file.write(piece)
            file.flush()
            time.sleep(0.4 * pace)
    return Written(path, time.monotonic())


def allocated(folder: Path, number: int, pace: float) -> Written:
    """posix_fallocate, a long pause with the header only, then the rest."""
    path, data = folder / f"falloc_{number}.fits", whole(number)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        file.write(data[:BLOCK])
        file.flush()
        time.sleep(3.0 * pace)
        file.write(data[BLOCK:])
    return Written(path, time.monotonic())


def mapped(folder: Path, number: int, pace: float) -> Written:
    """A memory map filled page by page in random order; the file's time does not move meanwhile."""
    path, data = folder / f"mmap_{number}.fits", whole(number)
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), len(data)) as memory:
            pages = list(range(0, len(data), mmap.PAGESIZE))
            random.Random(number).shuffle(pages)
            for page in pages:
                memory[page : page + mmap.PAGESIZE] = data[page : page + mmap.PAGESIZE]
                time.sleep(0.05 * pace)
            memory.flush()
    return Written(path, time.monotonic())


def renamed(folder: Path, number: int, pace: float) -> Written:
    """Under a temporary name, then renamed."""
    part = _stream(folder / f"renamed_{number}.fits.tmp", whole(number), 5, 0.05 * pace).path
    path = part.with_suffix("")
    part.rename(path)
    return Written(path, time.monotonic())


def moved_in(folder: Path, number: int, pace: float) -> Written:
    """From another folder of the same disk."""
    outside = folder.parent / f"outside_{number}.fits"
    outside.write_bytes(whole(number))
    path = folder / f"moved_{number}.fits"
    outside.rename(path)
    return Written(path, time.monotonic())


def folder_moved_in(folder: Path, number: int, pace: float) -> Written:
    """A whole folder from outside."""
    outside = folder.parent / f"outside_folder_{number}"
    outside.mkdir()
    (outside / f"inside_{number}.fits").write_bytes(whole(number))
    inside = folder / f"folder_{number}"
    outside.rename(inside)
    return Written(inside / f"inside_{number}.fits", time.monotonic())


def copied_old(folder: Path, number: int, pace: float) -> Written:
    """`cp -p`: written now, with the time of last year."""
    outside = folder.parent / f"old_{number}.fits"
    outside.write_bytes(whole(number))
    os.utime(outside, (1.7e9, 1.7e9))
    path = folder / f"copied_{number}.fits"
    subprocess.run(["cp", "-p", outside, path], check=True)
    done_s = time.monotonic()
    outside.unlink()
    return Written(path, done_s)


def synced(folder: Path, number: int, pace: float) -> Written:
    """rsync: `.name.XXXXXX`, then renamed, old time."""
    outside = folder.parent / f"sync_{number}.fits"
    outside.write_bytes(whole(number))
    subprocess.run(["rsync", "-a", outside, f"{folder}/"], check=True)
    done_s = time.monotonic()
    outside.unlink()
    return Written(folder / outside.name, done_s)


def header_later(folder: Path, number: int, pace: float) -> Written:
    """CFITSIO: pixels behind a short header first, then a block of keywords is inserted before them."""
    path = folder / f"cfitsio_{number}.fits"
    more = tuple(f"KEY{n:<5d}= {n:20d}" for n in range(40))
    _stream(path, whole(number), 5, 0.05 * pace)
    time.sleep(0.2 * pace)
    with path.open("r+b") as file:
        file.write(header(number, more) + body(number))
    return Written(path, time.monotonic())


def solved_later(folder: Path, number: int, pace: float) -> Written:
    """A plate solver rewrites the header a few seconds after the sub was saved: the same sub again."""
    path = folder / f"solved_{number}.fits"
    path.write_bytes(whole(number))
    done_s = time.monotonic()
    time.sleep(4.0 * pace)
    content = header(number, ("CRVAL1  =                 10.5",)) + body(number)
    with path.open("r+b") as file:
        file.write(content)
    return Written(path, done_s, time.monotonic())


def zipped(folder: Path, number: int, pace: float) -> Written:
    """A gzip stream that grows."""
    return _stream(folder / f"zipped_{number}.fits.gz", gzip.compress(whole(number), 1), 10, 0.1 * pace)


def graded(folder: Path, number: int, pace: float) -> Written:
    """N.I.N.A.'s grading: renamed to BAD_ soon after it was saved."""
    first = folder / f"graded_{number}.fits"
    first.write_bytes(whole(number))
    done_s = time.monotonic()
    time.sleep(2.5 * pace)
    path = folder / f"BAD_graded_{number}.fits"
    first.rename(path)
    return Written(path, done_s, time.monotonic())


Writer = Callable[[Path, int, float], Written]
WRITERS: dict[str, Writer] = {
    "INDI": indi, "N.I.N.A.": nina, "stalling": stalling, "preallocating": preallocated, "fallocate": allocated,
    "mmap, random order": mapped, "tmp + rename": renamed, "moved in": moved_in, "folder moved in": folder_moved_in,
    "cp -p": copied_old, "CFITSIO, header later": header_later, "plate solver": solved_later, "gzip": zipped,
    "BAD_ rename": graded,
}  # fmt: skip
if shutil.which("rsync"):
    WRITERS["rsync"] = synced
