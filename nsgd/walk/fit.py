"""A whole series related anew from stored facts: solution, reference, every relation. Needs no pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsgd.measure import scale, throughput, wings
from nsgd.measure.relate import Related, detector_places, measured_channels, relate
from nsgd.records import Catalogue, Floats, Relation, SeriesRow, SubFacts, SubRow
from nsgd.session.judge import Verdicts
from nsgd.session.series import natural_key
from nsgd.session.store import Reader

MOST_SOLVED = 400
"""Subs that a joint fit uses at most, evenly spread; the rest are related to its solution."""
TOGETHER = 128
"""Subs whose facts are read and related at once."""
PATTERN_SUBS = 60
"""Subs that teach the throughput pattern at most."""


def values_of(zeros: Sequence[scale.ZeroPoint]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Zero points and their errors, per channel."""
    return tuple(point.value for point in zeros), tuple(point.err for point in zeros)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """One channel fitted jointly: solution, zero points of the subs fitted, throughput pattern, steadiness of wings."""

    solution: scale.Solution
    zeros: list[scale.ZeroPoint]
    pattern: Floats
    steady: wings.Steadiness | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SeriesFit:
    """A series fitted to all its subs: channels, reference, and every relation to both."""

    row: SeriesRow
    channels: list[Joint]
    reference: Related
    relations: list[tuple[int, Relation]]


def fit_series(reader: Reader, series: SeriesRow, catalogue: Catalogue, rows: Sequence[SubRow]) -> SeriesFit:
    """Fit a series anew from stored facts: the same facts give the same figures, whatever order they came in.

    The fit takes the subs in mid-exposure order (names where times are equal); a reference that nobody chose
    is the best sub of `_reference_row`.
    """
    measured = sorted((row for row in rows if row.relation is not None), key=in_night)
    picked = evenly(measured)
    facts = {row.sub_id: found for row in picked if (found := reader.facts(row.sub_id)) is not None}
    channels = solve(picked, facts, catalogue)
    number = series.solution + 1
    points = {row.sub_id: [channel.zeros[k] for channel in channels] for k, row in enumerate(picked)}

    def found_in(some: Sequence[SubRow]) -> tuple[list[SubFacts], list[list[scale.ZeroPoint]]]:
        """Facts and zero points of some subs, also of those that the solution was not made from."""
        sub_facts = [facts.get(row.sub_id) or _facts_of(reader, row) for row in some]
        rest = [(one, row) for one, row in zip(sub_facts, some, strict=True) if row.sub_id not in points]
        gains = [row.header.egain_e_per_adu for _, row in rest]
        others = iter(zero_points([one for one, _ in rest], gains, catalogue, channels, joint=True))
        return sub_facts, [points.get(row.sub_id) or next(others) for row in some]

    reference_row = _reference_row(series, measured, points)
    (reference_facts,), (reference_zeros,) = found_in([reference_row])
    reference = Related(reference_row.sub_id, reference_facts, *values_of(reference_zeros))
    relations = []
    for begin in range(0, len(measured), TOGETHER):
        some = measured[begin : begin + TOGETHER]
        for row, sub_facts, zeros in zip(some, *found_in(some), strict=True):
            sub_facts = reference_facts if row is reference_row else sub_facts
            relation = relate(sub_facts, zeros, reference, catalogue, series.smoothness, number)
            relations.append((row.sub_id, relation))
    return SeriesFit(replace(series, reference_id=reference.sub_id, solution=number), channels, reference, relations)


def _facts_of(reader: Reader, row: SubRow) -> SubFacts:
    found = reader.facts(row.sub_id)
    assert found is not None
    return found


def zero_points(
    subs: Sequence[SubFacts], egain_e_per_adu: Sequence[float | None], catalogue: Catalogue, channels: Sequence[Joint],
    *, joint: bool,
) -> list[list[scale.ZeroPoint]]:  # fmt: skip
    """Zero points of subs, each in each channel, their throughput pattern taken out."""
    n = max([len(facts.flux) for facts in subs] + [channel.solution.total.size for channel in channels])
    flat = [flat_channels(facts, gain, catalogue, channels) for facts, gain in zip(subs, egain_e_per_adu, strict=True)]
    found = [
        scale.zero_points([scale.padded(sub[k], n) for sub in flat], channel.solution.grown(n), joint=joint)
        for k, channel in enumerate(channels)
    ]
    return [list(points) for points in zip(*found, strict=True)]


def flat_channels(
    facts: SubFacts, egain_e_per_adu: float | None, catalogue: Catalogue, channels: Sequence[Joint]
) -> list[scale.Measured]:
    """Each channel's star fluxes at the wings that are likely in this series, the throughput pattern taken out."""
    u, v = detector_places(facts, catalogue)
    return [
        throughput.without_pattern(wings.steadied(measured, told, channel.steady), channel.pattern, u, v)
        for measured, told, channel in zip(
            measured_channels(facts, egain_e_per_adu), told_wings(facts), channels, strict=True
        )
    ]


def told_wings(facts: SubFacts) -> list[Floats]:
    """What each channel of a sub tells of its wings."""
    return list(facts.wings) if len(facts.wings) else [np.empty(0)] * len(facts.flux_common_err)


def in_night(row: SubRow) -> tuple[object, ...]:
    return (row.order_utc_s, natural_key(Path(row.path).name))


def evenly(rows: Sequence[SubRow]) -> list[SubRow]:
    """At most `MOST_SOLVED` rows, evenly spread over the given ones."""
    if len(rows) <= MOST_SOLVED:
        return list(rows)
    return [rows[int(k)] for k in np.unique(np.linspace(0, len(rows) - 1, MOST_SOLVED).astype(int))]


def solve(rows: Sequence[SubRow], facts: dict[int, SubFacts], catalogue: Catalogue) -> list[Joint]:
    """Joint fit of each channel to the given subs; stars that move over the detector show its throughput as well."""
    channels = [measured_channels(facts[row.sub_id], row.header.egain_e_per_adu) for row in rows]
    places = [detector_places(facts[row.sub_id], catalogue) for row in rows]
    told = [told_wings(facts[row.sub_id]) for row in rows]
    return [
        solve_channel([sub[k] for sub in channels], [sub[k] for sub in told], places) for k in range(len(channels[0]))
    ]


def solve_channel(subs: list[scale.Measured], told: list[Floats], places: list[tuple[Floats, Floats]]) -> Joint:
    """One channel of `solve`: what each sub tells of its wings; its stars' places in the detector from -1 to 1."""
    steady = wings.learn(told)
    subs = [wings.steadied(sub, one, steady) for sub, one in zip(subs, told, strict=True)]
    solution, zeros = scale.solve(subs)
    few = [int(k) for k in np.unique(np.linspace(0, len(subs) - 1, PATTERN_SUBS).astype(int))]
    pattern = throughput.learn_pattern(
        [zeros[k] for k in few], [places[k][0] for k in few], [places[k][1] for k in few]
    )
    if pattern.size:
        flat = [throughput.without_pattern(sub, pattern, u, v) for sub, (u, v) in zip(subs, places, strict=True)]
        solution, zeros = scale.solve(flat)
    return Joint(solution, zeros, pattern, steady)


def _reference_row(series: SeriesRow, rows: Sequence[SubRow], points: dict[int, list[scale.ZeroPoint]]) -> SubRow:
    """The reference that a person chose, else the sub with the best signal to noise per exposure and good stars."""
    if series.reference_chosen:
        for row in rows:
            if row.sub_id == series.reference_id:
                return row

    def merit(row: SubRow) -> float:
        if row.sub_id not in points:
            return -1.0
        snr = [p.value / n for p, n in zip(points[row.sub_id], row.noise_adu, strict=True)]
        roundness = 1.0 - min(row.ellipticity if np.isfinite(row.ellipticity) else 1.0, 0.99)
        return float(np.mean(snr)) ** 2 * roundness / max(row.fwhm_px, 0.1)

    return max(rows, key=lambda row: (merit(row), -row.order_utc_s))


def best_reference(rows: Sequence[SubRow], verdicts: Verdicts) -> int:
    """The sub that makes the best reference: high weight, round small stars, a small gradient, a clear sky."""
    best, best_merit = 0, -1.0
    for row in sorted(rows, key=in_night):
        if row.relation is None or row.decision == "reject":
            continue
        merit = _reference_merit(row, verdicts)
        if merit > best_merit:
            best, best_merit = row.sub_id, merit
    return best


def _reference_merit(row: SubRow, verdicts: Verdicts) -> float:
    verdict = verdicts.of(row.sub_id)
    roundness = 1.0 - min(row.ellipticity if np.isfinite(row.ellipticity) else 1.0, 0.99)
    gradient = row.background_rms_adu / max(row.noise_adu[0], 1e-9) if row.noise_adu else 0.0
    value = verdict.weight_of_best * roundness / max(row.fwhm_px, 0.1) / (1.0 + 0.05 * gradient)
    return value * min(verdict.transmission_clear, 1.0) ** 2 if np.isfinite(value) else -1.0


def reference_reason(row: SubRow, verdicts: Verdicts) -> str:
    """One sentence on what speaks for a reference."""
    verdict = verdicts.of(row.sub_id)
    height = "" if row.header.airmass is None else f", airmass {row.header.airmass:.2f}"
    return (
        f"weight {verdict.weight_of_best:.2f} of the best, transmission {verdict.transmission_clear:.2f}, "
        f"FWHM {row.fwhm_px:.1f} px, ellipticity {row.ellipticity:.2f}{height}"
    )


def final_series(reader: Reader) -> Iterator[tuple[SeriesRow, list[SubRow]]]:
    """Every series with its subs as an export shows them: fitted anew to all facts, without writing anything."""
    for series in reader.series():
        rows = reader.subs(series_id=series.series_id)
        catalogue = reader.catalogue(series.series_id)
        if catalogue is None or not any(row.relation is not None for row in rows):
            yield series, rows
            continue
        fit = fit_series(reader, replace(series, solution=0), catalogue, rows)
        relations = dict(fit.relations)
        yield fit.row, [replace(row, relation=relations.get(row.sub_id, row.relation)) for row in rows]
