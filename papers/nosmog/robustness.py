"""How much of a student's accuracy is left on noisy features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from common.core.seeding import derive
from common.evaluators.base import Evaluation
from common.graphs import NodeBatch
from papers.nosmog.data import noisy

_NOISE = 0x746573746E6F6973


class FeatureNoise:
    """Test accuracy on (1 - a) X + a N(0, 1) of a student that was trained on X; positions stay as they are.

    Args:
        levels: values of a in [0, 1].
        seed: of the noise, the same for all students.
    """

    def __init__(self, levels: Sequence[float] = (0.1, 0.2, 0.5, 1.0), seed: int = 0) -> None:
        self.levels, self.seed = tuple(levels), seed

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metrics ``test/top1_noise_<a>`` and their mean ``test/top1_noisy``.

        Nothing for the teacher, which stays clean, and where the data are noisy already.
        """
        if model is ctx.teacher or getattr(data, "noise", 0):
            return {}
        (batch,) = data.eval_loader("test")
        rows, labels = batch["x"].rows(), batch["y"]
        columns = getattr(data, "own_columns", rows.shape[1])
        dense = noisy(rows, 0.0, 0)
        metrics = {}
        for place, level in enumerate(self.levels):
            moved = noisy(dense[:, :columns], level, derive(self.seed, place, _NOISE))
            x = NodeBatch(torch.cat([moved, dense[:, columns:]], 1), batch["x"].graph).to(ctx.device)
            decisions = model.to(ctx.device).eval()(x).logits.argmax(1).cpu()
            metrics[f"test/top1_noise_{level}"] = float((decisions == labels).double().mean())
        metrics["test/top1_noisy"] = sum(metrics.values()) / len(metrics)
        return metrics
