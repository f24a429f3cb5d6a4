"""Make the README's pictures and the text screens that the tests compare with: python tests/dashboard/make_pictures.py

The night is made up and the clock stands, so the same program draws the same screens.
"""

from __future__ import annotations

import asyncio
import html
import re
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from measured import SLOPED, measure_planted
from nights import alive, night_store

from nsgd.dashboard.app import DashboardApp
from nsgd.dashboard.screens import NightScreen
from nsgd.dashboard.start import Terms
from nsgd.dashboard.themes import Marker
from nsgd.records import CutOffs
from nsgd.session.store import Reader, Store

HERE = Path(__file__).parent
SCREENS = HERE / "screens"
PICTURES = HERE.parents[1] / ".github"
TERMS = Terms(Path(), CutOffs(0.75, 0.25, 0.0, 0.6), ZoneInfo("UTC"))


@dataclass(frozen=True)
class Shot:
    """One screen: its name, size, and the keys that lead to it."""

    name: str
    columns: int
    rows: int
    keys: tuple[str, ...] = ()
    marker: Marker = Marker.BRAILLE


SHOTS = (
    Shot("night-46", 46, 24),
    Shot("night-80", 80, 24),
    Shot("night-160", 160, 45),
    Shot("night-80-ascii", 80, 24, marker=Marker.ASCII),
    Shot("night-30", 30, 20),
    Shot("cut-offs-80", 80, 30, ("t", *["H"] * 4)),
    Shot("help-80", 80, 45, ("question_mark",)),
)


async def shoot(store: Path, now_utc_s: float, shot: Shot) -> str:
    """The SVG of one screen."""
    app = DashboardApp(lambda: Reader.open(store), None, lambda: TERMS, shot.marker, clock=lambda: now_utc_s)
    async with app.run_test(size=(shot.columns, shot.rows)) as pilot:
        for _ in range(200):
            await pilot.pause(0.05)
            if isinstance(app.screen, NightScreen) and not app.screen.has_class("empty"):
                break
        for key in ("f", "3", "3", "enter", *shot.keys):
            await pilot.press(key)
        await pilot.pause(0.3)
        return app.export_screenshot(title="nsgd dashboard")


def words(svg: str, columns: int) -> str:
    """What an SVG screen says, as lines of text."""
    lines: dict[int, list[str]] = {}
    for x, line, text in re.findall(r'<text[^>]*\sx="([\d.]+)"[^>]*line-(\d+)\)[^>]*>([^<]*)</text>', svg):
        row = lines.setdefault(int(line), [" "] * columns)
        place = round(float(x) / 12.2)
        for offset, character in enumerate(html.unescape(text).replace("\xa0", " ")):
            if place + offset < columns:
                row[place + offset] = character
    return "\n".join("".join(lines.get(row, [])).rstrip() for row in range(max(lines, default=-1) + 1)) + "\n"


def portable(svg: str) -> str:
    """The picture without fonts from the network."""
    plain = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    return plain.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")


def in_a_night(use: Callable[[Path, float], Awaitable[None]]) -> None:
    """Make the night in a temporary store and use it at a moment shortly after its last sub."""
    with tempfile.TemporaryDirectory() as folder:
        store, last_utc_s = night_store(Path(folder) / "store")
        store.close()
        asyncio.run(use(Path(folder) / "store", last_utc_s + 42.0))


async def make_screens(store: Path, now_utc_s: float) -> None:
    SCREENS.mkdir(exist_ok=True)
    for shot in SHOTS:
        text = words(await shoot(store, now_utc_s, shot), shot.columns)
        (SCREENS / f"{shot.name}.txt").write_text(text, encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, shot in (("dashboard", Shot("", 120, 36)), ("dashboard-phone", Shot("", 46, 24))):
        (PICTURES / f"{name}.svg").write_text(portable(await shoot(store, now_utc_s, shot)), encoding="utf-8")


async def make_sub_picture(store: Path, now_utc_s: float) -> None:
    """The gradient page of a really measured sub."""
    app = DashboardApp(lambda: Reader.open(store), None, lambda: TERMS, clock=lambda: now_utc_s)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause(1.0)
        for key in ("g", *["down"] * SLOPED, "enter", "4"):
            await pilot.press(key)
            await pilot.pause(0.3)
        picture = portable(app.export_screenshot(title="nsgd dashboard"))
    (PICTURES / "dashboard-sub.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    in_a_night(make_screens)
    with tempfile.TemporaryDirectory() as folder:
        truth, store = measure_planted(Path(folder))
        now_utc_s = truth.subs[-1].start_utc_s + 102.0
        with Store.open(store, now_utc_s) as writer:
            writer.beat(now_utc_s, alive(now_utc_s))
        asyncio.run(make_sub_picture(store, now_utc_s))


if __name__ == "__main__":
    main()
