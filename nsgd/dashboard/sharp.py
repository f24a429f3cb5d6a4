"""Pictures in real pixels where the terminal draws them (sixel, kitty), by textual-image (extra `preview`)."""

from __future__ import annotations

import sys

from textual.app import App, ComposeResult
from textual.strip import Strip
from textual.widgets import Static

from nsgd.dashboard.picture import Picture

CELL_PX = (8, 16)
MOST_PX = 1200


class SharpPicture(Picture):
    """A picture whose pixels are the terminal's own."""

    DEFAULT_CSS = """
    SharpPicture > .pixels { width: 100%; height: 1fr; }
    SharpPicture > .words { width: 100%; height: 1; }
    """

    def compose(self) -> ComposeResult:
        from textual_image.widget import Image

        yield Image(classes="pixels")
        yield Static(classes="words", markup=False)

    @property
    def room_px(self) -> tuple[int, int]:
        columns, rows = max(self.size.width, 1), max(self.size.height - 1, 1)
        shrink = max(1.0, columns * CELL_PX[0] / MOST_PX)
        return int(columns * CELL_PX[0] / shrink), int(rows * CELL_PX[1] / shrink)

    def watch_pixels(self) -> None:
        from PIL import Image as PillowImage
        from textual_image.widget import Image

        if self.is_mounted:
            picture = None if self.pixels is None else PillowImage.fromarray(self.tinted(self.pixels))
            self.query_one(".pixels", Image).image = picture

    def watch_caption(self) -> None:
        if self.is_mounted:
            self.query_one(".words", Static).update(self.caption)

    def render_line(self, y: int) -> Strip:
        return Strip.blank(self.size.width, self.rich_style)


def best_picture(name: str, graphics: str) -> Picture:
    """A picture widget of the kind that the terminal draws best."""
    return SharpPicture(id=name) if graphics else Picture(id=name)


def prepare(app: App[int], graphics: str) -> None:
    """Load what draws pixels; it asks the terminal for the size of its cells, so the app lets go of it meanwhile."""
    if graphics and "textual_image.widget" not in sys.modules:
        with app.suspend():
            import textual_image.widget  # noqa: F401
