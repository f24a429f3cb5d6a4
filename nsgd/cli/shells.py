"""`nsgd completion`: completion of commands and options for the shell."""

from __future__ import annotations

import click

from nsgd.cli.places import common_options


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Example: nsgd completion bash > ~/.local/share/bash-completion/completions/nsgd
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    script_class = get_completion_class(shell)
    if script_class is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script_class(root, {}, "nsgd", "_NSGD_COMPLETE").source())
