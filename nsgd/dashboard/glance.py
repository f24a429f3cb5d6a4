"""What the first line of every screen needs, and nothing else: the newest subs, the daemon, what the sky does.

It is told before numpy and the settings are loaded, so that a half-open eye need not wait for the graphs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from nsgd.records import NAN, SkyState, SubRow

if TYPE_CHECKING:
    from nsgd.dashboard.night import View
    from nsgd.session.store import DaemonStatus, Reader

SKY_MEMORY = 60
"""Subs that the sky state is read from; what is older has no say in it."""


class Seen(Protocol):
    """What the sky does: of the daemon's alarm, or of the newest subs."""

    @property
    def state(self) -> SkyState: ...

    @property
    def transmission(self) -> float: ...


@dataclass(frozen=True)
class Told:
    """The sky as the daemon's alarm has it."""

    state: SkyState = SkyState.UNKNOWN
    transmission: float = NAN
    last_utc_s: float = NAN
    """The newest sub that it knows."""

    @classmethod
    def of(cls, alarm: str | None) -> Told:
        """From the alarm's JSON text; unknown where there is none or where another version wrote it."""
        try:
            seen = json.loads(alarm or "{}").get("seen", {})
            return cls(
                SkyState(seen.get("state", SkyState.UNKNOWN)),
                float(seen.get("transmission", NAN)),
                float(seen.get("last_utc_s", NAN)),
            )
        except (ValueError, TypeError, AttributeError):
            return cls()


@dataclass
class Glance:
    """The newest subs of all series, the daemon and its alarm."""

    newest_rows: list[SubRow] = field(default_factory=list)
    """At most `SKY_MEMORY`, in time order."""
    daemon: DaemonStatus | None = None
    alarm_text: str | None = None
    told: Told = field(default_factory=Told)

    @classmethod
    def read(cls, reader: Reader) -> Glance:
        """Look at a store for a moment."""
        from nsgd.session.store import ALARM_STATE

        glance = cls(reader.newest_subs(SKY_MEMORY), reader.daemon())
        glance.hear(reader.state(ALARM_STATE))
        return glance

    def hear(self, alarm: str | None) -> None:
        """Take over the alarm's text."""
        if alarm is not None and alarm != self.alarm_text:
            self.alarm_text, self.told = alarm, Told.of(alarm)

    def recent(self, most: int) -> list[SubRow]:
        """The last subs of all series, in time order; at most `SKY_MEMORY` are known."""
        return self.newest_rows[-most:]

    def newest(self) -> SubRow | None:
        """The sub that was exposed last."""
        return self.newest_rows[-1] if self.newest_rows else None

    def newest_view(self) -> View | None:
        """The newest sub's series with its verdicts; None as long as nothing is judged."""
        return None

    def sky(self) -> Seen:
        """What the sky does after the newest subs, unknown where no daemon has judged them."""
        return self.told if self.told_all else Told()

    @property
    def told_all(self) -> bool:
        """Whether the alarm knows the newest sub; those over which nsgd itself failed it never sees."""
        newest = next((row for row in reversed(self.newest_rows) if not _is_internal(row)), None)
        return newest is not None and self.told.last_utc_s >= newest.order_utc_s

    def daemon_lives(self, now_utc_s: float) -> bool:
        """True where a daemon is alive on this store."""
        return self.daemon is not None and self.daemon.alive(now_utc_s)

    def cadence_s(self) -> float:
        """Median time between the newest subs, 0 where they are too few."""
        times = [row.order_utc_s for row in self.recent(20)]
        steps = sorted(later - earlier for earlier, later in pairwise(times))
        return (steps[(len(steps) - 1) // 2] + steps[len(steps) // 2]) / 2.0 if len(steps) > 1 else 0.0


def _is_internal(row: SubRow) -> bool:
    return row.failure is not None and row.failure.kind == "internal"
