"""The decoder process: limited, replaced when it dies, never believed further than pixels."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from framefiles import card, header_bytes, noise, write_fits

from nsgd.errors import UnreadableFrame
from nsgd.frames import worker
from nsgd.frames.read import read_frame
from nsgd.frames.worker import Decoder


@pytest.fixture
def packed(tmp_path: Path, rng: np.random.Generator) -> Path:
    plain = write_fits(tmp_path / "a.fits", noise(rng), [("FILTER", "Ha")])
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def test_one_process_serves_many_files(packed: Path, decoder: Decoder) -> None:
    decoder.decode(packed, 10_000_000)
    first = decoder._process
    assert first is not None
    for _ in range(5):
        assert decoder.cards(packed)["FILTER"].value == "Ha"
        decoder.decode(packed, 10_000_000)
    assert decoder._process is first


def test_a_decoder_that_dies_is_replaced(packed: Path, decoder: Decoder) -> None:
    decoder.decode(packed, 10_000_000)
    assert decoder._process is not None
    decoder._process.kill()
    decoder._process.wait()
    assert decoder.decode(packed, 10_000_000).pixels.shape == (60, 80)


def test_a_file_that_never_ends_is_given_up(packed: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.cards(packed)
    monkeypatch.setattr(worker, "WALL_LIMIT_S", 0.5)
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGSTOP)
    begun_s = time.monotonic()
    with pytest.raises(UnreadableFrame, match="took too long"):
        decoder.decode(packed, 10_000_000)
    assert time.monotonic() - begun_s < 5.0
    monkeypatch.undo()
    assert decoder.decode(packed, 10_000_000).pixels.shape == (60, 80)


def test_memory_is_limited_although_the_header_is_modest(tmp_path: Path, decoder: Decoder) -> None:
    path = tmp_path / "a.fits.gz"
    lines = [card("SIMPLE", True), card("BITPIX", 8), card("NAXIS", 2), card("NAXIS1", 20000), card("NAXIS2", 20000)]
    with gzip.open(path, "wb", 1) as file:
        file.write(header_bytes(lines))
        for _ in range(400):
            file.write(bytes(1_000_000))
    with pytest.raises(UnreadableFrame, match="memory"):
        decoder.decode(path, 200_000_000)


def test_a_lying_worker_cannot_take_more_than_the_budget(
    packed: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker, "_START",
        "import sys\nfor line in sys.stdin: print('{\"cards\": {}, \"shape\": [1000000, 1000000]}', flush=True)",
    )  # fmt: skip
    with pytest.raises(UnreadableFrame):
        decoder.decode(packed, 10_000_000)


@pytest.mark.parametrize("answer", ["", "nonsense", "[]", '{"error": 5}', '{"cards": 3}', '{"shape": ["x"]}', "{}"])
def test_a_worker_that_talks_nonsense_costs_one_file(
    packed: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(worker, "_START", f"import sys\nfor line in sys.stdin: print({answer!r}, flush=True)")
    with pytest.raises(UnreadableFrame):
        decoder.decode(packed, 10_000_000)
    with pytest.raises(UnreadableFrame):
        decoder.cards(packed)


def test_the_worker_gets_no_secret(packed: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSGD_NOTIFY_URLS", "ntfy://canary")
    decoder.cards(packed)
    assert decoder._process is not None
    environment = Path(f"/proc/{decoder._process.pid}/environ")
    if environment.exists():
        assert b"canary" not in environment.read_bytes()


def test_threads_take_turns(packed: Path, decoder: Decoder) -> None:
    results: list[tuple[int, ...]] = []
    threads = [
        threading.Thread(target=lambda: results.append(decoder.decode(packed, 10_000_000).pixels.shape))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(60, 80)] * 8


def read_shape(path: Path) -> tuple[int, ...]:
    return read_frame(path).planes[0].pixels.shape


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_get_their_own(packed: Path, method: str) -> None:
    read_frame(packed)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(read_shape, [packed] * 4) == [(60, 80)] * 4
