"""Implicit Q-learning (Kostrikov, Nair, Levine, arXiv 2110.06169)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from common.losses.actor_critic import critic_loss, expectile_loss, soft_update, td_target
from common.methods.actor_critic.learner import Learner, Optimizers, Transition
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import CriticEnsemble, DeterministicActor, mlp, uniform_linear

_LARGEST_WEIGHT = 100.0


def advantage_weighted_loss(
    error: Tensor, log_std: Tensor, advantage: Tensor, inverse_temperature: float
) -> Tensor:
    """mean -exp(beta A) log N(a; pi(s), std^2), weights at most 100 (eq. 7), up to a constant.

    Args:
        error: a - pi(s), [B, A].
        log_std: [A].
        advantage: Q - V, [B]; no gradient.
    """
    weight = (inverse_temperature * advantage.detach()).exp().clamp(max=_LARGEST_WEIGHT)
    log_prob = -(0.5 * (error * torch.exp(-log_std)).square() + log_std).sum(-1)
    return -(weight * log_prob).mean()


class IQL(Learner):
    """Values by expectiles of the data's own actions; the actor is regressed with weights by advantage.

    Args:
        expectile: tau of the value's loss.
        inverse_temperature: beta of the actor's weights.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        width: int = 256,
        depth: int = 2,
        lr: float = 3e-4,
        discount: float = 0.99,
        tau: float = 0.005,
        expectile: float = 0.7,
        inverse_temperature: float = 3.0,
    ) -> None:
        super().__init__()
        self.lr, self.discount, self.tau = lr, discount, tau
        self.expectile, self.inverse_temperature = expectile, inverse_temperature
        self.actor = DeterministicActor(state_dim, action_dim, width, depth)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.critic = CriticEnsemble(state_dim, action_dim, width, depth, 2, layer_norm=False)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.state_value = nn.Sequential(mlp([state_dim, *[width] * depth]), uniform_linear(width, 1))

    def optimizers(self) -> Optimizers:
        """Of value, critics and actor."""
        parts = (
            self.state_value.parameters(),
            self.critic.parameters(),
            [*self.actor.parameters(), self.log_std],
        )
        return [LeanAdam(part, self.lr) for part in parts]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Value, actor, critics, targets; advantages are those before the update."""
        s, a = batch["s"], batch["a"]
        with torch.no_grad():
            best = self.target.least(s, a)
            ahead = self.state_value(batch["next_s"])[:, 0]
            y = td_target(batch["r"], batch["d"], ahead, self.discount)
        advantage = best - self.state_value(s)[:, 0]
        value = expectile_loss(advantage, self.expectile)
        optimizers[0].descend(value)
        log_std = self.log_std.clamp(-5.0, 2.0)
        actor = advantage_weighted_loss(a - self.actor(s), log_std, advantage, self.inverse_temperature)
        optimizers[2].descend(actor)
        values = self.critic(s, a)
        critic = critic_loss(values, y)
        optimizers[1].descend(critic)
        soft_update(self.target.parameters(), self.critic.parameters(), self.tau)
        return {
            "loss/value": value.detach(),
            "loss/actor": actor.detach(),
            "loss/critic": critic.detach(),
            "q": values.detach().mean(),
        }

    def act(self, s: Tensor) -> Tensor:
        """pi(s)."""
        return self.actor(s)

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """The smaller of the critics."""
        return self.critic.least(s, a)
