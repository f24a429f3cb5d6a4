"""What both dashboards and all their full screens share."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import CommandList, CommandPalette
from textual.css.stylesheet import Stylesheet
from textual.events import Event, Resize
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from nsgd.dashboard.signals import Tell, heed
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.themes import Marker, dress, next_theme
from nsgd.errors import NsgdError

if TYPE_CHECKING:
    from nsgd.dashboard.app import DashboardApp


RESTS_S = 0.12
"""A window that was not resized for so long rests. Laid out at every step, it would take a core from the daemon."""
PATIENCE_S = 2.0
"""Longest time that a dashboard takes to end after its terminal is gone; it holds nothing that could be lost."""


class Refused(Message):
    """The dashboard cannot go on: the settings are wrong, or nothing may be read."""

    def __init__(self, problem: NsgdError) -> None:
        super().__init__()
        self.problem = problem


class Commands(CommandPalette):
    """Textual's palette of commands; left at once, it would look for a list that is gone, and the app with it."""

    def _watch__list_visible(self) -> None:
        if self.query(CommandList):
            super()._watch__list_visible()

    async def _watch__show_busy(self) -> None:
        if self.query(CommandList):
            await super()._watch__show_busy()


class Rules(Stylesheet):
    """What Textual's stylesheet is, parsed once: that one parses all its sources three times while a screen opens."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._parsed_with = variables

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take other colours, and forget what was parsed with the old ones; the same colours change nothing."""
        if variables != self._parsed_with:
            self._parsed_with = variables
            super().set_variables(variables)

    def reparse(self) -> None:
        self.parse()


class BoardApp(App[int]):
    """What both dashboards are: dressed alike, their ages brought up to date once a second."""

    CSS_PATH = "dashboard.tcss"
    TITLE = "nsgd"
    HORIZONTAL_BREAKPOINTS = [(0, "-phone"), (62, "-normal"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (24, "-mid"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [Binding("T", "next_theme", "Colours", show=False)]

    def __init__(self, marker: Marker, clock: Callable[[], float]) -> None:
        super().__init__()
        self.marker = marker
        self.clock = clock
        self.problem: NsgdError | None = None
        """Why it had to end."""
        self._on_terminal = False
        self._rest: Timer | None = None
        """Runs while the window is being dragged."""
        self._held_back: Tell | None = None
        """Tells the size that was not laid out yet."""
        self._dragged_s = 0.0
        """When the window came to that size, on the monotonic clock."""
        self._is_suspended = False
        dress(self)
        self.stylesheet = Rules(self.get_css_variables())

    def on_mount(self) -> None:
        self._on_terminal = not self.is_headless and _keyboard_is_terminal()
        self.set_interval(1.0, self._tick)
        if self._on_terminal:
            heed("SIGHUP", self._hung_up)
            heed("SIGTSTP", self._suspended)
            heed("SIGCONT", partial(self._continued, asyncio.get_running_loop()))
            heed("SIGWINCH", self._dragged)

    def _hung_up(self, tell: Tell) -> None:
        _end_soon()
        tell()

    def _suspended(self, tell: Tell) -> None:
        self._is_suspended = True
        tell()

    def _continued(self, loop: asyncio.AbstractEventLoop, tell: Tell) -> None:
        """Go on; where it was stopped unasked, Textual would read the same keys with one thread more each time."""
        if self._is_suspended:
            self._take_terminal(tell)
        else:
            loop.call_soon_threadsafe(self._take_terminal, tell)

    def _take_terminal(self, tell: Tell) -> None:
        if not self.is_running or not _keyboard_is_terminal():
            return  # it is about to end
        if not self._is_suspended and self._driver is not None:
            self._driver.suspend_application_mode()
        self._is_suspended = False
        tell()
        heed("SIGWINCH", self._dragged)  # Textual heeds it anew

    def _dragged(self, tell: Tell) -> None:
        """Textual spends a millisecond on each step of a window that is dragged: tell it of the last one."""
        if self._rest is None:
            tell()
        else:
            self._hold_back(tell)

    async def on_event(self, event: Event) -> None:
        if isinstance(event, Resize):
            if self._rest is not None:
                self._hold_back(lambda: self.post_message(event))
                return
            self._rest = self.set_timer(RESTS_S, self._rested)
        await super().on_event(event)

    def _hold_back(self, tell: Tell) -> None:
        self._held_back, self._dragged_s = tell, time.monotonic()

    def _rested(self) -> None:
        """Lay out the window's last size, which begins the next time of rest; wait on where it is still dragged."""
        left_s = self._dragged_s + RESTS_S - time.monotonic()
        self._rest = self.set_timer(left_s, self._rested) if left_s > 0 else None
        if self._rest is None and self._held_back is not None:
            tell, self._held_back = self._held_back, None
            tell()

    def _tick(self) -> None:
        if self._on_terminal and not _keyboard_is_terminal():
            # Its line was cut and no signal told so: what reads the keys would read the end of them for ever.
            _end_soon()
            self.exit()
        else:
            self.tick()

    def tick(self) -> None:
        """Bring the ages on the screen up to date."""

    def on_refused(self, message: Refused) -> None:
        self.problem = message.problem
        self.exit(1)

    def action_next_theme(self) -> None:
        self.theme = next_theme(self.theme)

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(Commands(id="--command-palette"))


def _end_soon() -> None:
    """End within `PATIENCE_S`, whatever Textual waits for: its writer, which died of the closed terminal, or keys."""
    if hasattr(signal, "setitimer"):  # Windows has none
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)


def _keyboard_is_terminal() -> bool:
    """False as soon as the other end of the terminal is gone."""
    return sys.__stdin__ is not None and sys.__stdin__.isatty()


def renew(widget: Static, text: Text) -> None:
    """Show a text where it is another one than before: what is sent twice costs a slow line.

    The screen is laid out again, and all of it sent, only where the text takes more lines or fewer.
    """
    if widget.content != text:
        widget.update(text, layout=False)
        shown = widget.content_size
        if widget.get_content_height(widget.app.size, widget.app.size, shown.width) != shown.height:
            widget.refresh(layout=True)


class BoardScreen(Screen[None]):
    """A full screen of the dashboard."""

    ready = False
    """True once its widgets exist."""

    @property
    def board(self) -> DashboardApp:
        return cast("DashboardApp", self.app)

    @property
    def drawable(self) -> bool:
        """False before the widgets exist and after they are gone; late callbacks may come at both times."""
        return self.ready and bool(self.query(StateLine))

    def begin(self) -> None:
        """The widgets exist: keys may come."""
        self.ready = True
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that is pressed before the screen is there does nothing; it may come so on a slow line."""
        return True if self.drawable else None

    def night_changed(self, touched: set[int]) -> None:
        """Subs of these series changed."""

    def store_missing(self, sentence: str) -> None:
        """The store cannot be read now."""

    def set_looks(self) -> None:
        """Take over how the app draws: marker and night vision."""
        from nsgd.dashboard.graphs import Drawing
        from nsgd.dashboard.picture import Picture

        for drawing in self.query(Drawing):
            drawing.marker = self.board.marker
        for picture in self.query(Picture):
            picture.marker = self.board.marker
            picture.red = self.board.theme == "nsgd-red"

    @property
    def plain(self) -> bool:
        """True where only ASCII may be drawn."""
        return self.board.marker is Marker.ASCII


class Keys(Footer):
    """The keys that are worth a place: four on a phone, the rest is in the help."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)
        self._most = 0

    def compose(self) -> ComposeResult:
        self._most = self._room()
        yield from islice(super().compose(), self._most)

    def on_resize(self, event: Resize) -> None:
        if self._room() != self._most:
            self.refresh(recompose=True)

    def _room(self) -> int:
        width = self.app.size.width
        return 4 if width < 62 else 7 if width < 110 else 10 if width < 140 else 13
