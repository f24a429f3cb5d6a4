"""Nights that were: `nsgd replay`, `nsgd session`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from nsgd.cli.decisions import ask
from nsgd.cli.places import common_options, load_settings, open_reader, say, talk
from nsgd.errors import BadRequest

if TYPE_CHECKING:
    from nsgd.records import Alert, SubRow
    from nsgd.session.store import Reader
    from nsgd.settings import Alarm, Settings


@click.group()
@common_options
def session() -> None:
    """Nights (local date minus 12 hours) of the store.

    \b
    Example: nsgd session list
    """


@session.command("list")
@common_options
def session_list() -> None:
    """List the nights with their subs and alerts.

    \b
    Example: nsgd session list
    """
    with open_reader() as reader:
        nights: dict[str, list[SubRow]] = {}
        for row in reader.subs():
            nights.setdefault(row.session, []).append(row)
        for name, rows in sorted(nights.items()):
            failed = sum(row.failure is not None for row in rows)
            hours = sum(row.header.exposure_s or 0.0 for row in rows) / 3600.0
            alerts = len(reader.alerts(name))
            say(name, f"{len(rows)} subs", f"{failed} failed", f"{hours:.2f} h", f"{alerts} alerts")


@session.command("end")
@common_options
def session_end() -> None:
    """Say that tonight is over: no alert about missing subs until the next one lands.

    \b
    Example: nsgd session end
    """
    ask("session_end", {}, "The session is over; the phone stays quiet until the next sub.")


@click.command()
@click.option("--session", "night", metavar="DATE", help="Night to replay, YYYY-MM-DD; default: the last.")
@click.option("--sensitivity", type=click.Choice(["calm", "normal", "keen"]), help="Instead of the settings'.")
@click.option("--cloud-below", type=click.FloatRange(0, 1), help="Instead of the settings'.")
@click.option("--clear-above", type=click.FloatRange(0, 1), help="Instead of the settings'.")
@common_options
def replay(night: str | None, sensitivity: str | None, cloud_below: float | None, clear_above: float | None) -> None:
    """Run a stored night through the alarm and show what it would have sent; nothing is sent or changed.

    \b
    Example: nsgd replay --session 2026-11-21 --sensitivity keen
    """
    from nsgd.config import zone_of

    settings = load_settings().settings
    changes = {"sensitivity": sensitivity, "cloud_below": cloud_below, "clear_above": clear_above}
    alarm = settings.alarm.model_copy(update={name: value for name, value in changes.items() if value is not None})
    with open_reader() as reader:
        chosen = _night(reader, night)
        count = 0
        for alert in replayed(reader, chosen, settings, alarm):
            count += 1
            clock = f"{datetime.fromtimestamp(alert.created_utc_s, UTC).astimezone(zone_of(settings)):%H:%M:%S}"
            say(f"{clock}  {alert.title}")
            for line in alert.body.splitlines():
                say(f"          {line}")
    talk(f"{chosen}: {count} message{'' if count == 1 else 's'} would have been sent.")


def _night(reader: Reader, wanted: str | None) -> str:
    nights = sorted({row.session for row in reader.subs()})
    if not nights:
        raise BadRequest("The store holds no sub yet; there is no night to replay.")
    if wanted is not None and wanted not in nights:
        raise BadRequest(f"There is no night {wanted}; there are {', '.join(nights[-10:])}.")
    return wanted or nights[-1]


def replayed(reader: Reader, night: str, settings: Settings, alarm: Alarm) -> Iterator[Alert]:
    """Alerts of one night, each sub seen when its exposure ended."""
    from nsgd.config import zone_of
    from nsgd.export.judged import verdicts_of
    from nsgd.session.alerts import replay as through_alarm

    found = verdicts_of(reader, settings)
    rows = [row for row in found.rows if row.session == night and row.sub_id in found.verdicts]
    verdicts = [found.verdicts[row.sub_id] for row in rows]
    site = (settings.site.latitude_deg, settings.site.longitude_deg)
    for _, _, alerts in through_alarm(rows, verdicts, alarm, zone_of(settings), site):
        yield from alerts
