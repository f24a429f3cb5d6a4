"""Stand-ins for rigs: stores with subs of one series, and what the fleet holds of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsgd.fleet.publish import Publisher
from nsgd.records import Alert, HeaderFacts, Relation, SeriesRow, SubRow
from nsgd.session.alerts import AlarmState, report
from nsgd.session.store import Store, SubCommit
from nsgd.settings import Limits

DUSK_UTC_S = 1_795_284_000.0
SERIES = SeriesRow(1, "M 31 L", "M 31", "L", "camera", 1, 900, 600, ("L",), 1, False, -2.0, {}, 1, 1)
REPORT = report(AlarmState(), DUSK_UTC_S)


def sub(number: int, light: float = 1.0, name: str = "M31", cadence_s: float = 10.0) -> SubRow:
    """A measured sub of a stated transmission."""
    mid = DUSK_UTC_S + cadence_s * number
    header = HeaderFacts(object_name="M 31", filter_name="L", exposure_s=cadence_s, start_utc_s=mid, mid_utc_s=mid)
    relation = Relation(
        1, 1, (light,), (0.005 * light,), (1 / light,), (0.005,), (light**2,), 100, 0.05, 0.02, "uniform", 0.0, (),
        0.0, 0.0, 0.0, (0.0, 0.0),
    )  # fmt: skip
    return SubRow(
        sub_id=0, content_id=f"{name}-{number}", series_id=1, stream="10s", folder="f", path=f"f/{name}_{number}.fits",
        gone=False, header=header, session="2026-11-21", arrived_utc_s=mid, order_utc_s=mid, order_flag="",
        failure=None, measure_s=0.1, stars_matched=100, sky_adu=(1000.0,), fwhm_px=3.0, ellipticity=0.1,
        relation=relation,
    )  # fmt: skip


def commit(store: Store, row: SubRow, *alerts: Alert) -> None:
    """One sub and its alerts, as the daemon commits them."""
    store.commit_sub(SubCommit(row, None, None, SERIES), alerts)


@contextmanager
def publishing(store: Store, url: str) -> Iterator[Publisher]:
    publisher = Publisher(store, url, Limits())
    publisher.tell(REPORT)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def wait_until(truth: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for what another thread or process brings about."""
    until = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def new_store(folder: Path) -> Store:
    return Store.open(folder, DUSK_UTC_S)


def close(left: float | None, right: float) -> bool:
    return left is not None and math.isclose(left, right, rel_tol=1e-6)
