"""The first command of the README: without a terminal the demo prints the night and ends by itself."""

from __future__ import annotations

import re
import subprocess
import sys

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
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum(bool(re.search(r"_\d{4}\.fits  T \d\.\d\d ± ", line)) for line in lines) == 40
    alerts = [line for line in lines if line.startswith("***")]
    assert len(alerts) == 2
    assert "loud" in alerts[0]
    assert "lear" in alerts[1]
    assert re.match(r"40 subs measured: \d+ of 40 kept, .* Alerts: ", lines[-1])
