"""The command line: the only place that builds real objects and maps errors to exit codes.

One module per group of commands; each imports what it needs inside the command, so that `nsgd --help` stays quick.
Start reading at `entry`, which holds the list of commands and the table of exit codes.
"""

from nsgd.cli.entry import main

__all__ = ["main"]
