"""Forced photometry in total flux: sums where stars are, corrected by the sub's own curve of growth.

Every catalogue star is summed in the one of seven apertures (in units of the sub's FWHM, elongated like
its stars) that gives its least noise: soft Gaussian ones for faint stars, sharp ones for bright
stars. The choice follows from the catalogue, so it is the same in every sub. The curve of growth
(`growth`) of the sub's bright stars turns each sum into total flux. Swelling stars thus do not look like
cloud, whatever their shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nsgd.counts import Light
from nsgd.measure import apertures, growth
from nsgd.measure.bright import FIRST_ROUNDS, Bright, Mean, mean_shares, own_sky_restored
from nsgd.measure.stars import cutouts
from nsgd.records import Floats, Pixels
from nsgd.threads import shared

MARGIN_FWHM = 2.0
"""Stars nearer to an edge than this are not measured."""
GROWTH_STARS = 64
SAME_STAR_PX = 1.0
"""Stars of a list that lie no farther apart are one."""
FOREIGN_ERR = 0.1
"""Relative error of what neighbours are foreseen to shed on a star."""
NEAR_RINGS, MOST_FOREIGN = 5, 0.02
"""Of the rings, those from the sixth on, far out, are looked at where neighbours shed less than this part of a
star's own light into them."""
EXACT = 4
"""Sharp apertures, from the first, whose edges cut pixels exactly."""
FIELD_ROUNDS = 3
FIELD_STARS = 40
"""Fewer do not tell how the width changes across the field."""
FIELD_PRIOR = 0.2
"""Expected size of the change of ln FWHM across the field."""
FIELD_GAIN = 15.0
"""Chi-squared that a change across the field must explain to be believed by half: five come by chance."""
STAR_WIDTH_ERR = 0.005
"""What single stars' ln FWHM may be wrong by, neighbours and pixels being what they are."""
SHARED_PIXELS = 200_000
"""Pixels of bright stars that one thread sums before it takes others; fewer are done sooner by one alone."""
STAMP_PIXELS = 150_000
"""Pixels of cut-out stars worked on at a time: they stay in the processor's cache."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outline:
    """Size and shape of the apertures: those of the sub's stars as the pixels show them."""

    fwhm_px: float
    """Geometric mean of both axes."""
    ellipticity: float = 0.0
    angle_deg: float = 0.0

    @property
    def axes(self) -> tuple[float, float, float]:
        """Long and short axis of an ellipse with the area of the unit circle, and its angle in radians."""
        root = float(np.sqrt(1.0 - self.ellipticity))
        turn = float(np.radians(self.angle_deg))
        return 1.0 / root, root, (turn + np.pi / 2) % np.pi - np.pi / 2


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """Curve of growth of one plane of one sub."""

    fit: growth.Fit
    used: NDArray[np.intp]
    """Numbers of the bright stars behind it."""
    bright: Bright
    mean: Mean
    field: Floats
    """(5,) change of ln FWHM across the field: u, v, u^2, u v, v^2 with u, v in -1..1."""

    def share_at(self, aperture: NDArray[np.intp], u: Floats, v: Floats) -> Floats:
        """Enclosed share of stars at field positions u, v for their aperture numbers."""
        return np.asarray(self.fit.share[aperture] * self._swollen(u, v)[np.arange(aperture.size), aperture])

    def _swollen(self, u: Floats, v: Floats) -> Floats:
        """(n, 10) shares at field positions over those at a mean position."""
        if not self.field.any():
            return np.ones((u.size, apertures.APERTURES))
        swelling = np.clip(_field_terms(u, v) @ self.field, -0.7, 0.7)
        return growth.swollen_shares(self.fit, self.bright.aperture_fwhm_px, swelling)

    def joint_flux(self, u: Floats, v: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """`growth.joint_flux` of the stars behind the curve."""
        share = apertures.ring_shares(self.fit.share * self._swollen(u, v))
        return growth.joint_flux(self.bright, self.mean, share, self.fit)


def _field_terms(u: Floats, v: Floats) -> Floats:
    return np.stack((u, v, u * u - 1 / 3, u * v, v * v - 1 / 3), axis=1)


def soft_sums(pixels: Light, places: tuple[Floats, Floats, Floats], sigma_px: float, outline: Outline) -> Floats:
    """(n,) sums under an elliptical Gaussian of peak 1, sky subtracted, ADU (NaN off the frame).

    The sky is taken from each pixel: the weights of whole pixels within a cut-out never add up to the Gaussian's
    integral quite, and a bright sky times the rest would change with the width and with the place in the pixel.

    Parameters
    ----------
    places
        x, y and the sky under each star per pixel, ADU.
    """
    x, y, sky = places
    long, short, angle = outline.axes
    half = int(np.ceil(3.6 * sigma_px * long))
    side = 2 * half + 1
    if side > min(pixels.shape):
        return np.full(x.size, np.nan)
    column, row = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
    inside = (column >= half) & (row >= half) & (column < pixels.shape[1] - half) & (row < pixels.shape[0] - half)
    out = np.full(x.size, np.nan)
    cos, sin = np.cos(angle), np.sin(angle)
    xx = (cos / long) ** 2 + (sin / short) ** 2
    yy = (sin / long) ** 2 + (cos / short) ** 2
    xy = cos * sin * (long**-2 - short**-2)
    step = np.arange(-half, half + 1)

    def add(part: NDArray[np.intp]) -> None:
        dx = (step - (x[part] - column[part])[:, None]).astype(np.float32)[:, None, :] / np.float32(sigma_px)
        dy = (step - (y[part] - row[part])[:, None]).astype(np.float32)[:, :, None] / np.float32(sigma_px)
        view = np.exp(
            np.float32(-0.5) * (np.float32(xx) * dx * dx + np.float32(2 * xy) * dx * dy + np.float32(yy) * dy * dy)
        )
        stamp, _, _ = cutouts(pixels, x[part], y[part], half)
        light = stamp - sky[part].astype(np.float32)[:, None, None]
        out[part] = np.einsum("nij,nij->n", view, light, dtype=np.float64)

    shared(add, _portions(np.flatnonzero(inside), side))
    return out


def _portions(stars: NDArray[np.intp], side: int) -> list[NDArray[np.intp]]:
    """Numbers of stars in portions whose cut-outs of side x side pixels are worked on together."""
    return np.array_split(stars, max(1, stars.size * side * side // STAMP_PIXELS))


def hard_sums(pixels: Light, places: tuple[Floats, Floats, Floats], radius_px: Floats, outline: Outline) -> Floats:
    """(..., n) sums in ellipses with exact pixel overlap, sky subtracted, ADU (NaN off the frame).

    Parameters
    ----------
    places
        x, y and the sky under each star per pixel, ADU.
    radius_px
        (..., n)
    """
    x, y, sky = places
    out = np.full(radius_px.shape, np.nan)
    on = np.flatnonzero((x >= -0.5) & (y >= -0.5) & (x <= pixels.shape[1] - 0.5) & (y <= pixels.shape[0] - 0.5))
    if on.size == 0:
        return out
    half = int(np.ceil(float(radius_px.max()) * outline.axes[0])) + 1
    for part in _portions(on, 2 * half + 1):
        column, row, sheet = _sheet(pixels, x[part], y[part], half)
        radius = radius_px[..., part]
        total, _, _ = sep.sum_ellipse(sheet, column, row, *outline.axes, radius, subpix=0)
        out[..., part] = total - np.pi * radius**2 * sky[part]
    return out


def _sheet(pixels: Light, x: Floats, y: Floats, half: int) -> tuple[Floats, Floats, Pixels]:
    """Stars' places on a sheet of cut-outs one below the other, and that sheet.

    Between them lies nothing, so that a circle over the frame's edge ends there.
    """
    side = 2 * half + 1
    if side > min(pixels.shape):
        return x, y, pixels[...]
    stamp, left, top = cutouts(pixels, x, y, half)
    sheet = np.zeros((x.size, side + half, side), np.float32)
    sheet[:, :side] = stamp
    return x - left, y - top + np.arange(x.size) * (side + half), sheet.reshape(-1, side)


def wide_sums(pixels: Light, places: tuple[Floats, Floats, Floats], radius_px: Floats, outline: Outline) -> Floats:
    """(n, radii) sums in wide ellipses, sky subtracted, ADU (NaN where a pixel is missing or the frame too small).

    An edge covers of a pixel what it would if it crossed it straight along a side: of the faint light out there, no
    more than a millionth of the star is wrong by that, in a fifth of the time that exact overlaps take.

    Parameters
    ----------
    places
        x, y and the sky under each star per pixel, ADU.
    radius_px
        Rising.
    """
    x, y, sky = places
    half = int(np.ceil(radius_px[-1] * outline.axes[0])) + 1
    side = 2 * half + 1
    out = np.full((x.size, radius_px.size), np.nan)
    if side > min(pixels.shape):
        return out
    for part in _portions(np.arange(x.size), side):
        stamp, left, top = cutouts(pixels, x[part], y[part], half)
        light = stamp - sky[part].astype(np.float32)[:, None, None]
        radius, pixel = _ellipse_radius(side, x[part] - left, y[part] - top, outline)
        for k, edge in enumerate(radius_px):
            cover = np.float32(edge) - radius
            cover /= pixel
            cover += np.float32(0.5)
            np.clip(cover, 0.0, 1.0, out=cover)
            out[part, k] = np.einsum("nij,nij->n", cover, light)
            if not np.isfinite(out[part, k]).all():
                missing = ((cover > 0) & ~np.isfinite(light)).any(axis=(1, 2))
                out[part, k] = np.where(missing, np.nan, np.einsum("nij,nij->n", cover, np.nan_to_num(light)))
    return out


def _ellipse_radius(side: int, x: Floats, y: Floats, outline: Outline) -> tuple[Pixels, Pixels]:
    """(n, side, side) radius of the ellipse through each pixel about a star's place, and its change over one pixel."""
    long, short, angle = outline.axes
    cos, sin, step = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.arange(side)
    dx, dy = (step - x[:, None]).astype(np.float32)[:, None, :], (step - y[:, None]).astype(np.float32)[:, :, None]
    along = dx * np.float32(cos / long) + dy * np.float32(sin / long)
    across = dy * np.float32(cos / short) - dx * np.float32(sin / short)
    radius2 = along * along
    radius2 += across * across
    along *= np.float32(1.0 / long)
    across *= np.float32(1.0 / short)
    along *= along
    across *= across
    along += across
    along /= np.maximum(radius2, np.float32(1e-6))
    return np.sqrt(radius2, out=radius2), np.sqrt(along, out=along)


@dataclass(frozen=True, slots=True, eq=False)
class GrowthStars:
    """Bright, unsaturated stars that show the curve of growth."""

    x: Floats
    y: Floats
    sky_adu: Floats
    sky_err_adu: Floats
    foreign: Floats
    """(n, 10) light of neighbours in each soft aperture and ring, in units of the star's own flux."""
    departure: Floats
    """(n, 10) by how much the star's shares depart from the curve of growth, seen in the sub it was found in."""
    departure_err: Floats
    mask_px: Floats
    """Radius within which the star's pixels are kept out of the sky."""
    cell_px: float
    """Side of a cell of the sky."""

    def take(self, chosen: NDArray[np.intp]) -> GrowthStars:
        """The chosen stars, in the order given."""
        return GrowthStars(
            self.x[chosen], self.y[chosen], self.sky_adu[chosen], self.sky_err_adu[chosen], self.foreign[chosen],
            self.departure[chosen], self.departure_err[chosen], self.mask_px[chosen], self.cell_px,
        )  # fmt: skip


def foreign_light(
    star: tuple[Floats, Floats, Floats], all_stars: tuple[Floats, Floats, Floats], outline: Outline, beta: float
) -> Floats:
    """(n, 10) light of neighbours within each soft aperture and ring, wings included.

    Stars that swell see more of each other, which would pass for a clearer sky.

    Parameters
    ----------
    star, all_stars
        x, y and flux (any one unit) of the stars asked about and of all that are known.
    """
    long, short, angle = outline.axes
    cos, sin = np.cos(angle), np.sin(angle)

    def round_places(x: Floats, y: Floats) -> Floats:
        """Positions in FWHM, where the stars are round."""
        return np.column_stack(((x * cos + y * sin) / long, (y * cos - x * sin) / short)) / outline.fwhm_px

    near = cKDTree(round_places(*star[:2])).sparse_distance_matrix(
        cKDTree(round_places(*all_stars[:2])), apertures.LEAK_REACH, output_type="ndarray"
    )
    near = near[near["v"] * outline.fwhm_px > SAME_STAR_PX]
    near = near[np.lexsort((near["j"], near["i"]))]
    out = np.zeros((star[0].size, apertures.APERTURES))
    np.add.at(out, near["i"], apertures.leaks(near["v"], beta) * np.maximum(all_stars[2][near["j"]], 0.0)[:, None])
    return out


def speck_light(pixels: Light, stars: GrowthStars, outline: Outline, noise_adu: float) -> Floats:
    """(n, 10) light of hot pixels and cosmic rays in each soft aperture and ring, ADU.

    A speck is a pixel outside the star's core that stands five sigma above all of its neighbours and as
    much above them as they stand above the sky: raw subs have hundreds, and one beside the brightest star
    would otherwise pass for its wings.
    """
    long, short, angle = outline.axes
    half = int(np.ceil(apertures.hard_radius(outline.fwhm_px)[-1] * long)) + 2
    out = np.zeros((stars.x.size, apertures.APERTURES))
    if 2 * half + 1 > min(pixels.shape) or not stars.x.size:
        return out
    found = [_specks(pixels, stars, part, half, noise_adu) for part in _portions(np.arange(stars.x.size), 2 * half + 1)]
    star, dx, dy, excess = (np.concatenate(column) for column in zip(*found, strict=True))
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = np.hypot(along / long, across / short)
    outside = distance > outline.fwhm_px
    star, distance, excess = star[outside], distance[outside], excess[outside]
    edges = np.concatenate(([0.0], apertures.hard_radius(outline.fwhm_px)))
    view = np.concatenate(
        (
            np.exp(-0.5 * (distance[:, None] / apertures.soft_sigma(outline.fwhm_px)) ** 2),
            (distance[:, None] >= edges[:-1]) & (distance[:, None] < edges[1:]),
        ),
        axis=1,
    )
    np.add.at(out, star, view * excess[:, None])
    return out


def _specks(
    pixels: Light, stars: GrowthStars, part: NDArray[np.intp], half: int, noise_adu: float
) -> tuple[NDArray[np.intp], Floats, Floats, Pixels]:
    """Specks about some of the stars: the star's number, the distance from it in x and y, and the excess light, ADU."""
    stamp, left, top = cutouts(pixels, stars.x[part], stars.y[part], half)
    highest = _highest_beside(stamp)
    lead = stamp[:, 1:-1, 1:-1] - highest
    place = np.flatnonzero(lead > 5.0 * noise_adu)
    star = place // (lead.shape[1] * lead.shape[2])
    alone = lead.reshape(-1)[place] > highest.reshape(-1)[place] - stars.sky_adu[part[star]].astype(np.float32)
    star, row, column = np.unravel_index(place[alone], lead.shape)
    row, column = row + 1, column + 1
    around = [stamp[star, row + j, column + i] for j in (-1, 0, 1) for i in (-1, 0, 1) if (j, i) != (0, 0)]
    excess = stamp[star, row, column] - np.mean(around, axis=0)
    number = part[star]
    return number, left[star] + column - stars.x[number], top[star] + row - stars.y[number], excess


def _highest_beside(stamp: Pixels) -> Pixels:
    """(n, h - 2, w - 2) highest of the eight neighbours of each inner pixel."""
    beside = np.maximum(stamp[:, :, :-2], stamp[:, :, 2:])
    three = np.maximum(beside, stamp[:, :, 1:-1])
    out = np.maximum(three[:, :-2], three[:, 2:])
    return np.maximum(out, beside[:, 1:-1], out=out)


def growth_curve(
    pixels: Light,
    stars: GrowthStars,
    outline: Outline,
    noise: tuple[float, float],
    anchor: growth.Profile | None,
) -> Growth | None:
    """Curve of growth of bright, unsaturated stars whose neighbours' expected light is taken out.

    Parameters
    ----------
    noise
        Noise of a pixel (ADU), and electrons per ADU.
    anchor
        The profile of the series' first sub; None for that sub itself.

    Returns
    -------
    Growth or None
        None where no star is usable.
    """
    fwhm = outline.fwhm_px
    width = float(np.sqrt(max(fwhm**2 - 8.0 * np.log(2.0) * apertures.PIXEL_VARIANCE, 0.3 * fwhm**2)))
    start = apertures.shares(fwhm, np.array(width), np.array(3.2))
    if anchor is not None:
        start = np.maximum(start + anchor.deviation[: apertures.APERTURES], 0.1 * start)
    bright, chosen = _bright_sums(pixels, stars, outline, noise, start)
    if not chosen.any():
        return None
    u, v = _field_position(pixels, stars.x[chosen], stars.y[chosen])
    mean = mean_shares(bright, start, width, 3.2, FIRST_ROUNDS)
    expected = None if anchor is None else growth.anchored(anchor, fwhm, width, outline.axes[:2])
    fit = growth.fit_curve(mean, fwhm, width, expected)
    curve = Growth(fit, np.flatnonzero(chosen), bright, mean, np.zeros(5))
    for step in range(FIELD_ROUNDS):
        field = curve.field + _field_swelling(mean, (fwhm, curve.fit.profile.fwhm_px, curve.fit.profile.beta), u, v)
        if step > 0 and (field == curve.field).all():
            break
        whole = own_sky_restored(bright, curve.mean.flux, apertures.ring_shares(curve.fit.share[None])[0])
        swollen = np.clip(_field_terms(u, v) @ field, -0.7, 0.7)
        even = growth.evened(whole, curve.fit, swollen) if field.any() else whole
        mean = mean_shares(even, start, width, 3.2)
        fit = growth.fit_curve(mean, fwhm, width, expected, curve.fit.profile.beta)
        fresh = Growth(fit, curve.used, whole, mean, field)
        if not np.isfinite(fresh.fit.share).all():
            break  # a field that leaves no curve is not believed
        curve = fresh
    return curve


def _bright_sums(
    pixels: Light, stars: GrowthStars, outline: Outline, noise: tuple[float, float], start: Floats
) -> tuple[Bright, Mask]:
    """Sums of those of the stars that stand alone enough, and which these are.

    Rings that reach off the frame or onto missing pixels, and wide rings with much foreign light, count for nothing;
    the star's other sums stay.
    """
    fwhm = outline.fwhm_px
    side = 2.0 * apertures.hard_radius(fwhm)[-1] * outline.axes[0]
    parts = np.array_split(np.arange(stars.x.size), max(1, int(stars.x.size * side**2) // SHARED_PIXELS))
    sums = np.concatenate(shared(lambda part: _sums(pixels, stars.take(part), outline, noise[0]), parts))
    own = sums[:, 2] / (start[2] + stars.foreign[:, 2] + stars.departure[:, 2])
    total = stars.foreign[:, apertures.SOFT : apertures.SOFT + NEAR_RINGS].sum(axis=1)
    lonely = total < max(0.3, float(np.sort(total)[min(20, total.size - 1)])) if total.size else total > 0
    blind = ~np.isfinite(sums) | _cut_off(pixels, stars, outline)
    blind[:, apertures.SOFT + NEAR_RINGS :] |= stars.foreign[:, apertures.SOFT + NEAR_RINGS :] > MOST_FOREIGN
    with np.errstate(invalid="ignore"):
        chosen = ~blind[:, : apertures.SOFT + 1].any(axis=1) & (own > 0) & lonely
    beside = stars.foreign + stars.departure
    sums = np.where(blind, own[:, None] * start, sums - own[:, None] * beside)
    doubt = np.hypot(FOREIGN_ERR * beside, stars.departure_err)
    unknown = (own[:, None] * np.where(blind, 1.0, doubt)) ** 2
    into_sky = apertures.light_in_sky(fwhm, stars.mask_px[chosen], stars.cell_px)
    return Bright(
        sums[chosen], unknown[chosen], into_sky, noise[0] ** 2, stars.sky_err_adu[chosen] ** 2, noise[1], fwhm
    ), chosen  # fmt: skip


def _sums(pixels: Light, stars: GrowthStars, outline: Outline, noise_adu: float) -> Floats:
    """(n, 10) sums in each soft aperture and ring, without sky and specks, ADU."""
    fwhm, places = outline.fwhm_px, (stars.x, stars.y, stars.sky_adu)
    radius = apertures.hard_radius(fwhm)
    core = [soft_sums(pixels, places, sigma, outline) for sigma in apertures.soft_sigma(fwhm)]
    exact = np.broadcast_to(radius[:EXACT, None], (EXACT, stars.x.size))
    hard = list(hard_sums(pixels, places, exact, outline))
    hard += list(wide_sums(pixels, places, radius[EXACT:], outline).T)
    rings = (hard[0], *(outer - inner for inner, outer in pairwise(hard)))
    return np.stack((*core, *rings), axis=1) - speck_light(pixels, stars, outline, noise_adu)


def _cut_off(pixels: Light, stars: GrowthStars, outline: Outline) -> Mask:
    """(n, 10) apertures that the frame's edge cuts; soft ones count as what their core is."""
    height, width = pixels.shape
    room = np.minimum(np.minimum(stars.x, width - 1 - stars.x), np.minimum(stars.y, height - 1 - stars.y)) + 0.5
    reach = np.append(np.zeros(apertures.SOFT), apertures.hard_radius(outline.fwhm_px) * outline.axes[0])
    return np.asarray(room[:, None] < reach)


def _field_swelling(mean: Mean, widths: tuple[float, float, float], u: Floats, v: Floats) -> Floats:
    """(5,) low-order change of ln FWHM over the field, from the residuals, shrunk unless it beats noise clearly."""
    aperture, fwhm, beta = widths
    slope = apertures.width_slope(aperture, fwhm, beta)
    if mean.flux.size < FIELD_STARS:
        return np.zeros(5)
    # a star's own flux is free: what is left of the slope is not along the mean shares
    filtered = mean.inverse @ mean.share
    amount = (filtered @ slope) / (filtered @ mean.share)
    free = slope - amount[:, None] * mean.share
    weighted = np.einsum("nkl,nl->nk", mean.inverse, free)
    weight = mean.flux**2 * (weighted * free).sum(axis=1)
    swelling = mean.flux * (weighted * mean.left).sum(axis=1) / weight
    weight = 1.0 / (1.0 / weight + STAR_WIDTH_ERR**2)
    middle = float(np.median(swelling))
    spread = 1.4826 * float(np.median(np.abs(swelling - middle)))
    kept = np.abs(swelling - middle) < 5.0 * max(spread, 1e-6)
    if kept.sum() < FIELD_STARS:
        return np.zeros(5)
    design, weight, swelling = _field_terms(u[kept], v[kept]), weight[kept], swelling[kept]
    normal, projected = (design * weight[:, None]).T @ design, (design * weight[:, None]).T @ swelling
    plain = np.linalg.lstsq(normal, projected, rcond=None)[0]
    # errors are taken from what the terms leave over
    unit = swelling.size / float((weight * (swelling - design @ plain) ** 2).sum())
    terms = np.linalg.solve(unit * normal + np.eye(5) / FIELD_PRIOR**2, unit * projected)
    gain2 = (unit * float(terms @ projected)) ** 2
    believed = gain2 / (gain2 + FIELD_GAIN**2)
    return np.asarray(terms) * believed if believed > 0.2 else np.zeros(5)


@dataclass(frozen=True, slots=True, eq=False)
class Forced:
    """Where stars are to be measured: plane pixels, local sky per pixel, and what they are expected to be."""

    x: Floats
    y: Floats
    sky_adu: Floats
    sky_err_adu: Floats
    expected_adu: Floats
    """Total flux in the catalogue."""
    foreign: Floats
    """(n, 10) light of neighbours in each soft aperture and ring, in units of the catalogue."""
    bright: NDArray[np.intp]
    """Numbers of the stars that the curve of growth was sought from."""


@dataclass(frozen=True, slots=True, eq=False)
class Fluxes:
    """Total fluxes of stars."""

    flux: Floats
    flux_err: Floats
    """Without the star's own photons, ADU."""
    common_err: Floats
    """Relative error that the curve of growth brings to each star."""
    response: Floats
    """Change of the logarithm of each star's flux with that of the profile's beta."""


def total_fluxes(pixels: Light, stars: Forced, outline: Outline, curve: Growth, noise: tuple[float, float]) -> Fluxes:
    """Total flux of every star from its best aperture, of the bright ones from all apertures together.

    Parameters
    ----------
    noise
        Noise of a pixel (ADU), and electrons per ADU.
    """
    aperture = apertures.best_apertures(stars.expected_adu, outline.fwhm_px, *noise)
    number = np.arange(aperture.size)
    u, v = _field_position(pixels, stars.x, stars.y)
    share = curve.share_at(aperture, u, v)
    area, noise2 = _aperture_areas(outline.fwhm_px)
    used = stars.bright[curve.used]
    joint, joint_var, joint_err, joint_response = curve.joint_flux(u[used], v[used])
    dimming = max(float(np.median(joint / np.maximum(stars.expected_adu[used], 1e-9))), 0.0)
    foreign = dimming * apertures.cumulated(stars.foreign)[number, aperture]
    flux = (_chosen_sums(pixels, stars, aperture, outline) - foreign) / share
    variance = noise[0] ** 2 * noise2[aperture] / share**2 + (stars.sky_err_adu * area[aperture] / share) ** 2
    variance += (FOREIGN_ERR * foreign / share) ** 2
    # a soft or small aperture counts a part of the photons: more noise than that of the whole star
    _, photons = apertures.noise_terms(outline.fwhm_px)
    expected = dimming * np.maximum(stars.expected_adu, 0.0) / noise[1]
    variance += expected * np.maximum(photons[aperture] - 1.0, 0.0)
    flux[used], variance[used] = joint, np.maximum(joint_var - expected[used], 0.05 * joint_var)
    common, response = curve.fit.share_err[aperture], -curve.fit.told.response[aperture]
    common[used], response[used] = joint_err, -joint_response
    return Fluxes(flux, np.sqrt(variance), np.hypot(common, curve.fit.wings_err), response)


def _field_position(pixels: Light, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Positions over the plane as u, v in -1..1."""
    return np.clip(2.0 * x / pixels.shape[1] - 1.0, -1, 1), np.clip(2.0 * y / pixels.shape[0] - 1.0, -1, 1)


def _aperture_areas(fwhm_px: float) -> tuple[Floats, Floats]:
    """(10,) integrals of the apertures and of their squares, pixels."""
    soft2, whole = apertures.soft_sigma(fwhm_px) ** 2, np.pi * apertures.hard_radius(fwhm_px) ** 2
    return np.concatenate((2.0 * np.pi * soft2, whole)), np.concatenate((np.pi * soft2, whole))


def _chosen_sums(pixels: Light, stars: Forced, aperture: NDArray[np.intp], outline: Outline) -> Floats:
    """(n,) sum of each star in its own aperture, sky subtracted, ADU."""
    sums = np.full(stars.x.size, np.nan)

    def places(mine: Mask) -> tuple[Floats, Floats, Floats]:
        return stars.x[mine], stars.y[mine], stars.sky_adu[mine]

    for k, sigma in enumerate(apertures.soft_sigma(outline.fwhm_px)):
        mine = aperture == k
        if mine.any():
            sums[mine] = soft_sums(pixels, places(mine), float(sigma), outline)
    sharp = aperture >= apertures.SOFT
    if sharp.any():
        radius = apertures.hard_radius(outline.fwhm_px)[aperture[sharp] - apertures.SOFT]
        sums[sharp] = hard_sums(pixels, places(sharp), radius, outline)
    return sums
