"""What the dashboard costs: opening, a new sub, idleness and memory, through a real pseudo-terminal.

Run from the root of the checkout, on an idle machine::

    python -m tests.benchmarks.dashboard             nights of 60 and of 10,000 subs
    python -m tests.benchmarks.dashboard --quick     60 subs only, and a shorter look at the idle CPU
    python -m tests.benchmarks.dashboard --cpu       openings in CPU seconds, on a machine that has other things to do

Every figure is that of `nsgd dashboard` as a user starts it, in a terminal of 120 x 36 that answers what is asked of
it. Opening counts from the start of the process, the median of several: to the state of the sky, which comes as a line
before anything else is loaded; to the screen that heeds keys; to the newest subs in graph and table; to all of it.
While it idles, a daemon's heartbeat comes every five seconds. Memory is resident memory beyond that of
`python -c pass`. The exit code is 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nsgd.records import SubRow
from nsgd.session.series import session_of
from nsgd.session.store import Store, SubCommit
from tests.benchmarks.speed import Line, show
from tests.dashboard.nights import alive, series, sub
from tests.dashboard.terminal import Terminal

COLUMNS, ROWS = 120, 36
SIZES = (60, 10_000)
CADENCE_S = 60.0
ANSWERS = {b"\x1b[c": b"\x1b[?62;22c"}
"""What a terminal without pixel graphics says of itself."""
OPENINGS, NEW_SUBS, IDLE_S, BEAT_S = 7, 5, 30.0, 5.0


def night(folder: Path, subs: int) -> Store:
    """A store with so many subs, the last of them just taken; a week of nights where they are 10,000."""
    first_utc_s = time.time() - CADENCE_S * (subs + 1) - 150.0
    store = Store.open(folder, first_utc_s)
    store._query("PRAGMA synchronous = OFF")  # what is measured comes after the writing
    for number in range(1, subs + 1):
        store.commit_sub(SubCommit(one(number, first_utc_s + CADENCE_S * number), None, None, series()))
    store._query("PRAGMA synchronous = FULL")
    beat(store)
    return store


def one(number: int, utc_s: float) -> SubRow:
    """A clear sub."""
    return replace(sub(number, utc_s, 0.97), session=session_of(utc_s, None))


def beat(store: Store) -> None:
    now_utc_s = time.time()
    store.beat(now_utc_s, replace(alive(now_utc_s), pid=os.getpid()))


@contextmanager
def dashboard(folder: Path) -> Iterator[Terminal]:
    """`nsgd dashboard` on a terminal of its own."""
    command = [sys.executable, "-m", "nsgd", "dashboard", "--store", str(folder)]
    environment = {"NSGD_CONFIG": "", "XDG_CONFIG_HOME": str(folder)}
    with Terminal(folder, COLUMNS, ROWS, environment, answers=ANSWERS, command=command) as terminal:
        yield terminal


def seconds_to(terminal: Terminal, started: float, words: bytes, most_s: float = 30.0) -> float:
    """Seconds from a moment until the dashboard has sent these words; the bytes are looked at as they come."""
    seen = len(terminal.sent)
    while time.monotonic() - started < most_s:
        if words in terminal.sent[max(seen - 200, 0) :]:
            return time.monotonic() - started
        terminal.read_some(0.05)
    raise SystemExit(f"the dashboard never said {words!r}:\n{terminal.text}")


def opening_s(folder: Path, *, cpu: bool) -> tuple[float, float, float, float]:
    """Seconds to the state, to the screen, to the newest subs, and until everything is read."""
    started = time.monotonic()

    def spent(by_the_clock_s: float) -> float:
        return cpu_s(terminal.process.pid) if cpu else by_the_clock_s

    with dashboard(folder) as terminal:
        state_s = spent(seconds_to(terminal, started, b" ago"))
        screen_s = spent(seconds_to(terminal, started, b"READING "))
        newest_s = spent(seconds_to(terminal, started, b" effective of "))
        return state_s, screen_s, newest_s, spent(everything_s(terminal, started))


def everything_s(terminal: Terminal, started: float) -> float:
    """Seconds until the first line no longer says that it reads."""
    while "READING" in terminal.screen.display[0] or "kept" not in terminal.text:
        terminal.read_some(0.05)
        terminal.draw()
    return time.monotonic() - started


def new_sub_s(terminal: Terminal, store: Store, number: int) -> float:
    """Seconds from the end of a commit to the sub's name on the screen."""
    row = one(number, time.time() - 150.0)
    store.commit_sub(SubCommit(row, None, None, series()))
    return seconds_to(terminal, time.monotonic(), Path(row.path).stem.encode())


def idle_cpu(terminal: Terminal, store: Store, seconds: float) -> float:
    """Part of one core that the dashboard takes while nothing happens but heartbeats."""
    before, started = cpu_s(terminal.process.pid), time.monotonic()
    while time.monotonic() - started < seconds:
        terminal.read(BEAT_S)
        beat(store)
    return (cpu_s(terminal.process.pid) - before) / (time.monotonic() - started)


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process so far."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory_mb(pid: int, field: str) -> float:
    """`VmRSS` (resident) or `VmHWM` (its peak) of a process, megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024.0


def python_mb() -> float:
    """Resident memory of an interpreter that has nothing to do."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_mb(process.pid, "VmRSS")
        process.communicate(b"\n")
    return found


def lines_of(subs: int, parent: Path, idle_s: float, *, cpu: bool) -> list[Line]:
    """All figures of one night."""
    folder = parent / str(subs)
    with night(folder, subs) as store:
        opening_s(folder, cpu=cpu)
        openings = [opening_s(folder, cpu=cpu) for _ in range(OPENINGS)]
        state_s, screen_s, newest_s, all_s = (statistics.median(times) for times in zip(*openings, strict=True))
        with dashboard(folder) as terminal:
            seconds_to(terminal, time.monotonic(), b" effective of ")
            everything_s(terminal, time.monotonic())
            terminal.read(2.0)
            opened_mb = memory_mb(terminal.process.pid, "VmRSS") - python_mb()
            seen_s = max(new_sub_s(terminal, store, subs + 1 + number) for number in range(NEW_SUBS))
            terminal.read(3.0)
            idle = idle_cpu(terminal, store, idle_s)
            peak_mb = memory_mb(terminal.process.pid, "VmHWM") - python_mb()
    name = f"{subs:,} subs"
    return [
        Line(f"{name}: opened, the sky's state on the screen", f"{state_s:.2f} s", "<= 0.5 s", state_s <= 0.5),
        Line(f"{name}: the screen, which heeds keys", f"{screen_s:.2f} s"),
        Line(f"{name}: the newest subs in graph and table", f"{newest_s:.2f} s"),
        Line(f"{name}: all subs read and judged", f"{all_s:.2f} s"),
        Line(f"{name}: a new sub on the screen, worst of {NEW_SUBS}", f"{seen_s:.2f} s", "<= 1 s", seen_s <= 1.0),
        Line(f"{name}: idle, of one core", f"{100 * idle:.2f} %", "<= 1 %", idle <= 0.01),
        Line(f"{name}: memory beyond Python", f"{opened_mb:.0f} MB", "<= 60 MB", opened_mb <= 60.0),
        Line(f"{name}: the same at its highest", f"{peak_mb:.0f} MB"),
    ]  # fmt: skip


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the dashboard costs.")
    parser.add_argument("--quick", action="store_true", help="60 subs only")
    parser.add_argument("--cpu", action="store_true", help="openings in CPU seconds of the dashboard")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    chosen = parser.parse_args()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as parent:
        for subs in SIZES[:1] if chosen.quick else SIZES:
            found = lines_of(subs, Path(parent), 10.0 if chosen.quick else IDLE_S, cpu=chosen.cpu)
            print("\n".join(show(line) for line in found), flush=True)
            lines += found
    if chosen.out:
        chosen.out.write_text("\n".join(show(line) for line in lines) + "\n")
    return 1 if any(line.holds is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
