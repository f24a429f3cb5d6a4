"""The command line keeps its promises: exit codes, one clear sentence an error, data on stdout and talk on stderr."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nsgd import config, simulate
from nsgd.cli.entry import run_command
from nsgd.session.store import DaemonStatus, FolderStatus, Reader, Store

SUBS = 10


@dataclass(frozen=True)
class Said:
    """What one command line did."""

    code: int
    out: str
    err: str


Nsgd = Callable[..., Said]


@pytest.fixture
def nsgd(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nsgd:
    """Run a command line in this process, away from the user's own settings and store."""
    for name in ("NSGD_CONFIG", "NSGD_NOTIFY_URLS", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("nsgd.whereabouts.ETC_FILE", tmp_path / "etc" / "config.toml")
    monkeypatch.setattr("nsgd.whereabouts.SERVICE_STORE", tmp_path / "service")

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = run_command([str(part) for part in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small night of one series, and a dark."""
    folder = tmp_path_factory.mktemp("lights")
    night = simulate.night("clear", subs=SUBS, width_px=400, height_px=300)
    simulate.write_night(night, folder)
    cards = [card for card in simulate.sub_cards(night.subs[0]) if card[0] != "IMAGETYP"]
    simulate.write_sub(folder / "dark_0001.fits", night.pixels(0), [("IMAGETYP", "DARK", ""), *cards])
    return folder


@pytest.fixture(scope="module")
def measured(lights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That night, measured."""
    out = tmp_path_factory.mktemp("measured")
    assert run_command(["measure", str(lights), "--out", str(out)]) == 0
    return out


@pytest.fixture
def store(measured: Path, tmp_path: Path) -> Path:
    """A copy of its store that a test may change."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "nsgd.db").write_bytes((measured / "nsgd.db").read_bytes())
    return folder


def table(out: Path) -> list[dict[str, str]]:
    with (out / "subs.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------- the whole


def cpu_s(*command: str) -> float:
    """Processor time of a command: what it costs on a busy machine too."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of a child is POSIX")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_take_a_fifth_of_a_second(option: str) -> None:
    assert min(cpu_s(sys.executable, "-m", "nsgd", option) for _ in range(5)) < 0.2


def test_version_names_the_libraries_that_a_bug_report_needs(nsgd: Nsgd) -> None:
    said = nsgd("--version")
    assert all(name in said.out for name in ("nsgd 0", "Python 3", "numpy", "astropy", "sep", "textual", "apprise"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux")
def test_the_matrices_get_no_threads_of_their_own() -> None:
    code = """
import os, sys
from nsgd.cli import main
sys.argv = ["nsgd", "--help"]
try:
    main()
except SystemExit:
    import numpy as np
    np.ones((600, 600)) @ np.ones((600, 600))
    print("threads", len(os.listdir("/proc/self/task")))
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.endswith("threads 1\n")


def test_a_mistyped_command_gets_the_nearest_one(nsgd: Nsgd) -> None:
    said = nsgd("mesure", "x")
    assert said.code == 2
    assert "No such command 'mesure'" in said.err
    assert "measure" in said.err


def test_bad_settings_stop_every_command_with_78(nsgd: Nsgd, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[watch]\npol_s = 1\nrescan_s = 0\n", encoding="utf-8")
    for command in (
        ("run", tmp_path),
        ("status",),
        ("measure", tmp_path, "--out", tmp_path / "o"),
        ("config", "check"),
    ):
        said = nsgd(*command, "--config", bad)
        assert said.code == 78
        assert said.out == ""
        assert f"{bad} line 2: there is no setting watch.pol_s; did you mean poll_s?" in said.err
        assert "nsgd: 2 problems in the settings; nothing was started." in said.err


def test_interrupting_is_130(nsgd: Nsgd, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    def interrupted(_folder: Path) -> Reader:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "open", interrupted)
    said = nsgd("status", "--store", store)
    assert said.code == 130
    assert said.err.strip() == "nsgd: interrupted"


def test_a_reader_that_has_seen_enough_ends_it_without_noise(store: Path) -> None:
    command = f'"{sys.executable}" -m nsgd config show --store "{store}" | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "watch.folders = []\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run",), "Which folder does your capture program write into? Say `nsgd run FOLDER`."),
        (("run", "/no/such"), "/no/such does not exist; check the spelling, or mount the share first."),
        (("run", __file__), "is a file; name the folder."),
        (("measure", "/no/such", "--out", "OUT"), "/no/such does not exist; check the spelling, or mount the share"),
        (("measure", "EMPTY", "--out", "OUT"), "There is no FITS, XISF, TIFF or raw file in"),
        (
            ("measure", "EMPTY", "--out", "EMPTY"),
            "is the capture folder itself; name another, nsgd never writes there.",
        ),
        (("simulate", "dragons", "--out", "OUT"), "There is no night 'dragons'; there are airmass, bayer, clear"),
        (("accept", "no.fits", "--store", "STORE"), "The store knows no sub no.fits; `nsgd export csv` lists all"),
        (("reject", "no.fits", "--store", "STORE"), "The store knows no sub no.fits"),
        (("undo", "no.fits", "--store", "STORE"), "The store knows no sub no.fits"),
        (("reference", "set", "no.fits", "--store", "STORE"), "The store knows no sub no.fits"),
        (
            ("reference", "auto", "--series", "Ha", "--store", "STORE"),
            'No series fits "Ha"; name one with --series: 1 =',
        ),
        (("limits", "set", "--store", "STORE"), "Name a cut-off to set, such as --transmission 0.6, or --reset."),
        (("replay", "--session", "1999-01-01", "--store", "STORE"), "There is no night 1999-01-01; there are 20"),
        (("dashboard", "--theme", "pink", "--store", "STORE"), "There is no theme 'pink'; there are nsgd-dark"),
        (("notify", "test"), "No service is set: put one Apprise URL a line into a file of mode 0600"),
        (("notify", "list"), "No service is set"),
    ],
)
def test_what_a_user_can_get_wrong_has_its_sentence_and_exit_code_2(
    nsgd: Nsgd, arguments: tuple[str, ...], sentence: str, tmp_path: Path, store: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"OUT": tmp_path / "out", "EMPTY": tmp_path / "empty", "STORE": store}
    said = nsgd(*(places.get(part, part) for part in arguments))
    assert sentence in said.err
    assert said.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("reference", "show"),
        ("reference", "set", "a.fits"),
        ("limits", "show"),
        ("accept", "a.fits"),
        ("ack",),
        ("snooze",),
        ("session", "list"),
        ("session", "end"),
        ("replay",),
        ("export", "csv", "--out", "out"),
    ],
)
def test_without_a_store_every_command_says_where_it_looked(
    nsgd: Nsgd, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = nsgd(*arguments)
    assert said.code == 1
    where = tmp_path / "state" / "nsgd"
    assert said.err == f"nsgd: There is no store in {where}: start `nsgd run`, or name another one with --store.\n"


# ------------------------------------------------------------------------------------------- measure


def test_measure_writes_a_row_per_sub_and_counts_the_rest(nsgd: Nsgd, lights: Path, tmp_path: Path) -> None:
    said = nsgd("measure", lights, "--out", tmp_path / "out")
    assert said.code == 0
    assert said.out == f"{tmp_path / 'out' / 'subs.csv'}\n"
    assert f"{SUBS} subs measured, 0 failed, 1 ignored (1 dark)." in said.err
    rows = table(tmp_path / "out")
    assert len(rows) == SUBS
    assert [row["date_obs"] for row in rows] == sorted(row["date_obs"] for row in rows)
    assert all(row["status"] == "ok" for row in rows)


def test_measuring_again_measures_only_what_is_new_and_changes_nothing(
    nsgd: Nsgd, lights: Path, measured: Path, tmp_path: Path
) -> None:
    first = (measured / "subs.csv").read_bytes()
    assert nsgd("measure", lights, "--out", measured).code == 0
    assert (measured / "subs.csv").read_bytes() == first
    with Reader.open(measured) as reader:
        assert len(reader.subs()) == SUBS


def test_a_broken_file_is_named_and_the_rest_is_measured(nsgd: Nsgd, lights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lights"
    folder.mkdir()
    for path in sorted(lights.rglob("*.fits"))[1:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.fits").write_bytes(b"this is no picture")
    (folder / "empty.fits").touch()
    (folder / "notes.txt").write_text("not looked at", encoding="utf-8")
    said = nsgd("measure", folder, "--out", tmp_path / "out")
    assert said.code == 0
    assert "unreadable: " in said.err
    assert "broken.fits" in said.err
    assert "empty.fits" in said.err
    assert "notes.txt" not in said.err
    assert "3 subs measured, 2 failed" in said.err
    rows = {row["file"]: row for row in table(tmp_path / "out")}
    assert sorted(row["status"] for row in rows.values()) == ["failed"] * 2 + ["ok"] * 3
    for name in ("broken.fits", "empty.fits"):
        assert rows[name]["reasons"] == "unreadable"
        assert rows[name]["failure"]
        assert not rows[name]["transmission"]


def test_measure_changes_nothing_in_the_capture_folder(nsgd: Nsgd, lights: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        found = {str(path): path.stat() for path in lights.rglob("*")}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}

    before = state()
    assert nsgd("measure", lights, "--out", tmp_path / "out").code == 0
    assert state() == before


# ------------------------------------------------------------------------------------------- looking


def test_status_is_text_for_people_and_json_for_programs(nsgd: Nsgd, store: Path) -> None:
    said = nsgd("status", "--store", store)
    assert said.code == 0
    assert f"{SUBS} of {SUBS} kept" in said.out
    assert "daemon   not running" in said.out
    facts = json.loads(nsgd("status", "--json", "--store", store).out)
    assert facts["series"][0]["subs"] == SUBS
    assert facts["daemon"]["running"] is False
    assert facts["ignored"] == {"dark": 1}


def test_is_clear_is_unknown_without_store_or_daemon(nsgd: Nsgd, store: Path, tmp_path: Path) -> None:
    assert nsgd("is-clear").code == 4
    assert nsgd("is-clear", "--store", store).code == 4


def test_reference_and_limits_are_shown(nsgd: Nsgd, store: Path) -> None:
    assert "automatic" in nsgd("reference", "show", "--store", store).out
    assert "transmission 0.75\tweight 0.25" in nsgd("limits", "show", "--store", store).out


def test_sessions_are_listed(nsgd: Nsgd, store: Path) -> None:
    assert f"\t{SUBS} subs\t0 failed" in nsgd("session", "list", "--store", store).out


def test_a_clear_night_replays_without_a_message(nsgd: Nsgd, store: Path) -> None:
    said = nsgd("replay", "--store", store)
    assert said.code == 0
    assert said.out == ""
    assert "0 messages would have been sent." in said.err


def test_a_cloudy_night_replays_with_the_messages_it_would_have_sent(nsgd: Nsgd, tmp_path: Path) -> None:
    night = simulate.night("demo", width_px=400, height_px=300)
    simulate.write_night(night, tmp_path / "lights")
    assert nsgd("measure", tmp_path / "lights", "--out", tmp_path / "out").code == 0
    said = nsgd("replay", "--store", tmp_path / "out")
    assert said.code == 0
    assert [line for line in said.out.splitlines() if "Cloud: " in line]
    assert [line for line in said.out.splitlines() if "Clear again: " in line]
    assert "2026-11-21: " in said.err


# ------------------------------------------------------------------------------------------- deciding


def a_name(store: Path, number: int = 0) -> str:
    with Reader.open(store) as reader:
        return Path(reader.subs()[number].path).name


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("accept", "NAME"), "accept"),
        (("reject", "NAME"), "reject"),
        (("undo", "NAME"), "undo"),
        (("reference", "set", "NAME"), "reference"),
        (("reference", "auto"), "reference"),
        (("limits", "set", "--transmission", "0.6"), "limits"),
        (("limits", "set", "--reset"), "limits"),
        (("ack",), "ack"),
        (("snooze", "45"), "snooze"),
        (("session", "end"), "session_end"),
    ],
)
def test_a_decision_is_a_durable_request(nsgd: Nsgd, store: Path, arguments: tuple[str, ...], kind: str) -> None:
    said = nsgd(*(a_name(store) if part == "NAME" else part for part in arguments), "--store", store)
    assert said.code == 0
    assert "No daemon runs on this store: `nsgd apply` makes it so now." in said.err
    with Reader.open(store) as reader:
        assert [request.kind for request in reader.requests()] == [kind]


@pytest.fixture(scope="module")
def tangled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which two fields share file names, and every filter is a series of its own."""
    folder, out = tmp_path_factory.mktemp("tangled"), tmp_path_factory.mktemp("tangled_out")
    for name, script, seed in (("a", "filters", 1), ("b", "filters", 2)):
        simulate.write_night(simulate.night(script, seed, subs=4, width_px=300, height_px=200), folder / name)
    assert run_command(["measure", str(folder), "--out", str(out)]) == 0
    return out


def test_a_name_that_several_subs_have_asks_for_the_path(nsgd: Nsgd, tangled: Path) -> None:
    said = nsgd("reject", a_name(tangled), "--store", tangled)
    assert said.code == 2
    assert said.err.startswith(f"nsgd: 2 subs are called {a_name(tangled)}; give the path of one: /")


def test_a_sub_that_could_not_be_measured_cannot_be_the_reference(nsgd: Nsgd, tangled: Path) -> None:
    with Reader.open(tangled) as reader:
        failed = next(row for row in reader.subs() if row.failure is not None)
    said = nsgd("reference", "set", Path(failed.folder) / failed.path, "--store", tangled)
    assert said.code == 2
    assert "could not be measured (" in said.err
    assert "and cannot be the reference." in said.err


def test_several_series_ask_which_one(nsgd: Nsgd, tangled: Path, tmp_path: Path) -> None:
    said = nsgd("limits", "set", "--weight", "0.3", "--store", tangled)
    assert said.code == 2
    assert 'Several series fit ""; name one with --series: 1 = Sim filters ' in said.err
    store = tmp_path / "store"
    store.mkdir()
    (store / "nsgd.db").write_bytes((tangled / "nsgd.db").read_bytes())
    assert nsgd("limits", "set", "--series", "r", "--weight", "0.3", "--store", store).code == 0


def test_an_empty_store_says_so(nsgd: Nsgd, tmp_path: Path) -> None:
    Store.open(tmp_path / "store", time.time()).close()
    said = nsgd("replay", "--store", tmp_path / "store")
    assert (said.code, said.err) == (2, "nsgd: The store holds no sub yet; there is no night to replay.\n")
    for arguments in (("limits", "set", "--weight", "0.3"), ("reference", "auto")):
        said = nsgd(*arguments, "--store", tmp_path / "store")
        assert said.code == 2
        assert said.err == "nsgd: No series is known yet: the first sub that can be measured makes one.\n"


# ------------------------------------------------------------------------------------------- settings


def test_config_init_writes_a_private_file_that_checks_out(nsgd: Nsgd, tmp_path: Path) -> None:
    said = nsgd("config", "init", "--folder", tmp_path, "--timezone", "Europe/Berlin", "--sensitivity", "keen")
    assert said.code == 0
    path = tmp_path / "config" / "nsgd" / "config.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert nsgd("config", "check").code == 0
    shown = nsgd("config", "show", "--origin").out
    assert f'watch.folders = ["{tmp_path}"]  # {path} line ' in shown
    assert 'alarm.sensitivity = "keen"' in shown
    assert "watch.poll_s = 5.0  # default" in shown
    assert nsgd("config", "path").out == f"{path}\n"


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX")
def test_config_init_asks_four_questions_and_asks_again_after_a_wrong_answer(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nsgd", "config", "init"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
    )
    os.close(theirs)
    heard = ""
    for question, answer in (
        ("nsgd run FOLDER`): ", str(tmp_path)),
        ("no alerts): ", "nonsense"),
        ("no alerts): ", "json://127.0.0.1:9/"),
        ("system's): ", "Mars/Base"),
        ("system's): ", "Europe/Berlin"),
        ("normal): ", ""),
        ("`nsgd run` starts.", ""),
    ):
        while question not in heard:
            heard += os.read(ours, 4096).decode()
        heard = heard.partition(question)[2]
        os.write(ours, f"{answer}\n".encode())
    assert process.wait(timeout=20) == 0
    os.close(ours)
    path = tmp_path / "nsgd" / "config.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    settings = config.load(str(path), {}).settings
    assert settings.watch.folders == (str(tmp_path),)
    assert [url.get_secret_value() for url in settings.notify.urls] == ["json://127.0.0.1:9/"]
    assert settings.site.timezone == "Europe/Berlin"
    assert settings.alarm.sensitivity == "normal"


def test_config_init_does_not_overwrite_what_exists(nsgd: Nsgd) -> None:
    assert nsgd("config", "init", "--timezone", "UTC").code == 0
    said = nsgd("config", "init", "--timezone", "UTC")
    assert said.code == 2
    assert "exists; change it with an editor, or replace it with --force." in said.err
    assert nsgd("config", "init", "--timezone", "UTC", "--force").code == 0


def test_config_init_refuses_a_wrong_answer_and_writes_nothing(nsgd: Nsgd, tmp_path: Path) -> None:
    said = nsgd("config", "init", "--timezone", "Mars/Base")
    assert said.code == 78
    assert "is no known time zone" in said.err
    assert not (tmp_path / "config").exists()


def test_config_show_masks_secrets(nsgd: Nsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSGD_NOTIFY_URLS", "ntfy://canary-topic")
    for arguments in (("config", "show", "--origin"), ("config", "show", "--json")):
        said = nsgd(*arguments)
        assert "canary" not in said.out + said.err
        assert "environment NSGD_NOTIFY_URLS" in said.out


def test_notify_list_never_shows_a_url(nsgd: Nsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSGD_NOTIFY_URLS", "ntfy://canary-topic nonsense://canary")
    said = nsgd("notify", "list")
    assert said.out == "s1 ntfy\ns2 nonsense: this URL is not understood by Apprise\n"
    assert said.code == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(nsgd: Nsgd, shell: str) -> None:
    said = nsgd("completion", shell)
    assert said.code == 0
    assert "_NSGD_COMPLETE" in said.out


# ------------------------------------------------------------------------------------------- doctor


def findings(nsgd: Nsgd, *arguments: object) -> tuple[int, dict[str, dict[str, str]]]:
    said = nsgd("doctor", "--json", *arguments)
    return said.code, {finding["what"]: finding for finding in json.loads(said.out)}


def test_doctor_finds_a_good_folder_good(nsgd: Nsgd, lights: Path, store: Path) -> None:
    nsgd("config", "init", "--folder", lights)
    code, found = findings(nsgd, "--store", store)
    assert code == 0
    assert found[f"folder {lights}"]["state"] == "ok"
    assert f"{SUBS + 1} images" in found[f"folder {lights}"]["sentence"]
    assert found["daemon"] == {
        "state": "warn",
        "what": "daemon",
        "sentence": "not running",
        "remedy": "start `nsgd run`, or the service",
    }


def test_doctor_fails_on_a_missing_folder_and_says_what_to_do(nsgd: Nsgd, tmp_path: Path, store: Path) -> None:
    nsgd("config", "init", "--folder", tmp_path / "gone")
    code, found = findings(nsgd, "--store", store)
    assert code == 1
    assert found[f"folder {tmp_path / 'gone'}"]["remedy"] == "mount the share or disk, or correct watch.folders"


def test_doctor_asks_a_running_daemon_how_it_watches(nsgd: Nsgd, store: Path) -> None:
    now_utc_s = time.time()
    folders = (FolderStatus("/lights", "polling", "a share"), FolderStatus("/gone", "missing", "no such folder"))
    opened = Store.open(store, now_utc_s)
    with opened:
        opened.beat(now_utc_s, DaemonStatus(os.getpid(), "here", now_utc_s, now_utc_s, folders))
    said = nsgd("doctor", "--store", store)
    assert said.code == 1
    assert "ok   watched: /lights: polling (a share)\n" in said.out
    assert "FAIL watched: /gone: missing (no such folder)\n     -> mount the share or disk\n" in said.out


def test_doctor_reports_bad_settings_and_goes_on(nsgd: Nsgd, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[watch]\npol_s = 1\n", encoding="utf-8")
    code, found = findings(nsgd, "--config", bad)
    assert code == 1
    assert "did you mean poll_s?" in found["settings"]["sentence"]
    assert "disk" in found


def test_doctor_notices_a_url_that_nobody_understands(nsgd: Nsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSGD_NOTIFY_URLS", "nonsense://canary")
    code, found = findings(nsgd)
    assert code == 1
    assert found["service s1 nonsense"]["state"] == "fail"
    assert "canary" not in json.dumps(found)


def test_doctor_notices_files_from_the_future(nsgd: Nsgd, tmp_path: Path, lights: Path) -> None:
    folder = tmp_path / "lights"
    folder.mkdir()
    ahead = folder / "sub.fits"
    ahead.write_bytes(next(lights.rglob("*.fits")).read_bytes())
    os.utime(ahead, (time.time() + 3600, time.time() + 3600))
    nsgd("config", "init", "--folder", folder)
    said = nsgd("doctor")
    assert "its clock is 59 min ahead of this computer's" in said.out or "60 min ahead" in said.out
    assert "set the clocks of both computers by NTP" in said.out


# ------------------------------------------------------------------------------------------- apply


def test_apply_makes_decisions_so_where_no_daemon_runs(nsgd: Nsgd, store: Path, tmp_path: Path) -> None:
    name = a_name(store, 3)
    nsgd("reject", name, "--store", store)
    nsgd("reference", "set", a_name(store, 1), "--store", store)
    nsgd("limits", "set", "--weight", "0.3", "--store", store)
    said = nsgd("apply", "--store", store)
    assert said.code == 0
    assert "3 applied." in said.err
    assert a_name(store, 1) in nsgd("reference", "show", "--store", store).out
    assert "chosen by you" in nsgd("reference", "show", "--store", store).out
    assert "weight 0.3*" in nsgd("limits", "show", "--store", store).out
    nsgd("export", "csv", "--out", tmp_path / "first", "--store", store)
    rejected = [row for row in table(tmp_path / "first") if row["status"] == "rejected"]
    assert [Path(row["file"]).name for row in rejected] == [name]
    assert rejected[0]["reasons"] == "rejected by you"
    nsgd("undo", name, "--store", store)
    nsgd("apply", "--store", store)
    nsgd("export", "csv", "--out", tmp_path / "second", "--store", store)
    assert all(row["status"] == "ok" for row in table(tmp_path / "second"))
    assert "Nothing is waiting." in nsgd("apply", "--store", store).err


def test_the_manual_page_holds_every_command(nsgd: Nsgd) -> None:
    page = nsgd("completion", "man").out
    assert page.startswith(".TH NSGD 1")
    assert ".SS nsgd export csv" in page
    assert ".SS nsgd config init" in page


def test_an_export_that_exists_is_not_overwritten_unasked(nsgd: Nsgd, store: Path, tmp_path: Path) -> None:
    assert nsgd("export", "csv", "--out", tmp_path / "out", "--store", store).code == 0
    said = nsgd("export", "csv", "--out", tmp_path / "out", "--store", store)
    assert said.code == 1
    assert "exists already. Choose another --out, or use --force to replace it." in said.err
    assert nsgd("export", "csv", "--out", tmp_path / "out", "--store", store, "--force").code == 0


def test_pixinsight_needs_frames_that_exist(nsgd: Nsgd, store: Path, tmp_path: Path) -> None:
    said = nsgd("export", "pixinsight", "--registered", tmp_path / "no", "--out", tmp_path / "o", "--store", store)
    assert said.code == 2
    assert "does not exist; check the spelling" in said.err
    arguments = ("--registered", tmp_path, "--path-map", "nonsense", "--out", tmp_path / "o", "--store", store)
    said = nsgd("export", "pixinsight", *arguments)
    assert said.code == 2
    assert "'nonsense' is no path mapping; write FROM=TO" in said.err


# ------------------------------------------------------------------------------------------- live


def test_two_daemons_do_not_share_a_store(lights: Path, store: Path) -> None:
    owner = Store.open(store, time.time())
    with owner:
        command = [sys.executable, "-m", "nsgd", "run", str(lights), "--store", str(store)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"Process {os.getpid()} already runs nsgd on the store {store}: stop it, or name another" in done.stderr


def live_night(folder: Path, name: str, planned: int, taken: int) -> None:
    """The first subs of a planned night, the last of them just taken."""
    start_utc_s = time.time() - taken * 65.0
    night = simulate.night(name, subs=planned, width_px=400, height_px=300, start_utc_s=start_utc_s)
    simulate.write_night(replace(night, subs=night.subs[:taken], site=simulate.dark_site(start_utc_s)), folder)


@pytest.mark.parametrize(
    ("name", "taken", "code"),
    [("clear", 8, 0), ("cloud", 13, 3), ("clear", 3, 4)],
    ids=["clear is 0", "cloud is 3", "the first subs of a stream are 4"],
)
def test_is_clear_tells_a_sequencer_by_its_exit_code(
    nsgd: Nsgd, tmp_path: Path, name: str, taken: int, code: int
) -> None:
    live_night(tmp_path / "lights", name, 20, taken)
    store = tmp_path / "live"
    assert nsgd("measure", tmp_path / "lights", "--out", store).code == 0
    now_utc_s = time.time()
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    here = socket.gethostname()
    alive, silent = (os.getpid(), now_utc_s), (os.getpid(), now_utc_s - 3600.0)
    for (pid, progress_utc_s), expected in ((alive, code), (silent, 4), ((killed.pid, now_utc_s), 4)):
        opened = Store.open(store, now_utc_s)
        with opened:
            opened.beat(progress_utc_s, DaemonStatus(pid, here, progress_utc_s, progress_utc_s))
        assert nsgd("is-clear", "--store", store).code == expected


def test_a_hostile_file_name_is_harmless_on_the_terminal(nsgd: Nsgd, lights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lights"
    folder.mkdir()
    hostile = "\x1b]0;owned\x07\x1b[2J[red]x\n‮sub.fits"
    paths = sorted(lights.rglob("2026*.fits"))
    (folder / hostile).write_bytes(paths[0].read_bytes())
    (folder / f"broken{hostile}").write_bytes(b"nothing")
    (folder / "plain.fits").write_bytes(paths[1].read_bytes())
    store = tmp_path / "out"
    heard = [nsgd("measure", folder, "--out", store)]
    heard += [
        nsgd(*arguments, "--store", store)
        for arguments in (("status",), ("reference", "show"), ("reject", folder / hostile))
    ]
    for said in heard:
        assert said.code == 0
        assert not set(said.out + said.err) & set("\x1b\x07‮")
