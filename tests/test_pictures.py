"""What pictures promise: they can be read on a phone, hold what they should, and survive any input."""

from __future__ import annotations

import io
import time
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

from nsgd.pictures import BAD, SERIES, Caption, Stretch, auto_stretch, night_graph, thumbnail
from nsgd.records import NAN, HeaderFacts, SkyState, SubRow, SubStatus, Verdict

BEGIN = 1_795_287_600.0


def night(
    light: list[float], filters: tuple[str, ...] = ("L",), name: str = "M 31"
) -> tuple[list[SubRow], list[Verdict]]:
    rows, verdicts = [], []
    for number, value in enumerate(light):
        utc_s = BEGIN + 180.0 * number
        header = HeaderFacts(
            object_name=name, filter_name=filters[number % len(filters)], exposure_s=170.0, mid_utc_s=utc_s
        )
        rows.append(
            SubRow(number, str(number), 1, "170s", "f", f"f/{number}", False, header, "n", utc_s, utc_s, "", None, 0.1)
        )
        status = SubStatus.FAILED if np.isnan(value) else SubStatus.OK if value >= 0.75 else SubStatus.REJECTED
        state = SkyState.CLEAR if value > 0.9 else SkyState.CLOUDY
        verdicts.append(Verdict(number, status, (), value, 0.01, value, 1.0, 1.0, 1, False, sky_state=state))
    return rows, verdicts


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.convert("RGB")


def has(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels close to a colour."""
    pixels = np.asarray(image, dtype=int)
    return int((np.abs(pixels - np.array(colour)).sum(axis=-1) < 40).sum())


def test_the_graph_is_a_small_png_of_the_size_asked_for() -> None:
    png = night_graph(*night([1.0] * 60), Caption("Clear", "M 31", SkyState.CLEAR), size_px=(900, 500))
    assert opened(png).size == (900, 500)
    assert len(png) < 100_000


def test_good_subs_have_the_colour_of_their_series_and_bad_ones_a_cross() -> None:
    clear = opened(night_graph(*night([1.0] * 40), Caption("x")))
    cloudy = opened(night_graph(*night([1.0] * 20 + [0.4] * 20), Caption("x")))
    two = opened(night_graph(*night([1.0] * 40, ("Ha", "OIII")), Caption("x")))
    assert has(clear, SERIES[0]) > 500
    assert has(cloudy, BAD) > has(clear, BAD) + 500
    assert has(two, SERIES[1]) > 200
    assert has(clear, SERIES[1]) < 50


def test_a_point_lies_where_its_transmission_says() -> None:
    high = np.asarray(opened(night_graph(*night([1.0] * 30), Caption("x"))), dtype=int)
    low = np.asarray(opened(night_graph(*night([0.8] * 30), Caption("x"))), dtype=int)
    rows = [np.nonzero((np.abs(a - np.array(SERIES[0])).sum(-1) < 40)[118:540].sum(1) > 50)[0] for a in (high, low)]
    plot_px = 640 - 96 - 118
    assert rows[1].mean() - rows[0].mean() == pytest.approx(0.2 / 1.12 * plot_px, abs=2.0)


@pytest.mark.parametrize("light", [[], [1.0], [NAN], [NAN, 1.0, 3.0, -0.2, 0.5], [1.0] * 2000])
def test_any_night_can_be_drawn(light: list[float]) -> None:
    assert opened(night_graph(*night(light), Caption("State"))).size == (1080, 640)


def test_hostile_and_endless_names_are_cut() -> None:
    rows, verdicts = night([1.0] * 5, name="[red]\x1b[31m" + "w" * 500)
    opened(night_graph(rows, verdicts, Caption("T" * 5000 + "\n\x00", "\u202e" * 50)))


def test_a_graph_is_drawn_in_a_fraction_of_a_second() -> None:
    rows, verdicts = night([1.0] * 300)
    began = time.process_time()
    night_graph(rows, verdicts, Caption("x"), zone=ZoneInfo("Europe/Berlin"))
    assert time.process_time() - began < 1.0


def test_the_stretch_puts_the_sky_at_a_fifth_of_the_screen() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.normal(500.0, 10.0, (200, 300))
    pixels[50:54, 60:64] = 20_000.0
    screen = auto_stretch(pixels)(pixels)
    assert np.median(screen) == pytest.approx(0.2 * 255, abs=12)
    assert screen.max() == 255


def test_a_shared_stretch_keeps_brightness_comparable() -> None:
    stretch = Stretch(0.0, 1000.0, 0.3)
    dark, light = (thumbnail(np.full((50, 50), level), stretch=stretch) for level in (100.0, 400.0))
    assert np.asarray(opened(dark)).mean() < np.asarray(opened(light)).mean()


@pytest.mark.parametrize("pixels", [
    np.full((20, 30), np.nan), np.zeros((20, 30)), np.full((3, 1000), 5.0), np.ones((40, 30, 3)) * np.arange(3),
])  # fmt: skip
def test_any_pixels_make_a_thumbnail(pixels: np.ndarray) -> None:
    assert max(opened(thumbnail(pixels, 100)).size) <= 100


def test_a_thumbnail_is_no_larger_than_asked_for() -> None:
    assert opened(thumbnail(np.random.default_rng(1).normal(size=(600, 900)), 256)).size == (256, 171)
