"""Facts to relations: what one sub is against the series' solution and its reference. Needs no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nsgd.measure import gradient, scale, weight
from nsgd.records import NAN, Catalogue, Floats, Relation, SubFacts


@dataclass(frozen=True, slots=True, eq=False)
class Related:
    """A sub that other subs are related to: its facts and zero points, per channel."""

    sub_id: int
    facts: SubFacts
    zero: tuple[float, ...]
    zero_err: tuple[float, ...]


def measured_channels(facts: SubFacts, egain_e_per_adu: float | None) -> list[scale.Measured]:
    """Each channel's star fluxes of one sub, ready for the fits."""
    return [
        scale.measured(
            facts.flux[:, k].astype(np.float64),
            facts.flux_err[:, k].astype(np.float64),
            facts.flags,
            common,
            egain_e_per_adu,
        )
        for k, common in enumerate(facts.flux_common_err)
    ]


def detector_places(facts: SubFacts, catalogue: Catalogue) -> tuple[Floats, Floats]:
    """(n,) positions of the catalogue's stars in this sub's detector, -1..1 across the frame."""
    n = len(facts.flux)
    x, y = facts.transform.apply(catalogue.x[:n], catalogue.y[:n])
    return 2.0 * x / (catalogue.width_px - 1) - 1.0, 2.0 * y / (catalogue.height_px - 1) - 1.0


def relate(
    facts: SubFacts,
    zeros: Sequence[scale.ZeroPoint],
    reference: Related,
    catalogue: Catalogue,
    smoothness: float,
    solution: int,
) -> Relation:
    """Scale, weight, pattern and gradient of one sub against the reference.

    Parameters
    ----------
    zeros
        The sub's zero point in each channel, against the solution numbered `solution`.
    smoothness
        Knob of the gradient surface.
    """
    pattern, nothing = field_pattern(facts, zeros, catalogue), (NAN,) * len(zeros)
    alone = Relation(
        solution=solution, reference_id=0, zero=tuple(point.value for point in zeros),
        zero_err=tuple(point.err for point in zeros), scale=nothing, scale_err=nothing, weight=nothing,
        stars_used=min(point.stars for point in zeros), star_scatter=_mean([point.scatter for point in zeros]),
        star_floor=_mean([point.floor for point in zeros]), pattern=pattern.name, pattern_rms=pattern.rms,
        pattern_map=pattern.terms, gradient_x_adu=NAN, gradient_y_adu=NAN, gradient_rms_adu=NAN,
        gradient_diagonal_adu=(NAN, NAN),
    )  # fmt: skip
    return moved(alone, facts, reference, catalogue, smoothness)


def moved(relation: Relation, facts: SubFacts, reference: Related, catalogue: Catalogue, smoothness: float) -> Relation:
    """A relation to another reference or with another smoothness: arithmetic on zero points and nodes."""
    scales = tuple(r / z if z > 0 else NAN for r, z in zip(reference.zero, relation.zero, strict=True))
    own = zip(relation.zero, relation.zero_err, strict=True)
    theirs = zip(reference.zero, reference.zero_err, strict=True)
    errors = tuple(
        _scale_err(m, sub, other, facts is reference.facts) for m, sub, other in zip(scales, own, theirs, strict=True)
    )
    weights = tuple(
        weight.relative_weight(n, m, rn)
        for n, m, rn in zip(facts.noise_adu, scales, reference.facts.noise_adu, strict=True)
    )
    across = gradient_figures(facts, reference, scales, catalogue, smoothness)
    return replace(
        relation, reference_id=reference.sub_id, scale=scales, scale_err=errors, weight=weights,
        gradient_x_adu=across.x_adu, gradient_y_adu=across.y_adu, gradient_rms_adu=across.rms_adu,
        gradient_diagonal_adu=across.diagonal_adu,
    )  # fmt: skip


def _scale_err(m: float, sub: tuple[float, float], reference: tuple[float, float], same: bool) -> float:
    """Relative errors of both zero points added in quadrature; the reference against itself is exact."""
    return 0.0 if same else m * float(np.hypot(sub[1] / sub[0], reference[1] / reference[0]))


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


def field_pattern(facts: SubFacts, zeros: Sequence[scale.ZeroPoint], catalogue: Catalogue) -> scale.Pattern:
    """Star ratios over the frame, channels averaged with their weights."""
    n = min(len(zeros[0].residual), len(facts.flux))
    u, v = (places[:n] for places in detector_places(facts, catalogue))
    if len(zeros) == 1:
        return scale.field_pattern(zeros[0].residual[:n], zeros[0].sigma[:n], u, v)
    information = np.stack([np.nan_to_num(1.0 / point.sigma[:n] ** 2) for point in zeros])
    total = information.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.nansum(information * np.stack([np.nan_to_num(p.residual[:n]) for p in zeros]), axis=0) / total
        return scale.field_pattern(residual, 1.0 / np.sqrt(total), u, v)


def gradient_surfaces(
    facts: SubFacts, reference: Related, scales: Sequence[float], catalogue: Catalogue, smoothness: float
) -> list[gradient.Surface | None]:
    """Relative gradient of each channel as a surface over the reference's pixels, ADU of the reference."""
    x, y = reference.facts.transform.apply(catalogue.node_x, catalogue.node_y)
    count = min(len(facts.node_sky), len(reference.facts.node_sky))
    both = np.minimum(facts.node_fraction[:count], reference.facts.node_fraction[:count]).astype(np.float64)
    size = (catalogue.width_px, catalogue.height_px)
    return [
        gradient.fit_surface(
            x[:count], y[:count],
            gradient.node_difference(_column(facts, k, count), _column(reference.facts, k, count), m),
            _node_weight(both), smoothness, size,
        )
        for k, m in enumerate(scales)
    ]  # fmt: skip


def _column(facts: SubFacts, channel: int, count: int) -> Floats:
    return facts.node_sky[:count, channel].astype(np.float64)


def _node_weight(fraction: Floats) -> Floats:
    """1 for nodes of which half or more is measured, else 0: subs of a series then share the spline's factorisation."""
    return np.asarray(fraction >= 0.5, dtype=np.float64)


def gradient_figures(
    facts: SubFacts, reference: Related, scales: Sequence[float], catalogue: Catalogue, smoothness: float
) -> gradient.GradientFigures:
    """Amplitude and direction of the relative gradient, mean of the channels."""
    surfaces = gradient_surfaces(facts, reference, scales, catalogue, smoothness)
    parts = [gradient.figures(surface, catalogue.width_px, catalogue.height_px) for surface in surfaces]
    return gradient.GradientFigures(
        _mean([part.x_adu for part in parts]), _mean([part.y_adu for part in parts]),
        _mean([part.rms_adu for part in parts]),
        (_mean([part.diagonal_adu[0] for part in parts]), _mean([part.diagonal_adu[1] for part in parts])),
    )  # fmt: skip
