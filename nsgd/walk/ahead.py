"""A backlog measured on several cores: files are sent ahead to workers and taken back in order.

Whoever takes the outcomes commits each before asking for the next, so that the memory is always as it would
be sub by sub; an outcome whose catalogues have changed meanwhile is measured again. The result is
therefore the same to the byte, with any number of workers and whichever of them died.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from nsgd.errors import ClusterLost
from nsgd.walk.pixels import Outcome, measure_offered
from nsgd.walk.walker import Walker

Found = tuple[Path, Path]
"""A file and the folder that it was found through."""


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes that measure files; spawned, and nicer than the capture program."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_be_modest)


def _be_modest() -> None:
    if hasattr(os, "nice"):
        os.nice(5)


def outcomes(
    walker: Walker,
    files: Iterable[Found],
    executor: Executor | None,
    ahead: int = 4,
    deadly: tuple[type[Exception], ...] = (),
) -> Iterator[tuple[Path, Path, Outcome]]:
    """Measure files in the order given, `ahead` of them at a time on the executor.

    Commit what comes of each outcome (`walker.take`, then `walker.committed`) before asking for the next.

    Parameters
    ----------
    executor
        Any executor of the concurrent.futures kind; None measures in this process, one by one.
    deadly
        What the executor raises over a file that ended several of its workers: such a file is left out as
        unreadable, it would end this process too.

    Raises
    ------
    ClusterLost
        The executor has given up what it was sent.
    """
    waiting: deque[tuple[Path, Path, Future[Outcome] | None]] = deque()
    for path, folder in files:
        sent = None
        if executor is not None and walker.offers():
            sent = executor.submit(measure_offered, str(path), walker.orders(), walker.offers())
        waiting.append((path, folder, sent))
        if sent is None or len(waiting) > ahead:
            yield _arrived(walker, waiting.popleft(), deadly)
    while waiting:
        yield _arrived(walker, waiting.popleft(), deadly)


def _arrived(
    walker: Walker, item: tuple[Path, Path, Future[Outcome] | None], deadly: tuple[type[Exception], ...]
) -> tuple[Path, Path, Outcome]:
    """One outcome that is up to date: measured here where no worker could, or where its catalogues have changed."""
    path, folder, sent = item
    if sent is None:
        return path, folder, walker.measure(path)
    try:
        outcome = sent.result()
    except BrokenProcessPool:
        outcome = walker.measure(path)
    except CancelledError as problem:
        raise ClusterLost("The scheduler is gone; run the same command again, it goes on from here.") from problem
    except deadly as problem:
        return path, folder, Outcome(str(path), unreadable=f"Several workers ended over this file ({problem}).")
    if outcome.unreadable or walker.is_stale(outcome):
        outcome = walker.measure(path)
    return path, folder, outcome
