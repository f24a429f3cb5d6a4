"""Kill and errno at every Nth system call, injected by strace: nothing in nsgd knows that it is tested."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.survive.stage import Act, Stage, differences, under_strace

KILL_AT = ("fsync", "fdatasync", "rename", "pwrite64", "write", "unlink", "ftruncate", "openat")
ERRNO_AT = ("fsync", "fdatasync", "pwrite64", "ftruncate", "unlink", "openat")
ERRNOS = ("ENOSPC", "EIO", "EROFS")
_CALL = re.compile(r"^(\d+)\s+(\w+)\(")


@dataclass(frozen=True, slots=True)
class Point:
    """One place to strike: the Nth call of a kind; errno "" kills."""

    call: str
    number: int
    errno: str = ""

    def __str__(self) -> str:
        return f"{self.errno or 'SIGKILL'} at {self.call} {self.number}"


def count_calls(act: Act, calls: tuple[str, ...], only_store: bool) -> dict[str, int]:
    """How often the daemon's loop makes each call in one act."""
    stage = act.stage
    store, trace = stage.folder / "counted", stage.folder / "trace"
    act.begin(store)
    daemon = stage.daemon(store, held=True)
    tracer = under_strace(daemon, ["-o", str(trace), *_paths(store, only_store), "-e", f"trace={','.join(calls)}"])
    daemon.finish()
    tracer.wait(20)
    found = dict.fromkeys(calls, 0)
    for line in trace.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match and int(match[1]) == daemon.pid and match[2] in found:
            found[match[2]] += 1
    return found


def spread(acts: list[Act], kind: str, most: int) -> list[tuple[Act, Point]]:
    """At most so many points, evenly spread over all there are."""
    only_store = kind == "errno"
    calls, errnos = (ERRNO_AT, ERRNOS) if only_store else (KILL_AT, ("",))
    every = [
        (act, Point(call, k, errno))
        for act in acts
        for call, count in count_calls(act, calls, only_store).items()
        for k in range(1, count + 1)
        for errno in errnos
    ]
    if len(every) <= most:
        return every
    return [every[int(k * len(every) / most)] for k in range(most)]


def strike(act: Act, point: Point) -> list[str]:
    """One act with one blow, a second start after it, and what is wrong then."""
    stage = act.stage
    store = stage.folder / f"store-{os.getpid()}"
    act.begin(store)
    blow = f"error={point.errno}" if point.errno else "signal=KILL"
    daemon = stage.daemon(store, held=True)
    inject = f"inject={point.call}:{blow}:when={point.number}"
    tracer = under_strace(
        daemon,
        ["-o", "/dev/null", *_paths(store, bool(point.errno)), "-e", f"trace={point.call}", "-e", inject],
    )
    status = daemon.finish()
    tracer.wait(20)
    said = []
    if status is None:
        said.append("hung")
    elif (point.errno and status != 0) or (not point.errno and status not in (0, signal.SIGKILL)):
        said.append(f"ended with {status}")
    again = stage.daemon(store).finish()
    if again != 0:
        said.append(f"the second start ended with {again}")
    said += differences(stage.result(store), act.wanted)
    return [
        f"{point} of the act up to sub {act.shown}: {one}\n{daemon.said()[-1500:] if 'ended' in one else ''}"
        for one in said
    ]


def run(folder: Path, kind: str, most: int, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[str, list[str]]]:
    """Every point (of a share (k, n), every nth) and what was wrong with it."""
    acts = Stage(folder).acts()
    assert acts[-1].wanted[1], "the cloud rang nobody, so no alert could be lost"
    points = spread(acts, kind, most)
    for act, point in points[share[0] :: share[1]]:
        yield f"{point} of the act up to sub {act.shown}", strike(act, point)


def available() -> str:
    """Why strace cannot be used here, "" where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, timeout=20)
    return "" if done.returncode == 0 else "this user may not trace processes"


def _paths(store: Path, only_store: bool) -> list[str]:
    """Restrict errno to the database: an error while Python opens a module is not the disk's."""
    if not only_store:
        return []
    return [word for name in ("nsgd.db", "nsgd.db-wal", "nsgd.db-shm", "lock") for word in ("-P", str(store / name))]
