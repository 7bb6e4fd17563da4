"""Calibration of the top-label confidence."""

from __future__ import annotations

from typing import Any

from torch import nn

from common.evaluators.base import Evaluation


class CalibrationError:
    """Expected calibration error: mean gap of confidence and accuracy over equal bins (arXiv 1706.04599, eq. 3)."""

    def __init__(self, bins: int = 15, split: str = "test") -> None:
        self.bins, self.split = bins, split

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metric ``<split>/ece``, in [0, 1]."""
        from torchmetrics.functional.classification import multiclass_calibration_error

        logits, labels = ctx.predictions(model, self.split)
        # torchmetrics takes anything outside [0, 1] for logits; probabilities leave no doubt.
        probabilities = logits.double().softmax(1)
        error = multiclass_calibration_error(
            probabilities, labels, logits.shape[1], n_bins=self.bins, norm="l1"
        )
        return {f"{self.split}/ece": float(error)}
