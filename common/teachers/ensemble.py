"""The mean prediction of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from common.core.outputs import Outputs


class ProbabilityEnsemble(nn.Module):
    """Averages probabilities; its logits are their logarithms, so a softmax gives the average back."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, *inputs: Any) -> Outputs:
        """Logits [B, C] of the averaged distribution."""
        log_probabilities = torch.stack([net(*inputs).logits.log_softmax(1) for net in self.nets])
        return Outputs(log_probabilities.logsumexp(0) - torch.tensor(float(len(self.nets))).log())
