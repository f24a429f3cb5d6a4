"""Random flipped bytes in the store: it is noticed, or nothing that anybody sees is different."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsgd.errors import StoreProblem
from nsgd.session.store import DATABASE, Reader, Store, add_request
from tests.benchmarks.survive.stage import Stage

NOW = 1_790_000_000.0


def everything(reader: Reader, stage: Stage, out: Path) -> tuple[Any, ...]:
    """All that a person or program can read from a store."""
    from nsgd.export.table import export_csv

    out.mkdir(exist_ok=True)
    subs = reader.subs()
    facts = [facts and (facts.flux.tobytes(), facts.node_sky.tobytes()) for facts in map(reader.facts, ids_of(subs))]
    return (
        export_csv(reader, out, stage.settings(), force=True).read_bytes(),
        repr(subs),
        facts,
        repr(reader.series()),
        repr(reader.alerts()),
        repr(reader.requests(pending=False)),
        reader.state("alarm"),
        reader.ignored(),
        repr(reader.unreadable()),
    )


def ids_of(subs: list[Any]) -> list[int]:
    return [row.sub_id for row in subs]


def good_store(stage: Stage) -> Path:
    """A store with everything in it, closed."""
    store = stage.folder / "good"
    assert stage.daemon(store).finish() == 0
    add_request(store, "reject", {"sub_id": 2}, NOW)
    with Store.open(store, NOW) as opened:
        opened.note_unreadable("/c/broken.fits", "The header has no END.")
        opened.count_ignored("/c/dark.fits", "dark")
    return store


def flip(good: Path, wanted: tuple[Any, ...], stage: Stage, rng: random.Random) -> str:
    """One flipped byte; "noticed", "harmless", or what went wrong."""
    bad = stage.folder / "bad"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(good, bad)
    path = bad / DATABASE
    content = bytearray(path.read_bytes())
    at, bits = rng.randrange(len(content)), rng.randrange(1, 256)
    content[at] ^= bits
    path.write_bytes(content)
    # A dashboard or export that opens it first must not show anything wrong either.
    for open_it in (lambda: Reader.open(bad), lambda: Store.open(bad, NOW)):
        try:
            with open_it() as reader:
                found = everything(reader, stage, stage.folder / "bad-out")
        except StoreProblem:
            continue
        if found != wanted:
            names = ["csv", "subs", "facts", "series", "alerts", "requests", "state", "ignored", "unreadable"]
            differing = [name for name, a, b in zip(names, found, wanted, strict=True) if a != b]
            return f"silent: byte {at} ^ {bits:#x} changed {', '.join(differing)}"
    try:
        Store.open(bad, NOW).close()
    except StoreProblem:
        return "noticed"
    return "harmless"


def run(folder: Path, flips: int, seed: int = 1) -> Iterator[str]:
    """What came of each flip."""
    stage = Stage(folder)
    good = good_store(stage)
    with Reader.open(good) as reader:
        wanted = everything(reader, stage, folder / "good-out")
    rng = random.Random(seed)
    for _ in range(flips):
        yield flip(good, wanted, stage, rng)
