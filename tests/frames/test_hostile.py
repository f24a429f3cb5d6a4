"""More than a hundred broken and hostile files: each ends as it should, soon, and within the budget."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from framefiles import write_fits
from hostile import CASES, PIXELS, Case, write_all

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames import worker
from nsgd.frames.read import is_whole, looks_unfinished, read_frame, read_header

BUDGET_MB = 256


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Case]]:
    return write_all(tmp_path_factory.mktemp("hostile"))


def outcome_of(path: Path) -> str:
    try:
        read_frame(path, budget_mb=BUDGET_MB)
    except UnreadableFrame as problem:
        return "retry" if problem.may_retry else "never"
    except NotASub as other:
        return other.kind
    return "frame"


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.name)[:60])
def test_every_hostile_file_ends_as_it_should(tmp_path: Path, case: Case) -> None:
    if case.suffix in (".tif", ".cr2", ".nef", ".arw", ".cr3"):
        pytest.importorskip("tifffile" if case.suffix == ".tif" else "rawpy")
    path = tmp_path / f"{case.name}{case.suffix}"
    case.make(path)
    begun_s = time.monotonic()
    assert is_whole(path, path.stat().st_size if path.exists() else 0) in (True, False, None)
    looks_unfinished(path)
    outcome = outcome_of(path)
    assert time.monotonic() - begun_s < 5.0
    assert outcome == case.outcome or (case.outcome == "unreadable" and outcome in ("retry", "never"))


def test_no_string_of_a_hostile_file_can_act(corpus: list[tuple[Path, Case]]) -> None:
    for path, case in corpus:
        if case.outcome != "frame":
            continue
        header = read_header(path)
        for text in (header.object_name, header.filter_name, header.camera, header.software):
            assert text.isprintable(), case.name
            assert len(text) <= 80


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_decoder_never_needs_more_than_the_budget(corpus: list[tuple[Path, Case]]) -> None:
    worker.decoder.close()
    compressed = [pair for pair in corpus if pair[1].suffix not in (".fits", ".exe")]
    own_before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_kb, begin_kb = 0, 0
    for path, _ in compressed:
        outcome_of(path)
        process = worker.decoder._process
        if process is None or process.poll() is not None:
            continue
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        high_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        begin_kb = begin_kb or high_kb
        peak_kb = max(peak_kb, high_kb)
    assert peak_kb > 0
    assert peak_kb * 1024 < BUDGET_MB * 1_000_000 * 1.1 + 150e6  # the interpreter, numpy and astropy themselves
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own_before_kb) * 1024 < BUDGET_MB * 1_000_000 * 1.1


def test_a_good_sub_after_them_all_is_read_at_once(tmp_path: Path, corpus: list[tuple[Path, Case]]) -> None:
    for path, _ in corpus:
        outcome_of(path)
    good = write_fits(tmp_path / "good.fits", PIXELS)
    begun_s = time.monotonic()
    assert outcome_of(good) == "frame"
    assert time.monotonic() - begun_s < 2.0
