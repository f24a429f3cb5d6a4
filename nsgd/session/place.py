"""The folder a store lies in: whose it is, whether it is local, what the group may do.

SQLite's write-ahead log needs shared memory and honest locks, so a network file system is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from nsgd.errors import StoreLocked, StoreProblem, StoreUnusable, StoreUnwritable

LOCK_NAME = "lock"
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "coda", "ceph", "glusterfs", "lustre", "beegfs", "gpfs",
     "ncpfs", "afpfs", "davfs", "vboxsf", "vmhgfs", "prl_fs", "drvfs"}
)  # fmt: skip
"""Shares of other machines, and of the host of a virtual machine (on WSL, drvfs is the Windows disk)."""
_NETWORK_FUSE = frozenset(
    {"sshfs", "rclone", "smbnetfs", "curlftpfs", "davfs", "glusterfs", "ceph", "ceph-fuse", "s3fs", "gcsfuse",
     "vmhgfs-fuse", "grpcfuse", "gvfsd-fuse", "kio-fuse"}
)  # fmt: skip
_TRIES, _PAUSE_S = 4, 0.1


class FolderLock:
    """The kernel's lock on a store folder; it goes with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises
        ------
        StoreLocked
            Another process holds it; its pid is in the sentence and in `numbers["pid"]`.
        StoreUnwritable
            The lock file cannot be made.
        """
        path = folder / LOCK_NAME
        self._file = open_file(path, folder)
        # A command that applies requests holds the lock for a moment only: a daemon that starts just then waits.
        for left in reversed(range(_TRIES)):
            if _try_lock(self._file):
                break
            if not left:
                owner = (
                    os.pread(self._file, 20, 0).split(b"\n")[0].decode("ascii", "replace") if os.name != "nt" else ""
                )
                os.close(self._file)
                raise StoreLocked(
                    f"Process {owner or 'unknown'} already runs nsgd on the store {folder}: stop it, "
                    "or name another store with --store.",
                    pid=owner,
                )
            time.sleep(_PAUSE_S)
        with suppress(OSError):  # a full disk: the lock holds all the same, only its owner has no name
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode("ascii"))

    def release(self) -> None:
        """Give the lock back (the file stays: removing it would let two owners in)."""
        os.close(self._file)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def prepare_folder(folder: Path) -> None:
    """Make the folder where it is missing, for this user alone.

    Raises
    ------
    StoreUnusable
        It lies on a network file system.
    StoreUnwritable
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _problem(error, f"The store folder {folder} cannot be made: {error.strerror}.") from error
    kind = filesystem_of(folder)
    if is_network(kind):
        raise StoreUnusable(
            f"The store {folder} lies on a network file system ({kind}), where a database cannot be kept safely: "
            "choose a folder on a local disk with --store, store.path or (nsgd measure) --out; the captures may stay "
            "on the share.",
            filesystem=kind,
        )


def is_network(kind: str) -> bool:
    """Whether a file system of this type keeps its files on another machine."""
    return kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK_FUSE


def filesystem_of(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds a folder ("ext4", "nfs4"...), "" where the system does not tell.

    WebDAV is mounted as plain "fuse" with a web address for its device; it is told as "davfs".
    """
    try:
        lines = mountinfo.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    here, found, longest = folder.resolve(), "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount = Path(_unescape(fields[4]))
        # A later line of the same mount point covers the earlier one.
        if here.is_relative_to(mount) and len(mount.parts) >= longest:
            kind, device = (*after.split(" "), "")[:2]
            found, longest = "davfs" if kind == "fuse" and "://" in device else kind, len(mount.parts)
    return found


def open_file(path: Path, folder: Path) -> int:
    """Open a file of the store for reading and writing, made where missing, with the modes the folder asks for.

    A folder that its group may write (a service's, 2770) gets files for the group (0660), any other gets private
    ones (0600), whatever the umask says.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise _problem(error, f"{path} cannot be written: {error.strerror}. {_group_hint(folder)}") from error
    _share_with_group(file, folder)
    return file


def _share_with_group(file: int, folder: Path) -> None:
    if os.name == "nt":
        return
    about = os.fstat(file)
    wanted = 0o660 if folder.stat().st_mode & stat.S_IWGRP else 0o600
    if about.st_uid == os.geteuid() and stat.S_IMODE(about.st_mode) != wanted:
        os.fchmod(file, wanted)


def _problem(error: OSError, sentence: str) -> StoreProblem:
    """Trying again helps against a full disk; against a missing right or a file in the way it does not."""
    lasting = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
    return StoreUnusable(sentence) if error.errno in lasting else StoreUnwritable(sentence)


def _group_hint(folder: Path) -> str:
    return f"Where {folder} belongs to a service, your user must be in its group (usually nsgd)."


def _try_lock(file: int) -> bool:
    if os.name == "nt":
        return _try_lock_windows(file)
    import fcntl  # Unix only, and exports run on Windows too

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_lock_windows(file: int) -> bool:
    import msvcrt

    try:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # behind the pid, so that others can still read it
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    finally:
        os.lseek(file, 0, os.SEEK_SET)
    return True


def _unescape(mount: str) -> str:
    """Mountinfo writes space, tab, newline and backslash as three octal digits."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mount = mount.replace(code, letter)
    return mount
