"""Own FITS reader: the same pixels as astropy, also where astropy gives up."""

from __future__ import annotations

from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from framefiles import card, data_bytes, header_bytes, mandatory, noise, write_fits
from hypothesis import given
from hypothesis import strategies as st

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.fits import (
    checksum,
    declared_bytes,
    image_layout,
    parse_cards,
    parse_value,
    read_cards,
    read_pixels,
    unwritten_pages,
)
from nsgd.frames.read import read_frame
from nsgd.measure.sky import view_of


def pixels_of(path: Path) -> np.ndarray:
    with FileIO(path) as file:
        cards, offset = read_cards(file)
        return read_pixels(file, image_layout(cards, offset))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("scale", [(), (("BSCALE", 0.5), ("BZERO", 100.0))])
def test_pixels_agree_with_astropy(tmp_path: Path, rng: np.random.Generator, dtype: str, scale: tuple) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        pixels = rng.normal(1000.0, 50.0, (40, 30)).astype(kind)
    else:
        info = np.iinfo(kind)
        pixels = rng.integers(info.min, info.max, (40, 30), dtype=kind, endpoint=True)
    hdu = astropy_fits.PrimaryHDU(pixels)
    path = tmp_path / "a.fits"
    hdu.writeto(path)
    if scale and kind.kind != "u":
        raw = path.read_bytes()
        lines = [card(key, value).ljust(80).encode() for key, value in scale]
        path.write_bytes(raw.replace(b"END".ljust(240), b"".join(lines) + b"END".ljust(80), 1))
    expected = astropy_fits.getdata(path).astype(np.float32)
    assert pixels_of(path).dtype == np.float32
    np.testing.assert_allclose(pixels_of(path), expected, rtol=2e-7)


def test_blank_pixels_are_missing(tmp_path: Path) -> None:
    pixels = np.arange(20 * 20, dtype=np.int16).reshape(20, 20)
    path = write_fits(tmp_path / "a.fit", pixels, [("BLANK", 7)])
    read = pixels_of(path)
    assert np.isnan(read[0, 7])
    assert np.count_nonzero(np.isnan(read)) == 1


def test_a_picture_larger_than_one_chunk_is_read_in_order(tmp_path: Path) -> None:
    pixels = np.arange(700 * 400, dtype=np.int32).reshape(700, 400)
    assert np.array_equal(pixels_of(write_fits(tmp_path / "a.fit", pixels)), pixels.astype(np.float32))


@pytest.mark.parametrize("shape", [(17, 16), (40, 31), (1403, 1200)])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_pixels_are_averaged_beside_the_reading(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, int], dtype: str
) -> None:
    pixels = rng.integers(1, 60000, shape).astype(dtype)
    frame = read_frame(write_fits(tmp_path / "a.fit", pixels))
    even = frame.planes[0].pixels[: shape[0] // 2 * 2, : shape[1] // 2 * 2]
    (halved,) = frame.planes[0].averages
    np.testing.assert_allclose(halved, even.reshape(shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)), rtol=1e-6)
    seen = view_of(replace(frame.planes[0]), large=1)
    assert halved.tobytes() == seen.pixels.tobytes()


def test_averages_of_pixels_that_were_replaced_do_not_stay(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(1, 60000, (40, 40)).astype("f4")
    pixels[:, :3] = 0.0
    assert not read_frame(write_fits(tmp_path / "a.fit", pixels)).planes[0].averages


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("                   T / standard", True),
        (" T / Created by StarlightLive", True),
        ("= nothing", "= nothing"),
        (" 2017-11-15T20:07:12", "2017-11-15T20:07:12"),
        (" 'O''Neill  ' / quoted quote", "O'Neill"),
        (" 'M 31 / Andromeda'", "M 31 / Andromeda"),
        (" 'never closed", "never closed"),
        (" ''", ""),
        (" ", None),
        (" 32768.000000000000 /physical", 32768.0),
        (" 1.5D3", 1500.0),
        (" -.5", -0.5),
        (" 6.", 6.0),
        (" 123456789012345678901234567890", 1.2345678901234568e29),
        (" NaN", "NaN"),
    ],
)
def test_card_values_are_understood_in_every_spelling_seen(text: str, value: object) -> None:
    assert parse_value(text)[0] == value


def test_the_first_of_equal_keys_counts_and_remarks_are_joined() -> None:
    block = header_bytes([card("GAIN", 100), card("GAIN", 7), "HISTORY one", "HISTORY two", "no card at all"])
    cards = parse_cards(block)
    assert cards["GAIN"].value == 100
    assert cards["HISTORY"].value == "one\ntwo"


def test_long_strings_continue() -> None:
    cards = parse_cards(header_bytes(["OBJECT  = 'The very &'", "CONTINUE  'long &'", "CONTINUE  'name' / object"]))
    assert cards["OBJECT"].value == "The very long name"


@given(st.binary(max_size=400))
def test_no_header_bytes_break_the_parser(block: bytes) -> None:
    for value in parse_cards(block).values():
        assert value.value is None or isinstance(value.value, str | int | float | bool)


@given(st.text(max_size=70))
def test_no_card_text_breaks_the_value_parser(text: str) -> None:
    parse_value(text)


def test_declared_length_counts_every_unit(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "two.fits"
    units = [astropy_fits.PrimaryHDU(noise(rng)), astropy_fits.ImageHDU(noise(rng)), astropy_fits.BinTableHDU()]
    astropy_fits.HDUList(units).writeto(path)
    size = path.stat().st_size
    with FileIO(path) as file:
        assert size - 2880 < declared_bytes(file, size) <= size


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([card("BITPIX", 17)], UnreadableFrame),
        ([card("BITPIX", 16), card("NAXIS", 999)], UnreadableFrame),
        ([card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", -5), card("NAXIS2", 5)], UnreadableFrame),
        ([card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", "wide"), card("NAXIS2", 5)], UnreadableFrame),
        ([card("BITPIX", 16), card("NAXIS", 2)], UnreadableFrame),
        ([card("BITPIX", 16), card("NAXIS", 0)], NotASub),
        ([card("BITPIX", 16), card("NAXIS", 1), card("NAXIS1", 500)], NotASub),
        ([card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", 0), card("NAXIS2", 5)], NotASub),
        (
            [card("BITPIX", 16), card("NAXIS", 3), card("NAXIS1", 9), card("NAXIS2", 9), card("NAXIS3", 40)],
            NotASub,
        ),
        (
            [card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", 9), card("NAXIS2", 9), card("BSCALE", 0)],
            UnreadableFrame,
        ),
        (
            [card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", 9), card("NAXIS2", 9), card("BZERO", "NaN")],
            UnreadableFrame,
        ),
    ],
)
def test_impossible_headers_are_refused_with_a_sentence(lines: list[str], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\.$"):
        image_layout(parse_cards(header_bytes([card("SIMPLE", True), *lines])), 2880)


def test_a_header_cut_off_may_be_retried_but_no_fits_may_not(tmp_path: Path) -> None:
    cut = tmp_path / "cut.fits"
    cut.write_bytes(header_bytes([card("SIMPLE", True)], end=False)[:1000])
    with FileIO(cut) as file, pytest.raises(UnreadableFrame) as caught:
        read_cards(file)
    assert caught.value.may_retry
    cut.write_bytes(b"\xff\xd8\xff\xe0 a photograph".ljust(2880))
    with FileIO(cut) as file, pytest.raises(UnreadableFrame) as caught:
        read_cards(file)
    assert not caught.value.may_retry


def test_unwritten_pages_are_found_wherever_they_lie(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.bin"
    content = bytearray(rng.integers(1, 255, 40 * 4096).astype(np.uint8).tobytes())
    for page in (3, 17, 39):
        content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    content[20 * 4096 : 20 * 4096 + 2000] = bytes(2000)
    path.write_bytes(content)
    with FileIO(path) as file:
        assert unwritten_pages(file, 2880, len(content)) == 3


def test_checksum_is_that_of_the_standard(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.fits"
    astropy_fits.PrimaryHDU(noise(rng)).writeto(path, checksum=True)
    with FileIO(path) as file:
        cards, offset = read_cards(file)
        assert checksum(file, offset, image_layout(cards, offset).end) == int(str(cards["DATASUM"].value))


def test_mandatory_cards_of_the_test_writer_are_standard(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng)
    path = tmp_path / "a.fits"
    path.write_bytes(header_bytes(mandatory(pixels)) + data_bytes(pixels))
    assert np.array_equal(astropy_fits.getdata(path), pixels)
