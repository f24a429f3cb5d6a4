"""Exported frames are registered, on one scale, and free of relative gradients."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xisf
from astropy.io import fits
from live_night import CAMERA, SETTINGS, START_UTC_S, LiveNight, live_night, measure, night_truths
from test_siril import needs_siril, run_siril

from nsgd.errors import ExportProblem
from nsgd.export.images import Manner, export_images
from nsgd.export.xnml import from_bytes
from nsgd.frames.read import read_frame
from nsgd.measure.sky import sky_mesh, view_of
from nsgd.measure.stars import detect
from nsgd.records import Plane
from nsgd.session.store import Reader, Store
from nsgd.simulate import SubTruth, place

ACCEPTED_L = [1, 2, 3, 5, 10, 11]


@pytest.fixture(scope="module")
def out(night: LiveNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    with Reader.open(night.store) as reader:
        outcome = export_images(reader, folder, SETTINGS)
    assert set(outcome.summary) == {"M_31_L: 6 frames", "M_31_Ha: 3 frames"}
    return folder


def frames_of(out: Path, series: str = "M_31_L") -> list[Path]:
    return sorted((out / series).glob("*.fits"))


def truths_of(night: LiveNight) -> list[SubTruth]:
    return [night.truths[n - 1] for n in ACCEPTED_L]


def reference_of(night: LiveNight) -> SubTruth:
    with Reader.open(night.store) as reader:
        series = next(one for one in reader.series() if one.filter_name == "L")
        row = reader.sub(series.reference_id)
    return night.truths[int(Path(row.path).stem.removeprefix("sub_")) - 1]


def test_backgrounds_agree_with_the_reference_everywhere(night: LiveNight, out: Path) -> None:
    """Means of boxes, in units of the pixel sigma: no level, no gradient is left."""
    stack = np.stack([fits.getdata(path) for path in frames_of(out)]) * 65535.0
    sigma = reference_of(night).noise_adu()
    boxes = np.median(stack[:, 20:380, 20:580].reshape(6, 6, 60, 8, 70), axis=(2, 4))
    spread = (boxes - boxes.mean(axis=0)) / sigma
    assert np.abs(spread).max() < 0.12
    assert np.sqrt((spread**2).mean()) < 0.04


def test_stars_stand_where_the_reference_has_them_with_its_flux(night: LiveNight, out: Path) -> None:
    reference = reference_of(night)
    x, y = reference.transform.apply(night.sky.x_px, night.sky.y_px)
    inside = (x > 40) & (x < 560) & (y > 40) & (y < 360)
    bright = np.flatnonzero(inside)[np.argsort(-night.sky.flux_e_s[inside])[5:35]]
    for path in frames_of(out):
        pixels = np.asarray(fits.getdata(path), dtype=np.float32) * np.float32(65535.0)
        view = view_of(Plane("L", pixels))
        found = detect(pixels, view, sky_mesh(view), 10.0, 300)
        near = np.hypot(found.x[:, None] - x[bright], found.y[:, None] - y[bright])
        closest = near.min(axis=0)
        assert np.median(closest) < 0.12


def test_headers_carry_noise_and_weight(out: Path, night: LiveNight) -> None:
    reference = reference_of(night)
    for path, truth in zip(frames_of(out), truths_of(night), strict=True):
        header = fits.getheader(path)
        m = truth.scale_against(reference)
        assert header["NOISE00"] == pytest.approx(truth.noise_adu() * m / 65535, rel=0.05)
        assert header["NWEIGHT"] == pytest.approx((reference.noise_adu() / (truth.noise_adu() * m)) ** 2, rel=0.06)
        assert header["FILTER"] == "L"
        assert header["EXPTIME"] == 60.0
        assert header["BITPIX"] == -32


def test_exported_frames_can_be_read_and_their_xnml_changes_nothing(out: Path) -> None:
    for path in frames_of(out):
        frame = read_frame(path)
        assert frame.full_scale_adu == 1.0
        xnml = from_bytes(path.with_suffix(".xnml").read_bytes())
        assert np.all(xnml.scale == 1.0)
        assert np.all(xnml.offset == 0.0)
        assert (xnml.width_px, xnml.height_px) == (600, 400)
    assert "PSFScaleSNR" in (out / "M_31_L" / "integrate.js").read_text()


def test_pixels_that_the_sub_does_not_have_are_zero(night: LiveNight, out: Path) -> None:
    reference = reference_of(night)
    for path, truth in zip(frames_of(out), truths_of(night), strict=True):
        pixels = fits.getdata(path)
        dx, dy = truth.transform.tx - reference.transform.tx, truth.transform.ty - reference.transform.ty
        missing = (pixels == 0).mean(axis=0) > 0.9
        assert abs(int(missing.sum()) - abs(dx)) < 1.6
        assert abs(int(((pixels == 0).mean(axis=1) > 0.9).sum()) - abs(dy)) < 1.6


def test_xisf_holds_the_same_pixels_and_keywords(out: Path, night: LiveNight, tmp_path: Path) -> None:
    """Read back by the xisf package and by ours."""
    with Reader.open(night.store) as reader:
        export_images(reader, tmp_path, SETTINGS, Manner(kind="xisf"))
    written = sorted(tmp_path.glob("*/*.xisf"))
    assert len(written) == 9
    assert not list(tmp_path.glob("*/*.ssf"))
    for path in written:
        fits_path = out / path.parent.name / f"{path.stem}.fits"
        wanted, header = fits.getdata(fits_path), fits.getheader(fits_path)
        # rows and columns without a single value are read as missing
        assert np.array_equal(np.nan_to_num(read_frame(path).planes[0].pixels), wanted)
        other = xisf.XISF(str(path))
        assert np.array_equal(other.read_image(0)[..., 0], wanted)
        keywords = other.get_images_metadata()[0]["FITSKeywords"]
        for key in ("NOISE00", "NWEIGHT", "EXPTIME"):
            assert float(keywords[key][0]["value"]) == pytest.approx(header[key], rel=1e-6)
        assert keywords["FILTER"][0]["value"].strip("'") == header["FILTER"]
        assert (from_bytes(path.with_suffix(".xnml").read_bytes()).scale == 1.0).all()


def test_xisf_turns_pictures_over_that_fits_keeps_from_the_bottom(tmp_path: Path) -> None:
    found = live_night(tmp_path, night_truths()[:3])
    for path in found.paths:
        fits.setval(path, "ROWORDER", value="BOTTOM-UP")
    turned = replace(found, store=tmp_path / "turned")
    measure(turned)
    with Reader.open(turned.store) as reader:
        for kind in ("fits", "xisf"):
            export_images(reader, tmp_path / kind, SETTINGS, Manner(kind=kind))
    for path in frames_of(tmp_path / "fits"):
        assert fits.getheader(path)["ROWORDER"] == "BOTTOM-UP"
        other = read_frame(tmp_path / "xisf" / "M_31_L" / f"{path.stem}.xisf")
        assert other.header.row_order == "TOP-DOWN"
        assert np.array_equal(np.nan_to_num(other.planes[0].pixels), fits.getdata(path)[::-1])


@needs_siril
def test_real_siril_averages_them_without_normalisation(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / "M_31_L", tmp_path / "L")
    log = run_siril(tmp_path / "L" / "stack.ssf")
    assert "6 images have been stacked" in log
    assert fits.getdata(tmp_path / "L" / "stack.fit").shape == (400, 600)


def test_unregistered_frames_keep_every_pixel_in_its_place(night: LiveNight, tmp_path: Path) -> None:
    with Reader.open(night.store) as reader:
        export_images(reader, tmp_path, SETTINGS, Manner(registered=False))
    reference = reference_of(night)
    for path, truth in zip(frames_of(tmp_path), truths_of(night), strict=True):
        pixels = fits.getdata(path) * 65535.0
        raw = read_frame(night.paths[night.truths.index(truth)]).planes[0].pixels
        difference = pixels - truth.scale_against(reference) * raw
        assert np.std(np.diff(difference, axis=0)) < 0.02 * truth.noise_adu() * 5
        boxes = np.median(pixels[20:380, 20:580].reshape(6, 60, 8, 70), axis=(1, 3))
        y, x = np.mgrid[50:380:60, 55:580:70]
        wanted = reference.background_adu(*reference.transform.apply(x - truth.transform.tx, y - truth.transform.ty))
        assert abs(np.quantile(boxes - wanted, 0.3)) < 0.2 * reference.noise_adu()  # stars only push upwards


def test_bayer_subs_become_registered_colour_frames(tmp_path: Path) -> None:
    camera = replace(CAMERA, bayer="RGGB")
    truths = [replace(one, camera=camera, filter_name="L", transmission=1.0) for one in night_truths(camera)[:4]]
    truths[3] = replace(truths[3], transform=place(camera, 5.0, -4.0, rotation_deg=180.0))
    found = live_night(tmp_path, truths, object_name="M 27")
    with Reader.open(found.store) as reader:
        export_images(reader, tmp_path / "out", SETTINGS)
        with pytest.raises(ExportProblem, match="registered"):
            export_images(reader, tmp_path / "not", SETTINGS, Manner(registered=False))
    paths = frames_of(tmp_path / "out", "M_27_L")
    assert len(paths) == 4
    stack = np.stack([fits.getdata(path) for path in paths]) * 65535.0
    assert stack.shape == (4, 3, 400, 600)
    boxes = np.median(stack[:, :, 20:380, 20:580].reshape(4, 3, 6, 60, 8, 70), axis=(3, 5))
    assert np.abs(boxes - boxes.mean(axis=0)).max() < 0.25 * truths[0].noise_adu("G")


def test_other_master_frames_than_at_measuring_are_refused(night: LiveNight, tmp_path: Path) -> None:
    dark = tmp_path / "dark.fits"
    header = fits.Header({"IMAGETYP": "Dark Frame", "EXPTIME": 60.0, "GAIN": 100, "CCD-TEMP": -10.0, "XBINNING": 1})
    fits.PrimaryHDU(np.full((400, 600), 90, dtype=np.uint16), header).writeto(dark)
    calibration = SETTINGS.calibration.model_copy(update={"dark": str(dark)})
    with Reader.open(night.store) as reader, pytest.raises(ExportProblem, match="master frames"):
        export_images(reader, tmp_path / "out", SETTINGS.model_copy(update={"calibration": calibration}))


def test_nothing_accepted_is_one_clear_sentence(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", START_UTC_S) as store, pytest.raises(ExportProblem, match="accepted"):
        export_images(store, tmp_path / "out", SETTINGS)
