"""A private PostgreSQL: real server programs, temporary folder, loopback only."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Folder of the server's programs: on PATH, or where Debian puts them."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


def unprivileged() -> list[str]:
    """What runs a program as nobody where the tests run as root, which the server refuses."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups"]


class Server:
    """One private server; it can be stopped and started again to play an outage."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs, self._data, self._port = programs, folder / "data", port
        self._options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        self._run("initdb", "-D", str(self._data), "-U", "admin", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        # Rigs prove themselves by password, as they do in the wild.
        (self._data / "pg_hba.conf").write_text(
            "host all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*unprivileged(), str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=60)

    def start(self) -> None:
        log = str(self._data.parent / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", self._options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    @property
    def log(self) -> str:
        """Everything that the server has written down."""
        return (self._data.parent / "log").read_text(encoding="utf-8")

    def url(self, database: str) -> str:
        """The administrator's address of a database."""
        return f"postgresql://admin@127.0.0.1:{self._port}/{database}"


@contextmanager
def private_server(programs: Path) -> Iterator[Server]:
    """A server that is gone afterwards with all that it held."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        one = Server(programs, folder, port)
        try:
            yield one
        finally:
            one.stop()
