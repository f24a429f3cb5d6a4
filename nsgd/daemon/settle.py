"""When is a file whole? Rules only: the clock and every `stat` come in as arguments.

No capture program writes to a temporary name first, so half a file under its final name is the normal
case. A file is settled when it has been quiet (same size, time and inode) and its format says that
everything is there. Three causes make it wait longer:

- its format cannot tell (TIFF, raw): a longer quiet time;
- it has the right length but holds stretches of zeros that may have been reserved and not written yet
  (preallocating copies, memory-mapped writers): up to `SUSPECT_QUIET_S`, then it is taken as it is;
- it is too short: until `give_up_s`, then it is handed over once, so that reading it says what is wrong.

A settled file is handed over again only when it changes.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from nsgd.frames.read import is_whole, looks_unfinished

PORTION = 100
"""So many files are asked for their format in one turn, so that a new sub never waits behind a whole season."""
UNTOLD_QUIET_S = 3.0
SUSPECT_QUIET_S = 30.0
RECENT_S = 120.0
"""A file written longer ago than this is not searched for unwritten stretches (a backlog would be read twice)."""
FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0

_DONE = struct.Struct("<qqQd")
"""A status as it is kept of a file that was handed over: a season of them must fit into little memory."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """What of a file's status tells a change."""

    size: int
    mtime_ns: int
    inode: int
    written_utc_s: float
    """Later of the times of content and status change."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        """From `os.stat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, max(status.st_mtime, status.st_ctime))

    def same_content(self, other: FileStat) -> bool:
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)

    def packed(self) -> bytes:
        """All of it in 32 bytes; `unpacked` gives it back."""
        return _DONE.pack(self.size, self.mtime_ns, self.inode, self.written_utc_s)

    @classmethod
    def unpacked(cls, kept: bytes) -> FileStat:
        return cls(*_DONE.unpack(kept))


def packed_status(status: os.stat_result, steady_inode: bool = True) -> bytes:
    """`FileStat.of(status).packed()` without the record in between; an inode that may change by itself counts as 0."""
    inode = status.st_ino if steady_inode else 0
    return _DONE.pack(status.st_size, status.st_mtime_ns, inode, max(status.st_mtime, status.st_ctime))


@dataclass(slots=True)
class _Candidate:
    stat: FileStat
    changed_s: float
    not_before_s: float = 0.0
    asked: bool = False
    """True once the format was asked about this very state of the file."""
    whole: bool | None = None
    suspect: bool = False
    told: bool = False
    """True where the file had been handed over before it changed."""


@dataclass(slots=True)
class _Retry:
    first_s: float
    wait_s: float


@dataclass(slots=True)
class SettledFiles:
    """The files of one folder: those that wait, and those that were handed over.

    Parameters
    ----------
    quiet_s
        How long a file must not change.
    give_up_s
        How long an incomplete file may stay unchanged before it is handed over all the same.
    whole, unfinished
        What a format says about a file; arguments for the tests.
    """

    quiet_s: float
    give_up_s: float
    whole: Callable[[Path, int], bool | None] = is_whole
    unfinished: Callable[[Path], bool] = looks_unfinished
    busy: bool = False
    """True where the last portion left ripe files behind: ask again at once."""
    # Keyed by names: a Path takes several times the memory, and there is one for every file of the folder.
    _waiting: dict[str, _Candidate] = field(default_factory=dict)
    _done: dict[str, bytes] = field(default_factory=dict)
    _retries: dict[str, _Retry] = field(default_factory=dict)

    def saw(self, path: Path | str, seen: FileStat, now_s: float) -> None:
        """The file exists and looks like this at `now_s` (any monotonic clock, seconds)."""
        name = os.fspath(path)
        done = self._done.get(name)
        if done is not None:
            if FileStat.unpacked(done).same_content(seen):
                return
            del self._done[name]
            self._retries.pop(name, None)
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = _Candidate(seen, now_s, told=done is not None)
        elif not waiting.stat.same_content(seen):
            self._waiting[name] = _Candidate(seen, now_s, told=waiting.told)

    def unchanged(self, name: str, packed: bytes) -> bool:
        """Whether a file was handed over in just this state: most of what a scan sees."""
        return self._done.get(name) == packed

    def hold(self, path: Path | str, seen: FileStat) -> None:
        """Leave this file alone unless it changes."""
        self._waiting.pop(os.fspath(path), None)
        self._done[os.fspath(path)] = seen.packed()

    def gone(self, path: Path | str) -> bool:
        """The file does not exist any more; True where it was known.

        One that only waited counts too: before a restart it may have been handed over, and cut short since.
        """
        name = os.fspath(path)
        known = self.knows(name)
        self._waiting.pop(name, None)
        self._done.pop(name, None)
        self._retries.pop(name, None)
        return known

    def retry(self, path: Path, now_s: float) -> bool:
        """Reading the file failed for now: hand it over again after a pause that doubles.

        Returns
        -------
        bool
            False where it has been tried for `give_up_s`: only a change brings it back.
        """
        name = os.fspath(path)
        done = self._done.get(name)
        if done is None:
            return name in self._waiting
        retry = self._retries.setdefault(name, _Retry(now_s, FIRST_RETRY_S))
        if now_s - retry.first_s > self.give_up_s:
            return False
        del self._done[name]
        seen = FileStat.unpacked(done)
        self._waiting[name] = _Candidate(seen, now_s, not_before_s=now_s + retry.wait_s, told=True)
        retry.wait_s = min(2.0 * retry.wait_s, LONGEST_RETRY_S)
        return True

    def settled(self, now_s: float, now_utc_s: float, most: int = PORTION) -> list[Path]:
        """Files to hand over now, the latest written first; at most `most` formats are asked in one call."""
        chosen: list[str] = []
        asked = 0
        self.busy = False
        for name in self._ripe(now_s):
            candidate = self._waiting[name]
            if not candidate.asked:
                if asked == most:
                    self.busy = True
                    break
                asked += 1
                self._ask(Path(name), candidate, now_utc_s)
            if self._is_settled(candidate, now_s):
                chosen.append(name)
        for name in chosen:
            self._done[name] = self._waiting.pop(name).stat.packed()
        return [Path(name) for name in chosen]

    def _ripe(self, now_s: float) -> list[str]:
        """Files that have been quiet long enough, the latest written first."""
        ripe = [
            (candidate.stat.written_utc_s, name)
            for name, candidate in self._waiting.items()
            if now_s - candidate.changed_s >= self.quiet_s and now_s >= candidate.not_before_s
        ]
        return [name for _, name in sorted(ripe, reverse=True)]

    def of_interest(self, now_s: float, most: int = PORTION) -> list[Path]:
        """Waiting files whose status matters now: of a long queue only those that `settled` asks next."""
        if len(self._waiting) <= most:
            return self.waiting
        unasked = [name for name in self._ripe(now_s) if not self._waiting[name].asked]
        later = set(unasked[most:])
        return [Path(name) for name in self._waiting if name not in later]

    def _ask(self, path: Path, candidate: _Candidate, now_utc_s: float) -> None:
        candidate.asked = True
        candidate.whole = self.whole(path, candidate.stat.size)
        recent = now_utc_s - candidate.stat.written_utc_s < RECENT_S
        candidate.suspect = candidate.whole is not False and recent and self.unfinished(path)

    def _is_settled(self, candidate: _Candidate, now_s: float) -> bool:
        quiet_s = now_s - candidate.changed_s
        if candidate.whole is False:
            return quiet_s >= self.give_up_s
        if candidate.suspect:
            return quiet_s >= SUSPECT_QUIET_S
        return quiet_s >= (self.quiet_s if candidate.whole else max(self.quiet_s, UNTOLD_QUIET_S))

    @property
    def waiting(self) -> list[Path]:
        return [Path(name) for name in self._waiting]

    @property
    def known(self) -> Iterator[str]:
        """The names of all files seen so far and not gone."""
        return chain(self._done, self._waiting)

    @property
    def count(self) -> int:
        return len(self._done) + len(self._waiting)

    def knows(self, path: Path | str) -> bool:
        return os.fspath(path) in self._done or os.fspath(path) in self._waiting

    def written_utc_s(self, path: Path) -> float:
        """When a handed-over file was last written."""
        return FileStat.unpacked(self._done[os.fspath(path)]).written_utc_s

    def incomplete(self, now_s: float, longer_than_s: float = 10.0) -> list[Path]:
        """Files known to be incomplete that did not change for a while (shown to the user)."""
        return [
            Path(name)
            for name, candidate in self._waiting.items()
            if candidate.asked and candidate.whole is False and now_s - candidate.changed_s > longer_than_s
        ]


def is_plain_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
