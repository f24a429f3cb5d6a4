"""The commands; each ends with exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path


def strikes(kind: str, most: int, folder: Path) -> int:
    from tests.benchmarks.survive import strike

    if why := strike.available():
        print(why)
        return 1
    begun_s, done, bad = time.monotonic(), 0, 0
    for point, said in strike.run(folder, kind, most):
        done += 1
        bad += bool(said)
        for line in said:
            print(line, flush=True)
        if done % 50 == 0:
            print(f"{done} points ({point}), {bad} bad, {time.monotonic() - begun_s:.0f} s", flush=True)
    print(f"{kind}: {done} points, {bad} bad, {time.monotonic() - begun_s:.0f} s")
    return int(bad > 0)


def powercuts(cuts: int, folder: Path) -> int:
    from tests.benchmarks.survive import powercut

    if why := powercut.available():
        print(why)
        return 1
    begun_s, done, bad = time.monotonic(), 0, 0
    for at, said in powercut.run(folder, cuts):
        done += 1
        bad += bool(said)
        for line in said:
            print(line, flush=True)
        if done % 50 == 0:
            print(f"{done} cuts (now at change {at}), {bad} bad, {time.monotonic() - begun_s:.0f} s", flush=True)
    print(f"powercut: {done} cuts, {bad} bad, {time.monotonic() - begun_s:.0f} s")
    return int(bad > 0)


def flips(count: int, folder: Path) -> int:
    from tests.benchmarks.survive import flips as bench

    found = list(bench.run(folder, count))
    wrong = [one for one in found if one not in ("noticed", "harmless")]
    print("\n".join(wrong))
    print(f"flips: {count}, {found.count('noticed')} noticed, {found.count('harmless')} harmless, {len(wrong)} wrong")
    return int(bool(wrong))


def main() -> int:
    parser = argparse.ArgumentParser(prog="survive", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, most in (("kill", 1000), ("errno", 1000)):
        command = commands.add_parser(name, help=f"{name} at every Nth system call")
        command.add_argument("--points", type=int, default=most)
    command = commands.add_parser("powercut", help="power cuts at any write, on a disk that forgets")
    command.add_argument("--cuts", type=int, default=200)
    command = commands.add_parser("flips", help="random flipped bytes in the store")
    command.add_argument("--flips", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nsgd-survive-") as folder:
        if given.command == "powercut":
            return powercuts(given.cuts, Path(folder))
        if given.command == "flips":
            return flips(given.flips, Path(folder))
        return strikes(given.command, given.points, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
