"""Weights of the samples of a batch by the inverse variance of the members' errors; see ``method``."""

from __future__ import annotations

import torch
from scipy.optimize import brentq
from torch import Tensor

_LEAST_VARIANCE = 1e-6


def excess_kurtosis(x: Tensor) -> Tensor:
    """Bias-corrected, over the last dimension of n > 3 numbers; 0 where they are all equal.

    Raises:
        ValueError: there are fewer than 4 numbers.
    """
    n = x.shape[-1]
    if n < 4:
        raise ValueError(f"the kurtosis needs at least 4 members, not {n}")
    centred = x - x.mean(-1, keepdim=True)
    m2, m4 = centred.square().mean(-1), centred.pow(4).mean(-1)
    g = torch.where(m2 > 0, m4 / m2.square().clamp(min=torch.finfo(x.dtype).tiny), 3.0) - 3
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g + 6) * (m2 > 0)


def error_variance(error: Tensor, correction: int = 0) -> Tensor:
    """s of the members' errors [B, n], [B]; ``correction`` 0 is the released code's, 1 the unbiased variance."""
    n = error.shape[-1]
    variance = error.var(-1, correction=correction)
    return (variance / (excess_kurtosis(error) / n + (n + 1) / (n - 1))).clamp(min=_LEAST_VARIANCE)


def inverse_weights(variance: Tensor, xi: Tensor | float) -> Tensor:
    """omega = 1 / (s + xi), normalised over the batch, [B]."""
    inverse = 1 / (variance + xi)
    return inverse / inverse.sum()


def effective_size(weights: Tensor) -> Tensor:
    """1 / sum omega^2: B for equal weights, 1 if all is on one sample."""
    return 1 / weights.square().sum()


def smallest_xi(variance: Tensor, least: int = 16) -> float:
    """Least xi >= 0 whose weights have an effective batch of at least min(``least``, B - 1).

    The effective batch grows with xi, so that a bracketed root is what the released code asks Nelder and Mead for.
    """
    s = variance.detach().double().cpu().numpy()
    least = min(len(s) - 1, least)

    def lacking(xi: float) -> float:
        inverse = 1 / (s + xi)
        return inverse.sum() ** 2 / (inverse @ inverse) - least

    high = float(s.max())
    if len(s) < 2 or lacking(0.0) >= 0:
        return 0.0
    while lacking(high) < 0:
        high *= 4
    root = brentq(lacking, 0.0, high, rtol=1e-6)
    # The root may lie on either side by its tolerance.
    return root if lacking(root) >= 0 else root * (1 + 1e-5)


def batch_inverse_loss(error: Tensor, variance: Tensor, least: int = 16, power: int = 1) -> Tensor:
    """mean_b omega_b sum_i |d_bi|^power; the weights carry no gradient.

    Args:
        error: [B, n].
        variance: what omega inverts, [B].
        power: 1 for the GGD, 2 for the Gaussian.
    """
    variance = variance.detach()
    omega = inverse_weights(variance, smallest_xi(variance, least))
    return (omega * error.abs().pow(power).sum(-1)).mean()
