"""Compressed FITS: what astropy and fpack write is read back, bombs are not expanded."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from framefiles import card, header_bytes, noise, write_fits

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.read import is_whole, read_frame, read_header

CARDS = [("FILTER", "Ha"), ("EXPTIME", 60.0), ("DATE-OBS", "2026-11-22T22:10:05")]


def header() -> astropy_fits.Header:
    return astropy_fits.Header(CARDS)


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_tile_compressed_subs_are_the_same_subs(tmp_path: Path, rng: np.random.Generator, codec: str) -> None:
    pixels = noise(rng, 100, 120)
    if codec == "PLIO_1":
        pixels = pixels.astype(np.int16)  # PLIO holds no negative numbers
    plain = read_frame(write_fits(tmp_path / "a.fits", pixels, CARDS))
    path = tmp_path / "a.fits.fz"
    astropy_fits.HDUList(
        [astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(pixels, header(), compression_type=codec)]
    ).writeto(path)
    packed = read_frame(path)
    assert np.array_equal(packed.planes[0].pixels, pixels)
    assert packed.content_id == plain.content_id
    assert packed.header.filter_name == "Ha"
    assert is_whole(path, path.stat().st_size) is True
    assert is_whole(path, path.stat().st_size - 2880) is False


def test_quantised_floats_are_read_as_astropy_reads_them(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.normal(0.1, 0.001, (60, 80)).astype(np.float32)
    path = tmp_path / "a.fits.fz"
    unit = astropy_fits.CompImageHDU(pixels, header(), compression_type="RICE_1", quantize_level=16.0)
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), unit]).writeto(path)
    np.testing.assert_array_equal(read_frame(path).planes[0].pixels, astropy_fits.getdata(path, 1))


@pytest.mark.skipif(shutil.which("fpack") is None, reason="fpack is not installed (Debian: libcfitsio-bin)")
@pytest.mark.parametrize("option", ["-r", "-g", "-h", "-g2"])
def test_files_of_fpack_are_read(tmp_path: Path, rng: np.random.Generator, option: str) -> None:
    pixels = noise(rng, 100, 120)
    plain = write_fits(tmp_path / "a.fits", pixels, CARDS)
    subprocess.run(["fpack", option, "a.fits"], cwd=tmp_path, check=True)
    packed = read_frame(tmp_path / "a.fits.fz")
    assert np.array_equal(packed.planes[0].pixels, pixels)
    assert packed.content_id == read_frame(plain).content_id


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_gzipped_subs_are_the_same_subs(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    pixels = noise(rng, 100, 120).astype(dtype)
    plain = write_fits(tmp_path / "a.fits", pixels, CARDS)
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    packed = read_frame(path)
    assert np.array_equal(packed.planes[0].pixels, pixels)
    assert packed.content_id == read_frame(plain).content_id


def test_half_a_gzip_file_is_known_by_its_trailer(tmp_path: Path, rng: np.random.Generator) -> None:
    plain = write_fits(tmp_path / "a.fits", noise(rng, 100, 120), CARDS)
    content = gzip.compress(plain.read_bytes())
    path = tmp_path / "a.fits.gz"
    for size in (0, 1, 5, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert is_whole(path, size) is False, size
        if size <= len(content) // 2:
            with pytest.raises(UnreadableFrame) as caught:
                read_frame(path)
            assert caught.value.may_retry, size
    path.write_bytes(content)
    assert is_whole(path, len(content)) is True


def test_a_gzip_bomb_is_not_expanded_beyond_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.gz"
    head = header_bytes(
        [card("SIMPLE", True), card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", 20), card("NAXIS2", 20)]
    )
    with gzip.open(path, "wb") as file:
        file.write(head + b"\1" * 800)
        for _ in range(100):
            file.write(bytes(1_000_000))
    begun_s = time.monotonic()
    with pytest.raises(UnreadableFrame, match="longer than the header says"):
        read_frame(path, budget_mb=64)
    assert time.monotonic() - begun_s < 2.0


@pytest.mark.parametrize("suffix", [".fits.fz", ".fits.gz"])
def test_other_frames_are_told_before_anything_is_expanded(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".fits.gz":
        plain = write_fits(tmp_path / "a.fits", noise(rng), [("IMAGETYP", "Dark")])
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        unit = astropy_fits.CompImageHDU(noise(rng), astropy_fits.Header([("IMAGETYP", "Dark")]))
        astropy_fits.HDUList([astropy_fits.PrimaryHDU(), unit]).writeto(path)
    with pytest.raises(NotASub) as caught:
        read_header(path)
    assert caught.value.kind == "dark"


def test_a_wrong_checksum_is_found(tmp_path: Path, rng: np.random.Generator) -> None:
    content = bytearray(gzip.compress(write_fits(tmp_path / "a.fits", noise(rng)).read_bytes()))
    content[-6] ^= 1
    (tmp_path / "a.fits.gz").write_bytes(content)
    with pytest.raises(UnreadableFrame):
        read_frame(tmp_path / "a.fits.gz")
