"""The daemon's voice to systemd: readiness, progress and log levels (sd_notify(3), sd-daemon(3)); no library.

Without systemd nothing is sent, and the log carries the time of day instead of levels.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping

_SYSLOG = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class Supervisor:
    """Sends the daemon's state to the service manager that started it.

    Parameters
    ----------
    environ
        NOTIFY_SOCKET and WATCHDOG_USEC say where to and how often.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        # A third of the time that the manager allows, so that one late word does no harm.
        self._pause_s = int(usec) / 3e6 if usec.isdigit() and int(usec) else 0.0
        self._next_s = float("-inf")
        self._status = ""

    def ready(self, status: str) -> None:
        """The daemon watches (again)."""
        self._status = status
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        """New settings are being read; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon ends by itself."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; the same line twice is sent once."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={_one_line(status)}")

    def progress(self, now_s: float) -> None:
        """The loop goes round: feeds the watchdog. `now_s` is monotonic."""
        if self._pause_s and now_s >= self._next_s:
            self._next_s = now_s + self._pause_s
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the zero byte of an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.connect(address)
                line.sendall(message.encode("utf-8", "replace"))
        except OSError as problem:
            logging.getLogger(__name__).warning("the service manager cannot be reached: %s", problem)


class LineFormatter(logging.Formatter):
    """One record, one safe line a line of text: nothing in a file name can forge or colour the log.

    Parameters
    ----------
    levels
        True puts systemd's <N> before each line; False the time of day.
    """

    def __init__(self, *, levels: bool) -> None:
        super().__init__("%(message)s" if levels else "%(asctime)s %(message)s", "%H:%M:%S")
        self._levels = levels

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; what a message says stays on one line, a traceback keeps its lines."""
        record = logging.makeLogRecord({**record.__dict__, "msg": _one_line(record.getMessage()), "args": ()})
        lines = [_one_line(line) for line in super().format(record).split("\n")]
        if not self._levels:
            return "\n".join(lines)
        level = next(number for floor, number in _SYSLOG if record.levelno >= floor)
        return "\n".join(f"<{level}>{line}" for line in lines)


def log_to_stderr(environ: Mapping[str, str], secrets: logging.Filter) -> None:
    """Send the log of nsgd to stderr, once a process, cleaned of secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(levels=_is_journal(environ)))
    handler.addFilter(secrets)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, LineFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr is the journal's stream, as JOURNAL_STREAM (device:inode) claims."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{about.st_dev}:{about.st_ino}"


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
