"""A season in one go: thousands of subs through the real watcher; memory, descriptors, threads, time per sub, size."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsgd.daemon.run import run_daemon
from nsgd.errors import NsgdError
from nsgd.frames.read import read_frame
from nsgd.measure import recipe
from nsgd.session.store import DATABASE, Reader
from nsgd.settings import Measure, Settings
from nsgd.simulate import night, sub_cards, write_sub

BASES = 16
AHEAD = 12
EVERY = 50
COMPARE_EVERY = 10
"""Subs between two looks at the yardstick: a neighbour who comes and goes within some seconds slows down both."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon's process after some subs."""

    subs: int
    rss_kb: float
    descriptors: int
    threads: int
    cpu_s: float
    """Of the daemon alone, without the yardstick."""
    yard_s: float
    """What the yardstick took at a time since the last sample, in the mean."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What the samples say."""

    subs: int
    rss_kb_per_sub: float
    rss_kb_per_sub_err: float
    """Half of the slope's 95 % confidence interval."""
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    cpu_ms_per_sub: float
    cpu_drift: float
    """Change of the time per sub from begin to end, relative, in units of the yardstick: neighbours slow down both."""
    cpu_drift_err: float
    """Half of its 95 % confidence interval."""
    store_kb_per_sub: float
    intact: bool


def camera(lights: Path, subs: int, taken: Path) -> None:
    """Write subs, a few ahead of the daemon; runs in a process of its own."""
    plan = night("clear", subs=BASES, width_px=320, height_px=240)
    bases = [plan.pixels(number).astype(np.int32) for number in range(BASES)]
    rng = np.random.default_rng(5)
    for number in range(subs):
        while number - int(taken.read_text() or 0) > AHEAD:
            time.sleep(0.005)
        truth = replace(plan.subs[number % BASES], start_utc_s=plan.subs[0].start_utc_s + 60.0 * number)
        pixels = bases[number % BASES] + rng.integers(-2, 3, bases[0].shape)
        part = lights / f"{number // 1000:03d}"
        temporary = lights / f".{number}.tmp"
        write_sub(temporary, np.clip(pixels, 0, 65535).astype(np.uint16), sub_cards(truth, "Soak"))
        part.mkdir(exist_ok=True)
        temporary.rename(part / f"soak_{number:05d}.fits")


class Yardstick:
    """A fixed piece of the same work: measuring one sub. Any other is not slowed down alike by a busy machine."""

    def __init__(self, folder: Path) -> None:
        plan = night("clear", subs=2, width_px=320, height_px=240)
        first, self._file = (
            write_sub(folder / f"yardstick{k}.fits", plan.pixels(k), sub_cards(plan.subs[k], "Yard")) for k in (0, 1)
        )
        self._catalogue = recipe.catalogue_from(read_frame(first), Measure())
        self.used_s = 0.0
        self._since: list[float] = []

    def look(self) -> None:
        """Take the time of one sub, CPU seconds."""
        begun_s = time.process_time()
        recipe.measure_sub(read_frame(self._file), self._catalogue, Measure())
        self._since.append(time.process_time() - begun_s)
        self.used_s += self._since[-1]

    def mean_s(self) -> float:
        """What it took in the mean since this was last asked."""
        mean_s = float(np.mean(self._since)) if self._since else float("nan")
        self._since.clear()
        return mean_s


def sample(subs: int, yardstick: Yardstick) -> Sample:
    """The state of this process."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    rss_kb = next(float(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
    descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    return Sample(subs, rss_kb, descriptors, threads, time.process_time() - yardstick.used_s, yardstick.mean_s())


def run(folder: Path, subs: int) -> Soak:
    """Let the daemon (this process) measure so many subs that a camera process writes."""
    lights, store, taken = folder / "lights", folder / "store", folder / "taken"
    lights.mkdir()
    taken.write_text("0")
    child = os.fork()
    if child == 0:
        try:
            camera(lights, subs, taken)
        finally:
            os._exit(0)
    watch = {"folders": [str(lights)], "quiet_local_s": 0.0, "rescan_s": 60.0}
    settings = Settings.model_validate({"watch": watch, "store": {"previews_mb": 1}})
    samples: list[Sample] = []
    progress, yardstick, compared = Progress(store), Yardstick(folder), 0

    def done() -> bool:
        nonlocal compared
        count = progress.count()
        if count // COMPARE_EVERY > compared // COMPARE_EVERY:
            yardstick.look()
            compared = count
        if count // EVERY > (samples[-1].subs if samples else 0) // EVERY:
            samples.append(sample(count, yardstick))
        taken.write_text(str(count))
        return count >= subs

    run_daemon(store, settings, until=done, environ={})
    os.waitpid(child, 0)
    return judge(samples, store, subs)


class Progress:
    """How many subs the store holds, over one connection that stays open."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._reader: Reader | None = None

    def count(self) -> int:
        if self._reader is None:
            try:
                self._reader = Reader.open(self._store)
            except NsgdError:
                return 0
        return int(self._reader._query("SELECT count(*) FROM subs")[0][0])


def judge(samples: list[Sample], store: Path, subs: int) -> Soak:
    """Lines through the samples after the first part (500 subs, or a fifth of a short run)."""
    settled = [one for one in samples if one.subs >= min(500, subs // 5)]
    x = np.array([one.subs for one in settled], dtype=float)
    rss, covariance = np.polyfit(x, [one.rss_kb for one in settled], 1, cov=True)
    per_sub_s = np.diff([one.cpu_s for one in settled]) / np.diff(x)
    yard_s = np.array([one.yard_s for one in settled])
    (slope, level), doubt = np.polyfit(x[1:], per_sub_s / yard_s[1:], 1, cov=True)
    first, last = level + slope * x[1], level + slope * x[-1]
    with sqlite3.connect(store / DATABASE) as connection:
        intact = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    return Soak(
        subs=subs,
        rss_kb_per_sub=float(rss[0]),
        rss_kb_per_sub_err=float(1.96 * np.sqrt(covariance[0, 0])),
        descriptors=(settled[0].descriptors, settled[-1].descriptors),
        threads=(settled[0].threads, settled[-1].threads),
        cpu_ms_per_sub=float(np.mean(per_sub_s) * 1e3),
        cpu_drift=float((last - first) / first),
        cpu_drift_err=float(1.96 * np.sqrt(doubt[0, 0]) * (x[-1] - x[1]) / first),
        store_kb_per_sub=(store / DATABASE).stat().st_size / subs / 1000.0,
        intact=intact,
    )
