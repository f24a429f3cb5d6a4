"""Small real nights on disk, and the ways they are walked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nsgd.records import SubRow
from nsgd.session.store import Store
from nsgd.settings import Settings
from nsgd.simulate import Camera, Psf, SkyField, SubTruth, place, render, star_field, sub_cards, write_sub
from nsgd.walk import Walker

CAMERA = Camera(width_px=600, height_px=400)
START_UTC_S = 1_795_000_000.0
LATER_UTC_S = START_UTC_S + 86_000.0
SETTINGS = Settings()


def field_of(seed: int, stars: int = 150, camera: Camera = CAMERA) -> SkyField:
    size = {"width_px": camera.width_px, "height_px": camera.height_px}
    return star_field(np.random.default_rng([seed, 19]), stars=stars, **size)


def sub_at(index: int, light: float = 1.0, camera: Camera = CAMERA, **changes: object) -> SubTruth:
    """A dithered sub, a minute after the one before it."""
    rng = np.random.default_rng([index, 20])
    transform = place(camera, *(float(d) for d in rng.uniform(-6.0, 6.0, 2)), rotation_deg=0.03 * index)
    plain = SubTruth(
        camera, START_UTC_S + 65.0 * index, transmission=light, psf=Psf(fwhm_px=3.2, beta=3.2), transform=transform
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def write(
    folder: Path,
    field: SkyField,
    truths: Sequence[SubTruth],
    *,
    seed: int = 1,
    object_name: str = "Sim",
    first: int = 0,
) -> list[Path]:
    """One file a sub, named by number; headers as N.I.N.A. writes them."""
    paths = []
    for index, truth in enumerate(truths, first):
        pixels = render(field, truth, np.random.default_rng([seed, 21, index]))
        path = folder / "LIGHT" / f"{object_name.replace(' ', '_')}_{index:03d}.fits"
        paths.append(write_sub(path, pixels, sub_cards(truth, object_name)))
    return paths


def take(store: Store, walker: Walker, paths: Iterable[Path], now_utc_s: float = LATER_UTC_S) -> None:
    """Walk and commit files one by one, as the daemon does."""
    for path in paths:
        commit = walker.walk(path, path.parent, now_utc_s)
        if commit is not None:
            walker.committed(commit, store.commit_sub(commit))


def by_name(rows: Iterable[SubRow]) -> dict[str, SubRow]:
    return {Path(row.path).name: row for row in rows}
