"""`nsgd export images`: accepted subs registered to their reference, scaled and freed of their relative gradient.

Any program can average the result without normalisation of its own. The figures are those of the live night; the pixels
are read again, one sub at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from nsgd.errors import ExportProblem, FileProblem, MeasureFailure
from nsgd.export.cores import cores
from nsgd.export.files import open_folder, place, write_bytes, writing
from nsgd.export.integration import Input, Integration, javascript
from nsgd.export.judged import Judged, judged
from nsgd.export.outcome import Outcome, Progress, no_progress
from nsgd.export.paths import mapped
from nsgd.export.siril import full_path, stack_names
from nsgd.export.table import utc_text
from nsgd.export.text import free_names
from nsgd.export.xisf import beginning
from nsgd.export.xnml import Xnml, to_bytes
from nsgd.measure.gradient import Surface
from nsgd.measure.recipe import inverse
from nsgd.measure.relate import Related, gradient_surfaces
from nsgd.records import Catalogue, Floats, Floats32, Frame, Plane, SeriesRow, SubFacts, SubRow
from nsgd.session.store import Reader
from nsgd.settings import Settings
from nsgd.walk.pixels import read_as_measured

STRIP_ROWS: Final = 256
"""Rows that are resampled at a time."""
WORKERS: Final = 2
SAMPLES: Final = (73, 97)
"""Rows and columns of the grid on which a gradient surface is evaluated."""
PLACES: Final = 17
"""Rows and columns of the grid on which pixels are followed from the result into the sub."""
ORDER: Final = 3
"""Cubic spline interpolation."""
PER_PIXEL_BYTES: Final = 12.0
"""Of a sub while it is written: its pixels, their spline, strips."""
BLOCK: Final = 2880
"""FITS files come in blocks of so many bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What the subs of one series are matched to."""

    name: str
    series: SeriesRow
    catalogue: Catalogue
    reference: SubRow
    related: Related
    manner: Manner


@dataclass(frozen=True, slots=True)
class Manner:
    """How frames are written."""

    registered: bool = True
    """Resample to the reference's geometry; False leaves every pixel where it was (not for Bayer mosaics)."""
    kind: str = "fits"
    """Or "xisf"."""
    created_utc_s: float = 0.0
    """Time of creation that XISF files carry."""
    force: bool = False
    """Replace files that exist."""


AS_EVER: Final = Manner()


def export_images(
    reader: Reader, out: Path, settings: Settings, manner: Manner = AS_EVER, progress: Progress = no_progress
) -> Outcome:
    """Write the accepted subs of every series as normalised, gradient-matched float FITS or XISF.

    Returns
    -------
    Outcome
        SERIES/*.fits or *.xisf, SERIES/*.xnml (they change nothing and carry the weights), SERIES/integrate.js for
        PixInsight and, of FITS, SERIES/stack.ssf for Siril.

    Raises
    ------
    ExportProblem
        Nothing is accepted, or --out cannot be written.
    """
    out = open_folder(out)
    found = judged(reader, settings)
    targets = list(_targets(reader, found, manner))
    accepted = {target.name: [row for row in _members(found, target) if found.accepted(row)] for target in targets}
    total, done = sum(len(rows) for rows in accepted.values()), 0
    if not total:
        raise ExportProblem("No accepted sub has figures to normalise with: nothing is written.")
    files: list[Path] = []
    warnings: list[str] = []
    with cores(settings, total) as working:
        for target in targets:
            orders = _orders(reader, target, accepted[target.name], out)
            frame_mb = 1e-6 * PER_PIXEL_BYTES * target.series.width_px * target.series.height_px
            written = []
            for row, path, problem in working.each(partial(_made, target, settings), orders, frame_mb):
                done += 1
                progress(done, total, Path(row.path).name)
                if problem:
                    warnings.append(f"{Path(row.path).name}: {problem}")
                else:
                    written.append((row, path))
            files += [path for _, path in written]
            files += _write_companions(out, target, written)
    progress(total, total, "done")
    summary = tuple(f"{target.name}: {len(accepted[target.name])} frames" for target in targets)
    return Outcome(tuple(files), summary, tuple(warnings))


def _members(found: Judged, target: Target) -> Iterator[SubRow]:
    return (row for row in found.rows if row.series_id == target.series.series_id and row.relation is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """A sub that is to be written, with its facts; travels to a worker."""

    row: SubRow
    facts: SubFacts
    path: Path


def _orders(reader: Reader, target: Target, rows: Sequence[SubRow], out: Path) -> Iterator[_Order]:
    for row, name in zip(rows, free_names((Path(row.path).stem for row in rows), "sub"), strict=True):
        facts = reader.facts(row.sub_id)
        assert facts is not None
        yield _Order(row, facts, place(out, f"{target.name}/{name}.{target.manner.kind}"))


def _made(target: Target, settings: Settings, order: _Order) -> tuple[SubRow, Path, str]:
    """Write one sub; returns what was written, and why not where its file cannot be read any more."""
    problem = ""
    try:
        _write_sub(order.path, _job(target, order, settings))
    except (FileProblem, MeasureFailure) as failure:
        problem = failure.sentence
    return order.row, order.path, problem


def _targets(reader: Reader, found: Judged, manner: Manner) -> Iterator[Target]:
    names = stack_names(list(found.series.values()))
    rows = {row.sub_id: row for row in found.rows}
    for series_id, series in found.series.items():
        reference, catalogue = rows.get(series.reference_id), reader.catalogue(series_id)
        facts = reader.facts(series.reference_id)
        if reference is None or reference.relation is None or catalogue is None or facts is None:
            continue
        if not manner.registered and reference.header.bayer_pattern:
            raise ExportProblem(f"{names[series_id]}: Bayer mosaics can only be exported registered.")
        related = Related(reference.sub_id, facts, reference.relation.zero, reference.relation.zero_err)
        yield Target(names[series_id], series, catalogue, reference, related, manner)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One sub on its way into a file."""

    row: SubRow
    target: Target
    frame: Frame
    surfaces: Sequence[Surface]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        header = self.target.reference.header if self.target.manner.registered else self.row.header
        return header.width_px, header.height_px

    @property
    def row_order(self) -> str:
        """Which row of the result is the top one, as FITS says it."""
        header = self.target.reference.header if self.target.manner.registered else self.row.header
        return header.row_order or "TOP-DOWN"

    def in_sub(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixels of the result -> pixels of the sub."""
        if not self.target.manner.registered:
            return x, y
        return self.row.transform.apply(*inverse(self.target.reference.transform, x, y))

    def in_reference(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixels of the result -> pixels of the reference."""
        if self.target.manner.registered:
            return x, y
        return self.target.reference.transform.apply(*inverse(self.row.transform, x, y))


def _job(target: Target, order: _Order, settings: Settings) -> _Job:
    row, facts = order.row, order.facts
    assert row.relation is not None
    found = gradient_surfaces(facts, target.related, row.relation.scale, target.catalogue, target.series.smoothness)
    surfaces = [surface for surface in found if surface is not None]
    if len(surfaces) < len(found):
        raise ExportProblem(f"{Path(row.path).name} has too little sky in common with the reference.")
    frame, calibration = read_as_measured(full_path(row), settings)
    if calibration != facts.calibration:
        raise ExportProblem(
            f"{Path(row.path).name} was measured with other master frames ({facts.calibration or 'none'}) than "
            f"[calibration] names now ({calibration or 'none'}): measure again, or set them as they were."
        )
    return _Job(row, target, frame, surfaces)


def _write_sub(path: Path, job: _Job) -> None:
    """Stream header and planes into a FITS or XISF file."""
    width, height = job.size
    channels, manner = len(job.frame.planes), job.target.manner
    header = _header(job, channels)
    with writing(path.parent, path.name, force=manner.force) as file:
        if manner.kind == "xisf":
            file.write(beginning(header, (channels, height, width), utc_text(manner.created_utc_s)))
        else:
            file.write(header.tostring(sep="", endcard=True, padding=True).encode("ascii"))
        for channel in range(channels):
            _write_plane(file, job, channel)
        if manner.kind == "fits":
            file.write(bytes(-(width * height * channels * 4) % BLOCK))


def _write_plane(file: BinaryIO, job: _Job, channel: int) -> None:
    """One channel, strip by strip, on both cores."""
    width, height = job.size
    plane = job.frame.planes[channel]
    pixels = np.nan_to_num(plane.pixels, copy=False)
    spline = ndimage.spline_filter(pixels, ORDER, output=np.float32) if job.target.manner.registered else pixels
    gradient = _gradient_samples(job, channel) @ _upsampling(width, SAMPLES[1]).T
    places = _place_samples(job, plane) @ _upsampling(width, PLACES).T
    work = partial(_strip, job, (plane, spline), (gradient, places), channel)
    xisf = job.target.manner.kind == "xisf"
    upwards = xisf and job.row_order == "BOTTOM-UP"  # XISF knows rows from the top only
    tops = range(0, height, STRIP_ROWS)
    with ThreadPoolExecutor(WORKERS) as pool:
        for strip in pool.map(work, reversed(tops) if upwards else tops):
            file.write((strip[::-1] if upwards else strip).astype("<f4" if xisf else ">f4").tobytes())


def _strip(
    job: _Job, source: tuple[Plane, Floats32], smooth: tuple[Floats, Floats], channel: int, top: int
) -> Floats32:
    """Rows of the result: scale times the sub minus its gradient, full scale = 1; 0 where the sub has no pixels.

    Parameters
    ----------
    source
        The plane and its spline coefficients.
    smooth
        Gradient and pixel places (x, y) of whole columns: upsampled along x, still coarse along y.
    """
    _, height = job.size
    rows = slice(top, min(top + STRIP_ROWS, height))
    relation = job.row.relation
    assert relation is not None
    plane, spline = source
    gradient = _upsampling(height, SAMPLES[0])[rows] @ smooth[0]
    if job.target.manner.registered:
        x, y = _upsampling(height, PLACES)[rows] @ smooth[1]
        light, inside = _resampled(plane, spline, x, y)
    else:
        light = plane.pixels[rows]
        inside = np.ones(light.shape, dtype=bool)
    out = relation.scale[channel] * light - gradient
    return np.where(inside, out / job.frame.full_scale_adu, 0.0).astype(np.float32)


def _resampled(plane: Plane, spline: Floats32, x: Floats, y: Floats) -> tuple[Floats32, NDArray[np.bool_]]:
    """The sub at places of the plane, and whether the plane reaches there; cubic, without ringing."""
    height_px, width_px = plane.pixels.shape
    inside = (x > -0.5) & (y > -0.5) & (x < width_px - 0.5) & (y < height_px - 0.5)
    if not inside.any():
        return np.zeros(x.shape, dtype=np.float32), inside
    light = ndimage.map_coordinates(spline, (y, x), order=ORDER, mode="mirror", prefilter=False, output=np.float32)
    left, top = (np.clip(np.floor(at).astype(np.int32), 0, size - 2) for at, size in ((x, width_px), (y, height_px)))
    return _clamped(light, plane.pixels, left, top), inside


def _clamped(light: Floats32, pixels: Floats32, left: NDArray[np.int32], top: NDArray[np.int32]) -> Floats32:
    """Values held within the range of the four nearest pixels, widened by half of it: stars keep their peaks."""
    corners = [pixels[top + dy, left + dx] for dy in (0, 1) for dx in (0, 1)]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    room = np.float32(0.5) * (high - low)
    return np.clip(light, low - room, high + room)


def _gradient_samples(job: _Job, channel: int) -> Floats:
    """The gradient on a coarse grid from the first to the last pixel of the result, ADU."""
    width, height = job.size
    x, y = np.meshgrid(np.linspace(0, width - 1, SAMPLES[1]), np.linspace(0, height - 1, SAMPLES[0]))
    return job.surfaces[channel].at(*job.in_reference(x, y))


def _place_samples(job: _Job, plane: Plane) -> Floats:
    """Where a coarse grid of the result's pixels lies in the plane: (2, n, n), x and y.

    The transforms are polynomials of second order, which cubic interpolation between few places follows exactly.
    """
    width, height = job.size
    x, y = job.in_sub(*np.meshgrid(np.linspace(0, width - 1, PLACES), np.linspace(0, height - 1, PLACES)))
    return np.stack(((x - plane.origin_x_px) / plane.step_px, (y - plane.origin_y_px) / plane.step_px))


@lru_cache(maxsize=8)
def _upsampling(size_px: int, samples: int) -> Floats:
    """(size, samples): cubic interpolation from the coarse grid to every pixel."""
    spline = make_interp_spline(np.linspace(0, size_px - 1, samples), np.eye(samples), k=3)
    return np.asarray(spline(np.arange(size_px)))


def _header(job: _Job, channels: int) -> fits.Header:
    """What stacking programs look for, noise and weight included."""
    width, height = job.size
    row, relation = job.row, job.row.relation
    assert relation is not None
    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = -32
    header["NAXIS"] = 3 if channels == 3 else 2
    header["NAXIS1"], header["NAXIS2"] = width, height
    if channels == 3:
        header["NAXIS3"] = 3
    header["IMAGETYP"] = "Light Frame"
    texts = {"OBJECT": row.header.object_name, "FILTER": row.header.filter_name, "INSTRUME": row.header.camera}
    for key, text in texts.items():
        if text:
            header[key] = _ascii(text)
    figures = {"EXPTIME": row.header.exposure_s, "GAIN": row.header.gain, "AIRMASS": row.header.airmass}
    for key, value in figures.items():
        if value is not None and np.isfinite(value):
            header[key] = value
    if row.header.start_utc_s is not None:
        header["DATE-OBS"] = utc_text(row.header.start_utc_s).rstrip("Z")
    header["ROWORDER"] = job.row_order
    for channel, (noise, scale) in enumerate(zip(row.noise_adu, relation.scale, strict=True)):
        header[f"NOISE{channel:02d}"] = (noise * scale / job.frame.full_scale_adu, "Noise before registration")
        header[f"NSGS{channel}"] = (1.0 / scale, "Transmission against the reference")
    header["NWEIGHT"] = (float(np.mean(relation.weight)), "Weight, reference = 1")
    header["HISTORY"] = "nsgd: scaled and gradient-matched to " + _ascii(Path(job.target.reference.path).name)
    return header


def _ascii(text: str) -> str:
    """Printable ASCII of a length that fits a card."""
    return text.encode("ascii", "replace").decode("ascii")[:60]


# --- what goes beside the frames -----------------------------------------------------------------------------------


def _write_companions(out: Path, target: Target, written: Sequence[tuple[SubRow, Path]]) -> list[Path]:
    """Scripts for PixInsight and Siril, and .xnml files that carry the weights."""
    if not written:
        return []
    ordered = sorted(written, key=lambda pair: -float(np.mean(pair[0].relation.weight)) if pair[0].relation else 0.0)
    files, inputs, force = [], [], target.manner.force
    for row, path in ordered:
        name = f"{target.name}/{path.stem}.xnml"
        files.append(write_bytes(out, name, to_bytes(_unchanged(row, target)), force=force))
        inputs.append(Input(True, mapped(path), mapped(files[-1])))
    stack = Integration(target.name, inputs, "", noise_known=True)
    if target.manner.registered:
        script = javascript(stack).encode("utf-8")
        files.append(write_bytes(out, f"{target.name}/integrate.js", script, force=force))
    if target.manner.registered and target.manner.kind == "fits":
        files.append(write_bytes(out, f"{target.name}/stack.ssf", SIRIL_SCRIPT.encode("ascii"), force=force))
    return files


def _unchanged(row: SubRow, target: Target) -> Xnml:
    """An .xnml that leaves pixels as they are: they are normalised already."""
    header = target.reference.header if target.manner.registered else row.header
    shape = (len(row.noise_adu), 2, 2)
    one = np.ones(shape, dtype=np.float32)
    return Xnml(header.width_px, header.height_px, one, np.zeros_like(one), relative_scale=(1.0,) * shape[0])


SIRIL_SCRIPT: Final = """# Registered and normalised already. In the folder of this file: siril-cli -s $PWD/stack.ssf
requires 1.0.0
link norm -out=process
cd process
stack norm rej 3 3 -nonorm -out=../stack
close
"""
