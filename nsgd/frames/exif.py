"""The few EXIF entries that tell about an exposure, from TIFF, TIFF-like raw files and CR3."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TypeAlias

from nsgd.frames.header import Card
from nsgd.frames.source import Readable

Entry: TypeAlias = "str | float | bytes"

DESCRIPTION, MODEL, SOFTWARE, EXIF_IFD, XP_TITLE = 270, 272, 305, 34665, 40091
EXPOSURE_TIME, ISO, TAKEN, TAKEN_OFFSET, TAKEN_FRACTION = 33434, 34855, 36867, 36881, 37521
WANTED = {DESCRIPTION, MODEL, SOFTWARE, EXIF_IFD, XP_TITLE, EXPOSURE_TIME, ISO, TAKEN, TAKEN_OFFSET, TAKEN_FRACTION}

HEAD_BYTES = 1 << 16
MAX_ENTRIES = 512
MAX_VALUE_BYTES = 100_000
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}


@dataclass(frozen=True, slots=True)
class _Tiff:
    """A TIFF structure inside a file."""

    source: Readable
    start: int
    order: str
    """`<` or `>`."""

    def bytes_at(self, offset: int, count: int) -> bytes:
        self.source.seek(self.start + offset)
        return self.source.read(count)

    def numbers_at(self, layout: str, offset: int) -> tuple[int, ...]:
        data = self.bytes_at(offset, struct.calcsize(self.order + layout))
        return struct.unpack(self.order + layout, data)


def read_entries(source: Readable) -> dict[int, Entry]:
    """Wanted entries by their number; what is broken is left out."""
    source.seek(0)
    head = source.read(HEAD_BYTES)
    entries: dict[int, Entry] = {}
    for start in _starts(head):
        order = {b"II": "<", b"MM": ">"}.get(head[start : start + 2])
        if order is None:
            continue
        tiff = _Tiff(source, start, order)
        try:
            _read_directory(tiff, tiff.numbers_at("I", 4)[0], entries)
            place = entries.pop(EXIF_IFD, None)
            if isinstance(place, float):
                _read_directory(tiff, int(place), entries)
        except (struct.error, OverflowError, ValueError):
            continue
    return entries


def _starts(head: bytes) -> list[int]:
    """Where TIFF structures begin: byte 0, or in a CR3 its CMT1 (camera) and CMT2 (exposure) boxes."""
    if head[:2] in (b"II", b"MM"):
        return [0]
    return [head.index(box) + 4 for box in (b"CMT1", b"CMT2") if box in head]


def _read_directory(tiff: _Tiff, offset: int, entries: dict[int, Entry]) -> None:
    (count,) = tiff.numbers_at("H", offset)
    for number in range(min(count, MAX_ENTRIES)):
        at = offset + 2 + 12 * number
        tag, kind, length = tiff.numbers_at("HHI", at)
        if tag not in WANTED or kind not in _SIZES or not 0 < length * _SIZES[kind] <= MAX_VALUE_BYTES:
            continue
        place = at + 8 if length * _SIZES[kind] <= 4 else tiff.numbers_at("I", at + 8)[0]
        value = _read_value(tiff, kind, length, place)
        if value is not None:
            entries.setdefault(tag, value)


def _read_value(tiff: _Tiff, kind: int, length: int, place: int) -> Entry | None:
    if kind == 2:
        return tiff.bytes_at(place, length).split(b"\0")[0].decode("utf-8", "replace").strip()
    if kind in (1, 7):
        return tiff.bytes_at(place, length)
    if kind in (5, 10):
        above, below = tiff.numbers_at("II" if kind == 5 else "ii", place)
        return above / below if below else None
    return float(tiff.numbers_at("H" if kind == 3 else "I", place)[0])


def exposure_cards(entries: dict[int, Entry]) -> dict[str, Card]:
    """Entries under their FITS names.

    EXIF times are those of the camera's own clock: DATE-OBS (UTC) only where the camera states its
    offset, else DATE-LOC, which is read as the system's local time.
    """
    cards = {
        key: Card(value)
        for tag, key in ((MODEL, "INSTRUME"), (SOFTWARE, "SWCREATE"), (EXPOSURE_TIME, "EXPTIME"), (ISO, "ISO"))
        if isinstance(value := entries.get(tag), str | float)
    }
    taken = re.fullmatch(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", str(entries.get(TAKEN, "")))
    if taken is not None:
        offset = re.fullmatch(r"[+-]\d\d:\d\d|Z", str(entries.get(TAKEN_OFFSET, "")))
        fraction = re.fullmatch(r"\d{1,6}", str(entries.get(TAKEN_FRACTION, "")))
        moment = f"{taken[1]}-{taken[2]}-{taken[3]}T{taken[4]}" + (f".{fraction[0]}" if fraction else "")
        cards["DATE-OBS" if offset else "DATE-LOC"] = Card(moment + (offset[0] if offset else ""))
    return cards
