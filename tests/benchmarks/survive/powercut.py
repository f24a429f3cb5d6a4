"""Power cuts: the store on a disk that forgets, cut at any of its writes, then a start from what was left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.survive.stage import PATIENCE_S, Stage, differences, undisturbed


def available() -> str:
    """Why no FUSE layer can be mounted here, "" where it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be used here"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fuse3 is not installed"
    return ""


@contextmanager
def losing_disk(mount: Path, image: Path, seed: int, cut_at: int) -> Iterator[None]:
    """The forgetting disk, mounted; `cut_at` 0 never cuts."""
    mount.mkdir(exist_ok=True)
    image.mkdir()
    words = [sys.executable, "-m", "tests.benchmarks.survive.losingfs", str(mount), str(image), str(seed), str(cut_at)]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 20.0
        while not mount.is_mount():
            assert server.poll() is None, "the disk was not mounted"
            assert time.monotonic() < deadline_s, "the disk was not mounted in time"
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def count_changes(stage: Stage) -> int:
    """How many operations of one night change the disk."""
    mount, image = stage.folder / "disk", stage.folder / "image-count"
    with losing_disk(mount, image, 0, 0):
        assert stage.daemon(mount / "store").finish() == 0
    return int((image / ".changes").read_text())


def cut(stage: Stage, seed: int, at: int, wanted: tuple[bytes, list[tuple[str, str, bool]]]) -> list[str]:
    """One night with the power cut before the given change, a start from what the disk holds, and what is wrong."""
    mount, image = stage.folder / "disk", stage.folder / f"image-{os.getpid()}"
    shutil.rmtree(image, ignore_errors=True)
    with losing_disk(mount, image, seed, at):
        daemon = stage.daemon(mount / "store")
        deadline_s = time.monotonic() + PATIENCE_S
        while not (image / ".cut").exists() and not stage.complete(mount / "store") and time.monotonic() < deadline_s:
            time.sleep(0.02)
        daemon.kill()
    assert (image / ".cut").exists(), f"the night ended before change {at}"
    store = image / "store"
    again = stage.daemon(store)
    said = [] if again.finish() == 0 else [f"the start after it failed: {again.said()[-800:]}"]
    said += ["the store was rebuilt"] if list(store.glob("damaged-*")) else []
    said += differences(stage.result(store), wanted)
    return [f"cut {at} (seed {seed}): {one}" for one in said]


def run(folder: Path, cuts: int) -> Iterator[tuple[int, list[str]]]:
    """Cuts evenly spread over the night, and what was wrong after each."""
    stage = Stage(folder)
    wanted = undisturbed(stage)
    changes = count_changes(stage)
    for number in range(cuts):
        # Threads make the last few changes come in varying numbers.
        at = 1 + int(number * (changes - 10) / cuts)
        yield at, cut(stage, number, at, wanted)
