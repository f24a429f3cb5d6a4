"""`nsgd completion`: completion of commands and options for the shell, and the manual page."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from nsgd.cli.places import common_options


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "man"]))
@common_options
def completion(shell: str) -> None:
    """Print the completion script for a shell, or (man) the manual page.

    \b
    Example: nsgd completion bash > ~/.local/share/bash-completion/completions/nsgd
             nsgd completion man > ~/.local/share/man/man1/nsgd.1
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    script = get_completion_class(shell)
    if script is not None:
        click.echo(script(root, {}, "nsgd", "_NSGD_COMPLETE").source())
    else:
        click.echo("\n".join(manual_page(root)))


def manual_page(root: click.Command) -> Iterator[str]:
    """The manual page of all commands, line by line, in man(7) macros."""
    from nsgd import __version__

    yield f'.TH NSGD 1 "" "nsgd {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "nsgd \\- watches a capture folder, measures every sub and rings on cloud"
    yield ".SH SYNOPSIS"
    yield ".B nsgd\n[\\-\\-store PATH] [\\-\\-config PATH] COMMAND [ARGS]..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(root.help or "")
    yield ".PP\nEvery command takes \\-\\-store PATH (the store) and \\-\\-config PATH (the settings file)."
    yield ".SH COMMANDS"
    yield from _commands(root, click.Context(root, info_name="nsgd"))
    yield ".SH NOTES"
    yield from _paragraphs(root.epilog or "")


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _commands(inner, click.Context(inner, info_name=name, parent=context))
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {_escaped(context.command_path)} {_escaped(usage)}"
    yield from _paragraphs(command.help or "")
    shared = ("config", "store")
    records = [part.get_help_record(context) for part in command.params if part.name not in shared]
    for record in records:
        if record and record[1]:
            yield f".TP\n.B {_escaped(record[0])}\n{_escaped(record[1])}"


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those that click keeps as they are (\\b) stay as they are."""
    for paragraph in cleandoc(text).split("\n\n"):
        as_it_is = paragraph.lstrip().startswith("\b")
        body = _escaped(paragraph.replace("\b", "").strip("\n"))
        yield f".PP\n.nf\n{body}\n.fi" if as_it_is else f".PP\n{body}"


def _escaped(text: str) -> str:
    """Text in which man reads no command."""
    lines = (line.replace("\\", "\\e").replace("-", "\\-") for line in text.splitlines())
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)
