"""Sky states + clock -> what to say: the manners of the alarm (pure; the clock is an argument).

`step` takes the state of the alarm, one sub (or None for a tick) and the time, and gives the new state and the
alerts to send. `notice` and `over` do the same for troubles of the machine (a lost share, a full disk). The state is
JSON text between two runs. Looking to add an alert? An `Event` opens in one of the `_watch...` functions; `_speak`
decides when it may be told.

One event, one pair of messages: the first at once, the all-clear with what it cost. What may not be told now (quiet
hours, snooze, too many messages) is told later if it is still true, else the morning's summary has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nsgd.records import NAN, Alert, SkyState, SubRow, Verdict
from nsgd.session import messages
from nsgd.session.almanac import sun_altitude_deg
from nsgd.session.series import session_of
from nsgd.session.site import ALONE, Neighbour, Opinion, opinion
from nsgd.session.sky import BAD_STATES, Observation, Place, Sky, look, observe
from nsgd.settings import Alarm

LIVE_S = 1800.0
"""A sub that ended longer ago than this when it arrives belongs to a backlog: it never phones."""
DARK_SUN_DEG = -10.0
"""With the sun above this, stars drown in the dawn: nothing rings for the sky."""
DAY_SUN_DEG = -6.0
NIGHT_OVER_S = 3 * 3600.0
"""Without a place on Earth, the night counts as over when no sub came for this long."""
FLAP_S = 5400.0
"""An all-clear within this time makes the next one wait longer."""
MUTED_BY_CLOUD_S = 3600.0
"""After a cloud alert a sequencer may pause; missing subs are not told for this long."""
IN_A_ROW = 3
TWICE = 2

URGENT = frozenset({"cloud", "no_subs", "folder_lost", "cannot_save", "internal_errors", "field_lost", "no_light"})
MUTES: dict[str, frozenset[str]] = {
    "no_subs": frozenset({"folder_lost", "cannot_save"}),
    "cloud": frozenset({"no_subs", "folder_lost", "no_light"}),
}
"""Kind -> kinds that, while they go on, say it all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When the sky rings at one sensitivity."""

    below: float
    above: float
    subs: int
    seconds: float
    thinning_s: float = math.inf
    """The state alone rings after this long without clear sky."""


def rule_of(alarm: Alarm) -> Rule:
    """The rule of the chosen sensitivity; `cloud_below` and `clear_above` are those of `normal`."""
    if alarm.sensitivity == "calm":
        return Rule(min(alarm.cloud_below, 0.60), min(alarm.clear_above, 0.80), 3, 300.0)
    if alarm.sensitivity == "keen":
        return Rule(max(alarm.cloud_below, 0.93), max(alarm.clear_above, 0.95), 2, 60.0, thinning_s=600.0)
    return Rule(alarm.cloud_below, alarm.clear_above, 2, 120.0)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is going on, from its first sign to its all-clear."""

    event_id: str
    kind: str
    began_utc_s: float
    cause: str = ""
    sentence: str = ""
    due: bool = False
    """True from the moment that it is bad enough to ring."""
    told_utc_s: float = NAN
    told_cause: str = ""
    ended_utc_s: float = NAN
    """When it ended; it stays until that has been told."""
    subs: int = 0
    lost: int = 0
    lost_s: float = 0.0
    deepest: float = NAN
    below_run: int = 0
    below_since_utc_s: float = NAN
    above_run: int = 0
    above_since_utc_s: float = NAN
    shared: bool = False
    """True where other rigs of the site have seen it too."""

    @property
    def told(self) -> bool:
        """True where its first message went out."""
        return math.isfinite(self.told_utc_s)

    @property
    def ended(self) -> bool:
        """True where it is over."""
        return math.isfinite(self.ended_utc_s)


@dataclass(frozen=True, slots=True)
class Span:
    """A past event of this night, for the summary."""

    kind: str
    cause: str
    began_utc_s: float
    ended_utc_s: float
    lost: int
    lost_s: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What this night has brought so far."""

    subs: int = 0
    lost: int = 0
    exposure_s: float = 0.0
    lost_s: float = 0.0
    first_utc_s: float = NAN
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmState:
    """All that the alarm remembers."""

    seen: Sky = field(default_factory=Sky)
    night: str = ""
    tally: Tally = field(default_factory=Tally)
    event: Event | None = None
    """What the sky does."""
    troubles: tuple[Event, ...] = ()
    """What the machine or the telescope does."""
    messages_utc_s: tuple[float, ...] = ()
    cleared_utc_s: tuple[float, ...] = ()
    snoozed_until_utc_s: float = 0.0
    acknowledged: str = ""
    """Event that a person has taken note of."""
    ended: bool = False
    """True where a person has ended the session."""
    summed_up: bool = False
    last_end_utc_s: float = NAN
    """End of the newest sub's exposure."""
    last_seen_utc_s: float = NAN
    """When the newest sub was seen, live or not."""
    paced: int = 0
    """Subs in a row that arrived as fast as they were taken."""
    last_live_utc_s: float = NAN
    """When the newest live sub was seen."""
    silent: bool = False
    """True where subs have been missing for too long."""
    site_lat_deg: float = NAN
    site_long_deg: float = NAN

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")

    @property
    def sky(self) -> SkyState:
        """Sky state of the moment."""
        if self.silent:
            return SkyState.NO_DATA
        alone = self.cause == ALONE and self.seen.state in (SkyState.THINNING, SkyState.CLOUDY)
        return SkyState.OBSTRUCTED if alone else self.seen.state

    @property
    def cause(self) -> str:
        """Why light is missing, "" where none is: what this rig sees, unless its neighbours know better."""
        event = self.event
        lonely = event is not None and event.cause == ALONE and not event.ended and self.seen.cause != ""
        return ALONE if lonely else self.seen.cause

    def to_json(self) -> str:
        """JSON text for the store."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | None) -> AlarmState:
        """The state of a JSON text; a fresh one where there is none or where another version wrote it."""
        if not text:
            return cls()
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError:
            return cls()


_ADAPTER = TypeAdapter(AlarmState)

Stepped = tuple[AlarmState, tuple[Alert, ...]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one step is about: the time, the settings, the zone."""

    now_utc_s: float
    alarm: Alarm
    zone: tzinfo | None
    neighbours: Sequence[Neighbour] = ()


def step(
    state: AlarmState,
    observation: Observation | None,
    now_utc_s: float,
    alarm: Alarm,
    zone: tzinfo | None = None,
    neighbours: Sequence[Neighbour] = (),
) -> Stepped:
    """One sub or, with None, one tick of the clock -> the new state and the alerts to send.

    Parameters
    ----------
    state
        What the alarm remembers.
    observation
        The sub, or None. Subs older than the newest one seen change nothing.
    now_utc_s
        The time. Subs that ended more than half an hour before it are history: seen, never rung for.
    alarm
        The settings.
    zone
        Zone of the times in messages, of the night and of the quiet hours; None is the system's.
    neighbours
        Newest subs of the other rigs of the site, none where they are not known.
    """
    scene = _Scene(now_utc_s, alarm, zone, neighbours)
    if observation is not None:
        if observation.utc_s < state.seen.last_utc_s:
            return state, ()
        state, before = _new_night(state, observation, scene)
        state = _taken(state, observation, scene)
        state, said = _speak(state, scene)
        return state, before + said
    state = _watch_silence(state, scene)
    state, said = _speak(state, scene)
    state, summary = _dawn(state, scene)
    return state, said + summary


# --- one sub -------------------------------------------------------------------------------------


def _new_night(state: AlarmState, seen: Observation, scene: _Scene) -> Stepped:
    """A sub of another night: sum up the old one if nobody has, begin anew."""
    night = session_of(seen.utc_s, scene.zone)
    if night == state.night:
        return state, ()
    said: tuple[Alert, ...] = ()
    if state.night and scene.now_utc_s - state.last_end_utc_s < 86_400.0:
        state, said = _sum_up(state, scene)
    fresh = AlarmState(
        seen=state.seen,
        night=night,
        troubles=tuple(trouble for trouble in state.troubles if trouble.kind in _OF_THE_MACHINE),
        messages_utc_s=state.messages_utc_s[-20:],
        snoozed_until_utc_s=state.snoozed_until_utc_s,
    )
    return fresh, said


_OF_THE_MACHINE = frozenset({"folder_lost", "cannot_save", "disk_low", "internal_errors"})


def _taken(state: AlarmState, seen: Observation, scene: _Scene) -> AlarmState:
    sky = look(state.seen, seen)
    paced = state.paced + 1 if _keeps_pace(state, seen, scene.now_utc_s) else 0
    live = scene.now_utc_s - seen.end_utc_s <= LIVE_S or paced >= IN_A_ROW
    state = replace(
        state,
        seen=sky,
        tally=_counted(state.tally, seen),
        paced=paced,
        last_seen_utc_s=scene.now_utc_s,
        last_end_utc_s=seen.end_utc_s,
        last_live_utc_s=scene.now_utc_s if live else state.last_live_utc_s,
        silent=False,
        ended=state.ended and not live,
        site_lat_deg=seen.site_lat_deg if math.isfinite(seen.site_lat_deg) else state.site_lat_deg,
        site_long_deg=seen.site_long_deg if math.isfinite(seen.site_long_deg) else state.site_long_deg,
    )
    if live:
        state = _finished(state, "no_subs", scene.now_utc_s)
        state = _watch_telescope(state, seen, scene)
    return _watch_sky(state, seen, live, scene)


def _keeps_pace(state: AlarmState, seen: Observation, now_utc_s: float) -> bool:
    """Whether subs arrive as fast as they were taken.

    They do even where the capture computer's clock is hours off; a backlog arrives much faster.
    """
    taken_s, arrived_s = seen.end_utc_s - state.last_end_utc_s, now_utc_s - state.last_seen_utc_s
    return taken_s > 0 and abs(taken_s - arrived_s) < max(0.25 * taken_s, 5.0)


def _counted(tally: Tally, seen: Observation) -> Tally:
    exposure_s = seen.exposure_s if seen.exposure_s > 0 else 0.0
    return replace(
        tally,
        subs=tally.subs + 1,
        lost=tally.lost + int(seen.rejected),
        exposure_s=tally.exposure_s + exposure_s,
        lost_s=tally.lost_s + exposure_s * int(seen.rejected),
        first_utc_s=tally.first_utc_s if tally.subs else seen.utc_s,
    )


def _watch_sky(state: AlarmState, seen: Observation, live: bool, scene: _Scene) -> AlarmState:
    """Open, follow and close the event of the sky."""
    rule, event = rule_of(scene.alarm), state.event
    dark = _is_dark(state.seen, seen, rule)
    if event is None:
        if not dark and not _is_thin(state.seen, seen, rule):
            return state
        event = Event(_event_id("cloud", seen.utc_s), "cloud", _began(state.seen, seen))
    elif event.ended and dark:
        # It came back before the all-clear was told: the same event goes on.
        event = replace(event, ended_utc_s=NAN)
    event = _weighed(_followed(event, state.seen, seen, dark, rule), scene)
    if not event.due and live and _is_due(state, event, seen, rule, scene):
        event = replace(event, due=True)
    if event.told and not event.ended and _is_over(state, event, seen):
        return _closed(replace(state, event=event), event, seen.utc_s)
    if not event.told and event.above_run >= 1 and not _is_thin(state.seen, seen, rule):
        return replace(state, event=None, tally=_noted(state.tally, event, seen.utc_s))
    return replace(state, event=event)


def _weighed(event: Event, scene: _Scene) -> Event:
    """The event after a look at the site: what several see is cloud, what one sees alone is its own."""
    said = opinion(scene.neighbours, event.began_utc_s)
    if said is Opinion.SHARED:
        return replace(event, shared=True)
    faint = event.below_run > 0 or event.told_cause == ALONE
    if said is Opinion.ALONE and faint and event.cause not in ("dew", "obstruction"):
        return replace(event, cause=ALONE, sentence="the other rigs of the site see clear sky")
    return event


def _event_id(kind: str, utc_s: float) -> str:
    """Short, the same on a second run over the same subs."""
    return f"{kind}-{int(utc_s) // 60 % 100_000:05d}"


def _began(sky: Sky, seen: Observation) -> float:
    return sky.dip.began_utc_s if sky.dip is not None else seen.utc_s


def _is_dark(sky: Sky, seen: Observation, rule: Rule) -> bool:
    """Whether a sub is too faint for the rule; no star at all is, a lost field is not."""
    if seen.failure:
        gone = sky.state in (SkyState.NO_STARS, SkyState.CLOUDY)
        return gone and sky.cause not in ("no light", "field lost")
    return seen.transmission < rule.below * sky.expected and not (seen.learning and sky.state is SkyState.LEARNING)


def _is_thin(sky: Sky, seen: Observation, rule: Rule) -> bool:
    return math.isfinite(rule.thinning_s) and sky.state in BAD_STATES and seen.transmission < 0.98 * sky.expected


def _followed(event: Event, sky: Sky, seen: Observation, dark: bool, rule: Rule) -> Event:
    known = not seen.failure and not seen.learning and not sky.unproven
    bright = known and seen.transmission > rule.above * sky.expected
    lost_s = seen.exposure_s if seen.rejected and seen.exposure_s > 0 else 0.0
    depths = [value for value in (event.deepest, seen.transmission) if math.isfinite(value)]
    return replace(
        event,
        cause=sky.cause if dark or sky.state in BAD_STATES else event.cause,
        sentence=sky.evidence if dark else event.sentence,
        subs=event.subs + 1,
        lost=event.lost + int(seen.rejected),
        lost_s=event.lost_s + lost_s,
        deepest=0.0 if sky.state is SkyState.NO_STARS else min(depths, default=NAN),
        below_run=event.below_run + 1 if dark else 0,
        below_since_utc_s=_since(event.below_run, event.below_since_utc_s, seen) if dark else NAN,
        above_run=event.above_run + 1 if bright else 0,
        above_since_utc_s=_since(event.above_run, event.above_since_utc_s, seen) if bright else NAN,
    )


def _since(run: int, since_utc_s: float, seen: Observation) -> float:
    return since_utc_s if run else seen.utc_s - 0.5 * (seen.exposure_s if seen.exposure_s > 0 else 0.0)


def _is_due(state: AlarmState, event: Event, seen: Observation, rule: Rule, scene: _Scene) -> bool:
    """Whether the phone may ring for the sky: long enough, or so deep with two other signs that one sub will do.

    Where other rigs of the site see the same, one sub fewer will do; where they can be asked and do not, one never.
    """
    if _is_bright_sky(state, scene.now_utc_s):
        return False
    shared = opinion(scene.neighbours, event.began_utc_s) is Opinion.SHARED
    patience = 2.0 ** len(_flaps(state, scene.now_utc_s)) - int(shared)
    lasted_s = seen.end_utc_s - event.below_since_utc_s
    if event.below_run >= rule.subs - int(shared) and lasted_s >= min(rule.seconds * patience, 1200.0):
        return True
    sky = state.seen
    asked = len(scene.neighbours) >= TWICE and not shared
    sure = sky.cause == "cloud" and sky.cues >= TWICE and not sky.ambiguous
    if sure and not asked and not seen.failure and seen.transmission < 0.5:
        return True
    return sky.state in BAD_STATES and seen.end_utc_s - event.began_utc_s >= rule.thinning_s


def _is_over(state: AlarmState, event: Event, seen: Observation) -> bool:
    """Three good subs; more, and for longer, after each all-clear of the last hour and a half."""
    flaps = len(_flaps(state, seen.end_utc_s))
    if event.above_run < min(IN_A_ROW * 2**flaps, 24):
        return False
    return flaps == 0 or seen.end_utc_s - event.above_since_utc_s >= min(300.0 * 2.0**flaps, 1800.0)


def _flaps(state: AlarmState, now_utc_s: float) -> list[float]:
    return [moment for moment in state.cleared_utc_s if now_utc_s - moment < FLAP_S]


def _closed(state: AlarmState, event: Event, utc_s: float) -> AlarmState:
    return replace(
        state,
        event=replace(event, ended_utc_s=event.above_since_utc_s),
        tally=_noted(state.tally, event, event.above_since_utc_s),
        cleared_utc_s=(*state.cleared_utc_s, utc_s)[-12:],
    )


def _noted(tally: Tally, event: Event, utc_s: float) -> Tally:
    if not event.due and not event.lost:
        return tally
    span = Span(event.kind, event.cause, event.began_utc_s, utc_s, event.lost, event.lost_s)
    return replace(tally, spans=(*tally.spans, span)[-50:])


def _watch_telescope(state: AlarmState, seen: Observation, scene: _Scene) -> AlarmState:
    """Troubles that are not the sky's: lost field, no light, soft or trailed stars."""
    if _is_bright_sky(state, scene.now_utc_s):
        return state
    sky = state.seen
    signs = (
        ("field_lost", sky.lost_run, TWICE, sky.evidence),
        ("no_light", sky.dark_run if sky.cause == "no light" else 0, TWICE, sky.evidence),
        ("trailed", sky.trailed_run, IN_A_ROW, f"ellipticity {seen.ellipticity:.2f}"),
        ("soft", sky.soft_run if scene.alarm.soft_stars else 0, IN_A_ROW, f"stars {seen.fwhm_px:.1f} px wide"),
    )
    for kind, run, enough, sentence in signs:
        if run >= enough:
            state = _troubled(state, kind, sentence, seen.utc_s)
        elif run == 0 and not seen.failure:
            state = _finished(state, kind, scene.now_utc_s)
    return state


# --- troubles ------------------------------------------------------------------------------------


def notice(
    state: AlarmState, kind: str, sentence: str, now_utc_s: float, alarm: Alarm, zone: tzinfo | None = None
) -> Stepped:
    """A trouble of the machine begins or goes on: `folder_lost`, `cannot_save`, `disk_low`, `internal_errors`."""
    return _speak(_troubled(state, kind, sentence, now_utc_s), _Scene(now_utc_s, alarm, zone))


def over(state: AlarmState, kind: str, now_utc_s: float, alarm: Alarm, zone: tzinfo | None = None) -> Stepped:
    """A trouble is over; says so where its beginning was told."""
    return _speak(_finished(state, kind, now_utc_s), _Scene(now_utc_s, alarm, zone))


def _troubled(state: AlarmState, kind: str, sentence: str, utc_s: float) -> AlarmState:
    for trouble in state.troubles:
        if trouble.kind == kind:
            going_on = replace(trouble, sentence=sentence, ended_utc_s=NAN)
            return replace(state, troubles=tuple(going_on if one is trouble else one for one in state.troubles))
    event = Event(_event_id(kind.replace("_", "-"), utc_s), kind, utc_s, sentence=sentence, due=True)
    return replace(state, troubles=(*state.troubles, event))


def _finished(state: AlarmState, kind: str, utc_s: float) -> AlarmState:
    kept = [
        replace(trouble, ended_utc_s=utc_s) if trouble.kind == kind and not trouble.ended else trouble
        for trouble in state.troubles
        if trouble.kind != kind or trouble.told
    ]
    return replace(state, troubles=tuple(kept)) if state.troubles else state


def _watch_silence(state: AlarmState, scene: _Scene) -> AlarmState:
    """Missing subs: the state at once says so, the phone rings where nothing explains it."""
    if not math.isfinite(state.last_live_utc_s) or state.ended:
        return state
    quiet_s = scene.now_utc_s - state.last_live_utc_s
    if quiet_s <= patience_s(state, scene.alarm):
        return state
    state = replace(state, silent=True)
    event = state.event
    paused = event is not None and event.told and not event.ended and quiet_s < MUTED_BY_CLOUD_S
    if paused or state.summed_up or _is_morning(state, scene) or quiet_s > NIGHT_OVER_S:
        return state
    return _troubled(state, "no_subs", f"no sub for {quiet_s / 60.0:.0f} minutes", state.last_live_utc_s)


def patience_s(state: AlarmState, alarm: Alarm) -> float:
    """How long subs may be missing: the setting, or three cadences and two minutes where that is longer."""
    cadence = state.seen.cadence_s
    return max(60.0 * alarm.no_subs_min, 3.0 * cadence + 120.0 if math.isfinite(cadence) else 0.0)


def _sun_deg(state: AlarmState, utc_s: float) -> float:
    if not math.isfinite(state.site_lat_deg) or not math.isfinite(state.site_long_deg):
        return NAN
    return sun_altitude_deg(state.site_lat_deg, state.site_long_deg, utc_s)


def _is_bright_sky(state: AlarmState, utc_s: float) -> bool:
    return _sun_deg(state, utc_s) > DARK_SUN_DEG


def _is_morning(state: AlarmState, scene: _Scene) -> bool:
    """Whether missing subs are explained by the dawn: by the sun, else by a sky that rose and the hour."""
    sun = _sun_deg(state, scene.now_utc_s)
    if math.isfinite(sun):
        return sun > DARK_SUN_DEG - 3.0
    hour = messages.local(scene.now_utc_s, scene.zone).hour
    return 6 <= hour < 18 or (2 <= hour < 6 and state.seen.brightening_run >= IN_A_ROW)


# --- what may be told ----------------------------------------------------------------------------


def _speak(state: AlarmState, scene: _Scene) -> Stepped:
    """Tell what is due and may be told now."""
    said: list[Alert] = []
    for event in (*state.troubles, *((state.event,) if state.event else ())):
        state, alert = _told(state, event, scene)
        if alert is not None:
            said.append(alert)
            state = replace(state, messages_utc_s=(*state.messages_utc_s, scene.now_utc_s)[-200:])
    return state, tuple(said)


def _told(state: AlarmState, event: Event, scene: _Scene) -> tuple[AlarmState, Alert | None]:
    now = scene.now_utc_s
    if event.ended:
        if not _may(state, scene, room=0):
            return state, None
        return _without(state, event), messages.all_clear(event, state.seen, now, scene.zone)
    if not event.due or event.event_id == state.acknowledged or _is_muted(state, event):
        return state, None
    if not event.told:
        if not _may(state, scene, room=1):
            return state, None
        told = replace(event, told_utc_s=now, told_cause=event.cause)
        return _with(state, event, told), messages.first(event, state.seen, now, scene.zone, event.kind in URGENT)
    if event.cause != event.told_cause and event.cause in ("dew", "obstruction", ALONE) and _may(state, scene, room=1):
        told = replace(event, told_cause=event.cause)
        return _with(state, event, told), messages.other_cause(event, state.seen, now, scene.zone)
    return state, None


def _is_muted(state: AlarmState, event: Event) -> bool:
    louder = MUTES.get(event.kind, frozenset())
    return any(trouble.kind in louder and not trouble.ended for trouble in state.troubles)


def _with(state: AlarmState, old: Event, new: Event) -> AlarmState:
    if state.event is old:
        return replace(state, event=new)
    return replace(state, troubles=tuple(new if one is old else one for one in state.troubles))


def _without(state: AlarmState, event: Event) -> AlarmState:
    if state.event is event:
        return replace(state, event=None)
    return replace(state, troubles=tuple(one for one in state.troubles if one is not event))


def _may(state: AlarmState, scene: _Scene, room: int) -> bool:
    """Whether a message may go now; a first message leaves `room` for its all-clear."""
    now = scene.now_utc_s
    if now < state.snoozed_until_utc_s or is_quiet(now, scene.alarm, scene.zone):
        return False
    hour = sum(now - moment < 3600.0 for moment in state.messages_utc_s)
    night = sum(now - moment < 12 * 3600.0 for moment in state.messages_utc_s)
    alarm = scene.alarm
    return (
        hour + min(room, alarm.per_hour - 1) < alarm.per_hour
        and night + min(room, alarm.per_night - 1) < alarm.per_night
    )


def is_quiet(utc_s: float, alarm: Alarm, zone: tzinfo | None) -> bool:
    """Whether a time lies in the quiet hours."""
    if not alarm.quiet_from or not alarm.quiet_to:
        return False
    clock = messages.local(utc_s, zone).strftime("%H:%M")
    if alarm.quiet_from <= alarm.quiet_to:
        return alarm.quiet_from <= clock < alarm.quiet_to
    return clock >= alarm.quiet_from or clock < alarm.quiet_to


# --- the end of the night ------------------------------------------------------------------------


def _dawn(state: AlarmState, scene: _Scene) -> Stepped:
    """On a tick: sum the night up once it is over."""
    if state.summed_up or not state.tally.subs or not math.isfinite(state.last_live_utc_s):
        return state, ()
    quiet_s = scene.now_utc_s - state.last_live_utc_s
    by_sun = quiet_s > 600.0 and _sun_deg(state, scene.now_utc_s) > DAY_SUN_DEG
    by_hour = quiet_s > NIGHT_OVER_S and not math.isfinite(state.site_lat_deg)
    if not (state.ended or by_sun or by_hour or quiet_s > 2 * NIGHT_OVER_S):
        return state, ()
    if is_quiet(scene.now_utc_s, scene.alarm, scene.zone) or scene.now_utc_s < state.snoozed_until_utc_s:
        return state, ()
    return _sum_up(state, scene)


def _sum_up(state: AlarmState, scene: _Scene) -> Stepped:
    """Close what is open, without a word of its own, and say what the night brought."""
    if state.summed_up or not state.tally.subs:
        return state, ()
    if state.event is not None and not state.event.ended:
        state = replace(state, tally=_noted(state.tally, state.event, state.last_end_utc_s))
    machine = tuple(trouble for trouble in state.troubles if trouble.kind in _OF_THE_MACHINE)
    done = replace(state, event=None, troubles=machine, summed_up=True)
    if not scene.alarm.dawn_summary or scene.now_utc_s - state.last_live_utc_s > 86_400.0:
        return done, ()
    return done, (messages.summary(done.tally, done.night, scene.now_utc_s, scene.zone),)


# --- what people decide --------------------------------------------------------------------------


def acknowledge(state: AlarmState) -> AlarmState:
    """A person knows of what is going on: no further word about it but its all-clear."""
    going_on = [event for event in (state.event, *state.troubles) if event is not None and not event.ended]
    return replace(state, acknowledged=going_on[0].event_id) if going_on else state


def snooze(state: AlarmState, minutes: float, now_utc_s: float) -> AlarmState:
    """No message for some minutes; what is still true then is told then."""
    return replace(state, snoozed_until_utc_s=now_utc_s + 60.0 * minutes)


def end_session(state: AlarmState) -> AlarmState:
    """A person has ended the night: missing subs are no news, the next tick sums up."""
    return replace(state, ended=True, troubles=tuple(one for one in state.troubles if one.kind != "no_subs"))


# --- for other programs --------------------------------------------------------------------------


def report(state: AlarmState, now_utc_s: float) -> dict[str, Any]:
    """The sky as plain values (JSON has no NaN: None), for the status, the state file and MQTT."""
    sky = state.seen
    event = state.event if state.event is not None and not state.event.ended else None
    return {
        "state": str(state.sky),
        "cause": state.cause,
        "evidence": sky.evidence,
        "since_utc_s": _known(state.last_end_utc_s if state.silent else sky.since_utc_s),
        "transmission": _known(sky.transmission, 4),
        "transmission_err": _known(sky.transmission_err, 4),
        "series": sky.label,
        "last_sub_utc_s": _known(state.last_end_utc_s),
        "cadence_s": _known(sky.cadence_s, 1),
        "event": event.event_id if event else "",
        "event_told": bool(event and event.told),
        "acknowledged": bool(event and event.event_id == state.acknowledged),
        "snoozed_until_utc_s": state.snoozed_until_utc_s or None,
        "troubles": [trouble.kind for trouble in state.troubles if not trouble.ended],
        "loss": _known(sky.loss, 4),
        "loss_err": _known(sky.loss_err, 4),
        "line": messages.now_line(replace(sky, cause=state.cause), state.sky),
        "written_utc_s": now_utc_s,
    }


def _known(value: float, digits: int = 0) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def is_clear(state: AlarmState, alarm: Alarm) -> bool | None:
    """Whether a sequencer may go on, from a fresh state; None where nobody knows.

    A veil that leaves more light than the all-clear asks for is thinning, and clear enough to go on. A gap in cloud
    that was told of is none: the all-clear decides.
    """
    sky, seen = state.sky, state.seen
    if sky in BAD_STATES or sky is SkyState.CLEAR:
        told = state.event is not None and state.event.told and not state.event.ended
        veil = sky is SkyState.THINNING and seen.transmission > rule_of(alarm).above * seen.expected
        return not told and (sky is SkyState.CLEAR or veil)
    return None


# --- replay --------------------------------------------------------------------------------------


def replay(
    rows: Sequence[SubRow],
    verdicts: Sequence[Verdict],
    alarm: Alarm,
    zone: tzinfo | None = None,
    site: Place = (None, None),
) -> list[tuple[float, SkyState, tuple[Alert, ...]]]:
    """A stored night through the alarm: time, sky state and alerts, in mid-exposure order.

    Every sub is seen when its exposure ended; the minutes of long gaps are ticked through as the daemon would.
    `site` is latitude and longitude, degrees, for headers without them.
    """
    state, night = AlarmState(), []
    for row, verdict in sorted(zip(rows, verdicts, strict=True), key=lambda pair: pair[0].order_utc_s):
        seen = observe(row, verdict, site)
        for moment in _idle_minutes(state.last_end_utc_s, seen.end_utc_s):
            state, alerts = step(state, None, moment, alarm, zone)
            if alerts:
                night.append((moment, state.sky, alerts))
        state, alerts = step(state, seen, seen.end_utc_s, alarm, zone)
        night.append((seen.utc_s, state.sky, alerts))
    return night


def _idle_minutes(last_utc_s: float, next_utc_s: float) -> list[float]:
    if not next_utc_s - last_utc_s > 600.0:
        return []
    count = int(min(next_utc_s - last_utc_s, 8 * 3600.0) // 60.0)
    return [last_utc_s + 60.0 * number for number in range(1, count + 1)]
