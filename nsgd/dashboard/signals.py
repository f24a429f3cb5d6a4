"""Signals of the terminal, of which Textual is not told each one at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

Tell = Callable[[], object]
"""Hands a signal on to who heeded it before."""


def heed(name: str, handle: Callable[[Tell], object]) -> None:
    """Let `handle` decide what becomes of a signal that somebody heeds already; one that nobody heeds stays as it is.

    Parameters
    ----------
    name
        Such as "SIGWINCH"; a system may lack it.
    handle
        Is called in the main thread between any two steps of the program, so it takes no lock.
    """
    number = getattr(signal, name, None)
    before = signal.getsignal(number) if number is not None else None
    if number is None or not callable(before):
        return

    def handed_on(received: int, frame: FrameType | None) -> None:
        handle(lambda: before(received, None))

    signal.signal(number, handed_on)
