"""subs.csv: one row per sub. The first columns and their order are a promise to other programs.

The table is a function of the rows and their verdicts alone, in mid-exposure order, with fixed significant digits:
the same subs give the same bytes, whatever order they arrived in.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Final

import numpy as np

from nsgd.export.files import open_folder, write_bytes
from nsgd.export.judged import Judged, file_name, judged, order_key
from nsgd.export.text import csv_cell
from nsgd.records import SeriesRow, SkyState, SubRow, SubStatus, Transform, Verdict
from nsgd.session.almanac import airmass_of
from nsgd.session.store import Reader, Unreadable
from nsgd.settings import Settings

DIGITS: Final = 6
ERROR_DIGITS: Final = 3
CHANNEL_LETTERS: Final = ("r", "g", "b")


@dataclass(frozen=True, slots=True)
class _Line:
    """All that one row of the table is made from."""

    row: SubRow
    series: SeriesRow | None
    verdict: Verdict | None
    state: SkyState
    reference: Transform | None
    channel_transmission: tuple[float, ...]


def export_csv(reader: Reader, out: Path, settings: Settings, *, force: bool = False) -> Path:
    """Write OUT/subs.csv with every sub of the store and every file that cannot be read; returns its path.

    Raises
    ------
    ExportProblem
        The table exists already and `force` is not set, or the folder cannot be written.
    """
    found = judged(reader, settings)
    content = csv_bytes([*sub_table(found), *unread_rows(reader.unreadable(), found.rows)])
    return write_bytes(open_folder(out), "subs.csv", content, force=force)


def sub_table(found: Judged) -> list[dict[str, str]]:
    """Every sub as a row of texts, in the order of the file, whatever order the subs are given in.

    Returns
    -------
    list of dict
        Column name to text, all with the same columns in the same order; "" where a figure is missing.
    """
    transforms = {row.sub_id: row.transform for row in found.rows if row.failure is None}
    table = []
    for row in sorted(found.rows, key=order_key):
        series = found.series.get(row.series_id)
        line = _Line(
            row,
            series,
            found.verdicts.get(row.sub_id),
            found.states.get(row.sub_id, SkyState.UNKNOWN),
            transforms.get(series.reference_id) if series else None,
            found.channel_transmission.get(row.sub_id, ()),
        )
        table.append({name: cell(line) for name, cell in COLUMNS.items()})
    return table


def unread_rows(files: Sequence[Unreadable], rows: Sequence[SubRow]) -> list[dict[str, str]]:
    """Files that cannot be read: failed, without figures, but never left out in silence."""
    folders = sorted({row.folder for row in rows}, key=len, reverse=True)
    told = []
    for item in files:
        path = PurePath(item.path)
        folder = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        said = {
            "file": path.relative_to(folder).as_posix(),
            "status": SubStatus.FAILED,
            "reasons": "unreadable",
            "failure": item.sentence,
        }
        told.append(dict.fromkeys(COLUMNS, "") | said)
    return told


def csv_bytes(table: Sequence[Mapping[str, str]]) -> bytes:
    """The table as UTF-8 CSV with a header line; cells are safe to open in a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([csv_cell(cell) for cell in line.values()] for line in table)
    return text.getvalue().encode("utf-8")


def number(value: float | None, digits: int = DIGITS) -> str:
    """A figure with fixed significant digits; "" where it is missing."""
    if value is None or not math.isfinite(value):
        return ""
    return format(float(value) + 0.0, f".{digits}g")  # + 0.0 turns -0.0 into 0


def utc_text(utc_s: float | None) -> str:
    """ISO 8601 UTC with milliseconds, "" where unknown or outside the calendar."""
    if utc_s is None or not math.isfinite(utc_s):
        return ""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(utc_s * 1000.0))
    except OverflowError:
        return ""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def displacement(sub: Transform, reference: Transform, width_px: int, height_px: int) -> tuple[float, float]:
    """Where the reference's central star lies in the sub, relative to the centre, pixels (x, y)."""
    centre_x, centre_y = (width_px - 1) / 2.0, (height_px - 1) / 2.0
    x, y = np.array([centre_x]), np.array([centre_y])
    for _ in range(8):  # series position of the reference's centre; converges at once, the transform is nearly rigid
        at_x, at_y = reference.apply(x, y)
        back_x, back_y = _undo_linear(reference, centre_x - at_x, centre_y - at_y)
        x, y = x + back_x, y + back_y
    sub_x, sub_y = sub.apply(x, y)
    return float(sub_x[0]) - centre_x, float(sub_y[0]) - centre_y


def turn_deg(sub: Transform, reference: Transform) -> float:
    """Rotation of the sub against the reference, degrees in (-180, 180]."""
    angle = (sub.rotation_deg - reference.rotation_deg) % 360.0
    return angle - 360.0 if angle > 180.0 else angle


def _undo_linear(transform: Transform, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    determinant = transform.a * transform.d - transform.b * transform.c
    return (
        (transform.d * x - transform.b * y) / determinant,
        (transform.a * y - transform.c * x) / determinant,
    )


def mean(values: Sequence[float]) -> float | None:
    """Mean over the channels; missing where there is none."""
    return sum(values) / len(values) if values else None


def mean_error(errors: Sequence[float]) -> float | None:
    """Error of the mean of channels whose errors are independent."""
    return math.hypot(*errors) / len(errors) if errors else None


def _status(line: _Line) -> str:
    if line.row.failure is not None:
        return SubStatus.FAILED
    return line.verdict.status if line.verdict else SubStatus.OK


def _reasons(line: _Line) -> str:
    reasons = line.verdict.reasons if line.verdict else ()
    failure = line.row.failure
    if failure is not None and not reasons:
        reasons = (failure.kind,)
    return ";".join(reason.replace(";", ",") for reason in reasons)


def _stars(line: _Line) -> str:
    if line.row.relation is not None:
        return str(line.row.relation.stars_used)
    return str(line.row.stars_matched) if line.row.stars_expected else ""


def _shift(line: _Line) -> tuple[float, float] | None:
    header = line.row.header
    if line.reference is None or line.row.failure is not None:
        return None
    return displacement(line.row.transform, line.reference, header.width_px, header.height_px)


def _turn(line: _Line) -> float | None:
    if line.reference is None or line.row.failure is not None:
        return None
    return turn_deg(line.row.transform, line.reference)


def _position(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value + 0.0:.3f}".replace("-0.000", "0.000")


def _of_relation(name: str, digits: int = DIGITS) -> Callable[[_Line], str]:
    return lambda line: number(getattr(line.row.relation, name, None), digits)


def _of_verdict(name: str, digits: int = DIGITS) -> Callable[[_Line], str]:
    return lambda line: number(getattr(line.verdict, name, None), digits)


def _of_header(name: str, digits: int = DIGITS) -> Callable[[_Line], str]:
    return lambda line: number(getattr(line.row.header, name), digits)


def _channels(line: _Line, name: str) -> tuple[float, ...]:
    holder = line.row if hasattr(line.row, name) else line.row.relation
    values: tuple[float, ...] = getattr(holder, name, ())
    return values


def _channel_mean(name: str) -> Callable[[_Line], str]:
    return lambda line: number(mean(_channels(line, name)))


def _by_letter(line: _Line, name: str) -> dict[str, float]:
    letters = [channel.lower() for channel in line.series.channels] if line.series else []
    values = line.channel_transmission if name == "transmission" else _channels(line, name)
    return dict(zip(letters, values, strict=True)) if len(values) == len(letters) else {}


def _one_channel(name: str, letter: str, digits: int) -> Callable[[_Line], str]:
    return lambda line: number(_by_letter(line, name).get(letter), digits)


def _per_channel() -> dict[str, Callable[[_Line], str]]:
    figures = {"scale": 6, "scale_err": 3, "transmission": 6, "weight": 6, "noise_adu": 6, "sky_adu": 6}
    return {
        f"{name}_{letter}": _one_channel(name, letter, digits)
        for name, digits in figures.items()
        for letter in CHANNEL_LETTERS
    }


COLUMNS: Final[dict[str, Callable[[_Line], str]]] = {
    "file": lambda line: file_name(line.row),
    "series": lambda line: line.series.key if line.series else "",
    "object": lambda line: line.row.header.object_name,
    "filter": lambda line: line.row.header.filter_name,
    "date_obs": lambda line: utc_text(line.row.header.start_utc_s),
    "exposure_s": _of_header("exposure_s"),
    "status": _status,
    "reasons": _reasons,
    "stars": _stars,
    "scale": _channel_mean("scale"),
    "scale_err": lambda line: number(mean_error(_channels(line, "scale_err")), ERROR_DIGITS),
    "transmission": _of_verdict("transmission"),
    "transmission_err": _of_verdict("transmission_err", ERROR_DIGITS),
    "transmission_clear": _of_verdict("transmission_clear"),
    "airmass": lambda line: number(airmass_of(line.row.header, line.row.order_utc_s)),
    "weight": _of_verdict("weight"),
    "noise_adu": _channel_mean("noise_adu"),
    "sky_adu": _channel_mean("sky_adu"),
    "gradient_x_adu": _of_relation("gradient_x_adu"),
    "gradient_y_adu": _of_relation("gradient_y_adu"),
    "gradient_rms_adu": _of_relation("gradient_rms_adu"),
    "fwhm_px": lambda line: number(line.row.fwhm_px),
    "ellipticity": lambda line: number(line.row.ellipticity),
    "dx_px": lambda line: _position(shift[0] if (shift := _shift(line)) else None),
    "dy_px": lambda line: _position(shift[1] if (shift := _shift(line)) else None),
    "rotation_deg": lambda line: _position(_turn(line)),
    "sky_state": lambda line: line.state,
    # more columns may follow from here on
    **_per_channel(),
    "stream": lambda line: line.row.stream,
    "session": lambda line: line.row.session,
    "reference": lambda line: "1" if line.series and line.series.reference_id == line.row.sub_id else "0",
    "decision": lambda line: line.row.decision,
    "weight_of_best": _of_verdict("weight_of_best"),
    "rank": lambda line: str(line.verdict.rank) if line.verdict and line.verdict.rank else "",
    "extinction_mag": _of_verdict("extinction_mag"),
    "pattern": lambda line: line.row.relation.pattern if line.row.relation else "",
    "pattern_rms": _of_relation("pattern_rms"),
    "star_scatter": _of_relation("star_scatter"),
    "stars_detected": lambda line: str(line.row.stars_detected) if line.row.failure is None else "",
    "residual_px": lambda line: number(line.row.residual_px),
    "gain": _of_header("gain"),
    "ccd_temp_c": _of_header("ccd_temp_c"),
    "camera": lambda line: line.row.header.camera,
    "failure": lambda line: line.row.failure.sentence if line.row.failure else "",
}
"""Column name to what it shows. dx, dy: sub minus reference, at the centre of the frame."""
