"""Calibrated, registered frames, measured with the engine of the live night, for what is to be stacked.

The frames share one geometry, so every transform is the identity; zeros around the registered picture are no sky.
One group per filter: one catalogue, one solution, one reference, verdicts by the same rules as at night.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsgd.errors import ExportProblem, FileProblem, MeasureFailure, NsgdError
from nsgd.export.carried import Carried
from nsgd.export.cores import Cores
from nsgd.export.outcome import Progress
from nsgd.export.text import free_names
from nsgd.frames.read import looks_like_image, read_frame, read_header
from nsgd.measure import scale
from nsgd.measure.gradient import Surface
from nsgd.measure.recipe import catalogue_from, identity_facts
from nsgd.measure.relate import Related, gradient_surfaces, measured_channels, relate
from nsgd.records import (
    Catalogue,
    Failure,
    Floats,
    Floats16,
    Frame,
    HeaderFacts,
    Pixels,
    SeriesRow,
    SubFacts,
    SubRow,
    Verdict,
)
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.series import natural_key, series_key, session_of, stream_key
from nsgd.settings import Settings
from nsgd.walk import best_reference

PER_PIXEL_BYTES: Final = 7.0
"""Of a frame while it is measured: its pixels, the binned view, masks."""
FULL_SCALE_ADU: Final = 65535.0
"""What 1 becomes in frames of floating point."""
EMPTY_SIDE: Final = 0.05
"""A row or column with a larger part of missing pixels belongs to the border."""
MOST_FRAMES: Final = 0.8
"""Sky nodes keep clear of the borders of this part of the frames; wider ones cost a frame its outer nodes."""
BLOCK_PX: Final = 16
"""Empty borders are looked for in blocks of this side."""
MISPLACED_SCATTER: Final = 0.5
"""Star ratios that scatter more than this were not taken at stars: the frame is not registered."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredFrame:
    """One frame: its row (scalars, relation, failure) and what its gradient is made of."""

    path: Path
    row: SubRow
    facts: SubFacts | None = None
    full_scale_adu: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Frames that can go into one stack, in mid-exposure order."""

    name: str
    """The filter, for file names."""
    series: SeriesRow
    catalogue: Catalogue
    frames: tuple[RegisteredFrame, ...]
    verdicts: Mapping[int, Verdict]

    @property
    def reference(self) -> RegisteredFrame:
        """The frame that the others are matched to."""
        return next(frame for frame in self.frames if frame.row.sub_id == self.series.reference_id)


def find_frames(folder: Path, leave_out: Path) -> list[Path]:
    """FITS and XISF files below a folder in natural name order, without what lies in `leave_out`.

    Raises
    ------
    ExportProblem
        There are none.
    """
    kept_out = leave_out.resolve()
    found = [path for path in folder.rglob("*") if path.is_file() and looks_like_image(path)]
    found = [path for path in found if not path.resolve().is_relative_to(kept_out)]
    if not found:
        raise ExportProblem(f"There are no FITS or XISF files in {folder}: name the folder of the registered frames.")
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


@dataclass(frozen=True, slots=True, eq=False)
class Measuring:
    """What frames are measured with."""

    settings: Settings
    carried: Carried
    """What people decided about these frames in the live session."""
    cores: Cores
    progress: Progress


def measure_groups(folder: Path, paths: Sequence[Path], how: Measuring) -> list[Group]:
    """Measure registered frames and judge them, filter by filter.

    Parameters
    ----------
    folder
        What the names of the frames are relative to.

    Raises
    ------
    ExportProblem
        No frame can be measured.
    """
    frames = [_listed(number, path, folder, how.settings) for number, path in enumerate(paths, start=1)]
    done, groups = 0, []
    for number, (name, members) in enumerate(_split(frames).items(), start=1):
        step = partial(_report, how.progress, done, len(frames))
        group = _measure_group(name, members, _Night(how, number, step))
        done += len(members)
        if group is not None:
            groups.append(group)
    if not groups:
        raise ExportProblem("None of the frames can be measured: are they calibrated, registered light frames?")
    return groups


def surfaces(group: Group, frame: RegisteredFrame) -> list[Surface]:
    """Gradient of each channel, ADU: scale * frame minus reference, constant included.

    Raises
    ------
    MeasureFailure
        The frame was not measured, or has too little sky in common with the reference.
    """
    relation, reference = frame.row.relation, group.reference
    if frame.facts is None or relation is None or reference.facts is None or reference.row.relation is None:
        raise MeasureFailure("not_measured", "the frame was not measured")
    related = Related(reference.row.sub_id, reference.facts, (), ())
    found = gradient_surfaces(frame.facts, related, relation.scale, group.catalogue, group.series.smoothness)
    shapes = [surface for surface in found if surface is not None]
    if len(shapes) < len(found):
        raise MeasureFailure("no_sky", "too little sky in common with the reference")
    return shapes


def _report(progress: Progress, before: int, total: int, done: int, name: str) -> None:
    progress(before + done, total, name)


def _listed(number: int, path: Path, folder: Path, settings: Settings) -> RegisteredFrame:
    """A frame with its header, or with the reason why it has none."""
    failure = None
    try:
        header = read_header(path, aliases=settings.filters)
    except FileProblem as problem:
        header, failure = HeaderFacts(), Failure("unreadable", problem.sentence)
    timed = header.mid_utc_s is not None
    order_utc_s = float(header.mid_utc_s or 0.0)
    row = SubRow(
        sub_id=number,
        content_id="",
        series_id=0,
        stream=stream_key(header),
        folder=str(folder),
        path=path.relative_to(folder).as_posix(),
        gone=False,
        header=header,
        session=session_of(order_utc_s, None),
        arrived_utc_s=order_utc_s,
        order_utc_s=order_utc_s,
        order_flag="" if timed else "no time in the header",
        failure=failure,
        measure_s=float("nan"),
    )
    return RegisteredFrame(path, row)


def _split(frames: Sequence[RegisteredFrame]) -> dict[str, list[RegisteredFrame]]:
    """Frames by filter, under names for files. Those that cannot be read are reported with the largest group."""
    by_filter: dict[str, list[RegisteredFrame]] = defaultdict(list)
    for frame in frames:
        if frame.row.failure is None:
            by_filter[frame.row.header.filter_name].append(frame)
    if by_filter:
        max(by_filter.values(), key=len).extend(frame for frame in frames if frame.row.failure is not None)
    names = free_names(("unfiltered" if name == "none" else name for name in by_filter), "filter")
    return dict(zip(names, by_filter.values(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class _Night:
    """What the measurement of one group needs besides its frames."""

    how: Measuring
    series_id: int
    step: Callable[[int, str], None]


def _measure_group(name: str, members: Sequence[RegisteredFrame], night: _Night) -> Group | None:
    """One group, None where no frame of it can be measured."""
    carried, settings, cores = night.how.carried, night.how.settings, night.how.cores
    live = {frame.row.sub_id: carried.sub(frame.path, frame.row.header) for frame in members}
    chosen = _chosen_reference(members, live, carried)
    catalogue = _catalogue([chosen] if chosen else _spread(members, 3), settings)
    if catalogue is None:
        return None
    measured, frame_mb = [], _frame_mb(catalogue)
    seen = cores.each(partial(_margins, settings=settings), _spread(members, 12), frame_mb)
    catalogue = _with_lattice(catalogue, np.quantile([found for found in seen if found], MOST_FRAMES, axis=0))
    work = partial(_measured, catalogue=catalogue, settings=settings)
    for done, frame in enumerate(cores.each(work, members, frame_mb), start=1):
        decision = live[frame.row.sub_id]
        measured.append(replace(frame, row=replace(frame.row, decision=decision.decision if decision else "")))
        night.step(done, frame.row.path)
    known = [series for row in live.values() if (series := carried.series(row)) is not None]
    series = _series(members[0].row.header, catalogue, known[0] if known else None, night)
    return _judged(name, series, (catalogue, measured, chosen), settings)


def _frame_mb(catalogue: Catalogue) -> float:
    """Memory for the pixels of one frame while it is measured."""
    return 1e-6 * PER_PIXEL_BYTES * catalogue.width_px * catalogue.height_px * len(catalogue.channels)


def _chosen_reference(
    members: Sequence[RegisteredFrame], live: Mapping[int, SubRow | None], carried: Carried
) -> RegisteredFrame | None:
    """The frame of the sub that a person chose as reference."""
    for frame in members:
        row = live[frame.row.sub_id]
        series = carried.series(row)
        if row is not None and series is not None and series.reference_chosen and series.reference_id == row.sub_id:
            return frame
    return None


def _spread(members: Sequence[RegisteredFrame], count: int) -> list[RegisteredFrame]:
    """Readable frames, evenly spread over the night: cloud and drift do not spoil all of them as a rule."""
    readable = [frame for frame in members if frame.row.failure is None]
    places = np.unique(np.linspace(0, len(readable) - 1, count).round().astype(int)) if readable else ()
    return [readable[place] for place in places]


def _margins(frame: RegisteredFrame, settings: Settings) -> tuple[int, int, int, int] | None:
    """Width of the empty border at the left, right, top and bottom, pixels."""
    try:
        picture = _picture(frame.path, settings)
    except (FileProblem, MeasureFailure):
        return None
    return borders(np.isnan(picture.planes[0].pixels))


def borders(empty: Mask) -> tuple[int, int, int, int]:
    """How many columns and rows to leave out at the left, right, top and bottom until no side is empty.

    The side with the most missing pixels goes first, so that a border below does not count against the columns.
    """
    left, right, top, bottom = 0, empty.shape[1], 0, empty.shape[0]
    while right - left > 1 and bottom - top > 1:
        sides = (
            empty[top:bottom, left].mean(),
            empty[top:bottom, right - 1].mean(),
            empty[top, left:right].mean(),
            empty[bottom - 1, left:right].mean(),
        )
        worst = int(np.argmax(sides))
        if sides[worst] <= EMPTY_SIDE:
            break
        left, right, top, bottom = left + (worst == 0), right - (worst == 1), top + (worst == 2), bottom - (worst == 3)
    return left, empty.shape[1] - right, top, empty.shape[0] - bottom


def _with_lattice(catalogue: Catalogue, margins: Floats) -> Catalogue:
    """The catalogue with sky nodes up to the edges of what most frames cover; neighbours overlap a little."""
    side = 2 * catalogue.node_half_px
    x = _centres(float(margins[0]), catalogue.width_px - float(margins[1]), side)
    y = _centres(float(margins[2]), catalogue.height_px - float(margins[3]), side)
    node_x, node_y = (grid.ravel() for grid in np.meshgrid(x, y))
    return replace(catalogue, node_x=node_x, node_y=node_y)


def _centres(low_px: float, high_px: float, side_px: float) -> Floats:
    count = max(1, int(np.ceil((high_px - low_px) / side_px)))
    if count == 1:
        return np.array([0.5 * (low_px + high_px - 1.0)])
    return np.linspace(low_px - 0.5 + side_px / 2, high_px - 0.5 - side_px / 2, count)


def _catalogue(candidates: Sequence[RegisteredFrame], settings: Settings) -> Catalogue | None:
    """Catalogue of the candidate with the most stars, None where none can be measured."""
    best: Catalogue | None = None
    for candidate in candidates:
        try:
            catalogue = catalogue_from(_picture(candidate.path, settings), settings.measure)
        except (FileProblem, MeasureFailure):
            continue
        if best is None or catalogue.stars_detected > best.stars_detected:
            best = catalogue
    return best


def _picture(path: Path, settings: Settings) -> Frame:
    """The frame in 16-bit ADU with its empty borders marked as missing."""
    frame = read_frame(path, budget_mb=settings.watch.budget_mb, aliases=settings.filters)
    if frame.header.bayer_pattern:
        raise MeasureFailure("mosaic", "a Bayer mosaic cannot be registered: debayer it first")
    in_adu = frame.full_scale_adu > 1.0
    for plane in frame.planes:
        mark_borders(plane.pixels)
        if not in_adu:
            plane.pixels[...] *= np.float32(FULL_SCALE_ADU)
    # averages that were made of the pixels as the file holds them do not come along
    frame = replace(frame, planes=tuple(map(replace, frame.planes)), interpolated=True)
    if in_adu:
        return frame
    gain = frame.header.egain_e_per_adu
    return replace(
        frame,
        header=replace(frame.header, egain_e_per_adu=None if gain is None else gain / FULL_SCALE_ADU),
        saturation_adu=frame.saturation_adu * FULL_SCALE_ADU,
        full_scale_adu=frame.full_scale_adu * FULL_SCALE_ADU,
    )


def mark_borders(pixels: Pixels) -> None:
    """Set to NaN what registration left empty: zeros that reach the edge along their row or column."""
    empty = pixels == 0
    for top in range(0, len(pixels), BLOCK_PX):
        empty[top : top + BLOCK_PX] |= ~np.isfinite(pixels[top : top + BLOCK_PX])
    if not empty.any():
        return
    runs = [_runs(empty), _runs(empty[:, ::-1]), _runs(empty.T), _runs(empty[::-1].T)]
    for view, lengths in zip((pixels, pixels[:, ::-1], pixels.T, pixels[::-1].T), runs, strict=True):
        for at in np.flatnonzero(lengths):
            view[at, : lengths[at]] = np.nan


def _runs(empty: Mask) -> NDArray[np.int64]:
    """How many flags are set in each row, counted from its beginning without a gap."""
    full = empty.all(axis=1)
    return np.asarray(np.where(full, empty.shape[1], empty.argmin(axis=1)), dtype=np.int64)


def _measured(frame: RegisteredFrame, catalogue: Catalogue, settings: Settings) -> RegisteredFrame:
    """Facts of one frame, or the reason why it has none."""
    if frame.row.failure is not None:
        return frame
    try:
        picture = _picture(frame.path, settings)
        _check_geometry(picture, catalogue)
        facts = identity_facts(picture, catalogue, settings.measure)
    except FileProblem as problem:
        return _failed(frame, "unreadable", problem)
    except MeasureFailure as problem:
        return _failed(frame, problem.kind, problem)
    facts = replace(facts, node_fraction=_nodes_inside(picture, catalogue, facts.node_fraction))
    row = replace(
        frame.row,
        content_id=picture.content_id,
        header=picture.header,
        generation=facts.generation,
        stars_matched=facts.stars_matched,
        stars_expected=facts.stars_expected,
        stars_detected=facts.stars_detected,
        noise_adu=facts.noise_adu,
        sky_adu=facts.sky_adu,
        fwhm_px=facts.fwhm_px,
        ellipticity=facts.ellipticity,
        background_rms_adu=facts.background_rms_adu,
    )
    return RegisteredFrame(frame.path, row, facts, picture.full_scale_adu)


def _check_geometry(picture: Frame, catalogue: Catalogue) -> None:
    header = picture.header
    if picture.channels != catalogue.channels:
        raise MeasureFailure("channels", "colour and mono frames cannot go into one stack")
    if (header.width_px, header.height_px) != (catalogue.width_px, catalogue.height_px):
        raise MeasureFailure(
            "geometry",
            f"it has {header.width_px} x {header.height_px} pixels, the others {catalogue.width_px} x "
            f"{catalogue.height_px}: register them together",
        )


def _failed(frame: RegisteredFrame, kind: str, problem: NsgdError) -> RegisteredFrame:
    failure = Failure(kind, problem.sentence, dict(problem.numbers))
    return replace(frame, facts=None, row=replace(frame.row, relation=None, failure=failure))


def _nodes_inside(picture: Frame, catalogue: Catalogue, fraction: Floats16) -> Floats16:
    """Fraction of each node's box that is sky, 0 where the box reaches into an empty border.

    What the border leaves of a box lies off its centre, which a gradient turns into a wrong level.
    """
    empty = np.zeros((picture.header.height_px // BLOCK_PX + 1, picture.header.width_px // BLOCK_PX + 1))
    for plane in picture.planes:
        blocks = _any_in_blocks(np.isnan(plane.pixels))
        empty[: blocks.shape[0], : blocks.shape[1]] += blocks
    summed = np.pad(empty.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    half = catalogue.node_half_px
    left, right = _blocks_within(catalogue.node_x - half, catalogue.node_x + half, empty.shape[1])
    top, bottom = _blocks_within(catalogue.node_y - half, catalogue.node_y + half, empty.shape[0])
    inside = summed[bottom + 1, right + 1] - summed[top, right + 1] - summed[bottom + 1, left] + summed[top, left]
    return np.where(inside == 0, fraction, 0.0).astype(np.float16)


def _any_in_blocks(flags: Mask) -> Mask:
    """Whether any flag is set in each block of `BLOCK_PX` pixels' side."""
    rows = np.logical_or.reduceat(flags, np.arange(0, flags.shape[0], BLOCK_PX), axis=0)
    return np.asarray(np.logical_or.reduceat(rows, np.arange(0, flags.shape[1], BLOCK_PX), axis=1))


def _blocks_within(low_px: Floats, high_px: Floats, blocks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last block that lie wholly in a range of pixels."""
    first = np.clip(np.ceil((low_px + 0.5) / BLOCK_PX), 0, blocks - 1)
    last = np.clip(np.floor((high_px + 0.5) / BLOCK_PX) - 1, first, blocks - 1)
    return first.astype(np.int64), last.astype(np.int64)


def _with_header_noise(frames: Sequence[RegisteredFrame]) -> list[RegisteredFrame]:
    """NOISExx, of the unregistered pixels, in place of the measured noise, where every frame has it.

    It is what PixInsight weights with; figures of two kinds are never compared.
    """
    if not all(frame.facts is None or _header_noise(frame) for frame in frames):
        return list(frames)
    return [_with_noise(frame, _header_noise(frame)) for frame in frames]


def _header_noise(frame: RegisteredFrame) -> tuple[float, ...]:
    """NOISExx in ADU, () where the header does not have it for every channel."""
    keys = frame.row.header.noise_keys
    good = frame.facts is not None and len(keys) == len(frame.facts.noise_adu) and all(key > 0 for key in keys)
    return tuple(key * frame.full_scale_adu for key in keys) if good else ()


def _with_noise(frame: RegisteredFrame, noise_adu: tuple[float, ...]) -> RegisteredFrame:
    if frame.facts is None:
        return frame
    facts, row = replace(frame.facts, noise_adu=noise_adu), replace(frame.row, noise_adu=noise_adu)
    return replace(frame, facts=facts, row=row)


def _series(header: HeaderFacts, catalogue: Catalogue, live: SeriesRow | None, night: _Night) -> SeriesRow:
    """The group's series, with smoothness and cut-offs of the live one."""
    return SeriesRow(
        series_id=night.series_id,
        key=series_key(replace(header, width_px=catalogue.width_px, height_px=catalogue.height_px)),
        object_name=header.object_name,
        filter_name=header.filter_name,
        camera=header.camera,
        binning=header.binning,
        width_px=catalogue.width_px,
        height_px=catalogue.height_px,
        channels=catalogue.channels,
        reference_id=0,
        reference_chosen=False,
        smoothness=live.smoothness if live else night.how.settings.measure.smoothness,
        limits=live.limits if live else {},
        generation=1,
        solution=1,
    )


def _judged(
    name: str,
    series: SeriesRow,
    parts: tuple[Catalogue, Sequence[RegisteredFrame], RegisteredFrame | None],
    settings: Settings,
) -> Group | None:
    """Solve for star fluxes and zero points, choose the reference, relate and judge."""
    catalogue, measured, chosen = parts
    measured = _with_header_noise(measured)
    zeros = _zero_points(measured)
    frames = [_checked(frame, zeros.get(frame.row.sub_id, ()), settings) for frame in measured]
    good = [frame for frame in frames if frame.facts is not None]
    if not good:
        return None
    solved = _Solved(name, catalogue, frames, zeros, settings)
    by_hand = next((frame for frame in good if chosen and frame.path == chosen.path), None)
    if by_hand is not None:
        return solved.against(by_hand, replace(series, reference_chosen=True))[0]
    first, verdicts = solved.against(_best(good, zeros), series)
    best = best_reference([frame.row for frame in first.frames], verdicts)
    better = next((frame for frame in good if frame.row.sub_id == best), first.reference)
    return first if better.row.sub_id == first.series.reference_id else solved.against(better, series)[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """Frames whose zero points are known, ready to be related to any reference."""

    name: str
    catalogue: Catalogue
    frames: Sequence[RegisteredFrame]
    zeros: Mapping[int, tuple[scale.ZeroPoint, ...]]
    settings: Settings

    def against(self, reference: RegisteredFrame, series: SeriesRow) -> tuple[Group, Verdicts]:
        """The group with this reference, and its verdicts as columns."""
        assert reference.facts is not None
        series = replace(series, reference_id=reference.row.sub_id)
        related = Related(reference.row.sub_id, reference.facts, *_values(self.zeros[reference.row.sub_id]))
        frames = [_related(frame, self.zeros, related, (self.catalogue, series)) for frame in self.frames]
        frames.sort(key=lambda frame: (bool(frame.row.order_flag), frame.row.order_utc_s, natural_key(frame.row.path)))
        found = judge(Columns.from_rows(frame.row for frame in frames), series, self.settings.limits)
        verdicts = {verdict.sub_id: verdict for verdict in (found.row(at) for at in range(len(found)))}
        return Group(self.name, series, self.catalogue, tuple(frames), verdicts), found


def _values(zeros: Sequence[scale.ZeroPoint]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(zero.value for zero in zeros), tuple(zero.err for zero in zeros)


def _zero_points(measured: Sequence[RegisteredFrame]) -> dict[int, tuple[scale.ZeroPoint, ...]]:
    """Zero points of all frames, per channel, from one joint fit each; by sub_id."""
    good = [frame for frame in measured if frame.facts is not None]
    subs = [measured_channels(f.facts, f.row.header.egain_e_per_adu) for f in good if f.facts is not None]
    fitted = [scale.solve(channel)[1] for channel in zip(*subs, strict=True)]
    return {frame.row.sub_id: tuple(zeros[at] for zeros in fitted) for at, frame in enumerate(good)}


def _checked(frame: RegisteredFrame, zeros: Sequence[scale.ZeroPoint], settings: Settings) -> RegisteredFrame:
    """The frame as it is, or as a failure where its stars do not agree on a scale."""
    if frame.facts is None:
        return frame
    stars, needed = min(zero.stars for zero in zeros), settings.measure.min_matched_stars
    if stars < needed:
        problem = MeasureFailure("no_stars", f"{stars} stars measured, {needed} needed", stars=stars)
        return _failed(frame, problem.kind, problem)
    if not all(zero.value > 0 and zero.scatter < MISPLACED_SCATTER for zero in zeros):
        problem = MeasureFailure("not_registered", "its stars are not where the other frames have them: register it")
        return _failed(frame, problem.kind, problem)
    return frame


def _best(good: Sequence[RegisteredFrame], zeros: Mapping[int, Sequence[scale.ZeroPoint]]) -> RegisteredFrame:
    """The frame with the highest signal to noise per exposure that nobody has rejected."""

    def merit(frame: RegisteredFrame) -> float:
        pairs = zip(zeros[frame.row.sub_id], frame.row.noise_adu, strict=True)
        return sum((zero.value / noise) ** 2 for zero, noise in pairs) / (frame.row.header.exposure_s or 1.0)

    kept = [frame for frame in good if frame.row.decision != "reject"] or list(good)
    return max(kept, key=merit)


def _related(
    frame: RegisteredFrame,
    zeros: Mapping[int, tuple[scale.ZeroPoint, ...]],
    reference: Related,
    place: tuple[Catalogue, SeriesRow],
) -> RegisteredFrame:
    """The frame with its relation, or as a failure where it has no sky in common with the reference."""
    catalogue, series = place
    frame = replace(frame, row=replace(frame.row, series_id=series.series_id))
    if frame.facts is None:
        return frame
    relation = relate(frame.facts, zeros[frame.row.sub_id], reference, catalogue, series.smoothness, series.solution)
    if not np.isfinite(relation.gradient_rms_adu):
        problem = MeasureFailure("no_sky", "too little sky in common with the reference")
        return _failed(frame, problem.kind, problem)
    return replace(frame, row=replace(frame.row, relation=relation))
