"""Blurred stars: the shares of a spread Moffat are those of painted stars, and noisy sums find the blur again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsgd.measure import apertures, blurred, photometry
from nsgd.records import Floats, Pixels
from nsgd.simulate import Psf, paint_stars
from tests.measure.planted_subs import PSF, clear, field_of, shoot

FLUX_ADU = 1e5
TRAIL = Psf(3.2, 3.2, trail_px=6.0, trail_deg=0.0)
DONUT = Psf(3.2, 3.2, donut_px=6.0)
LONG = photometry.Outline(4.5, 0.38, 0.0)
WIDE = photometry.Outline(8.5)
NO_DEVIATION = np.zeros(apertures.APERTURES + 1)


def painted_shares(psf: Psf, outline: photometry.Outline, at: tuple[float, float] = (200.3, 199.8)) -> Floats:
    """(10,) sums of a painted star in soft apertures and rings, over its flux."""
    pixels: Pixels = np.zeros((401, 401), np.float32)
    place = np.array([at[0]]), np.array([at[1]])
    paint_stars(pixels, *place, np.array([FLUX_ADU]), psf, 1e-6)
    under = (*place, np.zeros(1))
    soft = [photometry.soft_sums(pixels, under, s, outline)[0] for s in apertures.soft_sigma(outline.fwhm_px)]
    hard = photometry.hard_sums(pixels, under, apertures.hard_radius(outline.fwhm_px)[:, None], outline)[:, 0]
    return np.concatenate((soft, np.diff(hard, prepend=0.0))) / FLUX_ADU


def sharp_of(outline: photometry.Outline) -> blurred.Sharp:
    return blurred.Sharp(3.2, 3.2, NO_DEVIATION, outline.fwhm_px, outline.fwhm_px, outline.axes[:2])


@pytest.mark.parametrize(
    ("psf", "outline", "blur", "size_px", "within"),
    [
        (TRAIL, LONG, blurred.line(), 3.0, 3e-4),
        # the painted pupil is made of few rings
        (DONUT, WIDE, blurred.pupil(0.4), 6.0, 2e-3),
    ],
    ids=["trailed", "defocused"],
)
def test_the_shares_of_a_spread_moffat_are_those_of_a_painted_star(
    psf: Psf, outline: photometry.Outline, blur: blurred.Blur, size_px: float, within: float
) -> None:
    shares = blurred.shares(sharp_of(outline), blur, np.log([[psf.fwhm_px, size_px, psf.beta]]))[0]
    assert shares[:-1] == pytest.approx(painted_shares(psf, outline), abs=within)


@pytest.mark.parametrize("blur", blurred.BLURS)
def test_no_light_is_lost_to_a_deviation_of_the_wings(blur: blurred.Blur) -> None:
    sharp = replace(sharp_of(WIDE), deviation=np.append(np.zeros(6), [0.004, -0.001, 0.003, 0.002, 0.001]))
    shares = blurred.shares(sharp, blur, np.log([[3.2, 4.0, 3.2]]))[0]
    assert shares[apertures.SOFT :].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("blur", blurred.BLURS)
def test_a_blur_of_no_size_leaves_the_moffat(blur: blurred.Blur) -> None:
    outline = photometry.Outline(3.4)
    shares = blurred.shares(sharp_of(outline), blur, np.log([[3.2, 1e-3, 3.2]]))[0]
    plain = apertures.whole_shares(outline.fwhm_px, np.array(3.2), np.array(3.2))
    assert shares == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("kind", range(len(blurred.BLURS)))
def test_noisy_sums_find_a_planted_blur_again(kind: int) -> None:
    """The air, too, changed meanwhile: its FWHM by a tenth, beta by a twentieth."""
    blur, outline = blurred.BLURS[kind], LONG if blurred.BLURS[kind].along else WIDE
    rng, sharp = np.random.default_rng(kind), sharp_of(outline)
    planted = np.log([[3.5, 3.3 if blur.along else 5.5, 3.05]])
    true = blurred.shares(sharp, blur, planted)[0]
    err = 1e-3 * np.sqrt(true[:-1])
    spreads = np.array([np.diag((0.002 * true) ** 2), np.diag((0.06 * true) ** 2)])
    pulls = []
    for _ in range(20):
        seen = true[:-1] + err * rng.normal(size=err.size)
        curves = blurred.curves(seen, np.diag(err**2), sharp, spreads)
        assert curves is not None
        assert curves.log_like.size == len(blurred.BLURS) * len(spreads)
        of_kind = np.arange(curves.log_like.size) // len(spreads) == kind
        assert curves.log_like[of_kind].max() > curves.log_like.max() - 3.0
        best = np.argmax(np.where(of_kind, curves.log_like, -np.inf))
        pulls.append((curves.found[best] - true)[:-1] / err)
    assert np.abs(np.mean(pulls, axis=0)).max() < 4.0 / np.sqrt(20.0)
    assert np.std(pulls, axis=0).max() < 1.3


def test_sums_that_no_blur_explains_are_left_to_the_moffat() -> None:
    outline = photometry.Outline(4.5)
    plain = apertures.shares(outline.fwhm_px, np.array(4.4), np.array(2.6))
    spreads = np.array([np.diag((0.002 * np.append(plain, 0.01)) ** 2)])
    curves = blurred.curves(plain, np.diag((1e-3 * plain) ** 2), sharp_of(outline), spreads)
    assert curves is not None
    # as likely as numbers known to 0.1 % would be by the Moffat that they were made of
    known = -0.5 * np.linalg.slogdet(np.diag((1e-3 * plain) ** 2) + spreads[0][:-1, :-1])[1]
    assert curves.log_like.max() < known - 10.0


@given(
    st.lists(st.floats(-0.5, 1.5), min_size=10, max_size=10),
    st.floats(1.5, 15.0),
    st.floats(1.0, 9.0),
    st.sampled_from([WIDE, LONG]),
)
@pytest.mark.filterwarnings("error")
def test_whatever_the_sums_are_no_fit_runs_away(
    share: list[float], beta: float, fwhm_px: float, outline: photometry.Outline
) -> None:
    sharp = replace(sharp_of(outline), beta=beta, fwhm_px=fwhm_px)
    spreads = np.array([np.diag(np.full(11, 0.002**2))])
    curves = blurred.curves(np.array(share), np.diag(np.full(10, 1e-4)), sharp, spreads)
    if curves is not None:
        assert np.isfinite(curves.log_like).all()
        assert (curves.found[:, : apertures.SOFT + 1] > 0).all()
        assert (curves.found < 3.0).all()
        assert np.isfinite(curves.whole).all()


@pytest.mark.parametrize(
    ("psf", "scatter", "error"),
    [(replace(PSF, trail_px=5.0, trail_deg=30.0), 0.003, 0.005), (replace(PSF, donut_px=5.0), 0.004, 0.007)],
    ids=["trailed", "defocused"],
)
def test_the_scale_of_blurred_subs_scatters_no_more_than_their_stars_light_allows(
    psf: Psf, scatter: float, error: float
) -> None:
    off, err = [], []
    for seed in (31, 32, 33):
        series = shoot(field_of(seed, stars=200), [clear()] * 2 + [clear(psf=psf)] * 8, seed)
        off.append([r.scale[0] - 1.0 for r in series.relations[2:]])
        err.append([r.scale_err[0] for r in series.relations[2:]])
    assert np.abs(np.mean(off, axis=1)).max() < 0.004
    assert np.sqrt(np.var(off, axis=1, ddof=1).mean()) < scatter
    assert np.max(err) < error
    assert 0.5 < np.sqrt(np.mean((np.array(off) / err) ** 2)) < 1.5
