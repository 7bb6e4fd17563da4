"""How consistent predictions are with the graph (arXiv 2110.08727, section 5.6)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from common.evaluators.base import Evaluation


def min_cut(probabilities: Tensor, edge_index: Tensor) -> float:
    """tr(Y^T A Y) / tr(Y^T D Y): 1 where linked nodes have equal rows, 0 where theirs are orthogonal.

    Args:
        probabilities: Y, [N, C].
        edge_index: [2, E], both directions of each edge, without self loops.

    Returns:
        In [0, 1]; 0 where there is no edge.
    """
    source, target = edge_index
    within = (probabilities[source] * probabilities[target]).sum()
    # D sums over the edges too: each edge's end counts its node once.
    total = (probabilities[source] ** 2).sum()
    return float(within / total) if total > 0 else 0.0


class MinCut:
    """Normalised min-cut of the predictions on the observed nodes, whose graph is what networks are trained with."""

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metric ``observed/min_cut``; it looks at no label."""
        logits, _ = ctx.predictions(model, "observed")
        return {"observed/min_cut": min_cut(torch.softmax(logits.double(), 1), data.train_graph.edge_index)}
