"""Soft actor-critic (Haarnoja et al., arXiv 1812.05905), two critics or more, temperature by an entropy target."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from common.losses.actor_critic import critic_loss, sac_actor_loss, soft_update, td_target, temperature_loss
from common.methods.actor_critic.learner import (
    Learner,
    Optimizers,
    Transition,
    standard_normal,
)
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import CriticEnsemble, GaussianActor


class SAC(Learner):
    """Actor, temperature, critics, targets, in this order, on one batch.

    The critics' target uses the new actor and the temperature from before its update. Targets start as a copy.

    Args:
        state_dim, action_dim: S and A.
        width, depth: of all networks.
        critics: E.
        layer_norm: in the critics.
        lr: of actor, temperature and critics (Adam).
        discount: gamma.
        tau: rate of the target networks.
        target_entropy: None for -A.
        initial_temperature: before the first update; it moves by about ``lr`` of itself an update.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        width: int = 256,
        depth: int = 3,
        critics: int = 2,
        layer_norm: bool = True,
        lr: float = 1e-3,
        discount: float = 0.99,
        tau: float = 0.005,
        target_entropy: float | None = None,
        initial_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.lr, self.discount, self.tau = lr, discount, tau
        self.target_entropy = -float(action_dim) if target_entropy is None else target_entropy
        self.actor = GaussianActor(state_dim, action_dim, width, depth)
        self.critic = CriticEnsemble(state_dim, action_dim, width, depth, critics, layer_norm)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial_temperature)))
        # Tuples, so that an update does not walk the module tree.
        self._pair = tuple(self.target.parameters()), tuple(self.critic.parameters())

    def optimizers(self) -> Optimizers:
        """Of actor, temperature and critics."""
        parts = (self.actor.parameters(), [self.log_temperature], self.critic.parameters())
        return [LeanAdam(part, self.lr) for part in parts]

    def actor_loss(self, s: Tensor, a: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
        """What the actor minimises, for its own actions."""
        return sac_actor_loss(log_prob, self.critic.least(s, a), temperature)

    def next_value(self, next_s: Tensor, next_a: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
        """V(s') [B]; no gradient."""
        return self.target.least(next_s, next_a) - temperature * log_prob

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See the class."""
        s, a, next_s = batch["s"], batch["a"], batch["next_s"]
        of_actor, of_temperature, of_critic = optimizers
        temperature = self.log_temperature.detach().exp()
        policy, log_prob = self.actor.sample(s, standard_normal(a, generator))
        actor = self.actor_loss(s, policy, log_prob, temperature)
        of_actor.descend(actor)
        of_temperature.descend(temperature_loss(self.log_temperature, log_prob, self.target_entropy))
        with torch.no_grad():
            next_a, next_log_prob = self.actor.sample(next_s, standard_normal(a, generator))
            ahead = self.next_value(next_s, next_a, next_log_prob, temperature)
            y = td_target(batch["r"], batch["d"], ahead, self.discount)
        values = self.critic(s, a)
        critic = critic_loss(values, y)
        of_critic.descend(critic)
        soft_update(*self._pair, self.tau)
        return {
            "loss/actor": actor.detach(),
            "loss/critic": critic.detach(),
            "entropy": -log_prob.detach().mean(),
            "temperature": temperature,
            "q": values.detach().mean(),
        }

    def act(self, s: Tensor) -> Tensor:
        """tanh(mu)."""
        return self.actor.act(s)

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Least of the critics."""
        return self.critic.least(s, a)
