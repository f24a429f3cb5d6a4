"""A small simulated night that was really measured: planted gradient, flip, cloud and obstacle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nsgd.session.store import Store
from nsgd.settings import Settings
from nsgd.simulate import Night, SkyGlow, Veil, night, place, sub_cards, sub_name, write_sub
from nsgd.walk import Walker

REFERENCE, SLOPED, FLIPPED, CLOUDED, SHADED = range(5)
SLOPE = 0.30


def planted_night() -> Night:
    """Five subs of one field; each but the first has one thing planted."""
    plain = night("clear", 3, subs=5, width_px=640, height_px=480)
    subs = [replace(sub, sky=SkyGlow()) for sub in plain.subs]
    camera = subs[0].camera
    subs[SLOPED] = replace(subs[SLOPED], sky=SkyGlow(slope_x=SLOPE))
    subs[FLIPPED] = replace(subs[FLIPPED], transform=place(camera, 4.0, -3.0, 180.0))
    subs[CLOUDED] = replace(subs[CLOUDED], transmission=0.5)
    subs[SHADED] = replace(subs[SHADED], veil=Veil(edge_depth=0.4, edge_at=0.0, edge_soft=0.6))
    return replace(plain, subs=tuple(subs))


def measure_planted(folder: Path) -> tuple[Night, Path]:
    """Write, measure and commit the planted night; returns its truth and the store's folder."""
    truth, store_folder = planted_night(), folder / "store"
    now_utc_s = truth.subs[-1].start_utc_s + 100.0
    with Store.open(store_folder, now_utc_s) as store:
        walker = Walker(store, Settings(), None)
        for index, sub in enumerate(truth.subs):
            path = write_sub(folder / sub_name(truth, index, sub), truth.pixels(index), sub_cards(sub))
            commit = walker.walk(path, folder, now_utc_s)
            assert commit is not None
            walker.committed(commit, store.commit_sub(commit))
            if index == REFERENCE:
                walker.set_reference(1, 1)
    return truth, store_folder
