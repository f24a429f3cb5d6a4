"""`nsgd dashboard`: the application, the thread that looks at the store, and the entry `run_dashboard`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from zoneinfo import ZoneInfo

from rich.console import Console
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from nsgd.dashboard.board import BoardScreen
from nsgd.dashboard.canvas import Marker
from nsgd.dashboard.inert import inert
from nsgd.dashboard.night import Night
from nsgd.dashboard.panels import HelpScreen
from nsgd.dashboard.plain import Teller, follow
from nsgd.dashboard.screens import NightScreen
from nsgd.dashboard.sharp import graphics_of_terminal
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.themes import dress, next_theme
from nsgd.errors import StoreProblem
from nsgd.session.store import Changes
from nsgd.settings import Limits, Settings

if TYPE_CHECKING:
    from nsgd.session.store import Reader, Request

FIRST_SUBS = 300
"""Subs that are shown before the rest of a long store is read."""
POLL_S = 0.4
"""Time between two looks at the store; a look at an unchanged store costs a fraction of a millisecond."""


class StoreRead(Message):
    """The store was read from the beginning; `partly` while only its newest subs are."""

    def __init__(self, night: Night, *, partly: bool) -> None:
        super().__init__()
        self.night = night
        self.partly = partly


class StoreChanged(Message):
    """The store holds something new."""

    def __init__(self, changes: Changes, ignored: dict[str, int], answers: list[Request]) -> None:
        super().__init__()
        self.changes = changes
        self.ignored = ignored
        self.answers = answers


class StoreMissing(Message):
    """The store cannot be read now."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence


class StoreEye(threading.Thread):
    """Looks at the store and tells the app what changed; it owns the only reader that stays open."""

    def __init__(self, app: App[int], open_reader: Callable[[], Reader], limits: Limits) -> None:
        super().__init__(name="store-eye", daemon=True)
        self._app = app
        self._open_reader = open_reader
        self._limits = limits
        self._done = threading.Event()
        self._last = -1
        self._said = ""
        self.awaited: set[int] = set()
        """Requests of this dashboard that nobody has dealt with yet."""

    def close(self) -> None:
        self._done.set()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                with self._open_reader() as reader:
                    self._said = ""
                    if self._last < 0:
                        self._read(reader)
                    self._look(reader)
            except StoreProblem as problem:
                self._complain(problem.sentence)
            self._done.wait(2.0)

    def _read(self, reader: Reader) -> None:
        """Read everything; a long store shows its newest subs first."""
        first = reader.newest_subs(FIRST_SUBS)
        daemon, series = reader.daemon(), reader.series()
        if len(first) == FIRST_SUBS:
            self._app.post_message(StoreRead(self._night(Changes(0, first, series, [], daemon), reader), partly=True))
        changes = reader.changes_since(0)
        self._app.post_message(StoreRead(self._night(changes, reader), partly=False))
        self._last = changes.last

    def _night(self, changes: Changes, reader: Reader) -> Night:
        """A night of these changes, judged already, so that the screen need not wait for it."""
        night = Night(self._limits)
        night.merge(changes)
        night.ignored = reader.ignored()
        night.newest_view()
        night.sky()
        return night

    def _look(self, reader: Reader) -> None:
        seen = None
        while not self._done.is_set():
            changes = reader.changes_since(self._last)
            if changes.last != self._last or changes.daemon != seen:
                self._last, seen = changes.last, changes.daemon
                self._app.post_message(StoreChanged(changes, reader.ignored(), self._answers(reader)))
            self._done.wait(POLL_S)

    def _answers(self, reader: Reader) -> list[Request]:
        """Requests of this dashboard that have been dealt with since the last look."""
        if not self.awaited:
            return []
        done = [r for r in reader.requests(pending=False) if r.request_id in self.awaited and r.state != "pending"]
        self.awaited -= {request.request_id for request in done}
        return done

    def _complain(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._app.post_message(StoreMissing(sentence))


class DashboardApp(App[int]):
    """The dashboard: one night in memory, screens that draw it."""

    CSS_PATH = "dashboard.tcss"
    TITLE = "nsgd"
    HORIZONTAL_BREAKPOINTS = [(0, "-phone"), (62, "-normal"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (24, "-mid"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit", show=False),
        Binding("question_mark,f1", "help", "Help", show=False),
        Binding("colon", "command_palette", "Commands", show=False),
        Binding("T", "next_theme", "Colours", show=False),
        Binding("m", "next_marker", "Graph dots", show=False),
    ]

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        send: Callable[[str, dict[str, object]], int] | None,
        settings: Settings,
        zone: ZoneInfo | None = None,
        marker: Marker = Marker.BRAILLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.night = Night(settings.limits)
        self.zone = zone
        self.marker = marker
        self.clock = clock
        self.frozen = False
        self.graphics = ""
        """How this terminal draws pixels (`sharp.graphics_of_terminal`), "" where it cannot."""
        self.reading = False
        """True while only the newest subs are read."""
        self.store_sentence = "Reading the store ..."
        self._send = send
        self.open_reader = open_reader
        self._eye = StoreEye(self, open_reader, settings.limits)
        dress(self)

    def get_default_screen(self) -> NightScreen:
        return NightScreen()

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def watch_store(self) -> None:
        """Begin to look at the store; the first screen asks for it when it can take what comes."""
        self._eye.start()

    def on_unmount(self) -> None:
        self._eye.close()

    def _tick(self) -> None:
        for screen in self.screen_stack:
            for line in screen.query(StateLine):
                line.tick()

    def on_store_read(self, message: StoreRead) -> None:
        self.night = message.night
        self.reading = message.partly
        self._tell_screens(set(self.night.series) | {0})

    def on_store_changed(self, message: StoreChanged) -> None:
        for request in message.answers:
            refused = request.state == "refused"
            if refused or request.kind == "reference":
                words = f"{request.kind}: {inert(request.result, 200)}"
                self.say(words, "error" if refused else "information")
        self.night.ignored = message.ignored
        self._tell_screens(self.night.merge(message.changes))

    def _tell_screens(self, touched: set[int]) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.night_changed(touched)

    def on_store_missing(self, message: StoreMissing) -> None:
        self.store_sentence = message.sentence
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.store_missing(message.sentence)

    def ask(self, kind: str, said: str, **args: object) -> None:
        """Leave a request for the daemon and tell the user what was asked."""
        if self._send is None:
            self.say("This dashboard only looks (--read-only).")
            return
        try:
            self._eye.awaited.add(self._send(kind, args))
        except StoreProblem as problem:
            self.say(problem.sentence, severity="error")
            return
        waiting = "" if self.night.daemon_lives(self.clock()) else " It waits until nsgd run or nsgd apply."
        self.say(said + waiting)

    def say(self, text: str, severity: str = "information") -> None:
        self.notify(text, severity=severity, timeout=4, markup=False)  # type: ignore[arg-type]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette lists: every key's action by name, then Textual's own."""
        told = set()
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if binding.description and binding.action not in told and binding.action != "command_palette":
                told.add(binding.action)
                run = partial(self.run_action, binding.action, active.node)
                yield SystemCommand(binding.description, f"key {self.get_key_display(binding) or key}", run)
        yield from super().get_system_commands(screen)

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_next_theme(self) -> None:
        self.theme = next_theme(self.theme)

    def action_next_marker(self) -> None:
        markers = list(Marker)
        self.marker = markers[(markers.index(self.marker) + 1) % len(markers)]
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.set_looks()


def run_dashboard(
    store_folder: Path,
    *,
    settings: Settings | None = None,
    zone: ZoneInfo | None = None,
    marker: str = "braille",
    theme: str = "",
    read_only: bool = False,
) -> int:
    """Show the store of `store_folder` until the user quits; the daemon is never touched.

    On a dumb terminal the night comes as lines of plain text; into a pipe its last subs are written once.

    Parameters
    ----------
    store_folder
        Folder of the store; it need not exist yet.
    settings
        Cut-offs of series that have none of their own.
    zone
        Time zone of the clock axis; None = the system's.
    marker
        How graphs are drawn: braille, block or ascii.
    theme
        A theme's name; "" chooses by the terminal's number of colours.
    read_only
        Refuse every request.
    """
    from nsgd.session.store import Reader, add_request

    def send(kind: str, args: dict[str, object]) -> int:
        return add_request(store_folder, kind, args, time.time())

    def open_reader() -> Reader:
        return Reader.open(store_folder)

    chosen = settings or Settings()
    piped = not sys.stdout.isatty()
    if piped or Console().is_dumb_terminal:
        teller = Teller(chosen, zone, lambda line: print(line, flush=True))  # noqa: T201
        return follow(open_reader, teller, once=piped)
    app = DashboardApp(
        open_reader,
        None if read_only else send,
        chosen,
        zone,
        Marker(marker),
    )
    app.graphics = graphics_of_terminal()
    if app.graphics:
        # textual-image asks the terminal for its cell size when it is imported; later nobody could answer.
        import textual_image.widget  # noqa: F401
    app.theme = theme or ("nsgd-16" if app.console.color_system == "standard" else "nsgd-dark")
    app.run()
    return app.return_code or 0
