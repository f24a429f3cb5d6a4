"""What all full screens share: the app they belong to, and what it tells them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer

from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.themes import Marker

if TYPE_CHECKING:
    from nsgd.dashboard.app import DashboardApp


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
