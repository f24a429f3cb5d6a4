"""Satellites' trails: found where they run, and what they cross counts for nothing in that sub."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted_subs import CAMERA, SETTINGS, clear, field_of, frame_of, shoot

from nsgd.measure.recipe import survey
from nsgd.measure.trails import LEAST_PEAKS, distance_px, trails_through
from nsgd.records import StarFlag
from nsgd.simulate import Camera


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), angle=st.floats(0.0, np.pi), peaks=st.integers(LEAST_PEAKS + 2, 40))
@example(seed=1734, angle=1.43359375, peaks=12)
def test_a_row_among_stray_places_is_found(seed: int, angle: float, peaks: int) -> None:
    rng = np.random.default_rng([seed, 81])
    along = np.linspace(-300.0, 300.0, peaks)
    row = np.column_stack((along * np.cos(angle), along * np.sin(angle))) + rng.uniform(-1.0, 1.0, (peaks, 2))
    stray = rng.uniform(-300.0, 300.0, (20, 2))
    places = rng.permutation(np.concatenate((row, stray)))
    found = trails_through(places[:, 0], places[:, 1])
    assert len(found) >= 1
    assert distance_px(found, row[:, 0], row[:, 1]).max() < 6.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(0, 30))
def test_scattered_places_are_no_trail(seed: int, number: int) -> None:
    x, y = np.random.default_rng([seed, 82]).uniform(0.0, 3000.0, (2, number))
    assert trails_through(x, y).shape == (0, 4)
    assert np.isinf(distance_px(trails_through(x, y), x, y)).all()


@pytest.mark.parametrize("bayer", ["", "RGGB"])
def test_as_many_trails_are_found_as_satellites_passed(bayer: str) -> None:
    camera = Camera(width_px=1000, height_px=700, bayer=bayer)
    found, passed = [], []
    for seed in range(6):
        truth = clear(camera, satellites=seed % 3)
        found.append(len(survey(frame_of(field_of(90 + seed, camera), truth, 90 + seed), SETTINGS, 300).trails))
        passed.append(seed % 3)
    assert sum(abs(a - b) for a, b in zip(found, passed, strict=True)) <= 1


def test_what_a_satellite_crosses_counts_for_nothing_and_the_rest_stays_right() -> None:
    crossed = [clear(satellites=1) for _ in range(8)]
    series = shoot(field_of(83, stars=200), [clear()] * 4 + crossed, 83)
    off = np.array([relation.scale[0] / series.relations[1].scale[0] - 1.0 for relation in series.relations[4:]])
    assert np.abs(off).max() < 0.02
    masked = [int(((facts.flags & StarFlag.MASKED) != 0).sum()) for facts in series.facts[4:]]
    assert sum(number > 0 for number in masked) >= 5
    assert max(masked) < 0.3 * len(series.facts[0].flags)


@pytest.mark.parametrize("seed", range(3))
def test_a_sub_without_a_satellite_has_no_trail(seed: int) -> None:
    truth = clear(replace(CAMERA, hot_pixels=300), cosmic_rays=40)
    assert len(survey(frame_of(field_of(84 + seed, stars=200, nebula=3), truth, 84 + seed), SETTINGS, 300).trails) == 0
