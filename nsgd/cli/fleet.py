"""`nsgd fleet`: the administrator's commands over the database that many rigs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from nsgd.cli.places import common_options, talk
from nsgd.errors import BadRequest
from nsgd.whereabouts import database_fault

if TYPE_CHECKING:
    from psycopg import Connection


@click.group()
@common_options
def fleet() -> None:
    """Set up the PostgreSQL database in which many rigs tell how their skies are.

    \b
    Example: nsgd fleet init postgresql://admin@db.example.org/skies
    """


def checked(url: str) -> str:
    """The URL of a database. Raises BadRequest where it is none or asks for no TLS over a network."""
    if fault := database_fault(url):
        raise BadRequest(f"The fleet's address {fault}.")
    return url


@contextmanager
def _linked(url: str) -> Iterator[Connection[Any]]:
    from nsgd.fleet.link import link

    with link(checked(url)) as connection:
        yield connection


@fleet.command("init")
@click.argument("url")
@common_options
def fleet_init(url: str) -> None:
    """Make or upgrade the fleet's tables; URL is that of the database's owner, its password best in ~/.pgpass.

    \b
    Example: nsgd fleet init postgresql://admin@db.example.org/skies
    """
    from nsgd.fleet.schema import init, room_for

    with _linked(url) as connection:
        step = init(connection)
        rigs, most = room_for(connection)
    talk(f"The fleet's tables are those of step {step}; {rigs} rigs, and max_connections has room for {most}.")


@fleet.command("add-rig")
@click.argument("url")
@click.argument("name")
@click.option("--site", default="", help="Rigs of one site see one sky: they confirm each other's clouds.")
@common_options
def fleet_add_rig(url: str, name: str, site: str) -> None:
    """Let a rig in and print, once, the URL that it publishes with; a rig that is in already gets a new one.

    \b
    Example: nsgd fleet add-rig postgresql://admin@db.example.org/skies north-1 --site north
    """
    from nsgd.fleet.schema import add_rig

    with _linked(url) as connection:
        click.echo(add_rig(connection, url, name, site))
    talk(
        "Keep it secret: as the credential publish_url, in NSGD_PUBLISH_URL, or as publish.url in a file of mode 0600."
    )
