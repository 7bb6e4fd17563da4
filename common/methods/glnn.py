"""GLNN: a graph network's soft labels teach a perceptron (arXiv 2110.08727)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.glnn import glnn_loss
from common.losses.kd import kl_divergence


class GLNN(Method):
    """``label_weight * CE + (1 - label_weight) * KL``, summed, or term by term where a batch belongs to one of them.

    With ``data.batch_size`` a batch holds labelled nodes or nodes of all kinds, and each term has its own optimiser
    steps, as released. With ``label_weight=0`` a batch of labelled nodes then has the gradient zero, and still Adam's
    moments and weight decay act.

    Args:
        label_weight: lambda of the paper, in [0, 1].
        temperature: of both distributions; the paper has 1.
    """

    def __init__(self, label_weight: float = 0.0, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 <= label_weight <= 1:
            raise ValueError(f"label_weight={label_weight} has to lie in [0, 1]")
        self.label_weight, self.temperature = label_weight, temperature

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        if "soft" not in batch:
            return glnn_loss(
                student.logits,
                teacher.logits,
                batch["y"],
                batch["labelled"],
                self.label_weight,
                self.temperature,
            )
        if batch["soft"]:
            kd = kl_divergence(student.logits, teacher.logits, self.temperature)
            return {"kd": (1 - self.label_weight) * kd}
        return {"ce": self.label_weight * F.cross_entropy(student.logits, batch["y"])}
