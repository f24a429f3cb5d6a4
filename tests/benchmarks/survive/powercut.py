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

from tests.benchmarks.survive.stage import PATIENCE_S, Act, Stage, differences


def available() -> str:
    """Why no FUSE layer can be mounted here, "" where it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be used here"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fuse3 is not installed"
    return ""


@contextmanager
def losing_disk(mount: Path, image: Path, act: Act, seed: int, cut_at: int) -> Iterator[None]:
    """The forgetting disk with the act's store on it, mounted; `cut_at` 0 never cuts."""
    mount.mkdir(exist_ok=True)
    shutil.rmtree(image, ignore_errors=True)
    act.begin(image / "store")
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


def count_changes(act: Act) -> int:
    """How many operations of one act change the disk."""
    mount, image = act.stage.folder / "disk", act.stage.folder / "image-count"
    with losing_disk(mount, image, act, 0, 0):
        assert act.stage.daemon(mount / "store").finish() == 0
    return int((image / ".changes").read_text())


def cut(act: Act, seed: int, at: int) -> list[str]:
    """One act with the power cut before the given change, a start from what the disk holds, and what is wrong."""
    stage = act.stage
    mount, image = stage.folder / "disk", stage.folder / f"image-{os.getpid()}"
    with losing_disk(mount, image, act, seed, at):
        daemon = stage.daemon(mount / "store")
        deadline_s = time.monotonic() + PATIENCE_S
        while not (image / ".cut").exists() and not stage.complete(mount / "store") and time.monotonic() < deadline_s:
            time.sleep(0.03)
        daemon.kill()
    if not (image / ".cut").exists():
        # How many changes an act makes depends on how long it takes: this time it was over before.
        return cut(act, seed, at - max(at // 8, 1))
    store = image / "store"
    again = stage.daemon(store)
    said = [] if again.finish() == 0 else [f"the start after it failed: {again.said()[-800:]}"]
    said += ["the store was rebuilt"] if list(store.glob("damaged-*")) else []
    said += differences(stage.result(store), act.wanted)
    return [f"cut {at} of the act up to sub {act.shown} (seed {seed}): {one}" for one in said]


def run(folder: Path, cuts: int, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[str, list[str]]]:
    """Cuts evenly spread over the night (of a share (k, n), every nth), and what was wrong after each."""
    places = [(act, at) for act in Stage(folder).acts() for at in range(1, count_changes(act))]
    for number in range(share[0], cuts, share[1]):
        act, at = places[int(number * len(places) / cuts)]
        yield f"change {at} of the act up to sub {act.shown}", cut(act, number, at)
