"""The hand-off to PixInsight on simulated registered sets whose scale and gradient are known."""

from __future__ import annotations

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xisf
import xmlschema
from astropy.io import fits
from registered_frames import START_UTC_S, RegisteredSet, cloudy_truths, header_of, registered_set

from nsgd.errors import ExportProblem
from nsgd.export.carried import Carried
from nsgd.export.pixinsight import Job, export_pixinsight
from nsgd.export.registered import borders, mark_borders
from nsgd.export.xnml import Xnml, evaluate, from_bytes, normalised
from nsgd.frames.read import read_frame, read_header
from nsgd.records import HeaderFacts, SeriesRow, SubRow
from nsgd.settings import Settings
from nsgd.simulate import Camera, Psf, SkyGlow, SubTruth, star_flux_adu

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("xnml.xsd"))
SETTINGS = Settings()


@pytest.fixture(scope="module")
def exported(cloudy_set: RegisteredSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("handed")
    export_pixinsight(Job(cloudy_set.folder, out), SETTINGS, Carried(), 0.0)
    return out


def table(out: Path) -> list[dict[str, str]]:
    with (out / "subs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reference_of(out: Path) -> int:
    return next(at for at, row in enumerate(table(out)) if row["reference"] == "1")


def xnml_of(found: RegisteredSet, out: Path, at: int) -> Xnml:
    return from_bytes((out / "L" / f"{found.paths[at].stem}.xnml").read_bytes())


# --- the figures -----------------------------------------------------------------------------------------------------


def test_scales_and_weights_follow_the_planted_cloud(cloudy_set: RegisteredSet, exported: Path) -> None:
    rows = table(exported)
    reference = cloudy_set.truths[reference_of(exported)]
    for row, truth in zip(rows, cloudy_set.truths, strict=True):
        m = truth.scale_against(reference)
        error = max(float(row["scale_err"] or 0.0), 1e-4)
        assert abs(float(row["scale"]) - m) < 4.0 * error + 0.002 * m
        weight = (reference.noise_adu() / (truth.noise_adu() * m)) ** 2
        assert float(row["weight"]) == pytest.approx(weight, rel=0.025)
        assert row["status"] == ("ok" if 1.0 / m > 0.75 else "rejected")


def test_backgrounds_normalised_by_the_oracle_match_the_reference_up_to_the_borders(
    cloudy_set: RegisteredSet, exported: Path
) -> None:
    """A z + B against truth, in units of the normalised frame's pixel sigma: smooth surfaces, so no pixel noise."""
    reference = cloudy_set.truths[reference_of(exported)]
    height, width = reference.camera.height_px, reference.camera.width_px
    y, x = np.mgrid[0:height, 0:width].astype(float)
    wanted = reference.background_adu(x, y)
    rms, high, border = [], [], []
    for at, truth in enumerate(cloudy_set.truths):
        background = truth.background_adu(x, y).astype(np.float32) / np.float32(65535)
        error = (normalised(xnml_of(cloudy_set, exported, at), 0, background) * 65535.0 - wanted)[
            cloudy_set.borders[at]
        ]
        error /= truth.noise_adu() * truth.scale_against(reference)
        rms.append(np.sqrt((error**2).mean()))
        high.append(np.quantile(np.abs(error), 0.99))
        edges = np.concatenate((error[0], error[-1], error[:, 0], error[:, -1]))
        border.append(np.sqrt((edges**2).mean()))
    # 0.5 megapixels: the sky noise of so few pixels alone leaves 1.3 % in the surface
    assert np.median(rms) <= 0.02
    assert max(rms) <= 0.035
    assert np.median(high) <= 0.065
    assert np.median(border) <= 0.05


def test_star_fluxes_of_normalised_frames_match(cloudy_set: RegisteredSet, exported: Path) -> None:
    """A times the true flux of the sub's stars is the reference's: the scale errors are those of photometry."""
    reference = cloudy_set.truths[reference_of(exported)]
    wanted = star_flux_adu(cloudy_set.sky, reference)[:, 0]
    ratios = []
    for at, truth in enumerate(cloudy_set.truths):
        flux = star_flux_adu(cloudy_set.sky, truth)[:, 0] * float(xnml_of(cloudy_set, exported, at).scale[0, 0, 0])
        ratios.append(float(np.median(flux / wanted)))
    assert np.std(ratios) <= 0.004
    assert abs(np.mean(ratios) - 1.0) <= 0.006


def test_psf_scale_snr_of_the_files_is_our_weight(cloudy_set: RegisteredSet, exported: Path) -> None:
    """PixInsight's weight, 1 / (s^2 sigma^2) with NOISE00, orders and scales as ours."""
    found, ours = [], [float(row["weight"]) for row in table(exported)]
    for at, path in enumerate(cloudy_set.paths):
        s = xnml_of(cloudy_set, exported, at).relative_scale[0]
        found.append(1.0 / (s * fits.getheader(path)["NOISE00"]) ** 2)
    ratio = np.array(found) / np.array(ours)
    assert ratio / ratio.mean() == pytest.approx(np.ones(len(found)), rel=2e-5)
    assert np.argsort(found).tolist() == np.argsort(ours).tolist()


def test_the_reference_itself_stays_as_it_is(cloudy_set: RegisteredSet, exported: Path) -> None:
    xnml = xnml_of(cloudy_set, exported, reference_of(exported))
    assert np.all(xnml.scale == 1.0)
    assert np.all(xnml.offset == 0.0)
    assert xnml.relative_scale == (1.0,)


def test_every_file_obeys_the_schema_and_names_its_frames(cloudy_set: RegisteredSet, exported: Path) -> None:
    files = sorted((exported / "L").glob("*.xnml"))
    assert len(files) == len(cloudy_set.paths)
    for path in files:
        SCHEMA.validate(path.read_text(encoding="utf-8"))
        xnml = from_bytes(path.read_bytes())
        assert (xnml.width_px, xnml.height_px, xnml.version) == (900, 600, 1)
        assert Path(xnml.sub_path).stem == path.stem
        assert len(xnml.offset[0]) >= 600 / 16


# --- script, icons, weights ------------------------------------------------------------------------------------------


def images_of(script: str) -> list[tuple[str, ...]]:
    block = re.search(r"P\.images = \[[^\n]*\n(.*?)\n\];", script, re.DOTALL)
    assert block is not None
    return [tuple(json.loads(f"[{line.strip().rstrip(',').strip('[] ')}]")) for line in block[1].splitlines()]


def test_the_script_lists_the_best_first_and_disables_the_rejected(cloudy_set: RegisteredSet, exported: Path) -> None:
    script = (exported / "integrate_L.js").read_text(encoding="utf-8")
    images = images_of(script)
    by_path = {path.as_posix(): row for path, row in zip(cloudy_set.paths, table(exported), strict=True)}
    assert {image[1] for image in images} == set(by_path)
    rows = [by_path[image[1]] for image in images]
    assert [image[0] for image in images] == [row["status"] == "ok" for row in rows]
    enabled = [float(row["weight"]) for row in rows if row["status"] == "ok"]
    assert enabled == sorted(enabled, reverse=True)
    assert all(Path(image[3]).is_file() for image in images)
    for expected in (
        "P.weightMode = E.PSFScaleSNR;",
        "P.normalization = E.LocalNormalization;",
        "P.rejectionNormalization = E.LocalRejectionNormalization;",
        "P.rejection = E.PercentileClip;",
        "P.minWeight = 0;",
        "P.subtractPedestals = false;",
        "P.launchInterface();",
    ):
        assert expected in script
    assert "executeGlobal" not in script
    assert "CSVWeightsFile" not in script


def test_the_icons_hold_the_same_rows_as_the_script(exported: Path) -> None:
    space = {"p": "http://www.pixinsight.com/xpsm"}
    root = ET.parse(exported / "nsgd.xpsm").getroot()
    instance = root.find("p:instance", space)
    assert instance is not None
    assert (instance.get("class"), instance.get("version")) == ("ImageIntegration", "256")
    rows = [
        (cells[0].get("value") == "true", *((cell.text or "") for cell in cells[1:]))
        for cells in (list(row) for row in instance.iterfind(".//p:tr", space))
    ]
    assert rows == images_of((exported / "integrate_L.js").read_text(encoding="utf-8"))
    values = {p.get("id"): p.get("value") for p in instance.iterfind("p:parameter", space)}
    assert values["weightMode"] == "PSFScaleSNR"
    assert values["subtractPedestals"] == "false"
    icon = root.find("p:icon", space)
    assert icon is not None
    assert icon.get("instance") == instance.get("id")


def test_the_weights_file_is_what_pixinsight_reads(cloudy_set: RegisteredSet, exported: Path) -> None:
    lines = (exported / "weights_L.csv").read_text(encoding="utf-8").splitlines()
    weights = {path: float(weight) for path, weight in csv.reader(lines, skipinitialspace=True)}
    rows = table(exported)
    for path, row in zip(cloudy_set.paths, rows, strict=True):
        assert weights[path.as_posix()] == pytest.approx(float(row["weight"]), rel=1e-5)


def test_the_same_frames_give_the_same_bytes(cloudy_set: RegisteredSet, exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    export_pixinsight(Job(cloudy_set.folder, again), SETTINGS, Carried(), 0.0)
    for path in sorted(exported.rglob("*.xnml")):
        assert (again / "L" / path.name).read_bytes() == path.read_bytes()
    assert (again / "subs.csv").read_bytes() == (exported / "subs.csv").read_bytes()


# --- other sets ------------------------------------------------------------------------------------------------------

SMALL = Camera(width_px=600, height_px=400)


def truth(number: int, **changes: object) -> SubTruth:
    return replace(SubTruth(SMALL, START_UTC_S + 70.0 * number), **changes)  # type: ignore[arg-type]


def test_paths_become_those_of_the_machine_that_stacks(tmp_path: Path, told: Callable[[int, int, str], None]) -> None:
    found = registered_set(tmp_path / "reg", [truth(n) for n in range(4)])
    for path in found.paths:
        path.with_suffix(".xdrz").write_bytes(b"")
    job = Job(found.folder, tmp_path / "out", ((tmp_path.as_posix(), "D:/astro"),))
    export_pixinsight(job, SETTINGS, Carried(), 0.0, told)
    images = images_of((tmp_path / "out" / "integrate_L.js").read_text(encoding="utf-8"))
    assert {image[1] for image in images} == {f"D:/astro/reg/{path.name}" for path in found.paths}
    assert all(image[3].startswith("D:/astro/out/L/") for image in images)
    script = (tmp_path / "out" / "integrate_L.js").read_text(encoding="utf-8")
    assert "new DrizzleIntegration" in script
    assert f"D:/astro/reg/{found.paths[0].stem}.xdrz" in script
    assert "P.generateDrizzleData = true;" in script


def test_xisf_colour_frames_get_a_scale_and_weight_per_channel(tmp_path: Path) -> None:
    """Three channels with their own light, written by the xisf package; NOISE per channel."""
    folder = tmp_path / "reg"
    light = ((1.0, 1.0, 1.0), (0.9, 0.8, 0.7), (0.95, 0.9, 0.85), (0.8, 0.9, 1.0))
    rng = np.random.default_rng(2)
    sets = [
        registered_set(tmp_path / f"c{c}", [truth(n, transmission=light[n][c]) for n in range(4)], seed=9)
        for c in range(3)
    ]
    folder.mkdir()
    for n in range(4):
        planes = np.stack([sets[c].pixels(n) for c in range(3)], axis=-1)
        cards = header_of(sets[0].truths[n], [sets[c].truths[n].noise_adu() / 65535 for c in range(3)])
        keywords = {key: [{"value": str(cards[key]), "comment": ""}] for key in cards}
        name = folder / f"osc_{n}_r.xisf"
        xisf.XISF.write(str(name), planes, image_metadata={"FITSKeywords": keywords}, codec=rng.choice(["zlib", "lz4"]))
    export_pixinsight(Job(folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    rows = table(tmp_path / "out")
    at = reference_of(tmp_path / "out")
    lines = list(csv.reader((tmp_path / "out" / "weights_L.csv").read_text().splitlines(), skipinitialspace=True))
    assert all(len(line) == 4 for line in lines)
    for n, row in enumerate(rows):
        xnml = from_bytes((tmp_path / "out" / "L" / f"osc_{n}_r.xnml").read_bytes())
        assert xnml.scale.shape[0] == 3
        for c, letter in enumerate("rgb"):
            m = sets[c].truths[n].scale_against(sets[c].truths[at])
            assert float(row[f"scale_{letter}"]) == pytest.approx(m, rel=0.01)
            assert xnml.relative_scale[c] == pytest.approx(float(row[f"scale_{letter}"]), rel=1e-5)
            sigma = (sets[c].truths[at].noise_adu(), sets[c].truths[n].noise_adu())
            s = xnml.relative_scale[c]
            assert float(row[f"weight_{letter}"]) == pytest.approx((sigma[0] / (sigma[1] * s)) ** 2, rel=1e-4)


def test_filters_are_stacked_apart_each_with_its_reference(tmp_path: Path) -> None:
    truths = [truth(n, filter_name="L" if n % 2 else "Ha") for n in range(8)]
    found = registered_set(tmp_path / "reg", truths)
    outcome = export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    assert len(outcome.summary) == 2
    assert {row["filter"] for row in table(tmp_path / "out") if row["reference"] == "1"} == {"L", "Ha"}
    for name in ("L", "Ha"):
        assert len(list((tmp_path / "out" / name).glob("*.xnml"))) == 4
        assert (tmp_path / "out" / f"integrate_{name}.js").is_file()


def test_bottom_up_fits_gets_its_gradient_upside_down(tmp_path: Path) -> None:
    """PixInsight flips such files, so row 0 of the matrix is the last row of the file."""
    truths = [truth(0), truth(1, sky=SkyGlow(slope_y=0.5), transmission=0.9), truth(2)]
    plain = registered_set(tmp_path / "plain", truths)
    shutil.copytree(plain.folder, tmp_path / "flipped")
    for path in sorted((tmp_path / "flipped").iterdir()):
        fits.setval(path, "ROWORDER", value="BOTTOM-UP")
    offsets = []
    for name in ("plain", "flipped"):
        export_pixinsight(Job(tmp_path / name, tmp_path / f"out_{name}"), SETTINGS, Carried(), 0.0)
        nodes = from_bytes((tmp_path / f"out_{name}" / "L" / f"{plain.paths[1].stem}.xnml").read_bytes()).offset[0]
        offsets.append(evaluate(nodes, np.array([300.0]), np.array([10.0, 389.0]), 600, 400)[:, 0])
    assert offsets[0] == pytest.approx(offsets[1][::-1], rel=0.03)
    assert offsets[0][0] > offsets[0][1] + 1e-3


def test_frames_that_cannot_be_used_are_marked_invalid_and_disabled(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n) for n in range(6)])
    shifted = found.pixels(3)
    fits.PrimaryHDU(np.roll(shifted, (37, 53), (0, 1)), fits.getheader(found.paths[3])).writeto(
        found.paths[3], overwrite=True
    )
    fits.PrimaryHDU(found.pixels(4)[:300], fits.getheader(found.paths[4])).writeto(found.paths[4], overwrite=True)
    found.paths[5].write_bytes(found.paths[5].read_bytes()[:4000])
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    rows = {row["file"]: row for row in table(tmp_path / "out")}
    assert [rows[path.name]["status"] for path in found.paths] == ["ok"] * 3 + ["failed"] * 3
    images = images_of((tmp_path / "out" / "integrate_L.js").read_text(encoding="utf-8"))
    assert [image[0] for image in images] == [True] * 3 + [False] * 3
    for path in found.paths[3:]:
        xnml = from_bytes((tmp_path / "out" / "L" / f"{path.stem}.xnml").read_bytes())
        assert not xnml.valid
    assert "register" in rows[found.paths[3].name]["failure"]
    assert "pixels" in rows[found.paths[4].name]["failure"]


def test_decisions_of_the_live_night_are_carried_over(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n, transmission=0.5 if n == 1 else 1.0) for n in range(5)])
    names = [f"{path.stem.removesuffix('_c_r')}.fits" for path in found.paths]
    decisions = {1: "accept", 2: "reject"}
    live = [live_row(n + 101, names[n], found.truths[n], decisions.get(n, "")) for n in range(5)]
    series = SeriesRow(7, "k", "M 31", "L", "", 1, 600, 400, ("L",), 104, True, 1.5, {"transmission": 0.3}, 1, 1)
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(live, [series]), 0.0)
    rows = table(tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok", "ok", "rejected", "ok", "ok"]
    assert [row["decision"] for row in rows] == ["", "accept", "reject", "", ""]
    assert reference_of(tmp_path / "out") == 3


def live_row(sub_id: int, name: str, truth: SubTruth, decision: str) -> SubRow:
    header = HeaderFacts(filter_name="L", start_utc_s=truth.start_utc_s, mid_utc_s=truth.start_utc_s + 30.0)
    return SubRow(
        sub_id, "", 7, "60s", "/live", name, False, header, "", 0.0, truth.start_utc_s + 30.0, "", None, 0.0,
        decision=decision,
    )  # fmt: skip


def test_frames_without_noise_keywords_offer_the_weights_file(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n) for n in range(3)])
    for path in found.paths:
        fits.delval(path, "NOISE00")
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    script = (tmp_path / "out" / "integrate_L.js").read_text(encoding="utf-8")
    assert "P.csvWeightsFilePath = " in script
    assert all(float(row["weight"]) == pytest.approx(1.0, rel=0.05) for row in table(tmp_path / "out"))


def test_sixteen_bit_frames_are_normalised_in_pixinsights_units(tmp_path: Path) -> None:
    truths = [truth(0), truth(1, sky=SkyGlow(level_e_s=10.0)), truth(2)]
    found = registered_set(tmp_path / "reg", truths)
    for at, path in enumerate(found.paths):
        pixels = np.round(found.pixels(at) * 65535).astype(np.uint16)
        fits.PrimaryHDU(pixels, fits.getheader(path)).writeto(path, overwrite=True)
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    at = reference_of(tmp_path / "out")
    x, y = np.array([300.0]), np.array([200.0])
    step = (truths[1].background_adu(x, y) - truths[at].background_adu(x, y)) / 65535
    nodes = from_bytes((tmp_path / "out" / "L" / f"{found.paths[1].stem}.xnml").read_bytes()).offset[0]
    assert -evaluate(nodes, x, y, 600, 400)[0, 0] == pytest.approx(float(step[0]), rel=0.05)


@pytest.mark.parametrize("dtype", ["f4", "u2"])
def test_large_frames_are_measured_in_the_units_and_within_the_borders_of_all(tmp_path: Path, dtype: str) -> None:
    """From eight megapixels on, averages are made while a frame is read: before borders and units are seen to."""
    camera = Camera(width_px=3300, height_px=2500)
    truths = cloudy_truths(3, camera)
    found = registered_set(tmp_path / "in", truths, border_px=40)
    if dtype == "u2":
        for path in found.paths:
            with fits.open(path, mode="update") as units:
                units[0].data = np.round(units[0].data * 65535.0).astype(np.uint16)
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    reference = truths[reference_of(tmp_path / "out")]
    y, x = np.mgrid[0 : camera.height_px, 0 : camera.width_px].astype(float)
    wanted = reference.background_adu(x, y)
    for at, (row, truth) in enumerate(zip(table(tmp_path / "out"), truths, strict=True)):
        m = truth.scale_against(reference)
        assert abs(float(row["scale"]) - m) < 4.0 * max(float(row["scale_err"] or 0.0), 1e-4) + 0.002 * m
        assert float(row["weight"]) == pytest.approx((reference.noise_adu() / (truth.noise_adu() * m)) ** 2, rel=0.025)
        background = truth.background_adu(x, y).astype(np.float32) / np.float32(65535)
        error = normalised(xnml_of(found, tmp_path / "out", at), 0, background) * 65535.0 - wanted
        assert np.sqrt((error[found.borders[at]] ** 2).mean()) < 0.02 * truth.noise_adu() * m


def test_nothing_is_written_over_or_beside_the_frames(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n) for n in range(3)])
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found.folder.iterdir()}
    job = Job(found.folder, tmp_path / "out")
    export_pixinsight(job, SETTINGS, Carried(), 0.0)
    with pytest.raises(ExportProblem, match="--force"):
        export_pixinsight(job, SETTINGS, Carried(), 0.0)
    export_pixinsight(replace(job, force=True), SETTINGS, Carried(), 0.0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found.folder.iterdir()} == before


@pytest.mark.parametrize("content", [None, b"no picture at all"])
def test_a_folder_without_usable_frames_is_one_clear_sentence(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "reg").mkdir()
    if content:
        (tmp_path / "reg" / "a.fits").write_bytes(content)
    with pytest.raises(ExportProblem, match="registered"):
        export_pixinsight(Job(tmp_path / "reg", tmp_path / "out"), SETTINGS, Carried(), 0.0)


def test_hostile_file_names_stay_inside_out_and_inert(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n) for n in range(3)])
    evil = found.folder / 'x"];\n<b>\x1b[31m&.fits'
    found.paths[2].rename(evil)
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    images = images_of((tmp_path / "out" / "integrate_L.js").read_text(encoding="utf-8"))
    assert evil.as_posix() in {image[1] for image in images}
    for path in (tmp_path / "out").rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", path.name)
    for path in (tmp_path / "out" / "L").iterdir():
        SCHEMA.validate(path.read_text(encoding="utf-8"))
    assert b"\x1b" not in (tmp_path / "out" / "subs.csv").read_bytes()


def test_borders_are_zeros_that_reach_the_edge_and_lone_zeros_are_pixels() -> None:
    pixels = np.ones((40, 60), dtype=np.float32)
    pixels[:, :7] = 0.0
    pixels[35:, :] = 0.0
    for row in range(20):
        pixels[row, 60 - (20 - row) // 2 :] = 0.0
    pixels[25, 30] = 0.0
    mark_borders(pixels)
    assert np.isnan(pixels[:, :7]).all()
    assert np.isnan(pixels[35:]).all()
    assert np.isnan(pixels[0, 51:]).all()
    assert pixels[25, 30] == 0.0
    assert np.isfinite(pixels[25, 8:]).all()


def test_wide_borders_of_two_sides_are_told_apart() -> None:
    empty = np.zeros((400, 600), dtype=bool)
    empty[330:] = True
    empty[:, :20] = True
    assert borders(empty) == (20, 0, 0, 70)
    assert borders(np.zeros((40, 60), dtype=bool)) == (0, 0, 0, 0)
    corner = np.arange(400)[:, None] + np.arange(600) < 60  # a field that turned a little: triangles
    left, right, top, bottom = borders(corner)
    assert (right, bottom) == (0, 0)
    assert max(left, top) <= 60


def test_swelling_stars_do_not_change_the_scale(tmp_path: Path) -> None:
    found = registered_set(tmp_path / "reg", [truth(n, psf=Psf(fwhm_px=2.6 + 0.5 * n)) for n in range(5)])
    export_pixinsight(Job(found.folder, tmp_path / "out"), SETTINGS, Carried(), 0.0)
    assert [float(row["scale"]) for row in table(tmp_path / "out")] == pytest.approx([1.0] * 5, abs=0.01)


def test_cloudy_truths_hold_both_kinds() -> None:
    light = [one.transmission for one in cloudy_truths()]
    assert min(light) < 0.7 < max(light)


def test_floats_from_zero_to_one_hold_the_same_electrons(cloudy_set: RegisteredSet) -> None:
    """Calibration programs keep the camera's EGAIN, per 16-bit step, when they write 0..1."""
    frame = read_frame(cloudy_set.paths[0])
    assert frame.header.egain_e_per_adu == pytest.approx(0.8 * 65535.0)
    facts = read_header(cloudy_set.paths[0])
    assert facts.egain_e_per_adu == pytest.approx(0.8)
