"""The dashboard in real pseudo-terminals: hostile strings, poor terminals, lost connections."""

from __future__ import annotations

import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from measured import measure_planted
from nights import START_UTC_S, alive, cloud_alert, night_store, series, sub
from terminal import Terminal

from nsgd.dashboard.board import RESTS_S
from nsgd.records import Alert, Failure
from nsgd.session.store import FolderStatus, Store, SubCommit

HOSTILE = (
    "\x1b]0;canary-title\x07", "\x1b[31mcanary-red", "\x1b[2J\x1b[Hcanary-clear", "\x9b31mcanary-c1",
    "\x1bP+q544e\x1b\\canary-dcs", "\x1b]52;c;Y2FuYXJ5\x07", "\x1b_Gi=1;canary\x1b\\", "canary\x00nul",
    "canary\x07bell",
    "canary\rreturn",
    "canary\nline", "canary\x08\x08back", "\u202ecanary-rtl\u202c", "\u200bcanary\u200b", "\ufeffcanary",
    "[red]canary[/red]", "[/", "[@click=app.quit]canary[/]", "[link=http://x]canary[/link]", "$(reboot)",
    "canary\udcff", "=cmd|' /C calc'!A1", "../../../etc/passwd",
    "Z\u0338\u0321\u0322a\u0337l\u0336go canary", "\U000e0041canary", "canary" * 60, "表表表表表canary",
)  # fmt: skip
# What a terminal would obey, and what it must therefore never be sent because of a name.
FORBIDDEN = (
    b"\x1b]0;canary", b"\x1b[31mcanary", b"\xc2\x9b", b"\x9b31m", b"\x1bP+q", b"\x1b_G", b"\x00",
    b"\x07", b"\x08", "\u202e".encode(), "\u200b".encode(), "\ufeff".encode(), b"\xed\xb3\xbf",
    b"\xff", "\U000e0041".encode(),
)  # fmt: skip


@pytest.fixture
def hostile_store(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "store"
    store, last_utc_s = night_store(folder, 4)
    for number, text in enumerate(HOSTILE, start=5):
        known = text.replace("\udcff", "")
        row = sub(number, START_UTC_S + 310.0 * number, 0.5 if number % 2 else float("nan"))
        header = replace(
            row.header, object_name=known, filter_name=known, camera=known, software=known, pier_side=known
        )
        failure = Failure("no_match", known, {}) if row.failure else None
        path = text.replace("/", "_") + f"_{number}.fits"
        row = replace(row, header=header, failure=failure, path=path, folder=text, order_flag=known, stream=known)
        one = replace(series(), object_name=known, filter_name=known, camera=known)
        store.commit_sub(SubCommit(row, None, None, one))
        alert = Alert(f"a{number}", "cloud", known, known, START_UTC_S + 310.0 * number)
        store.commit_alerts([alert], ["s1"], {}, "2026-11-21")
        for waiting in store.due(START_UTC_S + 1e7):
            store.failed(waiting.outbox_id, START_UTC_S, known, START_UTC_S + 2e7)
        store.count_ignored(f"/data/{number}", known)
    status = replace(alive(last_utc_s), folders=(FolderStatus(HOSTILE[0], "missing", HOSTILE[1]),), message=HOSTILE[2])
    store.beat(last_utc_s, status)
    yield folder
    store.close()


@pytest.mark.parametrize("columns", [46, 130])
def test_no_name_can_make_the_terminal_do_anything(hostile_store: Path, columns: int) -> None:
    with Terminal(hostile_store, columns, 40) as terminal:
        terminal.wait_for(lambda text: "canary" in text)
        # Down through all subs, into one of each kind and its pages, the chooser, filter, jump, cut-offs, help.
        terminal.press("gjjjjjjjjjjjjjjjjjjjjjjjjjjjj")
        terminal.press("w\r12345\x1b" + "k\r\t\t\t\x1b")
        terminal.press("b \x1b/[red]\r\x1bf[/\r" + "t\x1b?\x1b" + "xzranc")
        terminal.press("/\x15\r")
        assert terminal.process.poll() is None, terminal.text
        shown = terminal.text
        assert terminal.quit() == 0
        assert terminal.restored
    # The dashboard's own: the shape of the mouse pointer, a copied path as base64, the question about graphics.
    own = rb"\x1b\](?:22;[a-z-]*|52;c;[A-Za-z0-9+/=]+)\x07|\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
    body = re.sub(own, b"", terminal.sent)
    for forbidden in FORBIDDEN:
        at = body.find(forbidden)
        assert at < 0, (forbidden, body[max(at - 80, 0) : at + 40], shown)


def test_markup_of_names_is_shown_as_it_is(hostile_store: Path) -> None:
    with Terminal(hostile_store, 130, 40) as terminal:
        terminal.wait_for(lambda text: "canary" in text)
        terminal.press("/[red]\r")
        terminal.wait_for(lambda text: "[red]canary[_red]" in text)


@pytest.mark.parametrize(("columns", "rows"), [(30, 20), (46, 20), (80, 24), (160, 45), (20, 5)])
def test_every_size_shows_the_state_first(tmp_path: Path, columns: int, rows: int) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", columns, rows) as terminal:
        terminal.wait_for(lambda text: bool(re.search(r"NIGHT OF|DAEMON|CLEAR", text.splitlines()[0])))


@pytest.mark.parametrize("marker", ["braille", "ascii"])
def test_the_state_is_told_before_the_screen_opens_and_leaves_no_trace(tmp_path: Path, marker: str) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 46, 24, options=f", marker={marker!r}") as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        told = terminal.sent.split(b"\x1b[?1049h")[0].split(b"\x1b[c")[-1]
        begin, state, blank, rest = told.decode().split("\r")
        assert re.fullmatch(r"[■#] NIGHT OF 2026-11-21 .* ago *", state)
        assert state.isascii() == (marker == "ascii")
        assert (begin, blank, rest) == ("", " " * 45, "")


def test_resizing_a_hundred_times_and_hanging_up_leaves_no_process(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        for step in range(100):
            terminal.resize(20 + step * 7 % 150, 5 + step * 3 % 45)
        terminal.read(0.5)
        terminal.resize(80, 24)
        terminal.wait_for(lambda text: "kept" in text)
        terminal.process.send_signal(signal.SIGHUP)
        terminal.process.wait(60)


def test_a_window_that_is_dragged_slowly_is_drawn_at_its_first_and_its_last_size(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        terminal.read(1.0)
        before, late, stepped_s = len(terminal.sent), 0, time.monotonic()
        for step in range(50):
            terminal.resize(81 + step, 24)
            terminal.read(0.03)
            late += time.monotonic() - stepped_s > RESTS_S  # a busy machine: it may well have looked like a rest
            stepped_s = time.monotonic()
        on_the_way = len(terminal.sent) - before
        terminal.read(2.0)
        at_rest = len(terminal.sent) - before - on_the_way
        assert at_rest > 130 * 10, "the last size is drawn"
        assert on_the_way < (1.5 + late) * at_rest, "not again and again on the way"


def test_a_stopped_dashboard_goes_on_as_it_was(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        threads = Path(f"/proc/{terminal.process.pid}/task")
        before = len(list(threads.iterdir()))
        for _ in range(3):
            terminal.process.send_signal(signal.SIGSTOP)
            terminal.read(0.2)
            terminal.process.send_signal(signal.SIGCONT)
            terminal.read(0.5)
        assert len(list(threads.iterdir())) <= before, "more than one reads the keys"
        terminal.resize(130, 40)
        terminal.wait_for(lambda text: any(len(line.rstrip()) > 120 for line in text.splitlines()))
        assert terminal.quit() == 0
        assert terminal.restored


@pytest.mark.parametrize("delay_s", [0.0, 0.03, 0.06])
def test_a_dashboard_that_is_stopped_while_it_ends_still_ends(tmp_path: Path, delay_s: float) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        terminal.process.send_signal(signal.SIGHUP)
        terminal.cut()
        time.sleep(delay_s)
        terminal.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.process.wait(10)


def test_a_line_that_is_cut_without_a_signal_ends_the_dashboard(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        terminal.cut()
        assert terminal.process.wait(20) == 0


def test_the_dashboard_outlives_its_daemon_and_hears_of_the_next(tmp_path: Path) -> None:
    store, last_utc_s = night_store(tmp_path / "store")
    with Terminal(tmp_path / "store", 80, 24) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        store.close()
        terminal.read(1.0)
        with Store.open(tmp_path / "store", last_utc_s) as store:
            store.commit_sub(SubCommit(sub(61, START_UTC_S + 61 * 310, 0.5), None, None, series()))
            terminal.wait_for(lambda text: "61.fits" in text)
        assert terminal.quit() == 0
        assert terminal.restored


@pytest.mark.parametrize("keys", ["", "\r"], ids=["night", "sub"])
def test_a_second_that_passes_sends_one_line_and_not_the_screen(tmp_path: Path, keys: str) -> None:
    store, _ = night_store(tmp_path / "store")
    now_utc_s = time.time()
    store.commit_sub(SubCommit(sub(61, now_utc_s - 150.0, 1.0), None, None, series()))
    with Terminal(tmp_path / "store", 120, 36) as terminal:
        terminal.wait_for(lambda text: "61.fits" in text)
        terminal.press(keys)
        sent = []
        for _ in range(8):
            before = len(terminal.sent)
            terminal.read(2.0)
            sent.append(len(terminal.sent) - before)
            if 0 < sent[-1] < 2500:
                break
        assert 0 < sent[-1] < 2500, sent
    store.close()


def test_wrong_settings_end_the_dashboard_with_their_sentence(tmp_path: Path) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text("[limits]\ntransmision = 0.5\n")
    command = [sys.executable, "-m", "nsgd", "dashboard", "--config", str(settings), "--store", str(tmp_path)]
    with Terminal(tmp_path, 100, 30, command=command) as terminal:
        terminal.wait_for(lambda text: "did you mean transmission?" in text)
        assert terminal.process.wait(10) == 78
        assert terminal.restored


def test_no_color_sends_no_colour(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24, {"NO_COLOR": "1"}) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        colours = {tuple(map(int, found)) for found in re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", terminal.sent)}
        assert all(max(colour) - min(colour) <= 2 for colour in colours)


def test_sixteen_colours_are_enough(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 80, 24, {"TERM": "xterm", "COLORTERM": ""}) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        assert not re.search(rb"\x1b\[[0-9;]*[34]8;[25];", terminal.sent)


def test_a_dumb_terminal_gets_lines_without_escapes(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    with Terminal(tmp_path / "store", 80, 24, {"TERM": "dumb"}) as terminal:
        terminal.wait_for(lambda text: "60.fits" in text)
        store.commit_sub(SubCommit(sub(61, START_UTC_S + 61 * 310, 0.5), None, None, series()))
        cloud_alert(store, START_UTC_S + 61 * 310)
        terminal.wait_for(lambda text: "61.fits" in text and "alert" in text)
        terminal.process.send_signal(signal.SIGINT)
        terminal.process.wait(60)
    assert b"\x1b" not in terminal.sent.split(b"Traceback")[0]
    assert terminal.sent.split(b"Traceback")[0].isascii()
    store.close()


def test_ascii_graphs_use_ascii_only(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()
    with Terminal(tmp_path / "store", 100, 30, options=", marker='ascii'") as terminal:
        shown = terminal.wait_for(lambda text: "kept" in text)
        graph = "\n".join(shown.splitlines()[2:14])
        assert graph.isascii(), graph


def test_a_dashboard_writes_requests_and_nothing_else(tmp_path: Path) -> None:
    store, _ = night_store(tmp_path / "store")
    store.close()

    def content() -> dict[str, list[tuple[object, ...]]]:
        with closing(sqlite3.connect(tmp_path / "store" / "nsgd.db")) as connection, connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        connection.close()
        return found

    before = content()
    with Terminal(tmp_path / "store", 100, 30) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        terminal.press("xzratl\r")
        assert terminal.quit() == 0
    after = content()
    assert [row[1] for row in after.pop("requests")] == ["reject", "undo", "reference", "ack", "limits"]
    before.pop("requests")
    assert after == before


SIXEL = {b"\x1b[c": b"\x1b[?62;4;22c"}


@pytest.mark.parametrize(
    ("answers", "drawn"),
    [(SIXEL, rb"\x1bP[0-9;]*q"), ({b"\x1b[c": b"\x1b[?62;22c"}, rb"\xe2\x96\x80"), ({}, rb"\xe2\x96\x80")],
    ids=["sixel", "neither", "silent"],
)
def test_pictures_are_drawn_by_what_the_terminal_says_it_can(
    tmp_path: Path, answers: dict[bytes, bytes], drawn: bytes
) -> None:
    pytest.importorskip("textual_image")
    _, folder = measure_planted(tmp_path)
    with Terminal(folder, 100, 30, answers=answers) as terminal:
        terminal.wait_for(lambda text: "kept" in text)
        terminal.press("g\r")
        terminal.wait_for(lambda text: "Photometry" in text)
        before = len(terminal.sent)
        terminal.press("5")
        terminal.wait_for(lambda text: "corrected sub" in text)
        terminal.read(1.5)
        assert re.search(drawn, terminal.sent[before:])
        assert terminal.quit() == 0
