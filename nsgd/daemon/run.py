"""`nsgd run`: the loop that takes settled files one by one and commits them. The only writer of facts.

One turn: take what settled, walk one file, commit it with its alerts in one transaction, look at the clock. About
every second a tick: requests, alarm, folders, heartbeat. Nothing that goes wrong with one sub ends the loop; what
does (signals, a store that another daemon owns) is decided in `run_daemon`.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from types import FrameType

from nsgd.config import zone_of
from nsgd.daemon.apply import apply_requests
from nsgd.daemon.backlog import SHORT, Backlog
from nsgd.daemon.graph import draw_alert, trim_pictures
from nsgd.daemon.herald import Ears, Herald
from nsgd.daemon.notify import Mailroom, Notifier, Redaction, services
from nsgd.daemon.supervisor import Supervisor, log_to_stderr
from nsgd.daemon.troubles import PATIENCE_S, Signs, Troubles
from nsgd.daemon.watch import Settled, Watcher
from nsgd.errors import BadSettings, FileProblem, StoreDamaged, StoreUnwritable, UnreadableFrame
from nsgd.fleet.claim import Desk
from nsgd.fleet.publish import Publisher
from nsgd.frames.preview import trim_previews
from nsgd.frames.read import read_frame
from nsgd.records import Alert, Failure, SubRow
from nsgd.session.alerts import AlarmState, notice, over, report, step
from nsgd.session.series import session_of, stream_key
from nsgd.session.sky import observe
from nsgd.session.store import ALARM_STATE, PREVIEWS, DaemonStatus, FolderStatus, Store, SubCommit
from nsgd.settings import Settings, Watch
from nsgd.walk import Walker, ordering_time

log = logging.getLogger(__name__)

TICK_S = 1.0
BEAT_S = 5.0
HOUSEKEEPING_S = 600.0
REOPEN_S = 2.0
REPAIR_PAUSE_S = 600.0
DEADLY = 3
"""A file over which the daemon died so many times in a row is left out until the next start."""
IN_FLIGHT = "in_flight"
NICE = 10
ENDED, INTERRUPTED = 0, 130


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from."""

    utc_s: Callable[[], float] = time.time
    steady_s: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Wishes:
    """What signals ask for."""

    stop: bool = False
    reload: bool = False
    code: int = ENDED


def run_daemon(
    store_folder: Path,
    settings: Settings,
    *,
    reload: Callable[[], Settings] | None = None,
    until: Callable[[], bool] | None = None,
    clock: Clock | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Watch and measure until told to stop; returns the exit code.

    Parameters
    ----------
    store_folder
        Where the store lies; made where missing, moved aside and rebuilt from the files where damaged.
    settings
        `settings.watch.folders` are watched.
    reload
        Reads the settings anew (SIGHUP); may raise BadSettings, which keeps the old ones.
    until
        Asked every turn; True ends the loop.
    clock
        Where the time comes from.
    environ
        NOTIFY_SOCKET, WATCHDOG_USEC and JOURNAL_STREAM are looked at.

    Raises
    ------
    StoreLocked, StoreUnusable
        The store cannot be this daemon's.
    """
    clock = clock or Clock()
    supervisor = Supervisor(environ)
    log_to_stderr(environ, Redaction(_secrets(settings)))
    _be_modest()
    with _signals() as wishes:
        message, repaired_s = "", float("-inf")
        while not wishes.stop:
            opened = _open_store(store_folder, clock, supervisor, lambda: wishes.stop or bool(until and until()))
            if opened is None:
                break
            store, said = opened
            with store:
                daemon = Daemon(store, settings, clock=clock, supervisor=supervisor, message=said or message)
                try:
                    with daemon.running():
                        daemon.serve(wishes, until, reload)
                    break
                except StoreDamaged as problem:
                    if clock.steady_s() - repaired_s < REPAIR_PAUSE_S:
                        raise  # a disk that spoils what is written needs a person
                    message, repaired_s = problem.sentence, clock.steady_s()
                    log.error("%s", problem.sentence)
                finally:
                    settings = daemon.settings
        supervisor.stopping()
        return wishes.code


class Daemon:
    """One open store with everything that works on it."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Clock,
        supervisor: Supervisor,
        message: str = "",
        watcher_of: Callable[[Sequence[Path], Watch], Watcher] = Watcher,
    ) -> None:
        self.store = store
        self.settings = settings
        self._clock = clock
        self._supervisor = supervisor
        self._message = message
        self._watcher_of = watcher_of
        self._backlog = Backlog()
        self._troubles = Troubles()
        self._alarm = AlarmState.from_json(store.state(ALARM_STATE))
        self._started_utc_s = clock.utc_s()
        self._next_tick_s = self._next_beat_s = self._next_housekeeping_s = self._not_before_s = float("-inf")
        self._internal_errors = self._told_pending = 0
        self._deaths: dict[str, int] = {}
        self._left_out = self._deadly_file()
        self._build()

    # ---- parts -----------------------------------------------------------------------------------

    def _build(self) -> None:
        """Everything that depends on the settings, except the watcher."""
        self._zone: tzinfo | None = zone_of(self.settings)
        self._walker = Walker(self.store, self.settings, self._zone)
        self._urls = services([url.get_secret_value() for url in self.settings.notify.urls])
        url = self.settings.publish.url.get_secret_value()
        self._publisher = Publisher(self.store, url, self.settings.limits, self._clock.utc_s) if url else None
        mailroom = Mailroom(self.store, self._urls, now_line=self._sky_line, picture=self._picture_of, zone=self._zone)
        mailroom.desk = Desk(url) if url else None
        self._notifier = Notifier(mailroom, self._clock.utc_s)
        self._herald = Herald(Ears.of(self.settings))
        self._watcher = self._watcher_of([Path(folder) for folder in self.settings.watch.folders], self.settings.watch)
        self._watcher.expect(Path(path) for path in self.store.present_files())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Threads and word to the supervisor, from start to stop."""
        self._start()
        self._supervisor.ready(self._line())
        log.info("watching %s; store %s", ", ".join(self.settings.watch.folders), self.store.folder)
        try:
            yield
        finally:
            # Before the threads end: the last word names the folders as they were watched.
            with suppress(StoreUnwritable, StoreDamaged):
                self._beat(stopped=True)
            self._stop()

    def _start(self) -> None:
        self._notifier.start()
        self._herald.start()
        if self._publisher is not None:
            self._publisher.start()
        self._watcher.start()

    def _stop(self) -> None:
        self._watcher.stop()
        self._herald.stop()
        if self._publisher is not None:
            self._publisher.stop()
        self._notifier.stop()

    # ---- the loop --------------------------------------------------------------------------------

    def serve(
        self, wishes: Wishes, until: Callable[[], bool] | None, reload: Callable[[], Settings] | None = None
    ) -> None:
        """Turn until told to stop.

        Raises
        ------
        StoreDamaged
            The store has to be moved aside.
        """
        while not (wishes.stop or (until is not None and until())):
            if wishes.reload:
                wishes.reload = False
                self._reload(reload)
            self.turn()

    @property
    def waiting(self) -> int:
        """Settled files that were not taken yet."""
        return len(self._backlog)

    def turn(self) -> None:
        """One round: what the clock asks for, then at most one file."""
        now_s = self._clock.steady_s()
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + TICK_S
            self._guarded(lambda: self._tick(now_s), None)
        self._supervisor.progress(now_s)
        self._herald.beat()
        blocked = now_s < self._not_before_s
        idle = blocked or not self._backlog
        self._backlog.add(self._watcher.take(max(0.0, self._next_tick_s - now_s) if idle else 0.0))
        file = None if blocked else self._backlog.next()
        if file is not None:
            began_s = self._clock.steady_s()
            self._guarded(lambda: self._take(file), file)
            self._give_way(self._clock.steady_s() - began_s)

    def _guarded(self, work: Callable[[], None], file: Settled | None) -> None:
        """Do one piece of work; whatever goes wrong with it, the loop goes on."""
        try:
            work()
        except StoreDamaged:
            raise
        except StoreUnwritable as problem:
            self._wait_for_disk(problem, file)
        # The one supervised door: a mistake of nsgd over one sub is committed as that sub's failure.
        except Exception as error:
            log.exception("internal error%s", f" over {file.path}" if file else "")
            if file is not None:
                self._commit_internal(file, error)

    def _wait_for_disk(self, problem: StoreUnwritable, file: Settled | None) -> None:
        """Memory is full too, or the store cannot even be read: the file waits in its folder until that has passed."""
        log.warning("%s", problem.sentence)
        self._message = problem.sentence
        self._not_before_s = self._clock.steady_s() + REOPEN_S
        if file is not None:
            self._backlog.add([file])
            with suppress(StoreUnwritable):
                self._walker = Walker(self.store, self.settings, self._zone)

    def _give_way(self, took_s: float) -> None:
        """While a backlog is worked off on a busy machine, rest as long as the last sub took."""
        if len(self._backlog) > 1 and _is_busy():
            self._backlog.add(self._watcher.take(min(took_s, TICK_S)))

    # ---- one file --------------------------------------------------------------------------------

    def _take(self, file: Settled) -> None:
        """One settled file: skip what is known, else walk and commit it."""
        path = str(file.path)
        try:
            status = file.path.stat()
        except OSError:
            return  # gone or unreachable again: the watcher hands it over when it is back
        stamp = (status.st_size, status.st_mtime_ns)
        seen = self.store.seen(path, *stamp) and not self._walker.wants(file.path)
        if seen or path == self._left_out:
            return
        self.store.note(IN_FLIGHT, json.dumps({"path": path, "deaths": self._deaths.pop(path, 0)}))
        try:
            commit = self._walker.walk(file.path, file.folder, self._clock.utc_s())
        except UnreadableFrame as problem:
            self._note_unreadable(file, problem, stamp)
            self.store.note(IN_FLIGHT, "")
            return
        if commit is None:
            self.store.stamp(path, *stamp)
            self.store.note(IN_FLIGHT, "")
        else:
            self._commit(commit, stamp)
            # a field that has just become a series takes in the sub that showed it first
            self._backlog.add(Settled(path, folder, file.written_utc_s) for path, folder in self._walker.again())

    def _note_unreadable(self, file: Settled, problem: UnreadableFrame, stamp: tuple[int, int]) -> None:
        log.warning("%s: %s", file.path, problem.sentence)
        self.store.note_unreadable(str(file.path), problem.sentence)
        if problem.may_retry:
            self._watcher.retry(file.path)
        else:
            self.store.stamp(str(file.path), *stamp)

    def _commit(self, commit: SubCommit, stamp: tuple[int, int]) -> None:
        now_utc_s = self._clock.utc_s()
        verdict = self._walker.verdict(commit)
        site = (self.settings.site.latitude_deg, self.settings.site.longitude_deg)
        seen = observe(commit.row, verdict, site)
        neighbours = self._publisher.neighbours() if self._publisher is not None else ()
        alarm, alerts = step(self._alarm, seen, now_utc_s, self.settings.alarm, self._zone, neighbours)
        states = {ALARM_STATE: alarm.to_json(), IN_FLIGHT: ""}
        sub_id = self.store.commit_sub(commit, alerts, tuple(self._urls), states, stamp)
        self._alarm = alarm
        if self._publisher is not None:
            self._publisher.tell(report(alarm, now_utc_s))
        self._walker.committed(commit, sub_id)
        self._tell(alerts)
        name = Path(commit.row.path).name
        if commit.row.failure is not None:
            log.info("%s: failed, %s", name, commit.row.failure.sentence)
        else:
            figures = (verdict.transmission_clear, verdict.weight_of_best, commit.row.stars_matched)
            log.info("%s: transmission %.3f, weight %.2f, %d stars", name, *figures)

    def _commit_internal(self, file: Settled, error: Exception) -> None:
        """A sub over which nsgd itself failed is a failure in the store, not a gap."""
        self._internal_errors += 1
        now_utc_s = self._clock.utc_s()
        try:
            status = file.path.stat()
            frame = read_frame(file.path, budget_mb=self.settings.watch.budget_mb, aliases=self.settings.filters)
        except (FileProblem, OSError) as problem:
            self.store.note_unreadable(str(file.path), f"nsgd failed over it ({error!r}), and then: {problem}")
            return
        order_utc_s, flag = ordering_time(frame.header, now_utc_s)
        sentence = f"nsgd itself failed ({type(error).__name__}: {error}); please report this."
        row = SubRow(
            sub_id=0, content_id=frame.content_id, series_id=0, stream=stream_key(frame.header),
            folder=str(file.folder), path=str(file.path), gone=False, header=frame.header,
            session=session_of(order_utc_s, self._zone), arrived_utc_s=now_utc_s, order_utc_s=order_utc_s,
            order_flag=flag, failure=Failure("internal", sentence), measure_s=0.0,
        )  # fmt: skip
        stamp = (status.st_size, status.st_mtime_ns)
        self.store.commit_sub(SubCommit(row, None, None, None), states={IN_FLIGHT: ""}, stamp=stamp)

    def _deadly_file(self) -> str:
        """The file over which earlier processes died again and again, "" for none; counts this start."""
        text = self.store.state(IN_FLIGHT)
        if not text:
            return ""
        read = json.loads(text)
        path, deaths = str(read["path"]), int(read["deaths"]) + 1
        if deaths < DEADLY:
            self._deaths[path] = deaths
            return ""
        sentence = f"nsgd ended {deaths} times while measuring this file; it is left out until the next start."
        log.error("%s: %s", path, sentence)
        self.store.note_unreadable(path, sentence)
        self.store.note(IN_FLIGHT, "")
        return path

    # ---- ticks -----------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        now_utc_s = self._clock.utc_s()
        self._alarm = apply_requests(self.store, self._walker, self._alarm, now_utc_s)
        gone = self._watcher.take_gone()
        if gone:
            self.store.mark_gone(str(path) for path in gone)
        self._sound(now_s, now_utc_s)
        many_more = self._pending() > self._told_pending + SHORT  # a backlog was found: say so at once
        if now_s >= self._next_beat_s or many_more:
            self._next_beat_s = now_s + BEAT_S
            self._beat()
        if now_s >= self._next_housekeeping_s:
            self._next_housekeeping_s = now_s + HOUSEKEEPING_S
            self._keep_house(now_utc_s)

    def _sound(self, now_s: float, now_utc_s: float) -> None:
        """The alarm without a sub: missing subs, dawn, troubles of the machine."""
        said: tuple[Alert, ...] = ()
        alarm, settings, zone = self._alarm, self.settings.alarm, self._zone
        going_on = {trouble.kind for trouble in alarm.troubles if not trouble.ended}
        troubles = self._troubles.ripe(self._signs(), now_s, going_on)
        for kind, sentence in troubles.items():
            if kind not in going_on:
                alarm, alerts = notice(alarm, kind, sentence, now_utc_s, settings, zone)
                said += alerts
        for kind in (going_on & PATIENCE_S.keys()) - troubles.keys():
            alarm, alerts = over(alarm, kind, now_utc_s, settings, zone)
            said += alerts
        alarm, alerts = step(alarm, None, now_utc_s, settings, zone)
        said += alerts
        if said or troubles.keys() != going_on & PATIENCE_S.keys():
            session = session_of(now_utc_s, zone)
            self.store.commit_alerts(said, tuple(self._urls), {ALARM_STATE: alarm.to_json()}, session)
        self._alarm = alarm
        self._tell(said)
        word = report(alarm, now_utc_s)
        self._herald.tell(word)
        if self._publisher is not None:
            self._publisher.tell(word)

    def _signs(self) -> Signs:
        """What there is to see of the machine."""
        free_bytes = None
        with suppress(OSError):
            free_bytes = shutil.disk_usage(self.store.folder).free
        return Signs(
            lost_folders={str(one.folder): one.reason for one in self._watcher.status() if not one.present},
            save_problem=self.store.save_problem,
            free_bytes=free_bytes,
            internal_errors=self._internal_errors,
        )

    def _tell(self, alerts: tuple[Alert, ...]) -> None:
        for alert in alerts:
            log.warning("alert: %s", alert.title)
        if alerts:
            self._notifier.wake()

    def _beat(self, *, stopped: bool = False) -> None:
        folders = self._watcher.status()
        self._told_pending = self._pending()
        status = DaemonStatus(
            pid=os.getpid(),
            host=socket.gethostname(),
            started_utc_s=self._started_utc_s,
            last_progress_utc_s=self._clock.utc_s(),
            folders=tuple(
                FolderStatus(str(folder.folder), folder.mode if folder.present else "missing", folder.reason)
                for folder in folders
            ),
            pending=self._told_pending,
            sky=report(self._alarm, self._clock.utc_s()),
            unsaved=self.store.unsaved,
            message=self.store.save_problem or self._message,
            stopped=stopped,
        )
        self.store.beat(status.last_progress_utc_s, status)
        self._supervisor.status(self._line())

    def _pending(self) -> int:
        """Files that are known and not measured yet."""
        return self.waiting + sum(folder.pending for folder in self._watcher.status())

    def _keep_house(self, now_utc_s: float) -> None:
        """Keep previews and old nights within their bounds."""
        spare = [self.store.preview_path(row.reference_id) for row in self.store.series() if row.reference_id]
        with suppress(OSError):
            trim_previews(self.store.folder / PREVIEWS, self.settings.store.previews_mb, spare)
            trim_pictures(self.store.folder)
        if self.settings.store.keep_days:
            oldest = session_of(now_utc_s - 86400.0 * self.settings.store.keep_days, self._zone)
            if self.store.forget(oldest):
                self._walker = Walker(self.store, self.settings, self._zone)

    def _line(self) -> str:
        """The state as one line, for `systemctl status`."""
        return f"sky {self._sky_line()}, {len(self._backlog)} waiting"

    def _sky_line(self) -> str:
        return str(report(self._alarm, self._clock.utc_s())["line"])

    def _picture_of(self, alert: Alert) -> Path | None:
        """The picture for a message; drawn in the sending thread."""
        if not self.settings.notify.pictures:
            return None
        return draw_alert(self.store, alert, self.settings.limits, self._zone, self._alarm.sky)

    # ---- settings --------------------------------------------------------------------------------

    def _reload(self, reload: Callable[[], Settings] | None) -> None:
        """Other settings, or the old ones and the reason."""
        if reload is None:
            return
        self._supervisor.reloading()
        try:
            settings = reload()
        except BadSettings as problem:
            for line in problem.problems:
                log.error("%s", line)
            self._message = f"The settings were not reloaded: {problem.problems[0]}"
            log.error("the old settings stay")
        else:
            self._stop()
            self.settings = settings
            self._message = ""
            self._build()
            self._start()
            log.info("settings reloaded")
        self._next_beat_s = float("-inf")
        self._supervisor.ready(self._line())


def _open_store(
    folder: Path, clock: Clock, supervisor: Supervisor, stop: Callable[[], bool]
) -> tuple[Store, str] | None:
    """The store, and what the user should know about it; None where the daemon is told to stop before."""
    told = ""
    while not stop():
        try:
            return Store.open(folder, clock.utc_s()), ""
        except StoreDamaged as problem:
            log.error("%s", problem.sentence)
            store, aside = Store.open_anew(folder, clock.utc_s())
            said = f"The store was damaged and lies in {aside} now; it is being rebuilt from the files."
            log.error("%s", said)
            return store, said
        except StoreUnwritable as problem:
            if problem.sentence != told:
                told = problem.sentence
                log.error("%s Trying again.", told)
                supervisor.status(told)
            supervisor.progress(clock.steady_s())
            time.sleep(REOPEN_S / 4)
    return None


def _secrets(settings: Settings) -> list[str]:
    notify, publish = settings.notify, settings.publish
    secret = (*notify.urls, notify.heartbeat_url, notify.mqtt_url, publish.url)
    found = [url.get_secret_value() for url in secret]
    return [url for url in found if url]


def _is_busy() -> bool:
    """Whether more wants to run than the machine has processors; unknown counts as no."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return False


def _be_modest() -> None:
    """Give way to the capture program, also where no service manager set that."""
    faulthandler.enable()
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
        if os.getsid(0) == os.getpid():
            # Linux shares the processor out to sessions first: a service, which has one of its own, lowers that too.
            with suppress(OSError):
                Path("/proc/self/autogroup").write_text(str(NICE), encoding="ascii")


@contextmanager
def _signals() -> Iterator[Wishes]:
    """SIGTERM ends cleanly, SIGINT as interrupted, SIGHUP reloads; the old handlers come back at the end."""
    wishes = Wishes()

    def stop(number: int, _frame: FrameType | None) -> None:
        wishes.stop = True
        wishes.code = INTERRUPTED if number == signal.SIGINT else ENDED

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        wishes.reload = True

    wanted: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {}
    wanted.update({signal.SIGTERM: stop, signal.SIGINT: stop})
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = hang_up
    try:
        old = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    except ValueError:  # not the main thread: whoever runs the thread stops it with `until`
        old = {}
    try:
        yield wishes
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
