"""Which troubles of the machine are worth a word now (pure): what to say and how often is the alarm's business."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

PATIENCE_S = {"folder_lost": 60.0, "cannot_save": 0.0, "disk_low": 0.0, "internal_errors": 0.0}
"""Kind of trouble -> how long it must last: a cable or a reboot of the NAS takes a minute."""
LOW_BYTES = 100_000_000
ERRORS = 3


@dataclass(slots=True)
class Signs:
    """What the daemon sees of its machine at one moment."""

    lost_folders: Mapping[str, str] = field(default_factory=dict)
    """Folder -> why it cannot be reached."""
    save_problem: str = ""
    free_bytes: int | None = None
    internal_errors: int = 0

    def sentences(self) -> dict[str, str]:
        """Kind of trouble -> what is wrong."""
        said = {}
        if self.lost_folders:
            lost = "; ".join(f"{folder}: {why}" for folder, why in sorted(self.lost_folders.items()))
            said["folder_lost"] = f"{lost}. Subs are taken again as soon as it is back."
        if self.save_problem:
            said["cannot_save"] = f"{self.save_problem} Measuring goes on in memory and is saved as soon as that works."
        elif self.free_bytes is not None and self.free_bytes < LOW_BYTES:
            said["disk_low"] = f"only {self.free_bytes / 1e6:.0f} MB are free where nsgd keeps its store."
        if self.internal_errors >= ERRORS:
            said["internal_errors"] = f"{self.internal_errors} mistakes of nsgd itself; the log says more."
        return said


@dataclass(slots=True)
class Troubles:
    """Remembers since when each trouble lasts."""

    _since_s: dict[str, float] = field(default_factory=dict)

    def ripe(self, signs: Signs, now_s: float, told: Collection[str] = ()) -> dict[str, str]:
        """Troubles that have lasted long enough: kind -> what is wrong.

        Parameters
        ----------
        now_s
            Monotonic.
        told
            Kinds that were told and are not over: a restart in their midst does not begin them anew.
        """
        said = signs.sentences()
        self._since_s = {kind: self._since_s.get(kind, now_s) for kind in said}
        return {
            kind: text for kind, text in said.items() if kind in told or now_s - self._since_s[kind] >= PATIENCE_S[kind]
        }
