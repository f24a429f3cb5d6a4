"""`nsgd doctor`: looks at everything a night depends on and says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsgd.cli.messages import understood
from nsgd.cli.places import common_options, given, load_settings, say
from nsgd.errors import BadSettings, NsgdError

if TYPE_CHECKING:
    from nsgd.session.store import DaemonStatus
    from nsgd.settings import Settings

LOW_DISK_GB = 0.5
MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and the remedy where it is not well."""

    state: str
    """`ok`, `warn` or `fail`."""
    what: str
    sentence: str
    remedy: str = ""


@click.command()
@click.option("--send", is_flag=True, help="Really send a test message to every service.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@common_options
def doctor(send: bool, as_json: bool) -> int:
    """Look at settings, folders, shares, clock, disk, services and the daemon; say what is wrong and what to do.

    \b
    Example: nsgd doctor --send

    Exit code 1 if something fails; warnings leave 0.
    """
    import json

    found = []
    for finding in findings(send):
        found.append(finding)
        if not as_json:
            say(f"{MARKS[finding.state]} {finding.what}: {finding.sentence}")
            if finding.remedy:
                say(f"     -> {finding.remedy}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    return int(any(finding.state == "fail" for finding in found))


def findings(send: bool) -> Iterator[Finding]:
    """Everything there is to say, in the order of a night."""
    from nsgd.settings import Settings

    yield from look_at_versions()
    try:
        loaded = load_settings()
    except BadSettings as error:
        yield from (Finding("fail", "settings", problem, "see `nsgd config check`") for problem in error.problems)
        settings = Settings()
    else:
        settings = loaded.settings
        yield Finding("ok", "settings", str(loaded.file) if loaded.file else "none needed, all defaults")
    yield from look_at_folders(settings, time.time())
    yield from look_at_store(settings)
    yield from look_at_clock(time.time())
    yield from look_at_services(settings, send)
    yield from look_at_fleet(settings)
    yield from look_at_unit()


def look_at_versions() -> Iterator[Finding]:
    """Python, the libraries, and what the optional ones would add."""
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    from nsgd import __version__

    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "astropy", "sep", "textual"))
    yield Finding("ok", "versions", f"nsgd {__version__}, Python {platform.python_version()}, {libraries}")
    for module, extra, adds in (
        ("lz4", "xisf", "XISF files compressed with LZ4"),
        ("rawpy", "raw", "DSLR raw files"),
        ("tifffile", "tiff", "TIFF files"),
    ):
        if find_spec(module) is None:
            yield Finding("ok", "extras", f"{adds} need the extra `{extra}` (not installed)")


def look_at_folders(settings: Settings, now_utc_s: float) -> Iterator[Finding]:
    """Every capture folder of the settings: there, readable, alive, and how it is watched."""
    if not settings.watch.folders:
        yield Finding("warn", "folders", "the settings name none", "`nsgd run FOLDER`, or set watch.folders")
    for folder in settings.watch.folders:
        yield from look_at_folder(Path(folder).expanduser(), settings, now_utc_s)


def look_at_folder(folder: Path, settings: Settings, now_utc_s: float) -> Iterator[Finding]:
    """One capture folder."""
    from nsgd.daemon.scan import file_system, is_share, list_images
    from nsgd.daemon.settle import FileStat

    what = f"folder {folder}"
    if not folder.is_dir():
        yield Finding("fail", what, "does not exist", "mount the share or disk, or correct watch.folders")
        return
    try:
        listing = list_images(folder, max_depth=settings.watch.max_depth, ignore=settings.watch.ignore)
    except OSError as error:
        yield Finding("fail", what, f"cannot be listed ({error.strerror})", "give your user the right to read it")
        return
    kind = file_system(folder)
    how = f"{kind}: a share, looked at every {settings.watch.poll_s:g} s" if is_share(kind) else f"{kind}: events"
    newest = max((FileStat.unpacked(seen).mtime_ns / 1e9 for seen in listing.files.values()), default=None)
    age = "no image yet" if newest is None else f"{len(listing.files)} images, newest {_age(now_utc_s - newest)} ago"
    yield Finding("ok", what, f"readable, {how}; {age}")
    for sub_folder in listing.unreadable[:5]:
        yield Finding("warn", what, f"{sub_folder} cannot be listed", "give your user the right to read it")
    unreadable = next((path for path in list(listing.files)[-20:] if not os.access(path, os.R_OK)), None)
    if unreadable is not None:
        yield Finding("fail", what, f"{unreadable} may not be read", "give your user the right to read it")
    if newest is not None and newest > now_utc_s + 120.0:
        ahead = f"its clock is {_age(newest - now_utc_s)} ahead of this computer's"
        yield Finding("warn", what, ahead, "set the clocks of both computers by NTP")
    if not is_share(kind):
        yield from _events_work(folder, what, settings)


def _events_work(folder: Path, what: str, settings: Settings) -> Iterator[Finding]:
    """Whether the kernel still gives away a watch."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    observer = Observer()
    try:
        observer.schedule(FileSystemEventHandler(), str(folder), recursive=True)
        observer.start()
    except OSError as error:
        remedy = "raise the limit: `sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512`"
        poll = f"no events ({error.strerror}), looked at every {settings.watch.poll_s:g} s instead"
        yield Finding("warn", what, poll, remedy)
        return
    observer.stop()
    observer.join()


def look_at_store(settings: Settings) -> Iterator[Finding]:
    """The store's folder: found, local, writable, space; and the daemon that owns it."""
    from nsgd.daemon.scan import file_system, is_share
    from nsgd.session.store import Reader
    from nsgd.whereabouts import SERVICE_STORE, find_store, user_store

    try:
        folder = find_store(given("store"), settings.store.path)
    except NsgdError as error:
        yield Finding("fail", "store", error.sentence)
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    kind, free_gb = file_system(there), shutil.disk_usage(there).free / 1e9
    if is_share(kind):
        yield Finding(
            "fail", "store", f"{folder} lies on a share ({kind})", "set store.path to a folder on a local disk"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("fail", "store", f"{folder} may not be written", "join the group nsgd, or set store.path")
    state = "ok" if free_gb > LOW_DISK_GB else "fail"
    yield Finding(
        state, "disk", f"{free_gb:.1f} GB free for {folder}", "" if state == "ok" else "make room on this disk"
    )
    if (user_store() / "nsgd.db").exists() and (SERVICE_STORE / "nsgd.db").exists():
        here = f"both {user_store()} and {SERVICE_STORE} hold one; {folder} is used"
        yield Finding("warn", "store", here, "name one with --store or store.path, or remove the other")
    try:
        with Reader.open(folder) as reader:
            status, subs = reader.daemon(), len(reader.subs())
    except NsgdError as error:
        yield Finding("ok" if not (folder / "nsgd.db").exists() else "fail", "store", error.sentence)
        return
    yield Finding("ok", "store", f"{folder}: {subs} subs")
    yield from look_at_daemon(status, time.time())


def look_at_daemon(status: DaemonStatus | None, now_utc_s: float) -> Iterator[Finding]:
    """Whether the store's owner lives and is well."""
    if status is None or status.stopped:
        yield Finding("warn", "daemon", "not running", "start `nsgd run`, or the service")
        return
    age_s = now_utc_s - status.last_progress_utc_s
    if not status.alive(now_utc_s):
        quiet = f"process {status.pid} last moved {_age(age_s)} ago"
        yield Finding("fail", "daemon", quiet, "look at its log and start it again")
        return
    yield Finding("ok", "daemon", f"running, process {status.pid}")
    if status.message:
        yield Finding("warn", "daemon", status.message)
    for folder in status.folders:
        missing = folder.mode == "missing"
        how = f"{folder.path}: {folder.mode}{f' ({folder.message})' if folder.message else ''}"
        yield Finding("fail" if missing else "ok", "watched", how, "mount the share or disk" if missing else "")


def look_at_clock(now_utc_s: float) -> Iterator[Finding]:
    """A Raspberry Pi without a battery wakes up in the past."""
    from nsgd import __file__ as installed

    if now_utc_s < Path(installed).stat().st_mtime - 86400.0:
        yield Finding(
            "fail", "clock", "this computer's clock is wrong (before nsgd was installed)", "set it: `sudo date -s`"
        )
        return
    if shutil.which("timedatectl") is None:
        yield Finding("ok", "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_utc_s)))
        return
    done = _said("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if done == "no":
        yield Finding("warn", "clock", "not synchronised with a time server", "`sudo timedatectl set-ntp true`")
    else:
        yield Finding("ok", "clock", "synchronised" if done == "yes" else "not managed by systemd")


def look_at_services(settings: Settings, send: bool) -> Iterator[Finding]:
    """Notification services: set, understood, and with `--send` really reached."""
    from nsgd.daemon.notify import kind_of, quiet_foreign_loggers, send_test, services

    quiet_foreign_loggers()
    urls = services([url.get_secret_value() for url in settings.notify.urls])
    if not urls:
        yield Finding("warn", "alerts", "no service is set, nobody will be told", "see `nsgd config init`")
    outcomes = send_test(urls, time.time()) if send else {}
    for name, url in urls.items():
        what = f"service {name} {kind_of(url)}"
        if not understood(url):
            yield Finding("fail", what, "Apprise does not understand its URL", "compare with the README's table")
        elif name not in outcomes:
            yield Finding("ok", what, "understood; `nsgd doctor --send` rings it")
        elif outcomes[name].ok:
            yield Finding("ok", what, "test message sent")
        else:
            yield Finding("fail", what, outcomes[name].error, "check the URL and the network")


def look_at_fleet(settings: Settings) -> Iterator[Finding]:
    """The fleet's database, where this rig publishes to one."""
    url = settings.publish.url.get_secret_value()
    if not url:
        return
    from nsgd.fleet.link import link
    from nsgd.fleet.schema import place_of

    try:
        with link(url) as connection:
            rig, site = place_of(connection)
    except NsgdError as problem:
        yield Finding("fail", "fleet", problem.sentence, "the rig goes on alone meanwhile")
        return
    yield Finding("ok", "fleet", f"rig {rig}{f' of site {site}' if site else ''}")


def look_at_unit() -> Iterator[Finding]:
    """The systemd service, where there is one."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").exists():
        return
    for scope in ((), ("--user",)):
        enabled = _said("systemctl", *scope, "is-enabled", "nsgd.service")
        if enabled in ("", "not-found"):
            continue
        active = _said("systemctl", *scope, "is-active", "nsgd.service")
        name = "user service" if scope else "service"
        remedy = f"`journalctl {' '.join((*scope, '-u nsgd'))}` says why"
        good = active == "active"
        yield Finding("ok" if good else "warn", name, f"nsgd.service is {active}, {enabled}", "" if good else remedy)


def _said(*command: str) -> str:
    """What a short command prints, "" where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _age(seconds: float) -> str:
    from nsgd.dashboard.headline import age

    return age(seconds)
