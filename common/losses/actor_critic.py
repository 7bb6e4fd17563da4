"""Losses of soft actor-critic (SAC, arXiv 1801.01290 and 1812.05905) and of what is built on it.

| symbol | code          | meaning                                                             |
|--------|---------------|---------------------------------------------------------------------|
| B, A   |               | batch, action dimensions                                            |
| E      |               | critics of an ensemble                                              |
| temp   | `temperature` | weight of the entropy, above 0                                      |
| u      | `u`           | Gaussian sample before the tanh, [B, A]; the action is tanh(u)      |
| d      | `terminals`   | 1 where the episode ended by itself, not by a limit of time, [B]    |
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

_LOG_2PI = math.log(2 * math.pi)


def tanh_gaussian_log_prob(u: Tensor, mu: Tensor, log_std: Tensor) -> Tensor:
    """Log-density [B] of the action tanh(u) for u ~ N(mu, std^2), all [B, A] (arXiv 1801.01290, eq. 21).

        log p(tanh u) = sum_a log N(u_a) - log(1 - tanh(u_a)^2)

    The last term is written as 2 (log 2 - u - softplus(-2 u)), which does not lose its digits for large u.
    """
    return noise_log_prob((u - mu) * torch.exp(-log_std), u, log_std)


def noise_log_prob(noise: Tensor, u: Tensor, log_std: Tensor) -> Tensor:
    """The same for u = mu + std noise, whose noise [B, A] is known and need not be found again."""
    gaussian = -0.5 * (noise.square() + _LOG_2PI) - log_std
    correction = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (gaussian - correction).sum(-1)


def sac_actor_loss(log_prob: Tensor, value: Tensor, temperature: Tensor | float) -> Tensor:
    """mean[temp log pi(a|s) - Q(s, a)] for log-densities and values [B]; no gradient to ``temperature``."""
    temperature = temperature.detach() if isinstance(temperature, Tensor) else temperature
    return (temperature * log_prob - value).mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """temp (H - H_target) with H = -mean log pi, a constant here; its gradient passes through exp (log_temp)."""
    return log_temperature.exp() * (-log_prob.detach().mean() - target_entropy)


@torch.no_grad()
def td_target(rewards: Tensor, terminals: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """r + gamma (1 - d) V(s'), all [B]; where d = 1 the next value has no influence, not even if it is infinite."""
    return rewards + discount * torch.where(terminals > 0, torch.zeros_like(next_value), next_value)


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """sum_i mean_b (Q_i - y)^2 for values [E, B] and targets [B]; no gradient to the targets."""
    return (values - target.detach()).square().mean(1).sum()


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """mean |tau - 1(u < 0)| u^2 for differences u = Q - V, [B] (arXiv 2110.06169, eq. 5)."""
    return (torch.where(difference < 0, 1 - expectile, expectile) * difference.square()).mean()


def td3_bc_actor_loss(value: Tensor, policy: Tensor, actions: Tensor, alpha: float) -> Tensor:
    """-alpha / mean|Q| mean Q + mean (pi - a)^2 (arXiv 2106.06860, eq. 3 and 4).

    Args:
        value: Q(s, pi(s)), [B]; its size is divided out and carries no gradient.
        policy: pi(s), [B, A].
        actions: of the data, [B, A].
        alpha: weight of the value.
    """
    scale = alpha / value.detach().abs().mean().clamp(min=1e-8)
    return -scale * value.mean() + (policy - actions).square().mean()


@torch.no_grad()
def soft_update(target: Iterable[Tensor], source: Iterable[Tensor], rate: float) -> None:
    """phibar <- (1 - rate) phibar + rate phi, in place; both are lists of the same shapes."""
    torch._foreach_lerp_(list(target), list(source), rate)
