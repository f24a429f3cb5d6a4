"""Commands over files that exist or are to be made: `nsgd measure`, `nsgd simulate`."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsgd.cli.places import common_options, load_settings, talk
from nsgd.errors import BadRequest, FileProblem, UnreadableFrame

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from nsgd.session.store import Store
    from nsgd.settings import Settings
    from nsgd.walk import Outcome, Walker
    from nsgd.walk.cluster import Cluster

LITTLE = 12
"""So few files are measured before worker processes have started."""

Found = tuple[Path, Path]
"""A file, and the folder that was named on the command line."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--out", required=True, metavar="DIR", help="Folder for subs.csv and the store; made where missing.")
@click.option(
    "--cluster", default="", metavar="ADDRESS", help="dask scheduler whose workers measure (README, Many rigs)."
)
@common_options
def measure(paths: tuple[str, ...], out: str, cluster: str) -> None:
    """Measure subs that exist: the same engine as the daemon's; writes DIR/subs.csv and leaves its store in DIR.

    \b
    Example: nsgd measure ~/Lights/2026-11-21 --out night
             nsgd dashboard --store night

    PATH is a folder (with all below it) or a file. Run again with the same DIR, only what is new is measured.
    """
    from nsgd.config import zone_of
    from nsgd.export.table import export_csv
    from nsgd.session.store import Store
    from nsgd.walk import Walker, outcomes

    settings = load_settings().settings
    target = Path(out).expanduser().resolve()
    found = in_night_order(list(find_files(paths, target, settings)), settings)
    if not found:
        raise BadRequest(f"There is no FITS, XISF, TIFF or raw file in {', '.join(paths)}.")
    store = Store.open(target, time.time())
    with store:
        walker = Walker(store, settings, zone_of(settings), refit_at=())  # nobody looks before all of them are in
        fresh = [item for item in found if not _is_done(store, item[0])]
        folders = [*{folder: None for _, folder in found}, target]
        with (
            _cluster(cluster, folders) if cluster else _workers(settings, len(fresh)) as workers,
            click.progressbar(length=len(found), label="measuring", file=sys.stderr, width=30, show_pos=True) as bar,
        ):
            bar.update(len(found) - len(fresh))
            for path, folder, outcome in outcomes(walker, fresh, *workers):
                take(store, walker, (path, folder), outcome)
                bar.update(1)
            for path, folder in walker.again():
                take(store, walker, (path, folder), walker.measure(path))
        walker.settle()
        table = export_csv(store, target, settings, force=True)
        talk(_summary(store))
    click.echo(table)


def _is_done(store: Store, path: Path) -> bool:
    """Whether an earlier run has dealt with the file as it is now."""
    stamp = _stamp(path)
    return stamp is not None and store.seen(str(path), *stamp)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it has just gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@contextmanager
def _workers(settings: Settings, files: int) -> Iterator[tuple[Executor | None]]:
    """Worker processes for many files; none where there is one core to use or little to do."""
    from nsgd.walk import worker_pool

    workers = settings.measure.workers or os.cpu_count() or 1
    with worker_pool(workers) if workers > 1 and files > LITTLE else nullcontext() as pool:
        yield (pool,)


def _cluster(address: str, folders: Sequence[Path]) -> AbstractContextManager[Cluster]:
    """Workers on other machines."""
    from nsgd.walk.cluster import cluster

    return cluster(address, folders)


def take(store: Store, walker: Walker, found: Found, outcome: Outcome) -> None:
    """Commit what came of one file, as the daemon does it; a file that cannot be read is noted."""
    path, folder = found
    stamp = _stamp(path)
    try:
        commit = walker.take(outcome, folder, time.time())
    except UnreadableFrame as problem:
        store.note_unreadable(str(path), problem.sentence)
        return
    if commit is None and stamp is not None:
        store.stamp(str(path), *stamp)
    elif commit is not None:
        walker.committed(commit, store.commit_sub(commit, stamp=stamp))


def _summary(store: Store) -> str:
    """What was measured and what was not, with each file that could not be read."""
    from nsgd.dashboard.inert import inert

    rows, ignored, unread = store.subs(), store.ignored(), store.unreadable()
    measured = sum(row.failure is None for row in rows)
    failed = len(rows) - measured + len(unread)
    parts = [f"{measured} subs measured", f"{failed} failed", f"{sum(ignored.values())} ignored"]
    if ignored:
        parts[2] += f" ({', '.join(f'{count} {kind}' for kind, count in sorted(ignored.items()))})"
    unreadable = [f"unreadable: {inert(item.path, 400)}: {inert(item.sentence, 400)}" for item in unread]
    return "\n".join([*unreadable, ", ".join(parts) + "."])


def find_files(paths: Sequence[str], target: Path, settings: Settings) -> Iterator[Found]:
    """Files under the given paths that may be subs by their names; `target` itself is left out.

    Raises
    ------
    BadRequest
        A path does not exist, or the results would lie among the captures.
    """
    from nsgd.daemon.scan import list_images

    for given in paths:
        path = Path(given).expanduser().resolve()
        if not path.exists():
            raise BadRequest(f"{given} does not exist; check the spelling, or mount the share first.")
        if path == target:
            raise BadRequest(f"--out {target} is the capture folder itself; name another, nsgd never writes there.")
        if path.is_file():
            yield path, path.parent
            continue
        listing = list_images(path, max_depth=settings.watch.max_depth, ignore=settings.watch.ignore)
        for folder in listing.unreadable:
            talk(f"warning: {folder} cannot be listed; its files are left out.")
        yield from ((file, path) for file in map(Path, listing.files) if not file.is_relative_to(target))


def in_night_order(found: list[Found], settings: Settings) -> list[Found]:
    """Files in order of mid-exposure; those whose time is not known follow in natural name order."""
    from nsgd.frames.read import read_header
    from nsgd.session.series import natural_key

    def key(item: Found) -> tuple[float, object]:
        path, folder = item
        try:
            mid_utc_s = read_header(path, aliases=settings.filters).mid_utc_s
        except FileProblem:  # told by the walk, in its turn
            mid_utc_s = None
        return mid_utc_s or math.inf, natural_key(str(path.relative_to(folder)))

    return sorted(found, key=key)


@click.command()
@click.argument("night", metavar="NIGHT")
@click.option("--out", required=True, metavar="DIR", help="Folder that the camera stand-in writes into.")
@click.option("--interval", type=click.FloatRange(min=0.0), metavar="S", help="Seconds between subs; without: at once.")
@click.option("--subs", type=click.IntRange(1, 100_000), help="How many subs; default: as the night has.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another night of the same kind.")
@common_options
def simulate(night: str, out: str, interval: float | None, subs: int | None, seed: int) -> None:
    """Write a simulated night of known truth, as N.I.N.A. writes it.

    \b
    Example: nsgd simulate cloud --out ~/Lights --interval 5

    Nights: airmass, bayer, clear, cloud, coarse, dawn, demo, dew, filters, flip, focus, frost, gradient, guiding, haze,
    milkyway, moonrise, satellites, tree, whiteout. With --interval each sub is stamped as just taken, so that a daemon
    on DIR takes it for the sky of now.
    """
    from nsgd import simulate as camera

    if night not in camera.names():
        raise BadRequest(f"There is no night {night!r}; there are {', '.join(camera.names())}.")
    plan = camera.night(night, seed, subs=subs)
    folder = Path(out).expanduser()

    def wrote(path: Path) -> None:
        click.echo(path)

    if interval is None:
        camera.write_night(plan, folder, wrote=wrote)
    else:
        camera.drip(plan, folder, interval, now=time.time, wrote=wrote)
