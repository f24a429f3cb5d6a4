"""A registered frame finds the live sub that it was made from, or none: never a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsgd.export.carried import Carried
from nsgd.records import HeaderFacts, SubRow


def live(sub_id: int, name: str, start_utc_s: float | None, filter_name: str = "L") -> SubRow:
    header = HeaderFacts(start_utc_s=start_utc_s, filter_name=filter_name)
    return SubRow(sub_id, "", 1, "", "/live", name, False, header, "", 0.0, 0.0, "", None, 0.0)


def found(carried: Carried, name: str, start_utc_s: float | None, filter_name: str = "L") -> int | None:
    row = carried.sub(Path(name), HeaderFacts(start_utc_s=start_utc_s, filter_name=filter_name))
    return None if row is None else row.sub_id


def test_the_start_time_decides_whatever_the_name() -> None:
    carried = Carried([live(1, "a.fits", 1000.0), live(2, "b.fits", 1060.0)])
    assert found(carried, "renamed_r.xisf", 1060.4) == 2
    assert found(carried, "a_c_r.xisf", 1030.0) is None


@pytest.mark.parametrize("name", ["sub_0042_c_r.xisf", "r_pp_sub_0042.fit", "sub_0042.fits", "pp_sub_0042.fit"])
def test_without_times_the_name_decides(name: str) -> None:
    carried = Carried([live(1, "sub_0042.fits", None), live(2, "sub_0004.fits", None)])
    assert found(carried, name, None) == 1


def test_two_cameras_at_one_moment_are_told_apart_by_name_or_not_at_all() -> None:
    carried = Carried([live(1, "left_7.fits", 1000.0), live(2, "right_7.fits", 1000.0)])
    assert found(carried, "right_7_c_r.xisf", 1000.0) == 2
    assert found(carried, "other_r.xisf", 1000.0) is None


def test_filters_tell_subs_of_one_moment_apart() -> None:
    carried = Carried([live(1, "a.fits", 1000.0, "Ha"), live(2, "b.fits", 1000.0, "OIII")])
    assert found(carried, "x_r.xisf", 1000.0, "OIII") == 2


def test_a_longer_name_wins_over_its_beginning() -> None:
    carried = Carried([live(1, "m31.fits", None), live(2, "m31_2.fits", None)])
    assert found(carried, "m31_2_c_r.xisf", None) == 2


def test_an_empty_session_carries_nothing() -> None:
    assert found(Carried(), "a.fits", 1000.0) is None
