"""Anti-Exploration by Random Network Distillation (Nikulin et al.; ICML 2023; arXiv 2301.13616).

A predictor learns a frozen random network, the prior, on the data; its error is large elsewhere. The error, in units
of its deviation over pretraining, is subtracted from the values that actor and critics look at:

    b(s, a)  = |z_pred - z_prior|^2 / sigma
    L_actor  = mean[temp log pi(a|s) + lambda_a b(s, a) - min_i Q_i(s, a)],                          a ~ pi(.|s)
    y        = r + gamma (1 - d) [min_i Qbar_i(s', a') - temp log pi(a'|s') - lambda_c b(s', a')],   a' ~ pi(.|s')
    L_critic = sum_i mean (Q_i(s, a) - y)^2

The paper writes alpha for lambda and beta for the temperature; the released code has them the other way round.

| symbol             | code                            | meaning                                         |
|--------------------|---------------------------------|-------------------------------------------------|
| z_pred, z_prior    | `prediction`, `prior`           | embeddings, [B, K]                              |
| sigma              | `sigma`                         | running deviation of the error in pretraining   |
| lambda_a, lambda_c | `actor_weight`, `critic_weight` | weights of the bonus                            |
| temp               | `temperature`                   | weight of the entropy                           |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.losses.actor_critic import sac_actor_loss
from common.methods.actor_critic import SAC


def rnd_error(prediction: Tensor, prior: Tensor) -> Tensor:
    """|z_pred - z_prior|^2, summed over the embedding, [B]; its batch mean is the predictor's loss."""
    return (prediction - prior).square().sum(-1)


def rnd_bonus(prediction: Tensor, prior: Tensor, sigma: Tensor | float) -> Tensor:
    """b = |z_pred - z_prior|^2 / sigma, [B]; no mean is subtracted. A vanishing sigma counts as 1e-8."""
    return rnd_error(prediction, prior) / torch.as_tensor(sigma, dtype=prediction.dtype).clamp(min=1e-8)


def sac_rnd_loss(
    log_prob: Tensor, value: Tensor, bonus: Tensor, temperature: Tensor | float, actor_weight: float
) -> Tensor:
    """L_actor for log-densities, least values and bonuses of the policy's own actions, all [B]."""
    return sac_actor_loss(log_prob, value - actor_weight * bonus, temperature)


def sac_rnd_next_value(
    value: Tensor, log_prob: Tensor, bonus: Tensor, temperature: Tensor | float, critic_weight: float
) -> Tensor:
    """The bracket of y for least target values, log-densities and bonuses at (s', a'), all [B]."""
    return value - temperature * log_prob - critic_weight * bonus


class SACRND(SAC):
    """SAC whose values are lowered by the bonus of ``rnd``, which stays as it is; other arguments as in ``SAC``."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rnd: nn.Module,
        actor_weight: float,
        critic_weight: float,
        width: int = 256,
        depth: int = 3,
        layer_norm: bool = True,
        lr: float = 1e-3,
        discount: float = 0.99,
        tau: float = 0.005,
        initial_temperature: float = 1.0,
    ) -> None:
        options = (width, depth, 2, layer_norm, lr, discount, tau, None, initial_temperature)
        super().__init__(state_dim, action_dim, *options)
        self.rnd, self.actor_weight, self.critic_weight = (
            rnd.requires_grad_(False),
            actor_weight,
            critic_weight,
        )

    def actor_loss(self, s: Tensor, a: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
        """L_actor; the bonus's gradient passes through the action."""
        value, bonus = self.critic.least(s, a), self.rnd.bonus(s, a)
        return sac_rnd_loss(log_prob, value, bonus, temperature, self.actor_weight)

    def next_value(self, next_s: Tensor, next_a: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
        """The bracket of y."""
        value, bonus = self.target.least(next_s, next_a), self.rnd.bonus(next_s, next_a)
        return sac_rnd_next_value(value, log_prob, bonus, temperature, self.critic_weight)
