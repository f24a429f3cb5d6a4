"""Which file comes next."""

from __future__ import annotations

from pathlib import Path

from nsgd.daemon.backlog import SHORT, Backlog
from nsgd.daemon.watch import Settled


def files(*times_s: float) -> list[Settled]:
    return [Settled(Path(f"/c/{time_s:09.1f}.fits"), Path("/c"), time_s) for time_s in times_s]


def drain(backlog: Backlog) -> list[float]:
    taken = []
    while (file := backlog.next()) is not None:
        taken.append(file.written_utc_s)
    return taken


def test_a_short_queue_keeps_the_order_of_writing() -> None:
    backlog = Backlog()
    backlog.add(files(3, 1, 2))
    assert drain(backlog) == [1, 2, 3]


def test_of_a_long_queue_the_newest_comes_first_then_the_rest_in_order() -> None:
    backlog = Backlog()
    backlog.add(files(*range(SHORT + 5)))
    assert drain(backlog) == [SHORT + 4, *range(SHORT + 4)]


def test_a_live_sub_overtakes_the_backlog() -> None:
    backlog = Backlog()
    backlog.add(files(*range(100)))
    assert [backlog.next().written_utc_s for _ in range(3)] == [99, 0, 1]  # type: ignore[union-attr]
    backlog.add(files(100))
    assert [backlog.next().written_utc_s for _ in range(2)] == [100, 2]  # type: ignore[union-attr]


def test_a_file_that_is_told_twice_is_taken_once() -> None:
    backlog = Backlog()
    backlog.add(files(1, 2))
    backlog.add(files(2, 1))
    assert drain(backlog) == [1, 2]
    assert not backlog
