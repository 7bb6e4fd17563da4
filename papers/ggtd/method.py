"""Generalized Gaussian Temporal Difference Error (Kim, Lee, Cho, Han, Hwang; arXiv 2408.02295).

The temporal difference error d = v - y of n ensemble members is modelled by a generalised Gaussian (GGD), whose shape
beta a head predicts: beta = 2 is a Gaussian, beta = 1 a Laplace. What is noisy gets a small beta and a small weight w:

    L_NLL  = mean_b sum_i w_bi [ (|d_bi| / alpha)^beta_bi + log alpha - log beta_bi + lnGamma(1 / beta_bi) + log 2 ]
    w_bi   = beta_bi / sum_j beta_bj
    L      = L_NLL + T L_BIEV,   L_BIEV = mean_b omega_b sum_i |d_bi|,   omega_b ~ 1 / (s_b + xi)
    s_b    = var_b / (k_b / n + (n + 1) / (n - 1))

The scale alpha is 1. s_b is the members' variance of d, shrunk to have the least squared error for their excess
kurtosis k_b; xi >= 0 is the smallest that keeps the effective batch 1 / sum omega^2 at 16 or more.

| symbol      | code              | meaning                                    |
|-------------|-------------------|--------------------------------------------|
| B, n        |                   | batch, members                             |
| d           | `error`           | [B, n]                                     |
| alpha, beta | `alpha`, `beta`   | scale and shape, above 0                   |
| T           | `temperature`     | weight of the regulariser, 0.1             |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# At d = 0 the power's slopes are infinite for beta < 1.
_LEAST_ERROR = 1e-6


def ggd_nll(error: Tensor, beta: Tensor, alpha: Tensor | float = 1.0) -> Tensor:
    """-log p(d) of the generalised Gaussian, elementwise."""
    alpha = torch.as_tensor(alpha, dtype=error.dtype, device=error.device)
    scaled = (error.abs() / alpha).clamp(min=_LEAST_ERROR)
    return scaled.pow(beta) + alpha.log() - beta.log() + torch.lgamma(1 / beta) + math.log(2)


def product_nll(error: Tensor, beta: Tensor) -> Tensor:
    """What the released code minimises instead: |d| beta - log beta + lnGamma(1 / beta); it is no density."""
    return error.abs() * beta - beta.log() + torch.lgamma(1 / beta)


def gaussian_nll(error: Tensor, variance: Tensor) -> Tensor:
    """-log p(d) of a Gaussian up to log(2 pi) / 2, elementwise: the heteroscedastic baseline."""
    return 0.5 * (error.square() / variance + variance.log())


def ggd_variance(beta: Tensor, alpha: Tensor | float = 1.0) -> Tensor:
    """alpha^2 Gamma(3 / beta) / Gamma(1 / beta): aleatoric uncertainty; it falls as beta grows, where alpha = 1."""
    return alpha**2 * torch.exp(torch.lgamma(3 / beta) - torch.lgamma(1 / beta))


def risk_averse_weights(beta: Tensor) -> Tensor:
    """w = beta_i / sum_j beta_j over the members, [B, n]."""
    return beta / beta.sum(-1, keepdim=True)
