"""Real subs of other people's nights: `nsgd measure` on files that no simulator made.

A part of the longest night runs by default; all of it with ``python -m pytest -m whole tests/e2e``. Where the
sample data is not there (a plain checkout) everything here skips.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsgd.measure.relate import measured_channels
from nsgd.measure.scale import Measured, solve
from nsgd.records import Floats
from nsgd.session.store import Reader

DATA = next((p / "shared" / "data" for p in Path(__file__).resolve().parents if (p / "shared" / "data").is_dir()), None)
FIRST_TEN = range(21, 31)
PART = [*FIRST_TEN, 50, 60, *range(69, 78), 90, *range(104, 111)]
"""Lights of the default run: the first ten, the dip and its neighbours, the clear end."""

needs_data = pytest.mark.skipif(DATA is None, reason="the sample subs (shared/data beside the checkout) are not here")
pytestmark = [needs_data, pytest.mark.timeout(300)]

Rows = list[dict[str, str]]


def measured(paths: Sequence[Path], out: Path) -> Rows:
    """What `nsgd measure` writes into subs.csv."""
    told = subprocess.run(
        [sys.executable, "-m", "nsgd", "measure", *map(str, paths), "--out", str(out)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    (out / "told.txt").write_text(told.stderr)
    with (out / "subs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sample(name: str) -> Path:
    assert DATA is not None
    return DATA / name


def column(rows: Rows, name: str) -> Floats:
    return np.array([float(row[name] or "nan") for row in rows])


def number(row: dict[str, str]) -> int:
    return int(Path(row["file"]).stem[-3:])


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Path]:
    """A part of the night with thin cloud, two darks among it."""
    out = tmp_path_factory.mktemp("tres1")
    lights = [sample("tres1") / f"tres1-{k:03d}.fit" for k in PART]
    darks = [sample("tres1") / f"tres1-{k:03d}d.fit" for k in (1, 2)]
    return measured([*lights, *darks], out), out


def assert_is_the_night_of_the_thin_cloud(rows: Rows) -> None:
    """The deepest dip, how deep it is, and how well it is known."""
    transmission = column(rows, "transmission")
    deepest = rows[int(np.argmin(transmission))]
    assert number(deepest) == 73
    assert deepest["date_obs"].startswith("2012-06-17T02:52")
    start = np.median([t for row, t in zip(rows, transmission, strict=True) if number(row) in FIRST_TEN])
    assert 1.0 - transmission.min() / start == pytest.approx(0.17, abs=0.025)
    relative_err = column(rows, "scale_err") / column(rows, "scale")
    assert np.median(relative_err) < 0.003
    assert relative_err.max() < 0.005


def test_every_light_is_measured_and_the_darks_are_ignored(night: tuple[Rows, Path]) -> None:
    rows, out = night
    assert len(rows) == len(PART)
    assert {row["status"] for row in rows} <= {"ok", "rejected"}
    assert "2 ignored (2 dark)" in (out / "told.txt").read_text()
    assert [number(row) for row in rows] == PART


def test_real_thin_cloud_is_deepest_where_it_was(night: tuple[Rows, Path]) -> None:
    assert_is_the_night_of_the_thin_cloud(night[0])


def test_measured_subs_have_finite_positive_figures(night: tuple[Rows, Path]) -> None:
    for name in ("scale", "transmission", "weight", "noise_adu", "fwhm_px"):
        values = column(night[0], name)
        assert np.isfinite(values).all()
        assert (values > 0).all()
    assert (column(night[0], "scale_err") >= 0).all()


def test_two_halves_of_the_stars_tell_the_same_transmission(night: tuple[Rows, Path]) -> None:
    """Chi-squared of the difference per sub, mean of three ways to halve the stars; errors that all stars share are
    left out, both halves have them."""
    with Reader.open(night[1]) as reader:
        (series,) = reader.series()
        catalogue = reader.catalogue(series.series_id)
        assert catalogue is not None
        numbers = [row.sub_id for row in reader.subs(series.series_id)]
        subs = [measured_channels(facts, None)[0] for _, facts in reader.iter_facts(numbers)]
    order = np.argsort(-catalogue.flux[: len(subs[0].flux), 0], kind="stable")
    quarters = [order[k::4] for k in range(4)]
    found = []
    for one, other in ((1, (2, 3)), (2, (1, 3)), (3, (1, 2))):
        halves = np.concatenate((quarters[0], quarters[one])), np.concatenate([quarters[k] for k in other])
        (first, first_err), (second, second_err) = (half_curve(subs, half) for half in halves)
        difference, variance = np.log(first / second), first_err**2 + second_err**2
        difference -= np.average(difference, weights=1.0 / variance)
        found.append(float(np.sum(difference**2 / variance) / (len(subs) - 1)))
    assert 0.6 < np.mean(found) < 1.6


def half_curve(subs: Sequence[Measured], stars: np.ndarray) -> tuple[Floats, Floats]:
    """Zero points of all subs from some of the stars, and their relative errors."""
    chosen = [
        replace(s, flux=s.flux[stars], sky_err=s.sky_err[stars], usable=s.usable[stars], common_err=0.0) for s in subs
    ]
    zeros = solve(chosen)[1]
    return np.array([z.value for z in zeros]), np.array([z.err / z.value for z in zeros])


def test_subs_with_almost_no_header_are_measured_and_ring_nobody(tmp_path: Path) -> None:
    rows = measured([sample("arp145")], tmp_path)
    assert len(rows) == 17
    assert {row["status"] for row in rows} == {"ok"}
    assert not {row["sky_state"] for row in rows} & {"cloudy", "obstructed", "dew", "no stars"}
    assert np.ptp(column(rows, "rotation_deg")) > 0.1


def test_filter_and_exposure_in_file_names_alone_make_four_series(tmp_path: Path) -> None:
    rows = measured([sample("m8_lrgb")], tmp_path)
    assert len(rows) == 32
    assert sorted({row["filter"] for row in rows}) == ["B", "G", "L", "R"]
    assert len({row["series"] for row in rows}) == 4
    assert {float(row["exposure_s"]) for row in rows} == {15.0}
    assert "failed" not in {row["status"] for row in rows}


def test_one_shot_colour_is_measured_in_three_channels(tmp_path: Path) -> None:
    rows = measured([sample("m27_rggb")], tmp_path)
    assert len(rows) == 6
    assert {row["status"] for row in rows} == {"ok"}
    for channel in "rgb":
        scale = column(rows, f"scale_{channel}")
        assert (np.abs(scale - 1.0) < 0.25).all()


@pytest.mark.whole
def test_the_whole_night_of_ninety_lights_and_five_darks(tmp_path: Path) -> None:
    rows = measured([sample("tres1")], tmp_path)
    assert len(rows) == 90
    assert "5 ignored (5 dark)" in (tmp_path / "told.txt").read_text()
    assert "failed" not in {row["status"] for row in rows}
    assert_is_the_night_of_the_thin_cloud(rows)
