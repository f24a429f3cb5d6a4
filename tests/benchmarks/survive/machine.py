"""Anything in any order: files come and go, the daemon is killed, clocks jump, disk and network fail (hypothesis).

The daemon is the real one over real folders and a real store; only its clock is held, and it is turned by hand. After
every step the store must say what the model says: each content once, where it lies, and nothing lost.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nsgd.daemon.notify import Mailroom
from nsgd.daemon.run import Clock, Daemon
from nsgd.daemon.supervisor import Supervisor
from nsgd.daemon.watch import FolderStatus, FolderWatch, Settled
from nsgd.frames.read import read_frame
from nsgd.session.store import Reader, Store
from nsgd.settings import Settings, Watch
from nsgd.simulate import night, sub_cards, write_sub

NAMES = [f"sub_{number}.fits" for number in range(6)]
CONTENTS = 8
START_UTC_S = 1_790_000_000.0


@cache
def pool() -> tuple[Path, tuple[str, ...]]:
    """Folder with the files that may come, and their content ids."""
    folder = Path(tempfile.mkdtemp(prefix="nsgd-machine-"))
    plan = night("demo", subs=CONTENTS, width_px=240, height_px=180, start_utc_s=START_UTC_S)
    ids = []
    for number, truth in enumerate(plan.subs):
        path = write_sub(folder / f"{number}.fits", plan.pixels(number), sub_cards(truth, plan.object_name))
        ids.append(read_frame(path).content_id)
    return folder, tuple(ids)


class Hand:
    """The watched folders, looked at when the daemon asks: no thread, no event, the held clock."""

    def __init__(self, clock: HeldClock, folders: Sequence[Path], settings: Watch) -> None:
        self._clock = clock
        self._settled: list[Settled] = []
        self._gone: list[Path] = []
        # A share is looked at in turns, without events.
        self._watches = [
            FolderWatch(folder, settings, self._receive, file_system_of=lambda _: "nfs") for folder in folders
        ]

    def _receive(self, settled: list[Settled], gone: list[Path]) -> None:
        self._settled += settled
        self._gone += gone

    def expect(self, paths: Iterable[Path]) -> None:
        known = list(paths)
        for watch in self._watches:
            watch.expect(frozenset(path for path in known if path.is_relative_to(watch.folder)))

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def take(self, timeout_s: float) -> list[Settled]:
        for watch in self._watches:
            watch.turn(self._clock.steady, self._clock.utc)
        taken, self._settled = self._settled, []
        return taken

    def take_gone(self) -> list[Path]:
        taken, self._gone = self._gone, []
        return taken

    def retry(self, path: Path) -> None:
        for watch in self._watches:
            watch.retry(path)

    def status(self) -> list[FolderStatus]:
        return [watch.status for watch in self._watches]


class HeldClock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.steady, self.utc = 1000.0, START_UTC_S + 600.0

    def pass_s(self, seconds: float) -> None:
        self.steady += seconds
        self.utc += seconds


class Service:
    """A notification service that can be away; remembers what it took."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = False
        service = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not service.away:
                    service.taken.append(body.decode())
                self.send_response(503 if service.away else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Answer)
        # Patient, so that no answer counts as lost on a busy machine: a lost answer may ring the phone twice.
        self.url = f"json://127.0.0.1:{self._server.server_port}/?cto=120&rto=120"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Night(RuleBasedStateMachine):
    """The rules and the model."""

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="nsgd-night-"))
        self.lights, self.away = self.home / "lights", self.home / "away"
        self.lights.mkdir()
        self.files: dict[str, int | None] = {}
        """Name -> number of its content; None where the file is cut short."""
        self.expected: set[int] = set()
        self.unsure: set[str] = set()
        """Content that nobody can say is gone."""
        self.mounted, self.full = True, False
        self.clock = HeldClock()
        self.service = Service()
        self.store_folder = self.home / "store-0"
        self.starts = 0
        self._start()

    def _start(self) -> None:
        watch = {"folders": [str(self.lights)], "quiet_share_s": 2.0, "poll_s": 1.0}
        settings = Settings.model_validate(
            {"watch": watch, "notify": {"urls": [self.service.url], "pictures": False}, "site": {"timezone": "UTC"}}
        )
        clock = Clock(lambda: self.clock.utc, lambda: self.clock.steady)
        store = Store.open(self.store_folder, self.clock.utc)

        def by_hand(folders: Sequence[Path], watch: Watch) -> Any:
            return Hand(self.clock, folders, watch)

        self.daemon = Daemon(store, settings, clock=clock, supervisor=Supervisor({}), watcher_of=by_hand)
        self.mailroom = Mailroom(store, {"s1": self.service.url}, launch=lambda job: job())
        self.starts += 1

    def _settle(self) -> None:
        """Let time pass until everything that is whole has been taken."""
        for _ in range(8):
            self.clock.pass_s(1.5)
            self.daemon.turn()
        while self.daemon.waiting:
            self.daemon.turn()
        self._deliver()
        if self.mounted:
            self.expected |= {content for content in self.files.values() if content is not None}

    def _deliver(self) -> None:
        """Send what is due, one message after the other; a turn books what the turn before has sent."""
        self.mailroom.turn(self.clock.utc)
        told = -1
        while told != len(self.service.taken):
            told = len(self.service.taken)
            self.mailroom.turn(self.clock.utc)

    # ---- files

    @rule(name=st.sampled_from(NAMES), content=st.integers(0, CONTENTS - 1), share=st.floats(0.01, 0.99))
    def write_a_part(self, name: str, content: int, share: float) -> None:
        if self.mounted:
            whole = (pool()[0] / f"{content}.fits").read_bytes()
            (self.lights / name).write_bytes(whole[: int(share * len(whole))])
            self.files[name] = None
            self._settle()

    @rule(name=st.sampled_from(NAMES), content=st.integers(0, CONTENTS - 1))
    def write_whole(self, name: str, content: int) -> None:
        if self.mounted:
            (self.lights / name).write_bytes((pool()[0] / f"{content}.fits").read_bytes())
            self.files[name] = content
            self._settle()

    @rule(name=st.sampled_from(NAMES), content=st.integers(0, CONTENTS - 1))
    def replace_by_rename(self, name: str, content: int) -> None:
        if self.mounted:
            shutil.copy(pool()[0] / f"{content}.fits", self.home / "new")
            (self.home / "new").rename(self.lights / name)
            self.files[name] = content
            self._settle()

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def rename(self, old: str, new: str) -> None:
        if self.mounted and old in self.files and old != new:
            (self.lights / old).rename(self.lights / new)
            self.files[new] = self.files.pop(old)
            self._settle()

    @rule(name=st.sampled_from(NAMES))
    def truncate(self, name: str) -> None:
        if self.mounted and name in self.files:
            with (self.lights / name).open("r+b") as file:
                file.truncate(3000)
            self.files[name] = None
            self._settle()

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        if self.mounted and name in self.files:
            (self.lights / name).unlink()
            del self.files[name]
            self._settle()

    # ---- the machine

    @precondition(lambda self: self.mounted)
    @rule()
    def unmount(self) -> None:
        self.lights.rename(self.away)
        self.mounted = False
        self._settle()

    @precondition(lambda self: not self.mounted)
    @rule()
    def mount_again(self) -> None:
        self.away.rename(self.lights)
        self.mounted = True
        self._settle()

    @rule()
    def kill_and_restart(self) -> None:
        """What a killed process leaves is what its files hold at that moment."""
        left = self.home / f"store-{self.starts}"
        unsaved = self.daemon.store.unsaved > 0
        shutil.copytree(self.store_folder, left, ignore=shutil.ignore_patterns("*-shm", "lock"))
        self.daemon.store.close()
        shutil.rmtree(self.store_folder)
        self.store_folder, self.full = left, False
        if unsaved:
            with Reader.open(left) as reader:
                saved = {row.content_id for row in reader.subs()}
                places = reader.present_files()
                booked = [row.alert for row in reader.alerts() if any(one.state == "sent" for one in row.deliveries)]
            self.expected = {number for number in self.expected if pool()[1][number] in saved}
            # Where nothing is left of what was saved, it may be another disk: nothing is called gone.
            if self.mounted and not any(Path(place).exists() for place in places):
                self.unsure |= saved
            # What a full disk could not book is told again after a kill: twice is better than never.
            told = {f"{alert.title} [{alert.event_id}]" for alert in booked}
            self.service.taken = [message for message in self.service.taken if json.loads(message)["title"] in told]
        self._start()
        self._settle()

    @rule()
    def restart(self) -> None:
        unsaved = self.daemon.store.unsaved > 0
        if not unsaved:
            self.daemon.store.close()
            self.full = False
            self._start()
            self._settle()

    @rule(seconds=st.sampled_from([-3600.0, -60.0, 60.0, 3600.0, 86400.0 * 3]))
    def clock_step(self, seconds: float) -> None:
        self.clock.utc = max(START_UTC_S, self.clock.utc + seconds)
        self._settle()

    @rule(away=st.booleans())
    def network(self, away: bool) -> None:
        self.service.away = away
        if not away:
            self.clock.pass_s(400.0)
        self._settle()

    @precondition(lambda self: not self.full)
    @rule()
    def disk_full(self) -> None:
        connection = self.daemon.store._connection
        pages = connection.execute("PRAGMA main.page_count").fetchone()[0]
        connection.execute(f"PRAGMA main.max_page_count = {pages}")
        self.full = True
        self._settle()

    @precondition(lambda self: self.full)
    @rule()
    def disk_free(self) -> None:
        self.daemon.store._connection.execute("PRAGMA main.max_page_count = 1073741823")
        self.full = False
        self._settle()
        assert (self.daemon.store.unsaved, self.daemon.store.save_problem) == (0, "")

    # ---- what must hold

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        if not hasattr(self, "daemon"):
            return
        ids = pool()[1]
        rows = self.daemon.store.subs()
        found = [row.content_id for row in rows]
        assert len(found) == len(set(found)), "a sub is there twice"
        assert set(found) == {ids[number] for number in self.expected}
        assert not any(row.failure is not None and row.failure.kind == "internal" for row in rows)
        if not self.mounted:
            return
        places: dict[str, set[str]] = {ids[number]: set() for number in self.expected}
        for name, content in self.files.items():
            if content is not None:
                places[ids[content]].add(str(self.lights / name))
        cut_short = {str(self.lights / name) for name, content in self.files.items() if content is None}
        for row in rows:
            if places[row.content_id]:
                assert not row.gone, f"{row.path} is there"
                assert row.path in places[row.content_id] | cut_short
            else:
                assert row.gone or row.path in cut_short or row.content_id in self.unsure, f"{row.path} is gone"

    @invariant()
    def every_alert_is_delivered_once(self) -> None:
        if not hasattr(self, "daemon"):
            return
        deliveries = [one for row in self.daemon.store.alerts() for one in row.deliveries]
        assert all(one.state in ("pending", "sent", "dropped") for one in deliveries)
        assert len(self.service.taken) == len(set(self.service.taken)), "the phone rang twice for one thing"

    def teardown(self) -> None:
        if hasattr(self, "daemon"):
            with suppress(Exception):
                self.daemon.store.close()
            self.service.close()
            shutil.rmtree(self.home, ignore_errors=True)


def run(examples: int, steps: int) -> float:
    """Play so many nights of so many steps; seconds taken. Raises AssertionError with the shortest bad night."""
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis.stateful import run_state_machine_as_test

    begun_s = time.monotonic()
    run_state_machine_as_test(
        Night,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            database=None,
        ),
    )
    return time.monotonic() - begun_s
