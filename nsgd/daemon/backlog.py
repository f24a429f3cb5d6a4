"""Which settled file comes next (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nsgd.daemon.watch import Settled

SHORT = 20
"""So many files are worked off within seconds and simply keep their order."""


class Backlog:
    """Files that wait to be measured.

    A short queue is taken in the order the files were written. Of a long one (a start in the middle of the night) the
    newest file comes first, so that the live state is known at once; then the rest in order, with whatever is newer
    than all before coming first again.
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, Settled] = {}
        self._newest_utc_s = float("-inf")
        self._in_order: list[Path] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, files: Iterable[Settled]) -> None:
        """Take in files; one that waits already is kept once."""
        for file in files:
            self._waiting[file.path] = file
            self._in_order = None

    def next(self) -> Settled | None:
        """The file to take now, None where none waits."""
        if not self._waiting:
            return None
        if self._in_order is None:
            # Newest first, the oldest at the end; names tell apart files of one moment.
            found = sorted(self._waiting.values(), key=lambda file: (file.written_utc_s, str(file.path)), reverse=True)
            self._in_order = [file.path for file in found]
        newest = self._waiting[self._in_order[0]]
        live = len(self._in_order) > SHORT and newest.written_utc_s > self._newest_utc_s
        path = self._in_order.pop(0 if live else -1)
        file = self._waiting.pop(path)
        self._newest_utc_s = max(self._newest_utc_s, file.written_utc_s)
        return file
