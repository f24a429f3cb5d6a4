"""One rig's newest night, from what the fleet has of it."""

from __future__ import annotations

from typing import ClassVar
from zoneinfo import ZoneInfo

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from nsgd.dashboard.board import Keys
from nsgd.dashboard.canvas import Ink
from nsgd.dashboard.figures import clock_label, local_time
from nsgd.dashboard.fleet import Showing
from nsgd.dashboard.fleet_lines import cells_of, line_of
from nsgd.dashboard.graphs import Figure, Graph, Level, Mark
from nsgd.dashboard.inert import inert
from nsgd.dashboard.themes import Marker
from nsgd.fleet.read import RigNight


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


class RigScreen(Showing):
    """One rig's newest night, from what the fleet has."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "app.pop_screen", "Back")]

    def __init__(self, rig: str) -> None:
        super().__init__(id="rig")
        self._rig = rig

    @property
    def rig(self) -> str:
        return self._rig

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
        zone = self.board.zone()
        kept = int(np.count_nonzero(~night.bad))
        names = ", ".join(inert(name, 24) for name in night.series[:6])
        self.query_one("#counts", Static).update(Text(f"{night.session}  {kept}/{night.bad.size} kept  {names}"))
        self.query_one(Graph).figure = night_figure(night, zone)
        told = [
            f"{local_time(utc_s, zone).strftime('%H:%M')} {inert(title, 90)}" for utc_s, title, _ in night.alerts[-6:]
        ]
        self.query_one("#alerts", Static).update(Text("\n".join(told) or "No alert this night."))
