"""What the fleet view asks the database: all rigs as they are now, one rig's night, and what has just changed.

numpy is loaded for a night only, which nobody sees at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nsgd.fleet.link import fleet_problem, link
from nsgd.fleet.schema import CHANNEL
from nsgd.records import NAN, Floats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NIGHT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Rig:
    """One rig as it said last; NaN where it has not said."""

    name: str
    site: str
    state: str
    cause: str
    transmission: float
    transmission_err: float
    series: str
    last_sub_utc_s: float
    seen_utc_s: float
    """When the rig said anything at all."""
    alert: str
    """What is going on and was told, "" where nothing is."""


@dataclass(frozen=True, slots=True, eq=False)
class RigNight:
    """The newest night of a rig, in time order: (n,) arrays."""

    session: str
    utc_s: Floats
    transmission: Floats
    transmission_err: Floats
    bad: NDArray[np.bool_]
    """True where the sub is rejected or failed."""
    series: tuple[str, ...]
    alerts: tuple[tuple[float, str, bool], ...]
    """Time, title, and whether it is an all-clear."""


class FleetReader:
    """A connection that reads; every question is a transaction of its own.

    Raises
    ------
    FleetProblem
        By every method: the database cannot be asked now.
    """

    def __init__(self, url: str) -> None:
        self._connection = link(url)
        self._ask(f"LISTEN {CHANNEL}")

    def __enter__(self) -> FleetReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def rigs(self) -> list[Rig]:
        """All rigs, by name."""
        rows = self._ask(
            "SELECT rig, site, state, cause, transmission, transmission_err, series, last_sub_utc_s, seen_utc_s, alert "
            "FROM nsgd.rigs ORDER BY rig"
        )
        known: list[list[Any]] = [[NAN if value is None else value for value in row] for row in rows]
        return [Rig(*values) for values in known]

    def night(self, rig: str) -> RigNight:
        """The night of the newest sub of a rig; empty where it has none."""
        import numpy as np

        newest = self._ask(
            "SELECT session, mid_utc_s FROM nsgd.subs WHERE rig = %s ORDER BY mid_utc_s DESC LIMIT 1", rig
        )
        session, last_utc_s = newest[0] if newest else ("", 0.0)
        since = (rig, last_utc_s - NIGHT_S)
        subs = self._ask(
            "SELECT mid_utc_s, transmission_clear, transmission_err, status <> 'ok', series FROM nsgd.subs "
            "WHERE rig = %s AND mid_utc_s > %s AND session = %s ORDER BY mid_utc_s",
            *since,
            session,
        )
        alerts = self._ask(
            "SELECT created_utc_s, title, resolves FROM nsgd.alerts WHERE rig = %s AND created_utc_s > %s "
            "ORDER BY created_utc_s",
            *since,
        )
        figures = np.array([[NAN if value is None else value for value in row[:4]] for row in subs], dtype=np.float64)
        utc_s, transmission, error, bad = figures.reshape(-1, 4).T
        series = tuple(dict.fromkeys(str(row[4]) for row in subs if row[4]))
        return RigNight(session, utc_s, transmission, error, bad > 0, series, tuple((a, b, c) for a, b, c in alerts))

    def changed(self, wait_s: float) -> set[str]:
        """Rigs that said something new; waits for the first of them."""
        import psycopg

        try:
            heard = {note.payload for note in self._connection.notifies(timeout=wait_s, stop_after=1)}
            return heard | {note.payload for note in self._connection.notifies(timeout=0.0)}
        except psycopg.Error as problem:
            raise fleet_problem(problem) from None

    def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        import psycopg

        try:
            cursor = self._connection.execute(question.encode(), values)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as problem:
            raise fleet_problem(problem) from None
