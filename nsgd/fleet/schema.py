"""The fleet's tables in numbered steps, and who may write what: every rig reads all rows and writes its own alone.

A rig logs in as a role of its own, `rig_` and its name; row-level security compares that with the row. Which site a
rig stands at is the administrator's to say: it decides whose sky it shares.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nsgd.errors import BadRequest, FleetProblem
from nsgd.fleet.link import fleet_problem

if TYPE_CHECKING:
    from psycopg import Connection

GROUP = "nsgd_rigs"
"""Role whose members are the rigs."""
PREFIX = "rig_"
CHANNEL = "nsgd_rigs"
"""Where a changed rig is announced by name (LISTEN)."""
ROOM = 10
"""Connections that are left for dashboards and the administrator."""

# Step n takes a database from n to n + 1 in one transaction. Never change a released one.
_STEPS = (
    """
    CREATE SCHEMA nsgd;
    CREATE TABLE nsgd.fleet (one integer PRIMARY KEY CHECK (one = 1), fleet_id uuid NOT NULL, step integer NOT NULL);
    INSERT INTO nsgd.fleet VALUES (1, gen_random_uuid(), 0);
    CREATE TABLE nsgd.rigs (rig text PRIMARY KEY, site text NOT NULL, seen_utc_s float8, state text NOT NULL DEFAULT '',
        cause text NOT NULL DEFAULT '', transmission float8, transmission_err float8, loss float8, loss_err float8,
        series text NOT NULL DEFAULT '', last_sub_utc_s float8, cadence_s float8, alert text NOT NULL DEFAULT '');
    CREATE TABLE nsgd.subs (rig text NOT NULL REFERENCES nsgd.rigs, content_id text NOT NULL, session text NOT NULL,
        series text NOT NULL, file text NOT NULL, mid_utc_s float8 NOT NULL, exposure_s float8, status text NOT NULL,
        reasons text NOT NULL, transmission float8, transmission_err float8, transmission_clear float8, weight float8,
        stars integer NOT NULL, fwhm_px float8, ellipticity float8, sky_adu float8, PRIMARY KEY (rig, content_id));
    CREATE INDEX subs_by_time ON nsgd.subs (rig, mid_utc_s);
    CREATE TABLE nsgd.alerts (rig text NOT NULL REFERENCES nsgd.rigs, event_id text NOT NULL, kind text NOT NULL,
        created_utc_s float8 NOT NULL, session text NOT NULL, title text NOT NULL, body text NOT NULL,
        urgent boolean NOT NULL, resolves boolean NOT NULL, PRIMARY KEY (rig, event_id, kind, created_utc_s));
    CREATE TABLE nsgd.claims (claim_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site text NOT NULL,
        what text NOT NULL, rig text NOT NULL REFERENCES nsgd.rigs, claimed_at timestamptz NOT NULL DEFAULT now(),
        sent_at timestamptz);
    CREATE INDEX claims_by_site ON nsgd.claims (site, claim_id);

    CREATE FUNCTION nsgd.me() RETURNS text STABLE LANGUAGE sql AS $$ SELECT substr(current_user::text, 5) $$;
    CREATE FUNCTION nsgd.announce() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('nsgd_rigs', NEW.rig); RETURN NULL; END $$;
    CREATE TRIGGER announce AFTER INSERT OR UPDATE ON nsgd.rigs FOR EACH ROW EXECUTE FUNCTION nsgd.announce();

    ALTER TABLE nsgd.rigs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE nsgd.subs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE nsgd.alerts ENABLE ROW LEVEL SECURITY;
    ALTER TABLE nsgd.claims ENABLE ROW LEVEL SECURITY;
    CREATE POLICY everybody_reads ON nsgd.rigs FOR SELECT TO nsgd_rigs USING (true);
    CREATE POLICY everybody_reads ON nsgd.subs FOR SELECT TO nsgd_rigs USING (true);
    CREATE POLICY everybody_reads ON nsgd.alerts FOR SELECT TO nsgd_rigs USING (true);
    CREATE POLICY everybody_reads ON nsgd.claims FOR SELECT TO nsgd_rigs USING (true);
    CREATE POLICY own_row ON nsgd.rigs FOR UPDATE TO nsgd_rigs USING (rig = nsgd.me()) WITH CHECK (rig = nsgd.me());
    CREATE POLICY own_new ON nsgd.subs FOR INSERT TO nsgd_rigs WITH CHECK (rig = nsgd.me());
    CREATE POLICY own_row ON nsgd.subs FOR UPDATE TO nsgd_rigs USING (rig = nsgd.me()) WITH CHECK (rig = nsgd.me());
    CREATE POLICY own_new ON nsgd.alerts FOR INSERT TO nsgd_rigs WITH CHECK (rig = nsgd.me());
    CREATE POLICY own_new ON nsgd.claims FOR INSERT TO nsgd_rigs WITH CHECK (rig = nsgd.me()
        AND site = (SELECT own.site FROM nsgd.rigs AS own WHERE own.rig = nsgd.me()));
    CREATE POLICY own_row ON nsgd.claims FOR UPDATE TO nsgd_rigs USING (rig = nsgd.me()) WITH CHECK (rig = nsgd.me());
    GRANT USAGE ON SCHEMA nsgd TO nsgd_rigs;
    GRANT SELECT ON ALL TABLES IN SCHEMA nsgd TO nsgd_rigs;
    GRANT UPDATE (seen_utc_s, state, cause, transmission, transmission_err, loss, loss_err, series, last_sub_utc_s,
        cadence_s, alert) ON nsgd.rigs TO nsgd_rigs;
    GRANT INSERT, UPDATE ON nsgd.subs TO nsgd_rigs;
    GRANT INSERT ON nsgd.alerts TO nsgd_rigs;
    GRANT INSERT (site, what, rig), UPDATE (sent_at) ON nsgd.claims TO nsgd_rigs;
    """,
)


def init(connection: Connection[Any]) -> int:
    """Make or upgrade the fleet's tables as the database's owner; returns the step that it stands at now.

    Raises
    ------
    FleetProblem
        This role may not, or a newer nsgd has been here.
    """
    import psycopg

    try:
        with connection.transaction():
            # Two administrators at once: the second one waits and finds all done.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('nsgd fleet'))")
            step = _step(connection)
            if step > len(_STEPS):
                raise FleetProblem(f"A newer nsgd has made these tables (step {step}): update nsgd.")
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (GROUP,)).fetchone():
                connection.execute(f"CREATE ROLE {GROUP} NOLOGIN")
            for number in range(step, len(_STEPS)):
                connection.execute(_STEPS[number].encode())
                connection.execute("UPDATE nsgd.fleet SET step = %s", (number + 1,))
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None
    return len(_STEPS)


def _step(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT to_regclass('nsgd.fleet')").fetchone()
    if row is None or row[0] is None:
        return 0
    found = connection.execute("SELECT step FROM nsgd.fleet").fetchone()
    return int(found[0]) if found else 0


def room_for(connection: Connection[Any]) -> tuple[int, int]:
    """Rigs of the fleet, and how many the server's `max_connections` has room for."""
    rigs = connection.execute("SELECT count(*) FROM nsgd.rigs").fetchone()
    most = connection.execute("SELECT current_setting('max_connections')::integer").fetchone()
    return (rigs[0] if rigs else 0), (most[0] - ROOM if most else 0)


def place_of(connection: Connection[Any]) -> tuple[str, str]:
    """Name and site of the rig that this connection logged in as.

    Raises
    ------
    FleetProblem
        The fleet does not know it, or cannot be asked.
    """
    import psycopg

    try:
        row = connection.execute("SELECT rig, site FROM nsgd.rigs WHERE rig = nsgd.me()").fetchone()
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None
    if row is None:
        raise FleetProblem("The fleet does not know this rig: `nsgd fleet add-rig` lets it in.")
    return str(row[0]), str(row[1])


def add_rig(connection: Connection[Any], url: str, name: str, site: str) -> str:
    """Let a rig in, or give it a new password and site; returns the URL that it publishes with.

    Parameters
    ----------
    url
        The administrator's; the rig's differs in role and password.

    Raises
    ------
    BadRequest
        The name cannot be one.
    FleetProblem
        This role may not, or there is no fleet yet.
    """
    import secrets

    import psycopg
    from psycopg import sql

    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise BadRequest(f"{name!r} cannot be a rig's name: a to z, 0 to 9, - and _, at most 40 of them.")
    role, password = PREFIX + name, secrets.token_urlsafe(24)
    # The server gets the scrambled password only, so that none stands in its log.
    scrambled = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    try:
        with connection.transaction():
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
            verb = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}" if known else "CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(verb.format(sql.Identifier(role), sql.Literal(scrambled)))
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(GROUP), sql.Identifier(role)))
            connection.execute(
                "INSERT INTO nsgd.rigs (rig, site) VALUES (%s, %s) "
                "ON CONFLICT (rig) DO UPDATE SET site = excluded.site",
                (name, site),
            )
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(role)}:{password}@{host}").geturl()
