"""How closely a student follows its teacher."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from common.evaluators.base import Evaluation


class Fidelity:
    """Share of equal top-1 decisions, and KL(teacher || student) in nats, both without temperature."""

    def __init__(self, split: str = "test") -> None:
        self.split = split

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metrics ``<split>/agreement`` and ``<split>/teacher_kl``; nothing without a teacher or for the teacher."""
        if ctx.teacher is None or model is ctx.teacher:
            return {}
        student, _ = ctx.predictions(model, self.split)
        teacher, _ = ctx.predictions(ctx.teacher, self.split)
        agreement = (student.argmax(1) == teacher.argmax(1)).double().mean()
        divergence = F.kl_div(
            student.double().log_softmax(1),
            teacher.double().log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return {f"{self.split}/agreement": float(agreement), f"{self.split}/teacher_kl": float(divergence)}
