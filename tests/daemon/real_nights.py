"""Small real nights for tests of the daemon: files as a camera writes them, the daemon in this process or its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nsgd.daemon.run import run_daemon
from nsgd.errors import StoreProblem
from nsgd.session.store import Reader
from nsgd.settings import Settings
from nsgd.simulate import night, sub_cards, write_sub

PATIENCE_S = 90.0


def write_subs(
    folder: Path, numbers: Sequence[int], name: str = "clear", start_utc_s: float | None = None
) -> list[Path]:
    """Subs of one small night, flat in a folder."""
    start = {} if start_utc_s is None else {"start_utc_s": start_utc_s}
    plan = night(name, subs=max(12, max(numbers) + 1), width_px=400, height_px=300, **start)
    return [
        write_sub(folder / f"sub_{n:03d}.fits", plan.pixels(n), sub_cards(plan.subs[n], plan.object_name))
        for n in numbers
    ]


def settings_for(folder: Path, **more: dict[str, object]) -> Settings:
    """Settings that watch one folder, impatiently."""
    watch = {"folders": [str(folder)], "quiet_local_s": 0.1, "rescan_s": 1.0}
    return Settings.model_validate({"watch": watch, **more})


def serve(store: Path, settings: Settings, until: Callable[[Reader], bool]) -> None:
    """Run the daemon in this process until the store shows something."""
    deadline_s = time.monotonic() + PATIENCE_S

    def done() -> bool:
        assert time.monotonic() < deadline_s, "the daemon did not get there in time"
        return _shows(store, until)

    run_daemon(store, settings, until=done, environ={})


def _shows(store: Path, what: Callable[[Reader], bool]) -> bool:
    try:
        with Reader.open(store) as reader:
            return what(reader)
    except StoreProblem:  # not there yet, or being replaced
        return False


def start(lights: Path, store: Path, *, dies: bool = False, **environ: str) -> subprocess.Popen[str]:
    """The daemon as a process of its own; one that `dies` does so over the first sub that it reads."""
    death = "import os, hashlib, nsgd.daemon.run; hashlib.sha256 = lambda *_: os.kill(os.getpid(), 9); " if dies else ""
    code = death + (
        "import sys; from pathlib import Path; from nsgd.daemon.run import run_daemon; "
        "from nsgd.settings import Settings; "
        "s = Settings.model_validate({'watch': {'folders': [sys.argv[1]], 'quiet_local_s': 0.1, 'rescan_s': 1.0}}); "
        "sys.exit(run_daemon(Path(sys.argv[2]), s))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(lights), str(store)],
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(store: Path, what: Callable[[Reader], bool], process: subprocess.Popen[str]) -> None:
    """Wait until the store shows something."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, process.communicate()[1]
        if _shows(store, what):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the daemon did not get there in time:\n{process.communicate()[1]}")


def stop(process: subprocess.Popen[str]) -> str:
    """End the daemon as a service manager does; what it said."""
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    return said
