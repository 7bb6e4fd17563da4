"""One-to-one matching of edge pixels: as many pairs as possible, and among such matchings the least total distance.

Both solvers hand a sparse assignment problem to SciPy. Every pixel of one side has a private column that means "stays
unmatched", so a full matching always exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.boundaries.candidates import Pairs

# SciPy clears one number for each pair of a row and a column, edge or not, so small problems pay; below this many
# pixels the price of a call is what counts.
_BATCH = 300


def match(pairs: Pairs) -> NDArray[np.intp]:
    """Indices into ``pairs`` of a matching of least cost among those of most pairs.

    Connected components are independent problems and are solved in small batches.
    """
    if not len(pairs.cost):
        return np.zeros(0, dtype=np.intp)
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    first, count = compact(pairs.first)
    second, count_second = compact(pairs.second)
    edges = np.ones(len(first), dtype=np.int8)
    shape = (count + count_second,) * 2
    _, component = connected_components(
        csr_array((edges, (first, count + second)), shape=shape), directed=False
    )
    batch_of_component = np.cumsum(np.bincount(component)) // _BATCH
    batch = batch_of_component[component[first]]
    order = np.argsort(batch, kind="stable")
    chosen = []
    for part in np.split(order, np.flatnonzero(np.diff(batch[order])) + 1):
        chosen.append(part[_match_together(pairs.part(part))])
    return np.sort(np.concatenate(chosen))


def _match_together(pairs: Pairs) -> NDArray[np.intp]:
    # Each row costs a search for a shortest path, and a row that stays unmatched a search through its whole
    # component: the smaller side gets the rows.
    (rows, count_rows), (columns, count_columns) = sorted(
        (compact(pairs.first), compact(pairs.second)), key=lambda side: side[1]
    )
    # One more than the distance everywhere: an explicit zero is no edge to SciPy.
    cost = pairs.cost + 1
    # More than any augmenting path can add, hence cardinality comes first without exception.
    unmatched = count_rows * int(cost.max()) + 1
    own = np.arange(count_rows)
    chosen = assign(
        np.concatenate([rows, own]),
        np.concatenate([columns, count_columns + own]),
        np.concatenate([cost, np.full(count_rows, unmatched)]),
        (count_rows, count_columns + count_rows),
    )
    return chosen[chosen < len(cost)]


def compact(numbers: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Renumbers without gaps, in order: the new numbers, and how many there are."""
    used = np.zeros(int(numbers.max()) + 1, dtype=bool)
    used[numbers] = True
    place = np.cumsum(used) - 1
    return place[numbers], int(place[-1]) + 1


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
