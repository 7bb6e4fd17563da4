"""One-to-one matching of edge pixels: as many pairs as possible, and among such matchings the least total distance.

Both solvers hand a sparse assignment problem to SciPy. Every pixel of one side has a private column that means "stays
unmatched", so a full matching always exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.boundaries.candidates import Pairs


def match(pairs: Pairs) -> NDArray[np.intp]:
    """Indices into ``pairs`` of a matching of least cost among those of most pairs.

    The smaller side gets the rows: each row costs a search for a shortest path, and a row that stays unmatched a
    search through its whole component. A private column costs more than any augmenting path may add, hence
    cardinality comes first without exception.
    """
    if not len(pairs.cost):
        return np.zeros(0, dtype=np.intp)
    _, first = np.unique(pairs.first, return_inverse=True)
    _, second = np.unique(pairs.second, return_inverse=True)
    rows, columns = (first, second) if first.max() <= second.max() else (second, first)
    count_rows, count_columns = int(rows.max()) + 1, int(columns.max()) + 1
    # One more than the distance everywhere: an explicit zero is no edge to SciPy.
    cost = pairs.cost + 1
    unmatched = count_rows * int(cost.max()) + 1
    chosen = assign(
        np.concatenate([rows, np.arange(count_rows)]),
        np.concatenate([columns, count_columns + np.arange(count_rows)]),
        np.concatenate([cost, np.full(count_rows, unmatched)]),
        (count_rows, count_columns + count_rows),
    )
    return chosen[chosen < len(cost)]


def assign(
    rows: NDArray[np.intp], columns: NDArray[np.intp], cost: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.intp]:
    """Indices of the edges [E] in a matching of all rows with the least total cost; no edge may occur twice."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    order = np.argsort(rows, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))]).astype(np.int32)
    # Costs are integers far below 2**53: sums of floats are exact, and ties stay ties.
    graph = csr_array((cost[order].astype(np.float64), columns[order].astype(np.int32), starts), shape=shape)
    row, column = min_weight_full_bipartite_matching(graph)
    partner = np.empty(shape[0], dtype=np.intp)
    partner[row] = column
    return np.flatnonzero(partner[rows] == columns)
