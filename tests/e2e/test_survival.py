"""Samples of what `python -m tests.benchmarks.survive ...` does at length: kill, errno, power cut, flipped bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nsgd.session.store import Reader
from tests.benchmarks.survive import canary, flips, machine, powercut, strike, units
from tests.benchmarks.survive.stage import Stage, undisturbed

# Whole nights in processes of their own: on a busy machine they take their time.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

needs_strace = pytest.mark.skipif(bool(strike.available()), reason=strike.available() or "strace works")
needs_fuse = pytest.mark.skipif(bool(powercut.available()), reason=powercut.available() or "FUSE works")


@needs_strace
def test_killed_anywhere_the_night_is_the_same_after_a_restart(tmp_path: Path) -> None:
    assert [said for _, said in strike.run(tmp_path, "kill", 4) if said] == []


@needs_strace
def test_a_refusing_disk_ends_nothing_and_loses_nothing(tmp_path: Path) -> None:
    assert [said for _, said in strike.run(tmp_path, "errno", 4) if said] == []


@needs_strace
def test_a_disk_that_refuses_as_the_store_is_opened_is_written_later(tmp_path: Path) -> None:
    act = Stage(tmp_path, subs=4).acts()[-1]
    # The open of the database and of its write-ahead log: SQLite then takes them for reading only, without a word.
    points = [strike.Point("openat", 2, "EROFS"), strike.Point("openat", 3, "ENOSPC")]
    assert [said for point in points if (said := strike.strike(act, point))] == []


@needs_fuse
def test_a_power_cut_costs_at_most_the_sub_in_flight_which_is_redone(tmp_path: Path) -> None:
    assert [said for _, said in powercut.run(tmp_path, 2) if said] == []


def test_a_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    good = flips.good_store(stage)
    with Reader.open(good) as reader:
        wanted = flips.everything(reader, stage, tmp_path / "good-out")
    rng = random.Random(20261123)
    found = [flips.flip(good, wanted, stage, rng) for _ in range(20)]
    assert set(found) <= {"noticed", "harmless"}, found
    assert "noticed" in found


def test_anything_in_any_order_keeps_the_ledger_true() -> None:
    machine.run(2, 12)


def test_secrets_appear_nowhere(tmp_path: Path) -> None:
    places, hits = canary.run(tmp_path)
    assert hits == []
    assert len(places) > 10


def test_a_daemon_that_hangs_is_replaced_and_one_that_runs_is_nice_and_listens_nowhere(tmp_path: Path) -> None:
    with units.managed(tmp_path, watchdog_s=3.0, restart_s=0.1) as manager:
        hung = manager.daemon.pid
        assert units.open_ports(hung) == []
        assert units.niceness(hung) in [(10, 10), (10, None)]
        units.replaced_after_s(manager)
        assert manager.daemon.pid != hung


def test_two_undisturbed_nights_are_byte_equal(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert undisturbed(stage) == undisturbed(stage)
