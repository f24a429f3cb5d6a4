"""A night whose subs come in other formats, or in odd FITS, is one series with the right figures."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from small_nights import CAMERA, LATER_UTC_S, SETTINGS, field_of, sub_at, take
from xisf import XISF

from nsgd.session.store import Store
from nsgd.simulate import Camera, render, sub_cards, write_sub
from nsgd.simulate.files import Card
from nsgd.walk import Walker, final_series

Pixels = NDArray[np.uint16]
Writer = Callable[[Path, Pixels, list[Card]], object]
LIGHTS = (1.0, 0.7, 1.0, 0.9, 0.5, 1.0, 0.8)


def header_of(cards: list[Card]) -> fits.Header:
    header = fits.Header()
    header.extend(cards)
    return header


def text_of(cards: list[Card]) -> str:
    """Cards as lines, as N.I.N.A. puts them into a TIFF's title."""
    return "\r\n".join(str(card).rstrip() for card in header_of(cards).cards)


def plain(path: Path, pixels: Pixels, cards: list[Card]) -> object:
    return write_sub(path.with_suffix(".fits"), pixels, cards)


def gzipped(path: Path, pixels: Pixels, cards: list[Card]) -> object:
    whole = write_sub(path.with_suffix(".plain"), pixels, cards)
    return path.with_suffix(".fits.gz").write_bytes(gzip.compress(whole.read_bytes(), 1))


def tiled(path: Path, pixels: Pixels, cards: list[Card]) -> object:
    unit = fits.CompImageHDU(pixels, header_of(cards), compression_type="RICE_1")
    return fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path.with_suffix(".fits.fz"))


def tiff(path: Path, pixels: Pixels, cards: list[Card]) -> object:
    tifffile = pytest.importorskip("tifffile")
    return tifffile.imwrite(path.with_suffix(".tif"), pixels, description=text_of(cards), compression="zlib")


def xisf(codec: str | None, shuffle: bool) -> Writer:
    def write(path: Path, pixels: Pixels, cards: list[Card]) -> object:
        quoted = {key: f"'{value}'" if isinstance(value, str) else str(value) for key, value, _ in cards}
        keywords = {key: [{"value": value, "comment": ""}] for key, value in quoted.items()}
        return XISF.write(
            str(path.with_suffix(".xisf")), pixels[:, :, None], creator_app="N.I.N.A. 3.1",
            image_metadata={"FITSKeywords": keywords}, codec=codec, shuffle=shuffle,
        )  # fmt: skip

    return write


def odd(
    dtype: str, change: Callable[[bytes], bytes] = lambda content: content, *, border: float | None = None
) -> Writer:
    """FITS in another number type, then bent by `change`; `border` rows and columns hold no number."""

    def write(path: Path, pixels: Pixels, cards: list[Card]) -> object:
        numbers = pixels.astype(dtype)
        if border is not None:
            numbers[:7] = numbers[:, -9:] = border
        file = path.with_suffix(".fit")
        fits.PrimaryHDU(numbers, header_of(cards)).writeto(file)
        content = file.read_bytes()
        return file.write_bytes(change(content))

    return write


def lower_case(content: bytes) -> bytes:
    for key in (b"FILTER  ", b"EXPTIME ", b"DATE-OBS", b"OBJECT  "):
        content = content.replace(key + b"=", key.lower() + b"=")
    return content


def not_quite_standard(content: bytes) -> bytes:
    """Dates without quotes and a comment without its slash, which other readers refuse."""
    at = content.index(b"SWCREATE=")
    return content[:at] + b"SWCREATE= N.I.N.A. = \"quoted'".ljust(80) + content[at + 80 :]


FORMATS: dict[str, Writer] = {
    "fits": plain, "fits.gz": gzipped, "fits.fz": tiled, "tiff": tiff, "xisf": xisf(None, False),
    "xisf lz4hc+sh": xisf("lz4hc", True), "xisf zlib": xisf("zlib", False),
}  # fmt: skip
ODDITIES: dict[str, Writer] = {
    "float64": odd("f8"), "int32": odd("i4"), "NaN border": odd("f4", border=np.nan),
    "zero border": odd("f4", border=0.0),
    "lower case": odd("u2", lower_case), "unpadded": odd("u2", lambda content: content[: 2880 * 2 + 600 * 400 * 2]),
    "against the standard": odd("u2", not_quite_standard),
}  # fmt: skip


def night_in(folder: Path, writers: dict[str, Writer], camera: Camera = CAMERA) -> None:
    """One sub in each format, the planted light of LIGHTS."""
    field = field_of(3, camera=camera)
    folder.mkdir()
    for index, (write, light) in enumerate(zip(writers.values(), LIGHTS, strict=False)):
        truth = sub_at(index, light, camera=camera)
        pixels = render(field, truth, np.random.default_rng([9, index]))
        write(folder / f"M31_{index:03d}.x", pixels, sub_cards(truth, "M 31"))


def walked(folder: Path, place: Path) -> Store:
    store = Store.open(place, LATER_UTC_S)
    take(store, Walker(store, SETTINGS, None), sorted(path for path in folder.iterdir() if path.suffix != ".plain"))
    return store


@pytest.mark.parametrize("writers", [FORMATS, ODDITIES], ids=["formats", "oddities"])
def test_subs_of_every_format_are_one_series(tmp_path: Path, writers: dict[str, Writer]) -> None:
    night_in(tmp_path / "lights", writers)
    with walked(tmp_path / "lights", tmp_path / "store") as store:
        ((series, rows),) = final_series(store)
    assert [row.failure for row in rows] == [None] * len(writers)
    assert {(row.header.filter_name, row.header.exposure_s, row.header.object_name) for row in rows} == {
        (rows[0].header.filter_name, rows[0].header.exposure_s, "M 31")
    }
    assert [row.header.time_source for row in rows] == ["DATE-AVG"] * len(writers)
    light = [1.0 / row.relation.scale[0] for row in rows if row.relation]
    planted = np.array(LIGHTS[: len(writers)])
    reference = next(index for index, row in enumerate(rows) if row.sub_id == series.reference_id)
    assert np.array(light) / light[0] == pytest.approx(planted / planted[0], rel=0.012), reference


def test_bayer_subs_are_the_same_in_plain_and_tile_compressed_fits(tmp_path: Path) -> None:
    camera = Camera(width_px=600, height_px=400, bayer="GBRG")
    night_in(tmp_path / "lights", {"fits": plain, "fits.fz": tiled, "xisf": xisf("zlib", True)}, camera)
    with walked(tmp_path / "lights", tmp_path / "store") as store:
        ((_, rows),) = final_series(store)
    assert [row.header.bayer_pattern for row in rows] == ["GBRG"] * 3
    light = np.array([1.0 / row.relation.scale[0] for row in rows if row.relation])
    assert light / light[0] == pytest.approx(np.array(LIGHTS[:3]), rel=0.02)
