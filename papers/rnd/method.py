"""Exploration by Random Network Distillation (Burda, Edwards, Storkey, Klimov; ICLR 2019; arXiv 1810.12894).

A predictor learns a frozen random network on what the agent sees; its error is large on what it has not seen and is
paid as a reward. The policy follows a sum of two advantages, of streams with values of their own:

    i_t = mean_k (g_k(x_t) - f_k(x_t))^2,         x_t = clip((s_{t+1} - mean) / std, -5, 5)
    R_t = gamma_I R_{t-1} + i_t,                  r^I_t = i_t / std(R)
    A_t = 2 A^E_t + 1 A^I_t

Extrinsic rewards end with the episode, intrinsic ones do not: what is new stays new after a death. The intrinsic reward
is divided by the running deviation of R and never centred.

| symbol           | code                             | meaning                                            |
|------------------|----------------------------------|----------------------------------------------------|
| f, g             | `target`, `prediction`           | embeddings, [B, K]                                 |
| i, R             | `novelty`, result of the filter  | [T, N]                                             |
| gamma_E, gamma_I | `discount`, `intrinsic_discount` | 0.999 and 0.99                                     |
| A^E, A^I         | `extrinsic`, `intrinsic`         | advantages of the two streams, [T, N]              |
"""

from __future__ import annotations

import torch
from torch import Tensor

CLIP = 5.0


def rnd_error(prediction: Tensor, target: Tensor) -> Tensor:
    """i = mean over the embedding of the squared difference, [B]; no gradient to the target."""
    return (prediction - target.detach()).square().mean(-1)


def rnd_loss(errors: Tensor, kept: Tensor) -> Tensor:
    """Mean of the errors [B] of those samples that are ``kept``, [B] of zeros and ones; zero if none is.

    Keeping a share of the samples holds the predictor's effective batch where it was with fewer copies of the
    environment, so that more copies do not make novelty fade faster.
    """
    return (errors * kept).sum() / kept.sum().clamp(min=1)


def whiten(s: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """clip((s - mean) / std, -5, 5) for observations [..., S] and moments [S]."""
    return ((s - mean) / std).clamp(-CLIP, CLIP).to(s.dtype)


def discounted_past(novelty: Tensor, before: Tensor, intrinsic_discount: float) -> Tensor:
    """R_t = gamma_I R_{t-1} + i_t over time, for each copy by itself, [T, N].

    Args:
        novelty: [T, N], rows in time.
        before: R of the step before the first row, [N].
    """
    result, R = [], before
    for row in novelty:
        R = intrinsic_discount * R + row
        result.append(R)
    return torch.stack(result)


def rnd_advantage(
    extrinsic: Tensor, intrinsic: Tensor, extrinsic_weight: float = 2.0, intrinsic_weight: float = 1.0
) -> Tensor:
    """A = 2 A^E + 1 A^I, as published."""
    return extrinsic_weight * extrinsic + intrinsic_weight * intrinsic
