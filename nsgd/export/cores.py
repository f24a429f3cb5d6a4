"""Frames on every core: worker processes that are fed in order and read in order.

What comes out does not depend on how many workers there are, nor on which of them died.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from nsgd.settings import Settings
from nsgd.walk import worker_pool

MEMORY_MB: Final = 400.0
"""What the pixels of all frames that are worked on at a time may take together: two of 26 megapixels measured."""
LITTLE: Final = 12
"""So few frames are done before workers have started."""
QUEUED: Final = 3
"""Frames under way per worker: nobody waits for the one that is read next."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the work on frames is done: in worker processes, or here where there are none."""

    executor: Executor | None = None
    workers: int = 1

    def each(self, work: Callable[[Item], Result], items: Iterable[Item], frame_mb: float = 0.0) -> Iterator[Result]:
        """work(item) of every item, in the order given.

        Parameters
        ----------
        work
            Must travel to a process: a function of a module, or a `partial` of one.
        frame_mb
            Memory that the work on one item takes; fewer are under way where it would be too much together.
        """
        waiting: deque[tuple[Item, Future[Result] | None]] = deque()
        most = QUEUED * self.workers
        if frame_mb > 0:
            most = max(1, min(most, int(MEMORY_MB / frame_mb)))
        for item in items:
            waiting.append((item, self._sent(work, item)))
            if len(waiting) >= most:
                yield _arrived(work, *waiting.popleft())
        while waiting:
            yield _arrived(work, *waiting.popleft())

    def _sent(self, work: Callable[[Item], Result], item: Item) -> Future[Result] | None:
        if self.executor is None:
            return None
        try:
            return self.executor.submit(work, item)
        except BrokenProcessPool:
            return None


def _arrived(work: Callable[[Item], Result], item: Item, sent: Future[Result] | None) -> Result:
    """One result; made here where no worker has it, or the one that had it died."""
    if sent is not None:
        try:
            return sent.result()
        except BrokenProcessPool:
            pass
    return work(item)


@contextmanager
def cores(settings: Settings, frames: int) -> Iterator[Cores]:
    """As many worker processes as `measure.workers` says, for so many frames; none for few frames or one core."""
    workers = settings.measure.workers or os.cpu_count() or 1
    if workers < 2 or frames <= LITTLE:
        yield Cores()
        return
    with worker_pool(workers) as executor:
        yield Cores(executor, workers)
