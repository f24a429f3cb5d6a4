"""`nsgd export siril`: the accepted subs as links, a script that stacks them, and lists for any other program.

Siril's own commands select nothing in a script, so the script sees only what is accepted; for the window there is a
sequence of all subs with the rejected ones unselected. The capture folder is linked to, never touched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nsgd.errors import ExportProblem
from nsgd.export.files import open_folder, place, write_bytes
from nsgd.export.judged import Judged, judged
from nsgd.export.outcome import Outcome, Progress, no_progress
from nsgd.export.paths import PathMap, mapped
from nsgd.export.table import csv_bytes, sub_table
from nsgd.export.text import free_names
from nsgd.frames.names import FITS_SUFFIXES, suffix_of
from nsgd.records import SeriesRow, SubRow
from nsgd.session.store import Reader
from nsgd.settings import Settings

TEXT_COLUMNS: Final = frozenset(
    {
        "file",
        "series",
        "object",
        "filter",
        "date_obs",
        "status",
        "reasons",
        "sky_state",
        "stream",
        "session",
        "decision",
        "pattern",
        "camera",
        "failure",
    }
)
ACCEPTED: Final = "accepted"
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Stack:
    """The subs of one series that lie where they were measured."""

    name: str
    series: SeriesRow
    rows: Sequence[SubRow]
    accepted: Sequence[bool]

    @property
    def count(self) -> int:
        """Accepted subs."""
        return sum(self.accepted)


def export_siril(
    reader: Reader,
    out: Path,
    settings: Settings,
    *,
    path_map: PathMap = (),
    force: bool = False,
    progress: Progress = no_progress,
) -> Outcome:
    """Write a folder per series for Siril, and lists of the accepted subs for other programs.

    Returns
    -------
    Outcome
        SERIES/stack.ssf, SERIES/accepted (links), SERIES/all (links and a sequence with the selection),
        SERIES/accepted.txt, and subs.csv and subs.json of everything.

    Raises
    ------
    ExportProblem
        Nothing is measured yet, or --out cannot be written.
    """
    out = open_folder(out)
    found = judged(reader, settings)
    stacks, warnings = _stacks(found)
    if not stacks:
        raise ExportProblem("No measured sub lies where it was: there is nothing to stack.")
    table = sub_table(found)
    files = [
        write_bytes(out, "subs.csv", csv_bytes(table), force=force),
        write_bytes(out, "subs.json", json_bytes(table), force=force),
    ]
    for done, stack in enumerate(stacks):
        progress(done, len(stacks), stack.name)
        files += _write_stack(stack, out, path_map, force)
        if suffix_of(full_path(stack.rows[0])) not in FITS_SUFFIXES:
            warnings.append(f"{stack.name}: Siril reads FITS only; convert these files first.")
    progress(len(stacks), len(stacks), "done")
    summary = tuple(f"{stack.name}: {stack.count} of {len(stack.rows)} subs accepted" for stack in stacks)
    return Outcome(tuple(files), summary, tuple(warnings))


def full_path(row: SubRow) -> Path:
    """Where the sub lies."""
    return Path(row.folder) / row.path


def json_bytes(table: Sequence[dict[str, str]]) -> bytes:
    """The table as JSON: a list of objects, figures as numbers, missing ones null."""
    typed = [{name: _typed(name, text) for name, text in line.items()} for line in table]
    return (json.dumps(typed, indent=1) + "\n").encode("ascii")


def _typed(name: str, text: str) -> str | float | None:
    if name in TEXT_COLUMNS:
        return text
    return float(text) if text else None


def stack_names(series: Sequence[SeriesRow]) -> dict[int, str]:
    """A folder name for every series: object and filter, numbered where two are alike."""
    labels = (
        "_".join(part for part in (one.object_name, "" if one.filter_name == "none" else one.filter_name) if part)
        for one in series
    )
    return dict(zip((one.series_id for one in series), free_names(labels, "subs"), strict=True))


def _stacks(found: Judged) -> tuple[list[Stack], list[str]]:
    """Series with measured subs that still exist, and a word on those that do not."""
    names = stack_names(list(found.series.values()))
    stacks, warnings = [], []
    for series_id, series in found.series.items():
        members = [row for row in found.rows if row.series_id == series_id and row.failure is None]
        present = [row for row in members if full_path(row).is_file()]
        if len(present) < len(members):
            warnings.append(f"{names[series_id]}: {len(members) - len(present)} subs are gone and left out.")
        if present:
            stacks.append(Stack(names[series_id], series, present, [found.accepted(row) for row in present]))
    return stacks, warnings


def _write_stack(stack: Stack, out: Path, path_map: PathMap, force: bool) -> list[Path]:
    paths = [full_path(row) for row in stack.rows]
    good = [path for path, accepted in zip(paths, stack.accepted, strict=True) if accepted]
    _link_all(good, place(out, f"{stack.name}/{ACCEPTED}"), force)
    _link_all(paths, place(out, f"{stack.name}/{ALL}"), force)
    listed = "".join(f"{mapped(path, path_map)}\n" for path in good).encode("utf-8", "surrogateescape")
    contents = {
        f"{ALL}/sub_.seq": sequence("sub_", stack.accepted).encode("ascii"),
        "stack.ssf": script(bool(stack.rows[0].header.bayer_pattern)).encode("ascii"),
        "accepted.txt": listed,
    }
    return [write_bytes(out, f"{stack.name}/{name}", content, force=force) for name, content in contents.items()]


def _link_all(paths: Sequence[Path], folder: Path, force: bool) -> None:
    """Links sub_00001.fits... to files, in their order, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    if force:
        for old in folder.glob("sub_*"):
            old.unlink()
    for number, path in enumerate(paths, start=1):
        _link(path.resolve(), folder / f"sub_{number:05d}{suffix_of(path)}")


def _link(path: Path, link: Path) -> None:
    """A symbolic link; where the system allows none a hard link, else a copy."""
    try:
        link.symlink_to(path)
    except FileExistsError:
        raise ExportProblem(f"{link} exists already. Choose another --out, or use --force to replace it.") from None
    except OSError:
        try:
            os.link(path, link)
        except OSError:
            shutil.copyfile(path, link)


def sequence(name: str, selected: Sequence[bool]) -> str:
    """A Siril sequence file (.seq): which images there are and which of them are selected."""
    reference = next((at for at, chosen in enumerate(selected) if chosen), 0)
    lines = [
        "#Siril sequence file. Contains list of files (images), selection, and registration data",
        "#S 'sequence_name' start_index nb_images nb_selected fixed_len reference_image version",
        f"S '{name}' 1 {len(selected)} {sum(selected)} 5 {reference} 3",
        "L 1",
        *(f"I {number} {int(chosen)}" for number, chosen in enumerate(selected, start=1)),
    ]
    return "\n".join(lines) + "\n"


def script(colour: bool) -> str:
    """The script: register and stack the accepted subs. Run it with `siril-cli -d SERIES -s SERIES/stack.ssf`.

    Parameters
    ----------
    colour
        The subs are Bayer mosaics.
    """
    begin = "convert light -debayer -out=../process" if colour else "link light -out=../process"
    return f"""# Accepted subs only, as nsgd judged them. In the folder of this file: siril-cli -s $PWD/stack.ssf
requires 1.0.0
cd {ACCEPTED}
{begin}
cd ../process
register light
stack r_light rej 3 3 -norm=addscale -output_norm -out=../stack
close
"""
