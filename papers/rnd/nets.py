"""Perceptrons in place of the published convolutions: frozen target, larger predictor, policy with two values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from papers.rnd.method import rnd_error


def orthogonal(inputs: int, outputs: int, gain: float = math.sqrt(2)) -> nn.Linear:
    """A linear layer with orthogonal weights times ``gain`` and no bias at the start."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def perceptron(sizes: Sequence[int], between: type[nn.Module]) -> list[nn.Module]:
    """Orthogonal layers of these sizes, each with an activation behind it."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [orthogonal(inputs, outputs), between()]
    return layers


class Distillation(nn.Module):
    """A frozen random network and its predictor, which has two layers more.

    Args:
        inputs: S.
        width: of hidden layers.
        embedding: K.
    """

    def __init__(self, inputs: int, width: int = 64, embedding: int = 32) -> None:
        super().__init__()
        stem = [inputs, width, width]
        self.target = nn.Sequential(*perceptron(stem, nn.LeakyReLU), orthogonal(width, embedding))
        self.predictor = nn.Sequential(
            *perceptron(stem, nn.LeakyReLU),
            *perceptron([width, width, width], nn.ReLU),
            orthogonal(width, embedding),
        )
        self.target.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Errors [...] of inputs [..., S]."""
        with torch.no_grad():
            target = self.target(x)
        return rnd_error(self.predictor(x), target)


class TwoValues(nn.Module):
    """Logits and the extrinsic and the intrinsic value, from one trunk."""

    def __init__(self, inputs: int, actions: int, width: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*perceptron([inputs, width, width], nn.Tanh))
        self.policy = orthogonal(width, actions, 0.01)
        self.values = orthogonal(width, 2, 0.1)

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., A] and values [..., 2] of observations [..., S]."""
        h = self.trunk(s)
        return self.policy(h), self.values(h)
