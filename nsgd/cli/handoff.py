"""The morning: `nsgd export`, `nsgd blink`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsgd.cli.places import common_options, existing_folder, load_settings, open_reader, talk
from nsgd.errors import StoreUnusable

if TYPE_CHECKING:
    from nsgd.export.carried import Carried
    from nsgd.export.outcome import Outcome

out_option = click.option("--out", required=True, metavar="DIR", help="Folder to write into; made where missing.")
path_map_option = click.option(
    "--path-map", "path_maps", multiple=True, metavar="FROM=TO", help="How the stacking machine sees the folder FROM."
)
force_option = click.option("--force", is_flag=True, help="Replace files that exist.")


@click.group()
@common_options
def export() -> None:
    """Hand the night over: tables, pictures, PixInsight, Siril, the morning report.

    \b
    Example: nsgd export report --out morning
    """


@export.command("csv")
@out_option
@force_option
@common_options
def export_csv(out: str, force: bool) -> None:
    """Write DIR/subs.csv: every figure of every sub.

    \b
    Example: nsgd export csv --out morning
    """
    from nsgd.export.table import export_csv as write

    settings = load_settings().settings
    with open_reader() as reader:
        click.echo(write(reader, Path(out), settings, force=force))


@export.command("pixinsight")
@click.option("--registered", required=True, metavar="DIR", help="Folder of calibrated, registered frames.")
@path_map_option
@out_option
@force_option
@common_options
def export_pixinsight(registered: str, path_maps: tuple[str, ...], out: str, force: bool) -> None:
    """Measure registered frames and write .xnml files and a script that fills ImageIntegration.

    \b
    Example: nsgd export pixinsight --registered registered --out nsg --path-map /mnt/astro=D:/astro

    What was decided during the night (accept, reject, reference, smoothness) is carried over from the store.
    """
    from nsgd.export.paths import parse_map
    from nsgd.export.pixinsight import Job
    from nsgd.export.pixinsight import export_pixinsight as write

    settings = load_settings().settings
    job = Job(existing_folder(registered), Path(out), parse_map(path_maps), force)
    with progress_on_stderr() as progress:
        outcome = write(job, settings, _carried(), time.time(), progress)
    _tell(outcome, out)


@export.command("siril")
@path_map_option
@out_option
@force_option
@common_options
def export_siril(path_maps: tuple[str, ...], out: str, force: bool) -> None:
    """Write a script and a sequence with the rejected subs unselected for Siril, and lists for other stackers.

    \b
    Example: nsgd export siril --out morning
    """
    from nsgd.export.paths import parse_map
    from nsgd.export.siril import export_siril as write

    settings, path_map = load_settings().settings, parse_map(path_maps)
    with open_reader() as reader, progress_on_stderr() as progress:
        outcome = write(reader, Path(out), settings, path_map=path_map, force=force, progress=progress)
    _tell(outcome, out)


@export.command("images")
@click.option("--unregistered", is_flag=True, help="Leave every pixel where it was; for programs that register.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["fits", "xisf"]),
    default="fits",
    show_default=True,
    help="Kind of file; XISF is PixInsight's own.",
)
@out_option
@force_option
@common_options
def export_images(unregistered: bool, kind: str, out: str, force: bool) -> None:
    """Write the accepted subs registered, normalised and gradient-matched, for any stacker.

    \b
    Example: nsgd export images --out normalised
    """
    from nsgd.export.images import Manner
    from nsgd.export.images import export_images as write

    settings = load_settings().settings
    manner = Manner(not unregistered, kind, time.time(), force)
    with open_reader() as reader, progress_on_stderr() as progress:
        outcome = write(reader, Path(out), settings, manner, progress)
    _tell(outcome, out)


@export.command("report")
@click.option("--session", metavar="DATE", help="Night to report, YYYY-MM-DD; default: the last.")
@out_option
@force_option
@common_options
def export_report(session: str | None, out: str, force: bool) -> None:
    """Write the morning report: one web page with graphs, hours kept and lost and why, and every sub.

    \b
    Example: nsgd export report --out morning
    """
    from nsgd.export.report import export_report as write

    settings = load_settings().settings
    with open_reader() as reader, progress_on_stderr() as progress:
        outcome = write(reader, Path(out), settings, session=session, force=force, progress=progress)
    _tell(outcome, out)


@click.command()
@click.option("--out", required=True, metavar="FILE.html", help="The page to write.")
@force_option
@common_options
def blink(out: str, force: bool) -> None:
    """Write one web page that blinks the best subs of every series, to choose the reference by keys or touch.

    \b
    Example: nsgd blink --out blink.html
    """
    from nsgd.export.blink import export_blink

    settings = load_settings().settings
    with open_reader() as reader, progress_on_stderr() as progress:
        written = export_blink(reader, Path(out), settings, force=force, progress=progress)
    click.echo(written)


def _tell(outcome: Outcome, out: str) -> None:
    """Say what was written, and what the user should know."""
    for warning in outcome.warnings:
        talk(f"warning: {warning}")
    for line in outcome.summary:
        talk(line)
    talk(f"{len(outcome.files)} file{'' if len(outcome.files) == 1 else 's'} written.")
    click.echo(Path(out).resolve())


def _carried() -> Carried:
    """Decisions of the live night, none where there is no store."""
    from nsgd.export.carried import Carried

    try:
        with open_reader() as reader:
            return Carried.from_store(reader)
    except StoreUnusable as problem:
        talk(f"{problem.sentence} No decision of a live night is carried over.")
        return Carried()


@contextmanager
def progress_on_stderr() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar that is told (done, total, what)."""
    with click.progressbar(length=1, file=sys.stderr, width=30, item_show_func=lambda what: what) as bar:

        def tell(done: int, total: int, what: str) -> None:
            bar.length = total
            bar.update(done - bar.pos, what)

        yield tell
