"""The night at a glance: state, series, graphs, subs; and the small screens over it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widgets import Input, Static

from nsgd.dashboard import figures
from nsgd.dashboard.board import BoardScreen, Keys, renew
from nsgd.dashboard.events import GLYPHS, Event, delivery_words, events_of
from nsgd.dashboard.graphs import Graph
from nsgd.dashboard.inert import inert
from nsgd.dashboard.night import Sub, View
from nsgd.dashboard.panels import ChoiceScreen, LimitsScreen
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.table import Column, SubTable, columns_for
from nsgd.records import NAN, CutOffs, SubStatus
from nsgd.session.judge import in_force

Ints = NDArray[np.int64]

GRAPH_KEYS = tuple(enumerate(figures.GRAPHS.items(), start=1))
LEFT_SUBS = 12
"""A series that has none of so many newest subs is not worked on any more: seven filters may take turns."""
SORTS = ("time", "transmission", "weight", "fwhm_px", "stars", "sky_adu")


class NightScreen(BoardScreen):
    """One series of the night."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("x", "flip", "Reject"),
        Binding("t", "limits", "Cut-offs"),
        Binding("question_mark,f1", "app.help", "Help", key_display="?"),
        Binding("b", "choose_reference", "Reference"),
        Binding("slash", "filter", "Filter"),
        Binding("q", "app.quit", "Quit"),
        Binding("right_square_bracket", "series(1)", "Series", key_display="[ ]"),
        Binding("left_square_bracket", "series(-1)", "Series before", show=False),
        Binding("n", "all_nights", "All nights"),
        Binding("a", "acknowledge", "Acknowledge"),
        Binding("s", "snooze", "Snooze"),
        Binding("p", "freeze", "Freeze"),
        Binding("z", "undo", "Undo", show=False),
        Binding("r", "reference", "Make reference", show=False),
        Binding("left_curly_bracket", "session(-1)", "Night before", show=False),
        Binding("right_curly_bracket", "session(1)", "Next night", show=False),
        *[Binding(str(key), f"graph('{name}')", title, show=False) for key, (name, title) in GRAPH_KEYS],
        Binding("left,h", "step(-1)", "Sub before", show=False),
        Binding("right,l", "step(1)", "Next sub", show=False),
        Binding("w", "wide", "More columns", show=False),
        Binding("o", "sort", "Sort", show=False),
        Binding("f", "jump", "Jump", show=False),
        Binding("c", "copy", "Copy path", show=False),
        Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", show=False),
        Binding("minus", "zoom(2.0)", "Zoom out", show=False),
        Binding("0", "zoom(0.0)", "All night", show=False),
        Binding("escape", "back", "Back", show=False),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__(id="night")
        self.view: View | None = None
        self._series_id = 0
        self._by_hand = False
        self._session: str | None = None
        self._what_if: CutOffs | None = None
        self._main = "transmission"
        self._sort = "time"
        self._filter = ""
        self._prompt = ""
        self._span_s = 0.0
        self._wide = False
        self._done: list[int] = []
        self._events: tuple[Event, ...] = ()

    def compose(self) -> ComposeResult:
        yield StateLine()
        yield Static(id="tabs", markup=False)
        with Container(id="body"):
            with Vertical(id="graphs"):
                with Horizontal(id="pair"):
                    yield Graph("main")
                    yield Graph("second")
                with Horizontal(id="trio"):
                    for name in ("fwhm_px", "stars", "sky_adu"):
                        yield Graph(name)
            yield SubTable("table", self._columns)
        yield Static(id="teach", markup=False)
        yield Static(id="counts", markup=False)
        yield Static(id="detail", markup=False)
        yield Input(id="prompt", compact=True)
        yield Keys()

    def on_mount(self) -> None:
        self.query_one(SubTable).focus()
        self.begin()
        self.set_looks()
        self.night_changed(set(self.board.night.series))
        self.call_after_refresh(self.board.night_painted)

    # --- data ------------------------------------------------------------------------------------

    def night_changed(self, touched: set[int]) -> None:
        """Show what is new; nothing is drawn while the display is frozen."""
        if self.board.frozen:
            self.tick()
            return
        self._go_along()
        if self.view is None or touched:
            self.rebuild()
        else:
            self._draw_counts()
        self.tick()
        self._draw_tabs()

    def _go_along(self) -> None:
        """Show the series that the camera works on, unless somebody looks at another one.

        Filters may take turns sub by sub, so a series is left when none of the newest subs are its own.
        """
        night = self.board.night
        newest = next((row.series_id for row in reversed(night.newest_rows) if row.series_id), 0)
        if self._series_id not in night.series:
            self._series_id = newest or next(iter(night.series), 0)
            return
        looked_at = self._by_hand or self._what_if is not None or not self.query_one(SubTable).at_newest
        if newest and not looked_at and self._series_id not in {row.series_id for row in night.recent(LEFT_SUBS)}:
            self._series_id, self._session, self._span_s, self.view = newest, None, 0.0, None

    def store_missing(self, sentence: str) -> None:
        if self.view is None:
            self.add_class("empty")
            self.query_one("#teach", Static).update(Text(inert(sentence, 400)))

    def rebuild(self) -> None:
        """Judge the series anew and draw everything."""
        night = self.board.night
        self.view = night.view(self._series_id, self._session)
        if self.view is None or not len(self.view.verdicts):
            self._teach()
            return
        self.remove_class("empty")
        self._events = events_of(night, self.view)
        self.query_one(SubTable).show(self.view, self._lines(self.view))
        self._draw_graphs()
        self._draw_tabs()
        self.tick()

    def _columns(self, width: int) -> list[Column]:
        return columns_for(width, wide=self._wide, zone=self.board.zone, plain=self.plain)

    def _teach(self) -> None:
        """What an empty store is waiting for."""
        night = self.board.night
        self.add_class("empty")
        ignored = ", ".join(f"{count} {inert(kind, 20)}" for kind, count in sorted(night.ignored.items()))
        folders = [inert(str(name), 60) for name in getattr(night.daemon, "folders", ())]
        where = ", ".join(folders) or "the capture folder"
        text = f"Waiting for the first light frame in {where}."
        if night.daemon is None:
            text = "No subs yet, and no daemon measures.\n\nStart it in another terminal:  nsgd run FOLDER"
        failed = [row for row in night.newest_rows if row.series_id == 0][-5:]
        if failed:
            text += "\n\nNo sub could be measured yet:" + "".join(
                f"\n  {inert(row.path.rsplit('/', 1)[-1], 40)}: {inert(row.failure.sentence, 120)}"
                for row in failed
                if row.failure is not None
            )
        if ignored:
            text += f"\n\nIgnored so far: {ignored}."
        self.query_one("#teach", Static).update(Text(text))

    def tick(self) -> None:
        """Bring the age in the first line up to date."""
        if self.is_current:
            self.query_one(StateLine).tick()

    def _lines(self, view: View) -> Ints:
        """Rows of the table: shown subs that pass the filter, sorted."""
        lines = view.shown
        if self._filter:
            keep = [self._passes(view, int(i)) for i in lines]
            lines = lines[np.array(keep, dtype=bool)]
        if self._sort == "time" or not lines.size:
            return lines
        values = view.column(self._sort)[np.isin(view.shown, lines)]
        return lines[np.argsort(values, kind="stable")]

    def _passes(self, view: View, at: int) -> bool:
        word = self._filter.lower()
        wanted = not word.startswith("!")
        verdict = view.verdicts.row(at)
        text = " ".join((view.subs.paths[at], verdict.status.value, *verdict.reasons)).lower()
        return (word.lstrip("!") in text) == wanted

    # --- drawing ---------------------------------------------------------------------------------

    def _draw_graphs(self) -> None:
        view = self.view
        if view is None:
            return
        if self._what_if is not None:
            view = replace(view, verdicts=view.judged(self._what_if))
        second = "weight" if self._main != "weight" else "transmission"
        for graph in self.query(Graph):
            name = {"main": self._main, "second": second}.get(str(graph.id), str(graph.id))
            drawn = figures.figure(view, name, self.board.zone, self._events)
            graph.figure = replace(drawn, cursor_x=self._cursor_x(), x_range=self._x_range())
        self._draw_counts()

    def _cursor_x(self) -> float:
        sub = self.query_one(SubTable).sub
        if sub is None or self.view is None:
            return NAN
        if not figures.by_number(self.view):
            return sub.order_utc_s
        place = self.view.place_of(sub.sub_id, self.view.shown)
        return NAN if place is None else place + 1.0

    def _x_range(self) -> tuple[float, float] | None:
        centre = self._cursor_x()
        if not self._span_s or not np.isfinite(centre):
            return None
        return centre - self._span_s / 2, centre + self._span_s / 2

    def _draw_tabs(self) -> None:
        """All series with the one that is shown, or its number among them where they do not fit."""
        ids = sorted(self.board.night.series)
        names = {series_id: self._series_name(series_id) for series_id in ids}
        night = f"  {self.view.session or 'all nights'}" if self.view is not None else ""
        text = Text()
        if sum(cell_len(name) + 3 for name in names.values()) + len(night) + 2 <= self.size.width:
            for series_id, name in names.items():
                text.append(f" {name} ", "reverse bold" if series_id == self._series_id else "")
                text.append(" ")
        elif self._series_id in names:
            text.append(f"{ids.index(self._series_id) + 1}/{len(ids)} ")
            text.append(names[self._series_id], "bold")
        text.append(night, "dim")
        renew(self.query_one("#tabs", Static), text)

    def _series_name(self, series_id: int) -> str:
        series = self.board.night.series[series_id]
        parts = (inert(series.object_name, 20) or "unnamed", inert(series.filter_name, 10))
        return " ".join(part for part in parts if part not in ("", "none"))

    def _draw_counts(self) -> None:
        if self.view is None:
            return
        kept = self.view.kept(self._what_if)
        text = f"{kept.kept}/{kept.subs} kept  {kept.exposure()}"
        if self._filter:
            text += f"  filter: {inert(self._filter, 20)}"
        if self._sort != "time":
            text += f"  sorted by {self._sort}"
        line = Text(text)
        for words in self._troubles():
            line.append(f"  {words}", "bold")
        renew(self.query_one("#counts", Static), line)

    def _troubles(self) -> list[str]:
        """What the daemon complains about, and the alert that is still open."""
        night, words = self.board.night, []
        if night.daemon is not None:
            words += [f"{inert(f.path, 40)} is missing" for f in night.daemon.folders if f.mode == "missing"]
            words += [inert(night.daemon.message, 120)] if night.daemon.message else []
            words += [f"{night.daemon.pending} waiting"] if night.daemon.pending > 1 else []
        latest = max(night.alerts.values(), key=lambda row: row.alert_id, default=None)
        if latest is not None and not latest.alert.resolves:
            when = figures.local_time(latest.alert.created_utc_s, self.board.zone).strftime("%H:%M")
            words.append(f"{when} {inert(latest.alert.title, 60)} ({delivery_words(latest)})")
        return words

    def on_sub_table_moved(self) -> None:
        self._draw_detail()
        cursor_x = self._cursor_x()
        for graph in self.query(Graph):
            graph.point_at(cursor_x)

    def on_sub_table_chosen(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        # Imported when it is wanted: the dashboard opens sooner without it.
        from nsgd.dashboard.sharp import prepare
        from nsgd.dashboard.sub_screen import SubScreen

        sub_id = self.query_one(SubTable).sub_id
        if sub_id:
            prepare(self.board, self.board.graphics)
            self.app.push_screen(SubScreen(sub_id, self._walk))

    def _walk(self, by: int) -> int:
        """Move the cursor for a screen that lies over this one; returns the sub it comes to."""
        table = self.query_one(SubTable)
        table.cursor += by
        return table.sub_id

    def on_graph_picked(self, message: Graph.Picked) -> None:
        """A click on a graph takes the cursor to the nearest sub."""
        if self.view is None or not self.view.shown.size:
            return
        x = np.arange(1.0, self.view.shown.size + 1) if figures.by_number(self.view) else self.view.time_utc_s
        nearest = int(self.view.shown[np.argmin(np.abs(x - message.x))])
        self.query_one(SubTable).select(self.view.sub_id(nearest))

    def _draw_detail(self) -> None:
        sub = self.query_one(SubTable).sub
        if sub is None:
            return
        said = "; ".join(inert(reason, 200) for reason in sub.verdict.reasons) or "in the stack"
        text = Text(f"{inert(sub.name, 60)}  ", "bold")
        text.append(said, "")
        for event in self._events_at(sub):
            text.append(f"  {GLYPHS[event.kind][self.plain]} {event.words}", "italic")
        if sub.order_flag:
            text.append(f"  time: {inert(sub.order_flag, 60)}", "dim")
        renew(self.query_one("#detail", Static), text)

    def _events_at(self, sub: Sub) -> list[Event]:
        """Events since the sub before."""
        if self.view is None:
            return []
        times = self.view.time_utc_s
        place = int(np.searchsorted(times, sub.order_utc_s))
        before = float(times[place - 1]) if place > 0 else sub.order_utc_s - 3600.0
        return [event for event in self._events if before < event.utc_s <= sub.order_utc_s]

    def set_looks(self) -> None:
        super().set_looks()
        self.query_one(SubTable).refresh()
        self.tick()

    # --- looking ---------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self._draw_tabs()

    def action_series(self, by: int) -> None:
        ids = sorted(self.board.night.series)
        if not ids:
            return
        here = ids.index(self._series_id) if self._series_id in ids else 0
        self._series_id = ids[(here + by) % len(ids)]
        newest = self.board.night.newest()
        self._by_hand = newest is None or newest.series_id != self._series_id
        self._session = None
        self._span_s = 0.0
        self.rebuild()

    def action_session(self, by: int) -> None:
        if self.view is None or not self.view.sessions:
            return
        nights = self.view.sessions
        here = nights.index(self.view.session) if self.view.session in nights else len(nights) - 1
        self._session = nights[max(0, min(here + by, len(nights) - 1))]
        self.rebuild()

    def action_all_nights(self) -> None:
        self._session = None if self._session == "" else ""
        self.rebuild()

    def action_graph(self, name: str) -> None:
        self._main = name
        self._draw_graphs()

    def action_step(self, by: int) -> None:
        self.query_one(SubTable).cursor += by

    def action_zoom(self, factor: float) -> None:
        if self.view is None or not self.view.shown.size:
            return
        times = self.view.time_utc_s
        whole = float(times.max() - times.min()) if not figures.by_number(self.view) else float(times.size)
        span = (self._span_s or whole) * factor
        self._span_s = span if 0 < span < whole else 0.0
        self._draw_graphs()

    def action_freeze(self) -> None:
        self.board.frozen = not self.board.frozen
        if not self.board.frozen:
            self.rebuild()
        self.tick()

    def action_wide(self) -> None:
        self._wide = not self._wide
        self.query_one(SubTable).refresh()

    def action_sort(self) -> None:
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self.rebuild()

    def action_filter(self) -> None:
        self._open_prompt("filter", self._filter, "filter: word, !word, ok, rejected, failed")

    def action_jump(self) -> None:
        self._open_prompt("jump", "", "jump to: part of a file name, or the number of a sub")

    def _open_prompt(self, kind: str, value: str, hint: str) -> None:
        prompt = self.query_one("#prompt", Input)
        self._prompt = kind
        prompt.value, prompt.placeholder = value, hint
        prompt.add_class("open")
        prompt.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_prompt()
        if self._prompt == "filter":
            self._filter = event.value.strip()
            self.rebuild()
        elif event.value.strip():
            self._jump_to(event.value.strip())

    def _close_prompt(self) -> None:
        self.query_one("#prompt", Input).remove_class("open")
        self.query_one(SubTable).focus()

    def _jump_to(self, wanted: str) -> None:
        if self.view is None:
            return
        table, view, shown = self.query_one(SubTable), self.view, self.view.shown
        if wanted.isdigit() and 1 <= int(wanted) <= shown.size and table.select(view.sub_id(shown[int(wanted) - 1])):
            return
        found = next((at for at in shown if wanted.lower() in view.subs.paths[at].lower()), None)
        if found is None or not table.select(view.sub_id(found)):
            self.board.say(f"No sub here is called {inert(wanted, 40)}.")

    def action_back(self) -> None:
        if self.query_one("#prompt", Input).has_class("open"):
            self._close_prompt()
        elif self._filter:
            self._filter = ""
            self.rebuild()

    def action_copy(self) -> None:
        sub = self.query_one(SubTable).sub
        if sub is not None:
            self.app.copy_to_clipboard(sub.path)
            self.board.say(f"Copied {inert(sub.path, 100)}")

    # --- deciding --------------------------------------------------------------------------------

    def _file_name(self, sub_id: int) -> str:
        return inert(self.board.night.path_of(sub_id).rsplit("/", 1)[-1], 40)

    def action_flip(self) -> None:
        sub = self.query_one(SubTable).sub
        if sub is None:
            return
        kind = "reject" if sub.verdict.status is SubStatus.OK else "accept"
        self._done.append(sub.sub_id)
        self.board.ask(kind, f"Asked to {kind} {self._file_name(sub.sub_id)}; z undoes it.", sub_id=sub.sub_id)

    def action_undo(self) -> None:
        sub_id = self._done.pop() if self._done else self.query_one(SubTable).sub_id
        if sub_id:
            name = self._file_name(sub_id)
            self.board.ask("undo", f"Asked to take back the decision on {name}.", sub_id=sub_id)

    def action_reference(self) -> None:
        sub = self.query_one(SubTable).sub
        if sub is not None:
            said = f"Asked to make {self._file_name(sub.sub_id)} the reference."
            self.board.ask("reference", said, sub_id=sub.sub_id, series_id=sub.series_id)

    def action_choose_reference(self) -> None:
        from nsgd.dashboard.chooser import ChooserScreen
        from nsgd.dashboard.sharp import prepare

        view = self.board.night.view(self._series_id, "")
        if view is not None and view.shown.size:
            prepare(self.board, self.board.graphics)
            self.app.push_screen(ChooserScreen(view))

    def action_acknowledge(self) -> None:
        self.board.ask("ack", "Acknowledged: this event is not repeated.")

    def action_snooze(self) -> None:
        def chosen(minutes: int | None) -> None:
            if minutes:
                self.board.ask("snooze", f"No messages for {minutes} minutes.", minutes=minutes)

        self.app.push_screen(
            ChoiceScreen("No messages for", {"30 minutes": 30, "1 hour": 60, "2 hours": 120, "8 hours": 480}), chosen
        )

    def action_limits(self) -> None:
        if self.view is None:
            return
        limits = in_force(self.view.series, self.board.night.limits)
        series_id = self.view.series.series_id

        def done(chosen: CutOffs | None) -> None:
            self._what_if = None
            self._draw_graphs()
            if chosen is not None and chosen != limits:
                values = asdict(chosen)
                self.board.ask("limits", "Asked for the new cut-offs.", series_id=series_id, limits=values)

        self.app.push_screen(LimitsScreen(limits, self.preview), done)

    def preview(self, limits: CutOffs) -> str:
        """Draw the cut-offs as they would be; returns what they would keep."""
        self._what_if = limits
        self._draw_graphs()
        return self.view.kept(limits).sentence() if self.view is not None else ""
