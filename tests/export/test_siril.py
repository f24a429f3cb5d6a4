"""Siril stacks what was accepted; lists for other programs say the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from live_night import SETTINGS, LiveNight

from nsgd.errors import ExportProblem
from nsgd.export.siril import export_siril, sequence, stack_names
from nsgd.records import SeriesRow
from nsgd.session.store import Reader, Store

needs_siril = pytest.mark.skipif(shutil.which("siril-cli") is None, reason="Siril is not installed (apt install siril)")

ACCEPTED_L = [1, 2, 3, 5, 10, 11]


@pytest.fixture(scope="module")
def out(night: LiveNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siril")
    with Reader.open(night.store) as reader:
        outcome = export_siril(reader, folder, SETTINGS)
    assert set(outcome.summary) == {"M_31_L: 6 of 9 subs accepted", "M_31_Ha: 3 of 3 subs accepted"}
    assert outcome.warnings == ()
    return folder


def numbers(names: list[str]) -> list[int]:
    return [int(Path(name).stem.removeprefix("sub_")) for name in names]


def run_siril(script: Path) -> str:
    """Run a script in its folder; Siril keeps its settings in a home of its own."""
    home = script.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["siril-cli", "-d", str(script.parent), "-s", str(script)],
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        errors="replace",
    )
    assert "Script execution finished successfully" in done.stdout, done.stdout[-2000:]
    return done.stdout


def test_links_point_to_the_accepted_subs_and_touch_nothing(night: LiveNight, out: Path) -> None:
    links = sorted((out / "M_31_L" / "accepted").iterdir())
    assert numbers([link.resolve().name for link in links]) == ACCEPTED_L
    assert [link.name for link in links] == [f"sub_{n:05d}.fits" for n in range(1, 7)]
    assert len(list((out / "M_31_L" / "all").glob("sub_*.fits"))) == 9
    assert sorted(path.name for path in night.lights.iterdir()) == [path.name for path in night.paths]


def test_the_sequence_leaves_the_rejected_unselected(out: Path) -> None:
    text = (out / "M_31_L" / "all" / "sub_.seq").read_text()
    assert "S 'sub_' 1 9 6 5 0 3" in text
    flags = [line.split()[2] for line in text.splitlines() if line.startswith("I ")]
    assert "".join(flags) == "111100011"


@needs_siril
def test_real_siril_stacks_the_accepted_subs(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / "M_31_L", tmp_path / "M_31_L", symlinks=True)
    log = run_siril(tmp_path / "M_31_L" / "stack.ssf")
    assert "6 images have been stacked" in log
    stacked = fits.getdata(tmp_path / "M_31_L" / "stack.fit")
    assert stacked.shape == (400, 600)


@needs_siril
def test_real_siril_obeys_the_selection_of_our_sequence(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    shutil.copytree(out / "M_31_L" / "all", folder, symlinks=True)
    for path in folder.glob("*.fits"):
        path.rename(path.with_suffix(".fit"))
    (folder / "run.ssf").write_text("requires 1.0.0\nstack sub_ sum -filter-included -out=result\nclose\n")
    assert "6 images" in run_siril(folder / "run.ssf")


def test_the_list_of_accepted_files_uses_the_other_machines_paths(night: LiveNight, tmp_path: Path) -> None:
    with Reader.open(night.store) as reader:
        export_siril(reader, tmp_path / "out", SETTINGS, path_map=((night.lights.as_posix(), "Z:/lights"),))
    lines = (tmp_path / "out" / "M_31_L" / "accepted.txt").read_text().splitlines()
    assert lines == [f"Z:/lights/sub_{n:03d}.fits" for n in ACCEPTED_L]


def test_json_holds_figures_as_numbers_and_missing_ones_as_null(out: Path) -> None:
    rows = json.loads((out / "subs.json").read_text())
    assert len(rows) == 12
    first = rows[0]
    assert first["file"] == "sub_001.fits"
    assert isinstance(first["transmission"], float)
    assert first["scale_r"] is None
    assert first["status"] == "ok"
    assert (out / "subs.csv").is_file()


def test_a_second_export_replaces_only_when_asked(
    night: LiveNight, tmp_path: Path, told: Callable[[int, int, str], None]
) -> None:
    with Reader.open(night.store) as reader:
        export_siril(reader, tmp_path, SETTINGS, progress=told)
        with pytest.raises(ExportProblem, match="--force"):
            export_siril(reader, tmp_path, SETTINGS)
        export_siril(reader, tmp_path, SETTINGS, force=True)
    assert len(list((tmp_path / "M_31_L" / "accepted").iterdir())) == 6


def test_subs_that_moved_away_are_left_out_with_a_word(night: LiveNight, tmp_path: Path) -> None:
    shutil.copytree(night.store, tmp_path / "store")
    with Store.open(tmp_path / "store", 0.0) as store:
        gone = next(row for row in store.subs() if row.path.endswith("sub_002.fits"))
        store.moved(gone.sub_id, str(tmp_path / "elsewhere" / "sub_002.fits"), str(tmp_path / "elsewhere"))
        outcome = export_siril(store, tmp_path / "out", SETTINGS)
    assert any("1 subs are gone" in warning for warning in outcome.warnings)
    assert len(list((tmp_path / "out" / "M_31_L" / "accepted").iterdir())) == 5


def test_an_empty_store_is_one_clear_sentence(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", 0.0) as store, pytest.raises(ExportProblem, match="nothing to stack"):
        export_siril(store, tmp_path / "out", SETTINGS)


def test_series_of_one_name_get_folders_of_their_own() -> None:
    def series(number: int, name: str, filter_name: str) -> SeriesRow:
        return SeriesRow(number, "", name, filter_name, "", 1, 9, 9, ("L",), 0, False, -2.0, {}, 0, 0)

    names = stack_names(
        [series(1, "M 31", "L"), series(2, "m 31", "L"), series(3, "../x", "none"), series(4, "", "none")]
    )
    assert list(names.values()) == ["M_31_L", "m_31_L_2", "x", "subs"]


def test_a_sequence_begins_at_the_first_selected_image() -> None:
    assert "S 'r_' 1 3 1 5 2 3" in sequence("r_", [False, False, True])
