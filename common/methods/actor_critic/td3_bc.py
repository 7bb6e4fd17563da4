"""TD3+BC (Fujimoto, Gu, arXiv 2106.06860)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from common.losses.actor_critic import critic_loss, soft_update, td3_bc_actor_loss, td_target
from common.methods.actor_critic.learner import (
    Learner,
    Optimizers,
    Transition,
    standard_normal,
)
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import CriticEnsemble, DeterministicActor


class TD3BC(Learner):
    """Twin delayed critics, and an actor held to the data by a squared error.

    States are standardised by the moments of the data (deviation plus 1e-3). The actor moves every ``delay``
    updates and the targets with it. Target actions carry clipped noise.

    Args:
        state_mean, state_std: [S], of the data.
        alpha: weight of the value beside the squared error.
        noise, noise_clip: deviation of the noise on target actions, and its largest size.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        state_mean: Tensor,
        state_std: Tensor,
        width: int = 256,
        depth: int = 2,
        lr: float = 3e-4,
        discount: float = 0.99,
        tau: float = 0.005,
        alpha: float = 2.5,
        noise: float = 0.2,
        noise_clip: float = 0.5,
        delay: int = 2,
    ) -> None:
        super().__init__()
        self.lr, self.discount, self.tau, self.alpha = lr, discount, tau, alpha
        self.noise, self.noise_clip, self.delay = noise, noise_clip, delay
        self.register_buffer("state_mean", state_mean.clone())
        self.register_buffer("state_std", state_std + 1e-3)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.actor = DeterministicActor(state_dim, action_dim, width, depth)
        self.critic = CriticEnsemble(state_dim, action_dim, width, depth, 2, layer_norm=False)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def optimizers(self) -> Optimizers:
        """Of critics and actor."""
        return [LeanAdam(net.parameters(), self.lr) for net in (self.critic, self.actor)]

    def _normal(self, s: Tensor) -> Tensor:
        return (s - self.state_mean) / self.state_std

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Critics, then at every ``delay``-th update actor and targets."""
        s, a, next_s = self._normal(batch["s"]), batch["a"], self._normal(batch["next_s"])
        with torch.no_grad():
            noise = (self.noise * standard_normal(a, generator)).clamp(-self.noise_clip, self.noise_clip)
            next_a = (self.target_actor(next_s) + noise).clamp(-1, 1)
            y = td_target(batch["r"], batch["d"], self.target_critic.least(next_s, next_a), self.discount)
        values = self.critic(s, a)
        critic = critic_loss(values, y)
        optimizers[0].descend(critic)
        self.count += 1
        if int(self.count) % self.delay == 0:
            policy = self.actor(s)
            optimizers[1].descend(td3_bc_actor_loss(self.critic(s, policy)[0], policy, a, self.alpha))
            for target, net in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
                soft_update(target.parameters(), net.parameters(), self.tau)
        return {"loss/critic": critic.detach(), "q": values.detach().mean()}

    def act(self, s: Tensor) -> Tensor:
        """pi(s)."""
        return self.actor(self._normal(s))

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """The smaller of the critics."""
        return self.critic.least(self._normal(s), a)
