"""Graph neural networks on torch-geometric's layers: attention, isomorphism and personalised propagation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.graphs import NodeBatch
from common.graphs.graph import Field
from common.graphs.nodes import Features, dense, dropout
from common.nets.gnn import StackedGNN
from common.nets.node_mlp import NodeMLP


class GAT(StackedGNN):
    """Graph attention (arXiv 1710.10903): ``heads`` of ``hidden / heads`` side by side, one head at the end.

    Args:
        heads: attention heads of the hidden layers.
        attention_dropout: on the attention weights.
        feature_dropout: on each layer's input, None for as much as ``dropout``.
    """

    weights = "sum"

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.5,
        heads: int = 4,
        attention_dropout: float = 0.3,
        feature_dropout: float | None = None,
    ) -> None:
        if hidden % heads:
            raise ValueError(f"hidden={hidden} has to be a multiple of heads={heads}")
        self.heads, self.attention_dropout = heads, attention_dropout
        self.feature_dropout = dropout if feature_dropout is None else feature_dropout
        super().__init__(num_features, num_classes, hidden, layers, dropout)

    def layer(self, width_in: int, width_out: int, last: bool) -> nn.Module:
        """torch-geometric's attention layer; the graph brings its self loops."""
        heads = 1 if last else self.heads
        return _Attention(width_in, width_out, heads, self.attention_dropout, self.feature_dropout)

    def activate(self, hidden: Tensor) -> Tensor:
        """The layers drop their inputs themselves."""
        return torch.relu(hidden)


class _Attention(nn.Module):
    def __init__(self, width_in: int, width_out: int, heads: int, on_weights: float, on_input: float) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv

        self.conv = GATConv(width_in, width_out // heads, heads, dropout=on_weights, add_self_loops=False)
        self.p = on_input

    def forward(self, features: Features, field: Field) -> Tensor:
        x = dropout(dense(features), self.p, self.training)
        return self.conv((x, x[field.centre]), field.edges, size=(len(x), len(field.centre)))


class GIN(StackedGNN):
    """Graph isomorphism layers (arXiv 1810.00826, eq. 4.1) with a two-layer perceptron each."""

    weights = "sum"

    def layer(self, width_in: int, width_out: int, last: bool) -> nn.Module:
        """torch-geometric's ``GINConv``; its epsilon is 0 and the graph's self loop stands for the centre."""
        return _Isomorphism(width_in, width_out)


class _Isomorphism(nn.Module):
    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        from torch_geometric.nn import GINConv

        hidden = max(width_out, 16)
        # Epsilon -1 takes the centre out of the layer's own sum: the self loop brings it once.
        self.conv = GINConv(
            nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(), nn.Linear(hidden, width_out)), eps=-1.0
        )

    def forward(self, features: Features, field: Field) -> Tensor:
        x = dense(features)
        return self.conv((x, x[field.centre]), field.edges, size=(len(x), len(field.centre)))


class APPNP(nn.Module):
    """A perceptron whose logits are spread by personalised PageRank (arXiv 1810.05997, eq. 4).

    Args:
        steps: K, power iterations.
        alpha: teleport probability.
        edge_dropout: share of the edges left out in each step of training.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.5,
        steps: int = 10,
        alpha: float = 0.1,
        edge_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        import torch_geometric.nn as pyg

        self.mlp = NodeMLP(num_features, num_classes, hidden, layers, dropout)
        self.propagation = pyg.APPNP(steps, alpha, edge_dropout)
        self.aliases = {name: f"mlp.{path}" for name, path in self.mlp.aliases.items()}

    def forward(self, batch: NodeBatch) -> Tensor:
        """Logits [B, C] of the nodes that are asked for; ten steps reach the whole graph, so all of it is computed."""
        logits = self.mlp(batch.ask(None))
        logits = self.propagation(logits, batch.graph.edge_index.to(logits.device))
        return logits if batch.nodes is None else logits[batch.nodes]
