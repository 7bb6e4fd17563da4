"""A training set of graphs: original ones, a choice of them, or distilled ones, with what they cost to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.data.graph_sets import GraphSet

_NUMBER = 4
"""Bytes of a label or of one end of an edge."""


@dataclass(frozen=True)
class Reduced:
    """Graphs to train on.

    Attributes:
        graphs: G graphs, N nodes.
        root: [N] bool, the nodes that are pooled; None for all.
        support: [G] int64, how many original graphs each stands for; None where that means nothing.
    """

    graphs: GraphSet
    root: np.ndarray | None = None
    support: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.graphs)

    def take(self, index: np.ndarray) -> Reduced:
        """The graphs ``index`` [K], in that order."""
        root = None if self.root is None else self.root[self.graphs.nodes_of(index)]
        support = None if self.support is None else self.support[index]
        return Reduced(self.graphs.take(index), root, support)

    @property
    def nbytes(self) -> np.ndarray:
        """[G] int64, bytes of each graph: four a node label, eight an edge, four an edge label where edges have
        any, four the class, and one a node where roots are marked."""
        node = _NUMBER + (self.root is not None)
        edge = (3 if self.graphs.edge_label.any() else 2) * _NUMBER
        return np.diff(self.graphs.node_ptr) * node + np.diff(self.graphs.edge_ptr) * edge + _NUMBER


def merge(parts: Sequence[Reduced]) -> Reduced:
    """One set after the other; all with roots and support, or all without."""
    shift = np.cumsum([0, *(len(part.graphs.node_label) for part in parts)])
    flat = [part.graphs for part in parts]
    graphs = GraphSet(
        np.concatenate([g.node_label for g in flat]),
        np.concatenate([[0], *(g.node_ptr[1:] + s for g, s in zip(flat, shift, strict=False))]),
        np.concatenate([g.edge + s for g, s in zip(flat, shift, strict=False)], axis=1),
        np.concatenate([g.edge_label for g in flat]),
        np.concatenate([g.y for g in flat]),
    )
    if parts[0].root is None:
        return Reduced(graphs)
    return Reduced(
        graphs, np.concatenate([p.root for p in parts]), np.concatenate([p.support for p in parts])
    )
