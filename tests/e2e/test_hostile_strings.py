"""Hostile headers and file names, from real files through the real commands to every sink: nothing acts.

The terminal of the dashboard has its own test on a real screen (tests/dashboard/test_dashboard_terminal.py).
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nsgd.simulate.scene import Camera, SubTruth, place, render
from nsgd.simulate.stars import star_field

pytestmark = pytest.mark.e2e

STRINGS = (
    "\x1b]0;owned\x07", "\x1b[31mred", "\x1b[2J\x1b[H", "\x9b31m", "\x1bP+q544e\x1b\\", "\x1b]52;c;ZXZpbA==\x07",
    "\x1b_Gi=1;x\x1b\\", "\x1b[?1049h", "\x1b[6n", "\x1bc", "\x07bell", "back\x08\x08", "line\nnew", "return\rback",
    "tab\tstop", "\x0b\x0c", "\x7fdel", "\x85nel", "\u2028line", "\u2029paragraph", "\u202ertl\u202c",
    "\u2066isolate\u2069", "\u200bzero\u200d", "\ufeffbom", "\u00adsoft", "\U000e0041tag", "\ufffe",
    "Z\u0338\u0321\u0322",
    "[red]x[/red]", "[/", "[@click=app.quit]x[/]", "[link=http://x]y[/link]", "[type=x, v={'a[0]'}]", "{0}", "%s%n%d",
    "${HOME}", "$(reboot)", "`reboot`", "; rm -rf ~ ;", "| mail evil", "&& reboot", "-rf", "--help", "~root",
    "../../../etc/cron.d/x", "..\\..\\windows", "/etc/passwd", "C:\\x", "CON", "NUL.fits", ".hidden", "a:b",
    "=cmd|' /C calc'!A1", "+1+cmd|x", "-2+3", "@SUM(A1)", "=HYPERLINK(\"http://x\")", "'quote", "\"double\"", ",;|",
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!DOCTYPE x>", "]]>", "&amp;&lt;", "<!--",
    "javascript:alert(1)", "'; DROP TABLE sub; --", "\" OR 1=1", "@everyone", "*bold*_x_~y~", "# title", "x" * 68,
    "NaN", "None", "null", "é" * 20, "星" * 20,
)  # fmt: skip
SUBS = -(-len(STRINGS) // 4)
"""Each string is a file name, an object, a filter or a camera of one sub."""
SIDE = (300, 200)


def write_fits(path: Path, pixels: np.ndarray, cards: dict[str, str]) -> None:
    lines = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", f"NAXIS1  = {SIDE[0]}", f"NAXIS2  = {SIDE[1]}",
             "BZERO   = 32768", "EXPTIME = 60.0"]  # fmt: skip
    text = b"".join(line.encode().ljust(80) for line in lines)
    for key, value in cards.items():
        raw = value.replace("'", "''").encode("utf-8", "surrogateescape")[:66]
        text += (f"{key:<8}= '".encode() + raw + b"'")[:80].ljust(80)
    text += b"END".ljust(80)
    raw_pixels = (pixels.astype(np.int32) - 32768).astype(">i2").tobytes()
    path.write_bytes(
        text.ljust(-(-len(text) // 2880) * 2880) + raw_pixels.ljust(-(-len(raw_pixels) // 2880) * 2880, b"\0")
    )


def name_of(number: int, text: str) -> str:
    """A file name that holds the text, as far as a file system allows."""
    kept = text.replace("/", "\u2215").replace("\0", "")
    raw = os.fsencode(kept)[:150]
    return f"{number:03d} {os.fsdecode(raw)}.fits"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(capture folder, folder of results) after `nsgd measure`."""
    assert len(STRINGS) >= 60
    captures, out = tmp_path_factory.mktemp("captures"), tmp_path_factory.mktemp("results") / "out"
    camera = Camera(width_px=SIDE[0], height_px=SIDE[1])
    field = star_field(np.random.default_rng(1), stars=60, width_px=SIDE[0], height_px=SIDE[1], flux_e_s=(60.0, 3000.0))
    pictures = [
        render(field, SubTruth(camera, 1.8e9, transform=place(camera, 3.0 * n, 2.0 * n)), np.random.default_rng(2 + n))
        for n in range(4)
    ]
    for number in range(SUBS):
        name, *values = (STRINGS[(number + shift * SUBS) % len(STRINGS)] for shift in range(4))
        cards = dict(zip(("OBJECT", "FILTER", "INSTRUME"), values, strict=True))
        moment = f"2026-11-22T20:{number:02d}:00"
        write_fits(captures / name_of(number, name), pictures[number % 4], {**cards, "DATE-OBS": moment})
    done = nsgd("measure", str(captures), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return captures, out


def nsgd(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([sys.executable, "-m", "nsgd", *arguments], capture_output=True, check=False, timeout=110)
    assert_inert(done.stdout)
    assert_inert(done.stderr)
    return done


def assert_inert(output: bytes) -> None:
    """No control, bidi or zero-width character but line ends reaches a terminal or a file."""
    text = output.decode("utf-8")
    forbidden = re.search(
        r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]", text
    )
    assert forbidden is None, repr(text[max(0, forbidden.start() - 60) : forbidden.end() + 20])


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_sub_is_in_the_table_and_no_cell_is_a_formula(night: tuple[Path, Path]) -> None:
    table = (night[1] / "subs.csv").read_bytes()
    assert_inert(table)
    rows = list(csv.reader(table.decode().splitlines()))
    assert len(rows) == 1 + SUBS
    for cell in (cell for row in rows for cell in row):
        if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
            float(cell)  # a number may begin with a sign


def test_programs_read_valid_json(night: tuple[Path, Path]) -> None:
    done = nsgd("status", "--json", "--store", str(night[1]))
    assert done.returncode == 0
    json.loads(done.stdout, parse_constant=pytest.fail)
    assert nsgd("status", "--store", str(night[1])).returncode == 0


class Scripts(HTMLParser):
    """Counts what a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.handlers += [value or "" for key, value in attrs if key.startswith("on") and "alert" in (value or "")]
        self.handlers += [value or "" for key, value in attrs if (value or "").startswith("javascript:")]


@pytest.mark.parametrize("command", [("export", "report"), ("blink",)])
def test_pages_run_nothing_that_a_header_says(
    night: tuple[Path, Path], tmp_path: Path, command: tuple[str, ...]
) -> None:
    target = tmp_path / ("blink.html" if command == ("blink",) else "report")
    done = nsgd(*command, "--out", str(target), "--store", str(night[1]))
    assert done.returncode == 0, done.stderr
    pages = [path for path in [target, *tmp_path.rglob("*")] if path.is_file() and path.suffix == ".html"]
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        reader = Scripts()
        reader.feed(text)
        assert reader.handlers == []
        assert "<script>alert" not in text
        assert "<img src=x" not in text


@pytest.mark.parametrize("kind", ["csv", "siril"])
def test_exports_stay_in_their_folder_with_harmless_names(night: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    target = tmp_path / "deep" / "inside" / "out"
    done = nsgd("export", kind, "--out", str(target), "--store", str(night[1]))
    assert done.returncode == 0, done.stderr
    assert files_below(target)
    outside = [path for path in files_below(tmp_path) if target not in path.parents]
    assert outside == []
    for path in files_below(target):
        assert path.name.isprintable()
        assert not path.name.startswith(("-", "~"))
        if kind == "csv":
            assert_inert(path.read_bytes())


def test_the_capture_folder_is_as_it_was(night: tuple[Path, Path]) -> None:
    assert len(list(night[0].iterdir())) == SUBS
