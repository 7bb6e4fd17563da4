"""Adversarial weight perturbation (AWP; arXiv 2004.05884): the loss is minimised where the weights are at their worst.

    v_l = gamma * |w_l| * g_l / |g_l|,   g = grad_w L(w; x'),   and the step follows grad_w L(w + v; x')

for every weight w_l of more than one dimension; biases and the scales of normalisation layers are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from common.attacks.context import logits_of
from common.errors import UserError

Call = Callable[[Tensor], Tensor]
Objective = Callable[[Call], dict[str, Tensor]]


@dataclass(frozen=True)
class WeightPerturbation:
    """AWP around an objective; costs one more forward and backward pass of it.

    The weights themselves are never touched: the network is called as a function of w + v, whose gradient with respect
    to w is the gradient at w + v. So nothing has to be restored, and an optimiser sees w alone.

    Args:
        gamma: size of the perturbation relative to each weight's norm; released: 0.01 for PGD-AT, 0.005 for TRADES.
        warmup_epochs: epochs without it at the start.
    """

    gamma: float = 0.01
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise UserError(f"awp.gamma={self.gamma} has to lie in [0, 1), a share of each weight's norm")

    def __call__(self, net: nn.Module, objective: Objective) -> dict[str, Tensor]:
        """Terms of the objective at w + v; ``objective`` gets a function x [B, ...] -> logits [B, C]."""
        v = self.perturbation(net, objective)
        moved = {name: p + v[name] for name, p in _weights(net).items()}
        return objective(_calling(net, moved))

    def perturbation(self, net: nn.Module, objective: Objective) -> dict[str, Tensor]:
        """v by name of the weight; statistics of normalisation layers and random state stay what they are."""
        weights = _weights(net)
        # Normalisation layers write their statistics into copies: only the pass at w + v counts for them.
        buffers = {name: value.clone() for name, value in net.named_buffers()}
        devices = {p.device for p in weights.values() if p.device.type == "cuda"}
        with torch.random.fork_rng(sorted(devices, key=str)):
            terms = objective(_calling(net, buffers))
        gradients = torch.autograd.grad(sum(terms.values()), list(weights.values()), allow_unused=True)
        return {
            name: torch.zeros_like(w)
            if g is None
            else self.gamma * w.detach().norm() / (g.norm() + 1e-20) * g
            for (name, w), g in zip(weights.items(), gradients, strict=True)
        }


def _weights(net: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in net.named_parameters() if p.requires_grad and p.ndim > 1 and "weight" in n}


def _calling(net: nn.Module, tensors: dict[str, Any]) -> Call:
    return lambda x: logits_of(functional_call(net, tensors, (x,)))
