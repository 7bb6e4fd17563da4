"""Advantages and losses of proximal policy optimisation (PPO, arXiv 1707.06347).

| symbol      | code           | meaning                                                    |
|-------------|----------------|------------------------------------------------------------|
| T, N, B     |                | steps, copies of the environment, batch                    |
| gamma       | `discount`     | discount                                                   |
| lambda      | `smoothing`    | of the generalised advantage estimate (arXiv 1506.02438)   |
| c           | `continues`    | 1 where the next step belongs to the same stream, else 0   |
| V           | `values`       | of T + 1 observations, [T + 1, N]                          |
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def advantages(
    rewards: Tensor, values: Tensor, continues: Tensor, discount: float, smoothing: float
) -> Tensor:
    """A_t = delta_t + gamma lambda c_t A_{t+1} with delta_t = r_t + gamma c_t V_{t+1} - V_t (1506.02438, eq. 16).

    Args:
        rewards, continues: [T, N].
        values: [T + 1, N]; after an end, V of the next episode's start, which c = 0 keeps out.

    Returns:
        [T, N]; plus V it is the target of the values.
    """
    continues = continues.to(values.dtype)
    delta = rewards + discount * continues * values[1:] - values[:-1]
    decay = discount * smoothing * continues
    result, ahead = torch.empty_like(delta), torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        ahead = delta[t] + decay[t] * ahead
        result[t] = ahead
    return result


def clipped_policy_loss(log_prob: Tensor, before: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """mean -min(rho A, clamp(rho, 1 - clip, 1 + clip) A), rho = exp(log_prob - before), all [B] (eq. 7)."""
    ratio = (log_prob - before).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def entropy(logits: Tensor) -> Tensor:
    """Of categorical distributions with ``logits`` [B, A], [B]."""
    log_prob = logits.log_softmax(-1)
    return -(log_prob.exp() * log_prob).sum(-1)


def log_probability(logits: Tensor, action: Tensor) -> Tensor:
    """Of actions [...] under logits [..., A], [...]."""
    return logits.log_softmax(-1).gather(-1, action[..., None])[..., 0]
