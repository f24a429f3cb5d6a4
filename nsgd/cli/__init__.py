"""The command line: the only place that builds real objects and maps errors to exit codes.

One module per group of commands; each imports what it needs inside the command, so that `nsgd --help` stays quick.
Start reading at `entry`, which holds the list of commands and the table of exit codes.
"""

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of `nsgd`; the commands are loaded by whoever wants them, which is not every process of this room."""
    from nsgd.cli import entry

    entry.main()
