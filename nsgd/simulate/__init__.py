"""A camera stand-in: frames and whole nights whose truth is known, for tests, benches and `nsgd demo`.

Lives here: stars.py (stars and their shape), scene.py (camera, sky, one sub and its truth),
nights.py (scripts of whole nights), files.py (FITS as a capture program writes it). May import
`nsgd.records` and numpy only. Start reading at `scene.render`.

For the command line and the demo::

    names() -> list[str]                          the scripts, in alphabetical order
    describe(name) -> str                         one sentence about a script
    night(name, seed=1, ...) -> Night             KeyError for an unknown name
    write_night(night, folder) -> list[Path]      all subs at once
    drip(night, folder, interval_s, ...) -> list[Path]       one sub at a time, slowly, as N.I.N.A. writes
"""

from nsgd.simulate.files import dark_site, drip, fits_bytes, sub_cards, sub_name, write_night, write_sub
from nsgd.simulate.nights import NIGHTS, Night, describe, names, night
from nsgd.simulate.scene import Camera, SkyGlow, SubTruth, Veil, place, raw_camera, render, star_flux_adu
from nsgd.simulate.stars import Psf, SkyField, paint_stars, star_field

__all__ = [
    "NIGHTS",
    "Camera",
    "Night",
    "Psf",
    "SkyField",
    "SkyGlow",
    "SubTruth",
    "Veil",
    "dark_site",
    "describe",
    "drip",
    "fits_bytes",
    "names",
    "night",
    "paint_stars",
    "place",
    "raw_camera",
    "render",
    "star_field",
    "star_flux_adu",
    "sub_cards",
    "sub_name",
    "write_night",
    "write_sub",
]
