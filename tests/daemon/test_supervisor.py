"""What systemd and the journal get to see."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from nsgd.daemon.supervisor import LineFormatter, Supervisor


def heard(ear: socket.socket) -> list[str]:
    ear.setblocking(False)
    words = []
    while True:
        try:
            words.append(ear.recv(4096).decode())
        except BlockingIOError:
            return words


def test_the_watchdog_is_fed_by_progress_three_times_per_limit(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "n"))
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "60000000"})
        for now_s in range(60):
            supervisor.progress(float(now_s))
        assert heard(ear) == ["WATCHDOG=1"] * 3


def test_abstract_sockets_work_and_the_same_status_is_said_once() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0nsgd-test-supervisor")
        supervisor = Supervisor({"NOTIFY_SOCKET": "@nsgd-test-supervisor"})
        supervisor.ready("clear")
        supervisor.status("clear")
        supervisor.status("cloudy\nREADY=1")
        supervisor.progress(0.0)
        assert heard(ear) == ["READY=1\nSTATUS=clear", "STATUS=cloudy\\nREADY=1"]


def test_without_systemd_nothing_is_sent() -> None:
    supervisor = Supervisor({})
    supervisor.ready("x")
    supervisor.progress(0.0)
    supervisor.stopping()


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("nsgd", level, "f", 1, message, args, None)


def test_a_file_name_cannot_forge_a_log_line() -> None:
    text = LineFormatter(levels=True).format(
        record("%s: failed", "a\n<1>forged \x1b]0;x\x07.fits", level=logging.WARNING)
    )
    assert text == "<4>a\\n<1>forged \\x1b]0;x\\x07.fits: failed"


def test_every_line_of_a_traceback_has_its_level() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        entry = record("internal error", level=logging.ERROR)
        entry.exc_info = (ValueError, error, error.__traceback__)
    lines = LineFormatter(levels=True).format(entry).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_without_journal_there_is_a_time_and_no_level() -> None:
    assert LineFormatter(levels=False).format(record("ready")).endswith(" ready")
