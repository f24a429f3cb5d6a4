"""Work on frames in several processes: the order and the bytes are those of one."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from registered_frames import CAMERA, cloudy_truths, registered_set

from nsgd.export.carried import Carried
from nsgd.export.cores import cores
from nsgd.export.pixinsight import Job, export_pixinsight
from nsgd.settings import Settings
from nsgd.simulate import Camera

MANY = 100


def with_workers(number: int) -> Settings:
    return Settings.model_validate({"measure": {"workers": number}})


def squared_or_dead(number: int) -> int:
    """Kills the worker that gets the seventh item, never the caller."""
    if number == 7 and multiprocessing.parent_process() is not None:
        os._exit(1)
    return number * number


def test_results_come_in_order_although_a_worker_dies() -> None:
    with cores(with_workers(2), MANY) as working:
        assert working.workers == 2
        assert list(working.each(squared_or_dead, range(MANY))) == [n * n for n in range(MANY)]


def test_one_worker_or_few_frames_start_no_process() -> None:
    for settings, frames in ((with_workers(1), MANY), (with_workers(2), 3)):
        with cores(settings, frames) as working:
            assert working.executor is None
            assert list(working.each(squared_or_dead, range(9))) == [n * n for n in range(9)]


def test_an_export_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    small = Camera(width_px=CAMERA.width_px // 2, height_px=CAMERA.height_px // 2)
    found = registered_set(tmp_path / "reg", cloudy_truths(14, small), border_px=6)
    written = []
    for number in (1, 2):
        out = tmp_path / f"out{number}"
        export_pixinsight(Job(found.folder, out), with_workers(number), Carried(), 0.0)
        files = sorted(path for path in out.rglob("*") if path.suffix in {".xnml", ".csv"})
        written.append({path.relative_to(out): path.read_bytes().replace(bytes(out), b"") for path in files})
    assert len(written[0]) == 16
    assert written[0] == written[1]
