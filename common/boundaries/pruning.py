"""Candidate pairs that no best matching uses, where the prediction is thick.

Take a pixel i of the annotation and the set S of its candidates within a radius r. If fewer other pixels of the
annotation reach S than S has members, some member is free or belongs to i in every matching; a best matching then
gives i a member of S, because any other choice could be exchanged for a nearer one. Pairs of i beyond r can go, which
shortens the reach of i, and so on. All best matchings survive, and so does their cost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.boundaries.candidates import Candidates, Pairs

# Beside a thin prediction a pixel has no more candidates than pixels that want them, and nothing can go.
_THICK = 12
# Each round costs about as much as it saves after a few.
_ROUNDS = 5
# Three distances are rounded to hundredths of a pixel before the triangle inequality is used on them.
_SLACK = 2


class Pruning:
    """Distances within one annotation, for all thresholds.

    Args:
        annotation: [H, W] bool.
        tolerance: largest distance of a pair in pixels.
    """

    def __init__(self, annotation: NDArray[np.bool_], tolerance: float) -> None:
        pixels = np.flatnonzero(annotation)
        near = Candidates(pixels, annotation, 2 * tolerance).of(np.arange(len(pixels)))
        other = near.first != near.second
        self._count = len(pixels)
        self._one, self._other, self._between = near.first[other], near.second[other], near.cost[other]

    def kept(self, pairs: Pairs) -> NDArray[np.intp]:
        """Indices of the pairs that a best matching may use; all of them unless the prediction is thick.

        Args:
            pairs: ``second`` counts the annotation's pixels.
        """
        every = np.arange(len(pairs.cost))
        if not len(every) or len(every) < _THICK * np.count_nonzero(np.bincount(pairs.second)):
            return every
        radii = np.unique(pairs.cost)
        ring = np.searchsorted(radii, pairs.cost)
        members = _cumulative(pairs.second, ring, self._count, len(radii))
        reach = np.full(self._count, -1, dtype=np.int64)
        np.maximum.at(reach, pairs.second, pairs.cost)
        # The smallest radius at which another pixel comes into reach, by distance in hundredths.
        ring_of = np.searchsorted(radii, np.arange(int(self._between.max(initial=0)) + 1))
        ring_of = np.append(ring_of, len(radii))
        for _ in range(_ROUNDS):
            start = np.maximum(self._between - reach[self._other] - _SLACK, 0)
            start[reach[self._other] < 0] = len(ring_of) - 1
            rivals = _cumulative(self._one, ring_of[start], self._count, len(radii) + 1)[:, :-1]
            enough = members > rivals
            shorter = np.where(enough.any(1), np.minimum(radii[enough.argmax(1)], reach), reach)
            if np.array_equal(shorter, reach):
                break
            reach = shorter
        return every[pairs.cost <= reach[pairs.second]]


def _cumulative(rows: NDArray[np.intp], rings: NDArray[np.intp], count: int, width: int) -> NDArray[np.int64]:
    """How many entries each row has up to each ring: [count, width]."""
    return np.cumsum(np.bincount(rows * width + rings, minlength=count * width).reshape(count, width), axis=1)
