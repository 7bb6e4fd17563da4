"""What a node classifier takes: features, the graph, and the nodes that are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.graphs.graph import Graph
from common.graphs.sparse import SparseMatrix

Features = Tensor | SparseMatrix


@dataclass
class NodeBatch:
    """The input of all node classifiers, those that look at the graph and those that do not.

    Attributes:
        features: [N, F], dense or sparse.
        graph: the graph of these N nodes.
        nodes: [B] the nodes whose logits are wanted, None for all N in order.
    """

    features: Features
    graph: Graph
    nodes: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> NodeBatch:
        """Moves the features and the indices."""
        nodes = None if self.nodes is None else self.nodes.to(*args, **kwargs)
        return NodeBatch(self.features.to(*args, **kwargs), self.graph, nodes)

    def ask(self, nodes: Tensor | None) -> NodeBatch:
        """The same graph, other nodes."""
        return replace(self, nodes=nodes)

    def rows(self) -> Features:
        """Features [B, F] of the nodes that are asked for."""
        return take(self.features, self.nodes)


def take(features: Features, nodes: Tensor | None) -> Features:
    """Rows of a feature matrix; None takes all."""
    if nodes is None:
        return features
    return features.take(nodes) if isinstance(features, SparseMatrix) else features[nodes]


def dense(features: Features) -> Tensor:
    """The feature matrix as one dense tensor."""
    return features.rows.to_dense() if isinstance(features, SparseMatrix) else features


def linear(features: Features, layer: nn.Linear) -> Tensor:
    """``layer`` on dense or sparse features, [N, F] -> [N, D]."""
    if not isinstance(features, SparseMatrix):
        return layer(features)
    product = features @ layer.weight.t()
    return product if layer.bias is None else product + layer.bias


def dropout(features: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout as ``torch.nn.functional.dropout``, p rounded to 1/65536; a fifth of its time on a CPU."""
    if not training or p == 0:
        return features
    if features.device.type != "cpu":
        return F.dropout(features, p, True)
    return _Dropout.apply(features, p)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        # Four 16-bit numbers out of each 64-bit draw; torch's Bernoulli sampler spends a whole draw on each mask bit.
        count = values.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        dropped = round(p * 65536)
        keep = draws.view(torch.int16)[:count].view(values.shape) >= dropped - 32768
        ctx.keep, ctx.scale = keep, 1 / (1 - dropped / 65536)
        return (values * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad * ctx.keep).mul_(ctx.scale), None
