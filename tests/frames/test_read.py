"""The door of the room: kinds, planes, identity, whole and half files."""

from __future__ import annotations

import gzip
import os
import shutil
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from framefiles import card, header_bytes, mandatory, noise, write_fits

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.read import is_whole, looks_like_image, looks_unfinished, read_frame, read_header, read_master

DATA = next((p / "shared" / "data" for p in Path(__file__).resolve().parents if (p / "shared" / "data").is_dir()), None)


def test_a_mono_sub_is_one_plane_in_its_own_units(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng)
    frame = read_frame(write_fits(tmp_path / "a.fit", pixels, [("FILTER", "Ha"), ("EXPTIME", 60.0)]))
    (plane,) = frame.planes
    assert (plane.name, plane.step_px, plane.pixels.dtype) == ("L", 1, np.float32)
    assert np.array_equal(plane.pixels, pixels)
    assert plane.pixels.flags.c_contiguous
    assert (frame.header.width_px, frame.header.height_px) == (80, 60)
    assert (frame.header.filter_name, frame.header.exposure_s) == ("Ha", 60.0)
    assert frame.saturation_adu == 65535.0


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("shape", [(60, 80), (61, 81)])
def test_bayer_planes_know_where_their_pixels_lie(
    tmp_path: Path, rng: np.random.Generator, pattern: str, shape: tuple[int, int]
) -> None:
    pixels = noise(rng, *shape)
    frame = read_frame(write_fits(tmp_path / "a.fit", pixels, [("BAYERPAT", pattern)]))
    assert frame.channels == ("R", "G", "B")
    assert frame.header.bayer_pattern == pattern
    for plane in frame.planes:
        assert plane.pixels.shape == (30, 40)
        assert plane.step_px == 2
        if plane.name == "G":
            greens = [pixels[n // 2 : 60 : 2, n % 2 : 80 : 2] for n in range(4) if pattern[n] == "G"]
            assert np.array_equal(plane.pixels, (greens[0].astype(np.float32) + greens[1]) / 2)
            assert (plane.origin_x_px, plane.origin_y_px) == (0.5, 0.5)
        else:
            x, y = int(plane.origin_x_px), int(plane.origin_y_px)
            assert pattern[2 * y + x] == plane.name
            assert np.array_equal(plane.pixels, pixels[y:60:2, x:80:2])


@pytest.mark.parametrize("empty", [(), (41, slice(None)), (slice(None), 17), (slice(300, 302), slice(None))])
@pytest.mark.parametrize("width", [900, 901])
def test_a_bayer_sub_is_the_same_whether_its_colours_are_split_while_it_is_read_or_later(
    tmp_path: Path, rng: np.random.Generator, empty: tuple[object, ...], width: int
) -> None:
    pixels = noise(rng, 700, width)
    if empty:
        pixels[empty] = 0
    pixels[500, 3:9] = 32768  # what a page that was never written would hold throughout
    path = write_fits(tmp_path / "a.fit", pixels, [("BAYERPAT", "GRBG")])
    packed = tmp_path / "a.fit.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    plain, unpacked = read_frame(path), read_frame(packed)
    assert plain.content_id == unpacked.content_id
    assert (plain.header, plain.saturation_adu) == (unpacked.header, unpacked.saturation_adu)
    for one, other in zip(plain.planes, unpacked.planes, strict=True):
        assert replace(one, light=0) == replace(other, light=0)  # type: ignore[arg-type]
        assert np.array_equal(one.pixels, other.pixels, equal_nan=True)
    assert any(np.isnan(plane.pixels).any() for plane in plain.planes) == bool(empty)


def test_a_colour_picture_has_three_full_planes(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.normal(0.2, 0.01, (3, 40, 50)).astype(np.float32)
    frame = read_frame(write_fits(tmp_path / "a.fits", pixels))
    assert frame.channels == ("R", "G", "B")
    assert all(np.array_equal(plane.pixels, part) for plane, part in zip(frame.planes, pixels, strict=True))
    assert frame.saturation_adu == 1.0


@pytest.mark.parametrize(
    ("dtype", "cards", "level"),
    [("u1", [], 255.0), ("u2", [], 65535.0), ("i2", [], 32767.0), ("u2", [("SATURATE", 60000)], 60000.0),
     ("u2", [("DATAMAX", 0)], 65535.0), ("f4", [], 65535.0)],
)  # fmt: skip
def test_saturation_is_stated_or_follows_from_the_numbers(
    tmp_path: Path, dtype: str, cards: list[tuple[str, object]], level: float
) -> None:
    pixels = np.full((30, 30), 100).astype(dtype)
    assert read_frame(write_fits(tmp_path / "a.fits", pixels, cards)).saturation_adu == level


@pytest.mark.parametrize(("word", "kind"), [("Dark", "dark"), ("FLAT", "flat"), ("Bias Frame", "bias")])
def test_other_frames_are_named_before_their_pixels_are_read(tmp_path: Path, word: str, kind: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(header_bytes([*mandatory(np.zeros((50, 50), np.uint16)), card("IMAGETYP", word)]))
    with pytest.raises(NotASub) as caught:
        read_frame(path)
    assert caught.value.kind == kind


@pytest.mark.parametrize("word", ["Master Dark", "Flat", "Light Frame"])
def test_masters_are_read_whatever_their_kind(tmp_path: Path, rng: np.random.Generator, word: str) -> None:
    pixels = noise(rng).astype(np.float32)
    master = read_master(write_fits(tmp_path / "MasterDark.fit", pixels, [("IMAGETYP", word)]))
    assert np.array_equal(master.planes[0].pixels, pixels)


def test_identity_survives_renaming_and_header_rewriting(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng)
    cards = [("DATE-OBS", "2026-11-22T22:10:05")]
    first = read_frame(write_fits(tmp_path / "a.fit", pixels, cards))
    solved = [*cards, ("CRVAL1", 10.5), ("OBJECT", "M 31"), ("DATE-AVG", "2026-11-22T22:12:35")]
    assert read_frame(write_fits(tmp_path / "rejected" / "BAD_a.fit", pixels, solved)).content_id == first.content_id
    assert read_frame(write_fits(tmp_path / "f.fit", pixels.astype("f4"), cards)).content_id == first.content_id
    assert read_frame(write_fits(tmp_path / "b.fit", noise(rng), cards)).content_id != first.content_id
    later = [("DATE-OBS", "2026-11-22T22:15:05")]
    assert read_frame(write_fits(tmp_path / "c.fit", pixels, later)).content_id != first.content_id


def test_a_growing_file_is_whole_only_at_its_declared_length(tmp_path: Path, rng: np.random.Generator) -> None:
    content = write_fits(tmp_path / "whole.fit", noise(rng, 100, 100)).read_bytes()
    path = tmp_path / "growing.fit"
    declared = 2880 + 2 * 100 * 100
    for size in (0, 3, 100, 2879, 2880, 2881, 10000, declared - 1):
        path.write_bytes(content[:size])
        assert is_whole(path, size) is False, size
        with pytest.raises(UnreadableFrame) as caught:
            read_frame(path)
        assert caught.value.may_retry, size
    for size in (declared, len(content)):
        path.write_bytes(content[:size])
        assert is_whole(path, size) is True
        read_frame(path)


def test_a_preallocated_file_is_suspected_and_a_checksum_clears_it(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_fits(tmp_path / "a.fit", noise(rng, 200, 200))
    assert not looks_unfinished(path)
    content = path.read_bytes()
    path.write_bytes(content[:40000] + bytes(len(content) - 40000))
    assert is_whole(path, len(content)) is True
    assert looks_unfinished(path)
    with pytest.raises(UnreadableFrame, match="46 % of the picture was never written") as caught:
        read_frame(path)
    assert caught.value.may_retry
    signed = np.zeros((200, 200), np.int16)
    assert looks_unfinished(write_fits(path, signed))
    assert not looks_unfinished(write_fits(path, signed, [("DATASUM", "0")]))


@pytest.mark.parametrize("dtype", ["f4", "i2", "u1"])
def test_rows_and_columns_of_zeros_are_missing_where_zero_means_nothing(
    tmp_path: Path, rng: np.random.Generator, dtype: str
) -> None:
    pixels = rng.integers(1, 200, (120, 90)).astype(dtype)
    pixels[50, 40:60] = 0
    assert np.isfinite(read_frame(write_fits(tmp_path / "whole.fit", pixels)).planes[0].pixels).all()
    pixels[100:] = 0
    pixels[:, :3] = 0
    seen = read_frame(write_fits(tmp_path / "edges.fit", pixels)).planes[0].pixels
    assert np.isnan(seen[100:]).all()
    assert np.isnan(seen[:, :3]).all()
    assert np.array_equal(seen[:100, 3:], pixels[:100, 3:])
    black = read_frame(write_fits(tmp_path / "black.fit", 0 * pixels)).planes[0].pixels
    assert not black.any()


def test_a_binned_colour_camera_keeps_its_pattern_only_where_the_pixels_show_it(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    sky = np.tile(np.array([[540.0, 600.0], [600.0, 520.0]]), (200, 150))
    rows = np.linspace(0.0, 40.0, 400)[:, None] + 3.0 * (np.arange(400)[:, None] % 2)
    for name, level in (("mosaic", sky), ("grey", np.full_like(sky, 560.0))):
        pixels = rng.poisson(level + rows).astype(np.uint16)
        for binning, pattern in ((2, "RGGB" if name == "mosaic" else ""), (1, "RGGB")):
            path = tmp_path / f"{name}{binning}.fit"
            write_fits(path, pixels, [("BAYERPAT", "RGGB"), ("XBINNING", binning)])
            assert read_frame(path).header.bayer_pattern == pattern, (name, binning)


def test_a_file_of_zeros_only_is_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.fit"
    path.write_bytes(bytes(10000))
    assert is_whole(path, 10000) is False


def test_a_file_that_changes_while_it_is_read_is_not_believed(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_fits(tmp_path / "a.fit", noise(rng))
    real = os.fstat
    calls: list[int] = []

    def touched(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            os.utime(path, ns=(1, 1))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", touched)
    with pytest.raises(UnreadableFrame, match="changed") as caught:
        read_frame(path)
    assert caught.value.may_retry


def test_truncation_at_any_moment_is_survived(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_fits(tmp_path / "a.fit", noise(rng, 500, 500))
    content = path.read_bytes()
    stop = threading.Event()

    def mutilate() -> None:
        while not stop.is_set():
            os.truncate(path, 3000)
            path.write_bytes(content)

    thread = threading.Thread(target=mutilate)
    thread.start()
    problems = []
    try:
        for _ in range(300):
            try:
                assert read_frame(path).planes[0].pixels.shape == (500, 500)
            except UnreadableFrame as problem:
                problems.append(problem)
    finally:
        stop.set()
        thread.join()
    assert problems
    assert all(problem.may_retry for problem in problems)


def test_the_budget_is_checked_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with path.open("wb") as file:
        file.write(header_bytes([card("SIMPLE", True), card("BITPIX", 8), card("NAXIS", 2),
                                 card("NAXIS1", 60000), card("NAXIS2", 30000)]))  # fmt: skip
        file.truncate(2880 + 60000 * 30000)
    tracemalloc.start()
    with pytest.raises(UnreadableFrame, match="budget_mb") as caught:
        read_frame(path, budget_mb=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not caught.value.may_retry
    assert peak < 5_000_000


def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.fits"
    os.mkfifo(fifo)
    (tmp_path / "folder.fits").mkdir()
    for path in (fifo, tmp_path / "folder.fits", tmp_path / "nothing.fits", Path("/dev/null")):
        with pytest.raises(UnreadableFrame):
            read_header(path)


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("a.fit", True), ("A.FITS", True), ("a.fts", True), ("a.fits.fz", True), ("a.fit.gz", True), ("a.xisf", True),
        ("a.TIF", True), ("a.cr3", True), ("a.nef", True), ("M 31 é\n.fits", True), ("a.jpg", False), ("a.json", False),
        ("._a.fits", False), (".a.fits.Xy12Zz", False), (".syncthing.a.fits.tmp", False), ("a.fits.tmp", False),
        ("a.fits.part", False), ("~a.fits", False), ("a.gz", False), ("fits", False),
        ("2026_$$DSLR_SENSORTEMP$$_1.fits", False),
    ],
)  # fmt: skip
def test_names_tell_which_files_may_be_subs(name: str, may_be: bool) -> None:
    assert looks_like_image(Path("/captures") / name) is may_be


@pytest.mark.skipif(DATA is None, reason="the sample subs are not here")
def test_the_sample_subs_are_read_and_their_darks_are_not() -> None:
    assert DATA is not None
    kinds: dict[str, int] = {}
    series: set[tuple[str, str, float | None]] = set()
    identities = set()
    for path in sorted(DATA.rglob("*.fit*")):
        try:
            frame = read_frame(path)
        except NotASub as other:
            kinds[other.kind] = kinds.get(other.kind, 0) + 1
            continue
        kinds[path.parent.name] = kinds.get(path.parent.name, 0) + 1
        identities.add(frame.content_id)
        series.add((path.parent.name, frame.header.filter_name, frame.header.exposure_s))
    assert kinds == {"tres1": 90, "arp145": 17, "m8_lrgb": 32, "m27_rggb": 6, "dark": 5}
    assert len(identities) == 145
    assert {(name, 15.0) for name in "LRGB"} == {(name, s) for folder, name, s in series if folder == "m8_lrgb"}


def test_links_are_read_when_named(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_fits(tmp_path / "a.fit", noise(rng))
    (tmp_path / "b.fit").symlink_to(path)
    assert read_frame(tmp_path / "b.fit").content_id == read_frame(path).content_id


def test_reading_leaves_the_folder_as_it_is(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_fits(tmp_path / "in" / "a.fit", noise(rng))
    shutil.copystat(path, path)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    path.parent.chmod(0o555)
    read_frame(path)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")} == before
    path.parent.chmod(0o755)
