"""Training on labels alone."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs


class CrossEntropy(Method):
    """The student without a teacher.

    Args:
        label_smoothing: share of the target spread evenly over all classes, in [0, 1].
    """

    uses_teacher: ClassVar[bool] = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(student.logits, batch["y"], label_smoothing=self.label_smoothing)}
