"""TIFF and camera raw: pixels unchanged, cards from the title, EXIF understood."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from framefiles import dng, noise
from PIL import Image

from nsgd.errors import UnreadableFrame
from nsgd.frames.exif import exposure_cards, read_entries
from nsgd.frames.read import is_whole, read_frame, read_header

TITLE = "IMAGETYP= 'LIGHT'\r\nFILTER  = 'Ha'\r\nEXPTIME = 300.0\r\nDATE-OBS= '2026-11-22T22:10:05.647'\r\n"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_grey_tiffs_keep_their_sixteen_bits(tmp_path: Path, rng: np.random.Generator, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = noise(rng)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, description=TITLE, compression=compression)
    frame = read_frame(path)
    assert np.array_equal(frame.planes[0].pixels, pixels)
    assert (frame.header.filter_name, frame.header.exposure_s) == ("Ha", 300.0)
    assert frame.header.time_source == "DATE-OBS"
    assert frame.saturation_adu == 65535.0
    assert is_whole(path, path.stat().st_size) is None


def test_lzw_tiffs_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("tifffile")
    pixels = noise(rng)
    Image.fromarray(pixels).save(tmp_path / "a.tiff", compression="tiff_lzw", tiffinfo={270: TITLE})
    frame = read_frame(tmp_path / "a.tiff")
    assert np.array_equal(frame.planes[0].pixels, pixels)
    assert frame.header.filter_name == "Ha"


def test_colour_tiffs_have_three_planes(tmp_path: Path, rng: np.random.Generator) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = rng.integers(0, 60000, (30, 40, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    frame = read_frame(tmp_path / "a.tif")
    assert frame.channels == ("R", "G", "B")
    assert np.array_equal(frame.planes[2].pixels, pixels[:, :, 2])


def test_a_title_in_windows_style_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("tifffile")
    title = "FILTER  = 'OIII'\r\nOBJECT  = 'M 31'\0".encode("utf-16-le")
    Image.fromarray(noise(rng)).save(tmp_path / "a.tif", tiffinfo={40091: title})
    header = read_header(tmp_path / "a.tif")
    assert (header.filter_name, header.object_name) == ("OIII", "M 31")


@pytest.mark.parametrize("size", [3, 100, 5000])
def test_half_a_tiff_may_be_tried_again(tmp_path: Path, rng: np.random.Generator, size: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(rng))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UnreadableFrame) as caught:
        read_frame(path)
    assert caught.value.may_retry


def test_camera_raws_are_split_into_their_colours(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("rawpy")
    pixels = noise(rng, 120, 160)
    path = tmp_path / "IMG_0001.dng"
    path.write_bytes(dng(pixels))
    frame = read_frame(path)
    assert frame.header.bayer_pattern == "RGGB"
    assert np.array_equal(frame.planes[0].pixels, pixels[::2, ::2].astype(np.float32) - 100.0)
    assert frame.saturation_adu == 15900.0
    assert (frame.header.exposure_s, frame.header.gain, frame.header.camera) == (30.0, 800.0, "Model 5D")
    assert frame.header.start_utc_s == 1795385405.0


def test_exif_times_without_an_offset_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = exposure_cards({36867: "2026:07:22 23:10:05", 37521: "25"})
    assert cards["DATE-LOC"].value == "2026-07-22T23:10:05.25"
    assert "DATE-OBS" not in cards
    from nsgd.frames.header import facts

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert facts(cards, Path("a.cr2")).start_utc_s == 1784754605.25
    finally:
        monkeypatch.undo()
        time.tzset()


def test_broken_exif_costs_only_what_it_says(tmp_path: Path, rng: np.random.Generator) -> None:
    content = dng(noise(rng, 20, 20))
    path = tmp_path / "a.dng"
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, 700, 5):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with path.open("rb") as file:
            exposure_cards(read_entries(file))
