"""Features that are moved a little, where it hurts the student most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def perturbation(
    features: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Projected gradient ascent in the L-infinity ball (arXiv 1706.06083), from a uniform start, with steps of eps / 4.

    Args:
        features: [B, F], any range.
        loss: scalar of features; its gradient's sign is followed.
        epsilon: radius of the ball.
        steps: how many.
        generator: on the CPU; draws the start.

    Returns:
        [B, F] within [-epsilon, epsilon], without gradient.
    """
    start = torch.rand(features.shape, generator=generator, dtype=features.dtype).to(features.device)
    delta = (2 * start - 1) * epsilon
    for _ in range(steps):
        delta.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(features + delta), delta)
        delta = delta.detach().add_(gradient.sign(), alpha=epsilon / 4).clamp_(-epsilon, epsilon)
    return delta
