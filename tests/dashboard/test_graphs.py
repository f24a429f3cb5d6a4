"""Graphs draw what the numbers say, in every size and marker."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsgd.dashboard.canvas import Canvas, Ink
from nsgd.dashboard.figures import clock_label
from nsgd.dashboard.graphs import Curve, Figure, Level, Mark, clock_ticks, draw, nice_ticks, tick_label
from nsgd.dashboard.themes import Marker


def text_of(figure: Figure, width: int = 60, height: int = 12, marker: Marker = Marker.ASCII) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw(figure, width, height, marker)]


def night(y: list[float], **others: object) -> Figure:
    values = np.array(y)
    return Figure("T", 1.8e9 + 60.0 * np.arange(values.size), values, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("marker", list(Marker))
@pytest.mark.parametrize(("width", "height"), [(30, 6), (46, 8), (80, 12), (160, 40), (12, 4), (5, 2), (200, 3)])
def test_every_line_has_just_the_width_asked_for(marker: Marker, width: int, height: int) -> None:
    figure = night([1.0, 0.9, float("nan"), 0.4, 1.0], levels=(Level(0.75, Ink.CUT, "cut 0.75"),))
    lines = draw(figure, width, height, marker)
    assert len(lines) == height
    assert {sum(len(text) for text, _ in line) for line in lines} == {width}


def test_points_stand_above_or_below_the_cut_off_as_their_values_do() -> None:
    figure = night([1.0] * 10 + [0.3] * 10, bad=np.array([False] * 10 + [True] * 10), joined=False,
                   levels=(Level(0.65, Ink.CUT, "cut"),))  # fmt: skip
    lines = text_of(figure)
    cut = next(row for row, line in enumerate(lines) if "cut" in line)
    assert all("o" not in line for line in lines[cut + 1 : -2])
    assert all("x" not in line for line in lines[1:cut])
    assert any("o" in line for line in lines[1:cut])
    assert any("x" in line for line in lines[cut:-2])


def test_a_sub_that_failed_is_marked_at_the_foot_and_breaks_the_line() -> None:
    figure = night([1.0, 1.0, float("nan"), 1.0, 1.0], bad=np.array([False, False, True, False, False]),
                   y_range=(0.0, 1.0))  # fmt: skip
    lines = text_of(figure, width=61)
    foot = lines[-3]
    assert "!" in foot
    top = next(line for line in lines[1:] if "o" in line)
    gap = top[foot.index("!") - 8 : foot.index("!") + 8]
    assert "." not in gap


def test_error_bars_span_their_errors() -> None:
    figure = night([0.5], err=np.array([0.3]), y_range=(0.0, 1.0))
    bars = [row for row, line in enumerate(text_of(figure, height=23)) if "|" in line[5:]]
    assert 10 <= len(bars) <= 13


def test_ten_thousand_points_are_reduced_to_the_columns_and_keep_their_extremes() -> None:
    rng = np.random.default_rng(1)
    y = 1.0 + rng.normal(0.0, 0.01, 10_000)
    y[5000] = 0.1
    lines = text_of(Figure("T", np.arange(10_000.0), y, bad=y < 0.75), width=80, height=20)
    assert any("x" in line for line in lines[-5:-2])


def test_events_stand_on_the_axis_at_their_time() -> None:
    figure = night([1.0] * 61, marks=(Mark(1.8e9 + 30 * 60, "▲", "A"),))
    axis = text_of(figure, width=70)[-2]
    left = axis.index("+")
    assert axis.index("A") == pytest.approx(left + 1 + (70 - left - 1) / 2, abs=1)


def test_a_line_that_leaves_the_frame_keeps_its_slope() -> None:
    x = np.array([0.0, 10.0])
    figure = Figure("T", np.array([5.0, 10.0]), np.array([5.0, 10.0]), joined=False, x_range=(0.0, 10.0),
                    curves=(Curve(x, x),))  # fmt: skip
    lines = text_of(figure, width=41, height=24)
    points = [(row, line.index("o")) for row, line in enumerate(lines) if "o" in line[4:]]
    assert all(lines[row][column - 1] in "~ " for row, column in points)


def test_blocks_and_braille_show_the_same_picture_finer() -> None:
    figure = night([float(value) for value in np.linspace(0, 1, 30)])
    filled = {
        marker: sum(c not in " │┤" for line in text_of(figure, 60, 20, marker)[1:-2] for c in line) for marker in Marker
    }
    assert min(filled.values()) > 20


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_few_round_and_inside(low: float, span: float, most: int) -> None:
    ticks, step = nice_ticks(low, low + span, most)
    assert ticks.size <= most + 1
    assert (ticks >= low - 1e-6 * step - 1e-9 * abs(low)).all()
    assert (ticks <= low + span + 1e-6 * step + 1e-9 * abs(low)).all()
    assert np.allclose(ticks / step, np.rint(ticks / step), atol=1e-3)


def test_tick_labels_never_say_minus_zero_and_thousands_are_short() -> None:
    assert tick_label(-1e-12, 0.5) == "0.0"
    assert tick_label(52000.0, 2000.0) == "52k"
    assert tick_label(0.75, 0.05) == "0.75"


def test_the_clock_axis_falls_on_full_hours_of_the_zone() -> None:
    start = datetime(2026, 11, 21, 19, 7, tzinfo=UTC).timestamp()
    ticks, step = clock_ticks(start, start + 6 * 3600, 6)
    label = clock_label(ZoneInfo("Europe/Berlin"))
    assert [label(float(tick), step) for tick in ticks] == ["21:00", "22:00", "23:00", "00:00", "01:00", "02:00"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=50), st.integers(13, 90))
def test_no_number_breaks_a_graph(values: list[float], width: int) -> None:
    y = np.array(values, dtype=float)
    y[np.isinf(y)] = np.nan
    lines = draw(Figure("T", np.arange(float(y.size)), y, np.abs(y)), width, 9, Marker.BRAILLE)
    assert {sum(len(text) for text, _ in line) for line in lines} == {width}


def test_letters_lie_above_dots_and_keep_inside() -> None:
    canvas = Canvas(10, 3, Marker.BRAILLE)
    canvas.level(1.5, Ink.LEVEL)
    canvas.letter(7, 1.5, "abcdef", Ink.CUT)
    middle = "".join(text for text, _ in canvas.rows()[1])
    assert middle.endswith("abc")
    assert len(middle) == 10
