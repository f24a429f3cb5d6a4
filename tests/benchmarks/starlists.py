"""Nights as star lists: what the measurement would say of each sub, with known truth and no pixels.

`Script` says what the sky, the telescope and the surroundings do; `rows` turns it into `SubRow`s with the noise of the
star field; `live` sends them through judge and alarm one by one, as the daemon does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Alert, Failure, HeaderFacts, Relation, SeriesRow, SkyState, SubRow, Transform
from nsgd.session.alerts import AlarmState, step
from nsgd.session.judge import Columns, judge
from nsgd.session.sky import observe
from nsgd.settings import Alarm, Limits

Array = NDArray[np.float64]

DUSK_UTC_S = 1_795_284_000.0
"""2026-11-21 18:00 UTC."""
DAY_S = 86_400.0
EXTINCTION = {"L": 0.20, "R": 0.11, "G": 0.16, "B": 0.25, "Ha": 0.08, "none": 0.18}


@dataclass(frozen=True)
class Truth:
    """One sub's truth."""

    light: float = 1.0
    """Transmission, extinction not included."""
    uneven: float = 0.0
    """Rms over the field of the local loss, relative."""
    sky: float = 1.0
    """Sky level relative to a clear moonless one."""
    fwhm_px: float = 3.0
    ellipticity: float = 0.06
    pattern: str = "uniform"
    pattern_rms: float = 0.004
    background: float = 1.0
    """Large-scale structure of the sky relative to normal."""
    failure: str = ""
    rotation_deg: float = 0.0


Change = Callable[[Truth, float, np.random.Generator], Truth]
"""(truth, seconds since the first sub, rng) -> truth."""


@dataclass(frozen=True)
class Script:
    """A night to play."""

    subs: int = 150
    cadence_s: float = 180.0
    overhead_s: float = 8.0
    stars: int = 120
    filters: tuple[str, ...] = ("L",)
    change: Change = lambda truth, seconds, rng: truth
    airmass: tuple[float, float] = (1.0, 1.0)
    """At the begin and the end; equal = no airmass in the header."""
    extra: float = 0.003
    """Scatter of a clear sub beyond its stated error, relative."""
    tails: float = 0.0
    """Degrees of freedom of Student's t for the noise; 0 = Gaussian."""
    pauses: tuple[tuple[float, float], ...] = ()
    """(begin, length) of pauses, seconds."""
    site: bool = False
    name: str = "Sim"
    k_error: float = 0.03
    """Scatter of a site's extinction about the prior's mean; nights differ by 0.6 of it."""


def star_error(stars: float) -> float:
    """Error of a robust mean of so many stars of 5 per cent each."""
    return 1.253 * 0.05 / np.sqrt(max(stars, 1.0))


def rows(script: Script, seed: int, night: int = 0) -> list[SubRow]:
    """The subs of a night as the store would hold them."""
    rng = np.random.default_rng([seed, night])
    site, tonight = np.random.default_rng([seed, 99]), 0.6 * script.k_error * rng.normal()
    k = {name: EXTINCTION.get(name, 0.18) + script.k_error * site.normal() + tonight for name in script.filters}
    found, clock = [], 0.0
    pauses = list(script.pauses)
    for index in range(script.subs):
        while pauses and clock >= pauses[0][0]:
            clock += pauses.pop(0)[1]
        filter_name = script.filters[index % len(script.filters)]
        part = index / max(1, script.subs - 1)
        truth = script.change(Truth(fwhm_px=3.0 + 0.08 * rng.normal()), clock, rng)
        airmass = script.airmass[0] + (script.airmass[1] - script.airmass[0]) * part**1.5
        found.append(_row(script, rng, truth, (index, night, clock, filter_name, airmass, k[filter_name])))
        clock += script.cadence_s
    return found


def _row(
    script: Script, rng: np.random.Generator, truth: Truth, place: tuple[int, int, float, str, float, float]
) -> SubRow:
    index, night, clock, filter_name, airmass, k = place
    dims = script.airmass[0] != script.airmass[1]
    exposure_s = script.cadence_s - script.overhead_s
    start = DUSK_UTC_S + night * DAY_S + clock
    mid = start + 0.5 * exposure_s
    light = truth.light * 10.0 ** (-0.4 * k * (airmass if dims else 0.0))
    header = HeaderFacts(
        object_name=script.name, filter_name=filter_name, exposure_s=exposure_s, start_utc_s=start, mid_utc_s=mid,
        airmass=airmass if dims else None,
        site_lat_deg=50.0 if script.site else None, site_long_deg=10.0 if script.site else None,
    )  # fmt: skip
    row = SubRow(
        sub_id=1 + index + 10_000 * night, content_id=f"{night}-{index}",
        series_id=1 + script.filters.index(filter_name), stream=f"{exposure_s:g}s", folder="f",
        path=f"f/{night}-{index}.fits", gone=False, header=header,
        session=f"night{night}", arrived_utc_s=mid, order_utc_s=mid, order_flag="", failure=None, measure_s=0.1,
    )  # fmt: skip
    # The same stars are there every time: few come and go, those near the detection limit.
    share = min(0.97 * max(truth.light, 0.0) ** 0.6, 1.0)
    detected = int(rng.binomial(round(1.5 * script.stars), share))
    if truth.failure or detected < 6:
        kind = truth.failure or "no_stars"
        count = (
            detected
            if truth.failure in ("", "no_stars")
            else 0
            if truth.failure == "blank"
            else int(1.5 * script.stars)
        )
        return replace(row, failure=Failure(kind, kind, {"stars_detected": count}))
    used = max(6.0, script.stars * max(truth.light, 0.05) ** 0.3)
    err = float(np.hypot(star_error(used) / max(truth.light, 0.05) ** 0.3, truth.uneven / np.sqrt(used)))
    real = float(np.hypot(err, script.extra))
    noise = rng.standard_t(script.tails) if script.tails else rng.normal()
    zero = light * exposure_s * max(1.0 + real * noise, 0.05)
    scatter = float(np.hypot(0.05, truth.uneven)) * (1.0 + 0.7 * rng.normal() / np.sqrt(used))
    floor = float(np.hypot(0.02, truth.uneven)) * (1.0 + 0.1 * rng.normal())
    sky = 300.0 + 700.0 * truth.sky * (1.0 + 0.003 * rng.normal())
    relation = Relation(
        1, 1, (zero,), (err * zero,), (1.0 / zero,), (err / zero,), (max(light, 1e-3) ** 2,), int(used), scatter, floor,
        truth.pattern, truth.pattern_rms * (1.0 + 0.2 * rng.normal()), (), 0.0, 0.0, 0.0, (0.0, 0.0),
    )  # fmt: skip
    return replace(
        row, stars_matched=int(used), stars_expected=script.stars, stars_detected=detected, noise_adu=(20.0,),
        sky_adu=(sky,), fwhm_px=truth.fwhm_px * (1 + 0.01 * rng.normal()),
        ellipticity=abs(truth.ellipticity + 0.015 * rng.normal()),
        background_rms_adu=0.02 * sky * truth.background * (1 + 0.1 * rng.normal()), relation=relation,
        transform=_turned(truth.rotation_deg),
    )  # fmt: skip


def _turned(angle_deg: float) -> Transform:
    cosine, sine = float(np.cos(np.radians(angle_deg))), float(np.sin(np.radians(angle_deg)))
    return Transform(a=cosine, b=-sine, c=sine, d=cosine)


@dataclass
class Played:
    """A night after it went through the alarm."""

    rows: list[SubRow]
    states: list[SkyState] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    transmission: list[float] = field(default_factory=list)
    alerts: list[tuple[int, Alert]] = field(default_factory=list)
    """(index of the last sub seen, alert)"""
    state: AlarmState = field(default_factory=AlarmState)

    def rung(self, *kinds: str) -> list[tuple[int, Alert]]:
        """Messages that ring: the first ones of events, or those of some kinds."""
        return [(i, a) for i, a in self.alerts if (a.kind in kinds if kinds else not a.resolves and a.kind != "dawn")]


class Telescope:
    """Series with their columns and an alarm, fed sub by sub as the daemon feeds them."""

    def __init__(self, alarm: Alarm | None = None) -> None:
        self.alarm = alarm or Alarm()
        self.columns: dict[int, Columns] = {}
        self.state = AlarmState()

    def prepare(self, earlier: list[SubRow]) -> None:
        """Earlier nights: known to judge, not shown to the alarm."""
        for row in earlier:
            self.columns.setdefault(row.series_id, Columns()).append(row)

    def play(self, night: list[SubRow], after_s: float = 0.0) -> Played:
        """One night, then `after_s` seconds without subs."""
        played, last = Played(night), None
        for index, row in enumerate(night):
            ends = row.order_utc_s + 0.5 * (row.header.exposure_s or 0.0) + 3.0
            if last is not None:
                self._tick(played, index - 1, last, ends)
            self._sub(played, index, row, ends)
            last = ends
        if last is not None:
            self._tick(played, len(night) - 1, last, last + after_s)
        played.state = self.state
        return played

    def _sub(self, played: Played, index: int, row: SubRow, now_utc_s: float) -> None:
        columns = self.columns.setdefault(row.series_id, Columns())
        columns.append(row)
        series = SeriesRow(
            row.series_id, "k", "o", row.header.filter_name, "c", 1, 9, 9, ("L",), 1, False, -2.0, {}, 1, 1
        )
        verdict = judge(columns, series, Limits()).of(row.sub_id)
        seen = observe(row, verdict)
        self.state, alerts = step(self.state, seen, now_utc_s, self.alarm)
        played.states.append(self.state.sky)
        played.causes.append(self.state.seen.cause)
        played.transmission.append(verdict.transmission_clear)
        played.alerts += [(index, alert) for alert in alerts]

    def _tick(self, played: Played, index: int, begin_utc_s: float, end_utc_s: float) -> None:
        moment = begin_utc_s + 60.0
        while moment < end_utc_s:
            self.state, alerts = step(self.state, None, moment, self.alarm)
            played.alerts += [(index, alert) for alert in alerts]
            moment += 60.0


def played(script: Script, seed: int, known: bool = True, alarm: Alarm | None = None) -> Played:
    """One night of a script; with `known`, a clear earlier night has taught the clear level."""
    telescope = Telescope(alarm)
    if known:
        plain = replace(script, subs=max(24, 12 * len(script.filters)), change=lambda t, s, r: t, pauses=(), tails=0.0)
        telescope.prepare(
            rows(replace(plain, airmass=(1.0, 1.3) if script.airmass[0] != script.airmass[1] else (1.0, 1.0)), seed)
        )
    return telescope.play(rows(script, seed, 1))
