"""`nsgd measure --cluster`: the same table as at home, whichever worker dies; real scheduler, real workers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nsgd import simulate
from nsgd.cli.entry import run_command
from nsgd.errors import StoreProblem
from nsgd.session.store import Reader

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

SUBS = 30


def process(*arguments: str, **options: int) -> subprocess.Popen[str]:
    """A process that an interrupt ends, also where the tests run in the background, which ignores it."""
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, text=True, preexec_fn=_heed_interrupts, **options)  # type: ignore[call-overload,no-any-return]


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def worker(address: str) -> subprocess.Popen[str]:
    """A worker process with one thread that nobody starts again when it dies."""
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "30")
    return process("-m", "dask", "worker", address, *options, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler of our own."""
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
    running = process("-m", "dask", "scheduler", *options, stderr=subprocess.PIPE)
    assert running.stderr is not None
    address = ""
    while not address:
        line = running.stderr.readline()
        assert line, "the scheduler ended"
        found = re.search(r"Scheduler at: +(tcp://\S+)", line)
        address = found[1] if found else ""
    yield address
    running.terminate()
    running.stderr.close()
    running.wait(10)


@pytest.fixture(scope="module")
def workers(scheduler: str) -> Iterator[list[subprocess.Popen[str]]]:
    two = [worker(scheduler), worker(scheduler)]
    yield two
    for one in two:
        one.kill()
        one.wait(10)


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lights")
    simulate.write_night(simulate.night("cloud", subs=SUBS, width_px=320, height_px=240), folder)
    return folder


def test_a_scheduler_that_does_not_answer_is_named(
    lights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["measure", str(lights), "--out", str(tmp_path), "--cluster", "nonsense://x"]) == 2
    assert "No scheduler answers at nonsense://x: start `dask scheduler` there." in capsys.readouterr().err


def test_a_killed_worker_and_an_interruption_change_no_byte_of_the_table(
    scheduler: str, workers: list[subprocess.Popen[str]], lights: Path, tmp_path: Path
) -> None:
    assert run_command(["measure", str(lights), "--out", str(tmp_path / "home")]) == 0
    command = ("-m", "nsgd", "measure", str(lights), "--out", str(tmp_path / "away"), "--cluster", scheduler)
    first = process(*command, stderr=subprocess.PIPE)
    wait_for_subs(tmp_path / "away", 4)
    workers[0].kill()
    wait_for_subs(tmp_path / "away", 7)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130
    second = process(*command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 0, said
    assert f"{SUBS} subs measured, 0 failed" in said
    assert (tmp_path / "away" / "subs.csv").read_bytes() == (tmp_path / "home" / "subs.csv").read_bytes()


def wait_for_subs(store: Path, count: int) -> None:
    for _ in range(600):
        with suppress(StoreProblem), Reader.open(store) as reader:
            if len(reader.subs()) >= count:
                return
        time.sleep(0.05)
    pytest.fail(f"{store} never held {count} subs")
