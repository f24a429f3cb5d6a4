"""The table of subs: only the visible lines are ever made, so 10,000 rows cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from nsgd.dashboard.figures import local_time
from nsgd.dashboard.inert import fit, inert
from nsgd.dashboard.night import Sub, View
from nsgd.records import SubStatus

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """One column: heading, width in cells (0 = the rest), alignment and text of a sub."""

    name: str
    width: int
    text: Callable[[Sub], str]
    left: bool = False


def number(value: float, decimals: int) -> str:
    """A figure, empty where it is missing."""
    return f"{value:.{decimals}f}" if np.isfinite(value) else ""


def big(value: float) -> str:
    """A count or level in at most six characters."""
    if not np.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) < 100000 else f"{value / 1000:.0f}k"


def columns_for(width: int, *, wide: bool, zone: ZoneInfo | None, plain: bool) -> list[Column]:
    """Columns that fit: five on a phone, every figure where the user asked for it."""

    narrow, middling = width < 50, width < 70

    def clock(sub: Sub) -> str:
        return local_time(sub.order_utc_s, zone).strftime("%H:%M" if narrow else "%H:%M:%S")

    def status(sub: Sub) -> str:
        return status_glyph(sub, plain=plain)

    def why(sub: Sub) -> str:
        return inert("; ".join(map(short_reason, sub.verdict.reasons)))

    shown = [
        Column("time", 5 if narrow else 8, clock),
        Column("T", 5, lambda sub: number(sub.verdict.transmission_clear, 3 if not narrow else 2)),
        Column("±", 5, lambda sub: number(sub.verdict.transmission_err, 3)),
        Column("W", 5, lambda sub: number(sub.verdict.weight_of_best, 2)),
        Column("FWHM", 5, lambda sub: number(sub.figure("fwhm_px"), 2)),
        Column("stars", 5, lambda sub: number(sub.figure("stars"), 0)),
        Column("sky", 6, lambda sub: big(sub.figure("sky_adu"))),
        Column("ok", 2, status),
        Column("why", 0, why, left=True),
    ]
    if narrow:
        return [column for column in shown if column.name in ("time", "T", "W", "ok", "why")]
    if middling:
        return [column for column in shown if column.name != "sky"]
    if wide:
        shown[-1:-1] = _wide_columns()
    return shown


def _wide_columns() -> list[Column]:
    return [
        Column("scale", 7, lambda sub: number(sub.figure("scale"), 4)),
        Column("noise", 6, lambda sub: number(sub.figure("noise_adu"), 1)),
        Column("grad", 6, lambda sub: number(sub.figure("gradient_rms_adu"), 1)),
        Column("ell", 4, lambda sub: number(sub.figure("ellipticity"), 2)),
        Column("rot", 6, lambda sub: number(sub.figure("rotation_deg"), 1)),
        Column("rank", 5, lambda sub: str(sub.verdict.rank or "")),
        Column("file", 24, lambda sub: inert(sub.name), left=True),
    ]


def short_reason(reason: str) -> str:
    """A reason in the words of the table's headings; the line under the table has it in full."""
    for long, short in (("transmission ", "T "), ("weight ", "W "), ("ellipticity ", "ell "), ("fwhm ", "FWHM ")):
        if reason.startswith(long):
            return (
                reason.replace(long, short, 1)
                .replace(" below ", "<")
                .replace(" px above ", ">")
                .replace(" above ", ">")
            )
    return reason


def status_glyph(sub: Sub, *, plain: bool) -> str:
    """One sign for the outcome, a second one where a person decided it."""
    signs = {SubStatus.OK: ("●", "o"), SubStatus.REJECTED: ("×", "x"), SubStatus.FAILED: ("!", "!")}
    sign = signs[sub.verdict.status][plain]
    return sign + (("✎", "*")[plain] if sub.decided else "")


class SubTable(ScrollView, can_focus=True):
    """Subs of a view, one line each, the cursor on one of them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--head", "table--ok", "table--rejected", "table--failed", "table--cursor", "table--reference",
    }  # fmt: skip
    DEFAULT_CSS = """
    SubTable { height: 1fr; min-height: 3; overflow-x: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(0)", "First", show=False),
        Binding("end,G", "edge(-1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor stands on another sub."""

    class Chosen(Message):
        """The sub under the cursor was opened."""

    def __init__(self, name: str, columns: Callable[[int], list[Column]]) -> None:
        super().__init__(id=name)
        self._columns = columns
        self._view: View | None = None
        self._lines: Ints = np.array([], dtype=np.int64)
        self._cache: dict[int, Sub] = {}

    def show(self, view: View, lines: Ints) -> None:
        """Show the rows `lines` of a view, in that order; the cursor stays on its sub, or follows the newest."""
        following = self.at_newest
        sub_id = self.sub_id
        self._view, self._lines = view, lines
        self._cache.clear()
        self._grow(Size(self.size.width, lines.size + 1))
        self.refresh()
        place = None if following else self._place_of(sub_id)
        self.cursor = lines.size - 1 if place is None else place
        self._bring_into_sight()

    def _grow(self, size: Size) -> None:
        """Hold so many lines; the screen is laid out again only where that brings a scroll bar or takes it away."""
        if self.show_vertical_scrollbar and size.height > self.container_size.height:
            self.set_reactive(SubTable.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
        else:
            self.virtual_size = size

    @property
    def at_newest(self) -> bool:
        """Whether the cursor is on the last row, where it follows what is new."""
        return self.cursor >= self._lines.size - 1

    @property
    def sub(self) -> Sub | None:
        """The sub under the cursor."""
        if self._view is None or not 0 <= self.cursor < self._lines.size:
            return None
        return self._sub(self._view, int(self._lines[self.cursor]))

    @property
    def sub_id(self) -> int:
        return self.sub.sub_id if self.sub else 0

    def select(self, sub_id: int) -> bool:
        """Put the cursor on a sub; False where it is not listed."""
        place = self._place_of(sub_id)
        if place is None:
            return False
        self.cursor = place
        return True

    def _place_of(self, sub_id: int) -> int | None:
        return self._view.place_of(sub_id, self._lines) if self._view is not None else None

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self._lines.size - 1))

    def watch_cursor(self) -> None:
        self._bring_into_sight()
        self.refresh()
        self.post_message(self.Moved())

    def _bring_into_sight(self) -> None:
        body = max(self.size.height - 1, 1)
        top = round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + body:
            self.scroll_to(y=self.cursor - body + 1, animate=False)

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, self._lines.size + 1)
        self.call_after_refresh(self._bring_into_sight)

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(self.size.height - 2, 1)

    def action_edge(self, end: int) -> None:
        self.cursor = self._lines.size - 1 if end else 0

    def action_choose(self) -> None:
        self.post_message(self.Chosen())

    def on_click(self, event: Click) -> None:
        place = round(self.scroll_y) + event.y - 1
        if event.y < 1 or place >= self._lines.size:
            return
        self.cursor = place
        if event.chain == 2:
            self.post_message(self.Chosen())

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        columns = self._columns(width)
        widths = _widths(columns, width)
        if y == 0:
            head = self._join([column.name for column in columns], columns, widths)
            return self._strip(head, "table--head", width)
        place = round(self.scroll_y) + y - 1
        if self._view is None or place >= self._lines.size:
            return Strip.blank(width, self.rich_style)
        sub = self._sub(self._view, int(self._lines[place]))
        text = self._join([column.text(sub) for column in columns], columns, widths)
        return self._strip(text, self._class_of(place, sub, self._view), width)

    def _sub(self, view: View, at: int) -> Sub:
        if at not in self._cache:
            self._cache[at] = view.sub(at)
        return self._cache[at]

    def _class_of(self, place: int, sub: Sub, view: View) -> str:
        if place == self.cursor:
            return "table--cursor"
        if sub.sub_id == view.series.reference_id:
            return "table--reference"
        return f"table--{sub.verdict.status.value}"

    def _join(self, texts: list[str], columns: list[Column], widths: list[int]) -> str:
        cells = [
            fit(text, width) if column.left else fit(text, width).strip().rjust(width)
            for text, column, width in zip(texts, columns, widths, strict=True)
        ]
        return " ".join(cells)

    def _strip(self, text: str, component: str, width: int) -> Strip:
        style = self.get_component_rich_style(component)
        return Strip([Segment(fit(text, width), style)], width)


def _widths(columns: list[Column], width: int) -> list[int]:
    """Widths in cells: the columns that take the rest share what the others leave."""
    used = sum(column.width for column in columns) + len(columns) - 1
    return [column.width or max(width - used, 4) for column in columns]
