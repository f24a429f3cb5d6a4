"""The command line: the only place that builds real objects and maps errors to exit codes.

One module per group of commands; each imports what it needs inside the command, so that `nsgd --help` stays quick.
Start reading at `entry`, which holds the list of commands and the table of exit codes.
"""

import os
from typing import NoReturn

__all__ = ["main"]

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main() -> NoReturn:
    """Entry point of `nsgd`; the commands are loaded by whoever wants them, which is not every process of this room."""
    # Read when the numerics load. Matrices are small here: threads of their own would only wait for each other, take
    # more of the processor than the settings allow, and make the last digits depend on the machine.
    for name in BLAS_THREADS:
        os.environ.setdefault(name, "1")
    from nsgd.cli import entry

    entry.main()
