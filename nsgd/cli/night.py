"""The live night: `nsgd run`, `nsgd dashboard`, `nsgd status`, `nsgd is-clear`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nsgd.cli.decisions import daemon_runs, series_name
from nsgd.cli.fleet import checked
from nsgd.cli.places import common_options, existing_folder, given, load_settings, open_reader, say, store_folder, talk
from nsgd.errors import BadRequest, StoreUnusable

if TYPE_CHECKING:
    from nsgd.dashboard.night import Night
    from nsgd.session.alerts import AlarmState

CLEAR, NOT_CLEAR, UNKNOWN = 0, 3, 4
"""Exit codes of `nsgd is-clear`."""


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER...]")
@common_options
def run(folders: tuple[str, ...]) -> int:
    """Watch folders and measure every sub that lands; in the foreground, until Ctrl-C or SIGTERM.

    \b
    Example: nsgd run ~/Lights

    Without FOLDER those of the settings are watched. Files that are there already are measured first. Nothing in
    the folders is ever changed.
    """
    from nsgd.daemon.run import run_daemon

    flags = {"watch.folders": [str(existing_folder(folder)) for folder in folders]} if folders else {}
    loaded = load_settings(flags)
    if not loaded.settings.watch.folders:
        raise BadRequest("Which folder does your capture program write into? Say `nsgd run FOLDER`.")
    return run_daemon(store_folder(own=True), loaded.settings, reload=lambda: load_settings(flags).settings)


@click.command()
@click.option(
    "--graph", type=click.Choice(["braille", "block", "ascii"]), default="braille", help="How graphs are drawn."
)
@click.option("--theme", default="", metavar="NAME", help="Such as nsgd-light or nsgd-red (night vision).")
@click.option("--read-only", is_flag=True, help="Only look: no accept, reject, acknowledge...")
@click.option(
    "--fleet", is_flag=False, flag_value=".", metavar="[URL]", help="All rigs of a fleet; without URL, publish.url."
)
@common_options
def dashboard(graph: str, theme: str, read_only: bool, fleet: str | None) -> int:
    """Show the night in the terminal: state, graphs, subs. Any number at once; q closes it, the daemon goes on.

    \b
    Example: nsgd dashboard
             nsgd dashboard --fleet
    """
    from nsgd.cli.apart import fleet_apart, terms_apart
    from nsgd.dashboard.start import run_dashboard, run_fleet
    from nsgd.whereabouts import store_at_once

    if theme:
        _check_theme(theme)
    if fleet is not None:
        whole = fleet_apart(given("config"), "" if fleet == "." else checked(fleet))
        return run_fleet(whole, marker=graph, theme=theme)
    terms, folder = terms_apart(given("config"), given("store")), store_at_once(given("store"), given("config"))
    return run_dashboard(terms, folder=folder, marker=graph, theme=theme, read_only=read_only)


def _check_theme(name: str) -> None:
    """Raises BadRequest where there is no such theme."""
    from nsgd.dashboard.themes import THEMES

    if name not in (known := [one.name for one in THEMES]):
        raise BadRequest(f"There is no theme {name!r}; there are {', '.join(known)}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@common_options
def status(as_json: bool) -> None:
    """Say in a few lines how the night goes.

    \b
    Example: nsgd status
             nsgd status --json | jq .sky
    """
    import json

    facts = _status(time.time())
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    say(facts["sentence"])
    daemon = facts["daemon"]
    say(f"daemon   {'running, process ' + str(daemon['pid']) if daemon['running'] else 'not running'}")
    for folder in daemon["folders"]:
        say(f"folder   {folder['path']} ({' '.join(part for part in (folder['mode'], folder['message']) if part)})")
    for one in facts["series"]:
        say(
            f"series   {one['name']}: {one['kept']} of {one['subs']} kept, {one['effective_h']:.2f} h effective of "
            f"{one['taken_h']:.2f} h, reference {one['reference'] or 'none yet'}"
        )
    if facts["ignored"]:
        say("ignored  " + ", ".join(f"{count} {kind}" for kind, count in sorted(facts["ignored"].items())))
    for item in facts["unreadable"][-5:]:
        say(f"unread   {item['path']}: {item['sentence']}")
    say(f"store    {facts['store']}")


@click.command("is-clear")
@click.option("--quiet", "-q", is_flag=True, help="Only the exit code.")
@common_options
def is_clear(quiet: bool) -> int:
    """For sequencers: exit code 0 clear, 3 not clear, 4 unknown (no fresh sub, daylight, learning, daemon down).

    \b
    Example: nsgd is-clear && echo "go on imaging"
    """
    try:
        facts = _status(time.time())
    except StoreUnusable as problem:
        talk(problem.sentence)
        return UNKNOWN
    if not quiet:
        say(facts["sentence"])
    known = facts["clear"]
    return UNKNOWN if known is None else CLEAR if known else NOT_CLEAR


def _status(now_utc_s: float) -> dict[str, Any]:
    """Everything `nsgd status` says, as plain values; None where a figure is missing."""
    from nsgd.dashboard.headline import headline, say
    from nsgd.dashboard.night import Night
    from nsgd.session.alerts import is_clear as may_go_on

    settings = load_settings().settings
    with open_reader() as reader:
        night = Night(limits=settings.limits)
        night.merge(reader.changes_since(0))
        ignored, unreadable, running = reader.ignored(), reader.unreadable(), daemon_runs(reader)
    newest = night.newest()
    line = headline(night, night.view(newest.series_id) if newest else None, now_utc_s)
    daemon = night.daemon
    return {
        "sky": line.word.lower(),
        "note": line.note.lower(),
        "clear": None if line.note or newest is None else may_go_on(_alarm(night), settings.alarm),
        "transmission": _number(line.transmission),
        "last_sub_age_s": _number(line.age_s),
        "last_sub": newest.path if newest else None,
        "sentence": say(line, 200, plain=True),
        "daemon": {
            "running": running,
            "pid": daemon.pid if daemon else None,
            "pending": daemon.pending if daemon else None,
            "message": daemon.message if daemon else "",
            "folders": [
                {"path": folder.path, "mode": folder.mode, "message": folder.message}
                for folder in (daemon.folders if daemon else ())
            ],
        },
        "series": [_series_facts(night, series_id) for series_id in night.series],
        "ignored": ignored,
        "unreadable": [{"path": item.path, "sentence": item.sentence} for item in unreadable],
        "store": str(reader.folder),
    }


def _alarm(night: Night) -> AlarmState:
    """The alarm as the daemon has judged it; where none did, the sky after the newest subs."""
    from nsgd.session.alerts import AlarmState

    return AlarmState.from_json(night.alarm_text) if night.told_all else AlarmState(seen=night.rebuilt())


def _series_facts(night: Night, series_id: int) -> dict[str, Any]:
    view = night.view(series_id, "")
    assert view is not None, "the series is known"
    kept = view.kept()
    return {
        "name": series_name(view.series),
        "subs": kept.subs,
        "kept": kept.kept,
        "taken_h": kept.taken_s / 3600.0,
        "effective_h": kept.effective_s / 3600.0,
        "reference": night.path_of(view.series.reference_id) or None,
        "nights": list(view.sessions),
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else round(value, 6)
