"""The loop over real folders, files and stores."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import scipy.special
from real_nights import serve, settings_for, start, stop, wait_for, write_subs

from nsgd.daemon.run import DEADLY, IN_FLIGHT, run_daemon
from nsgd.errors import BadSettings, StoreLocked
from nsgd.session.store import DATABASE, Reader, Store, add_request
from nsgd.settings import Settings

NOW = 1_790_000_000.0


def settled(count: int):
    """True once the store holds so many subs and nothing waits."""

    def look(reader: Reader) -> bool:
        return len(reader.subs()) >= count

    return look


@pytest.fixture
def lights(tmp_path: Path) -> Path:
    folder = tmp_path / "lights"
    folder.mkdir()
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """The daemon's handler must not outlive the captured stderr of its test."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)


def test_subs_that_lie_there_are_measured_once_and_a_restart_goes_on(lights: Path, place: Path) -> None:
    write_subs(lights, range(4))
    (lights / "notes.txt").write_text("no image")
    (lights / "broken.fits").write_text("SIMPLE  = no")
    serve(place, settings_for(lights), settled(4))
    with Reader.open(place) as reader:
        first = [(row.path, row.change, row.failure) for row in reader.subs()]
    write_subs(lights, [4])
    serve(place, settings_for(lights), settled(5))
    with Reader.open(place) as reader:
        rows = reader.subs()
    assert [Path(row.path).name for row in rows] == [f"sub_{n:03d}.fits" for n in range(5)]
    assert [row.failure for row in rows] == [None] * 5
    assert len({row.content_id for row in rows}) == 5
    assert [path for path, _, _ in first] == [row.path for row in rows[:4]]


def test_a_renamed_sub_is_not_measured_again(lights: Path, place: Path) -> None:
    paths = write_subs(lights, range(3))
    serve(place, settings_for(lights), settled(3))
    paths[1].rename(lights / "BAD_sub_001.fits")
    serve(place, settings_for(lights), lambda reader: bool(reader.find_sub("BAD_sub_001.fits")))
    with Reader.open(place) as reader:
        assert len(reader.subs()) == 3


def test_a_deleted_sub_stays_and_is_marked(lights: Path, place: Path) -> None:
    paths = write_subs(lights, range(2))

    def gone(reader: Reader) -> bool:
        rows = reader.subs()
        if len(rows) == 2 and paths[0].exists():
            paths[0].unlink()
        return any(row.gone for row in rows)

    serve(place, settings_for(lights), gone)
    with Reader.open(place) as reader:
        assert [(Path(row.path).name, row.gone) for row in reader.subs()] == [
            ("sub_000.fits", True),
            ("sub_001.fits", False),
        ]


def test_a_sub_deleted_while_no_daemon_ran_is_marked_at_the_next_start(lights: Path, place: Path) -> None:
    paths = write_subs(lights, range(2))
    serve(place, settings_for(lights), settled(2))
    paths[1].unlink()
    serve(place, settings_for(lights), lambda reader: any(row.gone for row in reader.subs()))
    with Reader.open(place) as reader:
        assert [row.gone for row in reader.subs()] == [False, True]


def test_a_copy_deleted_while_no_daemon_ran_is_no_place_to_look_for_the_sub(lights: Path, place: Path) -> None:
    first, second = write_subs(lights, range(2))
    copy = lights / "copy.fits"
    shutil.copy(first, copy)
    shutil.copy(first, lights / "third.fits")
    serve(place, settings_for(lights), lambda reader: len(reader.present_files()) == 4)
    copy.unlink()
    serve(place, settings_for(lights), lambda reader: len(reader.present_files()) == 3)
    first.unlink()
    (lights / "third.fits").unlink()
    serve(place, settings_for(lights), lambda reader: len(reader.present_files()) == 1)
    with Reader.open(place) as reader:
        assert {row.gone for row in reader.subs() if row.path != str(second)} == {True}


def test_a_mistake_of_nsgd_over_one_sub_is_that_subs_failure(
    lights: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_subs(lights, range(3))
    plain, trees = scipy.special.gammainc, []

    def broken(*args: object) -> object:
        trees.append(1)
        if len(trees) == 1:
            raise RuntimeError("a mistake nobody foresaw")
        return plain(*args)

    monkeypatch.setattr("nsgd.measure.register.gammainc", broken)
    serve(place, settings_for(lights), settled(3))
    with Reader.open(place) as reader:
        failures = [row.failure for row in reader.subs() if row.failure]
        assert len(reader.subs()) == 3
    assert [failure.kind for failure in failures] == ["internal"]
    assert "nobody foresaw" in failures[0].sentence


def test_requests_are_applied_while_it_runs(lights: Path, place: Path) -> None:
    write_subs(lights, range(3))
    asked = []

    def applied(reader: Reader) -> bool:
        rows = reader.subs()
        if len(rows) == 3 and not asked:
            asked.append(add_request(place, "reject", {"sub_id": rows[1].sub_id}, NOW))
            asked.append(add_request(place, "reference", {"sub_id": rows[2].sub_id, "series_id": 1}, NOW))
            asked.append(add_request(place, "limits", {"series_id": 1, "limits": {"weight": 0.1}}, NOW))
            asked.append(add_request(place, "limits", {"series_id": 1, "limits": {"wait": 0.1}}, NOW))
            asked.append(add_request(place, "reject", {"sub_id": 77}, NOW))
            asked.append(add_request(place, "snooze", {"minutes": 5}, NOW))
        return bool(asked) and not reader.requests()

    serve(place, settings_for(lights), applied)
    with Reader.open(place) as reader:
        assert [request.state for request in reader.requests(pending=False)] == [
            "applied",
            "applied",
            "applied",
            "refused",
            "refused",
            "applied",
        ]
        rows = reader.subs()
        assert rows[1].decision == "reject"
        assert reader.series()[0].reference_id == rows[2].sub_id
        assert reader.series()[0].limits == {"weight": 0.1}


def test_a_damaged_store_is_moved_aside_and_rebuilt_from_the_files(lights: Path, place: Path) -> None:
    write_subs(lights, range(3))
    serve(place, settings_for(lights), settled(3))
    database = place / DATABASE
    content = bytearray(database.read_bytes())
    content[2 * 4096 - 100 : 2 * 4096] = bytes(100)
    database.write_bytes(content)
    messages = []

    def rebuilt(reader: Reader) -> bool:
        status = reader.daemon()
        messages.append(status.message if status else "")
        return len(reader.subs()) == 3 and "damaged" in messages[-1]

    serve(place, settings_for(lights), rebuilt)
    assert next(place.glob("damaged-*.db")).read_bytes() == bytes(content)


def test_damage_that_is_met_during_the_night_is_repaired_without_a_restart(lights: Path, place: Path) -> None:
    import sqlite3

    write_subs(lights, range(2))
    broken = []

    def repaired(reader: Reader) -> bool:
        if len(reader.subs()) == 2 and not broken:
            with closing(sqlite3.connect(place / DATABASE)) as other, other:
                other.execute("INSERT INTO requests VALUES (1, 'ack', '{}', 1.0, 'pending', '', NULL, 4711)")
            other.close()
            broken.append(True)
        return bool(broken) and not any(request.kind for request in reader.requests()) and len(reader.subs()) == 2

    serve(place, settings_for(lights), repaired)
    assert list(place.glob("damaged-*.db"))


def test_a_file_over_which_it_died_again_and_again_is_left_out_for_one_start(lights: Path, place: Path) -> None:
    paths = write_subs(lights, range(2))
    with Store.open(place, NOW) as store:
        store.note(IN_FLIGHT, f'{{"path": "{paths[0]}", "deaths": {DEADLY - 1}}}')
    serve(place, settings_for(lights), settled(1))
    with Reader.open(place) as reader:
        assert [Path(row.path).name for row in reader.subs()] == ["sub_001.fits"]
        assert "left out" in reader.unreadable()[0].sentence
    serve(place, settings_for(lights), settled(2))
    with Reader.open(place) as reader:
        assert reader.unreadable() == []


def test_no_file_is_blamed_for_an_end_that_came_after_it(lights: Path, place: Path) -> None:
    paths = write_subs(lights, range(2))
    serve(place, settings_for(lights), settled(2))
    shutil.copy(paths[0], lights / "zzz.fits")
    serve(place, settings_for(lights), lambda reader: bool(reader.find_sub("zzz.fits")))
    with Reader.open(place) as reader:
        assert reader.state(IN_FLIGHT) == ""


def test_each_death_over_a_file_counts(lights: Path, place: Path) -> None:
    (path,) = write_subs(lights, [0])
    for deaths in range(DEADLY):
        process = start(lights, place, dies=True)
        process.communicate(timeout=90)
        assert process.returncode == -signal.SIGKILL
        with Reader.open(place) as reader:
            assert json.loads(reader.state(IN_FLIGHT) or "") == {"path": str(path), "deaths": deaths}
    serve(place, settings_for(lights), lambda reader: bool(reader.unreadable()))


def test_a_second_daemon_is_refused(lights: Path, place: Path) -> None:
    with Store.open(place, NOW), pytest.raises(StoreLocked, match=str(os.getpid())):
        run_daemon(place, settings_for(lights), until=lambda: False, environ={})


# processes


def test_sigterm_is_a_clean_end_and_systemd_hears_it_all(lights: Path, place: Path, tmp_path: Path) -> None:
    write_subs(lights, range(2))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20.0)
        process = start(lights, place, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
        wait_for(place, settled(2), process)
        said = stop(process)
        words = []
        ear.settimeout(0.2)
        try:
            while True:
                words.append(ear.recv(4096).decode())
        except TimeoutError:
            pass
    assert words[0].startswith("READY=1\nSTATUS=")
    assert words[-1].startswith("STOPPING=1")
    assert "WATCHDOG=1" in words
    assert "sub_001.fits: transmission" in said
    with Reader.open(place) as reader:
        status = reader.daemon()
        assert status is not None
        assert status.stopped


def test_kill_and_restart_lose_nothing_and_double_nothing(lights: Path, place: Path) -> None:
    write_subs(lights, range(6))
    process = start(lights, place)
    wait_for(place, settled(2), process)
    process.kill()
    process.communicate()
    process = start(lights, place)
    wait_for(place, settled(6), process)
    stop(process)
    with Reader.open(place) as reader:
        assert sorted(Path(row.path).name for row in reader.subs()) == [f"sub_{n:03d}.fits" for n in range(6)]


def test_sighup_takes_new_settings_and_keeps_the_old_ones_over_bad_ones(
    lights: Path, place: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_subs(lights, range(1))
    write_subs(other, [1])
    answers: list[Settings | BadSettings] = [BadSettings(("limits.weight = 7 is too much.",)), settings_for(other)]
    messages = set()

    def reload() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, BadSettings):
            raise answer
        return answer

    def done() -> bool:
        if not (place / DATABASE).exists():
            return False
        with Reader.open(place) as reader:
            status, count = reader.daemon(), len(reader.subs())
        if status is not None and status.message:
            messages.add(status.message)
        if (count == 1 and len(answers) == 2) or (messages and len(answers) == 1):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        return count == 2

    run_daemon(place, settings_for(lights), reload=reload, until=done, environ={})
    assert messages == {"The settings were not reloaded: limits.weight = 7 is too much."}
