"""The memory of an open store, and the way of a file through the rooms.

Of each series the walker keeps the catalogue, the live solution, the scalar columns and the reference's
facts; everything else stays in the store. It commits no sub: whoever walks does, in one transaction,
and tells `committed`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path

import numpy as np

from nsgd.errors import BadRequest, MeasureFailure, UnreadableFrame
from nsgd.frames.preview import trim_previews
from nsgd.measure import scale
from nsgd.measure.recipe import RECIPE
from nsgd.measure.relate import Related, measured_channels, moved, relate
from nsgd.records import (
    NAN,
    Catalogue,
    HeaderFacts,
    Relation,
    SeriesRow,
    SubFacts,
    SubRow,
    SubStatus,
    Verdict,
)
from nsgd.session.judge import Columns, Verdicts, judge
from nsgd.session.series import series_key, session_of, stream_key
from nsgd.session.store import Store, SubCommit
from nsgd.settings import Settings
from nsgd.threads import allow
from nsgd.walk import fit
from nsgd.walk.pixels import STRANGER, Candidate, Orders, Outcome, failure_of, measure_file, offered

REFIT_AT = (3, 6, 12, 24, 48, 96, 192, 384)
"""Numbers of subs at which the live solution is fitted anew to all of them."""
TRIM_EVERY = 16
"""Previews that are written between two looks at how much disk they take."""
FUTURE_S = 86400.0
EARLIEST_UTC_S = 631152000.0
"""1990-01-01: an older header time is a clock that was never set."""


@dataclass(slots=True)
class SeriesMemory:
    """What a walker keeps of one series while the store is open."""

    row: SeriesRow
    catalogue: Catalogue | None = None
    channels: list[fit.Joint] = field(default_factory=list)
    reference: Related | None = None
    columns: Columns = field(default_factory=Columns)
    measured: int = 0
    founder: HeaderFacts = field(default_factory=HeaderFacts)
    """Header of the sub that the series began with; it says where the telescope pointed."""
    last_utc_s: float = 0.0
    asked: tuple[SubFacts, list[fit.Joint], list[scale.ZeroPoint]] | None = None
    """The last sub that was related, the solution it was asked about, and its zero points."""


@dataclass(frozen=True, slots=True, eq=False)
class Stranger:
    """A sub that showed stars and matched nothing: a second one like it founds a series."""

    path: Path
    folder: Path
    catalogue: Catalogue
    header: HeaderFacts


class Walker:
    """The memory of an open store, and the way of a file through the rooms.

    Parameters
    ----------
    store
        The open store; the walker reads it and does the bookkeeping of files that are no subs.
    zone
        Zone of the night boundary; None is the system's.
    refit_at
        Numbers of subs of a series at which its live solution is fitted anew to all of them.
    """

    def __init__(
        self, store: Store, settings: Settings, zone: tzinfo | None, *, refit_at: Collection[int] = REFIT_AT
    ) -> None:
        self.store = store
        self.settings = settings
        self.zone = zone
        self._series: dict[int, SeriesMemory] = {}
        self._strangers: dict[str, Stranger] = {}
        self._again: dict[str, Path] = {}
        self._previews = 0
        self._refit_at = refit_at
        allow(settings.measure.workers)
        for row in store.series():
            self._series[row.series_id] = self._remember(row)

    # ---- a file's way ----------------------------------------------------------------------------

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
        return self.take(self.measure(path), folder, now_utc_s)

    def measure(self, path: Path) -> Outcome:
        """The pixel work on one file, in this process."""
        return measure_file(path, self.orders(), self.candidates, lambda content_id: self._is_done(content_id, path))

    def orders(self) -> Orders:
        """What another process needs to know to measure files for this store."""
        folder = self.store.preview_path_of("x").parent if self.settings.store.previews_mb > 0 else ""
        return Orders(self.settings, str(folder))

    def offers(self) -> dict[str, tuple[Candidate, ...]]:
        """The candidates of every series key so far, for another process."""
        keys = {series_key(memory.founder) for memory in self._series.values() if memory.catalogue}
        return {key: self.candidates(key) for key in sorted(keys | set(self._strangers))}

    def candidates(self, key: str) -> tuple[Candidate, ...]:
        """Series that a sub of this key may belong to, the last used first; a stranger's field at the end.

        Facts of different recipes are never mixed: a series of an older one stays as it is.
        """
        found = [
            memory
            for memory in self._series.values()
            if memory.catalogue is not None and memory.catalogue.recipe == RECIPE and series_key(memory.founder) == key
        ]
        found.sort(key=lambda memory: (-memory.last_utc_s, memory.row.series_id))
        known = [
            Candidate(m.row.series_id, m.catalogue, m.founder.ra_deg, m.founder.dec_deg) for m in found if m.catalogue
        ]
        stranger = self._strangers.get(key)
        if stranger is not None:
            known.append(Candidate(STRANGER, stranger.catalogue, stranger.header.ra_deg, stranger.header.dec_deg))
        return tuple(known)

    def is_stale(self, outcome: Outcome) -> bool:
        """Whether an outcome was measured against catalogues that have changed since: measure it again."""
        if outcome.facts is None and outcome.failure is None:
            return False
        return sorted(offered(self.candidates(series_key(outcome.header)))) != sorted(outcome.offered)

    def take(self, outcome: Outcome, folder: Path, now_utc_s: float) -> SubCommit | None:
        """What to commit for a measured file; raises and returns as `walk`."""
        if outcome.unreadable:
            raise UnreadableFrame(outcome.unreadable, may_retry=outcome.may_retry)
        if outcome.ignored:
            self.store.count_ignored(outcome.path, outcome.ignored)
            return None
        known = self.store.known(outcome.content_id)
        if known is not None and outcome.path not in self._again:
            self.store.moved(known, outcome.path, str(folder))
            return None
        self._again.pop(outcome.path, None)
        self._trim_previews()
        return self._commit(outcome, folder, now_utc_s, known)

    def wants(self, path: Path) -> bool:
        """Whether a file is to be walked although it is known."""
        return str(path) in self._again

    def again(self) -> list[tuple[Path, Path]]:
        """Files (and their folders) to walk once more: their field has become a series since they failed."""
        return [(Path(path), folder) for path, folder in self._again.items()]

    def _is_done(self, content_id: str, path: Path) -> bool:
        return str(path) not in self._again and self.store.known(content_id) is not None

    def _trim_previews(self) -> None:
        self._previews += 1
        if self._previews % TRIM_EVERY == 0 and self.settings.store.previews_mb > 0:
            references = [memory.row.reference_id for memory in self._series.values()]
            spare = [self.store.preview_path(sub_id) for sub_id in references if sub_id]
            trim_previews(self.store.preview_path_of("x").parent, self.settings.store.previews_mb, spare)

    def _commit(self, outcome: Outcome, folder: Path, now_utc_s: float, known: int | None) -> SubCommit:
        memory = self._memory_for(outcome)
        row = self._row(outcome, folder, now_utc_s, memory.row.series_id)
        row = row if known is None else replace(row, sub_id=known)
        if outcome.failure is not None or outcome.facts is None:
            return self._failed(outcome, row, memory, folder)
        catalogue = outcome.catalogue or memory.catalogue
        assert catalogue is not None
        try:
            relation = self._relate(memory, catalogue, outcome.facts, row)
        except MeasureFailure as problem:
            return self._failed(replace(outcome, failure=failure_of(problem)), row, memory, folder)
        self._found(outcome)
        series = replace(
            memory.row,
            generation=catalogue.generation,
            solution=relation.solution,
            reference_id=memory.row.reference_id or row.sub_id,
        )
        grown = outcome.catalogue if outcome.catalogue is not memory.catalogue else None
        return SubCommit(replace(_with_facts(row, outcome.facts), relation=relation), outcome.facts, grown, series)

    def _failed(self, outcome: Outcome, row: SubRow, memory: SeriesMemory, folder: Path) -> SubCommit:
        """A failure as a row of its own; a stranger's field is remembered."""
        if outcome.stranger is not None:
            key = series_key(outcome.header)
            self._strangers[key] = Stranger(Path(outcome.path), folder, outcome.stranger, outcome.header)
        series = memory.row if memory.catalogue is not None else None
        failed = replace(row, failure=outcome.failure, series_id=0 if series is None else row.series_id)
        return SubCommit(failed, None, None, series)

    def _found(self, outcome: Outcome) -> None:
        """A stranger's field has become a series: the sub that showed it first is walked again."""
        if outcome.series_id == STRANGER:
            stranger = self._strangers.pop(series_key(outcome.header))
            self._again[str(stranger.path)] = stranger.folder

    def _relate(self, memory: SeriesMemory, catalogue: Catalogue, facts: SubFacts, row: SubRow) -> Relation:
        egain = row.header.egain_e_per_adu
        channels = memory.channels or _first_channels(facts, egain)
        (zeros,) = fit.zero_points([facts], [egain], catalogue, channels, joint=not memory.channels)
        if not all(point.value > 0 and point.err > 0 for point in zeros):
            raise MeasureFailure("no_flux", "the matched stars hold no measurable light", stars=facts.stars_matched)
        memory.asked = (facts, channels, zeros)
        reference = memory.reference or Related(row.sub_id, facts, *fit.values_of(zeros))
        return relate(facts, zeros, reference, catalogue, memory.row.smoothness, memory.row.solution)

    # ---- memory ----------------------------------------------------------------------------------

    def committed(self, commit: SubCommit, sub_id: int) -> None:
        """Take a committed sub into memory; fit the solution anew where it is time."""
        row = replace(commit.row, sub_id=sub_id)
        if commit.series is None or row.series_id == 0:
            return
        memory = self._series.setdefault(row.series_id, SeriesMemory(commit.series, founder=row.header))
        memory.row = commit.series
        if sub_id in memory.columns:
            memory.columns.replace(row)
        else:
            memory.columns.append(row)
        if commit.facts is None or row.relation is None:
            return
        memory.catalogue = commit.catalogue or memory.catalogue
        memory.last_utc_s = row.arrived_utc_s
        self._learn(memory, commit.facts, row)
        memory.measured += 1
        if memory.measured in self._refit_at:
            self._refit(memory)

    def _learn(self, memory: SeriesMemory, facts: SubFacts, row: SubRow) -> None:
        assert memory.catalogue is not None
        egain = row.header.egain_e_per_adu
        if not memory.channels:
            memory.channels = _first_channels(facts, egain)
            (zeros,) = fit.zero_points([facts], [egain], memory.catalogue, memory.channels, joint=True)
            memory.reference = Related(row.sub_id, facts, *fit.values_of(zeros))
            return
        flat = fit.flat_channels(facts, egain, memory.catalogue, memory.channels)
        asked, memory.asked = memory.asked, None
        if asked is not None and asked[0] is facts and asked[1] is memory.channels:
            zeros = asked[2]
        else:
            (zeros,) = fit.zero_points([facts], [egain], memory.catalogue, memory.channels, joint=False)
        memory.channels = [
            replace(channel, solution=scale.learn(channel.solution.grown(len(facts.flux)), sub, zero))
            for channel, sub, zero in zip(memory.channels, flat, zeros, strict=True)
        ]

    def _refit(self, memory: SeriesMemory) -> None:
        """Fit the solution to all subs so far, choose the reference where nobody has, relate everything to both."""
        assert memory.catalogue is not None
        rows = self._rows_of(memory)
        result = fit.fit_series(self.store, memory.row, memory.catalogue, list(rows.values()))
        memory.channels, memory.reference = result.channels, result.reference
        memory.row = result.row
        self._keep(memory, rows, result.relations)

    def _keep(
        self, memory: SeriesMemory, rows: Mapping[int, SubRow], relations: Sequence[tuple[int, Relation]]
    ) -> None:
        self.store.commit_relations(memory.row, relations)
        for sub_id, relation in relations:
            memory.columns.replace(replace(rows[sub_id], relation=relation))

    def _rows_of(self, memory: SeriesMemory) -> dict[int, SubRow]:
        """The rows of a series from the store, by number: a season of them is too much to keep in memory."""
        return {row.sub_id: row for row in self.store.subs(series_id=memory.row.series_id)}

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

    # ---- what people decide ----------------------------------------------------------------------

    def set_decision(self, sub_id: int, decision: str) -> None:
        """A person accepts or rejects a sub, or takes that back with ""."""
        self.store.decide(sub_id, decision)
        memory = next((memory for memory in self._series.values() if sub_id in memory.columns), None)
        if memory is not None:
            memory.columns.replace(self.store.sub(sub_id))

    def set_reference(self, series_id: int, sub_id: int | None) -> str:
        """Relate a series to another reference, from stored facts; None chooses the best. Returns why it was taken.

        Raises
        ------
        BadRequest
            The series has no measured sub of that number.
        """
        memory = self._series[series_id]
        rows = self._rows_of(memory)
        chosen = sub_id
        if chosen is None:
            chosen = fit.best_reference(list(rows.values()), self.verdicts(series_id))
        row = rows.get(chosen)
        if row is None or row.relation is None:
            raise BadRequest(f"sub {chosen} is not measured in this series; choose one with status ok or rejected")
        memory.row = replace(memory.row, reference_id=chosen, reference_chosen=sub_id is not None)
        self._relate_anew(memory, rows)
        return fit.reference_reason(row, self.verdicts(series_id))

    def set_smoothness(self, series_id: int, smoothness: float) -> None:
        """Fit the gradient surfaces of a series with another knob."""
        memory = self._series[series_id]
        memory.row = replace(memory.row, smoothness=smoothness)
        self._relate_anew(memory, self._rows_of(memory))

    def set_limits(self, series_id: int, limits: Mapping[str, float]) -> None:
        """Other cut-offs for one series; an empty dict goes back to the settings'."""
        memory = self._series[series_id]
        memory.row = replace(memory.row, limits=dict(limits))
        self.store.commit_relations(memory.row, ())

    def _relate_anew(self, memory: SeriesMemory, rows: Mapping[int, SubRow]) -> None:
        row = rows[memory.row.reference_id]
        facts = self.store.facts(row.sub_id)
        assert facts is not None
        assert row.relation is not None
        assert memory.catalogue is not None
        memory.reference = Related(row.sub_id, facts, row.relation.zero, row.relation.zero_err)
        relations = []
        for sub_id, sub_facts in self.store.iter_facts(list(rows)):
            old = rows[sub_id].relation
            if old is not None:
                sub_facts = facts if sub_id == row.sub_id else sub_facts
                new = moved(old, sub_facts, memory.reference, memory.catalogue, memory.row.smoothness)
                relations.append((sub_id, new))
        self._keep(memory, rows, relations)

    # ---- series ----------------------------------------------------------------------------------

    def _memory_for(self, outcome: Outcome) -> SeriesMemory:
        """The series that a file belongs to, or a new one that is not in the store yet."""
        if outcome.series_id in self._series:
            return self._series[outcome.series_id]
        header = outcome.header
        key = series_key(header)
        fields = sum(series_key(memory.founder) == key for memory in self._series.values())
        row = SeriesRow(
            self.store.next_series_id(), series_key(header, f"field {fields + 1}") if fields else key,
            header.object_name, header.filter_name, header.camera, header.binning, header.width_px, header.height_px,
            outcome.channels, 0, False, self.settings.measure.smoothness, {}, 0, 0,
        )  # fmt: skip
        return SeriesMemory(row, founder=header)

    def _row(self, outcome: Outcome, folder: Path, now_utc_s: float, series_id: int) -> SubRow:
        order, flag = ordering_time(outcome.header, now_utc_s)
        return SubRow(
            sub_id=self.store.next_sub_id(), content_id=outcome.content_id, series_id=series_id,
            stream=stream_key(outcome.header), folder=str(folder), path=outcome.path, gone=False,
            header=outcome.header, session=session_of(order, self.zone), arrived_utc_s=now_utc_s, order_utc_s=order,
            order_flag=flag, failure=None, measure_s=outcome.measure_s,
        )  # fmt: skip

    def _remember(self, row: SeriesRow) -> SeriesMemory:
        """A series of the store, brought back: columns from scalars, the solution from facts."""
        rows = self.store.subs(series_id=row.series_id)
        memory = SeriesMemory(row, self.store.catalogue(row.series_id))
        memory.columns = Columns.from_rows(rows)
        measured = [sub for sub in rows if sub.relation is not None]
        memory.measured = len(measured)
        if rows:
            memory.founder = min(measured or rows, key=lambda sub: sub.sub_id).header
        if memory.catalogue is None or not measured:
            return memory
        memory.last_utc_s = max(sub.arrived_utc_s for sub in measured)
        picked = fit.evenly(measured)
        facts = {sub.sub_id: found for sub in picked if (found := self.store.facts(sub.sub_id)) is not None}
        picked = [sub for sub in picked if sub.sub_id in facts]
        memory.channels = fit.solve(picked, facts, memory.catalogue)
        reference = next((sub for sub in measured if sub.sub_id == row.reference_id), measured[0])
        reference_facts = self.store.facts(reference.sub_id)
        if reference_facts is not None and reference.relation is not None:
            memory.reference = Related(
                reference.sub_id, reference_facts, reference.relation.zero, reference.relation.zero_err
            )
        return memory


def _first_channels(facts: SubFacts, egain_e_per_adu: float | None) -> list[fit.Joint]:
    """The solution that a series begins with: its first sub's own fluxes."""
    return [
        fit.Joint(scale.first_solution(channel), [], np.empty(0))
        for channel in measured_channels(facts, egain_e_per_adu)
    ]


def _with_facts(row: SubRow, facts: SubFacts) -> SubRow:
    return replace(
        row, generation=facts.generation, transform=facts.transform, stars_matched=facts.stars_matched,
        stars_expected=facts.stars_expected, stars_detected=facts.stars_detected, residual_px=facts.residual_px,
        noise_adu=facts.noise_adu, sky_adu=facts.sky_adu, fwhm_px=facts.fwhm_px, ellipticity=facts.ellipticity,
        background_rms_adu=facts.background_rms_adu,
    )  # fmt: skip


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
