"""The dashboard on real stores, driven by keys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from nights import START_UTC_S, alive, night_store, series, sub
from rich.text import Text
from textual.binding import Binding
from textual.events import Resize
from textual.geometry import Size
from textual.widgets import Static

from nsgd.dashboard.app import DashboardApp
from nsgd.dashboard.board import BoardScreen, renew
from nsgd.dashboard.chooser import ChooserScreen
from nsgd.dashboard.graphs import Graph
from nsgd.dashboard.panels import CHOOSER_KEYS, KEYS, SUB_KEYS
from nsgd.dashboard.screens import NightScreen
from nsgd.dashboard.start import Terms
from nsgd.dashboard.sub_screen import SubScreen
from nsgd.dashboard.table import SubTable
from nsgd.records import CutOffs
from nsgd.session.store import Reader, Store, SubCommit, add_request

TERMS = Terms(Path(), CutOffs(0.75, 0.25, 0.0, 0.6))
WIDTHS = (30, 46, 80, 160)


class Clock:
    """Time that stands until it is moved."""

    def __init__(self, utc_s: float) -> None:
        self.utc_s = utc_s

    def __call__(self) -> float:
        return self.utc_s


@pytest.fixture
def night(tmp_path: Path) -> Iterator[tuple[Store, Clock]]:
    store, last_utc_s = night_store(tmp_path / "store")
    yield store, Clock(last_utc_s + 42)
    store.close()


def board(folder: Path, clock: Callable[[], float]) -> DashboardApp:
    def send(kind: str, args: dict[str, object]) -> int:
        return add_request(folder, kind, args, clock())

    return DashboardApp(lambda: Reader.open(folder), send, lambda: TERMS, clock=clock)


def text_of(app: DashboardApp, selector: str) -> str:
    """What a widget says, "" while its screen is not there yet."""
    return "".join(str(found.render()) for found in app.screen.query(selector).results(Static))


async def until(pilot: object, true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        await pilot.pause(0.05)  # type: ignore[attr-defined]
    raise AssertionError("it never came true")


@pytest.mark.parametrize("width", WIDTHS)
async def test_first_line_tells_state_number_and_age_at_every_width(night: tuple[Store, Clock], width: int) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(width, 20)) as pilot:
        await until(pilot, lambda: "CLEAR" in text_of(app, "#state"))
        line = text_of(app, "#state")
        assert line.startswith("● CLEAR")
        assert "42 s" in line
        assert len(line) <= width


async def test_old_subs_are_loud(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "CLEAR" in text_of(app, "#state"))
        clock.utc_s += 3600
        store.beat(clock.utc_s, alive(clock.utc_s))
        await until(pilot, lambda: "STALE" in text_of(app, "#state"))
        assert app.screen.query_one("#state").has_class("quiet")


async def test_a_dead_daemon_is_told_and_its_night_stays_on_screen(night: tuple[Store, Clock]) -> None:
    store, clock = night
    clock.utc_s += 600
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "DAEMON DOWN" in text_of(app, "#state"))
        await until(pilot, lambda: "M31_Ha" in text_of(app, "#detail"))


async def test_a_store_that_does_not_exist_yet_teaches_and_then_fills(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    clock = Clock(START_UTC_S)
    app = board(folder, clock)
    async with app.run_test(size=(46, 20)) as pilot:
        await until(pilot, lambda: "nsgd run" in text_of(app, "#teach"))
        store, last_utc_s = night_store(folder, 12)
        clock.utc_s = last_utc_s + 5
        await until(pilot, lambda: "12" in text_of(app, "#state"))
        store.close()


async def test_a_new_sub_is_on_the_screen_within_a_second(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        store.commit_sub(SubCommit(sub(61, START_UTC_S + 61 * 310, 0.5), None, None, series()))
        await pilot.pause(1.0)
        assert "0061" in text_of(app, "#detail")
        assert "below 0.75" in text_of(app, "#detail")


async def test_a_window_that_is_dragged_is_laid_out_at_its_first_and_its_last_size(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        widths: list[int] = []
        app.screen.screen_layout_refresh_signal.subscribe(
            app.screen, lambda _: widths.append(app.size.width), immediate=True
        )
        for width in range(81, 101):
            app.post_message(Resize(Size(width, 30), Size(width, 30)))
        await until(pilot, lambda: app.screen.size.width == 100)
        assert set(widths) <= {80, 81, 100}, widths


async def test_a_text_that_takes_more_lines_or_fewer_gets_them(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(60, 30)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        detail = app.screen.query_one("#detail", Static)
        for words, lines in (("short", 1), ("long " * 30, 3), ("still as long " * 10, 3), ("again", 1)):
            renew(detail, Text(words))
            await pilot.pause()
            assert detail.content_size.height == lines, words


def oxygen(store: Store, numbers: Iterable[int]) -> None:
    """Subs of another filter, after those of the night."""
    for number in numbers:
        row = sub(number, START_UTC_S + number * 310, 0.9, series_id=2)
        store.commit_sub(SubCommit(row, None, None, series(2, filter_name="OIII")))


async def test_the_screen_goes_along_with_the_camera_to_the_next_filter(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        oxygen(store, range(61, 66))
        await until(pilot, lambda: "OIII" in text_of(app, "#tabs"))
        assert "/60 kept" in text_of(app, "#counts"), "filters that take turns do not make the screen jump"
        oxygen(store, range(66, 74))
        await until(pilot, lambda: "13/13 kept" in text_of(app, "#counts"))
        await pilot.press("[")
        await until(pilot, lambda: "/60 kept" in text_of(app, "#counts"))
        oxygen(store, range(74, 90))
        await pilot.pause(1.0)
        assert "/60 kept" in text_of(app, "#counts"), "what somebody looks at stays"


async def test_reject_and_undo_become_requests_and_nothing_else(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        wanted = app.screen.query_one(SubTable).sub_id
        await pilot.press("x", "z")
        asked = [(request.kind, request.args) for request in store.requests()]
        assert asked == [("reject", {"sub_id": wanted}), ("undo", {"sub_id": wanted})]


async def test_cut_offs_show_what_they_would_keep_before_they_are_asked_for(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        before = text_of(app, "#counts")
        await pilot.press("t", *["H"] * 4)
        assert "55 of 60 kept" in text_of(app, "#limits")
        assert store.requests() == []
        await pilot.press("escape")
        assert text_of(app, "#counts") == before
        await pilot.press("t", "right", "enter")
        assert store.requests()[0].args["limits"]["transmission"] == pytest.approx(0.76)


def test_the_dashboard_starts_without_the_numerics() -> None:
    heavy = "{'scipy', 'sep', 'astropy', 'watchdog', 'apprise', 'PIL'}"
    code = f"import sys, nsgd.dashboard.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_every_key_is_in_the_command_palette(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        listed = {command.title for command in app.get_system_commands(app.screen)}
        own = {b.description for b in NightScreen.BINDINGS if isinstance(b, Binding) and b.description}
        assert own <= listed
        await pilot.press("colon", *"freeze", "enter")
        await until(pilot, lambda: app.frozen)


async def test_keys_that_come_faster_than_the_screens_do_no_harm(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(46, 24)) as pilot:
        for keys in ("1tx", ["enter", *"135vub", "escape"], ["b", *"mu ", "escape"], ["t", "right", "escape"], ["q"]):
            for key in keys:
                app.simulate_key(key)
            await pilot.pause(0.02)
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


async def test_the_command_palette_may_be_left_before_it_has_found_anything(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "kept" in text_of(app, "#counts"))
        for word in ("", "f", "fr", "x") * 5:
            app.simulate_key("colon")
            for key in (*word, "escape", "escape"):
                app.simulate_key(key)
            await pilot.pause(0.02)
        await pilot.pause(0.5)
        assert app.is_running


@pytest.mark.parametrize(
    ("screen", "keys"), [(NightScreen, KEYS), (SubScreen, SUB_KEYS), (ChooserScreen, CHOOSER_KEYS)]
)
def test_every_key_of_a_screen_is_in_its_help(screen: type[BoardScreen], keys: Sequence[tuple[str, str]]) -> None:
    helped = " ".join(keys for keys, _ in keys).split()
    signs = {"slash": "/", "left_square_bracket": "[", "right_square_bracket": "]", "escape": "esc", "minus": "-",
             "left_curly_bracket": "{", "right_curly_bracket": "}", "plus": "+", "less_than_sign": "<", "comma": ",",
             "greater_than_sign": ">", "full_stop": ".", "shift+tab": "tab"}  # fmt: skip
    for binding in (b for b in screen.BINDINGS if isinstance(b, Binding)):
        some = [signs.get(key, key) for key in binding.key.split(",")]
        assert binding.action == "app.help" or binding.action.startswith("step") or set(some) & set(helped), binding


async def test_a_frozen_display_stands_while_the_first_line_goes_on(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "0060" in text_of(app, "#detail"))
        await pilot.press("p")
        store.commit_sub(SubCommit(sub(61, START_UTC_S + 61 * 310, 0.5), None, None, series()))
        await until(pilot, lambda: "/61" in text_of(app, "#state"))
        assert text_of(app, "#state").startswith("FROZEN")
        assert "0060" in text_of(app, "#detail")
        await pilot.press("p")
        await until(pilot, lambda: "0061" in text_of(app, "#detail"))


async def test_filter_sort_and_jump_find_subs(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "0060" in text_of(app, "#detail"))
        await pilot.press("slash", *"rejected", "enter")
        await until(pilot, lambda: "filter: rejected" in text_of(app, "#counts"))
        table = app.screen.query_one(SubTable)
        await pilot.press("g", "o")
        assert table.sub is not None
        await pilot.press("escape", "f", *"0007", "enter")
        await until(pilot, lambda: "0007" in text_of(app, "#detail"))
        await pilot.press("f", *"nowhere", "enter")
        assert "0007" in text_of(app, "#detail")


async def test_a_cloud_of_subs_that_all_failed_is_told_and_not_hidden(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", START_UTC_S)
    row = replace(sub(1, START_UTC_S, float("nan")), series_id=0)
    store.commit_sub(SubCommit(row, None, None, None))
    app = board(store.folder, Clock(START_UTC_S + 200))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "5 stars matched, 6 needed" in text_of(app, "#teach"))
        assert "NO STARS" in text_of(app, "#state") or "NO DAEMON" in text_of(app, "#state")
    store.close()


async def test_a_click_on_a_graph_takes_the_cursor_there(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "0060" in text_of(app, "#detail"))
        await pilot.click("#main", offset=(4, 5))
        await until(pilot, lambda: "0001" in text_of(app, "#detail"))


async def test_zoom_all_nights_wide_and_the_other_graphs_draw_at_once(night: tuple[Store, Clock]) -> None:
    store, clock = night
    app = board(store.folder, clock)
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: "0060" in text_of(app, "#detail"))
        main = app.screen.query_one("#main", Graph)
        await pilot.press("plus", "plus")
        assert main.figure is not None
        assert main.figure.x_range is not None
        assert main.figure.x_range[1] - main.figure.x_range[0] == pytest.approx(59 * 310 / 4, rel=0.01)
        for key, name in zip("12345", ("Transmission", "Weight", "FWHM", "Stars", "Sky"), strict=True):
            await pilot.press(key)
            assert main.figure.title.startswith(name)
        await pilot.press("0", "n", "w", "o", "o", "m", "m", "T", "T", "T", "T", "left_square_bracket", "g", "G")
        await pilot.pause(0.3)
        assert main.figure.x_range is None
        assert "sorted by" in text_of(app, "#counts")
