"""The order of the steps, on one screen: `catalogue_from`, `measure_sub`.

Pixels go in, lists come out; what relates one sub to another needs no pixels and lives in `scale`,
`gradient` and `weight`, put together by `relate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nsgd.counts import Light
from nsgd.errors import MeasureFailure
from nsgd.measure import apertures, growth, photometry, sky, stars, trails
from nsgd.measure.bright import departing_shares, departures, with_company
from nsgd.measure.register import Match, Points, register
from nsgd.measure.shape import Shape, shape_of
from nsgd.measure.stars import StarList
from nsgd.records import (
    Catalogue,
    Flags,
    Floats,
    Frame,
    Plane,
    StarFlag,
    SubFacts,
    Transform,
)
from nsgd.settings import Measure
from nsgd.threads import shared

RECIPE = 10
"""Version of everything below: facts of different recipes are never mixed."""
SUB_STARS = 300
"""Stars detected in a sub for its registration."""
LINEAR_PART = 0.9
"""Pixels above this part of the saturation level are not trusted."""
MOVED_DOUBT = 0.5
"""Relative error of the light by which a star departs from the curve where other apertures than those that it was seen
in have it: within a ring it may lie anywhere."""
BLEND_SHARE = 0.01
MIN_APERTURE_FWHM_PX = 2.0
"""Undersampled stars are summed as if they were this wide: smaller circles feel the pixel's phase."""
MASKED_STARS = 6000
"""Stars that a catalogue keeps out of its sky nodes at most."""
NODES = 350
"""About so many, of the frames that are large enough: facts of 380 would take a page more of the store."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What is found in a frame before anything is known about its series."""

    plane: Plane
    """The plane that stars are sought in: the mono plane, or the sum of the colours."""
    view: sky.View
    """Of that plane, as stars are sought in it."""
    mesh: sky.Mesh
    stars: StarList
    shape: Shape
    views: tuple[sky.View, ...]
    """Of every plane of the frame, as its sky is measured."""
    trails: Floats
    """(k, 4) ends of satellites' trails, full-resolution pixels."""

    @property
    def points(self) -> Points:
        """Stars in full-resolution pixels, brightest first."""
        noise = float(np.nanmedian(self.mesh.sigma)) * self.mesh.bin
        width = self.shape.seen_fwhm_px if np.isfinite(self.shape.seen_fwhm_px) else 3.0
        x, y = full_px(self.plane, self.stars.x, self.stars.y)
        return Points(x, y, position_err_px(self.stars.flux, noise, width) * self.plane.step_px)


def position_err_px(flux: Floats, noise_adu: float, fwhm_px: float) -> Floats:
    """Error of a windowed centroid: 0.8 FWHM over the signal to noise, and a floor.

    A fitted profile would have half the FWHM over it (King 1983, PASP 95, 163).
    """
    snr = np.maximum(flux, 1e-9) / (1.5 * fwhm_px * noise_adu)
    return np.asarray(np.hypot(0.03, 0.8 * fwhm_px / np.maximum(snr, 1.0)))


def full_px(plane: Plane, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Plane pixels to full-resolution pixels."""
    return plane.origin_x_px + plane.step_px * x, plane.origin_y_px + plane.step_px * y


def plane_px(plane: Plane, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Full-resolution pixels to plane pixels."""
    return (x - plane.origin_x_px) / plane.step_px, (y - plane.origin_y_px) / plane.step_px


def detection_plane(frame: Frame) -> Plane:
    """The mono plane, or the sum of the colour planes at the middle of the Bayer cell."""
    if len(frame.planes) == 1:
        return frame.planes[0]
    first, total = frame.planes[0], np.empty_like(frame.planes[0].pixels)

    def add(top: int) -> None:
        rows = slice(top, top + sky.BAND_ROWS)
        np.add(first.pixels[rows], frame.planes[1].pixels[rows], out=total[rows])
        for plane in frame.planes[2:]:
            total[rows] += plane.pixels[rows]

    shared(add, range(0, len(total), sky.BAND_ROWS))
    middle = (first.step_px - 1) / 2
    return Plane("sum", total, middle, middle, first.step_px)


def survey(frame: Frame, settings: Measure, most: int) -> Survey:
    """Sky, stars and their shape in one frame.

    Raises
    ------
    MeasureFailure
        `no_stars` where nothing stands out, with the number found; `blank` where the pixels hold no noise.
    """
    plane = detection_plane(frame)
    view = sky.view_of(plane)
    mesh = sky.sky_mesh(view)
    spread = mesh.sigma[np.isfinite(mesh.sigma)]
    if spread.size == 0 or not float(np.median(spread)) > 1e-5 * max(abs(float(np.nanmedian(mesh.level))), 1e-9):
        raise MeasureFailure("blank", "the picture holds no noise: all black, saturated or empty")
    above_sky = frame.saturation_adu * len(frame.planes) - float(np.nanmedian(mesh.level))
    found = stars.detect(plane.light, view, mesh, settings.detection_sigma, most, above_sky)
    shape = shape_of(plane.light, mesh, found, above_sky, _single_sites(frame, found))
    own = plane is frame.planes[0]
    views = (sky.sky_view(plane, view),) if own else tuple(sky.view_of(part, sky.LARGE_SKY) for part in frame.planes)
    ends = trails.trails_through(*found.on_trails)
    crossed = np.column_stack((*full_px(plane, ends[:, 0], ends[:, 1]), *full_px(plane, ends[:, 2], ends[:, 3])))
    return Survey(plane, view, mesh, found, shape, views, crossed)


def _single_sites(frame: Frame, found: StarList) -> Light | None:
    """Of a Bayer frame's red and blue plane the one with more starlight; None for other frames."""
    if frame.planes[0].step_px == 1 or not len(found):
        return None
    bright = found.take(np.arange(min(len(found), 60)))

    def brightness(pixels: Light) -> float:
        core, around = (stars.cutouts(pixels, bright.x, bright.y, half)[0] for half in (1, 8))
        return float(np.median(core.mean(axis=(1, 2)) - np.median(around, axis=(1, 2))))

    return max((frame.planes[0].light, frame.planes[-1].light), key=brightness)


def measure_sub(
    frame: Frame, catalogue: Catalogue, settings: Measure, hints: Sequence[Transform] = (), calibration: str = ""
) -> SubFacts:
    """Everything that one sub says by itself, at the catalogue's stars and nodes.

    Parameters
    ----------
    hints
        Transforms to try first; without any, the search starts at no shift.
    calibration
        Names the master frames that were applied.

    Raises
    ------
    MeasureFailure
        `no_stars`, `no_match` or `blank`, with numbers.
    """
    return measure_surveyed(frame, survey(frame, settings, SUB_STARS), catalogue, settings, calibration, hints)


def measure_surveyed(
    frame: Frame, seen: Survey, catalogue: Catalogue, settings: Measure, calibration: str = "",
    hints: Sequence[Transform] = (),
) -> SubFacts:  # fmt: skip
    """`measure_sub` of a frame whose survey is made already: a sub may be tried on several catalogues."""
    if not np.isfinite(seen.shape.fwhm_px):
        raise _too_few(len(seen.stars), settings)
    size = (frame.header.width_px, frame.header.height_px)
    order = np.argsort(-catalogue.flux.sum(axis=1), kind="stable")
    bright = catalogue.flux.sum(axis=1)[order].astype(np.float64)
    noise = float(np.nanmedian(seen.mesh.sigma)) * seen.mesh.bin
    ordered = Points(catalogue.x[order], catalogue.y[order], position_err_px(bright, noise, catalogue.fwhm_px))
    match = register(ordered, seen.points, size, hints, settings.min_matched_stars)
    return _facts(frame, catalogue, seen, match, calibration)


def _too_few(number: int, settings: Measure) -> MeasureFailure:
    """Too few stars, or specks (hot pixels, cosmic rays) none of which has a star's shape."""
    needed = settings.min_matched_stars
    said = f"{number} stars found" if number < needed else f"{number} specks found, none shaped like a star"
    return MeasureFailure("no_stars", f"{said}, {needed} stars needed", stars_detected=number)


def identity_facts(frame: Frame, catalogue: Catalogue, settings: Measure, calibration: str = "") -> SubFacts:
    """Facts of a frame that is registered already: the identity transform, checked against its own stars.

    Raises
    ------
    MeasureFailure
        `no_stars` or `blank`, with numbers.
    """
    seen = survey(frame, settings, SUB_STARS)
    if not np.isfinite(seen.shape.fwhm_px):
        raise _too_few(len(seen.stars), settings)
    match = Match(Transform(), np.arange(len(seen.stars)), np.arange(len(seen.stars)), 0.0, -99.0)
    return _facts(frame, catalogue, seen, match, calibration)


def _plane_parts(frame: Frame, catalogue: Catalogue, seen: Survey, match: Match) -> list[PlanePart]:
    """Every plane measured at the catalogue's stars."""
    x, y = match.transform.apply(catalogue.x, catalogue.y)
    swelling = max(1.0, seen.shape.fwhm_px * seen.plane.step_px / catalogue.fwhm_px)
    mask_x, mask_y = match.transform.apply(catalogue.mask_x, catalogue.mask_y)
    discs = (mask_x, mask_y, catalogue.mask_radius_px * swelling)
    known: list[growth.Profile | None] = [
        growth.Profile(float(p[0]), p[3:], float(p[1]), float(p[2])) for p in catalogue.profile
    ]
    anchors = known or [None] * len(frame.planes)

    # plane by plane: single stars take many small steps, in which two threads wait for each other
    return [
        _measure_plane(frame, k, (x, y, catalogue.flux[:, k]), discs, seen,
                       (anchors[k], catalogue.flags, _departure_of(catalogue, k)))
        for k in range(len(frame.planes))
    ]  # fmt: skip


Departure = tuple[Floats, Floats]
"""(n, 10) by how much stars depart from the curve of growth, and the FWHM of the apertures that it was seen in."""


def _departure_of(catalogue: Catalogue, channel: int) -> Departure:
    if not catalogue.departure.size:
        return np.zeros((catalogue.x.size, apertures.APERTURES)), np.ones(catalogue.x.size)
    return catalogue.departure[:, channel].astype(np.float64), catalogue.departure_fwhm_px.astype(np.float64)


def _facts(frame: Frame, catalogue: Catalogue, seen: Survey, match: Match, calibration: str) -> SubFacts:
    x, y = match.transform.apply(catalogue.x, catalogue.y)
    node_x, node_y = match.transform.apply(catalogue.node_x, catalogue.node_y)
    parts = _plane_parts(frame, catalogue, seen, match)
    nodes = [sky.node_values(part.mesh, *plane_px(plane, node_x, node_y), catalogue.node_half_px / plane.step_px)
             for part, plane in zip(parts, frame.planes, strict=True)]  # fmt: skip
    flags = catalogue.flags.copy()
    for part in parts:
        flags |= part.flags
    return SubFacts(
        recipe=RECIPE, calibration=calibration, generation=catalogue.generation, transform=match.transform,
        stars_matched=len(match.sub_index), stars_expected=_expected(catalogue, x, y, frame),
        stars_detected=len(seen.stars), residual_px=match.residual_px, false_match_log10=match.false_match_log10,
        flux=np.stack([part.flux for part in parts], axis=1).astype(np.float32),
        flux_err=np.stack([part.flux_err for part in parts], axis=1).astype(np.float32),
        flags=flags, flux_common_err=tuple(part.common_err for part in parts),
        node_sky=np.stack([value for value, _ in nodes], axis=1).astype(np.float32),
        node_fraction=np.min([fraction for _, fraction in nodes], axis=0).astype(np.float16),
        noise_adu=tuple(part.noise_adu for part in parts), sky_adu=tuple(part.sky_adu for part in parts),
        fwhm_px=seen.shape.fwhm_px * seen.plane.step_px, ellipticity=seen.shape.ellipticity,
        elongation_deg=seen.shape.elongation_deg,
        background_rms_adu=float(np.nanstd(parts[0].mesh.level)), wings=np.array([part.wings for part in parts]),
    )  # fmt: skip


def _expected(catalogue: Catalogue, x: Floats, y: Floats, frame: Frame) -> int:
    """Stars of the catalogue's brighter part (as many as are detected in a sub) that lie in this frame."""
    brightest = np.argsort(-catalogue.flux.sum(axis=1), kind="stable")[:SUB_STARS]
    inside = (x >= 0) & (y >= 0) & (x < frame.header.width_px) & (y < frame.header.height_px)
    return int(inside[brightest].sum())


@dataclass(frozen=True, slots=True, eq=False)
class PlanePart:
    """One plane's share of the facts."""

    flux: Floats
    flux_err: Floats
    flags: Flags
    common_err: float
    wings: tuple[float, ...]
    """As `SubFacts` keeps them."""
    mesh: sky.Mesh
    noise_adu: float
    """Of one sensor pixel, also where the plane is the mean of two."""
    sky_adu: float
    profile: growth.Profile
    blended: NDArray[np.intp]
    """Numbers of the stars that the curve of growth shows to have company."""
    departure: Floats
    """(n, 10) by how much each star's shares depart from that curve."""


def _outline(seen: Survey) -> photometry.Outline:
    """Apertures as large and as elongated as the sub's stars."""
    shape = seen.shape
    fwhm = max(shape.seen_fwhm_px, MIN_APERTURE_FWHM_PX)
    if not np.isfinite(shape.elongation_deg):
        return photometry.Outline(fwhm)
    return photometry.Outline(fwhm, min(shape.ellipticity, 0.8), shape.elongation_deg)


def _plane_sky(
    frame: Frame, channel: int, discs: tuple[Floats, Floats, Floats], seen: Survey
) -> tuple[sky.Mesh, float]:
    """What takes all pixels of a plane: the mesh with the stars masked, and the noise."""
    plane, view = frame.planes[channel], seen.views[channel]
    mask = _mask(view, plane, discs)
    mesh = sky.masked_mesh(view, seen.mesh if plane is seen.plane else sky.sky_mesh(view), mask)
    if frame.interpolated:
        return mesh, sky.interpolated_noise(plane.pixels, mask, view.bin)
    return mesh, sky.pixel_noise(plane.light, mask, view.bin)


def _measure_plane(
    frame: Frame, channel: int, catalogue: tuple[Floats, Floats, NDArray[np.float32]],
    discs: tuple[Floats, Floats, Floats], seen: Survey, known: tuple[growth.Profile | None, Flags, Departure],
) -> PlanePart:  # fmt: skip
    """Mesh, noise and forced photometry of one plane at positions in full-resolution pixels."""
    plane, outline = frame.planes[channel], _outline(seen)
    mesh, noise = _plane_sky(frame, channel, discs, seen)
    egain = frame.header.egain_e_per_adu or 1.0
    x, y = plane_px(plane, catalogue[0], catalogue[1])
    flags = _star_flags(plane, x, y, outline.fwhm_px, frame.saturation_adu)
    crossed, beside = _near_trails(plane, catalogue[0], catalogue[1], seen, outline.fwhm_px)
    flags |= crossed
    flux0 = catalogue[2].astype(np.float64)
    x, y, bright, curve = _centred_growth(
        plane, mesh, (x, y, flux0), flags | known[1] | beside, (outline, (noise, egain), known[0], discs, known[2])
    )
    foreign = photometry.foreign_light((x, y, flux0), (x, y, flux0), outline, curve.fit.profile.beta)
    forced = photometry.Forced(x, y, mesh.at(x, y), noise * mesh.err_at(x, y), flux0, foreign, bright)
    found = photometry.total_fluxes(plane.light, forced, outline, curve, (noise, egain))
    bad = (flags & (StarFlag.EDGE | StarFlag.MASKED)) != 0
    variance, told = found.flux_err**2 + np.abs(flux0) / egain, curve.fit.told
    share_err, response = (_as_weighed(part, flux0, variance, flags) for part in (found.common_err, found.response))
    return PlanePart(
        np.where(bad, np.nan, found.flux), np.where(bad, np.nan, found.flux_err), flags, share_err,
        (told.log_beta, told.err, told.seen_log_beta, told.seen_err, response), mesh,
        noise * np.sqrt(plane.sites),
        float(np.nanmedian(mesh.level)), curve.fit.profile, bright[curve.used[with_company(curve.mean)]],
        _departure(x.size, bright, curve),
    )  # fmt: skip


def _departure(number: int, bright: NDArray[np.intp], curve: photometry.Growth) -> Floats:
    out = np.zeros((number, apertures.APERTURES))
    out[bright[curve.used]] = departures(curve.mean, curve.fit.profile.fwhm_px)
    return out


def _as_weighed(part: Floats, flux: Floats, variance: Floats, flags: Flags) -> float:
    """Something relative that the curve of growth does to each star as it enters the zero point: weighted like them."""
    weight = np.where((flags == StarFlag.OK) & np.isfinite(variance), flux**2 / variance, 0.0)
    return float((weight * np.nan_to_num(part)).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def _mask(view: sky.View, plane: Plane, discs: tuple[Floats, Floats, Floats]) -> sky.Mask:
    """Star mask in the pixels of the view."""
    x, y = plane_px(plane, discs[0], discs[1])
    to_view = 1.0 / view.bin
    shape = (view.pixels.shape[0], view.pixels.shape[1])
    radius = discs[2] / plane.step_px * to_view
    return sky.paint_discs(shape, (x + 0.5) * to_view - 0.5, (y + 0.5) * to_view - 0.5, radius)


def _own_disc(plane: Plane, places: tuple[Floats, Floats], discs: tuple[Floats, Floats, Floats]) -> Floats:
    """(n,) radius of the mask's disc nearest to each place, plane pixels."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(np.column_stack(plane_px(plane, discs[0], discs[1]))).query(np.column_stack(places))[1]
    return np.asarray(discs[2][nearest] / plane.step_px)


def _star_flags(plane: Plane, x: Floats, y: Floats, fwhm_px: float, saturation_adu: float) -> Flags:
    """Saturated cores, stars at the edge, and stars whose pixels hold no number."""
    flags = np.zeros(x.size, dtype=np.uint8)
    margin = photometry.MARGIN_FWHM * fwhm_px + 1.0
    height, width = plane.light.shape
    finite = np.isfinite(x) & np.isfinite(y)
    edge = ~finite | (x < margin) | (y < margin) | (x > width - 1 - margin) | (y > height - 1 - margin)
    flags[edge] |= StarFlag.EDGE
    core, _, _ = stars.cutouts(plane.light, np.where(finite, x, 0.0), np.where(finite, y, 0.0), 2)
    flat = np.sort(core.reshape(len(core), -1), axis=1)
    plateau = (flat[:, -1] - flat[:, -5] <= 0.002 * np.abs(flat[:, -1])) & (flat[:, -1] > 3.0 * np.abs(flat[:, 0]))
    flags[(flat[:, -1] >= LINEAR_PART * saturation_adu) | plateau] |= StarFlag.SATURATED
    flags[~np.isfinite(core).all(axis=(1, 2))] |= StarFlag.MASKED
    return flags


def _near_trails(plane: Plane, x: Floats, y: Floats, seen: Survey, fwhm_px: float) -> tuple[Flags, Flags]:
    """`MASKED` for stars whose largest own aperture a trail reaches, and for those whose curve of growth it reaches."""
    gap = trails.distance_px(seen.trails, x, y) / plane.step_px - trails.WIDTH_PX
    reaches = apertures.hard_radius(fwhm_px)[[apertures.FORCED - apertures.SOFT - 1, -1]]
    own, whole = (np.where(gap < reach, StarFlag.MASKED, StarFlag.OK).astype(np.uint8) for reach in reaches)
    return own, whole


def _centred_growth(
    plane: Plane, mesh: sky.Mesh, forced: tuple[Floats, Floats, Floats], flags: Flags,
    known: tuple[
        photometry.Outline, tuple[float, float], growth.Profile | None, tuple[Floats, Floats, Floats], Departure
    ],
) -> tuple[Floats, Floats, NDArray[np.intp], photometry.Growth]:  # fmt: skip
    """Positions corrected by the bright stars' own centroids, and the curve of growth of those stars.

    Bright stars are measured where they are; the others follow the median shift (colour planes are
    shifted against each other by the air and the lens).
    """
    x, y, flux0 = forced
    outline, noises, anchor, discs, departure = known
    fwhm, noise = outline.fwhm_px, noises[0]
    good = np.flatnonzero((flags == StarFlag.OK) & (flux0 > 40.0 * noise * fwhm))
    if good.size < 8:
        good = np.flatnonzero((flags & (StarFlag.EDGE | StarFlag.MASKED | StarFlag.SATURATED)) == 0)
    bright = good[np.argsort(-flux0[good], kind="stable")[: photometry.GROWTH_STARS]]
    cx, cy, _, _ = stars.centroids(plane.light, mesh, x[bright], y[bright], max(fwhm / stars.FWHM_PER_SIGMA, 0.8))
    trusted = np.isfinite(cx) & (np.hypot(cx - x[bright], cy - y[bright]) < max(1.5, 0.6 * fwhm))
    dx, dy = cx[trusted] - x[bright[trusted]], cy[trusted] - y[bright[trusted]]
    x, y = x.copy(), y.copy()
    if dx.size >= 3:
        x, y = x + float(np.median(dx)), y + float(np.median(dy))
    x[bright[trusted]], y[bright[trusted]] = cx[trusted], cy[trusted]
    used = bright[trusted] if trusted.sum() >= 3 else bright
    beta = growth.USUAL_BETA if anchor is None else anchor.beta
    foreign = photometry.foreign_light((x[used], y[used], flux0[used]), (x, y, flux0), outline, beta)
    foreign /= np.maximum(flux0[used], 1e-9)[:, None]
    departing = departing_shares(departure[0][used], departure[1][used], fwhm)
    growing = photometry.GrowthStars(
        x[used], y[used], mesh.at(x[used], y[used]), noise * mesh.err_at(x[used], y[used]), foreign,
        departing, MOVED_DOUBT * np.abs(departing - departure[0][used]),
        _own_disc(plane, (x[used], y[used]), discs), mesh.cell * mesh.bin,
    )  # fmt: skip
    curve = photometry.growth_curve(plane.light, growing, outline, noises, anchor)
    if curve is None:
        raise MeasureFailure("no_stars", "no star shows the curve of growth", stars_detected=int(bright.size))
    return x, y, used, curve


def catalogue_from(
    frame: Frame, settings: Measure, previous: Catalogue | None = None, transform: Transform | None = None
) -> Catalogue:
    """A series' stars and nodes from one sub, or a new generation that adds this sub's to the previous one's.

    Parameters
    ----------
    previous, transform
        The catalogue to extend and the transform from its coordinates to this sub; None for a first one,
        whose coordinates are this sub's own pixels.

    Raises
    ------
    MeasureFailure
        `no_stars` where fewer than the settings' `min_matched_stars` are found.
    """
    seen = survey(frame, settings, max(3 * settings.max_stars, MASKED_STARS))
    number = len(seen.stars)
    if number < settings.min_matched_stars or not np.isfinite(seen.shape.fwhm_px):
        raise _too_few(number, settings)
    x, y = seen.points.x, seen.points.y
    fwhm = seen.shape.fwhm_px * seen.plane.step_px
    noise = sky.pixel_noise(seen.plane.light, None, 1)
    cell_px = float(seen.mesh.cell * seen.mesh.bin)
    radius = _mask_radius(seen.stars.flux, seen.shape.fwhm_px, noise, cell_px) * seen.plane.step_px
    blends = _blends(x, y, seen.stars.flux, fwhm)
    rough = _rough(frame, seen, fwhm, blends)
    parts = _plane_parts(frame, replace(rough, mask_x=x, mask_y=y, mask_radius_px=radius), seen, _identity(number))
    flags = np.bitwise_or.reduce([part.flags for part in parts]) | blends
    flags[np.concatenate([part.blended for part in parts])] |= StarFlag.BLENDED
    flux = np.nan_to_num(np.stack([part.flux for part in parts], axis=1)).astype(np.float32)
    chosen = stars.few_saturated((flags & StarFlag.SATURATED) != 0, settings.max_stars)[: settings.max_stars]
    profile = np.array([_as_row(part.profile) for part in parts])
    fresh = Catalogue(
        1, frame.header.width_px, frame.header.height_px, frame.channels,
        x[chosen], y[chosen], flux[chosen], flags[chosen] & ~np.uint8(StarFlag.EDGE), fwhm,
        *_nodes(frame), x, y, radius, number, RECIPE, profile,
        np.stack([part.departure[chosen] for part in parts], axis=1).astype(np.float32),
        np.full(len(chosen), _outline(seen).fwhm_px, np.float32),
    )  # fmt: skip
    return fresh if previous is None or transform is None else _extended(previous, fresh, transform, settings.max_stars)


def _as_row(profile: growth.Profile) -> Floats:
    return np.array([profile.beta, profile.fwhm_px, profile.aperture_fwhm_px, *profile.deviation])


def _identity(number: int) -> Match:
    return Match(Transform(), np.arange(number), np.arange(number), 0.0, -99.0)


def _rough(frame: Frame, seen: Survey, fwhm_px: float, flags: Flags) -> Catalogue:
    """The survey's stars as a catalogue, good enough to measure their total fluxes with."""
    x, y = seen.points.x, seen.points.y
    per_channel = np.repeat(seen.stars.flux[:, None] / len(frame.planes), len(frame.planes), axis=1)
    none = np.empty(0)
    return Catalogue(
        0, frame.header.width_px, frame.header.height_px, frame.channels, x, y, per_channel.astype(np.float32),
        flags, fwhm_px, none, none, 1.0, none, none, none, x.size, RECIPE,
    )  # fmt: skip


def _mask_radius(flux: Floats, fwhm_px: float, noise_adu: float, cell_px: float) -> Floats:
    """Radius beyond which a star's Moffat wing (beta 3) tells in no pixel and in no mean of a cell, plane pixels.

    It is below 0.15 of the pixel noise there, and all light beyond adds to a cell of the sky no more than the cell's
    own noise.
    """
    alpha = 0.981 * fwhm_px
    centre = 2.0 * np.maximum(flux, 0.0) / (np.pi * alpha**2)
    wing = alpha * np.sqrt(np.maximum((centre / (0.15 * noise_adu)) ** (1 / 3) - 1.0, 0.0))
    # beyond r, where it falls with r^-6, the wing holds pi / 2 r^2 times its brightness at r
    whole = alpha * (0.5 * np.pi * centre * alpha**2 / (noise_adu * cell_px)) ** 0.25
    return np.asarray(np.clip(np.maximum(wing, whole), 1.5 * fwhm_px, 40.0 * fwhm_px))


def _blends(x: Floats, y: Floats, flux: Floats, fwhm_px: float) -> Flags:
    """Stars in whose aperture neighbours put more than one per cent of foreign light.

    Where most stars are blended (Milky Way) the least blended fifty stay in use.
    """
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.column_stack((x, y))).query_pairs(6.0 * fwhm_px, output_type="ndarray")
    foreign = np.zeros(x.size)
    if pairs.size:
        distance = np.hypot(x[pairs[:, 0]] - x[pairs[:, 1]], y[pairs[:, 0]] - y[pairs[:, 1]]) / fwhm_px
        leak = (1.0 + distance**2 / 0.962) ** -2.0
        np.add.at(foreign, pairs[:, 0], leak * flux[pairs[:, 1]] / np.maximum(flux[pairs[:, 0]], 1e-9))
        np.add.at(foreign, pairs[:, 1], leak * flux[pairs[:, 0]] / np.maximum(flux[pairs[:, 1]], 1e-9))
    limit = max(BLEND_SHARE, float(np.sort(foreign)[min(50, foreign.size - 1)]) if foreign.size else 0.0)
    return np.where(foreign > limit, StarFlag.BLENDED, StarFlag.OK).astype(np.uint8)


def _nodes(frame: Frame) -> tuple[Floats, Floats, float]:
    """Node lattice over the frame: centres and half side in full-resolution pixels, about 350 where the frame is large.

    How closely a surface of one stiffness follows the sky depends on their number.
    """
    width, height = frame.header.width_px, frame.header.height_px
    side = float(max(sky.CELL_PX * frame.planes[0].step_px, np.ceil(np.sqrt(width * height / NODES))))
    x, y = np.meshgrid(_centres(width, side), _centres(height, side))
    return x.ravel(), y.ravel(), side / 2


def _centres(length_px: int, side_px: float) -> Floats:
    number = max(round(length_px / side_px), 1)
    return np.asarray((np.arange(number) + 0.5) * side_px - 0.5 + (length_px - number * side_px) / 2)


def inverse(transform: Transform, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coordinates in the sub back to series coordinates (four Newton steps for the quadratic terms)."""
    linear = np.array([[transform.a, transform.b], [transform.c, transform.d]])
    back = np.linalg.inv(linear)
    u = back[0, 0] * (x - transform.tx) + back[0, 1] * (y - transform.ty)
    v = back[1, 0] * (x - transform.tx) + back[1, 1] * (y - transform.ty)
    for _ in range(4 if transform.quad else 0):
        px, py = transform.apply(u, v)
        u, v = u + back[0, 0] * (x - px) + back[0, 1] * (y - py), v + back[1, 0] * (x - px) + back[1, 1] * (y - py)
    return u, v


def _extended(previous: Catalogue, fresh: Catalogue, transform: Transform, max_stars: int) -> Catalogue:
    """The previous catalogue with the stars and nodes that only the fresh one has, in series coordinates."""
    from scipy.spatial import cKDTree

    x, y = inverse(transform, fresh.x, fresh.y)
    old = cKDTree(np.column_stack((previous.x, previous.y)))
    far = old.query(np.column_stack((x, y)))[0] > 1.5 * max(fresh.fwhm_px, 2.0)
    new = np.flatnonzero(far)[: max(max_stars + max_stars // 2 - previous.x.size, 0)]
    mask_x, mask_y = inverse(transform, fresh.mask_x, fresh.mask_y)
    masked = cKDTree(np.column_stack((previous.mask_x, previous.mask_y)))
    unseen = masked.query(np.column_stack((mask_x, mask_y)))[0] > 2.0
    node_x, node_y = _more_nodes(previous, fresh, transform)
    return Catalogue(
        previous.generation + 1, previous.width_px, previous.height_px, previous.channels,
        np.append(previous.x, x[new]), np.append(previous.y, y[new]),
        np.concatenate((previous.flux, fresh.flux[new])), np.append(previous.flags, fresh.flags[new]),
        min(previous.fwhm_px, fresh.fwhm_px), node_x, node_y, previous.node_half_px,
        np.append(previous.mask_x, mask_x[unseen]), np.append(previous.mask_y, mask_y[unseen]),
        np.append(previous.mask_radius_px, fresh.mask_radius_px[unseen]),
        max(previous.stars_detected, fresh.stars_detected), RECIPE, previous.profile,
        np.concatenate((previous.departure, fresh.departure[new])),
        np.append(previous.departure_fwhm_px, fresh.departure_fwhm_px[new]),
    )  # fmt: skip


def _more_nodes(previous: Catalogue, fresh: Catalogue, transform: Transform) -> tuple[Floats, Floats]:
    """The lattice carried on over ground that the sub covers and the previous catalogue does not."""
    side = 2 * previous.node_half_px
    corner_x = np.array([0.0, fresh.width_px, 0.0, fresh.width_px])
    corner_y = np.array([0.0, 0.0, fresh.height_px, fresh.height_px])
    x, y = inverse(transform, corner_x, corner_y)
    i = np.arange(np.floor((x.min() - previous.node_x[0]) / side), np.ceil((x.max() - previous.node_x[0]) / side) + 1)
    j = np.arange(np.floor((y.min() - previous.node_y[0]) / side), np.ceil((y.max() - previous.node_y[0]) / side) + 1)
    gx, gy = (grid.ravel() for grid in np.meshgrid(previous.node_x[0] + side * i, previous.node_y[0] + side * j))
    sx, sy = transform.apply(gx, gy)
    covered = (sx > 0) & (sy > 0) & (sx < fresh.width_px) & (sy < fresh.height_px)
    known = set(zip(np.rint(previous.node_x).tolist(), np.rint(previous.node_y).tolist(), strict=True))
    new = [k for k in np.flatnonzero(covered) if (float(np.rint(gx[k])), float(np.rint(gy[k]))) not in known]
    return np.append(previous.node_x, gx[new]), np.append(previous.node_y, gy[new])
