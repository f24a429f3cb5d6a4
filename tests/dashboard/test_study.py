"""What the screens of one sub and the chooser say, against planted truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from measured import CLOUDED, FLIPPED, REFERENCE, SHADED, SLOPED, measure_planted

from nsgd.dashboard.chooser import candidate_columns
from nsgd.dashboard.night import Night
from nsgd.dashboard.study import (
    Study,
    gradient_maps,
    lay_reference,
    lay_sub,
    local_transmission,
    read_pictures,
    read_study,
    stars_of,
)
from nsgd.dashboard.sub_screen import centre_shift, flux_figure
from nsgd.overlay import inverse, shared_stretch, sight, sky_of
from nsgd.records import Floats, Transform
from nsgd.session.store import Reader
from nsgd.simulate import Night as Truth

Planted = tuple[Truth, Path]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return measure_planted(tmp_path_factory.mktemp("planted"))


def study_of(planted: Planted, index: int) -> Study:
    with Reader.open(planted[1]) as reader:
        study = read_study(reader, reader.sub(index + 1), reader.series()[0])
    assert study is not None
    return study


def laid(planted: Planted, index: int) -> tuple[Floats, Floats, Floats]:
    """Reference, uncorrected and corrected sub on one grid, as the screen lays them."""
    study = study_of(planted, index)
    with Reader.open(planted[1]) as reader:
        pictures = read_pictures(reader, study)
    assert pictures.sub is not None
    assert pictures.reference is not None
    view = sight(study.size_px, (160, 120))
    reference = lay_reference(study, pictures.reference, view).scaled
    sub = lay_sub(study, pictures.sub, study.smoothness, view)
    return reference, sub.uncorrected(sky_of(reference)), sub.corrected


def large_scale(difference: Floats) -> Floats:
    """Medians of boxes of 20 x 20 picture pixels."""
    boxes = difference[..., 0].reshape(6, 20, 8, 20)
    return np.nanmedian(boxes, axis=(1, 3))


def test_the_corrected_picture_differs_from_the_reference_by_less_than_the_noise(planted: Planted) -> None:
    reference, uncorrected, corrected = laid(planted, SLOPED)
    noise_adu = planted[0].subs[SLOPED].noise_adu()
    assert large_scale(uncorrected - reference).std() > 1.5 * noise_adu
    assert large_scale(corrected - reference).std() < 0.15 * noise_adu
    assert abs(large_scale(corrected - reference).mean()) < 0.15 * noise_adu


@pytest.mark.parametrize("index", [FLIPPED, CLOUDED])
def test_flipped_and_clouded_subs_lie_on_the_reference_star_by_star(planted: Planted, index: int) -> None:
    reference, _, corrected = laid(planted, index)
    light = [np.nan_to_num(picture - sky_of(picture))[..., 0] for picture in (reference, corrected)]
    # Boxes hold whole stars, so that the blur of resampling moves no light out of them.
    boxes = [picture.reshape(15, 8, 20, 8).sum(axis=(1, 3))[1:-1, 1:-1] for picture in light]
    bright = boxes[0] > np.quantile(boxes[0], 0.85)
    assert float(np.median(boxes[1][bright] / boxes[0][bright])) == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(boxes[0][bright], boxes[1][bright])[0, 1] > 0.97


def test_the_chooser_tells_the_planted_gradient_along_both_diagonals(planted: Planted) -> None:
    study = study_of(planted, SLOPED)
    truth, reference = planted[0].subs[SLOPED], planted[0].subs[REFERENCE]
    surface = truth.gradient_against(reference)
    inset = 0.15 * 480

    def corner(x: float, y: float) -> float:
        return float(surface(*inverse(reference.transform, np.array(x), np.array(y))))

    left, right, top, bottom = inset, 639 - inset, inset, 479 - inset
    falling = corner(right, bottom) - corner(left, top)
    rising = corner(right, top) - corner(left, bottom)
    night = Night()
    with Reader.open(planted[1]) as reader:
        night.merge(reader.changes_since(0))
    columns = {column.name: column.text for column in candidate_columns(100)}
    view = night.view(study.row.series_id)
    assert view is not None
    line = view.sub(view.verdicts.columns.index(study.row.sub_id))
    noise_adu = truth.noise_adu()
    assert float(columns["↘ ADU"](line)) == pytest.approx(falling, abs=0.3 * noise_adu)
    assert float(columns["↗ ADU"](line)) == pytest.approx(rising, abs=0.3 * noise_adu)
    assert falling > 2 * noise_adu


def test_the_gradient_maps_show_the_slope_before_and_none_after(planted: Planted) -> None:
    study = study_of(planted, SLOPED)
    maps = gradient_maps(study, study.smoothness, (40, 30))
    assert maps is not None
    before, after = (np.nanmean(values, axis=0) for values in (maps.before, maps.after))
    assert before[-4:].mean() > before[:4].mean() + 2 * planted[0].subs[SLOPED].noise_adu()
    assert np.ptp(after) < 0.3 * np.ptp(before)
    assert maps.after_rms_adu < 0.3 * maps.before_rms_adu


def test_a_stiffer_surface_follows_less(planted: Planted) -> None:
    study = study_of(planted, SHADED)
    left = [gradient_maps(study, smoothness, (8, 6)) for smoothness in (-4.0, 0.0, 4.0)]
    rms = [maps.after_rms_adu for maps in left if maps is not None]
    assert rms == sorted(rms)
    assert rms[0] < rms[-1]


def test_the_photometry_graph_draws_the_fit_through_the_stars(planted: Planted) -> None:
    study = study_of(planted, CLOUDED)
    figure = flux_figure(study, as_ratios=False)
    line = figure.curves[0]
    used = ~figure.bad if figure.bad is not None else np.ones(figure.x.size, dtype=bool)
    residual = figure.y[used] - np.interp(figure.x[used], line.x, line.y)
    assert abs(float(np.median(residual))) < 0.01
    ratios = flux_figure(study, as_ratios=True)
    assert float(np.median(ratios.y)) == pytest.approx(1.0, abs=0.02)


def test_the_local_map_shows_on_which_side_the_light_is_missing(planted: Planted) -> None:
    cells = local_transmission(study_of(planted, SHADED), 4, 2)
    assert np.nanmean(cells[:, 0]) < 0.85 * np.nanmean(cells[:, -1])
    plain = local_transmission(study_of(planted, CLOUDED), 4, 2)
    assert np.nanmax(np.abs(plain - 1.0)) < 0.12


def test_the_star_picture_moves_every_star_as_planted(planted: Planted) -> None:
    truth = planted[0]
    study = study_of(planted, SLOPED)
    x, y = truth.subs[SLOPED].transform.apply(np.array([320.0]), np.array([240.0]))
    there = truth.subs[REFERENCE].transform.apply(np.array([320.0]), np.array([240.0]))
    shift = centre_shift(study)
    assert shift == pytest.approx((float(x[0] - there[0][0]), float(y[0] - there[1][0])), abs=0.15)
    stars = stars_of(study)
    assert float(np.median(stars.shift_x_px)) == pytest.approx(shift[0], abs=0.3)


def test_coordinates_go_back_the_way_they_came() -> None:
    transform = Transform(-0.99, 0.05, -0.05, -0.99, 600.0, 400.0, (0.5, 0.1, -0.2, 0.3, 0.0, 0.4), 320, 240, 400)
    x, y = np.array([3.0, 320.0, 600.0]), np.array([470.0, 240.0, 11.0])
    back = inverse(transform, *transform.apply(x, y))
    assert back[0] == pytest.approx(x, abs=1e-3)
    assert back[1] == pytest.approx(y, abs=1e-3)


def test_one_stretch_makes_equal_light_equally_bright() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(1000.0, 20.0, (40, 50, 1))
    stretch = shared_stretch(first)
    assert float(np.median(stretch.apply(first))) == pytest.approx(0.22 * 255, abs=3)
    assert np.median(stretch.apply(first + 30.0)) > np.median(stretch.apply(first))
    assert np.median(stretch.brighter(2.0).apply(first)) > np.median(stretch.apply(first))


@pytest.mark.parametrize("picture", [(1, 2), (3, 1), (2000, 5)])
def test_a_picture_of_any_size_can_be_laid(planted: Planted, picture: tuple[int, int]) -> None:
    study = study_of(planted, SLOPED)
    with Reader.open(planted[1]) as reader:
        preview = read_pictures(reader, study).sub
    assert preview is not None
    made = lay_sub(study, preview, study.smoothness, sight(study.size_px, picture))
    assert made.corrected.shape == (picture[1], picture[0], 1)
