"""The morning: `nsgd export`, `nsgd blink`."""

from __future__ import annotations

from pathlib import Path

import click

from nsgd.cli.places import common_options, load_settings, open_reader

out_option = click.option("--out", required=True, metavar="DIR", help="Folder to write into; made where missing.")
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
