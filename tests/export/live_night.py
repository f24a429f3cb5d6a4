"""A small live night, measured by the real walk into a real store: dithered subs, a cloud, two filters, an alert."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from nsgd.records import Alert
from nsgd.session.store import Store
from nsgd.settings import Settings, Site
from nsgd.simulate import Camera, SkyField, SkyGlow, SubTruth, place, render, star_field, sub_cards, write_sub
from nsgd.walk import Walker

START_UTC_S = 1_763_841_600.0
"""2025-11-22 20:00 UTC."""
CAMERA = Camera(width_px=600, height_px=400)
SETTINGS = Settings(site=Site(timezone="Europe/Berlin"))


@dataclass
class LiveNight:
    """Where the night lies and what was planted in it."""

    store: Path
    lights: Path
    sky: SkyField
    truths: list[SubTruth]
    paths: list[Path]


def night_truths(camera: Camera = CAMERA) -> list[SubTruth]:
    """Nine L subs, the 5th to 7th in cloud, and three Ha subs in between; the gradient turns."""
    rng = np.random.default_rng(3)
    truths = []
    for number in range(12):
        narrow = number % 4 == 3
        cloud = 0.35 if number in (5, 6, 8) else 1.0
        truths.append(
            SubTruth(
                camera,
                START_UTC_S + 70.0 * number,
                filter_name="Ha" if narrow else "L",
                transmission=cloud,
                sky=SkyGlow(slope_x=float(rng.uniform(-0.15, 0.15)), slope_y=float(rng.uniform(-0.1, 0.1))),
                transform=place(camera, float(rng.uniform(-9, 9)), float(rng.uniform(-9, 9))),
            )
        )
    return truths


def live_night(folder: Path, truths: list[SubTruth], *, object_name: str = "M 31") -> LiveNight:
    """Render, write and measure; returns where everything is."""
    rng = np.random.default_rng(4)
    camera = truths[0].camera
    flux = (300.0, 60000.0)  # bright enough that Ha has stars too
    sky = star_field(rng, stars=200, width_px=camera.width_px, height_px=camera.height_px, flux_e_s=flux)
    lights = folder / "lights"
    paths = []
    for number, truth in enumerate(truths):
        pixels = render(sky, truth, rng)
        path = lights / f"sub_{number + 1:03d}.fits"
        paths.append(write_sub(path, pixels, sub_cards(truth, object_name)))
    found = LiveNight(folder / "store", lights, sky, truths, paths)
    measure(found)
    return found


def measure(night: LiveNight) -> None:
    """Walk and commit every sub, then an alert with its all-clear."""
    with Store.open(night.store, START_UTC_S) as store:
        walker = Walker(store, SETTINGS, ZoneInfo("Europe/Berlin"))
        for path, truth in zip(night.paths, night.truths, strict=True):
            commit = walker.walk(path, night.lights, truth.start_utc_s + 70.0)
            assert commit is not None
            walker.committed(commit, store.commit_sub(commit))
        walker.settle()
        cloud = Alert("e1", "cloud", "Cloud over M 31", "Transmission fell to 35 %.", START_UTC_S + 480.0, urgent=True)
        clear = replace(cloud, kind="clear", title="Clear again", created_utc_s=START_UTC_S + 720.0, resolves=True)
        store.commit_alerts([cloud, clear], ["s1"], session="2025-11-22")
