"""subs.csv: its columns, its order and its bytes are a promise."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
from live_night import SETTINGS, LiveNight

from nsgd.errors import ExportProblem
from nsgd.export.judged import Judged
from nsgd.export.table import COLUMNS, csv_bytes, displacement, export_csv, sub_table, turn_deg, utc_text
from nsgd.records import (
    Failure,
    HeaderFacts,
    Relation,
    SeriesRow,
    SkyState,
    SubRow,
    SubStatus,
    Transform,
    Verdict,
)
from nsgd.session.store import Reader

PROMISED = [
    "file",
    "series",
    "object",
    "filter",
    "date_obs",
    "exposure_s",
    "status",
    "reasons",
    "stars",
    "scale",
    "scale_err",
    "transmission",
    "transmission_err",
    "transmission_clear",
    "airmass",
    "weight",
    "noise_adu",
    "sky_adu",
    "gradient_x_adu",
    "gradient_y_adu",
    "gradient_rms_adu",
    "fwhm_px",
    "ellipticity",
    "dx_px",
    "dy_px",
    "rotation_deg",
    "sky_state",
]
MIDNIGHT_UTC_S = 1_763_856_000.0  # 2025-11-23T00:00:00Z


def series(channels: tuple[str, ...] = ("L",)) -> SeriesRow:
    return SeriesRow(1, "M 31 L cam 1x 400x300", "M 31", "L", "cam", 1, 400, 300, channels, 1, False, -2.0, {}, 1, 1)


def relation(scale: tuple[float, ...] = (1.25,)) -> Relation:
    n = len(scale)
    return Relation(
        solution=1,
        reference_id=1,
        zero=tuple(1 / s for s in scale),
        zero_err=(0.003,) * n,
        scale=scale,
        scale_err=(0.003,) * n,
        weight=(0.6,) * n,
        stars_used=321,
        star_scatter=0.02,
        star_floor=0.004,
        pattern="uniform",
        pattern_rms=0.01,
        pattern_map=(),
        gradient_x_adu=-12.3456789,
        gradient_y_adu=4.0,
        gradient_rms_adu=3.0,
        gradient_diagonal_adu=(1.0, 2.0),
    )


def sub(number: int, mid_utc_s: float | None = None, **changes: object) -> SubRow:
    header = HeaderFacts(
        object_name="M 31",
        filter_name="L",
        exposure_s=60.0,
        start_utc_s=None if mid_utc_s is None else mid_utc_s - 30.0,
        mid_utc_s=mid_utc_s,
        width_px=400,
        height_px=300,
    )
    row = SubRow(
        sub_id=number,
        content_id=f"{number:032x}",
        series_id=1,
        stream="60s g100",
        folder="/capture",
        path=f"/capture/night/sub_{number}.fits",
        gone=False,
        header=header,
        session="2025-11-22",
        arrived_utc_s=MIDNIGHT_UTC_S + 1e6 + number,
        order_utc_s=mid_utc_s if mid_utc_s is not None else MIDNIGHT_UTC_S + 1e6 + number,
        order_flag="" if mid_utc_s is not None else "no time in the header",
        failure=None,
        measure_s=random.random(),  # differs from run to run and must not show
        generation=1,
        stars_matched=330,
        stars_expected=400,
        stars_detected=500,
        noise_adu=(10.5,),
        sky_adu=(1000.0,),
        fwhm_px=3.25,
        ellipticity=0.1,
        relation=relation(),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def verdict(number: int, status: SubStatus = SubStatus.OK, reasons: tuple[str, ...] = ()) -> Verdict:
    return Verdict(number, status, reasons, 0.8, 0.0024, 0.82, 0.6, 0.61, 2, False, 0.02, SkyState.CLEAR)


def table_of(*rows: SubRow, one: SeriesRow | None = None) -> list[dict[str, str]]:
    return sub_table(Judged({1: one or series()}, rows, {r.sub_id: verdict(r.sub_id) for r in rows if r.series_id}))


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def test_the_promised_columns_come_first_in_their_order() -> None:
    header = csv_bytes([]).decode().strip().split(",")
    assert header[: len(PROMISED)] == PROMISED
    assert header == list(COLUMNS)
    assert len(set(header)) == len(header)


def test_one_sub_reads_back_with_its_figures() -> None:
    row = read(csv_bytes(table_of(sub(7, MIDNIGHT_UTC_S + 30.25))))[0]
    assert row["file"] == "night/sub_7.fits"
    assert row["date_obs"] == "2025-11-23T00:00:00.250Z"
    assert (row["status"], row["reasons"], row["stars"]) == ("ok", "", "321")
    assert (row["scale"], row["scale_err"], row["weight"]) == ("1.25", "0.003", "0.6")
    assert (row["transmission"], row["transmission_clear"]) == ("0.8", "0.82")
    assert row["gradient_x_adu"] == "-12.3457"
    assert row["airmass"] == ""
    assert row["scale_r"] == ""


def test_rows_are_in_time_order_then_natural_name_order_whatever_came_first() -> None:
    rows = [sub(n, MIDNIGHT_UTC_S + 60.0 * (40 - n)) for n in range(1, 30)] + [sub(n) for n in (110, 9, 100, 10)]
    ordered = [row["file"] for row in table_of(*rows)]
    names = [f"night/sub_{n}.fits" for n in [*range(29, 0, -1), 9, 10, 100, 110]]
    assert ordered == names
    content = csv_bytes(table_of(*rows))
    for seed in range(5):
        mixed = random.Random(seed).sample(rows, len(rows))
        assert csv_bytes(table_of(*mixed)) == content


def test_the_time_of_arrival_and_of_measuring_never_shows() -> None:
    rows = [sub(1, MIDNIGHT_UTC_S), sub(2)]
    later = [replace(r, arrived_utc_s=r.arrived_utc_s + 99.0, measure_s=9.0, change=77) for r in rows]
    later[1] = replace(later[1], order_utc_s=later[1].order_utc_s + 99.0)
    assert csv_bytes(table_of(*rows)) == csv_bytes(table_of(*later))


def test_a_failed_sub_has_its_reason_and_no_made_up_figure() -> None:
    failed = sub(
        1,
        MIDNIGHT_UTC_S,
        series_id=0,
        failure=Failure("no_match", "5 stars matched, 6 needed."),
        relation=None,
        noise_adu=(),
        sky_adu=(),
        fwhm_px=float("nan"),
        ellipticity=float("nan"),
        stars_expected=0,
        stars_matched=0,
    )
    row = table_of(failed)[0]
    assert (row["status"], row["reasons"], row["failure"]) == ("failed", "no_match", "5 stars matched, 6 needed.")
    figures = PROMISED[PROMISED.index("stars") : PROMISED.index("sky_state")]
    assert {row[name] for name in figures} == {""}
    assert row["sky_state"] == "unknown"


def test_reasons_are_joined_by_semicolons_and_states_come_from_the_replay() -> None:
    row = sub(3, MIDNIGHT_UTC_S)
    rejected = verdict(3, SubStatus.REJECTED, ("transmission", "weight"))
    table = sub_table(Judged({1: series()}, [row], {3: rejected}, {3: SkyState.CLOUDY}))
    assert (table[0]["status"], table[0]["reasons"]) == ("rejected", "transmission;weight")
    assert table[0]["sky_state"] == "cloudy"


def test_colour_subs_show_channel_means_and_each_channel() -> None:
    row = sub(2, MIDNIGHT_UTC_S, relation=relation((1.0, 2.0, 4.0)), noise_adu=(1.0, 2.0, 3.0), sky_adu=(5.0, 6.0, 7.0))
    line = table_of(row, one=series(("R", "G", "B")))[0]
    assert line["scale"] == "2.33333"
    assert (line["scale_r"], line["scale_g"], line["scale_b"]) == ("1", "2", "4")
    assert (line["noise_adu"], line["noise_adu_b"], line["sky_adu_g"]) == ("2", "3", "6")
    assert float(line["scale_err"]) == pytest.approx(0.003 / 3**0.5, rel=1e-2)


def test_each_channel_of_a_colour_sub_has_its_transmission() -> None:
    row = sub(2, MIDNIGHT_UTC_S, relation=relation((1.0, 2.0, 4.0)))
    line = sub_table(Judged({1: series(("R", "G", "B"))}, [row], {2: verdict(2)}, {}, {2: (0.9, 0.8, float("nan"))}))[0]
    assert [line[f"transmission_{c}"] for c in "rgb"] == ["0.9", "0.8", ""]


def test_shift_and_turn_are_relative_to_the_chosen_reference() -> None:
    reference = sub(1, MIDNIGHT_UTC_S, transform=Transform(tx=10.0, ty=5.0))
    dithered = sub(2, MIDNIGHT_UTC_S + 60, transform=Transform(tx=13.5, ty=4.0))
    flipped = sub(3, MIDNIGHT_UTC_S + 120, transform=Transform(a=-1.0, d=-1.0, tx=391.0, ty=296.0))
    table = table_of(reference, dithered, flipped)
    shown = [(row["dx_px"], row["dy_px"], row["rotation_deg"]) for row in table]
    assert shown[0] == ("0.000", "0.000", "0.000")
    assert shown[1] == ("3.500", "-1.000", "0.000")
    assert shown[2] == ("2.000", "2.000", "180.000")


def test_displacement_and_turn_of_a_rotated_curved_frame() -> None:
    curved = Transform(tx=3.0, quad=(0.5, 0.1, 0.2, 0.1, 0.3, 0.4), centre_x_px=200.0, centre_y_px=150.0, half_px=250.0)
    assert displacement(curved, curved, 400, 300) == pytest.approx((0.0, 0.0), abs=1e-9)
    turned = Transform(a=0.0, b=-1.0, c=1.0, d=0.0)
    assert turn_deg(turned, Transform()) == pytest.approx(90.0)
    assert turn_deg(Transform(), turned) == pytest.approx(-90.0)


def test_formulas_in_names_and_headers_do_nothing_in_a_spreadsheet() -> None:
    header = HeaderFacts(object_name="=HYPERLINK(1)", filter_name="@sum", width_px=400, height_px=300)
    row = sub(1, None, header=header, path="/capture/-2+3|cmd.fits")
    line = read(csv_bytes(table_of(row)))[0]
    assert line["object"] == "'=HYPERLINK(1)"
    assert line["filter"] == "'@sum"
    assert line["file"] == "'-2+3|cmd.fits"
    assert line["gradient_x_adu"] == "-12.3457"


def test_a_name_that_is_no_utf8_is_spelt_out() -> None:
    content = csv_bytes(table_of(sub(1, None, path="/capture/\udcff\x1b[31m\n.fits")))
    assert b"\\udcff\\x1b[31m\\n.fits" in content


@pytest.mark.parametrize("utc_s", [None, float("nan"), float("inf"), 1e18])
def test_an_impossible_time_is_missing(utc_s: float | None) -> None:
    assert utc_text(utc_s) == ""


def test_milliseconds_are_rounded_once() -> None:
    assert utc_text(MIDNIGHT_UTC_S - 0.0001) == "2025-11-23T00:00:00.000Z"
    assert utc_text(1.0019999) == "1970-01-01T00:00:01.002Z"


def test_the_table_of_a_store_is_written_whole_and_the_same_every_time(night: LiveNight, tmp_path: Path) -> None:
    with Reader.open(night.store) as reader:
        path = export_csv(reader, tmp_path, SETTINGS)
        first = path.read_bytes()
        with pytest.raises(ExportProblem, match="--force"):
            export_csv(reader, tmp_path, SETTINGS)
        assert export_csv(reader, tmp_path, SETTINGS, force=True).read_bytes() == first
    rows = read(first)
    assert [row["file"] for row in rows] == [path.name for path in night.paths]
    assert [row["status"] for row in rows].count("rejected") == 3
    pairs = list(zip(night.truths, rows, strict=True))
    reference = next(truth for truth, row in pairs if row["reference"] == "1" and truth.filter_name == "L")
    for truth, row in pairs:
        assert abs(float(row["rotation_deg"])) < 0.02
        if truth.filter_name == "L":
            assert float(row["scale"]) == pytest.approx(truth.scale_against(reference), rel=0.02)
            assert float(row["dx_px"]) == pytest.approx(truth.transform.tx - reference.transform.tx, abs=0.15)
            assert float(row["dy_px"]) == pytest.approx(truth.transform.ty - reference.transform.ty, abs=0.15)
            assert float(row["airmass"]) == pytest.approx(1.0)
