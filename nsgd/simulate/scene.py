"""Camera, sky and one sub: everything that is planted in a frame, and the frame itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Floats, Floats32, Transform
from nsgd.simulate.stars import Psf, SkyField, paint_stars

SKY_COLOUR = {"L": 1.0, "R": 0.38, "G": 0.34, "B": 0.24, "Ha": 0.03, "OIII": 0.03, "SII": 0.03}
"""Share of the white sky that a filter or colour channel lets through."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A sensor with its optics. The defaults are those of a calibrated sub; `raw_camera` is a live one."""

    width_px: int = 900
    height_px: int = 600
    egain_e_per_adu: float = 0.8
    read_noise_e: float = 3.5
    bias_adu: float = 100.0
    dark_e_s: float = 0.0
    step_adu: int = 1
    full_adu: int = 65535
    bayer: str = ""
    """Four letters of the 2x2 cell at row 0, column 0, e.g. "RGGB"; "" = mono."""
    hot_pixels: int = 0
    hot_seed: int = 7
    """Hot pixels stay where they are in the sensor, sub after sub."""
    vignetting: float = 0.0
    """Light lost in the corners."""
    vignette_x: float = 0.5
    vignette_y: float = 0.5
    dust: int = 0
    """Number of dust shadows of 4 % that no flat has taken out."""
    pixel_um: float = 3.76
    focal_mm: float = 530.0
    gain: int = 100
    offset: int = 50
    name: str = "Simulated 2600"

    @property
    def channels(self) -> tuple[str, ...]:
        return ("R", "G", "B") if self.bayer else ("L",)

    def throughput(self, x: Floats, y: Floats) -> Floats:
        """Vignetting and dust at sensor positions (broadcast), 1 = none."""
        reach2 = 0.25 * (self.width_px**2 + self.height_px**2)
        off_x, off_y = x - self.vignette_x * (self.width_px - 1), y - self.vignette_y * (self.height_px - 1)
        light = np.asarray(1.0 - self.vignetting * (off_x**2 + off_y**2) / reach2)
        rng = np.random.default_rng([self.hot_seed, 2])
        for _ in range(self.dust):
            far2 = (x - rng.uniform(0, self.width_px)) ** 2 + (y - rng.uniform(0, self.height_px)) ** 2
            light = light * (1.0 - 0.04 * np.exp(-far2 / (2.0 * rng.uniform(8.0, 25.0) ** 2)))
        return np.maximum(light, 0.02)


def raw_camera(*, bayer: str = "", hot_pixels: int = 400, name: str = "Simulated 2600") -> Camera:
    """A camera whose subs no one has calibrated: bias, dark, vignetting, dust and hot pixels."""
    return Camera(
        bias_adu=500.0,
        dark_e_s=0.03,
        hot_pixels=hot_pixels,
        vignetting=0.25,
        vignette_x=0.47,
        vignette_y=0.54,
        dust=6,
        bayer=bayer,
        name=name,
    )


@dataclass(frozen=True, slots=True)
class SkyGlow:
    """Sky background: level x (1 + plane + bump), in fractions of the frame (u, v in -0.5..0.5)."""

    level_e_s: float = 8.0
    slope_x: float = 0.0
    """Relative change from the left to the right edge."""
    slope_y: float = 0.0
    bump: float = 0.0
    """Relative height of a round hill."""
    bump_u: float = 0.2
    bump_v: float = -0.1
    bump_size: float = 0.3
    """Its Gaussian sigma as a fraction of the width."""

    def shape(self, u: Floats, v: Floats, aspect: float) -> Floats:
        """Sky over its level at fractions of the frame; aspect = height / width."""
        far2 = (u - self.bump_u) ** 2 + ((v - self.bump_v) * aspect) ** 2
        hill = self.bump * np.exp(-far2 / (2.0 * self.bump_size**2))
        return np.asarray(1.0 + self.slope_x * u + self.slope_y * v + hill)


@dataclass(frozen=True, slots=True)
class Veil:
    """What takes light away unevenly: patchy cloud, a soft-edged obstacle, dew or frost in the centre."""

    patch_depth: float = 0.0
    """Part of the light that the thickest cloud of the frame takes."""
    patch_size: float = 0.5
    """Wavelength of the clouds as a fraction of the width."""
    patch_seed: int = 1
    patch_drift: float = 0.0
    """How far the clouds have moved, in fractions of the width."""
    edge_depth: float = 0.0
    """Part of the light that the obstacle takes where it covers the frame."""
    edge_at: float = -1.0
    """Where its soft edge stands along edge_deg, -0.5 = begin of the frame, 0.5 = end."""
    edge_soft: float = 0.15
    edge_deg: float = 0.0
    centre_depth: float = 0.0
    centre_size: float = 0.25

    @property
    def uniform(self) -> bool:
        return self.patch_depth == 0.0 and self.edge_depth == 0.0 and self.centre_depth == 0.0

    def at(self, u: Floats, v: Floats, aspect: float) -> Floats:
        """Light let through at fractions of the frame (broadcast)."""
        light = np.asarray(1.0 - self.centre_depth * np.exp(-(u**2 + (v * aspect) ** 2) / (2 * self.centre_size**2)))
        if self.patch_depth > 0.0:
            light = light * (1.0 - self.patch_depth * self._cloud(u, v * aspect))
        return np.asarray(light * self.past_edge(u, v))

    def past_edge(self, u: Floats, v: Floats) -> Floats:
        """Light that the obstacle lets through; it hides the sky as well as the stars."""
        if self.edge_depth == 0.0:
            return np.ones(np.shape(u))
        angle = np.radians(self.edge_deg)
        inside = (u * np.cos(angle) + v * np.sin(angle) - self.edge_at) / (0.25 * self.edge_soft)
        return np.asarray(1.0 - self.edge_depth / (1.0 + np.exp(np.minimum(inside, 50.0))))

    def _cloud(self, u: Floats, v: Floats) -> Floats:
        """Smooth random pattern in 0..1: a sum of five plane waves that drift together."""
        rng = np.random.default_rng([self.patch_seed, 3])
        total: Floats = np.zeros(np.broadcast_shapes(np.shape(u), np.shape(v)))
        for _ in range(5):
            angle, size = rng.uniform(0, 2 * np.pi), self.patch_size * rng.uniform(0.7, 1.6)
            phase = rng.uniform(0, 2 * np.pi)
            wave = (u - self.patch_drift) * np.cos(angle) + v * np.sin(angle)
            total = total + np.sin(2 * np.pi * wave / size + phase)
        return np.asarray(0.5 + 0.5 * np.tanh(total / 1.6))


@dataclass(frozen=True, slots=True)
class SubTruth:
    """Everything that is planted in one sub. Light from a star is flux_e_s x exposure x `clear_light`
    x veil x camera throughput."""

    camera: Camera
    start_utc_s: float
    exposure_s: float = 60.0
    filter_name: str = "L"
    transmission: float = 1.0
    """Light let through, relative to clear sky at this airmass; the veil comes on top."""
    veil: Veil = field(default_factory=Veil)
    airmass: float = 1.0
    extinction_mag: float = 0.0
    """k x airmass of this sub's filter."""
    psf: Psf = field(default_factory=Psf)
    sky: SkyGlow = field(default_factory=SkyGlow)
    transform: Transform = field(default_factory=Transform)
    """Field coordinates -> sub."""
    pier_side: str = "East"
    cosmic_rays: int = 0
    satellites: int = 0
    noise_seed: int = 0

    @property
    def clear_light(self) -> float:
        """Light of a star relative to no atmosphere at all, before the veil."""
        return float(self.transmission * 10.0 ** (-0.4 * self.extinction_mag))

    def fractions(self, x: Floats, y: Floats) -> tuple[Floats, Floats, float]:
        """Pixels -> fractions of the frame (-0.5..0.5), and height / width."""
        width, height = self.camera.width_px, self.camera.height_px
        return x / (width - 1) - 0.5, y / (height - 1) - 0.5, height / width

    def local_light(self, x: Floats, y: Floats) -> Floats:
        """Star light at pixels of the sub relative to no atmosphere: transmission, extinction, veil."""
        return np.asarray(self.clear_light * self.veil.at(*self.fractions(x, y)))

    def sky_e(self, x: Floats, y: Floats, channel: str) -> Floats:
        """Mean electrons of sky and dark current in one pixel, without stars, nebula and hot pixels."""
        camera = self.camera
        share = SKY_COLOUR.get(channel, 1.0) if camera.bayer else SKY_COLOUR.get(self.filter_name, 1.0)
        u, v, aspect = self.fractions(x, y)
        glow = share * self.sky.level_e_s * self.sky.shape(u, v, aspect) * self.veil.past_edge(u, v)
        return np.asarray(self.exposure_s * (glow * camera.throughput(x, y) + camera.dark_e_s))

    def background_adu(self, x: Floats, y: Floats, channel: str = "L") -> Floats:
        """True smooth background at pixels of the sub, ADU, bias level included."""
        return self.camera.bias_adu + self.sky_e(x, y, channel) / self.camera.egain_e_per_adu

    def noise_adu(self, channel: str = "L") -> float:
        """True pixel noise of an empty pixel, ADU: rms over the frame, the rounding to steps included."""
        x = np.linspace(0, self.camera.width_px - 1, 61)[None, :]
        y = np.linspace(0, self.camera.height_px - 1, 41)[:, None]
        electrons2 = float(self.sky_e(x, y, channel).mean()) + self.camera.read_noise_e**2
        return float(np.sqrt(electrons2 / self.camera.egain_e_per_adu**2 + self.camera.step_adu**2 / 12.0))

    def scale_against(self, reference: SubTruth) -> float:
        """True m: multiply this sub by it to match the reference (veils left out)."""
        return reference.clear_light * reference.exposure_s / (self.clear_light * self.exposure_s)

    def gradient_against(self, reference: SubTruth, channel: str = "L") -> Callable[[Floats, Floats], Floats]:
        """True surface of (m x this sub - reference) at *field* coordinates, ADU, its constant included."""
        scale = self.scale_against(reference)

        def surface(x: Floats, y: Floats) -> Floats:
            here = self.background_adu(*self.transform.apply(x, y), channel)
            return np.asarray(scale * here - reference.background_adu(*reference.transform.apply(x, y), channel))

        return surface


def place(camera: Camera, dx: float = 0.0, dy: float = 0.0, rotation_deg: float = 0.0, size: float = 1.0) -> Transform:
    """Field -> sub: turn about the frame's centre (+x towards +y), enlarge, then shift by dx, dy pixels."""
    cos, sin = size * np.cos(np.radians(rotation_deg)), size * np.sin(np.radians(rotation_deg))
    mid_x, mid_y = 0.5 * (camera.width_px - 1), 0.5 * (camera.height_px - 1)
    return Transform(
        a=float(cos),
        b=float(-sin),
        c=float(sin),
        d=float(cos),
        tx=float(mid_x - cos * mid_x + sin * mid_y + dx),
        ty=float(mid_y - sin * mid_x - cos * mid_y + dy),
    )


def star_flux_adu(sky_field: SkyField, truth: SubTruth) -> Floats:
    """True total flux of every star of the field in this sub, ADU (n, channels), flat errors included."""
    camera = truth.camera
    x, y = truth.transform.apply(sky_field.x_px, sky_field.y_px)
    light = truth.exposure_s * truth.local_light(x, y) * camera.throughput(x, y) / camera.egain_e_per_adu
    names = camera.channels if camera.bayer else (truth.filter_name,)
    return np.stack([sky_field.channel_flux(name) * light for name in names], axis=1)


def render(sky_field: SkyField, truth: SubTruth, rng: np.random.Generator) -> NDArray[np.uint16]:
    """One sub as the camera writes it: uint16 ADU (h, w), a Bayer mosaic where the camera has one."""
    camera = truth.camera
    planes = [_light(sky_field, truth, channel) for channel in camera.channels]
    electrons = _mosaic(planes, camera.bayer) if camera.bayer else planes[0]
    _add_stars(sky_field, truth, electrons)
    _add_satellites(electrons, truth, rng)
    _add_hot_pixels(electrons, truth)
    noisy = _expose(electrons, camera.read_noise_e, rng)
    _add_cosmic_rays(noisy, truth.cosmic_rays, rng)
    return _digitise(noisy, camera)


def _light(sky_field: SkyField, truth: SubTruth, channel: str) -> Floats32:
    """Sky, dark current and nebula of one channel, electrons (h, w)."""
    camera = truth.camera
    x, y = np.arange(camera.width_px, dtype=np.float32)[None, :], np.arange(camera.height_px, dtype=np.float32)[:, None]
    light = _smooth(lambda at_x, at_y: truth.sky_e(at_x, at_y, channel), camera)
    if len(sky_field.nebula_e_s):
        share = SKY_COLOUR.get(channel if camera.bayer else truth.filter_name, 1.0) * truth.exposure_s
        local = _smooth(lambda at_x, at_y: truth.local_light(at_x, at_y) * camera.throughput(at_x, at_y), camera)
        mid_x, mid_y = truth.transform.apply(sky_field.nebula_x_px, sky_field.nebula_y_px)
        glow = np.zeros_like(light)
        for at_x, at_y, sigma, peak in zip(mid_x, mid_y, sky_field.nebula_sigma_px, sky_field.nebula_e_s, strict=True):
            glow += np.float32(peak * share) * (_bell(y, at_y, sigma) * _bell(x, at_x, sigma))
        light += glow * local
    return light


def _bell(at: Floats32, mean: float, sigma: float) -> Floats32:
    return np.asarray(np.exp(-((at - np.float32(mean)) ** 2) / np.float32(2.0 * sigma**2)), np.float32)


def _smooth(surface: Callable[[Floats, Floats], Floats], camera: Camera) -> Floats32:
    """A smooth surface over the frame (h, w); large frames in strips, so that float64 stays small."""
    x = np.arange(camera.width_px, dtype=np.float64)[None, :]
    light = np.empty((camera.height_px, camera.width_px), np.float32)
    for start in range(0, camera.height_px, 64):
        y = np.arange(start, min(start + 64, camera.height_px), dtype=np.float64)[:, None]
        light[start : start + 64] = surface(x, y)
    return light


def _cells(bayer: str) -> tuple[tuple[str, int, int], ...]:
    """Letter, row and column of the four pixels of a Bayer cell."""
    return tuple((letter, k // 2, k % 2) for k, letter in enumerate(bayer))


def _mosaic(planes: list[Floats32], bayer: str) -> Floats32:
    mosaic = np.empty_like(planes[0])
    for letter, row, column in _cells(bayer):
        mosaic[row::2, column::2] = planes["RGB".index(letter)][row::2, column::2]
    return mosaic


def _add_stars(sky_field: SkyField, truth: SubTruth, electrons: Floats32) -> None:
    camera = truth.camera
    x, y = truth.transform.apply(sky_field.x_px, sky_field.y_px)
    flux = star_flux_adu(sky_field, truth) * camera.egain_e_per_adu
    empty = np.sqrt(np.median(electrons) + camera.read_noise_e**2)
    if not camera.bayer:
        paint_stars(electrons, x, y, flux, truth.psf, float(empty))
        return
    planes = np.zeros((3, *electrons.shape), np.float32)
    paint_stars(planes, x, y, flux, truth.psf, float(empty))
    electrons += _mosaic(list(planes), camera.bayer)


def _add_satellites(electrons: Floats32, truth: SubTruth, rng: np.random.Generator) -> None:
    """Straight trails with the star's width, as bright as a star of moderate magnitude."""
    height, width = electrons.shape
    for _ in range(truth.satellites):
        angle, peak = rng.uniform(0, np.pi), rng.uniform(200.0, 5000.0) * truth.clear_light
        mid_x, mid_y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
        sigma = truth.psf.fwhm_px / 2.355
        for start in range(0, height, 256):
            y = np.arange(start, min(start + 256, height), dtype=np.float32)[:, None]
            off = (np.arange(width, dtype=np.float32)[None, :] - mid_x) * np.sin(angle) - (y - mid_y) * np.cos(angle)
            near = np.abs(off) < 5.0 * sigma
            part = electrons[start : start + 256]
            part[near] += (peak * np.exp(-(off[near] ** 2) / (2.0 * sigma**2))).astype(np.float32)


def _add_hot_pixels(electrons: Floats32, truth: SubTruth) -> None:
    camera = truth.camera
    rng = np.random.default_rng([camera.hot_seed, 1])
    rows, columns = (rng.integers(0, n, camera.hot_pixels) for n in electrons.shape)
    rate = 8.0 * rng.lognormal(0.0, 1.5, camera.hot_pixels)
    np.add.at(electrons, (rows, columns), (rate * truth.exposure_s).astype(np.float32))


def _expose(electrons: Floats32, read_noise_e: float, rng: np.random.Generator) -> Floats32:
    """Poisson and read noise. Above 50 e- a Gaussian with the Poisson's skewness (Cornish-Fisher)."""
    normal = rng.standard_normal(electrons.shape, dtype=np.float32)
    variance = electrons + np.float32(read_noise_e**2)
    skewed = (normal * normal - 1.0) * (electrons / (6.0 * variance))
    noisy = np.asarray(electrons + np.sqrt(variance) * normal + skewed, dtype=np.float32)
    few = electrons < 50.0
    if few.any():
        counted = rng.poisson(np.maximum(electrons[few], 0.0)).astype(np.float32)
        noisy[few] = counted + np.float32(read_noise_e) * normal[few]
    return noisy


def _add_cosmic_rays(electrons: Floats32, count: int, rng: np.random.Generator) -> None:
    """Sharp hits of one to six pixels in a line."""
    height, width = electrons.shape
    for _ in range(count):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
        for step in range(int(rng.integers(1, 7))):
            column, row = int(x + step * np.cos(angle)), int(y + step * np.sin(angle))
            if 0 <= column < width and 0 <= row < height:
                electrons[row, column] += rng.uniform(300.0, 8000.0)


def _digitise(electrons: Floats32, camera: Camera) -> NDArray[np.uint16]:
    """Electrons -> ADU in steps, clipped at 0 and at the camera's full level."""
    adu = electrons * np.float32(1.0 / camera.egain_e_per_adu) + np.float32(camera.bias_adu)
    step = camera.step_adu
    steps = np.rint(adu / step) if step > 1 else np.rint(adu)
    return np.asarray(np.clip(steps * step, 0, camera.full_adu // step * step), np.uint16)
