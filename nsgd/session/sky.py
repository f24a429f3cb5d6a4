"""What the sky is doing: one sub after the other -> sky state with its cause (pure, no clock).

The state is what the dashboard shows; whether the phone rings is decided in `alerts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nsgd.records import NAN, SkyState, SubRow, SubStatus, Verdict
from nsgd.session.almanac import airmass_of, sun_altitude_deg

BAD_STATES = frozenset({SkyState.THINNING, SkyState.CLOUDY, SkyState.OBSTRUCTED, SkyState.DEW, SkyState.NO_STARS})
"""States in which the sky is seen and is not clear."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the alarm sees of one sub: scalars at star-list level, no pixels. Missing is NaN."""

    sub_id: int
    utc_s: float
    """Mid-exposure."""
    series_id: int
    stream: str
    label: str
    """Object and filter for messages, e.g. "M 31 Ha"."""
    exposure_s: float
    transmission: float
    """Of clear sky, expected extinction removed; NaN where the sub failed."""
    transmission_err: float
    learning: bool
    failure: str = ""
    """Kind of the failure, "" where the sub was measured."""
    rejected: bool = False
    stars_used: int = 0
    stars_expected: int = 0
    stars_detected: int = 0
    star_scatter: float = NAN
    star_floor: float = NAN
    pattern: str = ""
    pattern_map: tuple[float, ...] = ()
    sky_adu: float = NAN
    background_rms_adu: float = NAN
    fwhm_px: float = NAN
    ellipticity: float = NAN
    airmass: float = NAN
    rotation_deg: float = NAN
    sun_altitude_deg: float = NAN

    @property
    def end_utc_s(self) -> float:
        """End of the exposure."""
        return self.utc_s + (0.5 * self.exposure_s if self.exposure_s > 0 else 0.0)


def observe(row: SubRow, verdict: Verdict, site: tuple[float | None, float | None] = (None, None)) -> Observation:
    """The observation of one sub; `site` (latitude, longitude in degrees) is used where its header has none."""
    header, relation = row.header, row.relation
    return Observation(
        sub_id=row.sub_id,
        utc_s=row.order_utc_s,
        series_id=row.series_id,
        stream=row.stream,
        label=_label(header.object_name, header.filter_name),
        exposure_s=header.exposure_s or NAN,
        transmission=verdict.transmission_clear,
        transmission_err=verdict.transmission_err,
        learning=verdict.learning,
        failure=row.failure.kind if row.failure else "",
        rejected=verdict.status is not SubStatus.OK,
        stars_used=relation.stars_used if relation else 0,
        stars_expected=row.stars_expected,
        stars_detected=_detected(row),
        star_scatter=relation.star_scatter if relation else NAN,
        star_floor=relation.star_floor if relation else NAN,
        pattern=relation.pattern if relation else "",
        pattern_map=relation.pattern_map if relation else (),
        sky_adu=float(np.mean(row.sky_adu)) if row.sky_adu else NAN,
        background_rms_adu=row.background_rms_adu,
        fwhm_px=row.fwhm_px,
        ellipticity=row.ellipticity,
        airmass=airmass_of(header, row.order_utc_s),
        rotation_deg=NAN if row.failure else row.transform.rotation_deg,
        sun_altitude_deg=_sun_altitude(row, site),
    )


def _label(object_name: str, filter_name: str) -> str:
    shown = "" if filter_name == "none" else filter_name
    return " ".join(part for part in (object_name, shown) if part)


def _detected(row: SubRow) -> int:
    if row.failure is None:
        return row.stars_detected
    counted = row.failure.numbers.get("stars_detected", row.stars_detected)
    return int(counted)


def _sun_altitude(row: SubRow, site: tuple[float | None, float | None]) -> float:
    lat = row.header.site_lat_deg if row.header.site_lat_deg is not None else site[0]
    long = row.header.site_long_deg if row.header.site_long_deg is not None else site[1]
    if lat is None or long is None:
        return NAN
    return sun_altitude_deg(lat, long, row.order_utc_s)


@dataclass(frozen=True, slots=True)
class Sky:
    """The detector's memory: what it knows after the subs so far."""

    state: SkyState = SkyState.UNKNOWN
    cause: str = ""
    transmission: float = NAN
    last_utc_s: float = NAN
    since_utc_s: float = NAN
    clear_run: int = 0
    detected: Mapping[str, float] = field(default_factory=dict)


def look(sky: Sky, seen: Observation) -> Sky:
    """Take one sub, newer than all before, into the memory."""
    state, run = _state(sky, seen)
    since = sky.since_utc_s if state is sky.state else seen.utc_s
    return replace(
        sky, state=state, transmission=seen.transmission, last_utc_s=seen.utc_s, since_utc_s=since, clear_run=run
    )


def _state(sky: Sky, seen: Observation) -> tuple[SkyState, int]:
    if seen.failure:
        return SkyState.NO_STARS, 0
    clear, err = seen.transmission, seen.transmission_err
    err = err if np.isfinite(err) else 0.0
    if not np.isfinite(clear):
        return SkyState.UNKNOWN, 0
    if clear < 0.85:
        return SkyState.CLOUDY, 0
    if seen.learning:
        return SkyState.LEARNING, 0
    run = sky.clear_run + 1 if clear > 1.0 - max(2.0 * err, 0.08) else 0
    if sky.state in BAD_STATES and run < 3:
        return (sky.state if run else SkyState.THINNING), run
    return (SkyState.CLEAR if run else SkyState.THINNING), run


def states(seen: Iterable[Observation]) -> dict[int, SkyState]:
    """Sky state after each sub, by sub_id; observations in mid-exposure order."""
    sky, found = Sky(), {}
    for observation in seen:
        sky = look(sky, observation)
        found[observation.sub_id] = sky.state
    return found
