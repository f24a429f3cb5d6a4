"""A share as the kernel sees one: a FUSE folder whose content changes behind its back.

    python tests/benchmarks/intake_fuse.py BACKING MOUNT

Shows BACKING read-only under MOUNT. No event tells of a change. While BACKING/.hang exists, listing the
folder does not come back; while BACKING/.stale exists every operation fails with ESTALE.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import mfusepy as fuse


class Share(fuse.Operations):
    """Passes reads through to the backing folder."""

    use_ns = True

    def __init__(self, backing: Path) -> None:
        self._backing = backing

    def _real(self, path: str) -> str:
        if (self._backing / ".stale").exists():
            raise fuse.FuseOSError(errno.ESTALE)
        return str(self._backing) + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        try:
            status = os.lstat(self._real(path))
        except OSError as error:
            raise fuse.FuseOSError(error.errno or errno.EIO) from None
        return {
            "st_mode": status.st_mode, "st_nlink": status.st_nlink, "st_size": status.st_size,
            "st_uid": status.st_uid, "st_gid": status.st_gid, "st_atime": status.st_atime_ns,
            "st_mtime": status.st_mtime_ns, "st_ctime": status.st_ctime_ns,
        }  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[str]:
        while (self._backing / ".hang").exists():
            time.sleep(0.1)
        return [".", "..", *(name for name in os.listdir(self._real(path)) if name not in (".hang", ".stale"))]  # noqa: PTH208

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._real(path)
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


if __name__ == "__main__":
    fuse.FUSE(Share(Path(sys.argv[1])), sys.argv[2], foreground=True, nothreads=False, ro=True, allow_other=False)
