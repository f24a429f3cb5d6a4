"""Sky states + clock -> what to say: the manners of the alarm (pure; the clock is an argument).

`step` takes the state of the alarm, one sub (or None for a tick) and the time, and gives the new state and the
alerts to send. The state is JSON text between two runs. Looking to add an alert? Start at `step`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np

from nsgd.records import NAN, Alert, SkyState, SubRow, Verdict
from nsgd.session.sky import Observation, Sky, look, observe
from nsgd.settings import Alarm

LIVE_S = 1800.0
"""A sub older than this when it arrives belongs to a backlog: it never phones."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is going on: from its first sub to its all-clear."""

    event_id: str
    kind: str
    began_utc_s: float
    told: bool = False
    subs: int = 0
    lost: int = 0
    deepest: float = NAN
    below_run: int = 0
    below_since_utc_s: float = NAN
    above_run: int = 0


@dataclass(frozen=True, slots=True)
class AlarmState:
    """All that the alarm remembers."""

    seen: Sky = field(default_factory=Sky)
    event: Event | None = None
    messages_utc_s: tuple[float, ...] = ()
    snoozed_until_utc_s: float = 0.0
    ended: bool = False

    @property
    def sky(self) -> SkyState:
        """Sky state of the moment."""
        return self.seen.state

    def to_json(self) -> str:
        """JSON text for the store."""
        return json.dumps(_plain(asdict(self)), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> AlarmState:
        """The state of a JSON text; a fresh one where there is none or where it is of another make."""
        try:
            data = json.loads(text) if text else {}
            return _revived(data)
        except (ValueError, TypeError, KeyError):
            return cls()


def _plain(value: Any) -> Any:
    """NaN -> None, since JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _revived(data: dict[str, Any]) -> AlarmState:
    seen, event = data.pop("seen", None), data.pop("event", None)
    floats = {item.name for kind in (Sky, Event) for item in fields(kind) if item.default is NAN}

    def known(items: dict[str, Any]) -> dict[str, Any]:
        return {key: NAN if value is None and key in floats else value for key, value in items.items()}

    sky = Sky(**known(seen)) if seen else Sky()
    return AlarmState(
        seen=replace(sky, state=SkyState(sky.state)),
        event=Event(**known(event)) if event else None,
        **{**data, "messages_utc_s": tuple(data.get("messages_utc_s", ()))},
    )


def step(
    state: AlarmState, observation: Observation | None, now_utc_s: float, alarm: Alarm, zone: tzinfo | None = None
) -> tuple[AlarmState, tuple[Alert, ...]]:
    """One sub or, with None, one tick of the clock -> the new state and the alerts to send.

    Parameters
    ----------
    state
        What the alarm remembers.
    observation
        The sub, or None. Subs older than the newest one seen change nothing.
    now_utc_s
        The time.
    alarm
        The settings.
    zone
        Zone of the times in messages and of the quiet hours; None is the system's.
    """
    if observation is None or not _newer(state, observation):
        return state, ()
    state = replace(state, seen=look(state.seen, observation))
    if now_utc_s - observation.end_utc_s > LIVE_S:
        return state, ()
    return _cloud(state, observation, now_utc_s, alarm, zone)


def _newer(state: AlarmState, observation: Observation) -> bool:
    return not observation.utc_s < state.seen.last_utc_s


def _cloud(
    state: AlarmState, seen: Observation, now_utc_s: float, alarm: Alarm, zone: tzinfo | None
) -> tuple[AlarmState, tuple[Alert, ...]]:
    dark = bool(seen.failure) or seen.transmission < alarm.cloud_below
    event = state.event
    if event is None:
        if not dark:
            return state, ()
        event = Event(event_id=f"cloud-{seen.utc_s:.0f}", kind="cloud", began_utc_s=seen.utc_s)
    bright = not seen.failure and seen.transmission > alarm.clear_above
    event = replace(
        event,
        subs=event.subs + 1,
        lost=event.lost + int(seen.rejected),
        deepest=float(np.nanmin([event.deepest, seen.transmission, 9.9])),
        below_run=event.below_run + 1 if dark else 0,
        above_run=event.above_run + 1 if bright else 0,
    )
    if not event.told:
        if not dark:
            return replace(state, event=None), ()
        if event.below_run < 2 or seen.utc_s - event.began_utc_s + seen.exposure_s < 120.0:
            return replace(state, event=event), ()
        return replace(state, event=replace(event, told=True)), (_fire(event, seen, now_utc_s, zone),)
    if event.above_run < 3:
        return replace(state, event=event), ()
    return replace(state, event=None), (_all_clear(event, seen, now_utc_s, zone),)


def _clock(utc_s: float, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(utc_s, UTC).astimezone(zone).strftime("%H:%M")


def _fire(event: Event, seen: Observation, now_utc_s: float, zone: tzinfo | None) -> Alert:
    much = "no stars" if seen.failure else f"transmission {seen.transmission:.2f}"
    body = f"{much} since {_clock(event.began_utc_s, zone)}, {seen.label or 'this series'}, {event.lost} subs rejected"
    return Alert(event.event_id, "cloud", f"Cloud: {much}", body, now_utc_s, urgent=True)


def _all_clear(event: Event, seen: Observation, now_utc_s: float, zone: tzinfo | None) -> Alert:
    minutes = (seen.utc_s - event.began_utc_s) / 60.0
    body = f"cloud from {_clock(event.began_utc_s, zone)} lasted {minutes:.0f} min, {event.lost} subs lost"
    title = f"Clear again: transmission {seen.transmission:.2f}"
    return Alert(event.event_id, "clear", title, body, now_utc_s, resolves=True)


def replay(
    rows: Sequence[SubRow], verdicts: Sequence[Verdict], alarm: Alarm, zone: tzinfo | None = None
) -> list[tuple[float, SkyState, tuple[Alert, ...]]]:
    """A stored night through the alarm: time, sky state and alerts after each sub, in mid-exposure order."""
    state, night = AlarmState(), []
    for row, verdict in sorted(zip(rows, verdicts, strict=True), key=lambda pair: pair[0].order_utc_s):
        seen = observe(row, verdict)
        state, alerts = step(state, seen, seen.end_utc_s, alarm, zone)
        night.append((seen.utc_s, state.sky, alerts))
    return night
