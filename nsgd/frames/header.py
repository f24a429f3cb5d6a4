"""What a header means, whichever capture program wrote it.

Cards come from FITS, XISF, TIFF or EXIF; `facts()` turns them, together with the file's name, into
`HeaderFacts`. Each table below is one question ("which keys hold the exposure?"), in order of trust.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path, PurePath
from typing import NamedTuple, TypeAlias

from nsgd.records import FrameKind, HeaderFacts

Value: TypeAlias = str | int | float | bool | None


class Card(NamedTuple):
    """One header entry."""

    value: Value
    comment: str = ""


Cards: TypeAlias = Mapping[str, Card]

MAX_TEXT = 80
JD_OF_1970 = 2440587.5
DAY_S = 86400.0

EXPOSURE_KEYS = ("EXPTIME", "EXPOSURE", "EXP_TIME", "EXPOSURETIME", "EXPOSUR")
FILTER_KEYS = ("FILTER", "FILTERS", "FILTER1", "FILTNAME", "INSFLNAM")
OBJECT_KEYS = ("OBJECT", "OBJNAME", "TARGET", "TARGNAME")
CAMERA_KEYS = ("INSTRUME", "CAMERA", "DETECTOR", "CAMNAME", "CAMMODEL")
GAIN_KEYS = ("GAIN", "CCDGAIN", "ISOSPEED", "ISO", "ISOSPEEDRATINGS")
OFFSET_KEYS = ("OFFSET", "CCDOFFST", "BLKLEVEL", "BLACKLEVEL")
EGAIN_KEYS = ("EGAIN", "CVF", "EPERADU", "GAINADU")
TEMPERATURE_KEYS = ("CCD-TEMP", "CCDTEMP", "DET-TEMP", "TEMPERAT", "SENSTEMP", "CCD_TEMP")
AIRMASS_KEYS = ("AIRMASS", "SECZ")
ALTITUDE_KEYS = ("CENTALT", "OBJCTALT", "OBJALT", "TELALT", "ALT-OBS")
RA_KEYS = ("RA", "OBJCTRA", "RA_OBJ", "TELRA", "CRVAL1")
DEC_KEYS = ("DEC", "OBJCTDEC", "DEC_OBJ", "TELDEC", "CRVAL2")
LATITUDE_KEYS = ("SITELAT", "LAT-OBS", "OBSLAT", "LATITUDE", "OBSGEO-B", "GEOLAT", "OBS-LAT")
LONGITUDE_KEYS = ("SITELONG", "LONG-OBS", "OBSLONG", "LONGITUD", "OBSGEO-L", "GEOLON", "OBS-LONG")
FOCAL_KEYS = ("FOCALLEN", "FOCLEN", "FOCAL")
ROTATOR_KEYS = ("ROTATANG", "ROTATOR", "OBJCTROT", "ROTANGLE", "POSANGLE")
SOFTWARE_KEYS = ("SWCREATE", "CREATOR", "PROGRAM", "SOFTWARE", "ORIGIN")
KIND_KEYS = ("IMAGETYP", "IMAGETYPE", "FRAMETYP", "FRAMETYPE", "FRAME", "IMGTYPE", "OBSTYPE")

FILTERS: dict[str, str] = {
    "l": "L", "lum": "L", "lumi": "L", "luminance": "L", "luminosity": "L", "clearl": "L",
    "r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B",
    "ha": "Ha", "halpha": "Ha", "hα": "Ha", "h": "Ha", "hydrogenalpha": "Ha",
    "hb": "Hb", "hbeta": "Hb",
    "oiii": "OIII", "o3": "OIII", "o": "OIII", "oxygen": "OIII",
    "sii": "SII", "s2": "SII", "s": "SII", "sulfur": "SII", "sulphur": "SII",
    "nii": "NII", "n2": "NII",
    "none": "none", "nofilter": "none", "empty": "none", "": "none", "unknown": "none", "na": "none",
    "clear": "Clear", "c": "Clear",
}  # fmt: skip
"""What headers say (letters and digits only, lower case) -> what nsgd calls it."""

KINDS: dict[str, FrameKind] = {
    "light": FrameKind.LIGHT, "lights": FrameKind.LIGHT, "object": FrameKind.LIGHT,
    "science": FrameKind.LIGHT, "tricolor": FrameKind.LIGHT, "tricolour": FrameKind.LIGHT, "sub": FrameKind.LIGHT,
    "dark": FrameKind.DARK, "darks": FrameKind.DARK, "darkflat": FrameKind.DARK, "darkflats": FrameKind.DARK,
    "flatdark": FrameKind.DARK, "flatdarks": FrameKind.DARK, "darkforflat": FrameKind.DARK,
    "dwarfdark": FrameKind.DARK,
    "flat": FrameKind.FLAT, "flats": FrameKind.FLAT, "skyflat": FrameKind.FLAT, "domeflat": FrameKind.FLAT,
    "twilightflat": FrameKind.FLAT, "dawnflat": FrameKind.FLAT, "panelflat": FrameKind.FLAT,
    "bias": FrameKind.BIAS, "biases": FrameKind.BIAS, "offset": FrameKind.BIAS, "zero": FrameKind.BIAS,
    "snapshot": FrameKind.SNAPSHOT, "snapshots": FrameKind.SNAPSHOT, "preview": FrameKind.SNAPSHOT,
    "previews": FrameKind.SNAPSHOT, "snap": FrameKind.SNAPSHOT, "snaps": FrameKind.SNAPSHOT,
    "stack": FrameKind.STACKED, "stacks": FrameKind.STACKED, "stacked": FrameKind.STACKED,
    "master": FrameKind.STACKED, "masters": FrameKind.STACKED, "integration": FrameKind.STACKED,
    "focus": FrameKind.OTHER, "autofocus": FrameKind.OTHER, "guide": FrameKind.OTHER, "guider": FrameKind.OTHER,
    "platesolve": FrameKind.OTHER, "califrame": FrameKind.OTHER, "thumbnail": FrameKind.OTHER,
    "thumbnails": FrameKind.OTHER,
}  # fmt: skip

BAYER_PATTERNS = frozenset({"RGGB", "BGGR", "GRBG", "GBRG"})

_WORD_BREAK = re.compile(r"[\s_\-.()\[\]]+")
_NAME_BREAK = re.compile(r"[\s_()\[\]]+")
_MD5_NAME = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_CALIBRATED = re.compile(
    r"ImageCalibration|(dark|bias|flat)\w*[ -]?(field|frame)?[ -]?(subtract|correct|divid|appl)|calibrated (by|with)",
    re.IGNORECASE,
)
_EXPOSURE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?) ?(ms|s|secs?|sec|seconds)(?![A-Za-z])", re.IGNORECASE)
_DWARF_EXPOSURE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)s(\d+)(?![A-Za-z0-9])", re.IGNORECASE)
_TIME_IN_NAME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-._]?(\d\d)[-._]?(\d\d)[-_T .]"
    r"(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?:[.,]?(\d{3}|\d{6}))?(?!\d)"
)


def clean(text: str, most: int = MAX_TEXT) -> str:
    """Text as it may be shown and stored: NFC, no control, bidi or zero-width characters, capped.

    Every string of a header, and every file name on its way into a record, passes here.
    """
    normal = unicodedata.normalize("NFC", text[: 8 * most])
    kept = "".join(" " if c in "\t\n\r" else c for c in normal if c in "\t\n\r" or _is_harmless(c))
    return " ".join(kept.split())[:most].strip()


def _is_harmless(character: str) -> bool:
    # Cc control, Cf format (bidi, zero width, tags), Cs surrogates, Co private, Cn unassigned, Zl/Zp separators
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def facts(
    cards: Cards, path: PurePath, *, aliases: Mapping[str, str] | None = None, zone: tzinfo | None = None
) -> HeaderFacts:
    """What the header and the file's name say about one frame; geometry is filled in by the reader.

    Parameters
    ----------
    cards
        Header entries, upper-case keys.
    path
        Where the file lies; its name and folders answer what the header leaves open.
    aliases
        The user's filter names, header word -> own name.
    zone
        Zone of local times (DATE-LOC, times in names); the system's where None.
    """
    exposure_s = _exposure_s(cards, path)
    times = _times(cards, path, exposure_s, zone)
    binning = _binning(cards)
    header = HeaderFacts(
        kind=frame_kind(cards, path),
        object_name=_object_name(cards),
        filter_name=filter_name(cards, path, aliases or {}),
        exposure_s=exposure_s,
        start_utc_s=times.start_utc_s,
        mid_utc_s=times.mid_utc_s,
        time_source=times.source,
        camera=_text(cards, CAMERA_KEYS),
        binning=binning,
        gain=_number(cards, GAIN_KEYS),
        offset=_number(cards, OFFSET_KEYS),
        egain_e_per_adu=_within(_number(cards, EGAIN_KEYS), 1e-6, 1e4),
        ccd_temp_c=_within(_number(cards, TEMPERATURE_KEYS), -150.0, 80.0),
        ra_deg=_angle(cards, RA_KEYS, hours_when_sexagesimal=True, low=0.0, high=360.0),
        dec_deg=_angle(cards, DEC_KEYS, low=-90.0, high=90.0),
        site_lat_deg=_angle(cards, LATITUDE_KEYS, low=-90.0, high=90.0),
        site_long_deg=_longitude(cards),
        pixel_size_um=_pixel_size_um(cards, binning),
        focal_length_mm=_within(_number(cards, FOCAL_KEYS), 1.0, 1e6),
        pier_side=_pier_side(cards),
        rotator_deg=_number(cards, ROTATOR_KEYS),
        software=_software(cards),
        row_order=_row_order(cards),
        noise_keys=_noise_keys(cards),
        calibrated=_is_calibrated(cards),
    )
    return with_sky_position(_with_header_airmass(header, cards))


# ---- strings, numbers and angles -----------------------------------------------------------------


def _text(cards: Cards, keys: Iterable[str]) -> str:
    for key in keys:
        card = cards.get(key)
        if card is not None and isinstance(card.value, str | int | float) and not isinstance(card.value, bool):
            words = clean(str(card.value))
            if words:
                return words
    return ""


def _number(cards: Cards, keys: Iterable[str]) -> float | None:
    for key in keys:
        card = cards.get(key)
        number = _as_number(card.value) if card is not None else None
        if number is not None:
            return number
    return None


def _as_number(value: Value) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _within(number: float | None, low: float, high: float) -> float | None:
    return number if number is not None and low <= number <= high else None


def _angle(
    cards: Cards, keys: Iterable[str], *, hours_when_sexagesimal: bool = False, low: float, high: float
) -> float | None:
    for key in keys:
        card = cards.get(key)
        if card is None or (key.startswith("CRVAL") and not _is_celestial(cards)):
            continue
        angle = _as_number(card.value)
        if angle is None and isinstance(card.value, str):
            angle = sexagesimal(card.value)
            if angle is not None and hours_when_sexagesimal:
                angle *= 15.0
        if angle is not None and low <= angle <= high:
            return angle
    return None


def _is_celestial(cards: Cards) -> bool:
    return _text(cards, ("CTYPE1",)).upper().startswith("RA")


def sexagesimal(text: str) -> float | None:
    """`-22:57:08:99`, `19 59 41.99`, `+41d16m09s` or `40*26'46"N` -> units of the first part; None if it is none.

    A fourth part counts hundredths of the third, as PRISM writes it.
    """
    parts = re.findall(r"\d+(?:\.\d+)?", text.replace(",", "."))
    if not 1 <= len(parts) <= 4 or re.search(r"[^\d\s:.,+\-dhms°'\"*′″NSEWnsew]", text):
        return None
    numbers = [float(part) for part in parts]
    if any(part >= 60.0 for part in numbers[1:3]):
        return None
    value = sum(number / 60.0**power for power, number in enumerate(numbers[:3]))
    if len(numbers) == 4:
        value += numbers[3] / 100.0 / 3600.0
    negative = text.strip().startswith("-") or text.strip().endswith(("S", "W"))
    return -value if negative else value


def _longitude(cards: Cards) -> float | None:
    angle = _angle(cards, LONGITUDE_KEYS, low=-180.0, high=360.0)
    if angle is not None and angle > 180.0:
        angle -= 360.0
    return angle


# ---- what kind of frame --------------------------------------------------------------------------


def frame_kind(cards: Cards, path: PurePath) -> FrameKind:
    """Kind of a frame: the header's word, then the file's name, then its folders.

    A file name that says snapshot or stacked, and a folder that says snapshot, win over a header that says
    light: N.I.N.A. writes LIGHT into its snapshots, and stacking programs copy the header of the first sub.
    """
    in_name, in_folder = _kind_from_name(path.name), _kind_from_folders(path.parts[-5:-1])
    if _count_stacked(cards) or in_name is FrameKind.STACKED:
        return FrameKind.STACKED
    if FrameKind.SNAPSHOT in (in_name, _kind_from_folders(path.parts[-3:-1])):
        return FrameKind.SNAPSHOT
    kind = _kind_from_header(cards) or in_name or in_folder
    if kind is not None:
        return kind
    return FrameKind.BIAS if _number(cards, EXPOSURE_KEYS) == 0.0 else FrameKind.LIGHT


def _kind_from_header(cards: Cards) -> FrameKind | None:
    for key in KIND_KEYS:
        words = _text(cards, (key,)).casefold()
        if words:
            kind = _kind_of_words(words)
            if kind is not None:
                return kind
    return {1: FrameKind.LIGHT, 2: FrameKind.BIAS, 3: FrameKind.DARK, 4: FrameKind.FLAT}.get(
        int(_number(cards, ("PICTTYPE",)) or 0)
    )


def _kind_of_words(words: str) -> FrameKind | None:
    """`Light Frame`, `DARKFLAT`, `Flat Field`, `Master Light`... -> kind, None for a word nobody knows."""
    bare = _squeeze(re.sub(r"frames?|field|exposure|image|auto(?!focus)", "", words.casefold()))
    if bare in KINDS:
        return KINDS[bare]
    if bare.startswith("master") or bare.endswith("master"):
        return FrameKind.STACKED
    return None


def _squeeze(words: str) -> str:
    return "".join(c for c in words.casefold() if c.isalnum())


def _kind_from_name(name: str) -> FrameKind | None:
    if _MD5_NAME.fullmatch(PurePath(name).stem):
        return FrameKind.OTHER  # Dwarf: working copies beside the subs
    for word in _WORD_BREAK.split(name.casefold()):
        kind = KINDS.get(word)
        if kind is not None and word not in ("object", "science", "offset", "zero", "focus", "sub"):
            return kind
        if word.startswith(("master", "stacked")):
            return FrameKind.STACKED
    return None


def _kind_from_folders(folders: tuple[str, ...]) -> FrameKind | None:
    """The nearest folder whose whole name is a kind."""
    kinds = (KINDS.get(_squeeze(folder)) for folder in reversed(folders))
    return next((kind for kind in kinds if kind is not None), None)


def _count_stacked(cards: Cards) -> bool:
    if (_number(cards, ("STACKCNT", "NCOMBINE", "SNAPSHOT", "NUMFRAME")) or 0.0) > 1.0:
        return True
    total_s, exposure_s = _number(cards, ("TOTALEXP",)), _number(cards, EXPOSURE_KEYS)
    return total_s is not None and exposure_s is not None and exposure_s > 0.0 and total_s > 1.5 * exposure_s


# ---- object, filter, exposure --------------------------------------------------------------------


def _object_name(cards: Cards) -> str:
    name = " ".join(_text(cards, OBJECT_KEYS).replace("_", " ").split())
    return "" if name.casefold() in {"unknown", "none", "default", "n/a", "snapshot"} else name


def filter_name(cards: Cards, path: PurePath, aliases: Mapping[str, str]) -> str:
    """The filter under one name per filter: the user's alias, the built-in table, else as written."""
    stated = next((card for card in (cards.get(key) for key in FILTER_KEYS) if card is not None), None)
    if stated is None:
        return _filter_from_name(path, aliases) or "none"
    return _known_filter(clean(str(stated.value or "")), aliases) or clean(str(stated.value)) or "none"


def _known_filter(words: str, aliases: Mapping[str, str]) -> str | None:
    squeezed = _squeeze(words)
    for said, own in aliases.items():
        if said.casefold() == words.casefold() or (squeezed and _squeeze(said) == squeezed):
            return clean(own)
    return FILTERS.get(squeezed.removesuffix("filter") or squeezed)


def _filter_from_name(path: PurePath, aliases: Mapping[str, str]) -> str | None:
    """A word of the name, or a whole folder name, that is a filter; single letters only in upper case."""
    for words in (_NAME_BREAK.split(path.stem.replace("-", " ")), *([p] for p in reversed(path.parts[-4:-1]))):
        for word in words:
            cased = len(word) > 1 or word.isupper()
            found = _known_filter(word, aliases) if word and cased else None
            if found is not None and found != "none":
                return found
    return None


def _exposure_s(cards: Cards, path: PurePath) -> float | None:
    exposure_s = _within(_number(cards, EXPOSURE_KEYS), 0.0, 1e6)
    if exposure_s is not None:
        return exposure_s
    dwarf = _DWARF_EXPOSURE.search(path.stem)
    if dwarf is not None:
        return float(dwarf[1])
    named = _EXPOSURE_IN_NAME.search(path.stem.replace("_", " "))
    if named is None:
        return None
    return float(named[1]) / 1000.0 if named[2].casefold() == "ms" else float(named[1])


# ---- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Times:
    start_utc_s: float | None = None
    mid_utc_s: float | None = None
    source: str = ""


def _times(cards: Cards, path: PurePath, exposure_s: float | None, zone: tzinfo | None) -> _Times:
    """Start and middle of the exposure in UTC, and where they came from.

    DATE-OBS is the start, except where its comment says "end" (Dwarf). A lone DATE is the time of
    writing, so the exposure's end. DATE-LOC and times in names carry no zone and are read in `zone`.
    """
    length_s = exposure_s or 0.0
    for key, into_exposure in (("DATE-AVG", 0.5), ("DATE-OBS", 0.0), ("DATE-BEG", 0.0), ("MJD-AVG", 0.5),
                               ("MJD-OBS", 0.0), ("JD", 0.0), ("DATE-END", 1.0), ("DATE", 1.0)):  # fmt: skip
        utc_s = _utc_of_card(cards, key)
        if utc_s is not None:
            if key == "DATE-OBS" and re.search(r"\bend\b", cards[key].comment, re.IGNORECASE):
                into_exposure = 1.0
            start_utc_s = utc_s - into_exposure * length_s
            return _Times(start_utc_s, start_utc_s + 0.5 * length_s, key)
    for source, local in (("DATE-LOC", _local_card(cards)), ("name", _local_in_name(path))):
        local_utc_s = _utc_of_local(local, zone)
        if local_utc_s is not None:
            return _Times(local_utc_s, local_utc_s + 0.5 * length_s, source)
    return _Times()


def _utc_of_card(cards: Cards, key: str) -> float | None:
    card = cards.get(key)
    if card is None:
        return None
    if key.startswith("MJD") or key == "JD":
        days = _as_number(card.value)
        if days is None:
            return None
        utc_s = (days + (2400000.5 if key.startswith("MJD") else 0.0) - JD_OF_1970) * DAY_S
        return utc_s if -DAY_S < utc_s < 1e11 else None
    text = clean(str(card.value))
    if key == "DATE-OBS" and "T" not in text.upper() and ":" not in text:
        clock = _text(cards, ("TIME-OBS", "UT", "UTC", "UT-START", "TIME-BEG", "TM-START"))
        text = f"{text}T{clock}" if clock else ""
    return parse_utc_s(text)


def parse_utc_s(text: str) -> float | None:
    """ISO 8601 with any number of fraction digits, `Z` or an offset, or the old DD/MM/YY -> seconds since 1970.

    A date without a clock time is not a time: None.
    """
    old = re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)T(.+)", text)
    if old is not None:
        text = f"19{old[3]}-{old[2]}-{old[1]}T{old[4]}"
    text = re.sub(r"^(\d{4})[/.](\d\d)[/.](\d\d)", r"\1-\2-\3", text.strip())
    text = re.sub(r"([.,]\d{6})\d+", r"\1", text)
    if not re.match(r"\d{4}-?\d\d-?\d\d[T ]\d", text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        return _leap_second(text)


def _leap_second(text: str) -> float | None:
    """23:59:60 counts as the second after 23:59:59."""
    if ":60" not in text:
        return None
    before = parse_utc_s(text.replace(":60", ":59", 1))
    return None if before is None else before + 1.0


def _local_card(cards: Cards) -> datetime | None:
    """DATE-LOC, a time without a zone."""
    as_if_utc_s = parse_utc_s(clean(str(cards["DATE-LOC"].value))) if "DATE-LOC" in cards else None
    if as_if_utc_s is None:
        return None
    return datetime(1970, 1, 1) + timedelta(seconds=as_if_utc_s)  # noqa: DTZ001 - it has no zone


def _local_in_name(path: PurePath) -> datetime | None:
    """The time in a file name, without a zone."""
    found = _TIME_IN_NAME.search(path.stem)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    fraction_s = float(f"0.{found[7]}") if found[7] else 0.0
    try:
        moment = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - it has no zone
    except ValueError:
        return None
    return moment + timedelta(seconds=fraction_s)


def _utc_of_local(local: datetime | None, zone: tzinfo | None) -> float | None:
    if local is None:
        return None
    try:
        return (local.astimezone() if zone is None else local.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


# ---- camera, optics, mount -----------------------------------------------------------------------


def _binning(cards: Cards) -> int:
    for key in ("XBINNING", "CCDXBIN", "BINX", "BINNING", "CCDSUM"):
        words = re.match(r"\s*(\d+)", str(cards[key].value)) if key in cards else None
        if words is not None and 1 <= int(words[1][:4]) <= 16:
            return int(words[1][:4])
    return 1


def _pixel_size_um(cards: Cards, binning: int) -> float | None:
    """Side of a pixel of the image, binning included; INDI's PIXSIZE1 leaves it out."""
    size_um = _within(_number(cards, ("XPIXSZ", "XPIXELSZ", "PIXSIZE")), 0.1, 1000.0)
    if size_um is not None:
        return size_um
    bare_um = _within(_number(cards, ("PIXSIZE1",)), 0.1, 1000.0)
    return None if bare_um is None else bare_um * binning


def _pier_side(cards: Cards) -> str:
    words = _text(cards, ("PIERSIDE",)).casefold()
    return next((side for side in ("east", "west") if side in words), "")


def _software(cards: Cards) -> str:
    words = _text(cards, SOFTWARE_KEYS)
    if not words and "COMMENT" in cards and "Generated by INDI" in str(cards["COMMENT"].value):
        return "INDI"
    return words


def _row_order(cards: Cards) -> str:
    words = _text(cards, ("ROWORDER",)).upper().replace("_", "-")
    return words if words in {"TOP-DOWN", "BOTTOM-UP"} else ""


def _noise_keys(cards: Cards) -> tuple[float, ...]:
    found = (_number(cards, (f"NOISE{channel:02d}",)) for channel in range(3))
    return tuple(noise for noise in found if noise is not None and noise > 0.0)


def _is_calibrated(cards: Cards) -> bool:
    if set(_text(cards, ("CALSTAT",)).upper()) & set("BDF"):
        return True
    return "HISTORY" in cards and _CALIBRATED.search(str(cards["HISTORY"].value)) is not None


def bayer_pattern(cards: Cards, height_px: int) -> str:
    """The 2x2 cell at array row 0, column 0; "" for mono.

    BAYERPAT describes the picture from its top row. XBAYROFF and YBAYROFF say where in the pattern the
    picture's first pixel lies. With ROWORDER BOTTOM-UP the array's first row is the picture's last.
    """
    stated = _text(cards, ("BAYERPAT", "COLORTYP", "BAYERPATTERN", "CFAPATTERN")).upper().strip("'\" ")
    if stated not in BAYER_PATTERNS:
        return ""
    shift_x = int(_within(_number(cards, ("XBAYROFF", "BAYOFFX")), -1e6, 1e6) or 0) % 2
    shift_y = int(_within(_number(cards, ("YBAYROFF", "BAYOFFY")), -1e6, 1e6) or 0) % 2
    if _row_order(cards) == "BOTTOM-UP" and height_px % 2 == 0:
        shift_y = 1 - shift_y
    rows = (stated[:2], stated[2:])
    return "".join(rows[(y + shift_y) % 2][(x + shift_x) % 2] for y in (0, 1) for x in (0, 1))


# ---- altitude and airmass ------------------------------------------------------------------------


def _with_header_airmass(header: HeaderFacts, cards: Cards) -> HeaderFacts:
    altitude_deg = _angle(cards, ALTITUDE_KEYS, low=-90.0, high=90.0)
    airmass = _within(_number(cards, AIRMASS_KEYS), 1.0, 40.0)
    return replace(header, altitude_deg=altitude_deg, airmass=airmass)


def with_sky_position(header: HeaderFacts, site: tuple[float, float] | None = None) -> HeaderFacts:
    """Altitude and airmass filled in where the header has none: from RA, DEC, site and time.

    Parameters
    ----------
    header
        What the file says; its own altitude and airmass are kept.
    site
        Latitude and longitude in degrees (east positive), used where the header names no site.
    """
    altitude_deg = header.altitude_deg
    latitude_deg, longitude_deg = header.site_lat_deg, header.site_long_deg
    if latitude_deg is None or longitude_deg is None:
        latitude_deg, longitude_deg = site or (None, None)
    if altitude_deg is None and None not in (
        header.ra_deg,
        header.dec_deg,
        header.mid_utc_s,
        latitude_deg,
        longitude_deg,
    ):
        altitude_deg = altitude_of(
            header.ra_deg or 0.0,
            header.dec_deg or 0.0,
            latitude_deg or 0.0,
            longitude_deg or 0.0,
            header.mid_utc_s or 0.0,
        )
    airmass = header.airmass if header.airmass is not None else airmass_of(altitude_deg)
    return replace(header, altitude_deg=altitude_deg, airmass=airmass)


def altitude_of(ra_deg: float, dec_deg: float, latitude_deg: float, longitude_deg: float, utc_s: float) -> float:
    """Altitude above the horizon in degrees, without refraction; good to 0.4 degrees for J2000 positions.

    Greenwich mean sidereal time as in Meeus, Astronomical Algorithms, equation 12.4 (UT1 = UTC).
    """
    days = utc_s / DAY_S + JD_OF_1970 - 2451545.0
    gmst_deg = 280.46061837 + 360.98564736629 * days + 0.000387933 * (days / 36525.0) ** 2
    hour_angle = math.radians((gmst_deg + longitude_deg - ra_deg) % 360.0)
    dec, latitude = math.radians(dec_deg), math.radians(latitude_deg)
    sine = math.sin(latitude) * math.sin(dec) + math.cos(latitude) * math.cos(dec) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def airmass_of(altitude_deg: float | None) -> float | None:
    """Airmass at an altitude (Kasten and Young 1989, Applied Optics 28, 4735); None at or below 3 degrees."""
    if altitude_deg is None or altitude_deg <= 3.0:
        return None
    correction = 0.50572 * math.pow(altitude_deg + 6.07995, -1.6364)
    return max(1.0, 1.0 / (math.sin(math.radians(altitude_deg)) + correction))


def shown_name(path: Path) -> str:
    """A file's name as it may stand in a sentence."""
    return clean(path.name, 120)
