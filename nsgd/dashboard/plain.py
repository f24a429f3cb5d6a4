"""The night as lines of plain ASCII, for dumb terminals, screen readers and pipes: no escape is ever sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np

from nsgd.dashboard.events import delivery_words
from nsgd.dashboard.figures import local_time
from nsgd.dashboard.headline import headline, say
from nsgd.dashboard.inert import inert
from nsgd.dashboard.night import Night
from nsgd.errors import StoreProblem
from nsgd.records import CutOffs, SubRow, Verdict
from nsgd.session.store import Changes, Reader

LOOK_S = 1.0


def ascii_only(text: str) -> str:
    """Text whose other characters are replaced by "?"."""
    return inert(text, 400).replace("±", "+-").encode("ascii", "replace").decode("ascii")


def sub_line(row: SubRow, verdict: Verdict, zone: ZoneInfo | None) -> str:
    """One sub on one line; what is missing is left out."""
    parts = [local_time(row.order_utc_s, zone).strftime("%H:%M:%S"), f"{verdict.status.value:8}"]
    if np.isfinite(verdict.transmission_clear):
        parts.append(f"T {verdict.transmission_clear:.3f} +- {verdict.transmission_err:.3f}")
    if np.isfinite(verdict.weight_of_best):
        parts.append(f"W {verdict.weight_of_best:.2f}")
    if np.isfinite(row.fwhm_px):
        parts.append(f"FWHM {row.fwhm_px:.2f}")
    parts += [f"stars {row.stars_matched}", row.path.rsplit("/", 1)[-1], *verdict.reasons]
    return ascii_only("  ".join(parts))


class Teller:
    """Says as lines what is new since it was last asked."""

    def __init__(self, limits: CutOffs, zone: ZoneInfo | None, write: Callable[[str], None]) -> None:
        self.night = Night(limits=limits)
        self._zone = zone
        self._write = write
        self._told: set[int] = set()
        self._state = ""

    def tell(self, changes: Changes, now_utc_s: float, most_subs: int) -> None:
        """Write new subs (the last `most_subs` of them), new alerts, and the state where it changed."""
        self.night.merge(changes)
        fresh = [row for row in changes.subs if row.sub_id not in self._told]
        for row in fresh[-most_subs:]:
            self._write(sub_line(row, self.night.verdict(row), self._zone))
        self._told |= {row.sub_id for row in changes.subs}
        for alert in changes.alerts:
            when = local_time(alert.alert.created_utc_s, self._zone).strftime("%H:%M:%S")
            self._write(
                ascii_only(f"{when}  alert  {alert.alert.title}  {alert.alert.body}  ({delivery_words(alert)})")
            )
        self.tell_state(now_utc_s)

    def say(self, sentence: str) -> None:
        """Write a sentence as it is."""
        self._write(ascii_only(sentence))

    def tell_state(self, now_utc_s: float) -> None:
        """Write the state line where more than its age has changed."""
        line = headline(self.night, self.night.newest_view(), now_utc_s)
        state = f"{line.word} {line.note} {line.kept}/{line.subs}"
        if state != self._state:
            self._state = state
            self._write(ascii_only(say(line, 200, plain=True)))


def follow(
    open_reader: Callable[[], Reader],
    teller: Teller,
    *,
    once: bool,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Tell the night until interrupted, or its last subs once; returns the exit code."""
    last, said = 0, ""
    while True:
        try:
            with open_reader() as reader:
                while True:
                    changes = reader.changes_since(last)
                    if changes.last != last:
                        teller.tell(changes, clock(), 20 if last == 0 else 1000)
                        last = changes.last
                    teller.night.daemon = changes.daemon
                    teller.tell_state(clock())
                    if once:
                        return 0
                    wait(LOOK_S)
        except StoreProblem as problem:
            if problem.sentence != said:
                said = problem.sentence
                teller.say(said)
            if once:
                return 1
            wait(2 * LOOK_S)
