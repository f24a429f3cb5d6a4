"""FITS files as N.I.N.A. writes them: header first, then pixels in pieces, straight under the final name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsgd.simulate.nights import SITE, Night
from nsgd.simulate.scene import SubTruth

BLOCK = 2880
PIECES = 8
"""In so many writes a dripped file grows."""
RA_DEG, DEC_DEG = 83.82, 41.0

Card = tuple[str, "bool | int | float | str", str]


def sub_cards(truth: SubTruth, object_name: str = "Sim", site: tuple[float, float] = SITE) -> list[Card]:
    """Keywords of a light frame as N.I.N.A. 3 writes them, in its order: (key, value, comment)."""
    camera = truth.camera
    start = datetime.fromtimestamp(truth.start_utc_s, UTC)
    middle = datetime.fromtimestamp(truth.start_utc_s + 0.5 * truth.exposure_s, UTC)
    altitude = float(np.degrees(np.arcsin(1.0 / truth.airmass)))
    bayer: list[Card] = [
        ("BAYERPAT", camera.bayer, "Sensor Bayer pattern"),
        ("XBAYROFF", 0, "Bayer pattern X axis offset"),
        ("YBAYROFF", 0, "Bayer pattern Y axis offset"),
    ]
    return [
        ("IMAGETYP", "LIGHT", "Type of exposure"),
        ("EXPOSURE", truth.exposure_s, "[s] Exposure duration"),
        ("EXPTIME", truth.exposure_s, "[s] Exposure duration"),
        ("DATE-OBS", _stamp(start), "Time of observation (UTC)"),
        ("DATE-AVG", _stamp(middle), "Averaged midpoint time (UTC)"),
        ("XBINNING", 1, "X axis binning factor"),
        ("YBINNING", 1, "Y axis binning factor"),
        ("GAIN", camera.gain, "Sensor gain"),
        ("OFFSET", camera.offset, "Sensor gain offset"),
        ("EGAIN", camera.egain_e_per_adu, "[e-/ADU] Electrons per A/D unit"),
        ("XPIXSZ", camera.pixel_um, "[um] Pixel X axis size"),
        ("YPIXSZ", camera.pixel_um, "[um] Pixel Y axis size"),
        ("INSTRUME", camera.name, "Imaging instrument name"),
        ("SET-TEMP", -10.0, "[degC] CCD temperature setpoint"),
        ("CCD-TEMP", -10.0, "[degC] CCD temperature"),
        *(bayer if camera.bayer else []),
        ("TELESCOP", "Simulated", "Name of telescope"),
        ("FOCALLEN", camera.focal_mm, "[mm] Focal length"),
        ("FOCRATIO", 5.0, "Focal ratio"),
        ("RA", RA_DEG, "[deg] RA of telescope"),
        ("DEC", DEC_DEG, "[deg] Declination of telescope"),
        ("CENTALT", round(altitude, 4), "[deg] Altitude of telescope"),
        ("AIRMASS", round(truth.airmass, 6), "Airmass at frame center (Gueymard 1993)"),
        ("PIERSIDE", truth.pier_side, "Telescope pointing state"),
        ("SITELAT", site[0], "[deg] Observation site latitude"),
        ("SITELONG", site[1], "[deg] Observation site longitude"),
        ("FILTER", truth.filter_name, "Active filter name"),
        ("OBJECT", object_name, "Name of the object of interest"),
        ("ROWORDER", "TOP-DOWN", "FITS Image Orientation"),
        ("EQUINOX", 2000.0, "Equinox of celestial coordinate system"),
        ("SWCREATE", "N.I.N.A. 3.1.2.9001 (x64)", "Software that created this file"),
    ]


def sub_name(night: Night, index: int, truth: SubTruth) -> Path:
    """N.I.N.A.'s default path below the image folder: DATEMINUS12/LIGHT/DATETIME_FILTER_TEMP_EXPOSURE_NNNN.fits."""
    start = datetime.fromtimestamp(truth.start_utc_s, UTC)
    evening = datetime.fromtimestamp(night.subs[0].start_utc_s - 43200.0, UTC)
    moment = f"{start:%Y-%m-%d_%H-%M-%S}"
    name = f"{moment}_{truth.filter_name}_-10.00_{truth.exposure_s:.2f}s_{index + 1:04d}.fits"
    return Path(f"{evening:%Y-%m-%d}") / "LIGHT" / name


def fits_bytes(pixels: NDArray[np.uint16], cards: list[Card]) -> tuple[bytes, bytes, bytes]:
    """Header, data and padding of a 16-bit FITS file (pixels uint16 (h, w), stored with BZERO 32768)."""
    height, width = pixels.shape
    structure: list[Card] = [
        ("SIMPLE", True, "C# FITS"),
        ("BITPIX", 16, ""),
        ("NAXIS", 2, "Dimensionality"),
        ("NAXIS1", width, ""),
        ("NAXIS2", height, ""),
        ("BZERO", 32768, ""),
        ("EXTEND", True, "Extensions are permitted"),
    ]
    text = "".join(_card(*card) for card in structure + cards) + "END".ljust(80)
    header = text.encode("ascii").ljust(-len(text) // BLOCK * -BLOCK)
    data = (pixels ^ np.uint16(0x8000)).astype(">u2").tobytes()
    return header, data, bytes(-len(data) % BLOCK)


def write_sub(path: Path, pixels: NDArray[np.uint16], cards: list[Card]) -> Path:
    """Write one FITS file at once, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(fits_bytes(pixels, cards)))
    return path


def write_night(night: Night, folder: Path, *, wrote: Callable[[Path], None] | None = None) -> list[Path]:
    """Write all subs of a night below `folder` at once; `wrote` is called after each."""
    paths = []
    for index, truth in enumerate(night.subs):
        path = folder / sub_name(night, index, truth)
        paths.append(write_sub(path, night.pixels(index), sub_cards(truth, night.object_name, night.site)))
        if wrote is not None:
            wrote(path)
    return paths


def drip(
    night: Night,
    folder: Path,
    interval_s: float,
    *,
    sleep: Callable[[float], object] = time.sleep,
    now: Callable[[], float] | None = None,
    wrote: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write a night as a camera does: one sub every `interval_s`, each growing slowly under its final name.

    With `now` (seconds UTC) every sub is stamped as one that has just ended, so that a live daemon takes
    it for the sky of this moment. `sleep` may end the night early by raising.
    """
    paths = []
    site = night.site if now is None else None
    for index, planned in enumerate(night.subs):
        truth = planned if now is None else _just_ended(planned, now())
        site = site or dark_site(truth.start_utc_s)
        parts = fits_bytes(night.pixels(index), sub_cards(truth, night.object_name, site))
        path = folder / sub_name(night, index, truth)
        path.parent.mkdir(parents=True, exist_ok=True)
        pause_s = min(0.05 * interval_s, 0.2)
        _write_slowly(path, parts, sleep, pause_s)
        paths.append(path)
        if wrote is not None:
            wrote(path)
        sleep(interval_s - PIECES * pause_s)
    return paths


def dark_site(utc_s: float) -> tuple[float, float]:
    """Latitude and longitude, degrees, of a place where it is an hour before midnight at a moment, in any season."""
    hours_left = 23.0 - utc_s / 3600.0 % 24.0
    return 28.3, round((hours_left * 15.0 + 180.0) % 360.0 - 180.0, 4)


def _just_ended(truth: SubTruth, now_utc_s: float) -> SubTruth:
    return replace(truth, start_utc_s=now_utc_s - truth.exposure_s)


def _write_slowly(
    path: Path, parts: tuple[bytes, bytes, bytes], sleep: Callable[[float], object], pause_s: float
) -> None:
    """Header, then the pixels in pieces, then the padding, with a pause after each."""
    header, data, padding = parts
    piece = -(-len(data) // (PIECES - 2))
    with path.open("wb", buffering=0) as file:
        for part in (header, *(data[k : k + piece] for k in range(0, len(data), piece)), padding):
            file.write(part)
            sleep(pause_s)


def _stamp(moment: datetime) -> str:
    """N.I.N.A. writes seven digits of a second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0"


def _card(key: str, value: bool | int | float | str, comment: str) -> str:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"'{quoted:<8}'".ljust(20)
    else:
        text = f"{str(value).upper():>20}"
    return f"{key:<8}= {text}{' / ' + comment if comment else ''}"[:80].ljust(80)
