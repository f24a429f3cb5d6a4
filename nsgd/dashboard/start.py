"""`run_dashboard`: how a dashboard opens. The light things come first: a question to the terminal, then the screen."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from nsgd.records import CutOffs

if TYPE_CHECKING:
    from nsgd.session.store import Reader


@dataclass(frozen=True)
class Terms:
    """What a dashboard needs of the settings."""

    store: Path
    """Folder of the store; it need not exist yet."""
    limits: CutOffs
    """Cut-offs of series that have none of their own."""
    zone: ZoneInfo | None = None
    """Time zone of the clock axis; None = the system's."""


def run_dashboard(
    terms: Callable[[], Terms], *, marker: str = "braille", theme: str = "", read_only: bool = False
) -> int:
    """Show a store until the user quits; the daemon is never touched.

    On a dumb terminal the night comes as lines of plain text; into a pipe its last subs are written once.

    Parameters
    ----------
    terms
        Tells the terms, and may take its time: the screen is there before it is asked.
    marker
        How graphs are drawn: braille, block or ascii.
    theme
        A theme's name; "" chooses by the terminal's number of colours.
    read_only
        Refuse every request.

    Raises
    ------
    NsgdError
        What `terms` raises.
    """
    piped = not sys.stdout.isatty()
    if piped or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return _follow(terms(), once=piped)
    with lean_imports():
        from nsgd.dashboard.graphics import Question

        question = Question()
        from nsgd.dashboard.app import DashboardApp
        from nsgd.dashboard.themes import Marker, theme_for

    def send(kind: str, args: dict[str, object]) -> int:
        from nsgd.session.store import add_request

        return add_request(terms().store, kind, args, time.time())

    app = DashboardApp(lambda: _reader(terms().store), None if read_only else send, terms, Marker(marker))
    app.graphics = question.answer()
    app.theme = theme or theme_for(app.console.color_system)
    app.run()
    if app.problem is not None:
        raise app.problem
    return app.return_code or 0


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import without looking for garbage again and again, which modules do not make, and asyncio without its TLS.

    The dashboard speaks to no network; asyncio does without the module where it is missing, and 5 MB stay free.
    """
    spoken = sys.modules.get("ssl")
    gc.disable()
    if spoken is None:
        sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401
    finally:
        if spoken is None:
            del sys.modules["ssl"]
    yield
    gc.freeze()
    gc.enable()


def _reader(folder: Path) -> Reader:
    from nsgd.session.store import Reader

    return Reader.open(folder)


def _follow(terms: Terms, *, once: bool) -> int:
    from nsgd.dashboard.plain import Teller, follow

    teller = Teller(terms.limits, terms.zone, lambda line: print(line, flush=True))  # noqa: T201
    return follow(lambda: _reader(terms.store), teller, once=once)
