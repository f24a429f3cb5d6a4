"""`nsgd dashboard --fleet`: a line per rig, the troubled ones first; one opened shows its night.

Nothing here loads numpy or pydantic: the rigs are on the screen before what draws a night is loaded.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static

from nsgd.dashboard.board import BoardApp, Keys, Refused, renew
from nsgd.dashboard.fleet_lines import COLUMNS, NARROW, Line, cells_of, lines_of, site_line
from nsgd.dashboard.headline import Tone
from nsgd.dashboard.inert import inert
from nsgd.dashboard.themes import Marker
from nsgd.errors import FleetProblem, NsgdError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from nsgd.fleet.read import FleetReader, Rig, RigNight

LEAST_PAUSE_S = 0.5
"""Between two looks, however much changes."""
RETRY_S = 3.0


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

    def __init__(self, app: FleetApp, open_reader: Callable[[], FleetReader]) -> None:
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
            except NsgdError as problem:
                self._app.post_message(Refused(problem))
                return

    def _watch(self, reader: FleetReader) -> None:
        self._app.post_message(FleetRead(reader.rigs()))
        self._app.zone()  # settings that are wrong are told now, not when a rig is opened
        shown = ""
        while not self._done.is_set():
            opened = self.opened
            changed = reader.changed(LEAST_PAUSE_S)
            from nsgd.dashboard.rig_screen import RigScreen  # noqa: F401 - what the app shows next, loaded here

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
        zone: Callable[[], ZoneInfo | None] = lambda: None,
        marker: Marker = Marker.BRAILLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(marker, clock)
        self.zone = zone
        """Tells the time zone of the clock axis; raises NsgdError where the settings are wrong."""
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
            if isinstance(screen, Showing):
                screen.show()

    def on_night_read(self, message: NightRead) -> None:
        if isinstance(self.screen, Showing) and self.screen.rig == message.rig:
            self.screen.show_night(message.night)

    def on_fleet_missing(self, message: FleetMissing) -> None:
        for screen in self.screen_stack:
            for state in screen.query("#state").results(Static):
                state.set_classes(Tone.ALERT.value)
                state.update(Text(inert(message.sentence)))


class Showing(Screen[None]):
    """A screen of the fleet view."""

    @property
    def board(self) -> FleetApp:
        return cast("FleetApp", self.app)

    @property
    def rig(self) -> str:
        """The rig that keys speak of, "" where there is none."""
        raise NotImplementedError

    def show(self) -> None:
        """Draw the rigs as they are now."""

    def show_night(self, night: RigNight) -> None:
        """Draw a night that has just been read."""


class FleetScreen(Showing):
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
        wanted = NARROW if self.size.width < 62 else COLUMNS
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
            from nsgd.dashboard.rig_screen import RigScreen

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
