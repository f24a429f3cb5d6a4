"""Applies what people asked for: by the daemon on its ticks, by `nsgd apply` where no daemon runs."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from nsgd.errors import BadRequest
from nsgd.session.alerts import AlarmState, acknowledge, end_session, snooze
from nsgd.session.store import ALARM_STATE, Request, Store
from nsgd.settings import Limits
from nsgd.walk import Walker

_DECISIONS = {"accept": "accept", "reject": "reject", "undo": ""}


def apply_requests(store: Store, walker: Walker, alarm: AlarmState, now_utc_s: float) -> AlarmState:
    """Apply all waiting requests in the order they were made; returns the alarm's new state.

    A request that cannot be met is kept as refused, with the reason. Each may be applied twice without harm, so a
    crash between effect and note does none.
    """
    for request in store.requests():
        try:
            alarm, result = _apply(request, walker, alarm, now_utc_s)
        except BadRequest as problem:
            store.apply_request(request, problem.sentence, now_utc_s, refused=True)
            continue
        store.save_states({ALARM_STATE: alarm.to_json()})
        store.apply_request(request, result, now_utc_s)
    return alarm


def _apply(request: Request, walker: Walker, alarm: AlarmState, now_utc_s: float) -> tuple[AlarmState, str]:
    kind, args = request.kind, request.args
    try:
        if kind in ("ack", "snooze", "session_end"):
            return _quieten(kind, args, alarm, now_utc_s)
        return alarm, _change(kind, args, walker)
    except KeyError as problem:
        raise BadRequest(f"{kind}: there is no {problem.args[0] if problem.args else 'such sub'} here.") from problem
    except StopIteration as problem:
        raise BadRequest(f"{kind}: this sub belongs to no series, it could not be measured.") from problem
    except (TypeError, ValueError) as problem:
        raise BadRequest(f"{kind}: cannot be understood ({problem}).") from problem


def _change(kind: str, args: dict[str, Any], walker: Walker) -> str:
    """A request about subs and series."""
    if kind in _DECISIONS:
        walker.set_decision(int(args["sub_id"]), _DECISIONS[kind])
        return "done"
    series_id = int(args["series_id"])
    if kind == "reference":
        chosen = args["sub_id"]
        return walker.set_reference(series_id, None if chosen == "auto" else int(chosen))
    if kind == "limits":
        walker.set_limits(series_id, _checked_limits(args["limits"]))
        return "done"
    if kind == "smoothness":
        value = float(args["value"])
        if not -4.0 <= value <= 4.0:
            raise BadRequest(f"smoothness: {value:g} lies outside of -4 to 4.")
        walker.set_smoothness(series_id, value)
        return "done"
    raise BadRequest(f"{kind}: nsgd knows no such request.")


def _checked_limits(limits: dict[str, Any]) -> dict[str, float]:
    try:
        Limits.model_validate(limits)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise BadRequest(f"limits: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from problem
    return {name: float(value) for name, value in limits.items()}


def _quieten(kind: str, args: dict[str, Any], alarm: AlarmState, now_utc_s: float) -> tuple[AlarmState, str]:
    """A request about the phone."""
    if kind == "session_end":
        return end_session(alarm), "the session is over"
    if kind == "ack":
        return acknowledge(alarm), "acknowledged"
    minutes = float(args["minutes"])
    return snooze(alarm, minutes, now_utc_s), f"quiet for {minutes:g} minutes"
