"""The blink page: self-contained, inert, and working in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nsgd.errors import ExportProblem
from nsgd.export.blink import export_blink, page
from nsgd.session.store import Reader, Store
from nsgd.settings import Settings
from nsgd.simulate import night, sub_cards, sub_name, write_sub
from nsgd.walk import Walker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three measured subs, the last under cloud."""
    folder = tmp_path_factory.mktemp("blink")
    truth = night("cloud", 2, subs=3, width_px=480, height_px=360)
    with Store.open(folder / "store", 0.0) as store:
        walker = Walker(store, Settings(), None)
        for index, sub in enumerate(truth.subs):
            path = write_sub(folder / sub_name(truth, index, sub), truth.pixels(index), sub_cards(sub))
            commit = walker.walk(path, folder, truth.subs[-1].start_utc_s + 99.0)
            assert commit is not None
            walker.committed(commit, store.commit_sub(commit))
    return folder / "store"


@pytest.fixture(scope="module")
def blink_page(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "blink.html"
    with Reader.open(store_folder) as reader:
        return export_blink(reader, out, Settings())


def test_the_page_loads_nothing_from_anywhere(blink_page: Path) -> None:
    text = blink_page.read_text()
    assert not re.findall(r"<[^>]+(?:src|href)=", text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert text.count("data:image/webp;base64,") == 6
    assert "default-src 'none'" in text


def test_an_existing_page_is_not_overwritten_unasked(blink_page: Path, store_folder: Path) -> None:
    before = blink_page.read_bytes()
    with Reader.open(store_folder) as reader, pytest.raises(ExportProblem, match="exists"):
        export_blink(reader, blink_page, Settings())
    assert blink_page.read_bytes() == before


def test_a_store_without_previews_says_what_to_do(store_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    copy.mkdir()
    for name in ("nsgd.db", "nsgd.db-wal"):
        if (store_folder / name).exists():
            shutil.copy(store_folder / name, copy / name)
    with Reader.open(copy) as reader, pytest.raises(ExportProblem, match="previews_mb"):
        export_blink(reader, tmp_path / "blink.html", Settings())


HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'; rm -rf ~; '",
    "\u2028${document.title='owned'}`",
)


def hostile_page() -> bytes:
    subs = [
        {
            "id": number, "file": text, "status": text, "reasons": [text], "weight": 1.0, "transmission": None,
            "sky": 1.0, "diagonals": [None, 1.0], "fwhm": None, "ellipticity": None,
            "pictures": ["data:image/gif;base64,R0lGODlhAQABAAAAACw=", "data:image/gif;base64,R0lGODlhAQABAAAAACw="],
        }
        for number, text in enumerate(HOSTILE)
    ]  # fmt: skip
    return page([{"name": text, "reference": 0, "subs": subs} for text in HOSTILE])


def test_names_cannot_leave_their_strings() -> None:
    data = hostile_page().decode().split("const all = ", 1)[1].split(";\nconst $", 1)[0]
    assert "<" not in data
    assert "&" not in data


def browse(path: Path, keys: str = "") -> str:
    """The page's elements after keys were pressed in a real browser."""
    press = "".join(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}}}));" for key in keys)
    path.write_text(path.read_text().replace("</body>", f"<script>{press}</script></body>"))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom",
        f"--user-data-dir={path.parent / 'profile'}", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
def test_keys_walk_blink_bookmark_and_correct_in_a_real_browser(blink_page: Path, tmp_path: Path) -> None:
    def label(keys: str) -> str:
        copy = tmp_path / "page.html"
        copy.write_bytes(blink_page.read_bytes())
        found = re.search(r'<div id="label"[^>]*>([^<]*)</div>', browse(copy, keys))
        assert found is not None
        return found.group(1)

    names = re.findall(r'"file":"([^"]*)"', blink_page.read_text())
    assert "bookmark" in label("")
    walked = label("jj")
    assert names[2] in walked or names[1] in walked
    assert "bookmark" not in walked
    assert "bookmark" in label("jj ")
    assert "corrected" in label("u")
    assert "bookmark" in label("jm")


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
def test_hostile_names_are_shown_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(hostile_page())
    shown = browse(path, "jjj")
    assert "<title>nsgd blink</title>" in shown
    assert "&lt;/script&gt;" in shown
