"""Lost folders, full disks and mistakes of nsgd are told when they last."""

from __future__ import annotations

from nsgd.daemon.troubles import ERRORS, LOW_BYTES, PATIENCE_S, Signs, Troubles

LOST = Signs(lost_folders={"/c": "not mounted"})


def test_a_folder_that_is_lost_for_a_moment_is_no_news() -> None:
    troubles, patience_s = Troubles(), PATIENCE_S["folder_lost"]
    assert troubles.ripe(LOST, 0.0) == {}
    assert troubles.ripe(Signs(), patience_s - 1) == {}
    assert troubles.ripe(LOST, patience_s) == {}


def test_a_folder_that_stays_lost_is_told_with_its_name_and_reason() -> None:
    troubles = Troubles()
    troubles.ripe(LOST, 0.0)
    assert "/c: not mounted" in troubles.ripe(LOST, PATIENCE_S["folder_lost"])["folder_lost"]


def test_a_restart_while_a_folder_is_lost_does_not_call_it_back() -> None:
    assert "folder_lost" in Troubles().ripe(LOST, 0.0, {"folder_lost"})
    assert Troubles().ripe(Signs(), 0.0, {"folder_lost"}) == {}


def test_a_disk_that_refuses_is_told_at_once_and_covers_low_space() -> None:
    signs = Signs(save_problem="disk is full.", free_bytes=0)
    assert list(Troubles().ripe(signs, 0.0)) == ["cannot_save"]


def test_low_space_and_repeated_mistakes_are_told() -> None:
    signs = Signs(free_bytes=LOW_BYTES - 1, internal_errors=ERRORS)
    assert set(Troubles().ripe(signs, 0.0)) == {"disk_low", "internal_errors"}
    assert Troubles().ripe(Signs(free_bytes=LOW_BYTES, internal_errors=ERRORS - 1), 0.0) == {}
