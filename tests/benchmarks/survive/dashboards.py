"""Five dashboards in terminals that are resized and hung up on: the daemon's commits do not notice."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import signal
import sqlite3
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from multiprocessing import Pipe, get_context
from pathlib import Path

import numpy as np

from nsgd.dashboard.app import POLL_S
from nsgd.records import CutOffs, SubRow
from nsgd.session.alerts import AlarmState, step
from nsgd.session.judge import Columns, judge
from nsgd.session.sky import observe
from nsgd.session.store import ALARM_STATE, DATABASE, Store, SubCommit
from nsgd.settings import Alarm
from tests.benchmarks.survive.stage import Stage

DASHBOARDS = 5
TURN = 25
"""Commits in a row alone, then beside the dashboards."""
UNTOUCHED = ("series", "catalogues", "subs", "facts", "alerts", "outbox", "states", "files")


@dataclass
class Board:
    """One dashboard in a terminal of its own."""

    store: Path
    pid: int = 0
    master: int = 0
    ends_s: float = 0.0
    """When its patience ends, after its line broke; 0 while it lives."""

    def open(self) -> None:
        """Start it; also after a hang-up."""
        self.ends_s = 0.0
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            config = self.store.parent / "empty.toml"
            command = [sys.executable, "-m", "nsgd", "dashboard", "--store", str(self.store), "--config", str(config)]
            os.execv(sys.executable, command)
        os.set_inheritable(self.master, False)

    def resize(self, rng: random.Random) -> None:
        """The window gets another size."""
        with suppress(OSError):
            fcntl.ioctl(
                self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rng.randrange(5, 60), rng.randrange(20, 200), 0, 0)
            )

    def drain(self) -> int:
        """Take what it draws, so that it never waits for us."""
        os.set_blocking(self.master, False)
        with suppress(OSError):
            return len(os.read(self.master, 1 << 20))
        return 0

    def hang_up(self) -> None:
        """The SSH connection breaks."""
        with suppress(OSError, ProcessLookupError):
            os.kill(self.pid, signal.SIGHUP)
        with suppress(OSError):
            os.close(self.master)
        self.ends_s = time.monotonic() + 5.0

    def has_ended(self) -> bool:
        """Whether it is gone since its line broke; it is killed where it stays."""
        if time.monotonic() > self.ends_s:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0


@dataclass
class Storm:
    """All boards, shaken by a thread."""

    store: Path
    resizes: int = 0
    hangups: int = 0
    drawn: int = 0
    boards: list[Board] = field(default_factory=list)
    resting: bool = False
    moments: random.Random = field(default_factory=lambda: random.Random(4))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def shake(self, over: threading.Event) -> None:
        """Resize all the time, hang up now and then."""
        rng = random.Random(3)
        while not over.is_set():
            with self.lock:
                if not self.resting:
                    self._shake_once(rng)
            over.wait(0.02)

    def _shake_once(self, rng: random.Random) -> None:
        for board in self.boards:
            if not board.ends_s:
                board.resize(rng)
                self.resizes += 1
                self.drawn += board.drain()
            elif board.has_ended():
                board.open()
        if rng.random() < 0.004 and not any(board.ends_s for board in self.boards):
            rng.choice(self.boards).hang_up()
            self.hangups += 1

    def rest(self, resting: bool) -> None:
        """Stop all boards as they are, or let them go on, each at its own moment: people do not look in step."""
        with self.lock:
            self.resting = resting
            for board in self.boards:
                with suppress(ProcessLookupError):
                    os.kill(board.pid, signal.SIGSTOP if resting else signal.SIGCONT)
                if not resting:
                    time.sleep(self.moments.uniform(0.0, POLL_S))


@contextmanager
def storm(store: Path, count: int = DASHBOARDS) -> Iterator[Storm]:
    """Dashboards that are being shaken."""
    (store.parent / "empty.toml").touch(mode=0o600)
    found = Storm(store, boards=[Board(store) for _ in range(count)])
    for board in found.boards:
        board.open()
    over = threading.Event()
    thread = threading.Thread(target=found.shake, args=(over,))
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.rest(False)
        for board in found.boards:
            if not board.ends_s:
                board.hang_up()
            while not board.has_ended():
                time.sleep(0.02)


def commit_times_s(store: Store, commits: int, pause_s: float) -> list[float]:
    """How long the commits of a night take, one after the other; each keeps the alarm's state too, as the daemon's."""
    last = store.subs()[-1]
    facts = store.facts(last.sub_id)
    series = next(row for row in store.series() if row.series_id == last.series_id)
    verdict = judge(Columns.from_rows([last]), series, CutOffs(0.0, 0.0, 0.0, 1.0)).of(last.sub_id)
    alarm = AlarmState.from_json(store.state(ALARM_STATE))
    taken = []
    for number in range(commits):
        time.sleep(pause_s)
        row = _as_new(last, 10.0 * (number + 1))
        alarm, _ = step(alarm, observe(row, verdict), row.arrived_utc_s, Alarm(), UTC)
        commit, states = SubCommit(row, facts, None, None), {ALARM_STATE: alarm.to_json()}
        begun_s = time.perf_counter()
        store.commit_sub(commit, states=states)
        taken.append(time.perf_counter() - begun_s)
    return taken


@contextmanager
def committing(store: Path) -> Iterator[Callable[[], list[float]]]:
    """Turns of commits in a process and session of their own, as the daemon is: who shakes the boards is elsewhere."""
    here, there = Pipe()

    def work() -> None:
        os.setsid()
        with Store.open(store, time.time()) as opened:
            while there.recv():
                there.send(commit_times_s(opened, TURN, 0.05))

    def commits_s() -> list[float]:
        here.send(True)
        return list(here.recv())

    process = get_context("fork").Process(target=work)
    process.start()
    there.close()
    try:
        yield commits_s
    finally:
        here.send(False)
        process.join()


def _as_new(row: SubRow, later_s: float) -> SubRow:
    """The same sub again, exposed later."""
    order_utc_s = row.order_utc_s + later_s
    return replace(row, sub_id=0, content_id=f"{row.content_id}-{order_utc_s}", order_utc_s=order_utc_s)


def dump(store: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row that a dashboard must not change."""
    with sqlite3.connect(store / DATABASE) as connection:
        found = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in UNTOUCHED}
    connection.close()
    return found


def run(folder: Path, commits: int) -> tuple[float, float, int, int, bool]:
    """(p99 without, p99 with dashboards, resizes, hang-ups, whether nothing was changed); seconds.

    The halves come in turns, since a machine has moods.
    """
    stage = Stage(folder)
    store = folder / "store"
    assert stage.daemon(store).finish() == 0
    times: dict[bool, list[float]] = {True: [], False: []}
    before = dump(store)
    with committing(store) as commits_s, storm(store) as shaken:
        time.sleep(6.0)
        unchanged = dump(store) == before
        for turn in range(2 * commits // TURN):
            alone = turn % 2 == 0
            shaken.rest(alone)
            time.sleep(1.0)  # they draw what was committed while they stood still, as no dashboard does
            times[alone] += commits_s()
    assert shaken.drawn > 10_000, "the dashboards drew nothing"
    p99 = [float(np.percentile(times[alone], 99)) for alone in (True, False)]
    return p99[0], p99[1], shaken.resizes, shaken.hangups, unchanged
