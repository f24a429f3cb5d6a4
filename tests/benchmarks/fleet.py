"""What a fleet must hold: a big archive on a cluster, a hundred rigs through an outage, the fleet view, one sky.

    python -m tests.benchmarks.fleet                 everything, in full (about an hour)
    python -m tests.benchmarks.fleet --quick         a sample of each part
    python -m tests.benchmarks.fleet publish view    some parts

Real parts: a dask scheduler and two worker processes, a private PostgreSQL on loopback, stores on disk. The site's rigs
are star lists with known truth (`starlists`).
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nsgd import simulate
from nsgd.errors import StoreProblem
from nsgd.fleet.link import link
from nsgd.fleet.publish import Publisher
from nsgd.fleet.read import FleetReader
from nsgd.fleet.schema import add_rig, init
from nsgd.records import Alert, SeriesRow, SubRow
from nsgd.session.alerts import AlarmState, step
from nsgd.session.judge import Columns, judge
from nsgd.session.site import Neighbour
from nsgd.session.sky import observe
from nsgd.session.store import Reader
from nsgd.settings import Alarm, Limits
from tests.fleet.private_postgres import Server, binaries, private_server
from tests.fleet.rigs import REPORT, commit, new_store, sub

sys.path.insert(0, str(Path(__file__).parent))
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def row(what: str, reached: str, goal: str, holds: bool) -> str:
    return f"{'ok  ' if holds else 'MISS'} {what:<58} {reached:<26} goal {goal}"


# ---- the archive --------------------------------------------------------------------------------


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler with so many worker processes of one thread."""
    command = [sys.executable, "-m", "dask"]
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    scheduler = subprocess.Popen([*command, "scheduler", *options], stderr=subprocess.PIPE, text=True)
    assert scheduler.stderr is not None
    lines = iter(scheduler.stderr.readline, "")
    address = next(found[1] for line in lines if (found := re.search(r"Scheduler at: +(tcp://\S+)", line)))
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    started = [
        subprocess.Popen([*command, "worker", address, *options], stderr=subprocess.DEVNULL, env=ONE_THREAD, text=True)
        for _ in range(workers)
    ]
    try:
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, started
    finally:
        for one in (*started, scheduler):
            one.kill()
            one.wait()


def measured(lights: Path, out: Path, address: str = "", meanwhile: Callable[[], None] = lambda: None) -> float:
    """Seconds that the measuring itself took, from its first to its last commit."""
    extra = ["--cluster", address] if address else []
    command = [sys.executable, "-m", "nsgd", "measure", str(lights), "--out", str(out), *extra]
    running = subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    meanwhile()
    assert running.wait() == 0
    with Reader.open(out) as reader:
        arrived = [one.arrived_utc_s for one in reader.subs()]
    return max(arrived) - min(arrived)


def archive(quick: bool) -> Iterator[str]:
    """`nsgd measure --cluster`: the bytes of the local run, faster with two workers, whole when one is killed."""
    count = 40 if quick else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate.write_night(simulate.night("cloud", subs=count, width_px=3000, height_px=2000), folder / "lights")
        measured(folder / "lights", folder / "home")
        home = (folder / "home" / "subs.csv").read_bytes()
        with cluster(1) as (address, _):
            one_s = measured(folder / "lights", folder / "one", address)
        with cluster(2) as (address, _):
            two_s = measured(folder / "lights", folder / "two", address)
        same = (folder / "two" / "subs.csv").read_bytes() == home == (folder / "one" / "subs.csv").read_bytes()
        yield row(f"{count} subs on two workers: subs.csv", "the same bytes" if same else "differs", "the same", same)
        ratio = one_s / two_s
        yield row("two workers against one", f"{ratio:.2f} x ({one_s:.0f} s, {two_s:.0f} s)", ">= 1.7 x", ratio >= 1.7)
        with cluster(2) as (address, workers):

            def kill() -> None:
                wait_for(lambda: subs_in(folder / "killed") >= count // 2)
                workers[0].kill()

            measured(folder / "lights", folder / "killed", address, kill)
        whole = (folder / "killed" / "subs.csv").read_bytes() == home
        yield row("a worker is killed in the middle", "whole, same bytes" if whole else "differs", "whole", whole)


def subs_in(store: Path) -> int:
    with suppress(StoreProblem), Reader.open(store) as reader:
        return len(reader.subs())
    return 0


def wait_for(truth: Callable[[], bool], limit_s: float = 600.0) -> float:
    """Seconds until something is true."""
    began = time.monotonic()
    while not truth():
        if time.monotonic() - began > limit_s:
            raise SystemExit("it never came true")
        time.sleep(0.05)
    return time.monotonic() - began


# ---- publishing ---------------------------------------------------------------------------------

_WATCH = """
    CREATE TABLE arrived (rig text, content_id text, at float8);
    CREATE FUNCTION watched() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO arrived VALUES (NEW.rig, NEW.content_id, extract(epoch FROM clock_timestamp())); RETURN NULL;
    END $$;
    CREATE TRIGGER watched AFTER INSERT ON nsgd.subs FOR EACH ROW EXECUTE FUNCTION watched();
"""


@contextmanager
def fleet_of(server: Server, rigs: int) -> Iterator[tuple[str, list[str]]]:
    """A new fleet: the administrator's URL and one for each rig."""
    name = f"bench_{time.monotonic_ns()}"
    with link(server.url("postgres")) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    url = server.url(name)
    with link(url) as connection:
        init(connection)
        yield url, [add_rig(connection, url, f"rig{number:03d}", f"site{number // 10}") for number in range(rigs)]


def publish(quick: bool) -> Iterator[str]:
    """Rigs with a sub every 10 s each: how soon a commit is seen, and what an outage of the database does."""
    rigs, minutes, outage_s = (30, 2.0, 30.0) if quick else (100, 20.0, 300.0)
    programs = binaries()
    if programs is None:
        yield "     no PostgreSQL server is installed"
        return
    with private_server(programs) as server, fleet_of(server, rigs) as (url, urls), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with link(url) as connection:
            connection.execute(_WATCH.encode())
        stores = [stack.enter_context(new_store(folder / f"{number}")) for number in range(rigs)]
        publishers = [Publisher(store, one, Limits()) for store, one in zip(stores, urls, strict=True)]
        for publisher in publishers:
            publisher.tell(REPORT)
            publisher.start()
            stack.callback(publisher.stop)
        committed: dict[tuple[str, str], float] = {}
        begin = time.monotonic()
        down = (0.4 * 60.0 * minutes, 0.4 * 60.0 * minutes + outage_s)
        outage = threading.Thread(target=play_outage, args=(server, begin, down))
        outage.start()
        drive(stores, publishers, committed, begin, 60.0 * minutes)
        outage.join()
        caught_s = caught_up(url, len(committed), time.monotonic() - (begin + down[1]))
        yield from _told(url, committed, time.time() - time.monotonic() + begin, (down, caught_s))
        yield from _forbidden(urls)


def play_outage(server: Server, begin: float, down: tuple[float, float]) -> None:
    time.sleep(max(0.0, begin + down[0] - time.monotonic()))
    server.stop()
    time.sleep(max(0.0, begin + down[1] - time.monotonic()))
    server.start()


def drive(
    stores: list[object],
    publishers: list[Publisher],
    committed: dict[tuple[str, str], float],
    begin: float,
    span: float,
) -> None:
    """Each rig commits a sub every 10 s, the rigs spread evenly over these."""
    number = 0
    while True:
        which, turn = number % len(stores), number // len(stores)
        due = begin + 10.0 * (turn + which / len(stores))
        if due > begin + span:
            return
        time.sleep(max(0.0, due - time.monotonic()))
        name = f"rig{which:03d}"
        one = sub(turn, 0.9 + 0.1 * ((number * 7) % 10) / 10, name)
        commit(stores[which], one)  # type: ignore[arg-type]
        committed[name, one.content_id] = time.time()
        publishers[which].tell({**REPORT, "last_sub_utc_s": time.time()})
        number += 1


def caught_up(url: str, count: int, since_s: float) -> float:
    """Seconds from the end of the outage until everything is there; less than 0 where it was before we looked."""

    def there() -> bool:
        with link(url) as connection:
            found = connection.execute("SELECT count(*) FROM nsgd.subs").fetchone()
        return bool(found) and found[0] >= count

    return since_s + wait_for(there, 300.0)


def _told(
    url: str, committed: dict[tuple[str, str], float], begin_utc_s: float, found: tuple[tuple[float, float], float]
) -> Iterator[str]:
    (down_s, up_s), _ = found
    with link(url) as connection:
        rows = connection.execute("SELECT rig, content_id, at FROM arrived").fetchall()
    seen = {(rig, content): at for rig, content, at in rows}
    down, up = begin_utc_s + down_s, begin_utc_s + up_s
    late = [seen[key] - at for key, at in committed.items() if key in seen and not down - 3.0 < at < up + 60.0]
    behind = [seen[key] - up for key, at in committed.items() if key in seen and down <= at < up]
    p50, p95 = np.percentile(late, [50, 95])
    yield row(f"commit -> visible, {len(late)} subs, p50, p95", f"{p50:.2f} s, {p95:.2f} s", "p95 <= 2 s", p95 <= 2.0)
    missing, twice = len(committed.keys() - seen.keys()), len(rows) - len(seen)
    yield row("outage: lost, twice", f"{missing}, {twice} of {len(committed)}", "0, 0", missing == 0 and twice == 0)
    yield row(f"outage of {up - down:.0f} s: caught up in", f"{max(behind):.1f} s", "<= 60 s", max(behind) <= 60.0)


def _forbidden(urls: list[str]) -> Iterator[str]:
    import psycopg

    with link(urls[0]) as connection:
        changed = connection.execute("UPDATE nsgd.rigs SET state = 'x' WHERE rig = 'rig001'").rowcount
        try:
            connection.execute("INSERT INTO nsgd.alerts VALUES ('rig001', 'e', 'cloud', 1, '', '', '', true, false)")
        except psycopg.errors.InsufficientPrivilege:
            refused = changed == 0
        else:
            refused = False
    yield row("a rig writes another's rows", "refused" if refused else "possible", "refused", refused)


# ---- the view -----------------------------------------------------------------------------------

_HISTORY = """
    INSERT INTO nsgd.subs SELECT rig, 'c' || night || '-' || n, to_char(to_timestamp(%(end)s - 86400.0 * night),
        'YYYY-MM-DD'), 'M 31 L', 'sub_' || n || '.fits', %(end)s - 86400.0 * night - 60.0 * n, 60.0, 'ok', '',
        1.0 - 0.2 * random(), 0.01, 1.0 - 0.2 * random(), 0.9, 100, 3.0, 0.1, 1000.0
    FROM nsgd.rigs, generate_series(0, 364) AS night, generate_series(1, %(subs)s) AS n
"""


def view(quick: bool) -> Iterator[str]:
    """The fleet view over a hundred rigs and a year: how soon it is there, and how soon a change is."""
    programs = binaries()
    if programs is None:
        yield "     no PostgreSQL server is installed"
        return
    nightly = 20 if quick else 200
    with private_server(programs) as server, fleet_of(server, 100) as (url, urls):
        with link(url) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute(_HISTORY, {"end": time.time() - 60.0, "subs": nightly})
            connection.execute("UPDATE nsgd.rigs SET state = 'clear', seen_utc_s = %s", (time.time() + 600.0,))
            connection.execute("ANALYZE")
            (subs,) = connection.execute("SELECT count(*) FROM nsgd.subs").fetchone() or (0,)
        began = time.perf_counter()
        with FleetReader(url) as reader:
            rigs = reader.rigs()
            asked_s = time.perf_counter() - began
            began = time.perf_counter()
            night = reader.night("rig050")
            night_s = time.perf_counter() - began
        took = [opened(url, urls[7]) for _ in range(3)]
        opens_s = statistics.median(one[0] for one in took)
        yield row(f"{len(rigs)} rigs, {subs} subs: opens in", f"{opens_s:.2f} s", "<= 1 s", opens_s <= 1.0)
        yield f"     of which the database: {asked_s:.3f} s; one rig's night ({night.utc_s.size} subs): {night_s:.3f} s"
        refresh_s = statistics.median(one[1] for one in took)
        yield row("a change is seen after", f"{refresh_s:.2f} s", "refreshes", refresh_s < 5.0)


def opened(url: str, rig_url: str) -> tuple[float, float]:
    """Seconds from the command line to all rigs on a real terminal, and from a change to its place on it."""
    with link(rig_url) as connection:
        connection.execute("UPDATE nsgd.rigs SET state = 'clear' WHERE rig = nsgd.me()")
    screen = bytearray()
    began = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        os.execv(sys.executable, [sys.executable, "-m", "nsgd", "dashboard", "--fleet", url])
    threading.Thread(target=_overhear, args=(terminal, screen), daemon=True).start()
    wait_for(lambda: b"100 rigs" in screen and b"rig000" in screen, 60.0)
    opens_s = time.perf_counter() - began
    with link(rig_url) as connection:
        connection.execute("UPDATE nsgd.rigs SET state = 'cloudy' WHERE rig = nsgd.me()")
    began = time.perf_counter()
    wait_for(lambda: b"1 cloudy" in screen, 60.0)
    refresh_s = time.perf_counter() - began
    os.write(terminal, b"q")
    os.waitpid(child, 0)
    return opens_s, refresh_s


def _overhear(terminal: int, screen: bytearray) -> None:
    while True:
        try:
            screen += os.read(terminal, 65536)
        except OSError:
            return


# ---- one sky ------------------------------------------------------------------------------------

Neighbours = dict[int, Neighbour]
CADENCE_S = 120.0
RIGS = 10
FRONT_S = 70 * CADENCE_S


@dataclass
class Telescope:
    """One rig of a site: its columns, its alarm, and what it told."""

    columns: Columns = field(default_factory=Columns)
    state: AlarmState = field(default_factory=AlarmState)
    said: list[tuple[float, Alert]] = field(default_factory=list)

    def take(self, one: SubRow, neighbours: tuple[Neighbour, ...]) -> None:
        self.columns.append(one)
        series = SeriesRow(1, "k", "o", "L", "c", 1, 9, 9, ("L",), 1, False, -2.0, {}, 1, 1)
        seen = observe(one, judge(self.columns, series, Limits()).of(one.sub_id))
        now_utc_s = seen.end_utc_s + 3.0
        self.state, alerts = step(self.state, seen, now_utc_s, Alarm(), None, neighbours)
        self.said += [(now_utc_s, alert) for alert in alerts if not alert.resolves and alert.kind != "dawn"]

    @property
    def word(self) -> Neighbour:
        """What it publishes."""
        end, sky = self.state.last_end_utc_s, self.state.seen
        return Neighbour(end - CADENCE_S, end, sky.loss, sky.loss_err)


def night_of(change: object, seed: int, together: bool, tails: float = 0.0, only: int = -1) -> list[Telescope]:
    """A site's night; `only` is the rig that the change happens to, -1 for all. Subs are out of step between rigs."""
    from starlists import Script, rows

    offsets = np.random.default_rng([seed, 1]).uniform(0.0, CADENCE_S, RIGS)
    site, queue = [Telescope() for _ in range(RIGS)], []
    for number, offset in enumerate(offsets):
        felt = (lambda truth, s, rng, o=offset: change(truth, s + o, rng)) if only in (-1, number) else None  # type: ignore[operator]
        script = Script(subs=100, cadence_s=CADENCE_S, stars=80 + 15 * number, tails=tails)
        for earlier in rows(replace(script, subs=24, tails=0.0), seed + number):
            site[number].columns.append(earlier)
        script = replace(script, change=felt) if felt is not None else script
        queue += [
            (one.order_utc_s + offset, number, replace(one, order_utc_s=one.order_utc_s + offset))
            for one in rows(script, seed + number, 1)
        ]
    said: Neighbours = {}
    for _, number, one in sorted(queue, key=lambda item: item[:2]):
        fresh = [w for who, w in said.items() if who != number and one.order_utc_s - w.end_utc_s < 1200.0]
        site[number].take(one, tuple(fresh) if together else ())
        said[number] = site[number].word
    return site


def consensus(quick: bool) -> Iterator[str]:
    """Ten rigs under one sky, with known truth."""
    from alarm import dew
    from starlists import DAY_S, DUSK_UTC_S

    fronts, clears, dews = (6, 4, 6) if quick else (40, 30, 40)
    dawn = DUSK_UTC_S + DAY_S
    earlier, sooner, missed = [], [], 0
    for n in range(fronts):
        rng = np.random.default_rng([n, 5])
        front = front_of(float(rng.uniform(0.2, 0.8)), FRONT_S, float(rng.uniform(60.0, 900.0)))
        alone, site = (night_of(front, 9_000_000 + 100 * n, together) for together in (False, True))
        by_one = [times[0] for rig in alone if (times := [at for at, alert in rig.said if at > dawn + FRONT_S])]
        by_site = [times[0] for rig in site if (times := [at for at, alert in rig.said if at > dawn + FRONT_S])]
        missed += RIGS - len(by_site)
        earlier.append((statistics.median(by_one) - min(by_site)) / CADENCE_S)
        sooner.append((min(by_one) - min(by_site)) / CADENCE_S)
    p50 = statistics.median(earlier)
    yield row(f"{fronts} fronts: site's first message before one rig's, p50", f"{p50:.2f} subs", ">= 1 sub", p50 >= 1.0)
    yield f"     before the first of ten rigs alone: {statistics.median(sooner):.2f}; rigs without message: {missed}"
    rung = {}
    for together in (False, True):
        nights = [night_of(stray, 9_500_000 + 100 * n, together, tails=3.0) for n in range(clears)]
        kinds = [alert.kind for site in nights for rig in site for _, alert in rig.said]
        rung[together] = kinds.count("cloud"), len(kinds)
    what = f"false cloud alarms in {clears * RIGS} rig nights with strays, alone, site"
    yield row(what, f"{rung[False][0]}, {rung[True][0]}", "no more", rung[True][0] <= rung[False][0])
    yield f"     all messages of these nights: {rung[False][1]}, {rung[True][1]}"
    shared, kinds = 0, []
    for n in range(dews):
        rng = np.random.default_rng([n, 6])
        wet = dew(FRONT_S - 30 * CADENCE_S, float(rng.uniform(1800, 6000)), float(rng.uniform(0.2, 0.6)))
        site = night_of(wet, 9_700_000 + 100 * n, True, only=n % RIGS)
        shared += sum(alert.shared or alert.kind == "cloud" for rig in site for _, alert in rig.said)
        kinds += [alert.kind for rig in site for _, alert in rig.said]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    yield row(f"{dews} nights with dew on one rig: cloud alarms", f"{shared} ({told})", "0", shared == 0)


def front_of(depth: float, begin_s: float, length_s: float) -> object:
    """A front whose edge takes `length_s` to pass."""
    from alarm import cloudy

    def change(truth: object, seconds: float, rng: np.random.Generator) -> object:
        part = float(np.clip((seconds - begin_s) / length_s, 0.0, 1.0))
        return cloudy(truth, 1.0 - depth * part, rng) if part > 0 else truth  # type: ignore[arg-type]

    return change


def stray(truth: object, seconds: float, rng: np.random.Generator) -> object:
    """One sub in thirty is dimmed by something of its own: wind, a lamp, a bad guide star."""
    return replace(truth, light=float(rng.uniform(0.3, 0.9))) if rng.random() < 1 / 30 else truth  # type: ignore[type-var]


PARTS: dict[str, Callable[[bool], Iterator[str]]] = {
    part.__name__: part for part in (archive, publish, view, consensus)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sample of each part")
    parser.add_argument("parts", nargs="*", help="names of parts; all where none is given")
    chosen = parser.parse_args()
    print(f"nsgd fleet{', a sample' if chosen.quick else ''}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, part in PARTS.items():
        if chosen.parts and name not in chosen.parts:
            continue
        began = time.perf_counter()
        for line in part(chosen.quick):
            print(line, flush=True)
        print(f"   [{name}: {time.perf_counter() - began:.0f} s]", flush=True)


if __name__ == "__main__":
    main()
