"""All subs of a store with their verdicts and sky states: what every export begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from nsgd.records import CutOffs, SeriesRow, SkyState, SubRow, SubStatus, Verdict
from nsgd.session.judge import Columns, judge
from nsgd.session.series import natural_key
from nsgd.session.sky import observe, states
from nsgd.session.store import Reader
from nsgd.settings import Settings
from nsgd.walk import final_series, reference_reason


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Subs in mid-exposure order, and what was found about them, by sub_id."""

    series: Mapping[int, SeriesRow]
    """By series_id."""
    rows: Sequence[SubRow]
    verdicts: Mapping[int, Verdict]
    """A sub that failed before its series was known has none."""
    states: Mapping[int, SkyState] = field(default_factory=dict)
    channel_transmission: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Transmission of each channel of colour subs."""
    references: Mapping[int, str] = field(default_factory=dict)
    """What speaks for the reference, by series_id."""
    limits: Mapping[int, CutOffs] = field(default_factory=dict)
    """Cut-offs that were applied, by series_id."""

    def accepted(self, row: SubRow) -> bool:
        """Whether the sub goes into the stack."""
        verdict = self.verdicts.get(row.sub_id)
        return verdict is not None and verdict.status is SubStatus.OK


def judged(reader: Reader, settings: Settings) -> Judged:
    """Judge every series of the store, fitted anew to all of its facts, and replay the sky over all subs."""
    found = verdicts_of(reader, settings)
    site = (settings.site.latitude_deg, settings.site.longitude_deg)
    seen = [observe(row, found.verdicts[row.sub_id], site) for row in found.rows if row.sub_id in found.verdicts]
    return replace(found, states=states(seen))


def verdicts_of(reader: Reader, settings: Settings) -> Judged:
    """`judged` without the states of the sky."""
    series: dict[int, SeriesRow] = {}
    rows = [row for row in reader.subs() if row.series_id == 0]
    verdicts: dict[int, Verdict] = {}
    channels: dict[int, tuple[float, ...]] = {}
    references: dict[int, str] = {}
    limits: dict[int, CutOffs] = {}
    for one, members in final_series(reader):
        series[one.series_id] = one
        rows += members
        found = judge(Columns.from_rows(sorted(members, key=order_key)), one, settings.limits)
        limits[one.series_id] = found.limits
        reference = next((row for row in members if row.sub_id == one.reference_id), None)
        if reference is not None:
            references[one.series_id] = reference_reason(reference, found)
        for at in range(len(found)):
            verdict = found.row(at)
            verdicts[verdict.sub_id] = verdict
            channels[verdict.sub_id] = tuple(float(value) for value in found.transmission_channel[at])
    rows.sort(key=order_key)
    return Judged(series, rows, verdicts, {}, channels, references, limits)


def order_key(row: SubRow) -> tuple[bool, float, tuple[object, ...], int]:
    """Mid-exposure time; subs whose time is not known follow, in natural name order."""
    timed = row.header.mid_utc_s is not None and not row.order_flag
    return (not timed, row.order_utc_s if timed else 0.0, natural_key(file_name(row)), row.sub_id)


def file_name(row: SubRow) -> str:
    """The sub's path relative to the folder that was given, with forward slashes on every system."""
    path = PurePath(row.path)
    if path.is_relative_to(row.folder):
        return path.relative_to(row.folder).as_posix()
    return path.name if path.is_absolute() else path.as_posix()
