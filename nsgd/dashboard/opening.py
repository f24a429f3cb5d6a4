"""The first screen: the state of the sky, as soon as the store can be looked at; the night follows."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from nsgd.dashboard.board import BoardScreen
from nsgd.dashboard.inert import inert
from nsgd.dashboard.state_line import StateLine


class OpeningScreen(BoardScreen):
    """State line, and what keeps the rest away."""

    def __init__(self) -> None:
        super().__init__(id="opening", classes="empty")

    def compose(self) -> ComposeResult:
        yield StateLine()
        yield Static(id="teach", markup=False)

    def on_mount(self) -> None:
        self.store_missing(self.board.store_sentence)
        self.begin()
        self.board.watch_store()

    def store_missing(self, sentence: str) -> None:
        self.query_one("#teach", Static).update(Text(inert(sentence, 400)))

    def set_looks(self) -> None:
        """Nothing is drawn here."""
