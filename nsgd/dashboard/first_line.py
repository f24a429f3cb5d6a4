"""The state of the sky as one line under the command, while the screen is being loaded."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nsgd.dashboard.glance import Glance
from nsgd.dashboard.headline import headline, say
from nsgd.dashboard.inert import inert
from nsgd.errors import NsgdError
from nsgd.session.store import Reader

PATIENCE_S = 0.3
"""Longest wait for a store that answers slowly; the screen can wait for it too, and heeds keys meanwhile."""


def glimpse(folder: Path) -> Glance | None:
    """What a store has to tell of now; None where it tells nothing soon."""
    found: list[Glance] = []

    def look() -> None:
        with suppress(NsgdError, OSError), Reader.open(folder) as reader:
            found.append(Glance.read(reader))

    looking = threading.Thread(target=look, name="first-line", daemon=True)
    looking.start()
    looking.join(PATIENCE_S)
    return found[0] if found else None


@contextmanager
def first_line(glance: Glance | None, now_utc_s: float, *, plain: bool) -> Iterator[None]:
    """The state on the terminal's current line for as long as something takes; the line is empty again afterwards."""
    if glance is None:
        yield
        return
    width = shutil.get_terminal_size().columns - 1
    state = inert(say(headline(glance, None, now_utc_s), width, plain=plain))
    _put(f"\r{state.ljust(width)}")  # also over a question that this terminal took for text
    try:
        yield
    finally:
        _put(f"\r{' ' * width}\r")


def _put(text: str) -> None:
    """Write what the terminal's character set has; "?" stands for the rest."""
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "replace"))
    sys.stdout.buffer.flush()
