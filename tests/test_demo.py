"""The first command of the README: without a terminal the demo prints the night and ends by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_demo_shows_a_cloud_come_and_go_within_two_minutes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nsgd", "demo", "--fast"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # between midnight and one o'clock: at noon a night ends, with a message of its own, and the next begins
        env=os.environ | {"TZ": f"HERE{time.gmtime().tm_hour}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum(bool(re.search(r"_\d{4}\.fits  T \d\.\d\d ± ", line)) for line in lines) == 40
    alerts = [line for line in lines if line.startswith("***")]
    assert len(alerts) == 2
    assert "loud" in alerts[0]
    assert "lear" in alerts[1]
    assert re.match(r"40 subs measured: \d+ of 40 kept, .* Alerts: ", lines[-1])


@pytest.mark.e2e
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "nsgd", "demo", "--fast"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert "T 1." in process.stdout.readline()
    daemons = [int(pid) for pid in children_of(process.pid)]
    assert daemons
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert list(tmp_path.iterdir()) == []
    assert not [pid for pid in daemons if Path(f"/proc/{pid}").exists()]


def children_of(pid: int) -> list[str]:
    """Process numbers of the children of a process."""
    found = [path.read_text(encoding="ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [child for children in found for child in children]
