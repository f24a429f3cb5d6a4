"""Delivers alerts: a thread that empties the outbox through apprise, service by service.

apprise sends once and forgets; what must not be lost waits in the store's outbox. Every service has its own
back-off, so one that hangs delays no other. What was overtaken by events while the network was away is told as it
is now, not replayed (`plan`). URLs are secrets: services are called s1, s2... everywhere, and apprise, urllib3 and
requests may not log.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import apprise
import requests

from nsgd.errors import NsgdError
from nsgd.fleet.claim import Desk, Teller
from nsgd.records import Alert
from nsgd.session.store import OutboxRow

log = logging.getLogger(__name__)

FIRST_RETRY_S = 5.0
LAST_RETRY_S = 300.0
PROBE_S = 20.0
"""While a service cannot be reached at all, its port is tried this often, so that the end of an outage is noticed."""

STALE_S = 3600.0
"""An alert that waited longer than this is told as what is true now."""

LATE_S = 300.0
"""From this delay on, a message says that it is late."""

FORGET_S = 86_400.0
TITLE_MAX, BODY_MAX = 120, 1000

_URGENT = {
    "ntfy": "max",
    "ntfys": "max",
    "pover": "high",
    "gotify": "emergency",
    "gotifys": "emergency",
    "prowl": "emergency",
    "join": "emergency",
    "spush": "emergency",
}
"""Services with a priority that sounds through Do Not Disturb: scheme -> value of `priority=`."""


class Outbox(Protocol):
    """The part of the store that the notifier uses; safe to call from its thread."""

    def due(self, now_utc_s: float) -> list[OutboxRow]:
        """Waiting messages whose next try is not after `now_utc_s`."""

    def sent(self, outbox_id: int, now_utc_s: float) -> None:
        """Note that a message has been accepted by its service."""

    def failed(self, outbox_id: int, now_utc_s: float, error: str, next_try_utc_s: float) -> None:
        """Note a failed try."""

    def dropped(self, outbox_id: int, why: str) -> None:
        """Note that a message will not be sent."""


# --- one message to one service ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try brought; `error` holds no URL."""

    ok: bool
    error: str = ""
    retry_after_s: float | None = None
    unreachable: tuple[str, int] | None = None
    """Host and port where no connection came about."""
    told_by: str = ""
    """Another rig of the site whose message tells the same."""


@dataclass(slots=True)
class _Reply:
    """What apprise does not hand on: status and headers of the HTTP reply."""

    status: int | None = None
    retry_after: str = ""
    problem: str = ""
    unreachable: tuple[str, int] | None = None


_reply: ContextVar[_Reply | None] = ContextVar("nsgd_reply", default=None)
_plain_send = requests.adapters.HTTPAdapter.send


def _overheard_send(
    self: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **kwargs: object
) -> requests.Response:
    """Pass a request on and note the reply for whoever listens: apprise keeps neither status nor Retry-After."""
    reply = _reply.get()
    if reply is None:
        return _plain_send(self, request, **kwargs)  # type: ignore[arg-type]
    try:
        response = _plain_send(self, request, **kwargs)  # type: ignore[arg-type]
    except requests.RequestException as error:
        reply.problem = type(error).__name__
        if isinstance(error, requests.ConnectionError) and not isinstance(error, requests.ReadTimeout):
            reply.unreachable = _place(request.url)
        raise
    reply.status, reply.retry_after = response.status_code, response.headers.get("Retry-After", "")
    return response


def _place(url: str | None) -> tuple[str, int] | None:
    parts = urlsplit(url or "")
    if not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


@contextmanager
def _overheard() -> Iterator[_Reply]:
    requests.adapters.HTTPAdapter.send = _overheard_send  # type: ignore[method-assign,assignment]
    reply = _Reply()
    token = _reply.set(reply)
    try:
        yield reply
    finally:
        _reply.reset(token)


def send(url: str, alert: Alert, picture: Path | None = None, now_utc_s: float | None = None) -> Outcome:
    """Send one alert to one service, once; without the picture where the service refuses it.

    Parameters
    ----------
    url
        Apprise URL of the service.
    alert
        The message.
    picture
        PNG to attach, or None.
    now_utc_s
        The time, for a Retry-After that names a date.
    """
    now = time.time() if now_utc_s is None else now_utc_s
    outcome, status = _send(url, alert, picture, now)
    if not outcome.ok and picture is not None and status is not None and 400 <= status < 500 and status != 429:
        outcome, status = _send(url, alert, None, now)
    return outcome


def _send(url: str, alert: Alert, picture: Path | None, now_utc_s: float) -> tuple[Outcome, int | None]:
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="nsgd", app_desc="nsgd", storage_mode="memory"))
    if not service.add(loud(url) if alert.urgent else url):
        return Outcome(False, "apprise does not understand this URL, see `nsgd notify list`"), None
    with _overheard() as reply:
        result = service.notify(
            title=inert(alert.title)[:TITLE_MAX],
            body=inert(alert.body)[:BODY_MAX],
            notify_type=_type(alert),
            body_format=apprise.NotifyFormat.TEXT,
            attach=str(picture) if picture is not None and picture.is_file() else None,
        )
    result.close()
    if result.status is apprise.AppriseResultStatus.SUCCESS:
        return Outcome(True), reply.status
    return _failure(reply, now_utc_s), reply.status


def _failure(reply: _Reply, now_utc_s: float) -> Outcome:
    if reply.status is not None and reply.status >= 300:
        return Outcome(False, f"HTTP {reply.status}", retry_after_s(reply.retry_after, now_utc_s))
    if reply.problem:
        return Outcome(False, f"no answer ({reply.problem})", unreachable=reply.unreachable)
    return Outcome(False, "the service did not take the message")


def _type(alert: Alert) -> apprise.NotifyType:
    if alert.resolves:
        return apprise.NotifyType.SUCCESS
    return apprise.NotifyType.WARNING if alert.urgent else apprise.NotifyType.INFO


def loud(url: str) -> str:
    """The URL with the priority that sounds through Do Not Disturb, where the service has one and none is set."""
    priority = _URGENT.get(url.split(":", 1)[0].lower())
    if priority is None or "priority=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}priority={priority}"


def inert(text: str) -> str:
    """Text that no service reads as a command: no control characters, no mentions of people."""
    printable = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return printable.replace("@", "＠")


def retry_after_s(header: str, now_utc_s: float) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110: seconds or a date), None where it says nothing."""
    text = header.strip()
    if re.fullmatch(r"\d{1,7}", text):
        return float(text)
    try:
        asked = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, asked - now_utc_s)


def wait_s(failures: int, outcome: Outcome, rng: random.Random) -> float:
    """Time until the next try after so many failures in a row: 5 s doubling to 5 min, or what the service asks for.

    Jitter of up to a fifth keeps many senders from coming back at the same moment.
    """
    wait = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 16))
    wait *= rng.uniform(0.8, 1.0)
    if outcome.retry_after_s is not None:
        wait = max(wait, min(outcome.retry_after_s, STALE_S) + rng.uniform(0.0, 1.0))
    return wait


def services(urls: Sequence[str]) -> dict[str, str]:
    """Service names (never secret) -> Apprise URLs."""
    return {f"s{number}": url for number, url in enumerate(urls, 1)}


def kind_of(url: str) -> str:
    """The kind of service, e.g. "ntfy", for lists and log lines."""
    return url.split(":", 1)[0].lower()


def send_test(urls: Mapping[str, str], now_utc_s: float, picture: Path | None = None) -> dict[str, Outcome]:
    """Send a test message to every service; the result of each."""
    alert = Alert(
        event_id=f"test-{now_utc_s:.0f}",
        kind="test",
        title="nsgd test: your phone will ring like this",
        body="If you can read this, cloud alerts will reach you here.",
        created_utc_s=now_utc_s,
        urgent=True,
    )
    return {name: send(url, alert, picture, now_utc_s) for name, url in urls.items()}


# --- what to say now -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to one service and the outbox rows that it settles."""

    alert: Alert
    covers: tuple[int, ...]
    overtaken: tuple[int, ...] = ()
    """Rows that it replaces because their event is over."""


def plan(rows: Sequence[OutboxRow], now_utc_s: float, now_line: str = "", zone: tzinfo | None = None) -> list[Parcel]:
    """Waiting rows of one service -> the messages to send now: the current truth, most urgent first.

    An event that began and ended while nothing could be sent becomes its all-clear, which tells the whole story;
    several such old events become one message. An event that is still open is sent, however old, with what is true now.
    """
    parcels = []
    ordered = sorted(rows, key=lambda row: row.alert.event_id)
    for _, group in groupby(ordered, key=lambda row: row.alert.event_id):
        parcels.append(_event_parcel(sorted(group, key=lambda row: row.outbox_id)))
    old = [parcel for parcel in parcels if _is_history(parcel, now_utc_s)]
    fresh = [_dated(parcel, now_utc_s, now_line, zone) for parcel in parcels if parcel not in old]
    if len(old) == 1:
        fresh.append(_dated(old[0], now_utc_s, "", zone))
    elif old:
        fresh.append(_summary(old, now_utc_s))
    return sorted(fresh, key=lambda parcel: (not parcel.alert.urgent, parcel.alert.created_utc_s))


def _event_parcel(rows: list[OutboxRow]) -> Parcel:
    last = rows[-1]
    overtaken = tuple(row.outbox_id for row in rows[:-1])
    return Parcel(last.alert, (last.outbox_id,), overtaken)


def _is_history(parcel: Parcel, now_utc_s: float) -> bool:
    return not parcel.alert.urgent and now_utc_s - parcel.alert.created_utc_s > STALE_S


def _dated(parcel: Parcel, now_utc_s: float, now_line: str, zone: tzinfo | None) -> Parcel:
    alert = parcel.alert
    if now_utc_s - alert.created_utc_s < LATE_S:
        return parcel
    written = datetime.fromtimestamp(alert.created_utc_s, UTC).astimezone(zone).strftime("%H:%M")
    lines = [f"Sent late; written at {written}.", alert.body]
    if now_line and not alert.resolves:
        lines.insert(0, f"Now: {now_line}")
    return replace(parcel, alert=replace(alert, body="\n".join(lines)))


def _summary(parcels: list[Parcel], now_utc_s: float) -> Parcel:
    newest = max(parcels, key=lambda parcel: parcel.alert.created_utc_s).alert
    ordered = sorted(parcels, key=lambda parcel: parcel.alert.created_utc_s)
    alert = Alert(
        event_id=newest.event_id,
        kind="missed",
        title=f"{len(parcels)} events while messages could not be sent",
        body="\n".join(f"- {parcel.alert.title}" for parcel in ordered),
        created_utc_s=now_utc_s,
        resolves=True,
    )
    covers = tuple(number for parcel in ordered for number in parcel.covers)
    return Parcel(alert, covers, tuple(number for parcel in ordered for number in parcel.overtaken))


# --- the mail room -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """The line to one service: its back-off and whether a message is under way."""

    failures: int = 0
    next_try_utc_s: float = -math.inf
    next_probe_utc_s: float = math.inf
    place: tuple[str, int] | None = None
    busy: bool = False


Launch = Callable[[Callable[[], None]], None]


def in_thread(job: Callable[[], None]) -> None:
    """Run a job in a thread of its own that no exit waits for: a hung service must not hold up a stop."""
    threading.Thread(target=job, name="nsgd-send", daemon=True).start()


@dataclass(slots=True)
class Mailroom:
    """Takes waiting rows to their services; `turn` does one round and never blocks on a network.

    Parameters
    ----------
    outbox
        The store.
    urls
        Service name -> Apprise URL.
    now_line
        Gives the sky of the moment as one line, for messages that come late.
    picture
        Draws the graph for an alert and gives its path, or None; called in the sending thread.
    launch
        Runs a sending job, by default in a thread of its own.
    """

    outbox: Outbox
    urls: Mapping[str, str]
    now_line: Callable[[], str] = str
    picture: Callable[[Alert], Path | None] = lambda _: None
    launch: Launch = in_thread
    zone: tzinfo | None = None
    rng: random.Random = field(default_factory=random.Random)
    wake: Callable[[], None] = lambda: None
    desk: Desk | None = None
    """Where to ask who tells what the whole site sees, None where there is no fleet."""
    _lines: dict[str, _Line] = field(default_factory=dict)
    _back: queue.SimpleQueue[tuple[str, Parcel | None, Outcome]] = field(default_factory=queue.SimpleQueue)

    def turn(self, now_utc_s: float) -> float:
        """Book what came back, send what is due; seconds until the next round is useful."""
        self._book(now_utc_s)
        waiting: dict[str, list[OutboxRow]] = {}
        for row in self.outbox.due(math.inf):
            if self._keep(row, now_utc_s):
                waiting.setdefault(row.service, []).append(row)
        for service, rows in waiting.items():
            self._serve(service, rows, now_utc_s)
        idle = [line for name, line in self._lines.items() if name in waiting and not line.busy]
        moments = [min(line.next_try_utc_s, line.next_probe_utc_s) for line in idle]
        return max(0.05, min([moment - now_utc_s for moment in moments], default=LAST_RETRY_S))

    def _keep(self, row: OutboxRow, now_utc_s: float) -> bool:
        if row.service not in self.urls:
            self.outbox.dropped(row.outbox_id, "this service is no longer in the settings")
            return False
        if now_utc_s - row.alert.created_utc_s > FORGET_S:
            self.outbox.dropped(row.outbox_id, "could not be sent for a day")
            return False
        return True

    def _serve(self, service: str, rows: list[OutboxRow], now_utc_s: float) -> None:
        line = self._lines.setdefault(service, _Line())
        if line.busy:
            return
        if now_utc_s >= line.next_try_utc_s:
            parcel = plan(rows, now_utc_s, self.now_line(), self.zone)[0]
            line.busy = True
            self.launch(lambda: self._deliver(service, parcel, now_utc_s))
        elif line.place and now_utc_s >= line.next_probe_utc_s:
            line.busy = True
            self.launch(lambda: self._probe(service, line.place))

    def _deliver(self, service: str, parcel: Parcel, now_utc_s: float) -> None:
        """Runs in the sending thread; whatever goes wrong in a foreign service is a failed try."""
        outcome = Outcome(False, "sending broke off")
        try:
            outcome = self._sent_or_told(service, parcel.alert, now_utc_s)
        finally:
            self._back.put((service, parcel, outcome))
            self.wake()

    def _sent_or_told(self, service: str, alert: Alert, now_utc_s: float) -> Outcome:
        """Send, unless another rig of the site tells the same."""
        desk = self.desk if alert.shared else None
        teller = desk.ask(alert) if desk else Teller()
        if teller.rig:
            return Outcome(teller.told, f"rig {teller.rig} is telling it", told_by=teller.rig)
        outcome = send(self.urls[service], _named(alert), self._drawn(alert), now_utc_s)
        if desk and outcome.ok:
            desk.done()
        return outcome

    def _drawn(self, alert: Alert) -> Path | None:
        try:
            return Path(alert.picture) if alert.picture else self.picture(alert)
        except (OSError, ValueError, NsgdError, sqlite3.Error) as problem:
            log.warning("no picture for %s: %s", alert.event_id, problem)
            return None

    def _probe(self, service: str, place: tuple[str, int] | None) -> None:
        self._back.put((service, None, Outcome(bool(place) and reachable(place or ("", 0)))))
        self.wake()

    def _book(self, now_utc_s: float) -> None:
        while True:
            try:
                service, parcel, outcome = self._back.get_nowait()
            except queue.Empty:
                return
            line = self._lines[service]
            line.busy = False
            if parcel is None:
                self._after_probe(line, outcome, now_utc_s)
            elif outcome.ok and outcome.told_by:
                self._told_elsewhere(service, parcel, outcome.told_by)
            elif outcome.ok:
                self._delivered(line, service, parcel, now_utc_s)
            else:
                self._refused(line, service, (parcel, outcome), now_utc_s)

    def _after_probe(self, line: _Line, outcome: Outcome, now_utc_s: float) -> None:
        if outcome.ok:
            # The outage is over: what goes wrong from here on is something else, and waits from the beginning.
            line.next_try_utc_s, line.failures = now_utc_s, 0
        line.next_probe_utc_s = now_utc_s + PROBE_S

    def _delivered(self, line: _Line, service: str, parcel: Parcel, now_utc_s: float) -> None:
        for number in parcel.covers:
            self.outbox.sent(number, now_utc_s)
        for number in parcel.overtaken:
            self.outbox.dropped(number, "over before it could be sent; told with the message that followed")
        log.info("%s has %s", service, parcel.alert.event_id)
        self._lines[service] = _Line()

    def _told_elsewhere(self, service: str, parcel: Parcel, rig: str) -> None:
        for number in (*parcel.covers, *parcel.overtaken):
            self.outbox.dropped(number, f"rig {rig} told it for the site")
        log.info("rig %s told %s for the site", rig, parcel.alert.event_id)
        self._lines[service] = _Line()

    def _refused(self, line: _Line, service: str, try_: tuple[Parcel, Outcome], now_utc_s: float) -> None:
        parcel, outcome = try_
        line.failures += 1
        line.next_try_utc_s = now_utc_s + wait_s(line.failures, outcome, self.rng)
        line.place = outcome.unreachable
        line.next_probe_utc_s = now_utc_s + PROBE_S if line.place else math.inf
        for number in (*parcel.covers, *parcel.overtaken):
            self.outbox.failed(number, now_utc_s, outcome.error, line.next_try_utc_s)
        log.warning("%s: %s; next try in %.0f s", service, outcome.error, line.next_try_utc_s - now_utc_s)


def _named(alert: Alert) -> Alert:
    """The alert with its event's short name in the title, the same for first message and all-clear."""
    return replace(alert, title=f"{alert.title} [{alert.event_id}]")


def reachable(place: tuple[str, int], timeout_s: float = 3.0) -> bool:
    """Whether a TCP connection to host and port comes about; nothing is sent."""
    try:
        with socket.create_connection(place, timeout=timeout_s):
            return True
    except OSError:
        return False


class Notifier(threading.Thread):
    """The thread around a mail room: wakes on new alerts, on replies and when a try is due."""

    def __init__(self, mailroom: Mailroom, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name="nsgd-notifier", daemon=True)
        self._mailroom = mailroom
        self._clock = clock
        self._bell = threading.Event()
        self._stopping = False
        mailroom.wake = self.wake

    def run(self) -> None:
        """Serve until stopped."""
        quiet_foreign_loggers()
        while not self._stopping:
            self._bell.wait(timeout=self._turn())
            self._bell.clear()

    def _turn(self) -> float:
        try:
            return self._mailroom.turn(self._clock())
        except (sqlite3.Error, NsgdError, OSError) as problem:
            log.warning("the outbox cannot be read now: %s", problem)
            return FIRST_RETRY_S

    def wake(self) -> None:
        """Say that something new waits in the outbox."""
        self._bell.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the round that is under way; messages that wait stay in the outbox."""
        self._stopping = True
        self.wake()
        if self.is_alive():
            self.join(timeout_s)


# --- secrets -------------------------------------------------------------------------------------

FOREIGN_LOGGERS = ("apprise", "urllib3", "requests", "paho")


def quiet_foreign_loggers() -> None:
    """Keep libraries that know the URLs from logging them: topics and tokens stand in their messages."""
    for name in FOREIGN_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False


class Redaction(logging.Filter):
    """Replaces every part of the given URLs in a log record by ***; add it to the handlers.

    Parameters
    ----------
    urls
        Secrets. Words of six letters or more of each count, its scheme does not.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__()
        words = {word for url in urls for word in secret_words(url)}
        longest_first = sorted(words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the record; always let it pass."""
        if self._pattern is None:
            return True
        record.msg, record.args = self._pattern.sub("***", record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._pattern.sub("***", record.exc_text)
        return True


def secret_words(url: str) -> set[str]:
    """The URL and those parts of it that could be a password, a topic or a token."""
    _, _, rest = url.partition("://")
    return {url, rest} | {word for word in re.split(r"[/:@?&=,;#]+", rest) if len(word) >= 6}
