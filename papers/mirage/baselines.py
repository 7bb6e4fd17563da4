"""Choices of original graphs within a budget of bytes: at random, and by herding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from papers.mirage.reduced import Reduced
from papers.mirage.trees import Forest


def within(order: np.ndarray, nbytes: np.ndarray, budget: float) -> np.ndarray:
    """The longest beginning of ``order`` that costs no more than ``budget``, but never less than one graph."""
    fits = int(np.searchsorted(np.cumsum(nbytes[order]), budget, side="right"))
    return order[: max(fits, 1)]


def random_order(count: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of ``count`` graphs."""
    return rng.permutation(count)


def tree_features(
    forest: Forest, graph_of: np.ndarray, count: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each tree of 0 to L hops occurs in each graph, projected at random.

    Args:
        forest: codes of N nodes.
        graph_of: [N] int64, graph of each node.
        count: number of graphs, G.
        width: D.
        rng: draws the projection.

    Returns:
        [G, D] float64; distances are those of the counts, up to the projection (Johnson-Lindenstrauss).
    """
    features = np.zeros((count, width))
    for code, level in zip(forest.codes, forest.levels, strict=True):
        trees = len(level.label)
        table = csr_array((np.ones(len(code)), (graph_of, code)), shape=(count, trees))
        features += table @ rng.standard_normal((trees, width)) / np.sqrt(width)
    return features


def herding_order(features: np.ndarray) -> np.ndarray:
    """Rows in the order in which the mean of those chosen so far stays nearest to the mean of all (Welling, 2009).

    Args:
        features: [G, D].
    """
    mean, total = features.mean(0), np.zeros(features.shape[1])
    left = np.ones(len(features), bool)
    order = []
    for chosen in range(1, len(features) + 1):
        gap = np.square((total + features) / chosen - mean).sum(1)
        gap[~left] = np.inf
        nearest = int(gap.argmin())
        order.append(nearest)
        left[nearest] = False
        total += features[nearest]
    return np.array(order)


def choose(everything: Reduced, orders: Sequence[np.ndarray], budgets: Sequence[float]) -> Reduced:
    """For each class the beginning of its order that its budget allows.

    Args:
        everything: the training graphs.
        orders: a class: numbers of its graphs, best first.
        budgets: a class: bytes.
    """
    chosen = [within(order, everything.nbytes, bytes_) for order, bytes_ in zip(orders, budgets, strict=True)]
    return everything.take(np.concatenate(chosen))
