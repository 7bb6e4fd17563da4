"""Accuracy and likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from common.evaluators.base import Evaluation


class Accuracy:
    """Top-k accuracy as a share in [0, 1]; k from the number of classes upward is left out, it would always be 1."""

    def __init__(self, top: Sequence[int] = (1, 5), split: str = "test") -> None:
        self.top, self.split = tuple(top), split

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metrics ``<split>/top<k>``."""
        from torchmetrics.functional.classification import multiclass_accuracy

        logits, labels = ctx.predictions(model, self.split)
        classes = logits.shape[1]
        return {
            f"{self.split}/top{k}": float(
                multiclass_accuracy(logits, labels, classes, top_k=k, average="micro")
            )
            for k in self.top
            if k < classes
        }


class NegativeLogLikelihood:
    """Mean negative log-likelihood of the label, in nats."""

    def __init__(self, split: str = "test") -> None:
        self.split = split

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metric ``<split>/nll``."""
        logits, labels = ctx.predictions(model, self.split)
        return {f"{self.split}/nll": float(F.cross_entropy(logits.double(), labels))}
