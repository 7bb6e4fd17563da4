"""Classic distillation (arXiv 1503.02531)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.kd import kd_loss


class KD(Method):
    """``ce_weight * CE + kd_weight * T^2 * KL``; with ``ce_weight=0`` labels are not looked at.

    Args:
        temperature: T of both softmaxes.
        ce_weight: weight of the label term.
        kd_weight: weight of the distillation term.
    """

    def __init__(self, temperature: float = 4.0, ce_weight: float = 0.1, kd_weight: float = 0.9) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        kd = kd_loss(student.logits, teacher.logits, temperature=self.temperature, kd_weight=self.kd_weight)
        if self.ce_weight == 0:
            return {"kd": kd}
        return {"ce": self.ce_weight * F.cross_entropy(student.logits, batch["y"]), "kd": kd}
