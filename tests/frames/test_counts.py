"""Large pictures are kept as their file holds them: nobody who looks at them can tell."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from framefiles import noise, write_fits
from numpy.typing import NDArray

from nsgd.counts import Counts
from nsgd.errors import UnreadableFrame
from nsgd.frames.preview import make_preview
from nsgd.frames.read import read_frame
from nsgd.measure.sky import sky_view, view_of
from nsgd.records import Plane

HEIGHT, WIDTH = 2501, 3201
"""Just above the size from which on it pays, and odd."""


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    """Every number that a file can hold, but for zeros."""
    return np.random.default_rng(96).integers(1, 65536, (HEIGHT, WIDTH)).astype(np.uint16)


def plane_in(path: Path) -> Plane:
    (plane,) = read_frame(path).planes
    return plane


def averages_of(plane: Plane) -> list[bytes]:
    """As they were made while the file was read, or else as measuring makes them."""
    fine = view_of(plane, large=1)
    return [fine.pixels.tobytes(), sky_view(plane, fine).pixels.tobytes()]


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_kept_numbers_read_as_their_floats(tmp_path: Path, pixels: NDArray[np.uint16], dtype: str) -> None:
    numbers = pixels.view(dtype) if dtype == "i2" else pixels
    kept, plain = (read_frame(write_fits(tmp_path / f"{kind}.fit", numbers.astype(kind))) for kind in (dtype, "f4"))
    plane, floats = kept.planes[0], plain.planes[0].pixels
    assert isinstance(plane.light, Counts)
    assert [average.shape for average in plane.averages] == [(HEIGHT // n, WIDTH // n) for n in (2, 4)]
    assert kept.content_id == plain.content_id
    places = np.array([0, 7, HEIGHT - 1]), np.array([WIDTH - 1, 5, 0])
    for place in (slice(3, 900, 100), places, (slice(None, None, 50), slice(2, None, 70)), (..., [1, 2], slice(9))):
        assert plane.light[place].tobytes() == floats[place].tobytes()
    assert averages_of(plane) == averages_of(Plane("L", floats))
    assert make_preview(kept).pixels.tobytes() == make_preview(plain).pixels.tobytes()
    assert isinstance(plane.light, Counts)
    assert plane.pixels.tobytes() == floats.tobytes()


def test_all_floats_of_kept_numbers_may_be_changed_in_place(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    plane = plane_in(write_fits(tmp_path / "a.fit", pixels))
    plane.pixels[5, 6] = -1.0
    assert plane.pixels[5, 6] == plane.light[5, 6] == -1.0


@pytest.mark.parametrize(
    ("shape", "cards"),
    [
        ((2400, 3200), ()),
        ((HEIGHT, WIDTH), (("BLANK", 7),)),
        ((HEIGHT, WIDTH), (("BSCALE", 0.5),)),
        ((HEIGHT, WIDTH), (("BZERO", 1000.5),)),
    ],
    ids=["small", "blank", "scaled", "no whole zero point"],
)
def test_other_pictures_are_floats(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, int], cards: tuple[tuple[str, object], ...]
) -> None:
    plane = plane_in(write_fits(tmp_path / "a.fit", rng.integers(1, 1000, shape).astype("i2"), cards))
    assert plane.light is plane.pixels
    assert averages_of(plane) == averages_of(Plane("L", plane.pixels))


def test_empty_edges_of_a_large_picture_are_missing(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    cut = pixels.copy()
    cut[:, :3] = cut[-2:] = 0
    plane = plane_in(write_fits(tmp_path / "a.fit", cut))
    assert not plane.averages
    assert np.isnan(plane.pixels[:, :3]).all()
    assert np.isnan(plane.pixels[-2:]).all()
    assert np.array_equal(plane.pixels[:-2, 3:], cut[:-2, 3:])


def test_a_large_picture_that_ends_early_or_was_not_written_is_refused(tmp_path: Path) -> None:
    pixels = noise(np.random.default_rng(97), HEIGHT, WIDTH)
    path = write_fits(tmp_path / "a.fit", pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[:9_000_000])
    with pytest.raises(UnreadableFrame, match="ended before its last pixel") as caught:
        read_frame(path)
    assert caught.value.may_retry
    path.write_bytes(whole[:9_000_000] + bytes(len(whole) - 9_000_000))
    with pytest.raises(UnreadableFrame, match="was never written"):
        read_frame(path)


def test_a_packed_copy_of_a_large_picture_is_the_same(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "a.fit", noise(np.random.default_rng(98), HEIGHT, WIDTH))
    packed = tmp_path / "a.fit.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    one, other = read_frame(path), read_frame(packed)
    assert one.content_id == other.content_id
    assert one.planes[0].pixels.tobytes() == other.planes[0].pixels.tobytes()
