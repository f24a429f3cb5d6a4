"""The morning report: one file, nothing loaded, nothing that a header says is obeyed, and the right sums."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from live_night import SETTINGS, START_UTC_S, LiveNight, live_night, measure, night_truths
from PIL import Image

from nsgd.errors import ExportProblem
from nsgd.export.graphs import Axes, Point, compass, nice_step, over_time, padded_range, time_ticks
from nsgd.export.judged import Judged, judged
from nsgd.export.report import export_report
from nsgd.export.tally import cause_of, spells, tally
from nsgd.records import Alert, Failure, SkyState
from nsgd.session.store import Reader, Store

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def out(night: LiveNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with Reader.open(night.store) as reader:
        outcome = export_report(reader, folder, SETTINGS)
    assert outcome.summary == ("9 of 12 subs kept, 9 min of 12 min. Lost: 3 min, mostly to cloud (3 min).",)
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report_2025-11-22.html").read_text(encoding="utf-8"))


def test_the_page_says_what_the_night_gave(page: Page) -> None:
    for words in ("M 31 · 22 November 2025", "9 of 12 subs kept", "cloud 3 min", "Cloud over M 31", "s1: pending",
                  "chosen by nsgd", "FWHM", "transmission 0.3", "sub_006.fits", "6 of 9 subs, 6 min"):  # fmt: skip
        assert words in page.text


def test_times_are_those_of_the_site(page: Page) -> None:
    assert "21:00 to 21:13" in page.text  # 20:00 UTC in Berlin


def test_the_page_is_self_contained_and_loads_nothing(page: Page, out: Path) -> None:
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in (out / "report_2025-11-22.html").read_text(encoding="utf-8")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_every_graph_shows_every_measured_sub(page: Page, out: Path) -> None:
    text = (out / "report_2025-11-22.html").read_text(encoding="utf-8")
    graphs = re.findall(r"<svg viewBox.*?</svg>", text, re.DOTALL)
    assert len(graphs) == 6
    for graph in graphs:
        root = ET.fromstring(graph)
        dots = [e for e in root if e.get("class", "").startswith("dot")]
        crosses = [e for e in root if e.get("class", "").startswith("cross")]
        assert (len(dots), len(crosses)) == (9, 3)
        for element in root.iter():
            for name in ("x", "y", "cx", "cy"):
                assert -1 <= float(element.get(name, "0")) <= 481
    assert 'class="shade"' in graphs[0]
    assert 'class="cut"' in graphs[0]
    assert 'class="mark"' in graphs[0]


def test_the_graph_is_also_a_png(out: Path) -> None:
    with Image.open(out / "transmission_2025-11-22.png") as picture:
        assert picture.width >= 800


def test_hostile_names_are_shown_and_do_nothing(night: LiveNight, tmp_path: Path) -> None:
    shutil.copytree(night.store, tmp_path / "store")
    evil = '<img src=x onerror=alert(1)>"\x1b[31m</svg><script>'
    with Store.open(tmp_path / "store", START_UTC_S) as store:
        row = store.subs()[0]
        store.moved(row.sub_id, str(tmp_path / f"{evil.replace('/', '')}.fits"), str(tmp_path))
        store.commit_alerts([Alert("e", "cloud", evil, evil, START_UTC_S)], [evil], session="2025-11-22")
        export_report(store, tmp_path / "out", SETTINGS)
    text = (tmp_path / "out" / "report_2025-11-22.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in [tag for tag, _ in page.tags]
    assert not any(a.get("onerror") or a.get("src") == "x" for _, a in page.tags)
    assert "\x1b" not in text
    assert "onerror=alert(1)" in page.text


def test_a_night_is_chosen_by_name_and_an_unknown_one_refused(night: LiveNight, tmp_path: Path) -> None:
    with Reader.open(night.store) as reader:
        export_report(reader, tmp_path, SETTINGS, session="2025-11-22")
        with pytest.raises(ExportProblem, match="2025-11-22"):
            export_report(reader, tmp_path, SETTINGS, session="2001-01-01")
        with pytest.raises(ExportProblem, match="--force"):
            export_report(reader, tmp_path, SETTINGS)


def test_an_empty_store_is_one_clear_sentence(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", 0.0) as store, pytest.raises(ExportProblem, match="no subs yet"):
        export_report(store, tmp_path / "out", SETTINGS)


def test_subs_without_time_star_or_preview_still_make_a_page(
    night: LiveNight, tmp_path: Path, told: Callable[[int, int, str], None]
) -> None:
    shutil.copytree(night.store, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "previews", ignore_errors=True)
    with Store.open(tmp_path / "store", START_UTC_S) as store:
        row = store.subs()[2]
        failed = replace(row, sub_id=0, content_id="f" * 32, series_id=0, relation=None, noise_adu=(), sky_adu=(),
                         failure=Failure("no_match", "3 stars matched, 6 needed"), fwhm_px=float("nan"))  # fmt: skip
        from nsgd.session.store import SubCommit

        store.commit_sub(SubCommit(failed, None, None, None))
        export_report(store, tmp_path / "out", SETTINGS, progress=told)
    page = Page((tmp_path / "out" / "report_2025-11-22.html").read_text(encoding="utf-8"))
    assert "3 stars matched, 6 needed" in page.text
    assert "nan" not in page.text.split()


def page_without(keys: tuple[str, ...], folder: Path) -> Page:
    """The page of three clear subs whose headers lack all keywords that begin like these."""
    found = live_night(folder, night_truths()[:3])
    for path in found.paths:
        with fits.open(path, mode="update") as file:
            for key in [key for key in file[0].header if key.startswith(keys)]:
                del file[0].header[key]
    untold = replace(found, store=folder / "untold")
    measure(untold)
    with Reader.open(untold.store) as reader:
        export_report(reader, folder / "out", SETTINGS)
    (page,) = (folder / "out").glob("*.html")
    return Page(page.read_text(encoding="utf-8"))


def test_subs_are_counted_where_no_file_says_how_long_it_was_exposed(tmp_path: Path) -> None:
    page = page_without(("EXP",), tmp_path)
    assert "3 of 3 subs kept; the files do not say how long they were exposed." in page.text
    assert "of 3, exposure unknown" in page.text
    assert "ADU, mean of the frame" in page.text
    assert re.search(r"\d (min|h)\b", page.text) is None
    dots = [tag for tag, attributes in page.tags if tag == "circle" and str(attributes["class"]).startswith("dot")]
    assert len(dots) == 6 * 3


def test_no_time_is_shown_where_no_file_tells_one(tmp_path: Path) -> None:
    """The graphs count the subs, and no clock stands on the page."""
    text = page_without(("DATE", "MJD"), tmp_path).text
    assert "no times in the files" in text
    assert text.count("time unknown") == 3
    assert re.search(r"[0-9]{2}:[0-9]{2}", text) is None


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_real_browser_lays_the_page_out_without_side_scrolling(out: Path, tmp_path: Path) -> None:
    report = out / "report_2025-11-22.html"
    probe = tmp_path / "probe.html"
    probe.write_text(
        f"<iframe id=f src='{report.as_uri()}' style='width:390px;height:9000px;border:0'></iframe><script>"
        "f.onload=()=>{const d=f.contentDocument.documentElement;"
        "document.title=d.scrollWidth+' '+d.scrollHeight+' '+f.contentDocument.querySelectorAll('svg').length}"
        "</script>"
    )
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    measured = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert measured is not None
    assert int(measured[1]) <= 390
    assert int(measured[3]) == 7


# --- the sums --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(night: LiveNight) -> Judged:
    with Reader.open(night.store) as reader:
        return judged(reader, SETTINGS)


def test_hours_kept_and_lost_add_up(found: Judged) -> None:
    total = tally(found, found.rows)
    assert (total.subs, total.kept) == (12, 9)
    assert total.hours == pytest.approx(12 / 60)
    assert total.kept_hours + sum(total.lost.values()) == pytest.approx(total.hours)
    assert 0.9 * total.kept_hours < total.effective_hours <= total.kept_hours


def test_causes_are_named_by_what_happened(found: Judged) -> None:
    cloudy = next(row for row in found.rows if not found.accepted(row))
    assert cause_of(found, cloudy) == "cloud"
    assert cause_of(found, replace(cloudy, decision="reject")) == "rejected by you"
    frosty = replace(found, states={cloudy.sub_id: SkyState.DEW})
    assert cause_of(frosty, cloudy) == "dew or frost"
    verdict = replace(found.verdicts[cloudy.sub_id], reasons=("weight 0.10 below 0.25",))
    dim = replace(found, verdicts={cloudy.sub_id: verdict})
    assert cause_of(dim, cloudy) == "bright sky or noise"
    lost = replace(cloudy, failure=Failure("no_match", ""))
    assert cause_of(replace(found, states={}), lost) == "not measurable"


def test_a_spell_spans_its_exposures(found: Judged) -> None:
    (spell,) = spells(found, found.rows)
    assert spell.cause == "cloud"
    assert spell.begin_utc_s == pytest.approx(START_UTC_S + 70.0 * 5, abs=75.0)
    assert spell.lowest == pytest.approx(0.35, abs=0.02)


# --- graphs ----------------------------------------------------------------------------------------------------------


def axes(**changes: object) -> Axes:
    return replace(Axes(0.0, 3600.0, SETTINGS_ZONE, 0.0, 110.0), **changes)  # type: ignore[arg-type]


SETTINGS_ZONE = None


def test_axes_carry_few_round_numbers() -> None:
    assert nice_step(110, 5) == 25
    assert nice_step(0.37, 5) == pytest.approx(0.1)
    for span in np.geomspace(1e-6, 1e9, 40):
        assert 1 <= span / nice_step(span, 5) <= 5 * (1 + 1e-9)
    assert 2 <= len(time_ticks(axes())) <= 7
    assert 2 <= len(time_ticks(axes(end_utc_s=86400.0 * 2))) <= 7


def test_ranges_survive_single_and_missing_values() -> None:
    assert padded_range([float("nan")]) == (0.0, 1.0)
    low, high = padded_range([5.0])
    assert low < 5.0 < high
    assert padded_range([0.0, 10.0], 0.0)[0] == 0.0


def test_missing_values_are_left_out_and_wild_ones_stay_inside() -> None:
    points = [Point(10.0, float("nan"), "c-L", True, "a"), Point(20.0, 1e9, "c-L", False, "b<")]
    root = ET.fromstring(over_time(points, axes(), "x"))
    titles = [title.text for title in root.iter("title")]
    assert titles == ["b<"]
    ET.fromstring(compass([Point(float("inf"), 0.0, "c-L", True, "a")], "x", ""))
    ET.fromstring(compass([], "x", ""))
