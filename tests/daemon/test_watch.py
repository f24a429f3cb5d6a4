"""Files are found whatever happens to events, and handed over only when they are whole.

Rules are tested with a clock that is an argument; the folders are real ones.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

from nsgd.daemon import watch as watch_module
from nsgd.daemon.scan import file_system, folders_without_events, is_share, list_images
from nsgd.daemon.settle import LONGEST_RETRY_S, SUSPECT_QUIET_S, UNTOLD_QUIET_S, FileStat, SettledFiles
from nsgd.daemon.watch import FolderWatch, Settled, Watcher
from nsgd.settings import Watch

BLOCK = 2880
NOW_UTC_S = 1_800_000_000.0


def sub_bytes(seed: int = 1, side: int = 40) -> bytes:
    """A small whole FITS file."""
    lines = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", f"NAXIS1  = {side}", f"NAXIS2  = {side}", "END"]
    header = "".join(line.ljust(80) for line in lines).ljust(BLOCK).encode()
    pixels = bytes((seed + n * 7) % 251 + 1 for n in range(2 * side * side))
    return header + pixels.ljust(-(-len(pixels) // BLOCK) * BLOCK, b"\0")


# ---- the rules -----------------------------------------------------------------------------------


class World:
    """What the formats say, and a clock."""

    def __init__(self, quiet_s: float = 1.0) -> None:
        self.whole: bool | None = True
        self.unfinished = False
        self.files = SettledFiles(quiet_s, 600.0, lambda path, size: self.whole, lambda path: self.unfinished)
        self.now_s = 0.0

    def saw(self, size: int = 100, name: str = "a.fit", mtime_ns: int = 0, inode: int = 1) -> None:
        self.files.saw(Path(name), FileStat(size, mtime_ns or size, inode, NOW_UTC_S), self.now_s)

    def settled(self, after_s: float = 0.0) -> list[str]:
        self.now_s += after_s
        return [path.name for path in self.files.settled(self.now_s, NOW_UTC_S)]


def test_a_whole_file_is_handed_over_once_it_is_quiet() -> None:
    world = World()
    world.saw()
    assert world.settled(0.9) == []
    assert world.settled(0.1) == ["a.fit"]
    world.saw()
    assert world.settled(10.0) == []


def test_every_change_starts_the_quiet_time_again() -> None:
    world = World()
    for size in range(10):
        world.saw(size)
        assert world.settled(0.9) == []
    assert world.settled(0.1) == ["a.fit"]
    for change in ({"mtime_ns": 5}, {"inode": 2}):
        world.saw(9, **change)
        assert world.settled(0.9) == []
        assert world.settled(0.1) == ["a.fit"]


def test_an_incomplete_file_waits_and_is_handed_over_when_the_rest_comes() -> None:
    world = World()
    world.whole = False
    world.saw(50)
    assert world.settled(300.0) == []
    assert [path.name for path in world.files.incomplete(world.now_s)] == ["a.fit"]
    world.whole = True
    world.saw(100)
    assert world.settled(1.0) == ["a.fit"]


def test_a_file_that_stays_incomplete_is_given_up_and_comes_back_when_it_changes() -> None:
    world = World()
    world.whole = False
    world.saw(50)
    assert world.settled(599.0) == []
    assert world.settled(1.0) == ["a.fit"]
    world.saw(50)
    assert world.settled(1000.0) == []
    world.whole = True
    world.saw(100)
    assert world.settled(1.0) == ["a.fit"]


def test_a_format_that_cannot_tell_needs_a_longer_quiet_time() -> None:
    world = World()
    world.whole = None
    world.saw()
    assert world.settled(UNTOLD_QUIET_S - 0.1) == []
    assert world.settled(0.1) == ["a.fit"]


def test_a_file_that_looks_unwritten_waits_longer_and_is_taken_in_the_end() -> None:
    world = World()
    world.unfinished = True
    world.saw()
    assert world.settled(SUSPECT_QUIET_S - 0.1) == []
    assert world.settled(0.1) == ["a.fit"]


def test_an_old_backlog_is_not_searched_for_unwritten_stretches() -> None:
    asked: list[Path] = []

    def unfinished(path: Path) -> bool:
        asked.append(path)
        return False

    files = SettledFiles(1.0, 600.0, lambda path, size: True, unfinished)
    files.saw(Path("old.fit"), FileStat(1, 1, 1, NOW_UTC_S - 3600.0), 0.0)
    files.saw(Path("new.fit"), FileStat(1, 1, 1, NOW_UTC_S), 0.0)
    assert len(files.settled(1.0, NOW_UTC_S)) == 2
    assert asked == [Path("new.fit")]


def test_of_a_long_queue_only_the_next_files_are_looked_at() -> None:
    files = SettledFiles(1.0, 600.0, lambda path, size: True, lambda path: False)
    for number in range(300):
        files.saw(Path(f"{number}.fit"), FileStat(1, 1, 1, NOW_UTC_S + number), 0.0)
    assert len(files.of_interest(0.0)) == 300
    assert {path.stem for path in files.of_interest(5.0, most=10)} == {str(number) for number in range(290, 300)}
    assert len(files.settled(5.0, NOW_UTC_S, most=10)) == 10
    assert files.busy


def test_a_backlog_comes_newest_first_and_in_portions() -> None:
    files = SettledFiles(1.0, 600.0, lambda path, size: True, lambda path: False)
    for n in range(10):
        files.saw(Path(f"{n}.fit"), FileStat(1, 1, n, NOW_UTC_S + n), 0.0)
    assert [path.stem for path in files.settled(1.0, NOW_UTC_S, most=4)] == ["9", "8", "7", "6"]
    assert [path.stem for path in files.settled(1.0, NOW_UTC_S, most=100)] == ["5", "4", "3", "2", "1", "0"]


def test_a_file_that_could_not_be_read_is_tried_again_with_growing_pauses() -> None:
    world = World()
    world.saw()
    assert world.settled(1.0) == ["a.fit"]
    pauses = []
    while world.files.retry(Path("a.fit"), world.now_s):
        begun_s = world.now_s
        while not world.settled(1.0):
            pass
        pauses.append(world.now_s - begun_s)
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert max(pauses) <= LONGEST_RETRY_S
    assert world.settled(1000.0) == []
    world.saw(101)
    assert world.settled(1.0) == ["a.fit"]
    assert world.files.retry(Path("a.fit"), world.now_s), "a changed file is tried afresh"


# ---- one folder, step by step --------------------------------------------------------------------


class Night:
    """One watched folder, turned by hand."""

    def __init__(self, folder: Path, settings: Watch | None = None, kind: str = "ext4") -> None:
        self.folder = folder
        self.kind = kind
        self.taken: list[str] = []
        self.gone: list[str] = []
        self.now_s = 1000.0
        self.ahead_s = 0.0
        self.watch = FolderWatch(folder, settings or Watch(), self._deliver, file_system_of=lambda _: self.kind)

    def _deliver(self, settled: list[Settled], gone: list[Path]) -> None:
        self.taken += [one.path.name for one in settled]
        self.gone += [path.name for path in gone]

    def turn(self, for_s: float = 0.2, step_s: float = 0.2) -> list[str]:
        """Let time pass; the files taken meanwhile."""
        before = len(self.taken)
        for _ in range(max(1, round(for_s / step_s))):
            self.now_s += step_s
            self.watch.turn(self.now_s, time.time() + self.ahead_s)
        return sorted(self.taken[before:])


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """A folder whose events never come: only scans find files."""

    class Deaf:
        def schedule(self, *args: object, **kwargs: object) -> None: ...
        def start(self) -> None: ...
        def stop(self) -> None: ...
        def join(self, timeout: float) -> None: ...

    monkeypatch.setattr(watch_module, "Observer", Deaf)
    folder = tmp_path / "captures"
    folder.mkdir()
    made = Night(folder)
    yield made
    made.watch.close()


def test_what_lies_there_at_the_start_is_taken(night: Night) -> None:
    (night.folder / "2026-11-22" / "LIGHT").mkdir(parents=True)
    (night.folder / "2026-11-22" / "LIGHT" / "a.fits").write_bytes(sub_bytes())
    (night.folder / "b.jpg").write_bytes(b"no sub")
    assert night.turn(2.0) == ["a.fits"]
    assert night.watch.status.present
    assert night.watch.status.files == 1


def test_half_a_file_is_never_taken(night: Night) -> None:
    content = sub_bytes()
    night.turn()
    for size in (0, 1, 2879, 2880, 3000, 2880 + 2 * 40 * 40 - 1):
        (night.folder / "a.fits").write_bytes(content[:size])
        assert night.turn(70.0, 1.0) == []
    assert night.watch.status.pending == 1
    assert night.watch.status.incomplete
    (night.folder / "a.fits").write_bytes(content)
    assert night.turn(2.0) == ["a.fits"]


def test_a_scan_finds_what_no_event_told_and_then_looks_often(night: Night) -> None:
    night.turn(1.0)
    assert night.watch.status.mode == "events"
    (night.folder / "a.fits").write_bytes(sub_bytes())
    night.ahead_s = 60.0
    night.turn(65.0, 1.0)
    assert night.taken == ["a.fits"]
    assert night.watch.status.mode == "polling"


def test_a_share_is_polled_from_the_start(night: Night) -> None:
    night.kind = "cifs"
    night.turn()
    assert night.watch.status.mode == "polling"
    (night.folder / "a.fits").write_bytes(sub_bytes())
    assert night.turn(5.0) == []
    assert night.turn(6.0) == ["a.fits"]
    (night.folder / "b.fits").write_bytes(sub_bytes(2))
    assert night.turn(7.0) == ["b.fits"]


def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    late = Night(tmp_path / "later")
    late.turn(4.0, 1.0)
    assert not late.watch.status.present
    assert "No such file" in late.watch.status.reason
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.fits").write_bytes(sub_bytes())
    assert late.turn(6.0) == ["a.fits"]
    assert late.watch.status.present
    assert late.watch.status.reason == ""
    late.watch.close()


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    night = Night(tmp_path / "file")
    night.turn()
    assert not night.watch.status.present
    assert "directory" in night.watch.status.reason


def test_moved_and_deleted_files_are_reported_once(night: Night) -> None:
    for name in ("a.fits", "b.fits"):
        (night.folder / name).write_bytes(sub_bytes(ord(name[0])))
    assert night.turn(2.0) == ["a.fits", "b.fits"]
    (night.folder / "rejected").mkdir()
    (night.folder / "a.fits").rename(night.folder / "rejected" / "a.fits")
    (night.folder / "b.fits").unlink()
    assert night.turn(65.0, 1.0) == ["a.fits"]
    assert sorted(night.gone) == ["a.fits", "b.fits"]


@pytest.mark.parametrize("kind", ["ext4", "vfat", "cifs"])
def test_of_a_folder_of_taken_files_only_what_vanished_or_changed_is_reported(night: Night, kind: str) -> None:
    night.kind = kind
    for name in "abcd":
        (night.folder / f"{name}.fits").write_bytes(sub_bytes(ord(name)))
    assert night.turn(8.0, 1.0) == ["a.fits", "b.fits", "c.fits", "d.fits"]
    assert night.turn(130.0, 1.0) == []
    assert night.gone == []
    (night.folder / "b.fits").unlink()
    (night.folder / "c.fits").write_bytes(sub_bytes(7))
    assert night.turn(130.0, 1.0) == ["c.fits"]
    assert night.gone == ["b.fits"]


def test_what_vanished_while_no_daemon_ran_is_reported(night: Night) -> None:
    (night.folder / "a.fits").write_bytes(sub_bytes(1))
    night.watch.expect(frozenset(night.folder / name for name in ("a.fits", "b.fits", "c.fits")))
    assert night.turn(2.0) == ["a.fits"]
    assert night.gone == ["b.fits", "c.fits"]
    night.turn(65.0, 1.0)
    assert night.gone == ["b.fits", "c.fits"]


def test_a_folder_that_cannot_be_read_at_the_start_only_delays_the_report(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    (night.folder / "closed").mkdir()
    (night.folder / "a.fits").write_bytes(sub_bytes(1))
    night.watch.expect(frozenset(night.folder / name for name in ("a.fits", "b.fits")))
    real = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    with monkeypatch.context() as locked:
        locked.setattr(os, "scandir", refuse)
        assert night.turn(130.0, 1.0) == ["a.fits"]
        assert night.gone == []
    night.turn(130.0, 1.0)
    assert night.gone == ["b.fits"]


def test_a_start_without_the_disk_marks_nothing_as_gone(night: Night) -> None:
    (night.folder / "x.fits").write_bytes(sub_bytes(1))
    night.watch.expect(frozenset(night.folder / name for name in ("a.fits", "b.fits")))
    night.turn(2.0)
    assert night.gone == []


def test_a_rewritten_header_brings_the_file_again(night: Night) -> None:
    (night.folder / "a.fits").write_bytes(sub_bytes())
    assert night.turn(2.0) == ["a.fits"]
    os.utime(night.folder / "a.fits", (1, 1))
    assert night.turn(65.0, 1.0) == ["a.fits"]


@pytest.mark.parametrize("kind", ["vfat", "cifs"])
def test_inodes_that_wander_bring_no_file_again(night: Night, kind: str) -> None:
    night.kind = kind
    (night.folder / "a.fits").write_bytes(sub_bytes())
    assert night.turn(7.0) == ["a.fits"]
    content = (night.folder / "a.fits").read_bytes()
    status = (night.folder / "a.fits").stat()
    (night.folder / "a.fits").unlink()
    (night.folder / "b.tmp").write_bytes(b"")  # takes the inode
    (night.folder / "a.fits").write_bytes(content)
    os.utime(night.folder / "a.fits", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert night.turn(70.0, 1.0) == []


class Disks:
    """Two disks that can be mounted at one place: `FolderWatch` sees device numbers of our choice."""

    def __init__(self, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
        self.night, self.device = night, 1
        real = Path.stat

        def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            status = real(path, follow_symlinks=follow_symlinks)
            if path != night.folder:
                return status
            fields = list(status)
            fields[2] = self.device
            return os.stat_result(fields)

        monkeypatch.setattr(Path, "stat", stat)

    def mount(self, device: int, source: Path) -> None:
        folder = self.night.folder
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(source, folder, dirs_exist_ok=True)
        self.device = device


@pytest.fixture
def disks(night: Night, monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(night, monkeypatch)


def disk(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(sub_bytes(ord(name[0])))
    return folder


def test_twenty_unmounts_lose_nothing_and_need_no_help(night: Night, disks: Disks, tmp_path: Path) -> None:
    mine, nothing = disk(tmp_path / "mine", "a.fits", "b.fits"), disk(tmp_path / "empty")
    disks.mount(1, mine)
    assert night.turn(2.0) == ["a.fits", "b.fits"]
    for cycle in range(20):
        disks.mount(2, nothing)
        night.turn(10.0, 1.0)
        assert not night.watch.status.present
        assert "not mounted" in night.watch.status.reason
        new = f"c{cycle}.fits"
        (mine / new).write_bytes(sub_bytes(cycle))
        disks.mount(100 + cycle, mine)
        assert new in night.turn(5.0)
        assert night.watch.status.present
    assert night.gone == []
    assert set(night.taken) >= {"a.fits", "b.fits", "c0.fits", "c19.fits"}


def test_a_share_that_comes_back_is_looked_at_where_the_latest_sub_lies(night: Night, disks: Disks) -> None:
    slow = Night(night.folder, Watch(poll_s=300.0), "cifs")
    (night.folder / "tonight").mkdir()
    (night.folder / "tonight" / "a.fits").write_bytes(sub_bytes(1))
    assert slow.turn(8.0) == ["a.fits"]
    disks.device = 2
    slow.turn(8.0)
    (night.folder / "tonight" / "b.fits").write_bytes(sub_bytes(2))
    assert slow.turn(12.0) == ["b.fits"]
    slow.watch.close()


def test_another_disk_is_left_alone_but_its_new_subs_are_taken(night: Night, disks: Disks, tmp_path: Path) -> None:
    disks.mount(1, disk(tmp_path / "mine", "a.fits"))
    assert night.turn(2.0) == ["a.fits"]
    disks.mount(2, disk(tmp_path / "other", "x.fits", "y.fits"))
    assert night.turn(70.0, 1.0) == []
    assert "another disk" in night.watch.status.reason
    assert night.gone == []
    (night.folder / "z.fits").write_bytes(sub_bytes(9))
    assert night.turn(70.0, 1.0) == ["z.fits"]
    disks.mount(3, tmp_path / "mine")
    night.turn(10.0, 1.0)
    assert night.watch.status.reason == ""
    assert "a.fits" not in night.gone


def test_a_limit_on_watches_means_polling_not_blindness(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    class Limited:
        def schedule(self, *args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(watch_module, "Observer", Limited)
    night.turn()
    assert night.watch.status.mode == "polling"
    assert "watch limit" in night.watch.status.reason
    (night.folder / "a.fits").write_bytes(sub_bytes())
    assert night.turn(7.0) == ["a.fits"]


# ---- listing -------------------------------------------------------------------------------------


def test_a_scan_stays_inside_and_comes_to_an_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    deep = root
    for level in range(12):
        deep = deep / f"level{level}"
    deep.mkdir(parents=True)
    for folder in (root, deep, deep.parents[4]):
        (folder / "a.fits").write_bytes(b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.fits").write_bytes(b"x")
    (root / "way_out").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "link.fits").symlink_to(outside / "secret.fits")
    (root / "folder.fits").mkdir()
    (root / "@eaDir").mkdir()
    (root / "@eaDir" / "b.fits").write_bytes(b"x")
    os.mkfifo(root / "fifo.fits")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s.fits"))
        os.link(root / "a.fits", root / "hard.fits")
        names = sorted(Path(path).name for path in list_images(root).files)
    assert names == ["a.fits", "a.fits", "hard.fits"]


def test_odd_names_are_listed(tmp_path: Path) -> None:
    names = [b"caf\xe9.fits", b"x" * 250 + b".fits", b"new\nline\x1b[31m.fits", "Ω 星.fits".encode(), b"-rf.fits"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    assert {os.fsencode(Path(path).name) for path in list_images(tmp_path).files} == set(names)


def test_the_users_ignore_list_counts_for_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "Focus").mkdir()
    for name in ("Focus/a.fits", "test_1.fits", "b.fits"):
        (tmp_path / name).write_bytes(b"x")
    found = list_images(tmp_path, ignore=("focus", "TEST*")).files
    assert [Path(path).name for path in found] == ["b.fits"]


@pytest.mark.parametrize(
    ("path", "kind", "share"),
    [("/mnt/nas/captures", "cifs", True), ("/mnt/nas2", "ext4", False), ("/home/me/asi air/x", "fuse.sshfs", True),
     ("/home/me", "ext4", False), ("/media/usb", "fuseblk", False), ("/vm", "9p", True)],
)  # fmt: skip
def test_shares_are_known_by_their_file_system(path: str, kind: str, share: bool) -> None:
    mounts = "\n".join(
        [
            "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
            "40 21 0:40 / /mnt/nas rw,relatime shared:2 - cifs //nas/share rw,vers=3.0",
            r"41 21 0:41 / /home/me/asi\040air rw - fuse.sshfs me@asiair:/ rw",
            "42 21 8:17 / /media/usb rw - fuseblk /dev/sdb1 rw",
            "43 21 0:43 / /vm rw - 9p share rw",
            "broken line",
        ]
    )
    assert file_system(Path(path), mounts) == kind
    assert is_share(kind) is share


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="Linux tells in /proc what is watched")
@pytest.mark.parametrize(("recursive", "silent"), [(True, 0), (False, 3)])
def test_folders_that_no_watch_covers_are_counted(tmp_path: Path, recursive: bool, silent: int) -> None:
    root = tmp_path / "captures"
    (root / "night" / "LIGHT").mkdir(parents=True)
    (root / "other").mkdir()
    observer = Observer()
    observer.schedule(FileSystemEventHandler(), str(root), recursive=recursive)
    observer.start()
    try:
        assert wait_for(lambda: folders_without_events(root, list_images(root)) == silent)
    finally:
        observer.stop()
        observer.join()


# ---- the real thing: threads, events, a real folder -----------------------------------------------


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    folder = tmp_path / "captures"
    folder.mkdir()
    return folder


@pytest.fixture
def watcher(captures: Path) -> Iterator[Watcher]:
    made = Watcher([captures], Watch(quiet_local_s=0.3))
    made.start()
    assert wait_for(lambda: made.status()[0].present)
    yield made
    made.stop()


def names_taken(watcher: Watcher, count: int, timeout_s: float = 10.0) -> list[str]:
    names: list[str] = []
    deadline_s = time.monotonic() + timeout_s
    while len(names) < count and time.monotonic() < deadline_s:
        names += [one.path.name for one in watcher.take(0.2)]
    return sorted(names)


def test_subs_are_taken_soon_after_their_last_byte_however_they_are_written(watcher: Watcher, captures: Path) -> None:
    content = sub_bytes()

    def slowly() -> None:
        with (captures / "slow.fits").open("wb") as file:
            for start in range(0, len(content), 1000):
                file.write(content[start : start + 1000])
                file.flush()
                time.sleep(0.05)

    def renamed() -> None:
        (captures / "r.fits.tmp").write_bytes(content)
        (captures / "r.fits.tmp").rename(captures / "renamed.fits")

    def preallocated() -> None:
        with (captures / "prealloc.fits").open("wb") as file:
            file.truncate(len(content))
            time.sleep(0.5)
            file.write(content)

    def copied_with_old_time() -> None:
        (captures / "old.fits").write_bytes(content)
        os.utime(captures / "old.fits", (1e9, 1e9))

    def folder_moved_in() -> None:
        (captures.parent / "moved").mkdir()
        (captures.parent / "moved" / "inside.fits").write_bytes(content)
        (captures.parent / "moved").rename(captures / "moved")

    writers = [
        threading.Thread(target=f) for f in (slowly, renamed, preallocated, copied_with_old_time, folder_moved_in)
    ]
    begun_s = time.monotonic()
    for writer in writers:
        writer.start()
    taken = names_taken(watcher, 5)
    assert taken == ["inside.fits", "old.fits", "prealloc.fits", "renamed.fits", "slow.fits"]
    assert time.monotonic() - begun_s < 5.0
    for writer in writers:
        writer.join()


def test_the_status_never_waits_for_a_disk_that_hangs(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        hanging.wait(20.0)

    monkeypatch.setattr(watch_module, "list_images", hang)
    monkeypatch.setattr(watch_module, "HANGING_S", 0.2)
    stuck = Watcher([captures], Watch())
    stuck.start()
    begun_s = time.monotonic()
    assert wait_for(lambda: "has not answered" in stuck.status()[0].reason, 5.0)
    assert not stuck.status()[0].present
    assert stuck.take(0.1) == []
    assert time.monotonic() - begun_s < 3.0
    hanging.set()
    stuck.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_that_ends_before_its_time_is_said(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(FolderWatch, "turn", end)
    broken = Watcher([captures], Watch())
    broken.start()
    assert wait_for(lambda: "has ended" in broken.status()[0].reason, 5.0)
    assert not broken.status()[0].present


def test_nothing_in_the_watched_folder_is_touched(watcher: Watcher, captures: Path) -> None:
    for n in range(5):
        (captures / f"{n}.fits").write_bytes(sub_bytes(n))
    before = {path: path.stat().st_mtime_ns for path in captures.rglob("*")}
    assert len(names_taken(watcher, 5)) == 5
    assert {path: path.stat().st_mtime_ns for path in captures.rglob("*")} == before
    assert sorted(path.name for path in captures.iterdir()) == [f"{n}.fits" for n in range(5)]


def test_two_folders_are_watched_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    folders[0].mkdir()
    both = Watcher(folders, Watch(quiet_local_s=0.2))
    both.start()
    try:
        (folders[0] / "a.fits").write_bytes(sub_bytes())
        assert names_taken(both, 1) == ["a.fits"]
        assert wait_for(lambda: [status.present for status in both.status()] == [True, False])
        folders[1].mkdir()
        (folders[1] / "b.fits").write_bytes(sub_bytes())
        assert names_taken(both, 1) == ["b.fits"]
    finally:
        both.stop()


def test_a_file_may_be_asked_for_again(watcher: Watcher, captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsgd.daemon.settle.FIRST_RETRY_S", 0.2)
    (captures / "a.fits").write_bytes(sub_bytes())
    (taken,) = watcher.take(5.0)
    watcher.retry(taken.path)
    assert names_taken(watcher, 1, 15.0) == ["a.fits"]
