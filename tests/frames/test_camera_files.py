"""TIFF and camera raw: pixels unchanged, cards from the title, EXIF understood."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from framefiles import noise
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


def dng(pixels: np.ndarray, *, cell: bytes = b"\0\1\1\2") -> bytes:
    """A minimal DNG: one uncompressed sensor picture with EXIF."""
    height, width = pixels.shape
    exif = [
        (33434, 5, 1, struct.pack("<II", 30, 1)),
        (34855, 3, 1, struct.pack("<HH", 800, 0)),
        (36867, 2, 20, b"2026:11:22 23:10:05\0"),
        (36881, 2, 7, b"+01:00\0"),
    ]
    entries = [
        (254, 4, 1, struct.pack("<I", 0)), (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, 1, struct.pack("<HH", 16, 0)), (259, 3, 1, struct.pack("<HH", 1, 0)),
        (262, 3, 1, struct.pack("<HH", 32803, 0)), (271, 2, 6, b"Maker\0"), (272, 2, 9, b"Model 5D\0"),
        (273, 4, 1, b"PIXL"), (277, 3, 1, struct.pack("<HH", 1, 0)), (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", pixels.nbytes)), (33421, 3, 2, struct.pack("<HH", 2, 2)), (33422, 1, 4, cell),
        (34665, 4, 1, b"EXIF"), (50706, 1, 4, bytes([1, 4, 0, 0])), (50708, 2, 9, b"Model 5D\0"),
        (50714, 3, 1, struct.pack("<HH", 100, 0)), (50717, 3, 1, struct.pack("<HH", 16000, 0)),
        (50721, 10, 9, struct.pack("<18i", *[n for d in (1, 0, 0, 0, 1, 0, 0, 0, 1) for n in (d, 1)])),
        (50728, 5, 3, struct.pack("<6I", 1, 1, 1, 1, 1, 1)), (50778, 3, 1, struct.pack("<HH", 21, 0)),
    ]  # fmt: skip
    head_bytes = 8 + 2 + 12 * len(entries) + 4
    exif_at = head_bytes
    spare_at = exif_at + 2 + 12 * len(exif) + 4
    spare = b""
    pixels_at = spare_at + 400

    def directory(items: list[tuple[int, int, int, bytes]]) -> bytes:
        nonlocal spare
        out = struct.pack("<H", len(items))
        for tag, kind, count, value in items:
            value = {b"PIXL": struct.pack("<I", pixels_at), b"EXIF": struct.pack("<I", exif_at)}.get(value, value)
            if len(value) > 4:
                place = struct.pack("<I", spare_at + len(spare))
                spare += value + b"\0" * (len(value) % 2)
                value = place
            out += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        return out + bytes(4)

    head = b"II*\0" + struct.pack("<I", 8) + directory(entries) + directory(exif)
    return head + spare.ljust(400, b"\0") + pixels.astype("<u2").tobytes()


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
