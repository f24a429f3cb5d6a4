"""The first line of every screen as a widget; it changes when what it says changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.events import Resize
from textual.widgets import Static

from nsgd.dashboard.headline import headline, say
from nsgd.dashboard.themes import Marker

if TYPE_CHECKING:
    from nsgd.dashboard.app import DashboardApp


class StateLine(Static):
    """State word, glyph, number and age of the newest sub, whatever screen is shown."""

    def __init__(self) -> None:
        super().__init__(id="state", markup=False)
        self._said = ""

    def on_mount(self) -> None:
        self.tick()

    def on_resize(self, event: Resize) -> None:
        self.tick()

    def tick(self) -> None:
        """Say what is true now."""
        board = cast("DashboardApp", self.app)
        line = headline(board.glance, board.glance.newest_view(), board.clock())
        room = max(self.app.size.width - 2, 10)
        text = say(line, room - 7 * board.frozen - 8 * board.reading, plain=board.marker is Marker.ASCII)
        text = f"FROZEN {text}" if board.frozen else f"READING {text}" if board.reading else text
        if text != self._said:
            self._said = text
            # A line stays a line: with its layout the whole screen would be sent again, every second.
            if not self.has_class(line.tone.value):
                self.set_classes(line.tone.value)
            self.update(Text(text), layout=False)
