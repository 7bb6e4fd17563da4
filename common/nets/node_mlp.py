"""The multilayer perceptron that graph neural networks are distilled into."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from common.graphs import NodeBatch
from common.graphs.nodes import dropout, linear


class NodeMLP(nn.Module):
    """Linear, ReLU, dropout, ..., linear; sees a node's own features and never the graph.

    Args:
        num_features: F.
        num_classes: C.
        hidden: width of every hidden layer.
        layers: linear layers, at least 1.
        dropout: after each hidden layer's ReLU.
        batch_norm: between linear layer and ReLU.
    """

    aliases: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers} has to be at least 1")
        widths = [num_features, *[hidden] * (layers - 1), num_classes]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden) if batch_norm else nn.Identity() for _ in range(layers - 1)
        )
        self.p = dropout
        # The last hidden layer before its activation, what NOSMOG compares with the teacher's.
        self.aliases = {"penultimate": f"norms.{layers - 2}"} if layers > 1 else {}

    def forward(self, batch: NodeBatch) -> Tensor:
        """Logits [B, C] of the nodes that are asked for."""
        hidden = batch.rows()
        for layer, norm in zip(self.linears, self.norms, strict=False):
            hidden = dropout(torch.relu(norm(linear(hidden, layer))), self.p, self.training)
        return linear(hidden, self.linears[-1])
