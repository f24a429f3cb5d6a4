"""The cloud alarm on whole nights of pixels: simulated frames through reading, measuring, judging and alarm.

    python tests/benchmarks/alarm_frames.py [SEEDS]      nights of every script, held-out seeds

Every script of the simulator is played as the second night of its series (the first, clear one is short and teaches
the clear level). Prints per night what rang, and for cloud how many subs it took.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nsgd.records import Alert, SkyState
from nsgd.session.alerts import AlarmState, step
from nsgd.session.sky import observe
from nsgd.session.store import Store
from nsgd.settings import Settings
from nsgd.simulate import Night, night, sub_cards, write_sub
from nsgd.walk import Walker

SEED = 77_000
SIZE = {"width_px": 600, "height_px": 400}
BAD = {SkyState.THINNING, SkyState.CLOUDY, SkyState.OBSTRUCTED, SkyState.DEW, SkyState.NO_STARS}
RINGS = {
    "demo": "cloud", "cloud": "cloud", "whiteout": "cloud", "haze": "cloud", "filters": "cloud", "bayer": "cloud",
    "dew": "dew", "frost": "", "tree": "obstructed",
}  # fmt: skip
"""Scripts that must ring, and the kind that must be among the messages ("" = any)."""
STILL = (
    "clear", "focus", "flip", "gradient", "moonrise", "dawn", "airmass", "satellites", "guiding", "milkyway", "coarse",
)  # fmt: skip
"""Scripts that must not."""


def clear_before(name: str, seed: int) -> Night:
    """The first subs of the script's own field and camera, all of them clear, a day earlier."""
    made = night(name, seed, **SIZE)
    calm = made.subs[0]
    filters = list(dict.fromkeys(sub.filter_name for sub in made.subs))
    subs = [
        replace(
            calm,
            start_utc_s=calm.start_utc_s - 86_400.0 + 65.0 * number,
            transmission=1.0,
            filter_name=filters[number % len(filters)],
        )
        for number in range(8 * len(filters))
    ]
    return replace(made, seed=seed + 500, subs=tuple(subs))


def walked(
    walker: Walker, store: Store, made: Night, folder: Path, state: AlarmState
) -> Iterator[tuple[AlarmState, tuple[Alert, ...]]]:
    """Each sub of a night from its pixels to what the alarm says."""
    for index, truth in enumerate(made.subs):
        path = write_sub(
            folder / f"{made.seed}_{index:03d}.fits", made.pixels(index), sub_cards(truth, made.object_name)
        )
        now_utc_s = truth.start_utc_s + truth.exposure_s + 2.0
        commit = walker.walk(path, folder, now_utc_s)
        path.unlink()
        if commit is None:
            continue
        seen = observe(commit.row, walker.verdict(commit))
        state, alerts = step(state, seen, now_utc_s, Settings().alarm)
        walker.committed(commit, store.commit_sub(commit, alerts, (), {}))
        yield state, alerts


def play(name: str, seed: int) -> tuple[list[SkyState], list[tuple[int, Alert]], list[str], Night]:
    """States, messages and causes of one night."""
    made, states, said, causes = night(name, seed, **SIZE), [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Store.open(folder / "store", time.time()) as store:
            walker = Walker(store, Settings(), None)
            *_, (before, _) = walked(walker, store, clear_before(name, seed), folder, AlarmState())
            for number, (state, alerts) in enumerate(walked(walker, store, made, folder, before)):
                states.append(state.sky)
                causes.append(state.seen.cause)
                said += [(number, alert) for alert in alerts if alert.kind != "dawn"]
    return states, said, causes, made


def first_faint(made: Night, below: float = 0.85) -> int | None:
    return next((number for number, sub in enumerate(made.subs) if sub.transmission < below), None)


def verdict_of(name: str, seed: int) -> bool:
    """Play one night, print its line, say whether it went as it must."""
    began = time.perf_counter()
    states, said, causes, made = play(name, seed)
    kinds = [alert.kind for _, alert in said]
    firsts = [number for number, alert in said if not alert.resolves]
    must = RINGS.get(name)
    right = not firsts if must is None else bool(firsts) and (not must or must in kinds)
    faint = first_faint(made)
    delay = f"rang {firsts[0] - faint + 1} subs after 0.85" if firsts and faint is not None else ""
    cause = causes[firsts[0] + 10] if firsts and firsts[0] + 10 < len(causes) else causes[-1]
    bad = sum(state in BAD for state in states) / max(len(states), 1)
    spent = f"[{time.perf_counter() - began:.0f} s]"
    words = f"{'ok  ' if right else 'MISS'} {name:<11} seed {seed}  not clear {bad:4.0%}"
    print(
        words,
        f" said {', '.join(kinds) or 'nothing':<24}",
        delay,
        f"cause {cause}" if firsts else "",
        spent,
        flush=True,
    )
    return right


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    chosen = sys.argv[2:] or [*RINGS, *STILL]
    right = [verdict_of(name, SEED + number) for number in range(seeds) for name in chosen]
    print(f"{sum(right)} of {len(right)} full-frame nights as they must be")


if __name__ == "__main__":
    main()
