"""One file's whole way: frame -> facts -> relation -> what to commit.

Shared by the daemon, `nsgd measure` and the exports. The walker is the memory of an open store: of each
series its catalogue, its solution, its scalar columns and its reference's facts; everything else
stays in the store. Nothing here commits: whoever walks does, in one transaction, and tells `committed`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path

import numpy as np

from nsgd.errors import MeasureFailure, NotASub
from nsgd.frames.preview import make_preview, save_preview, trim_previews
from nsgd.frames.read import read_frame
from nsgd.measure import recipe, scale
from nsgd.measure.relate import Related, measured_channels, relate
from nsgd.records import (
    NAN,
    Catalogue,
    Failure,
    Frame,
    HeaderFacts,
    Relation,
    SeriesRow,
    SubFacts,
    SubRow,
    SubStatus,
    Transform,
    Verdict,
)
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.series import natural_key, series_key, session_of, stream_key
from nsgd.session.store import Reader, Store, SubCommit
from nsgd.settings import Settings

REFIT_AT = (3, 6, 12, 24, 48, 96, 192, 384)
"""Numbers of subs at which the live solution is fitted anew to all of them."""
MOST_SOLVED = 400
"""Subs that a joint fit uses at most, evenly spread; the rest are related to its solution."""
RICHER = 1.6
"""A sub with this many times the catalogue's stars founds a new generation."""
TRIM_EVERY = 16
"""Previews that are written between two looks at how much disk they take."""
SPARSE = 150
"""Only catalogues with fewer stars than this are looked at for growth."""
FUTURE_S = 86400.0
EARLIEST_UTC_S = 631152000.0
"""1990-01-01: an older header time is a clock that was never set."""


@dataclass(slots=True)
class SeriesMemory:
    """What a walker keeps of one series while the store is open."""

    row: SeriesRow
    catalogue: Catalogue | None = None
    solutions: list[scale.Solution] = field(default_factory=list)
    reference: Related | None = None
    columns: Columns = field(default_factory=Columns)
    hints: list[Transform] = field(default_factory=list)
    measured: int = 0
    rows: dict[int, SubRow] = field(default_factory=dict)


class Walker:
    """The memory of an open store, and the way of a file through the rooms.

    Parameters
    ----------
    store
        The open store; the walker reads it and does the bookkeeping of files that are no subs.
    zone
        Zone of the night boundary; None is the system's.
    """

    def __init__(self, store: Store, settings: Settings, zone: tzinfo | None) -> None:
        self.store = store
        self.settings = settings
        self.zone = zone
        self._series: dict[int, SeriesMemory] = {}
        self._previews = 0
        for row in store.series():
            self._series[row.series_id] = self._remember(row)

    def walk(self, path: Path, folder: Path, now_utc_s: float) -> SubCommit | None:
        """Read, measure and relate one file.

        Returns
        -------
        SubCommit or None
            None where there is nothing to commit: known content (its path is updated) or no sub (counted).

        Raises
        ------
        UnreadableFrame
            The file cannot be read now; the caller decides whether to come back.
        """
        began = time.perf_counter()
        try:
            frame = self._read(path)
        except NotASub as problem:
            self.store.count_ignored(str(path), problem.kind)
            return None
        known = self.store.known(frame.content_id)
        if known is not None:
            self.store.moved(known, str(path), str(folder))
            return None
        self._keep_preview(frame)
        return self._commit(frame, folder, now_utc_s, began)

    def _keep_preview(self, frame: Frame) -> None:
        """Write the sub's small picture beside the store; a disk that refuses costs the picture only."""
        most_mb = self.settings.store.previews_mb
        if most_mb == 0:
            return
        path = self.store.preview_path_of(frame.content_id)
        # Previews may be missing at any time; whether the disk can be written is the store's business to tell.
        with suppress(OSError):
            save_preview(path, make_preview(frame))
            self._previews += 1
            if self._previews % TRIM_EVERY == 0:
                references = [memory.rows.get(memory.row.reference_id) for memory in self._series.values()]
                spare = [self.store.preview_path_of(row.content_id) for row in references if row is not None]
                trim_previews(path.parent, most_mb, spare)

    def _read(self, path: Path) -> Frame:
        site = self.settings.site
        place = None
        if site.latitude_deg is not None and site.longitude_deg is not None:
            place = (site.latitude_deg, site.longitude_deg)
        budget = self.settings.watch.budget_mb
        return read_frame(path, budget_mb=budget, aliases=self.settings.filters, site=place)

    def _commit(self, frame: Frame, folder: Path, now_utc_s: float, began: float) -> SubCommit:
        memory = self._memory_for(frame)
        row = self._row(frame, folder, now_utc_s, memory.row.series_id)
        try:
            catalogue, facts = self._measure(frame, memory)
            relation = self._relate(memory, catalogue, facts, row)
        except MeasureFailure as problem:
            failure = Failure(problem.kind, problem.sentence, dict(problem.numbers))
            known = memory.row if memory.catalogue is not None else None
            failed = replace(row, failure=failure, series_id=0 if known is None else row.series_id)
            return SubCommit(replace(failed, measure_s=time.perf_counter() - began), None, None, known)
        grown = catalogue if catalogue is not memory.catalogue else None
        series = replace(
            memory.row,
            generation=catalogue.generation,
            solution=relation.solution,
            reference_id=memory.row.reference_id or row.sub_id,
        )
        row = replace(_with_facts(row, facts), relation=relation, measure_s=time.perf_counter() - began)
        return SubCommit(row, facts, grown, series)

    def _measure(self, frame: Frame, memory: SeriesMemory) -> tuple[Catalogue, SubFacts]:
        """Facts of a frame, with the catalogue they belong to (a new one where the series has none or outgrew it)."""
        catalogue = memory.catalogue or recipe.catalogue_from(frame, self.settings.measure)
        facts = recipe.measure_sub(frame, catalogue, self.settings.measure, memory.hints)
        if memory.catalogue is not None and _outgrown(catalogue, facts):
            catalogue = recipe.catalogue_from(frame, self.settings.measure, catalogue, facts.transform)
            facts = recipe.measure_sub(frame, catalogue, self.settings.measure, [facts.transform])
        return catalogue, facts

    def _relate(self, memory: SeriesMemory, catalogue: Catalogue, facts: SubFacts, row: SubRow) -> Relation:
        channels = measured_channels(facts, row.header.egain_e_per_adu)
        if not memory.solutions:
            solutions = [scale.first_solution(channel) for channel in channels]
        else:
            solutions = [solution.grown(len(facts.flux)) for solution in memory.solutions]
        zeros = [scale.zero_point(c, s, joint=not memory.solutions) for c, s in zip(channels, solutions, strict=True)]
        if not all(point.value > 0 for point in zeros):
            raise MeasureFailure("no_flux", "the matched stars hold no measurable light", stars=facts.stars_matched)
        reference = memory.reference or Related(row.sub_id, facts, *_values(zeros))
        smoothness = memory.row.smoothness
        return relate(facts, zeros, reference, catalogue, smoothness, memory.row.solution)

    def committed(self, commit: SubCommit, sub_id: int) -> None:
        """Take a committed sub into memory; fit the solution anew where it is time."""
        row = replace(commit.row, sub_id=sub_id)
        if commit.series is None or row.series_id == 0:
            return
        memory = self._series.setdefault(row.series_id, SeriesMemory(commit.series))
        memory.row = commit.series
        if sub_id in memory.columns:
            memory.columns.replace(row)
        else:
            memory.columns.append(row)
        memory.rows[sub_id] = row
        if commit.facts is None or row.relation is None:
            return
        memory.catalogue = commit.catalogue or memory.catalogue
        memory.hints = [commit.facts.transform, *memory.hints][:2]
        self._learn(memory, commit.facts, row)
        memory.measured += 1
        if memory.measured in REFIT_AT:
            self._refit(memory)

    def _learn(self, memory: SeriesMemory, facts: SubFacts, row: SubRow) -> None:
        channels = measured_channels(facts, row.header.egain_e_per_adu)
        if not memory.solutions:
            memory.solutions = [scale.first_solution(channel) for channel in channels]
            zeros = [scale.zero_point(c, s, joint=True) for c, s in zip(channels, memory.solutions, strict=True)]
            memory.reference = Related(row.sub_id, facts, *_values(zeros))
            return
        grown = [solution.grown(len(facts.flux)) for solution in memory.solutions]
        memory.solutions = [
            scale.learn(solution, channel, scale.zero_point(channel, solution))
            for solution, channel in zip(grown, channels, strict=True)
        ]

    def _refit(self, memory: SeriesMemory) -> None:
        """Fit the solution to all subs so far, choose the reference where nobody has, relate everything to both."""
        assert memory.catalogue is not None
        fit = fit_series(self.store, memory.row, memory.catalogue, list(memory.rows.values()))
        memory.solutions, memory.reference = fit.solutions, fit.reference
        memory.row = fit.row
        self._keep(memory, fit.relations)

    def _keep(self, memory: SeriesMemory, relations: Sequence[tuple[int, Relation]]) -> None:
        self.store.commit_relations(memory.row, relations)
        for sub_id, relation in relations:
            memory.rows[sub_id] = replace(memory.rows[sub_id], relation=relation)
            memory.columns.replace(memory.rows[sub_id])

    def settle(self) -> None:
        """Fit every series once more to all its subs: the figures of exports, whatever order they came in."""
        for memory in self._series.values():
            if memory.catalogue is not None and memory.measured > 0:
                self._refit(memory)

    def columns(self, series_id: int) -> Columns:
        """Scalar columns of a series; KeyError where it is not known."""
        return self._series[series_id].columns

    def series_row(self, series_id: int) -> SeriesRow:
        """The series as it stands; KeyError where it is not known."""
        return self._series[series_id].row

    def series_ids(self) -> list[int]:
        """All series of the store."""
        return sorted(self._series)

    def row(self, series_id: int, sub_id: int) -> SubRow:
        """A committed sub of a series; KeyError where it is not there."""
        return self._series[series_id].rows[sub_id]

    def verdicts(self, series_id: int) -> Verdicts:
        """Verdicts of a series, in the columns' order."""
        memory = self._series[series_id]
        return judge(memory.columns, memory.row, self.settings.limits)

    def verdict(self, commit: SubCommit) -> Verdict:
        """The verdict on a sub that is about to be committed: the alarm hears it in the same transaction."""
        row = commit.row
        if commit.series is None or row.series_id == 0:
            reasons = (row.failure.sentence,) if row.failure else ()
            return Verdict(row.sub_id, SubStatus.FAILED, reasons, NAN, NAN, NAN, NAN, NAN, 0, False)
        memory = self._series.get(row.series_id)
        columns = memory.columns if memory else Columns()
        if row.sub_id in columns:
            columns.replace(row)
        else:
            columns.append(row)
        return judge(columns, commit.series, self.settings.limits).of(row.sub_id)

    def set_decision(self, sub_id: int, decision: str) -> None:
        """A person accepts or rejects a sub, or takes that back with ""."""
        memory = self._memory_of(sub_id)
        memory.rows[sub_id] = replace(memory.rows[sub_id], decision=decision)
        memory.columns.replace(memory.rows[sub_id])
        self.store.decide(sub_id, decision)

    def set_reference(self, series_id: int, sub_id: int | None) -> str:
        """Relate a series to another reference, from stored facts; None chooses the best. Returns why it was taken."""
        memory = self._series[series_id]
        assert memory.catalogue is not None
        chosen = sub_id if sub_id is not None else best_reference(list(memory.rows.values()), self.verdicts(series_id))
        memory.row = replace(memory.row, reference_id=chosen, reference_chosen=sub_id is not None)
        self._relate_anew(memory)
        return reference_reason(memory.rows[chosen], self.verdicts(series_id))

    def set_smoothness(self, series_id: int, smoothness: float) -> None:
        """Fit the gradient surfaces of a series with another knob."""
        memory = self._series[series_id]
        memory.row = replace(memory.row, smoothness=smoothness)
        self._relate_anew(memory)

    def set_limits(self, series_id: int, limits: dict[str, float]) -> None:
        """Other cut-offs for one series; an empty dict goes back to the settings'."""
        memory = self._series[series_id]
        memory.row = replace(memory.row, limits=limits)
        self.store.commit_relations(memory.row, ())

    def _relate_anew(self, memory: SeriesMemory) -> None:
        assert memory.catalogue is not None
        row = memory.rows[memory.row.reference_id]
        facts = self.store.facts(row.sub_id)
        assert facts is not None
        assert row.relation is not None
        memory.reference = Related(row.sub_id, facts, row.relation.zero, row.relation.zero_err)
        relations = [
            (sub_id, _moved(memory.rows[sub_id].relation, sub_facts, memory.reference, memory))
            for sub_id, sub_facts in self.store.iter_facts(memory.row.series_id)
        ]
        self._keep(memory, relations)

    def _memory_of(self, sub_id: int) -> SeriesMemory:
        return next(memory for memory in self._series.values() if sub_id in memory.rows)

    def _memory_for(self, frame: Frame) -> SeriesMemory:
        """The series that a frame belongs to, or a new one that is not in the store yet."""
        key = series_key(frame.header)
        for memory in self._series.values():
            if memory.row.key == key:
                return memory
        header = frame.header
        row = SeriesRow(
            self.store.next_series_id(), key, header.object_name, header.filter_name, header.camera, header.binning,
            header.width_px, header.height_px, frame.channels, 0, False, self.settings.measure.smoothness, {}, 0, 0,
        )  # fmt: skip
        return SeriesMemory(row)

    def _row(self, frame: Frame, folder: Path, now_utc_s: float, series_id: int) -> SubRow:
        order, flag = ordering_time(frame.header, now_utc_s)
        return SubRow(
            sub_id=self.store.next_sub_id(), content_id=frame.content_id, series_id=series_id,
            stream=stream_key(frame.header), folder=str(folder), path=frame.path, gone=False, header=frame.header,
            session=session_of(order, self.zone), arrived_utc_s=now_utc_s, order_utc_s=order, order_flag=flag,
            failure=None, measure_s=0.0,
        )  # fmt: skip

    def _remember(self, row: SeriesRow) -> SeriesMemory:
        """A series of the store, brought back: columns from scalars, the solution from facts."""
        rows = self.store.subs(series_id=row.series_id)
        memory = SeriesMemory(row, self.store.catalogue(row.series_id))
        memory.columns = Columns.from_rows(rows)
        memory.rows = {sub.sub_id: sub for sub in rows}
        measured = [sub for sub in rows if sub.relation is not None]
        memory.measured = len(measured)
        if memory.catalogue is None or not measured:
            return memory
        picked = _spread(measured)
        facts = {sub.sub_id: found for sub in picked if (found := self.store.facts(sub.sub_id)) is not None}
        memory.solutions = [solution for solution, _ in _solve(picked, facts)]
        reference = memory.rows.get(row.reference_id) or measured[0]
        reference_facts = self.store.facts(reference.sub_id)
        if reference_facts is not None and reference.relation is not None:
            memory.reference = Related(
                reference.sub_id, reference_facts, reference.relation.zero, reference.relation.zero_err
            )
        memory.hints = [sub.transform for sub in measured[-2:][::-1]]
        return memory


def _with_facts(row: SubRow, facts: SubFacts) -> SubRow:
    return replace(
        row, generation=facts.generation, transform=facts.transform, stars_matched=facts.stars_matched,
        stars_expected=facts.stars_expected, stars_detected=facts.stars_detected, residual_px=facts.residual_px,
        noise_adu=facts.noise_adu, sky_adu=facts.sky_adu, fwhm_px=facts.fwhm_px, ellipticity=facts.ellipticity,
        background_rms_adu=facts.background_rms_adu,
    )  # fmt: skip


def _values(zeros: Sequence[scale.ZeroPoint]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(point.value for point in zeros), tuple(point.err for point in zeros)


def _outgrown(catalogue: Catalogue, facts: SubFacts) -> bool:
    """Whether a sub shows far more stars than a poor catalogue has, or a third of new ground."""
    richer = catalogue.stars_detected < SPARSE and facts.stars_detected > RICHER * catalogue.stars_detected + 5
    moved = float(np.mean(facts.node_fraction > 0)) < 0.6 if len(facts.node_fraction) else False
    return bool(richer or moved)


def ordering_time(header: HeaderFacts, arrived_utc_s: float) -> tuple[float, str]:
    """Time that orders a sub, and why it is not the header's ("" where it is).

    A header time from the future or from before 1990 is a clock that was wrong; the arrival stands in.
    """
    if header.mid_utc_s is None:
        return arrived_utc_s, "no time in the header"
    if header.mid_utc_s > arrived_utc_s + FUTURE_S:
        return arrived_utc_s, "the header's time lies in the future"
    if header.mid_utc_s < EARLIEST_UTC_S:
        return arrived_utc_s, "the header's time lies before 1990"
    return header.mid_utc_s, ""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesFit:
    """A series' solution fitted to all its subs, its reference, and every relation to both."""

    row: SeriesRow
    solutions: list[scale.Solution]
    reference: Related
    relations: list[tuple[int, Relation]]


def fit_series(reader: Reader, series: SeriesRow, catalogue: Catalogue, rows: Sequence[SubRow]) -> SeriesFit:
    """Fit a series anew from stored facts: the same facts give the same figures, whatever order they came in.

    The fit takes the subs in mid-exposure order (names where times are equal); a reference that nobody chose
    is the best sub by `best_reference`.
    """
    measured = sorted((row for row in rows if row.relation is not None), key=_order)
    picked = _spread(measured)
    facts = {row.sub_id: found for row in picked if (found := reader.facts(row.sub_id)) is not None}
    fitted = _solve(picked, facts)
    solutions = [solution for solution, _ in fitted]
    number = series.solution + 1
    points = {row.sub_id: [zeros[k] for _, zeros in fitted] for k, row in enumerate(picked)}

    def zeros_of(row: SubRow, sub_facts: SubFacts) -> list[scale.ZeroPoint]:
        if row.sub_id in points:
            return points[row.sub_id]
        channels = measured_channels(sub_facts, row.header.egain_e_per_adu)
        return [scale.zero_point(c, s, joint=True) for c, s in zip(channels, solutions, strict=True)]

    def facts_of(row: SubRow) -> SubFacts:
        found = facts.get(row.sub_id) or reader.facts(row.sub_id)
        assert found is not None
        return found

    reference_row = _reference_row(series, measured, {row.sub_id: points[row.sub_id] for row in picked})
    reference_facts = facts_of(reference_row)
    reference = Related(reference_row.sub_id, reference_facts, *_values(zeros_of(reference_row, reference_facts)))
    relations = []
    for row in measured:
        sub_facts = reference_facts if row is reference_row else facts_of(row)
        relation = relate(sub_facts, zeros_of(row, sub_facts), reference, catalogue, series.smoothness, number)
        relations.append((row.sub_id, relation))
    return SeriesFit(replace(series, reference_id=reference.sub_id, solution=number), solutions, reference, relations)


def _order(row: SubRow) -> tuple[object, ...]:
    return (row.order_utc_s, natural_key(Path(row.path).name))


def _spread(rows: Sequence[SubRow]) -> list[SubRow]:
    """At most `MOST_SOLVED` rows, evenly spread over the given ones."""
    if len(rows) <= MOST_SOLVED:
        return list(rows)
    return [rows[int(k)] for k in np.unique(np.linspace(0, len(rows) - 1, MOST_SOLVED).astype(int))]


def _solve(rows: Sequence[SubRow], facts: dict[int, SubFacts]) -> list[tuple[scale.Solution, list[scale.ZeroPoint]]]:
    """Joint fit of each channel to the given subs."""
    channels = [measured_channels(facts[row.sub_id], row.header.egain_e_per_adu) for row in rows]
    return [scale.solve([sub[k] for sub in channels]) for k in range(len(channels[0]))]


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


def _moved(relation: Relation | None, facts: SubFacts, reference: Related, memory: SeriesMemory) -> Relation:
    """A relation to another reference: arithmetic on zero points and nodes."""
    assert relation is not None
    assert memory.catalogue is not None
    nan = np.full(0, NAN)
    zeros = [
        scale.ZeroPoint(z, e, relation.stars_used, relation.star_scatter, relation.star_floor, nan, nan, nan)
        for z, e in zip(relation.zero, relation.zero_err, strict=True)
    ]
    moved = relate(facts, zeros, reference, memory.catalogue, memory.row.smoothness, relation.solution)
    return replace(moved, pattern=relation.pattern, pattern_rms=relation.pattern_rms, pattern_map=relation.pattern_map)


def best_reference(rows: Sequence[SubRow], verdicts: Verdicts) -> int:
    """The sub that makes the best reference: high weight, round small stars, a small gradient, a clear sky."""
    best, best_merit = 0, -1.0
    for row in sorted(rows, key=_order):
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
