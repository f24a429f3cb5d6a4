"""What people decided in the live session, found again for the calibrated, registered copies of its subs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from nsgd.records import HeaderFacts, SeriesRow, SubRow
from nsgd.session.store import Reader

SAME_START_S = 0.6
"""Start times that differ by less are the same: programs round and cut seconds differently."""


class Carried:
    """Subs of a live session, to be looked up by start time and name."""

    def __init__(self, rows: Iterable[SubRow] = (), series: Iterable[SeriesRow] = ()) -> None:
        self._series: Mapping[int, SeriesRow] = {one.series_id: one for one in series}
        self._by_second: dict[int, list[SubRow]] = defaultdict(list)
        self._untimed: list[SubRow] = []
        for row in rows:
            if row.header.start_utc_s is None:
                self._untimed.append(row)
            else:
                self._by_second[int(row.header.start_utc_s)].append(row)

    @classmethod
    def from_store(cls, reader: Reader) -> Carried:
        """All subs and series of a store."""
        return cls(reader.subs(), reader.series())

    def sub(self, path: Path, header: HeaderFacts) -> SubRow | None:
        """The live sub that a frame was made from; None where it is not known or not certain.

        The start time decides, the name where times are equal or missing: programs that calibrate and register
        keep DATE-OBS and append to the name (`sub_0042` becomes `sub_0042_c_r`).
        """
        found = self._at_time(header) if header.start_utc_s is not None else self._untimed
        found = [row for row in found if row.header.filter_name == header.filter_name] or found
        named = [row for row in found if _made_from(path.stem, PurePath(row.path).stem)]
        if named:
            return max(named, key=lambda row: len(PurePath(row.path).stem))
        return found[0] if len(found) == 1 and header.start_utc_s is not None else None

    def series(self, row: SubRow | None) -> SeriesRow | None:
        """The live series of a live sub."""
        return self._series.get(row.series_id) if row is not None else None

    def _at_time(self, header: HeaderFacts) -> list[SubRow]:
        start = float(header.start_utc_s or 0.0)
        near = [row for second in range(int(start) - 1, int(start) + 2) for row in self._by_second.get(second, ())]
        return [row for row in near if abs(float(row.header.start_utc_s or 0.0) - start) < SAME_START_S]


def _made_from(stem: str, live_stem: str) -> bool:
    return stem == live_stem or stem.startswith(
        (f"{live_stem}_", f"r_{live_stem}", f"pp_{live_stem}", f"r_pp_{live_stem}")
    )
