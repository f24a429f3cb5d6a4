"""Stores with made-up nights of known truth, for the dashboard's tests and pictures: no pixels, no measuring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nsgd.records import (
    NAN,
    Alert,
    Failure,
    HeaderFacts,
    Relation,
    SeriesRow,
    SubRow,
    Transform,
)
from nsgd.session.store import DaemonStatus, FolderStatus, Store, SubCommit

START_UTC_S = 1_795_287_600.0
"""2026-11-21 19:00 UTC."""


def series(series_id: int = 1, object_name: str = "M 31", filter_name: str = "Ha") -> SeriesRow:
    """A mono series without cut-offs of its own."""
    return SeriesRow(
        series_id=series_id,
        key=f"{object_name}|{filter_name}|{series_id}",
        object_name=object_name,
        filter_name=filter_name,
        camera="Test camera",
        binning=1,
        width_px=6248,
        height_px=4176,
        channels=("L",),
        reference_id=1,
        reference_chosen=False,
        smoothness=-2.0,
        limits={},
        generation=1,
        solution=1,
    )


def relation(transmission: float, weight: float, err: float = 0.004) -> Relation:
    """The relation of a sub that got this much light."""
    return Relation(
        solution=1, reference_id=1, zero=(transmission,), zero_err=(err * transmission,),
        scale=(1.0 / transmission,), scale_err=(err / transmission,), weight=(weight,), stars_used=240,
        star_scatter=0.02, star_floor=0.004, pattern="uniform", pattern_rms=0.003, pattern_map=(0.0,) * 5,
        gradient_x_adu=3.0, gradient_y_adu=-1.0, gradient_rms_adu=1.2, gradient_diagonal_adu=(2.0, -4.0),
    )  # fmt: skip


def sub(number: int, utc_s: float, transmission: float, **others: object) -> SubRow:
    """One sub of series 1; NaN transmission = it could not be measured."""
    failed = not np.isfinite(transmission)
    rng = np.random.default_rng(number)
    row = SubRow(
        sub_id=0,
        content_id=f"{number:032x}",
        series_id=1,
        stream="300s g100",
        folder="/data/m31",
        path=f"M31_Ha_300s_{number:04d}.fits",
        gone=False,
        header=HeaderFacts(
            object_name="M 31", filter_name="Ha", exposure_s=300.0, start_utc_s=utc_s - 150, mid_utc_s=utc_s,
            camera="Test camera", width_px=6248, height_px=4176, gain=100.0, software="a test",
        ),
        session="2026-11-21",
        arrived_utc_s=utc_s + 155.0,
        order_utc_s=utc_s,
        order_flag="",
        failure=Failure("no_match", "5 stars matched, 6 needed", {"stars_matched": 5}) if failed else None,
        measure_s=0.4,
        transform=Transform(tx=rng.normal(0, 6), ty=rng.normal(0, 6)),
        stars_matched=5 if failed else int(260 * min(1.0, transmission) + rng.normal(0, 6)),
        stars_expected=280,
        stars_detected=300,
        residual_px=0.06,
        noise_adu=(21.0,),
        sky_adu=(820.0 + 140.0 * (1 - (transmission if not failed else 0.4)) + rng.normal(0, 4),),
        fwhm_px=NAN if failed else 3.1 + 0.25 * np.sin(number / 9.0) + rng.normal(0, 0.06),
        ellipticity=NAN if failed else 0.11,
        background_rms_adu=2.0,
        relation=None if failed else relation(transmission, transmission**2 * 0.98),
    )  # fmt: skip
    return replace(row, **others)  # type: ignore[arg-type]


def cloudy_transmission(subs: int) -> list[float]:
    """Clear, a cloud through the middle that hides everything for one sub, clear again."""
    rng = np.random.default_rng(5)
    clear = 1.0 + rng.normal(0, 0.004, subs)
    middle = np.abs(np.arange(subs) - 0.55 * subs) / max(subs / 12, 1)
    passed = np.where(middle < 1.6, 1.0 - 0.62 * np.cos(np.pi * middle / 3.2) ** 2, 1.0)
    light = clear * passed
    light[np.argmin(light)] = NAN
    return [float(value) for value in light]


def fill(store: Store, subs: int = 60, *, cadence_s: float = 310.0, first: int = 1) -> float:
    """Commit a night with a passing cloud; returns the time of the last arrival."""
    utc_s = START_UTC_S
    for number, light in enumerate(cloudy_transmission(subs), start=first):
        utc_s = START_UTC_S + cadence_s * (number - 1)
        flipped = Transform(-1.0, 0.0, 0.0, -1.0, 6247.0, 4175.0) if number > 0.75 * subs else None
        row = sub(number, utc_s, light, **({"transform": flipped} if flipped else {}))
        store.commit_sub(SubCommit(row, None, None, series()))
    return utc_s + 150.0


def alive(now_utc_s: float) -> DaemonStatus:
    """A daemon that made progress just now."""
    return DaemonStatus(
        pid=4711, host="pi", started_utc_s=now_utc_s - 3600, last_progress_utc_s=now_utc_s,
        folders=(FolderStatus("/data/m31", "events"),),
    )  # fmt: skip


def cloud_alert(store: Store, utc_s: float) -> None:
    """An alert that waits for one service."""
    alert = Alert(f"cloud-{utc_s:.0f}", "cloud", "Cloud: transmission 0.41", "Ha, 3 subs", utc_s, urgent=True)
    store.commit_alerts([alert], ["s1"], {}, "2026-11-21")


def night_store(folder: Path, subs: int = 60) -> tuple[Store, float]:
    """A store in `folder` with one cloudy night; also the time of its last arrival."""
    store = Store.open(folder, START_UTC_S)
    now_utc_s = fill(store, subs)
    cloud_alert(store, START_UTC_S + 310.0 * 0.5 * subs)
    for waiting in store.due(now_utc_s):
        store.sent(waiting.outbox_id, now_utc_s)
    store.beat(now_utc_s + 40, alive(now_utc_s + 40))
    return store, now_utc_s
