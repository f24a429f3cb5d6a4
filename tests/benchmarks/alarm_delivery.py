"""From the last byte of a sub to the notification server, with the real daemon, real files and a real HTTP server.

    python -m tests.benchmarks.alarm_delivery

One cloud and then covers over the telescope come and go; every message is timed from the moment that the file of the
sub that caused it was closed. The time that this sub took to measure is taken off: what is left is waiting, the commit
and the delivery.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from nsgd.errors import StoreProblem
from nsgd.session.store import Reader
from nsgd.simulate import night, sub_cards, write_sub

SEED, CADENCE_S, GOAL_S = 88_000, 20.0, 3.0
SCRIPT = "c" * 12 + "l" * 8 + "c" * 4 + "ddc" * 9
"""c = clear, l = cloud, d = the telescope is covered."""


class _Ear(http.server.BaseHTTPRequestHandler):
    heard: list[tuple[float, str]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.heard.append((time.time(), str(json.loads(raw).get("title", ""))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep still."""


def _settings(scratch: Path, port: int) -> Path:
    path = scratch / "config.toml"
    path.write_text(
        f'[watch]\nfolders = ["{scratch / "subs"}"]\n[notify]\nurls = ["json://127.0.0.1:{port}/x"]\n'
        "[alarm]\nper_hour = 60\nper_night = 100\n"
    )
    path.chmod(0o600)
    (scratch / "subs").mkdir()
    return path


def _written(scratch: Path, begin_utc_s: float) -> list[tuple[Path, float]]:
    """Write the subs one by one, each once the one before is in the store: path and time of the last byte."""
    made = night("clear", SEED, subs=len(SCRIPT), width_px=600, height_px=400, start_utc_s=begin_utc_s)
    calm, found = made.subs[0], []
    rng = np.random.default_rng(SEED)
    subs = [
        replace(calm, start_utc_s=begin_utc_s + CADENCE_S * number, exposure_s=CADENCE_S - 2.0,
                transmission=0.4 if letter == "l" else 1.0) for number, letter in enumerate(SCRIPT)
    ]  # fmt: skip
    made = replace(made, subs=tuple(subs))
    for number, letter in enumerate(SCRIPT):
        pixels = made.pixels(number)
        if letter == "d":
            pixels = rng.normal(0.4 * float(np.median(pixels)), 4.0, pixels.shape).astype(np.uint16)
        path = write_sub(scratch / "subs" / f"{number:03d}.fits", pixels, sub_cards(subs[number], made.object_name))
        found.append((path, time.time()))
        _await(scratch, number + 1)
    return found


def _await(scratch: Path, count: int) -> None:
    for _ in range(300):
        time.sleep(0.1)
        # The daemon may still be making the store.
        with suppress(StoreProblem), Reader.open(scratch / "store") as reader:
            if len(reader.subs()) >= count:
                return


def waits_s(scratch: Path) -> list[tuple[str, float, float]]:
    """Per message: title, seconds from the last byte, and the sub's measuring time."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = _settings(scratch, server.server_port)
    places = ["--store", str(scratch / "store"), "--config", str(config)]
    daemon = subprocess.Popen([sys.executable, "-m", "nsgd", *places, "run"], stderr=subprocess.DEVNULL)
    try:
        written = _written(scratch, time.time() - CADENCE_S * len(SCRIPT) - 60.0)
        time.sleep(5.0)
        with Reader.open(scratch / "store") as reader:
            measured = {Path(row.path).name: row.measure_s for row in reader.subs()}
    finally:
        daemon.terminate()
        daemon.wait(20)
        server.shutdown()
    found = []
    for heard_utc_s, title in _Ear.heard:
        path, closed_utc_s = max((one for one in written if one[1] <= heard_utc_s), key=lambda one: one[1])
        found.append((title, heard_utc_s - closed_utc_s, measured.get(path.name, 0.0)))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = waits_s(Path(folder))
    for title, waited_s, measure_s in found:
        print(f"   {waited_s:5.2f} s, of which {measure_s:.2f} s measuring: {title}")
    over = [waited_s - measure_s for _, waited_s, measure_s in found]
    p95 = float(np.percentile(over, 95)) if over else float("inf")
    verdict = "ok  " if p95 <= GOAL_S and len(over) >= 20 else "MISS"
    print(
        f"{verdict} last byte -> server has it, beyond measuring, p95 of {len(over)}: {p95:.2f} s, goal <= {GOAL_S:g} s"
    )


if __name__ == "__main__":
    main()
