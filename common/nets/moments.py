"""Mean and deviation of a stream of numbers, merged batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Population mean and variance of everything seen so far (Chan, Golub, LeVeque 1979, parallel update).

    The state is float64 and belongs to the module, so that it is saved and resumed with it.

    Args:
        shape: of one sample, () for numbers.
        count: weight of the start, mean 0 and variance ``variance``.
    """

    def __init__(self, shape: tuple[int, ...] = (), count: float = 1e-4, variance: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.full(shape, variance, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(count, dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Merges samples [B, *shape]."""
        values = values.detach().double()
        batch, mean = len(values), values.mean(0)
        var = values.var(0, correction=0)
        total = self.count + batch
        delta = mean - self.mean
        sum_of_squares = self.var * self.count + var * batch + delta.square() * (self.count * batch / total)
        self.mean += delta * (batch / total)
        self.var.copy_(sum_of_squares / total)
        self.count.copy_(total)

    @property
    def std(self) -> Tensor:
        """Population standard deviation, float64."""
        return self.var.sqrt()
