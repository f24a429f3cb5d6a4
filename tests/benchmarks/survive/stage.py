"""A small night on disk, daemons that are forked off with everything imported, and what is compared."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nsgd.daemon.run import Clock, run_daemon
from nsgd.errors import NsgdError
from nsgd.export.table import export_csv
from nsgd.session.store import DATABASE, Reader
from nsgd.settings import Settings
from nsgd.simulate import night, sub_cards, write_sub

WIDTH_PX, HEIGHT_PX = 320, 240
PATIENCE_S = 600.0
ACT_SUBS = 2
NOBODY = "json://127.0.0.1:9/"
"""Nobody listens there: every message stays in the outbox."""

Result = tuple[bytes, list[tuple[str, str, bool]]]
"""What an export and the alert log say of a night."""


@dataclass
class Stage:
    """Capture folder with subs that were just taken, through a passing cloud."""

    folder: Path
    subs: int = 14
    lights: Path = field(init=False)
    shown: int = field(init=False, default=0)
    ahead_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.lights = self.folder / "lights"
        self.lights.mkdir(parents=True, exist_ok=True)
        (self.folder / "taken").mkdir(exist_ok=True)
        plan = night("demo", subs=self.subs, width_px=WIDTH_PX, height_px=HEIGHT_PX)
        self._times_s = [truth.start_utc_s for truth in plan.subs]
        for number, truth in enumerate(plan.subs):
            path = self.folder / "taken" / _name(number)
            if not path.exists():
                write_sub(path, plan.pixels(number), sub_cards(truth, plan.object_name))
                os.utime(path, (truth.start_utc_s, truth.start_utc_s))
        _import_services()
        self.show(self.subs)

    def show(self, count: int) -> None:
        """Let the capture folder hold the first subs of the night, the last of them just taken."""
        for number in range(self.subs):
            path = self.lights / _name(number)
            if number >= count:
                path.unlink(missing_ok=True)
            elif not path.exists():
                path.hardlink_to(self.folder / "taken" / _name(number))
        self.shown = count
        # The daemon's clock begins as the last sub ends: what it sees is live, and it is dark.
        self.ahead_s = self._times_s[count - 1] + 70.0 - time.time()

    def settings(self) -> Settings:
        watch = {"folders": [str(self.lights)], "quiet_local_s": 0.0, "rescan_s": 1.0}
        return Settings.model_validate({"watch": watch, "notify": {"urls": [NOBODY]}, "site": {"timezone": "UTC"}})

    def complete(self, store: Path) -> bool:
        """Whether all shown subs are in the store; asked many times a second, so by one cheap question."""
        try:
            connection = sqlite3.connect(f"file:{store / DATABASE}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error:
            return False
        try:
            return int(connection.execute("SELECT count(*) FROM subs").fetchone()[0]) >= self.shown
        except sqlite3.Error:
            return False
        finally:
            connection.close()

    def result(self, store: Path) -> Result:
        """What an export and the alert log say: equal for equal nights."""
        out = store.parent / f"{store.name}-out"
        out.mkdir(exist_ok=True)
        with Reader.open(store) as reader:
            table = export_csv(reader, out, self.settings(), force=True).read_bytes()
            told = [(row.alert.event_id, row.alert.kind, row.alert.resolves) for row in reader.alerts()]
        return table, sorted(one for one in told if one[1] in ("cloud", "clear"))

    def acts(self) -> list[Act]:
        """The night undisturbed, in acts of a few subs: how the store stood before each, how it should be after."""
        store, acts = self.folder / "undisturbed", []
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        for shown in range(ACT_SUBS, self.subs + 1, ACT_SUBS):
            before = self.folder / f"before-{shown:03d}"
            shutil.copytree(store, before)
            self.show(shown)
            status = self.daemon(store).finish()
            assert status == 0, status
            acts.append(Act(self, shown, before, self.result(store)))
        return acts

    def daemon(self, store: Path, *, held: bool = False) -> Daemon:
        """Fork a daemon off; a held one waits for `go`."""
        return Daemon(self, store, held)


@dataclass(frozen=True, slots=True)
class Act:
    """A few subs of the night: a blow costs one act and not the whole night, and none of its calls is left out."""

    stage: Stage
    shown: int
    before: Path
    wanted: Result

    def begin(self, store: Path) -> None:
        """Put the store as it stood before the act, and the capture folder as it is in it."""
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.before, store)
        (store.parent / f"{store.name}.log").unlink(missing_ok=True)
        self.stage.show(self.shown)


class Daemon:
    """A daemon in a forked process: nothing is left to import, so it starts at once."""

    def __init__(self, stage: Stage, store: Path, held: bool) -> None:
        self.stage, self.store = stage, store
        self.flag = store.parent / f"{store.name}.stop"
        self.flag.unlink(missing_ok=True)
        self.log = store.parent / f"{store.name}.log"
        if not store.exists():
            self.log.unlink(missing_ok=True)
        reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writer)
            self._live(reader, held)
        os.close(reader)
        self.status: int | None = None

    def _live(self, reader: int, held: bool) -> None:
        """The child; never returns."""
        code = 99
        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 2)
            sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)
            if held:
                os.read(reader, 1)
            clock = Clock(lambda: time.time() + self.stage.ahead_s)
            code = run_daemon(self.store, self.stage.settings(), until=self.flag.exists, clock=clock, environ={})
        except NsgdError as problem:
            print(problem, file=sys.stderr)
            code = 1
        finally:
            os._exit(code)

    def go(self) -> None:
        """Let a held daemon begin."""
        os.write(self._writer, b"g")

    def over(self) -> bool:
        """Whether the process has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                os.close(self._writer)
        return self.status is not None

    def finish(self, done: Callable[[], bool] | None = None, patience_s: float = PATIENCE_S) -> int | None:
        """Run until `done` (default: all subs are in the store) and stop; the wait status, None where it hung."""
        done = done or (lambda: self.stage.complete(self.store))
        deadline_s = time.monotonic() + patience_s
        while not self.over() and time.monotonic() < deadline_s:
            if not self.flag.exists() and done():
                self.flag.touch()
            time.sleep(0.03)
        if self.over():
            return self.status
        self.kill()
        return None

    def kill(self) -> None:
        """End the process at once."""
        if not self.over():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            while not self.over():
                time.sleep(0.01)

    def said(self) -> str:
        """The log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def under_strace(daemon: Daemon, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Attach strace to a held daemon, then let it begin."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-q", *arguments, "-p", str(daemon.pid)], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 10.0
    while _tracer_of(daemon.pid) == 0:
        assert time.monotonic() < deadline_s, "strace did not attach"
        time.sleep(0.005)
    daemon.go()
    return tracer


def _tracer_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0


def undisturbed(stage: Stage) -> Result:
    """The whole night as it should be, in one go."""
    store = stage.folder / "undisturbed"
    shutil.rmtree(store, ignore_errors=True)
    status = stage.daemon(store, held=False).finish()
    assert status == 0, status
    found = stage.result(store)
    assert found[1], "the cloud rang nobody, so no alert could be lost"
    return found


def _name(number: int) -> str:
    return f"sub_{number:03d}.fits"


def _import_services() -> None:
    """Take in the notification library, which a forked daemon would have to import each time anew."""
    import apprise

    apprise.Apprise().add(NOBODY)


def differences(found: Result, wanted: Result) -> list[str]:
    """In what two nights differ, [] where they are the same."""
    said = []
    one, other = found[0].splitlines(), wanted[0].splitlines()
    if one != other:
        lines = [f"{a!r} instead of {b!r}" for a, b in zip(one, other, strict=False) if a != b]
        said.append(f"{len(one) - 1} rows instead of {len(other) - 1}; {'; '.join(lines[:2])}")
    if found[1] != wanted[1]:
        said.append(f"alerts {found[1]} instead of {wanted[1]}")
    return said
