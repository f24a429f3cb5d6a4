"""The records that travel between rooms, and the conventions, written once.

Pixels
    (x, y), 0-based, the centre of the first pixel is 0.0; arrays are [y, x]. Coordinates are
    full-resolution pixels of the sub, also for the half-size planes of a Bayer sub (`Plane`).
Transform
    Maps series coordinates (the catalogue's) to coordinates in the sub.
Zero point z
    Of one sub: its star fluxes divided by the series' solution. It falls when light is lost.
Scale m
    Multiply the sub by m to match the reference: m = z_ref / z_sub.
Gradient
    Background of (m * sub) minus background of the reference, its constant included.
Units
    `_px`, `_adu` (the file's own units), `_s`, `_utc_s` (seconds since 1970-01-01 UTC), `_deg`.
Missing
    None for scalars of a header, NaN in arrays and measured figures; never a plausible number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nsgd.counts import Light

    Floats: TypeAlias = NDArray[np.float64]
    Floats32: TypeAlias = NDArray[np.float32]
    Floats16: TypeAlias = NDArray[np.float16]
    Flags: TypeAlias = NDArray[np.uint8]
    Pixels: TypeAlias = NDArray[np.float32]
else:
    # Names of annotations only: what tells the state of the sky must not wait for numpy.
    Floats = Floats32 = Floats16 = Flags = Pixels = Light = object

NAN = float("nan")


class FrameKind(StrEnum):
    """What a file of the capture folder holds; only LIGHT is a sub."""

    LIGHT = "light"
    DARK = "dark"
    FLAT = "flat"
    BIAS = "bias"
    SNAPSHOT = "snapshot"
    STACKED = "stacked"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What one file's header, name and path say. Strings are cleaned (no control characters)."""

    kind: FrameKind = FrameKind.LIGHT
    object_name: str = ""
    filter_name: str = "none"
    exposure_s: float | None = None
    start_utc_s: float | None = None
    mid_utc_s: float | None = None
    time_source: str = ""
    """Header key or file-name rule the time came from; "" where no time is known."""
    camera: str = ""
    binning: int = 1
    width_px: int = 0
    height_px: int = 0
    bayer_pattern: str = ""
    """Four letters of the 2x2 cell at array row 0, column 0 (offsets and row order applied); "" = mono."""
    gain: float | None = None
    offset: float | None = None
    egain_e_per_adu: float | None = None
    ccd_temp_c: float | None = None
    airmass: float | None = None
    altitude_deg: float | None = None
    ra_deg: float | None = None
    dec_deg: float | None = None
    site_lat_deg: float | None = None
    site_long_deg: float | None = None
    pixel_size_um: float | None = None
    focal_length_mm: float | None = None
    pier_side: str = ""
    rotator_deg: float | None = None
    software: str = ""
    row_order: str = ""
    """`TOP-DOWN`, `BOTTOM-UP` or ""; pixels stay as stored, only exports need it."""
    noise_keys: tuple[float, ...] = ()
    """PixInsight's NOISE00... in the file's own scale, empty where absent."""
    calibrated: bool = False
    """True where the file itself says that dark, flat or bias were applied."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One colour plane: pixel (i, j) of it lies at origin_px + step_px * (i, j) in the sub."""

    name: str
    """"L" for mono, else "R", "G", "B"."""
    light: Light
    """(h, w) what the pixels are looked up in; `pixels` has them all as float32."""
    origin_x_px: float = 0.0
    origin_y_px: float = 0.0
    step_px: int = 1
    sites: int = 1
    """Sensor pixels that one pixel of the plane is the mean of."""
    averages: tuple[Pixels, ...] = field(default=(), init=False)
    """(h // 2, w // 2) means over 2 x 2 of these very pixels, and (h // 4, w // 4) over 4 x 4 of a large plane, where
    they were made while the file was read; a plane that `replace` makes of this one has none."""

    @property
    def pixels(self) -> Pixels:
        """(h, w) float32; numbers that were kept as the file holds them are turned into it at the first look."""
        light = self.light
        if not hasattr(light, "raw"):
            return light
        object.__setattr__(self, "light", light[...])
        return self.pixels

    def with_averages(self, averages: tuple[Pixels, ...]) -> Plane:
        """The same plane with its averages."""
        plane = replace(self)
        object.__setattr__(plane, "averages", averages)
        return plane


@dataclass(frozen=True, slots=True)
class Frame:
    """One sub's pixels and header facts; the only record that holds pixels.

    Mono: one plane "L". Bayer: planes "R", "G" (mean of both greens), "B" at half size. RGB: three
    full-size planes. `saturation_adu` is the level from which a pixel is not linear any more.
    """

    path: str
    content_id: str
    header: HeaderFacts
    planes: tuple[Plane, ...]
    saturation_adu: float
    full_scale_adu: float = 1.0
    """The level that other programs show as 1: the largest number of the file's integers, 1 for floats in 0..1."""
    interpolated: bool = False
    """True where the pixels were moved onto another frame's: their noise is not each pixel's own any more."""

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(plane.name for plane in self.planes)


@dataclass(frozen=True, slots=True)
class Transform:
    """Affine map from series coordinates to a sub: x' = a x + b y + tx, y' = c x + d y + ty.

    Optional quadratic terms `quad` (2, 3) multiply (u^2, u v, v^2), u and v being the series
    coordinates centred and divided by `half_px`.
    """

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    tx: float = 0.0
    ty: float = 0.0
    quad: tuple[float, ...] = ()
    centre_x_px: float = 0.0
    centre_y_px: float = 0.0
    half_px: float = 1.0

    def apply(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Series coordinates -> coordinates in the sub; arrays of one shape, pixels."""
        sub_x = self.a * x + self.b * y + self.tx
        sub_y = self.c * x + self.d * y + self.ty
        if self.quad:
            u = (x - self.centre_x_px) / self.half_px
            v = (y - self.centre_y_px) / self.half_px
            terms = (u * u, u * v, v * v)
            sub_x = sub_x + sum(q * t for q, t in zip(self.quad[:3], terms, strict=True))
            sub_y = sub_y + sum(q * t for q, t in zip(self.quad[3:], terms, strict=True))
        return sub_x, sub_y

    @property
    def rotation_deg(self) -> float:
        """Rotation of the field, degrees, positive from +x towards +y, in (-180, 180]."""
        angle = math.degrees(math.atan2(self.c - self.b, self.a + self.d))
        return 180.0 if angle <= -180.0 else angle


class StarFlag:
    """Bits of `Catalogue.flags` and `SubFacts.flags`; a star with any bit set is not used."""

    OK = 0
    SATURATED = 1
    BLENDED = 2
    EDGE = 4
    MASKED = 8


def _no_profile() -> Floats:
    import numpy as np

    return np.empty((0, 14))


def _no_wings() -> Floats:
    import numpy as np

    return np.empty((0, 5))


def _no_departure() -> Floats32:
    import numpy as np

    return np.empty((0, 0, 10), np.float32)


def _no_width() -> Floats32:
    import numpy as np

    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """A series' stars and sky nodes, in series coordinates (those of its first sub).

    Star numbers never change: a new generation keeps every earlier star under its number and adds
    new ones behind, so facts of different generations share their common stars.
    """

    generation: int
    width_px: int
    height_px: int
    channels: tuple[str, ...]
    x: Floats
    y: Floats
    flux: Floats32
    """(n, channels) total flux in the sub that the star was found in, ADU."""
    flags: Flags
    fwhm_px: float
    node_x: Floats
    node_y: Floats
    node_half_px: float
    """Half the side of a node's box."""
    mask_x: Floats
    mask_y: Floats
    mask_radius_px: Floats
    """Discs kept out of the sky nodes: all stars, also those too faint or too bright to measure."""
    stars_detected: int
    recipe: int
    profile: Floats = field(default_factory=_no_profile)
    """(channels, 14) curve of growth of the first sub: beta and FWHM of its stars, the FWHM that its apertures are
    multiples of, and how the share of each soft aperture, each ring and all beyond deviates."""
    departure: Floats32 = field(default_factory=_no_departure)
    """(n, channels, 10) by how much a star's share of light in each soft aperture and ring departs from the curve of
    growth of its sub: neighbours that no list holds, and optics that blur the field unevenly."""
    departure_fwhm_px: Floats32 = field(default_factory=_no_width)
    """(n,) FWHM that those apertures are multiples of, pixels of the plane."""


@dataclass(frozen=True, slots=True, eq=False)
class SubFacts:
    """What one sub says by itself; computed once from its pixels, never changed."""

    recipe: int
    calibration: str
    """Names the master frames used, "" for none; facts of different ones are never mixed."""
    generation: int
    transform: Transform
    stars_matched: int
    stars_expected: int
    stars_detected: int
    residual_px: float
    false_match_log10: float
    flux: Floats32
    """(n, channels) total flux at the catalogue's stars, ADU, NaN where not measurable."""
    flux_err: Floats32
    """(n, channels) its error without the star's own photon noise: sky, read-out and background, ADU."""
    flags: Flags
    """(n,)"""
    flux_common_err: tuple[float, ...]
    """Per channel: relative error that all stars of the sub share (curve of growth)."""
    node_sky: Floats32
    """(nodes, channels) mean sky at the catalogue's nodes, ADU, NaN where not measurable."""
    node_fraction: Floats16
    """(nodes,) part of the node's box that was measured, 0..1."""
    noise_adu: tuple[float, ...]
    sky_adu: tuple[float, ...]
    fwhm_px: float
    ellipticity: float
    elongation_deg: float
    """Direction of the long axis, degrees from +x towards +y, NaN where round."""
    background_rms_adu: float
    """Large-scale structure of the sky in this sub, ADU (stray light shows here)."""
    wings: Floats = field(default_factory=_no_wings)
    """(channels, 5) ln beta of the profile behind the fluxes and its error, ln beta as this sub alone shows it and its
    error, and by how much ln flux changes with ln beta."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sub could not be measured: a value in the store, not a log line."""

    kind: str
    sentence: str
    numbers: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relation:
    """One sub against the series' solution and the reference; needs stored facts, no pixels."""

    solution: int
    """Number of the solution these figures were made with."""
    reference_id: int
    zero: tuple[float, ...]
    """Per channel: star flux over solution flux (falls in cloud), not divided by exposure."""
    zero_err: tuple[float, ...]
    scale: tuple[float, ...]
    scale_err: tuple[float, ...]
    weight: tuple[float, ...]
    """Per channel, relative to the reference: (sigma_ref / (sigma_sub * m))^2."""
    stars_used: int
    star_scatter: float
    """Robust rms of the star ratios about the sub's own scale (relative, noise included)."""
    star_floor: float
    """Part of that scatter that photon and sky noise do not explain (relative)."""
    pattern: str
    """`uniform`, `patchy`, `one_side`, `centre` or "" (too few stars)."""
    pattern_rms: float
    pattern_map: tuple[float, ...]
    """Low-order local transmission: 1 + c0 u + c1 v + c2 u^2 + c3 u v + c4 v^2, u and v in -1..1."""
    gradient_x_adu: float
    gradient_y_adu: float
    gradient_rms_adu: float
    gradient_diagonal_adu: tuple[float, float]
    """Bottom-right minus top-left, and top-right minus bottom-left."""


@dataclass(frozen=True, slots=True)
class SubRow:
    """The scalar columns of one sub as the store keeps them: facts, relation and bookkeeping."""

    sub_id: int
    content_id: str
    series_id: int
    """0 where the sub failed before its series was known."""
    stream: str
    """Series-wide key of exposure and gain, e.g. "60s g100"."""
    folder: str
    path: str
    gone: bool
    header: HeaderFacts
    session: str
    """Night: local date minus 12 hours, YYYY-MM-DD."""
    arrived_utc_s: float
    order_utc_s: float
    """Mid-exposure time used for ordering; arrival where the header's time is missing or absurd."""
    order_flag: str
    """"" where the header's time is trusted, else why it is not."""
    failure: Failure | None
    measure_s: float
    # facts, None-free: NaN where the sub failed
    generation: int = 0
    transform: Transform = field(default_factory=Transform)
    stars_matched: int = 0
    stars_expected: int = 0
    stars_detected: int = 0
    residual_px: float = NAN
    noise_adu: tuple[float, ...] = ()
    sky_adu: tuple[float, ...] = ()
    fwhm_px: float = NAN
    ellipticity: float = NAN
    background_rms_adu: float = NAN
    relation: Relation | None = None
    decision: str = ""
    """"accept", "reject" or "": what a person decided."""
    change: int = 0
    """Number of the store change that last touched this row."""


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series as the store keeps it."""

    series_id: int
    key: str
    object_name: str
    filter_name: str
    camera: str
    binning: int
    width_px: int
    height_px: int
    channels: tuple[str, ...]
    reference_id: int
    """Sub that the scales refer to; 0 before there is one."""
    reference_chosen: bool
    """True where a person chose it; else nsgd may move to a better one."""
    smoothness: float
    limits: dict[str, float]
    """Cut-offs set for this series by a request; empty = those of the settings."""
    generation: int
    solution: int
    change: int = 0


@dataclass(frozen=True, slots=True)
class CutOffs:
    """Below (or above) which a sub is rejected: `settings.Limits` as they are in force for one series."""

    transmission: float
    weight: float
    fwhm_px: float
    """0 = off."""
    ellipticity: float
    """1 = off."""


class SubStatus(StrEnum):
    """A verdict's outcome."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


class SkyState(StrEnum):
    """What the sky is doing, as far as this sub or moment can tell."""

    LEARNING = "learning"
    CLEAR = "clear"
    THINNING = "thinning"
    CLOUDY = "cloudy"
    OBSTRUCTED = "obstructed"
    DEW = "dew"
    NO_STARS = "no stars"
    NO_DATA = "no data"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sub within its series and the user's limits; derived, never stored."""

    sub_id: int
    status: SubStatus
    reasons: tuple[str, ...]
    transmission: float
    """1/m per exposure and gain, relative to the clear level of the stream."""
    transmission_err: float
    transmission_clear: float
    """The same with the expected extinction taken out; what cut-off and alarm look at."""
    weight: float
    """Relative to the reference (mean of the channels)."""
    weight_of_best: float
    """Per exposure, relative to the best of the series; what the weight cut-off looks at."""
    rank: int
    """1 = highest weight of the series; 0 = not ranked."""
    learning: bool
    """True while the stream's clear level is not known yet."""
    extinction_mag: float = NAN
    """Expected extinction relative to the clear level's airmass, magnitudes; NaN without airmass."""
    sky_state: SkyState = SkyState.UNKNOWN
    previous_id: int = 0
    """The measured sub of the same stream before this one in time, 0 for none."""
    previous_transmission: float = NAN
    """Its transmission_clear as judged together with this one: a better clear level moves both."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell the user; text stands alone without the picture."""

    event_id: str
    """The same for the first message and the all-clear of one event."""
    kind: str
    """`cloud`, `clear`, `dew`, `obstructed`, `no_subs`, `folder_lost`, `cannot_save`, `dawn`..."""
    title: str
    body: str
    created_utc_s: float
    urgent: bool = False
    resolves: bool = False
    picture: str = ""
    """Path of a PNG, "" for none."""
    shared: bool = False
    """True where other rigs of the site see the same: one of them tells it for all."""
