"""What one sub costs, as ratios in one run, beside the peers that are installed.

Run from the root of the checkout::

    python -m tests.benchmarks.speed                 the whole table (26 and 61 megapixels, 10,000 subs)
    python -m tests.benchmarks.speed --quick         smaller frames, 2,000 subs
    python -m tests.benchmarks.speed --profile       also where the time of a walk goes (needs pyinstrument)
    python -m tests.benchmarks.speed --cpu           CPU seconds, for a machine that has other things to do

Each part runs in a process of its own with one BLAS thread; times are the best of several.
source-extractor and siril-cli are skipped where they are missing. The exit code is 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

SEED = 95_000
CLOCK = "NSGD_BENCH_CLOCK"
BACKLOG = 80
"""Subs: two workers take as long to start as five of them take to be measured."""
NOON_UTC_S = 1.8e9 + 4 * 3600.0
"""A noon, so that a thousand subs fall into one night."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    what: str
    reached: str
    goal: str = ""
    holds: bool | None = None


def show(line: Line) -> str:
    verdict = "    " if line.holds is None else "ok  " if line.holds else "MISS"
    return f"{verdict} {line.what:<52} {line.reached:>30}   {line.goal}".rstrip()


@dataclass(frozen=True, slots=True)
class Frames:
    """Subs to walk: sensor size in pixels, Bayer pattern and how many."""

    name: str
    width_px: int
    height_px: int
    bayer: str = ""
    count: int = 6
    stars: int = 4000


MONO = Frames("26 MP mono", 6248, 4176, count=10)
BAYER = Frames("26 MP Bayer", 6248, 4176, "RGGB", count=10)
LARGE = Frames("61 MP mono", 9576, 6388, count=4)
SMALL = (Frames("6 MP mono", 3124, 2088, stars=1500), Frames("6 MP Bayer", 3124, 2088, "RGGB", stars=1500))


def render_one(task: tuple[Frames, Path, int]) -> Path:
    """Write one dithered sub of a set."""
    import numpy as np

    from nsgd.simulate import Camera, Psf, SubTruth, place, render, star_field, sub_cards, write_sub

    frames, folder, index = task
    camera = Camera(width_px=frames.width_px, height_px=frames.height_px, bayer=frames.bayer)
    size = {"width_px": camera.width_px, "height_px": camera.height_px}
    sky = star_field(np.random.default_rng(SEED), stars=frames.stars, flux_e_s=(20.0, 20000.0), **size)
    shift = np.random.default_rng([SEED, index]).uniform(-20.0, 20.0, 2)
    truth = SubTruth(
        camera, 1.8e9 + 65.0 * index, psf=Psf(3.2, 3.2), transform=place(camera, float(shift[0]), float(shift[1]))
    )
    pixels = render(sky, truth, np.random.default_rng([SEED, 1, index]))
    path = folder / "LIGHT" / f"sub_{index + 1:05d}.fit"
    return write_sub(path, pixels, sub_cards(truth, frames.name))


def rendered(frames: Frames, folder: Path) -> list[Path]:
    """The set of subs, written by one process: two 61-megapixel renderings do not fit beside each other."""
    return [render_one((frames, folder, index)) for index in range(frames.count)]


# ---- parts that run in their own process -------------------------------------------------------------


def resident_mb(field: str) -> float:
    """`VmHWM` (peak) or `VmRSS` of this process, megabytes."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(field):
            return int(row.split()[1]) / 1024.0
    return float("nan")


def plain_read(path: Path, shape: tuple[int, int]) -> float:
    """Seconds to turn a 16-bit FITS into native float32: the yardstick."""
    import numpy as np

    started = now_s()
    stored = np.memmap(path, ">i2", "r", path.stat().st_size // 2880 * 2880 - padded(shape), shape)
    pixels = stored.astype(np.float32)
    pixels += np.float32(32768.0)
    return now_s() - started


def padded(shape: tuple[int, int]) -> int:
    """Bytes that a 16-bit picture takes in a FITS file."""
    return -(-shape[0] * shape[1] * 2 // 2880) * 2880


def walk_part(arguments: dict[str, object]) -> dict[str, object]:
    """Walk every file of a folder as the daemon does: settled path -> committed."""
    from nsgd.config import zone_of
    from nsgd.frames.read import read_frame
    from nsgd.session.store import Store
    from nsgd.settings import Settings
    from nsgd.walk import Walker

    paths = [Path(str(p)) for p in arguments["paths"]]  # type: ignore[attr-defined]
    shape = tuple(arguments["shape"])  # type: ignore[arg-type]
    settings, times, facts = Settings(), [], {}
    with Store.open(Path(str(arguments["store"])), 1.8e9) as store:
        walker = Walker(store, settings, zone_of(settings))
        Path("/proc/self/clear_refs").write_text("5")
        before = resident_mb("VmRSS")
        for path in paths:
            path.read_bytes()
            times.append(timed(lambda path=path: take(walker, store, path, settings)))
        peak = resident_mb("VmHWM")
        facts = {"stars": store.subs()[-1].stars_matched, "failed": sum(r.failure is not None for r in store.subs())}
    reads = [plain_read(paths[-1], shape) for _ in range(7)]
    frames = [timed(lambda: read_frame(paths[-1])) for _ in range(4)]
    return {"times": times, "read": min(reads), "frame": min(frames), "peak_mb": peak - before, **facts}


def take(walker: object, store: object, path: Path, settings: object) -> None:
    """What the daemon does with one settled file."""
    from nsgd.session.alerts import AlarmState, step
    from nsgd.session.sky import observe

    commit = walker.walk(path, path.parent, 1.8e9 + 1e5)  # type: ignore[attr-defined]
    seen = observe(commit.row, walker.verdict(commit), (None, None))  # type: ignore[attr-defined]
    alarm, alerts = step(AlarmState(), seen, 1.8e9 + 1e5, settings.alarm, None)  # type: ignore[attr-defined]
    walker.committed(commit, store.commit_sub(commit, alerts, (), {"alarm": alarm.to_json()}))  # type: ignore[attr-defined]


def timed(work: Callable[[], object]) -> float:
    started = now_s()
    work()
    return now_s() - started


def now_s() -> float:
    """Wall clock, or the CPU time of this process and its ended children."""
    if os.environ.get(CLOCK) != "cpu":
        return perf_counter()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def session_part(arguments: dict[str, object]) -> dict[str, object]:
    """A session that grows: one measured sub, handed in again and again as if it were new."""
    from dataclasses import replace

    import numpy as np

    from nsgd.config import zone_of
    from nsgd.session.alerts import AlarmState, step
    from nsgd.session.sky import observe
    from nsgd.session.store import Store
    from nsgd.settings import Settings
    from nsgd.walk import Walker

    folder, most = Path(str(arguments["store"])), int(str(arguments["subs"]))
    paths = [Path(str(p)) for p in arguments["paths"]]  # type: ignore[attr-defined]
    settings, found, costs = Settings(), {}, []
    rng = np.random.default_rng(SEED)
    with Store.open(folder, 1.8e9) as store:
        walker = Walker(store, settings, zone_of(settings))
        for path in paths:
            take(walker, store, path, settings)
        sample = walker.measure(paths[-1])
        outcomes = [sample] if sample.facts is not None else []
        plain = measured_again(paths, walker) if not outcomes else outcomes[0]
        alarm = AlarmState()
        for index in range(most):
            facts = plain.facts
            light = 1.0 + 0.003 * rng.normal()
            noisy = replace(
                facts, flux=(facts.flux * light * (1 + 0.01 * rng.normal(size=facts.flux.shape))).astype("f4")
            )
            start = NOON_UTC_S + 600.0 + 30.0 * index
            header = replace(plain.header, start_utc_s=start, mid_utc_s=start + 15.0)
            outcome = replace(
                plain, path=f"/night/sub_{index:05d}.fit", content_id=f"{index:032x}", header=header, facts=noisy
            )
            started = now_s()
            commit = walker.take(replace(outcome, offered=plain.offered), Path("/night"), start + 31.0)
            seen = observe(commit.row, walker.verdict(commit), (None, None))
            alarm, alerts = step(alarm, seen, start + 31.0, settings.alarm, None)
            walker.committed(commit, store.commit_sub(commit, alerts, (), {"alarm": alarm.to_json()}))
            costs.append(now_s() - started)
            if index + 1 == min(1000, most):
                found = at_a_thousand(walker, store, folder, settings)
    early, late = np.array(costs[60:200]), np.array(costs[-140:])
    return {"early_s": float(np.median(early)), "late_s": float(np.median(late)), **found}


def at_a_thousand(walker: object, store: object, folder: Path, settings: object) -> dict[str, float]:
    """A new reference, a replay and the size of the store."""
    from nsgd.cli.past import replayed
    from nsgd.session.store import Reader

    series_id = walker.series_ids()[0]  # type: ignore[attr-defined]
    reference_s = min(timed(partial(walker.set_reference, series_id, k)) for k in (5, 9, 5))  # type: ignore[attr-defined]
    with Reader.open(folder) as reader:
        nights = [sub.session for sub in reader.subs()]
        night = max(set(nights), key=nights.count)
        replay_s = timed(lambda: list(replayed(reader, night, settings, settings.alarm)))  # type: ignore[attr-defined]
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    counted = len(store.subs())  # type: ignore[attr-defined]
    return {
        "reference_s": reference_s,
        "replay_s": replay_s,
        "replayed": nights.count(night),
        "bytes": size,
        "subs": counted,
    }


def measured_again(paths: list[Path], walker: object) -> object:
    """A measured outcome of a file whose content the store already knows."""
    from nsgd.walk.pixels import measure_file

    return measure_file(paths[-1], walker.orders(), walker.candidates, lambda content_id: False)  # type: ignore[attr-defined]


def backlog_part(arguments: dict[str, object]) -> dict[str, object]:
    """A folder of subs measured in this process, and with two workers."""
    from contextlib import nullcontext

    from nsgd.config import zone_of
    from nsgd.session.store import Store
    from nsgd.settings import Measure, Settings
    from nsgd.walk import Walker, outcomes, worker_pool

    paths = [Path(str(p)) for p in arguments["paths"]]  # type: ignore[attr-defined]
    took = {}
    for workers in (1, 2):
        settings = Settings(measure=Measure(workers=workers))  # one worker: one thread on one core
        with (
            Store.open(Path(str(arguments["store"])) / str(workers), 1.8e9) as store,
            worker_pool(workers) if workers > 1 else nullcontext() as pool,
        ):
            walker = Walker(store, settings, zone_of(settings))
            if pool is not None:
                list(pool.map(timed, [int] * 4))
            started = perf_counter()
            for _, folder, outcome in outcomes(walker, [(p, p.parent) for p in paths], pool):
                commit = walker.take(outcome, folder, 1.8e9)
                if commit is not None:
                    walker.committed(commit, store.commit_sub(commit))
            took[str(workers)] = perf_counter() - started
    return took


PARTS = {"walk": walk_part, "session": session_part, "backlog": backlog_part}


def in_own_process(part: str, **arguments: object) -> dict[str, object]:
    """Run one part in a fresh interpreter and read its figures."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.speed", "--part", part, json.dumps(arguments, default=str)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{part}: {done.stderr[-2000:]}")
    figures: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return figures


# ---- the table --------------------------------------------------------------------------------------


def walk_lines(frames: Frames, folder: Path, peers: bool) -> list[Line]:
    """Cost of one kind of sub, its memory, and the peers on the same files."""
    paths = rendered(frames, folder)
    shape = (frames.height_px, frames.width_px)
    done = in_own_process("walk", paths=paths, shape=shape, store=folder / "store")
    read, best = float(str(done["read"])), min(done["times"][2:])  # type: ignore[index]
    goal = 8.0 if frames.bayer else 6.0
    lines = [
        Line(f"{frames.name}: read into float32", f"{1e3 * read:.0f} ms"),
        Line(f"{frames.name}: read_frame", f"{1e3 * float(str(done['frame'])):.0f} ms"),
        Line(
            f"{frames.name}: settled -> committed",
            f"{1e3 * best:.0f} ms = {best / read:.1f} reads",
            f"<= {goal:.0f} reads",
            best <= goal * read,
        ),
        Line(f"{frames.name}: the first sub, with its catalogue", f"{1e3 * done['times'][0]:.0f} ms"),  # type: ignore[index]
    ]
    most_mb = 700.0 if frames.width_px > 8000 else 300.0
    peak = float(str(done["peak_mb"]))
    lines.append(
        Line(f"{frames.name}: peak above the imports", f"{peak:.0f} MB", f"<= {most_mb:.0f} MB", peak <= most_mb)
    )
    if done["failed"]:
        lines.append(Line(f"{frames.name}: subs that failed", f"{done['failed']}", "none", False))
    return lines + (peer_lines(paths, best, folder) if peers else [])


def peer_lines(paths: list[Path], best_s: float, folder: Path) -> list[Line]:
    """source-extractor and Siril on the same subs."""
    lines = []
    if shutil.which("source-extractor"):
        took = source_extractor_s(paths[-1], folder)
        lines.append(
            Line(
                "  source-extractor", f"{1e3 * took:.0f} ms, we {best_s / took:.2f} x", "<= 0.4 x", best_s <= 0.4 * took
            )
        )
    else:
        lines.append(Line("  source-extractor", "not installed: skipped"))
    if shutil.which("siril-cli"):
        took = siril_s(paths, folder)
        lines.append(
            Line(
                "  Siril register, per sub",
                f"{1e3 * took:.0f} ms, we {best_s / took:.2f} x",
                "<= 0.2 x",
                best_s <= 0.2 * took,
            )
        )
    else:
        lines.append(Line("  Siril", "not installed: skipped"))
    return lines


def source_extractor_s(path: Path, folder: Path) -> float:
    """Best of three runs with the usual columns, one thread."""
    (folder / "columns.param").write_text(
        "NUMBER\nX_IMAGE\nY_IMAGE\nFLUX_AUTO\nFLUXERR_AUTO\nFWHM_IMAGE\nELLIPTICITY\n"
    )
    command = ["source-extractor", str(path), "-PARAMETERS_NAME", str(folder / "columns.param"), "-FILTER", "N"]
    command += ["-CATALOG_NAME", str(folder / "peer.cat"), "-VERBOSE_TYPE", "QUIET", "-NTHREADS", "1"]
    command += ["-STARNNW_NAME", str(folder / "none.nnw"), "-CATALOG_TYPE", "ASCII", "-DETECT_THRESH", "5"]
    empty = folder / "default.sex"
    empty.write_text("")
    command += ["-c", str(empty)]

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    return min(timed(run) for _ in range(3))


def siril_s(paths: list[Path], folder: Path) -> float:
    """Registration per sub: the time of all subs less that of starting and leaving.

    Siril 1.0.6 writes its registered pictures all the same; later ones do not.
    """
    work = folder / "siril"
    work.mkdir()
    for path in paths:
        shutil.copy(path, work / path.name)

    def run(script: str) -> None:
        (work / "script.ssf").write_text(f"requires 1.0.0\n{script}")
        command = ["siril-cli", "-d", str(work), "-s", str(work / "script.ssf")]
        subprocess.run(command, check=True, capture_output=True, cwd=work, env=os.environ | {"HOME": str(work)})

    start = timed(lambda: run("setcpu 2\n"))
    return (timed(lambda: run("setcpu 2\nregister sub_ -noout\n")) - start) / len(paths)


def session_lines(folder: Path, subs: int, walk_s: float) -> list[Line]:
    """What does not depend on pixels: growth with the session, a new reference, a replay, the store."""
    paths = rendered(Frames("session", 2000, 1400, count=4, stars=1600), folder)
    done = {
        k: float(str(v)) for k, v in in_own_process("session", paths=paths, store=folder / "store", subs=subs).items()
    }
    growth = (walk_s + done["late_s"] - done["early_s"]) / walk_s
    counted = int(done["subs"])
    return [
        Line("session work of sub 100", f"{1e3 * done['early_s']:.1f} ms"),
        Line(f"session work of sub {subs:,}", f"{1e3 * done['late_s']:.1f} ms"),
        Line(f"whole sub {subs:,} against sub 100", f"{growth:.3f} x", "<= 1.05 x", growth <= 1.05),
        Line(
            f"new reference over {counted:,} subs", f"{done['reference_s']:.2f} s", "<= 1 s", done["reference_s"] <= 1.0
        ),
        Line(
            f"replay of {int(done['replayed']):,} subs", f"{done['replay_s']:.2f} s", "<= 3 s", done["replay_s"] <= 3.0
        ),
        Line("store per sub", f"{done['bytes'] / counted / 1e3:.1f} kB", "<= 20 kB", done["bytes"] <= 20e3 * counted),
    ]


def backlog_lines(folder: Path, count: int) -> list[Line]:
    """A backlog on two cores against one."""
    paths = rendered(Frames("backlog", 3124, 2088, count=count, stars=1500), folder)
    done = in_own_process("backlog", paths=paths, store=folder / "store")
    gain = float(str(done["1"])) / float(str(done["2"]))
    reached = f"{gain:.2f} x ({len(os.sched_getaffinity(0))} cores)"
    return [Line(f"backlog of {count} subs, 2 workers against 1", reached, ">= 1.7 x", gain >= 1.7)]


def profile(frames: Frames, folder: Path) -> str:
    """Where the time of three walks goes, after the catalogue is made."""
    from pyinstrument import Profiler

    from nsgd.config import zone_of
    from nsgd.session.store import Store
    from nsgd.settings import Settings
    from nsgd.walk import Walker

    paths, settings = rendered(frames, folder), Settings()
    with Store.open(folder / "profile", 1.8e9) as store:
        walker = Walker(store, settings, zone_of(settings))
        for path in paths[:3]:
            take(walker, store, path, settings)
        profiler = Profiler(interval=0.001)
        with profiler:
            for path in paths[3:]:
                take(walker, store, path, settings)
    return profiler.output_text(unicode=True, color=False, show_all=False)


def fresh(parent: str, name: str) -> Path:
    """An empty folder of that name; those made before it are emptied, pictures of 26 megapixels are large."""
    for other in Path(parent).iterdir():
        shutil.rmtree(other)
    folder = Path(parent) / name.replace(" ", "_")
    folder.mkdir()
    return folder


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed of nsgd as ratios in one run.")
    parser.add_argument("--quick", action="store_true", help="6-megapixel frames and 2,000 subs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds instead of the wall clock (on a busy machine)")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part[0]](json.loads(chosen.part[1]))))
        return 0
    os.environ[CLOCK] = "cpu" if chosen.cpu else "wall"
    sets = SMALL if chosen.quick else (MONO, BAYER, LARGE)
    lines: list[Line] = []

    def add(new: list[Line]) -> None:
        lines.extend(new)
        print("\n".join(show(line) for line in new), flush=True)

    walk_s = 0.3
    with tempfile.TemporaryDirectory() as name:
        if "walk" in chosen.only:
            for index, frames in enumerate(sets):
                add(walk_lines(frames, fresh(name, frames.name), peers=index == 0))
            walk_s = 0.001 * float(lines[2].reached.split()[0])
        if "session" in chosen.only:
            add(session_lines(fresh(name, "session"), 2000 if chosen.quick else 10_000, walk_s))
        if "backlog" in chosen.only:
            add(backlog_lines(fresh(name, "backlog"), 12 if chosen.quick else BACKLOG))
    text = "\n".join(show(line) for line in lines)
    if chosen.profile:
        with tempfile.TemporaryDirectory() as folder:
            text += "\n\n" + profile(sets[0], Path(folder))
    if chosen.out:
        chosen.out.write_text(text + "\n")
    return 1 if any(line.holds is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
