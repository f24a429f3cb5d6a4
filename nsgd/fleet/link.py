"""A connection to the fleet's database that is encrypted, notices a dead network, and gives no secret away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsgd.errors import BadRequest, FleetProblem
from nsgd.whereabouts import is_local_database

if TYPE_CHECKING:
    from psycopg import Connection

LIMIT_S = 15.0
"""For one statement, and for a network that says nothing."""
_CAREFUL: dict[str, Any] = {
    "application_name": "nsgd",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(1000 * LIMIT_S),
    "options": f"-c statement_timeout={1000 * LIMIT_S:.0f}",
}


def link(url: str) -> Connection[tuple[Any, ...]]:
    """Connect; every statement is its own transaction unless one is opened.

    Where the URL does not say how (`sslmode`), a server that is not on this machine must prove who it is
    (`verify-full`).

    Raises
    ------
    BadRequest
        The extra is missing.
    FleetProblem
        The database cannot be reached, or refuses; the sentence holds no part of the URL.
    """
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as problem:
        raise BadRequest("A fleet needs psycopg: pip install 'nsgd[fleet]'.") from problem
    try:
        given = conninfo_to_dict(url)
        wanted = _CAREFUL if is_local_database(url) else {**_CAREFUL, "sslmode": "verify-full"}
        defaults = {name: value for name, value in wanted.items() if name not in given}
        return psycopg.connect(make_conninfo(url, **defaults), autocommit=True)
    except psycopg.Error as problem:
        raise fleet_problem(problem) from None


def fleet_problem(problem: Exception) -> FleetProblem:
    """A failure of the database as one sentence; what libpq says may hold parts of the URL and is left out."""
    code = getattr(problem, "sqlstate", None) or ""
    said = str(problem)
    if "password authentication failed" in said or code.startswith("28"):
        why = "it does not know this role and password; `nsgd fleet add-rig` makes a new URL"
    elif code in ("3F000", "42P01", "42883"):
        why = "it holds no fleet; `nsgd fleet init` makes its tables"
    elif code == "42501":
        why = "this role may not do that"
    elif "certificate" in said:
        why = "its certificate cannot be verified; name it with sslrootcert= in the URL"
    elif "SSL" in said:
        why = "it does not speak TLS"
    else:
        why = f"no answer ({code or type(problem).__name__})"
    return FleetProblem(f"The fleet's database: {why}.", sqlstate=code)
