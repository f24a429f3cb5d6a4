"""Listing a capture folder: bounded, without following links, and knowing what it lies on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nsgd.daemon.settle import packed_status
from nsgd.frames.names import CAPTURE_SUFFIXES, is_ignored, looks_like_image, suffix_of_name

SHARES = frozenset(
    {"cifs", "smb3", "smbfs", "nfs", "nfs4", "9p", "virtiofs", "vboxsf", "prl_fs", "drvfs", "afpfs", "davfs", "ceph",
     "glusterfs", "fuse"}
)  # fmt: skip
"""File systems that tell nothing about what other machines write; also all of `fuse.*`."""

STEADY_INODES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "tmpfs"})
"""File systems whose files keep their inode number; FAT and shares hand out another one at any time."""


@dataclass(slots=True)
class Listing:
    """Result of one scan."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path and packed `FileStat` of every file that is not unchanged."""
    unchanged: int = 0
    """How many files are as they were: a number, since there may be a season of them."""
    unreadable: list[Path] = field(default_factory=list)
    """Folders that could not be listed; what lies in them is unknown, not gone."""
    folders: set[int] = field(default_factory=set)
    """Inode numbers of all folders that were entered, the root's included."""
    empty: bool = True
    """True where the folder holds nothing at all."""


Unchanged: TypeAlias = Callable[[str, os.stat_result], bool]


def list_images(
    root: Path, *, max_depth: int = 8, ignore: Sequence[str] = (), unchanged: Unchanged | None = None
) -> Listing:
    """Regular files below `root` whose names may be subs, with their status.

    Links are never followed (so no loop and no way out of the folder); FIFOs, sockets and devices are
    left out; folders deeper than `max_depth` are not entered.

    Parameters
    ----------
    unchanged
        Whether a file with this path and status is known to be so; such files are only counted.

    Raises
    ------
    OSError
        `root` itself cannot be listed.
    """
    listing = Listing(folders={root.stat().st_ino})
    levels: list[tuple[Path, int]] = [(root, 0)]
    while levels:
        folder, depth = levels.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    listing.empty = False
                    if is_ignored(entry.name, ignore):
                        continue
                    if depth < max_depth and _is_folder(entry):
                        listing.folders.add(entry.inode())
                        levels.append((Path(entry.path), depth + 1))
                    else:
                        _take_file(entry, listing, unchanged)
        except OSError:
            if folder == root:
                raise
            listing.unreadable.append(folder)
    return listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # vanished between listing and looking
        return entry.is_dir(follow_symlinks=False)
    return False


def _take_file(entry: os.DirEntry[str], listing: Listing, unchanged: Unchanged | None) -> None:
    with suppress(OSError):  # vanished between listing and looking
        if not entry.is_file(follow_symlinks=False) or suffix_of_name(entry.name) not in CAPTURE_SUFFIXES:
            return
        status = entry.stat(follow_symlinks=False)
        if unchanged is not None and unchanged(entry.path, status):
            listing.unchanged += 1
        else:
            listing.files[entry.path] = packed_status(status)


def is_inside(root: Path, path: Path, *, max_depth: int, ignore: Sequence[str]) -> bool:
    """Whether a scan of `root` would come to this file: right name, not too deep, no ignored folder, no link."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return False
    if not looks_like_image(path) or len(parts) > max_depth + 1 or any(is_ignored(part, ignore) for part in parts):
        return False
    return not any((root / Path(*parts[:count])).is_symlink() for count in range(1, len(parts)))


def file_system(path: Path, mounts: str | None = None) -> str:
    """Type of the file system that a path lies on (`ext4`, `cifs`...), "" where the system does not say.

    Parameters
    ----------
    mounts
        Text of /proc/self/mountinfo; read from there when None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    here = str(path.resolve())
    best, found = -1, ""
    for line in mounts.splitlines():
        fields, _, tail = line.partition(" - ")
        words = fields.split()
        if len(words) < 5 or not tail:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[4])
        inside = here == point or here.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, found = len(point), tail.split()[0]
    return found


def folders_without_events(root: Path, listing: Listing) -> int:
    """How many of the listed folders the kernel sends no events for, because a limit was reached.

    Linux tells in /proc which inodes this process watches. 0 where it does not say.
    """
    watched: set[int] = set()
    try:
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a fixed place, and names are all that is wanted
            with suppress(FileNotFoundError):  # another thread closed it meanwhile
                watched |= _watched_inodes(name)
        known = root.stat().st_ino in watched
    except OSError:
        return 0
    return len(listing.folders - watched) if known else 0


def _watched_inodes(descriptor: str) -> set[int]:
    """Inodes that one file descriptor of this process watches; empty where it is no inotify."""
    if os.readlink(f"/proc/self/fd/{descriptor}") != "anon_inode:inotify":  # noqa: PTH115 - Path refuses this text
        return set()
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    return {int(number, 16) for number in re.findall(r"^inotify .*?\bino:([0-9a-f]+)", text, re.M)}


def is_share(kind: str) -> bool:
    """Whether a file system of this type changes without telling us."""
    return kind in SHARES or kind.startswith("fuse.")
