"""`nsgd export pixinsight`: registered frames -> .xnml, weights, and an ImageIntegration that is ready to run.

An .xnml is valid only for the very pixels that are integrated, so the registered frames themselves are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from nsgd.errors import ExportProblem
from nsgd.export.carried import Carried
from nsgd.export.cores import Cores, cores
from nsgd.export.files import open_folder, place, write_bytes
from nsgd.export.integration import Input, Integration, javascript, process_icons
from nsgd.export.judged import Judged
from nsgd.export.outcome import Outcome, Progress, no_progress
from nsgd.export.paths import PathMap, mapped
from nsgd.export.registered import (
    Group,
    Measuring,
    RegisteredFrame,
    find_frames,
    measure_groups,
    surfaces,
)
from nsgd.export.table import csv_bytes, sub_table, utc_text
from nsgd.export.text import free_names
from nsgd.export.xnml import Xnml, invalid, matrix_shape, nodes_for, to_bytes
from nsgd.frames.names import FITS_SUFFIXES, suffix_of
from nsgd.records import Floats32, SubStatus
from nsgd.settings import Settings

SAMPLES: Final = (73, 97)
"""Rows and columns of the grid on which a gradient surface is evaluated before it becomes spline nodes."""
STEP: Final = 2.0**-26
"""Nodes are rounded to this (0.001 of a 16-bit step), so that the files compress."""
FEWEST: Final = 3
"""ImageIntegration needs this many enabled frames."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is exported, and where to."""

    registered: Path
    """Folder of calibrated, registered frames."""
    out: Path
    path_map: PathMap = ()
    """How the machine that stacks sees the folders of this one."""
    force: bool = False


def export_pixinsight(
    job: Job, settings: Settings, carried: Carried, now_utc_s: float, progress: Progress = no_progress
) -> Outcome:
    """Measure registered frames and write all that PixInsight needs to stack them.

    Parameters
    ----------
    carried
        What people decided in the live session; `Carried()` for none.
    now_utc_s
        Creation time written into the files.

    Returns
    -------
    Outcome
        In --out: a folder of .xnml per filter, integrate_FILTER.js and weights_FILTER.csv, nsgd.xpsm, subs.csv.

    Raises
    ------
    ExportProblem
        No frames, none that can be measured, or --out cannot be written.
    """
    out = open_folder(job.out)
    _refuse_to_replace(job, out)
    paths = find_frames(job.registered, out)
    total = 2 * len(paths)
    with cores(settings, len(paths)) as working:
        measuring = Measuring(
            settings, carried, working, lambda done, _, name: progress(done, total, f"measuring {name}")
        )
        groups = measure_groups(job.registered, paths, measuring)
        writer = _Writer(job, out, utc_text(now_utc_s), working)
        stacks, done = [], len(paths)
        for group in groups:
            inputs = []
            for one, name in writer.write_group(group):
                inputs.append(one)
                done += 1
                progress(done, total, f"writing {name}")
            stacks.append(writer.stack(group, inputs))
    writer.write("nsgd.xpsm", process_icons(stacks))
    writer.write("subs.csv", csv_bytes(sub_table(_judged(groups))))
    return Outcome(tuple(writer.files), tuple(_summary(group) for group in groups), tuple(_warnings(groups)))


def _refuse_to_replace(job: Job, out: Path) -> None:
    """Before an hour of measuring, not after it."""
    for name in ("nsgd.xpsm", "subs.csv"):
        if not job.force and place(out, name).exists():
            raise ExportProblem(f"{out / name} exists already. Choose another --out, or use --force to replace it.")


class _Writer:
    """The files of one export."""

    def __init__(self, job: Job, out: Path, created: str, working: Cores) -> None:
        self.job, self.out, self.created, self.working = job, out, created, working
        self.files: list[Path] = []

    def write(self, name: str, content: bytes) -> Path:
        path = write_bytes(self.out, name, content, force=self.job.force)
        self.files.append(path)
        return path

    def write_group(self, group: Group) -> Iterator[tuple[Input, str]]:
        """Write the .xnml of every frame, best first, rejected and failed ones last; yields what was written.

        Files are made and written by the workers, so that none waits in memory.
        """
        frames = sorted(group.frames, key=partial(_place, group))
        names = [f"{group.name}/{name}.xnml" for name in free_names((frame.path.stem for frame in frames), "frame")]
        alone = replace(group, frames=(group.reference,), verdicts={})  # all that travels with every frame
        work = partial(_write_frame, self.job, self.out, alone, self.created)
        for frame, path in zip(frames, self.working.each(work, zip(frames, names, strict=True)), strict=True):
            self.files.append(path)
            drizzle = frame.path.with_suffix(".xdrz")
            yield (
                Input(
                    _accepted(group, frame),
                    self.there(frame.path),
                    self.there(path),
                    self.there(drizzle) if drizzle.exists() else "",
                ),
                frame.row.path,
            )

    def stack(self, group: Group, inputs: Sequence[Input]) -> Integration:
        """Write weights and script of a group."""
        weights = self.write(f"weights_{group.name}.csv", _weights(group, self.there))
        known = all(frame.row.header.noise_keys for frame in group.frames if frame.row.failure is None)
        stack = Integration(group.name, inputs, self.there(weights), known)
        self.write(f"integrate_{group.name}.js", javascript(stack).encode("utf-8"))
        return stack

    def there(self, path: Path) -> str:
        """The path as the machine that stacks sees it."""
        return mapped(path, self.job.path_map)


def _write_frame(job: Job, out: Path, group: Group, created: str, named: tuple[RegisteredFrame, str]) -> Path:
    """Make and write the .xnml of one frame."""
    frame, name = named
    paths = (mapped(frame.path, job.path_map), mapped(group.reference.path, job.path_map))
    content = to_bytes(normalization(group, frame, paths, created), note="made by nsgd")
    return write_bytes(out, name, content, force=job.force)


def normalization(group: Group, frame: RegisteredFrame, paths: tuple[str, str], created: str) -> Xnml:
    """The .xnml of one frame: A the scale, B minus the gradient, in units of full scale.

    Parameters
    ----------
    paths
        Of the frame and the reference, for the file.
    """
    width, height = group.catalogue.width_px, group.catalogue.height_px
    relation, reference = frame.row.relation, group.reference
    if relation is None:
        return invalid(width, height, paths[0], created)
    units = frame.full_scale_adu / reference.full_scale_adu
    scales = tuple(m * units for m in relation.scale)
    rows, columns = matrix_shape(width, height)
    multiply = np.empty((len(scales), rows, columns), dtype=np.float32)
    multiply[:] = np.array(scales, dtype=np.float32)[:, None, None]
    return Xnml(
        width,
        height,
        multiply,
        _offsets(group, frame),
        relative_scale=scales,
        reference_path=paths[1],
        sub_path=paths[0],
        created=created,
    )


def _offsets(group: Group, frame: RegisteredFrame) -> Floats32:
    """(channels, rows, columns) nodes of minus the gradient, in PixInsight's row order and units."""
    width, height = group.catalogue.width_px, group.catalogue.height_px
    upside_down = frame.row.header.row_order == "BOTTOM-UP" and suffix_of(frame.path) in FITS_SUFFIXES
    planes = []
    for surface in surfaces(group, frame):
        values = -surface.grid(width, height, SAMPLES[1], SAMPLES[0]) / group.reference.full_scale_adu
        planes.append(nodes_for(values[::-1] if upside_down else values, width, height))
    return (np.round(np.stack(planes) / STEP) * STEP).astype(np.float32)


def _accepted(group: Group, frame: RegisteredFrame) -> bool:
    verdict = group.verdicts.get(frame.row.sub_id)
    return verdict is not None and verdict.status is SubStatus.OK


def _place(group: Group, frame: RegisteredFrame) -> tuple[bool, float, int]:
    """Enabled frames first, by decreasing weight."""
    relation = frame.row.relation
    weight = float(np.mean(relation.weight)) if relation else 0.0
    return not _accepted(group, frame), -weight, frame.row.sub_id


def _weights(group: Group, there: Callable[[Path], str]) -> bytes:
    """PixInsight's weights file: no header, `path, w` or `path, wR, wG, wB`."""
    lines = []
    for frame in sorted(group.frames, key=partial(_place, group)):
        if frame.row.relation is not None:
            path = there(frame.path).replace('"', '""')
            lines.append(", ".join([f'"{path}"', *(f"{weight:.8g}" for weight in frame.row.relation.weight)]))
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _judged(groups: Sequence[Group]) -> Judged:
    return Judged(
        {group.series.series_id: group.series for group in groups},
        [frame.row for group in groups for frame in group.frames],
        {sub_id: verdict for group in groups for sub_id, verdict in group.verdicts.items()},
    )


def _summary(group: Group) -> str:
    accepted = sum(_accepted(group, frame) for frame in group.frames)
    failed = sum(frame.row.failure is not None for frame in group.frames)
    words = [f"{accepted} enabled", f"{len(group.frames) - accepted - failed} rejected"]
    if failed:
        words.append(f"{failed} failed")
    return f"{group.name}: {', '.join(words)}; reference {group.reference.row.path}"


def _warnings(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        accepted = sum(_accepted(group, frame) for frame in group.frames)
        if accepted < FEWEST:
            yield f"{group.name}: ImageIntegration needs {FEWEST} frames, only {accepted} are enabled."
        measured = [frame for frame in group.frames if frame.row.failure is None]
        if len({bool(frame.row.header.noise_keys) for frame in measured}) > 1:
            yield f"{group.name}: only some frames have NOISExx keywords; the noise of all is measured instead."
