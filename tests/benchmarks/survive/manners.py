"""Good manners: how long a capture program's writes take while nsgd measures beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nsgd.simulate import night, sub_cards, write_sub

WIDTH_PX, HEIGHT_PX = 3000, 2000
PIECE = 1 << 20


def write_times_s(folder: Path, files: list[bytes], count: int, pause_s: float) -> list[float]:
    """Write files as INDI and N.I.N.A. do (in pieces, no sync); seconds each."""
    taken = []
    for number in range(count):
        data = files[number % len(files)]
        begun_s = time.perf_counter()
        with (folder / f"capture_{number:04d}.fits").open("wb", buffering=0) as file:
            for start in range(0, len(data), PIECE):
                file.write(data[start : start + PIECE])
        taken.append(time.perf_counter() - begun_s)
        time.sleep(pause_s)
    return taken


def run(folder: Path, count: int, pause_s: float = 0.5) -> tuple[float, float]:
    """(p99 alone, p99 beside a working daemon), seconds; both halves are interleaved, since disks have moods."""
    plan = night("clear", subs=4, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    files = []
    for number, truth in enumerate(plan.subs):
        path = write_sub(folder / "base" / f"{number}.fits", plan.pixels(number), sub_cards(truth, "Manners"))
        files.append(path.read_bytes())
    alone: list[float] = []
    beside: list[float] = []
    for round_ in range(4):
        quiet, watched = folder / f"quiet-{round_}", folder / f"watched-{round_}"
        quiet.mkdir()
        alone += write_times_s(quiet, files, count // 4, pause_s)
        shutil.rmtree(quiet)
        watched.mkdir()
        words = [sys.executable, "-m", "nsgd", "run", str(watched), "--store", str(folder / f"store-{round_}")]
        (folder / "empty.toml").touch(mode=0o600)
        daemon = subprocess.Popen([*words, "--config", str(folder / "empty.toml")], stderr=subprocess.DEVNULL)
        time.sleep(3.0)
        for number in range(3):  # something to measure from the start
            shutil.copy(folder / "base" / f"{number}.fits", watched / f"first_{number}.fits")
        beside += write_times_s(watched, files, count // 4, pause_s)
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(watched)
    return float(np.percentile(alone, 99)), float(np.percentile(beside, 99))
