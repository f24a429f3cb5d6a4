"""Twelve secrets that must not appear anywhere: logs at DEBUG, store, process list, environment, screens, reports."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nsgd.records import Alert
from nsgd.session.store import Reader, Store
from tests.benchmarks.survive.stage import Stage

LOUD = "import logging; from nsgd.daemon import supervisor; "
LOUD += "old = supervisor.log_to_stderr; "
LOUD += "import nsgd.daemon.run as run; "
LOUD += "run.log_to_stderr = lambda *a: (old(*a), logging.getLogger().setLevel(logging.DEBUG)); "
LOUD += "from nsgd.cli.entry import main; main()"
"""nsgd with its log turned up to DEBUG."""


def word() -> str:
    """A secret that looks like one and can be found again."""
    return f"canary{secrets.token_hex(8)}"


def urls(canaries: list[str]) -> list[str]:
    """Twelve secrets over nine kinds of services; none of them is ever reached."""
    c = canaries
    return [
        f"ntfy://127.0.0.1:9/{c[0]}",
        f"ntfys://{c[1]}@127.0.0.1:9/topic",
        f"discord://{'1' * 18}/{c[2]}",
        f"slack://{c[3][:9].upper()}/{c[3][9:18].upper()}/{c[3]}xx",
        f"tgram://123456789:{c[4]}abcdefghijk/12345",
        f"pover://{'u' * 30}@{c[5]:x<30.30}",
        f"gotify://127.0.0.1:9/{c[6]}",
        f"json://user:{c[7]}@127.0.0.1:9/{c[8]}",
        f"mailto://someone:{c[9]}@127.0.0.1:9?smtp=127.0.0.1",
        f"xml://127.0.0.1:9/?+X-Token={c[10]}",
    ]


def written_config(folder: Path, stage: Stage, canaries: list[str]) -> Path:
    """A settings file with all the secrets."""
    config = folder / "config.toml"
    lines = [f"[watch]\nfolders = ['{stage.lights}']\nquiet_local_s = 0.0", "[notify]", f"urls = {urls(canaries)!r}"]
    lines += [f"heartbeat_url = 'http://127.0.0.1:9/{canaries[11]}'"]
    config.write_text("\n".join(lines) + "\n")
    config.chmod(0o600)
    return config


def run(folder: Path) -> tuple[list[str], list[str]]:
    """(places that were searched, hits); a hit names the place and the secret's number."""
    stage = Stage(folder)
    canaries = [word() for _ in range(12)]
    config = written_config(folder, stage, canaries)
    store = folder / "store"
    names = [f"s{number}" for number in range(1, len(urls(canaries)) + 1)]
    with Store.open(store, time.time()) as opened:
        opened.commit_alerts([Alert("test-1", "cloud", "Cloud", "T 0.5", time.time(), urgent=True)], names)
    # No request leaves this machine: every service fails, which is when libraries talk.
    environ = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    places: dict[str, str] = {}
    common = ["--config", str(config), "--store", str(store)]
    daemon = subprocess.Popen(
        [sys.executable, "-c", LOUD, "run", str(stage.lights), *common],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    deadline_s = time.monotonic() + 90.0
    while not (stage.complete(store) and tried(store)) and time.monotonic() < deadline_s and daemon.poll() is None:
        time.sleep(0.2)
    for name in ("cmdline", "environ"):
        places[f"process {name}"] = Path(f"/proc/{daemon.pid}/{name}").read_text(errors="replace")
    for command in commands(folder):
        done = subprocess.run(
            [sys.executable, "-m", "nsgd", *command, *common], env=environ, capture_output=True, text=True, timeout=60
        )
        places[f"nsgd {' '.join(command[:2])}"] = done.stdout + done.stderr
    daemon.send_signal(signal.SIGTERM)
    places["log"] = daemon.communicate(timeout=30)[0]
    places.update({str(path.relative_to(folder)): text for path, text in files(folder, config)})
    hits = [f"{place}: secret {number}" for place, text in places.items() for number in found(text, canaries)]
    assert tried(store), "no message was tried, so nothing could leak"
    return list(places), hits


def commands(folder: Path) -> list[list[str]]:
    """Everything that shows something about settings, services or the night."""
    return [
        ["status"],
        ["status", "--json"],
        ["config", "show"],
        ["config", "check"],
        ["notify", "list"],
        ["notify", "test"],
        ["doctor"],
        ["doctor", "--json"],
        ["export", "report", "--out", str(folder / "report")],
    ]


def tried(store: Path) -> bool:
    """Whether every service was tried."""
    with Reader.open(store) as reader:
        deliveries = [one for row in reader.alerts() for one in row.deliveries]
    return bool(deliveries) and all(one.tries for one in deliveries)


def files(folder: Path, config: Path) -> Iterator[tuple[Path, str]]:
    """Every file that was written, but the settings themselves and the captures."""
    for path in folder.rglob("*"):
        if path.is_file() and path != config and path.suffix != ".fits":
            yield path, path.read_bytes().decode("latin-1")


def found(text: str, canaries: list[str]) -> list[int]:
    """Numbers of the secrets that a text gives away, in any case, also by half."""
    low = text.lower()
    return [number for number, canary in enumerate(canaries) if canary[6:16] in low]
