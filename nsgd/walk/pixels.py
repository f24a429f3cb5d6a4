"""File -> facts: everything that needs a sub's pixels, in this process or in a worker.

What comes out follows from the file and the catalogues offered, from nothing else, so that a backlog
measured on many cores gives the same bytes as one measured sub by sub.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from nsgd.config import zone_of
from nsgd.errors import MeasureFailure, NotASub, UnreadableFrame
from nsgd.frames.preview import bin_for, make_preview, save_preview
from nsgd.frames.read import read_frame, read_master
from nsgd.measure import recipe
from nsgd.measure.calibrate import Masters, calibrated
from nsgd.measure.sky import View
from nsgd.records import Catalogue, Failure, Frame, HeaderFacts, Plane, SubFacts
from nsgd.session.series import series_key
from nsgd.settings import Calibration, Settings
from nsgd.threads import allow

NEW_SERIES = 0
STRANGER = -1
"""Series number of a candidate that is no series yet: a field that one sub has shown so far."""
RICHER = 1.6
"""A sub with this many times the catalogue's stars founds a new generation."""
SPARSE = 150
"""Only catalogues with fewer stars than this are looked at for growth."""
LEAST_NEW_GROUND = 0.4
SAME_FIELD = 0.3
"""Telescope positions farther apart than this part of the field are different panels."""
LEAST_FIELD_DEG = 0.17
"""Headers round positions: a field is taken for no smaller than this when positions are compared."""
STRANGER_STARS = 20


@dataclass(frozen=True, slots=True)
class Orders:
    """What measuring a file needs to know; small enough to travel with every file."""

    settings: Settings
    previews: str
    """Folder that previews go into, "" for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A series that a sub may belong to."""

    series_id: int
    catalogue: Catalogue
    ra_deg: float | None = None
    dec_deg: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one file. Exactly one of `ignored`, `unreadable`, `known`, `failure`, `facts` is set."""

    path: str
    header: HeaderFacts = field(default_factory=HeaderFacts)
    content_id: str = ""
    channels: tuple[str, ...] = ()
    ignored: str = ""
    """Kind of a file that is no sub."""
    unreadable: str = ""
    may_retry: bool = False
    known: bool = False
    failure: Failure | None = None
    facts: SubFacts | None = None
    series_id: int = NEW_SERIES
    catalogue: Catalogue | None = None
    """The catalogue of the facts where it is a new one: a new series' or a new generation."""
    stranger: Catalogue | None = None
    """Of a sub that matches nothing although it shows stars: what a second one like it may match."""
    offered: tuple[tuple[int, int], ...] = ()
    """Series and generations that were tried: the facts are stale where these have changed since."""
    measure_s: float = 0.0


Offer = Callable[[str], tuple[Candidate, ...]]


def offered(candidates: tuple[Candidate, ...]) -> tuple[tuple[int, int], ...]:
    """Series and generation of each candidate."""
    return tuple((candidate.series_id, candidate.catalogue.generation) for candidate in candidates)


def measure_file(path: Path, orders: Orders, offer: Offer, known: Callable[[str], bool]) -> Outcome:
    """Read and measure one file against the series that its header allows.

    Parameters
    ----------
    offer
        Gives the candidates for a series key, likeliest first.
    known
        Whether content of this id has been measured already.
    """
    began = time.perf_counter()
    try:
        frame = _read(path, orders.settings)
    except NotASub as problem:
        return Outcome(str(path), ignored=problem.kind)
    except UnreadableFrame as problem:
        return Outcome(str(path), unreadable=problem.sentence, may_retry=problem.may_retry)
    base = Outcome(str(path), frame.header, frame.content_id, frame.channels)
    if known(frame.content_id):
        return replace(base, known=True)
    candidates = offer(series_key(frame.header))
    base = replace(base, offered=offered(candidates))
    shown = frame
    try:
        frame, calibration = _calibrated(frame, orders.settings.calibration)
        near = [candidate for candidate in candidates if same_field(frame.header, candidate)]
        seen = recipe.survey(frame, orders.settings.measure, recipe.SUB_STARS) if near else None
        if seen is not None and not calibration:
            shown = _as_viewed(frame, seen)
        result = _measured(frame, seen, near, (orders.settings, calibration), base)
    except MeasureFailure as problem:
        result = replace(
            base, failure=failure_of(problem), series_id=candidates[0].series_id if candidates else NEW_SERIES
        )
    finally:
        _keep_preview(shown, orders.previews)
    if result.failure is not None:
        numbers = {**result.failure.numbers, **_light_in(frame)}
        result = replace(result, failure=replace(result.failure, numbers=numbers))
    return replace(result, measure_s=time.perf_counter() - began)


def _light_in(frame: Frame) -> dict[str, float]:
    """The level of a frame that could not be measured, ADU and as a part of full scale: dark, sky or daylight."""
    plane = frame.planes[0].light
    sample = plane[:: max(1, plane.shape[0] // 256), :: max(1, plane.shape[1] // 256)]
    if not np.isfinite(sample).any():
        return {}
    level_adu = float(np.nanmedian(sample))
    return {"level_adu": level_adu, "level_of_full": level_adu / frame.saturation_adu}


def failure_of(problem: MeasureFailure) -> Failure:
    """A failure to measure as the value that the store keeps."""
    return Failure(problem.kind, problem.sentence, dict(problem.numbers))


def measure_offered(path: str, orders: Orders, offers: Mapping[str, tuple[Candidate, ...]]) -> Outcome:
    """`measure_file` for a worker process: the candidates travel with the file."""
    allow(1)  # the workers, here or on a cluster, are the share of the cores
    return measure_file(Path(path), orders, lambda key: offers.get(key, ()), lambda content_id: False)


def read_as_measured(path: Path, settings: Settings) -> tuple[Frame, str]:
    """A sub's pixels as they are measured, and the names of the master frames that were applied to them.

    Raises
    ------
    UnreadableFrame, NotASub
        As `read_frame`.
    MeasureFailure
        The master frames do not fit the sub.
    """
    return _calibrated(_read(path, settings), settings.calibration)


def _read(path: Path, settings: Settings) -> Frame:
    site = settings.site
    place = None
    if site.latitude_deg is not None and site.longitude_deg is not None:
        place = (site.latitude_deg, site.longitude_deg)
    return read_frame(
        path, budget_mb=settings.watch.budget_mb, aliases=settings.filters, site=place, zone=zone_of(settings)
    )


def _as_viewed(frame: Frame, seen: recipe.Survey) -> Frame:
    """The frame averaged as it was surveyed: a small picture needs no other look at all pixels.

    As its sky was measured, or as its stars were sought where that makes a larger picture.
    """
    star_px, sky_px = (bin_for(max(view.pixels.shape)) * view.bin for view in (seen.view, seen.views[0]))
    own = seen.plane is frame.planes[0] and star_px < sky_px
    return replace(frame, planes=tuple(map(_averaged, frame.planes, (seen.view,) if own else seen.views)))


def _averaged(plane: Plane, view: View) -> Plane:
    middle_px = plane.step_px * (view.bin - 1) / 2
    origin = plane.origin_x_px + middle_px, plane.origin_y_px + middle_px
    return Plane(plane.name, view.pixels, *origin, plane.step_px * view.bin)


def _keep_preview(frame: Frame, folder: str) -> None:
    """Write the sub's small picture beside the store; a disk that refuses costs the picture only."""
    if not folder:
        return
    # Previews may be missing at any time; whether the disk can be written is the store's business to tell.
    with suppress(OSError):
        save_preview(Path(folder) / f"{frame.content_id}.npz", make_preview(frame))


def _measured(
    frame: Frame, seen: recipe.Survey | None, near: list[Candidate], how: tuple[Settings, str], base: Outcome
) -> Outcome:
    """Facts against the first candidate that matches; a new catalogue where there is none or it is outgrown."""
    settings, calibration = how
    if seen is None:
        catalogue = recipe.catalogue_from(frame, settings.measure)
        facts = recipe.measure_sub(frame, catalogue, settings.measure, calibration=calibration)
        return replace(base, facts=facts, catalogue=catalogue)
    problems = []
    for candidate in near:
        try:
            facts = recipe.measure_surveyed(frame, seen, candidate.catalogue, settings.measure, calibration)
        except MeasureFailure as problem:
            problems.append(problem)
            continue
        if candidate.series_id == STRANGER and not _is_moved_sky(facts, near[0].catalogue):
            continue
        return _grown(frame, facts, candidate, settings, replace(base, series_id=candidate.series_id))
    stranger = _stranger(frame, seen, near, settings)
    failure = failure_of(problems[0])
    if np.isfinite(seen.shape.ellipticity):
        failure = replace(failure, numbers={**failure.numbers, "ellipticity": seen.shape.ellipticity})
    return replace(base, failure=failure, series_id=near[0].series_id, stranger=stranger)


def _grown(frame: Frame, facts: SubFacts, candidate: Candidate, settings: Settings, base: Outcome) -> Outcome:
    catalogue = candidate.catalogue
    if not _outgrown(catalogue, facts):
        return replace(base, facts=facts, catalogue=catalogue if candidate.series_id == STRANGER else None)
    catalogue = recipe.catalogue_from(frame, settings.measure, catalogue, facts.transform)
    again = recipe.measure_sub(frame, catalogue, settings.measure, [facts.transform], facts.calibration)
    return replace(base, facts=again, catalogue=catalogue)


def _outgrown(catalogue: Catalogue, facts: SubFacts) -> bool:
    """Whether a sub shows far more stars than a poor catalogue has, or much ground that it does not cover."""
    richer = catalogue.stars_detected < SPARSE and facts.stars_detected > RICHER * catalogue.stars_detected + 5
    covered = float(np.mean(facts.node_fraction > 0)) if len(facts.node_fraction) else 1.0
    return bool(richer or covered < 1.0 - LEAST_NEW_GROUND)


def _stranger(frame: Frame, seen: recipe.Survey, near: list[Candidate], settings: Settings) -> Catalogue | None:
    """The catalogue of a sub that shows many stars of the right size and matches nothing: perhaps a new field.

    Where the header says that the telescope points at a series that exists, it is no new field but a lost one.
    """
    if any(offset_of_field(frame.header, candidate) is not None for candidate in near):
        return None
    enough = len(seen.stars) >= STRANGER_STARS
    star_like = seen.shape.fwhm_px * seen.plane.step_px > 0.6 * near[0].catalogue.fwhm_px
    if not (enough and star_like):
        return None
    with suppress(MeasureFailure):
        return recipe.catalogue_from(frame, settings.measure)
    return None


def _is_moved_sky(facts: SubFacts, catalogue: Catalogue) -> bool:
    """Whether two strangers share a sky: matched beyond doubt, and not by what stays put in the sensor."""
    shift = max(abs(facts.transform.tx), abs(facts.transform.ty), abs(facts.transform.rotation_deg) * 10.0)
    star_like = facts.fwhm_px > 0.6 * catalogue.fwhm_px
    return facts.stars_matched >= 12 and facts.false_match_log10 < -8.0 and star_like and shift > 0.3


def same_field(header: HeaderFacts, candidate: Candidate) -> bool:
    """False where the telescope pointed clearly elsewhere; True where that is not known."""
    offset = offset_of_field(header, candidate)
    return offset is None or offset < SAME_FIELD


def offset_of_field(header: HeaderFacts, candidate: Candidate) -> float | None:
    """How far the telescope pointed from a series' field, in short sides of the frame; None where that is not known."""
    here, there = (header.ra_deg, header.dec_deg), (candidate.ra_deg, candidate.dec_deg)
    if not header.pixel_size_um or not header.focal_length_mm or None in here or None in there:
        return None
    field_deg = np.degrees(
        1e-3 * header.pixel_size_um * min(header.width_px, header.height_px) / header.focal_length_mm
    )
    ra, dec, ra0, dec0 = np.radians(np.array([*here, *there], dtype=np.float64))
    across = (ra - ra0 + np.pi) % (2 * np.pi) - np.pi
    return float(np.degrees(np.hypot(across * np.cos(dec0), dec - dec0)) / max(field_deg, LEAST_FIELD_DEG))


def _calibrated(frame: Frame, wanted: Calibration) -> tuple[Frame, str]:
    """The frame after the master frames of the settings, and their names; unchanged where there are none."""
    names = tuple(name for name in (wanted.bias, wanted.dark, wanted.flat) if name)
    if not names or frame.header.calibrated:
        return frame, ""
    masters = _masters(wanted, tuple(Path(name).stat().st_mtime_ns for name in names))
    return calibrated(frame, masters), "+".join(Path(name).name for name in names)


@lru_cache(maxsize=2)
def _masters(wanted: Calibration, written: tuple[int, ...]) -> Masters:
    """The master frames, read once while the files stay as they are."""

    def load(name: str) -> Frame | None:
        return read_master(Path(name)) if name else None

    return Masters(load(wanted.bias), load(wanted.dark), load(wanted.flat))
