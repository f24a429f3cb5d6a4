"""`run_dashboard`, `run_fleet`: how a dashboard opens. The light things come first, each before the next is loaded.

A question to the terminal, the state of the sky as a line, then the screen; a fleet is asked while that is loaded.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsgd.errors import NsgdError, StoreProblem

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from nsgd.dashboard.board import BoardApp
    from nsgd.fleet.read import FleetReader
    from nsgd.records import CutOffs
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


@dataclass(frozen=True)
class FleetTerms:
    """What the view of a fleet needs of the settings; both may take their time, and raise NsgdError."""

    url: Callable[[], str]
    """Tells where the database is."""
    zone: Callable[[], ZoneInfo | None]
    """Tells the time zone of the clock axis; None = the system's."""


def run_dashboard(
    terms: Callable[[], Terms],
    *,
    folder: Path | None = None,
    marker: str = "braille",
    theme: str = "",
    read_only: bool = False,
) -> int:
    """Show a store until the user quits; the daemon is never touched.

    On a dumb terminal the night comes as lines of plain text; into a pipe its last subs are written once.

    Parameters
    ----------
    terms
        Tells the terms, and may take its time: the screen is there before it is asked.
    folder
        The store's folder where it is known before the terms are; what it tells is shown at once.
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
    if piped or _is_dumb():
        return _follow(terms(), once=piped)
    from nsgd.dashboard.graphics import Question

    question = Question()
    from nsgd.dashboard.first_line import first_line, glimpse

    glance = glimpse(folder) if folder is not None else None
    with first_line(glance, time.time(), plain=marker == "ascii"), lean_imports():
        from nsgd.dashboard.app import DashboardApp
        from nsgd.dashboard.themes import Marker, theme_for

    def send(kind: str, args: dict[str, object]) -> int:
        from nsgd.session.store import add_request

        return add_request(terms().store, kind, args, time.time())

    app = DashboardApp(lambda: _reader_at(folder, terms), None if read_only else send, terms, Marker(marker))
    app.glance = glance or app.glance
    app.graphics = question.answer()
    return _run(app, theme or theme_for(app.console.color_system))


def run_fleet(terms: FleetTerms, *, marker: str = "braille", theme: str = "") -> int:
    """Show the fleet until the user quits; into a pipe or on a dumb terminal its lines are written once.

    Raises
    ------
    NsgdError
        What `terms` raises; into a pipe also FleetProblem, where the database cannot be asked.
    """
    if not sys.stdout.isatty() or _is_dumb():
        return _list_fleet(terms)
    with lean_imports():
        open_reader = _ahead(lambda: _fleet_reader(terms))
        from nsgd.dashboard.fleet import FleetApp
        from nsgd.dashboard.themes import Marker, theme_for
    app = FleetApp(open_reader, terms.zone, Marker(marker))
    return _run(app, theme or theme_for(app.console.color_system))


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def _run(app: BoardApp, theme: str) -> int:
    app.theme = theme
    app.stylesheet.set_variables(app.get_css_variables())
    app.run()
    if app.problem is not None:
        raise app.problem
    return app.return_code or 0


def _ahead(open_reader: Callable[[], FleetReader]) -> Callable[[], FleetReader]:
    """Begin to connect now; the first call of what is returned waits for that, every later one connects anew."""
    found: list[FleetReader | NsgdError] = []

    def connect() -> None:
        try:
            found.append(open_reader())
        except NsgdError as problem:
            found.append(problem)

    begun = [threading.Thread(target=connect, name="fleet-ahead", daemon=True)]
    begun[0].start()

    def opened() -> FleetReader:
        if not begun:
            return open_reader()
        begun.pop().join()
        if isinstance(first := found.pop(), NsgdError):
            raise first
        return first

    return opened


def _fleet_reader(terms: FleetTerms) -> FleetReader:
    from nsgd.fleet.read import FleetReader

    return FleetReader(terms.url())


def _list_fleet(terms: FleetTerms) -> int:
    from nsgd.dashboard.fleet_lines import plain_lines

    terms.zone()  # wrong settings are told here too
    with _fleet_reader(terms) as reader:
        for line in plain_lines(reader.rigs(), time.time()):
            print(line)  # noqa: T201
    return 0


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


def _reader_at(folder: Path | None, terms: Callable[[], Terms]) -> Reader:
    """The store, without waiting for the terms where its folder is known; they say why where there is none."""
    if folder is not None:
        with suppress(StoreProblem):
            return _reader(folder)
    return _reader(terms().store)


def _reader(folder: Path) -> Reader:
    from nsgd.session.store import Reader

    return Reader.open(folder)


def _follow(terms: Terms, *, once: bool) -> int:
    from nsgd.dashboard.plain import Teller, follow

    teller = Teller(terms.limits, terms.zone, lambda line: print(line, flush=True))  # noqa: T201
    return follow(lambda: _reader(terms.store), teller, once=once)
