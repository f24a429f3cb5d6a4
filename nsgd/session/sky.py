"""What the sky is doing: one sub after the other -> sky state with its cause (pure, no clock).

`look` takes one `Observation` into the memory `Sky`. Every stream has its own clear-sky expectation (`track`), all
streams together look at one sky: a dip seen through Ha counts for the next L sub. A dip opens when one sub is far too
faint (fast path) or when small losses since some onset add up (slow path), and closes when three subs in a row are
back; `causes` names it. The state is what the dashboard shows; whether the phone rings is decided in `alerts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nsgd.records import NAN, SkyState, SubRow, SubStatus, Verdict
from nsgd.session.almanac import airmass_of
from nsgd.session.backdrop import Backdrop
from nsgd.session.causes import SINKING_PER_HOUR, Cause, Sample, cause_of
from nsgd.session.track import Onset, Surprise, Track, followed, threshold

BAD_STATES = frozenset({SkyState.THINNING, SkyState.CLOUDY, SkyState.OBSTRUCTED, SkyState.DEW, SkyState.NO_STARS})
"""States in which the sky is seen and is not clear."""


Place = tuple[float | None, float | None]
"""Latitude and longitude, degrees, north and east positive."""


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
    previous_id: int = 0
    """The measured sub of the same stream before this one, and its transmission as it is judged now."""
    previous_transmission: float = NAN
    failure: str = ""
    """Kind of the failure, "" where the sub was measured."""
    rejected: bool = False
    stars_used: int = 0
    stars_expected: int = 0
    stars_detected: int = 0
    star_scatter: float = NAN
    star_floor: float = NAN
    pattern: str = ""
    pattern_rms: float = NAN
    sky_adu: float = NAN
    level_of_full: float = NAN
    """Of a sub that failed: its level relative to saturation."""
    background_rms_adu: float = NAN
    fwhm_px: float = NAN
    ellipticity: float = NAN
    airmass: float = NAN
    rotation_deg: float = NAN
    site_lat_deg: float = NAN
    site_long_deg: float = NAN

    @property
    def ln_sky(self) -> float:
        """ln of the sky's level, NaN where it is not known."""
        return math.log(self.sky_adu) if self.sky_adu > 0 else NAN

    @property
    def end_utc_s(self) -> float:
        """End of the exposure."""
        return self.utc_s + (0.5 * self.exposure_s if self.exposure_s > 0 else 0.0)


def observe(row: SubRow, verdict: Verdict, site: Place = (None, None)) -> Observation:
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
        previous_id=verdict.previous_id,
        previous_transmission=verdict.previous_transmission,
        failure=row.failure.kind if row.failure else "",
        rejected=verdict.status is not SubStatus.OK,
        stars_used=relation.stars_used if relation else 0,
        stars_expected=row.stars_expected,
        stars_detected=_detected(row),
        star_scatter=relation.star_scatter if relation else NAN,
        star_floor=relation.star_floor if relation else NAN,
        pattern=relation.pattern if relation else "",
        pattern_rms=relation.pattern_rms if relation else NAN,
        sky_adu=float(np.mean(row.sky_adu)) if row.sky_adu else _number(row, "level_adu"),
        level_of_full=_number(row, "level_of_full"),
        background_rms_adu=row.background_rms_adu,
        fwhm_px=row.fwhm_px,
        ellipticity=_number(row, "ellipticity") if row.failure else row.ellipticity,
        airmass=airmass_of(header, row.order_utc_s),
        rotation_deg=NAN if row.failure else row.transform.rotation_deg,
        site_lat_deg=_or_nan(header.site_lat_deg, site[0]),
        site_long_deg=_or_nan(header.site_long_deg, site[1]),
    )


def _label(object_name: str, filter_name: str) -> str:
    shown = "" if filter_name == "none" else filter_name
    return " ".join(part for part in (object_name, shown) if part)


def _detected(row: SubRow) -> int:
    if row.failure is None:
        return row.stars_detected
    numbers = row.failure.numbers
    return int(numbers.get("stars_detected", numbers.get("stars", row.stars_detected)))


def _number(row: SubRow, name: str) -> float:
    """A number of a failure, NaN where it holds none."""
    value = row.failure.numbers.get(name) if row.failure else None
    return float(value) if isinstance(value, float | int) else NAN


def _or_nan(first: float | None, second: float | None) -> float:
    value = second if first is None else first
    return NAN if value is None else value


# --- what a clear sub of a stream looks like -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Normal:
    """What one stream's subs look like under a clear sky: running means, NaN before the first sub."""

    utc_s: float = NAN
    backdrop: Backdrop = field(default_factory=Backdrop)
    scatter: float = NAN
    floor: float = NAN
    stars: float = NAN
    """Number of stars found."""
    fwhm_px: float = NAN
    ellipticity: float = NAN
    pattern_rms: float = NAN
    background: float = NAN
    """Large-scale structure of the sky relative to its level."""
    rotation_deg: float = NAN
    subs: int = 0

    def after_pause(self) -> Normal:
        """The moon and the twilight went on meanwhile: the sky's level is not known."""
        return replace(self, backdrop=self.backdrop.after_pause())

    def turned(self) -> Normal:
        """The field stands the other way round: flats that do not fit leave another pattern over it."""
        return replace(self, scatter=NAN, floor=NAN, pattern_rms=NAN)

    def of_another_night(self) -> Normal:
        """Focus and sky are new; the stars and their scatter are those of the field."""
        return replace(self.after_pause(), fwhm_px=NAN, ellipticity=NAN, background=NAN)

    def learnt(self, seen: Observation) -> Normal:
        """The means after one more clear sub."""
        gain = max(0.08, 1.0 / (self.subs + 1))
        return Normal(
            utc_s=seen.utc_s,
            backdrop=self.backdrop.learnt(seen.utc_s, seen.ln_sky, self.subs),
            scatter=_mean(self.scatter, seen.star_scatter, gain),
            floor=_mean(self.floor, seen.star_floor, gain),
            stars=_mean(self.stars, float(seen.stars_detected or NAN), gain),
            fwhm_px=_mean(self.fwhm_px, seen.fwhm_px, gain),
            ellipticity=_mean(self.ellipticity, seen.ellipticity, gain),
            pattern_rms=_mean(self.pattern_rms, seen.pattern_rms, gain),
            background=_mean(self.background, seen.background_rms_adu / seen.sky_adu if seen.sky_adu else NAN, gain),
            rotation_deg=seen.rotation_deg if math.isfinite(seen.rotation_deg) else self.rotation_deg,
            subs=self.subs + 1,
        )


def _mean(old: float, new: float, gain: float) -> float:
    if not math.isfinite(new):
        return old
    return new if not math.isfinite(old) else old + gain * (new - old)


# --- the memory ----------------------------------------------------------------------------------

NEW_NIGHT_S = 6 * 3600.0
LONG_PAUSE_S = 900.0
REMEMBERED_S = 30 * 86_400.0
"""A stream that was not used for so long is forgotten."""
FAST_DIP, FAST_SIGMA = 0.05, 5.0
"""One sub that is fainter than both opens a dip at once."""
CUED_DIP, CUED_SIGMA = 0.03, 3.5
"""The same where a second, independent sign agrees."""
LOW_TRANSMISSION = 0.92
"""Below this, two subs in a row are no clear sky, whatever the night began with."""
CLOUDY_TRANSMISSION = 0.85
CLEAR_SUBS = 3
UNPROVEN = "clear level not known"
"""Cause of an unknown sky: the light is steady, but its stream was first seen in cloud."""
SETTLED_SUBS, SETTLED_S, SETTLED_DIP, SETTLED_SD = 8, 1200.0, 0.06, 0.01
"""Such a stream counts as clear once its light has kept still for so long: cloud does not."""
PROVEN_SUBS, STILL_DIP = 5, 0.03
"""So many clear subs of a night before a dip show that its streams have seen clear sky; while the clear level is
being learnt, a light that falls by more begins the count anew."""
TWILIT_SUBS = 3
NO_STARS_LOSS = 3.0
"""What a sub without stars counts as, ln: a twentieth of the light is left at most."""
WHITE = 0.7
"""Level, relative to saturation, from which a sub without stars is full of light."""
FEW_STARS = 15
"""With fewer stars a match that fails says nothing."""
SMEARED, TRAILED_SUBS = 0.5, 2
"""Ellipticity of trails; after so many trailed subs, stars that are gone are lost in their trails."""
BLACK_LN = math.log(2.0)
"""The sky of a covered telescope is darker than before by more than this."""
KEPT_SAMPLES, NEWEST_SAMPLES = 40, 16
"""Subs of a dip that are remembered, and how many of them are the newest ones without a gap."""
FALSE_ALARM_NIGHTS, NIGHT_S = 30.0, 9 * 3600.0
"""The slow path opens a dip falsely once in so many clear nights of this length, at any cadence."""
SUSPECT_Z = 2.0
"""From here on a sub does not teach what is normal."""
CUE_EASE = 0.88
"""The threshold of the slow path is this much lower while a second sign agrees."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of one stream."""

    track: Track = field(default_factory=Track)
    normal: Normal = field(default_factory=Normal)
    last_id: int = 0
    last_transmission: float = NAN
    last_dip: float = NAN
    """Loss of its last sub, where that sub was not back while a dip was open."""
    unproven: bool = False
    """True while nobody knows whether it has seen clear sky: what it takes for clear may be cloud."""
    contradicted: int = 0
    """Dips that other streams ended while this one still looked faint."""


@dataclass(frozen=True, slots=True)
class Dip:
    """A time without clear sky: from its first faint sub until three good ones."""

    began_utc_s: float
    subs: int = 0
    clear_run: int = 0
    samples: tuple[Sample, ...] = ()
    """The newest of them, and the older ones ever more widely spaced."""
    from_start: bool = False
    """True where this night has not been clear before."""

    @property
    def depth(self) -> float:
        """Typical loss of the dip, ln."""
        known = [sample.dip for sample in self.samples if math.isfinite(sample.dip)]
        return float(np.median(known)) if known else NAN


@dataclass(frozen=True, slots=True)
class Sky:
    """The detector's memory after the subs so far."""

    state: SkyState = SkyState.UNKNOWN
    cause: str = ""
    evidence: str = ""
    transmission: float = NAN
    transmission_err: float = NAN
    label: str = ""
    last_utc_s: float = NAN
    since_utc_s: float = NAN
    """Since when the state has been what it is."""
    cadence_s: float = NAN
    loss: float = NAN
    """Light that the last sub lost against what is expected of its stream, ln, with its error."""
    loss_err: float = NAN
    expected: float = 1.0
    """Transmission of a clear sub at the last one's time: below 1 where the subs hold extinction and no airmass."""
    cues: int = 0
    """Independent signs, beside the loss of light, that agreed with cloud in the last sub."""
    ambiguous: bool = False
    """True where something near the telescope could have left those signs in the last sub alone."""
    unproven: bool = False
    """True where a dip is open and nobody knows how bright the last sub would be in clear sky."""
    dip: Dip | None = None
    streams: Mapping[str, Stream] = field(default_factory=dict)
    onsets: tuple[Onset, ...] = ()
    """Subs since which light may have been missing."""
    number: int = 0
    """Subs of this night so far."""
    low_run: int = 0
    clear_tonight: int = 0
    """Clear subs of this night."""
    blips: float = 0.0
    """Running part of subs that lay far off for one sub only: how heavy the tails are."""
    lost_run: int = 0
    """Subs in a row with stars but without a match: the field is lost."""
    dark_run: int = 0
    """Subs in a row without any star."""
    soft_run: int = 0
    trailed_run: int = 0
    brightening_run: int = 0
    """Subs in a row whose sky rose as in twilight."""


def look(sky: Sky, seen: Observation) -> Sky:
    """Take one sub, newer than all before, into the memory."""
    sky = replace(_at(sky, seen), loss=NAN, loss_err=NAN)
    if seen.failure:
        after = _unmeasured(sky, seen)
    elif not seen.transmission > 0:
        after = replace(sky, state=SkyState.UNKNOWN, cause="no transmission")
    else:
        after = _measured(sky, seen)
    since = sky.since_utc_s if after.state is sky.state and math.isfinite(sky.since_utc_s) else seen.utc_s
    if after.dip is not None and sky.dip is None:
        since = after.dip.began_utc_s
    return replace(
        after,
        since_utc_s=since,
        last_utc_s=seen.utc_s,
        label=seen.label or sky.label,
        transmission=seen.transmission,
        transmission_err=seen.transmission_err,
    )


def _at(sky: Sky, seen: Observation) -> Sky:
    """The memory carried on to the sub's time: cadence, new night, long pause."""
    gap_s = seen.utc_s - sky.last_utc_s
    if gap_s > NEW_NIGHT_S:
        streams = {
            key: replace(stream, track=Track(), normal=stream.normal.of_another_night())
            for key, stream in sky.streams.items()
            if seen.utc_s - stream.normal.utc_s < REMEMBERED_S
        }
        return Sky(streams=streams, cadence_s=sky.cadence_s, label=sky.label)
    if gap_s > LONG_PAUSE_S:
        streams = {
            key: replace(stream, track=stream.track.loosened(0.005), normal=stream.normal.after_pause())
            for key, stream in sky.streams.items()
        }
        return replace(sky, streams=streams, onsets=())
    if gap_s > 0:
        # Median tracking: pauses for autofocus and flips do not lengthen it much.
        old = sky.cadence_s if math.isfinite(sky.cadence_s) else gap_s
        return replace(sky, cadence_s=old + 0.2 * min(max(gap_s - old, -0.5 * old), 0.5 * old))
    return sky


def _measured(sky: Sky, seen: Observation) -> Sky:
    key = f"{seen.series_id} {seen.stream}"
    sky, stream = _restated(sky, key, seen)
    if _flipped(stream.normal, seen):
        stream = replace(stream, track=stream.track.loosened(0.01), normal=stream.normal.turned())
        # What was suspected before was measured with flats that fitted the other way round.
        sky = replace(sky, onsets=())
    if seen.learning and not stream.normal.subs:
        stream = replace(stream, unproven=True)
    error = seen.transmission_err / seen.transmission if math.isfinite(seen.transmission_err) else 0.0
    value = math.log(seen.transmission)
    surprise = stream.track.surprise(seen.utc_s, value, error)
    sample = _sample(stream.normal, seen, surprise)
    expected = stream.track.expected(seen.utc_s)
    seen = replace(seen, transmission=seen.transmission / expected)
    sky = replace(
        sky, cues=sample.cues, ambiguous=sample.ambiguous, expected=expected, lost_run=0, dark_run=0, unproven=False
    )
    sky = replace(sky, loss=sample.dip, loss_err=sample.sigma)
    sky = _runs(sky, stream.normal, seen, sample)
    if seen.learning and seen.transmission > CLOUDY_TRANSMISSION and sky.dip is None:
        normal = stream.normal.learnt(seen)
        still = seen.transmission > 1.0 - max(STILL_DIP, 3.0 * error)
        sky = replace(sky, state=SkyState.LEARNING, cause="", clear_tonight=sky.clear_tonight + 1 if still else 0)
        return _kept(sky, key, replace(stream, normal=normal))
    if sky.dip is not None:
        return _in_dip(sky, key, stream, (seen, surprise, sample))
    return _in_clear(sky, key, stream, _Fresh(seen, surprise, sample, value, error))


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A sub with what was made of it."""

    seen: Observation
    surprise: Surprise
    sample: Sample
    value: float
    """ln(transmission)"""
    error: float


def _restated(sky: Sky, key: str, seen: Observation) -> tuple[Sky, Stream]:
    """The stream of a sub, in the units that the sub is judged in.

    A clear level or an extinction that is known better by now moves all earlier subs; without this, every lesson of
    the clear level would look like a dip. The last sub of the stream, judged again, says by how much.
    """
    stream = sky.streams.get(key, Stream())
    now = replace(stream, last_id=seen.sub_id, last_transmission=seen.transmission)
    if seen.previous_id != stream.last_id or not stream.last_id:
        return sky, now
    ratio = seen.previous_transmission / stream.last_transmission
    if not ratio > 0 or ratio == 1.0:
        return sky, now
    by = math.log(ratio)
    onsets = tuple(onset.shifted(key, by) for onset in sky.onsets)
    return replace(sky, onsets=onsets), replace(now, track=stream.track.shifted(by))


def _flipped(normal: Normal, seen: Observation) -> bool:
    turned = abs(seen.rotation_deg - normal.rotation_deg)
    return math.isfinite(turned) and 90.0 < turned < 270.0


def _sample(normal: Normal, seen: Observation, surprise: Surprise) -> Sample:
    """The sub against what is normal for its stream."""
    excess = seen.ln_sky - normal.backdrop.expected(seen.utc_s)
    background = seen.background_rms_adu / seen.sky_adu if seen.sky_adu > 0 else NAN
    return Sample(
        utc_s=seen.utc_s,
        dip=surprise.dip,
        sigma=surprise.sigma,
        sky=excess,
        sky_sigma=normal.backdrop.sigma_at(seen.utc_s),
        scatter=_ratio(seen.star_scatter, normal.scatter),
        floor=math.sqrt(max(seen.star_floor**2 - normal.floor**2, 0.0)),
        stars=_ratio(float(seen.stars_detected or NAN), normal.stars),
        star_count=normal.stars,
        fwhm=_ratio(seen.fwhm_px, normal.fwhm_px),
        ellipticity=seen.ellipticity - normal.ellipticity,
        pattern=seen.pattern,
        pattern_rms=seen.pattern_rms - (normal.pattern_rms if math.isfinite(normal.pattern_rms) else 0.0),
        background=_ratio(background, normal.background),
        stream=f"{seen.series_id} {seen.stream}",
        airmass=seen.airmass,
        normal_subs=normal.subs,
    )


def _ratio(value: float, normal: float) -> float:
    return value / normal if normal > 0 else NAN


def _runs(sky: Sky, normal: Normal, seen: Observation, sample: Sample) -> Sky:
    """Count subs in a row that are soft, trailed, or rise like twilight."""
    soft = sample.fwhm > 1.35 and normal.subs >= 5
    trailed = sample.ellipticity > 0.2 and seen.ellipticity > 0.3
    brightening = normal.backdrop.slope > 2.0 and sample.sky > -3.0 * sample.sky_sigma
    return replace(
        sky,
        soft_run=sky.soft_run + 1 if soft else 0,
        trailed_run=sky.trailed_run + 1 if trailed else 0,
        brightening_run=sky.brightening_run + 1 if brightening else 0,
    )


def _kept(sky: Sky, key: str, stream: Stream) -> Sky:
    return replace(sky, streams={**sky.streams, key: stream})


def _in_clear(sky: Sky, key: str, stream: Stream, fresh: _Fresh) -> Sky:
    """No dip so far: does this sub open one?"""
    seen, sample, track = fresh.seen, fresh.sample, stream.track
    value = _counted(sky, fresh)
    variance = track.variance(fresh.error)
    behind = (stream.normal.backdrop, NAN if sample.odd else seen.ln_sky)
    onsets = followed(sky.onsets, key, track.lines, (seen.utc_s, value, variance), sky.number, behind)
    best = max(onsets, key=lambda onset: onset.evidence(track.choice), default=None)
    z = best.evidence(track.choice) if best is not None else 0.0
    low_run = sky.low_run + 1 if seen.transmission < LOW_TRANSMISSION else 0
    sky = replace(sky, onsets=onsets, number=sky.number + 1, low_run=low_run)
    enough = threshold(_subs_between(sky.cadence_s)) * (CUE_EASE if sample.cues and not sample.odd else 1.0)
    if z > enough or low_run >= 2 or _is_fast(fresh):
        return _opened(sky, key, stream, (fresh, best if z > 0.8 * enough else None))
    blip = float(abs(fresh.surprise.z) > 4.0)
    suspect = any(onset.z(track.choice) >= SUSPECT_Z for onset in onsets)
    normal = stream.normal.learnt(seen) if not suspect and not sample.odd else stream.normal
    sky = replace(
        sky, blips=sky.blips + 0.02 * (blip - sky.blips), state=_fair(sky), clear_tonight=sky.clear_tonight + 1
    )
    if sky.state is SkyState.CLEAR:
        sky = replace(sky, cause="", evidence="")
    track = track.seen(seen.utc_s, fresh.value, fresh.error)
    return _kept(sky, key, replace(stream, track=track, normal=normal))


def _fair(sky: Sky) -> SkyState:
    """Nothing speaks against a clear sky; one low sub alone does not make it cloudy."""
    return SkyState.CLEAR if sky.low_run == 0 else sky.state if sky.state in BAD_STATES else SkyState.CLEAR


def _counted(sky: Sky, fresh: _Fresh) -> float:
    """ln(transmission) as the slow path takes it.

    Where subs stray for one sub only (heavy tails), or where the sub itself is odd (trailed, stray light), a single
    one may not decide, unless a second sign agrees with cloud.
    """
    if fresh.sample.odd:
        most = 2.0
    elif fresh.sample.cues:
        return fresh.value
    else:
        most = 6.0 if sky.blips < 0.01 else 3.5 if sky.blips < 0.03 else 2.5
    expected = fresh.value + fresh.surprise.dip
    return max(fresh.value, expected - most * fresh.surprise.sigma)


def _subs_between(cadence_s: float) -> float:
    """Mean number of subs between two false openings."""
    cadence = cadence_s if cadence_s > 0 else 180.0
    return FALSE_ALARM_NIGHTS * NIGHT_S / min(max(cadence, 5.0), 1200.0)


def _is_fast(fresh: _Fresh) -> bool:
    if fresh.sample.odd:
        return False
    dip, z = 1.0 - math.exp(-fresh.surprise.dip), fresh.surprise.z
    return (dip > FAST_DIP and z > FAST_SIGMA) or (fresh.sample.cues > 0 and dip > CUED_DIP and z > CUED_SIGMA)


def _opened(sky: Sky, key: str, stream: Stream, found: tuple[_Fresh, Onset | None]) -> Sky:
    """A dip begins, at its most likely onset; what was learnt since then was no clear sky."""
    fresh, onset = found
    sky = _begun(_kept(sky, key, stream), onset.utc_s if onset else fresh.seen.utc_s)
    streams = {**sky.streams}
    for name, loss in (onset.losses if onset else {}).items():
        track = replace(streams[name].track, lines=loss.lines)
        streams[name] = replace(streams[name], track=track)
    stream = streams[key]
    surprise = stream.track.surprise(fresh.seen.utc_s, fresh.value, fresh.error)
    sample = replace(fresh.sample, dip=surprise.dip, sigma=surprise.sigma)
    sky = replace(sky, streams=streams, onsets=())
    return _in_dip(sky, key, stream, (fresh.seen, surprise, sample))


def _begun(sky: Sky, utc_s: float) -> Sky:
    """A dip begins. After enough clear subs, all streams of the night so far have seen clear sky."""
    from_start = sky.clear_tonight < PROVEN_SUBS
    streams = {name: replace(stream, unproven=stream.unproven and from_start) for name, stream in sky.streams.items()}
    return replace(sky, dip=Dip(began_utc_s=utc_s, from_start=from_start), streams=streams)


def _in_dip(sky: Sky, key: str, stream: Stream, found: tuple[Observation, Surprise, Sample]) -> Sky:
    """A dip is open: is it over, and what is it?"""
    seen, surprise, sample = found
    assert sky.dip is not None
    back = _is_back(sky.dip, seen, surprise)
    samples = (*sky.dip.samples, sample)
    unproven = stream.unproven and not _has_settled(samples, seen)
    dip = replace(
        sky.dip,
        subs=sky.dip.subs + 1,
        clear_run=sky.dip.clear_run + int(not seen.learning and not unproven) if back else 0,
        samples=_thinned(samples),
    )
    stream = replace(stream, last_dip=NAN if back else surprise.dip)
    sky = replace(sky, unproven=unproven)
    if dip.clear_run >= CLEAR_SUBS:
        return _closed(_kept(sky, key, stream))
    if not stream.unproven and _is_new_normal(dip, seen):
        return _accepted(sky, dip)
    if back and unproven:
        evidence = f"{seen.label or 'this series'} was first seen in cloud"
        return replace(_kept(sky, key, stream), dip=dip, state=SkyState.UNKNOWN, cause=UNPROVEN, evidence=evidence)
    cause = cause_of(dip.samples, dip.from_start, sky.cause)
    if cause.name == "airmass":
        return _sunk(_kept(sky, key, stream), dip)
    return _kept(
        replace(sky, dip=dip, state=_state(cause, seen), cause=cause.name, evidence=cause.evidence), key, stream
    )


def _thinned(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """At most `KEPT_SAMPLES`: of the older ones that go whose neighbours in age cover them best.

    So the memory reaches back over hours at any cadence.
    """
    if len(samples) <= KEPT_SAMPLES:
        return samples
    now_utc_s = samples[-1].utc_s
    crowded = min(
        range(1, len(samples) - NEWEST_SAMPLES),
        key=lambda i: (samples[i + 1].utc_s - samples[i - 1].utc_s) / max(now_utc_s - samples[i].utc_s, 1.0),
    )
    return samples[:crowded] + samples[crowded + 1 :]


def _closed(sky: Sky) -> Sky:
    """The sky is clear again. A stream that twice stayed faint when all others were clear has another clear level."""
    streams = {}
    for name, stream in sky.streams.items():
        if math.isfinite(stream.last_dip):
            count = stream.contradicted + 1
            track = stream.track.moved(stream.last_dip) if count >= 2 else stream.track
            stream = replace(stream, track=track, contradicted=count % 2, last_dip=NAN)
        streams[name] = replace(stream, unproven=False)
    return replace(sky, dip=None, streams=streams, state=SkyState.CLEAR, cause="", evidence="", low_run=0)


def _is_back(dip: Dip, seen: Observation, surprise: Surprise) -> bool:
    depth = dip.depth
    allowed = 0.03 if not math.isfinite(depth) else min(0.03, max(0.4 * depth, 0.004))
    return surprise.dip < max(2.0 * surprise.sigma, allowed) and seen.transmission > LOW_TRANSMISSION


def _has_settled(samples: tuple[Sample, ...], seen: Observation) -> bool:
    """Whether the light of every stream has kept still, within its errors, for a good while."""
    for count in range(SETTLED_SUBS, len(samples) + 1):
        last = samples[-count:]
        streams = {sample.stream for sample in last}
        spare = count - len(streams)
        if spare >= SETTLED_SUBS - 1 and last[-1].utc_s - last[0].utc_s >= SETTLED_S:
            if max(sample.dip for sample in last) > SETTLED_DIP:
                return False
            dips = [np.array([sample.dip for sample in last if sample.stream == stream]) for stream in streams]
            left = np.concatenate([group - np.median(group) for group in dips])
            scatter = 1.25 * float(np.mean(np.abs(left))) * count / spare
            return scatter < max(1.5 * seen.transmission_err / seen.transmission, SETTLED_SD)
    return False


def _is_new_normal(dip: Dip, seen: Observation) -> bool:
    """A small loss that has not moved for a long time is no cloud (a flip without flats, a cleaner air mass gone)."""
    recent = dip.samples[-24:]
    if len(recent) < 24 or seen.utc_s - recent[0].utc_s < 1800.0 or seen.transmission < 0.94:
        return False
    dips = np.array([sample.dip for sample in recent])
    sigma = float(np.median([sample.sigma for sample in recent]))
    drift = abs(float(dips[:12].mean() - dips[12:].mean()))
    return bool(
        np.all(np.isfinite(dips)) and dips.std() < 1.4 * sigma and drift < 0.8 * sigma and np.median(dips) < 0.06
    )


def _accepted(sky: Sky, dip: Dip) -> Sky:
    """Take a small steady loss as the new clear level."""
    streams = {name: replace(stream, track=stream.track.moved(dip.depth)) for name, stream in sky.streams.items()}
    return replace(sky, dip=None, streams=streams, state=SkyState.CLEAR, cause="", evidence="", low_run=0)


def _sunk(sky: Sky, dip: Dip) -> Sky:
    """Light that is lost as when an object sinks, in subs without airmass, is expected to go on like that."""
    hours = (dip.samples[-1].utc_s - dip.samples[0].utc_s) / 3600.0
    streams = {}
    for name, stream in sky.streams.items():
        lost = stream.last_dip if math.isfinite(stream.last_dip) else dip.depth
        per_hour = min(max(lost, 0.0) / hours, SINKING_PER_HOUR)
        streams[name] = replace(stream, track=stream.track.sunk(lost, per_hour), last_dip=NAN)
    return replace(sky, dip=None, streams=streams, state=SkyState.CLEAR, cause="", evidence="", low_run=0)


def _state(cause: Cause, seen: Observation) -> SkyState:
    if cause.name == "dew":
        return SkyState.DEW
    if cause.name == "obstruction":
        return SkyState.OBSTRUCTED
    return SkyState.CLOUDY if seen.transmission < CLOUDY_TRANSMISSION else SkyState.THINNING


def _unmeasured(sky: Sky, seen: Observation) -> Sky:
    """A sub without transmission: no star, no match, or a dark frame."""
    usual = max((stream.normal.stars for stream in sky.streams.values() if stream.normal.stars > 0), default=NAN)
    # In cloud a field with many of its stars gone may match no longer: that is the cloud's doing.
    shown = seen.failure == "no_match" and seen.stars_detected > (0.5 if sky.dip is None else 0.8) * usual
    cause, evidence = _untold(sky, seen, shown)
    if cause:
        return replace(sky, state=SkyState.UNKNOWN, cause=cause, evidence=evidence, cues=0)
    if _is_smeared(sky, seen, usual):
        return _field_lost(sky, f"{seen.stars_detected} stars, drawn out to trails")
    if shown:
        return _field_lost(sky, f"{seen.stars_detected} stars, but not those of the series")
    return _starless(sky, seen, usual)


def _untold(sky: Sky, seen: Observation, shown: bool) -> tuple[str, str]:
    """Why a sub without transmission says nothing about the sky, and the sign of it; "" where it does."""
    if _drowned(sky):
        return "twilight", "the stars drown in a bright sky"
    if seen.level_of_full > WHITE:
        return "too much light", f"the picture is {seen.level_of_full:.0%} of full scale"
    if shown and seen.stars_detected < FEW_STARS:
        return "too few stars", f"only {seen.stars_detected} stars in the field"
    if seen.failure == "no_flux" and sky.dip is None and sky.trailed_run < TRAILED_SUBS:
        return "out of focus", f"{seen.stars_detected} stars, none of a shape that can be measured"
    return "", ""


def _field_lost(sky: Sky, evidence: str) -> Sky:
    state = sky.state if sky.dip is not None else SkyState.UNKNOWN
    return replace(sky, state=state, cause="field lost", evidence=evidence, lost_run=sky.lost_run + 1, cues=0)


def _starless(sky: Sky, seen: Observation, usual: float) -> Sky:
    """Stars are gone: into cloud, behind something, or with all the light."""
    falling = sky.dip is not None and len(sky.dip.samples) > 0
    dark = seen.failure == "blank" or (not falling and _is_black(sky, seen))
    cause = "no light" if dark else sky.cause or "cloud" if falling else "no stars"
    count = f"{seen.stars_detected} star{'' if seen.stars_detected == 1 else 's'} found"
    veiled = falling and seen.stars_detected > 0.3 * usual
    sky = sky if sky.dip is not None else _begun(sky, seen.utc_s)
    assert sky.dip is not None
    return replace(
        sky,
        state=SkyState.CLOUDY if veiled else SkyState.NO_STARS,
        cause=cause,
        evidence="the picture holds no light" if dark else count,
        dip=replace(sky.dip, subs=sky.dip.subs + 1, clear_run=0),
        dark_run=sky.dark_run + 1,
        loss=NAN if dark else NO_STARS_LOSS,
        loss_err=NAN if dark else 0.1 * NO_STARS_LOSS,
        cues=2 if falling else 0,
    )


def _is_smeared(sky: Sky, seen: Observation, usual_stars: float) -> bool:
    """Whether the telescope moved so much during a failed sub that its stars are trails, or lost in them."""
    if sky.dip is not None or seen.failure == "blank" or _is_black(sky, seen):
        return False
    if sky.trailed_run >= TRAILED_SUBS:
        return True
    usual = [stream.normal.ellipticity for stream in sky.streams.values() if stream.normal.subs]
    drawn_out = bool(usual) and seen.ellipticity > max(SMEARED, min(usual) + 0.25)
    return drawn_out and seen.stars_detected > 0.15 * usual_stars


def _is_black(sky: Sky, seen: Observation) -> bool:
    """Whether stars and sky are gone from one sub to the next: cloud leaves a sky."""
    expected = [stream.normal.backdrop.expected(seen.utc_s) for stream in sky.streams.values() if stream.normal.subs]
    return bool(expected) and seen.ln_sky < min(expected) - BLACK_LN


def _drowned(sky: Sky) -> bool:
    """Whether stars went because the sky rose as in twilight while their light still came through."""
    if sky.cause == "twilight":
        return True
    return sky.brightening_run >= TWILIT_SUBS and sky.transmission > CLOUDY_TRANSMISSION


def states(seen: Iterable[Observation]) -> dict[int, SkyState]:
    """Sky state after each sub, by sub_id; observations in mid-exposure order."""
    sky, found = Sky(), {}
    for observation in seen:
        sky = look(sky, observation)
        found[observation.sub_id] = sky.state
    return found
