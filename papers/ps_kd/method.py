"""PS-KD: Self-Knowledge Distillation with Progressive Refinement of Targets (Kim et al., ICCV 2021; arXiv
2006.12000).

No teacher: the target of epoch t mixes the label with the model's own prediction for the sample in epoch t -
1, made in training mode on that epoch's view. Trust in it grows with the schedule:

    q_i = (1 - alpha_t) onehot(y_i) + alpha_t M[i]        L = mean_B - sum_c q_ic log softmax(s_i)_c
    alpha_t = alpha_T * t / T                             M[i] <- softmax(s_i)

A sample that has no prediction yet takes its label, so the first epoch is plain cross-entropy. With
`drop_last` a row can be older than one epoch; it is used as it is.

| symbol  | code             | meaning                                                       |
|---------|------------------|---------------------------------------------------------------|
| s       | `student_logits` | [B, C]                                                        |
| y       | `target`         | labels, [B]                                                   |
| M       | `memory`         | past probabilities, one row a training sample, [N, C]         |
| alpha_T | `alpha`          | share of the past prediction at the end                       |
| t, T    | `ctx.epoch + 1`, `ctx.max_epochs` | epoch, counted from 1, and their number      |
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.cross_entropy import soft_cross_entropy


def ps_kd_loss(student_logits: Tensor, target: Tensor, memory_probs: Tensor, alpha: float) -> Tensor:
    """Cross-entropy against ``(1 - alpha) * onehot(y) + alpha * memory`` (arXiv 2006.12000).

    Args:
        student_logits: [B, C].
        target: [B] int64 labels.
        memory_probs: [B, C], the model's earlier predictions; receives no gradient.
        alpha: share of the earlier prediction, in [0, 1].

    Returns:
        Scalar, mean over the batch.
    """
    # Split by linearity: at alpha = 0 the result equals torch's cross-entropy to the last bit.
    labels = F.cross_entropy(student_logits, target)
    return (1 - alpha) * labels + alpha * soft_cross_entropy(student_logits, memory_probs)


class PSKD(Method):
    """Self-distillation from the previous epoch.

    Args:
        alpha: alpha_T, in [0, 1].
        schedule: ``linear`` as in the paper, or ``constant`` for alpha from the first epoch on.
    """

    uses_teacher: ClassVar[bool] = False

    def __init__(self, alpha: float = 0.8, schedule: str = "linear") -> None:
        super().__init__()
        if schedule not in ("linear", "constant"):
            raise ValueError(f"schedule is {schedule!r}, it has to be linear or constant")
        self.alpha, self.schedule = alpha, schedule

    def build(self, student: Outputs, teacher: Outputs | None, ctx: Context) -> None:
        # Zero rows never reach a target, because rows that are not seen yet are replaced by the label.
        self.register_buffer("memory", torch.zeros(ctx.num_train, ctx.num_classes))
        self.register_buffer("seen", torch.zeros(ctx.num_train, dtype=torch.bool))

    def alpha_at(self, ctx: Context) -> float:
        """alpha_t."""
        return self.alpha if self.schedule == "constant" else self.alpha * (ctx.epoch + 1) / ctx.max_epochs

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        s, y, index = student.logits, batch["y"], batch["index"]
        one_hot = F.one_hot(y, s.shape[1]).to(s.dtype)
        past = torch.where(self.seen[index, None], self.memory[index].to(s.dtype), one_hot)
        loss = ps_kd_loss(s, y, past, self.alpha_at(ctx))
        if self.training:
            self.memory[index] = F.softmax(s.detach(), dim=1).to(self.memory.dtype)
            self.seen[index] = True
        return {"ps_kd": loss}
