"""`nsgd dashboard`: the application, and the thread that looks at the store.

Nothing here loads numpy before the first screen is painted: the eye does, while the state of the sky is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from nsgd.dashboard.board import BoardApp, BoardScreen, Refused
from nsgd.dashboard.glance import Glance
from nsgd.dashboard.inert import inert
from nsgd.dashboard.opening import OpeningScreen
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.themes import Marker
from nsgd.errors import NsgdError, StoreProblem
from nsgd.session.store import Changes

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from nsgd.dashboard.night import Night
    from nsgd.dashboard.start import Terms
    from nsgd.session.store import Reader, Request

FIRST_SUBS = 300
"""Subs that are shown before the rest of a long store is read."""
MORE_SUBS = 200
"""Subs that are read at once of the rest; each takes some kilobytes until its figures are taken out."""
PAINT_S = 2.0
"""Longest time that the rest waits for the first subs to be painted."""
POLL_S = 0.4
"""Time between two looks at the store; a look at an unchanged store costs a fraction of a millisecond."""
RESTS = ((6, 3.2), (1, 0.8))
"""After so many looks in a row that all found something, as in a backlog, the eye rests so long (s): whoever measures
needs the processor that redrawing takes."""


class StoreGlimpsed(Message):
    """The first line can be told."""

    def __init__(self, glance: Glance) -> None:
        super().__init__()
        self.glance = glance


class StoreRead(Message):
    """The store was read from the beginning; `partly` while only its newest subs are."""

    def __init__(self, night: Night, *, partly: bool) -> None:
        super().__init__()
        self.night = night
        self.partly = partly


class StoreChanged(Message):
    """The store holds something new."""

    def __init__(self, changes: Changes, ignored: dict[str, int], answers: list[Request]) -> None:
        super().__init__()
        self.changes = changes
        self.ignored = ignored
        self.answers = answers


class StoreMissing(Message):
    """The store cannot be read now."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence


class StoreEye(threading.Thread):
    """Looks at the store and tells the app what changed; it owns the only reader that stays open."""

    def __init__(self, app: App[int], open_reader: Callable[[], Reader], terms: Callable[[], Terms]) -> None:
        super().__init__(name="store-eye", daemon=True)
        self._app = app
        self._open_reader = open_reader
        self._terms = terms
        self.painted = threading.Event()
        """Set when the newest subs are on the screen."""
        self._done = False
        self._stirred = threading.Event()
        self._last = -1
        self._said = ""
        self._awaited: set[int] = set()
        """Requests of this dashboard that nobody has dealt with yet."""

    def close(self) -> None:
        self._done = True
        self._stirred.set()

    def expect(self, request_id: int) -> None:
        """Look out for what becomes of a request, from now on and also where the eye rests."""
        self._awaited.add(request_id)
        self._stirred.set()

    def _rest(self, longest_s: float) -> None:
        self._stirred.wait(longest_s)
        self._stirred.clear()

    def run(self) -> None:
        while not self._done:
            try:
                with self._open_reader() as reader:
                    self._said = ""
                    if self._last < 0:
                        self._read(reader)
                    self._look(reader)
            except StoreProblem as problem:
                self._complain(problem.sentence)
            except NsgdError as problem:
                self._app.post_message(Refused(problem))
                return
            self._rest(2.0)

    def _read(self, reader: Reader) -> None:
        """Read everything; the first line comes before the rest, and the newest subs before a long store's others."""
        self._app.post_message(StoreGlimpsed(Glance.read(reader)))
        from nsgd.dashboard.screens import NightScreen  # noqa: F401 - what the app shows next, loaded here

        first = reader.newest_subs(FIRST_SUBS)
        if len(first) == FIRST_SUBS:
            changes = Changes(0, first, reader.series(), [], reader.daemon())
            self._app.post_message(StoreRead(self._night([changes], reader), partly=True))
            self.painted.wait(PAINT_S)
        night = self._night(everything(reader), reader)
        self._last = night.last_change
        self._app.post_message(StoreRead(night, partly=False))

    def _night(self, told: Iterable[Changes], reader: Reader) -> Night:
        """A night of these changes, judged already, so that the screen need not wait for it."""
        from nsgd.dashboard.night import Night

        night = Night(limits=self._terms().limits)
        for changes in told:
            night.merge(changes)
        night.ignored = reader.ignored()
        night.newest_view()
        night.sky()
        return night

    def _look(self, reader: Reader) -> None:
        seen, news = None, 0
        while not self._done:
            changes = reader.changes_since(self._last)
            if changes.last != self._last or changes.daemon != seen:
                self._last, seen = changes.last, changes.daemon
                news += 1
                self._app.post_message(StoreChanged(changes, reader.ignored(), self._answers(reader)))
            else:
                news = 0
            self._rest(POLL_S if self._awaited else next((rest_s for looks, rest_s in RESTS if news >= looks), POLL_S))

    def _answers(self, reader: Reader) -> list[Request]:
        """Requests of this dashboard that have been dealt with since the last look."""
        if not self._awaited:
            return []
        done = [r for r in reader.requests(pending=False) if r.request_id in self._awaited and r.state != "pending"]
        self._awaited -= {request.request_id for request in done}
        return done

    def _complain(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._app.post_message(StoreMissing(sentence))


def everything(reader: Reader) -> Iterator[Changes]:
    """All that the store holds, a part at a time."""
    last = 0
    while True:
        changes = reader.changes_since(last, MORE_SUBS)
        yield changes
        if changes.last == last:
            return
        last = changes.last


class DashboardApp(BoardApp):
    """The dashboard: one night in memory, screens that draw it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit", show=False),
        Binding("question_mark,f1", "help", "Help", show=False),
        Binding("colon", "command_palette", "Commands", show=False),
        Binding("m", "next_marker", "Graph dots", show=False),
    ]

    night: Night

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        send: Callable[[str, dict[str, object]], int] | None,
        terms: Callable[[], Terms],
        marker: Marker = Marker.BRAILLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(marker, clock)
        self.glance = Glance()
        """What the first line is told from; the night as soon as that is read."""
        self.frozen = False
        self.graphics = ""
        """How this terminal draws pixels (`graphics.Question`), "" where it cannot."""
        self.reading = True
        """True while only a part of the store is read."""
        self.store_sentence = "Reading the store ..."
        self._send = send
        self.open_reader = open_reader
        self._terms = terms
        self._eye = StoreEye(self, open_reader, terms)

    @property
    def zone(self) -> ZoneInfo | None:
        """Time zone of the clock axis."""
        return self._terms().zone

    def get_default_screen(self) -> OpeningScreen:
        return OpeningScreen()

    def watch_store(self) -> None:
        """Begin to look at the store; the first screen asks for it when it can take what comes."""
        self._eye.start()

    def on_unmount(self) -> None:
        self._eye.close()

    def tick(self) -> None:
        # Only the line that is seen: a change on a covered screen sends the whole of the upper one again.
        seen = next((screen for screen in reversed(self.screen_stack) if isinstance(screen, BoardScreen)), None)
        for line in seen.query(StateLine) if seen is not None else ():
            line.tick()

    def on_store_read(self, message: StoreRead) -> None:
        from nsgd.dashboard.screens import NightScreen

        self.glance = self.night = message.night
        self.reading = message.partly
        if any(isinstance(screen, NightScreen) for screen in self.screen_stack):
            self._tell_screens(set(self.night.series) | {0})
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.push_screen(NightScreen())

    def night_painted(self) -> None:
        """The newest subs are on the screen: the eye may read on."""
        self._eye.painted.set()

    def on_store_glimpsed(self, message: StoreGlimpsed) -> None:
        self.glance = message.glance
        self.tick()

    def on_store_changed(self, message: StoreChanged) -> None:
        for request in message.answers:
            refused = request.state == "refused"
            if refused or request.kind == "reference":
                words = f"{request.kind}: {inert(request.result, 200)}"
                self.say(words, "error" if refused else "information")
        self.night.ignored = message.ignored
        self._tell_screens(self.night.merge(message.changes))

    def _tell_screens(self, touched: set[int]) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.night_changed(touched)

    def on_store_missing(self, message: StoreMissing) -> None:
        self.store_sentence = message.sentence
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.store_missing(message.sentence)

    def ask(self, kind: str, said: str, **args: object) -> None:
        """Leave a request for the daemon and tell the user what was asked."""
        if self._send is None:
            self.say("This dashboard only looks (--read-only).")
            return
        try:
            self._eye.expect(self._send(kind, args))
        except StoreProblem as problem:
            self.say(problem.sentence, severity="error")
            return
        waiting = "" if self.glance.daemon_lives(self.clock()) else " It waits until nsgd run or nsgd apply."
        self.say(said + waiting)

    def say(self, text: str, severity: str = "information") -> None:
        self.notify(text, severity=severity, timeout=4, markup=False)  # type: ignore[arg-type]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette lists: every key's action by name, then Textual's own."""
        told = set()
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if binding.description and binding.action not in told and binding.action != "command_palette":
                told.add(binding.action)
                run = partial(self.run_action, binding.action, active.node)
                yield SystemCommand(binding.description, f"key {self.get_key_display(binding) or key}", run)
        yield from super().get_system_commands(screen)

    def action_help(self) -> None:
        from nsgd.dashboard.panels import CHOOSER_KEYS, KEYS, SUB_KEYS, HelpScreen

        self.push_screen(HelpScreen({"sub": SUB_KEYS, "chooser": CHOOSER_KEYS}.get(str(self.screen.id), KEYS)))

    def action_next_marker(self) -> None:
        markers = list(Marker)
        self.marker = markers[(markers.index(self.marker) + 1) % len(markers)]
        for screen in self.screen_stack:
            if isinstance(screen, BoardScreen) and screen.drawable:
                screen.set_looks()
