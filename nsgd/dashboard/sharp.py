"""Pictures in real pixels where the terminal draws them (sixel, kitty), by textual-image (extra `preview`).

The terminal must be asked before the screen is taken over: `graphics_of_terminal` does that once, in one
question whose answer every terminal gives.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from importlib.util import find_spec

from textual.app import ComposeResult
from textual.strip import Strip
from textual.widgets import Static

from nsgd.dashboard.picture import Picture

CELL_PX = (8, 16)
MOST_PX = 1200
ANSWER_S = 0.3
# Kitty's own test picture, then the question that every terminal answers.
_QUESTION = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"


def graphics_of_terminal() -> str:
    """The pixel graphics that the terminal answers it can draw: "sixel", "kitty", or "" for none."""
    if find_spec("textual_image") is None or sys.__stdin__ is None or sys.__stdout__ is None:
        return ""
    if not (sys.__stdin__.isatty() and sys.__stdout__.isatty()):
        return ""
    try:
        answer = _ask(sys.__stdin__.fileno(), sys.__stdout__.fileno())
    except (ImportError, OSError):
        # No POSIX terminal here: half blocks are drawn everywhere.
        return ""
    attributes = re.search(rb"\x1b\[\?([\d;]*)c", answer)
    if attributes and b"4" in attributes.group(1).split(b";"):
        return "sixel"
    return "kitty" if b"\x1b_Gi=31;OK" in answer else ""


def _ask(keyboard: int, screen: int) -> bytes:
    """What the terminal answers, up to the end of its attributes."""
    import termios
    import tty

    before = termios.tcgetattr(keyboard)
    answer = b""
    try:
        tty.setcbreak(keyboard, termios.TCSANOW)
        os.write(screen, _QUESTION.encode())
        end = time.monotonic() + ANSWER_S
        while not re.search(rb"\x1b\[\?[\d;]*c", answer) and (left := end - time.monotonic()) > 0:
            if select.select([keyboard], [], [], left)[0]:
                answer += os.read(keyboard, 256)
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)
    return answer


class SharpPicture(Picture):
    """A picture whose pixels are the terminal's own."""

    DEFAULT_CSS = """
    SharpPicture > .pixels { width: 100%; height: 1fr; }
    SharpPicture > .words { width: 100%; height: 1; }
    """

    def compose(self) -> ComposeResult:
        # Asked for while the terminal could still be queried; see `run_dashboard`.
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
