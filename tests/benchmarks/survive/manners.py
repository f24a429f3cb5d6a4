"""Good manners: how long a capture program's writes take while nsgd measures beside it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count as count_up
from pathlib import Path

import numpy as np

from nsgd.simulate import night, sub_cards, write_sub

WIDTH_PX, HEIGHT_PX = 3000, 2000
PIECE = 1 << 20
TURN = 10
"""Files in a row that the camera writes alone, then beside the daemon."""
KEPT = 12
"""Turns whose files stay."""


def taken_at(data: bytes, utc_s: float) -> bytes:
    """The same sub taken at another time: to nsgd it is a new one, and is measured."""
    stamp = datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode("ascii")
    at = data.index(b"DATE-OBS= '") + len(b"DATE-OBS= '")
    return data[:at] + stamp + data[at + len(stamp) :]


def write_times_s(folder: Path, files: Iterator[bytes], count: int, pause_s: float) -> list[float]:
    """Write files as INDI and N.I.N.A. do (in pieces, no sync); seconds each."""
    taken = []
    for number in range(count):
        data = next(files)
        begun_s = time.perf_counter()
        with (folder / f"capture_{number:04d}.fits").open("wb", buffering=0) as file:
            for start in range(0, len(data), PIECE):
                file.write(data[start : start + PIECE])
        taken.append(time.perf_counter() - begun_s)
        time.sleep(pause_s)
    return taken


def run(folder: Path, count: int, pause_s: float = 0.25) -> tuple[float, float]:
    """(p99 alone, p99 beside a working daemon), seconds; the halves come in turns, since disks have moods.

    While the daemon is stopped (SIGSTOP) the camera is alone; what it takes then is work for the daemon in the
    next turn, so that it never idles beside the camera.
    """
    plan = night("clear", subs=4, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    files = []
    for number, truth in enumerate(plan.subs):
        path = write_sub(folder / "base" / f"{number}.fits", plan.pixels(number), sub_cards(truth, "Manners"))
        files.append(path.read_bytes())
    start_utc_s = plan.subs[0].start_utc_s
    fresh = (taken_at(files[number % len(files)], start_utc_s + 60.0 * (number + len(files))) for number in count_up())
    times: dict[bool, list[float]] = {True: [], False: []}
    lights = folder / "lights"
    lights.mkdir()
    with working_daemon(folder, lights) as daemon:
        for turn in range(2 * count // TURN):
            alone = turn % 2 == 0
            daemon.send_signal(signal.SIGSTOP if alone else signal.SIGCONT)
            time.sleep(0.2)
            part = lights / f"{turn:04d}"
            part.mkdir()
            times[alone] += write_times_s(part, fresh, TURN, pause_s)
            if turn >= KEPT:
                shutil.rmtree(lights / f"{turn - KEPT:04d}")
        daemon.send_signal(signal.SIGCONT)
    return float(np.percentile(times[True], 99)), float(np.percentile(times[False], 99))


@contextmanager
def working_daemon(folder: Path, lights: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as somebody would start it, with something to measure."""
    for number in range(3):
        shutil.copy(folder / "base" / f"{number}.fits", lights / f"first_{number}.fits")
    (folder / "empty.toml").touch(mode=0o600)
    words = [sys.executable, "-m", "nsgd", "run", str(lights), "--store", str(folder / "store")]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([*words, "--config", str(folder / "empty.toml")], stderr=log)
    try:
        time.sleep(5.0)
        yield daemon
        measured = (folder / "log").read_text(errors="replace").count("transmission")
        assert measured > 10, f"the daemon measured only {measured} subs beside the camera"
    finally:
        daemon.terminate()
        daemon.wait(60)
