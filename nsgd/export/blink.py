"""The blink dialog as one web page: subs laid on the reference, by weight, for a browser or a phone.

Everything lies inside the file: pictures, figures, script. It loads nothing and sends nothing.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsgd.errors import ExportProblem
from nsgd.export.files import open_folder, write_bytes
from nsgd.export.judged import Judged, judged
from nsgd.export.text import visible
from nsgd.frames.preview import load_preview
from nsgd.measure.relate import Related, gradient_surfaces
from nsgd.overlay import Laid, Sight, Stretch, lay, shared_stretch, sight, sky_of
from nsgd.records import Catalogue, Floats, SeriesRow, SubFacts, SubRow
from nsgd.session.store import Reader
from nsgd.settings import Settings

WIDTH_PX = 800
MOST_SUBS = 40
"""Subs of one series on the page: the best ones by weight, the reference among them."""
QUALITY = 75

Progress = Callable[[int, int, str], None]


def _silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def export_blink(
    reader: Reader, out: Path, settings: Settings, *, force: bool = False, progress: Progress = _silent
) -> Path:
    """Write the file `out` with the best subs of every series, each corrected and not; returns its path.

    Raises
    ------
    ExportProblem
        No sub has a preview, or the file exists already and `force` is not set, or it cannot be written.
    """
    night = judged(reader, settings)
    shown = [found for one in night.series.values() if (found := _series(reader, night, one, progress)) is not None]
    if not shown:
        raise ExportProblem(
            "No sub of this store has a preview to show: previews are kept while nsgd measures "
            "(previews_mb under [store] in the settings)."
        )
    return write_bytes(open_folder(out.parent), out.name, page(shown), force=force)


def page(series: list[dict[str, Any]]) -> bytes:
    """The page around the data of `_series`; no text of a header can end the script or start markup."""
    data = json.dumps(series, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    inert = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    template = files("nsgd.export").joinpath("blink.html").read_text(encoding="utf-8")
    return template.replace('"nsgd data"', inert).encode()


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """What all subs of one series are laid on."""

    catalogue: Catalogue
    reference: SubFacts
    reference_id: int
    view: Sight
    sky_adu: Floats
    stretch: Stretch
    smoothness: float


def _series(reader: Reader, night: Judged, series: SeriesRow, progress: Progress) -> dict[str, Any] | None:
    """Data of one series for the page; None where nothing can be shown."""
    table = _table(reader, night, series)
    if table is None:
        return None
    rows = _best_first(night, series)
    entries = []
    for number, row in enumerate(rows):
        progress(number, len(rows), visible(Path(row.path).name))
        entry = _entry(reader, night, row, table)
        if entry is not None:
            entries.append(entry)
    progress(len(rows), len(rows), "")
    name = " ".join(visible(part) for part in (series.object_name, series.filter_name) if part)
    return {"name": name or "no name", "reference": series.reference_id, "subs": entries} if entries else None


def _best_first(night: Judged, series: SeriesRow) -> list[SubRow]:
    """The measured subs by weight; the reference is always among them."""
    rows = [row for row in night.rows if row.series_id == series.series_id and row.relation is not None]
    rows.sort(key=lambda row: -np.nan_to_num(night.verdicts[row.sub_id].weight_of_best))
    return [row for place, row in enumerate(rows) if place < MOST_SUBS or row.sub_id == series.reference_id]


def _table(reader: Reader, night: Judged, series: SeriesRow) -> _Table | None:
    catalogue, facts = reader.catalogue(series.series_id), reader.facts(series.reference_id)
    row = next((row for row in night.rows if row.sub_id == series.reference_id), None)
    if catalogue is None or facts is None or row is None:
        return None
    preview = load_preview(reader.preview_path_of(row.content_id))
    if preview is None:
        return None
    size_px = (catalogue.width_px, catalogue.height_px)
    view = sight(size_px, (WIDTH_PX, round(WIDTH_PX * size_px[1] / size_px[0])))
    channels = len(preview.channels)
    base = lay(preview, (facts.transform, facts.transform), [1.0] * channels, [None] * channels, view).scaled
    return _Table(
        catalogue, facts, series.reference_id, view, sky_of(base), shared_stretch(base), series.smoothness
    )  # fmt: skip


def _entry(reader: Reader, night: Judged, row: SubRow, table: _Table) -> dict[str, Any] | None:
    """One sub: its figures and both pictures; None where its preview is gone."""
    preview, facts = load_preview(reader.preview_path_of(row.content_id)), reader.facts(row.sub_id)
    if preview is None or facts is None or row.relation is None:
        return None
    reference = Related(table.reference_id, table.reference, (), ())
    surfaces = gradient_surfaces(facts, reference, row.relation.scale, table.catalogue, table.smoothness)
    laid = lay(preview, (table.reference.transform, facts.transform), row.relation.scale, surfaces, table.view)
    verdict = night.verdicts[row.sub_id]
    diagonals = row.relation.gradient_diagonal_adu
    return {
        "id": row.sub_id,
        "file": visible(Path(row.path).name),
        "status": verdict.status.value,
        "reasons": [visible(reason) for reason in verdict.reasons],
        "weight": _finite(verdict.weight_of_best, 3),
        "transmission": _finite(verdict.transmission_clear, 3),
        "sky": _finite(float(np.mean(row.sky_adu)), 1),
        "diagonals": [_finite(value, 1) for value in diagonals],
        "fwhm": _finite(row.fwhm_px, 2),
        "ellipticity": _finite(row.ellipticity, 2),
        "pictures": _pictures(laid, table),
    }


def _pictures(laid: Laid, table: _Table) -> list[str]:
    """The sub with scale and offset only, and corrected, both under the series' one stretch."""
    both = (laid.uncorrected(table.sky_adu), laid.corrected)
    return [_picture(table.stretch.apply(pixels)) for pixels in both]


def _picture(pixels: NDArray[np.uint8]) -> str:
    """A picture as a data: address."""
    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
    image = Image.fromarray(pixels).convert("L" if grey else "RGB")
    into = io.BytesIO()
    image.save(into, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(into.getvalue()).decode("ascii")


def _finite(value: float, decimals: int) -> float | None:
    """JSON has no NaN."""
    return round(float(value), decimals) if np.isfinite(value) else None
