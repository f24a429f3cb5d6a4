"""Capture folders -> settled files.

Events are hints, scans are the truth: the kernel's event queue overflows, watches die when a disk is
unmounted, shares send nothing. So every way by which a file is noticed (start-up scan, event, rescan)
goes through `SettledFiles.saw`, and a scan follows each burst of events.

One thread per folder does all that touches its file system. If that hangs (a dead network mount) the
thread hangs alone: `take` and `status` never touch a disk.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from nsgd.daemon.scan import (
    STEADY_INODES,
    Listing,
    Unchanged,
    file_system,
    folders_without_events,
    is_inside,
    is_share,
    list_images,
)
from nsgd.daemon.settle import FileStat, SettledFiles, is_plain_file, packed_status
from nsgd.settings import Watch

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

TURN_S = 0.2
"""Pause between two looks at the files that wait."""
PRESENCE_S = 2.0
"""Time between two looks whether the folder is still there."""
AFTER_EVENTS_S = 5.0
"""A scan follows events after this time, since there may have been more than were told."""
SCAN_SHARE = 20.0
"""Scans take at most one part in this of the time."""
CHECK_SHARE = 100.0
"""Those that only check whether all events were told take less: a season's folder is not read for every sub."""
HOT_S = 1.0
"""On a share, the folders that got the latest files are looked at this often."""
HOT_FOLDERS = 4
DEAF_AFTER_S = 3.0
"""A file this old that a scan finds and no event told proves that events are lost."""
RETRY_EVENTS_S = 600.0
HANGING_S = 20.0
EVENTS = [FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileMovedEvent, DirCreatedEvent, DirMovedEvent]


class Settled(NamedTuple):
    """A file that is whole; it may come again when it changed, was moved or renamed."""

    path: Path
    folder: Path
    written_utc_s: float
    """When the file was last written: orders a backlog before its headers are read."""


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """One watched folder as the user sees it."""

    folder: Path
    mode: str
    """`events` or `polling`."""
    present: bool
    pending: int
    """Files seen that are not whole yet."""
    files: int
    """Files known, whole ones included."""
    reason: str = ""
    """Why the folder is absent, held or polled although it lies on a local disk; "" when all is well."""
    incomplete: tuple[Path, ...] = ()
    """Files that stopped growing before they were whole."""


@dataclass(slots=True, eq=False)
class _Hints(FileSystemEventHandler):
    """Collects what the observer's thread reports."""

    paths: set[Path] = field(default_factory=set)
    folders_changed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def dispatch(self, event: FileSystemEvent) -> None:
        path = Path(os.fsdecode(event.dest_path or event.src_path))
        with self.lock:
            if event.is_directory:
                self.folders_changed = True
            else:
                self.paths.add(path)

    def take(self) -> tuple[set[Path], bool]:
        with self.lock:
            taken = self.paths, self.folders_changed
            self.paths, self.folders_changed = set(), False
            return taken


class FolderWatch:
    """One folder; `turn` does everything that is due at a moment.

    Parameters
    ----------
    folder
        Absolute path; need not exist yet.
    settings
        Times, depth and names to leave out.
    deliver
        Gets the settled files of a turn, and the files that vanished.
    """

    def __init__(
        self,
        folder: Path,
        settings: Watch,
        deliver: Callable[[list[Settled], list[Path]], None],
        *,
        file_system_of: Callable[[Path], str] = file_system,
    ) -> None:
        self.folder = folder
        self._settings = settings
        self._deliver = deliver
        self._file_system_of = file_system_of
        self._files = SettledFiles(settings.quiet_local_s, settings.give_up_s)
        self._hints = _Hints()
        self._observer: BaseObserver | None = None
        self._place: tuple[int, int] | None = None
        self._share = self._steady_inodes = False
        self._present = False
        self._lost_reason = "not looked at yet"
        self._events_reason = ""
        self._other_disk = ""
        self._elsewhere: frozenset[str] = frozenset()
        self._expected: frozenset[str] = frozenset()
        self._deaf = False
        self._unwatched = 0
        self._scans = 0
        self._last_scan_utc_s = 0.0
        self._next_presence_s = self._next_scan_s = self._next_hot_s = self._next_observer_s = float("-inf")
        self._scan_took_s = 0.0
        self._hot: dict[Path, set[str]] = {}
        self._retries: deque[Path] = deque()
        self.busy_since_s: float | None = None
        self.status = FolderStatus(folder, "polling", False, 0, 0, self._lost_reason)

    # ---- one turn --------------------------------------------------------------------------------

    def turn(self, now_s: float, now_utc_s: float) -> None:
        """Do what is due at `now_s` (monotonic) and `now_utc_s`; touches the disk, may hang with it."""
        self.busy_since_s = now_s
        gone: list[Path] = []
        if now_s >= self._next_presence_s:
            self._next_presence_s = now_s + PRESENCE_S
            self._look_for_folder(now_s)
        if self._present:
            self._follow_hints(now_s)
            if now_s >= self._next_scan_s:
                gone = self._scan(now_s, now_utc_s)
            elif self._polls() and now_s >= self._next_hot_s:
                self._look_at_hot_folders(now_s)
            self._look_again(now_s)
            self._give(now_s, now_utc_s, gone)
        self.status = self._status(now_s)
        self.busy_since_s = None

    def _give(self, now_s: float, now_utc_s: float, gone: list[Path]) -> None:
        while self._retries:
            self._files.retry(self._retries.popleft(), now_s)
        settled = []
        for path in self._files.settled(now_s, now_utc_s):
            settled.append(Settled(path, self.folder, self._files.written_utc_s(path)))
            self._keep_hot(path.parent)
        if settled or gone:
            self._deliver(settled, gone)

    def expect(self, paths: frozenset[Path]) -> None:
        """Files that were here when the daemon last ran; the first scan reports those that are not (before `turn`)."""
        self._expected = frozenset(map(str, paths))

    def retry(self, path: Path) -> None:
        """Hand this file over again after a pause (any thread)."""
        self._retries.append(path)

    def nap_s(self) -> float:
        """How long nothing is due."""
        if self._files.busy:
            return 0.0
        return TURN_S if self._files.waiting else 2.0 * TURN_S

    def close(self) -> None:
        self._stop_observer()

    def _status(self, now_s: float) -> FolderStatus:
        waiting = self._files.waiting
        mode = "polling" if self._polls() else "events"
        return FolderStatus(
            folder=self.folder,
            mode=mode,
            present=self._present,
            pending=len(waiting),
            files=self._files.count,
            reason=self._lost_reason or self._other_disk or self._events_reason,
            incomplete=tuple(self._files.incomplete(now_s)),
        )

    def _polls(self) -> bool:
        return self._share or self._deaf or self._observer is None or bool(self._events_reason)

    # ---- is the folder there, and the same as before ---------------------------------------------

    def _look_for_folder(self, now_s: float) -> None:
        try:
            status = self.folder.stat()
            if not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            self._lose(f"the folder cannot be reached: {error.strerror or error}")
            return
        place = (status.st_dev, status.st_ino)
        if self._present and place == self._place:
            return
        self._arrive(place, now_s)

    def _lose(self, reason: str) -> None:
        if self._present or self._lost_reason != reason:
            log.warning("%s: %s", self.folder, reason)
        self._present, self._lost_reason = False, reason
        self._stop_observer()

    def _arrive(self, place: tuple[int, int], now_s: float) -> None:
        """The folder is there (again): is it the one we know, an empty mount point, or another disk?"""
        known = set(self._files.known)
        moved_disk = self._place is not None and place[0] != self._place[0]
        if moved_disk and known:
            listing = self._list()
            if listing is None:
                return
            if listing.empty:
                self._lose("the folder is empty: its disk is not mounted")
                return
            self._other_disk, self._elsewhere = "", frozenset()
            if not known.intersection(listing.files):
                self._hold(listing, known)
        self._place, self._present, self._lost_reason = place, True, ""
        kind = self._file_system_of(self.folder)
        self._share, self._steady_inodes = is_share(kind), kind in STEADY_INODES
        self._files.quiet_s = self._settings.quiet_share_s if self._share else self._settings.quiet_local_s
        self._scans = 0
        self._next_scan_s = now_s
        self._start_observer(now_s)

    def _hold(self, listing: Listing, known: set[str]) -> None:
        """Another disk: what lies on it already is not this night's; what comes from now on is."""
        self._elsewhere = frozenset(known)
        self._other_disk = (
            f"another disk is mounted here: its {len(listing.files)} older files are left alone, new ones are taken"
        )
        log.warning("%s: %s", self.folder, self._other_disk)
        for path, packed in listing.files.items():
            self._files.hold(path, self._trusted(FileStat.unpacked(packed)))

    def _list(self, unchanged: Unchanged | None = None) -> Listing | None:
        depth, ignore = self._settings.max_depth, self._settings.ignore
        try:
            return list_images(self.folder, max_depth=depth, ignore=ignore, unchanged=unchanged)
        except OSError as error:
            self._lose(f"the folder cannot be listed: {error.strerror or error}")
            return None

    def _trusted(self, seen: FileStat) -> FileStat:
        """FAT and shares may give a file another inode at every look."""
        return seen if self._steady_inodes else replace(seen, inode=0)

    # ---- events ----------------------------------------------------------------------------------

    def _start_observer(self, now_s: float) -> None:
        self._stop_observer()
        if not self._unwatched:
            self._events_reason = ""
        self._next_observer_s = now_s + RETRY_EVENTS_S
        if self._share:
            return
        observer = Observer()
        try:
            observer.schedule(self._hints, str(self.folder), recursive=True, event_filter=EVENTS)
            observer.start()
        except OSError as error:
            self._events_reason = f"no events ({error.strerror or error}), looking every {self._settings.poll_s:g} s"
            log.warning("%s: %s", self.folder, self._events_reason)
            return
        self._observer = observer

    def _stop_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            with contextlib.suppress(OSError, RuntimeError, KeyError):
                observer.stop()
            observer.join(timeout=5.0)

    def _follow_hints(self, now_s: float) -> None:
        paths, folders_changed = self._hints.take()
        if not paths and not folders_changed:
            return
        self._deaf = False
        for path in paths:
            if is_inside(self.folder, path, max_depth=self._settings.max_depth, ignore=self._settings.ignore):
                self._look(path, now_s)
        soon_s, share = (0.0, SCAN_SHARE) if folders_changed else (AFTER_EVENTS_S, CHECK_SHARE)
        self._next_scan_s = min(self._next_scan_s, now_s + max(soon_s, share * self._scan_took_s))

    # ---- looking ---------------------------------------------------------------------------------

    def _look(self, path: Path, now_s: float) -> None:
        try:
            status = path.lstat()
        except OSError:
            return  # gone, as the next scan will say, or a disk in trouble: presence is checked apart
        if is_plain_file(status):
            self._files.saw(path, self._trusted(FileStat.of(status)), now_s)

    def _look_again(self, now_s: float) -> None:
        for path in self._files.of_interest(now_s):
            self._look(path, now_s)

    def _keep_hot(self, folder: Path) -> None:
        """Remember where the latest files came; the watched folder itself always stays."""
        self._hot[folder] = self._hot.pop(folder, set())
        while len(self._hot) > HOT_FOLDERS:
            self._hot.pop(next(hot for hot in self._hot if hot != self.folder))

    def _look_at_hot_folders(self, now_s: float) -> None:
        """New names in the folders of the latest files: cheap enough to be done often on a share."""
        begun_s = time.monotonic()
        for folder, known in self._hot.items():
            try:
                names = set(os.listdir(folder))  # noqa: PTH208 - names alone are wanted, thousands of them
            except OSError:
                continue
            for name in names - known:
                self._look_at_name(folder / name, now_s)
            self._hot[folder] = names
        self._next_hot_s = now_s + max(HOT_S, SCAN_SHARE * (time.monotonic() - begun_s))

    def _look_at_name(self, path: Path, now_s: float) -> None:
        if is_inside(self.folder, path, max_depth=self._settings.max_depth, ignore=self._settings.ignore):
            self._look(path, now_s)
        elif not path.suffix and path.is_dir() and not path.is_symlink():
            self._next_scan_s = min(self._next_scan_s, now_s + SCAN_SHARE * self._scan_took_s)

    def _scan(self, now_s: float, now_utc_s: float) -> list[Path]:
        """Reconcile with what is really there; returns the files that vanished."""
        begun_s = time.monotonic()
        listing = self._list(None if self._asks_for_names() else self._unchanged)
        self._scan_took_s = time.monotonic() - begun_s
        gone: list[Path] = []
        if listing is not None and self._same_place():
            untold = self._take_in(listing, now_s, now_utc_s)
            self._judge_events(untold, listing, now_s)
            gone = [] if listing.unreadable else [*self._forget_missing(listing), *self._missed(listing)]
        pause_s = self._settings.poll_s if self._polls() else self._settings.rescan_s
        if self._unwatched:  # a new folder's watch may come a moment later: look again soon
            pause_s = min(pause_s, AFTER_EVENTS_S)
        self._next_scan_s = now_s + max(pause_s, SCAN_SHARE * self._scan_took_s)
        return gone

    def _asks_for_names(self) -> bool:
        """Whether a scan wants every name: for the latest file, for what was expected, beside another disk's files."""
        return self._scans == 0 or bool(self._expected) or bool(self._elsewhere)

    def _unchanged(self, path: str, status: os.stat_result) -> bool:
        """Whether a file was handed over as it is now."""
        return self._files.unchanged(path, packed_status(status, self._steady_inodes))

    def _take_in(self, listing: Listing, now_s: float, now_utc_s: float) -> int:
        """Show every listed file to the rules; returns how many an event should have told before."""
        untold = 0
        for path, packed in listing.files.items():
            seen = FileStat.unpacked(packed)
            if not self._files.knows(path):
                untold += self._should_have_been_told(seen, now_utc_s)
            self._files.saw(path, self._trusted(seen), now_s)
        if self._scans == 0:
            latest = max(
                listing.files,
                key=lambda path: FileStat.unpacked(listing.files[path]).mtime_ns,
                default=self.folder / "none",
            )
            self._hot = {self.folder: set(), Path(latest).parent: set()}
        self._scans += 1
        self._last_scan_utc_s = now_utc_s
        return untold

    def _should_have_been_told(self, seen: FileStat, now_utc_s: float) -> bool:
        return self._scans > 0 and self._last_scan_utc_s < seen.written_utc_s < now_utc_s - DEAF_AFTER_S

    def _judge_events(self, untold: int, listing: Listing, now_s: float) -> None:
        """Are events to be relied on? If not, the folder is polled until they come again."""
        if untold and not self._polls():
            log.warning("%s: %d files came without an event; looking every few seconds", self.folder, untold)
            self._deaf = True
            self._start_observer(now_s)
        elif self._polls() and now_s >= self._next_observer_s:
            self._start_observer(now_s)
        elif self._observer is not None:
            self._check_watches(listing)

    def _check_watches(self, listing: Listing) -> None:
        """The system's limit on watches leaves folders without events and tells nobody: look for that."""
        unwatched = folders_without_events(self.folder, listing)
        if unwatched and self._unwatched and not self._events_reason:
            self._events_reason = (
                f"no events from {unwatched} folders (limit fs.inotify.max_user_watches), "
                f"looking every {self._settings.poll_s:g} s"
            )
            log.warning("%s: %s", self.folder, self._events_reason)
        elif not unwatched:
            self._events_reason = ""
        self._unwatched = unwatched

    def _same_place(self) -> bool:
        """The folder that was listed is still the one of the last look (not unmounted in between)."""
        try:
            status = self.folder.stat()
        except OSError:
            self._next_presence_s = float("-inf")
            return False
        same = (status.st_dev, status.st_ino) == self._place
        if not same:
            self._next_presence_s = float("-inf")
        return same

    def _forget_missing(self, listing: Listing) -> list[Path]:
        """Files that are not there any more. Which ones they are takes a whole listing, so they are counted first."""
        if listing.unchanged + len(listing.files) == self._files.count:
            return []
        if listing.unchanged:
            whole = self._list()
            if whole is None or whole.unreadable or not self._same_place():
                return []
            listing = whole
        missing = [path for path in self._files.known if path not in listing.files and path not in self._elsewhere]
        return [Path(path) for path in missing if self._files.gone(path)]

    def _missed(self, listing: Listing) -> list[Path]:
        """What vanished before this start; nothing where all of it did, since that is another disk or none."""
        expected, self._expected = self._expected, frozenset()
        missing = [Path(path) for path in sorted(expected) if path not in listing.files]
        return missing if len(missing) < len(expected) else []


class Watcher:
    """All watched folders, each in its own thread.

    Parameters
    ----------
    folders
        Folders to watch; they need not exist yet.
    settings
        See `nsgd.settings.Watch`.
    """

    def __init__(self, folders: Sequence[Path], settings: Watch) -> None:
        self._settings = settings
        self._ready = threading.Condition()
        self._settled: deque[Settled] = deque()
        self._gone: deque[Path] = deque()
        self._stopping = threading.Event()
        self._watches = [FolderWatch(folder.absolute(), settings, self._receive) for folder in folders]
        self._threads = [
            threading.Thread(target=self._run, args=(watch,), name=f"watch {watch.folder.name}", daemon=True)
            for watch in self._watches
        ]

    def expect(self, paths: Iterable[Path]) -> None:
        """Files that the store knows: those that vanished while no daemon ran are reported by `take_gone`."""
        known = list(paths)
        for watch in self._watches:
            watch.expect(frozenset(path for path in known if path.is_relative_to(watch.folder)))

    def start(self) -> None:
        """Begin to look; everything that is in the folders already will be taken too."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads; one that hangs with its disk is left behind."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def take(self, timeout_s: float) -> list[Settled]:
        """Files that became whole since the last call; waits up to `timeout_s` for the first."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._settled) or self._stopping.is_set(), timeout_s)
            taken = list(self._settled)
            self._settled.clear()
            return taken

    def take_gone(self) -> list[Path]:
        """Files that had been taken and are not there any more (deleted or moved)."""
        with self._ready:
            taken = list(self._gone)
            self._gone.clear()
            return taken

    def retry(self, path: Path) -> None:
        """Reading this file failed for now (`UnreadableFrame.may_retry`): it will be taken again later."""
        for watch in self._watches:
            if path.is_relative_to(watch.folder):
                watch.retry(path)

    def status(self) -> list[FolderStatus]:
        """Every folder's state; never touches a disk."""
        now_s = time.monotonic()
        return [
            _trouble(watch, thread, now_s) or watch.status
            for watch, thread in zip(self._watches, self._threads, strict=True)
        ]

    def _receive(self, settled: list[Settled], gone: list[Path]) -> None:
        with self._ready:
            self._settled.extend(settled)
            self._gone.extend(gone)
            self._ready.notify_all()

    def _run(self, watch: FolderWatch) -> None:
        while not self._stopping.is_set():
            try:
                watch.turn(time.monotonic(), time.time())
            except OSError as error:
                log.warning("%s: %s", watch.folder, error)
            self._stopping.wait(watch.nap_s())
        watch.close()


def _trouble(watch: FolderWatch, thread: threading.Thread, now_s: float) -> FolderStatus | None:
    """A folder whose thread hangs with its disk, or has ended before its time; None while all is well."""
    since_s = watch.busy_since_s
    if thread.ident is not None and not thread.is_alive():
        reason = "the watch of this folder has ended; restart nsgd"
    elif since_s is not None and now_s - since_s > HANGING_S:
        reason = f"the disk has not answered for {now_s - since_s:.0f} s"
    else:
        return None
    return replace(watch.status, present=False, reason=reason)
