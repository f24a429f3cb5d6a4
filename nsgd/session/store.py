"""The night's memory: SQLite, one transaction a sub, read by any number of processes.

Every row carries a checksum of its columns and is always written whole, so a flipped bit is found where it is read.
Every transaction that changes something takes the next change number; `Reader.changes_since` hands out what is newer.
While the disk refuses to write, rows go to temporary tables in memory that lie over the real ones, and follow
as soon as it can be written again.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from nsgd.errors import BadRequest, StoreDamaged, StoreProblem, StoreUnusable, StoreUnwritable
from nsgd.records import Alert, Catalogue, Failure, HeaderFacts, Relation, SeriesRow, SubFacts, SubRow
from nsgd.session.blobs import build, dumps, from_bytes, loads, pack, to_bytes, unpack
from nsgd.session.place import FolderLock, open_file, prepare_folder
from nsgd.session.series import natural_key

DATABASE = "nsgd.db"
PREVIEWS = "previews"
MOST_UNSAVED = 2000
"""Rows of facts that are kept in memory while the disk refuses to write (about 20 kB each)."""
STALE_S = 90.0
"""A daemon that said nothing for this long is taken for dead; it speaks every few seconds."""
_BUSY_S = 10.0

# Numbered steps: step n takes a database from user_version n to n + 1 in one transaction. Never change a released one.
_STEPS = (
    """
    CREATE TABLE counter (id INTEGER PRIMARY KEY, last INTEGER, checksum INTEGER);
    CREATE TABLE series (series_id INTEGER PRIMARY KEY, key TEXT UNIQUE, record TEXT, change INTEGER, checksum INTEGER);
    CREATE TABLE catalogues (series_id INTEGER, generation INTEGER, data BLOB, checksum INTEGER,
        PRIMARY KEY (series_id, generation));
    CREATE TABLE subs (sub_id INTEGER PRIMARY KEY, content_id TEXT UNIQUE, series_id INTEGER, stream TEXT, folder TEXT,
        path TEXT, gone INTEGER, session TEXT, arrived_utc_s REAL, order_utc_s REAL, order_flag TEXT, measure_s REAL,
        decision TEXT, change INTEGER, header TEXT, failure TEXT, figures TEXT, relation TEXT, checksum INTEGER);
    CREATE INDEX subs_by_series ON subs (series_id, order_utc_s);
    CREATE INDEX subs_by_change ON subs (change);
    CREATE INDEX subs_by_path ON subs (path);
    CREATE TABLE facts (sub_id INTEGER PRIMARY KEY, data BLOB, checksum INTEGER);
    CREATE TABLE alerts (alert_id INTEGER PRIMARY KEY, session TEXT, record TEXT, change INTEGER, checksum INTEGER);
    CREATE TABLE outbox (outbox_id INTEGER PRIMARY KEY, alert_id INTEGER, service TEXT, state TEXT, tries INTEGER,
        next_try_utc_s REAL, done_utc_s REAL, error TEXT, checksum INTEGER);
    CREATE INDEX outbox_by_state ON outbox (state);
    CREATE TABLE requests (request_id INTEGER PRIMARY KEY, kind TEXT, args TEXT, created_utc_s REAL, state TEXT,
        result TEXT, done_utc_s REAL, checksum INTEGER);
    CREATE TABLE states (name TEXT PRIMARY KEY, value TEXT, checksum INTEGER);
    CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, outcome TEXT, note TEXT,
        checksum INTEGER);
    CREATE INDEX files_by_note ON files (note);
    CREATE TABLE daemon (id INTEGER PRIMARY KEY, status TEXT, checksum INTEGER);
    """,
)
_TABLES = {
    "counter": "id",
    "series": "series_id",
    "catalogues": "series_id, generation",
    "subs": "sub_id",
    "facts": "sub_id",
    "alerts": "alert_id",
    "outbox": "outbox_id",
    "requests": "request_id",
    "states": "name",
    "files": "path",
    "daemon": "id",
}
# An index that holds every row of its table, in pages of its own.
_COUNTED_BY = {
    "series": "sqlite_autoindex_series_1",
    "subs": "subs_by_change",
    "outbox": "outbox_by_state",
    "states": "sqlite_autoindex_states_1",
    "files": "sqlite_autoindex_files_1",
}
# Damage shows as such, or as tables, columns and values that are not those that nsgd wrote.
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,
    }
)
_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_PROTOCOL,
    }
)

_SUB = "sub"
"""Outcome of a file that holds a sub; its note is the content's id."""

Row = tuple[Any, ...]
Put = tuple[str, Row]


@dataclass(frozen=True, slots=True)
class SubCommit:
    """All that one sub changes. Ids of 0 are new ones; `Store.next_sub_id` tells them beforehand."""

    row: SubRow
    facts: SubFacts | None
    catalogue: Catalogue | None
    """A new generation of the series' catalogue, None where it stays."""
    series: SeriesRow | None
    """None where the sub failed before its series was known."""
    relations: tuple[tuple[int, Relation], ...] = ()
    """Other subs whose relation changes too."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one alert at one service: state is `pending`, `sent` or `dropped`."""

    service: str
    state: str
    tries: int
    error: str
    done_utc_s: float | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert of the log and its deliveries."""

    alert_id: int
    session: str
    alert: Alert
    deliveries: tuple[Delivery, ...]
    change: int


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One alert on its way to one service."""

    outbox_id: int
    alert_id: int
    service: str
    alert: Alert
    tries: int
    next_try_utc_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for; state is `pending`, `applied` or `refused`."""

    request_id: int
    kind: str
    args: dict[str, Any]
    created_utc_s: float
    state: str = "pending"
    result: str = ""
    done_utc_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    sentence: str


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """How one folder is watched: mode is `events`, `polling` or `missing`."""

    path: str
    mode: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """What the daemon last said about itself."""

    pid: int
    host: str
    started_utc_s: float
    last_progress_utc_s: float
    folders: tuple[FolderStatus, ...] = ()
    pending: int = 0
    """Files that are waiting: incomplete, unquiet or queued."""
    sky: dict[str, Any] = field(default_factory=dict)
    unsaved: int = 0
    message: str = ""
    stopped: bool = False
    """True where the daemon ended by itself; a killed one leaves False and an old time."""

    def alive(self, now_utc_s: float) -> bool:
        """Whether the daemon runs: it spoke lately, and its process is still there where it can be looked for."""
        return not self.stopped and now_utc_s - self.last_progress_utc_s < STALE_S and not self._is_gone()

    def _is_gone(self) -> bool:
        """True where the process was one of this machine and exists no more: it was killed."""
        here = Path("/proc/self").exists() and self.host == socket.gethostname()
        return here and not Path(f"/proc/{self.pid}").exists()


ALARM_STATE = "alarm"
"""Name of the alarm's state: it is kept in the transaction of the sub that it follows from."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is newer than a change number; `last` is the number to ask with next time."""

    last: int
    subs: list[SubRow]
    series: list[SeriesRow]
    alerts: list[AlertRow]
    daemon: DaemonStatus | None
    alarm: str | None = None
    """The alarm's state as the daemon has judged it with its last sub, JSON; None where no daemon ever did."""


class Reader:
    """Read access for any process; holds no transaction between calls."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self.folder = folder
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: Path) -> Reader:
        """Open the store in a folder for reading.

        Raises
        ------
        StoreUnusable
            There is no store, or this user may not read it, or it is of a newer nsgd.
        """
        path = folder / DATABASE
        try:
            exists = path.is_file()
        except PermissionError:
            exists = True
        nothing = f"There is no store in {folder}: start `nsgd run`, or name another one with --store."
        if not exists:
            raise StoreUnusable(nothing)
        with _mapped_errors(folder):
            connection = _connect_for_reading(path)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_STEPS):
            connection.close()
            raise StoreUnusable(_newer(folder, version), version=version)
        if version == 0:  # its daemon is about to make the tables
            connection.close()
            raise StoreUnusable(nothing)
        return cls(connection, folder)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def series(self) -> list[SeriesRow]:
        """All series, in the order they began."""
        with self._snapshot():
            self._expect_all("series")
            return [_series(row) for row in self._rows("series", "ORDER BY series_id")]

    def catalogue(self, series_id: int) -> Catalogue | None:
        """The newest generation of a series' catalogue."""
        with self._snapshot():
            rows = self._rows("catalogues", "WHERE series_id = ? ORDER BY generation DESC LIMIT 1", series_id)
            series = self._rows("series", "WHERE series_id = ?", series_id)
        # A flipped byte can hide a row; the series tells which generation there is.
        if series and (rows[0][1] if rows else 0) < _series(series[0]).generation:
            raise StoreDamaged(f"The store {self.folder} is damaged: the catalogue of series {series_id} is missing.")
        return from_bytes(Catalogue, rows[0][2]) if rows else None

    def subs(self, series_id: int | None = None, session: str | None = None) -> list[SubRow]:
        """Subs in mid-exposure order, equal times in natural name order."""
        asked = [(name, value) for name, value in (("series_id", series_id), ("session", session)) if value is not None]
        # The plus keeps SQLite from its index, in which a flipped byte would hide subs without a word.
        where = "WHERE " + " AND ".join(f"+{name} = ?" for name, _ in asked) if asked else ""
        with self._snapshot():
            self._expect_all("subs")
            return _in_order(_subs(self._rows("subs", where, *(value for _, value in asked))))

    def newest_subs(self, most: int) -> list[SubRow]:
        """The last subs in mid-exposure order, at most `most`: what a screen shows before it has read everything."""
        # The times are looked through in an index: whole rows would be read for their order alone.
        newest = f"SELECT sub_id FROM {self._table('subs')} ORDER BY order_utc_s DESC LIMIT ?"
        return _in_order(_subs(self._rows("subs", f"WHERE sub_id IN ({newest})", most)))

    def sub(self, sub_id: int) -> SubRow:
        """One sub; BadRequest where there is none."""
        rows = self._rows("subs", "WHERE sub_id = ?", sub_id)
        if not rows:
            raise BadRequest(f"The store {self.folder} has no sub number {sub_id}.", sub_id=sub_id)
        return _subs(rows)[0]

    def find_sub(self, text: str) -> list[SubRow]:
        """Subs that a person means by a path, the end of a path, a file name or its stem, in order."""
        wanted = os.fspath(Path(text).expanduser())
        absolute = str(Path(wanted).absolute())
        found = self._query(f"SELECT sub_id, folder, path FROM {self._table('subs')}")
        names = [(sub_id, str(Path(_path(folder)) / _path(path))) for sub_id, folder, path in found]
        tests: tuple[Callable[[str], bool], ...] = (
            lambda name: name == absolute,
            lambda name: name.endswith(os.sep + wanted),
            lambda name: Path(name).stem == wanted,
        )
        for test in tests:
            ids = [sub_id for sub_id, name in names if test(name)]
            if ids:
                return _in_order([self.sub(sub_id) for sub_id in ids])
        return []

    def facts(self, sub_id: int) -> SubFacts | None:
        """The stored facts of one sub, None where it failed."""
        rows = self._rows("facts", "WHERE sub_id = ?", sub_id)
        if not rows:
            self._expect_no_facts(self._rows("subs", "WHERE sub_id = ?", sub_id))
        return from_bytes(SubFacts, rows[0][1]) if rows else None

    def iter_facts(self, sub_ids: Sequence[int]) -> Iterator[tuple[int, SubFacts]]:
        """Facts of those of the subs that have any, in the order given, one at a time."""
        for begin in range(0, len(sub_ids), 50):
            some = sub_ids[begin : begin + 50]
            found: dict[int, bytes] = dict(
                row[:2] for row in self._rows("facts", f"WHERE sub_id IN ({_marks(some)})", *some)
            )
            missing = [sub_id for sub_id in some if sub_id not in found]
            self._expect_no_facts(self._rows("subs", f"WHERE sub_id IN ({_marks(missing)})", *missing))
            yield from ((sub_id, from_bytes(SubFacts, found[sub_id])) for sub_id in some if sub_id in found)

    def _expect_no_facts(self, subs: list[Row]) -> None:
        """Facts that are missing of a sub that was measured have been hidden by a flipped byte."""
        for row in subs:
            if row[17] is not None:
                raise StoreDamaged(f"The store {self.folder} is damaged: the facts of sub {row[0]} are missing.")

    def changes_since(self, change: int, most: int | None = None) -> Changes:
        """What changed after change number `change` (0: everything), as of one moment.

        Parameters
        ----------
        most
            Stop at the change that holds the `most`-th sub: `last` is then its number, and more may wait.
        """
        with self._snapshot():
            last = self._last_change()
            if most is not None:
                sql = f"SELECT change FROM {self._table('subs')} WHERE change > ? ORDER BY change LIMIT 1 OFFSET ?"
                last = next((row[0] for row in self._query(sql, change, most - 1)), last)
            if change == 0:
                self._expect_all("subs")
            # Whoever has read everything without the index may go on with it: what comes from now on is not damaged.
            column = "change" if change else "+change"
            span = (change, last)
            return Changes(
                last=last,
                subs=_in_order(_subs(self._rows("subs", f"WHERE {column} > ? AND {column} <= ?", *span))),
                series=[_series(row) for row in self._rows("series", "WHERE change > ? ORDER BY series_id", change)],
                alerts=self._alerts("WHERE change > ? AND change <= ? ORDER BY alert_id", *span),
                daemon=self.daemon(),
                alarm=self.state(ALARM_STATE),
            )

    def _last_change(self) -> int:
        counter = self._rows("counter")
        if not counter and self._query("SELECT 1 FROM main.subs LIMIT 1"):
            raise StoreDamaged(f"The store {self.folder} is damaged: its counter is missing.")
        return int(counter[0][1]) if counter else 0

    def alerts(self, session: str | None = None) -> list[AlertRow]:
        """The alert log, oldest first."""
        if session is None:
            return self._alerts("ORDER BY alert_id")
        return self._alerts("WHERE session = ? ORDER BY alert_id", session)

    def requests(self, pending: bool = True) -> list[Request]:
        """Requests in the order they were made: those not applied yet, or all."""
        where = "WHERE state = 'pending' ORDER BY request_id" if pending else "ORDER BY request_id"
        return [_request(row) for row in self._rows("requests", where)]

    def ignored(self) -> dict[str, int]:
        """How many files were left out, by kind."""
        sql = f"SELECT outcome, count(*) FROM {self._table('files')} WHERE outcome LIKE 'ignored:%' GROUP BY outcome"
        with self._snapshot():
            self._expect_all("files")
            return {outcome.partition(":")[2]: count for outcome, count in self._query(sql)}

    def unreadable(self) -> list[Unreadable]:
        """Files that could not be read, in natural name order."""
        rows = self._rows("files", "WHERE outcome = 'unreadable'")
        found = [Unreadable(_path(row[0]), row[4]) for row in rows]
        return sorted(found, key=lambda item: natural_key(item.path))

    def present_files(self) -> list[str]:
        """Every place where the file of a sub was when last looked for; some subs lie in several."""
        sql = f"SELECT path FROM {self._table('subs')} WHERE NOT gone UNION SELECT path FROM {self._table('files')} "
        return [_path(row[0]) for row in self._query(sql + "WHERE outcome = ?", _SUB)]

    def daemon(self) -> DaemonStatus | None:
        """The daemon's last word about itself, None where there never was one."""
        rows = self._rows("daemon")
        if not rows:
            return None
        read = json.loads(rows[0][1])
        known = {item.name for item in fields(DaemonStatus)}
        read["folders"] = tuple(FolderStatus(**folder) for folder in read.get("folders", ()))
        return DaemonStatus(**{name: value for name, value in read.items() if name in known})

    def state(self, name: str) -> str | None:
        """A named text (the alarm's state...), None where it was never kept."""
        with self._snapshot():
            self._expect_all("states")
            rows = self._rows("states", "WHERE name = ?", name)
        return rows[0][1] if rows else None

    def preview_path(self, sub_id: int) -> Path:
        """Where a sub's preview lies; it may be missing."""
        return self.preview_path_of(self.sub(sub_id).content_id)

    def preview_path_of(self, content_id: str) -> Path:
        """Where the preview of a content lies, also before it is committed; it may be missing."""
        return self.folder / PREVIEWS / f"{content_id}.npz"

    def _alerts(self, where: str, *args: object) -> list[AlertRow]:
        found = []
        with self._snapshot():
            self._expect_all("outbox")
            lost = self._query("SELECT 1 FROM main.outbox WHERE alert_id NOT IN (SELECT alert_id FROM main.alerts)")
            if lost:
                raise StoreDamaged(f"The store {self.folder} is damaged: an alert is missing.")
            for alert_id, session, record, change in self._rows("alerts", where, *args):
                outbox = self._rows("outbox", "WHERE alert_id = ? ORDER BY outbox_id", alert_id)
                deliveries = tuple(Delivery(row[2], row[3], row[4], row[7], row[6]) for row in outbox)
                found.append(AlertRow(alert_id, session, unpack(Alert, record), deliveries, change))
        return found

    def _table(self, name: str) -> str:
        return f"main.{name}"

    def _rows(self, table: str, where: str = "", *args: object) -> list[Row]:
        """Whole rows without their checksum, after a look at it."""
        rows = self._query(f"SELECT * FROM {self._table(table)} {where}", *args)
        for row in rows:
            if _checksum(row[:-1]) != row[-1]:
                raise StoreDamaged(f"The store {self.folder} is damaged: a row of {table} does not fit its checksum.")
        return [row[:-1] for row in rows]

    def _expect_all(self, table: str) -> None:
        """A flipped byte can hide rows of a table; its index, which lies elsewhere, still counts them."""
        index = _COUNTED_BY[table]
        by_table, by_index = self._query(
            f"SELECT (SELECT count(*) FROM main.{table} NOT INDEXED), "
            f"(SELECT count(*) FROM main.{table} INDEXED BY {index})"
        )[0]
        if by_table != by_index:
            raise StoreDamaged(f"The store {self.folder} is damaged: {by_table} rows of {table}, not {by_index}.")

    def _query(self, sql: str, *args: object) -> list[Row]:
        with self._lock, _mapped_errors(self.folder):
            return self._connection.execute(sql, args).fetchall()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads as of one moment."""
        with self._lock:
            own = not self._connection.in_transaction
            if own:
                self._query("BEGIN")
            try:
                yield
            finally:
                if own:
                    self._query("COMMIT")


class Store(Reader):
    """The one writer of a store; holds the kernel's lock on its folder. Its methods may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: FolderLock) -> None:
        super().__init__(connection, folder)
        self._folder_lock = lock
        self._unsaved: set[int] = set()
        self.save_problem = ""
        """Why the disk refuses to write, "" while all is saved."""
        self._only_reads = False
        self._change = self._highest("counter", "last")
        self._ids = {
            table: self._highest(table, _TABLES[table]) for table in ("series", "subs", "alerts", "outbox", "requests")
        }

    @classmethod
    def open(cls, folder: Path, now_utc_s: float) -> Store:  # type: ignore[override]
        """Open the store in a folder for writing, made where missing.

        Raises
        ------
        StoreLocked
            Another process owns it.
        StoreDamaged
            Its content is broken; see `open_anew`.
        StoreUnusable
            It lies on a network file system, or a newer nsgd wrote it, or this user may not.
        StoreUnwritable
            The disk refuses now.
        """
        prepare_folder(folder)
        lock = FolderLock(folder)
        try:
            connection = _connect_for_writing(folder)
        except BaseException:
            lock.release()
            raise
        try:
            with _mapped_errors(folder):
                _check(connection, folder)
                _migrate(connection, folder, now_utc_s)
            return cls(connection, folder, lock)
        except BaseException:
            connection.close()
            lock.release()
            raise

    @classmethod
    def open_anew(cls, folder: Path, now_utc_s: float) -> tuple[Store, Path]:
        """Move a damaged store aside and open an empty one; the path is where the old one lies now."""
        with FolderLock(folder):
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_utc_s))
            aside = folder / f"damaged-{stamp}.db"
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    (folder / f"{DATABASE}{suffix}").rename(f"{aside}{suffix}")
        return cls.open(folder, now_utc_s), aside

    def close(self) -> None:
        """Close the store and give its lock back."""
        super().close()
        self._folder_lock.release()

    @property
    def unsaved(self) -> int:
        """How many subs are in memory only because the disk refuses to write."""
        return len(self._unsaved)

    def known(self, content_id: str) -> int | None:
        """The sub that has this content, None where it is new."""
        rows = self._query(f"SELECT sub_id FROM {self._table('subs')} WHERE content_id = ?", content_id)
        return int(rows[0][0]) if rows else None

    def seen(self, path: str, size: int, mtime_ns: int) -> bool:
        """Whether the file was dealt with in just this size and time."""
        rows = self._rows("files", "WHERE path = ?", _text_or_bytes(path))
        return bool(rows) and rows[0][1:3] == (size, mtime_ns)

    def next_sub_id(self) -> int:
        """The id that the next new sub will get."""
        return self._ids["subs"] + 1

    def next_series_id(self) -> int:
        """The id that the next new series will get."""
        return self._ids["series"] + 1

    def commit_sub(
        self,
        commit: SubCommit,
        alerts: Sequence[Alert] = (),
        services: Sequence[str] = (),
        states: Mapping[str, str] | None = None,
        stamp: tuple[int, int] | None = None,
    ) -> int:
        """Keep everything that one sub changes, in one transaction; returns its id.

        Parameters
        ----------
        commit
            The sub and what it changes.
        alerts, services
            Alerts that it caused, and the services that each of them goes to.
        states
            Named texts to keep with it (the alarm's state).
        stamp
            Size and mtime_ns of the file as it was measured, for `seen`.

        Raises
        ------
        StoreUnwritable
            The disk refuses to write, and the memory for that case is full.
        """
        with self._lock:
            change = self._next_change()
            row, series = self._with_ids(commit, change)
            puts: list[Put] = [("subs", _sub_values(row)), *self._overwritten(row, change)]
            if commit.facts is not None:
                puts.append(("facts", (row.sub_id, to_bytes(commit.facts))))
            if series is not None:
                puts.append(("series", _series_values(series)))
                if commit.catalogue is not None:
                    key = (series.series_id, commit.catalogue.generation)
                    puts.append(("catalogues", (*key, to_bytes(commit.catalogue))))
            puts += self._relation_puts(commit.relations, change)
            puts += self._alert_puts(alerts, services, row.session, change) + _state_puts(states)
            if stamp is not None:
                puts.append(("files", (_text_or_bytes(row.path), *stamp, _SUB, row.content_id)))
            self._save(puts, change, unsaved=row.sub_id)
            return row.sub_id

    def commit_relations(self, series: SeriesRow, relations: Sequence[tuple[int, Relation]]) -> None:
        """Keep a changed series and the relations of its subs, in one transaction."""
        with self._lock:
            change = self._next_change()
            puts = self._relation_puts(relations, change)
            self._save([("series", _series_values(replace(series, change=change))), *puts], change)

    def commit_alerts(
        self,
        alerts: Sequence[Alert],
        services: Sequence[str] = (),
        states: Mapping[str, str] | None = None,
        session: str = "",
    ) -> None:
        """Keep alerts that no sub caused (a tick), and the states that go with them."""
        with self._lock:
            change = self._next_change()
            self._save(self._alert_puts(alerts, services, session, change) + _state_puts(states), change)

    def decide(self, sub_id: int, decision: str) -> None:
        """Keep what a person decided about a sub: "accept", "reject" or "" to take it back."""
        self._change_subs([sub_id], decision=decision)

    def moved(self, sub_id: int, path: str, folder: str | None = None) -> None:
        """A known sub lies (also) here now."""
        with self._lock:
            change = self._next_change()
            row = self.sub(sub_id)
            row = replace(row, path=path, folder=row.folder if folder is None else folder, gone=False, change=change)
            puts = [("subs", _sub_values(row)), *self._overwritten(row, change)]
            self._save([*puts, ("files", (_text_or_bytes(path), None, None, _SUB, row.content_id))], change)

    def mark_gone(self, paths: Iterable[str]) -> None:
        """Files are no longer there. Their subs stay; one that lies elsewhere too is there from now on."""
        with self._lock:
            wanted = set(paths)
            change = self._next_change()
            puts: list[Put] = [("files", (_text_or_bytes(path), None, None, "gone", "")) for path in sorted(wanted)]
            found = self._query(f"SELECT sub_id, path FROM {self._table('subs')} WHERE NOT gone")
            left = [sub_id for sub_id, path in found if _path(path) in wanted]
            puts += [("subs", self._without_file(sub_id, wanted, change)) for sub_id in left]
            self._save(puts, change)

    def count_ignored(self, path: str, kind: str) -> None:
        """Keep that a file is no sub, and what it is."""
        self._note_file(path, f"ignored:{kind}", "")

    def note_unreadable(self, path: str, sentence: str) -> None:
        """Keep that a file could not be read, and why."""
        self._note_file(path, "unreadable", sentence)

    def stamp(self, path: str, size: int, mtime_ns: int) -> None:
        """Keep that a file was dealt with in this size and time (see `seen`)."""
        with self._lock:
            key = _text_or_bytes(path)
            rows = self._rows("files", "WHERE path = ?", key)
            outcome, note = rows[0][3:5] if rows else (_SUB, "")
            if not rows or rows[0][1:3] != (size, mtime_ns):
                self._save([("files", (key, size, mtime_ns, outcome, note))], self._next_change())

    def forget(self, before: str) -> int:
        """Drop subs and alerts of sessions before the given one ("YYYY-MM-DD"); returns how many subs went.

        References stay, since others are related to them, and so does what `seen` knows: a file that still lies
        there is not measured again.
        """
        with self._lock:
            if self.save_problem:
                return 0
            references = [row.reference_id for row in self.series()]
            old = [row.sub_id for row in self.subs() if row.session < before and row.sub_id not in references]
            alerts = [row.alert_id for row in self.alerts() if row.session < before]
            doomed = [("subs", "sub_id", old), ("facts", "sub_id", old)]
            doomed += [("alerts", "alert_id", alerts), ("outbox", "alert_id", alerts)]
            with self._transaction():
                for table, column, ids in doomed:
                    sql = f"DELETE FROM main.{table} WHERE {column} = ?"
                    self._connection.executemany(sql, [(number,) for number in ids])
            return len(old)

    def beat(self, now_utc_s: float, status: DaemonStatus) -> None:
        """Keep the daemon's word about itself, without waiting for the disk; also tries to save what is unsaved."""
        values = asdict(replace(status, last_progress_utc_s=now_utc_s))
        self._save_quietly([("daemon", (1, dumps(values)))])

    def note(self, name: str, text: str) -> None:
        """Keep a named text without waiting for the disk: a killed process does not lose it, a power cut may."""
        self._save_quietly(_state_puts({name: text}))

    def due(self, now_utc_s: float) -> list[OutboxRow]:
        """Deliveries to try now, oldest first."""
        rows = self._rows("outbox", "WHERE state = 'pending' AND next_try_utc_s <= ? ORDER BY outbox_id", now_utc_s)
        return [self._outbox_row(row) for row in rows]

    def sent(self, outbox_id: int, now_utc_s: float) -> None:
        """A service took the alert."""
        self._change_outbox(outbox_id, state="sent", done_utc_s=float(now_utc_s), error="")

    def failed(self, outbox_id: int, now_utc_s: float, error: str, next_try_utc_s: float) -> None:
        """A service did not take the alert; when to try again."""
        self._change_outbox(outbox_id, done_utc_s=float(now_utc_s), error=error, next_try_utc_s=float(next_try_utc_s))

    def dropped(self, outbox_id: int, why: str) -> None:
        """An alert is not delivered any more."""
        self._change_outbox(outbox_id, state="dropped", error=why)

    def apply_request(self, request: Request, result: str, now_utc_s: float, *, refused: bool = False) -> None:
        """Keep that a request was dealt with, and what came of it."""
        done = replace(
            request, state="refused" if refused else "applied", result=_plain_text(result), done_utc_s=float(now_utc_s)
        )
        with self._lock:
            self._save([("requests", _request_values(done))], self._next_change())

    def save_states(self, states: Mapping[str, str]) -> None:
        """Keep named texts by themselves."""
        self.commit_alerts((), (), states)

    def _with_ids(self, commit: SubCommit, change: int) -> tuple[SubRow, SeriesRow | None]:
        row = replace(commit.row, change=change)
        if row.sub_id == 0:
            row = replace(row, sub_id=self.next_sub_id())
        self._ids["subs"] = max(self._ids["subs"], row.sub_id)
        if commit.series is None:
            return row, None
        series = replace(commit.series, change=change)
        if series.series_id == 0:
            series = replace(series, series_id=self.next_series_id())
            row = replace(row, series_id=series.series_id)
        self._ids["series"] = max(self._ids["series"], series.series_id)
        return row, series

    def _overwritten(self, row: SubRow, change: int) -> list[Put]:
        """Subs whose file this one has replaced."""
        sql = f"SELECT sub_id FROM {self._table('subs')} WHERE path = ? AND sub_id <> ? AND NOT gone"
        old = self._query(sql, _text_or_bytes(row.path), row.sub_id)
        return [("subs", self._without_file(found[0], {row.path}, change)) for found in old]

    def _without_file(self, sub_id: int, lost: set[str], change: int) -> Row:
        """A sub one of whose files is lost: it is gone, or lies where the same content was seen too."""
        sub = self.sub(sub_id)
        rows = self._rows("files", "WHERE note = ? AND outcome = ?", sub.content_id, _SUB)
        others = [path for row in rows if (path := _path(row[0])) not in lost]
        return _sub_values(replace(sub, gone=not others, path=others[0] if others else sub.path, change=change))

    def _relation_puts(self, relations: Sequence[tuple[int, Relation]], change: int) -> list[Put]:
        """Rows of subs that are there with other relations; everything else in them stays as it is written."""
        puts: list[Put] = []
        for begin in range(0, len(relations), 500):
            some = dict(relations[begin : begin + 500])
            rows = self._rows("subs", f"WHERE sub_id IN ({_marks(list(some))})", *some)
            puts += [("subs", (*row[:_CHANGE], change, *row[_CHANGE + 1 : -1], pack(some[row[0]]))) for row in rows]
        return puts

    def _alert_puts(self, alerts: Sequence[Alert], services: Sequence[str], session: str, change: int) -> list[Put]:
        puts: list[Put] = []
        for alert in alerts:
            self._ids["alerts"] += 1
            alert_id = self._ids["alerts"]
            puts.append(("alerts", (alert_id, session, pack(alert), change)))
            for service in services:
                self._ids["outbox"] += 1
                waiting = (self._ids["outbox"], alert_id, service, "pending", 0, float(alert.created_utc_s), None, "")
                puts.append(("outbox", waiting))
        return puts

    def _change_subs(self, ids: Sequence[int], **values: Any) -> None:
        with self._lock:
            change = self._next_change()
            rows = [replace(self.sub(sub_id), change=change, **values) for sub_id in ids]
            self._save([("subs", _sub_values(row)) for row in rows], change)

    def _change_outbox(self, outbox_id: int, **values: Any) -> None:
        names = ("outbox_id", "alert_id", "service", "state", "tries", "next_try_utc_s", "done_utc_s", "error")
        with self._lock:
            rows = self._rows("outbox", "WHERE outbox_id = ?", outbox_id)
            if not rows:
                raise BadRequest(f"The outbox has no message number {outbox_id}.", outbox_id=outbox_id)
            old = dict(zip(names, rows[0], strict=True))
            new = {**old, "tries": old["tries"] + (values.get("state") != "dropped"), **values}
            new["error"] = _plain_text(new["error"])
            change = self._next_change()
            alert_id, session, record, _ = self._rows("alerts", "WHERE alert_id = ?", old["alert_id"])[0]
            puts = [("outbox", tuple(new.values())), ("alerts", (alert_id, session, record, change))]
            self._save(puts, change)

    def _outbox_row(self, row: Row) -> OutboxRow:
        record = self._rows("alerts", "WHERE alert_id = ?", row[1])[0][2]
        return OutboxRow(row[0], row[1], row[2], unpack(Alert, record), row[4], row[5], row[7])

    def _note_file(self, path: str, outcome: str, note: str) -> None:
        with self._lock:
            key = _text_or_bytes(path)
            rows = self._rows("files", "WHERE path = ?", key)
            size, mtime_ns = rows[0][1:3] if rows else (None, None)
            new = (key, size, mtime_ns, outcome, _plain_text(note))
            if not rows or rows[0] != new:
                self._save([("files", new)], self._next_change())

    def _next_change(self) -> int:
        self._change += 1
        return self._change

    def _highest(self, table: str, column: str) -> int:
        return int(self._query(f"SELECT coalesce(max({column}), 0) FROM main.{table}")[0][0])

    def _table(self, name: str) -> str:
        if not self.save_problem:
            return f"main.{name}"
        key = _TABLES[name]
        covered = f"({key}) IN (SELECT {key} FROM temp.{name})"
        return f"(SELECT * FROM main.{name} WHERE NOT {covered} UNION ALL SELECT * FROM temp.{name})"

    def _save(self, puts: Sequence[Put], change: int | None, unsaved: int | None = None) -> None:
        """Write rows in one transaction: to the disk, or to memory while that refuses."""
        rows = [*puts, ("counter", (1, change))] if change is not None else list(puts)
        try:
            self._write_to_disk(rows)
        except StoreUnwritable as problem:
            if len(self._unsaved) >= MOST_UNSAVED:
                raise
            self._only_reads = getattr(problem.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
            self._keep_in_memory(rows, problem.sentence)
            if unsaved is not None:
                self._unsaved.add(unsaved)

    def _save_quietly(self, puts: Sequence[Put]) -> None:
        """Write rows without a change number and without waiting for the disk, which would wear out an SD card."""
        with self._lock:
            if self.save_problem:
                self._save(puts, self._next_change())
                return
            self._query("PRAGMA synchronous = NORMAL")
            try:
                self._save(puts, None)
            finally:
                self._query("PRAGMA synchronous = FULL")

    def _write_to_disk(self, rows: Sequence[Put]) -> None:
        was_unsaved = bool(self.save_problem)
        if was_unsaved and self._only_reads:
            self._connect_anew()
        with self._transaction():
            if was_unsaved:
                for table in _TABLES:
                    self._connection.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM temp.{table}")
            self._put("main", rows)
        if was_unsaved:
            with self._transaction():
                for table in _TABLES:
                    self._connection.execute(f"DELETE FROM temp.{table}")
            self._unsaved.clear()
            self.save_problem = ""

    def _keep_in_memory(self, rows: Sequence[Put], problem: str) -> None:
        with _mapped_errors(self.folder):
            if not self.save_problem:
                _lay_over(self._connection)
            self._put("temp", rows)
        self.save_problem = problem

    def _connect_anew(self) -> None:
        """SQLite opens what it may not write at that moment for reading, and stays with it: open it once more."""
        with _mapped_errors(self.folder):
            kept = {table: self._connection.execute(f"SELECT * FROM temp.{table}").fetchall() for table in _TABLES}
            # The old one first: connections of one process share the write-ahead log's index as it was opened.
            self._connection.close()
            try:
                self._connection = _connect_for_writing(self.folder)
            except StoreUnwritable:
                self._connection = _connect_for_reading(self.folder / DATABASE)
            _lay_over(self._connection)
            for table, rows in ((table, rows) for table, rows in kept.items() if rows):
                marks = ", ".join("?" * len(rows[0]))
                self._connection.executemany(f"INSERT INTO temp.{table} VALUES ({marks})", rows)

    def _put(self, schema: str, rows: Sequence[Put]) -> None:
        for table, values in rows:
            marks = ", ".join("?" * (len(values) + 1))
            self._connection.execute(
                f"INSERT OR REPLACE INTO {schema}.{table} VALUES ({marks})", (*values, _checksum(values))
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, _mapped_errors(self.folder):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite takes some failed transactions back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def add_request(folder: Path, kind: str, args: Mapping[str, Any], now_utc_s: float) -> int:
    """Leave a request for the daemon over a short connection of its own; returns its number.

    Raises
    ------
    StoreUnusable
        There is no store in the folder.
    StoreUnwritable
        This user may not write to it, or the disk refuses.
    """
    path = folder / DATABASE
    with Reader.open(folder), _mapped_errors(folder):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            request_id = int(connection.execute("SELECT coalesce(max(request_id), 0) + 1 FROM requests").fetchone()[0])
            values = _request_values(Request(request_id, kind, dict(args), float(now_utc_s)))
            connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, _checksum(values)))
            connection.execute("COMMIT")
        finally:
            connection.close()
    return request_id


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    where = path.absolute().as_uri()
    connection = sqlite3.connect(
        f"{where}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # A store that rests (closed cleanly) in a folder this user cannot write is read as it lies.
        if not os.access(path, os.R_OK) or path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{where}?immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    # Readers go through the store once: a large cache of pages beside the system's is of no use to them.
    connection.execute("PRAGMA cache_size = -256")
    return connection


def _connect_for_writing(folder: Path) -> sqlite3.Connection:
    path = folder / DATABASE
    if not path.exists():
        # Only a new file is opened here: closing a second handle of a database drops its locks in this process.
        os.close(open_file(path, folder))
    with _mapped_errors(folder):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
        except BaseException:
            connection.close()
            raise
    return connection


def _lay_over(connection: sqlite3.Connection) -> None:
    """Empty tables in memory for the rows that the disk does not take."""
    for table, key in _TABLES.items():
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} AS SELECT * FROM main.{table} LIMIT 0")
        connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS temp.key_of_{table} ON {table} ({key})")


def _check(connection: sqlite3.Connection, folder: Path) -> None:
    """Look through the whole store for damage."""
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDamaged(f"The store {folder} is damaged: {found}.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_STEPS):
        raise StoreUnusable(_newer(folder, version), version=version)
    expected = sqlite3.connect(":memory:")
    try:
        for step in _STEPS[:version]:
            expected.executescript(step)
        sql = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        if connection.execute(sql).fetchall() != expected.execute(sql).fetchall():
            raise StoreDamaged(f"The store {folder} is damaged: its tables are not those of version {version}.")
    finally:
        expected.close()
    for table in _TABLES if version else ():
        for row in connection.execute(f"SELECT * FROM {table}"):
            if _checksum(row[:-1]) != row[-1]:
                raise StoreDamaged(f"The store {folder} is damaged: a row of {table} does not fit its checksum.")


def _migrate(connection: sqlite3.Connection, folder: Path, now_utc_s: float) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if 0 < version < len(_STEPS):
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_utc_s))
        copy = sqlite3.connect(folder / f"before-upgrade-{version}-{stamp}.db")
        try:
            connection.backup(copy)
        finally:
            copy.close()
    for number in range(version, len(_STEPS)):
        # executescript commits what is open, so the transaction is part of the script.
        connection.executescript(f"BEGIN IMMEDIATE; {_STEPS[number]} PRAGMA user_version = {number + 1}; COMMIT;")


@contextmanager
def _mapped_errors(folder: Path) -> Iterator[None]:
    """SQLite's errors as the store's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_problem(error, folder) from error
    except UnicodeDecodeError as error:
        raise StoreDamaged(f"The store {folder} is damaged: a text in it is none.") from error


def _store_problem(error: sqlite3.Error, folder: Path) -> StoreProblem | sqlite3.Error:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Without a code it is Python's own: a text that is no UTF-8.
    undecodable = code == 0 and isinstance(error, sqlite3.OperationalError)
    if code in _DAMAGED or undecodable:
        return StoreDamaged(f"The store {folder} is damaged: {error}.")
    if code in _UNWRITABLE:
        return StoreUnwritable(f"The store {folder} cannot be used now: {error}.")
    return error


def _newer(folder: Path, version: int) -> str:
    return (
        f"The store {folder} was written by a newer nsgd (version {version} of its tables, this one knows "
        f"{len(_STEPS)}): update nsgd, or name another store with --store."
    )


def _checksum(values: Row) -> int:
    """CRC-32 of a row's columns; blobs are taken as they are, since their repr would be slow."""
    blobs = [value for value in values if type(value) is bytes]
    text = repr([value for value in values if type(value) is not bytes]) if blobs else repr(values)
    total = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    for blob in blobs:
        total = zlib.crc32(blob, total)
    return total


_OWN_COLUMN: tuple[str, ...] = (
    "sub_id",
    "content_id",
    "series_id",
    "stream",
    "folder",
    "path",
    "gone",
    "session",
    "arrived_utc_s",
)
_OWN_COLUMN += ("order_utc_s", "order_flag", "measure_s", "decision", "change", "header", "failure", "relation")
_NOT_FIGURES = frozenset(_OWN_COLUMN)
_CHANGE = 13
"""Place of `change` in a row of the table; the relation is the last."""


def _sub_values(row: SubRow) -> Row:
    return (
        int(row.sub_id),
        row.content_id,
        int(row.series_id),
        row.stream,
        _text_or_bytes(row.folder),
        _text_or_bytes(row.path),
        int(row.gone),
        row.session,
        float(row.arrived_utc_s),
        float(row.order_utc_s),
        _plain_text(row.order_flag),
        float(row.measure_s),
        row.decision,
        int(row.change),
        pack(row.header),
        None if row.failure is None else pack(row.failure),
        pack(row, _NOT_FIGURES),
        None if row.relation is None else pack(row.relation),
    )


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _subs(rows: Sequence[Row]) -> list[SubRow]:
    """Rows of the table as records; their texts are parsed together, which takes half the time."""
    found: list[SubRow] = []
    for begin in range(0, len(rows), 500):
        some = rows[begin : begin + 500]
        texts = ",".join(f"[{row[14]},{row[15] or 'null'},{row[16]},{row[17] or 'null'}]" for row in some)
        found += [_sub(row, parsed) for row, parsed in zip(some, loads(f"[{texts}]"), strict=True)]
    return found


def _sub(row: Row, parsed: list[Any]) -> SubRow:
    header, failure, figures, relation = parsed
    figures.update(
        sub_id=row[0],
        content_id=row[1],
        series_id=row[2],
        stream=row[3],
        folder=_path(row[4]),
        path=_path(row[5]),
        gone=bool(row[6]),
        session=row[7],
        arrived_utc_s=row[8],
        order_utc_s=row[9],
        order_flag=row[10],
        measure_s=row[11],
        decision=row[12],
        change=row[13],
        header=build(HeaderFacts, header),
        failure=None if failure is None else build(Failure, failure),
        relation=None if relation is None else build(Relation, relation),
    )
    return build(SubRow, figures)


def _series_values(series: SeriesRow) -> Row:
    return int(series.series_id), series.key, pack(series), int(series.change)


def _series(row: Row) -> SeriesRow:
    return replace(unpack(SeriesRow, row[2]), change=row[3])


def _request_values(request: Request) -> Row:
    return (
        request.request_id,
        request.kind,
        dumps(request.args),
        request.created_utc_s,
        request.state,
        request.result,
        request.done_utc_s,
    )


def _request(row: Row) -> Request:
    return Request(row[0], row[1], json.loads(row[2]), *row[3:])


def _state_puts(states: Mapping[str, str] | None) -> list[Put]:
    return [("states", (name, value)) for name, value in (states or {}).items()]


def _in_order(rows: list[SubRow]) -> list[SubRow]:
    rows.sort(key=attrgetter("order_utc_s"))
    times = [row.order_utc_s for row in rows]
    if len(set(times)) < len(times):
        rows.sort(key=lambda row: (row.order_utc_s, natural_key(row.path), row.sub_id))
    return rows


def _text_or_bytes(path: str) -> str | bytes:
    """File names may hold bytes that are no text; those are kept as bytes."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _path(kept: str | bytes) -> str:
    return os.fsdecode(kept) if isinstance(kept, bytes) else kept


def _plain_text(text: str) -> str:
    """Text without what the database cannot keep."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
