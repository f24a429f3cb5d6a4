"""What a person decides (reference, limits, accept, reject, ack...): each a request that the daemon applies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nsgd.cli.places import common_options, load_settings, open_reader, say, store_folder, talk
from nsgd.errors import BadRequest

if TYPE_CHECKING:
    from nsgd.records import SeriesRow, SubRow
    from nsgd.session.store import Reader

series_option = click.option("--series", "series_text", metavar="TEXT", help="Its number, filter, object or key.")

NO_SERIES = "No series is known yet: the first sub that can be measured makes one."
WAIT_S = 5.0
"""How long a command waits to see its request applied."""


def find_series(reader: Reader, text: str | None) -> SeriesRow:
    """The one series that a text means; without a text the only one there is.

    Raises
    ------
    BadRequest
        None or several fit; the sentence lists them.
    """
    everything = reader.series()
    if not everything:
        raise BadRequest(NO_SERIES)
    wanted = (text or "").casefold()
    exact = [one for one in everything if wanted in (str(one.series_id), one.filter_name.casefold(), one.key)]
    part = [one for one in everything if wanted in f"{one.object_name} {one.filter_name} {one.key}".casefold()]
    found = exact or part
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{one.series_id} = {series_name(one)}" for one in everything)
    problem = "Several series fit" if found else "No series fits"
    raise BadRequest(f'{problem} "{text or ""}"; name one with --series: {listed}.')


def series_name(series: SeriesRow) -> str:
    """What people call a series."""
    return f"{series.object_name or 'unnamed'} {series.filter_name}"


def find_one_sub(reader: Reader, text: str) -> SubRow:
    """The one sub whose path or name a text gives.

    Raises
    ------
    BadRequest
        None or several fit.
    """
    found = reader.find_sub(text)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadRequest(f"The store knows no sub {text}; `nsgd export csv` lists all, `nsgd status` says which store.")
    listed = ", ".join(row.path for row in found[:4])
    raise BadRequest(f"{len(found)} subs are called {text}; give the path of one: {listed}.")


def ask(kind: str, args: dict[str, Any], done: str) -> None:
    """Leave a request for the daemon, wait a moment for it to be applied, and say what came of it.

    Raises
    ------
    BadRequest
        The daemon refused it.
    """
    from nsgd.session.store import Reader, add_request

    folder = store_folder()
    request_id = add_request(folder, kind, args, time.time())
    with Reader.open(folder) as reader:
        if not daemon_runs(reader):
            talk(f"{done} No daemon runs on this store: `nsgd apply` makes it so now.")
            return
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            request = next(one for one in reader.requests(pending=False) if one.request_id == request_id)
            if request.state == "refused":
                raise BadRequest(request.result)
            if request.state == "applied":
                talk(done if request.result in ("", "done") else f"{done} ({request.result})")
                return
            time.sleep(0.1)
    talk(f"{done} The daemon is busy and does it next.")


def daemon_runs(reader: Reader) -> bool:
    """True where a daemon is alive on this store."""
    status = reader.daemon()
    return status is not None and status.alive(time.time())


@click.group()
@common_options
def reference() -> None:
    """Show or choose the sub that the others are compared with; needs no file and takes no time.

    \b
    Example: nsgd reference set M31_Ha_0042.fits
    """


@reference.command("show")
@common_options
def reference_show() -> None:
    """Print the reference of every series.

    \b
    Example: nsgd reference show
    """
    with open_reader() as reader:
        for series in reader.series():
            name = reader.sub(series.reference_id).path if series.reference_id else "none yet"
            how = "chosen by you" if series.reference_chosen else "automatic"
            say(series_name(series), name, how)


@reference.command("set")
@click.argument("file")
@common_options
def reference_set(file: str) -> None:
    """Make FILE the reference of its series.

    \b
    Example: nsgd reference set M31_Ha_0042.fits
    """
    with open_reader() as reader:
        row = find_one_sub(reader, file)
    if row.failure is not None:
        raise BadRequest(f"{row.path} could not be measured ({row.failure.sentence}) and cannot be the reference.")
    ask("reference", {"sub_id": row.sub_id, "series_id": row.series_id}, f"{row.path} becomes the reference.")


@reference.command("auto")
@series_option
@common_options
def reference_auto(series_text: str | None) -> None:
    """Let nsgd choose the reference again: high weight, small simple gradient, good stars, clear sky.

    \b
    Example: nsgd reference auto --series Ha
    """
    with open_reader() as reader:
        chosen = [find_series(reader, series_text)] if series_text else reader.series()
    if not chosen:
        raise BadRequest(NO_SERIES)
    for series in chosen:
        args = {"sub_id": "auto", "series_id": series.series_id}
        ask("reference", args, f"nsgd chooses the reference of {series_name(series)}.")


@click.group()
@common_options
def limits() -> None:
    """Show or set the cut-offs of a series.

    \b
    Example: nsgd limits set --series Ha --transmission 0.6
    """


@limits.command("show")
@common_options
def limits_show() -> None:
    """Print the cut-offs in force for every series.

    \b
    Example: nsgd limits show
    """
    settings = load_settings().settings.limits
    with open_reader() as reader:
        for series in reader.series():
            figures = settings.model_dump() | series.limits
            said = [f"{name} {value:g}{'*' if name in series.limits else ''}" for name, value in figures.items()]
            say(series_name(series), *said)
    talk("* = set for this series; the others come from the settings.")


@limits.command("set")
@series_option
@click.option("--transmission", type=click.FloatRange(0, 1), help="Reject below this clear-sky transmission.")
@click.option("--weight", type=click.FloatRange(0, 1), help="Reject below this weight, per exposure, of the best.")
@click.option("--fwhm-px", type=click.FloatRange(0, 100), help="Reject stars wider than this; 0 = off.")
@click.option("--ellipticity", type=click.FloatRange(0, 1), help="Reject stars more elongated than this; 1 = off.")
@click.option("--reset", is_flag=True, help="Back to the settings.")
@common_options
def limits_set(series_text: str | None, reset: bool, **given: float | None) -> None:
    """Set cut-offs of one series; every sub of it is judged anew.

    \b
    Example: nsgd limits set --series Ha --transmission 0.6 --weight 0.3
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted and not reset:
        raise BadRequest("Name a cut-off to set, such as --transmission 0.6, or --reset.")
    with open_reader() as reader:
        series = find_series(reader, series_text)
    figures = wanted if reset else series.limits | wanted
    said = ", ".join(f"{name} {value:g}" for name, value in figures.items()) or "as in the settings"
    ask("limits", {"series_id": series.series_id, "limits": figures}, f"Cut-offs of {series_name(series)}: {said}.")


def _decide(kind: str, files: tuple[str, ...], done: str) -> None:
    with open_reader() as reader:
        rows = [find_one_sub(reader, file) for file in files]
    for row in rows:
        ask(kind, {"sub_id": row.sub_id}, f"{row.path} {done}")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@common_options
def accept(files: tuple[str, ...]) -> None:
    """Keep subs whatever the cut-offs say.

    \b
    Example: nsgd accept M31_Ha_0042.fits
    """
    _decide("accept", files, "is accepted.")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@common_options
def reject(files: tuple[str, ...]) -> None:
    """Leave subs out whatever the cut-offs say; no file is touched.

    \b
    Example: nsgd reject M31_Ha_0042.fits
    """
    _decide("reject", files, "is rejected.")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@common_options
def undo(files: tuple[str, ...]) -> None:
    """Take back accept or reject: the cut-offs decide again.

    \b
    Example: nsgd undo M31_Ha_0042.fits
    """
    _decide("undo", files, "is left to the cut-offs.")


@click.command()
@common_options
def ack() -> None:
    """Acknowledge the alert: no reminder until the sky changes.

    \b
    Example: nsgd ack
    """
    ask("ack", {}, "Acknowledged.")


@click.command()
@click.argument("minutes", type=click.IntRange(1, 1440), default=30)
@common_options
def snooze(minutes: int) -> None:
    """Keep the phone quiet for some MINUTES (30).

    \b
    Example: nsgd snooze 60
    """
    ask("snooze", {"minutes": minutes}, f"The phone stays quiet for {minutes} minutes.")


@click.command()
@common_options
def apply() -> int:
    """Apply what was decided while no daemon runs; takes the daemon's place for a moment. Exit code 1 if refused.

    \b
    Example: nsgd apply --store night
    """
    from nsgd.config import zone_of
    from nsgd.daemon.apply import apply_requests
    from nsgd.session.alerts import AlarmState
    from nsgd.session.store import ALARM_STATE, Reader, Store
    from nsgd.walk import Walker

    folder, settings = store_folder(), load_settings().settings
    with Reader.open(folder) as reader:
        waiting = {request.request_id for request in reader.requests()}
    store = Store.open(folder, time.time())
    with store:
        walker = Walker(store, settings, zone_of(settings))
        apply_requests(store, walker, AlarmState.from_json(store.state(ALARM_STATE)), time.time())
        handled = [request for request in store.requests(pending=False) if request.request_id in waiting]
    for request in handled:
        talk(f"{request.kind}: {request.state} ({request.result})")
    talk(f"{len(handled)} applied." if handled else "Nothing is waiting.")
    return int(any(request.state == "refused" for request in handled))
