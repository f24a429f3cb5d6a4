"""The units as a service manager sees them: accepted, walled in, no open port, a hung daemon replaced in time."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

UNITS = Path(__file__).parents[3] / "systemd"
MOST = {"nsgd.service": 15, "nsgd-user.service": 25}
"""Exposure that systemd-analyze may find, in tenths."""
LISTENS = "0A"
"""State of a listening socket in /proc/net/tcp."""


def analyzed(*words: str, runtime: Path) -> tuple[int, str]:
    """Exit code and text of systemd-analyze."""
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, env=environ, timeout=60)
    return done.returncode, done.stdout + done.stderr


def verified(name: str, runtime: Path) -> str:
    """What systemd says against a unit, "" for nothing."""
    user = ["--user"] if "user" in name else []
    code, text = analyzed("verify", *user, str(UNITS / name), runtime=runtime)
    return text if text or code == 0 else f"exit code {code}"


def exposure(name: str, runtime: Path) -> tuple[float, bool]:
    """The exposure that systemd-analyze finds, and whether it is low enough."""
    words = ("security", "--offline=yes", f"--threshold={MOST[name]}", str(UNITS / name))
    code, text = analyzed(*words, runtime=runtime)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", text)
    return (float(found[1]) if found else float("nan")), code == 0


def seconds_of(name: str, key: str) -> float:
    """A time of a unit that is written as plain seconds."""
    found = re.search(rf"^{key}=([0-9.]+)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{name} has no {key}"
    return float(found[1])


@dataclass
class Manager:
    """Starts the daemon, listens to it, kills it where it falls silent and starts it anew, as systemd does."""

    folder: Path
    watchdog_s: float
    restart_s: float
    ear: socket.socket = field(init=False)
    daemon: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(str(self.folder / "notify"))
        self.ear.settimeout(0.05)
        (self.folder / "lights").mkdir(exist_ok=True)
        (self.folder / "empty.toml").touch(mode=0o600)
        self.start()

    def start(self) -> None:
        """Start the daemon and wait for its READY."""
        words = [
            sys.executable,
            "-m",
            "nsgd",
            "run",
            str(self.folder / "lights"),
            "--store",
            str(self.folder / "store"),
        ]
        environ = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": str(int(1e6 * self.watchdog_s)),
        }
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [*words, "--config", str(self.folder / "empty.toml")], env=environ, stderr=log, start_new_session=True
            )
        while "READY=1" not in self.heard():
            assert self.daemon.poll() is None, "the daemon ended before it was ready"

    def heard(self) -> str:
        """The next word, "" where none comes for a moment."""
        try:
            return self.ear.recv(4096).decode()
        except TimeoutError:
            return ""

    def watch(self) -> float:
        """Watch the daemon until it has been replaced; seconds since its last word."""
        fed_s = time.monotonic()
        while time.monotonic() - fed_s < self.watchdog_s:
            if "WATCHDOG=1" in self.heard():
                fed_s = time.monotonic()
        self.daemon.kill()
        self.daemon.wait()
        time.sleep(self.restart_s)
        self.start()
        return time.monotonic() - fed_s

    def close(self) -> None:
        """End the daemon."""
        self.daemon.terminate()
        self.daemon.wait(60)
        self.ear.close()


@contextmanager
def managed(folder: Path, watchdog_s: float, restart_s: float) -> Iterator[Manager]:
    """A running daemon under a service manager."""
    manager = Manager(folder, watchdog_s, restart_s)
    try:
        yield manager
    finally:
        manager.close()


def replaced_after_s(manager: Manager) -> float:
    """Hang the daemon with all its threads; seconds until another one is ready."""
    begun_s = time.monotonic()
    manager.daemon.send_signal(signal.SIGSTOP)
    manager.watch()
    return time.monotonic() - begun_s


def niceness(pid: int) -> tuple[int, int | None]:
    """Niceness of a process, and of its session where the system shares the processor out to sessions."""
    try:
        session = Path(f"/proc/{pid}/autogroup").read_text(encoding="ascii").split()[-1]
    except OSError:
        return os.getpriority(os.PRIO_PROCESS, pid), None
    return os.getpriority(os.PRIO_PROCESS, pid), int(session)


def open_ports(pid: int) -> list[str]:
    """Local addresses of all TCP sockets on which a process listens."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    ports = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENS and words[9] in own:
                ports.append(words[1])
    return ports
