"""Work on pixels shared between the threads of one process (numpy lets go of the interpreter in large loops).

What comes out never depends on the number of threads: work is cut into parts by its size alone, and the
results are put together in the order of the parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

MOST = 2
"""More threads than this wait for the memory, not for each other."""
_allowed = [MOST]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allow(most: int) -> None:
    """Bound the threads of this process from now on; 0 = no bound but the cores."""
    _allowed[0] = min(most or MOST, MOST)


def shared(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`work` of every part, in the order of the parts; the calling thread does its share.

    It may be nested: whoever waits has nothing left to do, and nobody waits for a part that was not begun.
    """
    threads = min(_allowed[0], cores(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    results: dict[int, Result] = {}
    numbers = iter(range(len(parts)))

    def some() -> None:
        for number in numbers:
            results[number] = work(parts[number])

    helpers = [_pool().submit(some) for _ in range(threads - 1)]
    try:
        some()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)  # also where this thread fails: parts may hold an open file
    for helper in begun:
        helper.result()
    return [results[number] for number in range(len(parts))]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, thread_name_prefix="pixels")
