"""A file system that forgets what was not synced: the power cut, as a FUSE layer (LazyFS, VLDB 2024, is the idea).

Everything lies in memory. A write is durable once its file is synced, a name once the file or its folder is.
What lies in the folder IMAGE is on the disk at the start. Before the Nth operation that changes something, the machine
"loses power": what a disk could hold at that moment goes to that folder (all that was synced and, of the rest, any part
in any order, writes perhaps torn), and nothing is written any more; who started it then kills the daemon.

    python -m tests.benchmarks.survive.losingfs MOUNTPOINT IMAGE SEED N
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

SECTOR = 512


@dataclass
class Inode:
    """One file: its content, what is durable of it, and the writes in between."""

    mode: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes | None = None
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, bytes), or (size, None) for a truncation."""

    def apply(self, target: bytearray, offset: int, data: bytes | None) -> None:
        if data is None:
            if offset < len(target):
                del target[offset:]
            else:
                target.extend(bytes(offset - len(target)))
            return
        if len(target) < offset:
            target.extend(bytes(offset - len(target)))
        target[offset : offset + len(data)] = data

    def change(self, offset: int, data: bytes | None) -> None:
        self.apply(self.data, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.durable = bytes(self.data)
        self.pending.clear()

    def after_cut(self, rng: random.Random) -> bytes:
        """What the disk may hold: any of the unsynced writes, each perhaps torn at a sector."""
        content = bytearray(self.durable or b"")
        fate = rng.random()
        for offset, data in self.pending:
            if fate < 0.3 or (fate < 0.8 and rng.random() < 0.5):
                continue
            if data is not None and rng.random() < 0.2:
                data = data[: rng.randrange(0, len(data) + 1) // SECTOR * SECTOR]
            self.apply(content, offset, data)
        return bytes(content)


class LosingDisk(mfusepy.Operations):
    """The disk; paths are those below the mount point."""

    use_ns = True

    def __init__(self, image: Path, seed: int, cut_at: int) -> None:
        self.image, self.rng, self.cut_at = image, random.Random(seed), cut_at
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.folders = {"/": 0o40700}
        self.changes = 0
        self.is_cut = False
        for place in sorted(image.rglob("*")):
            name, mode = f"/{place.relative_to(image)}", place.stat().st_mode
            if place.is_dir():
                self.folders[name] = mode
            else:
                content = place.read_bytes()
                self.names[name] = self.durable_names[name] = Inode(mode, bytearray(content), content)

    # ---- the cut

    def _changing(self) -> None:
        if self.is_cut:
            raise mfusepy.FuseOSError(errno.EIO)
        self.changes += 1
        if self.changes == self.cut_at:
            self.is_cut = True
            self._leave_image()
            raise mfusepy.FuseOSError(errno.EIO)

    def _leave_image(self) -> None:
        for place in self.image.iterdir():
            shutil.rmtree(place)
        for folder in self.folders:
            (self.image / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        survivors = dict(self.durable_names)
        unsynced = {name: inode for name, inode in self.names.items() if self.durable_names.get(name) is not inode}
        survivors.update({name: inode for name, inode in unsynced.items() if self.rng.random() < 0.5})
        for name in self.durable_names.keys() - self.names.keys():
            if self.rng.random() < 0.5:
                survivors.pop(name, None)
        for name, inode in survivors.items():
            path = self.image / name.lstrip("/")
            path.write_bytes(inode.after_cut(self.rng))
            path.chmod(stat.S_IMODE(inode.mode))
        (self.image / ".cut").touch()

    # ---- what the kernel asks

    def _inode(self, path: str) -> Inode:
        if path not in self.names:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return self.names[path]

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        now = time.time_ns()
        common = {"st_uid": os.getuid(), "st_gid": os.getgid(), "st_mtime": now, "st_ctime": now, "st_atime": now}
        if path in self.folders:
            return {**common, "st_mode": self.folders[path], "st_nlink": 2}
        inode = self._inode(path)
        return {**common, "st_mode": inode.mode, "st_nlink": 1, "st_size": len(inode.data)}

    def readdir(self, path: str, fh: int) -> list[str]:
        base = path.rstrip("/") + "/"
        every = [*self.names, *(name for name in self.folders if name != "/")]
        return [
            ".",
            "..",
            *(name[len(base) :] for name in every if name.startswith(base) and "/" not in name[len(base) :]),
        ]

    def mkdir(self, path: str, mode: int) -> int:
        self._changing()
        self.folders[path] = stat.S_IFDIR | mode
        return 0

    def chmod(self, path: str, mode: int) -> int:
        if path in self.folders:
            self.folders[path] = stat.S_IFDIR | stat.S_IMODE(mode)
        else:
            inode = self._inode(path)
            inode.mode = stat.S_IFREG | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        self._changing()
        self.names[path] = Inode(stat.S_IFREG | stat.S_IMODE(mode))
        return 0

    def open(self, path: str, flags: int) -> int:
        inode = self._inode(path)
        if flags & os.O_TRUNC:
            self._changing()
            inode.change(0, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._inode(path).data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        inode = self._inode(path)
        self._changing()
        inode.change(offset, bytes(data))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        inode = self._inode(path)
        self._changing()
        inode.change(length, None)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        inode = self._inode(path)
        self._changing()
        inode.sync()
        # The journal that makes the file durable takes its name along.
        self.durable_names[path] = inode
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._changing()
        parent = path.rstrip("/")
        mine = {name: inode for name, inode in self.names.items() if name.rpartition("/")[0] == parent}
        kept = {name: inode for name, inode in self.durable_names.items() if name.rpartition("/")[0] != parent}
        self.durable_names = {**kept, **mine}
        return 0

    def unlink(self, path: str) -> int:
        self._inode(path)
        self._changing()
        del self.names[path]
        return 0

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        inode = self._inode(old)
        self._changing()
        del self.names[old]
        self.names[new] = inode
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def release(self, path: str, fh: int) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bfree": 1 << 19, "f_bavail": 1 << 19}

    def destroy(self, path: str) -> None:
        if not self.is_cut:
            (self.image / ".changes").write_text(str(self.changes))


def main() -> None:
    mount, image, seed, cut_at = sys.argv[1:5]
    disk = LosingDisk(Path(image), int(seed), int(cut_at))
    mfusepy.FUSE(disk, mount, foreground=True, nothreads=True)


if __name__ == "__main__":
    main()
