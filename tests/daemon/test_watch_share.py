"""Folders that are no ordinary local disks: a share without events, one that hangs, one that is remounted.

The share is a FUSE folder (Debian: fuse3), the remounts need root; long runs are in tests/benchmarks/intake.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nsgd.daemon import watch as watch_module
from nsgd.daemon.watch import Watcher
from nsgd.settings import Watch

SHARE = Path(__file__).resolve().parents[1] / "benchmarks" / "intake_fuse.py"


def sub_bytes(seed: int) -> bytes:
    lines = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 100", "NAXIS2  = 100", "END"]
    return "".join(line.ljust(80) for line in lines).ljust(2880).encode() + bytes([seed]) * 10_000


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def taken(watcher: Watcher, timeout_s: float = 20.0) -> list[str]:
    names: list[str] = []
    wait_until(lambda: bool(names.extend(one.path.name for one in watcher.take(0.1)) or names), timeout_s)
    return names


@pytest.fixture
def share(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """(backing folder, mounted folder)."""
    pytest.importorskip("mfusepy", exc_type=(ImportError, OSError), reason="FUSE is not installed (Debian: fuse3)")
    if shutil.which("fusermount3") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("FUSE is not installed or not allowed here (Debian: fuse3)")
    backing, mount = tmp_path / "backing", tmp_path / "mount"
    backing.mkdir()
    mount.mkdir()
    server = subprocess.Popen([sys.executable, str(SHARE), str(backing), str(mount)], stderr=subprocess.DEVNULL)
    try:
        if not wait_until(lambda: mount.stat().st_dev != tmp_path.stat().st_dev, 10.0):
            pytest.skip("a FUSE folder cannot be mounted here")
        yield backing, mount
    finally:
        (backing / ".hang").unlink(missing_ok=True)
        subprocess.run(["fusermount3", "-uz", str(mount)], check=False)
        server.terminate()
        server.wait()


def test_a_share_without_events_is_polled(share: tuple[Path, Path]) -> None:
    backing, mount = share
    watcher = Watcher([mount], Watch(poll_s=0.5, quiet_share_s=0.5))
    watcher.start()
    try:
        assert wait_until(lambda: watcher.status()[0].present)
        assert watcher.status()[0].mode == "polling"
        content = sub_bytes(1)
        (backing / "night").mkdir()
        (backing / "night" / "half.fits").write_bytes(content[:7000])
        (backing / "whole.fits").write_bytes(content)
        assert taken(watcher) == ["whole.fits"]
        assert wait_until(lambda: watcher.status()[0].pending == 1)
        (backing / "night" / "half.fits").write_bytes(content)
        assert taken(watcher) == ["half.fits"]
    finally:
        watcher.stop()


def test_a_share_that_hangs_stops_nobody_and_is_said(
    share: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "HANGING_S", 1.0)
    backing, mount = share
    local = tmp_path / "local"
    local.mkdir()
    watcher = Watcher([mount, local], Watch(poll_s=0.5, quiet_share_s=0.5, quiet_local_s=0.5))
    watcher.start()
    try:
        assert wait_until(lambda: all(status.present for status in watcher.status()))
        (backing / ".hang").touch()
        assert wait_until(lambda: "has not answered" in watcher.status()[0].reason)
        (local / "a.fits").write_bytes(sub_bytes(1))
        assert taken(watcher) == ["a.fits"]
        (backing / "b.fits").write_bytes(sub_bytes(2))
        (backing / ".hang").unlink()
        assert taken(watcher) == ["b.fits"]
        assert watcher.status()[0].present
    finally:
        watcher.stop()


def test_a_stale_handle_is_a_lost_folder_until_it_works_again(share: tuple[Path, Path]) -> None:
    backing, mount = share
    watcher = Watcher([mount], Watch(poll_s=0.5, quiet_share_s=0.5))
    watcher.start()
    try:
        (backing / "a.fits").write_bytes(sub_bytes(1))
        assert taken(watcher) == ["a.fits"]
        (backing / ".stale").touch()
        assert wait_until(lambda: not watcher.status()[0].present)
        assert "tale" in watcher.status()[0].reason
        (backing / ".stale").unlink()
        assert wait_until(lambda: watcher.status()[0].present)
        assert watcher.take_gone() == []
    finally:
        watcher.stop()


def mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")
def test_a_real_disk_comes_back_without_a_restart(tmp_path: Path) -> None:
    captures, disk = tmp_path / "captures", tmp_path / "disk"
    captures.mkdir()
    disk.mkdir()
    if not mounted("-t", "tmpfs", "tmpfs", str(disk)):
        pytest.skip("tmpfs cannot be mounted here")
    watcher = Watcher([captures], Watch(quiet_local_s=0.3))
    try:
        assert mounted("--bind", str(disk), str(captures))
        (captures / "a.fits").write_bytes(sub_bytes(1))
        watcher.start()
        assert taken(watcher) == ["a.fits"]
        subprocess.run(["umount", "-l", str(captures)], check=True)
        assert wait_until(lambda: "not mounted" in watcher.status()[0].reason)
        assert mounted("--bind", str(disk), str(captures))
        assert wait_until(lambda: watcher.status()[0].present)
        (captures / "b.fits").write_bytes(sub_bytes(2))
        assert "b.fits" in taken(watcher)
        assert watcher.take_gone() == []
        assert watcher.status()[0].mode == "events"
    finally:
        watcher.stop()
        subprocess.run(["umount", "-l", str(captures)], check=False, capture_output=True)
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)
