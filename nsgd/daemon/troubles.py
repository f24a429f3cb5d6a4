"""What is wrong with folders and disk -> alerts, once each, and once when it is over (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nsgd.records import Alert

LOST_S = 60.0
"""A folder may be away this long (a cable, a reboot of the NAS) before the phone rings."""


@dataclass(slots=True)
class Troubles:
    """Remembers what is wrong and what was told."""

    _since_s: dict[str, float] = field(default_factory=dict)
    _told: dict[str, Alert] = field(default_factory=dict)

    def look(self, lost: Mapping[str, str], save_problem: str, now_s: float, now_utc_s: float) -> list[Alert]:
        """Alerts that are due.

        Parameters
        ----------
        lost
            Folder -> why it cannot be reached.
        save_problem
            Why the store cannot be written, "" where it can.
        now_s, now_utc_s
            Monotonic and civil time.
        """
        found = {f"folder {name}": _folder_lost(name, why, now_utc_s) for name, why in lost.items()}
        if save_problem:
            found["store"] = _cannot_save(save_problem, now_utc_s)
        self._since_s = {key: self._since_s.get(key, now_s) for key in found}
        alerts = []
        for key, alert in found.items():
            patience_s = 0.0 if key == "store" else LOST_S
            if key not in self._told and now_s - self._since_s[key] >= patience_s:
                self._told[key] = alert
                alerts.append(alert)
        over = [key for key in self._told if key not in found]
        return alerts + [_over(self._told.pop(key), now_utc_s) for key in over]


def _folder_lost(folder: str, why: str, now_utc_s: float) -> Alert:
    return Alert(
        event_id=f"folder-{now_utc_s:.0f}",
        kind="folder_lost",
        title="Capture folder is gone",
        body=f"{folder}: {why}. Subs are taken again as soon as it is back.",
        created_utc_s=now_utc_s,
        urgent=True,
    )


def _cannot_save(why: str, now_utc_s: float) -> Alert:
    return Alert(
        event_id=f"store-{now_utc_s:.0f}",
        kind="cannot_save",
        title="nsgd cannot save",
        body=f"{why} Measuring goes on in memory; free some space, what was measured is saved by itself then.",
        created_utc_s=now_utc_s,
        urgent=True,
    )


def _over(told: Alert, now_utc_s: float) -> Alert:
    title = {"folder_lost": "Capture folder is back", "cannot_save": "nsgd saves again"}[told.kind]
    body = f"{told.title} is over after {(now_utc_s - told.created_utc_s) / 60.0:.0f} min; nothing was lost."
    return Alert(told.event_id, told.kind, title, body, now_utc_s, resolves=True)
