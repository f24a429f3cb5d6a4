"""The way of files through the rooms: what is committed, what a new reference changes, and what no order changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_nights import CAMERA, LATER_UTC_S, SETTINGS, START_UTC_S, by_name, field_of, sub_at, take, write

from nsgd.errors import BadRequest, UnreadableFrame
from nsgd.frames.preview import load_preview, make_preview
from nsgd.frames.read import read_frame
from nsgd.records import HeaderFacts, Relation, SubStatus
from nsgd.session.store import Store
from nsgd.settings import Settings
from nsgd.simulate import place, render, sub_cards, write_sub
from nsgd.simulate.files import Card
from nsgd.walk import Walker, final_series, ordering_time, outcomes, worker_pool

LIGHTS = (1.0, 0.95, 1.0, 0.6, 0.4, 1.0, 0.98, 1.0)
FIELD = field_of(1)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight subs of one field, two of them under cloud."""
    return write(tmp_path_factory.mktemp("night"), FIELD, [sub_at(k, light) for k, light in enumerate(LIGHTS)])


@pytest.fixture(scope="module")
def measured(night: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of that night, walked in order."""
    folder = tmp_path_factory.mktemp("measured")
    with Store.open(folder, LATER_UTC_S) as store:
        take(store, Walker(store, SETTINGS, None), night)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", LATER_UTC_S) as opened:
        yield opened


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of the measured night's store."""
    shutil.copytree(measured, tmp_path / "copy")
    with Store.open(tmp_path / "copy", LATER_UTC_S) as opened:
        yield opened


def relations(store: Store) -> dict[str, Relation]:
    return {name: row.relation for name, row in by_name(store.subs()).items() if row.relation is not None}


def cards(index: int) -> list[Card]:
    return sub_cards(sub_at(index))


# ---- one night -----------------------------------------------------------------------------------------


def test_a_night_is_one_series_with_its_planted_transmissions(copy: Store) -> None:
    (series, rows), *others = final_series(copy)
    assert others == []
    assert [row.failure for row in rows] == [None] * len(LIGHTS)
    walker = Walker(copy, SETTINGS, None)
    verdicts = walker.verdicts(series.series_id)
    found = [verdicts.of(row.sub_id).transmission for row in rows]
    np.testing.assert_allclose(found, np.array(LIGHTS), atol=0.03)
    status = [verdicts.of(row.sub_id).status for row in rows]
    assert [s is SubStatus.REJECTED for s in status] == [light < 0.75 for light in LIGHTS]


def test_a_sub_is_walked_once_and_a_copy_only_moves_its_path(copy: Store, night: list[Path], tmp_path: Path) -> None:
    walker, before = Walker(copy, SETTINGS, None), copy.subs()
    assert walker.walk(night[3], night[3].parent, LATER_UTC_S) is None
    assert [replace(row, change=0) for row in copy.subs()] == [replace(row, change=0) for row in before]
    renamed = Path(shutil.copy(night[3], tmp_path / "LIGHT_renamed.fits"))
    assert walker.walk(renamed, tmp_path, LATER_UTC_S) is None
    assert len(copy.subs()) == len(before)
    assert copy.find_sub("LIGHT_renamed.fits")[0].relation == before[3].relation


def test_a_restart_goes_on_with_the_same_figures(night: list[Path], store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "straight", LATER_UTC_S) as straight:
        take(straight, Walker(straight, SETTINGS, None), night)
        wanted = relations(straight)
    for path in night:  # a new memory for every sub
        take(store, Walker(store, SETTINGS, None), [path])
    found = relations(store)
    assert found.keys() == wanted.keys()
    for name, relation in found.items():
        error = np.hypot(relation.scale_err[0], wanted[name].scale_err[0]) + 1e-4
        assert abs(relation.scale[0] - wanted[name].scale[0]) < error


def test_a_series_of_an_older_recipe_is_left_alone_and_the_field_begins_anew(night: list[Path], store: Store) -> None:
    walker = Walker(store, SETTINGS, None)
    commit = walker.walk(night[0], night[0].parent, LATER_UTC_S)
    assert commit is not None
    assert commit.catalogue is not None
    older = replace(commit.catalogue, recipe=commit.catalogue.recipe - 1, profile=commit.catalogue.profile[:, :-3])
    store.commit_sub(replace(commit, catalogue=older))
    take(store, Walker(store, SETTINGS, None), night[1:3])
    rows = store.subs()
    assert [row.failure for row in rows] == [None] * 3
    assert rows[0].series_id != rows[1].series_id == rows[2].series_id


@pytest.mark.parametrize("seed", [1, 2])
def test_another_order_of_arrival_gives_the_same_figures_within_their_errors(
    measured: Path, night: list[Path], store: Store, seed: int
) -> None:
    shuffled = [night[k] for k in np.random.default_rng(seed).permutation(len(night))]
    take(store, Walker(store, SETTINGS, None), shuffled)
    with Store.open(measured, LATER_UTC_S) as straight:
        wanted = {name: (series, row) for series, rows in final_series(straight) for name, row in by_name(rows).items()}
    ((series, rows),) = final_series(store)
    reference = by_name(rows)[Path(straight_reference(wanted)).name].relation
    assert reference is not None
    for name, row in by_name(rows).items():
        old = wanted[name][1].relation
        assert row.relation is not None
        assert old is not None
        # the same sub stands for both, whichever reference each of them chose
        scale = row.relation.scale[0] / reference.scale[0]
        error = 1.5 * np.hypot(row.relation.zero_err[0] / row.relation.zero[0], old.zero_err[0] / old.zero[0])
        assert scale == pytest.approx(old.scale[0], rel=float(error) + 1e-6)
        assert row.noise_adu == pytest.approx(wanted[name][1].noise_adu, rel=2e-3)
    assert series.generation >= 1


def straight_reference(wanted: dict[str, tuple[object, object]]) -> str:
    """Path of the reference of the night that was walked in order."""
    rows = {row.sub_id: row for _, row in wanted.values()}  # type: ignore[attr-defined]
    series = next(iter(wanted.values()))[0]
    return str(rows[series.reference_id].path)  # type: ignore[attr-defined]


def test_the_same_files_in_the_same_order_give_the_same_rows(measured: Path, night: list[Path], store: Store) -> None:
    take(store, Walker(store, SETTINGS, None), night)
    with Store.open(measured, LATER_UTC_S) as other:
        assert [replace(row, measure_s=0.0) for row in store.subs()] == [
            replace(row, measure_s=0.0) for row in other.subs()
        ]


def test_a_backlog_on_two_workers_gives_the_rows_of_one_by_one(measured: Path, night: list[Path], store: Store) -> None:
    walker = Walker(store, SETTINGS, None)
    with worker_pool(2) as pool:
        for _, folder, outcome in outcomes(walker, [(path, path.parent) for path in night], pool, ahead=3):
            commit = walker.take(outcome, folder, LATER_UTC_S)
            assert commit is not None
            walker.committed(commit, store.commit_sub(commit))
    with Store.open(measured, LATER_UTC_S) as other:
        assert [replace(row, measure_s=0.0) for row in store.subs()] == [
            replace(row, measure_s=0.0) for row in other.subs()
        ]


# ---- what people decide --------------------------------------------------------------------------------


def test_a_reference_chosen_and_chosen_back_leaves_the_same_relations(copy: Store) -> None:
    walker = Walker(copy, SETTINGS, None)
    walker.set_reference(1, 1)
    before = relations(copy)
    walker.set_reference(1, 6)
    between = relations(copy)
    walker.set_reference(1, 1)
    after = relations(copy)
    name = Path(copy.sub(6).path).name
    assert (between[name].scale, between[name].weight, between[name].gradient_rms_adu) == ((1.0,), (1.0,), 0.0)
    for key, relation in after.items():
        assert relation.scale == pytest.approx(before[key].scale, rel=1e-12)
        assert relation.weight == pytest.approx(before[key].weight, rel=1e-12)
        assert relation.gradient_rms_adu == pytest.approx(before[key].gradient_rms_adu, rel=1e-9, abs=1e-9)
        # scales against two references differ by one factor
        assert between[key].scale[0] / before[key].scale[0] == pytest.approx(1.0 / before[name].scale[0], rel=1e-9)


def test_a_reference_needs_no_pixel(measured: Path, night: list[Path], tmp_path: Path) -> None:
    shutil.copytree(measured, tmp_path / "copy")
    hidden = night[0].parent.rename(night[0].parent.with_name("elsewhere"))
    try:
        with Store.open(tmp_path / "copy", LATER_UTC_S) as store:
            Walker(store, SETTINGS, None).set_reference(1, 3)
            assert store.sub(3).relation.scale == (1.0,)  # type: ignore[union-attr]
    finally:
        hidden.rename(night[0].parent)


def test_the_best_reference_is_a_clear_sub_and_says_why(copy: Store) -> None:
    walker = Walker(copy, SETTINGS, None)
    why = walker.set_reference(1, None)
    index = int(Path(copy.sub(walker.series_row(1).reference_id).path).stem[-3:])
    assert LIGHTS[index] > 0.9
    assert all(word in why for word in ("weight", "transmission", "FWHM", "ellipticity"))


def test_a_sub_that_is_not_there_cannot_be_the_reference(copy: Store) -> None:
    with pytest.raises(BadRequest, match="sub 77 is not measured"):
        Walker(copy, SETTINGS, None).set_reference(1, 77)


def test_another_smoothness_changes_the_gradient_and_nothing_else(copy: Store) -> None:
    walker = Walker(copy, SETTINGS, None)
    before = relations(copy)
    walker.set_smoothness(1, 4.0)
    for name, relation in relations(copy).items():
        assert relation.scale == before[name].scale
        assert relation.weight == before[name].weight
    walker.set_smoothness(1, SETTINGS.measure.smoothness)
    again = relations(copy)
    for name in before:
        assert again[name].gradient_rms_adu == pytest.approx(before[name].gradient_rms_adu, rel=1e-9, abs=1e-9)


def test_limits_and_decisions_of_a_person_rule(copy: Store) -> None:
    walker = Walker(copy, SETTINGS, None)
    cloudy = copy.find_sub("Sim_003.fits")[0].sub_id
    assert walker.verdicts(1).of(cloudy).status is SubStatus.REJECTED
    walker.set_limits(1, {"transmission": 0.3, "weight": 0.0})
    assert walker.verdicts(1).of(cloudy).status is SubStatus.OK
    walker.set_decision(cloudy, "reject")
    assert Walker(copy, SETTINGS, None).verdicts(1).of(cloudy).status is SubStatus.REJECTED


# ---- failures ------------------------------------------------------------------------------------------


def test_failures_are_rows_with_their_kind_and_numbers(copy: Store, tmp_path: Path) -> None:
    walker = Walker(copy, SETTINGS, None)
    dark_cloud = write(tmp_path, FIELD, [sub_at(20, 0.0003)], first=20)
    blank = write_sub(tmp_path / "LIGHT" / "Sim_021.fits", np.full((400, 600), 900, np.uint16), cards(21))
    take(copy, walker, [*dark_cloud, blank])
    rows = by_name(copy.subs())
    failures = {name: rows[name].failure for name in ("Sim_020.fits", "Sim_021.fits")}
    assert [failure.kind for failure in failures.values() if failure] == ["no_stars", "blank"]
    assert failures["Sim_020.fits"] is not None
    assert failures["Sim_020.fits"].numbers["stars_detected"] < 6
    assert {rows[name].series_id for name in failures} == {1}
    verdict = walker.verdicts(1).of(rows["Sim_020.fits"].sub_id)
    assert verdict.status is SubStatus.FAILED
    assert "no_stars" in verdict.reasons[0]


def test_what_is_no_sub_is_counted_and_what_cannot_be_read_is_raised(store: Store, tmp_path: Path) -> None:
    dark = [("IMAGETYP", "DARK", "") if card[0] == "IMAGETYP" else card for card in cards(0)]
    path = write_sub(tmp_path / "dark.fits", np.full((400, 600), 900, np.uint16), dark)
    walker = Walker(store, SETTINGS, None)
    assert walker.walk(path, tmp_path, LATER_UTC_S) is None
    assert store.ignored() == {"dark": 1}
    broken = tmp_path / "broken.fits"
    light = write_sub(tmp_path / "light.fits", np.full((400, 600), 900, np.uint16), cards(0))
    broken.write_bytes(light.read_bytes()[:9000])
    with pytest.raises(UnreadableFrame):
        walker.walk(broken, tmp_path, LATER_UTC_S)
    assert store.subs() == []


def test_masters_of_the_settings_are_applied_and_named_and_a_wrong_one_is_a_failure(tmp_path: Path) -> None:
    lights = write(tmp_path, FIELD, [sub_at(0), sub_at(1)])
    bias = np.full((400, 600), 100, np.uint16)
    for name, gain in (("dark.fits", 100), ("other.fits", 200)):
        changed = {"IMAGETYP": "DARK", "GAIN": gain}
        write_sub(tmp_path / name, bias, [(key, changed.get(key, value), text) for key, value, text in cards(0)])
    for name, kind in (("dark.fits", None), ("other.fits", "calibration")):
        settings = Settings.model_validate({"calibration": {"dark": str(tmp_path / name)}})
        with Store.open(tmp_path / f"store-{name}", LATER_UTC_S) as store:
            take(store, Walker(store, settings, None), lights)
            rows = store.subs()
            assert [row.failure.kind if row.failure else None for row in rows] == [kind] * 2
            if kind is None:
                facts = store.facts(rows[0].sub_id)
                assert facts is not None
                assert facts.calibration == "dark.fits"
                assert facts.sky_adu[0] == pytest.approx(8.0 * 60.0 / CAMERA.egain_e_per_adu, rel=0.02)
            else:
                assert "the master dark has gain 200.0, this sub 100.0" in rows[0].failure.sentence


def test_a_night_that_begins_in_cloud_is_measured_once_stars_show(store: Store, tmp_path: Path) -> None:
    lights = (0.0003, 0.0003, 0.15, 1.0, 1.0)
    paths = write(tmp_path, FIELD, [sub_at(k, light) for k, light in enumerate(lights)])
    walker = Walker(store, SETTINGS, None)
    take(store, walker, paths)
    rows = by_name(store.subs())
    assert [rows[path.name].failure is None for path in paths] == [False, False, True, True, True]
    row = walker.series_row(rows["Sim_004.fits"].series_id)
    catalogue = store.catalogue(row.series_id)
    assert catalogue is not None
    assert catalogue.generation == 2
    kept = {name: row.relation for name, row in rows.items() if row.relation is not None}
    ratio = kept["Sim_002.fits"].zero[0] / kept["Sim_004.fits"].zero[0]
    assert ratio == pytest.approx(0.15, rel=0.05)


# ---- series --------------------------------------------------------------------------------------------


def test_a_new_field_in_the_same_folder_is_its_own_series_with_its_first_sub(store: Store, tmp_path: Path) -> None:
    """The camera moved on to another panel and the headers know of no telescope."""
    there = write(tmp_path / "a", FIELD, [sub_at(k) for k in range(4)])
    here = write(tmp_path / "b", field_of(77), [sub_at(k) for k in range(4, 8)], first=4)
    for path in (*there, *here):
        without_pointing(path)
    walker = Walker(store, SETTINGS, None)
    take(store, walker, [*there, *here])
    assert walker.again() == [(here[0], here[0].parent)]
    take(store, walker, [path for path, _ in walker.again()])
    assert walker.again() == []
    rows = by_name(store.subs())
    assert [rows[path.name].series_id for path in [*there, *here]] == [1] * 4 + [2] * 4
    assert all(row.failure is None for row in rows.values())
    assert store.series()[0].key != store.series()[1].key
    assert len(rows) == 8


def without_pointing(path: Path) -> None:
    with fits.open(path, mode="update") as file:
        for key in ("RA", "DEC", "OBJCTRA", "OBJCTDEC"):
            file[0].header.remove(key, ignore_missing=True)


def test_a_field_that_is_lost_while_the_header_points_at_it_founds_no_series(store: Store, tmp_path: Path) -> None:
    """The mount has jumped to other stars, which stand still there; the header repeats where it should point."""
    there = write(tmp_path / "a", FIELD, [sub_at(k) for k in range(4)])
    lost = write(tmp_path / "b", field_of(77), [sub_at(k) for k in range(4, 8)], first=4)
    walker = Walker(store, SETTINGS, None)
    take(store, walker, [*there, *lost])
    rows = by_name(store.subs())
    assert len(store.series()) == 1
    assert [rows[path.name].failure.kind for path in lost] == ["no_match"] * 4  # type: ignore[union-attr]
    assert walker.again() == []


@pytest.mark.parametrize("change", ["object", "filter"])
def test_another_object_or_filter_is_another_series(store: Store, tmp_path: Path, change: str) -> None:
    other = {"object_name": "M 31"} if change == "object" else {}
    first = write(tmp_path / "a", FIELD, [sub_at(0), sub_at(1)])
    truths = [sub_at(k, **({"filter_name": "R"} if change == "filter" else {})) for k in (2, 3)]
    second = write(tmp_path / "b", FIELD, truths, first=2, **other)
    take(store, Walker(store, SETTINGS, None), [first[0], second[0], first[1], second[1]])
    rows = by_name(store.subs())
    assert [rows[path.name].series_id for path in (*first, *second)] == [1, 1, 2, 2]


def test_two_exposures_share_one_reference(store: Store, tmp_path: Path) -> None:
    truths = [sub_at(k, exposure_s=60.0 if k % 2 else 20.0) for k in range(6)]
    take(store, Walker(store, SETTINGS, None), write(tmp_path, FIELD, truths))
    (series,) = store.series()
    rows = by_name(store.subs())
    assert len({row.stream for row in rows.values()}) == 2
    ratio = rows["Sim_003.fits"].relation.scale[0] / rows["Sim_002.fits"].relation.scale[0]  # type: ignore[union-attr]
    assert ratio == pytest.approx(1.0 / 3.0, rel=0.02)
    assert series.channels == ("L",)


def test_a_field_that_drifts_off_its_catalogue_is_carried_on(store: Store, tmp_path: Path) -> None:
    truths = [sub_at(k, transform=place(CAMERA, -70.0 * k, 10.0 * k)) for k in range(6)]
    take(store, Walker(store, SETTINGS, None), write(tmp_path, FIELD, truths))
    assert [row.failure for row in store.subs()] == [None] * 6
    catalogue = store.catalogue(1)
    assert catalogue is not None
    assert catalogue.generation > 1
    zeros = np.array([row.relation.zero[0] for row in store.subs() if row.relation])
    np.testing.assert_allclose(zeros / zeros[0], 1.0, atol=0.03)


# ---- time ----------------------------------------------------------------------------------------------


def test_subs_without_a_believable_time_are_ordered_by_their_arrival() -> None:
    now = START_UTC_S
    assert ordering_time(HeaderFacts(mid_utc_s=now - 60.0), now) == (now - 60.0, "")
    assert ordering_time(HeaderFacts(), now) == (now, "no time in the header")
    assert ordering_time(HeaderFacts(mid_utc_s=now + 1e6), now)[0] == now
    assert ordering_time(HeaderFacts(mid_utc_s=1000.0), now)[0] == now


def test_the_site_of_the_settings_gives_an_airmass_where_the_header_has_none(store: Store, tmp_path: Path) -> None:
    bare = [card for card in cards(0) if card[0] not in ("SITELAT", "SITELONG", "AIRMASS", "CENTALT")]
    pixels = render(FIELD, sub_at(0), np.random.default_rng(3))
    path = write_sub(tmp_path / "LIGHT" / "bare.fits", pixels, bare)
    settings = Settings.model_validate({"site": {"latitude_deg": 48.2, "longitude_deg": 11.6}})
    take(store, Walker(store, settings, None), [path])
    header = store.subs()[0].header
    assert header.airmass is not None or header.altitude_deg is not None


@pytest.mark.parametrize("bayer", ["", "RGGB"])
def test_the_small_picture_of_a_large_sub_shows_every_place_where_it_is(tmp_path: Path, bayer: str) -> None:
    """From the second sub on it is made of the averaged planes that the measuring has made."""
    camera = replace(CAMERA, width_px=3600, height_px=2400, bayer=bayer)
    paths = write(tmp_path / "large", field_of(8, 300, camera), [sub_at(k, camera=camera) for k in range(2)])
    with Store.open(tmp_path / "store", LATER_UTC_S) as store:
        take(store, Walker(store, SETTINGS, None), paths)
        for path, row in zip(paths, store.subs(), strict=True):
            kept, whole = load_preview(store.preview_path_of(row.content_id)), make_preview(read_frame(path))
            assert kept is not None
            assert kept.channels == whole.channels
            assert 700 <= max(kept.pixels.shape) <= 1024
            x, y = np.meshgrid(np.linspace(100.0, 3500.0, 40), np.linspace(100.0, 2300.0, 30))
            assert np.median(np.abs(kept.at(x, y) - whole.at(x, y))) < 2.0 * row.noise_adu[0]
            brightest = np.unravel_index(np.nanargmax(kept.pixels[..., 0]), kept.pixels.shape[:2])
            same = np.unravel_index(np.nanargmax(whole.pixels[..., 0]), whole.pixels.shape[:2])
            places = [(i * p.step_px + p.origin_x_px, j * p.step_px + p.origin_y_px)
                      for (j, i), p in ((brightest, kept), (same, whole))]  # fmt: skip
            assert np.abs(np.subtract(*places)).max() <= 8.0
