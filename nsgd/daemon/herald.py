"""Tells other programs how the sky is: state file, hook command, MQTT, heartbeat. Latest word only, never in the way.

A thread with a one-place mailbox: the loop drops the newest state into it and goes on. What hangs or fails here
(a script, a broker, a web server) is logged and tried again with the next word; it delays no sub and no alert.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apprise

from nsgd.daemon.notify import quiet_foreign_loggers
from nsgd.errors import BadRequest
from nsgd.settings import Settings

log = logging.getLogger(__name__)

HEARTBEAT_S = 240.0
HOOK_LIMIT_S = 60.0
HTTP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Ears:
    """Who wants to be told; empty = nobody."""

    state_file: Path | None = None
    hook: tuple[str, ...] = ()
    mqtt_url: str = ""
    heartbeat_url: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Ears:
        """The listeners that the settings name."""
        notify = settings.notify
        return cls(
            state_file=Path(notify.state_file).expanduser() if notify.state_file else None,
            hook=settings.alarm.on_change,
            mqtt_url=notify.mqtt_url.get_secret_value(),
            heartbeat_url=notify.heartbeat_url.get_secret_value(),
        )


def write_state(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report as JSON, whole or not at all: readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def run_hook(command: Sequence[str], report: Mapping[str, Any]) -> int:
    """Run the user's command with the state in its environment; its exit code, or 127 where it cannot run.

    NSGD_STATE, NSGD_CAUSE and NSGD_TRANSMISSION ("" where unknown) say how the sky is. The words go to the
    program as they are, no shell reads them.
    """
    shown = {"NSGD_STATE": "state", "NSGD_CAUSE": "cause", "NSGD_TRANSMISSION": "transmission"}
    values = {name: "" if report.get(key) is None else str(report[key]) for name, key in shown.items()}
    secret = [name for name in os.environ if name.startswith(("NSGD_NOTIFY", "NSGD_PUBLISH", "CREDENTIALS"))]
    environment = {name: value for name, value in os.environ.items() if name not in secret} | values
    try:
        done = subprocess.run(
            list(command), env=environment, timeout=HOOK_LIMIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        log.warning("alarm.on_change: %s", problem)
        return 127
    if done.returncode:
        log.warning("alarm.on_change ended with exit code %d", done.returncode)
    return done.returncode


def publish(mqtt_url: str, report: Mapping[str, Any]) -> bool:
    """Publish the report as a retained MQTT message, so that who subscribes later gets it at once.

    Raises
    ------
    BadRequest
        The URL is none, or the library for MQTT is missing.
    """
    retained = mqtt_url if "retain=" in mqtt_url else f"{mqtt_url}{'&' if '?' in mqtt_url else '?'}retain=yes"
    service = apprise.Apprise(asset=apprise.AppriseAsset(storage_mode="memory"))
    if not service.add(retained):
        raise BadRequest("notify.mqtt_url cannot be used: is it an mqtt:// URL, and is paho-mqtt installed?")
    with service.notify(body=json.dumps(report, sort_keys=True), body_format=apprise.NotifyFormat.TEXT) as result:
        return bool(result)


def ping(url: str) -> bool:
    """Call the heartbeat URL; True where it answers."""
    if not url.startswith(("http://", "https://")):
        log.warning("notify.heartbeat_url is no http(s) address")
        return False
    try:
        with urllib.request.urlopen(url, timeout=HTTP_LIMIT_S) as reply:
            return 200 <= int(reply.status) < 300
    except (OSError, ValueError) as problem:
        log.warning("heartbeat: no answer (%s)", type(problem).__name__)
        return False


class Herald(threading.Thread):
    """The thread that tells the listeners.

    Parameters
    ----------
    ears
        Who wants to be told.
    clock
        Monotonic seconds.
    """

    def __init__(self, ears: Ears, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name="nsgd-herald", daemon=True)
        self._ears = ears
        self._clock = clock
        self._news = threading.Condition()
        self._report: dict[str, Any] | None = None
        self._alive_at = 0.0
        self._stopping = False
        self._told = ""
        self._pinged_at = -HEARTBEAT_S

    def tell(self, report: Mapping[str, Any]) -> None:
        """Hand over the newest state (`alerts.report`); an older one that nobody took is replaced."""
        with self._news:
            self._report = dict(report)
            self._news.notify()

    def beat(self) -> None:
        """Say that the daemon makes progress; without it the heartbeat stops."""
        with self._news:
            self._alive_at = self._clock()
            self._news.notify()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after what is under way."""
        with self._news:
            self._stopping = True
            self._news.notify()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Serve until stopped; what was handed over before the stop is still told."""
        quiet_foreign_loggers()
        while True:
            with self._news:
                if self._report is None and not self._stopping and not self._ping_due():
                    self._news.wait(timeout=HEARTBEAT_S)
                report, self._report = self._report, None
                ending = self._stopping
            if report is not None:
                self.pass_on(report)
            if self._ping_due() and not ending:
                self._pinged_at = self._clock()
                ping(self._ears.heartbeat_url)
            if ending:
                return

    def pass_on(self, report: dict[str, Any]) -> None:
        """Write the state file always; run the hook and publish where the state has changed."""
        if self._ears.state_file:
            try:
                write_state(self._ears.state_file, report)
            except OSError as problem:
                log.warning("notify.state_file cannot be written: %s", problem)
        if self._ears.mqtt_url:
            self._publish(report)
        state = str(report.get("state", ""))
        if self._ears.hook and state != self._told:
            self._told = state
            run_hook(self._ears.hook, report)

    def _publish(self, report: dict[str, Any]) -> None:
        try:
            if not publish(self._ears.mqtt_url, report):
                log.warning("MQTT: the broker did not take the state")
        except BadRequest as problem:
            log.warning("%s", problem)

    def _ping_due(self) -> bool:
        now = self._clock()
        fresh = self._alive_at > 0.0 and now - self._alive_at < HEARTBEAT_S
        return bool(self._ears.heartbeat_url) and fresh and now - self._pinged_at >= HEARTBEAT_S
