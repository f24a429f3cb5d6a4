"""The fleet view: the troubled rigs first, one opened shows its night, what changes is seen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rigs import DUSK_UTC_S, REPORT, commit, new_store, publishing, sub, wait_until
from textual.widgets import DataTable, Static

from nsgd.cli.entry import run_command
from nsgd.dashboard.fleet import FleetApp
from nsgd.dashboard.graphs import Graph
from nsgd.dashboard.rig_screen import RigScreen
from nsgd.fleet.link import link
from nsgd.fleet.publish import _PUT_STATE, state_values
from nsgd.fleet.read import FleetReader
from nsgd.fleet.schema import add_rig
from nsgd.records import Alert

NOW = DUSK_UTC_S + 300.0
CLEAR = {**REPORT, "state": "clear", "transmission": 0.99, "series": "M 31 L", "last_sub_utc_s": NOW - 42}
CLOUDY = {**CLEAR, "state": "cloudy", "cause": "cloud", "transmission": 0.31, "event_told": True}


def says(url: str, report: dict[str, object], now_utc_s: float = NOW) -> None:
    """A rig of this URL says how its sky is."""
    with link(url) as connection:
        connection.execute(_PUT_STATE.encode(), state_values(report, now_utc_s))


@pytest.fixture
def rigs(fleet_url: str) -> dict[str, str]:
    """Two sites: one rig clear, one under cloud, one silent for ten minutes; name -> URL."""
    with link(fleet_url) as connection:
        urls = {
            name: add_rig(connection, fleet_url, name, site)
            for name, site in (("alpha", "north"), ("beta", "south"), ("gamma", "south"))
        }
    says(urls["alpha"], CLEAR)
    says(urls["beta"], CLOUDY)
    says(urls["gamma"], CLEAR, NOW - 600.0)
    return urls


async def until(pilot: object, true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await pilot.pause(0.05)  # type: ignore[attr-defined]
    raise AssertionError("it never came true")


def text_of(app: FleetApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


def names(app: FleetApp) -> list[str]:
    return [str(key.value) for key in app.screen.query_one(DataTable).rows]


async def test_the_troubled_come_first_and_a_change_moves_them(fleet_url: str, rigs: dict[str, str]) -> None:
    app = FleetApp(lambda: FleetReader(fleet_url), clock=lambda: NOW)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: bool(app.rigs) and names(app) == ["beta", "gamma", "alpha"])
        assert text_of(app, "#state") == "3 rigs: 1 cloudy, 1 silent, 1 clear"
        assert text_of(app, "#counts") == "north: 1 clear   south: 1 cloudy, 1 silent"
        row = [str(cell) for cell in app.screen.query_one(DataTable).get_row("beta")]
        assert row == ["beta", "south", "✖ cloudy", "0.31", "M 31 L", "42 s", "cloud"]
        await asyncio.to_thread(says, rigs["beta"], CLEAR)
        await asyncio.to_thread(says, rigs["gamma"], CLEAR)
        await until(pilot, lambda: names(app) == ["alpha", "beta", "gamma"])
        await pilot.press("slash", *"nor", "enter")
        await until(pilot, lambda: names(app) == ["alpha"])
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 3)


async def test_an_opened_rig_shows_its_night_and_what_it_told(
    fleet_url: str, rigs: dict[str, str], tmp_path: Path
) -> None:
    alert = Alert("cloud-1", "cloud", "Cloud: 40 % of clear", "", DUSK_UTC_S + 60.0, urgent=True)
    with new_store(tmp_path) as store, publishing(store, rigs["beta"]):
        for number in range(12):
            commit(store, sub(number, 1.0 if number < 6 else 0.4), *([alert] if number == 7 else []))
        wait_until(lambda: len(night(fleet_url)) == 12)
    says(rigs["beta"], CLOUDY)
    app = FleetApp(lambda: FleetReader(fleet_url), clock=lambda: NOW)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: bool(app.rigs) and names(app)[0] == "beta")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RigScreen) and "kept" in text_of(app, "#counts"))
        figure = app.screen.query_one(Graph).figure
        assert figure is not None
        assert figure.bad is not None
        assert figure.bad.tolist() == [False] * 6 + [True] * 6
        assert text_of(app, "#counts") == "2026-11-21  6/12 kept  M 31 L"
        assert "Cloud: 40 % of clear" in text_of(app, "#alerts")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, RigScreen))


OPENED = """
import asyncio, sys, threading
from nsgd.dashboard.fleet import FleetApp
from nsgd.fleet.read import FleetReader

class Quiet(FleetReader):
    def changed(self, wait_s):
        threading.Event().wait()

async def opened():
    app = FleetApp(lambda: Quiet(sys.argv[1]))
    async with app.run_test() as pilot:
        while not app.rigs or app.screen.query_one("#rigs").row_count < 3:
            await pilot.pause(0.01)
        print(*sys.modules)

asyncio.run(opened())
"""


def test_the_fleet_is_shown_before_what_only_a_night_needs_is_loaded(fleet_url: str, rigs: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENED, fleet_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = {"textual.app", "psycopg", "numpy", "pydantic", "scipy", "sep", "astropy", "PIL", "tomllib", "sqlite3"}
    assert loaded & set(done.stdout.split()) == {"textual.app", "psycopg"}


def night(fleet_url: str) -> list[float]:
    with FleetReader(fleet_url) as reader:
        return reader.night("beta").utc_s.tolist()


def test_into_a_pipe_the_fleet_is_lines_of_text(
    fleet_url: str, rigs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["dashboard", "--fleet", rigs["alpha"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["alpha", "north", "#", "gone"], ["beta", "south", "#", "gone"], ["gamma", "south", "#", "gone"],
    ]  # fmt: skip
    assert run_command(["dashboard", "--fleet", "http://x"]) == 2
    assert "The fleet's address must be a URL like postgresql://" in capsys.readouterr().err
