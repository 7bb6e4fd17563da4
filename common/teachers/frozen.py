"""A network that is never trained again."""

from __future__ import annotations

import torch
from torch import nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs


class Frozen(nn.Module):
    """Computes targets with a fixed network: eval mode whatever is asked, no gradient.

    Args:
        net: returns ``Outputs``.
        key: names the weights; equal keys mean equal outputs.
    """

    def __init__(self, net: nn.Module, key: str = "") -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.key = key
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """Stays in eval mode: batch statistics and dropout of a teacher must not depend on the student's phase."""
        return super().train(False)

    @torch.no_grad()
    def outputs(self, method: Method, batch: Batch, ctx: Context) -> Outputs:
        """Forward pass on the teacher's view: ``x_teacher`` where the batch has one, else ``x``."""
        if "x_teacher" in batch:
            batch = {**batch, "x": batch["x_teacher"]}
        return self.net(*method.inputs(batch))

    def begin_epoch(self, ctx: Context) -> None:
        """Nothing to prepare."""

    def end_epoch(self, ctx: Context) -> None:
        """Nothing to finish."""
