"""Actors and critics for continuous actions in [-1, 1]: multilayer perceptrons, ensembles as batched products.

Shapes: B batch, S state, A action dimensions, E critics, W width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses.actor_critic import noise_log_prob

LOG_STD_RANGE = (-5.0, 2.0)


def uniform_linear(
    inputs: int, outputs: int, bound: float | None = None, bias: float | None = None
) -> nn.Linear:
    """A linear layer with weights and biases uniform in +-bound, 1/sqrt(inputs) by default.

    Args:
        bias: constant of all biases; None draws them like the weights.
    """
    layer = nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(inputs) if bound is None else bound
    nn.init.uniform_(layer.weight, -bound, bound)
    if bias is None:
        nn.init.uniform_(layer.bias, -bound, bound)
    else:
        nn.init.constant_(layer.bias, bias)
    return layer


def mlp(sizes: Sequence[int], bias: float | None = None) -> nn.Sequential:
    """Linear layers of these sizes, each with a ReLU behind it; ``bias`` as in ``uniform_linear``."""
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(
        *(part for i, o in pairs for part in (uniform_linear(i, o, bias=bias), nn.ReLU(inplace=True)))
    )


class GaussianActor(nn.Module):
    """Tanh-Gaussian policy: ``depth`` hidden layers and two heads, mean and clipped log deviation.

    Hidden weights are uniform in +-1/sqrt(inputs) with biases of 0.1, the heads uniform in +-1e-3.
    """

    def __init__(self, state_dim: int, action_dim: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.trunk = mlp([state_dim, *[width] * depth], bias=0.1)
        # Both heads in one product.
        self.heads = uniform_linear(width, 2 * action_dim, 1e-3)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation before the tanh, each [B, A], of states [B, S]."""
        mu, log_std = self.heads(self.trunk(state)).chunk(2, -1)
        return mu, log_std.clamp(*LOG_STD_RANGE)

    def sample(self, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [B, A] and their log-densities [B]; ``noise`` is standard normal, [B, A]."""
        mu, log_std = self(state)
        u = mu + log_std.exp() * noise
        return torch.tanh(u), noise_log_prob(noise, u, log_std)

    def act(self, state: Tensor) -> Tensor:
        """The action of evaluation, tanh(mu), [B, A]."""
        return torch.tanh(self(state)[0])


class DeterministicActor(nn.Module):
    """tanh of a perceptron, as TD3 has it; ``act`` is the same as calling it."""

    def __init__(self, state_dim: int, action_dim: int, width: int = 256, depth: int = 2) -> None:
        super().__init__()
        self.net = nn.Sequential(mlp([state_dim, *[width] * depth]), uniform_linear(width, action_dim))

    def forward(self, state: Tensor) -> Tensor:
        """Actions [B, A] in [-1, 1] of states [B, S]."""
        return torch.tanh(self.net(state))

    def act(self, state: Tensor) -> Tensor:
        """As ``forward``."""
        return self(state)


class CriticEnsemble(nn.Module):
    """E perceptrons on (s, a) as one module; each layer is one batched product.

    A hidden layer is linear, ReLU, then LayerNorm where ``layer_norm`` is set. Hidden weights are uniform in
    +-1/sqrt(inputs) with biases of 0.1, heads uniform in +-3e-3.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        width: int = 256,
        depth: int = 3,
        count: int = 2,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.count, self.layer_norm = count, layer_norm
        sizes = [state_dim + action_dim, *[width] * depth, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            head = i == depth
            bound = 3e-3 if head else 1 / math.sqrt(inputs)
            self.weights.append(torch.empty(count, inputs, outputs).uniform_(-bound, bound))
            bias = torch.empty(count, 1, outputs)
            self.biases.append(bias.uniform_(-bound, bound) if head else bias.fill_(0.1))
            if layer_norm and not head:
                self.scales.append(torch.ones(count, outputs, 1))
                self.shifts.append(torch.zeros(count, 1, outputs))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values [E, B] of states [B, S] and actions [B, A]."""
        h = torch.cat((state, action), -1).expand(self.count, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.layer_norm and i:
                # Scale and shift of the norm before are folded into this layer: they then cost as much as the
                # weights, not as much as the activations of a batch.
                scale, shift = self.scales[i - 1], self.shifts[i - 1]
                bias = torch.baddbmm(bias, shift, weight)
                weight = scale * weight
            if i:
                h = h.relu_()
                if self.layer_norm:
                    h = F.layer_norm(h, h.shape[-1:])
            h = torch.baddbmm(bias, h, weight)
        return h.squeeze(-1)

    def least(self, state: Tensor, action: Tensor) -> Tensor:
        """The smallest value of the ensemble, [B]."""
        return self(state, action).amin(0)
