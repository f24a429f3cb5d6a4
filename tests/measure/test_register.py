"""Registration from star lists alone: it finds every shift, turn and flip, and never says yes to chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsgd.errors import MeasureFailure
from nsgd.measure.recipe import inverse
from nsgd.measure.register import Points, fit_transform, mutual_pairs, register, rotation
from nsgd.records import Transform

SIZE = (900, 600)
WIDE = 1400.0
"""Stars are scattered over this much, so that turned and shifted frames are full."""


def sky(rng: np.random.Generator, stars: int) -> Points:
    """Stars over and around a frame, brightest first."""
    middle_x, middle_y = SIZE[0] / 2, SIZE[1] / 2
    return Points(*(middle + rng.uniform(-WIDE / 2, WIDE / 2, stars) for middle in (middle_x, middle_y)))


def in_frame(points: Points) -> Points:
    inside = (points.x > 0) & (points.y > 0) & (points.x < SIZE[0]) & (points.y < SIZE[1])
    return Points(points.x[inside], points.y[inside])


def moved(angle_deg: float, dx: float, dy: float) -> Transform:
    """A turn about the frame's centre, then a shift."""
    turn = rotation(np.radians(angle_deg), SIZE)
    return Transform(turn.a, turn.b, turn.c, turn.d, turn.tx + dx, turn.ty + dy)


def seen(sky_points: Points, truth: Transform, rng: np.random.Generator, error_px: float = 0.1) -> Points:
    """What a sub under `truth` detects of the sky: positions with an error, order by brightness kept."""
    x, y = truth.apply(sky_points.x, sky_points.y)
    return in_frame(Points(x + rng.normal(0, error_px, x.size), y + rng.normal(0, error_px, y.size)))


def worst_px(found: Transform, truth: Transform) -> float:
    """Largest distance between two transforms over the common part of the frame."""
    x, y = np.meshgrid(np.linspace(0, SIZE[0] - 1, 19), np.linspace(0, SIZE[1] - 1, 13))
    true_x, true_y = truth.apply(x, y)
    inside = (true_x >= 0) & (true_y >= 0) & (true_x < SIZE[0]) & (true_y < SIZE[1])
    found_x, found_y = found.apply(x, y)
    return float(np.hypot(found_x - true_x, found_y - true_y)[inside].max())


@settings(max_examples=40, deadline=None)
@given(
    angle_deg=st.one_of(st.just(0.0), st.just(180.0), st.floats(-180.0, 180.0)),
    dx=st.floats(-200.0, 200.0),
    dy=st.floats(-150.0, 150.0),
    seed=st.integers(0, 10_000),
)
def test_any_shift_and_turn_is_recovered_to_a_third_of_a_pixel(
    angle_deg: float, dx: float, dy: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stars, truth = sky(rng, 250), moved(angle_deg, dx, dy)
    match = register(in_frame(stars), seen(stars, truth, rng), SIZE)
    assert worst_px(match.transform, truth) < 0.35
    assert match.false_match_log10 < -6.0


def test_the_last_transform_as_a_hint_leads_over_its_half_turn_to_a_flipped_sub() -> None:
    rng = np.random.default_rng(1)
    stars, before, after = sky(rng, 200), moved(12.0, 30.0, -8.0), moved(192.4, -11.0, 25.0)
    match = register(in_frame(stars), seen(stars, after, rng), SIZE, [before])
    assert worst_px(match.transform, after) < 0.3
    assert match.transform.rotation_deg == pytest.approx(192.4 - 360.0, abs=0.05)


def test_field_distortion_is_followed() -> None:
    rng = np.random.default_rng(2)
    stars = sky(rng, 400)
    truth = Transform(
        tx=4.0, ty=-3.0, quad=(2.0, -1.0, 0.5, 1.0, 1.5, -2.0), centre_x_px=450, centre_y_px=300, half_px=450
    )
    match = register(in_frame(stars), seen(stars, truth, rng, error_px=0.05), SIZE)
    assert worst_px(match.transform, truth) < 0.3
    assert match.residual_px < 0.1


@pytest.mark.parametrize("angle_deg", [0.0, 0.7, 180.0, 63.0])
def test_cloud_that_hides_four_stars_of_five_is_seen_through(angle_deg: float) -> None:
    rng = np.random.default_rng(3)
    stars, truth = sky(rng, 300), moved(angle_deg, 14.0, -9.0)
    survivors = seen(Points(stars.x[:60], stars.y[:60]), truth, rng)
    common = len(in_frame(Points(*inverse(truth, survivors.x, survivors.y))))
    match = register(in_frame(stars), survivors, SIZE)
    assert worst_px(match.transform, truth) < 0.5
    assert len(match.sub_index) >= 0.9 * common


def test_brightness_order_that_differs_between_the_lists_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    stars, truth = sky(rng, 300), moved(140.0, 20.0, 10.0)
    sub = seen(stars, truth, rng)
    shuffled = rng.permutation(len(sub))
    match = register(in_frame(stars), Points(sub.x[shuffled], sub.y[shuffled]), SIZE)
    assert worst_px(match.transform, truth) < 0.3


def test_as_many_false_stars_as_true_ones_do_not_mislead() -> None:
    rng = np.random.default_rng(5)
    stars, truth = sky(rng, 250), moved(180.2, -20.0, 12.0)
    true = seen(stars, truth, rng)
    false = Points(rng.uniform(0, SIZE[0], len(true)), rng.uniform(0, SIZE[1], len(true)))
    mixed = rng.permutation(2 * len(true))
    both = Points(np.append(true.x, false.x)[mixed], np.append(true.y, false.y)[mixed])
    assert worst_px(register(in_frame(stars), both, SIZE).transform, truth) < 0.3


def test_eight_stars_in_common_are_enough() -> None:
    rng = np.random.default_rng(6)
    few = in_frame(sky(rng, 60)).first(8)
    truth = moved(3.0, 40.0, -25.0)
    match = register(few, Points(*truth.apply(few.x, few.y)), SIZE)
    assert len(match.sub_index) == 8
    assert worst_px(match.transform, truth) < 0.1


def test_five_stars_in_common_are_enough_where_the_turn_is_known() -> None:
    few = in_frame(sky(np.random.default_rng(16), 60)).first(5)
    for truth in (moved(0.05, 12.0, -9.0), moved(180.05, 12.0, -9.0)):
        match = register(few, Points(*truth.apply(few.x, few.y)), SIZE, [moved(0.0, 3.0, 1.0)])
        assert len(match.sub_index) == 5
        assert worst_px(match.transform, truth) < 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), stars=st.integers(5, 12), found=st.integers(5, 12))
def test_few_unrelated_stars_are_no_match(seed: int, stars: int, found: int) -> None:
    rng = np.random.default_rng([seed, 17])
    lists = [Points(rng.uniform(0, SIZE[0], n), rng.uniform(0, SIZE[1], n)) for n in (stars, found)]
    with pytest.raises(MeasureFailure):
        register(lists[0], lists[1], SIZE)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), stars=st.integers(20, 300), found=st.integers(6, 300))
def test_unrelated_lists_are_no_match_and_say_so_with_numbers(seed: int, stars: int, found: int) -> None:
    rng = np.random.default_rng(seed)
    lists = [Points(rng.uniform(0, SIZE[0], n), rng.uniform(0, SIZE[1], n)) for n in (stars, found)]
    with pytest.raises(MeasureFailure) as caught:
        register(lists[0], lists[1], SIZE)
    numbers = caught.value.numbers
    assert caught.value.kind == "no_match"
    assert (numbers["stars_detected"], numbers["stars_catalogue"]) == (found, stars)
    assert numbers["stars_matched"] < min(stars, found)
    why = "5 needed" if numbers["stars_matched"] < 5 else "no more than chance brings"
    assert f"{numbers['stars_matched']} stars matched, {why}" in caught.value.sentence


def test_two_stars_are_no_stars() -> None:
    pair = Points(np.array([10.0, 200.0]), np.array([10.0, 300.0]))
    with pytest.raises(MeasureFailure) as caught:
        register(in_frame(sky(np.random.default_rng(7), 100)), pair, SIZE)
    assert (caught.value.kind, caught.value.numbers["stars_detected"]) == ("no_stars", 2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), crowd=st.integers(1, 400), tolerance_px=st.floats(0.5, 30.0))
def test_matches_are_one_to_one_and_within_the_tolerance(seed: int, crowd: int, tolerance_px: float) -> None:
    rng = np.random.default_rng(seed)
    lists = [Points(rng.uniform(0, 200, n), rng.uniform(0, 200, n)) for n in (crowd, 2 * crowd)]
    first, second = mutual_pairs(lists[0], lists[1], Transform(tx=1.5), tolerance_px)
    assert len(set(first.tolist())) == len(first) == len(second) == len(set(second.tolist()))
    distance = np.hypot(lists[0].x[first] + 1.5 - lists[1].x[second], lists[0].y[first] - lists[1].y[second])
    assert (distance <= tolerance_px).all()


@settings(max_examples=40, deadline=None)
@given(
    angle_deg=st.floats(-180.0, 180.0),
    shift=st.tuples(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0)),
    bend=st.floats(-3.0, 3.0),
)
def test_a_transform_turned_back_gives_the_series_coordinates_again(
    angle_deg: float, shift: tuple[float, float], bend: float
) -> None:
    turn = moved(angle_deg, *shift)
    bent = Transform(
        turn.a, turn.b, turn.c, turn.d, turn.tx, turn.ty, (bend, 0.5, -bend, 0.2, bend, 1.0), 450.0, 300.0, 450.0
    )
    x, y = np.linspace(0.0, 899.0, 31), np.linspace(599.0, 0.0, 31)
    back = inverse(bent, *bent.apply(x, y))
    np.testing.assert_allclose(back, (x, y), atol=1e-3)


def test_one_wrong_pair_does_not_bend_the_fit() -> None:
    rng = np.random.default_rng(8)
    points, truth = in_frame(sky(rng, 120)), moved(20.0, 5.0, 6.0)
    x, y = truth.apply(points.x, points.y)
    x[3] += 4.0
    every = np.arange(len(points))
    fitted = fit_transform(points, Points(x, y), (every, every), "affine")
    assert worst_px(fitted, truth) < 1e-6


def cluster(rng: np.random.Generator, stars: int = 300) -> Points:
    """A crowded cluster amid a plain field: wherever two of them are laid on each other, many stars match."""
    crowd = stars * 6 // 10
    x = np.concatenate((rng.normal(450.0, 60.0, crowd), rng.uniform(0.0, SIZE[0], stars - crowd)))
    y = np.concatenate((rng.normal(300.0, 60.0, crowd), rng.uniform(0.0, SIZE[1], stars - crowd)))
    order = rng.permutation(stars)
    return Points(x[order], y[order])


@pytest.mark.parametrize("seed", range(8))
def test_a_crowd_of_stars_is_no_match_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.raises(MeasureFailure, match="stars matched, no more than chance brings"):
        register(cluster(rng), cluster(rng), SIZE)


@pytest.mark.parametrize("angle_deg", [0.6, 3.5, 6.5, 9.5, -12.5, 175.0])
def test_a_turned_cluster_is_not_taken_for_a_shifted_one(angle_deg: float) -> None:
    rng = np.random.default_rng(17)
    whole, truth = cluster(rng), moved(angle_deg, 7.0, -4.0)
    found = register(whole, seen(whole, truth, rng), SIZE).transform
    assert worst_px(found, truth) < 0.3
