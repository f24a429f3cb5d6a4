"""Long runs of the intake: every way a file can come, with every way events can fail.

    python -m tests.benchmarks.intake zoo [--files 2000]     15 kinds of writers into a local folder
    python -m tests.benchmarks.intake share [--files 400]    the same behind a FUSE folder, without events
    python -m tests.benchmarks.intake smb [--files 60]       uploads through a real loopback smbd
    python -m tests.benchmarks.intake burst                  12,000 files while the watcher is stopped
    python -m tests.benchmarks.intake start                  10,000 files that lie there at the start
    python -m tests.benchmarks.intake remount                20 unmount and remount cycles of a tmpfs (root)
    python -m tests.benchmarks.intake limits                 three inotify watches for the whole system (root)
    python -m tests.benchmarks.intake hang                   a share whose listing never comes back
    python -m tests.benchmarks.intake all

Each line states what must hold and what was measured; the exit code is 1 where it does not hold. Needs
Debian's fuse3, samba, smbclient, rsync; what is missing is skipped with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nsgd.daemon.watch import Watcher
from nsgd.errors import FileProblem, NsgdError
from nsgd.frames.read import read_frame
from nsgd.session.store import DaemonStatus
from nsgd.session.store import Reader as StoreReader
from nsgd.settings import Watch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from intake_writers import WRITERS, Written, pixels_of, whole  # noqa: E402

failures = 0


def report(what: str, holds: bool, measured: str) -> None:
    global failures  # the one counter of this script
    failures += not holds
    print(f"{'ok  ' if holds else 'FAIL'}  {what}: {measured}", flush=True)


@contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="intake") as name:
        (Path(name) / "captures").mkdir()
        yield Path(name)


@contextmanager
def watching(folder: Path, **settings: float) -> Iterator[Watcher]:
    watcher = Watcher([folder], Watch(**settings))  # type: ignore[arg-type]
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


class Reader(threading.Thread):
    """Takes settled files and reads them at once, as the daemon does."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(daemon=True)
        self._watcher = watcher
        self._end = threading.Event()
        self.seen: dict[int, list[float]] = {}
        self.kinds: Counter[str] = Counter()
        self.partial: list[str] = []

    def run(self) -> None:
        while not self._end.is_set():
            for one in self._watcher.take(0.2):
                taken_s = time.monotonic()
                try:
                    pixels = read_frame(one.path).planes[0].pixels
                except FileProblem as problem:
                    self.kinds[f"unreadable ({problem})"[:60]] += 1
                    self._watcher.retry(one.path)
                    continue
                number = int(pixels[0, 0])
                if not np.array_equal(pixels, pixels_of(number)):
                    self.partial.append(one.path.name)
                self.seen.setdefault(number, []).append(taken_s)

    def wait_for(self, count: int, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while len(self.seen) < count and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return len(self.seen) >= count

    def stop(self) -> None:
        self._end.set()
        self.join()


def play_zoo(backing: Path, reader: Reader, files: int, allowed_s: float) -> None:
    """Let all writers write `files` files, then judge what the reader saw."""
    written: dict[int, Future[Written]] = {}
    kinds = list(WRITERS)
    with ThreadPoolExecutor(40) as pool:
        for number in range(1, files + 1):
            kind = kinds[number % len(kinds)]
            written[number] = pool.submit(WRITERS[kind], backing, number, 1.0)
            time.sleep(0.02)
    reader.wait_for(files, 90.0)
    time.sleep(8.0)
    reader.stop()
    report("files found", len(reader.seen) == files, f"{len(reader.seen)} of {files}")
    report("partial reads", not reader.partial, f"{len(reader.partial)} {reader.partial[:5]}")
    late: dict[str, list[float]] = {}
    for number, future in written.items():
        if number in reader.seen:
            kind = kinds[number % len(kinds)]
            late.setdefault(kind, []).append(waited_s(future.result(), reader.seen[number][0]))
    every = np.concatenate([np.array(times) for times in late.values()])
    p95_s = float(np.percentile(every, 95))
    report(
        f"picked up within {allowed_s:g} s (p95)",
        p95_s <= allowed_s,
        f"p50 {np.median(every):.2f} s, p95 {p95_s:.2f} s",
    )
    for kind, times in sorted(late.items()):
        print(f"        {kind:24s} n={len(times):4d}  median {np.median(times):6.2f} s  worst {max(times):6.2f} s")
    if reader.kinds:
        print(f"        tried again: {dict(reader.kinds)}")


def waited_s(written: Written, seen_s: float) -> float:
    """Time from the last change that was made before the file was taken."""
    return seen_s - (written.changed_s if 0.0 < written.changed_s <= seen_s else written.done_s)


def zoo(files: int) -> None:
    with workplace() as place, watching(place / "captures") as watcher:
        reader = Reader(watcher)
        reader.start()
        play_zoo(place / "captures", reader, files, 2.0)


@contextmanager
def fuse_share(place: Path) -> Iterator[tuple[Path, Path]]:
    """(backing folder, mounted folder)."""
    backing, mount = place / "captures", place / "mount"
    mount.mkdir()
    server = subprocess.Popen([sys.executable, str(HERE / "intake_fuse.py"), str(backing), str(mount)])
    try:
        deadline_s = time.monotonic() + 10.0
        while not os.path.ismount(mount):
            if time.monotonic() > deadline_s:
                raise SystemExit("the FUSE folder cannot be mounted here")
            time.sleep(0.05)
        yield backing, mount
    finally:
        subprocess.run(["fusermount3", "-uz", str(mount)], check=False)
        server.terminate()
        server.wait()


def share(files: int) -> None:
    if shutil.which("fusermount3") is None:
        print("skip  share: fuse3 is not installed")
        return
    with workplace() as place, fuse_share(place) as (backing, mount), watching(mount) as watcher:
        reader = Reader(watcher)
        reader.start()
        time.sleep(1.0)
        report("a FUSE folder is polled", watcher.status()[0].mode == "polling", watcher.status()[0].mode)
        play_zoo(backing, reader, files, Watch().poll_s + 2.0)


def smb(files: int) -> None:
    if not (shutil.which("smbd") and shutil.which("smbclient")):
        print("skip  smb: samba or smbclient is not installed")
        return
    with workplace() as place, smb_server(place) as port, watching(place / "captures") as watcher:
        reader = Reader(watcher)
        reader.start()
        late = []
        for number in range(1, files + 1):
            upload = place / f"smb_{number}.fits"
            upload.write_bytes(whole(number))
            command = ["smbclient", "//127.0.0.1/captures", "-p", str(port), "-N", "-c", f"put {upload} {upload.name}"]
            subprocess.run(command, check=True, capture_output=True)
            late.append(time.monotonic())
            upload.unlink()
        reader.wait_for(files, 60.0)
        reader.stop()
        report("files found through smbd", len(reader.seen) == files, f"{len(reader.seen)} of {files}")
        report("partial reads", not reader.partial, str(len(reader.partial)))
        waits = [reader.seen[n + 1][0] - done_s for n, done_s in enumerate(late) if n + 1 in reader.seen]
        p95_s = float(np.percentile(waits, 95))
        report("picked up within 2 s (p95)", p95_s <= 2.0, f"p95 {p95_s:.2f} s")


@contextmanager
def smb_server(place: Path) -> Iterator[int]:
    port = 4455
    for name in ("private", "run"):
        (place / name).mkdir()
    (place / "smb.conf").write_text(
        f"[global]\nsmb ports = {port}\ninterfaces = 127.0.0.1\nbind interfaces only = yes\nmap to guest = Bad User\n"
        f"guest account = {os.environ.get('USER') or 'root'}\nserver role = standalone\nlog level = 0\n"
        + "".join(f"{key} = {place}/{name}\n" for key, name in (
            ("private dir", "private"), ("pid directory", "run"), ("lock directory", "run"), ("state directory", "run"),
            ("cache directory", "run"), ("ncalrpc dir", "run")))
        + f"log file = {place}/log\n[captures]\npath = {place}/captures\nguest ok = yes\nread only = no\n"
          "force user = root\n"
    )  # fmt: skip
    server = subprocess.Popen(
        ["smbd", "--foreground", "--no-process-group", "-s", str(place / "smb.conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,  # where it is told to end, it ends all of its process group
    )  # fmt: skip
    try:
        time.sleep(2.0)
        yield port
    finally:
        server.terminate()
        server.wait()


WATCH_ALONE = """
import sys, time
from pathlib import Path
from nsgd.daemon.watch import Watcher
from nsgd.settings import Watch
watcher = Watcher([Path(sys.argv[1])], Watch())
watcher.start()
count = 0
while True:
    count += len(watcher.take(0.2))
    status = watcher.status()[0]
    print(count, status.mode, status.present, status.reason, flush=True)
"""


@contextmanager
def watcher_process(folder: Path, *prefix: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A watcher in a process of its own, and the lines it prints."""
    command = [*prefix, sys.executable, "-c", WATCH_ALONE, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = ["0 none False "]
    assert process.stdout is not None
    threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True).start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()


def small_file(number: int) -> bytes:
    lines = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 20", "NAXIS2  = 20", f"FRAMENR = {number}", "END"]
    return "".join(line.ljust(80) for line in lines).ljust(2880).encode() + bytes([1 + number % 250]) * 400


def count_of(lines: list[str]) -> int:
    return int(lines[-1].split()[0])


def wait_count(lines: list[str], count: int, timeout_s: float) -> float:
    """Seconds until the process has seen so many files; infinity where it does not."""
    begun_s = time.monotonic()
    while count_of(lines) < count:
        if time.monotonic() - begun_s > timeout_s:
            return float("inf")
        time.sleep(0.1)
    return time.monotonic() - begun_s


def burst(files: int = 12_000) -> None:
    with workplace() as place, watcher_process(place / "captures") as (process, lines):
        wait_until(lambda: "True" in lines[-1], 20.0)
        process.send_signal(signal.SIGSTOP)
        for number in range(files):
            (place / "captures" / f"{number}.fits").write_bytes(small_file(number))
        process.send_signal(signal.SIGCONT)
        took_s = wait_count(lines, files, 60.0)
        report(
            f"{files} files written while stopped, found within 30 s",
            took_s <= 30.0,
            f"{count_of(lines)}, {took_s:.1f} s",
        )


def star_field(number: int) -> bytes:
    """A small sub of its own: sixty stars, another shift, noise and time."""
    dice, sky = np.random.default_rng(5), np.random.default_rng(number)
    x, y = dice.uniform(8, 152, 60) + 0.3 * (number % 7), dice.uniform(8, 152, 60) + 0.2 * (number % 5)
    flux = 10.0 ** dice.uniform(3.2, 4.5, 60)
    ys, xs = np.mgrid[:160, :160]
    stars = sum(f / 14.1 * np.exp(-((xs - a) ** 2 + (ys - b) ** 2) / 4.5) for a, b, f in zip(x, y, flux, strict=True))
    pixels = sky.poisson(500.0 + stars).clip(0, 65535)
    return field_header(number) + (pixels - 32768).astype(">i2").tobytes()


def field_header(number: int) -> bytes:
    begun = datetime.fromtimestamp(time.time() - 20.0 * (20_000 - number), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    lines = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 160", "NAXIS2  = 160", "BZERO   = 32768",
             "EXPTIME = 15.0", "IMAGETYP= 'LIGHT'", f"DATE-OBS= '{begun}'", "END"]  # fmt: skip
    return "".join(line.ljust(80) for line in lines).ljust(2880).encode()


def write_backlog(captures: Path, files: int) -> None:
    """Files of a whole season; pixels repeat after 40, times and so contents do not."""
    fields = [star_field(number)[2880:] for number in range(40)]
    for number in range(files):
        (captures / f"{number:05d}.fits").write_bytes(field_header(number) + fields[number % 40])


@contextmanager
def daemon(place: Path) -> Iterator[StoreReader]:
    """`nsgd run` on the captures, and a look into its store."""
    (place / "config.toml").write_text(f"[watch]\nfolders = [{json.dumps(str(place / 'captures'))}]\n")
    command = [
        sys.executable,
        "-m",
        "nsgd",
        "--config",
        str(place / "config.toml"),
        "--store",
        str(place / "store"),
        "run",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: daemon_status(place) is not None, 30.0)
        with StoreReader.open(place / "store") as store:
            yield store
    finally:
        process.terminate()
        process.wait()


def daemon_status(place: Path) -> DaemonStatus | None:
    try:
        with StoreReader.open(place / "store") as store:
            return store.daemon()
    except NsgdError:
        return None


def live_delay_s(store: StoreReader, captures: Path, number: int) -> float:
    """Seconds from a new sub's last byte to its row; infinity where it takes more than a minute."""
    path = captures / f"live{number}.fits"
    path.write_bytes(star_field(number))
    return wait_until(lambda: any(row.path == str(path) for row in store.subs()), 60.0)


def start(files: int = 10_000) -> None:
    with workplace() as place:
        captures = place / "captures"
        write_backlog(captures, 3)
        with daemon(place) as store:
            wait_until(lambda: len(store.subs()) == 3, 60.0)
            usual_s = max(live_delay_s(store, captures, 15_000 + number) for number in range(3))
    with workplace() as place:
        captures = place / "captures"
        write_backlog(captures, files)
        begun_s = time.monotonic()
        with daemon(place) as store:
            wait_until(lambda: pending(store) + len(store.subs()) >= 0.98 * files, 60.0)
            told_s = time.monotonic() - begun_s
            report(
                f"{files} files at the start, all told on the dashboard within 5 s", told_s <= 5.0, f"{told_s:.1f} s"
            )
            wait_until(lambda: len(store.subs()) > 0, 60.0)
            first_s, first = time.monotonic() - begun_s, Path(store.subs()[0].path).name
            newest = f"{files - 1:05d}.fits"
            report("the newest sub first, within 5 s", first == newest and first_s <= 5.0, f"{first}, {first_s:.1f} s")
            delay_s = max(live_delay_s(store, captures, 16_000 + number) for number in range(3))
            report(
                "a live sub delayed at most twice",
                delay_s <= 2.0 * usual_s,
                f"{delay_s:.1f} s, usually {usual_s:.1f} s",
            )


def pending(store: StoreReader) -> int:
    status = store.daemon()
    return 0 if status is None else status.pending


def wait_until(condition: Callable[[], bool], timeout_s: float) -> float:
    begun_s = time.monotonic()
    while not condition():
        if time.monotonic() - begun_s > timeout_s:
            return float("inf")
        time.sleep(0.05)
    return time.monotonic() - begun_s


def remount(cycles: int = 20) -> None:
    if os.geteuid() != 0:
        print("skip  remount: needs root")
        return
    with workplace() as place, watcher_process(place / "captures") as (_, lines):
        captures, disk = place / "captures", place / "disk"
        disk.mkdir()
        mounted = ["mount", "--bind", str(disk), str(captures)]
        tmpfs = ["mount", "-t", "tmpfs", "tmpfs", str(disk)]
        subprocess.run(tmpfs, check=True)
        subprocess.run(mounted, check=True)
        try:
            worst_lost_s = worst_back_s = 0.0
            for cycle in range(cycles):
                (captures / f"a{cycle}.fits").write_bytes(small_file(cycle))
                worst_back_s = max(worst_back_s, wait_count(lines, cycle + 1, 60.0))
                subprocess.run(["umount", "-l", str(captures)], check=True)
                worst_lost_s = max(worst_lost_s, wait_until(lambda: "False" in lines[-1], 60.0))
                subprocess.run(mounted, check=True)
                wait_until(lambda: "True" in lines[-1], 60.0)
        finally:
            subprocess.run(["umount", "-l", str(captures)], check=False)
            subprocess.run(["umount", "-l", str(disk)], check=False)
        report(f"{cycles} remounts, each new file found", count_of(lines) == cycles, str(count_of(lines)))
        report("missing is said within 30 s", worst_lost_s <= 30.0, f"worst {worst_lost_s:.1f} s")
        report("resumed within 30 s unaided", worst_back_s <= 30.0, f"worst {worst_back_s:.1f} s")


def limits() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        print("skip  limits: needs root and unshare")
        return
    limited = ("unshare", "--user", "--map-root-user", "sh", "-c",
               'echo 3 > /proc/sys/user/max_inotify_watches; exec "$@"', "sh")  # fmt: skip
    with workplace() as place:
        for number in range(8):
            (place / "captures" / f"night{number}").mkdir()
        with watcher_process(place / "captures", *limited) as (_, lines):
            wait_until(lambda: "polling" in lines[-1] and "True" in lines[-1], 20.0)
            report("too few watches: polling, and said", "no events" in lines[-1], lines[-1].strip())
            (place / "captures" / "night7" / "a.fits").write_bytes(small_file(1))
            took_s = wait_count(lines, 1, 30.0)
            report("found by polling", took_s <= Watch().poll_s + 2.0, f"{took_s:.1f} s")


def hang() -> None:
    if shutil.which("fusermount3") is None:
        print("skip  hang: fuse3 is not installed")
        return
    with workplace() as place, fuse_share(place) as (backing, mount):
        local = place / "local"
        local.mkdir()
        watcher = Watcher([mount, local], Watch())
        watcher.start()
        wait_until(lambda: all(status.present for status in watcher.status()), 20.0)
        (backing / ".hang").touch()
        took_s = wait_until(lambda: not watcher.status()[0].present, 60.0)
        report("a hanging listing is said within 30 s", took_s <= 30.0, f"{took_s:.1f} s, {watcher.status()[0].reason}")
        (local / "a.fits").write_bytes(small_file(1))
        begun_s = time.monotonic()
        taken = watcher.take(5.0)
        report("the other folder goes on", len(taken) == 1, f"{time.monotonic() - begun_s:.1f} s")
        (backing / "b.fits").write_bytes(small_file(2))
        (backing / ".hang").unlink()
        took_s = wait_until(lambda: bool(watcher.take(0.1)), 40.0)
        report("it resumes by itself within 30 s", took_s <= 30.0, f"{took_s:.1f} s")
        (backing / ".stale").touch()
        took_s = wait_until(lambda: not watcher.status()[0].present, 40.0)
        report("a stale handle is said within 30 s", took_s <= 30.0, f"{took_s:.1f} s, {watcher.status()[0].reason}")
        (backing / ".stale").unlink()
        took_s = wait_until(lambda: watcher.status()[0].present, 40.0)
        report("and forgotten when it is over", took_s <= 30.0, f"{took_s:.1f} s")
        watcher.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["zoo", "share", "smb", "burst", "start", "remount", "limits", "hang", "all"]
    parser.add_argument("what", nargs="?", default="all", choices=choices)
    parser.add_argument("--files", type=int, default=0)
    arguments = parser.parse_args()
    runs: dict[str, Callable[[], None]] = {
        "zoo": lambda: zoo(arguments.files or 2000),
        "share": lambda: share(arguments.files or 400),
        "smb": lambda: smb(arguments.files or 60),
        "burst": burst, "start": start, "remount": remount, "limits": limits, "hang": hang,
    }  # fmt: skip
    for name in runs if arguments.what == "all" else [arguments.what]:
        print(f"== {name}", flush=True)
        runs[name]()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
