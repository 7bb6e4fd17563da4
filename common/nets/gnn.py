"""Graph neural networks whose layer is a weighted adjacency product, and what all of them share.

Where a network is asked for some nodes only, it computes their receptive field and nothing else. That is exact, and
on a graph with few labelled nodes several times cheaper than the whole graph.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from common.graphs import NodeBatch
from common.graphs.graph import Field, Weights
from common.graphs.nodes import Features, dropout, linear, take


class StackedGNN(nn.Module):
    """Layers with ReLU and dropout after each but the last; a subclass says what a layer is.

    Args:
        num_features: F.
        num_classes: C.
        hidden: width of every hidden layer.
        layers: message-passing layers.
        dropout: after each hidden layer's ReLU.
        fanout: most neighbours used in training, drawn anew each step; None for all. Evaluation uses all.
    """

    weights: ClassVar[Weights]
    aliases: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.5,
        fanout: int | None = None,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers} has to be at least 1")
        widths = [num_features, *[hidden] * (layers - 1), num_classes]
        self.convs = nn.ModuleList(
            self.layer(a, b, last=k == layers - 1) for k, (a, b) in enumerate(pairwise(widths))
        )
        self.p, self.fanout = dropout, fanout
        self.aliases = {"penultimate": f"convs.{layers - 2}"} if layers > 1 else {}

    def layer(self, width_in: int, width_out: int, last: bool) -> nn.Module:
        """One layer; called with the layer's input and its ``Field``."""
        raise NotImplementedError

    def activate(self, hidden: Tensor) -> Tensor:
        """Between two layers."""
        return dropout(torch.relu(hidden), self.p, self.training)

    def forward(self, batch: NodeBatch) -> Tensor:
        """Logits [B, C] of the nodes that are asked for."""
        fanout = self.fanout if self.training else None
        nodes, fields = batch.graph.fields(batch.nodes, len(self.convs), self.weights, fanout)
        device = next(self.parameters()).device
        if device.type != "cpu":
            fields = [field.to(device) for field in fields]
        hidden: Features = take(batch.features, nodes)
        for k, (conv, field) in enumerate(zip(self.convs, fields, strict=True)):
            hidden = conv(hidden, field)
            if k < len(self.convs) - 1:
                hidden = self.activate(hidden)
        return hidden


class Convolution(nn.Module):
    """Â X W + b with a constant weighted adjacency Â; multiplied in the cheaper order, which is the same function."""

    def __init__(self, width_in: int, width_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(width_out))
        nn.init.xavier_uniform_(self.linear.weight, gain)

    def forward(self, features: Features, field: Field) -> Tensor:
        """[N, F] -> [M, D] for M output nodes."""
        outputs, inputs = field.matrix.shape
        width_in, width_out = self.linear.in_features, self.linear.out_features
        if isinstance(features, Tensor) and outputs * width_in < inputs * width_out:
            return linear(field.matrix @ features, self.linear) + self.bias
        return field.matrix @ linear(features, self.linear) + self.bias


class GCN(StackedGNN):
    """Graph convolution with symmetric normalisation (arXiv 1609.02907, eq. 2)."""

    weights = "symmetric"

    def layer(self, width_in: int, width_out: int, last: bool) -> nn.Module:
        """A convolution; equal to torch-geometric's ``GCNConv`` with the same weights."""
        return Convolution(width_in, width_out)


class SAGE(StackedGNN):
    """GraphSAGE with the "gcn" aggregator (arXiv 1706.02216, eq. 2), the centre counted twice.

    DGL's aggregator adds the centre to the neighbours, and the graphs of the GNN-to-MLP papers have self loops already.
    """

    weights = "mean_twice"

    def layer(self, width_in: int, width_out: int, last: bool) -> nn.Module:
        """A convolution over the mean."""
        return Convolution(width_in, width_out, nn.init.calculate_gain("relu"))
