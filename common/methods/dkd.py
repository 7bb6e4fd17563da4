"""Decoupled knowledge distillation (arXiv 2203.08679)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.dkd import dkd_loss


class DKD(Method):
    """``ce_weight * CE + ramp * T^2 * (alpha * TCKD + beta * NCKD)``.

    Args:
        temperature: T of all softmaxes.
        alpha: weight of the target class against the rest.
        beta: weight of the other classes among themselves; the paper tunes it per pair (2, 6 or 8 on
            CIFAR-100).
        warmup_epochs: the second term grows linearly over these epochs, 1 / warmup_epochs in the first; 0 for
            none.
        ce_weight: weight of the label term.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup_epochs: int = 20,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        self.warmup_epochs, self.ce_weight = warmup_epochs, ce_weight

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        # The released code counts epochs from 1, so its first epoch is not without distillation.
        ramp = min(1.0, (ctx.epoch + 1) / self.warmup_epochs) if self.warmup_epochs else 1.0
        dkd = dkd_loss(student.logits, teacher.logits, batch["y"], self.temperature, self.alpha, self.beta)
        return {"ce": self.ce_weight * F.cross_entropy(student.logits, batch["y"]), "dkd": ramp * dkd}
