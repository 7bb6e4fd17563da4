"""The problem that the original benchmark solves in place of the exact one, for comparison with published numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.boundaries.candidates import Pairs
from common.boundaries.matching import assign, compact

_PARTNERS = 6
_OUTLIER = 100
_OVERLAY = 100


def match_like_reference(pairs: Pairs, tolerance: float, generator: np.random.Generator) -> NDArray[np.intp]:
    """Indices into ``pairs`` of the matching that a square assignment with random outliers gives.

    With n1 and n2 pixels that have candidates, the problem has n1 + n2 rows and columns: the pixels, and an outlier
    for each pixel of the other side. A pixel is joined to six random outliers only, so now and then a match is missed
    which ``match`` finds; the diagonal, a hundred times dearer, keeps the problem solvable.

    Args:
        pairs: candidate pairs.
        tolerance: in pixels; an outlier costs a hundred times as much.
        generator: draws the outliers.
    """
    if not len(pairs.cost):
        return np.zeros(0, dtype=np.intp)
    first, n1 = compact(pairs.first)
    second, n2 = compact(pairs.second)
    outlier = int(np.ceil(100 * _OUTLIER * tolerance)) + 1

    def drawn(count: int, among: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        partners = min(_PARTNERS, among)
        return np.repeat(np.arange(count), partners), generator.integers(among, size=count * partners)

    pixel, its_outlier = drawn(n1, n1)
    pixel2, its_outlier2 = drawn(n2, n2)
    larger = max(n1, n2)
    both, other = drawn(larger, min(n1, n2))
    outlier_row, outlier_column = (both, other) if n2 >= n1 else (other, both)
    blocks = [
        (first, second, pairs.cost + 1),
        (pixel, n2 + its_outlier, np.full(len(pixel), outlier)),
        (n1 + its_outlier2, pixel2, np.full(len(pixel2), outlier)),
        (n1 + outlier_row, n2 + outlier_column, np.full(len(outlier_row), outlier)),
        (np.arange(n1), n2 + np.arange(n1), np.full(n1, _OVERLAY * outlier)),
        (n1 + np.arange(n2), np.arange(n2), np.full(n2, _OVERLAY * outlier)),
    ]
    rows, columns, cost = (np.concatenate(part) for part in zip(*blocks, strict=True))
    # Of equal edges the first stays; real pairs come first and collide with nothing.
    _, unique = np.unique(rows.astype(np.int64) * (n1 + n2) + columns, return_index=True)
    unique.sort()
    chosen = unique[assign(rows[unique], columns[unique], cost[unique], (n1 + n2, n1 + n2))]
    return chosen[chosen < len(pairs.cost)]
