"""Whole nights: scripts that say what the sky and the telescope do, sub after sub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from nsgd.simulate.scene import Camera, SkyGlow, SubTruth, Veil, place, raw_camera, render
from nsgd.simulate.stars import Psf, SkyField, star_field

START_UTC_S = datetime(2026, 11, 21, 20, 0, tzinfo=UTC).timestamp()
SITE = (48.2, 11.6)
"""Where it is dark at START_UTC_S, degrees."""
EXTINCTION_MAG = {"L": 0.20, "R": 0.11, "G": 0.16, "B": 0.25, "Ha": 0.08, "OIII": 0.17, "SII": 0.08}
"""Extinction per airmass and filter, magnitudes."""


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """A field and the truth of every sub of one night; the same seed gives the same pixels."""

    name: str
    seed: int
    object_name: str
    field: SkyField
    subs: tuple[SubTruth, ...]
    site: tuple[float, float] = SITE
    """Latitude and longitude of the telescope, degrees."""

    def pixels(self, index: int) -> NDArray[np.uint16]:
        """Render one sub, uint16 ADU (h, w); independent of which subs were rendered before."""
        return render(self.field, self.subs[index], np.random.default_rng([self.seed, 1, index]))


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a script is: sub number, part of the night gone by (0..1), and a source of chance."""

    index: int
    part: float
    rng: np.random.Generator

    def step(self, at: float, width: float = 0.04) -> float:
        """0 before `at`, 1 after, smooth over `width`."""
        return float(0.5 + 0.5 * np.tanh((self.part - at) / (0.5 * width)))

    def between(self, start: float, end: float, width: float = 0.05) -> float:
        """1 inside start..end, else 0, with smooth flanks."""
        return self.step(start, width) * (1.0 - self.step(end, width))


Change = Callable[[SubTruth, Moment], SubTruth]


@dataclass(frozen=True, slots=True)
class Script:
    """One named night: what it shows, and how each plain clear sub is changed."""

    sentence: str
    change: Change = lambda sub, moment: sub
    subs: int = 40
    stars: int = 300
    nebula: int = 6
    filters: tuple[str, ...] = ("L",)
    camera: Camera = field(default_factory=Camera)
    exposure_s: float = 60.0


def names() -> list[str]:
    """Names of all scripts, in alphabetical order."""
    return sorted(NIGHTS)


def describe(name: str) -> str:
    """One sentence about a script; KeyError where there is none of that name."""
    return NIGHTS[name].sentence


def night(
    name: str,
    seed: int = 1,
    *,
    subs: int | None = None,
    width_px: int = 900,
    height_px: int = 600,
    start_utc_s: float = START_UTC_S,
) -> Night:
    """Plan a night from its script; nothing is rendered yet. KeyError for an unknown name."""
    script = NIGHTS[name]
    count = script.subs if subs is None else subs
    camera = replace(script.camera, width_px=width_px, height_px=height_px)
    sky_field = star_field(
        np.random.default_rng([seed, 0]),
        stars=script.stars,
        width_px=width_px,
        height_px=height_px,
        nebula=script.nebula,
    )
    plan = []
    for index in range(count):
        moment = Moment(index, index / max(1, count - 1), np.random.default_rng([seed, 2, index]))
        plain = _plain_sub(script, camera, moment, start_utc_s)
        plan.append(script.change(plain, moment))
    return Night(name, seed, f"Sim {name}", sky_field, tuple(plan))


def _plain_sub(script: Script, camera: Camera, moment: Moment, start_utc_s: float) -> SubTruth:
    """A clear sub with the small changes that every night has: dither, drift, seeing, airmass."""
    rng, part = moment.rng, moment.part
    filter_name = script.filters[moment.index % len(script.filters)]
    airmass = 1.0 / np.sin(np.radians(72.0 - 22.0 * part))
    dither_x, dither_y = (float(d) for d in 0.012 * camera.width_px * rng.uniform(-1.0, 1.0, 2))
    return SubTruth(
        camera=camera,
        start_utc_s=start_utc_s + moment.index * (script.exposure_s + 5.0),
        exposure_s=script.exposure_s,
        filter_name=filter_name,
        airmass=float(airmass),
        extinction_mag=float(EXTINCTION_MAG[filter_name] * airmass),
        psf=Psf(
            fwhm_px=float(3.2 + 0.15 * np.sin(9.0 * part) + rng.normal(0.0, 0.05)),
            beta=3.2,
            ellipticity=float(rng.uniform(0.02, 0.10)),
            angle_deg=float(rng.uniform(0.0, 180.0)),
        ),
        sky=SkyGlow(level_e_s=8.0, slope_x=0.04 + 0.02 * part, slope_y=-0.03),
        transform=place(camera, dither_x + 3.0 * part, dither_y - 2.0 * part, rotation_deg=0.02 * part),
        cosmic_rays=int(rng.poisson(6)),
    )


def _cloud_light(moment: Moment, start: float, end: float, deepest: float) -> float:
    """Ragged passing cloud: transmission that falls to about `deepest` between two parts of the night."""
    ragged = 1.0 + 0.18 * moment.rng.normal()
    return float(np.clip(1.0 - (1.0 - deepest) * moment.between(start, end) * ragged, 0.02, 1.0))


def _under_cloud(sub: SubTruth, light: float, part: float, patches: float = 0.5) -> SubTruth:
    """Cloud takes light unevenly and throws town light back."""
    loss = 1.0 - light
    veil = replace(sub.veil, patch_depth=patches * loss, patch_drift=6.0 * part) if loss > 0.01 else sub.veil
    glow = replace(sub.sky, level_e_s=sub.sky.level_e_s * (1.0 + 0.6 * loss))
    return replace(sub, transmission=light, veil=veil, sky=glow)


def _passing_cloud(start: float, end: float, deepest: float, patches: float = 0.3) -> Change:
    def change(sub: SubTruth, moment: Moment) -> SubTruth:
        return _under_cloud(sub, _cloud_light(moment, start, end, deepest), moment.part, patches)

    return change


def _haze(sub: SubTruth, moment: Moment) -> SubTruth:
    light = 0.72 + 0.03 * np.sin(5.0 * moment.part)
    return _under_cloud(sub, float(light), moment.part, patches=0.0)


def _focus(sub: SubTruth, moment: Moment) -> SubTruth:
    return replace(sub, psf=replace(sub.psf, fwhm_px=3.0 + 2.6 * moment.part))


def _flip(sub: SubTruth, moment: Moment) -> SubTruth:
    if moment.part < 0.5:
        return sub
    shift = sub.transform
    turned = place(sub.camera, shift.tx + 14.0, shift.ty - 9.0, rotation_deg=180.3)
    return replace(sub, transform=turned, pier_side="West")


def _dew(sub: SubTruth, moment: Moment) -> SubTruth:
    wet = moment.step(0.65, 0.5)
    return replace(
        sub,
        transmission=float(1.0 - 0.65 * wet),
        psf=replace(sub.psf, fwhm_px=sub.psf.fwhm_px * (1.0 + 0.35 * wet), beta=3.2 - 0.7 * wet),
        sky=replace(sub.sky, level_e_s=sub.sky.level_e_s * (1.0 - 0.4 * wet)),
    )


def _frost(sub: SubTruth, moment: Moment) -> SubTruth:
    return replace(sub, veil=Veil(centre_depth=float(0.6 * moment.step(0.6, 0.4))))


def _tree(sub: SubTruth, moment: Moment) -> SubTruth:
    edge = -0.75 + 1.6 * max(0.0, moment.part - 0.45)
    return replace(sub, veil=Veil(edge_depth=0.92, edge_at=float(edge), edge_soft=0.3, edge_deg=20.0))


def _gradient(sub: SubTruth, moment: Moment) -> SubTruth:
    angle, strength = 2.0 * np.pi * moment.part, 0.05 + 0.5 * moment.part
    glow = replace(
        sub.sky,
        slope_x=float(strength * np.cos(angle)),
        slope_y=float(strength * np.sin(angle)),
        bump=0.25 * moment.between(0.5, 0.8),
    )
    return replace(sub, sky=glow)


def _moonrise(sub: SubTruth, moment: Moment) -> SubTruth:
    moon = moment.step(0.5, 0.5)
    return replace(sub, sky=replace(sub.sky, level_e_s=8.0 * (1.0 + 7.0 * moon), slope_x=0.04 + 0.25 * moon))


def _dawn(sub: SubTruth, moment: Moment) -> SubTruth:
    brighter = 10.0 ** (2.2 * max(0.0, moment.part - 0.6) / 0.4)
    return replace(sub, sky=replace(sub.sky, level_e_s=float(8.0 * brighter)))


def _low(sub: SubTruth, moment: Moment) -> SubTruth:
    airmass = float(1.0 / np.sin(np.radians(80.0 - 57.0 * moment.part)))
    sky = replace(sub.sky, level_e_s=8.0 * airmass**0.5)
    return replace(sub, airmass=airmass, extinction_mag=EXTINCTION_MAG[sub.filter_name] * airmass, sky=sky)


def _satellites(sub: SubTruth, moment: Moment) -> SubTruth:
    return replace(sub, satellites=int(moment.rng.integers(0, 4)), cosmic_rays=60)


def _guiding(sub: SubTruth, moment: Moment) -> SubTruth:
    if moment.index % 5 < 3:
        return sub
    length = float(moment.rng.uniform(2.0, 7.0))
    return replace(sub, psf=replace(sub.psf, trail_px=length, trail_deg=35.0))


def _whiteout(sub: SubTruth, moment: Moment) -> SubTruth:
    light = 1.0 - 0.998 * moment.between(0.4, 0.7, 0.1)
    return _under_cloud(sub, float(light), moment.part, patches=0.2)


COARSE = Camera(egain_e_per_adu=0.06, read_noise_e=1.7, step_adu=16, full_adu=65520, name="Simulated 1600")
"""A 12-bit camera: steps of 16 ADU in a 16-bit file."""


NIGHTS: dict[str, Script] = {
    "demo": Script("Clear, then a cloud passes, then clear again.", _passing_cloud(0.33, 0.66, 0.35)),
    "clear": Script("Nothing happens: dither, seeing, extinction."),
    "cloud": Script("Ragged, patchy cloud for half of the night.", _passing_cloud(0.3, 0.8, 0.45, 0.6), subs=60),
    "whiteout": Script("Cloud so thick that no star is left, then clear.", _whiteout),
    "haze": Script("Uniform haze at about 0.72 the whole night long.", _haze),
    "focus": Script("Focus drifts away: stars swell from 3.0 to 5.6 px, the sky stays clear.", _focus),
    "flip": Script("Raw subs and a meridian flip in the middle.", _flip, camera=raw_camera()),
    "filters": Script(
        "L, R, G, B in rotation with a cloud for all.",
        _passing_cloud(0.4, 0.6, 0.4),
        subs=60,
        filters=("L", "R", "G", "B"),
    ),
    "dew": Script("Dew settles on the objective: light falls smoothly, stars swell and grow haloes.", _dew),
    "frost": Script("Ice grows on the sensor window: the centre darkens.", _frost),
    "tree": Script("A tree moves in from one side with a soft edge.", _tree),
    "gradient": Script("Light pollution whose gradient turns and grows.", _gradient),
    "moonrise": Script("The moon rises: sky eight times brighter with a slope.", _moonrise),
    "dawn": Script("Dawn: the sky brightens until the stars drown.", _dawn),
    "bayer": Script(
        "One-shot colour, raw, with a cloud.",
        _passing_cloud(0.4, 0.65, 0.4),
        camera=raw_camera(bayer="RGGB", name="Simulated 2600 MC"),
    ),
    "airmass": Script("From near the zenith down to airmass 2.6 through clear air.", _low, subs=60),
    "satellites": Script(
        "Satellite trails, cosmic rays and hot pixels.", _satellites, camera=raw_camera(hot_pixels=2500)
    ),
    "guiding": Script("Trailed stars in two of five subs.", _guiding),
    "milkyway": Script("A crowded field of the Milky Way.", stars=3000, subs=20),
    "coarse": Script("A 12-bit camera that writes steps of 16 ADU.", camera=COARSE, exposure_s=10.0),
}
