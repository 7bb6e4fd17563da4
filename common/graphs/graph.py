"""A graph, its normalised adjacencies, and the part of it that some nodes' predictions depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from common.graphs.sparse import SparseMatrix

Weights = Literal["symmetric", "mean_twice", "mean", "sum"]
# Training, validation and test nodes of a few architectures.
_MOST_FIELDS = 12


@dataclass
class Field:
    """One layer's share of a receptive field: M output nodes, N >= M input nodes.

    Attributes:
        matrix: [M, N], the weighted adjacency between them.
        centre: [M], place of each output node among the input nodes.
        edges: [2, E], pairs (input place, output place); what attention layers take.
    """

    matrix: SparseMatrix
    centre: Tensor
    edges: Tensor

    def to(self, *args: Any, **kwargs: Any) -> Field:
        """Moves everything."""
        return Field(
            self.matrix.to(*args, **kwargs), self.centre.to(*args, **kwargs), self.edges.to(*args, **kwargs)
        )


@dataclass
class Graph:
    """An undirected graph without self loops and without double edges.

    Attributes:
        num_nodes: N.
        edge_index: [2, E] int64, both directions of each edge.
    """

    num_nodes: int
    edge_index: Tensor
    _kept: dict[str, sp.csr_matrix] = field(default_factory=dict, repr=False)
    _fields: dict[Any, Any] = field(default_factory=dict, repr=False)

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        """The graph itself: its fields move with the features they are used on."""
        return self

    def adjacency(self, weights: Weights) -> sp.csr_matrix:
        """[N, N] with one self loop a node, row = receiving node.

        ``symmetric``: D^-1/2 (A + I) D^-1/2 (GCN, arXiv 1609.02907, eq. 2). ``mean``: D^-1 (A + I). ``mean_twice``:
        (A + 2 I) / (deg + 2), the mean of DGL's "gcn" aggregator on a graph that has self loops already, so that the
        centre counts twice. ``sum``: A + I, unweighted. D counts the self loop.
        """
        if weights not in self._kept:
            source, target = self.edge_index.cpu().numpy()
            size = (self.num_nodes, self.num_nodes)
            edges = sp.csr_matrix((np.ones(len(source), np.float64), (target, source)), shape=size)
            loops = sp.identity(self.num_nodes, format="csr")
            matrix = edges + loops * (2.0 if weights == "mean_twice" else 1.0)
            degree = np.asarray(matrix.sum(1)).ravel()
            if weights == "symmetric":
                half = sp.diags(degree**-0.5)
                matrix = half @ matrix @ half
            elif weights != "sum":
                matrix = sp.diags(1 / degree) @ matrix
            self._kept[weights] = matrix.tocsr()
        return self._kept[weights]

    def fields(
        self, nodes: Tensor | None, depth: int, weights: Weights, fanout: int | None = None
    ) -> tuple[Tensor | None, list[Field]]:
        """What ``depth`` layers have to compute for the predictions of ``nodes``, and nothing else.

        Args:
            nodes: [B] distinct nodes, None for all.
            fanout: most neighbours of a node that are used, drawn anew in each call from torch's global generator;
                None for all of them, which is exact and kept for the next call.

        Returns:
            The nodes whose features are needed (None for all), and one ``Field`` a layer, first layer first.
        """
        if fanout is not None:
            return self._build(nodes, depth, weights, fanout)
        key = (weights, depth, None if nodes is None else id(nodes))
        if key not in self._fields:
            while len(self._fields) >= _MOST_FIELDS:
                self._fields.pop(next(iter(self._fields)))
            # The tensor is kept with the result: another one can then never have its id.
            self._fields[key] = (nodes, self._build(nodes, depth, weights, None))
        return self._fields[key][1]

    def _build(
        self, nodes: Tensor | None, depth: int, weights: Weights, fanout: int | None
    ) -> tuple[Tensor | None, list[Field]]:
        whole = self.adjacency(weights)
        if nodes is None and fanout is None:
            layer = _field(whole, np.arange(self.num_nodes))
            return None, [layer] * depth
        wanted = np.arange(self.num_nodes) if nodes is None else nodes.cpu().numpy()
        layers: list[Field] = []
        for _ in range(depth):
            rows = whole[wanted] if fanout is None else _sample(self.adjacency("sum")[wanted], wanted, fanout)
            # The receiving nodes come first, in their order: every layer needs them itself.
            others = np.setdiff1d(rows.indices, wanted)
            sources = np.concatenate([wanted, others])
            layers.insert(0, _field(rows[:, sources], np.arange(len(wanted))))
            wanted = sources
        return torch.from_numpy(wanted), layers


def _field(matrix: sp.csr_matrix, centre: np.ndarray) -> Field:
    pairs = matrix.tocoo()
    edges = torch.from_numpy(np.stack([pairs.col, pairs.row]).astype(np.int64))
    return Field(SparseMatrix.of(matrix.tocsr()), torch.from_numpy(centre), edges)


def _sample(rows: sp.csr_matrix, nodes: np.ndarray, fanout: int) -> sp.csr_matrix:
    """Mean over at most ``fanout`` drawn neighbours (the self loop is one that may be drawn) and the centre."""
    pairs = rows.tocoo()
    order = np.lexsort((torch.rand(len(pairs.row), dtype=torch.float64).numpy(), pairs.row))
    target, source = pairs.row[order], pairs.col[order]
    first = np.searchsorted(target, target, side="left")
    kept = np.arange(len(target)) - first < fanout
    drawn = sp.csr_matrix((np.ones(kept.sum()), (target[kept], source[kept])), shape=rows.shape)
    centre = sp.csr_matrix((np.ones(len(nodes)), (np.arange(len(nodes)), nodes)), shape=rows.shape)
    total = (drawn + centre).tocsr()
    return (sp.diags(1 / np.asarray(total.sum(1)).ravel()) @ total).tocsr()
