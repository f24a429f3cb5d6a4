"""How well nsgd measures, against planted truth and the photon limit.

Run from the root of the checkout::

    python -m tests.benchmarks.accuracy            all figures, below ten minutes on two cores
    python -m tests.benchmarks.accuracy --quick    the same table from a tenth of the subs, about a minute
    python -m tests.benchmarks.accuracy --only scale noise --out table.txt

Every row prints the figure reached beside its goal. The exit code is 1 where a goal is missed. Seeds
start at `planted.BENCH`, away from those of the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from tests.benchmarks import (  # noqa: E402  (threads are pinned first)
    bench_gradient,
    bench_nights,
    bench_noise,
    bench_registration,
    bench_scale,
)
from tests.benchmarks.planted import Row  # noqa: E402

Map = Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]
GROUPS: dict[str, Callable[[bool, Map], list[Row]]] = {
    "registration": bench_registration.rows,
    "scale": bench_scale.rows,
    "counts": bench_scale.count_rows,
    "pulls": bench_scale.pull_rows,
    "peer": bench_scale.peer_rows,
    "noise": bench_noise.rows,
    "shape": bench_noise.shape_rows,
    "gradient": bench_gradient.rows,
    "nights": bench_nights.rows,
    "pattern": bench_nights.pattern_rows,
    "real": bench_nights.real_rows,
}


def line(row: Row) -> str:
    """One row of the table as text."""
    verdict = "    " if row.holds is None else "ok  " if row.holds else "MISS"
    return f"{verdict} {row.group:<13} {row.figure:<46} {row.reached:>22}   {row.goal:<26} {row.note}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen groups and print the table."""
    parser = argparse.ArgumentParser(description="Accuracy of nsgd against planted truth.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the subs, about a minute")
    parser.add_argument("--only", nargs="+", choices=sorted(GROUPS), default=list(GROUPS), metavar="GROUP")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    chosen = parser.parse_args(arguments)
    lines = [f"     {'group':<13} {'figure':<46} {'reached':>22}   {'goal':<26} note"]
    print(lines[0], flush=True)
    missed = 0
    with ProcessPoolExecutor(chosen.workers) as pool:
        for name in chosen.only:
            started = time.perf_counter()
            for row in GROUPS[name](chosen.quick, pool.map):
                lines.append(line(row))
                missed += row.holds is not None and not row.holds
                print(lines[-1], flush=True)
            print(f"     ({name}: {time.perf_counter() - started:.0f} s)", file=sys.stderr)
    lines.append(f"{missed} of {len(lines) - 1} rows miss their goal.")
    print(lines[-1])
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
