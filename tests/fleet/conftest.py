"""A private PostgreSQL for the tests of the fleet, and an empty fleet for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from private_postgres import Server, binaries, private_server

from nsgd.fleet.link import link
from nsgd.fleet.schema import init


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="the extra `fleet` is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (apt install postgresql)")
    with private_server(programs) as one:
        yield one


@pytest.fixture
def fleet_url(server: Server) -> str:
    """The administrator's address of a fleet of this test's own."""
    name = f"fleet_{uuid4().hex}"
    with link(server.url("postgres")) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with link(server.url(name)) as connection:
        init(connection)
    return server.url(name)
