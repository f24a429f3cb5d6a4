"""What the hand-off is worth: python tests/benchmarks/handoff.py [surface|flux|stack|weights|thousand ...]

surface   backgrounds after our .xnml, evaluated as PixInsight does, against the planted truth
flux      star fluxes after our .xnml: the correction's own error, apart from the photon noise of the subs' stars
stack     real Siril: our accepted, normalised frames averaged plainly, against all frames with Siril's normalisation
weights   a weighted mean with our weights, against equal weights and the optimum
thousand  memory, time and cores of an export of 1,000 frames
"""

from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from nsgd.export.carried import Carried
from nsgd.export.pixinsight import Job, export_pixinsight
from nsgd.export.xnml import Xnml, from_bytes, normalised
from nsgd.settings import Settings
from nsgd.simulate import (
    Camera,
    Psf,
    SkyField,
    SkyGlow,
    SubTruth,
    paint_stars,
    place,
    render,
    star_field,
    star_flux_adu,
)

START_UTC_S = 1_763_856_000.0


@dataclass
class Night:
    """Registered frames on disk, what was planted in them, and what the export made of them."""

    folder: Path
    out: Path
    sky: SkyField
    truths: list[SubTruth]
    paths: list[Path]
    rows: list[dict[str, str]]

    @property
    def reference(self) -> SubTruth:
        return self.truths[next(at for at, row in enumerate(self.rows) if row["reference"] == "1")]

    def xnml(self, at: int) -> Xnml:
        return from_bytes((self.out / "L" / f"{self.paths[at].stem}.xnml").read_bytes())

    def frame(self, at: int) -> np.ndarray:
        return np.asarray(fits.getdata(self.paths[at]), dtype=np.float32)

    def normalised(self, at: int) -> np.ndarray:
        return normalised(self.xnml(at), 0, self.frame(at))


def planted(count: int, camera: Camera, seed: int = 1) -> list[SubTruth]:
    """A cloudy night with a rising Moon: clear subs first, then ragged cloud, a gradient that grows and turns."""
    rng = np.random.default_rng(seed)
    truths = []
    for number in range(count):
        late = number / max(count - 1, 1)
        cloud = float(rng.uniform(0.97, 1.0)) if rng.random() < 0.5 or number < 2 else float(rng.uniform(0.25, 0.95))
        angle = 0.6 + 1.2 * late
        truths.append(
            SubTruth(
                camera,
                START_UTC_S + 70.0 * number,
                transmission=cloud,
                psf=Psf(fwhm_px=float(rng.uniform(2.6, 4.2))),
                sky=SkyGlow(
                    level_e_s=8.0 * (1.0 + 1.5 * late) * (1.0 + 0.8 * (1.0 - cloud)),
                    slope_x=(0.04 + 0.35 * late) * float(np.cos(angle)),
                    slope_y=(0.04 + 0.35 * late) * float(np.sin(angle)),
                    bump=float(rng.uniform(0.0, 0.1)),
                    bump_size=0.4,
                ),
            )
        )
    return truths


def make(
    folder: Path, truths: list[SubTruth], *, stars: int, seed: int = 1, shifted: bool = False
) -> tuple[SkyField, list[Path]]:
    """Write registered float frames as PixInsight leaves them; `shifted` ones were interpolated to get there."""
    rng = np.random.default_rng(seed)
    camera = truths[0].camera
    sky = star_field(rng, stars=stars, width_px=camera.width_px, height_px=camera.height_px)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, truth in enumerate(truths):
        dx, dy = rng.uniform(-0.5, 0.5, 2) if shifted else (0.0, 0.0)
        moved = replace(truth, transform=place(camera, dx, dy))
        pixels = render(sky, moved, rng).astype(np.float32) / np.float32(65535.0)
        if shifted:
            pixels = interpolated(pixels, dx, dy)
        path = folder / f"sub_{number + 1:04d}_c_r.fits"
        write(path, pixels, truth, number)
        paths.append(path)
    return sky, paths


def write(path: Path, pixels: np.ndarray, truth: SubTruth, number: int) -> None:
    header = fits.Header()
    header["IMAGETYP"], header["OBJECT"], header["FILTER"] = "Light Frame", "Bench", "L"
    header["EXPTIME"], header["EGAIN"] = truth.exposure_s, truth.camera.egain_e_per_adu
    header["DATE-OBS"] = str(np.datetime64(int(START_UTC_S + 70 * number), "s"))
    header["NOISE00"] = truth.noise_adu() / 65535.0
    fits.PrimaryHDU(pixels, header).writeto(path, overwrite=True)


def exported(folder: Path, truths: list[SubTruth], *, stars: int, seed: int = 1, shifted: bool = False) -> Night:
    sky, paths = make(folder / "registered", truths, stars=stars, seed=seed, shifted=shifted)
    export_pixinsight(Job(folder / "registered", folder / "out"), Settings(), Carried(), 0.0)
    with (folder / "out" / "subs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Night(folder / "registered", folder / "out", sky, truths, paths, rows)


# --- surface -----------------------------------------------------------------------------------------------------


def surface(folder: Path) -> None:
    for width, height, count in ((900, 600, 10), (1280, 960, 10), (2000, 1500, 10), (4656, 3520, 5)):
        night = exported(
            folder / f"{width}", planted(count, Camera(width_px=width, height_px=height)), stars=width // 2
        )
        y, x = np.mgrid[0:height:2, 0:width:2].astype(float)
        wanted = night.reference.background_adu(x, y)
        rms, high, edge = [], [], []
        for at, truth in enumerate(night.truths):
            m = truth.scale_against(night.reference)
            grid = np.zeros((height, width), np.float32)
            grid[::2, ::2] = truth.background_adu(x, y) / 65535.0
            error = normalised(night.xnml(at), 0, grid)[::2, ::2] * 65535.0 - wanted
            error /= truth.noise_adu() * m
            rms.append(np.sqrt((error**2).mean()))
            high.append(np.quantile(np.abs(error), 0.99))
            edge.append(np.sqrt(np.mean(np.concatenate((error[0], error[-1], error[:, 0], error[:, -1])) ** 2)))
        print(
            f"surface {width}x{height}: rms {100 * np.median(rms):.2f} % (worst {100 * max(rms):.2f} %), "
            f"p99 {100 * np.median(high):.2f} % (worst {100 * max(high):.2f} %), "
            f"borders {100 * np.median(edge):.2f} % of the pixel sigma"
        )


# --- star fluxes -------------------------------------------------------------------------------------------------


def flux(folder: Path) -> None:
    """Errors of the scale: as photon noise leaves it, and with a tenth of that noise, where the method's own shows.

    The deep frames have a hundred times the exposure and as many electrons per ADU: the same picture, less noise.
    """
    for name, times, shifted in (
        ("as exposed", 1.0, False),
        ("as exposed, interpolated", 1.0, True),
        ("a tenth of the noise", 100.0, False),
        ("a tenth of the noise, interpolated", 100.0, True),
    ):
        errors, pulls, kept = [], [], []
        for seed in (1, 2, 3):
            camera = Camera(egain_e_per_adu=0.8 * times, read_noise_e=3.5 * np.sqrt(times))
            truths = [replace(truth, exposure_s=60.0 * times) for truth in planted(10, camera, seed)]
            night = exported(folder / f"{name}{seed}", truths, stars=450, seed=seed, shifted=shifted)
            for row, truth in zip(night.rows, night.truths, strict=True):
                if row["reference"] != "1":
                    error = float(row["scale"]) / truth.scale_against(night.reference) - 1.0
                    errors.append(error)
                    pulls.append(error * float(row["scale"]) / float(row["scale_err"]))
                    kept.append(row["status"] == "ok")
        print(
            f"flux    {name}: {sum(kept)} accepted frames mean {100 * np.mean(np.compress(kept, errors)):+.3f} %, "
            f"rms {100 * rms_of(np.compress(kept, errors)):.3f} %; all {len(errors)} rms {100 * rms_of(errors):.3f} %, "
            f"median {100 * np.median(np.abs(errors)):.3f} %, worst {100 * np.abs(errors).max():.3f} %; "
            f"{rms_of(np.compress(kept, pulls)):.2f} (all {rms_of(pulls):.2f}) times the error stated"
        )


def rms_of(values: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def interpolated(pixels: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The picture moved back by dx, dy with Lanczos-3, as registration does it; two pixels of zeros around."""
    for axis, shift in ((1, dx), (0, dy)):
        at = np.arange(-3, 4) - shift
        kernel = np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
        pixels = ndimage.correlate1d(pixels, kernel / kernel.sum(), axis=axis, mode="nearest")
    framed = np.zeros_like(pixels)
    framed[2:-2, 2:-2] = pixels[2:-2, 2:-2]
    return framed


# --- stacks ------------------------------------------------------------------------------------------------------


def model(night: Night, psf: Psf) -> np.ndarray:
    """Stars of the reference, without sky, in full scale = 1."""
    camera = night.reference.camera
    picture = np.zeros((camera.height_px, camera.width_px), np.float32)
    flux = star_flux_adu(night.sky, night.reference)[:, 0]
    paint_stars(picture, night.sky.x_px, night.sky.y_px, flux, psf, 1.0)
    return picture / np.float32(65535.0)


def judge_stack(night: Night, picture: np.ndarray) -> tuple[float, float]:
    """Signal to noise (star signal over pixel noise) and rms of the background's structure in ADU of the reference."""
    wide = model(night, Psf(fwhm_px=3.4))
    dark = wide < np.quantile(wide, 0.6)
    height, width = picture.shape
    boxes = 24
    step_y, step_x = height // boxes, width // boxes
    level = np.full((boxes, boxes), np.nan)
    for j in range(boxes):
        for i in range(boxes):
            place = np.s_[j * step_y : (j + 1) * step_y, i * step_x : (i + 1) * step_x]
            if dark[place].sum() > 100:
                level[j, i] = np.median(picture[place][dark[place]])
    difference = picture[:, 1:-1] - 0.5 * (picture[:, :-2] + picture[:, 2:])
    calm = dark[:, 1:-1] & dark[:, :-2] & dark[:, 2:]
    noise = 1.4826 * np.median(np.abs(difference[calm])) / np.sqrt(1.5)
    signal = star_signal(night, picture)
    structure = float(np.nanstd(level)) / signal
    return signal / noise, structure * 65535.0


def star_signal(night: Night, picture: np.ndarray) -> float:
    """How bright the stars are against the reference's: the slope of aperture sums."""
    flux = star_flux_adu(night.sky, night.reference)[:, 0] / 65535.0
    height, width = picture.shape
    x, y = np.rint(night.sky.x_px).astype(int), np.rint(night.sky.y_px).astype(int)
    inside = (x > 20) & (y > 20) & (x < width - 20) & (y < height - 20)
    order = [at for at in np.argsort(-flux) if inside[at]][5:45]
    sums = []
    for at in order:
        stamp = picture[y[at] - 12 : y[at] + 13, x[at] - 12 : x[at] + 13]
        ring = np.concatenate((stamp[:2].ravel(), stamp[-2:].ravel(), stamp[:, :2].ravel(), stamp[:, -2:].ravel()))
        sums.append(float((stamp - np.median(ring)).sum()) / flux[at])
    return float(np.median(sums))


def siril(folder: Path, frames: list[Path], options: str) -> np.ndarray:
    """Stack frames with real Siril; returns the picture."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        (folder / f"f_{number:05d}.fits").symlink_to(frame)
    script = f"requires 1.0.0\nlink s -out=process\ncd process\nstack s {options} -out=../stack\nclose\n"
    (folder / "run.ssf").write_text(script)
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = ["siril-cli", "-d", str(folder), "-s", str(folder / "run.ssf")]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return np.asarray(fits.getdata(folder / "stack.fit"), dtype=np.float64)


def stack(folder: Path) -> None:
    if shutil.which("siril-cli") is None:
        print("stack: Siril is not installed (apt install siril)")
        return
    night = exported(folder, planted(24, Camera(width_px=1392, height_px=1040)), stars=700)
    accepted = [at for at, row in enumerate(night.rows) if row["status"] == "ok"]
    ours = []
    for at in accepted:
        path = folder / "normalised" / night.paths[at].name
        path.parent.mkdir(exist_ok=True)
        fits.PrimaryHDU(night.normalised(at)).writeto(path)
        ours.append(path)
    kept = [night.paths[at] for at in accepted]
    cases = (
        (f"ours: {len(ours)} accepted, normalised, plain mean", ours, "rej 3 3 -nonorm"),
        ("Siril: all 24, its normalisation", night.paths, "rej 3 3 -norm=addscale"),
        ("Siril: all 24, its normalisation, its weights", night.paths, "rej 3 3 -norm=addscale -weighted"),
        (f"Siril: our {len(kept)} accepted, its normalisation", kept, "rej 3 3 -norm=addscale"),
    )
    for number, (name, frames, options) in enumerate(cases):
        snr, structure = judge_stack(night, siril(folder / f"siril{number}", frames, options))
        print(f"stack   {name}: SNR {snr:.1f}, background structure {structure:.2f} ADU rms")
    alone = night.frame(next(at for at, row in enumerate(night.rows) if row["reference"] == "1"))
    snr, structure = judge_stack(night, alone)
    print(f"stack   the reference alone: SNR {snr:.1f}, background structure {structure:.2f} ADU rms")


def weights(folder: Path) -> None:
    night = exported(folder, planted(24, Camera(width_px=900, height_px=600), seed=4), stars=400)
    frames = np.stack([night.normalised(at) for at in range(len(night.paths))])
    ours = np.array([float(row["weight"]) for row in night.rows])
    sigma = np.array([truth.noise_adu() * truth.scale_against(night.reference) for truth in night.truths])
    accepted = np.array([row["status"] == "ok" for row in night.rows])
    for name, weight in (
        ("optimum (truth), all frames", sigma**-2),
        ("our weights, all frames", ours),
        ("our weights, accepted frames", ours * accepted),
        ("equal weights, accepted frames", accepted.astype(float)),
        ("equal weights, all frames", np.ones(len(ours))),
    ):
        share = weight / weight.sum()
        predicted = 1.0 / np.sqrt(((share * sigma) ** 2).sum())
        snr, _ = judge_stack(night, np.tensordot(share, frames, 1).astype(np.float64))
        print(f"weights {name}: SNR {predicted * night.reference.noise_adu():.4f} x one reference (measured {snr:.1f})")


# --- a thousand frames -------------------------------------------------------------------------------------------


def thousand(folder: Path) -> None:
    """Twenty rendered frames, each copied fifty times with fresh noise on top."""
    truths = planted(20, Camera(width_px=900, height_px=600))
    _, paths = make(folder / "few", truths, stars=400)
    rng = np.random.default_rng(0)
    (folder / "registered").mkdir()
    for number in range(1000):
        pixels = np.asarray(fits.getdata(paths[number % 20]), dtype=np.float32)
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(3.0 / 65535.0)
        write(folder / "registered" / f"sub_{number:04d}_r.fits", pixels, truths[number % 20], number)
    shutil.rmtree(folder / "few")
    command = [sys.executable, "-m", "nsgd", "export", "pixinsight", "--registered", folder / "registered"]
    command += ["--out", folder / "out", "--store", folder / "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begin, before = time.perf_counter(), os.times()
    shared, whole = 0.0, 0.0
    while process.poll() is None:
        time.sleep(0.2)
        memory = [megabytes(pid) for pid in family(process.pid)]
        shared, whole = max(shared, sum(one[0] for one in memory)), max(whole, sum(one[1] for one in memory))
    wall, after = time.perf_counter() - begin, os.times()
    busy = after.children_user - before.children_user + after.children_system - before.children_system
    size = sum(path.stat().st_size for path in (folder / "out").rglob("*.xnml")) / 1e6
    print(
        f"thousand 900x600: exit {process.returncode}, {wall:.0f} s, {busy:.0f} s busy: {busy / wall:.2f} cores, "
        f"all processes together {shared:.0f} MB (pages that they share counted once; {whole:.0f} MB counted in each), "
        f".xnml {size:.0f} MB together"
    )


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [below for child in task.read_text().split() for below in family(int(child))]
    return found


def megabytes(pid: int) -> tuple[float, float]:
    """Memory of a process: its share of shared pages counted, and all of them."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return tuple(int(text.split(f"\n{key}:")[1].split()[0]) / 1024 for key in ("Pss", "Rss"))  # type: ignore[return-value]
    return 0.0, 0.0


def main() -> None:
    chosen = sys.argv[1:] or ["surface", "flux", "stack", "weights", "thousand"]
    for name in chosen:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            {"surface": surface, "flux": flux, "stack": stack, "weights": weights, "thousand": thousand}[name](
                Path(folder)
            )
        print(
            f"({name}: {time.perf_counter() - begin:.0f} s, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB)"
        )


if __name__ == "__main__":
    main()
