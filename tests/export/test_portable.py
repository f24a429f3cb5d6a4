"""Exports run where the stack is made: no module that only Unix has stands in their way."""

from __future__ import annotations

import subprocess
import sys

UNIX_ONLY = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "crypt", "posix_ipc")
ROOMS = "carried cores files images integration judged pixinsight registered report siril table xisf xnml".split()  # noqa: SIM905


def test_every_export_can_be_imported_without_unix_modules() -> None:
    code = (
        f"import sys\nfor name in {UNIX_ONLY!r}: sys.modules[name] = None\n"
        f"import importlib\nfor room in {ROOMS!r}: importlib.import_module('nsgd.export.' + room)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
