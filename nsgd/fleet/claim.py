"""One message a site: the rig that claims an event first tells it, the others note who did.

A claim counts once its message is out; one that stays without for `PATIENCE_S` is taken over. Where the database
cannot be asked, every rig tells by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsgd.errors import BadRequest, FleetProblem
from nsgd.fleet.link import fleet_problem, link
from nsgd.fleet.schema import place_of
from nsgd.records import Alert

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
FORGOTTEN_S = 6 * 3600.0
"""A claim that is older says nothing of the sky of now."""
BEGIN, END = "begin", "end"


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells an event; `rig` is "" for this rig itself."""

    rig: str = ""
    told: bool = False
    """True where its message is out."""


class Desk:
    """Where a rig asks whether it shall tell what the whole site sees.

    Parameters
    ----------
    url
        The fleet's database.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, alert: Alert) -> Teller:
        """Claim an alert for this rig, or say who has it; this rig where nobody can be asked."""
        what = END if alert.resolves else BEGIN
        try:
            with link(self._url) as connection:
                return _claimed(connection, what)
        except (FleetProblem, BadRequest) as problem:
            log.warning("%s This rig tells by itself.", problem.sentence)
            return Teller()

    def done(self) -> None:
        """The message of this rig's claim is out."""
        try:
            with link(self._url) as connection:
                _mark_sent(connection)
        except (FleetProblem, BadRequest) as problem:
            log.warning("%s Another rig may send the message too.", problem.sentence)


def _mark_sent(connection: Connection[Any]) -> None:
    import psycopg

    try:
        connection.execute("UPDATE nsgd.claims SET sent_at = now() WHERE rig = nsgd.me() AND sent_at IS NULL")
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None


def _claimed(connection: Connection[Any], what: str) -> Teller:
    import psycopg

    rig, site = place_of(connection)
    if not site:
        return Teller()
    try:
        with connection.transaction():
            # One rig of a site at a time: the second one finds the claim of the first.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('nsgd claims ' || %s))", (site,))
            newest = connection.execute(
                "SELECT what, rig, sent_at IS NOT NULL, extract(epoch FROM now() - claimed_at) FROM nsgd.claims "
                "WHERE site = %s AND claimed_at > now() - make_interval(secs => %s) ORDER BY claim_id DESC LIMIT 1",
                (site, FORGOTTEN_S),
            ).fetchone()
            if newest is not None and newest[0] == what:
                _, owner, told, age_s = newest
                if owner == rig:
                    return Teller()
                if told or age_s < PATIENCE_S:
                    return Teller(str(owner), told=bool(told))
            if newest is not None or what == BEGIN:
                connection.execute("INSERT INTO nsgd.claims (site, what, rig) VALUES (%s, %s, nsgd.me())", (site, what))
        return Teller()
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None
