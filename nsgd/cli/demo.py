"""`nsgd demo`: a simulated camera, the real daemon, the real dashboard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsgd.cli.places import common_options, say
from nsgd.errors import NsgdError, StoreUnusable

if TYPE_CHECKING:
    from nsgd.dashboard.night import Night as Known
    from nsgd.records import SubRow
    from nsgd.session.store import Changes
    from nsgd.simulate import Night

CADENCE_S, EXPOSURE_S = 20.0, 15.0
"""Of the simulated camera; the demo plays them faster than they were."""
PRIVATE = ("NSGD_CONFIG", "NSGD_NOTIFY_URLS", "CREDENTIALS_DIRECTORY")
"""Environment that leads to the user's own settings: no phone rings for a simulated cloud."""
PATIENCE_S = 60.0
"""How long the daemon may take for the subs that are left when the camera has finished."""


class DemoProblem(NsgdError):
    """The demo could not be played to its end."""


@click.command()
@click.option("--fast", is_flag=True, help="Play the night in about a minute.")
@click.option("--plain", is_flag=True, help="Print lines although this is a terminal.")
@common_options
def demo(fast: bool, plain: bool) -> int:
    """Play a simulated night with a passing cloud: camera stand-in, real daemon, real dashboard.

    \b
    Example: nsgd demo --fast

    Works in a temporary folder and touches neither your settings nor your store. Without a terminal the night is
    printed as lines and the demo ends by itself.
    """
    interval_s = 1.0 if fast else 4.0
    with tempfile.TemporaryDirectory(prefix="nsgd-demo-") as folder:
        stage = Stage(Path(folder), interval_s)
        with stage.daemon(), stage.camera():
            if sys.stdout.isatty() and sys.stdin.isatty() and not plain:
                from nsgd.cli.apart import terms_apart
                from nsgd.dashboard.start import run_dashboard

                run_dashboard(terms_apart(str(stage.settings), str(stage.store)))
            else:
                for line in stage.lines():
                    say(line)
        say(stage.summary())
    return 0


class Stage:
    """The folders, processes and the night of one demo."""

    def __init__(self, folder: Path, interval_s: float) -> None:
        self.lights, self.store = folder / "lights", folder / "store"
        self.lights.mkdir()
        self.settings = folder / "config.toml"
        self.settings.touch(mode=0o600)
        self._log = folder / "daemon.log"
        self._interval_s = interval_s
        self._over = threading.Event()
        self._finished = threading.Event()
        self.night = demo_night(time.time())

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """The real daemon as a process of its own."""
        command = [sys.executable, "-m", "nsgd", "run", str(self.lights)]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [*command, "--store", str(self.store), "--config", str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name not in PRIVATE},
                start_new_session=True,
            )
            self._process = process
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @contextmanager
    def camera(self) -> Iterator[None]:
        """The camera stand-in, a thread that writes one sub after the other."""
        thread = threading.Thread(target=self._expose, name="camera", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _expose(self) -> None:
        from nsgd.simulate import drip

        try:
            drip(self.night, self.lights, self._interval_s, sleep=self._pause)
        except InterruptedError:
            return
        self._finished.set()

    def _pause(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise InterruptedError("the demo is over")

    def lines(self) -> Iterator[str]:
        """Every sub and alert as a line, until all subs are measured.

        Raises
        ------
        DemoProblem
            The daemon died, or did not measure everything in time.
        """
        from nsgd.dashboard.night import Night as Known

        known, told = Known(), 0
        deadline_s = float("inf")
        while known.count < len(self.night.subs):
            if self._finished.is_set():
                deadline_s = min(deadline_s, time.monotonic() + PATIENCE_S)
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise DemoProblem(f"The daemon measured {told} of {len(self.night.subs)} subs.\n{self._last_words()}")
            changes = self._changes(known.last_change)
            if changes is not None:
                known.merge(changes)
                yield from (_sub_line(known, row) for row in changes.subs if row.sub_id > told)
                yield from (f"*** {row.alert.title}: {row.alert.body}" for row in changes.alerts)
                told = max((told, *(row.sub_id for row in changes.subs)))
            time.sleep(0.2)

    def summary(self) -> str:
        """What the night brought, in one sentence."""
        from nsgd.dashboard.night import Night as Known

        changes = self._changes(0)
        if changes is None or not changes.series:
            return "The demo ended before the first sub was measured."
        known = Known()
        known.merge(changes)
        views = [view for series_id in known.series if (view := known.view(series_id, ""))]
        kept = "; ".join(view.kept().sentence() for view in views)
        alerts = ", ".join(row.alert.title for row in changes.alerts) or "no alert"
        return f"{known.count} subs measured: {kept}. Alerts: {alerts}."

    def _changes(self, last: int) -> Changes | None:
        """What is new in the daemon's store, None before there is one."""
        from nsgd.session.store import Reader

        try:
            with Reader.open(self.store) as reader:
                return reader.changes_since(last)
        except StoreUnusable:
            return None

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def _sub_line(known: Known, row: SubRow) -> str:
    """One sub as a line: name, transmission, weight, and what became of it."""
    name = Path(row.path).name
    view = known.view(row.series_id, "")
    if view is None:
        return f"{name}  {row.failure.sentence if row.failure else 'not measured'}"
    verdict = view.verdicts.of(row.sub_id)
    word = "learning" if verdict.learning else str(verdict.status)
    figures = f"T {verdict.transmission_clear:.2f} ± {verdict.transmission_err:.3f}  W {verdict.weight_of_best:.2f}"
    return f"{name}  {figures}  {'; '.join([word, *verdict.reasons])}"


def demo_night(now_utc_s: float) -> Night:
    """A quarter of an hour with a passing cloud, whose last sub ends about now."""
    from nsgd.simulate import dark_site, night

    plan = night("demo")
    start_utc_s = now_utc_s - CADENCE_S * len(plan.subs)
    subs = [
        replace(sub, start_utc_s=start_utc_s + CADENCE_S * number, exposure_s=EXPOSURE_S)
        for number, sub in enumerate(plan.subs)
    ]
    return replace(plan, subs=tuple(subs), site=dark_site(start_utc_s))
