"""One night from the camera to the phone: a real folder, the real daemon, a real server, twelve small subs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nsgd.errors import StoreProblem
from nsgd.session.store import Reader
from nsgd.simulate import dark_site, night, place, render, sub_cards, write_sub

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SUBS = 12
LIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.4, 0.35, 0.4, 1.0, 1.0, 1.0)
"""Cloud from the 7th sub to the 9th."""
PATIENCE_S = 90.0


class Phone:
    """A real HTTP server that keeps what apprise's json:// service posts."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        phone = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                phone.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5.0)


@pytest.fixture
def phone() -> Iterator[Phone]:
    phone = Phone()
    yield phone
    phone.close()


def zone_after_midnight() -> str:
    """A zone in which it is between midnight and one o'clock: at noon a night ends and the next begins."""
    return f"HERE{time.gmtime().tm_hour}"


class Telescope:
    """The folder, the store and the settings of one observatory, and nsgd run in it as a user runs it."""

    def __init__(self, home: Path, phone: Phone) -> None:
        self.lights, self.store, self.config = home / "lights", home / "store", home / "config.toml"
        self.lights.mkdir()
        self.config.write_text("[watch]\nquiet_local_s = 0.1\nrescan_s = 1.0\n[notify]\npictures = false\n")
        self.environ = {**os.environ, "NSGD_NOTIFY_URLS": phone.url, "HOME": str(home), "TZ": zone_after_midnight()}
        plan = night("clear", 5, subs=SUBS, width_px=500, height_px=400)
        self.start_utc_s = time.time() - SUBS * 65.0
        self.plan = plan

    def shoot(self, index: int) -> None:
        """The camera writes one sub; the night ends now, under a dark sky."""
        truth = replace(
            self.plan.subs[index], transmission=LIGHTS[index], start_utc_s=self.start_utc_s + 65.0 * index,
            airmass=1.2, extinction_mag=0.24, transform=place(self.plan.subs[index].camera, 2.0 * index, -index),
        )  # fmt: skip
        pixels = render(self.plan.field, truth, np.random.default_rng([5, index]))
        write_sub(self.lights / f"sub_{index:03d}.fits", pixels, sub_cards(truth, "M 45", dark_site(self.start_utc_s)))

    def nsgd(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "nsgd", "--config", str(self.config), *words]

    def run(self) -> subprocess.Popen[str]:
        command = self.nsgd("--store", str(self.store), "run", str(self.lights))
        return subprocess.Popen(command, env=self.environ, stderr=subprocess.PIPE, text=True)

    def say(self, *words: str) -> str:
        told = subprocess.run(self.nsgd(*words), env=self.environ, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        return told.stdout

    def subs(self) -> int:
        try:
            with Reader.open(self.store) as reader:
                return len(reader.subs())
        except StoreProblem:  # the daemon has not made it yet
            return 0


def wait_until(true: Callable[[], bool], daemon: subprocess.Popen[str], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if true():
            return
        assert daemon.poll() is None, daemon.communicate()[1]
        time.sleep(0.05)
    daemon.kill()
    raise AssertionError(f"{what} did not happen:\n{daemon.communicate()[1]}")


def end(daemon: subprocess.Popen[str]) -> None:
    daemon.send_signal(signal.SIGTERM)
    said = daemon.communicate(timeout=30)[1]
    assert daemon.returncode == 0, said


def test_cloud_rings_once_clear_sky_once_and_a_restart_goes_on(tmp_path: Path, phone: Phone) -> None:
    telescope = Telescope(tmp_path, phone)
    daemon = telescope.run()
    try:
        for index in range(8):
            telescope.shoot(index)
            wait_until(lambda n=index: telescope.subs() > n, daemon, f"sub {index} measured")  # type: ignore[misc]
        wait_until(lambda: len(phone.heard) == 1, daemon, "the cloud alert")
        end(daemon)
        daemon = telescope.run()
        for index in range(8, SUBS):
            telescope.shoot(index)
            wait_until(lambda n=index: telescope.subs() > n, daemon, f"sub {index} measured")  # type: ignore[misc]
        wait_until(lambda: len(phone.heard) == 2, daemon, "the all-clear")
        end(daemon)
    finally:
        daemon.kill()
        daemon.communicate()
    with Reader.open(telescope.store) as reader:
        rows, alerts = reader.subs(), reader.alerts()
    assert [Path(row.path).name for row in rows] == [f"sub_{index:03d}.fits" for index in range(SUBS)]
    assert [row.failure for row in rows] == [None] * SUBS
    assert [alert.alert.resolves for alert in alerts] == [False, True]
    assert alerts[0].alert.kind == "cloud"
    assert alerts[0].alert.event_id == alerts[1].alert.event_id
    assert all("M 45" in heard["message"] or heard["title"] for heard in phone.heard)

    live, batch = tmp_path / "live", tmp_path / "batch"
    telescope.say("--store", str(telescope.store), "export", "csv", "--out", str(live))
    telescope.say("measure", str(telescope.lights), "--out", str(batch))
    assert (live / "subs.csv").read_bytes() == (batch / "subs.csv").read_bytes()
