"""Everything about one sub against its reference, from stored facts: what its screen draws (pure numpy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsgd.frames.preview import Preview, load_preview
from nsgd.measure.gradient import Surface, node_difference
from nsgd.measure.relate import Related, gradient_surfaces
from nsgd.overlay import Laid, Sight, lay
from nsgd.records import Catalogue, Floats, Relation, SeriesRow, SubFacts, SubRow
from nsgd.session.store import Reader

RATIO_TOLERANCE = 1.5
"""Stars whose flux ratio is off by more than this factor are drawn as dropped, as NSG draws them."""


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One measured sub, its reference and their series."""

    row: SubRow
    relation: Relation
    facts: SubFacts
    reference_row: SubRow
    reference_facts: SubFacts
    catalogue: Catalogue
    smoothness: float

    @property
    def size_px(self) -> tuple[int, int]:
        return self.catalogue.width_px, self.catalogue.height_px


def read_study(reader: Reader, row: SubRow, series: SeriesRow) -> Study | None:
    """Collect what the store knows about one sub; None where it or its reference was not measured."""
    facts, reference_facts = reader.facts(row.sub_id), reader.facts(series.reference_id)
    catalogue = reader.catalogue(series.series_id)
    if facts is None or reference_facts is None or catalogue is None or row.relation is None:
        return None
    reference_row = reader.sub(series.reference_id)
    return Study(row, row.relation, facts, reference_row, reference_facts, catalogue, series.smoothness)


@dataclass(frozen=True, slots=True, eq=False)
class Stars:
    """The stars that sub and reference share, one entry per catalogue star, one channel."""

    x_px: Floats
    """Place in the reference."""
    y_px: Floats
    shift_x_px: Floats
    """From there to the place in the sub."""
    shift_y_px: Floats
    reference_adu: Floats
    sub_adu: Floats
    used: NDArray[np.bool_]
    """False where a flag or the ratio speaks against the star."""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """True where both fluxes are measured and positive."""
        return (self.reference_adu > 0) & (self.sub_adu > 0)


def stars_of(study: Study, channel: int = 0) -> Stars:
    """Star by star: where it lies and how bright it is in the reference and in the sub."""
    count = min(len(study.facts.flux), len(study.reference_facts.flux), len(study.catalogue.x))
    x, y = study.catalogue.x[:count], study.catalogue.y[:count]
    reference_x, reference_y = study.reference_facts.transform.apply(x, y)
    sub_x, sub_y = study.facts.transform.apply(x, y)
    reference_adu = study.reference_facts.flux[:count, channel].astype(np.float64)
    sub_adu = study.facts.flux[:count, channel].astype(np.float64)
    flagged = (study.facts.flags[:count] | study.reference_facts.flags[:count]) != 0
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(np.log(sub_adu * study.relation.scale[channel] / reference_adu))
    used = ~flagged & (off < np.log(RATIO_TOLERANCE))
    return Stars(reference_x, reference_y, sub_x - reference_x, sub_y - reference_y, reference_adu, sub_adu, used)


def local_transmission(study: Study, columns: int, rows: int) -> Floats:
    """(rows, columns) light that arrived in each part of the frame, relative to the sub's own mean.

    Median of the star ratios of all channels; NaN where a part holds fewer than two stars.
    """
    total = np.full((rows, columns), np.nan)
    width_px, height_px = study.size_px
    parts = []
    for channel in range(len(study.relation.scale)):
        stars = stars_of(study, channel)
        good = stars.used & stars.seen
        column = np.clip(stars.x_px[good] / width_px * columns, 0, columns - 1).astype(int)
        row = np.clip(stars.y_px[good] / height_px * rows, 0, rows - 1).astype(int)
        ratio = stars.sub_adu[good] * study.relation.scale[channel] / stars.reference_adu[good]
        parts.append(np.column_stack((row * columns + column, ratio)))
    cells = np.concatenate(parts)
    for cell in np.unique(cells[:, 0]).astype(int):
        values = cells[cells[:, 0] == cell, 1]
        if values.size >= 2:
            total.flat[cell] = np.median(values)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class GradientMaps:
    """The relative background of one channel on a grid over the reference, ADU, its mean taken out."""

    before: Floats
    """(rows, columns) nearest node, NaN where none is near."""
    surface: Floats
    after: Floats
    before_rms_adu: float
    after_rms_adu: float


def surfaces_of(study: Study, smoothness: float) -> list[Surface | None]:
    """Relative gradient of each channel over the reference's pixels, as the exports fit it."""
    reference = Related(study.reference_row.sub_id, study.reference_facts, (), ())
    return gradient_surfaces(study.facts, reference, study.relation.scale, study.catalogue, smoothness)


def gradient_maps(study: Study, smoothness: float, grid: tuple[int, int], channel: int = 0) -> GradientMaps | None:
    """What the gradient correction sees, fits and leaves; `grid` is (columns, rows). None where nodes are too few."""
    surface = surfaces_of(study, smoothness)[channel]
    if surface is None:
        return None
    pair = (study.facts, study.reference_facts)
    count = min(len(facts.node_sky) for facts in pair)
    node_x, node_y = study.reference_facts.transform.apply(study.catalogue.node_x, study.catalogue.node_y)
    node_x, node_y = node_x[:count], node_y[:count]
    sky, reference_sky = (facts.node_sky[:count, channel].astype(np.float64) for facts in pair)
    z = node_difference(sky, reference_sky, study.relation.scale[channel])
    good = np.isfinite(z)
    node_x, node_y, z = node_x[good], node_y[good], z[good]
    fitted = surface.at(node_x, node_y)
    offset = float(fitted.mean())
    width_px, height_px = study.size_px
    x, y = np.meshgrid(
        (np.arange(grid[0]) + 0.5) / grid[0] * width_px, (np.arange(grid[1]) + 0.5) / grid[1] * height_px
    )
    nearest, near = _nearest(x, y, node_x, node_y, 1.7 * _spacing(node_x, node_y, width_px * height_px))
    return GradientMaps(
        before=np.where(near, (z - offset)[nearest], np.nan),
        surface=surface.at(x, y) - offset,
        after=np.where(near, (z - fitted)[nearest], np.nan),
        before_rms_adu=float(np.std(z)),
        after_rms_adu=float(np.std(z - fitted)),
    )


def _spacing(x: Floats, y: Floats, area_px2: float) -> float:
    return float(np.sqrt(area_px2 / max(x.size, 1)))


def _nearest(
    x: Floats, y: Floats, to_x: Floats, to_y: Floats, most: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Index of the nearest node for each place, and whether it is near at all."""
    squared = (x[..., None] - to_x) ** 2 + (y[..., None] - to_y) ** 2
    nearest = np.argmin(squared, axis=-1)
    return nearest, np.take_along_axis(squared, nearest[..., None], axis=-1)[..., 0] <= most**2


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Previews of a sub and its reference; either may be missing."""

    sub: Preview | None
    reference: Preview | None


def read_pictures(reader: Reader, study: Study) -> Pictures:
    """Load both previews."""
    return Pictures(
        load_preview(reader.preview_path_of(study.row.content_id)),
        load_preview(reader.preview_path_of(study.reference_row.content_id)),
    )


def lay_sub(study: Study, preview: Preview, smoothness: float, view: Sight) -> Laid:
    """The sub on the reference's grid."""
    transforms = (study.reference_facts.transform, study.facts.transform)
    return lay(preview, transforms, study.relation.scale, surfaces_of(study, smoothness), view)


def lay_reference(study: Study, preview: Preview, view: Sight) -> Laid:
    """The reference on its own grid."""
    same = study.reference_facts.transform
    ones = [1.0] * len(study.relation.scale)
    return lay(preview, (same, same), ones, [None] * len(ones), view)
