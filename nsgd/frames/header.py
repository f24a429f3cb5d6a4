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
LOWEST_DEG, HIGHEST_AIRMASS = 2.0, 20.0
"""Beyond these no sub is taken: such figures come from a telescope that is not connected."""
LONGEST_BIAS_S = 1e-3
"""A frame of no stated kind that was exposed no longer than this shows no sky."""
JD_OF_1970 = 2440587.5
DAY_S = 86400.0

EXPOSURE_KEYS = ("EXPTIME", "EXPOSURE", "EXP_TIME", "EXPOSURETIME", "EXPOSUR", "EXP", "EXPOINUS")
FILTER_KEYS = ("FILTER", "FILTERS", "FILTER1", "FILTNAME", "INSFLNAM", "SUBSET")
OBJECT_KEYS = ("OBJECT", "OBJNAME", "TARGET", "TARGNAME")
CAMERA_KEYS = ("INSTRUME", "CAMERA", "DETECTOR", "CAMNAME", "CAMMODEL")
GAIN_KEYS = ("GAIN", "CCDGAIN", "ISOSPEED", "ISO", "ISOSPEEDRATINGS")
OFFSET_KEYS = ("OFFSET", "CCDOFFST", "BLKLEVEL", "BLACKLEVEL")
EGAIN_KEYS = ("EGAIN", "CVF", "EPERADU", "GAINADU")
TEMPERATURE_KEYS = ("CCD-TEMP", "CCDTEMP", "DET-TEMP", "TEMPERAT", "SENSTEMP", "CCD_TEMP")
AIRMASS_KEYS = ("AIRMASS", "SECZ")
ALTITUDE_KEYS = ("CENTALT", "OBJCTALT", "OBJALT", "TELALT")
POINTING_KEYS = (("RA", "DEC"), ("OBJCTRA", "OBJCTDEC"), ("RA_OBJ", "DEC_OBJ"), ("TELRA", "TELDEC"),
                 ("CRVAL1", "CRVAL2"))  # fmt: skip
SITE_KEYS = (("SITELAT", "SITELONG"), ("LAT-OBS", "LONG-OBS"), ("OBSLAT", "OBSLONG"), ("LATITUDE", "LONGITUD"),
             ("OBSGEO-B", "OBSGEO-L"), ("GEOLAT", "GEOLON"), ("OBS-LAT", "OBS-LONG"))  # fmt: skip
FOCAL_KEYS = ("FOCALLEN", "FOCLEN", "FOCAL")
ROTATOR_KEYS = ("ROTATANG", "ROTATOR", "OBJCTROT", "ROTANGLE", "POSANGLE")
SOFTWARE_KEYS = ("SWCREATE", "CREATOR", "PROGRAM", "SOFTWARE", "ORIGIN")
KIND_KEYS = ("IMAGETYP", "IMAGETYPE", "FRAMETYP", "FRAMETYPE", "FRAME", "IMGTYPE", "OBSTYPE", "CALFRAME")
BAYER_KEYS = ("BAYERPAT", "COLORTYP", "BAYERPATTERN", "CFAPATTERN", "CFAIMAGE")

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
    "guiding": FrameKind.OTHER, "platesolve": FrameKind.OTHER, "platesolving": FrameKind.OTHER,
    "califrame": FrameKind.OTHER, "thumbnail": FrameKind.OTHER, "thumbnails": FrameKind.OTHER,
}  # fmt: skip
STATED_ONLY: dict[str, FrameKind] = {
    **dict.fromkeys(("acquisition", "pointing", "centering", "centring", "slew", "sync", "test"), FrameKind.OTHER),
    **dict.fromkeys(("arc", "comparison", "lamp"), FrameKind.OTHER),
}
"""Kinds only where a header states them: the same words are parts of honest names."""

BAYER_PATTERNS = frozenset({"RGGB", "BGGR", "GRBG", "GBRG"})

_WORD_BREAK = re.compile(r"[\s_\-.()\[\]]+")
_CAMERA_SERIES = re.compile(r"(?P<kind>L|D|F|B|DF)_.*ISO\d+", re.IGNORECASE)
"""Astro Photography Tool's names: `D_0012_ISO800_120s__15C.CR2` is a dark."""
_SERIES_KINDS = {"l": "light", "d": "dark", "f": "flat", "b": "bias", "df": "darkflat"}
_NAME_BREAK = re.compile(r"[\s_()\[\]]+")
_MD5_NAME = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_CALIBRATED = re.compile(
    r"ImageCalibration|(dark|bias|flat)\w*[ -]?(field|frame)?[ -]?(subtract|correct|divid|appl)|calibrated (by|with)",
    re.IGNORECASE,
)
_EXPOSURE_IN_TEXT = re.compile(r"(\d+(?:\.\d*)?)(?:/(\d+))? ?(us|µs|ms|s|secs?|seconds?)?", re.IGNORECASE)
_UNIT_IN_REMARK = (
    (1e-6, re.compile(r"\[us\]|\bin us\b|µs|microsec", re.IGNORECASE)),
    (1e-3, re.compile(r"\bms\b|\bmsec|millisec", re.IGNORECASE)),
)
_HOURS = re.compile(r"\[h(ou)?rs?\]|\[h\]|\bhours\b", re.IGNORECASE)
_ELECTRONS_PER_ADU = re.compile(r"e-? ?/ ?adu|electrons? ?(per|/) ?(adu|a/d|dn)", re.IGNORECASE)
_WEST_POSITIVE = re.compile(r"\+ ?W\b|west(ward)? positive", re.IGNORECASE)
_EXPOSURE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?) ?(ms|s|secs?|sec|seconds)(?![A-Za-z])", re.IGNORECASE)
_DWARF_EXPOSURE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)s(\d+)(?![A-Za-z0-9])", re.IGNORECASE)
_MOMENT = re.compile(
    r"(?:(?P<year>\d{4})[-/.]?(?P<month>\d\d?)[-/.]?(?P<day>\d\d?)"
    r"|(?P<old_day>\d\d)/(?P<old_month>\d\d)/(?P<old_year>\d\d))"
    r"[T ]\s*(?P<hour>\d\d?):?(?P<minute>\d\d?)(?::?\s*(?P<second>\d\d?)(?:[.,](?P<fraction>\d*))?)?"
    r"\s*(?P<offset>Z|\(?UTC?\)?|[+-]\d\d:?\d\d)?",
    re.IGNORECASE | re.ASCII,
)
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
    binning = stated_binning(cards)
    ra_deg, dec_deg = _pointing(cards)
    site_lat_deg, site_long_deg = _site(cards)
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
        gain=_first_within(cards, GAIN_KEYS, 0.0, 1e9),
        offset=_number(cards, OFFSET_KEYS),
        egain_e_per_adu=_egain(cards),
        ccd_temp_c=_first_within(cards, TEMPERATURE_KEYS, -150.0, 80.0),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        site_lat_deg=site_lat_deg,
        site_long_deg=site_long_deg,
        pixel_size_um=_pixel_size_um(cards, binning),
        focal_length_mm=_first_within(cards, FOCAL_KEYS, 1.0, 1e6),
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
    """A figure, also as text: with a decimal comma, or with ISO before it."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        value = value.strip().upper().removeprefix("ISO")
        value = value.replace(",", ".") if value.count(",") == 1 and "." not in value else value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _within(number: float | None, low: float, high: float) -> float | None:
    return number if number is not None and low <= number <= high else None


def _first_within(cards: Cards, keys: Iterable[str], low: float, high: float) -> float | None:
    """The first figure that makes sense: an earlier key may hold a placeholder."""
    found = (_within(_number(cards, (key,)), low, high) for key in keys)
    return next((number for number in found if number is not None), None)


def _egain(cards: Cards) -> float | None:
    """Electrons per ADU; observatories write it into GAIN, and say so in its comment."""
    egain = _first_within(cards, EGAIN_KEYS, 1e-3, 1e3)
    if egain is None and "GAIN" in cards and _ELECTRONS_PER_ADU.search(cards["GAIN"].comment):
        egain = _first_within(cards, ("GAIN",), 1e-3, 1e3)
    return egain


def _angle(cards: Cards, key: str, low: float, high: float, *, sexagesimal_unit: float = 1.0) -> float | None:
    """Degrees, from a number or from text."""
    card = cards.get(key)
    if card is None:
        return None
    angle = _as_number(card.value)
    if angle is None and isinstance(card.value, str):
        angle = sexagesimal(card.value)
        angle = None if angle is None else angle * sexagesimal_unit
    elif angle is not None and sexagesimal_unit != 1.0 and _HOURS.search(card.comment):
        angle *= sexagesimal_unit
    return _within(angle, low, high)


def _pointing(cards: Cards) -> tuple[float | None, float | None]:
    """Right ascension and declination in degrees; two zeros are what programs without a mount write."""
    for ra_key, dec_key in POINTING_KEYS:
        ra_deg = _angle(cards, ra_key, 0.0, 360.0, sexagesimal_unit=15.0)
        dec_deg = _angle(cards, dec_key, -90.0, 90.0)
        usable = ra_deg is not None and dec_deg is not None and (ra_deg, dec_deg) != (0.0, 0.0)
        if usable and (ra_key != "CRVAL1" or _is_celestial(cards)):
            return ra_deg, dec_deg
    return None, None


def _site(cards: Cards) -> tuple[float | None, float | None]:
    """Latitude and longitude (east positive) in degrees; two zeros are a site that nobody set."""
    for latitude_key, longitude_key in SITE_KEYS:
        latitude_deg = _angle(cards, latitude_key, -90.0, 90.0)
        longitude_deg = _angle(cards, longitude_key, -180.0, 360.0)
        if latitude_deg is None or longitude_deg is None or (latitude_deg, longitude_deg) == (0.0, 0.0):
            continue
        if _WEST_POSITIVE.search(cards[longitude_key].comment):
            longitude_deg = -longitude_deg
        return latitude_deg, longitude_deg - 360.0 if longitude_deg > 180.0 else longitude_deg
    return None, None


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
    bare = text.strip()
    negative = bare.startswith(("-", "S", "W")) or bare.endswith(("S", "W"))
    return -value if negative else value


# ---- what kind of frame --------------------------------------------------------------------------


def frame_kind(cards: Cards, path: PurePath) -> FrameKind:
    """Kind of a frame: the header's word, then the file's name, then its folders.

    A file name that says snapshot or stacked, and a folder that says snapshot, guide or focus, win over a header
    that says light: N.I.N.A. writes LIGHT into its snapshots, Ekos into its focus and guide frames, and stacking
    programs copy the header of the first sub.
    """
    in_name, in_folder = _kind_from_name(path, _object_name(cards)), _kind_from_folders(path.parts[-5:-1])
    if _count_stacked(cards) or in_name is FrameKind.STACKED:
        return FrameKind.STACKED
    near = _kind_from_folders(path.parts[-3:-1])
    if FrameKind.SNAPSHOT in (in_name, near):
        return FrameKind.SNAPSHOT
    if FrameKind.OTHER in (in_name, near):
        return FrameKind.OTHER
    working_copy = FrameKind.OTHER if _MD5_NAME.fullmatch(path.stem) else None  # Dwarf leaves them beside the subs
    kind = _kind_from_header(cards) or working_copy or in_name or in_folder
    if kind is not None:
        return kind
    exposure_s = _stated_exposure_s(cards)
    return FrameKind.BIAS if exposure_s is not None and exposure_s <= LONGEST_BIAS_S else FrameKind.LIGHT


def _kind_from_header(cards: Cards) -> FrameKind | None:
    for key in KIND_KEYS:
        words = _text(cards, (key,)).casefold()
        if words:
            kind = _kind_of_words(words) or STATED_ONLY.get(_squeeze(words))
            if kind is not None:
                return kind
    return {1: FrameKind.LIGHT, 2: FrameKind.BIAS, 3: FrameKind.DARK, 4: FrameKind.FLAT}.get(
        int(_within(_number(cards, ("PICTTYPE",)), 0.0, 9.0) or 0)
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


def _kind_from_name(path: PurePath, object_name: str) -> FrameKind | None:
    """The kind that a word of the file's name states; the object's own name ("Dark Shark") states none."""
    series = _CAMERA_SERIES.match(path.name)
    if series is not None:
        return KINDS[_SERIES_KINDS[series["kind"].casefold()]]
    name = path.name.casefold()
    for spelling in {object_name.casefold(), object_name.casefold().replace(" ", "_")} - {""}:
        name = name.replace(spelling, " ")
    kinds = []
    for word in _WORD_BREAK.split(name):
        kind = KINDS.get(word)
        if word.startswith(("master", "stacked")):
            return FrameKind.STACKED
        if kind is not None and word not in ("object", "science", "offset", "zero", "focus", "guide", "sub"):
            kinds.append(kind)
    return FrameKind.LIGHT if FrameKind.LIGHT in kinds else next(iter(kinds), None)


def _kind_from_folders(folders: tuple[str, ...]) -> FrameKind | None:
    """The kind that the nearest folder states which states one."""
    kinds = (_kind_of_folder(folder) for folder in reversed(folders))
    return next((kind for kind in kinds if kind is not None), None)


def _kind_of_folder(folder: str) -> FrameKind | None:
    """`Flats`, `dark frames`, `Darks 300s -10C`, `FLAT_Ha`: a kind, and nothing but figures and filters besides."""
    bare = _squeeze(re.sub(r"frames?|library", "", folder.casefold()))
    if bare in KINDS:
        return KINDS[bare]
    first, *rest = [word for word in _WORD_BREAK.split(folder.casefold()) if word] or [""]
    kind = KINDS.get(first)
    if kind not in (FrameKind.DARK, FrameKind.FLAT, FrameKind.BIAS):
        return None
    return kind if all(re.search(r"\d", word) or word in FILTERS or word in KINDS for word in rest) else None


def _count_stacked(cards: Cards) -> bool:
    if "INTEGRAT" in cards or (_number(cards, ("STACKCNT", "NCOMBINE", "SNAPSHOT", "NUMFRAME")) or 0.0) > 1.0:
        return True
    total_s, exposure_s = _number(cards, ("TOTALEXP",)), _stated_exposure_s(cards)
    return total_s is not None and exposure_s is not None and exposure_s > 0.0 and total_s > 1.5 * exposure_s


# ---- object, filter, exposure --------------------------------------------------------------------


def _object_name(cards: Cards) -> str:
    name = " ".join(_text(cards, OBJECT_KEYS).replace("_", " ").split())
    return "" if name.casefold() in {"unknown", "none", "default", "n/a", "snapshot"} else name


def filter_name(cards: Cards, path: PurePath, aliases: Mapping[str, str]) -> str:
    """The filter under one name per filter: the user's alias, the built-in table, else as written."""
    stated = next((card.value for card in (cards.get(key) for key in FILTER_KEYS) if card is not None), None)
    words = "" if stated is None else clean(str(stated))
    if not words:
        return _filter_from_name(path, aliases) or "none"
    return _known_filter(words, aliases) or words


def _known_filter(words: str, aliases: Mapping[str, str]) -> str | None:
    squeezed = _squeeze(words)
    for said, own in aliases.items():
        if said.casefold() == words.casefold() or (squeezed and _squeeze(said) == squeezed):
            return clean(own)
    return FILTERS.get(squeezed.removesuffix("filter") or squeezed)


def _filter_from_name(path: PurePath, aliases: Mapping[str, str]) -> str | None:
    """A word of the name, or a whole folder name, that is a filter; single letters only in upper case."""
    if _CAMERA_SERIES.match(path.name):
        return None  # its first letter is the kind of frame
    for words in (_NAME_BREAK.split(path.stem.replace("-", " ")), *([p] for p in reversed(path.parts[-4:-1]))):
        for word in words:
            cased = len(word) > 1 or word.isupper()
            found = _known_filter(word, aliases) if word and cased else None
            if found is not None and found != "none":
                return found
    return None


def _stated_exposure_s(cards: Cards) -> float | None:
    """The header's exposure: the first positive figure, 0 only where no key says more."""
    found = [exposure_s for key in EXPOSURE_KEYS if (exposure_s := _seconds(cards, key)) is not None]
    return next((exposure_s for exposure_s in found if exposure_s > 0.0), 0.0 if found else None)


def _seconds(cards: Cards, key: str) -> float | None:
    """A duration; its unit is seconds unless the key (ASICap's EXPOINUS), the text or the comment name another."""
    card = cards.get(key, Card(None))
    number, unit_s = _as_number(card.value), 1e-6 if key == "EXPOINUS" else 1.0
    text = _EXPOSURE_IN_TEXT.fullmatch(card.value.strip()) if isinstance(card.value, str) else None
    if number is not None:
        unit_s = next((unit_s for unit_s, unit in _UNIT_IN_REMARK if unit.search(card.comment)), unit_s)
    elif text is not None:
        number = float(text[1]) / (float(text[2] or 1) or math.inf)
        unit_s = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3}.get((text[3] or "s").casefold(), 1.0)
    return None if number is None else _within(number * unit_s, 0.0, 1e6)


def _exposure_s(cards: Cards, path: PurePath) -> float | None:
    exposure_s = _stated_exposure_s(cards)
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

    DATE-OBS is the start, except where its comment says "end" (Dwarf) or "grabbed" (old SharpCap). A lone DATE is
    the time of writing, so the exposure's end. DATE-LOC and times in names carry no zone and are read in `zone`.
    """
    length_s = exposure_s or 0.0
    for key, into_exposure in (("DATE-AVG", 0.5), ("DATE-OBS", 0.0), ("DATE_OBS", 0.0), ("DATE-BEG", 0.0),
                               ("MJD-AVG", 0.5), ("MJD-OBS", 0.0), ("JD", 0.0), ("DATE-END", 1.0),
                               ("DATE", 1.0)):  # fmt: skip
        utc_s = _utc_of_card(cards, key)
        if utc_s is not None:
            if key == "DATE-OBS" and re.search(r"\bend\b|\bgrabbed\b", cards[key].comment, re.IGNORECASE):
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
    if key in ("DATE-OBS", "DATE_OBS") and "T" not in text.upper() and ":" not in text:
        clock = _text(cards, ("TIME-OBS", "TIME_OBS", "UT", "UTC", "UT-START", "UTSTART", "UT-OBS", "TIME-BEG"))
        text = f"{text}T{clock.upper().rpartition('T')[2]}" if clock else ""
    return parse_utc_s(text)


def parse_utc_s(text: str) -> float | None:
    """ISO 8601 with any number of fraction digits, `Z` or an offset, or the old DD/MM/YY -> seconds since 1970.

    A date without a clock time is not a time: None. 23:59:60 counts as the second after 23:59:59.
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    year = int(found["year"] or found["old_year"])
    if found["old_year"]:
        year += 1900 if year >= 70 else 2000
    month, day = int(found["month"] or found["old_month"]), int(found["day"] or found["old_day"])
    second, fraction = int(found["second"] or 0), found["fraction"] or "0"
    try:
        minute_begins = datetime(year, month, day, int(found["hour"]), int(found["minute"]), tzinfo=UTC)
    except ValueError:
        return None
    if second > 60:
        return None
    return minute_begins.timestamp() + second + float(f"0.{fraction[:6]}") - _offset_s(found["offset"] or "")


def _offset_s(text: str) -> float:
    """`+01:00`, `-0330`, `Z` -> seconds east of Greenwich."""
    digits = re.fullmatch(r"([+-])(\d\d):?(\d\d)", text)
    if digits is None:
        return 0.0
    seconds = 3600.0 * int(digits[2]) + 60.0 * int(digits[3])
    return -seconds if digits[1] == "-" else seconds


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


def stated_binning(cards: Cards) -> int:
    for key in ("XBINNING", "CCDXBIN", "BINX", "BINNING", "CCDSUM"):
        words = re.match(r"\s*(\d+)", str(cards[key].value)) if key in cards else None
        if words is not None and 1 <= int(words[1][:4]) <= 16:
            return int(words[1][:4])
    return 1


def _pixel_size_um(cards: Cards, binning: int) -> float | None:
    """Side of a pixel of the image, binning included; INDI's PIXSIZE1 leaves it out."""
    size_um = _first_within(cards, ("XPIXSZ", "XPIXELSZ", "PIXSIZE"), 0.1, 1000.0)
    if size_um is not None:
        return size_um
    bare_um = _first_within(cards, ("PIXSIZE1",), 0.1, 1000.0)
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
    words = (_text(cards, (key,)).upper().strip("'\" ") for key in BAYER_KEYS)
    stated = next((word for word in words if word in BAYER_PATTERNS), "")
    if not stated:
        return ""
    shift_x = int(_within(_number(cards, ("XBAYROFF", "BAYOFFX")), -1e6, 1e6) or 0) % 2
    shift_y = int(_within(_number(cards, ("YBAYROFF", "BAYOFFY")), -1e6, 1e6) or 0) % 2
    if _row_order(cards) == "BOTTOM-UP" and height_px % 2 == 0:
        shift_y = 1 - shift_y
    rows = (stated[:2], stated[2:])
    return "".join(rows[(y + shift_y) % 2][(x + shift_x) % 2] for y in (0, 1) for x in (0, 1))


# ---- altitude and airmass ------------------------------------------------------------------------


def _with_header_airmass(header: HeaderFacts, cards: Cards) -> HeaderFacts:
    """The header's own altitude and airmass; placeholders below the horizon count as missing."""
    altitudes = (_angle(cards, key, LOWEST_DEG, 90.0) for key in ALTITUDE_KEYS)
    altitude_deg = next((angle for angle in altitudes if angle is not None), None)
    airmass = _first_within(cards, AIRMASS_KEYS, 0.99, HIGHEST_AIRMASS)
    return replace(header, altitude_deg=altitude_deg, airmass=None if airmass is None else max(1.0, airmass))


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
