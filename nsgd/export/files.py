"""The one way an export puts a file on disk: inside --out, whole or not at all, nothing overwritten unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nsgd.errors import ExportProblem


def open_folder(out: Path) -> Path:
    """Make the export's folder where it is missing and return its real path.

    Raises
    ------
    ExportProblem
        The folder cannot be made, or a file has its name.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportProblem(f"Cannot make the folder {out}: {error.strerror}. Choose another --out.") from error
    return out.resolve()


def place(out: Path, name: str) -> Path:
    """Path of the file `name` ("subs.csv", "night/graph.png") below the folder `out`.

    Raises
    ------
    ExportProblem
        The path would leave `out`, by "..", by an absolute name or through a link.
    """
    path = out.resolve() / name
    if not path.parent.resolve().is_relative_to(out.resolve()) or path.name in {"", ".", ".."}:
        raise ExportProblem(f"{name!r} would be written outside {out}.")
    return path


@contextmanager
def writing(out: Path, name: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open the file `name` below `out` for binary writing; it appears, whole and on disk, when the block ends.

    The bytes go to a temporary file beside it, which is flushed to disk and renamed; where the block fails the
    temporary file is removed and nothing else has changed.

    Parameters
    ----------
    out, name
        See `place`; folders in between are made.
    force
        Replace a file that exists.

    Raises
    ------
    ExportProblem
        The file exists, lies outside `out`, or cannot be written (disk full, no permission).
    """
    path = place(out, name)
    if not force and os.path.lexists(path):
        raise ExportProblem(f"{path} exists already. Choose another --out, or use --force to replace it.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ExportProblem(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def write_bytes(out: Path, name: str, content: bytes, *, force: bool = False) -> Path:
    """Write a whole file with `writing`; returns its path."""
    with writing(out, name, force=force) as file:
        file.write(content)
    return place(out, name)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder; its rename is durable with the file's own flush
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
