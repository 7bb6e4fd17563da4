"""Distillation by correlation (DIST; arXiv 2205.10536)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.dist import dist_loss


class DIST(Method):
    """``ce_weight * CE + beta * L_inter + gamma * L_intra``.

    Args:
        temperature: of both softmaxes; the released CIFAR-100 recipe takes 4, with beta = gamma = 2.
        beta: weight of the relation between classes.
        gamma: weight of the relation between samples, within a class.
        ce_weight: weight of the label term.
        scale_by_temperature_squared: as released for classification.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        ce_weight: float = 1.0,
        scale_by_temperature_squared: bool = True,
    ) -> None:
        super().__init__()
        self.temperature, self.beta, self.gamma, self.ce_weight = temperature, beta, gamma, ce_weight
        self.scale_by_temperature_squared = scale_by_temperature_squared

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        dist = dist_loss(
            student.logits,
            teacher.logits,
            self.temperature,
            self.beta,
            self.gamma,
            self.scale_by_temperature_squared,
        )
        return {"ce": self.ce_weight * F.cross_entropy(student.logits, batch["y"]), "dist": dist}
