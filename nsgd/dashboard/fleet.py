"""`nsgd dashboard --fleet`: a line per rig, the troubled ones first; one opened shows its night."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast
from zoneinfo import ZoneInfo

import numpy as np
from rich.console import Console
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static

from nsgd.dashboard.board import BoardApp, Keys, renew
from nsgd.dashboard.canvas import Ink
from nsgd.dashboard.figures import clock_label, local_time
from nsgd.dashboard.graphs import Figure, Graph, Level, Mark
from nsgd.dashboard.headline import Tone, age, looks
from nsgd.dashboard.inert import fit, inert
from nsgd.dashboard.themes import Marker, theme_for
from nsgd.errors import FleetProblem
from nsgd.fleet.read import FleetReader, Rig, RigNight

SILENT_S = 60.0
"""A rig that said nothing for longer than this, its heartbeats included, is silent."""
LONG_GONE_S = 86_400.0
LEAST_PAUSE_S = 0.5
"""Between two looks, however much changes."""
RETRY_S = 3.0


# ---- lines --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One rig as it is shown."""

    rig: Rig
    word: str
    glyph: str
    plain: str
    tone: Tone
    trouble: int
    """0 is the worst; lines are sorted by it."""


def line_of(rig: Rig, now_utc_s: float) -> Line:
    """How a rig is shown: its own word, or that it is silent."""
    silent_s = now_utc_s - rig.seen_utc_s
    if not silent_s <= SILENT_S:
        gone = not silent_s <= LONG_GONE_S
        return Line(rig, "gone" if gone else "silent", "■", "#", Tone.QUIET if gone else Tone.WARN, 5 if gone else 2)
    glyph, plain, tone = looks(rig.state)
    trouble = 0 if rig.alert else {Tone.ALERT: 1, Tone.WARN: 1, Tone.QUIET: 3, Tone.GOOD: 4}[tone]
    return Line(rig, rig.state, glyph, plain, tone, trouble)


def lines_of(rigs: Sequence[Rig], now_utc_s: float, site: str = "") -> list[Line]:
    """Rigs whose site holds the word, the troubled ones first."""
    shown = [line_of(rig, now_utc_s) for rig in rigs if site.lower() in rig.site.lower()]
    return sorted(shown, key=lambda line: (line.trouble, line.rig.site, line.rig.name))


def cells_of(line: Line, now_utc_s: float, *, plain: bool) -> list[str]:
    """What a line says, in the order of `COLUMNS`."""
    rig = line.rig
    light = f"{rig.transmission:.2f}" if np.isfinite(rig.transmission) else ""
    return [
        inert(rig.name, 20), inert(rig.site, 16), f"{line.plain if plain else line.glyph} {line.word}", light,
        inert(rig.series, 24), age(now_utc_s - rig.last_sub_utc_s), inert(rig.alert, 60),
    ]  # fmt: skip


COLUMNS = ("rig", "site", "state", "T", "series", "last sub", "alert")
_NARROW = ("rig", "state", "T", "last sub")


def site_line(rigs: Sequence[Rig], now_utc_s: float) -> str:
    """Every site with how many of its rigs say what."""
    sites: dict[str, Counter[str]] = {}
    for rig in sorted(rigs, key=lambda rig: rig.site):
        sites.setdefault(rig.site, Counter())[line_of(rig, now_utc_s).word] += 1
    parts = [
        f"{inert(site, 16) or 'no site'}: {', '.join(f'{count} {word}' for word, count in words.most_common())}"
        for site, words in sites.items()
    ]
    return "   ".join(parts)


def night_figure(night: RigNight, zone: ZoneInfo | None) -> Figure:
    """The transmission of a rig's night as the fleet has it."""
    marks = [
        Mark(utc_s, *(("▽", "C") if resolves else ("▲", "A")), Ink.ALERT if not resolves else Ink.MARK)
        for utc_s, _, resolves in night.alerts
        if night.utc_s.size and night.utc_s[0] <= utc_s <= night.utc_s[-1]
    ]
    return Figure(
        "Transmission, expected extinction taken out", night.utc_s, night.transmission, night.transmission_err,
        night.bad, levels=(Level(1.0, Ink.LEVEL),), marks=tuple(marks), y_range=(0.7, 1.0), x_label=clock_label(zone),
    )  # fmt: skip


# ---- the thread that asks -----------------------------------------------------------------------


class FleetRead(Message):
    """All rigs as they are now."""

    def __init__(self, rigs: list[Rig]) -> None:
        super().__init__()
        self.rigs = rigs


class NightRead(Message):
    """The opened rig's night."""

    def __init__(self, rig: str, night: RigNight) -> None:
        super().__init__()
        self.rig = rig
        self.night = night


class FleetMissing(Message):
    """The database cannot be asked now."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence


class FleetEye(threading.Thread):
    """Looks at the fleet and tells the app what changed; it owns the only connection."""

    def __init__(self, app: App[int], open_reader: Callable[[], FleetReader]) -> None:
        super().__init__(name="fleet-eye", daemon=True)
        self._app = app
        self._open_reader = open_reader
        self._done = threading.Event()
        self.opened = ""
        """The rig whose night is wanted, "" for none."""

    def close(self) -> None:
        self._done.set()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                with self._open_reader() as reader:
                    self._watch(reader)
            except FleetProblem as problem:
                self._app.post_message(FleetMissing(problem.sentence))
                self._done.wait(RETRY_S)

    def _watch(self, reader: FleetReader) -> None:
        self._app.post_message(FleetRead(reader.rigs()))
        shown = ""
        while not self._done.is_set():
            opened = self.opened
            changed = reader.changed(LEAST_PAUSE_S)
            if changed:
                self._app.post_message(FleetRead(reader.rigs()))
            if opened and (opened != shown or opened in changed):
                self._app.post_message(NightRead(opened, reader.night(opened)))
            shown = opened
            if changed:
                self._done.wait(LEAST_PAUSE_S)


# ---- screens ------------------------------------------------------------------------------------


class FleetApp(BoardApp):
    """The fleet: one screen of lines, one of a rig's night."""

    def __init__(
        self,
        open_reader: Callable[[], FleetReader],
        zone: ZoneInfo | None = None,
        marker: Marker = Marker.BRAILLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(marker, clock)
        self.zone = zone
        self.rigs: list[Rig] = []
        self.eye = FleetEye(self, open_reader)

    def get_default_screen(self) -> FleetScreen:
        return FleetScreen()

    def on_unmount(self) -> None:
        self.eye.close()

    def tick(self) -> None:
        """Ages grow, and silent rigs become so, without any news."""
        if isinstance(self.screen, FleetScreen) and self.rigs:
            self.screen.show()

    def on_fleet_read(self, message: FleetRead) -> None:
        self.rigs = message.rigs
        for screen in self.screen_stack:
            if isinstance(screen, FleetScreen | RigScreen):
                screen.show()

    def on_night_read(self, message: NightRead) -> None:
        if isinstance(self.screen, RigScreen) and self.screen.rig == message.rig:
            self.screen.show_night(message.night)

    def on_fleet_missing(self, message: FleetMissing) -> None:
        for screen in self.screen_stack:
            for state in screen.query("#state").results(Static):
                state.set_classes(Tone.ALERT.value)
                state.update(Text(inert(message.sentence)))


class FleetScreen(Screen[None]):
    """A line per rig, the troubled ones first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", show=True),
        Binding("slash", "filter", "Site"),
        Binding("escape", "back", "All sites", show=False),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self) -> None:
        super().__init__(id="fleet")
        self._site = ""
        self._shown: tuple[object, ...] = ()

    @property
    def board(self) -> FleetApp:
        return cast("FleetApp", self.app)

    def compose(self) -> ComposeResult:
        yield Static("Asking the fleet ...", id="state", markup=False)
        yield Static(id="counts", markup=False)
        yield DataTable(id="rigs", cursor_type="row", zebra_stripes=False)
        yield Input(id="prompt", compact=True)
        yield Keys()

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        self.board.eye.start()

    def on_resize(self) -> None:
        self._shown = ()
        if self.board.rigs:
            self.show()

    def show(self) -> None:
        """Draw the rigs as they are now; the cursor stays on its rig."""
        now_utc_s, plain = self.board.clock(), self.board.marker is Marker.ASCII
        lines = lines_of(self.board.rigs, now_utc_s, self._site)
        worst = lines[0] if lines else None
        counts = Counter(line.word for line in lines)
        said = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        state = self.query_one("#state", Static)
        state.set_classes(worst.tone.value if worst else Tone.QUIET.value)
        where = f" at {inert(self._site, 20)}" if self._site else ""
        renew(state, Text(f"{len(lines)} rigs{where}: {said}" if lines else f"No rig{where}"))
        renew(self.query_one("#counts", Static), Text(site_line(self.board.rigs, now_utc_s)))
        shown = tuple((line.rig.name, *cells_of(line, now_utc_s, plain=plain)) for line in lines)
        if shown != self._shown:
            self._shown = shown
            self._fill(lines, [list(cells[1:]) for cells in shown])

    def _fill(self, lines: list[Line], rows: list[list[str]]) -> None:
        table = self.query_one(DataTable)
        rig, top = self.rig, table.scroll_y
        wanted = _NARROW if self.size.width < 62 else COLUMNS
        table.clear(columns=True)
        table.add_columns(*wanted)
        variables = self.app.get_css_variables()
        inks = {Tone.ALERT: "ink-alert", Tone.WARN: "ink-cut", Tone.GOOD: "ink-ok", Tone.QUIET: "ink-label"}
        for line, cells in zip(lines, rows, strict=True):
            said = dict(zip(COLUMNS, cells, strict=True))
            style = variables.get(inks[line.tone], "")
            texts = [Text(said[name], style if name in ("state", "alert") else "") for name in wanted]
            table.add_row(*texts, key=line.rig.name)
        names = [line.rig.name for line in lines]
        if rig in names:
            table.move_cursor(row=names.index(rig), scroll=False)
            table.scroll_to(y=top, animate=False)

    @property
    def rig(self) -> str:
        """The rig under the cursor, "" where there is none."""
        table = self.query_one(DataTable)
        if not table.is_valid_row_index(table.cursor_row):
            return ""
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    def on_data_table_row_selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        if self.rig:
            self.app.push_screen(RigScreen(self.rig))

    def action_filter(self) -> None:
        prompt = self.query_one(Input)
        prompt.value, prompt.placeholder = self._site, "site"
        prompt.add_class("open")
        prompt.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._site = event.value.strip()
        self.show()

    def on_input_submitted(self) -> None:
        self.query_one(Input).remove_class("open")
        self.query_one(DataTable).focus()

    def action_back(self) -> None:
        self._site = ""
        self.on_input_submitted()
        self.show()


class RigScreen(Screen[None]):
    """One rig's newest night, from what the fleet has."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "app.pop_screen", "Back")]

    def __init__(self, rig: str) -> None:
        super().__init__(id="rig")
        self.rig = rig

    @property
    def board(self) -> FleetApp:
        return cast("FleetApp", self.app)

    def compose(self) -> ComposeResult:
        yield Static(id="state", markup=False)
        yield Static(id="counts", markup=False)
        yield Graph("main")
        yield Static(id="alerts", markup=False)
        yield Keys()

    def on_mount(self) -> None:
        self.query_one(Graph).marker = self.board.marker
        self.board.eye.opened = self.rig
        self.show()

    def on_unmount(self) -> None:
        self.board.eye.opened = ""

    def show(self) -> None:
        """Bring the first line up to date."""
        rig = next((rig for rig in self.board.rigs if rig.name == self.rig), None)
        if rig is not None:
            now_utc_s = self.board.clock()
            line = line_of(rig, now_utc_s)
            cells = cells_of(line, now_utc_s, plain=self.board.marker is Marker.ASCII)
            state = self.query_one("#state", Static)
            state.set_classes(line.tone.value)
            state.update(Text("  ".join(cell for cell in cells if cell)))

    def show_night(self, night: RigNight) -> None:
        """Draw a night that has just been read."""
        kept = int(np.count_nonzero(~night.bad))
        names = ", ".join(inert(name, 24) for name in night.series[:6])
        self.query_one("#counts", Static).update(Text(f"{night.session}  {kept}/{night.bad.size} kept  {names}"))
        self.query_one(Graph).figure = night_figure(night, self.board.zone)
        told = [
            f"{local_time(utc_s, self.board.zone).strftime('%H:%M')} {inert(title, 90)}"
            for utc_s, title, _ in night.alerts[-6:]
        ]
        self.query_one("#alerts", Static).update(Text("\n".join(told) or "No alert this night."))


# ---- entry --------------------------------------------------------------------------------------


def run_fleet(url: str, *, zone: ZoneInfo | None = None, marker: str = "braille", theme: str = "") -> int:
    """Show the fleet until the user quits; into a pipe or on a dumb terminal its lines are written once.

    Raises
    ------
    FleetProblem
        Into a pipe: the database cannot be asked.
    """
    if not sys.stdout.isatty() or Console().is_dumb_terminal:
        with FleetReader(url) as reader:
            _print_lines(reader.rigs(), time.time())
        return 0
    app = FleetApp(lambda: FleetReader(url), zone, Marker(marker))
    app.theme = theme or theme_for(app.console.color_system)
    app.run()
    return app.return_code or 0


def _print_lines(rigs: Sequence[Rig], now_utc_s: float) -> None:
    """The fleet as lines of plain text."""
    widths = (20, 16, 14, 5, 24, 9, 40)
    for line in lines_of(rigs, now_utc_s):
        cells = cells_of(line, now_utc_s, plain=True)
        text = " ".join(fit(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        print(text.encode("ascii", "replace").decode("ascii"))  # noqa: T201
