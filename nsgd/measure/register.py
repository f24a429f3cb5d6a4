"""Registration: the transform from series coordinates to a sub, from star lists alone.

Three ways to a first guess, cheapest first: the last sub's transform and its half turn (a meridian
flip) with a vote on the shift; then a vote on the rotation from star pairs, whose length no rotation
changes, so that 15 common stars among 80 stand far above chance. Every guess is refined by mutual
nearest neighbours and must beat the odds of a chance match, or the answer is "no match", with numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import gammainc

from nsgd.errors import MeasureFailure
from nsgd.records import Floats, Transform

BRIGHT = 150
"""Stars of each list that vote on a guess."""
VOTE_CELL_PX = 6.0
MOST_NEAR = 6
"""Stars of a sub within the tolerance of one place at most."""
PAIR_STARS = 80
PAIR_TOLERANCE_PX = 1.5
START_TOLERANCE_PX = 5.0
OUTLIER = 3.0
"""Matches that lie farther off than this times the median are left aside."""
WIDE_ROUNDS = 12
MOST_CHANCE_LOG10 = -4.0
"""Largest accepted log10 probability that any of the tried transforms matched this well by chance."""
PLAIN = 0.5
"""A guess by which this part of the stars match needs no rival."""
BEYOND_CHANCE = 0.6
"""Where this part of the stars match, no crowding of them explains it."""
BESIDE_TOLERANCES = 5.0
FEW, LEAST_TURN = 10, 0.003
"""Fewer matches than this can be judged by the turn too: one that was foreseen to this (radians) is no free choice."""
CROWD = 5
"""Fewer matches than this beside a guess are no crowd, and too few to be an expectation."""

Integers = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A registration: transform, matched star numbers and how sure it is."""

    transform: Transform
    catalogue_index: Integers
    sub_index: Integers
    residual_px: float
    """Root mean square distance of the brightest fifth of the matches, each weighted by how well it is known."""
    false_match_log10: float


@dataclass(frozen=True, slots=True)
class Guess:
    """A first guess."""

    transform: Transform
    trials_log10: float
    """log10 of the number of transforms that were implicitly tried for it."""
    foreseen: bool
    """Its turn and scale are those of a hint, not sought in the lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A star list for matching, brightest first, full-resolution pixels."""

    x: Floats
    y: Floats
    known_err_px: Floats | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def err_px(self) -> Floats:
        """Error of each position; equal ones where they are not known."""
        return np.ones(len(self.x)) if self.known_err_px is None else self.known_err_px

    def first(self, n: int) -> Points:
        """The n brightest."""
        return Points(self.x[:n], self.y[:n], self.err_px[:n])


def register(
    catalogue: Points, sub: Points, size_px: tuple[int, int], hints: Sequence[Transform] = (), min_matched: int = 5
) -> Match:
    """Find the transform from catalogue to sub.

    Parameters
    ----------
    catalogue, sub
        Star positions, brightest first; hot pixels already left out.
    size_px
        (width, height) of the sub.
    hints
        Transforms to try first, e.g. the last sub's.

    Raises
    ------
    MeasureFailure
        `no_stars` or `no_match`, with the number of stars on both sides and of the best match.
    """
    if len(sub) < 3 or len(catalogue) < 3:
        raise MeasureFailure("no_stars", f"{len(sub)} stars found, {min_matched} needed", stars_detected=len(sub))
    catalogue = catalogue.first(max(2 * len(sub), 3 * BRIGHT))
    best: Match | None = None
    for guess in _guesses(catalogue, sub, size_px, hints):
        match = _refine(catalogue, sub, guess, size_px)
        if match is None or len(match.sub_index) < min_matched:
            best = _better(best, match)
            continue
        best = _better(best, match)
        if match.false_match_log10 < MOST_CHANCE_LOG10 and len(match.sub_index) >= PLAIN * min(
            len(sub), len(catalogue)
        ):
            return match
    if best is not None and len(best.sub_index) >= min_matched and best.false_match_log10 < MOST_CHANCE_LOG10:
        return best
    found = 0 if best is None else len(best.sub_index)
    said = f"{found} stars matched, {min_matched} needed"
    if found >= min_matched:
        said = f"{found} stars matched, no more than chance brings"
    raise MeasureFailure(
        "no_match", f"{said} ({len(sub)} found, {len(catalogue)} in the catalogue)",
        stars_matched=found, stars_detected=len(sub), stars_catalogue=len(catalogue),
        false_match_log10=0.0 if best is None else round(best.false_match_log10, 2),
    )  # fmt: skip


def _better(first: Match | None, second: Match | None) -> Match | None:
    if first is None or second is None:
        return first or second
    return second if second.false_match_log10 < first.false_match_log10 else first


def _guesses(catalogue: Points, sub: Points, size_px: tuple[int, int], hints: Sequence[Transform]) -> Iterator[Guess]:
    """First guesses: those of the hints first."""
    area_trials = float(np.log10(size_px[0] * size_px[1] / 25.0))
    straight = [replace(hint, quad=()) for hint in hints] or [Transform()]
    for hint in straight:
        for guess in (hint, half_turn(hint, size_px)):
            shifted = _vote_shift(catalogue.first(BRIGHT), sub.first(BRIGHT), guess, size_px)
            if shifted is not None:
                yield Guess(shifted, area_trials + 0.5, True)
    for angle in _vote_rotation(catalogue.first(PAIR_STARS), sub.first(PAIR_STARS)):
        shifted = _vote_shift(catalogue.first(BRIGHT), sub.first(BRIGHT), rotation(angle, size_px), size_px)
        if shifted is not None:
            yield Guess(shifted, area_trials + 3.0, False)


def rotation(angle_rad: float, size_px: tuple[int, int]) -> Transform:
    """Rotation about the centre of the frame."""
    c, s = float(np.cos(angle_rad)), float(np.sin(angle_rad))
    mx, my = (size_px[0] - 1) / 2, (size_px[1] - 1) / 2
    return Transform(c, -s, s, c, mx - c * mx + s * my, my - s * mx - c * my)


def half_turn(transform: Transform, size_px: tuple[int, int]) -> Transform:
    """The same transform after the camera turned by 180 degrees (meridian flip)."""
    w, h = size_px[0] - 1, size_px[1] - 1
    t = transform
    return Transform(-t.a, -t.b, -t.c, -t.d, w - t.tx, h - t.ty)


def _vote_shift(catalogue: Points, sub: Points, guess: Transform, size_px: tuple[int, int]) -> Transform | None:
    """The guess moved by the commonest difference between its stars and the sub's; None without any."""
    x, y = guess.apply(catalogue.x, catalogue.y)
    dx = (sub.x[None, :] - x[:, None]).ravel()
    dy = (sub.y[None, :] - y[:, None]).ravel()
    near = (np.abs(dx) < 0.7 * size_px[0]) & (np.abs(dy) < 0.7 * size_px[1])
    dx, dy = dx[near], dy[near]
    if dx.size == 0:
        return None
    peak = _commonest(dx, dy)
    close = np.hypot(dx - dx[peak], dy - dy[peak]) <= VOTE_CELL_PX
    return replace(guess, tx=guess.tx + float(np.median(dx[close])), ty=guess.ty + float(np.median(dy[close])))


def _commonest(dx: Floats, dy: Floats) -> int:
    """Number of the first difference in a cell that holds most of them, of cells that overlap by halves."""
    most, first = 0, 0
    across, down = dx / VOTE_CELL_PX, dy / VOTE_CELL_PX
    rows = np.int32(2.0 * np.abs(down).max() + 3.0)  # so many cells lie above one another at most
    for ox in (0.0, 0.5):
        for oy in (0.0, 0.5):
            cell = np.floor(across + ox).astype(np.int32) * rows + np.floor(down + oy).astype(np.int32)
            fullest, number = _fullest(cell)
            place = int(np.isin(cell, fullest).argmax())
            if number > most or (number == most and place < first):
                most, first = number, place
    return first


def _fullest(cells: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """The cells that occur most often, and how often that is."""
    ordered = np.sort(cells)
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    number = np.diff(begins, append=ordered.size)
    most = int(number.max())
    return ordered[begins[number == most]], most


def _vote_rotation(catalogue: Points, sub: Points) -> list[float]:
    """Likely rotations in radians from star pairs of equal length, likeliest first.

    The scale of a camera does not change, so that the length of a pair is kept by every registration.
    """
    length_a, angle_a = _pairs(catalogue)
    length_b, angle_b = _pairs(sub)
    low = np.searchsorted(length_b, length_a - PAIR_TOLERANCE_PX)
    high = np.searchsorted(length_b, length_a + PAIR_TOLERANCE_PX)
    number = high - low
    total = int(number.sum())
    if total == 0:
        return []
    first = np.repeat(np.arange(length_a.size), number)
    second = np.arange(total) - np.repeat(np.cumsum(number) - number, number) + np.repeat(low, number)
    turn = np.mod(angle_b[second] - angle_a[first], np.pi)
    bins = 720
    votes = np.bincount((turn / np.pi * bins).astype(int) % bins, minlength=bins).astype(float)
    smooth = votes + np.roll(votes, 1)
    peaks: list[float] = []
    for _ in range(4):
        top = int(smooth.argmax())
        near = np.abs((turn / np.pi * bins - top + bins / 2) % bins - bins / 2) < 1.5
        if not near.any():
            break
        offset = (turn[near] - top * np.pi / bins + np.pi / 2) % np.pi - np.pi / 2
        angle = top * np.pi / bins + float(np.median(offset))
        peaks += [angle, angle + np.pi]
        smooth[np.arange(top - 3, top + 4) % bins] = 0
    return peaks


def _pairs(points: Points) -> tuple[Floats, Floats]:
    """Lengths (sorted) and directions of all star pairs that are long enough to show a direction."""
    i, j = np.triu_indices(len(points), 1)
    dx, dy = points.x[j] - points.x[i], points.y[j] - points.y[i]
    length = np.hypot(dx, dy)
    keep = length > 60.0 if (length > 60.0).sum() > 10 else length > 10.0
    order = np.argsort(length[keep], kind="stable")
    return length[keep][order], np.arctan2(dy, dx)[keep][order]


def _refine(catalogue: Points, sub: Points, guess: Guess, size_px: tuple[int, int]) -> Match | None:
    """Tighten a guess by mutual nearest neighbours; None where fewer than three stars hold.

    The tolerance stays wide until no more pairs join: a guess that is a degree off fits one side of the
    frame before it reaches the other.
    """
    tree = cKDTree(np.column_stack((sub.x, sub.y)))
    transform, tolerance, number = guess.transform, START_TOLERANCE_PX, 0
    pairs = mutual_pairs(catalogue, sub, transform, tolerance, tree)
    for _ in range(WIDE_ROUNDS):
        if len(pairs[0]) < 3:
            return None
        transform = fit_transform(catalogue, sub, pairs, "similarity")
        before, pairs = pairs, mutual_pairs(catalogue, sub, transform, tolerance, tree)
        if len(pairs[0]) <= number or _same(before, pairs):
            break
        number = len(pairs[0])
    for _ in range(5):
        if len(pairs[0]) < 3:
            return None
        transform = _best_transform(catalogue, sub, pairs, size_px)
        tolerance = _tolerance(catalogue, sub, pairs, transform)
        before, pairs = pairs, mutual_pairs(catalogue, sub, transform, tolerance, tree)
        if _same(before, pairs):
            break
    if len(pairs[0]) < 3:
        return None
    turned = max(abs(getattr(transform, part) - getattr(guess.transform, part)) for part in "abcd")
    found = (len(pairs[0]), max(tolerance, 1.0), guess.foreseen and turned < LEAST_TURN)
    chance = _chance_log10(catalogue, sub, transform, size_px, found)
    return Match(transform, *pairs, _residual_px(catalogue, sub, pairs, transform), chance + guess.trials_log10)


def _same(first: tuple[Integers, Integers], second: tuple[Integers, Integers]) -> bool:
    return np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def _residual_px(catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], transform: Transform) -> float:
    """How far the bright stars lie from where the transform puts them; those that the fit leaves aside do not count."""
    few = slice(max(len(pairs[0]) // 5, min(len(pairs[0]), 10)))
    distance = _distances(catalogue, sub, pairs, transform)[few]
    root = 1.0 / np.hypot(catalogue.err_px[pairs[0]], sub.err_px[pairs[1]])[few]
    kept = distance * root <= OUTLIER * float(np.median(distance * root)) + 1e-9
    return float(np.sqrt(np.average(distance[kept] ** 2, weights=root[kept] ** 2)))


def _best_transform(
    catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], size_px: tuple[int, int]
) -> Transform:
    """The simplest transform that the residuals do not contradict.

    Affine and quadratic terms must lower the weighted residual by more than their number would by chance,
    and quadratic ones must be held by stars over most of the ground that both share.
    """
    transform = fit_transform(catalogue, sub, pairs, "similarity")
    number = len(pairs[0])
    weight = 1.0 / (catalogue.err_px[pairs[0]] ** 2 + sub.err_px[pairs[1]] ** 2)

    def misfit(candidate: Transform) -> float:
        pull2 = _distances(catalogue, sub, pairs, candidate) ** 2 * weight
        return float(np.minimum(pull2, 9.0 * np.median(pull2)).sum())

    least = misfit(transform)
    for model, few, terms in (("affine", 12, 2), ("quadratic", 40, 6)):
        if number < few or (model == "quadratic" and not _covers(catalogue, sub, pairs, transform, size_px)):
            break
        candidate = fit_transform(catalogue, sub, pairs, model)
        left = misfit(candidate)
        if left < least * (1.0 - 6.0 * terms / (2.0 * number)):
            transform, least = candidate, left
    return transform


def _covers(
    catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], transform: Transform, size_px: tuple[int, int]
) -> bool:
    """Whether the pairs span at least 70 % of the catalogue's stars inside the frame, in both axes."""
    x, y = transform.apply(catalogue.x, catalogue.y)
    inside = (x >= 0) & (y >= 0) & (x < size_px[0]) & (y < size_px[1])
    if not inside.any():
        return False
    wide = all(np.ptp(found[pairs[1]]) >= 0.7 * np.ptp(mapped[inside]) for found, mapped in ((sub.x, x), (sub.y, y)))
    return bool(wide)


def _distances(catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], transform: Transform) -> Floats:
    x, y = transform.apply(catalogue.x[pairs[0]], catalogue.y[pairs[0]])
    return np.asarray(np.hypot(x - sub.x[pairs[1]], y - sub.y[pairs[1]]))


def _tolerance(catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], transform: Transform) -> float:
    middle = float(np.median(_distances(catalogue, sub, pairs, transform)))
    return float(np.clip(5.0 * middle, 0.7, START_TOLERANCE_PX))


def mutual_pairs(
    catalogue: Points, sub: Points, transform: Transform, tolerance_px: float, tree: cKDTree | None = None
) -> tuple[Integers, Integers]:
    """One-to-one matches: each star is the other's nearest neighbour within the tolerance.

    Returns
    -------
    catalogue_index, sub_index
        In the catalogue's order (brightest first).
    """
    x, y = transform.apply(catalogue.x, catalogue.y)
    tree = tree or cKDTree(np.column_stack((sub.x, sub.y)))
    asked = tree.query(np.column_stack((x, y)), k=MOST_NEAR, distance_upper_bound=tolerance_px)
    distance, near = (np.asarray(part) for part in asked)
    candidate = np.flatnonzero(np.isfinite(distance[:, 0]))
    forward = near[candidate, 0].astype(np.intp)
    star, place = np.nonzero(np.isfinite(distance))
    farthest_first = np.argsort(distance[star, place], kind="stable")[::-1]
    back = np.empty(len(sub), dtype=np.intp)
    back[near[star, place][farthest_first]] = star[farthest_first]  # the nearest is written last, and stays
    mutual = back[forward] == candidate
    return candidate[mutual], forward[mutual]


def fit_transform(catalogue: Points, sub: Points, pairs: tuple[Integers, Integers], model: str) -> Transform:
    """Weighted least-squares transform of matched stars with outlier rejection.

    `model` is `similarity` (shift, rotation, scale), `affine`, or `quadratic` (affine plus second order).
    """
    x, y = catalogue.x[pairs[0]], catalogue.y[pairs[0]]
    sx, sy = sub.x[pairs[1]], sub.y[pairs[1]]
    root = 1.0 / np.hypot(catalogue.err_px[pairs[0]], sub.err_px[pairs[1]])
    keep = np.ones(x.size, dtype=bool)
    transform = Transform()
    for _ in range(3):
        transform = _fit(model, (x[keep], y[keep]), (sx[keep], sy[keep]), root[keep])
        mx, my = transform.apply(x, y)
        pull = np.hypot(mx - sx, my - sy) * root
        new = pull <= OUTLIER * float(np.median(pull[keep])) + 1e-9
        if new.sum() < 6 or (new == keep).all():
            break
        keep = new
    return transform


def _fit(model: str, source: tuple[Floats, Floats], sub: tuple[Floats, Floats], root: Floats) -> Transform:
    x, y = source
    cx, cy = float(x.mean()), float(y.mean())
    half = max(float(np.ptp(x)), float(np.ptp(y)), 1.0) / 2
    u, v = (x - cx) / half, (y - cy) / half
    if model == "similarity":
        zeros, ones = np.zeros_like(u), np.ones_like(u)
        design = np.concatenate((np.column_stack((u, -v, ones, zeros)), np.column_stack((v, u, zeros, ones))))
        both = np.concatenate((root, root))
        p, q, sx, sy = _least_squares(design * both[:, None], np.concatenate(sub) * both)
        linear = (p, -q, q, p)
        quad: tuple[float, ...] = ()
    else:
        columns = [np.ones_like(u), u, v] + ([u * u, u * v, v * v] if model == "quadratic" else [])
        design = np.column_stack(columns) * root[:, None]
        solution = _least_squares(design, np.column_stack(sub) * root[:, None])
        sx, sy = solution[0]
        linear = (solution[1, 0], solution[2, 0], solution[1, 1], solution[2, 1])
        quad = tuple(float(value) for value in solution[3:].T.ravel())
    a, b, c, d = (float(value) / half for value in linear)
    return Transform(a, b, c, d, float(sx) - a * cx - b * cy, float(sy) - c * cx - d * cy, quad, cx, cy, half)


def _least_squares(design: Floats, target: Floats) -> Floats:
    """The solution by normal equations: coordinates are scaled to -1..1; the shortest one where stars lie on a line."""
    return np.asarray(np.linalg.lstsq(design.T @ design, design.T @ target, rcond=1e-12)[0])


def _chance_log10(
    catalogue: Points, sub: Points, transform: Transform, size_px: tuple[int, int], found: tuple[int, float, bool]
) -> float:
    """log10 of the probability that random lists give this many matches within this tolerance (Poisson).

    `found` holds the matches, the tolerance (px), and whether the transform's turn was known before.
    """
    matched, tolerance_px, unturned = found
    x, y = transform.apply(catalogue.x, catalogue.y)
    inside = int(((x >= 0) & (x < size_px[0]) & (y >= 0) & (y < size_px[1])).sum())
    expected = inside * len(sub) * np.pi * tolerance_px**2 / (size_px[0] * size_px[1])
    if matched < BEYOND_CHANCE * min(inside, len(sub)):
        beside = _matches_beside(catalogue, sub, transform, tolerance_px)
        expected = beside if beside >= CROWD else expected
    # three stars are spent on the transform itself; where all of a few stars match unturned, one on the shift
    few = matched < FEW and matched >= 0.8 * min(inside, len(sub)) and unturned
    spare = max(matched - (1 if few else 3), 1)
    probability = float(gammainc(spare, max(expected, 1e-12)))
    if probability > 1e-290:
        return float(np.log10(probability))
    return float((spare * np.log(expected) - expected - spare * np.log(spare) + spare) / np.log(10.0))


def _matches_beside(catalogue: Points, sub: Points, transform: Transform, tolerance_px: float) -> float:
    """Most matches where the lists are laid on each other wrongly, by some tolerances to all sides.

    Stars that crowd (a cluster, the Milky Way) match by chance far more often than evenly spread ones.
    """
    step = BESIDE_TOLERANCES * tolerance_px
    tree = cKDTree(np.column_stack((sub.x, sub.y)))
    moved = [replace(transform, tx=transform.tx + dx, ty=transform.ty + dy)
             for dx, dy in ((step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step))]  # fmt: skip
    return float(max(len(mutual_pairs(catalogue, sub, one, tolerance_px, tree)[0]) for one in moved))
