"""An ensemble whose members give a value and what they think of its error, and the losses that it is trained with."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.ggtd.method import gaussian_nll, ggd_nll, ggd_variance, product_nll, risk_averse_weights
from papers.ggtd.weighting import batch_inverse_loss, error_variance

_LEAST = 1e-3


def orthogonal(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights times ``gain`` and no bias at the start."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def trunk(inputs: int, width: int) -> nn.Sequential:
    """Two hidden layers with tanh."""
    layers = (orthogonal(inputs, width, math.sqrt(2)), orthogonal(width, width, math.sqrt(2)))
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh())


class Ensemble(nn.Module):
    """n linear members on one trunk: value v, shape u, scale a.

    Members differ in their first weights alone.
    """

    def __init__(self, inputs: int, members: int = 5, width: int = 64) -> None:
        super().__init__()
        self.members = members
        self.trunk = trunk(inputs, width)
        self.head = nn.Linear(width, 3 * members)

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """v, u and a, each [..., n], of observations [..., S]."""
        v, u, a = self.head(self.trunk(s)).chunk(3, -1)
        return v, u, a


class CriticLoss:
    """One of the variants, for values, raw shapes and raw scales.

    Args:
        kind: ``mse``; ``gaussian``, whose variance is softplus(u); ``ggd``, whose beta is softplus(u).
        form: of the GGD, ``power`` is the density, ``product`` what the released code has.
        risk_averse: weights members by beta; else all count 1 / n.
        through_weights: gradients pass through these weights, as in the released code.
        scale_head: alpha is softplus(a) instead of 1; ``ggd`` in the form ``power`` only.
        regulariser: ``none``; ``value``, inverse variance of the values times gamma^2 (Mai et al. 2022); ``error``,
            that of the errors.
        temperature: T.
        discount: gamma, for ``value``.
        least: smallest effective batch.

    Raises:
        ValueError: options that do not go together.
    """

    def __init__(
        self,
        kind: Literal["mse", "gaussian", "ggd"] = "ggd",
        form: Literal["power", "product"] = "power",
        risk_averse: bool = True,
        through_weights: bool = True,
        scale_head: bool = False,
        regulariser: Literal["none", "value", "error"] = "error",
        temperature: float = 0.1,
        discount: float = 0.99,
        least: int = 16,
    ) -> None:
        if scale_head and (kind != "ggd" or form != "power"):
            raise ValueError("scale_head=true needs kind=ggd and form=power")
        if temperature < 0:
            raise ValueError(f"temperature has to be 0 or more, not {temperature}")
        self.kind, self.form, self.scale_head = kind, form, scale_head
        self.risk_averse, self.through_weights = risk_averse, through_weights
        self.regulariser, self.temperature = regulariser, temperature
        self.discount, self.least = discount, least

    def __call__(self, v: Tensor, u: Tensor, a: Tensor, y: Tensor) -> Tensor:
        """Scalar loss of v, u and a for targets y, all [B, n]; no gradient to the targets."""
        error = v - y.detach()
        loss = self.likelihood(error, u, a)
        if self.regulariser == "none" or self.temperature == 0:
            return loss
        if self.regulariser == "value":
            variance = self.discount**2 * v.var(-1, correction=1)
            variance = variance.clamp(min=1e-6)
        else:
            variance = error_variance(error)
        power = 1 if self.kind == "ggd" else 2
        return loss + self.temperature * batch_inverse_loss(error, variance, self.least, power)

    def likelihood(self, error: Tensor, u: Tensor, a: Tensor) -> Tensor:
        """The first term, for errors [B, n]."""
        if self.kind == "mse":
            return error.square().mean()
        shape = F.softplus(u) + _LEAST
        if self.kind == "gaussian":
            return gaussian_nll(error, shape).mean()
        if self.form == "product":
            nll = product_nll(error, shape)
        else:
            nll = ggd_nll(error, shape, F.softplus(a) + _LEAST if self.scale_head else 1.0)
        if not self.risk_averse:
            return nll.mean()
        weights = risk_averse_weights(shape)
        return ((weights if self.through_weights else weights.detach()) * nll).sum(-1).mean()

    @torch.no_grad()
    def deviation(self, u: Tensor, a: Tensor) -> Tensor | None:
        """Aleatoric standard deviation that the heads state, as ``u``; None without a distribution."""
        if self.kind == "mse":
            return None
        shape = F.softplus(u) + _LEAST
        if self.kind == "gaussian":
            return shape.sqrt()
        return ggd_variance(shape, F.softplus(a) + _LEAST if self.scale_head else 1.0).sqrt()
