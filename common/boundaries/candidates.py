"""Which pixel of a prediction may be matched with which pixel of an annotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs:
    """Edges of a bipartite graph, no edge twice.

    Attributes:
        first: [E] int, number of the pixel in the prediction.
        second: [E] int, number of the pixel in the annotation.
        cost: [E] int64, distance in hundredths of a pixel, rounded.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    cost: NDArray[np.int64]

    def part(self, edges: NDArray[np.intp]) -> Pairs:
        """The edges with the given indices alone."""
        return Pairs(self.first[edges], self.second[edges], self.cost[edges])


class Candidates:
    """Candidate pairs of all pixels that any threshold of a prediction keeps, enumerated once an annotation.

    Args:
        pixels: [N] flat positions (row * W + column) of these pixels, ascending.
        annotation: [H, W] bool.
        tolerance: largest distance of a pair in pixels, inclusive.
    """

    def __init__(self, pixels: NDArray[np.intp], annotation: NDArray[np.bool_], tolerance: float) -> None:
        reach = int(tolerance)
        wide = annotation.shape[1] + 2 * reach
        numbers = np.full((annotation.shape[0] + 2 * reach, wide), -1, dtype=np.int32)
        inside = numbers[reach : reach + annotation.shape[0], reach : reach + annotation.shape[1]]
        inside[annotation] = np.arange(np.count_nonzero(annotation), dtype=np.int32)
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        squared = dy**2 + dx**2
        near = squared <= tolerance * tolerance
        shifts = (dy * wide + dx)[near]
        costs = np.rint(100 * np.sqrt(squared[near])).astype(np.int64)
        rows, columns = np.divmod(pixels, annotation.shape[1])
        places = (rows + reach) * wide + columns + reach
        found = numbers.ravel()[places[:, None] + shifts]
        valid = found >= 0
        which, offset = np.nonzero(valid)
        self._second = found[valid].astype(np.intp)
        self._cost = costs[offset]
        self._start = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(pixels)))])

    def of(self, rows: NDArray[np.intp]) -> Pairs:
        """Pairs of the pixels with the given numbers (places in ``pixels``); ``first`` counts along ``rows``."""
        start, count = self._start[rows], self._start[rows + 1] - self._start[rows]
        ends = np.cumsum(count)
        total = int(ends[-1]) if len(ends) else 0
        edges = np.arange(total) + np.repeat(start - (ends - count), count)
        return Pairs(np.repeat(np.arange(len(rows)), count), self._second[edges], self._cost[edges])
