"""The commands; each ends with exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Queue, get_context
from pathlib import Path
from queue import Empty

Work = Callable[[Path, tuple[int, int]], Iterator[tuple[str, list[str]]]]
"""Does a share (k, n) of the points in a folder of its own; yields each point's name and what was wrong."""


def strikes(kind: str, most: int, jobs: int, folder: Path) -> int:
    from tests.benchmarks.survive import strike

    if why := strike.available():
        print(why)
        return 1
    return together(kind, jobs, lambda home, share: strike.run(home, kind, most, share), folder)


def powercuts(cuts: int, jobs: int, folder: Path) -> int:
    from tests.benchmarks.survive import powercut

    if why := powercut.available():
        print(why)
        return 1
    return together("powercut", jobs, lambda home, share: powercut.run(home, cuts, share), folder)


def together(name: str, jobs: int, work: Work, folder: Path) -> int:
    """Share points out to processes, since most of a point's time is waiting; count what they found."""
    found: Queue[tuple[str, list[str]]] = get_context("fork").Queue()
    begun_s, done, bad = time.monotonic(), 0, 0

    def share(number: int) -> None:
        home = folder / str(number)
        home.mkdir()
        for point in work(home, (number, jobs)):
            found.put(point)

    processes = [get_context("fork").Process(target=share, args=(number,)) for number in range(jobs)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes) or not found.empty():
        with suppress(Empty):
            point, said = found.get(timeout=1.0)
            done += 1
            bad += bool(said)
            for line in said:
                print(line, flush=True)
            if done % 50 == 0:
                print(f"{done} points ({point}), {bad} bad, {time.monotonic() - begun_s:.0f} s", flush=True)
    broken = sum(process.exitcode != 0 for process in processes)
    print(f"{name}: {done} points, {bad} bad, {broken} of {jobs} jobs broken, {time.monotonic() - begun_s:.0f} s")
    return int(bad > 0 or broken > 0)


def flips(count: int, folder: Path) -> int:
    from tests.benchmarks.survive import flips as bench

    found = list(bench.run(folder, count))
    wrong = [one for one in found if one not in ("noticed", "harmless")]
    print("\n".join(wrong))
    print(f"flips: {count}, {found.count('noticed')} noticed, {found.count('harmless')} harmless, {len(wrong)} wrong")
    return int(bool(wrong))


def state_machine(examples: int, steps: int) -> int:
    from tests.benchmarks.survive import machine

    took_s = machine.run(examples, steps)
    print(f"statemachine: {examples} nights of up to {steps} steps, 0 bad, {took_s:.0f} s")
    return 0


def soak(subs: int, folder: Path) -> int:
    from tests.benchmarks.survive import soak as bench

    found = bench.run(folder, subs)
    print(found)
    good = found.rss_kb_per_sub <= 1.0 and abs(found.cpu_drift) <= 0.05 and found.intact
    good = good and found.descriptors[0] == found.descriptors[1] and found.threads[0] == found.threads[1]
    return int(not good)


def canary(folder: Path) -> int:
    from tests.benchmarks.survive import canary as bench

    places, hits = bench.run(folder)
    print("\n".join(hits))
    print(f"canary: 12 secrets, {len(places)} places searched, {len(hits)} hits")
    return int(bool(hits))


def dashboards(commits: int, folder: Path) -> int:
    from tests.benchmarks.survive import dashboards as bench

    alone_s, beside_s, resizes, hangups, unchanged = bench.run(folder, commits)
    print(
        f"dashboards: commit p99 {1e3 * alone_s:.1f} ms alone, {1e3 * beside_s:.1f} ms beside {bench.DASHBOARDS}; "
        f"{resizes} resizes, {hangups} hang-ups; rows {'unchanged' if unchanged else 'CHANGED'}"
    )
    return int(beside_s > alone_s + 0.005 or not unchanged)


def manners(count: int, folder: Path) -> int:
    from tests.benchmarks.survive import manners as bench

    alone_s, beside_s = bench.run(folder, count)
    rise = beside_s / alone_s - 1.0
    print(f"manners: p99 of a 12 MB write {1e3 * alone_s:.0f} ms alone, {1e3 * beside_s:.0f} ms beside: {rise:+.0%}")
    return int(rise > 0.10)


def units(folder: Path) -> int:
    from tests.benchmarks.survive import units as bench

    bad = 0
    for name, most in bench.MOST.items():
        said, (exposure, low) = bench.verified(name, folder), bench.exposure(name, folder)
        print(f"units: {name} verify {said or 'clean'}, exposure {exposure:.1f} of at most {most / 10:.1f}")
        bad += bool(said) + (not low)
    times = [bench.seconds_of("nsgd.service", key) for key in ("WatchdogSec", "RestartSec")]
    with bench.managed(folder, *times) as manager:
        ports = bench.open_ports(manager.daemon.pid)
        took_s = bench.replaced_after_s(manager)
    print(f"units: {len(ports)} TCP ports open; a hung daemon is replaced after {took_s:.1f} s")
    return int(bad > 0 or bool(ports) or took_s > 60.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="survive", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, most in (("kill", 1000), ("errno", 1000)):
        command = commands.add_parser(name, help=f"{name} at every Nth system call")
        command.add_argument("--points", type=int, default=most)
        command.add_argument("--jobs", type=int, default=2)
    command = commands.add_parser("powercut", help="power cuts at any write, on a disk that forgets")
    command.add_argument("--cuts", type=int, default=200)
    command.add_argument("--jobs", type=int, default=2)
    command = commands.add_parser("flips", help="random flipped bytes in the store")
    command.add_argument("--flips", type=int, default=500)
    command = commands.add_parser("statemachine", help="anything in any order")
    command.add_argument("--examples", type=int, default=2000)
    command.add_argument("--steps", type=int, default=50)
    command = commands.add_parser("soak", help="a season in one go")
    command.add_argument("--subs", type=int, default=10_000)
    commands.add_parser("canary", help="secrets that must not appear anywhere")
    command = commands.add_parser("dashboards", help="dashboards that are shaken beside the daemon's commits")
    command.add_argument("--commits", type=int, default=1500, help="the p99 of 500 wanders by 3 ms")
    commands.add_parser("units", help="the systemd units, and a hung daemon beside a service manager")
    command = commands.add_parser("manners", help="a capture program's write times beside nsgd")
    command.add_argument("--writes", type=int, default=400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nsgd-survive-") as folder:
        home = Path(folder)
        jobs: dict[str, Callable[[], int]] = {
            "kill": lambda: strikes("kill", given.points, given.jobs, home),
            "errno": lambda: strikes("errno", given.points, given.jobs, home),
            "powercut": lambda: powercuts(given.cuts, given.jobs, home),
            "flips": lambda: flips(given.flips, home),
            "statemachine": lambda: state_machine(given.examples, given.steps),
            "soak": lambda: soak(given.subs, home),
            "canary": lambda: canary(home),
            "units": lambda: units(home),
            "manners": lambda: manners(given.writes, home),
            "dashboards": lambda: dashboards(given.commits, home),
        }
        return jobs[given.command]()


if __name__ == "__main__":
    sys.exit(main())
