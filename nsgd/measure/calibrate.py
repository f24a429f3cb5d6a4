"""Calibration on the fly: bias, dark and flat taken out of a sub's planes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nsgd.errors import MeasureFailure
from nsgd.records import Frame, HeaderFacts, Pixels

SAME_EXPOSURE = 0.02
SAME_TEMPERATURE_C = 2.5
LEAST_FLAT = 0.05
"""Flat pixels below this part of their mean (dead, masked) become missing pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Masters:
    """Master frames; None where the settings name none."""

    bias: Frame | None = None
    dark: Frame | None = None
    flat: Frame | None = None


def calibrated(frame: Frame, masters: Masters) -> Frame:
    """The frame with its master frames applied, plane by plane: (light - dark) / flat.

    A dark of another exposure is scaled where a bias is there to scale it about.

    Raises
    ------
    MeasureFailure
        `calibration`: a master of another size, pattern, binning, gain, exposure or temperature.
    """
    for name, master in (("bias", masters.bias), ("dark", masters.dark), ("flat", masters.flat)):
        if master is not None:
            _check(name, frame, master)
    planes = []
    for k, plane in enumerate(frame.planes):
        pixels = plane.pixels - _pedestal(k, frame, masters)
        if masters.flat is not None:
            pixels /= _flat(k, frame, masters)
        planes.append(replace(plane, light=pixels))
    pedestal = float(np.median(_pedestal(0, frame, masters))) if masters.dark or masters.bias else 0.0
    return replace(frame, planes=tuple(planes), saturation_adu=frame.saturation_adu - pedestal)


def _check(name: str, frame: Frame, master: Frame) -> None:
    def refuse(what: str, sub: object, other: object) -> None:
        sentence = f"the master {name} has {what} {other}, this sub {sub}; name a matching one under [calibration]"
        raise MeasureFailure("calibration", sentence)

    here, there = frame.header, master.header
    shapes, others = ([plane.pixels.shape for plane in one.planes] for one in (frame, master))
    if shapes != others or here.bayer_pattern != there.bayer_pattern:
        refuse("size or pattern", _size(here), _size(there))
    if here.binning != there.binning:
        refuse("binning", here.binning, there.binning)
    if name == "flat":
        return
    if here.gain is not None and there.gain is not None and here.gain != there.gain:
        refuse("gain", here.gain, there.gain)
    if name == "bias" or here.ccd_temp_c is None or there.ccd_temp_c is None:
        return
    if abs(here.ccd_temp_c - there.ccd_temp_c) > SAME_TEMPERATURE_C:
        refuse("temperature", f"{here.ccd_temp_c:.1f} C", f"{there.ccd_temp_c:.1f} C")


def _size(header: HeaderFacts) -> str:
    return f"{header.width_px}x{header.height_px} {header.bayer_pattern or 'mono'}"


def _scale(frame: Frame, master: Frame) -> float:
    """Brings a master stored as 0..1 to the sub's numbers."""
    return frame.full_scale_adu / master.full_scale_adu


def _pedestal(k: int, frame: Frame, masters: Masters) -> Pixels | np.float32:
    """Dark (scaled in exposure about the bias where needed), or bias, of one plane."""
    bias = None if masters.bias is None else masters.bias.planes[k].pixels * np.float32(_scale(frame, masters.bias))
    if masters.dark is None:
        return np.float32(0.0) if bias is None else bias
    dark = masters.dark.planes[k].pixels * np.float32(_scale(frame, masters.dark))
    sub_s, dark_s = frame.header.exposure_s, masters.dark.header.exposure_s
    if not sub_s or not dark_s or abs(sub_s / dark_s - 1.0) <= SAME_EXPOSURE:
        return dark
    if bias is None:
        sentence = f"the master dark has {dark_s:g} s, this sub {sub_s:g} s; name a matching dark, or a bias as well"
        raise MeasureFailure("calibration", sentence)
    return np.asarray(bias + (dark - bias) * np.float32(sub_s / dark_s), dtype=np.float32)


def _flat(k: int, frame: Frame, masters: Masters) -> Pixels:
    """Flat of one plane about 1; its own bias taken out where it holds one."""
    assert masters.flat is not None
    flat = masters.flat.planes[k].pixels.astype(np.float32)
    if masters.bias is not None and not masters.flat.header.calibrated:
        bias = masters.bias.planes[k].pixels * np.float32(masters.flat.full_scale_adu / masters.bias.full_scale_adu)
        if float(np.median(flat)) > 2.0 * float(np.median(bias)):
            flat = flat - bias
    middle = np.float32(np.mean(flat))
    flat = flat / middle
    return np.where(flat > LEAST_FLAT, flat, np.float32(np.nan))
