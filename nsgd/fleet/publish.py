"""The daemon's thread that replicates its store outwards: verdicts, sky, alerts, heartbeat. Never in the way.

It reads the store over a connection of its own and remembers, in the store, up to which change the server has
confirmed everything (the cursor). All writes are upserts under keys that follow from the sub, so that sending twice
does no harm and a lost confirmation loses nothing. The state of the moment goes first, then what was missed.
"""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsgd.errors import BadRequest, FleetProblem, StoreProblem
from nsgd.fleet.link import fleet_problem, link
from nsgd.fleet.schema import place_of
from nsgd.records import SeriesRow, SubRow, SubStatus, Verdict
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.site import Neighbour
from nsgd.session.store import AlertRow, Reader, Store
from nsgd.settings import Limits

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)

CURSOR = "published"
"""Name of the cursor in the store."""
BATCH = 500
HEARTBEAT_S = 10.0
LOOK_S = 1.0
"""Time between two looks at the store where nobody says that it changed."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 20.0
MOVED = 0.005
"""A verdict whose figures moved by more, because another sub taught what clear is, is sent again."""
MOST_TEXT = 300
OUT_OF_REACH_S = 30.0
"""What the neighbours said counts as unknown where they were not heard for this long."""
FRESH_S = 1200.0
"""A neighbour's sub that ended longer ago says nothing of the sky of now."""

Row = tuple[Any, ...]

_SUB_COLUMNS = (
    "content_id", "session", "series", "file", "mid_utc_s", "exposure_s", "status", "reasons", "transmission",
    "transmission_err", "transmission_clear", "weight", "stars", "fwhm_px", "ellipticity", "sky_adu",
)  # fmt: skip
_PUT_SUB = (
    f"INSERT INTO nsgd.subs (rig, {', '.join(_SUB_COLUMNS)}) "
    f"VALUES (nsgd.me(), {', '.join(['%s'] * len(_SUB_COLUMNS))}) ON CONFLICT (rig, content_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _SUB_COLUMNS[1:])
)
_MOVE_SUB = (
    "UPDATE nsgd.subs SET status = %s, reasons = %s, transmission = %s, transmission_err = %s, "
    "transmission_clear = %s, weight = %s WHERE rig = nsgd.me() AND content_id = %s"
)
_PUT_ALERT = (
    "INSERT INTO nsgd.alerts (rig, event_id, kind, created_utc_s, session, title, body, urgent, resolves) "
    "VALUES (nsgd.me(), %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
_STATE_COLUMNS = (
    "seen_utc_s", "state", "cause", "transmission", "transmission_err", "loss", "loss_err", "series",
    "last_sub_utc_s", "cadence_s", "alert",
)  # fmt: skip
_PUT_STATE = f"UPDATE nsgd.rigs SET {', '.join(f'{name} = %s' for name in _STATE_COLUMNS)} WHERE rig = nsgd.me()"

_NEIGHBOURS = (
    "SELECT other.last_sub_utc_s - coalesce(other.cadence_s, 0), other.last_sub_utc_s, other.loss, other.loss_err "
    "FROM nsgd.rigs AS own JOIN nsgd.rigs AS other USING (site) WHERE own.rig = nsgd.me() AND other.rig <> own.rig "
    "AND site <> '' AND other.loss IS NOT NULL AND other.loss_err IS NOT NULL AND other.last_sub_utc_s > %s "
    "ORDER BY other.rig"
)


# ---- rows ---------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text that PostgreSQL can keep."""
    return text[:MOST_TEXT].replace("\0", "").encode("utf-8", "backslashreplace").decode("utf-8")


def known(value: float | None) -> float | None:
    """A missing figure is NULL."""
    return None if value is None or not math.isfinite(value) else float(value)


def _verdict_values(verdict: Verdict) -> Row:
    figures = (verdict.transmission, verdict.transmission_err, verdict.transmission_clear, verdict.weight_of_best)
    return (str(verdict.status), plain("; ".join(verdict.reasons)), *map(known, figures))


def sub_values(row: SubRow, verdict: Verdict, series: str) -> Row:
    """One sub in the order of the table's columns."""
    sky_adu = float(np.mean(row.sky_adu)) if row.sky_adu else None
    return (
        row.content_id, row.session, plain(series), plain(Path(row.path).name), row.order_utc_s,
        known(row.header.exposure_s), *_verdict_values(verdict), row.stars_matched, known(row.fwhm_px),
        known(row.ellipticity), known(sky_adu),
    )  # fmt: skip


def alert_values(row: AlertRow) -> Row:
    """One alert in the order of the table's columns."""
    alert = row.alert
    return (
        plain(alert.event_id), alert.kind, alert.created_utc_s, row.session, plain(alert.title), plain(alert.body),
        alert.urgent, alert.resolves,
    )  # fmt: skip


def state_values(report: Mapping[str, Any], now_utc_s: float) -> Row:
    """`alerts.report` in the order of the table's columns."""
    going_on = [report["cause"] or "loss of light"] if report["event_told"] else []
    going_on += [str(kind).replace("_", " ") for kind in report["troubles"]]
    return (
        now_utc_s, report["state"], plain(report["cause"]), report["transmission"], report["transmission_err"],
        report.get("loss"), report.get("loss_err"), plain(report["series"]), report["last_sub_utc_s"],
        report["cadence_s"], plain(", ".join(going_on)),
    )  # fmt: skip


def series_name(series: SeriesRow | None) -> str:
    """Object and filter."""
    if series is None:
        return ""
    parts = (series.object_name, "" if series.filter_name == "none" else series.filter_name)
    return " ".join(part for part in parts if part) or series.key


# ---- what is new in the store -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that the server has not confirmed; with them it has everything up to change number `last`."""

    last: int
    subs: list[Row]
    moved: list[Row]
    alerts: list[Row]
    more: bool


@dataclass(slots=True)
class _Judged:
    """A series as it was judged last."""

    columns: Columns
    contents: list[str]
    figures: np.ndarray[Any, np.dtype[np.float64]] = field(default_factory=lambda: np.empty((0, 3)))


class Feed:
    """The store as rows for the server, newer than a change number.

    Parameters
    ----------
    reader
        A connection of one's own.
    limits
        Cut-offs of series that have none of their own.
    """

    def __init__(self, reader: Reader, limits: Limits) -> None:
        self._reader = reader
        self._limits = limits
        self._judged: dict[int, _Judged] = {}

    def after(self, cursor: int, most: int = BATCH) -> Batch:
        """What changed after a change number, oldest first."""
        changes = self._reader.changes_since(cursor, most)
        series = {row.series_id: row for row in self._reader.series()} if changes.subs else {}
        groups: dict[int, list[SubRow]] = {}
        for row in changes.subs:
            groups.setdefault(row.series_id, []).append(row)
        subs, moved = [], []
        for series_id, rows in groups.items():
            if series_id not in series:
                subs += [sub_values(row, _unjudged(row), "") for row in rows]
                continue
            fresh, other = self._judge(series[series_id], rows)
            subs += fresh
            moved += other
        alerts = [alert_values(row) for row in changes.alerts]
        return Batch(changes.last, subs, moved, alerts, more=len(changes.subs) >= most)

    def _judge(self, series: SeriesRow, rows: list[SubRow]) -> tuple[list[Row], list[Row]]:
        """Rows of changed subs, and the verdicts that these have moved."""
        memory = self._remembered(series.series_id, rows)
        verdicts = judge(memory.columns, series, self._limits)
        name = series_name(series)
        touched = {memory.columns.index(row.sub_id) for row in rows}
        moved = [at for at in _moved(memory.figures, verdicts) if at not in touched]
        memory.figures = _figures(verdicts)
        return (
            [sub_values(row, verdicts.of(row.sub_id), name) for row in rows],
            [(*_verdict_values(verdicts.row(at)), memory.contents[at]) for at in moved],
        )

    def _remembered(self, series_id: int, rows: list[SubRow]) -> _Judged:
        """The series' columns with these rows in them; read from the store at first."""
        memory = self._judged.get(series_id)
        if memory is None:
            stored = self._reader.subs(series_id)
            memory = _Judged(Columns.from_rows(stored), [row.content_id for row in stored])
            self._judged[series_id] = memory
        for row in rows:
            if row.sub_id in memory.columns:
                memory.columns.replace(row)
            else:
                memory.columns.append(row)
                memory.contents.append(row.content_id)
        return memory


def _unjudged(row: SubRow) -> Verdict:
    nan = math.nan
    reasons = (row.failure.sentence,) if row.failure else ()
    return Verdict(row.sub_id, SubStatus.FAILED, reasons, nan, nan, nan, nan, nan, 0, learning=True)


def _figures(verdicts: Verdicts) -> np.ndarray[Any, np.dtype[np.float64]]:
    shown = (verdicts.transmission_clear, verdicts.weight_of_best, verdicts.ok.astype(np.float64))
    return np.nan_to_num(np.column_stack(shown))


def _moved(before: np.ndarray[Any, np.dtype[np.float64]], verdicts: Verdicts) -> list[int]:
    """Rows whose figures are no longer those that were sent."""
    now = _figures(verdicts)[: len(before)]
    return [int(at) for at in np.flatnonzero(np.any(np.abs(now - before[: len(now)]) > MOVED, axis=1))]


# ---- the thread ---------------------------------------------------------------------------------


class Publisher(threading.Thread):
    """Replicates one store outwards until it is stopped.

    Parameters
    ----------
    store
        The open store; only its folder and its notes are used, reading has a connection of its own.
    url
        The fleet's database.
    limits
        Cut-offs of series that have none of their own.
    clock
        UTC seconds.
    """

    def __init__(self, store: Store, url: str, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name="nsgd-publisher", daemon=True)
        self._store = store
        self._url = url
        self._limits = limits
        self._clock = clock
        self._bell = threading.Event()
        self._stopping = False
        self._report: dict[str, Any] | None = None
        self._sent: Row = ()
        self._complained = ""
        self._neighbours: tuple[Neighbour, ...] = ()
        self._heard_s = -math.inf

    def neighbours(self) -> tuple[Neighbour, ...]:
        """Newest subs of the site's other rigs; none while the fleet is out of reach."""
        return self._neighbours if time.monotonic() - self._heard_s < OUT_OF_REACH_S else ()

    def tell(self, report: Mapping[str, Any]) -> None:
        """Hand over the newest state (`alerts.report`); it never waits."""
        self._report = dict(report)
        self._bell.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the statement that is under way; what is not confirmed is sent next time."""
        self._stopping = True
        self._bell.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Serve until stopped; an outage is waited out."""
        failures = 0
        while not self._stopping:
            began_s = time.monotonic()
            try:
                self._serve()
            except (FleetProblem, StoreProblem, BadRequest) as problem:
                failures = 0 if time.monotonic() - began_s > LAST_RETRY_S else failures + 1
                self._complain(problem.sentence)
                # Many rigs do not come back at the same moment.
                wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
                self._pause(wait_s)

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until_s:
            self._bell.wait(min(1.0, seconds))
            self._bell.clear()

    def _complain(self, sentence: str) -> None:
        if sentence != self._complained:
            self._complained = sentence
            log.warning("%s The rig goes on alone and catches up later.", sentence)

    def _serve(self) -> None:
        """One connection's life: state first, then what the server has not confirmed yet."""
        with link(self._url) as connection, Reader.open(self._store.folder) as reader:
            import psycopg

            try:
                fleet, cursor = self._agree(connection)
                feed = Feed(reader, self._limits)
                while not self._stopping:
                    self._send_state(connection)
                    self._hear(connection)
                    batch = feed.after(cursor)
                    if batch.last != cursor:
                        send(connection, batch)
                        cursor = batch.last
                        self._store.note(CURSOR, json.dumps({"fleet": fleet, "change": cursor}))
                    if not batch.more:
                        self._bell.wait(LOOK_S)
                        self._bell.clear()
            except psycopg.Error as problem:
                raise fleet_problem(problem) from None

    def _agree(self, connection: Connection[Any]) -> tuple[str, int]:
        """The fleet's number, and the change that it has confirmed; from the beginning for another fleet or store."""
        row = connection.execute("SELECT fleet_id FROM nsgd.fleet").fetchone()
        place_of(connection)
        fleet, text = str(row[0]) if row else "", self._store.state(CURSOR)
        noted = json.loads(text) if text else {}
        if self._complained or not noted:
            log.info("publishing to the fleet")
        self._complained, self._sent = "", ()
        return fleet, int(noted["change"]) if noted.get("fleet") == fleet else 0

    def _send_state(self, connection: Connection[Any]) -> None:
        """The state where it is another one, or where the rig has said nothing for a while."""
        report = self._report
        if report is None:
            return
        values = state_values(report, self._clock())
        if values[1:] != self._sent[1:] or values[0] - self._sent[0] >= HEARTBEAT_S:
            connection.execute(_PUT_STATE, values)
            self._sent = values

    def _hear(self, connection: Connection[Any]) -> None:
        """What the other rigs of the site said of their newest subs."""
        rows = connection.execute(_NEIGHBOURS, (self._clock() - FRESH_S,)).fetchall()
        self._neighbours = tuple(Neighbour(*row) for row in rows)
        self._heard_s = time.monotonic()


def send(connection: Connection[Any], batch: Batch) -> None:
    """Write one batch in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        for statement, rows in ((_PUT_SUB, batch.subs), (_MOVE_SUB, batch.moved), (_PUT_ALERT, batch.alerts)):
            if rows:
                cursor.executemany(statement, rows)
