"""Previews are linear, placed, small and harmless when broken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nsgd.frames.preview import load_preview, make_preview, save_preview, trim_previews
from nsgd.records import Frame, HeaderFacts, Plane


def frame(width_px: int, height_px: int, *, bayer: bool = False) -> Frame:
    """A frame whose brightness is 1000 + x + 2 y, so that every place can be checked."""
    step = 2 if bayer else 1
    origins = {"R": (0.0, 0.0), "G": (0.5, 0.5), "B": (1.0, 1.0)} if bayer else {"L": (0.0, 0.0)}
    planes = []
    for name, (x0, y0) in origins.items():
        y, x = np.mgrid[0 : height_px // step, 0 : width_px // step] * float(step)
        planes.append(Plane(name, (1000 + x + x0 + 2 * (y + y0)).astype(np.float32), x0, y0, step))
    return Frame("a.fits", "0", HeaderFacts(width_px=width_px, height_px=height_px), tuple(planes), 65535.0)


@pytest.mark.parametrize("bayer", [False, True])
def test_a_preview_tells_the_brightness_of_every_place(bayer: bool) -> None:
    preview = make_preview(frame(900, 640, bayer=bayer), most_px=128)
    assert max(preview.pixels.shape) <= 128
    x, y = np.array([20.0, 450.0, 850.0]), np.array([30.0, 300.0, 600.0])
    assert preview.at(x, y).mean(axis=-1) == pytest.approx(1000 + x + 2 * y, abs=0.01)
    assert np.isnan(preview.at(np.array([-50.0]), np.array([5.0]))).all()


def test_a_kept_preview_comes_back_within_a_level(tmp_path: Path) -> None:
    preview = make_preview(frame(300, 200))
    save_preview(tmp_path / "previews" / "a.npz", preview)
    back = load_preview(tmp_path / "previews" / "a.npz")
    assert back is not None
    assert back.channels == ("L",)
    assert np.abs(back.pixels - preview.pixels).max() < 0.02
    assert list((tmp_path / "previews").iterdir()) == [tmp_path / "previews" / "a.npz"]


def test_missing_pixels_stay_missing(tmp_path: Path) -> None:
    made = make_preview(frame(64, 64))
    made.pixels[3, 4] = np.nan
    save_preview(tmp_path / "a.npz", made)
    back = load_preview(tmp_path / "a.npz")
    assert back is not None
    assert np.argwhere(np.isnan(back.pixels[..., 0])).tolist() == [[3, 4]]


def test_broken_and_missing_previews_are_none(tmp_path: Path) -> None:
    save_preview(tmp_path / "a.npz", make_preview(frame(64, 64)))
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        (tmp_path / "b.npz").write_bytes(content)
        assert load_preview(tmp_path / "b.npz") is None
    assert load_preview(tmp_path / "c.npz") is None


def test_the_oldest_previews_go_first_and_references_stay(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.npz" for name in "abcd"]
    for age, path in enumerate(paths):
        save_preview(path, make_preview(frame(64, 64)))
        os.utime(path, (1000 + age, 1000 + age))
    size = paths[0].stat().st_size
    assert trim_previews(tmp_path, 2.5 * size / 1e6, spare=[paths[0]]) == 2
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[3]]
