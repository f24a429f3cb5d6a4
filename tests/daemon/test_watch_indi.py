"""A real capture client: INDI's camera simulator uploads locally into the watched folder.

Install it with `apt install indi-bin`, then: pytest tests/daemon/test_watch_indi.py
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nsgd.daemon.watch import Settled, Watcher
from nsgd.frames.read import read_frame
from nsgd.settings import Watch

pytestmark = pytest.mark.skipif(
    shutil.which("indi_simulator_ccd") is None, reason="INDI is not installed (Debian: indi-bin)"
)

GSC = """#!{python}
# Stands in for the Guide Star Catalogue program that the simulator asks for its stars.
import random, sys
ra, dec, radius = float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[5])
dice = random.Random(8)
for number in range(60):
    x, y, mag = dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(6, 11)
    place = f"{{ra + x * radius / 60:.6f}} {{dec + y * radius / 60:.6f}}"
    print(f"{{number:010d}} {{place}} 0.2 {{mag:.2f}} 0.2 1 0 0000 N 1.0 1")
"""


@dataclass
class Camera:
    port: int

    def set(self, text: str) -> None:
        subprocess.run(["indi_setprop", "-p", str(self.port), f"CCD Simulator.{text}"], check=True)

    def get(self, name: str) -> str:
        command = ["indi_getprop", "-p", str(self.port), "-t", "1", "-1", f"CCD Simulator.{name}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def wait_for(self, name: str, value: str, timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self.get(name) != value:
            assert time.monotonic() < deadline_s, f"{name} did not become {value}"
            time.sleep(0.1)

    def expose(self, seconds: float) -> None:
        self.set(f"CCD_EXPOSURE.CCD_EXPOSURE_VALUE={seconds}")


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    folder = tmp_path / "captures"
    folder.mkdir()
    return folder


@pytest.fixture
def camera(tmp_path: Path, captures: Path) -> Iterator[Camera]:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gsc").write_text(GSC.format(python=sys.executable))
    (programs / "gsc").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        ["indiserver", "-p", str(port), "indi_simulator_ccd"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        made = Camera(port)
        made.wait_for("CONNECTION.CONNECT", "Off")
        made.set("CONNECTION.CONNECT=On")
        made.wait_for("UPLOAD_MODE.UPLOAD_LOCAL", "Off")
        made.set("SCOPE_INFO.FOCAL_LENGTH=500;APERTURE=100")  # without optics there is no field of stars
        made.set("UPLOAD_MODE.UPLOAD_LOCAL=On")
        made.set(f"UPLOAD_SETTINGS.UPLOAD_DIR={captures};UPLOAD_PREFIX=Light_XXX")
        yield made
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def taken(watcher: Watcher, count: int, timeout_s: float = 20.0) -> list[Settled]:
    found: list[Settled] = []
    deadline_s = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline_s:
        found += watcher.take(0.2)
    return found


def test_subs_of_a_real_capture_client_are_taken_whole(camera: Camera, captures: Path) -> None:
    watcher = Watcher([captures], Watch())
    watcher.start()
    try:
        for number in range(3):
            camera.expose(0.5)
            (one,) = taken(watcher, 1)
            frame = read_frame(one.path)
            assert one.path.name == f"Light_{number + 1:03d}.fits"
            assert frame.header.software == "INDI"
            assert (frame.header.exposure_s, frame.header.filter_name, frame.header.gain) == (0.5, "R", 90.0)
            assert frame.header.camera == "CCD Simulator"
            assert frame.header.object_name == ""
            assert abs((frame.header.start_utc_s or 0.0) - time.time()) < 60.0
            pixels = frame.planes[0].pixels
            assert pixels.shape == (1024, 1280)
            assert np.max(pixels) > np.median(pixels) + 1000.0, "there are no stars"
        assert watcher.take(2.0) == []
        assert watcher.status()[0].pending == 0
    finally:
        watcher.stop()
