"""Graph classifiers: GCN, GAT and GIN layers of PyTorch Geometric, pooling over all nodes or over roots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv
from torch_geometric.utils import scatter

from common.errors import UserError, nearest

GNNS = ("gcn", "gat", "gin")


def _layer(kind: str, hidden: int) -> nn.Module:
    if kind == "gcn":
        return GCNConv(hidden, hidden)
    if kind == "gat":
        return GATConv(hidden, hidden)
    return GINConv(nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)))


class GraphClassifier(nn.Module):
    """Embedding of labels, ``layers`` rounds of messages, pooling, one linear layer.

    Args:
        kind: ``gcn``, ``gat`` or ``gin``.
        num_labels: number of node labels.
        num_classes: C.
        layers: rounds of messages.
        hidden: D.
        dropout: after each round, and before the linear layer.
        pool: ``sum`` or ``mean``.

    Raises:
        UserError: there is no such kind or pool.
    """

    def __init__(
        self,
        kind: str,
        num_labels: int,
        num_classes: int,
        layers: int = 2,
        hidden: int = 64,
        dropout: float = 0.2,
        pool: str = "sum",
    ) -> None:
        super().__init__()
        for name, value, known in (("gnns", kind, GNNS), ("pool", pool, ("sum", "mean"))):
            if value not in known:
                raise UserError(f"{name}: there is no {value}; {nearest(value, known)}")
        self.embedding = nn.Embedding(num_labels, hidden)
        self.layers = nn.ModuleList(_layer(kind, hidden) for _ in range(layers))
        self.head = nn.Linear(hidden, num_classes)
        self.dropout, self.pool = dropout, pool

    def nodes(self, label: Tensor, edge: Tensor) -> Tensor:
        """Features [N, D] of nodes with labels [N] and edges [2, E] from source to target."""
        h = self.embedding(label)
        for number, layer in enumerate(self.layers, 1):
            h = layer(h, edge)
            # The last round stays linear, so that a pooled feature may be negative.
            h = F.relu(h) if number < len(self.layers) else h
            h = F.dropout(h, self.dropout, self.training)
        return h

    def forward(self, label: Tensor, edge: Tensor, graph: Tensor, count: int, root: Tensor | None) -> Tensor:
        """Logits [count, C].

        Args:
            label: [N] int64.
            edge: [2, E] int64.
            graph: [N] int64, the graph of each node.
            count: number of graphs.
            root: [N] bool, nodes to pool; None for all.
        """
        h = self.nodes(label, edge)
        if root is not None:
            h, graph = h[root], graph[root]
        pooled = scatter(h, graph, 0, count, reduce=self.pool)
        return self.head(F.dropout(pooled, self.dropout, self.training))


def as_tensors(graphs: object, root: object = None) -> tuple[Tensor, Tensor, Tensor, int, Tensor | None]:
    """What ``forward`` takes, from a ``GraphSet`` and a mask [N] of roots."""
    return (
        torch.from_numpy(graphs.node_label),
        torch.from_numpy(graphs.edge),
        torch.from_numpy(graphs.graph_of),
        len(graphs),
        None if root is None else torch.from_numpy(root),
    )
